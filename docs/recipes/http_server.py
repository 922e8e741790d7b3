# SPDX-License-Identifier: MIT
"""http.server, and any socketserver, over MPTCP.

Hook: public, bind_and_activate=False and the attribute socket.
"""

import http.server
import socket
import sys

import mptcp_sockopt as mp


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("::", int(sys.argv[1])), Hello, bind_and_activate=False)
    server.socket.close()
    server.socket = mp.create_server(server.server_address, family=socket.AF_INET6, dualstack_ipv6=True)
    print("listening on port", server.socket.getsockname()[1], flush=True)
    server.serve_forever()
