# SPDX-License-Identifier: MIT
"""mptcp_events(): what happens if events are not read in time, who may subscribe, and where it fails."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt._border import netlink, pm_events
from mptcp_sockopt.testing import in_child

from .support import become_nobody, in_private_network, needs_root, where_refused
from .test_events import Kind, descriptors, kinds, listened, privately, subscribed

LOST = Kind.LOST


# ------------------------------------------------------------------------------------------------- overflow


@privately
def test_lost_comes_after_what_was_kept(mptcp: None) -> None:
    """The kernel keeps the first events and drops the rest; then all is as before."""
    with subscribed(buffer=106_496) as events:
        for _ in range(2):
            told = listened(200)
            found = events.read()
            kept = len(found) - 1
            assert 100 < kept < 400  # 256 on x86-64
            assert kinds(found) == [*told[:kept], (LOST, None)]
            told = listened()
            assert kinds(events.read()) == told


@privately
def test_what_comes_before_the_kept_is_read_is_lost_too(mptcp: None) -> None:
    """There is one LOST, after the last of them, for who iterates as for who reads."""
    with subscribed(buffer=106_496) as events:
        told = listened(200)
        found = [event for _, event in zip(range(100), events, strict=False)]
        listened(20)
        found += events.read()
        assert 100 < len(found) - 1 < 400
        assert kinds(found)[:-1] == told[: len(found) - 1]
        assert found[-1].kind is LOST
        assert found[-1].time >= found[-2].time
        assert events.read() == []


@privately
def test_a_larger_buffer_keeps_more(mptcp: None) -> None:
    """With privilege more than net.core.rmem_max; 3,000 of them by default, lost by none."""
    needs_root()
    with subscribed(buffer=1 << 22) as events:
        told = listened(1500)
        assert kinds(events.read()) == told


def scripted(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> mp.MPTCPEvents:
    """A subscription whose receive() does this, and then finds nothing: an errno, or ports of listeners."""
    script = iter(answers)

    def receive(*_: object) -> list[dict[str, Any]]:
        answer = next(script, errno.EAGAIN)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return [{"kind": 15, "local": ("", port)} for port in answer]

    events = mp.mptcp_events()
    monkeypatch.setattr(pm_events, "receive", receive)
    return events


NOBUFS = errno.ENOBUFS


@pytest.mark.parametrize(
    ("answers", "reads"),
    [
        ([NOBUFS], [["L"]]),
        ([[1], NOBUFS, [2], [3]], [[1, 2, 3, "L"]]),
        ([NOBUFS, [1], NOBUFS, [2]], [[1, "L", 2, "L"]]),  # the queue was empty before the second loss
        ([[1, 2], errno.EAGAIN, [3]], [[1, 2], [3]]),
        ([[1], [2], [3], [4], [5]], [[1, 2, 3, 4], [5]]),  # at most 4
        ([[1], [2], [3], NOBUFS, [4], [5], [6]], [[1, 2, 3, 4, 5, 6, "L"]]),
        ([[1], NOBUFS, [2], [3], NOBUFS, [4], [5], NOBUFS, [6]], [[1, 2, 3, "L"], [4, 5, "L", 6, "L"]]),
    ],
    ids=str,
)
def test_every_loss_is_told_where_it_was(
    mptcp: None, monkeypatch: pytest.MonkeyPatch, answers: list[Any], reads: list[Any]
) -> None:
    """After what was kept, which ends when there is nothing more, or when the next loss begins."""
    monkeypatch.setattr("mptcp_sockopt._events._MOST", 4)

    def look() -> None:
        with scripted(monkeypatch, *answers) as events:
            found = [[event.local[1] if event.local else "L" for event in events.read()] for _ in reads]
            assert found == reads
            assert events.read() == []

    in_private_network(look)


@pytest.mark.parametrize("number", [errno.EPROTO, errno.ENOMEM])
def test_an_error_loses_no_event(mptcp: None, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """It is raised at once, and the next call has what came before and after."""

    def look() -> None:
        with scripted(monkeypatch, [1], [2], number, [3]) as events:
            with pytest.raises(OSError) as caught:
                events.read()
            assert caught.value.errno == number
            assert [event.local and event.local[1] for event in events.read()] == [1, 2, 3]

    in_private_network(look)


# ----------------------------------------------------------------------------------------------- privileges


def test_nobody_may_not_listen_in_the_network_of_another(mptcp: None) -> None:
    """The message says who may; nothing is left open."""
    needs_root()

    def look() -> None:
        mp.mptcp_events().close()
        become_nobody()
        before = descriptors()
        with pytest.raises(PermissionError, match="only root, or the owner of the user namespace") as caught:
            mp.mptcp_events()
        assert caught.value.errno == errno.EPERM
        assert descriptors() == before

    in_private_network(look)


def test_the_owner_of_the_user_namespace_may(mptcp: None) -> None:
    """Nobody in a network of his own."""
    needs_root()

    def look() -> None:
        become_nobody()
        testing.enter_private_network()
        with subscribed() as events:
            told = listened()
            assert kinds(events.read()) == told

    in_child(look)


@privately
def test_who_has_subscribed_may_give_up_privileges(mptcp: None) -> None:
    """It goes on."""
    needs_root()
    with subscribed() as events:
        become_nobody()
        told = listened()
        assert kinds(events.read()) == told


@privately
def test_what_another_process_sends_is_no_event(mptcp: None) -> None:
    """A message like the kernel's, to the address of the subscription."""
    needs_root()
    with subscribed() as events, contextlib.ExitStack() as stack:
        ours = stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16))
        ours.bind((0, 0))
        forged = events._socket.getsockname()
        told = listened()
        message = events._socket.recv(1000, socket.MSG_PEEK)
        ours.sendto(message, forged)
        assert kinds(events.read()) == told
        ours.sendto(message, forged)
        assert events.wait(0.01) == []


# ------------------------------------------------------------------------------------------- where it fails


@pytest.mark.parametrize("buffer", [0, -1, 1 << 31])
def test_a_buffer_has_bounds(buffer: int) -> None:
    """A ValueError says which."""
    with pytest.raises(ValueError, match=rf"buffer must be from 1 to 2147483647 bytes, not {buffer}"):
        mp.mptcp_events(buffer=buffer)


@pytest.mark.parametrize(
    ("told", "words"), [(None, "no path manager of MPTCP"), ({}, "no events"), ({7: b""}, "no events")]
)
def test_a_kernel_without_events(monkeypatch: pytest.MonkeyPatch, told: Any, words: str) -> None:
    """Without the family, or without the group: UnsupportedOptionError, with the release that has them."""

    def described(*_: object) -> tuple[int, dict[int, bytes]]:
        if told is None:
            raise OSError(errno.ENOENT, "No such file or directory")
        return 30, told

    monkeypatch.setattr(netlink, "described", described)
    before = descriptors()
    with pytest.raises(mp.UnsupportedOptionError, match=rf"{words}.*Linux 5\.12") as caught:
        mp.mptcp_events()
    assert (caught.value.errno, caught.value.option) == (errno.EOPNOTSUPP, "mptcp_pm_events")
    assert descriptors() == before


def test_netlink_is_refused() -> None:
    """By a policy: its errno, and which call it was."""

    def look() -> None:
        with pytest.raises(PermissionError, match=r"mptcp_events\(\): socket\(AF_NETLINK\)"):
            mp.mptcp_events()

    where_refused([("socket", {0: socket.AF_NETLINK}, errno.EACCES)], look)
