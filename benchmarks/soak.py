# SPDX-License-Identifier: MIT
"""Thousands of live connections, sampled all the while, as some close and others open: memory and
descriptors must stay what they were."""

from __future__ import annotations

import collections
import os
import resource
import selectors
import socket
import statistics
import time
from pathlib import Path

import mptcp_sockopt as mp
from mptcp_sockopt.testing import Child

from .connections import PATIENCE, allow_descriptors, listen
from .measure import Measured, Missing, exactly

LISTENERS = 8  # each with an address of its own: closed connections occupy their ports for a minute
TURN = 20  # connections that close, and open, between two samples
LEAST_POINTS = 9


def serve(servers: list[socket.socket], count: int) -> None:
    """Accept for ever, answer a byte with a byte, close what the peer has closed."""
    allow_descriptors(count)
    with selectors.DefaultSelector() as selector:
        for server in servers:
            server.setblocking(False)
            selector.register(server, selectors.EVENT_READ, "listener")
        while True:
            for key, _ in selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if key.data:
                    try:
                        accepted, _ = sock.accept()
                    except BlockingIOError:
                        continue
                    selector.register(accepted, selectors.EVENT_READ)
                else:
                    answer(selector, sock)


def answer(selector: selectors.BaseSelector, sock: socket.socket) -> None:
    try:
        data = sock.recv(64)
    except ConnectionError:
        data = b""
    if data:
        sock.sendall(data)
    else:
        selector.unregister(sock)
        sock.close()


def connect(server: tuple[str, int]) -> socket.socket:
    client = mp.create_connection(server, timeout=PATIENCE, fallback=False)
    client.sendall(b"x")
    client.recv(1)
    return client


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def soak(count: int, seconds: float) -> Measured:
    """T18."""
    allow_descriptors(count)
    before = descriptors()
    servers = [listen(f"127.0.2.{number}") for number in range(1, LISTENERS + 1)]
    addresses = [server.getsockname() for server in servers]
    with Child(lambda: serve(servers, count)):
        for server in servers:
            server.close()
        live = collections.deque(connect(addresses[n % LISTENERS]) for n in range(count))
        sampler = mp.Sampler(live)
        memory, opened, unanswered, samples = [], 0, 0, 0
        now = begun = time.monotonic()
        while now < begun + seconds:
            unanswered += sum(map(bool, sampler.sample().errnos))
            samples += 1
            for _ in range(TURN):
                with live.popleft() as oldest:
                    sampler.remove(oldest)
                live.append(connect(addresses[opened % LISTENERS]))
                sampler.add(live[-1])
                opened += 1
            now = time.monotonic()
            memory.append(resident())
        if samples < LEAST_POINTS:
            raise Missing(f"{seconds:g} s are time for {samples} samples only: give it more (--seconds)")
        if unanswered:
            raise RuntimeError(f"{unanswered} of {samples * count} live connections did not answer")
        for sock in live:
            sock.close()
    third = len(memory) // 3
    middle, last = memory[third : 2 * third], memory[-third:]
    return Measured(
        {
            "T18": exactly(statistics.median(last) / statistics.median(middle)),
            "T18f": exactly(descriptors() - before),
            "T18c": exactly(opened / count),
        }
    )
