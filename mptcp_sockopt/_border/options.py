# SPDX-License-Identifier: MIT
"""Every socket option that a TCP socket takes: what does an MPTCP socket answer here?"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import NamedTuple

from .. import _types as t
from .abi import (
    IPPROTO_MPTCP,
    MPTCP_FULL_INFO,
    MPTCP_INFO,
    MPTCP_SUBFLOW_ADDRS,
    MPTCP_TCPINFO,
    SOL_MPTCP,
    ffi,
    lib,
)

#: The states in which options are tried.
STATES = ("fresh", "connected", "accepted", "listening")
#: Words of an answer, where it is not the name of an errno.
YES, NO_EFFECT = "yes", "no effect"
# Over loopback. Less than a second, after which the kernel would send its SYN again, perhaps without MPTCP.
_SECONDS = 0.5
_ROOM = 512  # for what an option answers
_EXACTLY = {"SO_NETNS_COOKIE": 8}  # and no more
_SOCKET, _TCP, _IP, _IPV6 = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6
LEVELS = {
    _SOCKET: "SOL_SOCKET",
    _IP: "IPPROTO_IP",
    _IPV6: "IPPROTO_IPV6",
    _TCP: "IPPROTO_TCP",
    SOL_MPTCP: "SOL_MPTCP",
}

# What is set: another value than that of a new socket, so that it is seen whether it has an effect. None:
# the option can only be read.
_Value = int | bytes | None
_Tried = tuple[int, str, _Value]


class _Answer(NamedTuple):
    """Of one socket to one option: the errno of the two calls or 0, and what was read before and after."""

    get: int
    set: int
    before: bytes
    after: bytes


def _key() -> bytes:
    """A key for TCP_MD5SIG, of an address that no socket here is connected to."""
    key = ffi.new("struct tcp_md5sig *", {"tcpm_keylen": 1})
    key.tcpm_addr.ss_family = socket.AF_INET
    address = ffi.buffer(key)
    address[4:8] = socket.inet_aton("127.0.0.3")
    return bytes(address)


def _named(level: int, prefix: str, names: str, value: _Value) -> list[_Tried]:
    return [(level, f"{prefix}_{name}", value) for name in names.split()]


def _options() -> dict[int, list[_Tried]]:
    """By family: level, name, and a value that a TCP socket takes."""
    timeout = struct.pack("@ll", 9, 0)
    inet = [
        (_IP, "IP_MTU", None),  # first: options that change the route make the kernel forget it
        *_named(_SOCKET, "SO", "TYPE DOMAIN PROTOCOL ERROR ACCEPTCONN PEERCRED MEMINFO", None),
        *_named(_SOCKET, "SO", "INCOMING_NAPI_ID COOKIE NETNS_COOKIE", None),
        *_named(_SOCKET, "SO", "DEBUG REUSEADDR REUSEPORT KEEPALIVE OOBINLINE DONTROUTE BROADCAST", 1),
        *_named(_SOCKET, "SO", "NO_CHECK PASSCRED PASSSEC PASSPIDFD TIMESTAMP TIMESTAMPNS RXQ_OVFL", 1),
        *_named(_SOCKET, "SO", "WIFI_STATUS NOFCS SELECT_ERR_QUEUE ZEROCOPY PREFER_BUSY_POLL LOCK_FILTER", 1),
        *_named(_SOCKET, "SO", "RCVMARK RCVPRIORITY PRIORITY MARK PEEK_OFF", 1),
        *_named(_SOCKET, "SO", "RCVBUF SNDBUF RCVBUFFORCE SNDBUFFORCE", 8192),
        *_named(_SOCKET, "SO", "BUSY_POLL BINDTOIFINDEX TXREHASH", 0),
        (_SOCKET, "SO_INCOMING_CPU", 1000),  # none that packets came on
        *_named(_SOCKET, "SO", "RCVLOWAT BUSY_POLL_BUDGET BUF_LOCK", 2),
        *_named(_SOCKET, "SO", "RCVTIMEO SNDTIMEO", timeout),
        (_SOCKET, "SO_TIMESTAMPING", 1 << 4),
        (_SOCKET, "SO_BINDTODEVICE", b"lo\0"),
        (_SOCKET, "SO_LINGER", struct.pack("ii", 1, 1)),
        (_SOCKET, "SO_MAX_PACING_RATE", 10**9),
        (_SOCKET, "SO_TXTIME", struct.pack("iI", 1, 0)),
        (_SOCKET, "SO_RESERVE_MEM", 4096),
        *_named(_TCP, "TCP", "INFO CC_INFO SAVED_SYN ULP IS_MPTCP", None),
        *_named(_TCP, "TCP", "NODELAY CORK DEFER_ACCEPT SAVE_SYN INQ FASTOPEN_CONNECT", 1),
        *_named(_TCP, "TCP", "THIN_LINEAR_TIMEOUTS THIN_DUPACK FASTOPEN_NO_COOKIE", 1),
        *_named(_TCP, "TCP", "KEEPIDLE KEEPINTVL KEEPCNT SYNCNT LINGER2 FASTOPEN", 5),
        *_named(_TCP, "TCP", "QUICKACK TIMESTAMP", 0),
        (_TCP, "TCP_TX_DELAY", 0),  # another value would enable it in the whole kernel
        (_TCP, "TCP_MAXSEG", 1000),
        (_TCP, "TCP_WINDOW_CLAMP", 65536),
        (_TCP, "TCP_NOTSENT_LOWAT", 65536),
        (_TCP, "TCP_USER_TIMEOUT", 10_000),
        (_TCP, "TCP_RTO_MAX_MS", 10_000),
        *_named(_TCP, "TCP", "RTO_MIN_US DELACK_MAX_US", 100_000),
        (_TCP, "TCP_CONGESTION", b"reno"),
        (_TCP, "TCP_FASTOPEN_KEY", bytes(range(16))),
        (_TCP, "TCP_MD5SIG", _key()),
        *_named(_IP, "IP", "RECVERR FREEBIND TRANSPARENT BIND_ADDRESS_NO_PORT PKTINFO RECVTTL RECVTOS", 1),
        *_named(_IP, "IP", "RECVORIGDSTADDR RECVOPTS RETOPTS MINTTL", 1),
        (_IP, "IP_TOS", 16),
        *_named(_IP, "IP", "TTL MULTICAST_TTL", 33),
        (_IP, "IP_MULTICAST_LOOP", 0),
        (_IP, "IP_MTU_DISCOVER", 2),
        (_IP, "IP_OPTIONS", b""),
        (_IP, "IP_UNICAST_IF", 0),
        (_IP, "IP_LOCAL_PORT_RANGE", struct.pack("=HH", 40_000, 60_999)),
        *((SOL_MPTCP, f"MPTCP_{name}", None) for name in "INFO TCPINFO SUBFLOW_ADDRS FULL_INFO".split()),
    ]  # fmt: skip
    inet6 = [
        (_IPV6, "IPV6_MTU", 1400),
        (_IPV6, "IPV6_V6ONLY", 1),
        (_IPV6, "IPV6_TCLASS", 16),
        *_named(_IPV6, "IPV6", "UNICAST_HOPS MULTICAST_HOPS", 33),
        (_IPV6, "IPV6_MTU_DISCOVER", 2),
        *_named(_IPV6, "IPV6", "MULTICAST_LOOP UNICAST_IF", 0),
        *_named(_IPV6, "IPV6", "DONTFRAG RECVERR RECVPKTINFO RECVHOPLIMIT RECVRTHDR RECVHOPOPTS", 1),
        *_named(_IPV6, "IPV6", "RECVDSTOPTS RECVTCLASS RECVPATHMTU RECVORIGDSTADDR RECVFRAGSIZE", 1),
        *_named(_IPV6, "IPV6", "FLOWINFO_SEND AUTOFLOWLABEL FREEBIND TRANSPARENT MINHOPCOUNT", 1),
        (_IPV6, "IPV6_ADDR_PREFERENCES", 2),
    ]
    return {socket.AF_INET: inet, socket.AF_INET6: inet6}


# What has to stand in the buffer: sizes of structs, of which none is asked for.
_REQUESTS = {
    MPTCP_TCPINFO: struct.pack("=IIII", 16, 0, 0, 0),
    MPTCP_SUBFLOW_ADDRS: struct.pack("=IIII", 16, 0, 0, 0),
    MPTCP_FULL_INFO: bytes(40),
}
_NUMBERS = {
    "MPTCP_INFO": MPTCP_INFO,
    "MPTCP_TCPINFO": MPTCP_TCPINFO,
    "MPTCP_SUBFLOW_ADDRS": MPTCP_SUBFLOW_ADDRS,
    "MPTCP_FULL_INFO": MPTCP_FULL_INFO,
}


def _number(name: str) -> int:
    number: int = _NUMBERS.get(name) or getattr(lib, name, None) or getattr(socket, name)
    return number


def socket_options() -> list[tuple[str, str, dict[str, str | None], dict[str, str | None]]]:
    """Name, level, and by state how getsockopt() and setsockopt() end on MPTCP; None where TCP refuses too.

    Tries them on sockets of its own, connected over loopback. Without IPv6 its options are left out. OSError
    if there are no MPTCP sockets, or if loopback does not work.
    """
    found = []
    for family, tried in _options().items():
        try:
            mptcp, tcp = (_answers(family, protocol, tried) for protocol in (IPPROTO_MPTCP, _TCP))
        except OSError:
            if family == socket.AF_INET6:
                continue
            raise
        for level, name, value in tried:
            pairs = {state: (mptcp[state, name], tcp[state, name]) for state in STATES}
            found.append(
                (
                    name,
                    LEVELS[level],
                    {state: _get(level, *pair) for state, pair in pairs.items()},
                    {state: None if value is None else _set(*pair) for state, pair in pairs.items()},
                )
            )
    return found


def _get(level: int, mptcp: _Answer, tcp: _Answer) -> str | None:
    if tcp.get and level != SOL_MPTCP:  # which TCP refuses always
        return None
    return _word(mptcp.get) if mptcp.get else YES


def _set(mptcp: _Answer, tcp: _Answer) -> str | None:
    if tcp.set:
        return None
    if mptcp.set:
        return _word(mptcp.set)
    readable = not mptcp.get and not tcp.get
    return NO_EFFECT if readable and tcp.before != tcp.after and mptcp.before == mptcp.after else YES


def _word(number: int) -> str:
    """The name of an errno. EOPNOTSUPP and ENOTSUP are one on Linux."""
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, str(number))


def refused_options() -> dict[str, dict[str, int]]:
    """By option, the states in which MPTCP refuses to set it and TCP does not, with the errno."""
    found: dict[str, dict[str, int]] = {}
    for name, _, _, set_ in socket_options():
        refused = {state: word for state, word in set_.items() if word not in (None, YES, NO_EFFECT)}
        if refused:
            found[name] = {state: getattr(errno, str(word)) for state, word in refused.items()}
    return found


def _answers(family: int, protocol: int, tried: t.Iterable[_Tried]) -> dict[tuple[str, str], _Answer]:
    """By state and option."""
    with contextlib.ExitStack() as stack:
        fresh, client, server = [
            stack.enter_context(socket.socket(family, socket.SOCK_STREAM, protocol)) for _ in range(3)
        ]
        server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        server.listen()
        client.settimeout(_SECONDS)
        client.connect(server.getsockname())
        server.settimeout(_SECONDS)
        accepted = stack.enter_context(server.accept()[0])
        return {
            (state, name): _answer(sock, level, name, value)
            for state, sock in zip(STATES, (fresh, client, accepted, server), strict=True)
            for level, name, value in tried
        }


def _answer(sock: socket.socket, level: int, name: str, value: _Value) -> _Answer:
    refused, before = _read(sock, level, name)
    if value is None:
        return _Answer(refused, 0, before, before)
    number = 0
    try:
        sock.setsockopt(level, _number(name), value)
    except OSError as error:
        number = error.errno or 0
    return _Answer(refused, number, before, _read(sock, level, name)[1])


def _read(sock: socket.socket, level: int, name: str) -> tuple[int, bytes]:
    """The errno or 0, and the answer."""
    option, room = _number(name), _EXACTLY.get(name, _ROOM)
    value, length = ffi.new("char[]", room), ffi.new("int *", room)
    if level == SOL_MPTCP:
        request = _REQUESTS.get(option, b"")
        ffi.buffer(value)[: len(request)] = request
    number = -lib.sockopt_get(sock.fileno(), level, option, value, length)
    return number, b"" if number else bytes(ffi.buffer(value, min(length[0], room)))
