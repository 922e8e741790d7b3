# SPDX-License-Identifier: MIT
"""Goodput over two paths, one of which dies: python benchmarks/two_paths.py [--seconds N] [--json]

A connection of two subflows between two private network namespaces, over paths of 40 and 10 Mbit/s.
The slower path is cut after 3 seconds and comes back after 6. Every second both ends' Trackers are compared
with what the receiving program had read at that moment: that is goodput, and the sum of the subflows is not.

Exit status: 0, or 1 if a Tracker was off by more than 5 % in any second, 2 usage, 3 where it cannot run.
Root, or user namespaces, are needed.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import json
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import cli, testing

MBIT = (40, 10)
CUT, RESTORED = 3, 6  # seconds
# With room for more, more waits behind what is stuck on the dead path. The sum of the subflows is off by more
# then; and when the gap is filled, megabytes are read at once, perhaps just when a second ends.
SEND_BUFFER = 1 << 19
LIMIT = 0.05
# What is on its way when the second ends: read, but not acknowledged, or the other way round. Half of what
# the paths carry in 20 ms; it matters in seconds of a near standstill only.
FLOOR = sum(MBIT) * 1e6 / 8 * 0.010
SECOND = 1_000_000_000


class Sample(NamedTuple):
    """What a Tracker said of one second, in bytes."""

    time: int
    connection: int
    subflows: int


class Received(NamedTuple):
    """What the receiving end tells."""

    samples: list[Sample]
    marks: list[int]  # read in all, at each sample
    times: list[int]  # when something was read
    totals: list[int]  # read in all, at each of these times

    def read_until(self, moment: int) -> int:
        return self.totals[bisect.bisect(self.times, moment) - 1]


class Second(NamedTuple):
    """One line of the table, in bytes."""

    second: int
    sender: int  # acknowledged, by the sender's Tracker
    subflows: int  # the same, summed over its subflows
    read_then: int  # by the receiving program, between the sender's two samples
    receiver: int  # received, by the receiver's Tracker
    read: int  # by the receiving program, between the receiver's two samples

    def off(self) -> float:
        """The worse Tracker's distance from what was read, as a part of it."""
        return max(distance(self.sender, self.read_then), distance(self.receiver, self.read))

    def holds(self) -> bool:
        pairs = ((self.sender, self.read_then), (self.receiver, self.read))
        return all(abs(said - read) <= max(LIMIT * read, FLOOR) for said, read in pairs)


def distance(said: int, read: int) -> float:
    return abs(said - read) / max(read, 1)


def go_first() -> None:
    """Measure on a busy machine what is measured on an idle one."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


# ----------------------------------------------------------------------------------------- the two ends


def tell(control: socket.socket, number: int) -> None:
    control.sendall(number.to_bytes(8, "big"))


def hear(control: socket.socket) -> int:
    told = control.recv(8, socket.MSG_WAITALL)
    if not told:
        raise EOFError("the other end has gone")
    return int.from_bytes(told, "big")


def receive(control: socket.socket, seconds: int) -> Received:
    """In the server's network."""
    control.settimeout(20)
    go_first()
    # The listener stays: the second subflow comes to it, at another address.
    with mp.create_server(("0.0.0.0", 0), fallback=False) as server:
        server.settimeout(10)
        tell(control, server.getsockname()[1])
        sock, _ = server.accept()
        with sock:
            tracker = mp.Tracker(sock)
            samples, marks, times, totals, buffer = [], [], [0], [0], bytearray(1 << 18)
            begin = hear(control)
            for due in range(begin, begin + (seconds + 1) * SECOND, SECOND):
                while (left := due - time.monotonic_ns()) > 0:
                    if readable(sock, left):
                        totals.append(totals[-1] + sock.recv_into(buffer))
                        times.append(time.monotonic_ns())
                samples.append(sample(tracker, "bytes_received"))
                while readable(sock, 0):  # what had come and was not read yet
                    totals.append(totals[-1] + sock.recv_into(buffer))
                    times.append(time.monotonic_ns())
                marks.append(totals[-1])
            tell(control, 0)  # the sender may close
            return Received(samples, marks, times, totals)


def readable(sock: socket.socket, nanoseconds: int) -> bool:
    return bool(select.select([sock], [], [], nanoseconds / SECOND)[0])


def send(paths: testing.Paths, control: socket.socket, seconds: int, send_buffer: int) -> list[Sample]:
    """In the client's network: the Tracker's samples."""
    control.settimeout(20)
    go_first()
    with mp.create_socket(fallback=False) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        sock.setsockopt(socket.SOL_TCP, socket.TCP_CONGESTION, b"reno")
        sock.settimeout(10)
        sock.connect((paths.server_addresses[0], hear(control)))
        sock.setblocking(False)
        tracker, samples = mp.Tracker(sock), []
        until_both_are_up = time.monotonic_ns() + 5 * SECOND
        while mp.snapshot(sock).live_count < 2:
            if time.monotonic_ns() > until_both_are_up:
                raise RuntimeError("the second subflow did not come")
            fill(sock, time.monotonic_ns() + SECOND // 100)
        begin = time.monotonic_ns() + SECOND
        tell(control, begin)
        for second in range(seconds + 1):
            fill(sock, begin + second * SECOND)
            samples.append(sample(tracker, "bytes_acked"))
            if second == CUT:
                paths.cut(1)
            if second == RESTORED:
                paths.restore(1)
        hear(control)
        return samples


def fill(sock: socket.socket, due: int, data: bytes = bytes(1 << 16)) -> None:
    """Send as much as the connection takes, until due."""
    while (left := due - time.monotonic_ns()) > 0:
        if select.select([], [sock], [], left / SECOND)[1]:
            with contextlib.suppress(BlockingIOError):
                sock.send(data)


def sample(tracker: mp.Tracker, counter: str) -> Sample:
    update = tracker.update()
    parts = [getattr(path, counter) or 0 for path in update.subflows]
    return Sample(update.snapshot.time, getattr(update, counter) or 0, sum(parts))


# ------------------------------------------------------------------------------------------- the figures


def run(seconds: int, send_buffer: int) -> list[Second]:
    """Both ends at work, and their figures side by side."""
    here, there = socket.socketpair()

    def far() -> Received:
        here.close()  # an end that dies is noticed at the other
        return receive(there, seconds)

    with testing.Paths(2, rate=MBIT[0] * 1e6) as paths, here, there:
        paths.shape(1, rate=MBIT[1] * 1e6)
        with paths.server:
            receiver = testing.Child(far)
        with receiver, paths.client:
            there.close()
            try:
                sent = send(paths, here, seconds, send_buffer)
            except EOFError:
                receiver.result(5)  # raises what happened there
                raise
            return list(compare(sent, receiver.result(10)))


def compare(sent: list[Sample], received: Received) -> Iterator[Second]:
    read = [received.read_until(one.time) for one in sent]
    for n in range(1, len(sent)):
        one, other = sent[n], received.samples[n]
        then, here = read[n] - read[n - 1], received.marks[n] - received.marks[n - 1]
        yield Second(n, one.connection, one.subflows, then, other.connection, here)


def table(rows: list[Second]) -> Iterator[str]:
    yield "second  sender  subflows    read  receiver    read   off   (Mbit/s)"
    for row in rows:
        sender, subflows, read_then, receiver, read = (bytes_ * 8 / 1e6 for bytes_ in row[1:])
        note = "  path 2 is cut" if CUT < row.second <= RESTORED else ""
        yield (
            f"{row.second:>6}  {sender:6.2f}  {subflows:8.2f}  {read_then:6.2f}  {receiver:8.2f}"
            f"  {read:6.2f}  {row.off():5.1%}{note}"
        )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    seconds, size = cli.between(int, 1, 3600), cli.between(int, 1, 2**30 - 1)
    parser.add_argument("--seconds", type=seconds, default=10, metavar="N", help="how long, 10 by default")
    parser.add_argument(
        "--send-buffer", type=size, default=SEND_BUFFER, metavar="BYTES", help="512 KiB by default"
    )
    parser.add_argument("--json", action="store_true", help="one object on stdout; figures in bytes")
    options = parser.parse_args(argv)
    rows = testing.in_private_network(
        lambda: run(options.seconds, options.send_buffer), within=options.seconds + 60
    )
    good = all(row.holds() for row in rows)
    if options.json:
        lines = [row._asdict() | {"off": row.off(), "holds": row.holds()} for row in rows]
        print(json.dumps({"schema": 1, "holds": good, "seconds": lines}))
    else:
        print(*table(rows), sep="\n")
        print("within 5 % in every second" if good else "FAIL: off by more than 5 %")
    return cli.PASS if good else cli.FAIL


if __name__ == "__main__":
    sys.exit(cli.entry(main, "benchmarks.two_paths"))
