# SPDX-License-Identifier: MIT
"""What an audit of each planted server must say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from mptcp_sockopt.cli import CANNOT, FAIL, PASS

from . import server

PROGRAM = Path(__file__).with_name("server.py")
WORDS = {PASS: "PASS", FAIL: "FAIL", CANNOT: "3"}


class Planted(NamedTuple):
    """One server, and the audit of it."""

    name: str
    wanted: int
    says: str = ""
    """A regular expression for what is said."""
    options: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    """A wrapper around it."""
    kind: str = ""
    """The name in server.py, if another one."""

    @property
    def words(self) -> list[str]:
        """The command that is audited."""
        command = [sys.executable, str(PROGRAM), self.kind or self.name]
        return [*self.prefix[:-1], self.prefix[-1].format(" ".join(command))] if self.prefix else command

    @property
    def told(self) -> str:
        """What it does."""
        return " ".join((server.servers()[self.kind or self.name].__doc__ or "").split())


_SOMEBODY = r"restarts lost somebody"
_NOBODY = r"0 of \d+ restarts lost anybody"
_CUT = r"\d+ eof"

PLANTED = (
    Planted("careful", PASS, _NOBODY),
    Planted("one_in_500", FAIL, _SOMEBODY),
    Planted("under_way", FAIL, r"20 of 20 restarts lost somebody"),
    Planted("half_length", FAIL, _CUT),
    Planted("half_chunked", FAIL, _CUT),
    Planted("half_head", FAIL, _CUT),
    Planted("half_rest", FAIL, _CUT),
    Planted("early_hints", FAIL, _CUT),
    Planted("busy_503", FAIL, r"\d+ x 503"),
    # At a low rate: on a busy machine, loopback has a handshake in flight now and then.
    Planted("handshakes", PASS, r"handshakes in flight were not tested", ("--rate", "100")),
    Planted("handshakes_rtt", FAIL, _SOMEBODY, ("--rtt", "20"), kind="handshakes"),
    Planted("careful_rtt", PASS, _NOBODY, ("--rtt", "20"), kind="careful_anywhere"),
    Planted("lossy_on_v6", FAIL, r"lost at \[::1\]:8000\n"),
    Planted("impatient", PASS, _NOBODY),
    Planted("impatient_late", FAIL, r"late: [1-9]\d* of", ("--late", "200"), kind="impatient"),
    Planted("idle_closed", PASS, r"[1-9]\d* ended in order while idle", ("--keepalive",)),
    Planted("late", PASS, _NOBODY, ("--restarts", "6", "--seconds", "120")),
    Planted("late_and_lossy", FAIL, _SOMEBODY, ("--restarts", "6", "--seconds", "120")),
    Planted("defers", PASS, _NOBODY),
    Planted("daemonizes", PASS, _NOBODY),
    Planted("reexecs", PASS, _NOBODY),
    Planted("wrapped", PASS, _NOBODY, prefix=("sh", "-c", "{} ; exit 3"), kind="careful"),
    Planted(
        "two_in_a_shell", PASS, _NOBODY, ("--port", "8001"), ("sh", "-c", "{0} & {0} 8001 & wait"), "careful"
    ),
    Planted(
        "shared_in_a_shell",
        CANNOT,
        "a shell with 2 servers",
        (),
        ("sh", "-c", "{0} & {0} & wait"),
        "handshakes",
    ),
    Planted("never", CANNOT, r"stalled"),
    Planted("missing_404", CANNOT, r"status 404"),
    Planted("missing_404_expected", PASS, r"all 404", ("--expect", "404"), kind="missing_404"),
    Planted("unavailable_503", CANNOT, r"status 503"),
    Planted("tls_in_clear", CANNOT, r"speaks TLS: --tls"),
    Planted("deaf_idle", CANNOT, r"replaced nobody", ("--within", "5")),
    Planted("deaf_recycling", CANNOT, r"by themselves|replaced nobody", ("--within", "5")),
    Planted("deaf_forking", CANNOT, r"by themselves|replaced nobody", ("--within", "5", "--rate", "20")),
    Planted("sick", CANNOT, r"without a restart, too|while nothing was restarted"),
    Planted("freezes", FAIL, r"nobody accepts 5 s after restart 6", ("--within", "5")),
    Planted("mortal", FAIL, r"CMD ended in restart 3 \(exit status 1\)"),
    Planted("hasty", CANNOT, r"no configuration"),
)


class Seen(NamedTuple):
    """What an audit said."""

    code: int
    text: str
    right: bool


def audit(one: Planted, *more: str, within: float = 300) -> Seen:
    """Audit it, at 1,000 connections per second and with 20 restarts unless more says otherwise."""
    options = ("--rate", "1000", "--restarts", "20", *one.options, *more)
    words = [sys.executable, "-m", "reuseport", "audit", *options, "--", *one.words]
    done = subprocess.run(words, capture_output=True, text=True, timeout=within, check=False)
    text = done.stdout + done.stderr
    return Seen(done.returncode, text, done.returncode == one.wanted and bool(re.search(one.says, text)))
