# SPDX-License-Identifier: MIT
"""Whether a command needs a user namespace, and what it is called there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

_CAP_SYS_ADMIN = 21


class Ids(NamedTuple):
    """What a new user namespace maps: what ids are called inside, and here."""

    uid: tuple[int, int]
    gid: tuple[int, int]


def needed() -> Ids | None:
    """The ids of a new user namespace, where they are called as outside; None with privilege.

    enter_private_network() makes the user root, with no other ids: nginx then fails to become another user.
    """
    uid, gid = _outside("uid", os.geteuid()), _outside("gid", os.getegid())
    with open("/proc/self/status") as file:
        capabilities = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    if capabilities >> _CAP_SYS_ADMIN & 1 and uid == os.geteuid():
        return None
    return Ids((uid, os.geteuid()), (gid, os.getegid()))


def _outside(kind: str, number: int) -> int:
    """What an id is called outside of a user namespace that has only this one."""
    lines = Path(f"/proc/self/{kind}_map").read_text().splitlines()
    first, outside, count = map(int, lines[0].split()) if len(lines) == 1 else (0, 0, 0)
    return outside if (first, count) == (number, 1) else number


def allow_low_ports() -> None:
    """Without privilege, the command may bind to ports below 1024 of this network namespace."""
    with contextlib.suppress(OSError):  # if not, the command says that it cannot
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")
