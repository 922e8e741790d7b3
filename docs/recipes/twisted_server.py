# SPDX-License-Identifier: MIT
"""twisted over MPTCP: the reactor adopts the listener.

Hook: public, reactor.adoptStreamPort().
"""

import socket
import sys

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

import mptcp_sockopt as mp


class Hello(Resource):
    isLeaf = True  # noqa: N815

    def render_GET(self, request):  # noqa: N802
        return b"hello"


if __name__ == "__main__":
    listener = mp.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
    listener.setblocking(False)
    print("listening on port", listener.getsockname()[1], flush=True)
    reactor.adoptStreamPort(listener.fileno(), listener.family, Site(Hello()))
    reactor.run()
