# SPDX-License-Identifier: MIT
"""Events: a connection that fell back in its handshake is announced as CLOSED, and never was as CREATED."""

from reproduce import MPTCP, TCP, connecting, exchange, listening, reproduce

import mptcp_sockopt as mp


def once(server):
    listener = listening(server)
    with mp.mptcp_events() as events:
        with connecting(MPTCP, listener.getsockname()) as client, listener.accept()[0] as accepted:
            exchange(client, accepted)
        listener.close()
        told = []
        while more := events.wait(0.5):
            told += [event for event in more if event.token]
    tokens = {event.token for event in told if event.kind.name == "CREATED"}
    names = " ".join(event.kind.name for event in told)
    return f"{names or 'no event'}", any(event.token not in tokens for event in told)


if __name__ == "__main__":
    reproduce(once, {"to an MPTCP server": MPTCP, "fallen back": TCP})
