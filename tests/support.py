# SPDX-License-Identifier: MIT
"""Real sockets, and child processes: in network namespaces of their own, or on a kernel that refuses."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pickle
import platform
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt.testing import in_private_network as in_private_network

T = TypeVar("T")
NOBODY = 65534

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
# Seconds that no wait takes, on a machine however busy: they tell a hang, and nothing else.
DEADLINE = 60.0


# Environments in which Python keeps what is printed for a while, and in which it writes it at once.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
BUFFERINGS = (_ENVIRONMENT, {**_ENVIRONMENT, "PYTHONUNBUFFERED": "1"})

# Everything that reads one socket.
FUNCTIONS: list[Any] = [
    mp.mptcp_info,
    mp.mptcp_tcpinfo,
    mp.mptcp_subflow_addrs,
    mp.mptcp_full_info,
    mp.is_mptcp,
    mp.status,
    mp.snapshot,
    lambda sock: mp.getsockopt_into(sock, mp.SOL_MPTCP, mp.MPTCP_INFO, bytearray(96)),
]


class Missing(Exception):  # noqa: N818  # turned into a skip, or a failure under --require-mptcp
    """Something this machine lacks."""


def no_option(error: mp.UnsupportedOptionError) -> Missing:
    """A test that an option is read in and that lets this go by needs a newer kernel."""
    return Missing(f"this kernel has no {error.option}")


def has_full_info() -> bool:
    """Whether this kernel is asked in vain for MPTCP_FULL_INFO: it came with 6.5."""
    with mp.create_socket(fallback=False) as sock:
        try:
            mp.mptcp_full_info(sock)
        except mp.UnsupportedOptionError:
            return False
        return True


def needs_full_info(full: bool = True) -> None:
    """This test, if full, is about what MPTCP_FULL_INFO answers."""
    if full and not has_full_info():
        raise Missing("this kernel has no MPTCP_FULL_INFO")


def needs(program: str, package: str) -> str:
    """The path of a program that this test runs."""
    path = shutil.which(program)
    if path is None and package in os.environ.get("MPTCP_SOCKOPT_GONE", "").split():
        pytest.skip(f"the mirror does not serve {package}")  # .ci/run could not install it, and says so
    if path is None:
        raise Missing(f"the program {program} ({package})")
    return path


def needs_loopback(family: socket.AddressFamily) -> None:
    """This test has sockets on the loopback address of a family; IPv6 may be switched off."""
    try:
        socket.create_server((LOOPBACK[family], 0), family=family).close()
    except OSError as error:
        raise Missing(f"no loopback of {family.name}: {error}") from None


def rounds(number: int) -> int:
    """How often to do what is worth repeating. Emulated guests say that they are, and do a tenth of it;
    .ci/run does a fifth, by MPTCP_SOCKOPT_FEWER=5."""
    emulated = os.environ.get("MPTCP_SOCKOPT_EMULATED")
    fewer = 10 if emulated else int(os.environ.get("MPTCP_SOCKOPT_FEWER", "1"))
    return max(1, number // fewer)


def until(truth: Callable[[], object], what: str) -> None:
    """Wait for what the kernel has under way; fail when it does not come."""
    deadline = time.monotonic() + DEADLINE / 2
    while not truth():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.002)


@contextlib.contextmanager
def at_work(function: Callable[..., object], *arguments: object) -> Iterator[threading.Thread]:
    """Call function in a thread beside the block, and wait for its end after it. One that hangs is a failure,
    and nothing that Python's own end waits for."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    yield thread
    thread.join(DEADLINE)
    if thread.is_alive():
        pytest.fail(f"a thread took more than {DEADLINE} s: {function}")


@contextlib.contextmanager
def started(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command beside the block, killed at its end if it has not ended by itself."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def connected(server: socket.socket, client: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connect client to server: the two ends, closed with the server at the end."""
    with server, client:
        client.settimeout(DEADLINE / 2)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(DEADLINE / 2)
            yield client, accepted


def mptcp_pair(family: int) -> contextlib.AbstractContextManager[tuple[socket.socket, socket.socket]]:
    server = mp.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family, fallback=False)
    return connected(server, mp.create_socket(family, fallback=False))


def fallback_pair(family: int) -> contextlib.AbstractContextManager[tuple[socket.socket, socket.socket]]:
    """An MPTCP client of a plain TCP server."""
    server = socket.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family)
    return connected(server, mp.create_socket(family, fallback=False))


def tcp_pair(family: int) -> contextlib.AbstractContextManager[tuple[socket.socket, socket.socket]]:
    server = socket.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family)
    return connected(server, socket.socket(socket.AddressFamily(family)))


@contextlib.contextmanager
def connections(number: int, family: int = socket.AF_INET) -> Iterator[list[socket.socket]]:
    """Both ends of that many connections, client before server."""
    with contextlib.ExitStack() as stack:
        address = (LOOPBACK[socket.AddressFamily(family)], 0)
        server = stack.enter_context(mp.create_server(address, family=family, fallback=False))
        ends = []
        for _ in range(number):
            client = mp.create_connection(server.getsockname()[:2], timeout=DEADLINE / 2, fallback=False)
            ends += [stack.enter_context(client), stack.enter_context(server.accept()[0])]
        yield ends


@contextlib.contextmanager
def full_listener(family: int) -> Iterator[tuple[str, int]]:
    """The address of a TCP listener whose accept queue is full, so that a SYN is dropped."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            socket.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family, backlog=0)
        )
        address = server.getsockname()[:2]
        stack.enter_context(socket.create_connection(address, timeout=5))
        yield address


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def listen_at(address: str, port: int) -> None:
    """Let the kernel make a listener of its own, for an endpoint that is announced with a port."""
    testing.add_endpoint(address, signal=True, port=port)


def exchange(client: socket.socket, server: socket.socket, size: int = 100) -> None:
    """Send size bytes each way, so that the connection is fully established."""
    for one, other in ((client, server), (server, client)):
        one.sendall(b"x" * size)
        left = size
        while left:
            left -= len(other.recv(left))


def reset(sock: socket.socket, peer: socket.socket) -> None:
    """Close sock with SO_LINGER 0; wait until peer was told. Some kernels send no more than a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    try:
        peer.recv(1)
    except ConnectionResetError:
        return
    raise Missing("a kernel that resets an MPTCP connection at SO_LINGER 0")


def needs_root() -> None:
    if os.getuid():
        raise Missing("root, to become another user or to enter a namespace")


def become_nobody() -> None:
    # pthread_exit() loads this at its first call. It may lie where only this user may read.
    with contextlib.suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1")
    try:
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise Missing("root, to become another user: this user namespace has only one") from None


class Child:
    """Another process: it says something, and waits until it may go on."""

    def __init__(self, work: Callable[[Child], object]) -> None:
        self._inward, outward = os.pipe()
        waiting, self._go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._inward)
            os.close(self._go)
            self._inward, self._go = waiting, outward
            self._work(work)
        os.close(outward)
        os.close(waiting)

    def _work(self, work: Callable[[Child], object]) -> NoReturn:
        try:
            work(self)
            self.wait()
        finally:
            os._exit(0)

    def say(self, *value: Any) -> None:
        data = pickle.dumps(value)
        os.write(self._go, struct.pack("=I", len(data)) + data)

    def wait(self) -> None:
        if not os.read(self._inward, 1):
            os._exit(0)

    def hear(self) -> Any:
        if not select.select([self._inward], [], [], DEADLINE)[0]:
            pytest.fail("a child said nothing")
        size = os.read(self._inward, 4)
        if not size:
            pytest.fail("a child died without a word")
        return pickle.loads(os.read(self._inward, struct.unpack("=I", size)[0]))

    def go_on(self) -> None:
        os.write(self._go, b"x")

    def end(self) -> None:
        for fd in (self._inward, self._go):
            os.close(fd)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@contextlib.contextmanager
def child(work: Callable[[Child], object]) -> Iterator[Child]:
    it = Child(work)
    try:
        yield it
    finally:
        it.end()


# A refusal: a system call, its arguments by position, and the errno that it gets from now on.
Refusal = tuple[str, Mapping[int, int], int]
_NAMES = ("socket", "getsockname", "getpeername", "setsockopt", "getsockopt", "ioctl", "seccomp", "mount")
_GENERIC = (198, 204, 205, 208, 209, 29, 277, 40)
_CALLS = {  # by machine, and by the bits of the process
    ("x86_64", 64): (41, 51, 52, 54, 55, 16, 317, 165),
    ("aarch64", 64): _GENERIC,
    ("riscv64", 64): _GENERIC,
    ("ppc64le", 64): (326, 331, 332, 339, 340, 54, 358, 21),
    ("armv7l", 32): (281, 286, 287, 294, 295, 54, 383, 21),
}


def where_refused(refusals: list[Refusal], function: Callable[[], T]) -> T:
    """Call function in a forked process to which the kernel (seccomp(2)) gives these errnos."""

    def inside() -> T:
        _refuse(refusals)
        return function()

    return testing.in_child(inside)


def calls() -> dict[str, int]:
    """The numbers of some system calls."""
    numbers = _CALLS.get((platform.machine(), 8 * struct.calcsize("P")))
    if numbers is None:
        raise Missing(f"a table of system calls for {platform.machine()}")
    everywhere = {"pidfd_open": 434, "close_range": 436, "pidfd_getfd": 438, "mount_setattr": 442}
    return {**dict(zip(_NAMES, numbers, strict=True)), **everywhere}


def _refuse(refusals: list[Refusal]) -> None:
    number_of = calls()
    load, jump_if_equal, give, allow, refuse = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000
    program = b""
    for call, arguments, number in refusals:
        # Offsets of struct seccomp_data: the number of the call, then the low word of each argument.
        words = {0: number_of[call], **{16 + 8 * n: value for n, value in arguments.items()}}
        for left, (offset, value) in zip(range(len(words), 0, -1), words.items(), strict=True):
            program += struct.pack("=HBBI", load, 0, 0, offset)
            program += struct.pack("=HBBI", jump_if_equal, 0, 2 * left - 1, value)
        program += struct.pack("=HBBI", give, 0, 0, refuse | number)
    program += struct.pack("=HBBI", give, 0, 0, allow)
    instructions = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("HP", len(program) // 8, ctypes.addressof(instructions)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    if prctl(no_new_privileges, 1, 0, 0, 0) or prctl(set_seccomp, filter_mode, ctypes.addressof(head), 0, 0):
        raise Missing(f"seccomp filters: {os.strerror(ctypes.get_errno())}")


def run(
    *command: str, timeout: float = 1.5 * DEADLINE, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output as text."""
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)  # type: ignore[call-overload, no-any-return]
