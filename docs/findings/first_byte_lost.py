# SPDX-License-Identifier: MIT
"""Both ends connect at once, here a socket to itself: the first byte of each direction is lost."""

import socket

from reproduce import reproduce


def once(protocol):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as sock:
        sock.settimeout(20)
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        sock.sendall(b"abc")
        got = sock.recv(9)
    return f"sent b'abc', received {got}", got != b"abc"


if __name__ == "__main__":
    reproduce(once)
