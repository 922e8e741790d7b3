# Answers at once, but to /slow half a second later.
run(lambda do |env|
  sleep 0.5 if env["PATH_INFO"] == "/slow"
  [200, { "content-type" => "text/plain" }, ["ok"]]
end)
