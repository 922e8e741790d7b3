# SPDX-License-Identifier: MIT
"""Waiting for what the kernel has under way."""

from __future__ import annotations

import time

from .. import _types as t
from .._sockopt import Snapshot, snapshot


def wait_for(sock: t.SocketLike, *, subflows: int, within: float = 5) -> Snapshot:
    """Wait until exactly so many subflows of a connection are live; the snapshot that has them.

    TimeoutError, with what there is instead, after so many seconds.
    """
    deadline = time.monotonic() + within
    while (shot := snapshot(sock)).live_count != subflows:
        if time.monotonic() > deadline:
            found = f"{shot.live_count} live subflows, and status {shot.status.name}"
            raise TimeoutError(f"{found} after {within:g} s, not {subflows} subflows")
        time.sleep(0.002)
    return shot
