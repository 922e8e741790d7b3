# SPDX-License-Identifier: MIT
"""Self test cases that look at one end of a connection.

The checks of the kernel's own mptcp_sockopt.c come first. Unlike that program, they add up what they read,
allow for retransmissions, and tolerate a path manager that adds subflows. Uses only public names of
mptcp_sockopt.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import random
import socket
import struct
import time

import mptcp_sockopt as mp

from ._ktap import Skip, check, named

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOPBACK: dict[int, str] = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
PATIENCE = 5.0  # seconds to wait for the kernel
_PAUSE = 0.005


class End:
    """One end of the connection under test, and how many bytes it has sent and received."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.start = mp.mptcp_info(sock)
        self.sent = 0
        self.received = 0
        self.fin = 0  # 1 after the peer's FIN, which takes a sequence number


def eventually(truth: Callable[[], bool]) -> bool:
    """Whether truth() becomes true while we wait for the kernel.

    Counts attempts, not seconds: time in which this process is stopped does not use them up.
    """
    for _ in range(round(PATIENCE / _PAUSE)):
        if truth():
            return True
        time.sleep(_PAUSE)
    return truth()


def room(sock: socket.socket) -> int:
    """How many bytes are certain to fit in this socket's receive queue, even with a small net.ipv4.tcp_rmem.

    SO_RCVBUF counts kernel memory, which is several times the payload, and the window is half of it. Beyond
    that, the sender has to wait, and data that did not fit is sent, and counted, again.
    """
    return max(4, sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 8)


def size_within(room: int, least: int, most: int) -> int:
    """A random size between least and most, but less if room is less; at least 2."""
    return random.randrange(min(least, room // 2), min(most, room))


@contextlib.contextmanager
def pair(
    family: int, *, client: bool = True, server: bool = True, source: str = ""
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection, the client's first: each is an MPTCP socket or, if said, one of TCP."""
    listen = functools.partial(mp.create_server, fallback=False) if server else socket.create_server
    connect = functools.partial(mp.create_connection, fallback=False) if client else socket.create_connection
    with (
        listen((LOOPBACK[family], 0), family=family) as listener,
        connect(listener.getsockname()[:2], source_address=(source, 0) if source else None) as one,
        listener.accept()[0] as other,
    ):
        yield one, other


# ------------------------------------------------------------------------- cases: the three old options


@named("MPTCP_INFO: sequence numbers match the payload")
def info(end: End) -> None:
    now = mp.mptcp_info(end.sock)
    check(now.flags & mp.InfoFlag.REMOTE_KEY_RECEIVED, f"flags are {now.flags}: the peer's key is missing")
    check(now.token, "the token is 0")
    moved = (now.write_seq - end.start.write_seq) % 2**64
    check(moved == end.sent, f"write_seq moved by {moved}, {end.sent} bytes were written")
    want = end.received + end.fin
    moved = (now.rcv_nxt - end.start.rcv_nxt) % 2**64
    check(moved == want, f"rcv_nxt moved by {moved}, {end.received} bytes and {end.fin} FIN were received")


@named("MPTCP_INFO: cut to the requested length")
def info_length(end: End) -> None:
    cut_to_the_room(end.sock, mp.MPTCP_INFO, 0)


def cut_to_the_room(sock: socket.socket, option: int, least: int) -> int:
    """Check that every length from least on is accepted, and just as much is written; returns the longest."""
    whole = mp.getsockopt_into(sock, mp.SOL_MPTCP, option, bytearray(1024))
    for asked in (least, least + 1, whole - 1, whole, whole + 1, whole + len(FILLER)):
        buffer = bytearray(1024)
        buffer[least:] = FILLER[:1] * (1024 - least)
        length = mp.getsockopt_into(sock, mp.SOL_MPTCP, option, buffer, asked)
        check(length == min(asked, whole), f"the length is {length}, {asked} of {whole} bytes were requested")
        check(not buffer[length:].strip(FILLER[:1]), f"more than {length} bytes were written")
    return whole


@named("MPTCP_INFO: byte counters match the payload")
def counters(end: End) -> None:
    now = mp.mptcp_info(end.sock)
    if now.bytes_sent is None:
        raise Skip("this kernel has no byte counters (Linux 6.5)")
    check(now.bytes_sent == end.sent, f"bytes_sent is {now.bytes_sent}, {end.sent} were written")
    check(now.bytes_received == end.received, f"bytes_received is {now.bytes_received}, not {end.received}")
    eventually(lambda: mp.mptcp_info(end.sock).bytes_acked == end.sent)
    acked = mp.mptcp_info(end.sock).bytes_acked
    check(acked == end.sent, f"bytes_acked is {acked}, {end.sent} were written and no FIN")


@named("MPTCP_TCPINFO: whole elements, payload counted")
def tcpinfo(end: End) -> None:
    whole_elements(end.sock, mp.MPTCP_TCPINFO)

    def crossed() -> tuple[int, int, int]:
        paths = mp.mptcp_tcpinfo(end.sock)
        again = mp.mptcp_info(end.sock).bytes_retrans or 0  # reinjected on another subflow
        sent = sum((path.bytes_sent or 0) - (path.bytes_retrans or 0) for path in paths) - again
        return len(paths), sent, sum(path.bytes_received or 0 for path in paths)

    def right() -> bool:
        paths, sent, received = crossed()
        # With several paths, the peer may have reinjected data too.
        return sent == end.sent and (received == end.received or (paths > 1 and received > end.received))

    eventually(right)
    paths, sent, received = crossed()
    found = f"{paths} subflows sent {sent} and received {received} bytes, not {end.sent} and {end.received}"
    check(right(), found)


@named("MPTCP_SUBFLOW_ADDRS: the socket's own addresses")
def addrs(end: End) -> None:
    whole_elements(end.sock, mp.MPTCP_SUBFLOW_ADDRS)
    names = (end.sock.getsockname(), end.sock.getpeername())
    paths = mp.mptcp_subflow_addrs(end.sock)
    mine = [path for path in paths if (path.local, path.remote) == names]
    check(mine, f"no subflow is {names}, only {[(path.local, path.remote) for path in paths]}")
    used = 16 if end.sock.family == socket.AF_INET else 28
    for half in (mine[0].raw[:128], mine[0].raw[128:]):
        check(not any(half[used:]), f"bytes after the address are not 0: {half[used:].hex()}")


def whole_elements(sock: socket.socket, option: int) -> None:
    """Check the header of a call with a large enough buffer: sizes, stride, length."""
    room = 1024
    length, header, _ = subflow_data(sock, option, size_user=room, length=16 + 32 * room)
    _, count, size_kernel, stride = header
    check(count >= 1, "num_subflows is 0")
    check(stride == min(size_kernel, room) > 0, f"size_user is {stride}, size_kernel {size_kernel}")
    check(length == 16 + count * stride, f"{length} bytes for {count} elements of {stride}")


@named("MPTCP_SUBFLOW_ADDRS: family only")
def family_only(end: End) -> None:
    length, header, data = subflow_data(end.sock, mp.MPTCP_SUBFLOW_ADDRS, size_user=2, length=18)
    check(length == 18, f"the length is {length}, not 18")
    check(header[3] == 2, f"size_user is {header[3]}, not 2")
    (family,) = struct.unpack_from("=H", data, 16)
    check(family == end.sock.family, f"the family is {family}, not {int(end.sock.family)}")
    check(data[18:] == FILLER[18:], "more than the family was written")


# ---------------------------------------------------------------------------------- cases: bogus headers

FILLER = b"\xee" * 40


def subflow_data(
    sock: socket.socket,
    option: int,
    *,
    size_subflow_data: int = 16,
    num_subflows: int = 0,
    size_kernel: int = 0,
    size_user: int = 0,
    length: int = 16,
) -> tuple[int, tuple[int, ...], bytes]:
    """A raw call. Returns the length, the header, and the buffer, which is 22 bytes longer than requested."""
    buffer = bytearray(FILLER[:1] * (length + 22))
    struct.pack_into("=IIII", buffer, 0, size_subflow_data, num_subflows, size_kernel, size_user)
    length = mp.getsockopt_into(sock, mp.SOL_MPTCP, option, buffer, length)
    return length, struct.unpack_from("=IIII", buffer), bytes(buffer)


def refused(call: Callable[[], object], length: int) -> None:
    """Check that the call fails with EINVAL and leaves the length unchanged."""
    try:
        call()
    except OSError as error:
        check(
            error.errno == errno.EINVAL, f"refused with {errno.errorcode.get(error.errno or 0)}, not EINVAL"
        )
        left = getattr(error, "optlen", None)
        check(left == length, f"the length came back as {left}, not {length}")
        return
    check(False, "the kernel accepted it")


@named("size_subflow_data 0 is refused")
def zero_header(end: End, option: int) -> None:
    refused(lambda: subflow_data(end.sock, option, size_subflow_data=0), 16)


@named("a header alone counts subflows")
def header_alone(end: End, option: int) -> None:
    length, (size, count, size_kernel, size_user), data = subflow_data(end.sock, option)
    check(length == size == 16, f"length {length}, size_subflow_data {size}, not 16")
    check(count >= 1, "num_subflows is 0")
    check(size_kernel > 0, "size_kernel is 0")
    check(size_user == 0, f"size_user is {size_user}, not 0")
    check(data[16:] == FILLER[16 : len(data)], "something was written after the header")


@named("lengths below 16 are refused")
def short_length(end: End, option: int) -> None:
    for length in range(16):
        refused(functools.partial(subflow_data, end.sock, option, length=length), length)


@named("size_kernel 1 is refused")
def kernel_size_set(end: End, option: int) -> None:
    refused(lambda: subflow_data(end.sock, option, size_kernel=1), 16)


@named("num_subflows 1 is refused")
def count_set(end: End, option: int) -> None:
    refused(lambda: subflow_data(end.sock, option, num_subflows=1), 16)


@named("larger header, length cut to 16")
def larger_header(end: End, option: int) -> None:
    length, header, _ = subflow_data(end.sock, option, size_subflow_data=18, length=18)
    check(length == 16, f"the length is {length}, not 16")
    check(header[0] == 18, f"size_subflow_data is {header[0]}, not 18")


@named("larger header, then one byte")
def gap(end: End, option: int) -> None:
    length, header, data = subflow_data(end.sock, option, size_subflow_data=17, size_user=1, length=18)
    check(length == 18, f"the length is {length}, not 18")
    check(header[0] == 17, f"size_subflow_data is {header[0]}, not 17")
    check(data[16] == FILLER[16], "the gap was written")
    whole = subflow_data(end.sock, option, size_user=1024, length=16 + 32 * 1024)[2]
    check(data[17] == whole[16], f"the byte is {data[17]}, not {whole[16]}")
    check(data[18:] == FILLER[18:], "more than one byte was written")


BOGUS = (zero_header, header_alone, short_length, kernel_size_set, count_set, larger_header, gap)


# -------------------------------------------------------------------------------- cases: MPTCP_FULL_INFO


@named("MPTCP_FULL_INFO: equals the other three")
def full_info(end: End) -> None:
    full = read_full(end.sock)
    # Subflows added between the calls are not an error: the path manager may be active.
    for _ in range(20):
        before = mp.mptcp_info(end.sock), mp.mptcp_tcpinfo(end.sock), mp.mptcp_subflow_addrs(end.sock)
        full = read_full(end.sock)
        if full.num_subflows == len(before[1]) == len(mp.mptcp_subflow_addrs(end.sock)):
            break
    connection, tcp_infos, addresses = before
    sizes = struct.unpack_from("=IIII", full.raw)
    for name, kernel, user in (("tcpinfo", *sizes[:2]), ("sfinfo", *sizes[2:])):
        check(0 < user <= kernel, f"size_{name}_user is {user}, size_{name}_kernel {kernel}")
    check(full.num_subflows == len(full.subflows) == len(tcp_infos), f"{full.num_subflows} subflows")
    alone = full.num_subflows == 1
    check(not alone or full.info.subflows == 0, f"one subflow, but {full.info.subflows} additional ones")
    for name in ("token", "write_seq", "rcv_nxt", "bytes_sent", "bytes_received"):
        one, other = getattr(full.info, name), getattr(connection, name)
        check(one == other, f"{name} is {one}, and {other} in MPTCP_INFO")
    check(tuple(path.addrs for path in full.subflows) == addresses, "addresses differ")
    for path, tcp_info in zip(full.subflows, tcp_infos, strict=True):
        for name in ("bytes_sent", "bytes_received"):
            one, other = getattr(path.tcp_info, name), getattr(tcp_info, name)
            check(one == other, f"{name} of subflow {path.id} is {one}, and {other} in MPTCP_TCPINFO")
    ids = [path.id for path in full.subflows]
    check(len(set(ids)) == len(ids), f"ids are not unique: {ids}")
    names = (end.sock.getsockname(), end.sock.getpeername())
    first = [(path.local, path.remote) for path in full.subflows if path.id == 1]
    check(first == [names], f"subflow 1 is {first}, not {names}")


@named("MPTCP_FULL_INFO: cut to the requested length")
def full_info_length(end: End) -> None:
    read_full(end.sock)
    header = 40  # what the caller fills in; mptcp_info follows
    whole = cut_to_the_room(end.sock, mp.MPTCP_FULL_INFO, header)
    info = len(mp.mptcp_info(end.sock))
    check(whole == header + info, f"{whole} bytes, not {header} plus {info} of MPTCP_INFO")


@named("MPTCP_FULL_INFO: bogus headers are refused")
def full_info_bogus(end: End) -> None:
    read_full(end.sock)
    for length in (0, 39):
        call = functools.partial(mp.getsockopt_into, end.sock, mp.SOL_MPTCP, mp.MPTCP_FULL_INFO)
        refused(functools.partial(call, bytearray(136), length), length)
    for field in (0, 8, 16):  # size_tcpinfo_kernel, size_sfinfo_kernel, num_subflows
        buffer = bytearray(136)
        struct.pack_into("=I", buffer, field, 1)
        refused(functools.partial(call, buffer), 136)


def read_full(sock: socket.socket) -> mp.MPTCPFullInfo:
    try:
        return mp.mptcp_full_info(sock)
    except mp.UnsupportedOptionError:
        raise Skip("this kernel has no MPTCP_FULL_INFO (Linux 6.5)") from None


# ----------------------------------------------------------------------------------------- cases: IP_TOS


def tos_set(sock: socket.socket, value: int) -> None:
    try:
        sock.setsockopt(socket.SOL_IP, socket.IP_TOS, bytes([value]))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOPROTOOPT):
            raise
        raise Skip("this kernel has no IP_TOS on MPTCP sockets (Linux 5.17)") from None


@named("IP_TOS: one byte out and back")
def tos_round_trip(end: End) -> None:
    value = random.randrange(256) & 0xFC
    tos_set(end.sock, value)
    buffer = bytearray(1)
    length = mp.getsockopt_into(end.sock, socket.SOL_IP, socket.IP_TOS, buffer)
    check(length == 1, f"the length is {length}, not 1")
    check(buffer[0] == value, f"set to {value:#x}, read back {buffer[0]:#x}")


@named("IP_TOS: length 0 reads nothing")
def tos_no_length(end: End) -> None:
    tos_set(end.sock, 0)
    length = mp.getsockopt_into(end.sock, socket.SOL_IP, socket.IP_TOS, bytearray(1), 0)
    check(length == 0, f"the length is {length}, not 0")


@named("IP_TOS: length -1 is EINVAL")
def tos_negative_length(end: End) -> None:
    tos_set(end.sock, 0)
    call = functools.partial(mp.getsockopt_into, end.sock, socket.SOL_IP, socket.IP_TOS)
    refused(functools.partial(call, bytearray(1), -1), -1)
