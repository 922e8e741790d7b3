# SPDX-License-Identifier: MIT
"""What sampling a busy connection does to the other threads of a Python process.

The kernel holds the lock of a saturated sender for milliseconds, and a reader waits for it. The standard
library's getsockopt() waits with the GIL, so that every other thread waits too; this library does not.
Wall time: a heartbeat of half a millisecond in one thread, the sampler in another, and the longest pauses
of the heartbeat (p99.9), in windows that take turns.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import mptcp_sockopt as mp
from mptcp_sockopt.testing import Child

from .connections import of_subflows
from .measure import Costs, Measured, Missing

SUBFLOWS = 4
BEAT = 0.0005  # seconds
SAMPLES = 0.001  # seconds between two samples


@contextlib.contextmanager
def saturated() -> Iterator[socket.socket]:
    """A connection that a child fills and another empties, as fast as they can. What is sampled is the
    sender's end, which this process has too."""
    with of_subflows(range(SUBFLOWS, SUBFLOWS + 1)) as pairs:
        client, accepted = pairs[SUBFLOWS]
        for sock in (client, accepted):
            sock.settimeout(None)
        with Child(lambda: fill(client)), Child(lambda: drain(accepted)):
            deadline = time.monotonic() + 5
            while (mp.mptcp_info(client).bytes_sent or 0) < 50_000_000:
                if time.monotonic() > deadline:
                    raise Missing("a connection that can be saturated (or Linux 6.5, which counts bytes)")
                time.sleep(0.01)
            yield client


def fill(sock: socket.socket) -> None:
    data = bytes(1 << 18)
    while True:
        sock.send(data)


def drain(sock: socket.socket) -> None:
    room = bytearray(1 << 18)
    while sock.recv_into(room):
        pass


def longest_pause(sample: Callable[[], object] | None, seconds: float) -> float:
    """p99.9 of the time from one heartbeat to the next, in ns."""
    stop = threading.Event()

    def sampler() -> None:
        while not stop.is_set():
            if sample:
                sample()
            time.sleep(SAMPLES)

    thread = threading.Thread(target=sampler)
    thread.start()
    pauses, last = [], time.monotonic_ns()
    end = last + round(seconds * 1e9)
    while last < end:
        time.sleep(BEAT)
        now = time.monotonic_ns()
        pauses.append(now - last)
        last = now
    stop.set()
    thread.join()
    return float(sorted(pauses)[len(pauses) * 999 // 1000])


def pauses(rounds: int, seconds: float) -> Measured:
    """T13: windows without sampling, with this library, with the standard library."""
    with saturated() as client:
        samplers: dict[str, Callable[[], object] | None] = {
            "none": None,
            "ours": lambda: mp.mptcp_info(client),
            "stdlib": lambda: client.getsockopt(284, 1, 96),
        }
        found: dict[str, list[float]] = {name: [] for name in samplers}
        for _ in range(rounds):
            for name in random.sample(list(samplers), len(samplers)):
                found[name].append(longest_pause(samplers[name], seconds))
    costs = Costs(found)
    return Measured(
        {
            "T13": costs.ratios("ours", "none"),
            "T13s": costs.ratios("ours", "stdlib"),
            "T13g": costs.ratios("stdlib", "none"),
        }
    )
