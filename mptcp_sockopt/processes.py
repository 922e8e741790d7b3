# SPDX-License-Identifier: MIT
"""Whose sockets are they? Who listens on a port, which processes hold a socket, and what it says of itself.

    listeners(port)      the TCP and MPTCP listeners of a port
    tcp_sockets(port)    every TCP socket that has a port, whatever its state
    owners(inodes)       the processes that hold these sockets
    iter_sockets(pid)    the sockets that a process holds
    borrow(owner)        a duplicate of one of them, for as long as a ``with`` block
    in_netns(netns, f)   what f() finds in another network namespace

A socket is known by its inode, which ``os.fstat(sock.fileno()).st_ino`` gives of one's own, and the rows of
mptcp_diag() and listeners() of all: it is the same number in every process and network namespace.
``import mptcp_sockopt`` does not import this module. Its functions may be called from any thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from . import _types as t  # noqa: F401  # the annotations of TCPSocket are looked up here
from ._border import lingers, listens
from ._ports import Listener, TCPSocket, listeners, tcp_sockets

T = TypeVar("T")

__all__ = [
    "Listener",
    "Owner",
    "Owners",
    "TCPSocket",
    "borrow",
    "in_netns",
    "iter_sockets",
    "listeners",
    "owners",
    "tcp_sockets",
]

# They answer to the name that users import them by.
for _thing in (Listener, TCPSocket, listeners, tcp_sockets):
    _thing.__module__ = __name__
del _thing


class Owner(NamedTuple):
    """A descriptor of a socket, in some process. Thread rule: immutable, use it anywhere."""

    pid: int
    fd: int
    command: str
    """/proc/PID/comm, 15 bytes at most; what is not printable ASCII is ``?``."""
    inode: int
    """Of the socket."""
    tid: int
    """The thread it was seen in: pid, or another if the leader, the thread with the number pid, has ended."""


class Owners(Mapping[int, tuple[Owner, ...] | None]):
    """What owners() found: for each inode a tuple of Owner, by pid and fd.

    It is empty where every process was looked into and none is seen to have the socket: the kernel has it, or
    a message (SCM_RIGHTS) that was not received yet, or a thread that has a table of its own, or nobody any
    more. It is None where it may have an owner that cannot be seen; ``missing`` then says why.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ("_found", "_missing")

    def __init__(self, found: Mapping[int, tuple[Owner, ...] | None], missing: str | None = None) -> None:
        self._found, self._missing = dict(found), missing

    @property
    def missing(self) -> str | None:
        """Why owners may be missing, of any of the sockets: a sentence. None: every process was seen."""
        return self._missing

    def __getitem__(self, inode: int) -> tuple[Owner, ...] | None:
        return self._found[inode]

    def __iter__(self) -> Iterator[int]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"Owners({self._found!r}, missing={self._missing!r})"


def owners(inodes: Iterable[int]) -> Owners:
    """Which processes hold these sockets: a walk through /proc, some 5 us for each descriptor of the machine.

    Network namespaces make no difference. A process can be looked into with its uid, or with CAP_SYS_PTRACE
    (as for ptrace(2)); one outside of the PID namespace is not in /proc. A descriptor that is handed from one
    process to another during the walk may be missed. Threads share the descriptors of their process; those
    that have a table of their own (unshare(CLONE_FILES)) are looked at only when the leader has ended.
    """
    found: dict[int, list[Owner]] = {inode: [] for inode in inodes}
    refused, pids = 0, _pids()
    for pid in pids:
        try:
            for owner in _sockets_of(pid, found):
                found[owner.inode].append(owner)
        except PermissionError:
            refused += 1
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended meanwhile
    missing = _why_unseen(refused, len(pids))
    nobody = None if missing else ()
    return Owners({inode: tuple(held) or (nobody if inode else ()) for inode, held in found.items()}, missing)


def iter_sockets(pid: int | None = None) -> Iterator[Owner]:
    """The sockets, of any family, that a process holds, or every process that can be looked into.

    A socket comes once for each descriptor. ProcessLookupError where there is no such process,
    PermissionError where it cannot be looked into; without a pid, such processes are left out (owners() says
    whether there are any).
    """
    if pid is None:
        for pid in _pids():
            with contextlib.suppress(PermissionError, FileNotFoundError, ProcessLookupError):
                yield from _sockets_of(pid)
        return
    try:
        yield from _sockets_of(pid)
    except PermissionError as error:
        raise PermissionError(error.errno, f"iter_sockets(): process {pid}: {_refused(error)}") from None
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(errno.ESRCH, f"iter_sockets(): no process {pid} in /proc") from None


def _pids() -> list[int]:
    try:
        return sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    except FileNotFoundError:
        return []  # there is no such folder


def _sockets_of(pid: int, wanted: Container[int] | None = None) -> Iterator[Owner]:
    seen = set()
    for tid, folder, descriptors in _tables(pid):
        for fd in descriptors:
            inode = _inode(f"{folder}/{fd}")
            if inode and (wanted is None or inode in wanted) and (fd, inode) not in seen:
                seen.add((fd, inode))
                yield Owner(pid, fd, _command(pid), inode, tid)


def _tables(pid: int) -> Iterator[tuple[int, str, list[int]]]:
    """A thread, its folder in /proc, and its descriptors.

    That is the leader, whose table is that of all threads; or, if it has ended (it has no table then, and its
    folder is root's), each of the others.
    """
    folder = f"/proc/{pid}/fd"
    try:
        descriptors = _numbers(folder)
    except PermissionError:
        if not _has_ended(pid):
            raise
        descriptors = []
    if descriptors:
        yield pid, folder, descriptors
        return
    for tid in _numbers(f"/proc/{pid}/task"):
        folder = f"/proc/{pid}/task/{tid}/fd"
        if tid != pid:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                yield tid, folder, _numbers(folder)


def _numbers(folder: str) -> list[int]:
    return sorted(map(int, os.listdir(folder)))


def _inode(path: str) -> int:
    """Of the socket that a descriptor is of; 0 if it is of something else, or was closed meanwhile."""
    try:
        link = os.readlink(path)
    except FileNotFoundError:
        return 0
    kind, _, inode = link.partition(":")
    return int(inode.strip("[]")) if kind == "socket" else 0


def _has_ended(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0] in "ZXx"


def _command(pid: int) -> str:
    with open(f"/proc/{pid}/comm", errors="replace") as file:
        return re.sub(r"[^ -~]", "?", file.read().rstrip("\n"))  # any process may put anything there


# Of the first PID namespace, which every process is in: PROC_PID_INIT_INO of the kernel's proc_ns.h.
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
_CAP_SYS_PTRACE = 19


def _why_unseen(refused: int, seen: int) -> str | None:
    """Why a socket that no process seems to have may have an owner: what is known, and no more."""
    if not os.path.exists("/proc/self"):
        return (
            "/proc is another PID namespace's" if os.path.exists("/proc/version") else "/proc is not mounted"
        )
    reasons = []
    if option := _hides_processes():
        reasons.append(f"/proc hides processes from this user ({option})")
    if refused:
        reasons.append(
            f"this user may not look into {refused} of {seen} processes (for want of ptrace rights)"
        )
    if os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE:
        reasons.append("processes outside of this PID namespace are not in /proc")
    return "; ".join(reasons) or None


def _hides_processes() -> str:
    """The option with which /proc was mounted, if it hides some from this user. (hidepid=1 hides none.)"""
    with open("/proc/self/status") as file:
        (capabilities,) = re.findall(r"^CapEff:\s*(\w+)", file.read(), re.MULTILINE)
    if int(capabilities, 16) >> _CAP_SYS_PTRACE & 1:
        return ""
    with open("/proc/self/mounts", errors="replace") as file:
        mounts = [line.split()[3] for line in file if line.split()[1] == "/proc"]
    options = dict(word.partition("=")[::2] for word in ",".join(mounts[-1:]).split(","))
    how, spared = options.get("hidepid"), int(options.get("gid", 0))  # the group that sees them all
    if how in ("4", "ptraceable") or (
        how in ("2", "invisible") and spared not in {os.getegid(), *os.getgroups()}
    ):
        return f"hidepid={how}"
    return ""


def _refused(error: OSError) -> str:
    return f"{os.strerror(error.errno or 0)} (it takes its uid or CAP_SYS_PTRACE, as for ptrace(2))"


# ---------------------------------------------------------------------------------------------- borrowed

_PIDFD_GETFD = 438  # Linux 5.6; the same number on every architecture but alpha
_PIDFD_THREAD = os.O_EXCL  # Linux 6.9; the kernel defines it so
_CLONE_NEWNET = 0x40000000
# It keeps the interpreter during a call. None of these waits, but getting it back may take long.
_libc = ctypes.PyDLL(None, use_errno=True)


@contextlib.contextmanager
def borrow(owner: Owner) -> Iterator[int]:
    """``with borrow(owner) as fd``: a duplicate of that socket, closed when the block ends.

    fd is an int, for the functions of this library. pidfd_getfd(2), Linux 5.6; across network namespaces. It
    takes the process's uid or CAP_SYS_PTRACE, as for ptrace(2); a security module (Yama) may refuse too.

    Read and leave. Both descriptors are of one socket: an option that is set here is set there, and **while
    the duplicate is held, the owner's close() does not end the connection**, the end of the block does. Do
    not make a ``socket.socket(fileno=fd)`` of it: where socket.setdefaulttimeout() was called, that makes
    the owner's socket non-blocking.

    A socket with SO_LINGER is refused with ECANCELED, unless it listens. Of two close() calls only the last
    lingers: the owner's would return at once, and ours would wait in its place. Only the socket itself tells
    whether SO_LINGER is set, so it is duplicated, asked, and closed, within microseconds. If the owner closes
    it in just that time, our close() does wait, for as long as SO_LINGER says at most.

    OSError with the kernel's errno: ESRCH and EBADF if the process or the descriptor is gone, EPERM if this
    is not allowed, ENOSYS before Linux 5.6. EINVAL before 6.9 for a process whose leader has ended. ESTALE if
    the descriptor is no longer of that socket.
    """
    fd = _duplicate(owner)
    try:
        _check(fd, owner)
        yield fd
    finally:
        os.close(fd)


def _duplicate(owner: Owner) -> int:
    pidfd = _open(owner)
    try:
        fd: int = _libc.syscall(_PIDFD_GETFD, pidfd, owner.fd, 0)
        number = ctypes.get_errno()
    finally:
        os.close(pidfd)
    if fd >= 0:
        return fd
    raise _failure(owner, number, f"pidfd_getfd: {_NOT_THERE.get(number) or os.strerror(number)}")


def _open(owner: Owner) -> int:
    try:
        return os.pidfd_open(owner.tid, 0 if owner.tid == owner.pid else _PIDFD_THREAD)
    except OSError as error:
        number = error.errno or errno.EIO
    if number == errno.EINVAL and owner.tid != owner.pid:
        reason = "its leader has ended, and opening another thread (PIDFD_THREAD) takes Linux 6.9"
    else:
        reason = f"pidfd_open: {_NOT_THERE.get(number) or os.strerror(number)}"
    raise _failure(owner, number, reason)


_NOT_THERE = {errno.ENOSYS: "it takes Linux 5.6, and no seccomp filter that hides it"}


def _check(fd: int, owner: Owner) -> None:
    status = os.fstat(fd)
    if not stat.S_ISSOCK(status.st_mode) or status.st_ino != owner.inode:
        raise _failure(owner, errno.ESTALE, "the descriptor is no longer of that socket")
    if lingers(fd) and not listens(fd, "borrow()"):
        raise _failure(owner, errno.ECANCELED, "SO_LINGER is set: to hold it would change what close() does")


def _failure(owner: Owner, number: int, reason: str) -> OSError:
    return OSError(number, reason, f"/proc/{owner.pid}/fd/{owner.fd}")


# -------------------------------------------------------------------------------------- other namespaces


def in_netns(netns: int | str | os.PathLike[str], function: Callable[[], T]) -> T:
    """Call function in another network namespace: what it returns or raises.

    netns is the number of a process or thread (``in_netns(owner.tid, mptcp_diag)``), or a file such as
    ``/run/netns/NAME``. setns(2) moves a thread that is made for this call alone, and ends with it; no other
    thread is moved. Sockets that function makes stay in that namespace. It takes CAP_SYS_ADMIN, in the user
    namespace of the caller and in the one that owns the network namespace; for a process, also the right to
    look into it. OSError with the kernel's errno otherwise.
    """
    path = f"/proc/{netns}/ns/net" if isinstance(netns, int) else os.fspath(netns)

    def inside() -> T:
        fd = os.open(path, os.O_RDONLY)
        try:
            _setns(fd, path)
        finally:
            os.close(fd)
        return function()

    from concurrent.futures import ThreadPoolExecutor  # which imports much

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(inside).result()


def _setns(fd: int, path: str) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        reason = " (it takes CAP_SYS_ADMIN)" if number == errno.EPERM else ""
        raise OSError(number, f"setns: {os.strerror(number)}{reason}", path)
