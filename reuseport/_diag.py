# SPDX-License-Identifier: MIT
"""What the kernel and /proc tell about a port, without privilege: listeners, handshakes in flight, owners.

sock_diag(7), inet_diag version 2 (linux/inet_diag.h): one request, one dump, nothing kept. The answers are
about the network namespace of the calling process.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import mptcp_sockopt

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLM_F_DUMP_INTR = 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SKV6ONLY = 11
_ESTABLISHED, _SYN_RECV, _CLOSE_WAIT, _LISTEN = 1 << 1, 1 << 3, 1 << 8, 1 << 10
_NOT_LISTENING = 0x3FFF & ~_LISTEN  # with those bound only (1 << 13), which Linux tells since 6.8

_HEADER = struct.Struct("=IHHII")  # nlmsghdr
# Both hold an inet_diag_sockid: ports and addresses (network order), interface, cookie.
_REQUEST = struct.Struct("=BBBxI 2s2s16s16sIQ")  # inet_diag_req_v2
_MESSAGE = struct.Struct("=BBBB 2s2s16s16sIQ IIIII")  # inet_diag_msg
_ATTEMPTS = 10
_MOST = 1 << 26  # bytes of an answer: half a million sockets of one port
_LEAST = 1 << 12  # what a datagram counts for, however little it brings

Address = tuple[str, int]


class Listener(NamedTuple):
    """A socket in state LISTEN."""

    family: int
    host: str
    port: int
    queue: int
    """Established connections that wait for accept()."""
    backlog: int
    """The queue is full when it is longer than this."""
    uid: int
    inode: int
    cookie: int
    interface: int
    """Index of the interface it is bound to, or 0."""
    v6only: bool | None
    """None for IPv4."""
    mptcp: bool | None = None
    """None: not asked, or not told."""
    unknown: str | None = None
    """Why mptcp was not told."""


class Handshake(NamedTuple):
    """A connection in state SYN_RECV: the SYN was answered, the ACK is awaited."""

    local: Address
    remote: Address


class Holder(NamedTuple):
    """A socket that has a local port and does not listen."""

    state: int
    """A number of TCPState; CLOSE is bound and no more."""
    local: Address
    remote: Address
    seconds: float
    """In TIME_WAIT: until its end."""
    inode: int
    """0: no process has it any more."""


class Owner(NamedTuple):
    """A descriptor of a socket."""

    pid: int
    fd: int
    command: str
    """/proc/PID/comm: 15 bytes at most."""


def listeners(port: int) -> list[Listener]:
    """All TCP and MPTCP listeners on a port, IPv4 first; OSError where sock_diag is not to be had."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        for body in _dump(family, _LISTEN, port):
            fields = _MESSAGE.unpack_from(body)
            local, _ = _addresses(fields)
            queue, backlog, uid, inode = fields[11:]
            v6only = _attributes(body[_MESSAGE.size :]).get(_SKV6ONLY)
            found.append(
                Listener(
                    family=int(family),
                    host=local[0],
                    port=local[1],
                    queue=queue,
                    backlog=backlog,
                    uid=uid,
                    inode=inode,
                    cookie=fields[9],
                    interface=fields[8],
                    v6only=bool(v6only[0]) if v6only and family == socket.AF_INET6 else None,
                )
            )
    return found


def with_protocols(port: int) -> list[Listener]:
    """listeners(), each MPTCP or not, or why that is not told. (In TCP's table they are all TCP sockets.)

    The port is looked at before and after: what was there both times was there when MPTCP's were listed.
    """
    for _ in range(_ATTEMPTS):
        before = {listener.inode for listener in listeners(port)}
        mptcp, missing = _mptcp_inodes()
        after = listeners(port)
        if before >= {listener.inode for listener in after}:
            break
    found = []
    for listener in after:
        if listener.inode in mptcp:
            found.append(listener._replace(mptcp=True))
        elif missing or listener.inode not in before:
            reason = missing or "it began to listen meanwhile"
            found.append(listener._replace(unknown=f"MPTCP or TCP is not known: {reason}"))
        else:
            found.append(listener._replace(mptcp=False))
    return found


def _mptcp_inodes() -> tuple[frozenset[int], str | None]:
    """The inodes of MPTCP listeners, which the TCP sockets inside have too, and why there may be others."""
    try:
        found = mptcp_sockopt.mptcp_diag(listening=True)
    except mptcp_sockopt.UnsupportedOptionError:
        return frozenset(), "this kernel cannot list its MPTCP sockets"
    return frozenset(row.inode for row in found if row.state == mptcp_sockopt.TCPState.LISTEN), found.missing


def holders(port: int) -> list[Holder]:
    """What else has a local port: sockets bound only (from Linux 6.8), connected, or in TIME_WAIT."""
    return [
        Holder(fields[1], *_addresses(fields), fields[10] / 1000, fields[14])
        for family in (socket.AF_INET, socket.AF_INET6)
        for fields in map(_MESSAGE.unpack_from, _dump(family, _NOT_LISTENING, port))
    ]


def syn_received(port: int) -> frozenset[Handshake]:
    """The handshakes in flight to a local port, of both families and protocols.

    A handshake leaves this set when its connection has come into the accept queue, when it was reset, or
    when the kernel gave it up (63 s with the default of tcp_synack_retries). IPv4 clients of a dual-stack
    listener are ``::ffff:`` addresses. SYN cookies leave no trace here. OSError where sock_diag is not to
    be had.
    """
    return frozenset(
        Handshake(*_addresses(_MESSAGE.unpack_from(body)))
        for family in (socket.AF_INET, socket.AF_INET6)
        for body in _dump(family, _SYN_RECV, port)
    )


def unaccepted(port: int) -> frozenset[int]:
    """The cookies of the connections that wait in the accept queues of a port: they have no inode yet.

    Those that were reset while they waited are in a queue still, but not here.
    """
    bodies = itertools.chain.from_iterable(
        _dump(family, _ESTABLISHED | _CLOSE_WAIT, port) for family in (socket.AF_INET, socket.AF_INET6)
    )
    return frozenset(fields[9] for fields in map(_MESSAGE.unpack_from, bodies) if fields[14] == 0)


def accepted(port: int, client: Address) -> int | None:
    """The inode of the server's end of a client's connection; None until somebody has accepted it."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for body in _dump(family, _ESTABLISHED, port):
            fields = _MESSAGE.unpack_from(body)
            if fields[14] and _addresses(fields)[1] in (client, (f"::ffff:{client[0]}", client[1])):
                return int(fields[14])
    return None


def owners(inodes: Iterable[int]) -> tuple[dict[int, list[Owner]], int]:
    """Who holds these sockets, by inode, and how many processes could not be looked into.

    An inode without a readable owner is absent. A process needs the caller's uid, or the caller
    CAP_SYS_PTRACE, to be read. A descriptor table that a thread has for itself is not looked into.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, list[Owner]] = {}
    unreadable = 0
    for pid in _numbers("/proc"):
        try:
            for fd, link in _descriptors(pid):
                inode = wanted.get(link)
                if inode is not None:
                    found.setdefault(inode, []).append(Owner(pid, fd, _command(pid)))
        except PermissionError:
            unreadable += 1
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended meanwhile
    return found, unreadable


def hidden() -> str | None:
    """Why /proc does not show this user every process; None if it does."""
    if not os.path.exists("/proc/self"):
        mounted = os.path.exists("/proc/version")
        return "/proc is another PID namespace's" if mounted else "/proc is not mounted"
    if os.path.exists("/proc/1"):  # every PID namespace has it
        return None
    with open("/proc/self/mounts", errors="replace") as file:
        options = [line.split()[3] for line in file if line.split()[1] == "/proc"]
    hidepid = [word for word in ",".join(options[-1:]).split(",") if word.startswith("hidepid=")]
    return " ".join(["/proc hides processes from this user", *(f"({word})" for word in hidepid)])


def _numbers(directory: str) -> list[int]:
    try:
        return sorted(int(entry) for entry in os.listdir(directory) if entry.isdigit())
    except (FileNotFoundError, ProcessLookupError):
        return []  # there is no /proc, or it ended meanwhile


def _descriptors(pid: int) -> Iterator[tuple[int, str]]:
    """The descriptors of a process and what they are; those of its threads once its main thread has ended."""
    directory = f"/proc/{pid}/fd"
    fds = _numbers(directory)
    for tid in () if fds else _numbers(f"/proc/{pid}/task"):
        directory = f"/proc/{pid}/task/{tid}/fd"
        if fds := _numbers(directory):
            break  # the other threads share this table
    for fd in fds:
        yield fd, _link(f"{directory}/{fd}")


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""  # closed meanwhile


def _command(pid: int) -> str:
    with open(f"/proc/{pid}/comm", errors="replace") as file:
        return re.sub(r"[^ -~]", "?", file.read().rstrip("\n"))  # any process may put anything there


# ---------------------------------------------------------------------------------------------- netlink


def _dump(family: int, states: int, port: int) -> list[bytes]:
    """inet_diag_msg and attributes of every TCP socket of that family, states and local port.

    Those of MPTCP connections and listeners too: their subflows are TCP sockets.
    """
    tcp, sport, none = socket.IPPROTO_TCP, port.to_bytes(2, "big"), bytes(16)
    request = _REQUEST.pack(family, tcp, 0, states, sport, bytes(2), none, none, 0, 2**64 - 1)
    header = _HEADER.pack(
        _HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0
    )
    for _ in range(_ATTEMPTS):
        with _open() as netlink:
            netlink.settimeout(5)
            netlink.send(header + request)
            bodies = _answer(netlink)
        if bodies is not None:
            return bodies
    raise OSError(errno.EAGAIN, f"sock_diag: the sockets changed during each of {_ATTEMPTS} dumps")


def _open() -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    except OSError as error:
        raise OSError(error.errno, f"socket(AF_NETLINK): {error.strerror}") from None


def _answer(netlink: socket.socket) -> list[bytes] | None:
    """The payloads of a dump; None if it was interrupted by a change, and has to be asked for again.

    OSError for what is no answer, and for one without an end: it is EMSGSIZE beyond _MOST bytes.
    """
    bodies: list[bytes] = []
    interrupted, room = False, _MOST
    while room > 0:
        data = netlink.recv(1 << 16)
        room -= max(len(data), _LEAST)
        for kind, flags, body in _messages(data):
            interrupted |= bool(flags & _NLM_F_DUMP_INTR)
            if kind == _NLMSG_ERROR or (kind == _NLMSG_DONE and len(body) >= 4):
                (error,) = struct.unpack_from("=i", body.ljust(4, b"\0"))
                if error < 0:
                    raise OSError(-error, f"sock_diag: {os.strerror(-error)}")
            if kind == _NLMSG_ERROR:
                raise _broken("an error without a number")
            if kind == _NLMSG_DONE:
                return None if interrupted else bodies
            if kind == _SOCK_DIAG_BY_FAMILY:
                if len(body) < _MESSAGE.size:
                    raise _broken(f"{len(body)} bytes about a socket")
                bodies.append(body)
    raise OSError(errno.EMSGSIZE, f"sock_diag: the sockets of this port take more than {_MOST >> 20} MiB")


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    while data:
        if len(data) < _HEADER.size:
            raise _broken(f"{len(data)} bytes left, less than a header")
        length, kind, flags, _, _ = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            raise _broken(f"a message of {length} bytes, of which {len(data)} are there")
        yield kind, flags, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        length, kind = struct.unpack_from("=HH", data.ljust(4, b"\0"))
        if not 4 <= length <= len(data):
            raise _broken(f"an attribute of {length} bytes, of which {len(data)} are there")
        found[kind] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _broken(found: str) -> OSError:
    return OSError(errno.EPROTO, f"sock_diag: {found}")


def _addresses(fields: tuple[Any, ...]) -> tuple[Address, Address]:
    """Local and remote of an unpacked inet_diag_msg."""
    family, (sport, dport, src, dst) = fields[0], fields[4:8]
    size = 4 if family == socket.AF_INET else 16

    def address(host: bytes, port: bytes) -> Address:
        return socket.inet_ntop(family, host[:size]), int.from_bytes(port, "big")

    return address(src, sport), address(dst, dport)
