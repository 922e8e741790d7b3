# SPDX-License-Identifier: MIT
"""Fixtures that pytest finds by itself: a test that uses one runs in a private network.

    def test_both_paths_are_used(mptcp_paths): ...

in_private_network() calls the whole test in a forked process. If this machine lacks something, the test is
skipped.
"""

from __future__ import annotations

import contextlib
import inspect

import pytest

from . import Paths, UnavailableError, in_private_network

_OUTCOMES = (pytest.skip, pytest.xfail, pytest.fail)  # xfail is a subclass of fail, so comes first


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "mptcp_paths(count=2, *, rate=inf, delay=0, family=AF_INET): arguments for the fixture mptcp_paths",
    )


@pytest.fixture
def mptcp_network() -> None:
    """Run the test in a forked process, in a private network with lo up."""


@pytest.fixture
def mptcp_paths(request: pytest.FixtureRequest, mptcp_network: None) -> Paths:
    """A ``Paths`` with two paths, or as the mark ``mptcp_paths`` says. The test runs in a forked process."""
    mark = request.node.get_closest_marker("mptcp_paths")
    return Paths(*mark.args, **mark.kwargs) if mark else Paths()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if "mptcp_network" not in pyfuncitem.fixturenames:
        return None
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pytest.fail(
            "a test in a private network cannot be a coroutine: call asyncio.run() in it", pytrace=False
        )
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
