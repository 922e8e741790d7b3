# SPDX-License-Identifier: MIT
"""websockets, the asyncio client, over MPTCP.

Hook: public, connect(sock=).
"""

import asyncio
import sys
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

import mptcp_sockopt.aio


async def mptcp_connect(url, **options):
    address = urlsplit(url)
    sock = await mptcp_sockopt.aio.connect(address.hostname, address.port or 80)
    return await connect(url, sock=sock, **options)


async def main(url):
    async with await mptcp_connect(url) as connection:
        await connection.send("hello")
        print(await connection.recv())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
