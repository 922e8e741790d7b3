# SPDX-License-Identifier: MIT
"""Subflows at their end, and before their beginning: how to bring them there, and what a Tracker says."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _sockopt, testing

from .net import destroy, lose, without_cookies
from .support import (
    Missing,
    at_work,
    exchange,
    needs,
    run,
    until,
)
from .test_subflows import paths

INET = socket.AF_INET
Seen = tuple[str, bool, str]


def seen(sock: socket.socket) -> Seen:
    """State and live of the youngest subflow, and the status."""
    shot = mp.snapshot(sock)
    assert shot.status is mp.status(sock)
    if shot.info is not None:  # kernels before 6.5 are asked in another way
        assert _sockopt._status_of(*_sockopt._older_flags_and_states(sock.fileno())) is shot.status
    if not shot.subflows:
        return "not listed", False, shot.status.name
    path = shot.subflows[-1]
    return mp.TCPState(path.tcp_info.state).name, path.live, shot.status.name


def full_window(sock: socket.socket) -> int:
    """Write until the peer, which does not read, takes no more: a FIN has to wait behind that. How much."""
    written = 0
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            written += sock.send(b"x" * 65536)
    return written


def read(sock: socket.socket, size: int) -> int:
    """Until that much has come, or all. How much."""
    count = 0
    while count < size and (data := sock.recv(65536)):
        count += len(data)
    return count


def closed_with_data_queued(
    pair: contextlib.AbstractContextManager[tuple[socket.socket, socket.socket]], ours_first: bool
) -> Seen:
    """Both ends shut down while megabytes wait, and go on going: a Tracker says that the flow was removed,
    and counts them as the connection's."""
    with pair as (client, server):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # or it grows until all is in it
        tracker, came = mp.Tracker(client), 0

        def reads_until(state: str) -> None:
            """A connection that fell back sends its FIN once TCP was handed everything; a while after that
            on a busy machine, so there are pauses towards the end."""
            nonlocal came
            while seen(client)[0] != state:
                came += (more := read(server, 1))
                patience = time.monotonic() + (0.2 if written - came < 1 << 19 else 0)
                while (now := seen(client)[0]) != state and time.monotonic() < patience:
                    time.sleep(0.002)
                assert more or now == state, f"all was read, and it is {now}"

        updates = [tracker.update()]
        written = full_window(client)
        updates.append(tracker.update())
        assert len(updates[-1].subflows) == 1
        for end in (client, server) if ours_first else (server, client):
            end.shutdown(socket.SHUT_WR)
            if end is server:
                until(lambda: seen(client)[0] not in ("ESTABLISHED", "FIN_WAIT1"), "the FIN to come")
            elif ours_first:
                reads_until("FIN_WAIT1")
        reads_until("CLOSING" if ours_first else "LAST_ACK")
        updates.append(tracker.update())
        (gone,) = updates[-1].removed
        assert not gone.live
        assert not updates[-1].subflows
        found = seen(client)
        came += read(server, (written - came) // 4)
        updates.append(tracker.update())
        assert seen(client) == found
        assert all(update.continues for update in updates[1:])
        assert not updates[-1].removed
        assert not updates[-1].subflows
        assert updates[-1].bytes_sent
        assert sum((update.bytes_sent or 0) - (update.bytes_retrans or 0) for update in updates) >= came
        assert came + read(server, written) == written
        return found


def our_fin_is_lost() -> Seen:
    """Of a connection that both ends have closed: no program can use it, and its TCP goes on trying."""
    with paths(INET, 1) as (client, accepted):
        lose("tcp flags & fin == fin")
        client.shutdown(socket.SHUT_WR)
        accepted.shutdown(socket.SHUT_WR)
        assert client.recv(1) == accepted.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            client.send(b"x")
        until(lambda: seen(client)[0] == seen(accepted)[0] == "FIN_WAIT1", "the FINs")
        until(lambda: (mp.mptcp_tcpinfo(client)[0].backoff or 0) > 1, "two retransmissions")
        assert mp.snapshot(client).live_count == mp.snapshot(accepted).live_count == 1
        return seen(client)


def refuse_all(sock: socket.socket) -> None:
    """Nothing that comes for this TCP socket reaches it, until it has no filter: SO_ATTACH_FILTER."""
    drop = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0), 8)
    sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 1, ctypes.addressof(drop)))


def fast_open() -> Seen:
    """The SYN brought data; the SYN-ACK is lost, so that the last ACK does not come."""
    without_cookies()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        server.setsockopt(socket.SOL_TCP, socket.TCP_FASTOPEN, 16)
        refuse_all(client)
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.sendto(b"hello", socket.MSG_FASTOPEN, server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            tracker, found = mp.Tracker(accepted), seen(accepted)
            first = tracker.update()
            assert accepted.recv(5) == b"hello"
            assert (first.added, first.subflows, first.snapshot.live_count) == ((), (), 0)
            accepted.sendall(b"early")
            until(lambda: mp.snapshot(accepted).subflows[0].tcp_info.bytes_sent, "it to be sent")
            client.setsockopt(socket.SOL_SOCKET, 27, 0)  # SO_DETACH_FILTER
            until(lambda: mp.snapshot(accepted).live_count == 1, "the handshake to end")
            update = tracker.update()
            (delta,) = update.subflows
            assert update.added == (delta.subflow,)
            assert update.continues
            sent = (update.bytes_sent or 0) - (update.bytes_retrans or 0)
            assert (sent, delta.bytes_sent) == (5, update.bytes_sent)
            return found


def unread_in(path: mp.Subflow) -> int:
    """Bytes in the receive queue of this TCP socket: /proc/net/tcp."""
    assert path.local is not None
    assert path.remote is not None
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if [int(end.split(":")[1], 16) for end in (local, remote)] == [path.local[1], path.remote[1]]:
            return int(queues.split(":")[1], 16)
    return 0


@contextlib.contextmanager
def reset_with_data_unread() -> Iterator[tuple[socket.socket, mp.Update]]:
    """The accepted end of a connection whose additional subflow was reset, with data in its own queue: the
    connection's receive buffer has no room for it. What a Tracker says then, too."""
    testing.set_limits(8, 8)
    testing.add_endpoint("127.0.9.2", "lo")
    with mp.create_server(("127.0.0.1", 0), fallback=False) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with (
            mp.create_connection(
                server.getsockname(), source_address=("127.0.9.1", 0), fallback=False
            ) as client,
            server.accept()[0] as accepted,
        ):
            exchange(client, accepted, 1)
            until(lambda: mp.snapshot(accepted).live_count == 2, "the join")
            tracker, mine = mp.Tracker(accepted), mp.snapshot(client).subflows[1]
            theirs = tracker.update().added[1]
            client.setblocking(False)

            def fill() -> bool:
                with contextlib.suppress(BlockingIOError):
                    client.send(b"x")
                return unread_in(theirs) > 0

            # Some 100 sends on 6.18; from 6.19 on all of them find room in the connection.
            if not any(fill() for _ in range(4_000)):
                raise Missing("a kernel that leaves data in a subflow's own queue")
            assert mine.local is not None
            assert mine.remote is not None
            destroy(mine.local, mine.remote, device="lo")  # which an endpoint's subflow is bound to
            until(lambda: mp.snapshot(accepted).live_count == 1, "the reset")
            yield accepted, tracker.update()


def additional_one_reset_with_data_unread() -> Seen:
    with reset_with_data_unread() as (accepted, update):
        (gone,) = update.removed
        listed = mp.snapshot(accepted).subflows[1]
        assert gone.remote == listed.remote == update.snapshot.subflows[1].remote
        assert listed.tcp_info.state == mp.TCPState.CLOSE
        assert (gone.live, len(update.subflows), update.added) == (False, 1, ())
        found = seen(accepted)
        accepted.setblocking(False)

        def read() -> bool:
            with contextlib.suppress(BlockingIOError):
                accepted.recv(1 << 20)
            return len(mp.snapshot(accepted).subflows) == 1

        until(read, "it to leave the list")
        return found


@contextlib.contextmanager
def checksum_failed() -> Iterator[tuple[socket.socket, mp.Tracker]]:
    """A connection whose additional subflow brought what its checksum is not of: MP_FAIL. All was read."""
    nft = needs("nft", "nftables")
    try:
        Path("/proc/sys/net/mptcp/checksum_enabled").write_text("1")
    except OSError as error:
        raise Missing(f"a namespace's own mptcp.checksum_enabled: {error}") from None
    with paths(INET, 2) as (client, accepted):
        tracker = mp.Tracker(accepted)
        assert len(tracker.update().added) == 2
        for command in (
            "add table inet t",
            "add chain inet t out { type filter hook output priority 0; }",
            "add rule inet t out ip saddr 127.0.9.2 tcp flags psh @ih,160,32 set 0x41414141",
        ):
            found = run(nft, command)
            if found.returncode:
                raise Missing(f"nft that changes payload: {found.stderr}")
        accepted.settimeout(30)
        with at_work(client.sendall, b"z" * 3_000_000):
            count = 0
            while count < 3_000_000:
                data = accepted.recv(1 << 20)
                assert set(data) == {ord("z")}
                count += len(data)
        until(lambda: mp.snapshot(accepted).live_count == 1, "the reset")
        yield accepted, tracker


def additional_one_with_a_failed_checksum() -> Seen:
    with checksum_failed() as (accepted, tracker):
        update = tracker.update()
        assert update.removed == update.snapshot.subflows[1:]
        assert (len(update.subflows), update.snapshot.live_count) == (1, 1)
        accepted.setblocking(False)
        with pytest.raises(BlockingIOError):
            accepted.recv(1)  # all was read, and still it is listed
        update = tracker.update()
        assert (update.removed, len(update.snapshot.subflows)) == ((), 2)
        return seen(accepted)
