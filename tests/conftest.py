# SPDX-License-Identifier: MIT
"""Options and fixtures. What a machine lacks is a skip with its reason, or a failure under
--require-mptcp, which CI passes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

import mptcp_sockopt as mp

from .support import LOOPBACK, Missing, fallback_pair, mptcp_pair, no_option, tcp_pair

Pair = tuple[socket.socket, socket.socket]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-mptcp", action="store_true", help="fail where MPTCP or a namespace is missing"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    except Missing as missing:
        _skip_or_fail(item.config, str(missing))
    except mp.UnsupportedOptionError as error:
        _skip_or_fail(item.config, str(no_option(error)))


def _skip_or_fail(config: pytest.Config, reason: str) -> None:
    if config.getoption("--require-mptcp"):
        pytest.fail(f"--require-mptcp: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Every fixture that opens MPTCP sockets depends on `family` or `mptcp`; asked for once here.
    if {"family", "mptcp"} & set(getattr(item, "fixturenames", ())):
        support = mp.is_supported()
        if not support:
            _skip_or_fail(item.config, support.value)


@pytest.fixture
def mptcp() -> None:
    """This test needs MPTCP sockets."""


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> int:
    """IPv4, then IPv6."""
    family: socket.AddressFamily = request.param
    try:
        socket.create_server((LOOPBACK[family], 0), family=family).close()
    except OSError as error:
        _skip_or_fail(request.config, f"no loopback of {family.name}: {error}")
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
