# SPDX-License-Identifier: MIT
"""Private network namespaces, and the reason if none can be created.

Nothing here has a name that outlives it: a namespace exists as long as a process is in it or a descriptor
refers to it. No commands are run: namespaces come from unshare(2), and everything in them is set up through
netlink. All of it works without privilege if user namespaces do.
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
    """This machine cannot do it. The message says what is missing: a privilege, or a part of the kernel.

    ``errno`` is the kernel's. A test should be skipped; a command should report that it cannot run here.

    Thread rule: for the thread that caught it.
    """

    def __str__(self) -> str:
        return self.strerror or ""


@contextlib.contextmanager
def needing(what: str) -> Iterator[None]:
    """Turns an OSError in the block into an UnavailableError: "WHAT: why"."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(error.errno, f"{what}: {error.strerror or error}") from error


def _call(function: str, *arguments: int) -> None:
    """unshare(2) or setns(2)."""
    if hasattr(os, function):
        getattr(os, function)(*arguments)
        return
    import ctypes  # before Python 3.12; some Pythons lack ctypes

    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter_private_network() -> None:
    """Move this process to a new network namespace with lo up. There is no way back.

    The process must have only one thread, as after a fork; in_private_network() creates such a process.
    Without privilege, it also moves to a new user namespace, as root: uid and gid read 0. UnavailableError
    says why neither can be created. If a system setting explains it, the message names it
    (``user.max_user_namespaces=0``).
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        try:
            _call("unshare", _CLONE_NEWNET)
        except PermissionError:
            _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
            # As root of the new user namespace, so that programs run from here keep the capabilities.
            for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
                with contextlib.suppress(OSError), open(f"/proc/self/{file}", "w") as map_file:
                    map_file.write(text)
        netlink.bring_up("lo")
    except netlink.NoNetlinkError as error:
        raise UnavailableError(error.errno, f"no netlink socket can be created here: {error}") from None
    except OSError as error:
        raise UnavailableError(error.errno, f"no private network namespace: {_why(error)}") from None


def in_private_network(function: Callable[[], T], *, within: float = 60) -> T:
    """Call function in a forked process, in a new network namespace with lo up. Needs no privilege.

    Returns or raises what function does, as in_child(). UnavailableError as enter_private_network().
    """

    def inside() -> T:
        enter_private_network()
        return function()

    return in_child(inside, within=within)


class PrivateNetwork:
    """A new network namespace with lo up. ``with network:`` runs its block in it, then goes back.

    Everything that the block opens or starts stays in the network: sockets, threads, children, commands. The
    network exists as long as any of these, or this object; close() releases it. Without privilege, use it
    inside in_private_network(); elsewhere it raises UnavailableError.

    Thread rule: use it anywhere; ``with`` moves only the calling thread.
    """

    def __init__(self) -> None:
        home = _namespace()
        try:
            try:
                _call("unshare", _CLONE_NEWNET)
            except OSError as error:
                why = "this needs privilege, which in_private_network() gives"
                if not isinstance(error, PermissionError):
                    why = _why(error)
                raise UnavailableError(error.errno, f"no further network namespace: {why}") from None
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
        """Release the network, which exists on as long as something is in it. May be called again."""
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
    """The namespaces to return to, for each thread."""

    def __init__(self) -> None:
        self.stack: list[int] = []


def _namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _enter(namespace: int) -> None:
    _call("setns", namespace, _CLONE_NEWNET)


# ------------------------------------------------------------------------- why none can be created

_SYSCTL, _STATUS = "/proc/sys", "/proc/self/status"
_FULL, _DENIED = (errno.ENOSPC, errno.EUSERS), (errno.EPERM, errno.EACCES)
_CAP_SYS_ADMIN = 21


def _why(error: OSError) -> str:
    """Why no private network can be created: the system setting that explains the error, else the errno."""
    # With privilege, no user namespace was requested.
    privileged = int(_word(_STATUS, "CapEff:") or "0", 16) >> _CAP_SYS_ADMIN & 1
    for name, value, numbers, words in (
        ("user.max_user_namespaces", "0", () if privileged else _FULL, "user namespaces are disabled"),
        ("user.max_net_namespaces", "0", _FULL, "network namespaces are disabled"),
        (
            "kernel.unprivileged_userns_clone",
            "0",
            () if privileged else _DENIED,
            "user namespaces are disabled for unprivileged users",
        ),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "1",
            _DENIED,
            "AppArmor restricts user namespaces of unprivileged users",
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
        return f"{words}: neither privilege nor a user namespace is available"
    return words


def _word(path: str, key: str = "") -> str | None:
    """The first word of a file, or the word after key; None if there is no such file or key."""
    try:
        with open(path) as file:
            return next((line.removeprefix(key).split()[0] for line in file if line.startswith(key)), None)
    except (OSError, IndexError):
        return None
