# SPDX-License-Identifier: MIT
"""A supervisor in a process of its own, and what its generations write."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reuseport.handover import Supervisor, Worker

from ..support import DEADLINE, until

Work = Callable[["Log", Worker], None]


class Log:
    """A pipe into which generations write what they do; the test reads it line by line."""

    def __init__(self) -> None:
        self._inward, self._outward = os.pipe()
        self._unread = b""

    def write(self, *words: object) -> None:
        os.write(self._outward, (" ".join(map(str, words)) + "\n").encode())

    def line(self, within: float = DEADLINE / 2) -> str:
        deadline = time.monotonic() + within
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._inward], [], [], left)[0]:
                pytest.fail(f"no line, but {self._unread!r}")
            self._unread += os.read(self._inward, 4096)
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def lines(self, count: int) -> list[str]:
        return [self.line() for _ in range(count)]

    def is_empty(self) -> bool:
        return not self._unread and not select.select([self._inward], [], [], 0)[0]

    def close(self) -> None:
        os.close(self._inward)
        os.close(self._outward)


class Service:
    """A process in which a supervisor runs."""

    def __init__(self, pid: int, log: Log) -> None:
        self.pid, self.log = pid, log

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def status(self) -> int:
        """How it ended, which it does by itself."""
        found: list[int] = []

        def ended() -> bool:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            found.append(status)
            return pid != 0

        until(ended, "the supervisor's end")
        self.pid = 0
        return os.waitstatus_to_exitcode(found[-1])


@contextlib.contextmanager
def service(work: Work, **options: float) -> Iterator[Service]:
    """Supervisor.run() in a process. At the end of the block nothing of it is left."""
    log = Log()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            # pytest has a handler of its own. Without any, warnings go to stderr too.
            logging.getLogger("reuseport").addHandler(logging.StreamHandler(sys.__stderr__))
            Supervisor(lambda worker: work(log, worker), **options).run()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    running = Service(pid, log)
    try:
        yield running
    finally:
        if running.pid:
            for one in [*running.children(), running.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            os.waitpid(running.pid, 0)
        log.close()


def plain(log: Log, worker: Worker) -> None:
    """Ready, and ends when told."""
    worker.ready()
    log.write(worker.number, "ready")
    worker.wait()
    log.write(worker.number, "told")
