# SPDX-License-Identifier: MIT
"""audit: a bounded load on any server while it restarts, in a network namespace of its own; who is lost."""

from __future__ import annotations

import argparse
import collections
import errno
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO, Any, NamedTuple

from mptcp_sockopt import cli, processes, testing
from mptcp_sockopt.cli import FAIL, PASS, USAGE, CannotRun

from . import _diag, _net, _report
from ._load import KINDS, PATIENCE, SLOW, Kind, bound_95
from ._programs import with_default_signals

IN_FLIGHT = 64
PROBES = 100  # connections that tell the shares
# What can be told of any server.
LOSSES = [kind.value for kind in (Kind.REFUSED, Kind.RESET, Kind.EOF, Kind.STALLED)]


class Options(NamedTuple):
    """The words of the command."""

    command: str
    restart: signal.Signals
    port: int
    raw: bool
    conns: int
    rate: int
    restarts: int
    every: float
    json: bool
    cmd: list[str]


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    parser.usage = "%(prog)s [options] -- CMD..."
    parser.add_argument(
        "--restart", type=_signal, default=signal.SIGHUP, metavar="SIGNAL", help="sent to CMD's pid (HUP)"
    )
    parser.add_argument("--port", type=cli.port, default=8000, help="where CMD listens (8000)")
    parser.add_argument(
        "--raw", action="store_true", help="connect and wait for the first byte, instead of HTTP GET /"
    )
    parser.add_argument(
        "--conns", type=cli.between(int, 1, 10**7), default=10_000, metavar="N", help="connections (10000)"
    )
    parser.add_argument(
        "--rate", type=cli.between(int, 1, 10**5), default=1000, metavar="N", help="connections/s (1000)"
    )
    parser.add_argument(
        "--restarts", type=cli.between(int, 5, 10_000), default=5, metavar="N", help="5 or more (5)"
    )
    parser.add_argument(
        "--every",
        type=cli.positive(float, 60),
        default=1.5,
        metavar="SECONDS",
        help="between two restarts (1.5; at most 60)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("cmd", nargs=argparse.REMAINDER, metavar="CMD", help="the server, and its words")
    parser.epilog = (
        "The load goes on until both counts are reached. Lost are connections that were refused, reset, "
        "ended without an answer (eof), or had none for 5 s (stalled). Slow ones (over 0.5 s) and HTTP "
        "answers of 500 and more are reported, and not lost. "
        "Exit status: 0 none lost, 1 some, 2 usage, 3 cannot run here."
    )


def _signal(text: str) -> signal.Signals:
    try:
        return signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"]
    except KeyError:
        raise argparse.ArgumentTypeError(f"no signal {text!r}") from None


def run(options: Options) -> int:
    command = options.cmd[1:] if options.cmd[:1] == ["--"] else options.cmd
    if not command:
        print("reuseport audit: error: no command: reuseport audit [options] -- CMD...", file=sys.stderr)
        return USAGE
    expected = max(options.conns / options.rate, options.every * (options.restarts + 1))
    cap = 30 + 3 * expected
    try:
        # However this ends, everything that CMD started ends with the child, and so does the namespace.
        found = testing.in_child(lambda: _trial(command, options, cap), within=cap + 30)
    except TimeoutError as error:
        raise CannotRun(str(error)) from None
    return _report.finish(options, found, _lines(found), *_verdict(found))


# ----------------------------------------------------------------------------------------------- trial


def _trial(command: list[str], options: Options, cap: float) -> dict[str, Any]:
    _net.enter_private_network()
    deadline = time.monotonic() + cap
    with tempfile.TemporaryFile() as log:
        try:
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=with_default_signals,  # nohup's ignored SIGHUP would be no restart
            )
        except OSError as error:
            raise CannotRun(f"{command[0]}: {error.strerror}") from None
        family, address = _target(_await_listener(server, options.port, log))
        with Load(address, family=family, rate=options.rate, raw=options.raw) as load:
            restarts, replaced = _restart_under_load(server, load, options, deadline)
            load.finish()
            ended = server.poll()
        shares = _shares(family, address) if ended is None else {}
    if restarts and not replaced and ended is None:
        raise CannotRun(
            f"{options.restart.name} restarted nothing: CMD's listeners and the processes that have them are "
            "the same as before"
        )
    return {
        "conns": load.total,
        "lost": load.lost,
        "restarts": restarts,
        "replaced": replaced,
        "signal": options.restart.name,
        "kinds": {kind: load.kinds[kind] for kind in LOSSES},
        "slow": load.slow,
        "slowest": round(load.slowest, 3),
        "http_errors": load.http_errors,
        "shares": [{"pid": pid, "connections": count} for pid, count in sorted(shares.items())],
        "ended": ended,
    }


def _shares(family: int, address: tuple[str, int]) -> dict[int, int]:
    """Which process accepted how many of PROBES connections that say nothing until it is known.

    After the restarts, one at a time, each with a 4-tuple of its own: who gets a connection is settled when
    it is accepted, and the kernel tells whose descriptor it has become.
    """
    shares: collections.Counter[int] = collections.Counter()
    for _ in range(PROBES):
        with _net.open_socket(family, mptcp=False) as sock:
            sock.settimeout(1)
            try:
                sock.connect(address)
            except OSError:
                continue
            deadline = time.monotonic() + 1
            while not (inode := _diag.accepted(address[1], _net.name(sock))):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.0005)
            else:
                holders = processes.owners({inode})[inode] or ()
                shares.update(holder.pid for holder in holders[:1])
    return dict(shares)


def _await_listener(server: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> processes.Listener:
    deadline = time.monotonic() + 20
    while not (found := processes.listeners(port)):
        if server.poll() is not None:
            reason = f"CMD ended ({_ending(server.returncode)}) before it listened on port {port}"
        elif time.monotonic() > deadline:
            reason = f"CMD does not listen on port {port} after 20 s"
        else:
            time.sleep(0.01)
            continue
        log.seek(0)
        said = log.read()[-1000:].decode(errors="replace").strip()
        raise CannotRun(f"{reason}{': ' if said else ''}{said}")
    return found[0]


def _target(listener: processes.Listener) -> tuple[int, tuple[str, int]]:
    wildcard = listener.host == _net.ANY[listener.family]
    return listener.family, (_net.LOOPBACK[listener.family] if wildcard else listener.host, listener.port)


def _restart_under_load(
    server: subprocess.Popen[bytes], load: Load, options: Options, deadline: float
) -> tuple[int, int]:
    """How many signals were sent, and how many of them replaced a listener or a process that has one."""
    restarts = replaced = 0
    before = _generation(options.port)
    due = time.monotonic() + options.every
    while load.started < options.conns or restarts < options.restarts or time.monotonic() < due:
        now = time.monotonic()
        if now > deadline:
            raise CannotRun(f"the time cap struck after {load.total} connections and {restarts} restarts")
        if server.poll() is not None:
            break
        if now >= due and restarts < options.restarts:
            if restarts:
                after = _generation(options.port)
                replaced, before = replaced + (after != before), after
            server.send_signal(options.restart)
            restarts, due = restarts + 1, now + options.every
            _progress(f"restart {restarts} of {options.restarts}, {load.lost} of {load.total} lost")
        load.step(more=True)
    return restarts, replaced + (_generation(options.port) != before)


def _generation(port: int) -> object:
    """What is another thing after a restart: the listeners, and the processes that have them.

    The start of a process's stack is drawn anew by execve(2), which keeps the pid.
    """
    inodes = {listener.inode for listener in processes.listeners(port)}
    pids = {owner.pid for holders in processes.owners(inodes).values() for owner in holders or ()}
    return inodes, {(pid, _start_of_stack(pid)) for pid in pids}


def _start_of_stack(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[25]
    except (OSError, IndexError):
        return ""


def _progress(sentence: str) -> None:
    if sys.stderr.isatty():
        print(f"reuseport audit: {sentence}", file=sys.stderr)


# ------------------------------------------------------------------------------------------------ load


class Load:
    """One request a connection, at a rate (a second) as long as fewer than IN_FLIGHT are under way."""

    def __init__(self, address: tuple[str, int], *, family: int, rate: float, raw: bool) -> None:
        self._address, self._family, self._raw = address, family, raw
        self._request = b"" if raw else b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        self._period = 1 / rate
        self._next = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._open: dict[socket.socket, _Connection] = {}  # in the order of their beginning
        self.started = 0
        self.kinds: collections.Counter[str] = collections.Counter()
        self.slow = self.http_errors = 0
        self.slowest = 0.0

    @property
    def total(self) -> int:
        return sum(self.kinds.values())

    @property
    def lost(self) -> int:
        return sum(self.kinds[kind] for kind in LOSSES)

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._open:
            sock.close()
        self._selector.close()

    def finish(self) -> None:
        """Until what is under way has come to its end, PATIENCE at most."""
        while self._open:
            self.step(more=False)

    def step(self, *, more: bool) -> None:
        """Open what is due (if more) and take what came; returns after 10 ms at the latest."""
        now = time.monotonic()
        while more and now >= self._next and len(self._open) < IN_FLIGHT:
            self._begin()
            self._next = max(self._next + self._period, now - 0.1)  # after a stall, no long burst
        for key, _ in self._selector.select(0.01 if len(self._open) >= IN_FLIGHT else 0.001):
            self._advance(self._open[key.fileobj])  # type: ignore[index]
        while self._open:
            oldest = next(iter(self._open.values()))
            if time.monotonic() - oldest.begun < PATIENCE:
                break
            self._end(oldest, "stalled")

    def _begin(self) -> None:
        connection = _Connection(_net.open_socket(self._family, mptcp=False))
        self._open[connection.sock] = connection
        self.started += 1
        connection.sock.setblocking(False)
        number = connection.sock.connect_ex(self._address)
        if number not in (0, errno.EINPROGRESS):
            self._end(connection, _kind(number))
            return
        self._selector.register(connection.sock, selectors.EVENT_WRITE)

    def _advance(self, connection: _Connection) -> None:
        """The first error of any call decides what became of the connection."""
        sock = connection.sock
        try:
            if not connection.asked:
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    raise OSError(number, os.strerror(number))
                sock.send(self._request)
                connection.asked = True
                self._selector.modify(sock, selectors.EVENT_READ)
                return
            data = sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(connection, _kind(error.errno))
            return
        connection.answer += data
        if _complete(connection.answer, self._raw, at_end=not data):
            self._end(connection, "served")
        elif not data:
            self._end(connection, "eof")

    def _end(self, connection: _Connection, kind: str) -> None:
        if connection.sock in self._selector.get_map():
            self._selector.unregister(connection.sock)
        del self._open[connection.sock]
        connection.sock.close()
        seconds = time.monotonic() - connection.begun
        self.kinds[kind] += 1
        self.slow += kind == "served" and seconds > SLOW
        self.slowest = max(self.slowest, seconds)
        self.http_errors += not self._raw and bool(re.match(rb"HTTP/\S+ 5", connection.answer))


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.begun = time.monotonic()
        self.asked = False
        self.answer = bytearray()


def _kind(number: int | None) -> str:
    """The kind of loss; what is none of a server's doing (no descriptors, no ports left) ends the trial."""
    if number not in KINDS:
        raise CannotRun(f"the loader failed: {os.strerror(number or 0)}")
    return KINDS[number].value


def _complete(answer: bytearray, raw: bool, *, at_end: bool) -> bool:
    """Whether this is all of an answer: raw, any byte; HTTP, by length, by chunks, else by the end."""
    if raw:
        return bool(answer)
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank or not head.startswith(b"HTTP/"):
        return False
    length = re.search(rb"(?im)^content-length:\s*(\d+)", head)
    if length:
        return len(body) >= int(length[1])
    if re.search(rb"(?im)^transfer-encoding:.*chunked", head):
        return body.endswith(b"0\r\n\r\n")
    return at_end


# ---------------------------------------------------------------------------------------------- report


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _lines(found: dict[str, Any]) -> list[str]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["kinds"].items())
    lines = [
        f"lost: {kinds}",
        f"served but slow (over {SLOW:g} s): {found['slow']}; the slowest took {found['slowest']:g} s",
    ]
    if found["shares"]:
        counts = sorted((share["connections"] for share in found["shares"]), reverse=True)
        lines.append(f"shares of {sum(counts)} more, by process: {' '.join(map(str, counts))}")
    if found["http_errors"]:
        lines.append(f"answered with status 5xx: {found['http_errors']}")
    if found["replaced"] < found["restarts"]:
        lines.append(
            f"only {found['replaced']} of {found['restarts']} signals replaced a listener or its process"
        )
    return lines


def _verdict(found: dict[str, Any]) -> tuple[str, int]:
    sentence = f"lost {found['lost']:,} of {found['conns']:,} in {found['restarts']} restarts"
    if found["ended"] is not None:
        return f"{sentence}, then CMD ended ({_ending(found['ended'])})", FAIL
    if found["lost"]:
        return sentence, FAIL
    return f"{sentence} (95 % bound {bound_95(0, found['conns']):.1e})", PASS
