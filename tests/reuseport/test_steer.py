# SPDX-License-Identifier: MIT
"""Who of a group gets the connection: the newest, or whose CPU it is."""

from __future__ import annotations

import contextlib
import errno
import socket

import pytest

from reuseport import steer
from reuseport._net import LOOPBACK, SO_INCOMING_CPU, Reuse, listen, name, open_socket
from reuseport.steer import attach_newest, cpu_steering_works, leave_cpus, listen_per_cpu, newest_wins

from ..support import Missing

BOTH = pytest.mark.parametrize("mptcp", [False, True], ids=["tcp", "mptcp"])


def queued(listener: socket.socket) -> int:
    """Accept all that is there."""
    listener.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def connect(address: tuple[str, int], count: int, *, family: int, mptcp: bool) -> None:
    for _ in range(count):
        with open_socket(family, mptcp=mptcp) as sock:
            sock.connect(address)


@BOTH
def test_the_newest_generation_wins(mptcp: bool, family: int) -> None:
    """Through four generations: one alone, two with the newer one winning, the old one closed, and again."""
    with newest_wins((LOOPBACK[family], 0), family=family) as address:
        old = listen(address, Reuse.PORT, family=family, mptcp=mptcp)
    for _ in range(3):
        connect(address, 40, family=family, mptcp=mptcp)
        assert queued(old) == 40
        new = listen(address, Reuse.PORT, family=family, mptcp=mptcp)
        connect(address, 40, family=family, mptcp=mptcp)
        assert (queued(old), queued(new)) == (0, 40)
        old.close()
        old = new
    old.close()


@BOTH
def test_without_it_both_get_some(mptcp: bool, family: int) -> None:
    """The control: two listeners share."""
    with (
        listen((LOOPBACK[family], 0), Reuse.PORT, family=family, mptcp=mptcp) as one,
        listen(name(one), Reuse.PORT, family=family, mptcp=mptcp) as other,
    ):
        connect(name(one), 80, family=family, mptcp=mptcp)
        shares = queued(one), queued(other)
    assert min(shares) > 10
    assert sum(shares) == 80


def test_mptcp_refuses_the_option_itself(mptcp: None) -> None:
    """Which is why a TCP socket attaches it."""
    with listen(("127.0.0.1", 0), Reuse.PORT, mptcp=True) as sock:
        with pytest.raises(OSError) as caught:
            attach_newest(sock)
        assert caught.value.errno == errno.EOPNOTSUPP


@BOTH
def test_cpus_are_given_up(mptcp: bool, family: int) -> None:
    """Listeners that name no CPU any more get nothing beside those that do."""
    if not cpu_steering_works(family=family, mptcp=mptcp):
        raise Missing("a kernel that heeds SO_INCOMING_CPU among reuseport listeners (Linux 6.2)")
    old = listen_per_cpu((LOOPBACK[family], 0), family=family, mptcp=mptcp)
    address = name(old[0])
    new = listen_per_cpu(address, family=family, mptcp=mptcp)
    assert {sock.getsockopt(socket.SOL_SOCKET, SO_INCOMING_CPU) for sock in new} == set(steer.cpus())
    leave_cpus(old)
    connect(address, 80, family=family, mptcp=mptcp)
    assert (sum(map(queued, old)), sum(map(queued, new))) == (0, 80)
    for sock in (*old, *new):
        sock.close()
