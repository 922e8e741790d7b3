# SPDX-License-Identifier: MIT
"""A load on the servers of docs/restart, and restarts under it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..support import DEADLINE, started, until

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "restart"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}  # the checkout's reuseport, not one that is installed
PORT = 8080
CLIENTS = 16
EACH = 100  # connections that are served before the next restart


class Load:
    """Clients that connect, ask once, and connect again. The server answers with its generation."""

    def __init__(self) -> None:
        self.served = 0
        self.lost: list[str] = []
        self.newest = -1
        self.stopped = False

    async def ask(self) -> int:
        """The generation that answers on a new connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        try:
            writer.write(b"hello\n")
            return generation_of(await reader.readline())
        finally:
            writer.close()

    async def client(self) -> None:
        while not self.stopped:
            try:
                number = await asyncio.wait_for(self.ask(), DEADLINE / 4)
            except (OSError, ValueError, asyncio.TimeoutError) as error:
                self.lost.append(repr(error))
                await asyncio.sleep(0.01)
            else:
                self.served += 1
                self.newest = max(self.newest, number)


def generation_of(answer: bytes) -> int:
    if not (found := re.fullmatch(rb"generation (\d+): hello\n", answer)):
        raise ValueError(f"no answer but {answer!r}")
    return int(found[1])


async def _restart(pid: int, load: Load, restarts: int, *, until_lost: bool) -> int:
    """Restart so often, or until somebody is lost; returns how often."""
    clients = [asyncio.create_task(load.client()) for _ in range(CLIENTS)]
    done = 0
    try:
        for number in range(restarts + 1):
            end = time.monotonic() + DEADLINE / 2
            enough = load.served + EACH
            while load.newest < number or load.served < enough:
                if until_lost and load.lost:
                    break
                assert time.monotonic() < end, f"generation {number} did not come; lost: {load.lost[:5]}"
                await asyncio.sleep(0.005)
            done = number
            if number < restarts and not (until_lost and load.lost):
                subprocess.run(["kill", "-HUP", str(pid)], check=True)
            else:
                break
    finally:
        load.stopped = True
        await asyncio.gather(*clients)
    return done


def restarted(program: Path, restarts: int, *, until_lost: bool = False) -> tuple[int, Load]:
    """In a private network: how often it was restarted, and what that did to the clients."""
    with service(program) as server:
        load = Load()
        done = asyncio.run(_restart(server.pid, load, restarts, until_lost=until_lost))
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE) == 0
    return done, load


@contextlib.contextmanager
def service(program: Path) -> Iterator[subprocess.Popen[str]]:
    with started(sys.executable, str(program), str(PORT), env=ENVIRONMENT) as server:
        until(lambda: _answers(server), "the server to answer")
        yield server


def _answers(server: subprocess.Popen[str]) -> bool:
    assert server.poll() is None, "the server ended"
    try:
        asyncio.run(Load().ask())
    except OSError:
        return False
    return True
