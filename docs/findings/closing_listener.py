# SPDX-License-Identifier: MIT
"""Restarts lose SYNs over IPv6, though all are steered to the new listener first. It is TCP's own.

usage: closing_listener.py [SECONDS]  (20; on a quiet machine, a minute mostly sees it)
"""

import contextlib
import ctypes
import socket
import struct
import sys
import time

from reproduce import TCP, connecting, listening, reproduce

from mptcp_sockopt.testing import Child

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 20
SO_ATTACH_REUSEPORT_CBPF, RETURN = 51, 6


def restart(old):
    """Replace the listener by a new one, which gets all SYNs at once; again and again. Says how often."""
    restarts, end = 0, time.monotonic() + SECONDS + 3
    while time.monotonic() < end:
        new = listening(TCP, *old.getsockname()[:2], reuseport=True)
        new.setblocking(False)
        drained = time.monotonic() + 0.0003
        while time.monotonic() < drained:
            for listener in (old, new):
                with contextlib.suppress(OSError), listener.accept()[0] as accepted:
                    accepted.settimeout(1)
                    accepted.sendall(accepted.recv(1))
        old.close()
        old, restarts = new, restarts + 1
    return restarts


def once(host):
    listener = listening(TCP, host, reuseport=True)
    listener.setblocking(False)
    second = ctypes.create_string_buffer(struct.pack("HBBI", RETURN, 0, 0, 1))  # of the group
    program = struct.pack("HP", 1, ctypes.addressof(second))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)
    connections, lost, address, end = 0, 0, listener.getsockname(), time.monotonic() + SECONDS
    with Child(lambda: restart(listener)) as server:
        listener.close()  # the child has it now
        while time.monotonic() < end:
            begin, connections = time.monotonic(), connections + 1
            with contextlib.suppress(OSError), connecting(TCP, address) as client:
                client.sendall(b"x")
                client.recv(1)
            lost += time.monotonic() - begin > 0.9  # its SYN was sent again
        restarts = server.result(30)
    return f"{restarts} restarts, {connections} connections, {lost} of them with a lost SYN", lost > 0


if __name__ == "__main__":
    reproduce(once, {"IPv4": "127.0.0.1", "IPv6": "::1"}, within=SECONDS + 60)
