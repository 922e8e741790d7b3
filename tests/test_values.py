# SPDX-License-Identifier: MIT
"""What counters and ages say when it is not what their names promise: the facts of docs/values.md."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import re
import socket
import struct
import termios
import time
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from .life import full_window
from .net import without_cookies
from .support import (
    LOOPBACK,
    Missing,
    exchange,
    fallback_pair,
    full_listener,
    in_private_network,
    inode,
    mptcp_pair,
    reset,
    tcp_pair,
    until,
)
from .test_live import joining
from .test_subflows import paths

PAGE = (Path(__file__).parent.parent / "docs" / "values.md").read_text()
Pair = tuple[socket.socket, socket.socket]


def row_of(sock: socket.socket) -> mp.MPTCPDiagMsg:
    (row,) = [row for row in mp.mptcp_diag() if row.inode == inode(sock)]
    return row


def siocoutq(sock: socket.socket) -> int:
    (pending,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(pending)


def agree(sock: socket.socket) -> None:
    """Both ways to ask say what SIOCOUTQ does, once acknowledgements have stopped to come."""
    until(
        lambda: siocoutq(sock) == mp.mptcp_info(sock).unacked_bytes == row_of(sock).info.unacked_bytes,
        "unacked_bytes to be what SIOCOUTQ says",
    )


# ------------------------------------------------------------------------------------- unacked_bytes


def test_unacked_bytes_are_what_siocoutq_says(mptcp_ends: Pair) -> None:
    """While all is acknowledged, while much waits, and with a DATA_FIN that waits behind it."""
    client, server = mptcp_ends
    exchange(client, server)
    until(lambda: siocoutq(client) == 0, "all to be acknowledged")
    assert mp.mptcp_info(client).unacked_bytes == row_of(client).info.unacked_bytes == 0
    full_window(client)
    agree(client)
    before = mp.mptcp_info(client)
    assert before.asdict()["unacked_bytes"] == before.unacked_bytes
    assert (before.unacked_bytes or 0) > 1_000_000
    client.shutdown(socket.SHUT_WR)
    agree(client)
    assert mp.mptcp_info(client).write_seq == (before.write_seq + 1) % 2**64
    row = row_of(client)
    assert row.wqueue == 0
    assert row.asdict()["info"]["unacked_bytes"] == row.info.unacked_bytes


def test_unacked_bytes_wrap_with_the_sequence_numbers() -> None:
    """They are of 64 bits and begin anywhere."""
    flags = struct.pack("=II", mp.InfoFlag.REMOTE_KEY_RECEIVED, 1)
    raw = bytes(8) + flags + struct.pack("=QQQ", 5, 2**64 - 3, 0)
    assert mp.MPTCPInfo(raw).unacked_bytes == 8


def test_flags_decide_whether_there_are_unacked_bytes() -> None:
    """None without the peer's key, and in a fallback at any time, with the key or without."""
    key, fallback = mp.InfoFlag.REMOTE_KEY_RECEIVED, mp.InfoFlag.FALLBACK
    found = {
        flags: mp.MPTCPInfo(struct.pack("=8xIIQQQ", flags, 1, 9, 4, 0)).unacked_bytes
        for flags in (0, key, fallback, key | fallback, key | 4)
    }
    assert found == {0: None, key: 5, fallback: None, key | fallback: None, key | 4: 5}


def test_without_a_connection_there_are_no_unacked_bytes(family: int, mptcp: None) -> None:
    """None: fresh, listening, connecting, disconnected."""
    with mp.create_socket(family, fallback=False) as sock:
        assert mp.mptcp_info(sock).unacked_bytes is None
    host = LOOPBACK[socket.AddressFamily(family)]
    with mp.create_server((host, 0), family=family, fallback=False) as server:
        assert mp.mptcp_info(server).unacked_bytes is None
    with full_listener(family) as address, mp.create_socket(family, fallback=False) as sock:
        sock.setblocking(False)
        assert sock.connect_ex(address) == errno.EINPROGRESS
        assert mp.mptcp_info(sock).unacked_bytes is row_of(sock).info.unacked_bytes is None
    with mptcp_pair(family) as (client, accepted):
        exchange(client, accepted)
        assert ctypes.CDLL(None).connect(client.fileno(), ctypes.create_string_buffer(16), 16) == 0
        assert mp.mptcp_info(client).unacked_bytes is None


def test_after_a_fallback_a_row_counts_what_was_handed_to_tcp(fallback_ends: Pair) -> None:
    """So it has no unacked_bytes; TCP's own counters are those of snapshot()."""
    client, server = fallback_ends
    exchange(client, server)
    full_window(client)
    info = row_of(client).info
    assert info.unacked_bytes is None
    assert info.asdict()["unacked_bytes"] is None
    assert siocoutq(client) > 1_000_000
    if info.bytes_acked is None:
        raise Missing("a kernel that counts bytes of the connection")

    def lead() -> int:
        acked = mp.snapshot(client).subflows[0].tcp_info.bytes_acked
        return (row_of(client).info.bytes_acked or 0) - (acked or 0)

    until(lambda: lead() > 1_000_000, "the row to say that it is acknowledged")


# ------------------------------------------------------------------------------------------- counters


def test_what_no_path_carries_is_not_sent(mptcp: None) -> None:
    """It is in unacked_bytes alone."""

    def look() -> tuple[int | None, int | None]:
        with paths(socket.AF_INET, 1) as (client, accepted):
            testing.delete_initial_address(client.getsockname()[0])
            until(lambda: mp.snapshot(accepted).live_count == 0, "the only subflow to go")
            client.sendall(b"x" * 500)
            assert siocoutq(client) == 500
            info = mp.mptcp_info(client)
            return info.bytes_sent, info.unacked_bytes

    sent, waiting = in_private_network(look)
    assert (sent, waiting) in ((100, 500), (None, 500))


def test_acknowledged_is_not_read(mptcp_ends: Pair) -> None:
    """The peer's kernel has it; its program may never."""
    client, server = mptcp_ends
    exchange(client, server)
    client.sendall(b"x" * 900)
    until(lambda: mp.mptcp_info(client).unacked_bytes == 0, "all to be acknowledged")
    assert mp.mptcp_info(client).bytes_acked in (1000, None)
    assert mp.mptcp_info(server).bytes_received in (1000, None)


def test_what_the_receive_buffer_has_no_room_for_counts_when_it_is_read(mptcp_ends: Pair) -> None:
    """TCP has received it, and the peer's kernel keeps it."""
    client, server = mptcp_ends
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    exchange(client, server)
    if mp.mptcp_info(client).bytes_sent is None:
        raise Missing("a kernel that counts bytes of the connection")
    written = 0

    def waits() -> bool:
        nonlocal written
        client.sendall(b"x")
        written += 1
        received = mp.mptcp_info(server).bytes_received or 0
        return (mp.mptcp_tcpinfo(server)[0].bytes_received or 0) > received

    until(waits, "the buffer to be full")
    until(lambda: len(server.recv(4096, socket.MSG_PEEK)) > 0, "something to read")
    left = written
    while left:
        left -= len(server.recv(left))
    assert mp.mptcp_info(server).bytes_received == 100 + written


def test_a_data_fin_is_a_byte(mptcp_ends: Pair) -> None:
    """Of bytes_acked at the side that sent it, of no counter of bytes at the other."""
    client, server = mptcp_ends
    exchange(client, server)
    before = mp.mptcp_info(server).rcv_nxt
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    until(lambda: mp.mptcp_info(client).unacked_bytes == 0, "it to be acknowledged")
    ours, theirs = mp.mptcp_info(client), mp.mptcp_info(server)
    assert (ours.bytes_sent, ours.bytes_acked) in ((100, 101), (None, None))
    assert theirs.bytes_received in (100, None)
    assert theirs.rcv_nxt == (before + 1) % 2**64


def test_syn_and_fin_are_bytes_of_tcp(tcp_ends: Pair) -> None:
    """The SYN at the side that connects, a FIN at both."""
    client, server = tcp_ends
    exchange(client, server)
    server.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""

    def counters(sock: socket.socket) -> tuple[int | None, ...]:
        info = mp.snapshot(sock).subflows[0].tcp_info
        return info.bytes_sent, info.bytes_acked, info.bytes_received

    until(lambda: counters(server)[1] == 101, "the FIN to be acknowledged")
    assert (counters(client), counters(server)) == ((100, 101, 101), (100, 101, 100))


def test_data_of_a_syn_is_not_in_the_connection_s_counters(mptcp: None) -> None:
    """TCP Fast Open: TCP counts it, and so does the peer."""

    def look() -> list[int | None]:
        without_cookies()
        with mp.create_server(("127.0.0.1", 0), fallback=False) as server:
            try:
                server.setsockopt(socket.SOL_TCP, socket.TCP_FASTOPEN, 16)
            except OSError as error:
                raise Missing(f"TCP Fast Open of MPTCP listeners: {error}") from None
            with mp.create_socket(fallback=False) as client:
                assert client.sendto(b"x" * 100, socket.MSG_FASTOPEN, server.getsockname()) == 100
                accepted, _ = server.accept()
                with accepted:
                    client.sendall(b"y" * 50)
                    from_6_8 = mp.mptcp_info(client).subflows_total is not None
                    sums = (150,) if from_6_8 else (50, 150)  # before 6.7 the SYN's data is in none
                    until(lambda: mp.mptcp_info(accepted).bytes_received in sums, "all to come")
                    until(lambda: mp.mptcp_info(client).unacked_bytes == 0, "all to be acknowledged")
                    ours, (tcp_info,) = mp.mptcp_info(client), mp.mptcp_tcpinfo(client)
                    if not tcp_info.options & 32:
                        raise Missing("a SYN that took data with it")
                    return [ours.bytes_sent, ours.bytes_acked, tcp_info.bytes_sent, tcp_info.bytes_acked]

    assert in_private_network(look) == [50, 50, 150, 151]


def test_a_join_that_failed_is_a_local_address_used(mptcp: None) -> None:
    """And no subflow."""

    def look() -> tuple[int | None, int]:
        with joining() as (client, _, server):
            server.close()
            until(lambda: len(mp.mptcp_tcpinfo(client)) == 1, "the join to be refused")
            info = mp.mptcp_info(client)
            return info.local_addr_used, info.subflows

    assert in_private_network(look) in ((1, 0), (None, 0))


def test_after_a_failed_connect_the_initial_subflow_has_the_id_0(family: int, mptcp: None) -> None:
    """And is live: ids alone do not tell which one is the initial one."""
    host = LOOPBACK[socket.AddressFamily(family)]
    with (
        mp.create_server((host, 0), family=family, fallback=False) as server,
        mp.create_socket(family, fallback=False) as client,
    ):
        with socket.socket(socket.AddressFamily(family)) as unheard:
            unheard.bind((host, 0))
            with pytest.raises(ConnectionRefusedError):
                client.connect(unheard.getsockname())
        client.connect(server.getsockname())
        (path,) = mp.snapshot(client).subflows
        assert path.live
        assert path.id in (0, None)


def test_a_connection_that_was_reset_before_its_first_data_is_fallback(mptcp: None) -> None:
    """By the kernel's word; the TCP state alone shows that it is no more than dead."""
    with mptcp_pair(socket.AF_INET) as (client, server):
        reset(server, client)
        shot, row = mp.snapshot(client), row_of(client)
        if shot.status is mp.Status.CLOSED:
            raise Missing("a kernel that takes a reset for a fallback")
        assert shot.status is mp.status(client) is mp.Status.FALLBACK
        assert shot.subflows[0].tcp_info.state == row.state == mp.TCPState.CLOSE
        assert row.fallback


# ----------------------------------------------------------------------------------------------- ages

AGES = ("last_data_sent", "last_data_recv", "last_ack_recv")


def ages(view: mp.MPTCPInfo | mp.TCPInfo) -> list[int | None]:
    found = view.asdict(clean=True)
    return [found[name] for name in AGES]


def tcp_ages(sock: socket.socket) -> list[int | None]:
    return ages(mp.snapshot(sock).subflows[-1].tcp_info)


def test_what_never_happened_has_no_age(family: int, mptcp: None) -> None:
    """Fresh, listening, connecting; the attribute is the kernel's number."""
    nothing: list[int | None] = [None] * 3
    address_family = socket.AddressFamily(family)
    with socket.socket(address_family) as tcp, mp.create_socket(family, fallback=False) as sock:
        assert tcp_ages(tcp) == ages(mp.mptcp_info(sock)) == nothing
        raw = mp.snapshot(tcp).subflows[0].tcp_info
        assert isinstance(raw.last_data_sent, int)
        assert raw.asdict()["last_data_sent"] is not None
        for one in (tcp, sock):
            one.bind((LOOPBACK[address_family], 0))
            one.listen()
            assert tcp_ages(one) == nothing
        assert ages(mp.mptcp_info(sock)) == nothing
    with (
        full_listener(family) as address,
        socket.socket(address_family) as tcp,
        mp.create_socket(family, fallback=False) as sock,
    ):
        for one in (tcp, sock):
            one.setblocking(False)
            assert one.connect_ex(address) == errno.EINPROGRESS
            assert tcp_ages(one) == nothing
        assert ages(mp.mptcp_info(sock)) == nothing


def test_a_join_that_is_not_answered_has_no_age(mptcp: None) -> None:
    def look() -> list[int | None]:
        with joining() as (client, _, _):
            return tcp_ages(client)

    assert in_private_network(look) == [None] * 3


def test_ages_of_a_connection_before_go_on(mptcp_ends: Pair) -> None:
    """After connect(AF_UNSPEC) the number of the connection is that of the one before; clean says None."""
    client, server = mptcp_ends
    if mp.mptcp_info(client).last_data_sent is None:
        raise Missing("a kernel with ages of the connection")
    until(lambda: (mp.mptcp_info(client).last_data_sent or 0) > 300, "the socket to be old")
    start = time.monotonic()
    exchange(client, server)
    assert ctypes.CDLL(None).connect(client.fileno(), ctypes.create_string_buffer(16), 16) == 0
    with mp.create_server((server.getsockname()[0], 0), family=client.family, fallback=False) as again:
        client.connect(again.getsockname())
        info = mp.mptcp_info(client)
        assert (info.bytes_sent, ages(info)[0]) == (0, None)
        assert (info.last_data_sent or 0) <= (time.monotonic() - start) * 1000 + 50


def test_what_happened_has_an_age(family: int, mptcp: None) -> None:
    """Each as soon as it did: a handshake has an acknowledgement and no data."""
    for pair in (mptcp_pair, tcp_pair, fallback_pair):
        with pair(family) as (client, server):
            assert tcp_ages(client)[:2] == tcp_ages(server)[:2] == [None, None]
            assert all((tcp_ages(sock)[2] or 0) < 60_000 for sock in (client, server))
            assert None not in (tcp_ages(client)[2], tcp_ages(server)[2])
            client.sendall(b"x")
            assert server.recv(1) == b"x"
            assert [age is None for age in tcp_ages(client)] == [False, True, False]
            assert [age is None for age in tcp_ages(server)] == [True, False, False]
    with mptcp_pair(family) as (client, server):
        if mp.mptcp_info(client).last_data_sent is None:
            raise Missing("a kernel with ages of the connection")
        assert ages(mp.mptcp_info(client)) == ages(mp.mptcp_info(server)) == [None] * 3
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        until(lambda: mp.mptcp_info(client).unacked_bytes == 0, "it to be acknowledged")
        assert [age is None for age in ages(mp.mptcp_info(client))] == [False, True, False]
        assert [age is None for age in ages(mp.mptcp_info(server))] == [True, False, True]
        exchange(client, server)
        until(lambda: mp.mptcp_info(server).unacked_bytes == 0, "all to be acknowledged")
        for sock in (client, server):
            assert all(age is not None and age < 60_000 for age in ages(mp.mptcp_info(sock)))


def test_an_age_that_the_kernel_does_not_keep_is_none_when_clean() -> None:
    assert mp.TCPInfo(bytes(280)).asdict()["last_ack_sent"] == 0
    assert mp.TCPInfo(bytes(280)).asdict(clean=True)["last_ack_sent"] is None


# ----------------------------------------------------------------------------------------------- JSON


def test_floats_lose_what_exceeds_2_to_the_53() -> None:
    """Sequence numbers, and a pacing rate that has no limit; unacked_bytes comes through."""
    raw = bytes(8) + struct.pack("=II", 2, 7) + struct.pack("=QQQ", 2**63 + 5, 2**63 + 1, 2**53 + 1)
    info = mp.MPTCPInfo(raw)
    text = json.dumps(info.asdict(clean=True))
    assert json.loads(text) == info.asdict(clean=True)
    rounded: dict[str, Any] = json.loads(text, parse_int=float)
    lost = [name for name, value in info.asdict().items() if value is not None and rounded[name] != value]
    assert lost == ["write_seq", "snd_una", "rcv_nxt"]
    assert rounded["unacked_bytes"] == 4
    assert all("exceed 2^53" in (field.__doc__ or "") for name, field in info.fields.items() if name in lost)
    tcp_info = mp.TCPInfo(bytes(104) + b"\xff" * 16 + bytes(160))
    assert int(float(tcp_info.max_pacing_rate or 0)) != tcp_info.max_pacing_rate
    assert tcp_info.asdict(clean=True)["max_pacing_rate"] is None


def test_the_example_of_docs_values(mptcp: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Prints what its comment says."""
    (recorded,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(recorded, {})
    assert capfd.readouterr().out.strip() == recorded.rpartition("# ")[2].strip()
