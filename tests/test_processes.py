# SPDX-License-Identifier: MIT
"""Whose sockets: real processes, threads and users."""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import processes, testing
from mptcp_sockopt.testing import _network

from .support import (
    NOBODY,
    Child,
    Missing,
    Refusal,
    become_nobody,
    child,
    inode,
    needs_root,
    until,
    where_refused,
)

T = TypeVar("T")


def refusal(owner: processes.Owner) -> OSError:
    """Why it cannot be borrowed."""
    with pytest.raises(OSError) as caught, processes.borrow(owner):
        pytest.fail("it was borrowed")
    return caught.value


def owner_of(sock: socket.socket, pid: int | None = None) -> processes.Owner:
    """The one of that process, or the only one."""
    (found,) = [one for one in processes.owners([inode(sock)])[inode(sock)] or () if pid in (None, one.pid)]
    return found


# -------------------------------------------------------------------------------------------- owners


def test_owners() -> None:
    """Every descriptor of a socket, in every process, by pid; no other socket's."""
    with socket.create_server(("127.0.0.1", 0)) as listener, listener.dup() as twin, child(Child.say) as it:
        it.hear()
        with open("/proc/self/comm") as file:
            command = file.read().strip()
        found = processes.owners([inode(listener)])
        assert list(found) == [inode(listener)]
        assert found[inode(listener)] == tuple(
            processes.Owner(pid, fd, command, inode(listener), pid)
            for pid in sorted([os.getpid(), it.pid])
            for fd in sorted([listener.fileno(), twin.fileno()])
        )


def test_a_process_may_have_any_name() -> None:
    """What is not printable ASCII is a question mark: it goes to terminals."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def renamed(me: Child) -> None:
            with open("/proc/self/comm", "wb") as file:
                file.write(b"a\x1b[2J\xc3\xa4\nb")
            me.say()

        with child(renamed) as it:
            it.hear()
            assert owner_of(listener, it.pid).command == "a?[2J??b"


def only(monkeypatch: pytest.MonkeyPatch, *pids: int) -> None:
    """The machine has these processes, and it is no container."""
    monkeypatch.setattr(processes, "_pids", lambda: list(pids))
    monkeypatch.setattr(processes, "_FIRST_PID_NAMESPACE", os.readlink("/proc/self/ns/pid"))


def test_no_owner_is_not_an_unseen_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty where every process was seen; None with a reason where one was not, or is not in /proc."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = inode(listener)
    only(monkeypatch, os.getpid())
    found = processes.owners([number, 0])
    assert (dict(found), found.missing) == ({number: (), 0: ()}, None)
    monkeypatch.setattr(processes, "_FIRST_PID_NAMESPACE", "pid:[1]")
    found = processes.owners([number, 0])
    assert dict(found) == {number: None, 0: ()}  # 0 is nobody's
    assert "outside this PID namespace" in (found.missing or "")


def test_another_users_processes_are_not_seen() -> None:
    """None, and how many they are; iter_sockets() refuses the one, and leaves it out of all."""
    needs_root()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number, root = inode(listener), os.getpid()

        def look() -> None:
            listener.close()
            become_nobody()
            found = processes.owners([number])
            assert found[number] is None
            refused = re.fullmatch(
                r"this user may not examine (\d+) of (\d+) processes \(no ptrace permission\).*",
                found.missing or "",
            )
            assert refused
            assert 0 < int(refused[1]) <= int(refused[2])
            with pytest.raises(PermissionError, match=rf"process {root}: Permission denied.*CAP_SYS_PTRACE"):
                next(processes.iter_sockets(root))
            assert root not in {one.pid for one in processes.iter_sockets()}

        testing.in_child(look)


def in_a_pid_namespace(function: Callable[[], T], *, kind: str, options: str, before: bool = False) -> T:
    """With a file system of its own as /proc; or before that PID namespace, with the /proc of a process in
    it."""
    needs_root()
    new_mounts, new_pids, private = 0x20000, 0x20000000, 1 << 18 | 1 << 14

    def mount() -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.mount(b"", b"/", None, private, None)
        failed = failed or libc.mount(b"proc", b"/proc", kind.encode(), 0, options.encode())
        return ctypes.get_errno() if failed else 0

    def look(error: int) -> T:
        if error:
            raise Missing(f"a /proc of its own: {os.strerror(error)}")
        return function()

    def outside() -> T:
        try:
            _network._call("unshare", new_mounts | new_pids)
        except OSError as error:
            raise Missing(f"a PID namespace: {error}") from None
        if not before:
            return testing.in_child(lambda: look(mount()))
        with child(lambda me: me.say(mount())) as it:
            return look(*it.hear())

    return testing.in_child(outside)


OUTSIDE = "processes outside this PID namespace are not in /proc"
# Of root, as what made this child is.
GUARD = r"this user may not examine 1 of 2 processes \(no ptrace permission\)"
HIDES = "/proc hides processes from this user"


@pytest.mark.parametrize(
    ("options", "user", "reason"),
    [
        ("", "root", OUTSIDE),
        (f"hidepid=2,gid={NOBODY}", "root", OUTSIDE),
        ("hidepid=1", "nobody", f"{GUARD}; {OUTSIDE}"),
        ("hidepid=2", "nobody", rf"{HIDES} \(hidepid=(2|invisible)\); {OUTSIDE}"),
        (f"hidepid=2,gid={NOBODY}", "nobody", f"{GUARD}; {OUTSIDE}"),
        (f"hidepid=4,gid={NOBODY}", "nobody", rf"{HIDES} \(hidepid=(4|ptraceable)\); {OUTSIDE}"),
    ],
)
def test_a_proc_that_hides_processes(options: str, user: str, reason: str) -> None:
    """In a container, and with hidepid: the reasons are these, and no others."""

    def look() -> tuple[object, str | None]:
        if user == "nobody":
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            become_nobody()
        found = processes.owners([1])
        return found[1], found.missing

    owners, missing = in_a_pid_namespace(look, kind="proc", options=options)
    assert owners is None
    assert re.fullmatch(reason, missing or "")


@pytest.mark.parametrize(
    ("kind", "before", "reason"),
    [("tmpfs", False, "/proc is not mounted"), ("proc", True, "/proc belongs to another PID namespace")],
)
def test_a_proc_that_shows_nothing(kind: str, before: bool, reason: str) -> None:
    """Then nobody knows."""

    def look() -> tuple[object, str | None]:
        found = processes.owners([1])
        return found[1], found.missing

    assert in_a_pid_namespace(look, kind=kind, options="", before=before) == (None, reason)


def test_sockets_of_a_process() -> None:
    """Of any family, one for each descriptor; files are none."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.socket(type=socket.SOCK_DGRAM) as two,
        socket.socket(socket.AF_UNIX) as three,
        one.dup() as four,
    ):
        found = {(x.fd, x.inode) for x in processes.iter_sockets(os.getpid())}
        assert found >= {(sock.fileno(), inode(sock)) for sock in (one, two, three, four)}
        for fd, number in found:
            assert os.fstat(fd).st_ino == number
        everywhere = {(x.pid, x.fd) for x in processes.iter_sockets()}
        assert everywhere >= {(os.getpid(), fd) for fd, _ in found}


def test_sockets_of_no_process() -> None:
    """ProcessLookupError, of one that has ended too."""
    with child(lambda me: me.say()) as it:
        it.hear()
    with pytest.raises(ProcessLookupError, match=f"no process {it.pid} in /proc"):
        list(processes.iter_sockets(it.pid))


# -------------------------------------------------------------------------------------------- threads


def leaderless(me: Child) -> None:
    """A process whose leader ends; another thread goes on and holds a socket."""
    sock = mp.create_server(("127.0.0.1", 0), fallback=False)

    def go_on() -> None:
        until(lambda: state_of(os.getpid()) == "Z", "the end of the leader")
        me.say(inode(sock), sock.fileno(), threading.get_native_id())
        me.wait()

    threading.Thread(target=go_on, daemon=True).start()
    ctypes.CDLL(None).pthread_exit(None)


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_threads_whose_leader_has_ended(mptcp: None, user: str) -> None:
    """Their sockets are found, by anybody who may look, and borrowed (from Linux 6.9 on)."""

    def look() -> None:
        if user == "nobody":
            needs_root()
            become_nobody()
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: what changed its uid is not
        with child(leaderless) as it:
            number, fd, tid = it.hear()
            assert tid != it.pid
            (owner,) = processes.owners([number])[number] or ()
            assert (owner.pid, owner.fd, owner.inode, owner.tid) == (it.pid, fd, number, tid)
            assert [x for x in processes.iter_sockets(it.pid) if x.inode == number] == [owner]
            try:
                os.close(os.pidfd_open(tid, os.O_EXCL))
            except OSError:
                raise Missing("a kernel with PIDFD_THREAD (Linux 6.9)") from None
            with processes.borrow(owner) as twin:
                assert mp.status(twin) is mp.Status.LISTENING
            if user == "root" and not os.getuid():
                assert number in processes.in_netns(tid, lambda: [x.inode for x in processes.listeners(0)])

    testing.in_child(look)


def test_a_kernel_without_pidfd_thread(mptcp: None) -> None:
    """EINVAL is the kernel's; the reason is ours."""
    refusals: list[Refusal] = [("pidfd_open", {1: os.O_EXCL}, errno.EINVAL)]

    def look() -> None:
        with child(leaderless) as it:
            number, fd, _ = it.hear()
            (owner,) = processes.owners([number])[number] or ()
            error = refusal(owner)
            assert (error.errno, error.filename) == (errno.EINVAL, f"/proc/{it.pid}/fd/{fd}")
            assert re.search(r"its main thread has ended.*Linux 6\.9", str(error))

    where_refused(refusals, look)


def test_an_ended_process_that_nobody_waited_for_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zombie has no descriptors, although its folder is closed to its own user."""
    needs_root()

    def look() -> processes.Owners:
        become_nobody()
        zombie = os.fork()
        if zombie == 0:
            os._exit(0)
        until(lambda: state_of(zombie) == "Z", "the end of a child")
        only(monkeypatch, zombie)
        return processes.owners([1])

    found = testing.in_child(look)
    assert (found[1], found.missing) == ((), None)


# -------------------------------------------------------------------------------------------- the module


def test_the_package_does_not_import_it() -> None:
    """ctypes and typing are for those who look into processes."""
    code = "import sys, mptcp_sockopt; print(sorted({'ctypes', 'mptcp_sockopt.processes'} & {*sys.modules}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_results_can_be_pickled() -> None:
    """Under the names that users import."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        results = (
            processes.listeners(listener.getsockname()[1]),
            processes.tcp_sockets(listener.getsockname()[1]),
            owner_of(listener),
        )
        assert pickle.loads(pickle.dumps(results)) == results
        found = processes.owners([inode(listener)])
        again = pickle.loads(pickle.dumps(found))
        assert (dict(again), again.missing, repr(again)) == (dict(found), found.missing, repr(found))
    for name in processes.__all__:
        assert getattr(processes, name).__module__ == "mptcp_sockopt.processes"
