# SPDX-License-Identifier: MIT
"""A runner for tests that take several processes, in the kernel's dialect of TAP 13.

A *script* is a function that runs in a process of its own and settles cases by number. The plan is known
before: a case that nobody settles, because its process died or hung, has failed. Knows nothing of MPTCP.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import time
import traceback

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

PASS, FAIL, SKIP = 0, 1, 4  # exit codes of the kernel's self tests
_BROKEN = 3  # exit code of a script that ended in an exception


class Skip(Exception):  # noqa: N818  # an outcome, not an error
    """Raised by a case that cannot run here; its text is the reason."""


class Failure(Exception):  # noqa: N818  # an outcome too
    """Raised by check(): what was found is not what should be."""


def check(truth: object, found: str) -> None:
    """Fail the case with a sentence of what was found, unless truth. (Not assert: python -O.)"""
    if not truth:
        raise Failure(found)


class Settle:
    """Where a script says how its cases went."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def case(self, number: int, function: Callable[[], None]) -> None:
        """Run one case and settle it."""
        try:
            function()
        except Skip as reason:
            self.result(number, "skip", str(reason))
        except Failure as failure:
            self.result(number, "fail", str(failure))
        except Exception as error:
            self.result(number, "fail", _in_a_line(error))
        else:
            self.result(number, "pass", "")

    def result(self, number: int, outcome: str, detail: str) -> None:
        os.write(self._pipe, (json.dumps([number, outcome, detail]) + "\n").encode())


def _in_a_line(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    file = os.path.basename(where.filename)
    return f"{type(error).__name__}: {error} ({where.name}(), {file}:{where.lineno})"


if TYPE_CHECKING:
    Script: TypeAlias = Callable[[Settle], None]


def run(names: Sequence[str], scripts: Mapping[str, Script], *, strict: bool, seconds: float) -> int:
    """Run the scripts side by side, print the cases in order when settled, and return the exit code."""
    say("TAP version 13")
    say(f"1..{len(names)}")
    results: dict[int, tuple[str, str]] = {}
    counts = {"pass": 0, "fail": 0, "skip": 0}
    number = 0
    children = _Children(seconds)
    try:
        for name, script in scripts.items():
            children.start(name, script)
        while number < len(names):
            if number not in results:
                if children.read(results):
                    continue
                results[number] = ("fail", children.why_silent())
            outcome, detail = results[number]
            counts[_say_case(number + 1, names[number], outcome, detail, strict)] += 1
            number += 1
        while children.read(results):
            pass  # to the end of each: one may yet die of what it did
    finally:
        children.end()
    for reason in children.dead:
        say(f"# {reason}")
    counts["fail"] += bool(children.dead and not counts["fail"])
    say("# Totals: pass:{pass} fail:{fail} xfail:0 xpass:0 skip:{skip} error:0".format(**counts))
    return FAIL if counts["fail"] else PASS


def skip_all(reason: str, *, strict: bool) -> int:
    """The output and the exit code where nothing can run."""
    say("TAP version 13")
    if strict:
        say("1..1")
        say(f"not ok 1 MPTCP can be tested here # {reason}")
        return FAIL
    say(f"1..0 # SKIP {reason}")
    return SKIP


def say(line: str) -> None:
    print(line, flush=True)


def _say_case(number: int, name: str, outcome: str, detail: str, strict: bool) -> str:
    if outcome == "skip" and not strict:
        say(f"ok {number} {name} # SKIP {detail}")
        return "skip"
    if outcome == "pass":
        say(f"ok {number} {name}")
        return "pass"
    say(f"not ok {number} {name}")
    for line in detail.splitlines():
        say(f"# {line}")
    return "fail"


class _Children:
    """The processes of the scripts: forked, listened to, and ended."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.deadline = time.monotonic() + seconds
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[int, bytes] = {}
        self._pids: dict[str, int] = {}
        self.dead: list[str] = []

    def start(self, name: str, script: Script) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        # Ctrl-C between fork() and the next line would leave a child that nobody knows.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            inward, outward = os.pipe()
            self._buffers[inward] = b""
            try:
                pid = os.fork()
                if pid == 0:
                    signal.signal(signal.SIGINT, signal.SIG_DFL)
                    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
                    _run_child(script, outward, self._seconds)
                self._pids[name] = pid
            finally:
                os.close(outward)
            self._selector.register(inward, selectors.EVENT_READ, name)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def read(self, results: dict[int, tuple[str, str]]) -> bool:
        """Wait for news; False when there will be none: all are done, or the time is up."""
        left = self.deadline - time.monotonic()
        if not self._buffers or left <= 0:
            return False
        for key, _ in self._selector.select(left):
            pipe = key.fd
            news = os.read(pipe, 65536)
            *lines, self._buffers[pipe] = (self._buffers[pipe] + news).split(b"\n")
            for line in lines:
                number, outcome, detail = json.loads(line)
                if outcome == "broken":
                    self.dead.append(f"{key.data}: {detail}")
                else:
                    results[number] = (outcome, detail)
            if not news:
                self._selector.unregister(pipe)
                os.close(pipe)
                del self._buffers[pipe]
                self._reap(key.data)
        return True

    def _reap(self, name: str) -> None:
        _, status = os.waitpid(self._pids.pop(name), 0)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, _BROKEN):
            self.dead.append(f"{name} ended with {'status' if code > 0 else 'signal'} {abs(code)}")

    def why_silent(self) -> str:
        if self.dead:
            return f"no result: {'; '.join(self.dead)}"
        if self._pids:
            return f"no result within the time: {', '.join(self._pids)} did not end"
        return "no result: its process ended before it"

    def end(self) -> None:
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids.values():
            os.waitpid(pid, 0)
        for pipe in self._buffers:
            os.close(pipe)
        self._selector.close()


def _run_child(script: Script, pipe: int, seconds: float) -> None:
    settle = Settle(pipe)
    code = _BROKEN
    try:
        # Should the parent be killed, nothing stays behind for long.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds + 1)
        script(settle)
        code = 0
    except Exception as error:
        settle.result(-1, "broken", _in_a_line(error))
    finally:
        os._exit(code)


def guard(main: Callable[[], int]) -> int:
    """main(), but Ctrl-C and a closed pipe end it in silence, with the shell's own exit codes, and what
    else the system refuses (descriptors, processes, room for output) in one sentence."""
    if sys.stdout is None:  # started with its descriptor closed
        return FAIL
    try:
        code = main()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        # Nothing more can be said; keep the interpreter from trying when it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 128 + signal.SIGPIPE
        if sys.stderr is not None:
            print(f"Bail out! {error}", file=sys.stderr)
        return FAIL
