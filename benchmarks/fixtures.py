# SPDX-License-Identifier: MIT
"""What is put up before anything is measured: sockets in network namespaces of their own; floors.c, the cost
that nothing can go below; and what one would use instead, written as its users would, without handicap."""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import gc
import importlib
import os
import resource
import selectors
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from .measure import Missing, Variant

HERE = Path(__file__).resolve().parent
T = TypeVar("T")

MOST_SUBFLOWS = 9  # the initial one, and eight of the in-kernel path manager
PATIENCE = 10.0  # seconds, for what the kernel has under way


def apart(function: Callable[[], T], seconds: float) -> T:
    """Call function in a forked child, in a network namespace of its own, without garbage collection.

    Missing where there is no MPTCP or no such namespace.
    """
    support = mp.is_supported()
    if not support:
        raise Missing(f"no MPTCP here: {support.value}")

    def inside() -> T:
        gc.collect()
        gc.disable()
        return function()

    try:
        return testing.in_private_network(inside, within=seconds)
    except testing.UnavailableError as error:
        raise Missing(str(error)) from None


def listen(address: str = "127.0.0.1") -> socket.socket:
    return mp.create_server((address, 0), backlog=1024, fallback=False)


def pair(server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A connection that has carried a byte each way: it is fully established then."""
    client = mp.create_connection(server.getsockname(), timeout=PATIENCE, fallback=False)
    accepted, _ = server.accept()
    for one, other in ((client, accepted), (accepted, client)):
        one.sendall(b"x")
        other.recv(1)
    return client, accepted


@contextlib.contextmanager
def of_subflows(counts: range) -> Iterator[dict[int, tuple[socket.socket, socket.socket]]]:
    """Connections with that many subflows each, side by side: the client's and the server's end."""
    with contextlib.ExitStack() as kept:
        # Endpoints first: one that comes later would give the connections that are there a subflow too.
        for number in range(2, MOST_SUBFLOWS + 1):
            testing.add_endpoint(f"127.0.9.{number}")
        server = kept.enter_context(listen())  # stays open: MP_JOIN needs it
        pairs = {}
        for count in counts:
            testing.set_limits(count - 1, 0)
            pairs[count] = pair(server)
            for sock in pairs[count]:
                kept.enter_context(sock)
            await_subflows(pairs[count][0], count)
        for count, (client, _) in pairs.items():
            await_subflows(client, count)
        yield pairs


@contextlib.contextmanager
def without_mptcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection of plain TCP, and one of an MPTCP socket that fell back: each the client's end."""
    with contextlib.ExitStack() as kept:
        server = kept.enter_context(socket.create_server(("127.0.0.1", 0)))
        clients = []
        for connect in (socket.create_connection, mp.create_connection):
            client = kept.enter_context(connect(server.getsockname(), timeout=PATIENCE))
            accepted = kept.enter_context(server.accept()[0])
            client.sendall(b"x")
            accepted.recv(1)
            clients.append(client)
        tcp, fallen = clients
        yield tcp, fallen


def await_subflows(client: mp.SocketLike, count: int) -> None:
    try:
        testing.wait_for(client, subflows=count, within=PATIENCE)
    except TimeoutError as error:
        raise Missing(str(error)) from None


def allow_descriptors(count: int) -> None:
    """Missing where this process may not have so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 64
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Missing(f"{needed} descriptors: the hard limit is {hard} (ulimit -Hn)")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def grow(socks: list[socket.socket], count: int) -> None:
    """Connect MPTCP sockets until there are so many; both ends of each connection are in the list."""
    allow_descriptors(count)
    with listen() as server:
        while len(socks) < count:
            socks += pair(server)


# --------------------------------------------------------------------------------- connections at work


@contextlib.contextmanager
def saturated() -> Iterator[socket.socket]:
    """A connection that a child fills and another empties, as fast as they can. What is sampled is the
    sender's end, which this process has too."""
    with of_subflows(range(4, 5)) as pairs:
        client, accepted = pairs[4]
        for sock in (client, accepted):
            sock.settimeout(None)
        with testing.Child(lambda: fill(client)), testing.Child(lambda: drain(accepted)):
            deadline = time.monotonic() + 5
            while (mp.mptcp_info(client).bytes_sent or 0) < 50_000_000:
                if time.monotonic() > deadline:
                    raise Missing("a connection that can be saturated (or Linux 6.5, which counts bytes)")
                time.sleep(0.01)
            yield client


def fill(sock: socket.socket) -> None:
    data = bytes(1 << 18)
    while True:
        sock.send(data)


def drain(sock: socket.socket) -> None:
    room = bytearray(1 << 18)
    while sock.recv_into(room):
        pass


def serve(servers: list[socket.socket], count: int) -> None:
    """Accept for ever, answer a byte with a byte, close what the peer has closed."""
    allow_descriptors(count)
    selector = selectors.DefaultSelector()

    def accept(server: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            selector.register(server.accept()[0], selectors.EVENT_READ, answer)

    def answer(sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            if data := sock.recv(64):
                sock.sendall(data)
                return
        selector.unregister(sock)
        sock.close()

    for server in servers:
        server.setblocking(False)
        selector.register(server, selectors.EVENT_READ, accept)
    while True:
        for key, _ in selector.select():
            key.data(key.fileobj)


def connect(server: tuple[str, int]) -> socket.socket:
    client = mp.create_connection(server, timeout=PATIENCE, fallback=False)
    client.sendall(b"x")
    client.recv(1)
    return client


# ----------------------------------------------------------------------------------------- the floors in C

C_CALLS = ("null", "so_type", "info", "tcpinfo", "subflow_addrs", "full_info")


@functools.cache
def c_library(name: str = "floors") -> ctypes.CDLL:
    """Compiled once a process tree: children inherit it."""
    if shutil.which("cc") is None:
        raise Missing("no C compiler (cc): the floors are written in C")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"{name}.so"
        flags = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC", f"-I{HERE.parent / 'csrc'}"]
        command = ["cc", *flags, str(HERE / f"{name}.c"), "-o", str(made)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Missing(f"cc does not compile benchmarks/{name}.c: {done.stderr.strip()}")
        return ctypes.CDLL(str(made))


def c_call(name: str, sock: socket.socket) -> Variant:
    """The C call of that name (C_CALLS) on one socket. Missing where the kernel refuses it."""
    fd = sock.fileno()
    call: Callable[[int, int], int] = c_library()[f"floor_{name}"]
    if call(fd, 1) < 0:
        raise Missing(f"the kernel refuses the C call of {name}")
    return lambda n: call(fd, n)


def c_loop(socks: Sequence[socket.socket]) -> Variant:
    """MPTCP_INFO of all of them, in a C loop, into one array."""
    call: Callable[..., int] = c_library().floor_loop
    numbers = array.array("i", [sock.fileno() for sock in socks])
    infos = ctypes.create_string_buffer(c_library().floor_info_size() * len(numbers))
    first = ctypes.c_void_p(numbers.buffer_info()[0])

    def variant(n: int) -> array.array[int]:
        if call(first, len(numbers), infos, n) != len(numbers):
            raise RuntimeError("a socket did not answer MPTCP_INFO")
        return numbers  # which must live as long as the call

    return variant


# ------------------------------------------------------------------------------- the standard library

SOL_MPTCP, MPTCP_INFO = 284, 1
INFO = struct.Struct("=6B2xIIQQQ3BxIQQQQ4BIII")  # struct mptcp_info of Linux 6.19


def stdlib(sock: socket.socket) -> Variant:
    """getsockopt and unpack, in line."""

    def variant(n: int) -> None:
        unpack = INFO.unpack
        for _ in range(n):
            unpack(sock.getsockopt(284, 1, 96))

    return variant


def stdlib_loop(socks: Sequence[socket.socket]) -> int:
    """The same for many."""
    unpack = INFO.unpack
    return len([unpack(sock.getsockopt(284, 1, 96)) for sock in socks])


# --------------------------------------------------------------------------------------------- ctypes


class _Info(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint8) for name in ("subflows", "signal", "accepted", "max", "smax", "amax")),
        *((name, ctypes.c_uint32) for name in ("flags", "token")),
        *((name, ctypes.c_uint64) for name in ("write_seq", "snd_una", "rcv_nxt")),
        *((name, ctypes.c_uint8) for name in ("local_addr_used", "local_addr_max", "csum_enabled")),
        ("retransmits", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("bytes_retrans", "bytes_sent", "received", "bytes_acked")),
        *((name, ctypes.c_uint8) for name in ("subflows_total", "laminar_max", "fullmesh_max", "reserved")),
        *((name, ctypes.c_uint32) for name in ("last_data_sent", "last_data_recv", "last_ack_recv")),
    ]


_Buffer = ctypes.c_char * 96
_new_bytes: Callable[[type[mp.MPTCPInfo], memoryview], mp.MPTCPInfo] = bytes.__new__  # type: ignore[assignment]
_getsockopt = ctypes.CDLL(None, use_errno=True).getsockopt
_getsockopt.argtypes = [
    ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32)
]  # fmt: skip


def ctypes_structure(sock: socket.socket) -> _Info:
    """A struct of ctypes that decodes when it is looked at: the least that ctypes can do."""
    info = _Info()
    length = ctypes.c_uint32(ctypes.sizeof(info))
    if _getsockopt(sock.fileno(), SOL_MPTCP, MPTCP_INFO, ctypes.byref(info), ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return info


def ctypes_same_result(sock: socket.socket) -> mp.MPTCPInfo:
    """Into bytes, and from there the immutable result of mptcp_info()."""
    buffer = _Buffer()
    length = ctypes.c_uint32(ctypes.sizeof(buffer))
    if _getsockopt(sock.fileno(), SOL_MPTCP, MPTCP_INFO, ctypes.byref(buffer), ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    # Not MPTCPInfo(...), which would check its argument.
    return _new_bytes(mp.MPTCPInfo, memoryview(buffer)[: length.value])


# ------------------------------------------------------------------------------------------------- ss


def ss(*arguments: str) -> list[dict[str, str]]:
    """`ss -M -i -n -H`, parsed: a dictionary for every socket. Missing where there is no ss."""
    if shutil.which("ss") is None:
        raise Missing("no ss (iproute2)")
    command = ["ss", "-M", "-i", "-n", "-H", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"ss -M -i fails: {done.stderr.strip()}")
    return parse_ss(done.stdout)


def parse_ss(text: str) -> list[dict[str, str]]:
    """Each socket's line, and the words `name:value` of it and of the indented line that follows."""
    rows: list[dict[str, str]] = []
    for line in text.splitlines():
        words = line.split()
        if not line[0].isspace():
            rows.append({"state": words[0], "local": words[3], "peer": words[4]})
            words = words[5:]
        rows[-1].update(word.partition(":")[::2] for word in words)
    return rows


# ------------------------------------------------------------------------------------------- mptcplib


def mptcplib() -> Callable[[socket.socket], Any]:
    """Its get_nb_used_subflows(), which runs `uname` and `sysctl` at each call. Missing where it is not
    installed."""
    for command in ("uname", "sysctl"):
        if shutil.which(command) is None:
            raise Missing(f"no {command}, which mptcplib runs")
    try:
        function: Callable[[socket.socket], Any] = importlib.import_module("mptcplib").get_nb_used_subflows
    except ImportError as error:
        raise Missing(f"mptcplib is not installed (pip install '.[bench]'): {error}") from None
    return function
