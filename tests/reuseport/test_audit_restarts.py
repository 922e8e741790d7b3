# SPDX-License-Identifier: MIT
"""Where a server listens, who of its processes gets the signal, and who accepts: real processes."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from mptcp_sockopt import testing
from mptcp_sockopt.cli import CannotRun
from reuseport import _net
from reuseport.audit import family, listening, restarts
from reuseport.audit.guard import Guard, Process
from reuseport.audit.listening import Place
from reuseport.audit.probes import Probe, Prober
from reuseport.load import Request, Target

from ..support import DEADLINE, until

T = TypeVar("T")
PLACE = Place(8000)
LISTEN = "s = socket.create_server(('127.0.0.1', 8000), reuse_port=True)\n"

#: Programs, each with what it does.
PROGRAMS = {
    "single": LISTEN,
    "shared": LISTEN + "os.fork()",  # master and worker hold the same listener
    "workers": "if os.fork() and os.fork():\n  time.sleep(60)\n" + LISTEN,  # the master holds none
    "worker": "if os.fork():\n  time.sleep(60)\n" + LISTEN,
    "daemon": LISTEN + "if os.fork(): os._exit(0)\nos.setsid()",
    "two": LISTEN + "time.sleep(0.1)\nt = socket.create_server(('127.0.0.1', 8001))",
    "stays": "if os.fork():\n  time.sleep(60)\nif os.fork(): os._exit(0)\n" + LISTEN,  # with a daemon
}


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """A command of a shell for each of them."""
    for name, text in PROGRAMS.items():
        code = f"import os, socket, time\n{text}\ntime.sleep(60)\n"
        (tmp_path / name).write_text(code)
    return lambda name: f"{sys.executable} {tmp_path / name}"


@contextlib.contextmanager
def guarded(*words: str) -> Iterator[tuple[Guard, Process]]:
    """In a private network."""
    _net.enter_private_network()
    with Guard() as guard:
        yield guard, guard.start(words)


def told(words: list[str], listeners: int = 1) -> tuple[str, int]:
    """The command line of who would be told to restart, and how far below the command it is."""

    def look() -> tuple[str, int]:
        with guarded(*words) as (guard, server):
            until(lambda: len(PLACE.inodes()) >= listeners, "it to listen")
            if words[-1].endswith(("daemon", "stays")):
                until(lambda: guard.daemons(), "it to daemonize")
            found = restarts.master(guard, PLACE)
            people = family.members(guard.proc, guard.processes())
            above = [one.pid for one in family.chain(people, found.pid)]
            depth = above.index(server.pid) if server.pid in above else -1
            line = Path(f"{guard.proc}/{found.pid}/cmdline").read_bytes().split(b"\0")
            return os.path.basename(line[1].decode()), depth

    return testing.in_child(look, within=DEADLINE)


@pytest.mark.parametrize(
    ("name", "wrapper", "listeners", "depth"),
    [
        ("single", "", 1, 0),
        ("shared", "", 1, 0),
        ("workers", "", 2, 0),
        ("worker", "", 1, 0),
        ("single", "{}; true", 1, 1),
        ("worker", "{}; true", 1, 1),
        ("shared", "sh -c '{}; true'; true", 1, 2),
        ("daemon", "", 1, -1),
        ("stays", "", 1, -1),
    ],
)
def test_who_gets_the_signal(
    program: Callable[[str], str], name: str, wrapper: str, listeners: int, depth: int
) -> None:
    """The command; below a wrapper the server, also one whose workers listen; or a daemon."""
    line = program(name)
    words = ["sh", "-c", wrapper.format(line)] if wrapper else line.split()
    assert told(words, listeners) == (name, depth)


def test_a_shell_with_several_servers_is_refused(program: Callable[[str], str]) -> None:
    """Nothing tells which of them is to be restarted."""
    line = program("single")
    with pytest.raises(CannotRun, match="CMD is a shell with 2 servers below it"):
        told(["sh", "-c", f"{line} & {line} & wait"], 2)


def test_a_restart_is_a_command_or_a_new_start(program: Callable[[str], str]) -> None:
    """$PID is the server's number; a command that fails is told; a new start waits for the end."""

    def look() -> None:
        words = program("single").split()
        with guarded(*words) as (guard, server):
            until(PLACE.inodes, "it to listen")
            way = restarts.Way(signal.SIGTERM, respawn=True)
            server.send_signal(signal.SIGSTOP)
            helper = restarts.Helper(guard, way, words, server)
            assert not helper.is_done()
            server.send_signal(signal.SIGCONT)
            until(helper.is_done, "the end of the old one")
            successor = guard.main()
            assert successor is not None
            assert successor.pid != server.pid
            assert server.poll() == -signal.SIGTERM
            until(PLACE.inodes, "the new one to listen")
            helper = restarts.Helper(guard, way._replace(command="kill -9 $PID"), words, successor)
            until(helper.is_done, "the command to end")
            assert successor.wait(DEADLINE) == -signal.SIGKILL
            helper = restarts.Helper(guard, way._replace(command="echo no; exit 7"), words, successor)
            with pytest.raises(CannotRun, match="--restart-with ended with status 7: no"):
                until(helper.is_done, "the command to end")
            with pytest.raises(restarts.GoneError):
                restarts.master(guard, PLACE)
            with pytest.raises(restarts.GoneError):
                restarts.Helper(guard, way, words, successor)

    testing.in_child(look, within=DEADLINE)


# ----------------------------------------------------------------------------------------- listening


def test_every_address_of_every_listener_is_asked() -> None:
    """A wildcard by the loopback address of each family that it takes; mapped ones as IPv4."""

    def look() -> None:
        _net.enter_private_network()
        with Guard() as guard:

            def asked(*hosts: str, v6only: bool = True) -> list[str]:
                with contextlib.ExitStack() as held:
                    for host in hosts:
                        family = socket.AF_INET6 if ":" in host else socket.AF_INET
                        held.enter_context(_net.listen((host, 8000), family=family, v6only=v6only))
                    return sorted(str(target) for target in listening.targets(PLACE, guard))

            assert asked("127.0.0.1", "::1") == ["127.0.0.1:8000", "[::1]:8000"]
            assert asked("0.0.0.0") == ["127.0.0.1:8000"]
            assert asked("::") == ["[::1]:8000"]
            assert asked("::", v6only=False) == ["127.0.0.1:8000", "[::1]:8000"]
            assert asked("::ffff:127.0.0.2", "127.0.0.1", v6only=False) == [
                "127.0.0.1:8000",
                "127.0.0.2:8000",
            ]
            far = ("10.9.0.2", "fd00:a::2")
            with _net.listen(("0.0.0.0", 8000)), _net.listen(("::1", 8000), family=socket.AF_INET6):
                assert [str(one) for one in listening.targets(PLACE, guard, far=far)] == ["10.9.0.2:8000"]
            with (
                _net.listen(("127.0.0.1", 8000)),
                pytest.raises(CannotRun, match=r"CMD listens on 127\.0\.0\.1 only: --rtt needs"),
            ):
                listening.targets(PLACE, guard, far=far)

    testing.in_child(look, within=DEADLINE)


def test_all_listeners_are_awaited(program: Callable[[str], str]) -> None:
    """The second comes 0.1 s after the first."""

    def look() -> None:
        with guarded(*program("two").split()) as (guard, server):
            listening.await_listener(guard, server, Place())

    with pytest.raises(CannotRun, match="CMD listens on ports 8000, 8001"):
        testing.in_child(look, within=DEADLINE)


def test_the_port_is_found_or_asked_for() -> None:
    """One port is; of several, the user is to choose."""

    def look() -> None:
        with guarded("sleep", "60") as (guard, server):
            with _net.listen(("127.0.0.1", 8001)):
                assert listening.await_listener(guard, server, Place()) == Place(8001)
                with _net.listen(("127.0.0.1", 8002)):
                    with pytest.raises(CannotRun, match=r"ports 8001, 8002: choose with --port"):
                        listening.await_listener(guard, server, Place())
                    assert listening.await_listener(guard, server, Place(8002)) == Place(8002)
            server.send_signal(signal.SIGKILL)
            with pytest.raises(CannotRun, match=r"CMD ended \(killed by SIGKILL\) before it listened"):
                listening.await_listener(guard, server, Place())

    testing.in_child(look, within=DEADLINE)


# -------------------------------------------------------------------------------------------- probes

ACCEPTS = """
s = socket.create_server(("127.0.0.1", 8000), backlog=100)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
a, b = socket.socketpair()
worker = os.fork()
while True:
    if worker:  # accepts, reads, and passes to the other
        c = s.accept()[0]
        while b"\\r\\n\\r\\n" not in c.recv(1000, socket.MSG_PEEK):
            time.sleep(0.001)
        socket.send_fds(a, [b"!"], [c.fileno()])
    else:
        _, (fd,), _, _ = socket.recv_fds(b, 1, 1)
        c = socket.socket(fileno=fd)
        asked = b""
        while b"\\r\\n\\r\\n" not in asked:
            asked += c.recv(1000)
        c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
        c.recv(1)
    c.close()
"""


def test_who_answers_accepts(tmp_path: Path) -> None:
    """A listener that defers accepts a probe, because it speaks; who was passed the connection counts, and
    its parent stands behind it. If the server stops, nobody accepts."""
    path = tmp_path / "accepts"
    path.write_text(f"import os, socket, time\n{ACCEPTS}")

    def look() -> None:
        with guarded(sys.executable, str(path)) as (guard, server):
            until(PLACE.inodes, "it to listen")
            target = Target(("127.0.0.1", 8000), socket.AF_INET)
            seen: list[Probe] = []

            def enough() -> bool:
                seen.extend(prober.read())
                return len(seen) >= 10

            with Prober([target], guard, Request()) as prober:
                prober.set_pace(1)
                until(enough, "probes")
                for probe in seen:
                    assert probe.chain is not None
                    assert probe.begun < probe.ended
                    assert [one.pid for one in probe.chain[1:]] == [server.pid]
                assert len({probe.chain for probe in seen}) == 1
                for pid in guard.processes():
                    guard.process(pid).send_signal(signal.SIGSTOP)
                stopped = time.monotonic_ns()
                late = functools.partial(_begun_since, prober, stopped)
                until(late, "a probe that nobody accepts")

    testing.in_child(look, within=DEADLINE)


def _begun_since(prober: Prober, moment: int) -> bool:
    found = [probe for probe in prober.read() if probe.begun > moment]
    assert all(probe.chain is None and not probe.unseen for probe in found)
    return bool(found)
