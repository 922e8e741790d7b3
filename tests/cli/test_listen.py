# SPDX-License-Identifier: MIT
"""mptcp-sockopt listen: the listener that a server gets, how it is told of it, and what goes wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import processes

from ..causes import set_sysctl
from ..support import DEADLINE, LOOPBACK, in_private_network, run, started, where_refused
from .commands import fits, outcome

LISTEN = (sys.executable, "-m", "mptcp_sockopt", "listen")
# Prints what it was given, then a line for each client: at which address it arrived, and its status.
SERVER = """
import json, os, socket, sys
import mptcp_sockopt as mp
listener = socket.socket(fileno=3)
told = {name: value for name, value in os.environ.items() if name.startswith("LISTEN_")}
options = {
    "protocol": listener.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL),
    "nodelay": listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
    "listens": listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
}
if listener.family == socket.AF_INET6:
    options["v6only"] = listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd))
say = lambda thing: print(json.dumps(thing), flush=True)
say([os.getpid(), listener.getsockname(), options, told, sys.argv[1:], fds])
while True:
    with listener.accept()[0] as accepted:
        say([accepted.getsockname()[0], mp.status(accepted).value])
"""
MPTCP = {"protocol": 262, "nodelay": 1, "listens": 1}


def serving(*words: str, env: dict[str, str] | None = None) -> Any:
    """A server behind `listen`; words are those before and behind it."""
    at = words.index("--")
    command = (*LISTEN, *words[:at], "--", sys.executable, "-c", SERVER, *words[at + 1 :])
    return started(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)


def listen(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return run(*LISTEN, *words, **options)


@pytest.mark.parametrize("host", ["", "*", "[::]"])
def test_every_address_of_both_families(host: str, mptcp: None) -> None:
    """MPTCP with TCP_NODELAY, told of as systemd does it; TCP clients come in too."""
    with serving(f"{host}:0", "--") as server:
        pid, address, options, told, words, fds = json.loads(server.stdout.readline())
        assert (pid, words, fds[:4]) == (server.pid, [], [0, 1, 2, 3])
        assert options == {**MPTCP, "v6only": 0}
        assert told == {"LISTEN_FDS": "1", "LISTEN_PID": str(pid)}
        for there, arrived in (("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")):
            for connect, status in ((mp.create_connection, "mptcp"), (socket.create_connection, "tcp")):
                connect((there, address[1]), DEADLINE).close()
                assert json.loads(server.stdout.readline()) == [arrived, status]


def test_an_address_and_a_place_for_the_descriptor(family: int) -> None:
    """Only that address listens; the server is told by its arguments, and by nothing else."""
    host = LOOPBACK[socket.AddressFamily(family)]
    word = f"[{host}]:0" if ":" in host else f"{host}:0"
    stale = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a", "LISTEN_PIDFDID": "1"}
    with serving(word, "--", "--fd", "{fd}", "fd://{fd} {fd}", env=stale) as server:
        _, address, options, told, words, _ = json.loads(server.stdout.readline())
        assert (address[0], words, told) == (host, ["--fd", "3", "fd://3 3"], {})
        assert options == ({**MPTCP, "v6only": 1} if ":" in host else MPTCP)


def test_backlog_and_reuse_port(mptcp: None) -> None:
    """As with listen(2) and SO_REUSEPORT; without it, a port that is in use is one sentence."""
    with serving("127.0.0.1:0", "--reuse-port", "--backlog", "7", "--") as server:
        port = json.loads(server.stdout.readline())[1][1]
        assert [one.backlog for one in processes.listeners(port)] == [7]
        with serving(f"127.0.0.1:{port}", "--reuse-port", "--") as second:
            assert json.loads(second.stdout.readline())[1][1] == port
            assert sorted(one.backlog for one in processes.listeners(port)) == [7, 2048]
        done = listen(f"127.0.0.1:{port}", "--", "true")
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr == (
            f"mptcp-sockopt listen: [Errno {errno.EADDRINUSE}] Address already in use "
            f"(binding ('127.0.0.1', {port}))\n"
        )


def test_the_server_takes_the_place_of_the_command() -> None:
    """Its exit status is the command's, a signal kills it, and it has the default actions."""
    assert listen("127.0.0.1:0", "--", "sh", "-c", "exit 7").returncode == 7
    assert listen("127.0.0.1:0", "--", "sh", "-c", "kill -9 $$").returncode == -signal.SIGKILL
    ignored = listen("127.0.0.1:0", "--", "grep", "SigIgn", "/proc/self/status")
    assert int(ignored.stdout.split()[1], 16) & 1 << (signal.SIGPIPE - 1) == 0


def test_descriptors_are_those_of_the_caller() -> None:
    """What was closed stays closed, and what was open as 3 gives way to the listener."""
    script = 'exec 3</dev/null 9</dev/null; exec "$@" <&-'
    done = run("sh", "-c", script, "sh", *LISTEN, "127.0.0.1:0", "--", "ls", "-l", "/proc/self/fd")
    (found,) = [line for line in done.stdout.splitlines() if " 3 -> " in line]
    assert " 3 -> socket:" in found
    assert [line for line in done.stdout.splitlines() if " 9 -> /dev/null" in line]
    assert done.stdout.count("socket:") == 1
    done = run("sh", "-c", 'exec "$@" >&- 2>&-', "sh", *LISTEN, "127.0.0.1:0", "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    done = run("sh", "-c", 'exec "$@" 2>&-', "sh", *LISTEN, "127.0.0.1:0", "--", "./no such command")
    assert (done.returncode, done.stdout) == (127, "")


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["127.0.0.1:0", "--", "./no such\x1bcommand"], 127, "./no such\\x1bcommand: No such file or dir"),
        (["127.0.0.1:0", "--", "/etc/passwd"], 126, "/etc/passwd: Permission denied"),
        (["127.0.0.1:0", "--", "/"], 126, "/: Permission denied"),
        (["nobody.invalid:80", "--", "true"], 125, "no address of nobody.invalid: "),
        (["a" * 64 + ".invalid:80", "--", "true"], 125, "no address of aaa"),
        (["192.0.2.1:0", "--", "true"], 125, "[Errno 99] Cannot assign requested address (binding"),
    ],
    ids=str,
)
def test_what_goes_wrong(words: list[str], code: int, why: str) -> None:
    """One sentence, and the exit code of env(1). Where MPTCP is refused, that was said before."""
    done = listen(*words)
    *before, last = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (code, "")
    assert last.startswith(f"mptcp-sockopt listen: {why}")
    assert [line for line in before if not line.endswith(" listens with TCP")] == []


@pytest.mark.parametrize(
    "words",
    [
        [],
        [":80"],
        [":80", "--"],
        ["--", "true"],
        [":80", "true"],
        [":80", "true", "--", "true"],
        ["80", "--", "true"],
        [":", "--", "true"],
        [":65536", "--", "true"],
        [":-1", "--", "true"],
        [":http", "--", "true"],
        [":\u0663", "--", "true"],
        ["::1:80", "--", "true"],
        ["::1", "--", "true"],
        [":80", "--backlog", "0", "--", "true"],
        [":80", "--backlog", "2147483648", "--", "true"],
        [":80", "--nonsense", "--", "true"],
    ],
    ids=repr,
)
def test_usage_errors(words: list[str]) -> None:
    """Exit 125, as what goes wrong before the server starts; 2 may be the server's own."""
    found = outcome("listen", *words)
    assert (found.code, found.out) == (125, "")
    assert found.err.splitlines()[-1].startswith("mptcp-sockopt listen: error: ")
    assert fits(found.err.rpartition("mptcp-sockopt listen: error: ")[0])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("1", "LISTEN_FDS is 1, but descriptor 3 is not open"),
        ("2", "LISTEN_FDS is 2, but descriptor 3 is not open"),
        ("0", "LISTEN_FDS is '0': CMD gets listeners already, start it without this command"),
        ("many", "LISTEN_FDS is 'many': CMD gets listeners already, start it without this command"),
    ],
)
@pytest.mark.parametrize("is_open", [False, True])
def test_listeners_that_were_given_already(given: str, why: str, is_open: bool) -> None:
    """As by a socket unit of systemd: none of them is lost, and a bad descriptor is named."""
    if is_open and given == "1":
        why = "LISTEN_FDS is '1': CMD gets listeners already, start it without this command"
    if is_open and given == "2":
        why = "LISTEN_FDS is 2, but descriptor 4 is not open"
    script = f'export LISTEN_FDS={given} LISTEN_PID=$$; exec "$@" 3{"</dev/null" if is_open else "<&-"} 4<&-'
    done = run("sh", "-c", script, "sh", *LISTEN, "127.0.0.1:0", "--", "true")
    assert (done.returncode, done.stderr) == (125, f"mptcp-sockopt listen: {why}\n")


def test_where_mptcp_is_switched_off(mptcp: None) -> None:
    """The listener is TCP, and a line says so; with --no-fallback there is none."""

    def inside() -> None:
        set_sysctl("enabled", 0)
        with serving("127.0.0.1:0", "--") as server:
            assert json.loads(server.stdout.readline())[2] == {**MPTCP, "protocol": 6}
            server.kill()
            assert server.stderr.read() == (
                f"mptcp-sockopt listen: {mp.Support.DISABLED.value}; {sys.executable} listens with TCP\n"
            )
        done = listen("127.0.0.1:0", "--no-fallback", "--", "true")
        assert (done.returncode, done.stderr) == (
            125,
            f"mptcp-sockopt listen: [Errno {errno.ENOPROTOOPT}] socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP): "
            "Protocol not available\n",
        )

    in_private_network(inside)


def test_where_there_is_no_ipv6(mptcp: None) -> None:
    """Every address is every IPv4 address."""

    def inside() -> None:
        with serving(":0", "--") as server:
            _, address, options, *_ = json.loads(server.stdout.readline())
            assert (address[0], options) == ("0.0.0.0", MPTCP)

    where_refused([("socket", {0: socket.AF_INET6}, errno.EAFNOSUPPORT)], inside)


def test_a_host_with_several_addresses(monkeypatch: pytest.MonkeyPatch, mptcp: None) -> None:
    """Its first one listens, and a line names the others."""
    from mptcp_sockopt.cli import listen as command

    def resolved(*_: object) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (f"127.0.0.{last}", 0)) for last in (1, 2, 3)]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(command, "_hand_over", socket.socket.close)
    monkeypatch.setattr(command, "become", lambda *_: 0)
    for name in command._VARIABLES:
        monkeypatch.setenv(name, "")
    found = outcome("listen", "name:0", "--", "true")
    assert (found.code, found.out) == (0, "")
    assert found.err == "mptcp-sockopt listen: name: listening on 127.0.0.1, not on 127.0.0.2, 127.0.0.3\n"


def test_it_imports_little() -> None:
    """It starts before every server: no netlink, no curses."""
    code = "import sys, mptcp_sockopt.cli.listen; print(*sorted(sys.modules))"
    modules = run(sys.executable, "-c", code).stdout.split()
    assert not {"asyncio", "curses", "mptcp_sockopt._diag", "json"} & {*modules}
    assert Path(LISTEN[0]).exists()
