# SPDX-License-Identifier: MIT
"""Private network namespaces, and why there is none.

Nothing here has a name that outlives it: a namespace lives as long as a process is in it, or a descriptor
holds it. Nothing is spawned: namespaces come from unshare(2), everything in them from netlink. All of it
works without privilege where user namespaces do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TypeVar

from .._border import netlink
from ._children import in_child

T = TypeVar("T")

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


class UnavailableError(OSError):
    """This machine cannot do it: its message says what is missing, a privilege or a part of the kernel.

    ``errno`` is the kernel's. A test skips itself, a command says that it cannot run here.
    Thread rule: it belongs to who caught it.
    """

    def __str__(self) -> str:
        return self.strerror or ""


@contextlib.contextmanager
def needing(what: str) -> Iterator[None]:
    """An OSError of the block is an UnavailableError: "WHAT: why"."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(error.errno, f"{what}: {error.strerror or error}") from error


def _call(function: str, *arguments: int) -> None:
    """unshare(2) or setns(2)."""
    if hasattr(os, function):
        getattr(os, function)(*arguments)
        return
    import ctypes  # before Python 3.12; not every Python has it

    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter_private_network() -> None:
    """Move this process to a new network namespace, in which lo is up. There is no way back.

    The process has one thread, as a forked child has: in_private_network() makes one. Without privilege it
    moves to a new user namespace too, whose root it then is: uid and gid read 0. UnavailableError says why
    neither can be made, with the system's own switch (``user.max_user_namespaces=0``) where one explains it.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        try:
            _call("unshare", _CLONE_NEWNET)
        except PermissionError:
            _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
            # As root of the new user namespace: programs that are run from here keep the capabilities.
            for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
                with contextlib.suppress(OSError), open(f"/proc/self/{file}", "w") as map_file:
                    map_file.write(text)
        netlink.bring_up("lo")
    except netlink.NoNetlinkError as error:
        raise UnavailableError(error.errno, f"no netlink socket can be made here: {error}") from None
    except OSError as error:
        raise UnavailableError(error.errno, f"no private network namespace: {_why(error)}") from None


def in_private_network(function: Callable[[], T], *, within: float = 60) -> T:
    """Call function in a forked process, in a network namespace of its own in which lo is up; no privilege is
    needed. What it returns or raises, as in_child(); UnavailableError as enter_private_network()."""

    def inside() -> T:
        enter_private_network()
        return function()

    return in_child(inside, within=within)


class PrivateNetwork:
    """A new network namespace, in which lo is up. ``with network:`` the block is in it, and back behind it.

    What the block opens or starts stays in the network: sockets, threads, children, commands. The network
    lives as long as one of these, or this object; close() lets go of it. Without privilege, make it inside
    in_private_network(): UnavailableError elsewhere.

    Thread rule: use it anywhere; ``with`` moves the calling thread alone.
    """

    def __init__(self) -> None:
        home = _namespace()
        try:
            try:
                _call("unshare", _CLONE_NEWNET)
            except OSError as error:
                why = "it takes privilege, which in_private_network() gives"
                if not isinstance(error, PermissionError):
                    why = _why(error)
                raise UnavailableError(error.errno, f"no other network namespace: {why}") from None
            try:
                netlink.bring_up("lo")
                self._here = _namespace()
            finally:
                _enter(home)
        finally:
            os.close(home)
        self._homes = _Homes()
        self._let_go = weakref.finalize(self, os.close, self._here)

    def close(self) -> None:
        """Let go of the network, which lives on as long as something is in it. May be called again."""
        self._let_go()

    def fileno(self) -> int:
        """The descriptor of the namespace, for setns(2)."""
        return self._here

    def __enter__(self) -> PrivateNetwork:
        home = _namespace()
        try:
            _enter(self._here)
        except BaseException:
            os.close(home)
            raise
        self._homes.stack.append(home)
        return self

    def __exit__(self, *_: object) -> None:
        home = self._homes.stack.pop()
        try:
            _enter(home)
        finally:
            os.close(home)


class _Homes(threading.local):
    """Where each thread came from."""

    def __init__(self) -> None:
        self.stack: list[int] = []


def _namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _enter(namespace: int) -> None:
    _call("setns", namespace, _CLONE_NEWNET)


# --------------------------------------------------------------------------------- why there is none

_SYSCTL, _STATUS = "/proc/sys", "/proc/self/status"
_FULL, _DENIED = (errno.ENOSPC, errno.EUSERS), (errno.EPERM, errno.EACCES)
_CAP_SYS_ADMIN = 21


def _why(error: OSError) -> str:
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
