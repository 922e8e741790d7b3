# SPDX-License-Identifier: MIT
"""Connections that fall back, are slow, or deliver what was not sent."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

import mptcp_sockopt as mp

from ..boxes import Box, strip
from ..causes import network, set_sysctl
from ..cli.commands import outcome
from ..net import counters, destroy
from ..support import connected, exchange, in_private_network, mptcp_pair, needs, tcp_pair, until
from .page import PAGE, SECTIONS, joined, raised, says, shows

INET = socket.AF_INET
Ends = tuple[socket.socket, socket.socket]


def test_a_server_that_speaks_tcp(mptcp: None) -> None:
    """check prints the lines, and where to read on; the page has all classes."""

    def look() -> None:
        with network("tcp_listener") as made, made.client:
            found = outcome("check", *made.address)
            with mp.create_connection(made.address) as client:
                shows("fallback", repr(mp.status(client)))
        sentences = (line.strip() for line in SECTIONS["fallback"].lines[:2])
        assert [sentence for sentence in sentences if sentence not in joined(found.out)] == []
        assert found.out.endswith("troubleshooting.html#fallback\n")

    in_private_network(look)
    says("fallback", *[f"[{reason}](fallback.md#{reason})" for reason in mp.FallbackReason])


def test_syns_that_are_lost_and_what_follows(mptcp: None) -> None:
    """connect() takes a second for each; then MPTCP is off, until the command of the page is run."""
    (cure,) = re.findall(r"```sh\n(.*?)```", SECTIONS["suspended"].text, re.DOTALL)

    def over_loopback() -> mp.Status:
        server = mp.create_server(("127.0.0.1", 0))
        with server, mp.create_connection(server.getsockname()) as client:
            return mp.status(client)

    def look() -> None:
        with network("syn_dropped") as made, made.client:
            found = outcome("check", *made.address, "--wait", "0.5")
            assert SECTIONS["three-seconds"].lines[0] in joined(found.out)
            assert found.out.endswith("troubleshooting.html#three-seconds\n")
            assert over_loopback() is mp.Status.MPTCP
            begin = time.monotonic()
            with mp.create_connection(made.address) as client:
                assert time.monotonic() - begin > 0.9
                assert mp.status(client) is mp.Status.FALLBACK
            assert over_loopback() is mp.Status.FALLBACK
            assert counters()["Blackhole"] == 1
            assert counters()["MPCapableSYNTXDisabled"] >= 1
            for command in ("check", "doctor"):
                found = outcome(command)
                assert SECTIONS["suspended"].lines[0] in joined(found.out)
                assert "troubleshooting.html#suspended\n" in found.out
            subprocess.run(["sh", "-ec", cure], check=True, stdout=subprocess.DEVNULL)
            assert over_loopback() is mp.Status.MPTCP

    needs("sysctl", "procps")
    in_private_network(look)


def turns(client: socket.socket, accepted: socket.socket) -> Iterator[float]:
    """Two small writes each way: how long they took, in seconds."""
    for _ in range(30):
        begin = time.monotonic()
        for one, other in ((client, accepted), (accepted, client)):
            one.send(b"a")
            one.send(b"b")
            while not other.recv(2).endswith(b"b"):
                pass
        yield time.monotonic() - begin


@pytest.mark.parametrize("pair", [mptcp_pair, tcp_pair], ids=["mptcp", "tcp"])
def test_two_small_writes(
    pair: Callable[[int], contextlib.AbstractContextManager[Ends]], mptcp: None
) -> None:
    """Wait 40 ms at each end that has no TCP_NODELAY, on TCP as well."""
    for without in (0, 1, 2):
        with pair(INET) as ends:
            for number, sock in enumerate(ends):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, number >= without)
            if without:
                assert any(0.039 * without < seconds for seconds in turns(*ends))
            else:
                assert any(seconds < 0.02 for seconds in turns(*ends))
    says("latency", "40 to 48 ms", "80 to 96 ms")


def test_asyncio_sets_nodelay_on_tcp_only(mptcp: None) -> None:
    """By the protocol that Python was told."""

    async def nodelay(sock: socket.socket) -> int:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=sock)
        try:
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        finally:
            transport.abort()
            await asyncio.sleep(0)

    found = []
    for protocol in (socket.IPPROTO_TCP, mp.IPPROTO_MPTCP):
        client = socket.socket(INET, socket.SOCK_STREAM, protocol)
        with connected(mp.create_server(("127.0.0.1", 0)), client):
            client.setblocking(False)
            found.append(asyncio.run(nodelay(client)))
    assert found == [1, 0]
    says("latency", "asyncio")


def test_bytes_that_come_again(mptcp: None) -> None:
    """The receiver got more than was sent; show, the counters and a Tracker tell."""

    def look() -> None:
        with network("sound", serving=False) as made:
            with made.client:
                client = mp.create_connection(made.address)
            accepted, _ = made.listener.accept()
            with client, accepted:
                exchange(client, accepted)
                exchange(client, accepted)
                tracker = mp.Tracker(client)
                tracker.update()
                made.paths.alter(0, Box(strip))
                client.sendall(b"x" * 1000)
                accepted.setblocking(False)
                got = 0

                def comes() -> bool:
                    nonlocal got
                    try:
                        got += len(accepted.recv(1 << 16))
                    except BlockingIOError:
                        return False
                    return got > 1000

                until(comes, "more than was sent")
                until(lambda: tracker.update().resending, "what a sender shows that repeats itself")
                with made.server:
                    found = outcome("show")
                    assert counters()["DssFallback"] == 1
                assert SECTIONS["bytes-again"].lines[0] in joined(found.out)
                with made.client:
                    assert counters()["MPTCPRetrans"] >= 1

    in_private_network(look)
    shows("bytes-again", mp.FallbackReason.MID_CONNECTION.sentence)


def test_a_reset_of_the_only_path(mptcp: None) -> None:
    """send() succeeds until close_timeout is over: here, a second."""

    def look() -> None:
        set_sysctl("close_timeout", 1)
        with mptcp_pair(INET) as (client, accepted):
            exchange(client, accepted)
            exchange(client, accepted)
            destroy(accepted.getsockname(), accepted.getpeername())
            until(lambda: mp.snapshot(client).live_count == 0, "the reset")
            assert mp.status(client) is mp.Status.CLOSED
            client.send(b"lost")

            def send() -> None:
                for _ in range(2000):
                    client.send(b"lost")
                    time.sleep(0.005)

            shows("silent-minute", raised(send), raised(lambda: client.recv(1)))

    in_private_network(look)


def test_a_namespace_without_connections(mptcp: None) -> None:
    """Another one has them."""
    with mptcp_pair(INET):
        found = in_private_network(lambda: (outcome("show"), len(mp.mptcp_diag())))
    shows("ss-m-empty", *found[0].out.splitlines(), *found[0].err.splitlines())
    assert found[1] == 0
    assert "nsenter -t PID -n" in PAGE
