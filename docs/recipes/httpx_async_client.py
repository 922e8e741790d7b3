# SPDX-License-Identifier: MIT
"""httpx, async, over MPTCP on asyncio. For trio: trio_client.py, which serves httpx as well.

Hook: public, the event loop.
"""

import asyncio
import sys

import httpx

import mptcp_sockopt.aio

loop_factory = mptcp_sockopt.aio.loop_class()


async def main(url):
    async with httpx.AsyncClient() as client:
        print((await client.get(url)).text)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main(sys.argv[1]))
