# SPDX-License-Identifier: MIT
"""gevent's pywsgi over MPTCP. Without patch_all(), the listener must be a gevent.socket.socket.

Hook: public, WSGIServer(listener).
"""

import gevent.monkey

gevent.monkey.patch_all()

import socket  # noqa: E402
import sys  # noqa: E402

from gevent.pywsgi import WSGIServer  # noqa: E402

import mptcp_sockopt as mp  # noqa: E402


def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


if __name__ == "__main__":
    listener = mp.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
    print("listening on port", listener.getsockname()[1], flush=True)
    WSGIServer(listener, app, log=None).serve_forever()
