# SPDX-License-Identifier: MIT
"""Child processes that leave nothing behind, no matter how they or the caller end."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from types import TracebackType
from typing import Generic, NoReturn, TypeVar, cast

T = TypeVar("T")

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class ChildDiedError(OSError):
    """A child ended without a result: a signal killed it (the message names it), or it called os._exit().

    Thread rule: for the thread that caught it.
    """

    def __str__(self) -> str:
        return self.strerror or ""


class Child(Generic[T]):
    """``with Child(function) as child:`` runs function in a forked process. Without ``with``, call end().

    Nothing that the child started is left behind, no matter how the child or the caller ends. Between them is
    a guard: a process that holds none of the caller's descriptors and only waits. When the child ends, the
    caller dies, or end() is called, the guard kills all of the child's descendants, including those that left
    their process group, session or parent: it is their subreaper.

    Thread rule: used by one thread, which must outlive it (PR_SET_PDEATHSIG depends on the thread).
    """

    def __init__(self, function: Callable[[], T]) -> None:
        flush()
        self._pipe, outward = os.pipe()
        parent = os.getpid()
        # Block signals: the guard must not run the caller's signal handlers.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._guard = os.fork()
            if self._guard == 0:
                _guard(function, outward, parent, mask)
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(outward)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def result(self, within: float) -> T:
        """What the function returned (pickled), once. Raises what it raised, with the child's traceback.

        TimeoutError if it takes more than within seconds from now, ChildDiedError if it ended without a
        result. In every case, the child has ended when this returns.
        """
        if not self._guard:
            raise RuntimeError("this child has already been ended")
        try:
            data = self._read(within)
        finally:
            killed_by = self.end()
        if not data:
            how = f"was killed by {_signal_name(killed_by)}" if killed_by else "ended by itself"
            raise ChildDiedError(errno.ECHILD, f"the child {how} without a result")
        value, trace = pickle.loads(data)
        if trace:
            raise value from RuntimeError(f"in the child:\n{trace}")
        return cast("T", value)

    def _read(self, within: float) -> bytes:
        data, deadline, poll = bytearray(), time.monotonic() + within, select.poll()
        poll.register(self._pipe, select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            chunk = os.read(self._pipe, 1 << 20)
            if not chunk:
                return bytes(data)
            data += chunk
        raise TimeoutError(f"a child took more than {within:g} s")

    def end(self) -> int:
        """Kill the child and its descendants, if any are left, and wait for them.

        Returns the number of the signal that had already killed the child, or 0.
        """
        guard, self._guard = self._guard, 0
        if not guard:
            return 0
        os.close(self._pipe)
        try:
            os.kill(guard, signal.SIGTERM)
            status = os.waitpid(guard, 0)[1]
        except (ProcessLookupError, ChildProcessError):  # ended, and the caller ignores SIGCHLD
            return 0
        # Negative if the guard itself was killed, and the child with it.
        return abs(os.waitstatus_to_exitcode(status))

    def __enter__(self) -> Child[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def in_child(function: Callable[[], T], *, within: float = 60) -> T:
    """Call function in a forked process; returns its (pickled) result, or raises what it raises.

    TimeoutError if it takes more than within seconds; ChildDiedError if the process was killed. Nothing that
    the function started is left behind, no matter how it or the caller ends.
    """
    with Child(function) as child:
        return child.result(within)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def close_all_but(kept: Container[int]) -> None:
    """Close all other descriptors of this process."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # listdir()'s own descriptor
                os.close(int(name))


def _prctl(option: int, value: int) -> None:
    import ctypes  # not every Python has it

    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value)):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")


def flush() -> None:
    """Before a fork: buffered output would be written twice. (Python has None for a closed stream.)"""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _guard(function: Callable[[], object], outward: int, parent: int, mask: Iterable[int]) -> NoReturn:
    killed_by = 0
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, ended children are not reported
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        guard = os.getpid()
        gate, gate_end = os.pipe()
        worker = os.fork()
        if worker == 0:
            os.close(gate_end)
            os.read(gate, 1)  # wait until the guard has closed all other descriptors
            os.close(gate)
            _work(function, outward, guard, mask)
        # A listener kept open here would never accept. The pipe stays open: it closes when everything has
        # ended.
        close_all_but((outward, gate_end))
        os.close(gate_end)
        # Otherwise the caller died before it could be watched. 0: a parent outside our PID namespace.
        if os.getppid() in (parent, 0):
            killed_by = _wait(worker)
    except OSError as error:  # out of descriptors or processes, or no /proc: only the guard can report it
        with contextlib.suppress(OSError):
            os.write(outward, _pickled((error, traceback.format_exc())))
    finally:
        try:
            _end_descendants()
        finally:
            os._exit(killed_by)


def _wait(worker: int) -> int:
    """Wait until the worker has ended, or SIGTERM reports that the caller died or called end().

    Returns the number of the signal that killed the worker, or 0.
    """
    while signal.sigwaitinfo({signal.SIGCHLD, signal.SIGTERM}).si_signo == signal.SIGCHLD:
        ended = -1
        while ended:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == worker:
                return max(0, -os.waitstatus_to_exitcode(status))
    return 0


def _end_descendants() -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    killed = [0]
    while killed:  # orphans of one round are our children in the next
        killed = [int(pid) for pid in children.read_text().split() if _kill(int(pid))]
        for pid in killed:
            os.waitpid(pid, 0)


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:  # a set-uid program, and we are not root
        return False
    return True


def _work(function: Callable[[], object], outward: int, guard: int, mask: Iterable[int]) -> NoReturn:
    outcome: tuple[object, str]
    try:
        try:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:
                os._exit(1)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            outcome = function(), ""
        except BaseException as error:
            outcome = error, traceback.format_exc()
        flush()
        with os.fdopen(outward, "wb") as out:
            out.write(_pickled(outcome))
    finally:
        os._exit(0)


def _pickled(outcome: tuple[object, str]) -> bytes:
    try:
        data = pickle.dumps(outcome)
        pickle.loads(data)  # some exceptions can be pickled but not unpickled
    except Exception as error:
        value, trace = outcome
        return pickle.dumps((RuntimeError(f"{value!r} cannot be pickled: {error}"), trace or repr(error)))
    return data
