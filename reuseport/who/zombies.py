# SPDX-License-Identifier: MIT
"""Listeners in whose queues connections wait, and that accept none."""

from __future__ import annotations

import time

from mptcp_sockopt import TCPState, processes

from .. import _diag


def idle(port: int, window: float) -> set[int]:
    """The inodes of listeners that accept nothing for a while, though connections wait in their queues.

    The kernel reports which connections wait on the port, but not in which queue. So a listener is idle if
    its queue never got shorter, and if at least as many connections waited all the time as were in it at
    first.

    Connections that were reset while they waited are still in a queue, and only their number is known. While
    it stays the same, none was accepted; and if none is missing from all suspected queues, all are idle.
    """
    queues, waiting = _queues(port)
    dead = sum(queues.values()) - len(waiting)
    first = {inode: queue for inode, queue in queues.items() if queue}
    deadline, suspects, counted = time.monotonic() + window, first, dead > 0
    while suspects and time.monotonic() < deadline:
        time.sleep(0.005)
        if counted:
            now, alive = _queues(port)
            counted = sum(now.values()) - len(alive) == dead
        else:
            now = _lengths(port)
        suspects = {inode: now[inode] for inode, queue in suspects.items() if now.get(inode, 0) >= queue}
    if not suspects:
        return set()
    queues, alive = _queues(port)
    still = len(waiting & alive)
    in_others = sum(queue for inode, queue in queues.items() if inode not in suspects)
    if counted and sum(first[inode] for inode in suspects) <= still + dead - in_others:
        return set(suspects)
    return {inode for inode in suspects if first[inode] <= still}


def _queues(port: int) -> tuple[dict[int, int], frozenset[int]]:
    """The lengths of the queues, by inode, and the connections alive in them, at (almost) the same moment."""
    lengths = _lengths(port)
    for _ in range(10):
        before, alive = lengths, _diag.unaccepted(port) if any(lengths.values()) else frozenset[int]()
        lengths = _lengths(port)
        if lengths == before:
            break
    return before, alive


def _lengths(port: int) -> dict[int, int]:
    return {sock.inode: sock.rqueue for sock in processes.tcp_sockets(port, TCPState.LISTEN)}
