# SPDX-License-Identifier: MIT
"""who: ZOMBIE, a listener in whose queue connections wait, alive or dead, and that accepts none of them."""

from __future__ import annotations

import os
import socket

import pytest

from reuseport import _diag, _net
from reuseport.who import listeners

from ..support import DEADLINE, in_private_network, until
from .test_who import PORT, V4, accepting, calling, flags, group, reset, waiting, who


@pytest.mark.parametrize("kind", ["tcp", "mptcp"])
def test_zombie(mptcp: None, kind: str) -> None:
    """A member that accepts nothing, beside one that does, under load."""

    def look() -> None:
        with group(mptcp=kind == "mptcp") as healthy, group(mptcp=kind == "mptcp") as dead:
            inode = os.fstat(dead.fileno()).st_ino
            with accepting(healthy), calling():
                until(lambda: waiting() > 5, "a queue")
                raised = {row.listener.inode: set(row.flags) for row in listeners.look(PORT, 0.3)}
            assert raised[inode] == {"ZOMBIE"}
            assert not raised[os.fstat(healthy.fileno()).st_ino]

    in_private_network(look)


@pytest.mark.parametrize("kind", ["tcp", "mptcp"])
def test_a_zombie_whose_clients_have_reset(mptcp: None, kind: str) -> None:
    """What waits is dead, but not accepted: alone, with one alive, and beside a listener that accepts."""
    is_mptcp = kind == "mptcp"

    def connect() -> socket.socket:
        client = _net.open_socket(V4, mptcp=is_mptcp)
        client.connect(("127.0.0.1", PORT))
        return client

    def look() -> None:
        with group(mptcp=is_mptcp) as dead:
            for _ in range(3):
                reset(connect())
            until(lambda: waiting() == 3 and not _diag.unaccepted(PORT), "three that were reset")
            assert flags() == [("127.0.0.1:5000", ["ZOMBIE"])]
            assert "ZOMBIE: 3 wait, and none was accepted in 0.1 s" in who(str(PORT), "--window", "0.1")[1]
            with connect():
                until(lambda: len(_diag.unaccepted(PORT)) == 1, "one alive")
                assert flags() == [("127.0.0.1:5000", ["ZOMBIE"])]
                with group(mptcp=is_mptcp) as healthy, accepting(healthy):
                    raised = {row.listener.inode: sorted(row.flags) for row in listeners.look(PORT, 0.1)}
                    assert raised[os.fstat(dead.fileno()).st_ino] == ["ZOMBIE"]
                    assert raised[os.fstat(healthy.fileno()).st_ino] == []

    in_private_network(look)


@pytest.mark.parametrize("resets", [False, True], ids=["kept", "reset"])
def test_a_slow_listener_is_no_zombie(resets: bool) -> None:
    """It accepts one connection in 50 ms and its queue grows, but it does accept; also what was reset."""

    def look() -> None:
        with group() as slow, calling(resets=resets), accepting(slow, pause=0.05):
            until(lambda: waiting() > 20, "a queue")
            before = waiting()
            assert flags(0.4) == [("127.0.0.1:5000", [])]
            assert waiting() > before

    in_private_network(look)


def test_one_that_accepts_what_was_reset_is_no_zombie() -> None:
    """Its queue is long, nobody calls any more, and it gets shorter: of the dead as of the living."""

    def look() -> None:
        with group() as slow, group():
            for _ in range(100):
                reset(socket.create_connection(("127.0.0.1", PORT), DEADLINE))
            until(lambda: waiting() == 100 and not _diag.unaccepted(PORT), "a hundred that were reset")
            with accepting(slow, pause=0.02):
                raised = {row.listener.inode: sorted(row.flags) for row in listeners.look(PORT, 0.3)}
            assert raised[os.fstat(slow.fileno()).st_ino] == []

    in_private_network(look)
