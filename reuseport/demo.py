# SPDX-License-Identifier: MIT
"""Generations of servers that share one port, after dwk's multibind.

A server answers each connection with the number of its generation (four bytes, a native unsigned int) and
closes it. ``demo`` is multibind's test.sh: five servers, two seconds apart, each with its own listening
socket. ``serve``, the same as ``demo --fork``, is its multi: a server forks the next one, and all share one
socket. ``client`` asks five times a second who answers.

Port, wire format and lines (on stderr) are multibind's, so server and client here work with those of
multibind. One thing differs: the first process stays until the last server has ended, and when it is stopped,
all others end too.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import os
import select
import socket
import struct
import sys
import time
from typing import NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import cli, testing
from mptcp_sockopt.cli import CannotRun

from . import _net
from ._report import add_sockets

PORT = 3088
BACKLOG = 10
LAST_GENERATION = 4
ANSWER = struct.Struct("@I")  # the generation
REFUSALS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)  # from bind()

# In seconds; --fast divides the first three by ten.
LIFETIME = 10.0  # of a generation
PAUSE = 2.0  # from one generation to the next
PERIOD = 0.2  # of the client
PATIENCE = 5.0  # for the first server to listen, and for an answer
STOPPED = 1e6  # for the end of a generation: Ctrl-Z may stop them all


class Options(NamedTuple):
    command: str
    port: int
    speed: int
    mptcp: bool
    family: socket.AddressFamily
    fork: bool
    nofork: bool
    gen: int
    questions: int | None = None


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    parser.set_defaults(fork=command == "serve", nofork=False, gen=0)
    parser.add_argument("--port", type=cli.port, default=PORT, help="default: %(default)s")
    words = "run ten times as fast"
    parser.add_argument("--fast", dest="speed", action="store_const", const=10, default=1, help=words)
    add_sockets(parser)
    if command == "demo":
        parser.add_argument("--fork", action="store_true", help="let each server fork the next, as serve")
    elif command == "serve":
        parser.add_argument("--nofork", action="store_true", help="run one generation only")
        number = cli.between(int, 0, (1 << 8 * ANSWER.size) - 1)
        parser.add_argument("--gen", type=number, metavar="N", help="the first generation (default: 0)")
    elif command == "client":
        parser.add_argument("--count", dest="questions", type=int, metavar="N", help="stop after N questions")
    refused = "it could not connect" if command == "client" else "the port cannot be had, or a server died"
    parser.epilog = f"Exit status: 0 done, 1 {refused}, 2 usage, 3 cannot run here."


def run(options: Options) -> int:
    if options.mptcp and not (support := mp.is_supported()):
        raise CannotRun(support.value)
    if options.command == "client":
        return client(options)
    return serve(options, options.gen) if options.fork else demo(options)


# ---------------------------------------------------------------------------------------------- servers


def demo(options: Options) -> int:
    """Five processes, each with its own socket on one port: SO_REUSEPORT. (multibind's test.sh.)"""
    options = options._replace(nofork=True)
    with contextlib.ExitStack() as stack:
        children = []
        for generation in range(LAST_GENERATION + 1):
            if generation:
                time.sleep(PAUSE / options.speed)
            work = functools.partial(serve, options, generation)
            children.append(stack.enter_context(testing.Child(work)))
        return max([ended(child) for child in children])


def serve(options: Options, generation: int) -> int:
    """A generation with its own listening socket. (multibind's multi.)"""
    say(generation, "starting multibind process")
    address = _net.ANY[options.family], options.port
    try:
        listener = _net.bind(address, _net.Reuse.PORT, family=options.family, mptcp=options.mptcp)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        print(f"bind: {error.strerror}", file=sys.stderr)
        return 1
    with listener:
        listener.listen(BACKLOG)
        listener.setblocking(False)
        return live(options, generation, listener)


def live(options: Options, generation: int, listener: socket.socket) -> int:
    """Answer until the lifetime is over, and fork the next generation on the way."""
    birth = time.monotonic()
    forks_at = birth + PAUSE / options.speed
    ends_at = birth + LIFETIME / options.speed
    forks = not options.nofork and generation < LAST_GENERATION
    with contextlib.ExitStack() as stack:
        child = None
        while (now := time.monotonic()) < ends_at:
            if forks and child is None and now >= forks_at:
                work = functools.partial(launched, options, generation + 1, listener)
                child = stack.enter_context(testing.Child(work))
            wake = forks_at if forks and child is None else ends_at
            if select.select([listener], [], [], max(0, wake - now))[0]:
                answer(listener, generation)
        say(generation, "exiting multibind process")
        listener.close()
        return ended(child) if child else 0


def launched(options: Options, generation: int, listener: socket.socket) -> int:
    """A generation that shares the socket of its parent."""
    say(generation, "launched new multibind process")
    return live(options, generation, listener)


def answer(listener: socket.socket, generation: int) -> None:
    try:
        connection, _ = listener.accept()
    except (BlockingIOError, ConnectionError):
        return  # another generation was faster, or the client is gone
    with connection, contextlib.suppress(OSError):  # the client is gone
        connection.sendall(ANSWER.pack(generation))


def ended(child: testing.Child[int]) -> int:
    """Wait for a generation: its status, or 1 if it was killed. What it raised is raised here."""
    try:
        return child.result(within=STOPPED)
    except testing.ChildDiedError:
        return 1


def say(generation: int, message: str) -> None:
    sys.stderr.write(f"[gen {generation} pid {os.getpid()}] {message}\n")  # whole lines, as others write too


# ---------------------------------------------------------------------------------------------- client


def client(options: Options) -> int:
    """Ask who answers, until nobody listens."""
    tell("starting client")
    patient_until = time.monotonic() + PATIENCE
    asked = 0
    while asked != options.questions:
        with _net.open_socket(options.family, mptcp=options.mptcp) as connection:
            connection.settimeout(PATIENCE)
            try:
                connection.connect((_net.LOOPBACK[options.family], options.port))
            except OSError as error:
                if isinstance(error, ConnectionRefusedError) and time.monotonic() < patient_until:
                    time.sleep(0.05)  # the servers may be starting
                    continue
                print(f"connect: {error.strerror or error}", file=sys.stderr)
                return 1
            asked += 1
            try:
                generation = read_answer(connection)
            except OSError as error:
                tell(f"no answer: {error.strerror or error}")
            else:
                patient_until = 0
                got = f" ({mp.status(connection).value})" if options.mptcp else ""
                tell(f"read from server generation {generation}{got}")
        time.sleep(PERIOD / options.speed)
    return 0


def read_answer(connection: socket.socket) -> int:
    """The generation; one recv() may return less than four bytes."""
    data = connection.makefile("rb").read(ANSWER.size)
    if len(data) < ANSWER.size:
        raise ConnectionError(f"the connection ended after {len(data)} bytes")
    generation: int = ANSWER.unpack(data)[0]
    return generation


def tell(message: str) -> None:
    print(f"[client] {message}", file=sys.stderr)
