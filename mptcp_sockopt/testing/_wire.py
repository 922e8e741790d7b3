# SPDX-License-Identifier: MIT
"""A process that carries frames between interfaces: each pair is a path, with a rate and a delay.

The kernel has this in netem, which distributions' kernels for virtual machines lack. Here real frames go from
one packet socket to another, so that it needs no more than those, and no privilege.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import math
import os
import pickle
import select
import signal
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from .._border import packets
from ._children import close_all_but

QUEUE = 0.020  # seconds that a frame waits for those before it; one that would wait longer is lost


class Shape(NamedTuple):
    """What one path does to frames."""

    rate: float = math.inf  # bits per second each way
    delay: float = 0.0  # seconds one way
    cut: bool = False


class _Lane:
    """One direction of a path: the frames on their way, each with the time when it is due."""

    def __init__(self, source: socket.socket, out: socket.socket) -> None:
        self.source = source
        self.shape = Shape()
        self._out = out
        self._frames = collections.deque[tuple[float, bytes]]()
        self._free = 0.0  # when the last frame has left

    def take(self, came: float, frame: bytes) -> None:
        begin = max(came, self._free)
        if not self.shape.cut and begin - came <= QUEUE:
            self._free = begin + len(frame) * 8 / self.shape.rate
            self._frames.append((self._free + self.shape.delay, frame))

    def due(self) -> float:
        return self._frames[0][0] if self._frames else math.inf

    def deliver(self, now: float) -> None:
        while self.due() <= now:
            with contextlib.suppress(OSError):  # lost, as on any wire
                self._out.send(self._frames.popleft()[1])

    def bend(self, shape: Shape) -> None:
        self.shape = shape
        self._free = 0.0  # no frame waits for what an old rate had promised
        if shape.cut:
            self._frames.clear()


def carry(ends: Sequence[tuple[socket.socket, socket.socket]], control: socket.socket) -> NoReturn:
    """Carry frames between the two ends of each path, in order, until killed. The control socket brings a
    path's number and its new shape, and is answered."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the wire ends after those who use it
    gc.disable()  # no pauses; and no object of the caller's is collected here, with descriptors closed below
    with contextlib.suppress(PermissionError):  # without privilege it waits its turn on a busy machine
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    control, *rest = _alone_with([control, *(end for pair in ends for end in pair)])
    paths = [(_Lane(one, other), _Lane(other, one)) for one, other in zip(rest[::2], rest[1::2], strict=True)]
    lanes = [lane for path in paths for lane in path]
    buffer = bytearray(packets.LARGEST)
    while True:
        for lane in lanes:
            lane.deliver(time.monotonic())
        due = min(lane.due() for lane in lanes)
        patience = None if due == math.inf else max(0.0, due - time.monotonic())
        # select(2) waits to the microsecond; poll(2) and epoll(7) in Python to the millisecond.
        ready, _, _ = select.select([control, *rest], [], [], patience)
        for lane in lanes:
            if lane.source in ready:
                for came, frame in packets.read_frames(lane.source, buffer):
                    lane.take(came, frame)
        if control in ready:
            number, shape = pickle.loads(control.recv(1000))
            for lane in paths[number]:
                lane.bend(shape)
            control.send(b".")


def _alone_with(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """The sockets at low numbers (select(2) knows 1,024), every other descriptor but stdio closed."""
    moved = [os.dup(sock.fileno()) for sock in sockets]
    for number, descriptor in enumerate(moved, 3):
        os.dup2(descriptor, number)
    close_all_but(range(3 + len(moved)))
    return [socket.socket(fileno=number) for number in range(3, 3 + len(moved))]
