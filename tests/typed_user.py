# SPDX-License-Identifier: MIT
"""What a user's type checker sees. Never run: .ci/run checks it with mypy --strict against the wheel."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from typing_extensions import assert_type

import mptcp_sockopt as mp
from mptcp_sockopt import processes


def kept(sampler: mp.Sampler[mp.MPTCPFullInfo]) -> mp.Sample[mp.MPTCPFullInfo]:
    return sampler.sample()


def look(sock: socket.socket, fd: int, writer: asyncio.StreamWriter) -> None:
    info = mp.mptcp_info(sock)
    assert_type(info, mp.MPTCPInfo)
    assert_type(info.token, int)
    assert_type(info.bytes_sent, int | None)
    assert_type(info.unacked_bytes, int | None)
    assert_type(mp.MPTCPInfo(info.raw, byteorder="big"), mp.MPTCPInfo)
    mp.MPTCPInfo(info.raw, byteorder="native")  # type: ignore[arg-type]
    assert_type(info.asdict()["token"], object)  # type: ignore[assert-type]  # Any
    assert_type(mp.TCPInfo.rtt.unit, str)
    assert_type(mp.TCPInfo.rtt.sentinel, int | None)
    assert_type(mp.mptcp_tcpinfo(fd)[0].rtt, int)
    assert_type(mp.mptcp_subflow_addrs(writer)[0].local, tuple[str, int] | tuple[str, int, int, int] | None)
    path = mp.mptcp_full_info(writer.transport).subflows[0]
    assert_type(path.id, int | None)
    assert_type(path.live, bool)
    shot = mp.snapshot(sock)
    assert_type(shot.info, mp.MPTCPInfo | None)
    assert_type(shot.status, mp.Status)
    assert_type(mp.is_mptcp(sock), bool)
    assert_type(mp.getsockopt_into(sock, mp.SOL_MPTCP, mp.MPTCP_INFO, bytearray(96)), int)
    assert_type(mp.create_connection(("localhost", 80), fallback=False), socket.socket)
    assert_type(mp.is_supported(), mp.Support)
    sample = mp.Sampler([sock, fd]).sample()
    assert_type(sample[0], mp.MPTCPInfo | OSError)
    assert_type(sample[1:], tuple[mp.MPTCPInfo | OSError, ...])
    assert_type(list(mp.Sampler([writer], full=True).sample()), list[mp.MPTCPFullInfo | OSError])
    assert_type(sample.column("token"), memoryview)
    assert_type(sample.errnos, memoryview)
    assert_type(mp.Sampler(full=bool(fd)).sample()[0], Any | OSError)
    for row in kept(mp.Sampler([sock], full=True)):
        assert_type(row, mp.MPTCPFullInfo | OSError)
        if not isinstance(row, OSError):
            assert_type(row.info.bytes_sent, int | None)
    found = mp.mptcp_diag(listening=True)
    assert_type(found, mp.MPTCPDiag)
    assert_type(found[0], mp.MPTCPDiagMsg)
    assert_type(found[:2], tuple[mp.MPTCPDiagMsg, ...])
    assert_type([row.inode for row in found], list[int])
    assert_type(found[0].info, mp.MPTCPInfo)
    assert_type(found[0].remote, tuple[str, int] | tuple[str, int, int, int])
    assert_type(found.column("inode"), memoryview)
    tracker = mp.Tracker(writer)
    update = tracker.update()
    assert_type(update, mp.Update)
    assert_type(update.rate("bytes_acked"), float | None)
    assert_type((update.bytes_sent, update.elapsed), tuple[int | None, int | None])
    assert_type(update.snapshot, mp.Snapshot)
    assert_type(update.removed, tuple[mp.Subflow, ...])
    assert_type(update.subflows[0], mp.SubflowDelta)
    assert_type(update.subflows[0].subflow.tcp_info.rtt, int)
    assert_type(tracker.gone, tuple[mp.Subflow, ...])
    owners = processes.owners([found[0].inode])
    assert_type(owners[1], tuple[processes.Owner, ...] | None)
    assert_type(owners.missing, str | None)
    for owner in processes.iter_sockets(1):
        assert_type(owner.tid, int)
        with processes.borrow(owner) as borrowed:
            assert_type(borrowed, int)
    assert_type(processes.listeners(80)[0].mptcp, bool | None)
    assert_type(
        processes.tcp_sockets(80, mp.TCPState.SYN_RECV)[0].local, tuple[str, int] | tuple[str, int, int, int]
    )
    assert_type(processes.in_netns("/run/netns/blue", mp.mptcp_diag), mp.MPTCPDiag)
    processes.owners("1")  # type: ignore[arg-type]
    mp.mptcp_info("3")  # type: ignore[arg-type]
    info.token = 1  # type: ignore[assignment]
    shot.subflows = ()  # type: ignore[misc]
