# SPDX-License-Identifier: MIT
"""A subflow that is still being opened, and may never be, counts as one."""

import time

from reproduce import MPTCP, connecting, exchange, listening, reproduce

import mptcp_sockopt as mp
from mptcp_sockopt import testing


def once(answered):
    testing.set_limits(2, 2)
    testing.add_endpoint("127.0.0.2")
    listener = listening(MPTCP, backlog=4 if answered else 0)
    with connecting(MPTCP, listener.getsockname()) as client, listener.accept()[0] as accepted:
        if not answered:
            waiting = connecting(MPTCP, listener.getsockname())  # the queue is full: it drops SYNs
        exchange(client, accepted)
        if answered:
            testing.wait_for(client, subflows=2, within=20)
        else:
            time.sleep(0.3)
            waiting.close()
        counted, listed = mp.mptcp_info(client).subflows, mp.mptcp_tcpinfo(client)
    opened = sum(path.state == mp.TCPState.ESTABLISHED for path in listed)
    states = ", ".join(path.state.name for path in listed)
    return f"subflows {counted} beside the initial one, in states {states}", counted > opened - 1


if __name__ == "__main__":
    reproduce(once, {"a join that is answered": True, "a join that is not": False})
