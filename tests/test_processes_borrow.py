# SPDX-License-Identifier: MIT
"""Sockets of other processes, and other network namespaces: read, and left as they were."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import processes, testing

from .support import (
    DEADLINE,
    Child,
    Missing,
    become_nobody,
    child,
    inode,
    mptcp_pair,
    needs_root,
    tcp_pair,
    until,
    where_refused,
)
from .test_processes import owner_of, refusal


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def test_a_borrowed_socket_is_read(mptcp: None, family: int) -> None:
    """Of another process, by any function that takes a descriptor; and closed at the end of the block."""

    def connected(me: Child) -> None:
        with mptcp_pair(family) as (client, server):
            me.say(inode(client), client.fileno(), mp.mptcp_info(client).token)
            me.wait()
            del server

    with child(connected) as it:
        number, fd, token = it.hear()
        (owner,) = processes.owners([number])[number] or ()
        assert (owner.pid, owner.fd) == (it.pid, fd)
        before = descriptors()
        with processes.borrow(owner) as twin:
            assert mp.status(twin) is mp.Status.MPTCP
            assert mp.mptcp_info(twin).token == token
            assert len(descriptors()) == len(before) + 1
            assert fcntl.fcntl(twin, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
        assert descriptors() == before


def test_a_borrowed_socket_is_closed_whatever_happens() -> None:
    """An exception in the block, a descriptor that is another's or a file's by now: ESTALE."""
    with socket.create_server(("127.0.0.1", 0)) as server, open("/dev/null") as null:
        owner, before = owner_of(server), descriptors()
        with pytest.raises(ZeroDivisionError), processes.borrow(owner) as twin:
            twin //= 0
        for other in (owner._replace(inode=owner.inode + 1), owner._replace(fd=null.fileno())):
            error = refusal(other)
            assert (error.errno, error.strerror) == (
                errno.ESTALE,
                "the descriptor is no longer that socket",
            )
            assert error.filename == f"/proc/{os.getpid()}/fd/{other.fd}"
        assert descriptors() == before


def test_what_is_gone_cannot_be_borrowed() -> None:
    """EBADF for a descriptor, ESRCH for a process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with child(lambda me: me.say()) as it:
            it.hear()
            owner, spare = owner_of(server, it.pid), max(map(int, descriptors())) + 50
            error = refusal(owner._replace(fd=spare))
            assert (error.errno, error.strerror) == (errno.EBADF, "pidfd_getfd: Bad file descriptor")
        error = refusal(owner)
        assert (error.errno, error.strerror) == (errno.ESRCH, "pidfd_open: No such process")


def test_a_socket_of_another_user_cannot_be_borrowed() -> None:
    """EPERM, in the kernel's words, and no descriptor is left."""
    needs_root()
    with socket.create_server(("127.0.0.1", 0)) as server:
        owner = owner_of(server)

        def look() -> None:
            become_nobody()
            before = descriptors()
            error = refusal(owner)
            assert (error.errno, error.strerror) == (errno.EPERM, "pidfd_getfd: Operation not permitted")
            assert descriptors() == before

        testing.in_child(look)


def test_a_kernel_without_pidfd_getfd() -> None:
    """ENOSYS, and which release has it."""

    def look() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            error = refusal(owner_of(server))
            assert error.errno == errno.ENOSYS
            assert "Linux 5.6" in str(error)

    where_refused([("pidfd_getfd", {}, errno.ENOSYS)], look)


@pytest.mark.parametrize("kind", ["tcp", "mptcp"])
@pytest.mark.parametrize("seconds", [0, 3])
def test_a_socket_with_so_linger_is_not_held(mptcp: None, kind: str, seconds: int) -> None:
    """Its close() would wait in our place for what is not sent. A listener's never waits."""
    mine = mp.create_socket(fallback=False) if kind == "mptcp" else socket.socket()
    with mine, socket.create_server(("127.0.0.1", 0)) as tcp, mp.create_server(("127.0.0.1", 0)) as server:
        mine.connect((server if kind == "mptcp" else tcp).getsockname())
        owner = owner_of(mine)
        with processes.borrow(owner):
            pass
        for sock in (mine, tcp, server):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
        before = descriptors()
        error = refusal(owner)
        assert error.errno == errno.ECANCELED
        assert "SO_LINGER is set" in str(error)
        assert descriptors() == before
        for listener in (tcp, server):
            with processes.borrow(owner_of(listener)) as twin:
                assert mp.status(twin) is mp.Status.LISTENING
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, seconds))
        with processes.borrow(owner):
            pass


@pytest.mark.parametrize("pair", [mptcp_pair, tcp_pair])
def test_a_connection_does_not_end_while_it_is_borrowed(mptcp: None, pair: Callable[[int], Any]) -> None:
    """The owner's close() tells the peer nothing; the end of the block does."""
    with pair(socket.AF_INET) as (client, server):

        def close(me: Child) -> None:
            me.wait()
            client.close()
            me.say()

        with child(close) as it:
            owner = owner_of(client, it.pid)
            client.close()
            with processes.borrow(owner):
                it.go_on()
                it.hear()
                assert select.select([server], [], [], 0.1)[0] == []
            assert server.recv(1) == b""


def test_the_mode_of_the_owners_socket_is_left_alone() -> None:
    """Also where this process has a default timeout."""
    socket.setdefaulttimeout(5)
    try:
        with socket.socket() as sock:
            sock.setblocking(True)
            with processes.borrow(owner_of(sock)):
                assert not fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK
    finally:
        socket.setdefaulttimeout(None)


# -------------------------------------------------------------------------------------- other namespaces


def elsewhere(me: Child) -> None:
    """A connection in a network namespace of its own."""
    try:
        testing.enter_private_network()
    except testing.UnavailableError as error:
        me.say(str(error))
        return
    with mptcp_pair(socket.AF_INET) as (client, server):
        me.say(inode(client), server.getsockname()[1], mp.mptcp_info(client).token)
        me.wait()


@contextlib.contextmanager
def other_namespace() -> Iterator[tuple[int, int, int, int]]:
    """The child's pid, and the inode, port and token of its connection."""
    with child(elsewhere) as it:
        number, *others = it.hear()
        if not others:
            raise Missing(number)
        yield it.pid, number, others[0], others[1]


def namespaces() -> list[str]:
    """Of each thread of this process that has not ended meanwhile."""
    found = []
    for tid in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # ENOENT, ESRCH, or EACCES while it ends
            found.append(os.readlink(f"/proc/self/task/{tid}/ns/net"))
    return found


def test_sockets_of_another_network_namespace(mptcp: None) -> None:
    """Owners are found and borrowed across namespaces; tables are read inside."""
    needs_root()
    with other_namespace() as (pid, number, port, token):
        (owner,) = processes.owners([number])[number] or ()
        assert owner.pid == pid
        with processes.borrow(owner) as twin:
            assert mp.mptcp_info(twin).token == token
        before, tasks = namespaces(), os.listdir("/proc/self/task")
        assert token not in [row.info.token for row in mp.mptcp_diag()]
        found = processes.in_netns(pid, mp.mptcp_diag)
        assert number in [row.inode for row in found]
        (listener,) = processes.in_netns(f"/proc/{pid}/ns/net", lambda: processes.listeners(port))
        assert listener.mptcp
        until(lambda: os.listdir("/proc/self/task") == tasks, "the end of the thread")
        assert namespaces() == before


def test_no_other_thread_is_moved(mptcp: None) -> None:
    """While one reads there, the others, and threads begun meanwhile, are where they were."""
    needs_root()
    with other_namespace() as (pid, *_):
        there, go_on = threading.Event(), threading.Event()
        here = set(namespaces())

        def stay() -> str:
            there.set()
            assert go_on.wait(DEADLINE)
            return os.readlink("/proc/thread-self/ns/net")

        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(processes.in_netns(pid, stay)), daemon=True)
        thread.start()
        assert there.wait(DEADLINE)
        assert processes.in_netns(os.getpid(), lambda: os.readlink("/proc/thread-self/ns/net")) in here
        assert os.readlink("/proc/self/ns/net") in here
        assert os.readlink("/proc/thread-self/ns/net") in here
        go_on.set()
        thread.join(DEADLINE)
        assert found == [os.readlink(f"/proc/{pid}/ns/net")]
        until(lambda: set(namespaces()) == here, "the end of the thread")


def test_what_a_function_raises_there_is_raised_here() -> None:
    """And a file that is no namespace is the kernel's EINVAL, with its name."""
    needs_root()
    tasks = os.listdir("/proc/self/task")
    with pytest.raises(ZeroDivisionError):
        processes.in_netns(os.getpid(), lambda: 1 // 0)
    with pytest.raises(OSError, match="setns: Invalid argument: '/dev/null'"):
        processes.in_netns("/dev/null", int)
    with pytest.raises(FileNotFoundError):
        processes.in_netns("/run/netns/there is no such", int)
    until(lambda: os.listdir("/proc/self/task") == tasks, "the end of the threads")


def test_without_privilege_no_namespace_is_entered() -> None:
    """EPERM for one's own, EACCES for that of a process of somebody else; function is not called."""
    needs_root()
    root = os.getpid()

    def look() -> None:
        become_nobody()
        with pytest.raises(PermissionError, match="CAP_SYS_ADMIN"):
            processes.in_netns("/proc/thread-self/ns/net", lambda: pytest.fail("called"))
        with pytest.raises(PermissionError, match=f"/proc/{root}/ns/net"):
            processes.in_netns(root, lambda: pytest.fail("called"))

    testing.in_child(look)
