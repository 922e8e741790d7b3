# SPDX-License-Identifier: MIT
"""asyncssh over MPTCP.

Hook: public, connect(sock=).
"""

import asyncio
import sys

import asyncssh

import mptcp_sockopt.aio


async def connect(host, port=22, **options):
    return await asyncssh.connect(host, port, sock=await mptcp_sockopt.aio.connect(host, port), **options)


async def main(host, port, user, password):
    async with await connect(host, port, username=user, password=password, known_hosts=None) as connection:
        process = await connection.create_process("cat")  # known_hosts=None trusts everyone
        process.stdin.write("hello\n")
        print(await process.stdout.readline())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
