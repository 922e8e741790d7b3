# SPDX-License-Identifier: MIT
"""Seed 2: reuseport lesson."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from reuseport import _net, lesson
from reuseport.__main__ import main

from ..support import DEADLINE, in_private_network, needs, needs_loopback, run, started

LESSON = (sys.executable, "-m", "reuseport", "lesson")


def free_port() -> int:
    """Found without options, so that no TIME_WAIT is beside it."""
    with _net.bind(("127.0.0.1", 0)) as probe:
        return _net.name(probe)[1]


def options_for(port: int) -> lesson.Options:
    return lesson.Options("lesson", "all", mptcp=False, family=socket.AF_INET, port=port)


def test_the_three_tests_twice_in_a_row() -> None:
    """The second time within the TIME_WAIT of the first."""
    for _ in range(2):
        done = run(*LESSON, "all")
        assert done.returncode == 0, done.stdout
        assert done.stdout.endswith("LESSON: PASS: 3 tests, 0 not as expected\n")
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_without_loopback_there_is_no_verdict() -> None:
    """What nobody can connect to teaches nothing: exit status 3, and the reason."""

    def outcomes() -> list[tuple[int, str, str]]:
        lo = run(needs("ip", "iproute2"), "link", "set", "lo", "down")
        assert lo.returncode == 0, lo.stderr
        ended = [run(*LESSON, "all", *family) for family in ((), ("-6",))]
        return [(done.returncode, done.stdout, done.stderr) for done in ended]

    for (code, out, err), host in zip(in_private_network(outcomes), ("127.0.0.1", "::1"), strict=True):
        assert (code, out) == (3, "")
        assert err.startswith(f"reuseport: cannot run here: TCP does not work over {host}: ")


def test_mptcp_and_ipv6_teach_the_same(mptcp: None) -> None:
    """And the client says that it got MPTCP."""
    needs_loopback(socket.AF_INET6)
    done = run(*LESSON, "all", "--mptcp", "-6")
    assert done.returncode == 0, done.stdout
    assert "connect success (mptcp)" in done.stdout


def test_a_line_counts_when_its_end_has_come() -> None:
    """Python writes them apart under PYTHONUNBUFFERED."""
    with lesson.Terminal(options_for(free_port()), "client") as client:
        client._text = b"connect"
        client.read_until("connect")
        assert client.lines == ["connectconnect error: Connection refused"]


def test_two_clients_are_accepted_by_different_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Always: the second comes when the first server has exited, whichever the kernel chose."""
    terminals: list[lesson.Terminal] = []
    exited: list[int] = []  # servers, when a client starts

    class Spy(lesson.Terminal):
        def __init__(self, options: lesson.Options, *words: str) -> None:
            if words[0] == "client":
                exited.append(sum(one._process.returncode == 0 for one in terminals))
            else:
                terminals.append(self)
            super().__init__(options, *words)

    monkeypatch.setattr(lesson, "Terminal", Spy)
    for who, expected, observed in lesson.shared(options_for(free_port())):
        assert observed == expected, who
    assert exited == [0, 1]


def test_port_and_address_are_the_seeds() -> None:
    """127.0.0.1:3333, nothing else; the lines go to stdout."""

    def in_child() -> tuple[str, str, int]:
        command = [*LESSON, "server", "reuse_port", "reuse_addr"]
        with started(*command, stdout=subprocess.PIPE) as server:
            assert server.stdout
            lines = [server.stdout.readline() for _ in range(4)]
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", 3333))
            client = run(*LESSON, "client")
            lines.append(server.communicate(timeout=DEADLINE)[0])
        return "".join(lines), client.stdout, server.returncode

    said, client, code = in_private_network(in_child)
    assert said.splitlines() == [
        "reuse addr is set",
        "reuse port is set",
        "bind success",
        "listen success",
        "accept success",
    ]
    assert (client, code) == ("connect success\n", 0)


def test_what_fails_says_why() -> None:
    """A client without a server, and servers whose bind() or listen() is refused: status 1."""

    def in_child() -> list[tuple[str, int]]:
        said = [run(*LESSON, "client")]
        with socket.socket() as bound:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(("127.0.0.1", 3333))
            said.append(run(*LESSON, "server"))
        # Between bind() and listen() of the lesson's server, somebody else listens.
        listen = socket.socket.listen
        with socket.socket() as other, pytest.MonkeyPatch.context() as patch:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", 3333))

            def late(sock: socket.socket, backlog: int) -> None:
                listen(other, 1)
                listen(sock, backlog)

            patch.setattr(socket.socket, "listen", late)
            lines: list[str] = []
            patch.setattr(lesson, "say", lines.append)
            code = main(["lesson", "server", "reuse_addr"])
        return [(done.stdout, done.returncode) for done in said] + [("\n".join(lines), code)]

    assert in_private_network(in_child) == [
        ("connect error: Connection refused\n", 1),
        ("bind error: Address already in use\n", 1),
        ("reuse addr is set\nbind success\nlisten error: Address already in use", 1),
    ]


def test_what_is_not_as_expected_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, and the line is pointed at."""
    assert not lesson.as_expected("server 1", ["bind success"], [])
    monkeypatch.setattr(lesson, "shared", lambda options: [("server 1", ["one", "two"], ["one", "three"])])
    assert main(["lesson", "all"]) == 1
    out = capsys.readouterr().out
    assert "three   <- not as expected" in out
    assert out.endswith("LESSON: FAIL: 3 tests, 1 not as expected\n")


def test_servers_die_with_the_lesson() -> None:
    """Also when it is killed: the end of stderr, which they have open too."""
    code = """
import signal
from reuseport import lesson
from reuseport.__main__ import main

def refused(options):
    with lesson.Terminal(options, "server") as server:
        server.read_until("listen success")
        print(server.lines, flush=True)
        signal.pause()

lesson.refused = refused
main(["lesson", "all", "--port", "%d"])
"""
    port = free_port()
    pipe = subprocess.PIPE
    with started(sys.executable, "-c", code % port, stdout=pipe, stderr=pipe) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "['bind success', 'listen success']\n"
        parent.kill()
        assert parent.communicate(timeout=DEADLINE) == ("", "")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("words", ["", "server reuse_all", "client reuse_port", "all --port 70000"])
def test_other_words_are_usage_errors(words: str) -> None:
    """Exit 2."""
    with pytest.raises(SystemExit, match="2"):
        main(["lesson", *words.split()])
