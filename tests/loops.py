# SPDX-License-Identifier: MIT
"""Event loops to test on."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

import mptcp_sockopt as mp

from .support import DEADLINE, Missing

T = TypeVar("T")
Loop = type[asyncio.AbstractEventLoop]

# The slow tests, and they alone, need what is not of the standard library.
LOOPS = ["asyncio", pytest.param("uvloop", marks=pytest.mark.slow)]


def loop_of(name: str) -> Loop:
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    if importlib.util.find_spec("uvloop") is None:
        raise Missing("uvloop")
    return importlib.import_module("uvloop").Loop  # type: ignore[no-any-return]


def run(base: Loop, main: Callable[[], Coroutine[Any, Any, T]], within: float = DEADLINE / 2) -> T:
    """What main() returns, on a loop of this class. It leaves no task and no descriptor behind."""
    loop = base()

    async def inside() -> T:
        before, tasks = descriptors(), asyncio.all_tasks()
        result = await main()
        while descriptors() > before or asyncio.all_tasks() > tasks:
            await asyncio.sleep(0.002)  # until servers have seen the end of their connections
        return result

    try:
        return loop.run_until_complete(asyncio.wait_for(inside(), within))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until its end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def descriptors() -> int:
    """How many TCP sockets this process has; loops have others, which they open when they need them."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            mp.status(int(name))
            count += 1
    return count
