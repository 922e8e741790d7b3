# SPDX-License-Identifier: MIT
"""A runner for tests that take several processes, in the kernel's dialect of TAP 13.

A *script* is a function that runs in a process of its own and settles cases by number. The plan is known
before: a case that nobody settles, because its process crashed or hung, has failed. Where the machine could
not run a case to its end (it ran out of descriptors or memory, or somebody killed the process), there is no
verdict, and the run bails out. Knows nothing of MPTCP.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import selectors
import signal
import sys
import time
import traceback

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import FrameType
    from typing import Any, NoReturn, TypeAlias, TypeVar

    Case = TypeVar("Case", bound=Callable[..., None])
    Script: TypeAlias = Callable[["Settle"], None]

PASS, FAIL, BAILED, SKIP = 0, 1, 3, 4  # exit codes of the kernel's self tests, but for 3
_BROKEN = 3  # exit code of a script that ended in an exception

# The machine ran out of something: descriptors, memory, buffers, ports. That is no answer of the kernel.
_SHORTAGES = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS),
    *(errno.EADDRINUSE, errno.EADDRNOTAVAIL),
}
# A process that ends by one of these was ended by somebody else.
_FROM_OUTSIDE = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM, signal.SIGXCPU}
# What ends the run; a shell's background job, or nohup, has some of them ignored.
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Skip(Exception):  # noqa: N818  # an outcome, not an error
    """Raised by a case that cannot run here; its text is the reason."""


class Failure(Exception):  # noqa: N818  # an outcome too
    """Raised by check(): what was found is not what should be."""


class BailOut(Exception):  # noqa: N818  # the outcome of a run
    """Raised where no verdict is possible; its text is the reason."""


def named(title: str) -> Callable[[Case], Case]:
    """Give a case its name, as its docstring. (A docstring in the source is gone under python -OO.)"""

    def name(case: Case) -> Case:
        case.__doc__ = title
        return case

    return name


def check(truth: object, found: str) -> None:
    """Fail the case with a sentence of what was found, unless truth. (Not assert: python -O.)"""
    if not truth:
        raise Failure(found)


def is_shortage(error: BaseException) -> bool:
    """Whether the machine ran out of something, so that the error is no answer."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SHORTAGES)


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
            self.result(number, "short" if is_shortage(error) else "fail", _in_a_line(error))
        else:
            self.result(number, "pass", "")

    def result(self, number: int, outcome: str, detail: str) -> None:
        os.write(self._pipe, (json.dumps([number, outcome, detail]) + "\n").encode())


def _in_a_line(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__, limit=-1)[-1]
    file = os.path.basename(where.filename)
    return f"{type(error).__name__}: {error} ({where.name}(), {file}:{where.lineno})"


def run(names: Sequence[str], scripts: Mapping[str, Script], *, strict: bool, seconds: float) -> int:
    """Run the scripts side by side, print the cases in order when settled, and return the exit code.

    The scripts have that many seconds to run in; while one of the processes is stopped, none pass.
    """
    say("TAP version 13")
    say(f"1..{len(names)}")
    counts = {"pass": 0, "fail": 0, "skip": 0}
    children = _Children(seconds)
    try:
        for name, script in scripts.items():
            children.start(name, script)
        for number, name in enumerate(names):
            outcome, detail = children.outcome(number)
            counts[_say_case(number + 1, name, outcome, detail, strict)] += 1
        children.hear_to_the_end()  # one may yet die of what it did
    except BailOut as bailed:
        return _bail_out(str(bailed))
    finally:
        children.end()
    for reason in children.dead:
        say(f"# {reason}")
    counts["fail"] += bool(children.dead and not counts["fail"])
    say("# Totals: pass:{pass} fail:{fail} xfail:0 xpass:0 skip:{skip} error:0".format(**counts))
    return FAIL if counts["fail"] else PASS


def skip_all(reason: str, *, strict: bool, code: int = SKIP) -> int:
    """The output where nothing can run, and the exit code: that one, or that of a failure if strict."""
    say("TAP version 13")
    if strict:
        say("1..1")
        say(f"not ok 1 MPTCP can be tested here # {reason}")
        return FAIL
    say(f"1..0 # SKIP {reason}")
    return code


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

    _TICK = 0.1  # seconds

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        # Where it is ignored, and ignoring is inherited, children end unannounced.
        self._at_end = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._libc = _libc()
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[int, bytes] = {}
        self._pids: dict[str, int] = {}
        self._results: dict[int, tuple[str, str]] = {}
        self._no_verdict = ""  # why, if so
        self._came = False  # news, when last waited for
        self.dead: list[str] = []

    def start(self, name: str, script: Script) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        # A signal between fork() and the next line would leave a child that nobody knows.
        with _blocked(*_ENDINGS) as mask:
            inward, outward = os.pipe()
            self._buffers[inward] = b""
            try:
                pid = os.fork()
                if pid == 0:
                    _end_with(parent, self._libc)
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                    _run_child(script, outward)
                self._pids[name] = pid
            finally:
                os.close(outward)
            self._selector.register(inward, selectors.EVENT_READ, name)

    def outcome(self, number: int) -> tuple[str, str]:
        """How that case went, as soon as it is settled; a failure only if there is a verdict."""
        while number not in self._results and not self._no_verdict and self._hear(self._TICK):
            pass
        outcome, detail = self._results.get(number) or ("fail", self._why_silent())
        if outcome == "fail":
            # What another process lacked, or died of, may be the cause, and its word may come later.
            while not self._no_verdict and self._hear(self._TICK) and self._came:
                pass
            if self._no_verdict:
                raise BailOut(self._no_verdict)
        return outcome, detail

    def hear_to_the_end(self) -> None:
        while self._hear(self._TICK):
            pass
        if self._no_verdict:
            raise BailOut(self._no_verdict)

    def _hear(self, seconds: float) -> bool:
        """Wait that long for news; False when there will be none: all are done, or the time is up."""
        if not self._buffers or self._left <= 0:
            return False
        start = time.monotonic()
        ready = self._selector.select(seconds)
        # What was longer than that wait is time in which this process was stopped, frozen, or starved.
        used = min(time.monotonic() - start, 2 * seconds)
        for key, _ in ready:
            self._read(key.fd, key.data)
        self._came = bool(ready)
        if not ready and not any(map(_is_stopped, self._pids.values())):
            self._left -= used
        return True

    def _read(self, pipe: int, name: str) -> None:
        news = os.read(pipe, 65536)
        *lines, self._buffers[pipe] = (self._buffers[pipe] + news).split(b"\n")
        for line in lines:
            number, outcome, detail = json.loads(line)
            if outcome == "short":
                self._no_verdict = self._no_verdict or f"{name}: {detail}"
            elif outcome == "broken":
                self.dead.append(f"{name}: {detail}")
            else:
                self._results[number] = (outcome, detail)
        if not news:
            self._selector.unregister(pipe)
            os.close(pipe)
            del self._buffers[pipe]
            self._reap(name)

    def _reap(self, name: str) -> None:
        _, status = os.waitpid(self._pids.pop(name), 0)
        code = os.waitstatus_to_exitcode(status)
        if code in (0, _BROKEN):
            return
        death = f"{name} ended with {'status' if code > 0 else 'signal'} {abs(code)}"
        self.dead.append(death)
        if -code in _FROM_OUTSIDE:
            self._no_verdict = self._no_verdict or death

    def _why_silent(self) -> str:
        if self.dead:
            return f"no result: {'; '.join(self.dead)}"
        if self._pids:
            return f"no result within the time: {', '.join(self._pids)} did not end"
        return "no result: its process ended before it"

    def end(self) -> None:
        with _blocked(*_ENDINGS):
            for pid in self._pids.values():
                os.kill(pid, signal.SIGKILL)
            for pid in self._pids.values():
                os.waitpid(pid, 0)
            for pipe in self._buffers:
                os.close(pipe)
            self._selector.close()
            signal.signal(signal.SIGCHLD, self._at_end)


@contextlib.contextmanager
def _blocked(*signals: signal.Signals) -> Iterator[Iterable[int]]:
    """These signals wait; the mask before."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _is_stopped(pid: int) -> bool:
    """By a signal, a debugger, or the freezer of its cgroup."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat, open(f"/proc/{pid}/wchan", "rb") as wchan:
            state, where = stat.read().rpartition(b") ")[2][:1], wchan.read()
    except OSError:
        return False
    return state in (b"T", b"t") or b"freezer" in where or b"refrigerator" in where


def _libc() -> Any:
    """The C library, or None. Loaded before fork(): a child may lack a descriptor for that."""
    try:
        import ctypes  # not every Python has it

        return ctypes.CDLL(None)
    except (ImportError, OSError):
        return None


def _end_with(parent: int, libc: Any) -> None:
    """From here on, nothing but the parent ends this child, and its end, of whatever, does."""
    for number in _ENDINGS:  # sent to the whole group: the parent decides
        signal.signal(number, signal.SIG_IGN)
    set_parent_death_signal = 1
    if libc:
        libc.prctl(set_parent_death_signal, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(_BROKEN)


def _run_child(script: Script, pipe: int) -> NoReturn:
    settle = Settle(pipe)
    code = _BROKEN
    try:
        script(settle)
        code = 0
    except Exception as error:
        settle.result(-1, "short" if is_shortage(error) else "broken", _in_a_line(error))
    finally:
        os._exit(code)


# --------------------------------------------------------------------------------------- the whole program


def guard(main: Callable[[], int]) -> int:
    """main(), but signals and a closed pipe end it in silence, with the shell's own exit codes, and what
    else the system refuses (descriptors, processes, memory, room for output) in one sentence."""
    try:
        _open_what_is_closed()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # argparse is silent about what it cannot write; under python -u the flush below would not know.
            sys.stdout.reconfigure(write_through=False)
        with _endings_raise():
            try:
                code = main()
            except SystemExit as ended:  # by a signal, or by argparse, which has printed
                code = int(ended.code or 0)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except (OSError, MemoryError) as error:
        return _bail_out(str(error) or type(error).__name__)
    finally:
        _silence()


def _open_what_is_closed() -> None:
    """Standard streams that it was started without go nowhere; else a socket would get their numbers."""
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(null)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  # for good
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


@contextlib.contextmanager
def _endings_raise() -> Iterator[None]:
    """The signals that end a program raise SystemExit with the shell's exit code, unless they are ignored."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    mine = [number for number in _ENDINGS if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in mine:
            signal.signal(number, end)
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _bail_out(reason: str) -> int:
    try:
        say(f"Bail out! {reason}")
    except OSError:  # the output itself is what failed
        with contextlib.suppress(OSError):
            print(f"Bail out! {reason}", file=sys.stderr)
    return BAILED


def _silence() -> None:
    """What could not be written stays in a buffer, and the interpreter would fail with it at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
