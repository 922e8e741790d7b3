# SPDX-License-Identifier: MIT
"""What the commands say, what pip and Python say, and a port that is in use."""

from __future__ import annotations

import errno
import functools
import os
import socket
import sys
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import metrics, testing

from ..cli.running import RUN, under_run
from ..support import (
    become_nobody,
    in_private_network,
    needs,
    needs_root,
    run,
    where_refused,
)
from .page import ROOT, raised, says, shows

INET, INET6 = socket.AF_INET, socket.AF_INET6


def test_events_are_for_root(mptcp: None) -> None:
    """The exporter says that it lacks them."""
    needs_root()

    def look() -> None:
        become_nobody()
        shows("events-eperm", raised(mp.mptcp_events))
        found = metrics.Metrics()
        missing = [row for row in found.collect() if row.name == "mptcp_exporter_missing" and row.value]
        assert [row.labels for row in missing] == [{"what": "events"}]
        found.close()

    testing.in_child(look)
    says("events-eperm", '`mptcp_exporter_missing{what="events"} 1`')


def test_run_where_it_cannot_work() -> None:
    """The program runs all the same, but for --strict."""

    def look() -> None:
        done = run(*RUN, "--", "true")
        shows("run-tcp", *done.stderr.splitlines())
        assert done.returncode == 0
        assert run(*RUN, "--strict", "--", "true").returncode == 125

    where_refused([("seccomp", {}, errno.EPERM)], look)
    says("run-tcp", "status 125")


def test_run_whose_supervisor_was_killed(mptcp: None) -> None:
    """socket() is not implemented any more."""
    code = """
import os, pathlib, signal, socket
socket.socket()
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if (folder / "comm").read_text() == "mptcp-run\\n":
            if (folder / "cmdline").read_bytes().rstrip(b"\\0").endswith(str(os.getpid()).encode()):
                os.kill(int(folder.name), signal.SIGKILL)
    except OSError:
        pass
while True:
    try:
        socket.socket()
    except OSError as error:
        print(error)
        break
"""
    done = under_run(sys.executable, "-c", code)
    says("run-tcp", done.stdout.strip())


def test_python_h_is_missing(tmp_path: Path) -> None:
    """Of a compiler that finds no headers."""
    # -nostdinc: where they are installed, too. It wants one folder to look in.
    words = ("-nostdinc", "-I", str(tmp_path), "-fsyntax-only", "-x", "c", "-")
    done = run(needs("gcc", "gcc"), *words, input="#include <Python.h>\n", env={**os.environ, "LC_ALL": "C"})
    shows("python-h", done.stderr.splitlines()[0].partition(": ")[2])


def test_a_checkout_that_is_not_installed(tmp_path: Path) -> None:
    """Its folder is found, and no compiled module."""
    (tmp_path / "mptcp_sockopt").symlink_to(ROOT / "mptcp_sockopt")
    done = run(sys.executable, "-S", "-c", "import mptcp_sockopt", cwd=tmp_path, env={})
    shows("compiled-module", done.stderr.splitlines()[-1])
    # The other message is that of an older install; tests/test_abi.py provokes it.
    words = "found a compiled module of version"
    assert words in (ROOT / "mptcp_sockopt" / "_border" / "abi.py").read_text()
    says("compiled-module", words)


# ------------------------------------------------------------------------------------------------- ports


def bound(address: tuple[str, int], family: int = INET, reuse: bool = False) -> socket.socket:
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def in_time_wait(reuse: bool) -> tuple[str, int]:
    """The address of a server that ended after it had served somebody."""
    with bound(("127.0.0.1", 0), reuse=reuse) as server:
        server.listen()
        address: tuple[str, int] = server.getsockname()
        with socket.create_connection(address) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
    return address


def test_what_keeps_a_port() -> None:
    """A listener; one of [::], for IPv4 too; TIME_WAIT, unless both have SO_REUSEADDR; a client."""

    def look() -> None:
        with bound(("127.0.0.1", 0)) as server:
            server.listen()
            shows("in-use", raised(lambda: bound(server.getsockname(), reuse=True)))
            with socket.create_connection(server.getsockname()) as client:
                shows("in-use", raised(lambda: bound(client.getsockname(), reuse=True)))
        with bound(("::", 0), INET6) as server:
            server.listen()
            shows("in-use", raised(lambda: bound(("127.0.0.1", server.getsockname()[1]))))
        for old, new in ((False, False), (False, True), (True, False)):
            address = in_time_wait(old)
            shows("in-use", raised(functools.partial(bound, address, reuse=new)))
        bound(in_time_wait(True), reuse=True).close()

    in_private_network(look)
    says("in-use", "on the new socket **and on the old one**", "reuseport who PORT")


@pytest.mark.parametrize("protocol", [mp.IPPROTO_MPTCP, socket.IPPROTO_TCP], ids=["mptcp", "tcp"])
def test_a_listener_that_closes(protocol: int, mptcp: None) -> None:
    """Its queue is reset, on TCP as well."""
    with socket.socket(INET, socket.SOCK_STREAM, protocol) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client = mp.create_connection(server.getsockname())
    with client:
        shows("reload", raised(lambda: client.recv(1)))


def test_an_audit_that_cannot_judge() -> None:
    """Status 3, and the reason."""
    done = run(sys.executable, "-m", "reuseport", "audit", "--", "true")
    if "namespace" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 3
    shows("audit-refuses", *done.stderr.splitlines())
