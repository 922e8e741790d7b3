# SPDX-License-Identifier: MIT
"""waitress over MPTCP.

Hook: public, serve(sockets=).
"""

import socket
import sys

import waitress

import mptcp_sockopt as mp


def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


if __name__ == "__main__":
    listener = mp.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
    print("listening on port", listener.getsockname()[1], flush=True)
    waitress.serve(app, sockets=[listener])
