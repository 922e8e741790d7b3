# SPDX-License-Identifier: MIT
"""A private network namespace, and the in-kernel path manager inside it.

For the self test and the tests. Nothing is spawned: namespaces come from unshare(2), endpoints and limits
from the generic netlink family ``mptcp_pm`` (Documentation/netlink/specs/mptcp_pm.yaml), addresses from
rtnetlink. All of it works without privilege where user namespaces do.

Call these in a process of your own: a namespace lives as long as the processes in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct

from ._border.netlink import attribute as _attribute
from ._border.netlink import attributes as _attributes
from ._border.netlink import call as _call
from ._border.netlink import connected as _connected
from ._border.netlink import numbers as _numbers

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


# -------------------------------------------------------------------------------------------- addresses


def add_address(address: str) -> None:
    """Give ``lo`` one more IPv6 address. (All of 127.0.0.0/8 is there anyway.)"""
    new_address, no_duplicate_detection = 20, 0x02
    packed = socket.inet_pton(socket.AF_INET6, address)
    message = struct.pack(
        "=BBBBI", socket.AF_INET6, 128, no_duplicate_detection, 0, socket.if_nametoindex("lo")
    )
    with _connected(socket.NETLINK_ROUTE) as netlink:
        _call(netlink, new_address, message + _attribute(1, packed) + _attribute(2, packed))


# mptcp_pm: commands, attributes of a command, attributes of an address, flags of an endpoint.
_ADD_ADDR, _DEL_ADDR, _FLUSH_ADDRS, _SET_LIMITS = 1, 2, 4, 5
_ATTR_ADDR, _ATTR_RCV_ADD_ADDRS, _ATTR_SUBFLOWS = 1, 2, 3
_ADDR_FAMILY, _ADDR_ID, _ADDR_ADDR4, _ADDR_ADDR6, _ADDR_FLAGS, _ADDR_IF_IDX = 1, 2, 3, 4, 6, 7
_FLAG_SUBFLOW = 2
_NESTED = 0x8000


def _path_manager(command: int, attributes: bytes) -> None:
    generic, controller, get_family, family_id, family_name = 16, 0x10, 3, 1, 2
    with _connected(generic) as netlink:
        request = struct.pack("=BBH", get_family, 1, 0) + _attribute(family_name, b"mptcp_pm\0")
        answer = _attributes(_call(netlink, controller, request)[4:])
        (family,) = _numbers("=H", answer.get(family_id, b""))
        _call(netlink, family, struct.pack("=BBH", command, 1, 0) + attributes)


def set_limits(subflows: int, add_addr_accepted: int = 0) -> None:
    """Allow that many additional subflows and accepted ADD_ADDR a connection; 8 is the most."""
    _path_manager(
        _SET_LIMITS,
        _attribute(_ATTR_SUBFLOWS, struct.pack("=I", subflows))
        + _attribute(_ATTR_RCV_ADD_ADDRS, struct.pack("=I", add_addr_accepted)),
    )


def _address(address: str) -> bytes:
    family, kind = (socket.AF_INET6, _ADDR_ADDR6) if ":" in address else (socket.AF_INET, _ADDR_ADDR4)
    packed = socket.inet_pton(family, address)
    return _attribute(_ADDR_FAMILY, struct.pack("=H", family)) + _attribute(kind, packed)


def add_endpoint(address: str) -> None:
    """``ip mptcp endpoint add ADDRESS dev lo subflow``: connections get a subflow from address."""
    nest = _address(address) + _attribute(_ADDR_FLAGS, struct.pack("=I", _FLAG_SUBFLOW))
    nest += _attribute(_ADDR_IF_IDX, struct.pack("=i", socket.if_nametoindex("lo")))
    _path_manager(_ADD_ADDR, _attribute(_ATTR_ADDR | _NESTED, nest))


def delete_endpoint(id: int) -> None:
    """``ip mptcp endpoint del id ID``: it goes, and its subflows. The kernel numbers them from 1."""
    nest = _attribute(_ADDR_ID, struct.pack("=B", id))
    _path_manager(_DEL_ADDR, _attribute(_ATTR_ADDR | _NESTED, nest))


def flush_endpoints() -> None:
    """``ip mptcp endpoint flush``: all endpoints go, and their subflows."""
    _path_manager(_FLUSH_ADDRS, b"")


def delete_initial_address(address: str) -> None:
    """``ip mptcp endpoint del id 0 ADDRESS``: connections drop the initial subflow from address."""
    nest = _address(address) + _attribute(_ADDR_ID, b"\0")
    _path_manager(_DEL_ADDR, _attribute(_ATTR_ADDR | _NESTED, nest))
