# SPDX-License-Identifier: MIT
"""aiohttp, the client, over MPTCP.

Hook: public, TCPConnector(socket_factory=).
"""

import asyncio
import sys

import aiohttp

import mptcp_sockopt as mp


def connector(**options):
    """An aiohttp.TCPConnector, with its own options."""
    return aiohttp.TCPConnector(socket_factory=mp.socket_factory, **options)


async def main(url):
    async with aiohttp.ClientSession(connector=connector()) as session, session.get(url) as response:
        print(await response.text())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
