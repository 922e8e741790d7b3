# SPDX-License-Identifier: MIT
"""Both ends of a connection, as a program in C and a program in Python have them: what cost.py measures."""

from __future__ import annotations

import ctypes
import pickle
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from . import fixtures

_SMALL, _LARGE = 64, 1 << 18  # as in ends.c


class Program(Protocol):
    """What either does, on blocking sockets. The two ends of each are: ask and answer, pour and drain, open
    and accept."""

    def ask(self, sock: socket.socket, count: int) -> Sequence[int]:
        """A small request and its answer, many times: how long each took, in ns."""

    def answer(self, sock: socket.socket, count: int) -> None: ...

    def pour(self, sock: socket.socket, count: int) -> None:
        """So many bytes, until all were read."""

    def drain(self, sock: socket.socket, count: int) -> None: ...

    def open(self, address: tuple[str, int], protocol: int, count: int) -> None:
        """Connections, each of which has carried a byte each way. They stay until close()."""

    def accept(self, listener: socket.socket, count: int) -> None: ...

    def close(self) -> None: ...

    def opened(self) -> Sequence[mp.SocketLike]: ...


class InPython:
    """With the standard library's sockets, as it is usually written."""

    def __init__(self) -> None:
        self._data = bytes(_LARGE)
        self._room = bytearray(_LARGE)
        self._opened: list[socket.socket] = []

    def ask(self, sock: socket.socket, count: int) -> Sequence[int]:
        request, times = self._data[:_SMALL], []
        for _ in range(count):
            begun = time.perf_counter_ns()
            sock.sendall(request)
            received(sock, _SMALL)
            times.append(time.perf_counter_ns() - begun)
        return times

    def answer(self, sock: socket.socket, count: int) -> None:
        for _ in range(count):
            sock.sendall(received(sock, _SMALL))

    def pour(self, sock: socket.socket, count: int) -> None:
        data = memoryview(self._data)
        while count > 0:
            count -= sock.send(data[:count])
        received(sock, 1)

    def drain(self, sock: socket.socket, count: int) -> None:
        while count > 0:
            came = sock.recv_into(self._room)
            if not came:
                raise EOFError("the other end has closed")
            count -= came
        sock.sendall(b"x")

    def open(self, address: tuple[str, int], protocol: int, count: int) -> None:
        for _ in range(count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
            self._opened.append(sock)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(b"x")
            received(sock, 1)

    def accept(self, listener: socket.socket, count: int) -> None:
        for _ in range(count):
            sock, _ = listener.accept()
            self._opened.append(sock)
            sock.sendall(received(sock, 1))

    def close(self) -> None:
        for sock in self._opened:
            sock.close()
        self._opened.clear()

    def opened(self) -> Sequence[mp.SocketLike]:
        return self._opened


def received(sock: socket.socket, size: int) -> bytes:
    data = sock.recv(size, socket.MSG_WAITALL)
    if len(data) != size:
        raise EOFError("the other end has closed")
    return data


class InC:
    """The functions of ends.c, whose loops run without Python. Missing where there is no compiler."""

    def __init__(self) -> None:
        self._library = fixtures.c_library("ends")
        self._opened: list[int] = []

    def _call(self, name: str, *arguments: object) -> None:
        function: Callable[..., int] = self._library[f"end_{name}"]
        if function(*arguments):
            raise OSError(f"end_{name}() of ends.c failed")

    def ask(self, sock: socket.socket, count: int) -> Sequence[int]:
        times = (ctypes.c_int64 * count)()
        self._call("ask", sock.fileno(), count, times)
        return list(times)

    def answer(self, sock: socket.socket, count: int) -> None:
        self._call("answer", sock.fileno(), count)

    def pour(self, sock: socket.socket, count: int) -> None:
        self._call("pour", sock.fileno(), ctypes.c_int64(count))

    def drain(self, sock: socket.socket, count: int) -> None:
        self._call("drain", sock.fileno(), ctypes.c_int64(count))

    def open(self, address: tuple[str, int], protocol: int, count: int) -> None:
        host, port = address
        fds = (ctypes.c_int * count)()
        self._call("open", socket.inet_aton(host), port, protocol, count, fds)
        self._opened += fds

    def accept(self, listener: socket.socket, count: int) -> None:
        fds = (ctypes.c_int * count)()
        self._call("accept", listener.fileno(), count, fds)
        self._opened += fds

    def close(self) -> None:
        self._call("close", len(self._opened), (ctypes.c_int * len(self._opened))(*self._opened))
        self._opened.clear()

    def opened(self) -> Sequence[mp.SocketLike]:
        return self._opened


class Far:
    """``with Far(programs, sockets) as far:`` has the far ends in a process of their own, forked here."""

    def __init__(self, programs: Mapping[str, Program], sockets: Mapping[str, socket.socket]) -> None:
        self._here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)

        def serve() -> None:
            self._here.close()  # the end of the other process is then seen here
            while order := there.recv(1 << 16):
                program, method, key, arguments = pickle.loads(order)
                subject = (sockets[key],) if key else ()
                begun = time.thread_time_ns()
                getattr(programs[program], method)(*subject, *arguments)
                there.send(str(time.thread_time_ns() - begun).encode())

        self._child: testing.Child[None] = testing.Child(serve)
        there.close()

    def order(self, program: str, method: str, key: str = "", *arguments: Any) -> None:
        """Have it done; took() waits until it is."""
        self._here.send(pickle.dumps((program, method, key, arguments)))

    def took(self) -> int:
        """CPU time of what was ordered, in ns."""
        self._here.settimeout(60)
        answer = self._here.recv(64)
        if not answer:
            self._child.result(5)  # raises what happened there
        return int(answer)

    def __enter__(self) -> Far:
        return self

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._child.end()
