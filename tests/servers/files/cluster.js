// Two workers. On SIGHUP two new ones are started; when they listen, the old ones are disconnected.
const cluster = require("node:cluster");
if (cluster.isPrimary) {
  const start = () => cluster.fork();
  [start(), start()];
  process.on("SIGHUP", () => {
    for (const old of Object.values(cluster.workers))
      start().once("listening", () => old.disconnect());
  });
} else {
  require("node:http").createServer((request, answer) => {
    setTimeout(() => answer.end("ok"), request.url === "/slow" ? 500 : 0);
  }).listen(8000, "127.0.0.1");
}
