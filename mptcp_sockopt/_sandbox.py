# SPDX-License-Identifier: MIT
"""A private network namespace, and the in-kernel path manager inside it.

For the self test and the tests. Nothing is spawned: namespaces come from unshare(2), endpoints, limits and
addresses from netlink. All of it works without privilege where user namespaces do.

Call these in a process of your own: a namespace lives as long as the processes in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct

from ._border.netlink import NoNetlinkError as NoNetlinkError
from ._border.netlink import add_address as add_address
from ._border.netlink import add_endpoint as add_endpoint
from ._border.netlink import delete_endpoint as delete_endpoint
from ._border.netlink import delete_initial_address as delete_initial_address
from ._border.netlink import flush_endpoints as flush_endpoints
from ._border.netlink import set_limits as set_limits

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


def enter_private_network() -> None:
    """Move the calling process, which has one thread, to a new network namespace with ``lo`` up.

    OSError (EPERM, ENOSPC, EINVAL ...) where neither a network namespace nor a user namespace may be made;
    why_refused() has it in words.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        _unshare(_CLONE_NEWNET)
    except PermissionError:
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        # As root of the new user namespace: programs that are run from here keep the capabilities.
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with contextlib.suppress(OSError), open(f"/proc/self/{file}", "w") as map_file:
                map_file.write(text)
    _bring_up("lo")


def _unshare(flags: int) -> None:
    if hasattr(os, "unshare"):
        os.unshare(flags)
        return
    import ctypes  # before Python 3.12; at the top it would cost every import of the package

    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")


_SYSCTL, _STATUS = "/proc/sys", "/proc/self/status"
_FULL, _DENIED = (errno.ENOSPC, errno.EUSERS), (errno.EPERM, errno.EACCES)
_CAP_SYS_ADMIN = 21


def why_refused(error: OSError) -> str:
    """Why no private network can be had, in a sentence: the system's own switch where one explains that
    error, else what is known of its errno."""
    # With privilege no user namespace was asked for.
    privileged = int(_word(_STATUS, "CapEff:") or "0", 16) >> _CAP_SYS_ADMIN & 1
    for name, value, numbers, words in (
        ("user.max_user_namespaces", "0", () if privileged else _FULL, "user namespaces are disabled"),
        ("user.max_net_namespaces", "0", _FULL, "network namespaces are disabled"),
        (
            "kernel.unprivileged_userns_clone",
            "0",
            () if privileged else _DENIED,
            "user namespaces are disabled for users without privilege",
        ),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "1",
            _DENIED,
            "AppArmor restricts the user namespaces of users without privilege",
        ),
    ):
        if error.errno in numbers and _word(f"{_SYSCTL}/{name.replace('.', '/')}") == value:
            return f"{words} ({name}={value})"
    words = os.strerror(error.errno or 0)
    if error.errno in _FULL:
        return (
            f"{words}: a limit on namespaces is reached (user.max_user_namespaces, user.max_net_namespaces)"
        )
    if error.errno in (*_DENIED, errno.ENOSYS) and _word(_STATUS, "Seccomp:") == "2":
        return f"{words}: system calls are filtered here (seccomp), as in most containers"
    if error.errno == errno.EINVAL:
        return f"{words}: this kernel has no network or user namespaces, or the process has several threads"
    if error.errno in _DENIED:
        return f"{words}: neither privilege nor a user namespace can be had"
    return words


def _word(path: str, key: str = "") -> str | None:
    """The first word of a file, or the one behind a key; None without such a file or key."""
    try:
        with open(path) as file:
            return next((line.removeprefix(key).split()[0] for line in file if line.startswith(key)), None)
    except (OSError, IndexError):
        return None


def _bring_up(interface: str) -> None:
    get_flags, set_flags, up = 0x8913, 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", interface.encode(), 0)
        name, flags = struct.unpack("16sH14x", fcntl.ioctl(control, get_flags, request))
        fcntl.ioctl(control, set_flags, struct.pack("16sH14x", name, flags | up))
