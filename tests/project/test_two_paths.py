# SPDX-License-Identifier: MIT
"""Goodput is the connection's: benchmarks/two_paths.py is the one truth, and it can fail."""

from __future__ import annotations

import json

import pytest

from benchmarks import two_paths


@pytest.mark.slow
def test_goodput_over_two_paths_of_which_one_dies(mptcp: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Within 5 % of what was read, in every second and at both ends; the subflows' sum is off by more."""
    code = two_paths.main(["--seconds", "8", "--json"])
    out, _ = capsys.readouterr()
    found = json.loads(out)
    assert (code, found["holds"]) == (0, True), out
    assert len(found["seconds"]) == 8
    outage = [row for row in found["seconds"] if two_paths.CUT < row["second"] <= two_paths.RESTORED]
    assert any(row["subflows"] > 1.05 * row["read_then"] for row in outage), out


def test_the_judge_of_two_paths_can_fail() -> None:
    """A Tracker that is off by more than 5 %, and by more than what is on its way, is seen."""
    read = 1_000_000
    for said, holds in ((read, True), (1_049_000, True), (1_070_000, False), (930_000, False)):
        assert two_paths.Second(1, said, 0, read, read, read).holds() is holds
        assert two_paths.Second(1, read, 0, read, said, read).holds() is holds
    assert two_paths.Second(1, 50_000, 0, 0, 0, 0).holds()
    assert not two_paths.Second(1, 100_000, 0, 0, 0, 0).holds()
