# SPDX-License-Identifier: MIT
"""mptcp-sockopt show: real connections as text and as JSON, and what is said where there is none."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import cli, testing
from mptcp_sockopt.cli import show

from ..causes import fallen
from ..support import (
    NOBODY,
    Missing,
    at_work,
    child,
    connections,
    exchange,
    fallback_pair,
    in_private_network,
    inode,
    mptcp_pair,
    needs_root,
    run,
    until,
    where_refused,
)

ROOT = Path(__file__).parents[2]
INET, INET6 = socket.AF_INET, socket.AF_INET6
COMMAND = (sys.executable, "-m", "mptcp_sockopt", "show")


def shown(*words: str, code: int = 0) -> tuple[str, str]:
    """What the command prints, on stdout and stderr."""
    found = run(*COMMAND, *words, cwd=ROOT)
    assert found.returncode == code, found
    assert "Traceback" not in found.stderr
    return found.stdout, found.stderr


def asked(*words: str) -> list[dict[str, Any]]:
    """The connections of --json."""
    found = json.loads(shown("--json", *words)[0])
    assert found["schema"] == 1
    assert found.keys() == {"schema", "time", "missing", "connections"}
    rows: list[dict[str, Any]] = found["connections"]
    return rows


@contextlib.contextmanager
def two_paths() -> Iterator[tuple[socket.socket, socket.socket]]:
    """In networks of its own: both ends of a connection over two paths; the thread is in the client's."""
    with testing.Paths(2, delay=0.002) as paths:
        with paths.server:
            server = mp.create_server(("0.0.0.0", 0), fallback=False)
        with server, paths.client:
            address = paths.server_addresses[0], server.getsockname()[1]
            with mp.create_connection(address, timeout=30, fallback=False) as client:
                accepted, _ = server.accept()
                with accepted:
                    exchange(client, accepted, 20_000)
                    until(lambda: mp.snapshot(client).live_count == 2, "a second path")
                    yield client, accepted


def test_each_connection_is_a_block(mptcp: None) -> None:
    """Peer and process, a line for each path with its interface, and the totals."""

    def look() -> None:
        with two_paths() as (client, _):
            out, err = shown()
            peer, port = client.getpeername()
            lines = out.splitlines()
            assert lines[0] == f"MPTCP to {peer}:{port}  {command()}/{os.getpid()}"
            assert lines[1].startswith("  0  10.9.0.1  path0  ")
            assert lines[2].startswith("  1  10.9.1.1 to 10.9.1.2  path1  ") or " 10.9.1.1 " in lines[2]
            assert [line.split()[-1] for line in lines[1:3]] == ["ok", "ok"]
            assert lines[3:] == ["1 connection: 1 MPTCP; 2 paths, 0 stalled"]
            assert err == ""

    in_private_network(look)


def command() -> str:
    return Path("/proc/self/comm").read_text().strip()


@pytest.mark.parametrize("family", [INET, INET6])
def test_json_has_what_the_socket_says(family: int, mptcp: None) -> None:
    """Every key of the contract, each with the answer of getsockopt(); sequence numbers as strings."""

    def look() -> None:
        with mptcp_pair(family) as (client, accepted):
            exchange(client, accepted, 1000)
            (row,) = [row for row in asked() if row["inode"] == inode(client)]
            info = mp.mptcp_info(client)
            assert row.keys() == {
                *("token", "status", "state", "fallback_reason", "troubles", "local", "remote", "inode"),
                *("uid", "rqueue", "processes", "info", "rates", "subflows"),
            }
            assert (row["token"], row["status"], row["state"]) == (info.token, "mptcp", "ESTABLISHED")
            assert (row["fallback_reason"], row["troubles"], row["rates"]) == (None, [], None)
            assert row["local"] == [*client.getsockname()]
            assert row["remote"] == [*client.getpeername()]
            owner = {"pid": os.getpid(), "name": command(), "fd": client.fileno()}
            assert row["processes"] == [owner]
            assert row["info"].keys() == info.asdict().keys()
            assert row["info"]["write_seq"] == str(info.write_seq)
            assert row["info"]["bytes_sent"] == 1000
            (path,) = row["subflows"]
            assert (path["live"], path["stalled"], path["state"]) == (True, None, "ESTABLISHED")
            assert (path["opened_by"], path["backup_local"]) == ("local", False)
            assert (path["local"], path["remote"]) == (row["local"], row["remote"])
            assert path["tcp_info"].keys() == mp.TCPInfo.fields.keys()
            assert path["interface"] == "lo"

    in_private_network(look)


def test_it_has_all_that_ss_has(mptcp: None) -> None:
    """Every connection of `ss -Mn` and every subflow of `ss -tni`, with equal tokens and addresses."""
    if shutil.which("ss") is None:
        raise Missing("ss(8) of iproute2")

    def look() -> None:
        with two_paths(), connections(20), connections(5, INET6), fallback_pair(INET):
            rows = asked()
            told = {(ends(row), row["token"]) for row in rows if row["token"]}
            listed, token = set(), ""
            for line in run("ss", "-MniH").stdout.splitlines():
                if not line[0].isspace():
                    local, remote = line.split()[3:5]
                if "token:" in line:
                    token = line.split("token:")[1].split()[0]
                    listed.add(((plain(local), plain(remote)), int(token, 16)))
            assert listed == told
            paths = {ends(path) for row in rows for path in row["subflows"]}
            subflows = {
                tuple(plain(word) for word in line.split()[3:5])
                for line in run("ss", "-tniHO").stdout.splitlines()
                if "tcp-ulp-mptcp" in line
            }
            assert len(subflows) >= 52
            assert subflows == paths

    in_private_network(look)


def ends(row: dict[str, Any]) -> tuple[str, str]:
    local, remote = (f"{host}:{port}" for host, port, *_ in (row["local"], row["remote"]))
    return local, remote


def plain(word: str) -> str:
    """An address of ss without brackets, and without the device."""
    host, _, port = word.replace("[", "").replace("]", "").rpartition(":")
    return f"{host.partition('%')[0]}:{port}"


def test_port_and_process_select(mptcp: None) -> None:
    """Both ends of a port; only those that a process holds; and nothing is an answer too."""

    def look() -> None:
        with mptcp_pair(INET) as (client, _), mptcp_pair(INET) as (other, _):
            port = client.getpeername()[1]
            assert len(asked()) == 4
            assert {row["local"][1] for row in asked("--port", str(port))} == {
                port,
                client.getsockname()[1],
            }
            assert len(asked("--pid", str(os.getpid()))) == 4
            mine = inode(other)
            with child(lambda child: holding(other.fileno(), child)) as holder:
                holder.hear()
                (row,) = asked("--pid", str(holder.pid))
                assert row["inode"] == mine
                assert {owner["pid"] for owner in row["processes"]} == {os.getpid(), holder.pid}
        assert (
            shown("--port", "1")[0] == "There is no MPTCP connection with port 1 in this network namespace.\n"
        )
        assert shown()[0] == "There is no MPTCP connection in this network namespace.\n"
        assert asked() == []

    in_private_network(look)


def owning_two(child: Any) -> None:
    with mptcp_pair(INET), mptcp_pair(INET6):
        child.say("connected")
        child.wait()


def holding(fd: int, child: Any) -> None:
    """Hold this descriptor alone of all sockets."""
    for entry in os.listdir("/proc/self/fd"):
        number = int(entry)
        if number not in (0, 1, 2, fd):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                    os.close(number)
    child.say("holding")


def test_a_process_that_is_not_there_is_told() -> None:
    """In a sentence, exit 3; a word that is no number is a usage error."""
    out, err = shown("--pid", "4194303", code=3)
    assert (out, err) == ("", "mptcp-sockopt: cannot run here: there is no process 4194303\n")
    for words in (["--pid", "0"], ["--port", "65536"], ["--port", "http"], ["extra"]):
        assert shown(*words, code=2)[0] == ""


def test_listeners_come_with_all_states(mptcp: None) -> None:
    """And not without."""

    def look() -> None:
        with mp.create_server(("127.0.0.1", 0), fallback=False) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            assert shown()[0].startswith("There is no")
            out, _ = shown("--all-states")
            assert out.splitlines() == [
                f"LISTENING at {address}  {command()}/{os.getpid()}",
                "1 connection: 1 listening; 0 paths, 0 stalled",
            ]
            (row,) = asked("--all-states")
            assert (row["status"], row["token"], row["subflows"]) == ("listening", None, [])

    in_private_network(look)


@pytest.mark.parametrize("cause", ["tcp_listener", "syn_stripped", "stripped_later"])
def test_why_a_connection_fell_back_is_told(cause: str, mptcp: None) -> None:
    """The reason's sentence, below a connection that comes first."""

    def look() -> None:
        with fallen(cause) as (client, *_):
            mine = inode(client)
            with mptcp_pair(INET) as pair:
                exchange(*pair)
                rows = asked()
                (row,) = [row for row in rows if row["inode"] == mine]
                reason = mp.FallbackReason(row["fallback_reason"])
                assert (row["status"], row["troubles"]) == ("fallback", ["fell_back"])
                out, _ = shown()
                assert out.startswith("FALLBACK to ")
                assert " ".join(reason.sentence.split()) in " ".join(out.split())
                assert "1 fell back" in out.splitlines()[-1]

    in_private_network(look)


def test_nobody_sees_the_connections_of_others(mptcp: None) -> None:
    """Without their processes; one line says that these are missing."""
    needs_root()

    def look() -> None:
        with child(owning_two) as other:
            other.hear()
            show.main([])  # imports what nobody may not be able to read
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                os.seteuid(NOBODY)
                try:
                    assert show.main([]) == 0
                finally:
                    os.seteuid(0)
            lines, told = out.getvalue().splitlines(), err.getvalue().splitlines()
            assert [line for line in lines if line.startswith("MPTCP ") and "/" in line] == []
            assert lines[-1] == "4 connections: 4 MPTCP; 4 paths, 0 stalled"
            assert sum("processes of some connections are not known" in line for line in told) == 1

    in_private_network(look)


def test_a_name_with_control_characters_is_escaped(mptcp: None) -> None:
    """A process chooses its name."""

    def look() -> None:
        with mptcp_pair(INET) as (client, _), child(lambda child: renamed(child)) as other:
            other.hear()
            out, _ = shown("--pid", str(other.pid))
            assert "\x1b" not in out
            assert f"?[2J?evil/{other.pid}" in out
            assert client.fileno() >= 0

    in_private_network(look)


def renamed(child: Any) -> None:
    set_name = 15
    ctypes.CDLL(None).prctl(set_name, b"\x1b[2J\nevil", 0, 0, 0)
    child.say("renamed")


def test_a_kernel_without_diag_is_told(mptcp: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 3, and a sentence, where sockets of netlink are refused."""
    refusal = ("socket", {0: socket.AF_NETLINK}, errno.EAFNOSUPPORT)

    def look() -> tuple[int, str]:
        code = cli.entry(lambda: show.main([]), "mptcp-sockopt")
        return code, capsys.readouterr().err

    code, err = where_refused([refusal], look)
    assert code == 3
    assert err.startswith("mptcp-sockopt: cannot run here: ")
    assert "AF_NETLINK" in err


def test_into_head_it_is_silent(mptcp: None) -> None:
    """A closed pipe is no error that is told."""

    def look() -> None:
        with connections(30):
            for words in ([], ["--json"]):
                reading, writing = os.pipe()
                os.close(reading)
                with open(writing, "wb") as closed:
                    found = subprocess.run(
                        [*COMMAND, *words], cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, check=False
                    )
                assert (found.returncode, found.stderr) == (128 + signal.SIGPIPE, b"")

    in_private_network(look)


def test_a_terminal_of_20_columns(mptcp: None) -> None:
    """Nothing wraps."""

    def look() -> None:
        with connections(2, INET6):
            environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
            ours, theirs = pty.openpty()
            run("stty", "cols", "20", stdin=theirs)
            process = subprocess.Popen(COMMAND, cwd=ROOT, stdout=theirs, env=environment)
            os.close(theirs)
            out = b""
            with contextlib.suppress(OSError):  # EIO: the other end was closed
                while part := os.read(ours, 65536):
                    out += part
            os.close(ours)
            assert process.wait(60) == 0
            lines = out.decode().splitlines()
            assert sum(line.startswith("MPTCP ") for line in lines) == 4
            assert max(map(len, lines[:-1])) <= 20

    in_private_network(look)


# ---------------------------------------------------------------------------------------------- the README


def screen() -> str:
    """What show prints of a machine with two paths, one connection over both, and one that fell back."""
    with testing.Paths(2, rate=40e6, delay=0.010) as paths:
        with paths.server:
            server = mp.create_server(("0.0.0.0", 443), fallback=False)
            tcp_only = socket.create_server(("0.0.0.0", 8080))
        host = paths.server_addresses[0]
        with server, tcp_only, paths.client:
            client = mp.create_connection((host, 443), timeout=30, fallback=False)
            with client, server.accept()[0] as accepted, mp.create_connection((host, 8080)) as other:
                exchange(client, accepted)
                until(lambda: mp.snapshot(client).live_count == 2, "a second path")
                with at_work(receive, accepted, 3_000_000):
                    client.sendall(b"x" * 3_000_000)
                with tcp_only.accept()[0] as plain_end:
                    exchange(other, plain_end, 500)
                    return shown()[0]


def receive(sock: socket.socket, size: int) -> None:
    while size:
        size -= len(sock.recv(size))


def alike(text: str) -> str:
    """Without figures, ports and process numbers."""
    text = re.sub(r" +[\d.]+ (us|ms|B|kB|MB)(?= )", " N", text)
    return re.sub(r"\S+/\d+", "NAME/PID", text)


def test_the_screen_of_the_readme_is_a_real_one(mptcp: None) -> None:
    """Printed just so, but for figures, and by the command that stands above it."""
    readme = (ROOT / "README.md").read_text()
    (shown_there,) = re.findall(r"```sh\n\$ mptcp-sockopt show\n```\n\n```text\n(.*?)```", readme, re.DOTALL)
    assert max(map(len, shown_there.splitlines())) <= 79
    assert alike(in_private_network(screen)) == alike(shown_there)
