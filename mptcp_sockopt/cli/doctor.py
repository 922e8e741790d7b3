# SPDX-License-Identifier: MIT
"""doctor: how MPTCP is set up in this network namespace, what it counted, and what is wrong with it."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import json
import os
from collections.abc import Iterator, Mapping, Sequence

from mptcp_sockopt import host

from . import _here as here_
from ._here import Here, wrapped
from ._meanings import COUNTERS, MEANINGS, SYSCTLS
from ._outcome import CANNOT, FAIL, PASS, Parser, escaped, need_streams
from ._table import parsed


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="mptcp-sockopt doctor",
        description="How MPTCP is set up in this network namespace: endpoints and whether each has a route, "
        "limits, sysctls, the kernel's counters in words, and socket options that TCP takes and MPTCP "
        "does not. Problems come first.",
        epilog="Exit status: 0 no problem, 1 a problem, 2 usage, 3 cannot tell.",
    )
    made.add_argument(
        "--to",
        metavar="ADDRESS",
        type=_address,
        action="append",
        default=[],
        help="ask for the routes to this IP address; by default, to the internet. Can be repeated",
    )
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    return made


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from None


def main(argv: Sequence[str]) -> int:
    need_streams("stdout")
    options = parsed(parser(), argv)
    counters = host.counters()  # before our own connections
    here = here_.look()
    tried, missing = _tried()
    here = here._replace(missing=here.missing + missing)
    if options.json:
        found = here_.asdict(here, options.to)
        refused = host.refused_options() if tried else ()
        more = {
            "counters": counters,
            "refused_options": [option._asdict() for option in refused],
            "socket_options": [
                {**option._asdict(), "get": option.get._asdict(), "set": option.set._asdict()}
                for option in tried
            ],
        }
        print(json.dumps({"schema": 1, **found, **more}))
    else:
        print(escaped("\n".join(_lines(here, counters, tried, options.to))))
    if here.works is None:
        return CANNOT
    return PASS if here.works and not here_.problems(here, options.to) else FAIL


def _tried() -> tuple[tuple[host.SocketOption, ...], tuple[str, ...]]:
    try:
        return host.socket_options(), ()
    except OSError as error:
        return (), (f"socket options: {error.strerror or error}",)


# ------------------------------------------------------------------------------------------------- shown


def _lines(
    here: Here, counters: Mapping[str, int], tried: Sequence[host.SocketOption], to: Sequence[str]
) -> Iterator[str]:
    verdict = here_.verdict(here)
    yield from wrapped(verdict)
    step = here_.next_step(here)
    problems = here_.problems(here, to)
    for problem in [*([step] if step else []), *problems]:
        yield from wrapped(problem, "    ", "  ! ")
    if anchor := here_.anchor(here) or (here_.NO_PATH if problems else None):
        yield here_.page(anchor)
    for sentence in here.missing:
        if sentence not in verdict:
            yield from wrapped(f"Not known: {sentence}", "    ", "  ? ")
    yield from ["", "Endpoints and limits", *here_.endpoint_lines(here, to, "  ")]
    yield from ["", "Sysctls net.mptcp.*; a * marks those that differ from the default", *_sysctl_lines(here)]
    yield from ["", "Counters of this network namespace, since it was created and above 0"]
    yield from _counter_lines(counters)
    if tried:
        yield from ["", "Socket options that MPTCP does not take here, and TCP does", *_option_lines(tried)]


def _sysctl_lines(here: Here) -> Iterator[str]:
    for name, value in here.sysctls.items():
        known = SYSCTLS.get(name)
        differs = known is not None and known.default not in (None, value)
        default = f" (default: {known.default})" if known and differs else ""
        yield f"{'*' if differs else ' '} {name} = {value}{default}"
        if known:
            yield from wrapped(known.meaning, "      ")


def _counter_lines(counters: Mapping[str, int]) -> Iterator[str]:
    groups = [
        *COUNTERS,
        ("Others, which this version does not know", dict.fromkeys(counters.keys() - MEANINGS, "")),
    ]
    width = max([len(str(number)) for number in counters.values()] or [1])
    for question, meanings in groups:
        grown = [(name, meaning) for name, meaning in meanings.items() if counters.get(name)]
        if not grown:
            continue
        yield f"  {question}"
        for name, meaning in grown:
            text = f"{name}: {meaning}" if meaning else name
            yield from wrapped(text, " " * (width + 6), f"    {counters[name]:>{width}}  ")


def _option_lines(tried: Sequence[host.SocketOption]) -> Iterator[str]:
    """The names, by the states in which they are refused and the reason."""
    kinds: dict[str, list[str]] = {}
    for option in tried:
        told = _refusals(option.set, "") or _refusals(option.get, "read, ")
        if told:
            kinds.setdefault(told, []).append(option.name)
    for kind, names in sorted(kinds.items(), key=lambda kind: not kind[0].startswith("always")):
        yield from wrapped(f"{kind}: {', '.join(names)}", "      ", "  ")


def _refusals(call: host.OptionStates, what: str) -> str:
    """In which states, and why; empty if in none."""
    refused = {state: word for state, word in call._asdict().items() if word not in (None, "yes")}
    if not refused:
        return ""
    applies = [state for state, word in call._asdict().items() if word is not None]
    when = "always" if len(refused) == len(applies) else " and ".join(refused)
    reasons = dict.fromkeys(_reason(word) for word in refused.values())
    return f"{what}{when} ({', '.join(reasons)})"


def _reason(word: str) -> str:
    number = getattr(errno, word, None)
    return word if number is None else os.strerror(number)
