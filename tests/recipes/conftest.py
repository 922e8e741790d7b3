# SPDX-License-Identifier: MIT
"""The stage of all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..support import Missing
from .environment import NoIndexError
from .stage import Stage


@pytest.fixture(scope="session")
def _stage() -> Iterator[Stage | str]:
    try:
        with Stage() as stage:
            yield stage
    except NoIndexError as error:
        yield str(error)


@pytest.fixture
def stage(request: pytest.FixtureRequest, _stage: Stage | str) -> Stage:
    if isinstance(_stage, str):
        raise Missing(_stage)
    return _stage
