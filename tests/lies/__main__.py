# SPDX-License-Identifier: MIT
"""Run every reader on a kernel that lies, and check that each gives a right value
or an OSError.

A preloaded library changes the kernel's answers. Each pair of a lie and a reader
runs in a forked child. WRONG is a value that is not true, or another exception;
a child may also CRASH or HANG.

Exit status: 0 if no pair is WRONG, CRASH or HANG, and always with --json; 1 if
one is; 2 usage; 3 cannot run here.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import gc
import json
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mptcp_sockopt import testing

from . import told, told_netlink, told_python, told_rows
from .readers import BEFORE_6_5, READERS, STALE, VARIATIONS, Ends, plain
from .told import ALL_STALE, NONE, OLDER, Lie, Telling

HERE = Path(__file__).resolve().parent
SECONDS, BYTES = 1.0, 64 << 20  # of one pair
DEADLINE, CPU_DEADLINE = 60.0, 3  # for its child
MISSING = 3
RIGHT = ("value", "OSError")  # kinds of outcomes

LIES: dict[str, Lie] = {"nothing": Lie((), NONE)}
for _lies in (
    told.of_errnos,
    told.of_lengths,
    told.of_values,
    told.of_names,
    *told_netlink.ALL,
    *told_rows.ALL,
    *told_python.ALL,
):
    LIES.update(_lies())

# ----------------------------------------------------------------------------------------------- the liar


def build(folder: str) -> str | None:
    """Compile the liar: the library's path, or None without a compiler."""
    library = f"{folder}/liar.so"
    flags = ["-std=gnu11", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", f"-I{HERE.parents[1] / 'csrc'}"]
    sources = [str(HERE / name) for name in ("liar.c", "liar_netlink.c")]
    try:
        subprocess.run(["cc", *flags, "-o", library, *sources, "-ldl"], check=True)
    except FileNotFoundError:
        return None
    return library


def preloaded(library: str) -> dict[str, str]:
    """The environment of a process that is lied to.

    A sanitizer stands behind the liar: in front of it, it would take the lied length for ours.
    """
    behind = os.environ.get("LD_PRELOAD", "")
    return {
        **os.environ,
        "LIAR": library,
        "LD_PRELOAD": f"{library} {behind}".strip(),
        "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0",
    }


def under_asan() -> bool:
    return "libasan" in os.environ.get("LD_PRELOAD", "")


# The liar's ages are always zero. After so many seconds that tells a Tracker of TCP that something was
# received and not counted: another connection.
AGE = 0.2


class Liar:
    """The preloaded library of this process."""

    def __init__(self) -> None:
        library = ctypes.CDLL(os.environ["LIAR"])
        self._freeze, self._tell = library.freeze, library.tell
        self._tell.argtypes = [ctypes.c_int] * 3 + [ctypes.c_long] * 3
        self._was_asked, self.keep = library.was_asked, library.keep

    def tell(self, *tellings: Telling) -> None:
        """These lies and no other; ages are zero."""
        self._freeze()
        for telling in tellings:
            if self._tell(*telling):
                raise ValueError("too many lies")

    def concern(self, tellings: Iterable[Telling]) -> bool:
        """Whether one of them is about what was asked since the last tell()."""
        return any(self._was_asked(level, option) for level, option, *_ in tellings)


# -------------------------------------------------------------------------------------------------- pairs


class Outcome(NamedTuple):
    """kind: "value", "OSError", "WRONG", "CRASH" or "HANG"."""

    kind: str
    detail: Any = ""

    def __str__(self) -> str:
        return self.kind if self.kind == "value" else f"{self.kind} {self.detail}"


def read(reader: str, ends: Ends) -> Outcome:
    """What it answers."""
    try:
        value = READERS[reader](ends)
        if STALE in pickle.dumps(value):
            return Outcome("WRONG", "bytes of an earlier answer")
        return Outcome("value", plain(value))
    except OSError as error:
        return Outcome("OSError", error.errno)
    except BaseException as error:
        return Outcome("WRONG", f"{type(error).__name__}: {error}"[:200])


def judge(lie: str, reader: str, found: Outcome, truth: Outcome) -> Outcome:
    """found, or why it is wrong."""
    lied = LIES[lie]
    if reader.startswith("Sampler") and found.kind == truth.kind == "value" and found != truth:
        return judge_rows(lie, reader, found.detail, truth.detail)
    if found.kind == "OSError" and found != truth:
        return found if found.detail in lied.errnos else Outcome("WRONG", f"errno {found.detail}")
    if reader in lied.refused_to:
        return Outcome("WRONG", f"not refused: {str(found.detail)[:150]}")
    if found.kind != "value" or found == truth:
        return found
    if lied.belief and truth.kind == "value":
        with contextlib.suppress(TypeError, LookupError, ValueError):  # of another form altogether
            if lied.belief(reader, truth.detail, found.detail):
                return found
    return Outcome("WRONG", f"another value: {str(found.detail)[:150]}")


def judge_rows(lie: str, reader: str, found: list[Any], truth: list[Any]) -> Outcome:
    """Rows fail one by one. They are as (name of the exception, errno), or as views are."""
    outcomes = []
    for new, old in zip(found, truth, strict=True):
        failed = isinstance(new[1], int)
        outcome = Outcome("OSError", new[1]) if failed and new != old else Outcome("value", new)
        outcomes.append(judge(lie, f"a row of {reader}", outcome, Outcome("value", old)))
    return max(outcomes, key=lambda outcome: ("value", "OSError", "WRONG").index(outcome.kind))


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def within_limits(task: Callable[[], Outcome]) -> Outcome:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_DEADLINE, CPU_DEADLINE + 1))
    with open("/proc/self/statm") as file:
        # More than what it was forked with: a process with threads reserves much that it never uses.
        space = int(file.read().split()[0]) * resource.getpagesize() + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    before, start = peak(), time.process_time()
    found = task()
    spent, grown = time.process_time() - start, peak() - before
    if spent > SECONDS:
        return Outcome("WRONG", f"{spent:.1f} s")
    return Outcome("WRONG", f"{grown >> 20} MiB") if grown > BYTES else found


def in_child(task: Callable[[], Outcome]) -> Outcome:
    """Run task in a fork, within its limits."""
    inward, outward = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            found = task() if under_asan() else within_limits(task)
        except BaseException:  # this is a fork: nobody above may go on with it
            found = Outcome("CRASH", traceback.format_exc())
        os.write(outward, pickle.dumps(found))
        os._exit(0)
    os.close(outward)
    data, end, hangs = b"", time.monotonic() + DEADLINE, False
    while not hangs:
        hangs = not select.select([inward], [], [], max(0.0, end - time.monotonic()))[0]
        more = b"" if hangs else os.read(inward, 65536)
        if not more:
            break
        data += more
    os.close(inward)
    if hangs:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if hangs or code == -signal.SIGXCPU:
        return Outcome("HANG")
    if not data:
        return Outcome("CRASH", f"exit status {code}")
    found = pickle.loads(data)
    assert isinstance(found, Outcome)
    return found


def results(short: bool) -> Iterator[tuple[str, dict[str, Outcome]]]:
    """Each lie, and what came of each reader that it concerns. liar.c is preloaded to this process."""
    liar, ends = Liar(), Ends()
    liar.keep(ends.events.fileno())

    def ask(lie: str, reader: str) -> Outcome:
        liar.tell(*[OLDER] * (reader == BEFORE_6_5), *LIES[lie].tellings)
        return read(reader, ends)

    def one_pair(lie: str, reader: str) -> Outcome:
        found = judge(lie, reader, ask(lie, reader), truths[reader])
        return Outcome("value") if found.kind == "value" else found

    def all_pairs(lie: str) -> Outcome:
        return Outcome("row", {reader: one_pair(lie, reader) for reader in concerned[lie]})

    def answers() -> dict[str, Outcome]:
        time.sleep(AGE)
        return {reader: ask("nothing", reader) for reader in READERS}

    lies = {lie: lied for lie, lied in LIES.items() if not (short and lied.variation)}
    liar.tell()
    ends.look()
    truths = answers()
    deadline = time.monotonic() + 10
    while (again := answers()) != truths and time.monotonic() < deadline:
        truths = again
        time.sleep(0.2)  # the last acknowledgements may be on their way
    told_rows.know(truths["connections"].detail)
    told_rows.know(truths["mptcp_diag, listening"].detail)
    concerned: dict[str, list[str]] = {lie: [] for lie in lies}
    for reader in READERS:
        if short and reader in VARIATIONS:
            continue
        ask("nothing", reader)
        for lie, lied in lies.items():
            if liar.concern(lied.tellings) or not lied.tellings:
                concerned[lie].append(reader)
    liar.tell(*ALL_STALE)
    for reader in READERS:
        if "Tracker" not in reader:
            read(reader, ends)
    liar.tell()
    ends.look()
    time.sleep(AGE)
    gc.freeze()
    for lie in lies:
        # To fork a process with a sanitizer is slow.
        row = in_child(partial(all_pairs, lie)) if under_asan() else Outcome("none")
        if row.kind == "row":
            yield lie, row.detail
        else:
            yield lie, {reader: in_child(partial(one_pair, lie, reader)) for reader in concerned[lie]}


def table(rows: Iterable[tuple[str, dict[str, Outcome]]]) -> int:
    """Print them; how many pairs are not right."""
    counts: dict[str, int] = {}
    lies = 0
    for lie, row in rows:
        lies += 1
        print(lie, flush=True)
        for reader, outcome in row.items():
            counts[outcome.kind] = counts.get(outcome.kind, 0) + 1
            code = errno.errorcode.get(outcome.detail, "") if outcome.kind == "OSError" else ""
            print(f"    {reader:<28} {outcome if not code else f'OSError {code}'}")
    print(
        lies, "lies,", sum(counts.values()), "pairs:", ", ".join(f"{n} {kind}" for kind, n in counts.items())
    )
    return sum(n for kind, n in counts.items() if kind not in RIGHT)


class Options(NamedTuple):
    """The words of the command."""

    short: bool
    json: bool
    first: bool


def parser() -> argparse.ArgumentParser:
    summary, _, more = f"{__doc__}".partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m tests.lies",
        description=summary,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="leave out variations of a lie or a reader")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each lie")
    parser.add_argument(
        "--first", action="store_true", help="with --json: stop after the first lie that misleads"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Preload the liar to a Python that runs this again, and there ask all readers."""
    options = Options(**vars(parser().parse_args(argv)))
    if "LIAR" in os.environ:
        try:
            testing.enter_private_network()
        except testing.UnavailableError as error:
            print(error, file=sys.stderr)
            return MISSING
        found = results(options.short)
        if not options.json:
            return 1 if table(found) else 0
        for lie, row in found:
            print(json.dumps((lie, row)))
            if options.first and any(one.kind not in RIGHT for one in row.values()):
                break  # who asks wants to know whether there is one
        return 0
    with tempfile.TemporaryDirectory() as folder:
        library = build(folder)
        if library is None:
            print("a compiler (cc)", file=sys.stderr)
            return MISSING
        words = [f"--{name}" for name, given in options._asdict().items() if given]
        command = [sys.executable, "-m", "tests.lies", *words]
        return subprocess.run(command, env=preloaded(library), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
