# SPDX-License-Identifier: MIT
"""trio over MPTCP: every TCP connection that this run of trio opens. httpx on trio too.

Hook: public, trio.socket.set_custom_socket_factory().
"""

import socket
import sys

import trio

import mptcp_sockopt as mp


class SocketFactory(trio.abc.SocketFactory):
    def socket(self, family=socket.AF_INET, type=socket.SOCK_STREAM, proto=0):
        if family in (socket.AF_INET, socket.AF_INET6) and type == socket.SOCK_STREAM:
            sock = mp.as_tcp(mp.create_socket(family))
        else:
            sock = socket.socket(family, type, proto)
        return trio.socket.from_stdlib_socket(sock)


async def main(host, port):
    trio.socket.set_custom_socket_factory(SocketFactory())
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(b"hello\n")
        print((await stream.receive_some()).decode())


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
