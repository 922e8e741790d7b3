# SPDX-License-Identifier: MIT
"""The supervisor: in which order generations come and go, and that every wait has an end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reuseport._net import Reuse, listen
from reuseport.handover import Generation, Supervisor, Worker, retire

from ..support import DEADLINE, in_private_network, started, until
from .answers import answer_as, ask
from .services import Log, plain, service


def test_run_restarts_at_sighup_and_ends_in_order_at_sigterm() -> None:
    with service(plain) as running:
        assert running.log.line() == "0 ready"
        for number in (1, 2):
            running.signal(signal.SIGHUP)
            # Both are written at the same time, and in any order.
            assert sorted(running.log.lines(2)) == [f"{number - 1} told", f"{number} ready"]
        running.signal(signal.SIGTERM)
        assert running.log.line() == "2 told"
        assert running.status() == 0


def test_the_old_one_is_told_after_the_new_one_is_ready() -> None:
    """And not before, however long that takes: this successor needs a word of the test."""
    inward, outward = os.pipe()

    def slow(log: Log, worker: Worker) -> None:
        if worker.number:
            log.write(worker.number, "starts")
            os.read(inward, 1)
        plain(log, worker)

    with service(slow) as running:
        assert running.log.line() == "0 ready"
        running.signal(signal.SIGHUP)
        assert running.log.line() == "1 starts"
        running.signal(signal.SIGHUP)  # another wish, which is kept until this one has come true
        assert running.log.is_empty()
        os.write(outward, b"!!")
        assert sorted(running.log.lines(5)) == ["0 told", "1 ready", "1 told", "2 ready", "2 starts"]
    os.close(inward)
    os.close(outward)


@pytest.mark.parametrize("how", ["dies", "hangs", "hangs, and ignores SIGTERM"])
def test_a_successor_that_is_never_ready_changes_nothing(how: str, capfd: pytest.CaptureFixture[str]) -> None:
    """It is told on stderr, in bounded time; the old one serves on, and the next restart works."""

    def work(log: Log, worker: Worker) -> None:
        if worker.number == 1:
            log.write(1, "starts")
            if how == "dies":
                raise SystemExit(3)
            if "ignores" in how:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(DEADLINE)
        plain(log, worker)

    with service(work, timeout=0.3, grace=0.3) as running:
        assert running.log.line() == "0 ready"
        (first,) = running.children()
        running.signal(signal.SIGHUP)
        assert running.log.line() == "1 starts"
        until(lambda: running.children() == [first], "the end of the successor")
        assert running.log.is_empty()
        running.signal(signal.SIGHUP)
        assert sorted(running.log.lines(2)) == ["0 told", "2 ready"]
    end = {"dies": "exit status 3", "hangs": "killed by SIGTERM"}.get(how, "killed by SIGKILL")
    assert f"was never ready ({end})" in capfd.readouterr().err


def test_long_connections_are_drained_beside_newer_generations() -> None:
    """Three restarts in spite of them; two end by themselves, and the rest when the patience is ended."""
    inward, outward = os.pipe()

    def work(log: Log, worker: Worker) -> None:
        worker.ready()
        worker.wait()
        worker.retired()
        log.write(worker.number, "retired")
        os.read(inward, 1)  # the end of its connections

    with service(work, patience=DEADLINE, grace=DEADLINE) as running:
        until(lambda: len(running.children()) == 1, "the first")
        for number in range(3):
            running.signal(signal.SIGHUP)
            assert running.log.line() == f"{number} retired"
            until(lambda number=number: len(running.children()) == number + 2, "the next")  # type: ignore[misc]
        os.write(outward, b"!!")
        until(lambda: len(running.children()) == 2, "two to be gone, and not to be zombies")
        running.signal(signal.SIGTERM)
        assert running.log.line() == "3 retired"
        assert len(running.children()) == 2  # they have their patience
        running.signal(signal.SIGTERM)
        assert running.status() == 0
    os.close(inward)
    os.close(outward)


def test_sigterm_and_sigkill_come_after_the_patience() -> None:
    """In this order, and no sooner."""

    def stubborn(log: Log, worker: Worker) -> None:
        signal.signal(signal.SIGTERM, lambda *_: log.write(worker.number, "SIGTERM"))
        worker.ready()
        worker.wait()
        log.write(worker.number, "told")
        threading.Event().wait()

    with service(stubborn, patience=0.3, grace=0.3) as running:
        until(lambda: running.children() != [], "the first")
        running.signal(signal.SIGHUP)
        assert running.log.line() == "0 told"
        told = time.monotonic()
        assert running.log.line() == "0 SIGTERM"
        pressed = time.monotonic()
        until(lambda: len(running.children()) == 1, "SIGKILL")
        killed = time.monotonic()
        assert pressed - told >= 0.25
        assert killed - pressed >= 0.25


def test_one_that_does_not_retire_holds_restarts_back_for_a_while_only() -> None:
    """After the timeout the next restart begins, and the one that says nothing keeps its patience."""

    def silent(log: Log, worker: Worker) -> None:
        worker.ready()
        log.write(worker.number, "ready")
        worker.wait()
        time.sleep(DEADLINE)

    with service(silent, timeout=0.3, patience=DEADLINE) as running:
        assert running.log.line() == "0 ready"
        for number in (1, 2):
            begun = time.monotonic()
            running.signal(signal.SIGHUP)
            assert running.log.line() == f"{number} ready"
        assert time.monotonic() - begun >= 0.2
        assert len(running.children()) == 3


def test_nothing_leaks() -> None:
    """After restarts that succeed and that fail: no descriptor, here and there, and no zombie.

    A generation has one socket of its own, its end of the line.
    """

    def sockets() -> int:
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return sum(os.readlink(link).startswith("socket:") for link in links if os.path.islink(link))

    inherited = sockets()

    def work(log: Log, worker: Worker) -> None:
        if worker.number % 3 == 2:
            log.write("failed")
            raise SystemExit(1)
        worker.ready()
        log.write("ready", len(os.listdir("/proc/self/fd")), sockets() - inherited)
        worker.wait()

    with service(work) as running:
        lines, before = [running.log.line()], 0
        for number in range(1, 13):
            running.signal(signal.SIGHUP)
            lines.append(running.log.line())
            until(lambda: len(running.children()) == 1, "the old one's end")
            if number == 1:
                before = running.descriptors()
        (ready,) = {line for line in lines if line != "failed"}
        assert ready.split()[2] == "1"
        assert lines.count("failed") == 4
        until(lambda: running.descriptors() <= before, "descriptors to be closed")


def test_one_that_dies_is_replaced_and_is_first_again() -> None:
    """Nobody listens then, so the next one has to steer anew. A successor of a living one is not first."""

    def work(log: Log, worker: Worker) -> None:
        worker.ready()
        log.write(worker.number, worker.first)
        worker.wait()

    with service(work) as running:
        assert running.log.line() == "0 True"
        running.signal(signal.SIGHUP)
        assert running.log.line() == "1 False"
        until(lambda: len(running.children()) == 1, "the first one's end")
        os.kill(running.children()[0], signal.SIGKILL)
        assert running.log.line() == "2 True"


def test_run_fails_if_the_first_is_never_ready(capfd: pytest.CaptureFixture[str]) -> None:
    """There is nothing to fall back to: the program ends with an error, as its manager wants to know."""

    def work(log: Log, worker: Worker) -> None:
        raise OSError(98, "Address already in use")

    with service(work) as running:
        assert running.status() == 1
    told = capfd.readouterr().err
    assert "Address already in use" in told
    assert "RuntimeError: the first generation died before it was ready" in told


def test_sigterm_ends_one_that_starts() -> None:
    """The very first, which is not ready: nobody waits for it."""

    def work(log: Log, worker: Worker) -> None:
        log.write("starts")
        time.sleep(DEADLINE)

    with service(work) as running:
        assert running.log.line() == "starts"
        running.signal(signal.SIGTERM)
        assert running.status() == 0


def test_generations_end_when_their_supervisor_is_killed() -> None:
    """Even without a word: their end of the line is readable."""
    with service(plain) as running:
        assert running.log.line() == "0 ready"
        running.signal(signal.SIGKILL)
        assert running.log.line() == "0 told"
        assert running.status() == -signal.SIGKILL


def test_a_generation_of_asyncio() -> None:
    """It waits in its loop, and SIGINT of the terminal is the supervisor's alone."""

    def work(log: Log, worker: Worker) -> None:
        async def main() -> None:
            worker.ready()
            log.write("ready")
            await worker.wait_async()
            log.write("told")

        asyncio.run(main())

    with service(work) as running:
        assert running.log.line() == "ready"
        for pid in [*running.children(), running.pid]:
            os.kill(pid, signal.SIGINT)
        assert running.log.line() == "told"
        assert running.status() == 0


# ----------------------------------------------------------------------------------------- without run()


def test_a_successor_that_dies_changes_nothing() -> None:
    """Before it is ready: the old generation serves on, and the next restart works."""

    def roll() -> tuple[list[bool], int, list[int | str]]:
        address = ("127.0.0.1", 80)

        def work(worker: Worker) -> None:
            if worker.number in (1, 2):
                os._exit(3)
            with listen(address, Reuse.PORT) as listener:
                worker.ready()
                worker.serve([listener], answer_as(worker.number))
                retire(listener, 5, answer_as(worker.number))

        with Supervisor(work) as supervisor:
            served, restarts = [ask(address)], []
            for _ in range(3):
                restarts.append(supervisor.restart())
                served.append(ask(address))
            return restarts, supervisor.failed, served

    logging.getLogger("reuseport.handover").addHandler(logging.NullHandler())
    assert in_private_network(roll) == ([False, False, True], 2, [0, 0, 0, 3])


def test_a_first_generation_that_dies_is_an_error() -> None:
    """There is nothing to fall back to."""

    def work(worker: Worker) -> None:
        os._exit(1)

    with pytest.raises(RuntimeError, match="first generation died"):
        Supervisor(work).__enter__()


@pytest.mark.parametrize("ignore", [False, True])
def test_generations_end_with_their_supervisor(ignore: bool) -> None:
    """No process is left, and one that does not stop is killed after the patience, and the grace."""
    inward, outward = os.pipe()

    def stubborn(worker: Worker) -> None:
        if ignore:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(outward, f"{os.getpid()}\n".encode())
        worker.ready()
        time.sleep(DEADLINE)

    with Supervisor(stubborn, patience=0.2, grace=0.2) as supervisor:
        assert supervisor.current is not None
        assert supervisor.generations == (supervisor.current,)
    assert not supervisor.generations
    pid = int(os.read(inward, 100))
    assert not Path(f"/proc/{pid}").exists()
    os.close(inward)
    os.close(outward)


def test_sigint_of_a_terminal_is_for_the_supervisor() -> None:
    """It goes to the whole group of processes, where generations ignore it: the supervisor tells them."""
    log = Log()

    def work(worker: Worker) -> None:
        worker.ready()
        os.kill(os.getpid(), signal.SIGINT)
        worker.wait()
        log.write("told")

    with Supervisor(work):
        pass
    assert log.line() == "told"
    log.close()


def test_a_line_that_is_closed_is_not_watched() -> None:
    """Or the supervisor would go round for as long as that process lives on."""
    ours, theirs = socket.socketpair()
    with started("sleep", str(DEADLINE)) as process:
        generation = Generation(0, process.pid, ours)
        theirs.send(b"R")
        generation.look()
        assert generation.ready
        assert generation.descriptors() == [generation.pidfd, ours.fileno()]
        theirs.close()
        generation.look()
        assert generation.descriptors() == [generation.pidfd]
        assert generation.press(1) == "SIGTERM"
        until(lambda: generation.look() or generation.status is not None, "its end")  # type: ignore[func-returns-value]
    assert generation.status == -signal.SIGTERM


def test_where_sigchld_is_ignored() -> None:
    """The kernel waits for the children then; restarts and the end work as ever."""
    code = (
        "import signal, sys\n"
        "from reuseport.handover import Supervisor\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "def work(worker):\n"
        "    worker.ready()\n"
        "    worker.wait()\n"
        "with Supervisor(work) as supervisor:\n"
        "    print(supervisor.restart(), supervisor.restart(), len(supervisor.generations))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.stdout, done.stderr) == ("True True 1\n", "")
