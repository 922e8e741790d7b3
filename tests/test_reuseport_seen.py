# SPDX-License-Identifier: MIT
"""who: what it sees of listeners and owners, and what it says of the rest; for root and for nobody."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import mptcp_sockopt as mp
from reuseport import _borrow, _diag

from .support import in_private_network, listen_at
from .test_reuseport_inspect import PORT, V4, V6, another_process, become_nobody, group, who


def test_what_cannot_be_seen_is_blank_and_said() -> None:
    """As another user: listeners and queues, no owner, no option; the verdict is about the rest."""
    if os.getuid():
        pytest.skip("needs root, to become another user")

    def look() -> tuple[int, str]:
        with another_process(group):
            become_nobody()
            return who(str(PORT))

    code, out = in_private_network(look)
    _, row, *note, verdict = out.splitlines()
    assert row.split() == ["127.0.0.1:5000", "tcp", "0/4096", "0"]
    assert re.match(r"1 of 1: owner not seen: this user may not look into \d+ processes", note[0])
    assert (code, verdict) == (0, "WHO: port 5000: 1 listening, nothing wrong in what is seen: PASS")


def test_a_listener_of_no_process(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own of an endpoint with a port: for root, no lack of rights is the reason."""
    if os.getuid():
        pytest.skip("needs root, to look into every process")

    def look() -> tuple[str, Any]:
        listen_at("127.0.0.1", PORT)
        monkeypatch.setattr(_diag, "owners", lambda inodes: (owners(inodes)[0], 0))
        return who(str(PORT))[1], json.loads(who(str(PORT), "--json")[1])

    owners = _diag.owners  # in a container, root may not look into all of them either
    out, data = in_private_network(look)
    _, row, *note, verdict = out.splitlines()
    assert row.split() == ["127.0.0.1:5000", "mptcp", "0/1024", "0"]
    assert "owner not seen: no process in /proc has it" in " ".join(note)
    assert "rights" not in out
    assert "nothing wrong in what is seen" in verdict
    (listener,) = data["listeners"]
    assert (listener["protocol"], listener["owners"], listener["options"]) == ("mptcp", [], None)
    assert listener["unseen"].startswith("owner not seen")


def test_options_that_may_not_be_read_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the kernel."""

    def refuse(pidfd: int, fd: int) -> int:
        raise PermissionError(errno.EPERM, "pidfd_getfd: Operation not permitted")

    def look() -> str:
        with group():
            return who(str(PORT))[1]

    monkeypatch.setattr(_borrow, "_pidfd_getfd", refuse)
    assert "1 of 1: options not seen: pidfd_getfd: Operation not permitted" in in_private_network(look)


def test_duplicates_are_closed_at_once() -> None:
    """Also when reading them fails."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        before = os.listdir("/proc/self/fd")
        owner = _diag.Owner(os.getpid(), server.fileno(), "")
        inode = os.fstat(server.fileno()).st_ino
        assert _borrow.read_options(inode, [owner]) is not None
        with pytest.raises(OSError, match="another socket's"):
            _borrow.read_options(inode + 1, [owner])
        with open("/dev/null") as null, pytest.raises(OSError, match="non-socket"):
            _borrow.read_options(inode, [owner._replace(fd=null.fileno())])
        with pytest.raises(ZeroDivisionError):
            _borrow.borrow(owner, lambda twin: _borrow.Options(True, True, 1 // 0, 0, False))
        assert os.listdir("/proc/self/fd") == before


@contextlib.contextmanager
def workers(kind: str, number: int, plain: int) -> Iterator[None]:
    """That many MPTCP listeners of one port, and that many of TCP among them."""
    host, family, v6only = {
        "v4": ("127.0.0.1", V4, True),
        "v6": ("::1", V6, True),
        "dual": ("::", V6, False),
    }[kind]
    with contextlib.ExitStack() as stack:
        for index in range(number + plain):
            stack.enter_context(group(host, family, v6only, mptcp=not index % 2 or index >= 2 * plain))
        yield


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("kind", ["v4", "v6", "dual"])
@pytest.mark.parametrize(("number", "plain"), [(3, 0), (5, 1), (100, 3)])
def test_many_mptcp_workers(mptcp: None, kind: str, number: int, plain: int, user: str) -> None:
    """All are called MPTCP; a TCP listener among them is found out, and counted right, by anybody."""

    def look() -> tuple[int, str]:
        with workers(kind, number, plain), another_process(contextlib.nullcontext):
            if user == "nobody":
                become_nobody()
            return who(str(PORT))

    code, out = in_private_network(look)
    protocols = [line.split()[1] for line in out.splitlines() if ":5000 " in line and "/" in line]
    assert sorted(protocols) == ["mptcp"] * number + ["tcp"] * plain
    flagged = f"MIXED-PROTO: {plain} of the {number + plain} listeners at this address are plain TCP"
    assert out.count(flagged) == (number + plain if plain else 0)
    assert "MIXED-PROTO" not in out.replace(flagged, "").splitlines()[-2 if plain else -1]
    assert code == (1 if plain else 0)


def in_doubt(monkeypatch: pytest.MonkeyPatch, told: int) -> None:
    """As before Linux 6.15 to nobody: that many of the MPTCP listeners, and that there may be more."""
    ask = mp.mptcp_diag

    def withhold(*, listening: bool) -> mp.MPTCPDiag:
        found = ask(listening=listening)
        stride = len(found[0])
        return mp.MPTCPDiag(0, stride - 72, b"".join(found[:told]), "withheld")

    monkeypatch.setattr(mp, "mptcp_diag", withhold)


def test_what_a_kernel_withholds_is_never_called_tcp(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "?", with the reason, and no flag for it; the socket itself is asked where that is allowed."""

    def as_another() -> tuple[int, str]:
        with workers("v4", 3, 1):
            in_doubt(monkeypatch, 2)
            monkeypatch.setattr(_diag, "owners", lambda inodes: ({}, True))
            return who(str(PORT))

    code, out = in_private_network(as_another)
    assert sorted(line.split()[1] for line in out.splitlines() if "0/4096" in line) == [
        "?",
        "?",
        "mptcp",
        "mptcp",
    ]
    assert "2 of 4: MPTCP or TCP is not known: withheld" in out
    assert "MIXED-PROTO" not in out
    assert (code, out.splitlines()[-1].split(": ")[-2]) == (0, "4 listening, nothing wrong in what is seen")

    def as_its_owner() -> tuple[int, str]:
        with workers("v4", 3, 1):
            in_doubt(monkeypatch, 2)
            return who(str(PORT))

    monkeypatch.undo()
    code, out = in_private_network(as_its_owner)
    assert "MIXED-PROTO: 1 of the 4 listeners at this address are plain TCP" in out
    assert "not known" not in out
