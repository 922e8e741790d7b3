# SPDX-License-Identifier: MIT
"""SO_COOKIE, which is to be another for each socket: what an MPTCP listener accepts has the listener's."""

import socket

from reproduce import connecting, listening, reproduce

SO_COOKIE = 57


def cookie(sock):
    return sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)


def once(protocol):
    listener = listening(protocol)
    cookies = [cookie(listener)]  # it gets one when it is first asked for
    for _ in range(2):
        with connecting(protocol, listener.getsockname()), listener.accept()[0] as accepted:
            cookies.append(cookie(accepted))
    return f"a listener and 2 accepted sockets have {len(set(cookies))} cookies", len(set(cookies)) < 3


if __name__ == "__main__":
    reproduce(once)
