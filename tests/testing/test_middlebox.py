# SPDX-License-Identifier: MIT
"""A path that is a middlebox: what it changes, drops, and says when it fails."""

from __future__ import annotations

import contextlib
import socket
import sys

import pytest

from mptcp_sockopt import testing

from ..support import DEADLINE, until


def lose_greetings(frame: bytes, to_server: bool) -> bytes | None:
    """Drop what the client says in lower case, and turn to upper case what the server says."""
    if to_server:
        return None if b"hello" in frame else frame
    return frame.replace(b"welcome", b"WELCOME")


def test_a_middlebox_changes_and_drops_frames(family: int) -> None:
    """Each direction by itself, with no checksum to mend; None ends it."""

    def look() -> list[bytes]:
        with testing.Paths(1, family=family) as paths, contextlib.ExitStack() as held:
            with paths.server:
                server = held.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            server.bind((paths.server_addresses[0], 0))
            server.settimeout(DEADLINE / 2)
            with paths.client:
                client = held.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            client.settimeout(DEADLINE / 2)
            client.connect(server.getsockname()[:2])
            heard = []
            for box, greeting in ((lose_greetings, b"HELLO"), (None, b"hello")):
                paths.alter(0, box)
                client.send(b"hello")
                client.send(greeting)
                said, address = server.recvfrom(100)
                server.sendto(b"welcome", address)
                heard += [said, client.recv(100)]
            return heard

    assert testing.in_private_network(look) == [b"HELLO", b"WELCOME", b"hello", b"welcome"]


def fail(frame: bytes, to_server: bool) -> bytes | None:
    raise ValueError("a mistake in a middlebox")


def test_a_middlebox_that_fails_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """The next change of a path raises, and the traceback was printed."""

    def look() -> None:
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115  # a wire keeps no other file
        with testing.Paths(1) as paths:
            paths.alter(0, fail)
            with paths.client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"hello", (paths.server_addresses[0], 9))
            with pytest.raises(testing.ChildDiedError):
                until(lambda: paths.alter(0, fail), "the end of the wire")

    testing.in_private_network(look)
    assert "ValueError: a mistake in a middlebox" in capfd.readouterr().err
