# SPDX-License-Identifier: MIT
"""websockets, the asyncio server, over MPTCP. The one for threads has serve(sock=) too.

Hook: public, serve(sock=).
"""

import asyncio
import socket
import sys

from websockets.asyncio.server import serve

import mptcp_sockopt as mp


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main(port):
    listener = mp.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    print("listening on port", listener.getsockname()[1], flush=True)
    async with serve(echo, sock=listener) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
