# SPDX-License-Identifier: MIT
"""docs/options.md is what the kernels of docs/options.json answered; nothing is booted here."""

from __future__ import annotations

from typing import Any

import pytest

from mptcp_sockopt import host

from ..kernels import options, rows
from ..kernels.verdict import Outcome

KERNELS = options.load()


def test_the_page_is_what_the_kernels_answered() -> None:
    """Rendered again, it is the same; and so is the file."""
    page = options.PAGE.read_text()
    assert options.rendered(page, KERNELS) == page
    assert options.text_of(KERNELS) == options.RESULTS.read_text()
    assert KERNELS.keys() <= {row.name for row in rows.ROWS}


def test_a_kernel_was_asked_for_all_that_is_tried(mptcp: None) -> None:
    """Every option of the probe, with its level, and eight answers: a word or none."""
    tried = {option.name: option.level for option in host.socket_options()}
    for name, row in KERNELS.items():
        assert {option: answers[0] for option, answers in row["options"].items()} == tried, name
        assert {len(answers) for answers in row["options"].values()} == {9}
    assert {*tried.values()} == {*options.LEVELS}


@pytest.mark.parametrize(
    ("answers", "cell"),
    [
        (["yes"] * 4, "yes"),
        ([None] * 4, "-"),
        (["yes", None, None, "yes"], "yes"),
        (["yes", "EINVAL", "EINVAL", "yes"], "yes (fresh listening), EINVAL (connected accepted)"),
    ],
)
def test_a_cell_names_the_states_that_differ(answers: list[str | None], cell: str) -> None:
    """And is one word where they do not."""
    assert options.words(answers) == cell


def test_a_change_is_told_with_its_release() -> None:
    """Each; a kernel without the option has a dash."""
    yes, no = ["L", *["yes"] * 8], ["L", *["EINVAL"] * 4, *["yes"] * 4]
    series: dict[str, dict[str, Any]] = {"6.1": {}, "6.12": {"A": no}, "6.18": {"A": yes}, "7.3": {"A": yes}}
    assert options.changes(series, "A", slice(1, 5)) == "-; from 6.12 EINVAL; from 6.18 yes"
    assert options.changes(series, "A", slice(5, 9)) == "-; from 6.12 yes"


def test_a_kernel_that_answers_otherwise_is_noticed() -> None:
    """By option; another release may."""
    row = rows.ROWS[1]
    known = {row.name: {"release": "6.1.0", "options": {"A": ["L", "yes"], "B": ["L", "yes"]}}}
    outcome = Outcome(
        row, "ok", [], figures={"release": "6.1.0"}, options={"A": ["L", "yes"], "B": ["L", None]}
    )
    assert options.different(outcome, known) == ["docs/options.json has another answer of B"]
    assert options.different(outcome._replace(options=known[row.name]["options"]), known) == []  # type: ignore[arg-type]
    assert options.different(outcome._replace(figures={"release": "6.1.1"}), known) == []


def test_a_page_without_its_marks_is_refused() -> None:
    """Rather than left as it was."""
    with pytest.raises(ValueError, match="marks"):
        options.rendered("no marks", {})
