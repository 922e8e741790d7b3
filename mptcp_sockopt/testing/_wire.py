# SPDX-License-Identifier: MIT
"""A process that carries frames between interfaces: each pair is a path with a rate and a delay.

The kernel's own tool for this is netem, which distribution kernels for virtual machines lack. Here, frames
are read from one packet socket and written to another, which needs neither netem nor privilege.
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
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from .._border import packets
from ._children import close_all_but

#: What happens to a frame: it comes with its direction, and what is returned is carried instead of it.
Alter = Callable[[bytes, bool], "bytes | None"]

QUEUE = 0.020  # seconds that a frame may queue; one that would wait longer is dropped


class Shape(NamedTuple):
    """What a path does to frames."""

    rate: float = math.inf  # bits per second in each direction
    delay: float = 0.0  # seconds one way
    cut: bool = False
    alter: Alter | None = None


class _Lane:
    """One direction of a path: the frames on their way, each with the time when it is due."""

    def __init__(self, source: socket.socket, out: socket.socket, *, to_server: bool) -> None:
        self.source = source
        self._to_server = to_server
        self.shape = Shape()
        self._out = out
        self._frames = collections.deque[tuple[float, bytes]]()
        self._free = 0.0  # when the last frame will have left

    def take(self, came: float, frame: bytes) -> None:
        if self.shape.alter is not None:
            altered = self.shape.alter(frame[packets.HEADER :], self._to_server)
            if altered is None:
                return
            frame = frame[: packets.HEADER] + altered
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
        self._free = 0.0  # do not wait for frames as of the old rate
        if shape.cut:
            self._frames.clear()


def carry(ends: Sequence[tuple[socket.socket, socket.socket]], control: socket.socket) -> NoReturn:
    """Carry frames between the two ends of each path, in order, until killed.

    Each message on the control socket has a path's number and its new shape, and is answered.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the wire must outlive its users
    gc.disable()  # no pauses; and the caller's objects, whose descriptors are closed below, must stay
    with contextlib.suppress(PermissionError):  # without privilege, it waits for the CPU on a busy machine
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    control, *rest = _alone_with([control, *(end for pair in ends for end in pair)])
    try:
        _carry(control, rest)
    except BaseException:  # the pipe that it would go back by is closed
        traceback.print_exc()
    os._exit(1)


def _carry(control: socket.socket, rest: Sequence[socket.socket]) -> NoReturn:
    paths = [
        (_Lane(client, server, to_server=True), _Lane(server, client, to_server=False))
        for client, server in zip(rest[::2], rest[1::2], strict=True)
    ]
    lanes = [lane for path in paths for lane in path]
    buffer = bytearray(packets.LARGEST)
    while True:
        for lane in lanes:
            lane.deliver(time.monotonic())
        due = min(lane.due() for lane in lanes)
        patience = None if due == math.inf else max(0.0, due - time.monotonic())
        # select(2) has microsecond resolution; Python's poll(2) and epoll(7) have milliseconds.
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
    """The sockets, moved to low numbers, because select(2) is limited to 1,024.

    Closes all other descriptors but stdio.
    """
    moved = [os.dup(sock.fileno()) for sock in sockets]
    for number, descriptor in enumerate(moved, 3):
        os.dup2(descriptor, number)
    close_all_but(range(3 + len(moved)))
    return [socket.socket(fileno=number) for number in range(3, 3 + len(moved))]
