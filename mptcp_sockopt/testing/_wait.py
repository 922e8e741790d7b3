# SPDX-License-Identifier: MIT
"""Wait for something that the kernel has in progress."""

from __future__ import annotations

import time

from .. import _types as t
from .._sockopt import Snapshot, snapshot


def wait_for(sock: t.SocketLike, *, subflows: int, within: float = 5) -> Snapshot:
    """Wait until exactly this many subflows of a connection are live; returns that snapshot.

    TimeoutError after within seconds; its message says what was found instead.
    """
    deadline = time.monotonic() + within
    while (shot := snapshot(sock)).live_count != subflows:
        if time.monotonic() > deadline:
            found = f"found {shot.live_count} (status {shot.status.name}) after {within:g} s"
            raise TimeoutError(f"expected {subflows} live subflows, {found}")
        time.sleep(0.002)
    return shot
