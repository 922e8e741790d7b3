# SPDX-License-Identifier: MIT
"""A connection that fell back: bytes_acked of its row in the dump counts what was only queued."""

import fcntl
import struct
import time

from reproduce import MPTCP, TCP, connecting, listening, reproduce

import mptcp_sockopt as mp
from mptcp_sockopt.testing import UnavailableError

SIOCOUTQ = 0x5411


def once(server):
    listener = listening(server)
    with connecting(MPTCP, listener.getsockname()) as client, listener.accept()[0]:
        client.setblocking(False)
        written = 0
        for _ in range(50):  # nobody reads
            try:
                written += client.send(bytes(100_000))
            except BlockingIOError:
                time.sleep(0.002)
        time.sleep(0.2)
        (queued,) = struct.unpack("i", fcntl.ioctl(client, SIOCOUTQ, bytes(4)))
        port = client.getsockname()[1]
        row = next(row for row in mp.mptcp_diag(port=port) if row.local[1] == port)
    acked = row.info.bytes_acked
    if acked is None:
        raise UnavailableError(0, "this kernel does not count bytes (Linux 6.5)")
    text = f"{written} bytes written, {queued} not acknowledged (SIOCOUTQ); the row's bytes_acked is {acked}"
    return text, acked > written - queued + 1


if __name__ == "__main__":
    reproduce(once, {"to an MPTCP server": MPTCP, "fallen back": TCP})
