# SPDX-License-Identifier: MIT
"""tests/mutants: its list is of today's code, and its verdict can be no."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..mutants import Mutation
from ..mutants import __main__ as mutants
from ..support import Missing

ROOT = Path(__file__).parents[2]
KILLED, LIVES = Mutation("a", "", "x", "y"), Mutation("b", "", "x", "y")


@pytest.mark.parametrize("mutation", mutants.MUTATIONS, ids=range(len(mutants.MUTATIONS)))
def test_every_mutation_applies_and_has_tests(mutation: Mutation) -> None:
    """Its old text stands in its file once, the new one is another, and its room has tests of its own."""
    assert mutants.applies(mutation, ROOT), mutation
    assert mutation.old != mutation.new
    own = mutants.tests_of(mutation)
    assert own
    assert [name for name in own if not (ROOT / name).exists()] == []


def test_there_are_enough_and_none_comes_twice() -> None:
    """Of C and of Python."""
    assert len(mutants.MUTATIONS) >= 80
    assert len({(mutation.file, mutation.old, mutation.new) for mutation in mutants.MUTATIONS}) == len(
        mutants.MUTATIONS
    )
    assert sum(mutation.file.endswith(".c") for mutation in mutants.MUTATIONS) >= 20


@pytest.mark.parametrize(
    ("fates", "code", "line"),
    [
        (["killed"] * 19 + ["LIVES"], 0, "19 of 20 killed (95.0%), 0 equivalent, 0 no longer apply: PASS"),
        (["killed"] * 18 + ["LIVES"], 1, "18 of 19 killed (94.7%), 0 equivalent, 0 no longer apply: FAIL"),
        (["killed", "equivalent"], 0, "1 of 1 killed (100.0%), 1 equivalent, 0 no longer apply: PASS"),
        (["killed", "GONE"], 1, "1 of 1 killed (100.0%), 0 equivalent, 1 no longer apply: FAIL"),
    ],
)
def test_the_verdict(fates: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At least 95 % of those that can be told apart, and none that no longer applies."""
    verdicts = [mutants.Verdict(KILLED, fate, "", 1.0) for fate in fates]
    assert mutants.conclude(verdicts) == code
    assert capsys.readouterr().out.splitlines()[-1] == f"MUTANTS: {line}"


def test_each_word_draws_a_quarter_of_its_own() -> None:
    """So that a run of all gates takes a quarter of the time, and the next commit tries others."""
    one, again, other = [mutants.quarter(mutants.MUTATIONS, word) for word in ("f00", "f00", "ba7")]
    assert len(one) == len(other) == (len(mutants.MUTATIONS) + 3) // 4
    assert one == again
    assert set(one) != set(other)


def test_a_text_that_stands_twice_does_not_apply(tmp_path: Path) -> None:
    """Which of the two was meant, nobody could say."""
    (tmp_path / "b").write_text("x x")
    (tmp_path / "a").write_text("x")
    assert mutants.applies(KILLED, tmp_path)
    assert not mutants.applies(LIVES, tmp_path)


@pytest.mark.slow
def test_three_fates() -> None:
    """Of a mistake that a test notices, of one that none can, of a text that leaves no program."""
    file, licence = "mptcp_sockopt/_growth.py", "# SPDX-License-Identifier: MIT"
    mutations = (
        Mutation(file, "growth", "return None if _ran_back(growth) else growth", "return growth"),
        Mutation(file, "growth", licence, "# none"),
        Mutation(file, "growth", licence, "("),
    )
    try:
        verdicts = list(mutants.run(mutations, jobs=1))
    except (mutants.CannotRun, FileNotFoundError) as problem:
        raise Missing(f"a compiler and Python.h: {problem}") from None
    assert [verdict.fate for verdict in verdicts] == ["killed", "LIVES", "GONE"]
    assert verdicts[0].by.startswith("tests/test_growth.py::")
    assert (mutants.place(mutations[1]), mutants.change(mutations[2])) == (
        f"{file}:1",
        f"  - {licence}\n  + (",
    )
