# SPDX-License-Identifier: MIT
"""The dump of MPTCP sockets (ss -M) says that the send queue is empty, always."""

import fcntl
import struct
import time
from pathlib import Path

from reproduce import TCP, connecting, listening, reproduce

import mptcp_sockopt as mp

SIOCOUTQ = 0x5411


def told(protocol, port):
    """The send queue of a connected socket: of TCP by /proc/net/tcp, of MPTCP by its dump."""
    if protocol != TCP:
        return next(row.wqueue for row in mp.mptcp_diag(port=port) if row.local[1] == port)
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return next(
        int(row[4].split(":")[0], 16) for row in rows if row[1].endswith(f":{port:04X}") and row[3] != "0A"
    )


def once(protocol):
    listener = listening(protocol)
    with connecting(protocol, listener.getsockname()) as client, listener.accept()[0]:
        client.setblocking(False)
        for _ in range(50):  # nobody reads
            try:
                client.send(bytes(100_000))
            except BlockingIOError:
                time.sleep(0.002)
        time.sleep(0.2)
        (queued,) = struct.unpack("i", fcntl.ioctl(client, SIOCOUTQ, bytes(4)))
        found = told(protocol, client.getsockname()[1])
    return f"{queued} bytes are not acknowledged (SIOCOUTQ), the dump says {found}", queued > 0 and found == 0


if __name__ == "__main__":
    reproduce(once)
