# SPDX-License-Identifier: MIT
"""Seed 1: reuseport demo, serve, client."""

from __future__ import annotations

import contextlib
import fcntl
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from reuseport import _net, demo
from reuseport.__main__ import main

from ..support import DEADLINE, at_work, in_private_network, needs_loopback, started, until

GEN = r"\[gen (\d) pid \d+\]"


def command(*words: object) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """python -m reuseport WORDS, its lines in stderr."""
    return started(sys.executable, "-m", "reuseport", *map(str, words), stderr=subprocess.PIPE, bufsize=1)


def rest_of(process: subprocess.Popen[str]) -> str:
    """What the command and all its children still say, until the last of them has gone."""
    return process.communicate(timeout=DEADLINE)[1]


@pytest.fixture
def port() -> int:
    return free_port()


def free_port() -> int:
    """One that is free for any socket of either family: found without options, beside no TIME_WAIT."""
    with _net.bind(("::", 0), family=socket.AF_INET6, v6only=False) as probe:
        return _net.name(probe)[1]


def listens(port: int, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((host, port), DEADLINE).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("switches", [(), ("--mptcp", "-6")], ids=["tcp-v4", "mptcp-v6"])
def test_demo_reads_like_the_seeds_example(port: int, switches: tuple[str, ...], mptcp: None) -> None:
    """Generations 0 to 4 start and end; the client hears some of them, and ends with a refusal.

    As the seed's, a generation that ends resets who still waits in its queue: rare, but no failure here.
    Nor is a machine that stops for longer than generations live side by side: then nobody holds the port for
    a moment, and what is left of connections may keep the next from it. It is tried again.
    """
    if "-6" in switches:
        needs_loopback(socket.AF_INET6)
    for again in (port, free_port(), free_port()):
        with (
            command("client", "--fast", "--port", again, *switches) as client,  # it may come first
            command("demo", "--fast", "--port", again, *switches) as servers,
        ):
            served, read = rest_of(servers), rest_of(client)
        if "bind: Address already in use" not in served:
            break
    for what in ("starting", "exiting"):
        generations = re.findall(rf"^{GEN} {what} multibind process$", served, re.M)
        assert sorted(generations) == list("01234"), served
    assert len(served.splitlines()) == 10
    assert len(set(re.findall(r"pid (\d+)", served))) == 5
    first, *answers, last = read.splitlines()
    assert first == "[client] starting client"
    got = re.escape(" (mptcp)") if switches else ""
    heard = re.compile(rf"\[client\] read from server generation [0-4]{got}")
    assert any(map(heard.fullmatch, answers))
    for answer in answers:
        assert heard.fullmatch(answer) or answer == "[client] no answer: Connection reset by peer"
    assert last == "connect: Connection refused"
    assert (servers.returncode, client.returncode) == (0, 1)


def test_serve_forks_generations_that_share_one_socket(port: int) -> None:
    """Without --nofork a server forks the next, up to generation 4; the command ends after the last."""
    with command("serve", "--fast", "--port", port) as servers:
        lines = rest_of(servers).splitlines()
    assert re.fullmatch(f"{GEN} starting multibind process", lines[0])
    launched = re.findall(rf"^{GEN} launched new multibind process$", "\n".join(lines), re.M)
    assert launched == list("1234")
    exiting = re.findall(rf"^{GEN} exiting multibind process$", "\n".join(lines), re.M)
    assert sorted(exiting) == list("01234")
    assert servers.returncode == 0


def test_an_answer_is_four_bytes_in_native_order(port: int) -> None:
    """And then the end; the server listens on all addresses."""
    with command("serve", "--nofork", "--gen", 0x01020304, "--port", port) as server:
        until(lambda: listens(port), "the server to listen")
        for host in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection((host, port), DEADLINE) as client:
                data = client.recv(100, socket.MSG_WAITALL)
                assert data == struct.pack("=I", 0x01020304)
        server.terminate()
        assert f"[gen 16909060 pid {server.pid}] starting" in rest_of(server)


def test_the_default_ports_and_addresses_are_the_seeds() -> None:
    """3088, asked on 127.0.0.1."""

    def in_child() -> str:
        with command("serve", "--nofork", "--gen", "3"), command("client", "--count", "2") as client:
            return rest_of(client)

    line = "[client] read from server generation 3\n"
    assert in_private_network(in_child) == "[client] starting client\n" + 2 * line


def test_the_backlog_is_the_seeds(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """10: tcp_info.sacked of a listener, and SO_REUSEPORT is on."""
    seen: list[object] = []

    def live(options: demo.Options, generation: int, listener: socket.socket) -> int:
        seen.append(
            struct.unpack_from("=I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 28)
        )
        seen.append(listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
        return 0

    monkeypatch.setattr(demo, "live", live)
    options = demo.Options("serve", port, 1, False, socket.AF_INET, True, False, 0)
    assert demo.serve(options, 0) == 0
    assert seen == [(10,), 1]


def test_a_taken_port_ends_the_server(port: int) -> None:
    """With bind's error, and status 1; a demo whose servers all fail has failed."""
    with _net.listen(("127.0.0.1", port)):
        for words in (["serve"], ["demo", "--fast"]):
            with command(*words, "--port", port) as server:
                assert "bind: Address already in use\n" in rest_of(server)
            assert server.returncode == 1


@pytest.mark.parametrize("mode", ["demo", "serve"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_servers_go_with_the_command(port: int, mode: str, number: signal.Signals) -> None:
    """However it ends: stderr, which they have open too, comes to its end, and the port is free."""
    with command(mode, "--fast", "--port", port) as servers:
        assert servers.stderr
        lines = [servers.stderr.readline() for _ in range(2)]  # two generations live
        servers.send_signal(number)
        assert "Traceback" not in rest_of(servers)
        assert "gen 1" in lines[1]
        assert servers.returncode == (130 if number == signal.SIGINT else -number)
    assert not listens(port)


def test_generations_end_when_the_first_process_has_gone(port: int) -> None:
    """Though each has seconds to live: a guard ends them."""
    with command("demo", "--port", port) as servers:
        until(lambda: listens(port), "the first server")
        servers.kill()
        assert "exiting" not in rest_of(servers)
    assert not listens(port)


def test_an_answer_in_pieces_is_put_together() -> None:
    """One recv() may return less than four bytes; the end of file before four is an error."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        read: list[int] = []
        data = struct.pack("=I", 0x01020304)
        with at_work(lambda: read.append(demo.read_answer(ours))):
            for at in range(4):
                theirs.send(data[at : at + 1])
                until(lambda: _unread(ours) == 0, "the reader to take a byte")
        assert read == [0x01020304]
        theirs.send(b"xx")
        theirs.close()
        with pytest.raises(ConnectionError, match="after 2 bytes"):
            demo.read_answer(ours)


def _unread(sock: socket.socket) -> int:
    waiting: int = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]
    return waiting


def test_a_client_survives_a_server_that_does_not_answer() -> None:
    """It says so and asks again; it never prints a number that nobody sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with command("client", "--fast", "--count", 2, "--port", port) as client:
            server.settimeout(DEADLINE)
            server.accept()[0].close()
            connection, _ = server.accept()
            with connection:
                connection.sendall(struct.pack("=I", 9))
            lines = rest_of(client).splitlines()
    assert lines[1:] == [
        "[client] no answer: the connection ended after 0 bytes",
        "[client] read from server generation 9",
    ]
    assert client.returncode == 0


def test_a_client_says_when_it_fell_back(family: int) -> None:
    """With --mptcp, from a plain TCP server."""
    host = _net.LOOPBACK[family]
    with socket.create_server((host, 0), family=socket.AddressFamily(family)) as server:
        port = server.getsockname()[1]
        switches = ["-6"] if family == socket.AF_INET6 else []
        with command("client", "--mptcp", "--count", 1, "--port", port, *switches) as client:
            server.settimeout(DEADLINE)
            connection, _ = server.accept()
            with connection:
                connection.sendall(struct.pack("=I", 1))
            assert rest_of(client).endswith("generation 1 (fallback)\n")


def test_patience_has_an_end(
    port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody comes to listen, the client ends as the seed's: perror's line, status 1."""
    monkeypatch.setattr(demo, "PATIENCE", 0.1)
    assert main(["client", "--port", str(port)]) == 1
    assert capsys.readouterr().err == "[client] starting client\nconnect: Connection refused\n"


def test_patience_ends_with_the_first_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards a refusal is the end, at once."""
    monkeypatch.setattr(demo, "PATIENCE", 60)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer_one() -> None:
            connection, _ = server.accept()
            server.close()
            with connection:
                connection.sendall(struct.pack("=I", 4))

        began = time.monotonic()
        with at_work(answer_one):
            assert main(["client", "--fast", "--port", str(port)]) == 1
        assert time.monotonic() - began < demo.PATIENCE
    assert capsys.readouterr().err.endswith("generation 4\nconnect: Connection refused\n")


def test_accept_may_fail() -> None:
    """Another generation was faster, or the client has gone: the server goes on, and answers the next."""
    with _net.listen(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        demo.answer(listener, 0)
        with socket.create_connection(_net.name(listener), DEADLINE) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        demo.answer(listener, 1)
        with socket.create_connection(_net.name(listener), DEADLINE) as client:
            demo.answer(listener, 2)
            assert demo.read_answer(client) == 2


def test_without_mptcp_the_command_cannot_run(family: int) -> None:
    """Exit 3, and the reason."""

    def in_child() -> int:
        Path("/proc/sys/net/mptcp/enabled").write_text("0")
        return main(["client", "--mptcp"])

    assert in_private_network(in_child) == 3


@pytest.mark.parametrize(
    "words", ["serve --gen -1", "serve --gen 4294967296", "client --port 0", "demo --port x"]
)
def test_impossible_numbers_are_usage_errors(words: str) -> None:
    """Exit 2."""
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
