# SPDX-License-Identifier: MIT
"""tornado's HTTP client over MPTCP.

Hook: public, the attribute tcp_client of SimpleAsyncHTTPClient (undocumented).
"""

import asyncio
import sys

from tornado.iostream import IOStream
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.tcpclient import TCPClient

import mptcp_sockopt.aio


class MPTCPClient(TCPClient):
    async def connect(self, host, port, af=0, ssl_options=None, max_buffer_size=None, **options):
        stream = IOStream(
            await mptcp_sockopt.aio.connect(host, port, family=af), max_buffer_size=max_buffer_size
        )
        return await stream.start_tls(False, ssl_options, host) if ssl_options else stream


def client():
    made = SimpleAsyncHTTPClient(force_instance=True)
    made.tcp_client = MPTCPClient()
    return made


async def main(url):
    print((await client().fetch(url)).body.decode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
