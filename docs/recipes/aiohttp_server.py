# SPDX-License-Identifier: MIT
"""aiohttp, the server, over MPTCP.

Hook: public, run_app(sock=).
"""

import socket
import sys

from aiohttp import web

import mptcp_sockopt as mp


async def hello(request):
    return web.Response(text="hello")


if __name__ == "__main__":
    listener = mp.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
    print("listening on port", listener.getsockname()[1], flush=True)
    app = web.Application()
    app.router.add_get("/", hello)
    web.run_app(app, sock=listener, print=None)
