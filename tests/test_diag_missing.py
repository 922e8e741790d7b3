# SPDX-License-Identifier: MIT
"""mptcp_diag(listening=True) where one of the two tables tells less than it should."""

from __future__ import annotations

from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt._border import listeners as room

from .test_diag_listeners import believe


def test_a_listener_that_is_gone_is_no_old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only one that was told ended before TCP's table was read: read again, and then no guess."""
    believe(monkeypatch, [1], [(2, False, False, 248)])
    calls, once = [], vars(room)["dump"]

    def dump(*arguments: Any) -> Any:
        calls.append(arguments)
        return once(*arguments)

    monkeypatch.setattr(room, "dump", dump)
    records, info, missing = room.listeners(48)
    assert [row.inode for row in mp.MPTCPDiag(0, info, records)] == [1]
    assert "opened and closed" in (missing or "")
    assert "6.15" not in (missing or "")
    assert len(calls) == 4


def test_without_tcp_diag(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel's own dump told, and the reason why there may be more."""
    believe(monkeypatch, [1, 2], None)
    records, info, missing = room.listeners(0)
    assert [row.inode for row in mp.MPTCPDiag(0, info, records)] == [1, 2]
    assert "tcp_diag" in (missing or "")


@pytest.mark.parametrize(("seen", "length"), [(96, 96), (48, 48), (0, 40)])
def test_what_tcps_table_does_not_tell_is_zero_or_absent(
    seen: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as this kernel's mptcp_info was seen to be; nothing was seen of it: the shortest."""
    believe(monkeypatch, [], [(7, True, True, 232)])
    records, info, _ = room.listeners(seen)
    (row,) = mp.MPTCPDiag(0, info, records)
    assert (row.inode, row.cookie, bytes(row.info)) == (7, None, bytes(length))
    assert (row.info.csum_enabled is None) == (length < 48)
