# SPDX-License-Identifier: MIT
"""check: can connections from this host use MPTCP, does a peer, and if not, why?"""

from __future__ import annotations

import argparse
import codecs
import json
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from mptcp_sockopt import FallbackReason

from . import _here as here_
from ._here import Here, wrapped
from ._meanings import COUNTERS, MEANINGS, SYSCTLS
from ._outcome import CANNOT, FAIL, PASS, CannotRun, Parser, escaped, need_streams, port, positive
from ._peer import UNKNOWN, Attempt, Peer, Result, ask
from ._table import parsed

_HTTP = "HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"
#: Results whose time is that of plain TCP.
_BY_TCP = (Result.NO_ANSWER, Result.REFUSED, Result.SLOW)
_CODES = {"yes": PASS, "no": FAIL, "unknown": CANNOT}
_VERDICTS = {"yes": "yes", "no": "no", "unknown": "cannot tell"}
#: Counters that say why: those of connections that this host opens, and of packets that were altered.
_TELLING = {*COUNTERS[0].meanings, *COUNTERS[2].meanings} - {"MPCapableSYNTX", "MPCapableSYNACKRX"}

# Where there is no FallbackReason, or more is to be said: causes, and what to do.
_CAUSES = {
    Result.UNCONFIRMED: (
        "a middlebox removes the MPTCP options from packets after the handshake",
        "a middlebox drops packets that have them",
        "the server waits for data before it accepts (TCP_DEFER_ACCEPT)",
        "packets were lost on a busy path each time: repeat the command to be sure",
    ),
    Result.DATA_LOST: ("a middlebox drops packets that carry data and MPTCP options",),
    Result.NO_ANSWER: (
        "a middlebox drops SYNs that have the MPTCP option",
        "a middlebox drops SYN/ACKs that have it",
        "the server was away for some seconds: repeat the command to be sure",
    ),
    Result.REFUSED: ("a firewall answers SYNs that have the MPTCP option with a reset",),
    Result.RESET: ("a middlebox resets connections that use MPTCP",),
}
_ELSEWHERE = "Try another port, another path, or a VPN. Until then, programs have to use plain TCP."
_NEXT = {
    Result.UNCONFIRMED: "Send data, which tells these apart: --send TEXT, or --http.",
    Result.DATA_LOST: f"MPTCP connections to this peer hang. {_ELSEWHERE}",
    Result.NO_ANSWER: "Every program that uses MPTCP to this peer waits for seconds, and then the kernel "
    f"suspends MPTCP in the whole network namespace (net.mptcp.blackhole_timeout). {_ELSEWHERE}",
    Result.REFUSED: _ELSEWHERE,
    Result.RESET: _ELSEWHERE,
    Result.RESET_ANYWAY: "Say what the server expects: --send TEXT, or --http.",
    Result.SLOW: "With net.mptcp.syn_retrans_before_tcp_fallback set higher, this command waits longer.",
    Result.UNREACHABLE: "Check that the server runs, and that its address and port are right.",
}
# Anchors of docs/troubleshooting.md.
_ANCHORS = {
    Result.FALLBACK: "fallback",
    Result.UNCONFIRMED: "fallback",
    Result.NO_ANSWER: "three-seconds",
}


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="mptcp-sockopt check",
        description="Can connections from this host use MPTCP? With HOST and PORT: does that server, and if "
        "not, why? The server gets a connection that ends without data, or the data that you give. Other "
        "programs are not disturbed.",
        epilog="Exit status: 0 yes, 1 no, 2 usage, 3 cannot tell.",
    )
    made.add_argument("host", nargs="?", metavar="HOST", type=_host, help="a name or an address")
    made.add_argument("port", nargs="?", metavar="PORT", type=port, help="a TCP port")
    family = made.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const=socket.AF_INET, help="only IPv4")
    family.add_argument("-6", dest="family", action="store_const", const=socket.AF_INET6, help="only IPv6")
    said = made.add_mutually_exclusive_group()
    said.add_argument(
        "--send",
        metavar="TEXT",
        type=_text,
        help="send this instead of the end of data; \\r, \\n and \\x00 are understood",
    )
    said.add_argument("--http", action="store_true", help="send an HTTP HEAD request")
    made.add_argument(
        "--wait",
        metavar="S",
        type=positive(float, 60),
        default=3.0,
        help="seconds to wait for each answer (default: 3)",
    )
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    made.set_defaults(family=socket.AF_UNSPEC)
    return made


def _host(text: str) -> str:
    name = text.strip("[]")  # `show` prints IPv6 addresses in brackets
    if not name or not name.isprintable() or " " in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not a name or an address")
    return name


def _text(text: str) -> bytes:
    try:
        data = codecs.escape_decode(text.encode(errors="surrogateescape"))[0]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if not data:
        raise argparse.ArgumentTypeError("the text is empty")
    return bytes(data)


def main(argv: Sequence[str]) -> int:
    need_streams("stdout")
    made = parser()
    options = parsed(made, argv)
    if options.host and not options.port:
        made.error("PORT is missing")
    if not options.host and (options.send or options.http or options.family):
        made.error("HOST and PORT are missing")
    here = here_.look()
    attempts: list[Attempt] = []
    if options.host and here.works is not False and here.support:
        data = options.send or (_HTTP.format(options.host).encode() if options.http else b"")
        attempts = list(_ask_in_turn(options, data))
    verdict = _verdict(here, attempts)
    if options.json:
        print(json.dumps(_asdict(options, here, attempts, verdict)))
    else:
        print(escaped("\n".join(_lines(options, here, attempts, verdict))))
    return _CODES[verdict]


def _ask_in_turn(options: argparse.Namespace, data: bytes) -> Iterator[Attempt]:
    """The addresses of the host until one answers, as socket.create_connection() tries them."""
    for family, address in _addresses(options.host, options.port, options.family):
        if sys.stderr.isatty():
            print(f"mptcp-sockopt check: asking {address[0]}, for seconds if it is silent", file=sys.stderr)
        attempt = ask(Peer(family, address, data, options.wait))
        yield attempt
        if attempt.result not in (Result.UNREACHABLE, Result.REFUSED):
            return


def _addresses(host: str, number: int, family: int) -> list[tuple[int, Any]]:
    try:
        found = socket.getaddrinfo(host, number, family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise CannotRun(f"no address of {host}: {why}") from None
    return [(kind, address) for kind, _, _, _, address in found]


def _verdict(here: Here, attempts: Sequence[Attempt]) -> str:
    if not attempts:
        return {True: "yes", False: "no", None: "unknown"}[here.works]
    results = [attempt.result for attempt in attempts]
    if Result.MPTCP in results:
        return "yes"
    return "unknown" if set(results) <= {*UNKNOWN} else "no"


# ------------------------------------------------------------------------------------------------- shown


def _lines(
    options: argparse.Namespace, here: Here, attempts: Sequence[Attempt], verdict: str
) -> Iterator[str]:
    if options.host:
        yield from wrapped(f"MPTCP to {options.host} port {options.port}: {_VERDICTS[verdict]}")
    for attempt in attempts:
        yield from _attempt_lines(attempt)
    if not attempts:
        yield from wrapped(here_.verdict(here))
        yield from _next(here_.next_step(here))
        yield from _page(here_.anchor(here))
    if here.works is not False and (not attempts or verdict == "yes"):
        yield ""
        yield from _host_lines(here, [attempts[-1].address] if attempts else [])


def _attempt_lines(attempt: Attempt) -> Iterator[str]:
    result, reason = attempt.result, attempt.reason
    text = f"{attempt.address}: {result.value}"
    if attempt.error:
        text = f"{text.removesuffix('.')}: {attempt.error}."
    if attempt.seconds is not None:
        text += f" {'Plain TCP' if result in _BY_TCP else 'It'} connected in {_time(attempt.seconds)}."
    yield from wrapped(text)
    if result is Result.MPTCP:
        return
    if reason:
        sentence = f"{reason.sentence} " if result is Result.FALLBACK else ""
        yield from wrapped(f"{sentence}(reason: {reason.value})")
    causes = _CAUSES.get(result) or (reason.causes if reason else ())
    if causes:
        yield ""
        yield "Possible causes:" if len(causes) > 1 else "The cause:"
        for cause in causes:
            yield from wrapped(cause, "    ", "  - ")
    counted = {name: number for name, number in attempt.counters.items() if name in _TELLING}
    if counted:
        yield ""
        yield "Meanwhile, the kernel counted in this network namespace:"
        for name, number in counted.items():
            yield from wrapped(f"{name} +{number}: {MEANINGS[name]}", "    ", "  ")
    yield from _next(_NEXT.get(result) or (reason.next_step if reason else None))
    yield from _page(_ANCHORS.get(result))


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def _next(step: str | None) -> Iterator[str]:
    if step:
        yield ""
        yield from wrapped(f"What to do next: {step}")


def _page(anchor: str | None) -> Iterator[str]:
    if anchor:
        yield here_.page(anchor)


def _host_lines(here: Here, destinations: Sequence[str]) -> Iterator[str]:
    for name, value in here.sysctls.items():
        known = SYSCTLS.get(name)
        if known and known.default not in (None, value):
            yield from wrapped(
                f"net.mptcp.{name} is {value}, not {known.default} as by default. {known.meaning}"
            )
    yield from here_.endpoint_lines(here, destinations)
    problems = here_.problems(here, destinations)
    for problem in problems:
        yield from wrapped(f"Problem: {problem}")
    yield from _page(here_.NO_PATH if problems else None)


def _reason(here: Here, attempts: Sequence[Attempt]) -> FallbackReason | None:
    """The class of cause that decided."""
    if here.suspended:
        return FallbackReason.SUSPENDED
    return attempts[-1].reason if attempts else None


def _asdict(
    options: argparse.Namespace, here: Here, attempts: Sequence[Attempt], verdict: str
) -> dict[str, object]:
    reason = _reason(here, attempts)
    return {
        "schema": 1,
        "verdict": verdict,
        "fallback_reason": reason and reason.value,
        "host": here_.asdict(here, [attempts[-1].address] if attempts else []),
        "peer": {
            "name": options.host,
            "port": options.port,
            "attempts": [
                {
                    "address": attempt.address,
                    "result": attempt.result.name.lower(),
                    "fallback_reason": attempt.reason and attempt.reason.value,
                    "sentence": attempt.result.value,
                    "error": attempt.error,
                    "seconds": attempt.seconds,
                    "counters": attempt.counters,
                }
                for attempt in attempts
            ],
        }
        if options.host
        else None,
    }
