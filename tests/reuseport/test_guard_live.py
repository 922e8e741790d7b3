# SPDX-License-Identifier: MIT
"""A live server, and an audit with its own configuration: afterwards its files are untouched, it reloads, and
its admin socket answers. The servers are daemons, as packaged."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mptcp_sockopt import testing
from mptcp_sockopt.processes import listeners
from reuseport import _net
from reuseport.audit import guard

from ..support import DEADLINE, Missing, needs, needs_root, run, until
from .guarded import guarded

ROOT = Path(__file__).parents[2]
SERVERS = Path(__file__).parent / "servers"
PORT = 8000

pytestmark = pytest.mark.slow


class Server(NamedTuple):
    words: list[str]
    reload: list[str] | None
    """How the live one is reloaded; None: a signal to the process that its pid file names."""
    number: signal.Signals
    admin: str
    """Its admin socket; empty if it has none."""


def nginx(home: str) -> Server:
    path = Path(home, "nginx.conf")
    path.write_text(
        f"worker_processes 2; pid {home}/pid; error_log {home}/error.log; events {{}}\n"
        f"http {{ access_log {home}/access.log; server {{ listen 127.0.0.1:{PORT};"
        ' location / { return 200 "ok"; } } }\n'
    )
    words = [needs("nginx", "nginx-light"), "-c", str(path)]
    return Server(words, [*words, "-s", "reload"], signal.SIGHUP, "")


def haproxy(home: str) -> Server:
    path = Path(home, "haproxy.cfg")
    path.write_text(
        f"global\n  stats socket {home}/admin.sock mode 600 level admin expose-fd listeners\n"
        f"  pidfile {home}/pid\n"
        "defaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n"
        f"frontend f\n  bind 127.0.0.1:{PORT}\n"
        "  http-request return status 200 content-type text/plain string ok\n"
    )
    words = [needs("haproxy", "haproxy"), "-W", "-D", "-f", str(path)]
    return Server(words, None, signal.SIGUSR2, f"{home}/admin.sock")


def gunicorn(home: str) -> Server:
    if importlib.util.find_spec("gunicorn") is None:
        raise Missing("gunicorn is not installed")
    words = [sys.executable, "-m", "gunicorn", "--daemon", "--chdir", str(SERVERS), "--workers", "2"]
    words += ["--pid", f"{home}/pid", "--error-logfile", f"{home}/error.log", "--bind", f"127.0.0.1:{PORT}"]
    return Server([*words, "hello_wsgi:app"], None, signal.SIGHUP, "")


def ask() -> bytes:
    with socket.create_connection(("127.0.0.1", PORT), DEADLINE / 2) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: sock.recv(1000), b"")).split()[1]


def pid_of(home: str) -> int:
    return int(Path(home, "pid").read_text())


def generation(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def tree(home: str) -> dict[str, tuple[int, int, bytes]]:
    """What is in a directory: kind and inode, time, contents."""
    found = {}
    for path in sorted(Path(home).rglob("*")):
        shown = path.lstat()
        found[str(path)] = (shown.st_ino, shown.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


def is_calm(home: str) -> bool:
    """gunicorn opens its control socket after it has begun to answer."""
    before = tree(home)
    signal.sigtimedwait((), 0.5)
    return tree(home) == before


@contextlib.contextmanager
def home_in_run() -> Iterator[str]:
    """Where packaged servers have their pid files and sockets; HOME is the same."""
    with tempfile.TemporaryDirectory(prefix="guard-", dir="/run") as home:
        yield home


# ----------------------------------------------------------------------------------------- two kinds of audit


def names(cage: guard.Guard, path: str, process: guard.Process | None) -> bool:
    """Whether the pid file names the process: not while a daemon's parent still lives."""
    file = Path(cage.reach(path))
    return bool(process) and file.exists() and file.read_text().strip() == str(process and process.pid)


def by_guard(server: Server, home: str) -> None:
    """As audit does it, without the load: start, restart by signal and by command."""

    def look(cage: guard.Guard) -> list[str]:
        cage.start(server.words)
        until(lambda: listeners(PORT), "the audited server to listen")
        assert ask() == b"200"
        until(lambda: names(cage, f"{home}/pid", cage.main()), "its pid file")
        main = cage.main()
        assert main
        workers = set(cage.processes())

        def restarted() -> bool:
            main.send_signal(server.number)  # again, for a haproxy that starts loses signals
            signal.sigtimedwait((), 0.3)
            return workers != set(cage.processes())

        until(restarted, "other workers")
        if server.reload:
            assert cage.start(server.reload, main=False).wait(DEADLINE / 2) == 0
        assert cage.main() is main
        assert main.poll() is None
        return [change.path for change in cage.written().changes]

    assert f"{home}/pid" in guarded(look, "root", "/", home=home)


def by_audit(server: Server, home: str) -> None:
    """The command itself."""
    command = [sys.executable, "-m", "reuseport", "audit"]
    if "--unprotected" not in run(*command, "--help", cwd=ROOT).stdout:
        raise Missing("an audit that protects the live system")
    numbers = ("--port", str(PORT), "--rate", "200", "--restarts", "5", "--restart", server.number.name)
    done = run(*command, *numbers, "--", *server.words, cwd=ROOT, env={**os.environ, "HOME": home})
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert f"{home}/pid" in done.stdout, done.stdout


@pytest.mark.parametrize("audited", [by_guard, by_audit])
@pytest.mark.parametrize("make", [nginx, haproxy, gunicorn])
def test_a_live_server_is_unharmed(
    make: Callable[[str], Server], audited: Callable[[Server, str], None]
) -> None:
    """Its pid file still names it, and it reloads as if nothing had been."""
    needs_root()

    def live(server: Server, home: str) -> None:
        _net.enter_private_network()
        environment = {**os.environ, "HOME": home}
        subprocess.run(server.words, check=True, env=environment, stdin=subprocess.DEVNULL, timeout=DEADLINE)
        until(lambda: listeners(PORT) and Path(home, "pid").exists(), "the live server")
        assert ask() == b"200"
        pid = pid_of(home)
        until(lambda: generation(pid) and is_calm(home), "its workers, and the end of its first words")
        before = tree(home)

        audited(server, home)

        assert tree(home) == before
        workers = generation(pid)
        if server.admin:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(DEADLINE / 2)
                sock.connect(server.admin)
                sock.sendall(b"show info\n")
                assert sock.recv(1000).startswith(b"Name:")
        if server.reload:
            subprocess.run(server.reload, check=True, env=environment, capture_output=True, timeout=DEADLINE)
        else:
            os.kill(pid_of(home), server.number)
        until(lambda: generation(pid) - workers, "workers of the live server after its reload")
        assert pid_of(home) == pid
        assert ask() == b"200"

    with home_in_run() as home:
        server = make(home)
        testing.in_child(lambda: live(server, home), within=2 * DEADLINE)
