# SPDX-License-Identifier: MIT
"""Steer new connections to the newest generation of a reuseport group.

There are two ways, both without privilege and both for TCP and MPTCP:

* Classic BPF: one instruction, attached once. A reuseport group numbers its listeners in the order of
  listen(), and when one closes, the last one takes its number. So "return 1" selects the newest of two. With
  a single listener there is no number 1, and the kernel uses its hash, which finds that one. Three at once
  break it, so each generation has one listener, and the next one waits until the last but one has closed.
* SO_INCOMING_CPU: each generation has one listener per CPU. To retire, the old ones no longer name a CPU.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence

from ._net import LOOPBACK, SO_INCOMING_CPU, Reuse, listen, name, open_socket

_SO_ATTACH_REUSEPORT_CBPF = 51
_RETURN = 0x06  # BPF_RET | BPF_K


def attach_newest(sock: socket.socket) -> None:
    """Let the newest of two listeners in this socket's group win.

    It must be a TCP socket in the group, that is, listening with SO_REUSEPORT. MPTCP sockets refuse the
    option (EOPNOTSUPP): use newest_wins().
    """
    program = array.array("B", struct.pack("=HBBI", _RETURN, 0, 0, 1))
    address, _ = program.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", 1, address))


@contextlib.contextmanager
def newest_wins(address: tuple[str, int], *, family: int) -> Iterator[tuple[str, int]]:
    """Put it around the first generation's listen(): its group, of TCP or MPTCP, is steered from then on.

    A TCP socket, the helper, creates the group and attaches the program, which stays with the group. The
    first generation listens inside the with-block and so is number 1, and gets all connections. (A client
    that comes between the two listen() is reset, where it was refused before.) Gives the address with its
    port filled in. All listeners need the helper's uid.
    """
    with listen(address, Reuse.PORT, family=family) as helper:
        attach_newest(helper)
        yield name(helper)


# --------------------------------------------------------------------------------------- SO_INCOMING_CPU


def cpus() -> list[int]:
    """The CPUs that this process may use, on which its loopback connections therefore arrive."""
    return sorted(os.sched_getaffinity(0))


def listen_per_cpu(address: tuple[str, int], *, family: int, mptcp: bool) -> list[socket.socket]:
    """One listener for each CPU, all on one port."""
    listeners: list[socket.socket] = []
    try:
        for cpu in cpus():
            listeners.append(listen(address, Reuse.PORT, family=family, mptcp=mptcp, incoming_cpu=cpu))
            address = name(listeners[0])
    except BaseException:
        for sock in listeners:
            sock.close()
        raise
    return listeners


def leave_cpus(listeners: Sequence[socket.socket]) -> None:
    """Stop naming a CPU, so that listeners of the next generation, which name one, win."""
    for sock in listeners:
        sock.setsockopt(socket.SOL_SOCKET, SO_INCOMING_CPU, -1)


def cpu_steering_works(*, family: int, mptcp: bool) -> bool:
    """Whether SO_INCOMING_CPU selects within a reuseport group here (Linux 6.2); makes 32 connections."""
    here = cpus()[0]
    mine = os.sched_getaffinity(0)
    address = (LOOPBACK[family], 0)
    with contextlib.ExitStack() as stack:
        wanted = stack.enter_context(
            listen(address, Reuse.PORT, family=family, mptcp=mptcp, incoming_cpu=here)
        )
        other = listen(name(wanted), Reuse.PORT, family=family, mptcp=mptcp, incoming_cpu=here + 1)
        stack.enter_context(other)
        other.setblocking(False)
        os.sched_setaffinity(0, {here})
        stack.callback(os.sched_setaffinity, 0, mine)
        for _ in range(32):
            client = stack.enter_context(open_socket(family, mptcp=mptcp))
            client.connect(name(wanted))
        with contextlib.suppress(BlockingIOError):
            other.accept()[0].close()
            return False
    return True
