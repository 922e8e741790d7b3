# SPDX-License-Identifier: MIT
"""record and plot against what a receiver read: two paths, one of which is slowed and the other cut."""

from __future__ import annotations

import bisect
import contextlib
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mptcp_sockopt as mp
from benchmarks.two_paths import go_first
from mptcp_sockopt import testing
from mptcp_sockopt.cli import _panels, _recording, _series

from ..support import in_private_network, started, until

INTERVAL = 0.1
SLOWED, CUT, RESTORED, END = 3.0, 5.0, 8.0, 12.0  # seconds after the sender began
DELAY = 0.010  # seconds, one way
# How long before a sample its bytes were read, in seconds: the least and the most.
BEFORE = {"sender": (DELAY - 0.003, DELAY + 0.010), "receiver": (-0.005, 0.005)}


class Truth(NamedTuple):
    """What happened, on the monotonic clock."""

    times: list[int]  # when something was read
    totals: list[int]  # read until then
    cut: int
    restored: int

    def read(self, moment: float) -> int:
        return self.totals[bisect.bisect(self.times, moment) - 1]

    def bounds(self, begin: float, end: float, before: tuple[float, float]) -> tuple[int, int]:
        """The fewest and the most bytes that samples at these times can differ by."""
        late, early = (seconds * 1e9 for seconds in before)
        least = self.read(end - early) - self.read(begin - late)
        return least, self.read(end - late) - self.read(begin - early)


def receive(control: socket.socket) -> tuple[list[int], list[int]]:
    """In the server's network: when something was read, and how much until then."""
    with mp.create_server(("0.0.0.0", 0), fallback=False) as server:
        control.send(server.getsockname()[1].to_bytes(4, "big"))
        sock, _ = server.accept()
        times, totals, buffer = [0], [0], bytearray(1 << 18)
        with sock:
            while size := sock.recv_into(buffer):
                totals.append(totals[-1] + size)
                times.append(time.monotonic_ns())
        return times, totals


@contextlib.contextmanager
def recording(network: testing.PrivateNetwork, file: Path) -> Iterator[None]:
    """From the first sample on; it ends in order."""
    command = [sys.executable, "-m", "mptcp_sockopt", "record", "-o", str(file), "-i", str(INTERVAL)]
    with contextlib.ExitStack() as stack:
        with network:
            process = stack.enter_context(started(*command))
        until(lambda: file.exists() and file.read_text().count("\n") > 1, "a sample")
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def transfer(folder: Path) -> Truth:
    """Both ends are recorded while it happens."""
    go_first()  # and the children too: on a busy machine ACKs are late
    here, there = socket.socketpair()
    changes = []
    with testing.Paths(2, rate=40e6, delay=DELAY) as paths:
        paths.shape(1, rate=10e6)
        with paths.server:
            receiver = testing.Child(lambda: receive(there))
        with receiver:
            port = int.from_bytes(here.recv(4), "big")
            with (
                recording(paths.client, folder / "sender.jsonl"),
                recording(paths.server, folder / "receiver.jsonl"),
                paths.client,
                mp.create_socket(fallback=False) as sock,
            ):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 19)
                sock.setsockopt(socket.SOL_TCP, socket.TCP_CONGESTION, b"reno")
                sock.connect((paths.server_addresses[0], port))
                send_until(sock, SLOWED)
                paths.shape(0, rate=20e6)
                send_until(sock, CUT - SLOWED)
                paths.cut(1)
                changes.append(time.monotonic_ns())
                send_until(sock, RESTORED - CUT)
                paths.restore(1)
                changes.append(time.monotonic_ns())
                send_until(sock, END - RESTORED)
            times, totals = receiver.result(20)
    return Truth(times, totals, changes[0], changes[1])


def send_until(sock: socket.socket, seconds: float, data: bytes = bytes(1 << 16)) -> None:
    sock.setblocking(False)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([], [sock], [], left)[1]:
            with contextlib.suppress(BlockingIOError):
                sock.send(data)


def drawn(file: Path) -> tuple[_series.Series, float]:
    """Its busiest connection, and its time 0 on the monotonic clock in ns."""
    found = _series.survey(_recording.read_recording(file).lines)[0]
    header, lines = _recording.read_recording(file)
    series = _series.series_of(found, header, lines)
    return series, header["monotonic"] + (series.start - header["time"]) * 1e9


@pytest.mark.slow
def test_goodput_is_what_was_read(mptcp: None, tmp_path: Path) -> None:
    """Within 2 % in every full second, at both ends; of a sender, in the second before the ACKs were on their
    way. The stall is told in time, and ends; the healthy path has none."""
    truth = in_private_network(lambda: transfer(tmp_path), within=60)
    for name, before in BEFORE.items():
        series, begin = drawn(tmp_path / f"{name}.jsonl")
        values = series.sent if name == "sender" else series.received
        seconds, first, carried = 0, 0, 0.0
        for n in range(1, len(series.time)):
            carried += values[n] * (series.time[n] - series.time[n - 1])
            if series.time[n] - series.time[first] >= 1:
                one, other = (begin + series.time[at] * 1e9 for at in (first, n))
                least, most = truth.bounds(one, other, before)
                assert 0.98 * least <= carried <= 1.02 * most, (name, series.time[n], carried, least, most)
                seconds, first, carried = seconds + 1, n, 0.0
        assert seconds >= END - 2
        recorded = truth.read(begin + series.time[-1] * 1e9) - truth.read(begin)
        assert series.found.moved == pytest.approx(recorded, rel=0.02)
        assert _panels.picture_of(series).panels[0].title.endswith("sent" if name == "sender" else "received")
    stalls(tmp_path / "sender.jsonl", truth)


def stalls(file: Path, truth: Truth) -> None:
    seen: dict[str, list[int]] = {}
    rtt = 0
    for line in _recording.read_recording(file).lines:
        for connection in line["connections"] if line["kind"] == "sample" else ():
            for path in connection["subflows"]:
                if path["stalled"]:
                    seen.setdefault(path["local"][0], []).append(line["monotonic"])
                elif line["monotonic"] < truth.cut:
                    rtt = path["tcp_info"]["rtt"]
    (times,) = seen.values()
    assert list(seen) == ["10.9.1.1"]
    late = max(0.2, 2 * rtt / 1e6) + 1.5 * INTERVAL
    assert 0 < times[0] - truth.cut < late * 1e9
    assert times[-1] < truth.restored + 2e9
