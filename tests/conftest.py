# SPDX-License-Identifier: MIT
"""Options and fixtures. What a machine lacks is a skip with its reason, or a failure under
--require-mptcp, which CI passes. A test that hangs is a failure, with the stacks of all threads."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import signal
import socket
import threading
from collections.abc import Generator, Iterator
from types import FrameType

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt.selftest import _loopback

from .support import (
    DEADLINE,
    LOOPBACK,
    Missing,
    fallback_pair,
    mptcp_pair,
    needs_loopback,
    no_option,
    tcp_pair,
)

Pair = tuple[socket.socket, socket.socket]

# Seconds for each phase of a test: more than any wait inside it. Emulated guests are slow.
LIMIT = 600.0 if os.environ.get("MPTCP_SOCKOPT_EMULATED") else 3 * DEADLINE
SLOW_LIMIT = 1800.0
AGAIN = 10.0  # for what a test that was interrupted does on its way out, and for threads at the end


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-mptcp", action="store_true", help="fail where MPTCP or anything else is missing"
    )
    parser.addoption(
        "--limit", type=float, default=LIMIT, metavar="SECONDS", help=f"for each phase of a test ({LIMIT:g})"
    )


# --------------------------------------------------------------------------------------------- the process


def _nothing(number: int, frame: FrameType | None) -> None:
    """Be deaf to a signal; a handler, unlike SIG_IGN, is not inherited through execve(2)."""


def pytest_configure(config: pytest.Config) -> None:
    """Under nohup and its like: this process goes on ignoring what it was started to ignore, but the
    commands that the tests start, and send signals to, have the default actions."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _nothing)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, children would end without a status


def pytest_unconfigure(config: pytest.Config) -> None:
    """Python waits at its end for threads: not for ever, and it tells where they are (on stderr, by number:
    sys.stderr may be anything)."""
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        faulthandler.dump_traceback_later(min(config.getoption("--limit"), AGAIN), exit=True, file=2)


# -------------------------------------------------------------------------------------------- every test


@functools.cache
def _fault_of_loopback() -> str:
    """Why nothing can be tried on sockets here, or nothing."""
    try:
        with socket.create_server((LOOPBACK[socket.AF_INET], 0)) as server:
            socket.create_connection(server.getsockname(), 2).close()
    except OSError as error:
        return f"sockets on 127.0.0.1 do not work here (ip link set lo up): {error}"
    return ""


@functools.cache
def _fault_of_mptcp() -> str:
    """Why an MPTCP connection over loopback is none here, or nothing; where MPTCP sockets can be made."""
    return _loopback.why_no_mptcp(socket.AF_INET) or ""


def _skip_or_fail(config: pytest.Config, reason: str) -> None:
    if config.getoption("--require-mptcp"):
        pytest.fail(f"--require-mptcp: {reason}", pytrace=False)
    pytest.skip(reason)


@contextlib.contextmanager
def _in_time(item: pytest.Item) -> Iterator[None]:
    """Fail when it takes too long, from a handler: what waits is interrupted, and shows where it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    slow = item.get_closest_marker("slow") or item.get_closest_marker("lint")
    limit: float = SLOW_LIMIT if slow else item.config.getoption("--limit")

    def ring(number: int, frame: FrameType | None) -> None:
        faulthandler.dump_traceback(2)
        pytest.fail(f"no end after {limit:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit, min(limit, AGAIN))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def pytest_enter_pdb() -> None:
    """Who looks at a test has all the time in the world."""
    signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _phase(item: pytest.Item) -> Iterator[None]:
    try:
        with _in_time(item):
            yield
    except (Missing, testing.UnavailableError) as missing:
        _skip_or_fail(item.config, str(missing))
    except mp.UnsupportedOptionError as error:
        _skip_or_fail(item.config, str(no_option(error)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    fixtures = {"family", "mptcp"} & set(getattr(item, "fixturenames", ()))
    with _phase(item):
        if (fixtures or hasattr(getattr(item, "module", None), "socket")) and _fault_of_loopback():
            raise Missing(_fault_of_loopback())
        # Every fixture that opens MPTCP sockets depends on one of these; asked for once here.
        if fixtures and not (support := mp.is_supported()):
            raise Missing(support.value)
        if fixtures and _fault_of_mptcp():
            raise Missing(_fault_of_mptcp())
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _phase(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with _phase(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file that skips itself lacks something too."""
    report = yield
    if report.skipped and collector.config.getoption("--require-mptcp"):
        report.outcome = "failed"
        report.longrepr = f"--require-mptcp: {report.longreprtext}"
    return report


# ---------------------------------------------------------------------------------------------- fixtures


@pytest.fixture
def mptcp() -> None:
    """This test needs MPTCP sockets."""


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> int:
    """IPv4, then IPv6."""
    family: socket.AddressFamily = request.param
    needs_loopback(family)
    return family


@pytest.fixture
def mptcp_ends(family: int) -> Iterator[Pair]:
    with mptcp_pair(family) as ends:
        yield ends


@pytest.fixture
def fallback_ends(family: int) -> Iterator[Pair]:
    with fallback_pair(family) as ends:
        yield ends


@pytest.fixture
def tcp_ends(family: int) -> Iterator[Pair]:
    with tcp_pair(family) as ends:
        yield ends
