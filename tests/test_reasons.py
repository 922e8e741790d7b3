# SPDX-License-Identifier: MIT
"""Why a connection fell back: what one row tells."""

from __future__ import annotations

import itertools
import pickle
from typing import NamedTuple

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import FallbackReason, _reasons

from .test_troubles import info

CONNECTED = 1 << 7
MCAP_REM, MCAP_LOC, JOIN_LOC, FULLY_ESTABLISHED = 1 << 0, 1 << 1, 1 << 3, 1 << 6
ESTABLISHED, CLOSE = mp.TCPState.ESTABLISHED, mp.TCPState.CLOSE


class Path(NamedTuple):
    """What is read of a subflow."""

    flags: int | None
    token_local: int | None = 7


@pytest.mark.parametrize(
    ("state", "flags", "paths", "reason"),
    [
        (ESTABLISHED, 1, [Path(MCAP_LOC | CONNECTED)], FallbackReason.NO_OPTION_IN_ANSWER),
        (ESTABLISHED, 1, [Path(CONNECTED)], FallbackReason.SYN_LOST_OR_CROSSED),
        (ESTABLISHED, None, [Path(CONNECTED, 0)], FallbackReason.SUSPENDED),
        (ESTABLISHED, 3, [Path(MCAP_LOC | CONNECTED)], FallbackReason.FIRST_DATA),
        (CLOSE, 3, [], FallbackReason.RESET_BEFORE_DATA),
        (ESTABLISHED, 3, [Path(MCAP_REM | MCAP_LOC | FULLY_ESTABLISHED)], FallbackReason.MID_CONNECTION),
        (ESTABLISHED, 3, [Path(MCAP_REM | FULLY_ESTABLISHED)], FallbackReason.MID_CONNECTION),
        # No fallback.
        (ESTABLISHED, 2, [Path(MCAP_REM | MCAP_LOC | FULLY_ESTABLISHED)], None),
        (mp.TCPState.SYN_SENT, 0, [Path(MCAP_LOC)], None),
        (ESTABLISHED, None, [Path(MCAP_REM | FULLY_ESTABLISHED)], None),
        (ESTABLISHED, None, [Path(None, None)], None),
        (ESTABLISHED, None, [Path(MCAP_LOC | CONNECTED, 0)], None),
        (ESTABLISHED, None, [], None),
        # The kernel keeps the flags of the subflow to itself, or has none any more.
        (ESTABLISHED, 1, [Path(None, None)], None),
        (ESTABLISHED, 3, [Path(None, None)], None),
        (CLOSE, 1, [], None),
        (mp.TCPState.FIN_WAIT2, 3, [], None),
    ],
)
def test_what_a_row_tells(
    state: mp.TCPState, flags: int | None, paths: list[Path], reason: FallbackReason | None
) -> None:
    """The connection's flags, those of its subflow, and the state."""
    row = None if flags is None else info(flags=flags)
    assert _reasons.reason_of(state, row, paths) is reason


def test_a_connection_with_data_was_not_reset_before_it() -> None:
    """It fell back at some time, and has ended: nothing tells when. Before Linux 6.5 data is not counted."""
    for row in (info(flags=3, bytes_received=1), info(flags=3, bytes_acked=1), info(length=48, flags=3)):
        assert _reasons.reason_of(CLOSE, row, []) is None


def test_a_reason_is_a_string_with_three_texts() -> None:
    """Its value, also in f-strings and pickles; sentences for people."""
    assert len(FallbackReason) == 6
    for reason in FallbackReason:
        assert FallbackReason(str(reason)) is pickle.loads(pickle.dumps(reason)) is reason
        assert f"{reason}" == reason.value == reason.name.lower()
        for text in (reason.sentence, reason.next_step):
            assert text[0].isupper()
            assert text.endswith(".")
        assert len(reason.causes) >= 2
        assert all(cause[0].islower() or cause.startswith("SYN") for cause in reason.causes)
    texts = [(reason.sentence, reason.next_step, *reason.causes) for reason in FallbackReason]
    assert len({*itertools.chain(*texts)}) == len([*itertools.chain(*texts)])


def test_a_fallback_in_mid_connection_warns_of_data_that_comes_twice() -> None:
    """And says what excludes the checksum."""
    reason = FallbackReason.MID_CONNECTION
    assert "same bytes again and again" in reason.sentence
    assert [cause for cause in reason.causes if "csum_enabled" in cause] != []
