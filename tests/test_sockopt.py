# SPDX-License-Identifier: MIT
"""One function per option, status() and snapshot(), on real sockets over loopback."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import time

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _sockopt

from .support import LOOPBACK, Missing, exchange, full_listener, has_full_info, mptcp_pair, reset, until

Pair = tuple[socket.socket, socket.socket]
Status = mp.Status


# ---------------------------------------------------------------------------------------- the readers


def test_mptcp_info_counts_what_crossed(mptcp_ends: Pair) -> None:
    """Sequence numbers, and byte counters where the kernel has them."""
    client, server = mptcp_ends
    before = mp.mptcp_info(client)
    exchange(client, server, 1000)
    after = mp.mptcp_info(client)
    assert (after.write_seq - before.write_seq) % 2**64 == 1000
    assert (after.rcv_nxt - before.rcv_nxt) % 2**64 == 1000
    assert after.flags & mp.InfoFlag.REMOTE_KEY_RECEIVED
    assert after.token == before.token != 0
    if after.bytes_sent is not None:
        assert (after.bytes_sent, after.bytes_received) == (1000, 1000)


def test_subflows_are_the_socket_s_own(mptcp_ends: Pair) -> None:
    """One path: the names of the socket, in state ESTABLISHED."""
    for sock in mptcp_ends:
        names = (sock.getsockname(), sock.getpeername())
        assert [(path.local, path.remote) for path in mp.mptcp_subflow_addrs(sock)] == [names]
        assert [path.state for path in mp.mptcp_tcpinfo(sock)] == [mp.TCPState.ESTABLISHED]
        (path,) = mp.snapshot(sock).subflows
        assert (path.local, path.remote, path.live) == (*names, True)


def test_subflows_of_full_info_are_the_socket_s_own(mptcp_ends: Pair) -> None:
    """The same path, with an id."""
    for sock in mptcp_ends:
        (path,) = mp.mptcp_full_info(sock).subflows
        names = (sock.getsockname(), sock.getpeername())
        assert (path.id, path.local, path.remote, path.live) == (1, *names, True)
        assert path.addrs == mp.snapshot(sock).subflows[0].addrs


def test_full_info_equals_the_others_at_rest(mptcp_ends: Pair) -> None:
    """But for ages, which move on."""
    client, server = mptcp_ends
    exchange(client, server)
    full, info = mp.mptcp_full_info(client), mp.mptcp_info(client)
    moving = {"last_data_sent", "last_data_recv", "last_ack_recv"}
    assert {k: v for k, v in full.info.asdict().items() if k not in moving} == {
        k: v for k, v in info.asdict().items() if k not in moving
    }
    assert full.num_subflows == full.live_count == 1
    assert tuple(path.addrs for path in full.subflows) == mp.mptcp_subflow_addrs(client)


def test_v4_mapped_addresses(mptcp: None) -> None:
    """A dual-stack listener that accepts IPv4: AF_INET6 elements with mapped addresses."""
    server = mp.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, fallback=False)
    with server, mp.create_connection(("127.0.0.1", server.getsockname()[1]), timeout=5) as client:
        accepted, peer = server.accept()
        with accepted:
            assert mp.status(accepted) is Status.MPTCP
            (addresses,) = mp.mptcp_subflow_addrs(accepted)
            assert addresses.remote == peer == accepted.getpeername()
            assert str(peer[0]) == "::ffff:127.0.0.1"
            assert addresses.local == accepted.getsockname()
            assert mp.mptcp_subflow_addrs(client)[0].remote == client.getpeername()


def test_a_dup_and_a_child_process_read_the_same(mptcp_ends: Pair) -> None:
    """It is the socket that answers, not the descriptor."""
    client, _ = mptcp_ends
    token = mp.mptcp_info(client).token
    with client.dup() as other:
        assert mp.mptcp_info(other).token == token
    pid = os.fork()
    if pid == 0:
        os._exit(0 if mp.mptcp_info(client).token == token else 1)
    assert os.waitpid(pid, 0)[1] == 0


# ---------------------------------------------------------------------------------- status, is_mptcp


def expect(sock: socket.socket | int, status: Status, *, is_mptcp: bool) -> mp.Snapshot:
    """The three ways to ask agree."""
    assert mp.status(sock) is status
    assert mp.is_mptcp(sock) is is_mptcp
    shot = mp.snapshot(sock)
    assert shot.status is status
    assert (shot.info is not None) is is_mptcp
    return shot


def test_connected(mptcp_ends: Pair) -> None:
    for sock in mptcp_ends:
        expect(sock, Status.MPTCP, is_mptcp=True)


def test_plain_tcp(tcp_ends: Pair) -> None:
    """One pseudo-subflow, without an id."""
    for sock in tcp_ends:
        (path,) = expect(sock, Status.TCP, is_mptcp=False).subflows
        assert path.id is None
        assert (path.local, path.remote) == (sock.getsockname(), sock.getpeername())
        assert path.live
        assert path.tcp_info.state == mp.TCPState.ESTABLISHED


def test_fallen_back(fallback_ends: Pair) -> None:
    """The client; what the TCP listener accepted is plain TCP."""
    client, accepted = fallback_ends
    (path,) = expect(client, Status.FALLBACK, is_mptcp=False).subflows
    assert path.id is None
    assert (path.local, path.remote) == (client.getsockname(), client.getpeername())
    expect(accepted, Status.TCP, is_mptcp=False)


def test_tcp_client_of_an_mptcp_listener(family: int) -> None:
    """What is accepted is TCP, whatever sock.proto says."""
    host = LOOPBACK[socket.AddressFamily(family)]
    with (
        mp.create_server((host, 0), family=family, fallback=False) as server,
        socket.create_connection(server.getsockname()[:2], timeout=5),
        server.accept()[0] as accepted,
    ):
        assert accepted.proto == mp.IPPROTO_MPTCP  # Python copies it from the listener
        expect(accepted, Status.TCP, is_mptcp=False)


def test_listening(family: int) -> None:
    """TCP and MPTCP alike; the peer's address is zero."""
    address = (LOOPBACK[socket.AddressFamily(family)], 0)
    with (
        mp.create_server(address, family=family, fallback=False) as mptcp,
        socket.create_server(address, family=family) as tcp,
    ):
        for sock, is_mptcp in ((mptcp, True), (tcp, False)):
            (path,) = expect(sock, Status.LISTENING, is_mptcp=is_mptcp).subflows
            assert path.local == sock.getsockname()
            assert path.remote is not None
            assert path.remote[:2] == ("0.0.0.0" if family == socket.AF_INET else "::", 0)
            assert path.tcp_info.state == mp.TCPState.LISTEN
        assert mp.mptcp_info(mptcp).token == 0


def test_unconnected(family: int) -> None:
    """Fresh, and bound; a plain TCP socket is TCP from the start."""
    with mp.create_socket(family, fallback=False) as sock:
        assert expect(sock, Status.UNCONNECTED, is_mptcp=True).live_count == 0
        sock.bind((LOOPBACK[socket.AddressFamily(family)], 0))
        assert expect(sock, Status.UNCONNECTED, is_mptcp=True).live_count == 0
    with socket.socket(socket.AddressFamily(family)) as sock:
        (path,) = expect(sock, Status.TCP, is_mptcp=False).subflows
        assert path.remote is not None
        assert path.remote[:2] == ("0.0.0.0" if family == socket.AF_INET else "::", 0)


def test_connecting(family: int) -> None:
    """Between connect() and the peer's answer; TCP and FALLBACK say so of their TCP state."""
    with full_listener(family) as address, mp.create_socket(family, fallback=False) as sock:
        sock.setblocking(False)
        assert sock.connect_ex(address) == errno.EINPROGRESS
        (path,) = expect(sock, Status.CONNECTING, is_mptcp=True).subflows
        assert path.tcp_info.state == mp.TCPState.SYN_SENT
        assert not path.live
        with socket.socket(socket.AddressFamily(family)) as tcp:
            tcp.setblocking(False)
            assert tcp.connect_ex(address) == errno.EINPROGRESS
            (path,) = expect(tcp, Status.TCP, is_mptcp=False).subflows
            assert path.tcp_info.state == mp.TCPState.SYN_SENT


def test_closed(mptcp_ends: Pair) -> None:
    """Both directions shut down: no subflow is left, and the last counters are still there."""
    client, server = mptcp_ends
    exchange(client, server)
    client.shutdown(socket.SHUT_RDWR)
    expect(client, Status.MPTCP, is_mptcp=True)
    server.close()
    until(lambda: mp.status(client) is Status.CLOSED, "the client to be closed")
    shot = expect(client, Status.CLOSED, is_mptcp=True)
    assert shot.live_count == 0
    assert shot.info is not None
    assert shot.info.bytes_sent in (100, None)


def test_one_direction_closed_is_still_mptcp(mptcp_ends: Pair) -> None:
    """Half-closed connections live."""
    client, server = mptcp_ends
    exchange(client, server)
    server.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    for sock in mptcp_ends:
        expect(sock, Status.MPTCP, is_mptcp=True)


def test_reset_after_data_is_closed(mptcp_ends: Pair) -> None:
    """MP_FASTCLOSE: the key was received, the token is gone."""
    client, server = mptcp_ends
    exchange(client, server)
    reset(server, client)
    assert mp.mptcp_info(client).token == 0
    expect(client, Status.CLOSED, is_mptcp=True)


def test_disconnected_is_unconnected(mptcp_ends: Pair) -> None:
    """connect(AF_UNSPEC) gives the key back."""
    client, server = mptcp_ends
    exchange(client, server)
    unspec = ctypes.create_string_buffer(16)
    assert ctypes.CDLL(None).connect(client.fileno(), unspec, 16) == 0
    expect(client, Status.UNCONNECTED, is_mptcp=True)


def test_snapshot_time_is_monotonic(mptcp_ends: Pair) -> None:
    """In nanoseconds, of time.monotonic_ns()."""
    before = time.monotonic_ns()
    one, other = mp.snapshot(mptcp_ends[0]), mp.snapshot(mptcp_ends[0])
    assert before <= one.time <= other.time <= time.monotonic_ns()


def test_snapshot_by_the_older_options(mptcp_ends: Pair) -> None:
    """What kernels before 6.5 are asked gives the same subflows here, but for their ids."""
    client, server = mptcp_ends
    exchange(client, server)
    info, subflows = _sockopt._older_mptcp_subflows(client.fileno())
    shot = mp.snapshot(client)
    assert shot.info is not None
    assert info.token == shot.info.token
    assert {path.id for path in subflows} == {None}
    assert subflows[0].addrs == shot.subflows[0].addrs
    assert sum(path.tcp_info.bytes_sent or 0 for path in subflows) == 100


# ------------------------------------------------------------------------------------ getsockopt_into

CANARY = 0xEE


@pytest.mark.parametrize(
    "option", [mp.MPTCP_INFO, mp.MPTCP_TCPINFO, mp.MPTCP_SUBFLOW_ADDRS, mp.MPTCP_FULL_INFO]
)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 39, 40, 41, 95, 96, 97, 136, 300, 1000, 4096])
def test_nothing_is_written_beyond_the_length(option: int, size: int, mptcp_ends: Pair) -> None:
    """Whatever the length is, odd, zero or huge, and whatever the kernel says to it."""
    buffer = bytearray([CANARY]) * 8192
    buffer[:size] = bytes(size)
    if option in (mp.MPTCP_TCPINFO, mp.MPTCP_SUBFLOW_ADDRS):
        header = struct.pack("=IIII", 16, 0, 0, 280)
        buffer[: min(size, 16)] = header[:size]
    try:
        length = mp.getsockopt_into(mptcp_ends[0], mp.SOL_MPTCP, option, buffer, size)
    except OSError as error:
        refused, length = error.errno, error.optlen  # type: ignore[attr-defined]
        unsupported = isinstance(error, mp.UnsupportedOptionError)
        assert unsupported is (option == mp.MPTCP_FULL_INFO and not has_full_info())
        assert unsupported or refused == errno.EINVAL
    else:
        refused = None
    assert length == size if refused else 0 <= length <= size
    assert buffer[size:] == bytearray([CANARY]) * (8192 - size)


@pytest.mark.parametrize("length", [-1, -96, -(2**31)])
def test_a_negative_length_writes_nothing(length: int, mptcp_ends: Pair) -> None:
    """MPTCP_INFO would take it as "everything": it meets no buffer."""
    buffer = bytearray([CANARY]) * 4096
    for level, option, number in (
        (mp.SOL_MPTCP, mp.MPTCP_INFO, errno.EFAULT),
        (mp.SOL_MPTCP, mp.MPTCP_TCPINFO, errno.EINVAL),
        (mp.SOL_MPTCP, mp.MPTCP_FULL_INFO, errno.EINVAL),
        (socket.SOL_IP, socket.IP_TOS, errno.EINVAL),
    ):
        with pytest.raises(OSError) as caught:
            mp.getsockopt_into(mptcp_ends[0], level, option, buffer, length)
        if option == mp.MPTCP_FULL_INFO and not has_full_info():
            assert isinstance(caught.value, mp.UnsupportedOptionError)
        else:
            assert caught.value.errno == number
        assert buffer == bytearray([CANARY]) * 4096


def test_the_length_reported_is_the_kernel_s(mptcp_ends: Pair) -> None:
    """Not the one that was offered."""
    full = len(mp.mptcp_info(mptcp_ends[0]))
    buffer = bytearray(1024)
    assert mp.getsockopt_into(mptcp_ends[0], mp.SOL_MPTCP, mp.MPTCP_INFO, buffer) == full
    assert mp.MPTCPInfo(buffer[:full]).token == mp.mptcp_info(mptcp_ends[0]).token
    assert mp.getsockopt_into(mptcp_ends[0], socket.SOL_SOCKET, socket.SO_TYPE, buffer) == 4
    assert int.from_bytes(buffer[:4], "little" if memoryview(b"\1\0").cast("H")[0] == 1 else "big") == 1


def test_any_writable_buffer_will_do(mptcp_ends: Pair) -> None:
    """bytearray, memoryview of anything, ctypes; the length is in bytes."""
    token = mp.mptcp_info(mptcp_ends[0]).token
    words = memoryview(bytearray(96)).cast("I")
    for buffer in (words, ctypes.create_string_buffer(96), memoryview(bytearray(200))[50:146]):
        assert mp.getsockopt_into(mptcp_ends[0], mp.SOL_MPTCP, mp.MPTCP_INFO, buffer) >= 40
        assert mp.MPTCPInfo(bytes(memoryview(buffer))).token == token


@pytest.mark.parametrize(
    "buffer",
    [b"bytes", "text", None, 96, memoryview(bytes(96)), memoryview(bytearray(96))[::2]],
    ids="bytes str None int read-only strided".split(),
)
def test_other_buffers_are_type_errors(buffer: object, mptcp_ends: Pair) -> None:
    """Read-only, not contiguous, not a buffer."""
    with pytest.raises(TypeError):
        mp.getsockopt_into(mptcp_ends[0], mp.SOL_MPTCP, mp.MPTCP_INFO, buffer)  # type: ignore[arg-type]


def test_a_length_beyond_the_buffer_is_a_value_error(mptcp_ends: Pair) -> None:
    """By one byte, by a lot, and by more than an int holds."""
    for length in (97, 2**31 - 1, 2**31, 2**64):
        with pytest.raises(ValueError, match=r"beyond the buffer|does not fit"):
            mp.getsockopt_into(mptcp_ends[0], mp.SOL_MPTCP, mp.MPTCP_INFO, bytearray(96), length)
    for level, option in ((2**31, 1), (284, -(2**31) - 1)):
        with pytest.raises(ValueError, match="does not fit"):
            mp.getsockopt_into(mptcp_ends[0], level, option, bytearray(96))
    with pytest.raises(TypeError, match="option must be an int"):
        mp.getsockopt_into(mptcp_ends[0], 284, "1", bytearray(96))  # type: ignore[arg-type]


def test_options_that_write_elsewhere_are_refused(mptcp_ends: Pair) -> None:
    """Pointers in the buffer, and lengths that do not bound."""
    client, _ = mptcp_ends
    for at in range(24, 40):
        buffer = bytearray(136)
        buffer[at] = 1
        with pytest.raises(ValueError, match="array pointers in MPTCP_FULL_INFO"):
            mp.getsockopt_into(client, mp.SOL_MPTCP, mp.MPTCP_FULL_INFO, buffer)
    for level, option, name in (
        (socket.SOL_TCP, 35, "TCP_ZEROCOPY_RECEIVE"),
        (socket.SOL_TCP, 41, "TCP_AO_GET_KEYS"),
        (socket.SOL_SOCKET, 26, "SO_GET_FILTER"),
        (socket.SOL_IP, 41, "IP_MSFILTER"),
        (socket.SOL_IP, 48, "MCAST_MSFILTER"),
        (socket.IPPROTO_IPV6, 48, "MCAST_MSFILTER"),
        (socket.SOL_IP, 129, "EBT_SO_GET_ENTRIES"),
        (socket.SOL_IP, 131, "EBT_SO_GET_INIT_ENTRIES"),
    ):
        with pytest.raises(ValueError, match=name):
            mp.getsockopt_into(client, level, option, bytearray(64))


def test_so_get_filter_really_overruns() -> None:
    """Why it is refused: the kernel counts its length in instructions of eight bytes."""
    attach = 26
    with socket.socket() as sock:
        program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0xFFFF), 8)
        try:
            sock.setsockopt(socket.SOL_SOCKET, attach, struct.pack("HP", 1, ctypes.addressof(program)))
        except PermissionError as error:
            raise Missing(f"SO_ATTACH_FILTER: {error}") from None
        buffer = (ctypes.c_uint8 * 8)()
        length = ctypes.c_int(1)
        get = ctypes.CDLL(None).getsockopt
        assert get(sock.fileno(), socket.SOL_SOCKET, attach, buffer, ctypes.byref(length)) == 0
        assert length.value == 1
        assert bytes(buffer) == program.raw  # eight bytes, for a length of one


def test_full_info_without_arrays(mptcp_ends: Pair) -> None:
    """Zero pointers are welcome: counts and the connection."""
    buffer = bytearray(136)
    length = mp.getsockopt_into(mptcp_ends[0], mp.SOL_MPTCP, mp.MPTCP_FULL_INFO, buffer)
    assert length == 40 + len(mp.mptcp_info(mptcp_ends[0]))
    assert struct.unpack_from("=I", buffer, 16) == (1,)


def test_ip_tos_round_trip(family: int) -> None:
    """One byte is enough, and the ECN bits are the kernel's."""
    with mptcp_pair(family) as (client, _):
        for value in (0, 0x10, 0x2C, 0xFC, 0xFF):
            client.setsockopt(socket.SOL_IP, socket.IP_TOS, bytes([value]))
            buffer = bytearray(1)
            assert mp.getsockopt_into(client, socket.SOL_IP, socket.IP_TOS, buffer) == 1
            assert buffer[0] == value & 0xFC
