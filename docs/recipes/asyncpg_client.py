# SPDX-License-Identifier: MIT
"""asyncpg over MPTCP.

Hook: public, the event loop.
"""

import asyncio
import sys

import asyncpg

import mptcp_sockopt.aio

loop_factory = mptcp_sockopt.aio.loop_class()


async def main(host, port):
    connection = await asyncpg.connect(host=host, port=port, user="postgres", database="postgres")
    print(await connection.fetchval("select 'hello'"))
    await connection.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2])))
