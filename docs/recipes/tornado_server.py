# SPDX-License-Identifier: MIT
"""tornado's HTTP server over MPTCP.

Hook: public, HTTPServer.add_sockets().
"""

import asyncio
import socket
import sys

import tornado.httpserver
import tornado.web

import mptcp_sockopt as mp


class Hello(tornado.web.RequestHandler):
    def get(self):
        self.write("hello")


async def main(port):
    listener = mp.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    listener.setblocking(False)
    print("listening on port", listener.getsockname()[1], flush=True)
    tornado.httpserver.HTTPServer(tornado.web.Application([("/", Hello)])).add_sockets([listener])
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
