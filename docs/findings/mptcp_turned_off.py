# SPDX-License-Identifier: MIT
"""One server does not answer for three seconds: all connections of the namespace are TCP, for an hour."""

import contextlib
import threading
import time

from reproduce import MPTCP, connecting, listening, reproduce

import mptcp_sockopt as mp
from mptcp_sockopt import host
from mptcp_sockopt.testing import UnavailableError


def once(protocol):
    if "blackhole_timeout" not in host.sysctls():
        raise UnavailableError(0, "this kernel has no blackhole detection (Linux 6.12)")
    busy, other = listening(MPTCP, backlog=0), listening(MPTCP)
    with connecting(MPTCP, busy.getsockname()):  # its queue is full: it drops SYNs
        late = threading.Thread(target=connecting, args=(protocol, busy.getsockname()), daemon=True)
        late.start()
        time.sleep(2.5)  # SYNs at 0, 1 and 2 s
        busy.accept()[0].close()
        late.join(20)
    with connecting(MPTCP, other.getsockname()) as client, other.accept()[0]:
        status, told = mp.status(client), "an unknown number"
        with contextlib.suppress(mp.UnsupportedOptionError):
            told = len(mp.mptcp_diag(port=other.getsockname()[1]))
    counter = host.counters()["Blackhole"]
    text = f"after one connect() with three lost SYNs, MPTCP to another server is {status.name}"
    return (
        f"{text}, mptcp_diag() lists {told} of its 2 ends; Blackhole {counter}",
        status is not mp.Status.MPTCP,
    )


if __name__ == "__main__":
    reproduce(once)
