# SPDX-License-Identifier: MIT
"""The two agreements with systemd, which any parent may keep: sockets that are passed, and notifications."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Sequence

_FIRST_LISTEN_FD = 3


def give_listen_fds(listeners: Sequence[socket.socket]) -> None:
    """In a child, before exec: pass listeners on as descriptors 3, 4, ... (sd_listen_fds(3)).

    The sockets are closed here; only those descriptors are left.
    """
    # To higher numbers first: a listener may itself be 3 or 4.
    lowest = _FIRST_LISTEN_FD + len(listeners)
    copies = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, lowest) for sock in listeners]
    for sock in listeners:
        sock.close()
    for n, copy in enumerate(copies):
        os.dup2(copy, _FIRST_LISTEN_FD + n)
        os.close(copy)
    os.environ["LISTEN_FDS"] = str(len(listeners))
    os.environ["LISTEN_PID"] = str(os.getpid())


def take_listen_fds() -> list[socket.socket]:
    """The listeners that this process was started with, or an empty list: socket activation.

    The variables are removed, so that a second call, or a child, does not take them again.
    """
    if os.environ.pop("LISTEN_PID", None) != str(os.getpid()):
        return []
    os.environ.pop("LISTEN_FDNAMES", None)
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    listeners = [socket.socket(fileno=_FIRST_LISTEN_FD + n) for n in range(count)]
    for sock in listeners:
        sock.set_inheritable(False)
    return listeners


def notify(*lines: str) -> bool:
    """Tell the service manager, as sd_notify(3): notify("READY=1"). False if none listens (NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    # "@" stands for the NUL of an abstract address.
    address = address.replace("@", "\0", 1) if address[0] == "@" else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
        try:
            door.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, address)
        except OSError:  # it does not depend on us to live, nor we on it
            return False
    return True
