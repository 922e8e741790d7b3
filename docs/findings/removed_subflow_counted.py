# SPDX-License-Identifier: MIT
"""The initial subflow is removed: the kernel's counts say 1 subflow, its arrays have 2."""

from reproduce import MPTCP, connecting, exchange, listening, reproduce

import mptcp_sockopt as mp
from mptcp_sockopt import testing


def once(removed):
    testing.set_limits(2, 2)
    testing.add_endpoint("127.0.0.2")
    listener = listening(MPTCP)
    with connecting(MPTCP, listener.getsockname(), "127.0.0.3") as client, listener.accept()[0] as accepted:
        exchange(client, accepted)
        testing.wait_for(client, subflows=2, within=20)
        if removed:
            testing.delete_initial_address("127.0.0.3")
            testing.wait_for(client, subflows=1, within=20)
        total, listed = mp.mptcp_info(client).subflows_total, mp.mptcp_tcpinfo(client)
    live = sum(path.state != mp.TCPState.CLOSE for path in listed)
    states = ", ".join(path.state.name for path in listed)
    return f"subflows_total {total}, MPTCP_TCPINFO has {len(listed)}: {states}", len(listed) != live


if __name__ == "__main__":
    reproduce(once, {"two subflows": False, "the initial one removed": True})
