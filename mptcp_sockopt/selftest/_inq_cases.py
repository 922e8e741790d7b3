# SPDX-License-Identifier: MIT
"""Self test cases for queue sizes: TCP_INQ, SIOCINQ and SIOCOUTQ.

The checks of the kernel's own mptcp_inq.c, between MPTCP and TCP in both directions. Uses only public names
of mptcp_sockopt.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import random
import select
import socket
import struct
import termios
from typing import NamedTuple

from ._cases import eventually, pair, room, size_within
from ._ktap import Skip, check, named

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

TCP_INQ = TCP_CM_INQ = 36  # linux/tcp.h
SIOCINQ, SIOCOUTQ, SIOCOUTQNSD = termios.FIONREAD, termios.TIOCOUTQ, 0x894B  # linux/sockios.h


class Kind(NamedTuple):
    """Which side speaks MPTCP."""

    client: bool
    server: bool

    def __str__(self) -> str:
        return " to ".join("MPTCP" if is_mptcp else "TCP" for is_mptcp in self)


KINDS = (Kind(True, True), Kind(False, True), Kind(True, False), Kind(False, False))


@contextlib.contextmanager
def stream(family: int, kind: Kind) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client that sends, and the server's socket; each read there reports what is left (TCP_INQ)."""
    with pair(family, client=kind.client, server=kind.server) as ends:
        for sock in ends:
            try:
                sock.setsockopt(socket.SOL_TCP, TCP_INQ, 1)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOPROTOOPT):
                    raise
                raise Skip("this kernel has no TCP_INQ on MPTCP sockets (Linux 5.17)") from None
        yield ends


def queued(sock: socket.socket, request: int) -> int:
    """The result of SIOCINQ, SIOCOUTQ or SIOCOUTQNSD, in bytes."""
    buffer = bytearray(4)
    fcntl.ioctl(sock, request, buffer)
    (count,) = struct.unpack("=i", buffer)
    return int(count)


def read(sock: socket.socket, size: int) -> tuple[bytes, int]:
    """Data, and the number of bytes that the kernel says are left after it."""
    data, messages, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(4))
    for level, kind, value in messages:
        if (level, kind) == (socket.SOL_TCP, TCP_CM_INQ):
            return data, int(struct.unpack("=i", value)[0])
    check(False, f"no TCP_CM_INQ was received with {len(data)} bytes")
    raise AssertionError


@named("SIOCINQ, TCP_INQ: exact number of unread bytes")
def waiting(family: int, kind: Kind) -> None:
    with stream(family, kind) as (client, server):
        size = size_within(room(server), 128, 4096)
        client.sendall(bytes(size))
        eventually(lambda: queued(server, SIOCINQ) >= size)
        waits = queued(server, SIOCINQ)
        check(waits == size, f"SIOCINQ is {waits}, {size} bytes were sent")
        for asked, left in ((1, size - 1), (4096, 0)):
            before = queued(server, SIOCINQ)
            data, inq = read(server, asked)
            check(len(data) == min(asked, before), f"{len(data)} bytes read of {before}, room for {asked}")
            check(inq == left, f"TCP_INQ is {inq}, not {left}")
        waits = queued(server, SIOCINQ)
        check(waits == 0, f"SIOCINQ is {waits} after everything was read")


@named("TCP_INQ: never more than what is left")
def streaming(family: int, kind: Kind) -> None:
    chunk = bytes(1 << 16)
    with stream(family, kind) as (client, server):
        # With small buffers, only a few of them pass in a second.
        few = 4 * room(server)
        size = few if few < 1 << 14 else (1 << 20) + random.randrange(1 << 20)
        sent = received = 0
        while received < size:
            if sent < size:
                with contextlib.suppress(BlockingIOError):
                    sent += client.send(chunk[: size - sent], socket.MSG_DONTWAIT)
            if sent == received:
                select.select([], [client], [])
                continue
            data, inq = read(server, 4096)
            check(data, f"the stream ended after {received} of {size} bytes")
            received += len(data)
            check(0 <= inq <= sent - received, f"TCP_INQ is {inq}, but {sent - received} bytes were left")
        check(inq == 0, f"TCP_INQ is {inq} after the last byte")


@named("SIOCOUTQ: at most what was sent; 0 when acknowledged")
def sending(family: int, kind: Kind) -> None:
    with stream(family, kind) as (client, server):
        size = size_within(room(server), 1 << 13, 1 << 14)
        client.sendall(bytes(size))

        def drained() -> bool:
            waits, unsent = queued(client, SIOCOUTQ), queued(client, SIOCOUTQNSD)
            check(0 <= waits <= size, f"SIOCOUTQ is {waits}, {size} bytes were sent")
            check(0 <= unsent <= waits, f"SIOCOUTQNSD is {unsent}, SIOCOUTQ {waits}")
            return waits == 0

        drained()
        left = size
        while left:
            left -= len(server.recv(left))
        check(eventually(drained), f"SIOCOUTQ is {queued(client, SIOCOUTQ)} after everything was read")


@named("TCP_INQ: 1 at the end of the stream")
def ending(family: int, kind: Kind) -> None:
    with stream(family, kind) as (client, server):
        client.sendall(b"x")
        client.close()
        poll = select.poll()
        poll.register(server, select.POLLRDHUP)
        check(eventually(lambda: bool(poll.poll(0))), "the end of the stream did not arrive")
        for expected in (b"x", b""):
            data, inq = read(server, 1)
            check(data == expected, f"{data!r} was read, not {expected!r}")
            check(inq == 1, f"TCP_INQ is {inq} with {data!r}, not 1")


CASES = (waiting, streaming, sending, ending)
