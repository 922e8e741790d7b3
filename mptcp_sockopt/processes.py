# SPDX-License-Identifier: MIT
"""Who listens on a port, which processes hold a socket, and access to sockets of other processes.

    listeners(port)      the TCP and MPTCP listeners on a port
    tcp_sockets(port)    every TCP socket with a local port, in any state
    tcp_lookup(a, b)     the TCP socket with these two addresses
    owners(inodes)       the processes that hold these sockets
    iter_sockets(pid)    the sockets that a process holds
    borrow(owner)        a duplicate of one of them, inside a ``with`` block
    in_netns(netns, f)   call f() in another network namespace

A socket is identified by its inode. For your own sockets, ``os.fstat(sock.fileno()).st_ino`` returns it; for
all others, it is in the rows of mptcp_diag() and listeners(). It is the same in every process and network
namespace. ``import mptcp_sockopt`` does not import this module. Its functions may be called from any thread.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from . import _types as t  # noqa: F401  # the annotations of TCPSocket are resolved here
from ._border import lingers, listens
from ._ports import Listener, TCPSocket, listeners, tcp_lookup, tcp_sockets

if TYPE_CHECKING:
    import ctypes

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
    "tcp_lookup",
    "tcp_sockets",
]

# help() and pickles show their public name.
for _thing in (Listener, TCPSocket, listeners, tcp_lookup, tcp_sockets):
    _thing.__module__ = __name__
del _thing


class Owner(NamedTuple):
    """A descriptor of a socket in a process. Thread rule: immutable, use it anywhere."""

    pid: int
    fd: int
    command: str
    """/proc/PID/comm: at most 15 bytes; anything but printable ASCII is shown as ``?``."""
    inode: int
    """The inode of the socket."""
    tid: int
    """The thread in which it was found: pid, or another thread if the main thread (whose number is pid) has
    ended."""


class Owners(Mapping[int, tuple[Owner, ...] | None]):
    """The result of owners(): for each inode, a tuple of Owner, sorted by pid and fd.

    The tuple is empty if every process was examined and none has the socket. Then the kernel has it, or it is
    in a message (SCM_RIGHTS) that was not received yet, or a thread with its own descriptor table has it, or
    it no longer exists. The value is None if there may be an owner that cannot be seen; ``missing`` says why.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ("_found", "_missing")

    def __init__(self, found: Mapping[int, tuple[Owner, ...] | None], missing: str | None = None) -> None:
        self._found, self._missing = dict(found), missing

    @property
    def missing(self) -> str | None:
        """Why owners of some socket may be missing, as a sentence. None if every process was examined."""
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
    """Which processes hold these sockets. Walks through /proc: about 4 us for each descriptor on the machine.

    Works across network namespaces. Examining a process needs its uid or CAP_SYS_PTRACE, as for ptrace(2);
    processes outside the PID namespace are not in /proc. A descriptor that one process passes to another
    during the walk may be missed. Threads share the descriptors of their process. Threads with a table of
    their own (unshare(CLONE_FILES)) are examined only if the main thread has ended.
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
            pass  # it has ended
    missing = _why_unseen(refused, len(pids))
    nobody = None if missing else ()
    return Owners({inode: tuple(held) or (nobody if inode else ()) for inode, held in found.items()}, missing)


def iter_sockets(pid: int | None = None) -> Iterator[Owner]:
    """The sockets, of any family, that a process holds; without pid, those of all processes.

    A socket is listed once for each descriptor. ProcessLookupError if there is no such process,
    PermissionError if it may not be examined. Without pid, such processes are skipped; owners() reports
    whether there are any.
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
        return []  # /proc is not mounted


def _sockets_of(pid: int, wanted: Container[int] | None = None) -> Iterator[Owner]:
    seen, command = set(), None
    for tid, descriptors in _tables(pid):
        for fd, inode in descriptors:
            if inode and (wanted is None or inode in wanted) and (fd, inode) not in seen:
                seen.add((fd, inode))
                if command is None:
                    command = _command(pid)
                yield Owner(pid, fd, command, inode, tid)


def _tables(pid: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """For each descriptor table of a process: a thread, and the descriptors as _descriptors() gives them.

    That is the main thread, which shares its table with the others. If it has ended, it has no table, and its
    folder belongs to root: then each of the other threads.
    """
    try:
        descriptors = _descriptors(f"/proc/{pid}/fd")
    except PermissionError:
        if not _has_ended(pid):
            raise
        descriptors = []
    if descriptors:
        yield pid, descriptors
        return
    for tid in sorted(map(int, os.listdir(f"/proc/{pid}/task"))):
        if tid != pid:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                yield tid, _descriptors(f"/proc/{pid}/task/{tid}/fd")


def _descriptors(path: str) -> list[tuple[int, int]]:
    """Each descriptor in a folder of /proc, and the inode of its socket: 0 if it is none, or was closed."""
    # A link is read in two thirds of the time if its path is not looked up from the root.
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return [(fd, _inode(fd, folder)) for fd in sorted(map(int, os.listdir(folder)))]
    finally:
        os.close(folder)


def _inode(fd: int, folder: int) -> int:
    try:
        link = os.readlink(str(fd), dir_fd=folder)
    except FileNotFoundError:
        return 0
    return int(link[len("socket:[") : -1]) if link.startswith("socket:[") else 0


def _has_ended(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0] in "ZXx"


def _command(pid: int) -> str:
    with open(f"/proc/{pid}/comm", errors="replace") as file:
        return re.sub(r"[^ -~]", "?", file.read().rstrip("\n"))  # a process can write anything there


# The initial PID namespace, which contains every process: PROC_PID_INIT_INO in the kernel's proc_ns.h.
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
_CAP_SYS_PTRACE = 19


def _why_unseen(refused: int, seen: int) -> str | None:
    """Why a socket may have an owner that was not found: only what is known for certain."""
    if not os.path.exists("/proc/self"):
        return (
            "/proc belongs to another PID namespace"
            if os.path.exists("/proc/version")
            else "/proc is not mounted"
        )
    reasons = []
    if option := _hides_processes():
        reasons.append(f"/proc hides processes from this user ({option})")
    if refused:
        reasons.append(f"this user may not examine {refused} of {seen} processes (no ptrace permission)")
    if os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE:
        reasons.append("processes outside this PID namespace are not in /proc")
    return "; ".join(reasons) or None


def _hides_processes() -> str:
    """The mount option of /proc that hides processes from this user, or "". (hidepid=1 hides none.)"""
    with open("/proc/self/status") as file:
        (capabilities,) = re.findall(r"^CapEff:\s*(\w+)", file.read(), re.MULTILINE)
    if int(capabilities, 16) >> _CAP_SYS_PTRACE & 1:
        return ""
    with open("/proc/self/mounts", errors="replace") as file:
        mounts = [line.split()[3] for line in file if line.split()[1] == "/proc"]
    options = dict(word.partition("=")[::2] for word in ",".join(mounts[-1:]).split(","))
    how, spared = options.get("hidepid"), int(options.get("gid", 0))  # the group that sees all processes
    if how in ("4", "ptraceable") or (
        how in ("2", "invisible") and spared not in {os.getegid(), *os.getgroups()}
    ):
        return f"hidepid={how}"
    return ""


def _refused(error: OSError) -> str:
    return f"{os.strerror(error.errno or 0)} (needs its uid or CAP_SYS_PTRACE, as for ptrace(2))"


# ---------------------------------------------------------------------------------------------- borrowed

_PIDFD_GETFD = 438  # Linux 5.6; the same number on every architecture except alpha
_PIDFD_THREAD = os.O_EXCL  # Linux 6.9; the kernel defines it this way
_CLONE_NEWNET = 0x40000000


@functools.cache
def _libc() -> ctypes.PyDLL:
    import ctypes  # an expensive import, which only the functions below need

    # It keeps the GIL during a call. None of these calls waits, but getting the GIL back may take long.
    return ctypes.PyDLL(None, use_errno=True)


@contextlib.contextmanager
def borrow(owner: Owner) -> Iterator[int]:
    """``with borrow(owner) as fd``: a duplicate of a socket of another process, closed when the block ends.

    fd is an int, for the functions of this library. Uses pidfd_getfd(2), Linux 5.6, and works across network
    namespaces. Needs the process's uid or CAP_SYS_PTRACE, as for ptrace(2); a security module (Yama) may
    still refuse.

    Read from it and let go. Both descriptors are of the same socket, so an option that you set here is set
    for the owner. **While you hold the duplicate, the owner's close() does not end the connection**; the end
    of the block does. Do not create a ``socket.socket(fileno=fd)`` from it: if socket.setdefaulttimeout() is
    in use, this makes the owner's socket non-blocking.

    A socket with SO_LINGER set is refused with ECANCELED, unless it is a listener. Only the last of several
    close() calls lingers: while we hold a duplicate, the owner's would return at once, and ours would wait
    instead. To find out, borrow() must duplicate the socket, ask it, and close it, which takes microseconds.
    If the owner closes it in just that time, our close() waits, for the SO_LINGER time at most.

    OSError with the kernel's errno: ESRCH or EBADF if the process or the descriptor is gone, EPERM if this is
    not permitted, ENOSYS before Linux 5.6, EINVAL before Linux 6.9 for a process whose main thread has ended.
    ESTALE if the descriptor is no longer this socket.
    """
    fd = _duplicate(owner)
    try:
        _check(fd, owner)
        yield fd
    finally:
        os.close(fd)


def _duplicate(owner: Owner) -> int:
    import ctypes

    pidfd = _open(owner)
    try:
        fd: int = _libc().syscall(_PIDFD_GETFD, pidfd, owner.fd, 0)
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
        reason = "its main thread has ended, and opening another thread (PIDFD_THREAD) needs Linux 6.9"
    else:
        reason = f"pidfd_open: {_NOT_THERE.get(number) or os.strerror(number)}"
    raise _failure(owner, number, reason)


_NOT_THERE = {errno.ENOSYS: "needs Linux 5.6, and no seccomp filter that blocks it"}


def _check(fd: int, owner: Owner) -> None:
    status = os.fstat(fd)
    if not stat.S_ISSOCK(status.st_mode) or status.st_ino != owner.inode:
        raise _failure(owner, errno.ESTALE, "the descriptor is no longer that socket")
    if lingers(fd) and not listens(fd, "borrow()"):
        raise _failure(owner, errno.ECANCELED, "SO_LINGER is set: a duplicate would change what close() does")


def _failure(owner: Owner, number: int, reason: str) -> OSError:
    return OSError(number, reason, f"/proc/{owner.pid}/fd/{owner.fd}")


# -------------------------------------------------------------------------------------- other namespaces


def in_netns(netns: int | str | os.PathLike[str], function: Callable[[], T]) -> T:
    """Call function in another network namespace; returns or raises what it does.

    netns is the number of a process or thread (``in_netns(owner.tid, mptcp_diag)``), or a file such as
    ``/run/netns/NAME``. setns(2) moves only a thread that is created for this call and ends with it. Sockets
    that function creates stay in that namespace. Needs CAP_SYS_ADMIN in the caller's user namespace and in
    the one that owns the network namespace; for a process, also permission to examine it. Otherwise OSError
    with the kernel's errno.
    """
    path = f"/proc/{netns}/ns/net" if isinstance(netns, int) else os.fspath(netns)

    def inside() -> T:
        fd = os.open(path, os.O_RDONLY)
        try:
            _setns(fd, path)
        finally:
            os.close(fd)
        return function()

    from concurrent.futures import ThreadPoolExecutor  # an expensive import

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(inside).result()


def _setns(fd: int, path: str) -> None:
    import ctypes

    if _libc().setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        reason = " (needs CAP_SYS_ADMIN)" if number == errno.EPERM else ""
        raise OSError(number, f"setns: {os.strerror(number)}{reason}", path)
