# SPDX-License-Identifier: MIT
"""Seed 1, dwk's multibind: generations of servers that share one port.

A server answers each connection with the number of its generation (four bytes, a native unsigned int) and
closes it. ``demo`` is the seed's test.sh: five servers, two seconds apart, each with a listening socket of
its own. ``serve``, which is ``demo --fork``, is the seed's multi: a server forks the next, and all share its
socket. ``client`` asks five times a second who answers.

Port, wire format and lines are the seed's, and the lines go to stderr as there, so that each end of this
file talks to the seed's other end. Unlike there, the first process stays until the last server has gone,
and takes the others with it when it is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import cli
from mptcp_sockopt.cli import CannotRun, ended_by, reason

from . import _net

PORT = 3088
BACKLOG = 10
LAST_GENERATION = 4
ANSWER = struct.Struct("@I")  # the generation
REFUSALS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)  # bind()'s; any other is of the socket

# In seconds; --fast divides all but the last by ten.
LIFETIME = 10.0  # of a generation
PAUSE = 2.0  # from one generation to the next
PERIOD = 0.2  # of the client
PATIENCE = 5.0  # for the first server to listen, and for an answer


class Options(NamedTuple):
    """The words of the command, and the two ends of the pipe that its end closes."""

    command: str
    port: int
    fast: bool
    mptcp: bool
    ipv6: bool
    fork: bool
    nofork: bool
    gen: int
    questions: int | None = None
    lifeline: int = -1
    held: int | None = None

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if self.ipv6 else socket.AF_INET

    @property
    def speed(self) -> int:
        return 10 if self.fast else 1


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    parser.set_defaults(fork=command == "serve", nofork=False, gen=0)
    parser.add_argument("--port", type=cli.port, default=PORT, help="default: %(default)s, as in the seed")
    parser.add_argument("--fast", action="store_true", help="ten times as fast")
    parser.add_argument("--mptcp", action="store_true", help="MPTCP sockets; the client says what it got")
    parser.add_argument("-6", dest="ipv6", action="store_true", help="IPv6 instead of IPv4")
    if command == "demo":
        parser.add_argument("--fork", action="store_true", help="one server that forks the next: serve")
    elif command == "serve":
        parser.add_argument("--nofork", action="store_true", help="this one generation only")
        parser.add_argument("--gen", type=_generation, metavar="N", help="the first generation (default: 0)")
    elif command == "client":
        parser.add_argument(
            "--count", dest="questions", type=int, metavar="N", help="end with 0 after N questions"
        )


def _generation(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 8 * ANSWER.size:
        raise argparse.ArgumentTypeError(f"{text} is not an unsigned int")
    return number


def run(options: Options) -> int:
    if options.mptcp and not (support := mp.is_supported()):
        raise CannotRun(support.value)
    if options.command == "client":
        return client(options)
    # Nothing is ever written to this pipe. Its second end is open in this process alone: when that
    # has ended, however it came about, every generation reads the end of file, and ends too.
    lifeline, held = os.pipe()
    options = options._replace(lifeline=lifeline, held=held)
    return serve(options, options.gen) if options.fork else demo(options)


# ---------------------------------------------------------------------------------------------- servers


def demo(options: Options) -> int:
    """Five processes, each with a socket of its own on the same port: SO_REUSEPORT. (The seed's test.sh.)"""
    options = options._replace(nofork=True)
    children = []
    for generation in range(LAST_GENERATION + 1):
        if generation:
            time.sleep(PAUSE / options.speed)
        children.append(start(options, functools.partial(serve, generation=generation)))
    return max([ended(child) for child in children])


def serve(options: Options, generation: int) -> int:
    """A generation with a listening socket of its own. (The seed's multi.)"""
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
    child = None
    while (now := time.monotonic()) < ends_at:
        if forks and child is None and now >= forks_at:
            child = start(options, functools.partial(launched, generation=generation + 1, listener=listener))
        wake = forks_at if forks and child is None else ends_at
        ready, _, _ = select.select([listener.fileno(), options.lifeline], [], [], max(0, wake - now))
        if options.lifeline in ready:
            return 1
        if listener.fileno() in ready:
            answer(listener, generation)
    say(generation, "exiting multibind process")
    listener.close()
    return 0 if child is None else ended(child)


def launched(options: Options, generation: int, listener: socket.socket) -> int:
    """A generation that shares the socket of the one that forked it."""
    say(generation, "launched new multibind process")
    return live(options, generation, listener)


def answer(listener: socket.socket, generation: int) -> None:
    try:
        connection, _ = listener.accept()
    except (BlockingIOError, ConnectionError):
        return  # another generation was faster, or the client has gone
    with connection, contextlib.suppress(OSError):  # gone by now
        connection.sendall(ANSWER.pack(generation))


def start(options: Options, work: Callable[[Options], int]) -> int:
    """Fork a process that does work and ends with the status that it returns; its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if options.held is not None:
            os.close(options.held)
        os._exit(work(options._replace(held=None)))
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except Exception as error:
        os._exit(ended_by(error, "reuseport"))
    finally:
        os._exit(1)  # what cannot even be said


def ended(pid: int) -> int:
    """Wait for a process: its status, with 128 and more for a signal."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 128 - status


def say(generation: int, message: str) -> None:
    print(f"[gen {generation} pid {os.getpid()}] {message}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------- client


def client(options: Options) -> int:
    """Ask who answers until nobody listens any more."""
    tell("starting client")
    patient_until = time.monotonic() + PATIENCE
    asked = 0
    while asked != options.questions:
        try:
            connection = connect(options, patient_until)
        except OSError as error:
            print(f"connect: {error.strerror or error}", file=sys.stderr)
            return 1
        asked += 1
        with connection:
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


def connect(options: Options, patient_until: float) -> socket.socket:
    """A connection. A refusal is tried again until that time: the servers may be starting just now."""
    while True:
        try:
            sock = _net.open_socket(options.family, mptcp=options.mptcp)
        except OSError as error:
            raise CannotRun(reason(error)) from None
        try:
            sock.settimeout(PATIENCE)
            sock.connect((_net.LOOPBACK[options.family], options.port))
            return sock
        except BaseException as error:
            sock.close()
            if not isinstance(error, ConnectionRefusedError) or time.monotonic() >= patient_until:
                raise
        time.sleep(0.05)


def read_answer(connection: socket.socket) -> int:
    """The generation; one recv() may return less than four bytes."""
    data = b""
    while len(data) < ANSWER.size:
        more = connection.recv(ANSWER.size - len(data))
        if not more:
            raise ConnectionError(f"the connection ended after {len(data)} bytes")
        data += more
    generation: int = ANSWER.unpack(data)[0]
    return generation


def tell(message: str) -> None:
    print(f"[client] {message}", file=sys.stderr)
