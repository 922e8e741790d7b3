# SPDX-License-Identifier: MIT
"""Socket options that a TCP socket takes: which of them does an MPTCP socket refuse here?"""

from __future__ import annotations

import contextlib
import socket
import struct

from .. import _types as t
from .abi import IPPROTO_MPTCP, ffi, lib

#: The states in which options are tried.
STATES = ("fresh", "connected", "listening")
# Over loopback. Less than a second, after which the kernel would send its SYN again, perhaps without MPTCP.
_SECONDS = 0.5
_LINGER = struct.pack("ii", 1, 1)
_SOCKET, _TCP, _IP, _IPV6 = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6


def _key() -> bytes:
    """A key for TCP_MD5SIG, of an address that no socket here is connected to."""
    key = ffi.new("struct tcp_md5sig *", {"tcpm_keylen": 1})
    key.tcpm_addr.ss_family = socket.AF_INET
    address = ffi.buffer(key)
    address[4:8] = socket.inet_aton("127.0.0.3")
    return bytes(address)


def _options() -> dict[int, list[tuple[int, str, int | bytes]]]:
    """By family: level, name, and a value that a TCP socket takes."""
    inet: list[tuple[int, str, int | bytes]] = [
        *((_SOCKET, f"SO_{name}", 1) for name in "REUSEADDR REUSEPORT KEEPALIVE OOBINLINE DONTROUTE".split()),
        *((_SOCKET, f"SO_{name}", 4096) for name in "RCVBUF SNDBUF".split()),
        *((_SOCKET, f"SO_{name}", 0) for name in "PRIORITY MARK BUSY_POLL INCOMING_CPU".split()),
        (_SOCKET, "SO_LINGER", _LINGER),
        (_SOCKET, "SO_RCVLOWAT", 1),
        (_SOCKET, "SO_ZEROCOPY", 1),
        (_SOCKET, "SO_MAX_PACING_RATE", 10**9),
        *((_TCP, f"TCP_{name}", 1) for name in "NODELAY CORK DEFER_ACCEPT QUICKACK SAVE_SYN INQ".split()),
        *((_TCP, f"TCP_{name}", 5) for name in "KEEPIDLE KEEPINTVL KEEPCNT SYNCNT LINGER2 FASTOPEN".split()),
        *((_TCP, f"TCP_{name}", 1) for name in "FASTOPEN_CONNECT THIN_LINEAR_TIMEOUTS".split()),
        (_TCP, "TCP_TX_DELAY", 0),  # another value would enable it in the whole kernel
        (_TCP, "TCP_MAXSEG", 1000),
        (_TCP, "TCP_WINDOW_CLAMP", 65536),
        (_TCP, "TCP_NOTSENT_LOWAT", 65536),
        (_TCP, "TCP_USER_TIMEOUT", 10_000),
        (_TCP, "TCP_RTO_MAX_MS", 10_000),
        (_TCP, "TCP_CONGESTION", b"reno"),
        (_TCP, "TCP_MD5SIG", _key()),
        *((_IP, f"IP_{name}", 1) for name in "RECVERR FREEBIND TRANSPARENT BIND_ADDRESS_NO_PORT".split()),
        (_IP, "IP_TOS", 16),
        (_IP, "IP_TTL", 64),
        (_IP, "IP_MINTTL", 1),
        (_IP, "IP_MTU_DISCOVER", 1),
        (_IP, "IP_LOCAL_PORT_RANGE", 0),
    ]
    inet6: list[tuple[int, str, int | bytes]] = [
        (_IPV6, "IPV6_V6ONLY", 0),
        (_IPV6, "IPV6_TCLASS", 16),
        (_IPV6, "IPV6_UNICAST_HOPS", 64),
        (_IPV6, "IPV6_DONTFRAG", 1),
        (_IPV6, "IPV6_RECVERR", 1),
        (_IPV6, "IPV6_MTU_DISCOVER", 1),
    ]
    return {socket.AF_INET: inet, socket.AF_INET6: inet6}


def _number(name: str) -> int:
    number: int = getattr(lib, name, None) or getattr(socket, name)
    return number


def refused_options() -> dict[str, dict[str, int]]:
    """By option, the states in which MPTCP refuses it and TCP does not, with the errno.

    Tries them on sockets of its own, connected over loopback. Without IPv6 its options are left out. OSError
    if there are no MPTCP sockets, or if loopback does not work.
    """
    found: dict[str, dict[str, int]] = {}
    for family, options in _options().items():
        try:
            refusals = [_refusals(family, protocol, options) for protocol in (IPPROTO_MPTCP, _TCP)]
        except OSError:
            if family == socket.AF_INET6:
                continue
            raise
        for (state, name), number in refusals[0].items():
            if number and not refusals[1][state, name]:
                found.setdefault(name, {})[state] = number
    return found


def _refusals(
    family: int, protocol: int, options: t.Iterable[tuple[int, str, int | bytes]]
) -> dict[tuple[str, str], int]:
    """By state and option: the errno, 0 if it is taken."""
    with contextlib.ExitStack() as stack:
        fresh, client, server = [
            stack.enter_context(socket.socket(family, socket.SOCK_STREAM, protocol)) for _ in STATES
        ]
        server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        server.listen()
        client.settimeout(_SECONDS)
        client.connect(server.getsockname())
        return {
            (state, name): _refusal(sock, level, _number(name), value)
            for state, sock in zip(STATES, (fresh, client, server), strict=True)
            for level, name, value in options
        }


def _refusal(sock: socket.socket, level: int, option: int, value: int | bytes) -> int:
    try:
        sock.setsockopt(level, option, value)
    except OSError as error:
        return error.errno or 0
    return 0
