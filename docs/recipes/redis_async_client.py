# SPDX-License-Identifier: MIT
"""redis.asyncio over MPTCP.

Hook: public, the event loop.
"""

import asyncio
import sys

import redis.asyncio

import mptcp_sockopt.aio

loop_factory = mptcp_sockopt.aio.loop_class()


async def main(host, port):
    async with redis.asyncio.Redis(host=host, port=port) as r:
        print(await r.ping())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2])))
