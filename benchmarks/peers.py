# SPDX-License-Identifier: MIT
"""What one would use instead: the standard library, ctypes, `ss`, mptcplib. Written as their users would,
without handicap."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import mptcp_sockopt as mp

from .measure import Missing, Variant

SOL_MPTCP, MPTCP_INFO = 284, 1

# ------------------------------------------------------------------------------- the standard library

INFO = struct.Struct("=6B2xIIQQQ3BxIQQQQ4BIII")  # struct mptcp_info of Linux 6.19


def stdlib(sock: socket.socket) -> Variant:
    """getsockopt and unpack, in line."""

    def variant(n: int) -> None:
        unpack = INFO.unpack
        for _ in range(n):
            unpack(sock.getsockopt(284, 1, 96))

    return variant


def stdlib_loop(socks: Sequence[socket.socket]) -> Variant:
    """The same for many."""

    def variant(n: int) -> None:
        unpack = INFO.unpack
        for _ in range(n):
            [unpack(sock.getsockopt(284, 1, 96)) for sock in socks]

    return variant


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
    done = subprocess.run(
        ["ss", "-M", "-i", "-n", "-H", *arguments], capture_output=True, text=True, check=False
    )
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
