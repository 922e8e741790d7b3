# SPDX-License-Identifier: MIT
"""anyio over MPTCP, on asyncio. (anyio.connect_tcp() is MPTCP on the loop of httpx_async_client.py.)

Hook: public, SocketStream.from_socket().
"""

import sys

import anyio

import mptcp_sockopt.aio


async def connect(host, port):
    return await anyio.abc.SocketStream.from_socket(await mptcp_sockopt.aio.connect(host, port))


async def main(host, port):
    async with await connect(host, port) as stream:
        await stream.send(b"hello\n")
        print((await stream.receive()).decode())


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]))
