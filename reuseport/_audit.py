# SPDX-License-Identifier: MIT
"""audit: restart any server under a bounded load, in a private network namespace, and count what is lost."""

from __future__ import annotations

import argparse
import collections
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO, Any, NamedTuple

from mptcp_sockopt import cli, processes, testing
from mptcp_sockopt.cli import FAIL, PASS, USAGE, CannotRun

from . import _diag, _net
from ._load import PATIENCE, SLOW, Kind, Tally, Target, bound_95, open_loop
from ._programs import with_default_signals
from ._report import add_json, add_numbers, finish

IN_FLIGHT = 64
PROBES = 100  # connections that show the shares
# What can be seen of any server.
LOSSES = [kind.value for kind in (Kind.REFUSED, Kind.RESET, Kind.EOF, Kind.STALLED)]


class Options(NamedTuple):
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
        "--restart",
        type=_signal,
        default=signal.SIGHUP,
        metavar="SIGNAL",
        help="signal to send (default: HUP)",
    )
    parser.add_argument("--raw", action="store_true", help="wait for a first byte, instead of HTTP GET /")
    add_numbers(
        parser,
        ("--port", cli.port, 8000, "PORT", "where CMD listens"),
        ("--conns", cli.between(int, 1, 10**7), 10_000, "N", "make at least so many connections"),
        ("--rate", cli.between(int, 1, 10**5), 1000, "N", "connections per second"),
        ("--restarts", cli.between(int, 5, 10_000), 5, "N", "restart at least so many times, 5 or more"),
        ("--every", cli.positive(float, 60), 1.5, "S", "seconds between two restarts, at most 60"),
    )
    add_json(parser)
    parser.add_argument("cmd", nargs=argparse.REMAINDER, metavar="CMD", help="the server and its arguments")
    parser.epilog = (
        "The load goes on until both counts are reached. A connection is lost if it was refused, reset, "
        "ended without an answer (eof) or got none for 5 s (stalled). Slow connections (over 0.5 s) and HTTP "
        "status 500 or above are reported, but not lost. "
        "Exit status: 0 none lost, 1 some lost, 2 usage, 3 cannot run here."
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
    # However this ends, everything that CMD started ends with the child, and so does the namespace.
    found = testing.in_child(lambda: _trial(command, options, cap), within=cap + 30)
    return finish(options, found, _lines(found), *_verdict(found))


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
                preexec_fn=with_default_signals,  # with nohup's ignored SIGHUP nothing would restart
            )
        except OSError as error:
            raise CannotRun(f"{command[0]}: {error.strerror}") from None
        target = _await_listener(server, options.port, log)
        found = _restart_under_load(server, target, options, deadline)
        found["shares"] = _shares(target) if found["ended"] is None else []
    if found["restarts"] and not found["replaced"] and found["ended"] is None:
        raise CannotRun(f"{options.restart.name} restarted nothing: same listeners in the same processes")
    return found


def _shares(target: Target) -> list[dict[str, int]]:
    """How many of PROBES connections each process accepts, after the restarts.

    They are made one at a time, each with its own 4-tuple, and say nothing. Once a connection is accepted,
    its descriptor shows the process.
    """
    shares: collections.Counter[int] = collections.Counter()
    for _ in range(PROBES):
        with _net.open_socket(target.family, mptcp=False) as sock:
            sock.settimeout(1)
            try:
                sock.connect(target.address)
            except OSError:
                continue
            deadline = time.monotonic() + 1
            inode = None
            while not inode and time.monotonic() < deadline:
                time.sleep(0.0005)
                inode = _diag.accepted(target.address[1], _net.name(sock))
            holders = processes.owners({inode})[inode] if inode else None
            shares.update(holder.pid for holder in (holders or ())[:1])
    return [{"pid": pid, "connections": count} for pid, count in sorted(shares.items())]


def _await_listener(server: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> Target:
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
    family, host = found[0][:2]
    return Target((_net.LOOPBACK[family] if host == _net.ANY[family] else host, port), family, mptcp=False)


def _restart_under_load(
    server: subprocess.Popen[bytes], target: Target, options: Options, deadline: float
) -> dict[str, Any]:
    """The outcome of the connections, how many signals were sent, and how many of those replaced a listener
    or a process that has one."""
    restarts = replaced = 0
    before = _generation(options.port)
    due = time.monotonic() + options.every

    def over(tally: Tally) -> bool:
        nonlocal restarts, replaced, before, due
        now = time.monotonic()
        if now > deadline:
            raise CannotRun(f"time ran out after {tally.total} connections and {restarts} restarts")
        if server.poll() is not None:
            return True
        if now >= due and restarts < options.restarts:
            if restarts:
                after = _generation(options.port)
                replaced, before = replaced + (after != before), after
            server.send_signal(options.restart)
            restarts, due = restarts + 1, now + options.every
            if sys.stderr.isatty():
                progress = f"restart {restarts} of {options.restarts}, {tally.lost} of {tally.total} lost"
                print(f"reuseport audit: {progress}", file=sys.stderr)
        return tally.started >= options.conns and restarts >= options.restarts and now >= due

    exchange = _first_byte if options.raw else _http
    tally = open_loop(target, rate=options.rate, until=over, exchange=exchange, at_once=IN_FLIGHT)
    return {
        "conns": tally.total,
        "lost": tally.lost,
        "restarts": restarts,
        "replaced": replaced + (_generation(options.port) != before),
        "signal": options.restart.name,
        "kinds": {kind: tally.kinds[kind] for kind in LOSSES},
        "slow": tally.slow,
        "slowest": round(tally.slowest, 3),
        "http_errors": sum(count for status, count in tally.served_by.items() if status >= 500),
        "ended": server.poll(),
    }


def _generation(port: int) -> object:
    """What a restart changes: the listeners, or the processes that have them.

    execve(2) keeps the pid, but the process gets another start of its stack.
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


# ------------------------------------------------------------------------------------------- exchanges


def _first_byte(sock: socket.socket) -> tuple[Kind, None]:
    return Kind.SERVED if sock.recv(1) else Kind.EOF, None


def _http(sock: socket.socket) -> tuple[Kind, int | None]:
    """GET /, and read the answer until it is complete; with its status."""
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    deadline = time.monotonic() + PATIENCE
    answer = b""
    while time.monotonic() < deadline:
        data = sock.recv(1 << 16)
        answer += data
        if _complete(answer, at_end=not data):
            status = re.match(rb"HTTP/\S+ (\d{3})", answer)
            return Kind.SERVED, int(status[1]) if status else None
        if not data:
            return Kind.EOF, None
    return Kind.STALLED, None


def _complete(answer: bytes, *, at_end: bool) -> bool:
    """Whether an answer is complete: by its length, by chunks, or by the end of the connection."""
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
