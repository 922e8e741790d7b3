# SPDX-License-Identifier: MIT
"""What a guest said, against what expected.json says of its row. The guest measures; this compares.

ok      it booted, did all of its work, and every figure is as expected
FAIL    it did its work, and a check failed or a figure differs
BROKEN  it did not do its work: no qemu, no package (of a required row), no end, a crash, no "done"
GONE    the kernel of a row that is not required cannot be had any more
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .boot import Ending, Words
from .rows import Row

OK, FAIL, BROKEN, GONE = "ok", "FAIL", "BROKEN", "GONE"


class Outcome(NamedTuple):
    """A row's verdict, with sentences that say why it is not ok."""

    row: Row
    verdict: str
    reasons: list[str]
    version: str = ""  # of the package
    figures: dict[str, Any] = {}  # noqa: RUF012  # never changed
    seconds: float = 0.0
    vectors: dict[str, Any] | None = None
    options: dict[str, list[Any]] | None = None  # by socket option its level, and how get and set end
    rolls: tuple[str, ...] = ()  # with --roll, what reuseport roll printed

    @property
    def bad(self) -> bool:
        return self.verdict in (FAIL, BROKEN)


def unobtainable(row: Row, why: str) -> Outcome:
    return Outcome(row, BROKEN if row.required else GONE, [why])


def broken(row: Row, why: str) -> Outcome:
    return Outcome(row, BROKEN, [why])


def word(words: Words, kind: str, **also: str) -> dict[str, Any]:
    """The one word of that kind; empty if there is none, or more than one."""
    found = [w for w in words if w["kind"] == kind and all(w.get(k) == v for k, v in also.items())]
    return found[0] if len(found) == 1 else {}


def both(one: Any, other: Any) -> Any:
    """What IPv4 and IPv6 say alike, or a list of the two."""
    return one if one == other else [one, other]


def self_test(found: dict[str, Any]) -> list[Any]:
    """The exit status, and how many cases were skipped, or why all were."""
    (totals,) = found.get("totals") or [""]
    skips = re.search(r"skip:(\d+)", totals)
    return [found.get("code"), int(skips[1]) if skips else totals.removeprefix("1..0 # SKIP ")]


def not_shown(found: dict[str, int] | None) -> dict[str, int] | None:
    """Of the programs of docs/findings, the exit status of those that did not show their fault."""
    return None if found is None else {name: status for name, status in found.items() if status != 1}


def figures_of(words: Words) -> dict[str, Any]:
    """All that expected.json may name; None where the guest did not say it."""
    sizes = word(words, "sizes")
    names = (
        "is_supported",
        "options",
        "mptcp_info",
        "tcp_info",
        "mptcp_tcpinfo",
        "full_info",
        "subflow_info",
        "mptcp_diag",
    )
    figures: dict[str, Any] = {name: sizes.get(name) for name in names}
    families = [word(words, "sockets", family=family) for family in ("AF_INET", "AF_INET6")]
    figures["sockets"] = both(*[found.get("found") for found in families])
    figures["tcp_is_mptcp"] = both(*[found.get("tcp_is_mptcp") for found in families])
    for name, kind in (("subflows", "paths"), ("outside", "outside"), ("commands", "commands")):
        found = word(words, kind)
        figures[name] = {key: value for key, value in found.items() if key != "kind"} or None
    figures["selftest"] = [self_test(word(words, "selftest", option=option)) for option in ("-4", "-6")]
    figures["findings"] = not_shown(word(words, "findings").get("found"))
    boot = word(words, "boot")
    figures.update({key: boot.get(key) for key in ("release", "machine", "bits", "byteorder")})
    counts = word(words, "pytest").get("counts") or {}
    figures["passed"] = sum(counts.get("passed", {}).values())
    figures["skipped"] = {reason: len(tests) for reason, tests in sorted(counts.get("skipped", {}).items())}
    return figures


def why_broken(ending: Ending) -> list[str]:
    """Sentences, if the guest did not do its work."""
    kinds = [w["kind"] for w in ending.words]
    reasons = [ending.problem] if ending.problem else []
    for w in ending.words:
        if w["kind"] == "crash":
            reasons.append(f"init crashed: {w['error'].strip().splitlines()[-1]}")
    if ending.code not in (0, None):
        reasons.append(f"qemu ended with {ending.code}")
    if ending.damaged:
        reasons.append(f"{ending.damaged} lines of the guest came damaged")
    if not kinds:
        reasons.append("the guest said nothing")
    elif kinds[-1] != "done" or kinds.count("done") != 1:
        reasons.append(f"the guest did not say 'done'; its last word was {kinds[-1]!r}")
    if reasons and ending.tail:
        reasons.append("the console's end:\n" + "\n".join(f"    {line}" for line in ending.tail.splitlines()))
    return reasons


#: What an answer does not need: with --ask, no tests are run.
TESTED = ("selftest", "passed", "skipped")


def judge(
    row: Row, expected: dict[str, Any] | None, ending: Ending, version: str = "", ask: bool = False
) -> Outcome:
    """The verdict on a boot; ask: on what the kernel answered, of one in which no tests were run."""
    figures = figures_of(ending.words)
    vectors = word(ending.words, "vectors") or None
    options = word(ending.words, "socket options").get("found")
    reasons = why_broken(ending)
    verdict = BROKEN
    if not reasons:
        if ask:
            figures = {name: value for name, value in figures.items() if name not in TESTED}
            expected = expected and {name: value for name, value in expected.items() if name not in TESTED}
        reasons = differences(row, expected, figures) + failures(ending.words, ask)
        verdict = FAIL if reasons else OK
    rolls = tuple(
        f"roll {w['words']}: ended with {w['code']}\n{w['out']}" for w in ending.words if w["kind"] == "roll"
    )
    return Outcome(row, verdict, reasons, version, figures, ending.seconds, vectors, options, rolls)


def differences(row: Row, expected: dict[str, Any] | None, figures: dict[str, Any]) -> list[str]:
    """What is not as expected, one sentence each."""
    if expected is None:
        return [f"expected.json has no row {row.name}"]
    reasons = []
    if not str(figures["release"]).startswith(f"{row.series}."):
        reasons.append(f"the kernel calls itself {figures['release']}, not {row.series}")
    for name, value in expected.items():
        if name == "skipped":
            continue
        if name not in figures:
            reasons.append(f"expected.json names {name!r}, which nobody measures")
        elif figures[name] != value:
            reasons.append(f"{name} is {figures[name]}, not {value}")
    for name in figures.keys() - expected.keys() - {"release", "passed"}:
        reasons.append(f"{name} is {figures[name]}, and expected.json does not name it")
    counts, found = expected.get("skipped", {}), figures.get("skipped", {})
    for reason in sorted(counts.keys() | found.keys()):
        is_, shall = found.get(reason, 0), counts.get(reason, 0)
        if is_ != shall:
            reasons.append(f"{is_} tests are skipped, not {shall}: {reason}")
    return reasons


def failures(words: Words, ask: bool = False) -> list[str]:
    """Checks that failed in the guest; of the tests too, unless it was only asked."""
    reasons = []
    for w in words:
        if w["kind"] == "probe failed":
            reasons.append(f"the probe ended with {w['code']}:\n{w['out']}")
        if w["kind"] == "roll" and w["code"]:
            reasons.append(f"roll {w['words']} ended with {w['code']}")
        if w["kind"] == "selftest":
            reasons += [
                f"self test {w['option']}: {line}" for line in w["remarkable"] if "# SKIP" not in line
            ]
    if ask:
        return reasons
    tests = word(words, "pytest")
    counts = tests.get("counts")
    if not tests or not counts:
        return [*reasons, f"pytest did not count: it ended with {tests.get('code')}\n{tests.get('out', '')}"]
    failed = counts["failed"]
    if failed:
        shown = "".join(f"\n    {name}" for name in failed[:20])
        reasons.append(f"{len(failed)} tests failed:{shown}\n{tests['out']}")
    elif tests["code"] != 0:
        reasons.append(f"pytest ended with {tests['code']}:\n{tests['out']}")
    seen = {
        *counts["passed"],
        *(name.split("::")[0] for names in counts["skipped"].values() for name in names),
    }
    reasons += [f"no test of {file} ran" for file in tests["files"] if file not in seen and not failed]
    return reasons
