# SPDX-License-Identifier: MIT
"""What a user's type checker sees. Never run: .ci/run checks it with mypy --strict against the wheel."""

from __future__ import annotations

import asyncio
import socket

from typing_extensions import assert_type

import mptcp_sockopt as mp


def look(sock: socket.socket, fd: int, writer: asyncio.StreamWriter) -> None:
    info = mp.mptcp_info(sock)
    assert_type(info, mp.MPTCPInfo)
    assert_type(info.token, int)
    assert_type(info.bytes_sent, int | None)
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
    mp.mptcp_info("3")  # type: ignore[arg-type]
    info.token = 1  # type: ignore[assignment]
    shot.subflows = ()
