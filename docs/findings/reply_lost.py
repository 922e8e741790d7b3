# SPDX-License-Identifier: MIT
"""A server writes and closes before the client has spoken: once in 100,000 times, the reply is lost.

usage: reply_lost.py [CONNECTIONS]  (20000; to see it for sure takes a million)
"""

import sys

from reproduce import connecting, listening, reproduce

from mptcp_sockopt.testing import Child

CONNECTIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
TOGETHER = 32


def serve(listener):
    while True:
        with listener.accept()[0] as accepted:
            accepted.sendall(b"bye\n")


def once(protocol):
    listener = listening(protocol, backlog=1024)
    stalled = 0
    with Child(lambda: serve(listener)):
        address = listener.getsockname()
        listener.close()
        for _ in range(CONNECTIONS // TOGETHER):
            for client in [connecting(protocol, address) for _ in range(TOGETHER)]:
                client.settimeout(2)
                with client:
                    try:
                        stalled += client.recv(9) != b"bye\n"
                    except TimeoutError:
                        stalled += 1
    return (
        f"{CONNECTIONS // TOGETHER * TOGETHER} connections, {stalled} without the reply after 2 s",
        stalled > 0,
    )


if __name__ == "__main__":
    reproduce(once, within=3600)
