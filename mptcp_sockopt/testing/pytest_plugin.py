# SPDX-License-Identifier: MIT
"""Fixtures for pytest, which finds them by itself: a test that has one runs in a network of its own.

    def test_both_paths_are_used(mptcp_paths): ...

The whole test is called in a forked process, by in_private_network(). What this machine lacks is a skip.
"""

from __future__ import annotations

import contextlib
import inspect

import pytest

from . import Paths, UnavailableError, in_private_network

_OUTCOMES = (pytest.skip, pytest.xfail, pytest.fail)  # of the last, xfail is a kind


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "mptcp_paths(count=2, *, rate=inf, delay=0, family=AF_INET): what the fixture mptcp_paths gives",
    )


@pytest.fixture
def mptcp_network() -> None:
    """The test runs in a forked process, in a network of its own in which lo is up."""


@pytest.fixture
def mptcp_paths(request: pytest.FixtureRequest, mptcp_network: None) -> Paths:
    """``Paths``, two of them or as the mark ``mptcp_paths`` says; the test runs in a forked process."""
    mark = request.node.get_closest_marker("mptcp_paths")
    return Paths(*mark.args, **mark.kwargs) if mark else Paths()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if "mptcp_network" not in pyfuncitem.fixturenames:
        return None
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pytest.fail("a test in a network of its own is no coroutine: call asyncio.run() in it", pytrace=False)
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: value for name, value in pyfuncitem.funcargs.items() if name in names}

    def test() -> tuple[int, str] | None:
        try:
            with contextlib.ExitStack() as stack:
                if isinstance(paths := pyfuncitem.funcargs.get("mptcp_paths"), Paths):
                    stack.enter_context(paths)
                pyfuncitem.obj(**arguments)
        except (pytest.skip.Exception, pytest.fail.Exception) as outcome:  # which cannot be pickled
            kinds = [isinstance(outcome, kind.Exception) for kind in _OUTCOMES]
            return kinds.index(True), str(outcome)
        return None

    try:
        outcome = in_private_network(test)
    except UnavailableError as error:
        pytest.skip(str(error))
    if outcome:
        number, reason = outcome
        _OUTCOMES[number](reason)
    return True
