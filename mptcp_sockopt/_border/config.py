# SPDX-License-Identifier: MIT
"""What the network namespace of the calling thread is set to, by netlink: path manager, addresses, routes.
And what the kernel counted in it.

No privilege is needed. OSError has the kernel's errno, or EPROTO for a malformed answer.
"""

from __future__ import annotations

import errno
import socket

from .. import _types as t
from .abi import layout, lib, packed
from .netlink import (
    attribute,
    attributes,
    broken,
    call,
    connected,
    dump,
    generic,
    generic_dump,
    number,
    numbers,
)

_ROUTE, _IFADDR = packed(*layout("rtmsg").values()), packed(*layout("ifaddrmsg").values())
#: Flags of an endpoint, by the names that the kernel gives them.
ENDPOINT_FLAGS = {
    name: getattr(lib, f"MPTCP_PM_ADDR_FLAG_{name}")
    for name in ("SIGNAL", "SUBFLOW", "BACKUP", "FULLMESH", "IMPLICIT", "LAMINAR")
}


def counters() -> dict[str, int]:
    """The MPTcpExt counters, by name. Empty if the kernel has no MPTCP."""
    # As bytes: a codec may not be loaded yet, and cannot be after a chroot.
    with open("/proc/thread-self/net/netstat", "rb") as file:
        lines = [line.split()[1:] for line in file if line.startswith(b"MPTcpExt:")]
    if not lines:
        return {}
    names, values = lines
    return dict(zip([name.decode() for name in names], map(int, values), strict=True))


def limits() -> tuple[int, int]:
    """``ip mptcp limits show``: additional subflows for each connection, and accepted ADD_ADDR."""
    answer = attributes(_path_manager(lambda: generic("mptcp_pm", lib.MPTCP_PM_CMD_GET_LIMITS)))
    asked = lib.MPTCP_PM_ATTR_SUBFLOWS, lib.MPTCP_PM_ATTR_RCV_ADD_ADDRS
    subflows, add_addr_accepted = [numbers("=I", answer.get(kind, b""))[0] for kind in asked]
    return subflows, add_addr_accepted


def endpoints() -> list[tuple[int, str, int, int, int]]:
    """``ip mptcp endpoint show``: id, address, port or 0, flags, interface index or 0."""
    answers = _path_manager(lambda: generic_dump("mptcp_pm", lib.MPTCP_PM_CMD_GET_ADDR))
    return [_endpoint(attributes(answer).get(lib.MPTCP_PM_ATTR_ADDR, b"")) for answer in answers]


def _path_manager(ask: t.Callable[[], t.T]) -> t.T:
    try:
        return ask()
    except FileNotFoundError as error:
        raise OSError(error.errno, "this kernel has no path manager for MPTCP (mptcp_pm)") from None


def _endpoint(nest: bytes) -> tuple[int, str, int, int, int]:
    parts = attributes(nest)

    def of(kind: int, layout: str, default: bytes = b"") -> int:
        return numbers(layout, parts.get(kind, default))[0]

    family = of(lib.MPTCP_PM_ADDR_ATTR_FAMILY, "=H")
    kind = lib.MPTCP_PM_ADDR_ATTR_ADDR6 if family == socket.AF_INET6 else lib.MPTCP_PM_ADDR_ATTR_ADDR4
    return (
        of(lib.MPTCP_PM_ADDR_ATTR_ID, "=B"),
        _host(family, parts.get(kind, b"")),
        of(lib.MPTCP_PM_ADDR_ATTR_PORT, "=H", bytes(2)),
        of(lib.MPTCP_PM_ADDR_ATTR_FLAGS, "=I", bytes(4)),
        of(lib.MPTCP_PM_ADDR_ATTR_IF_IDX, "=i", bytes(4)),
    )


def _host(family: int, address: bytes) -> str:
    try:
        return socket.inet_ntop(family, address)
    except (ValueError, OSError):
        raise broken(f"{len(address)} bytes for an address") from None


def addresses() -> list[tuple[str, int]]:
    """``ip address show``: each address with the index of its interface, those of loopback included."""
    with connected(lib.NETLINK_ROUTE) as netlink:
        answers = dump(netlink, lib.RTM_GETADDR, _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
    found = []
    for answer in answers:
        if len(answer) < _IFADDR.size:
            raise broken(f"{len(answer)} bytes for an address of an interface")
        family, _, _, _, index = _IFADDR.unpack_from(answer)
        parts = attributes(answer[_IFADDR.size :])
        # On a point-to-point interface, IFA_ADDRESS is the peer's.
        address = parts.get(lib.IFA_LOCAL) or parts.get(lib.IFA_ADDRESS)
        if address and family in (socket.AF_INET, socket.AF_INET6):
            found.append((_host(family, address), index))
    return found


def route(
    destination: str, source: str, interface: int = 0, *, match: bool = False
) -> tuple[int, str | None]:
    """``ip route get [fibmatch] DESTINATION from SOURCE [oif INTERFACE]``: interface index, gateway.

    match: answer from the routing table. Otherwise, IPv4 takes every destination to be a neighbour on the
    given interface if no route says anything else. OSError if there is no route: ENETUNREACH, EHOSTUNREACH
    and others; EINVAL (IPv4) if source is no address of this host.
    """
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    to, by = socket.inet_pton(family, destination), socket.inet_pton(family, source)
    flags = lib.RTM_F_FIB_MATCH if match else 0
    request = _ROUTE.pack(family, 8 * len(to), 8 * len(by), 0, 0, 0, 0, 0, flags)
    request += attribute(lib.RTA_DST, to) + attribute(lib.RTA_SRC, by)
    if interface:
        request += number(lib.RTA_OIF, "I", interface)
    with connected(lib.NETLINK_ROUTE) as netlink:
        answer = call(netlink, lib.RTM_GETROUTE, request)
    if len(answer) < _ROUTE.size:
        raise broken(f"{len(answer)} bytes for a route")
    kind = _ROUTE.unpack_from(answer)[7]
    if kind not in (lib.RTN_UNICAST, lib.RTN_LOCAL):
        raise OSError(errno.ENETUNREACH, "the route is one that drops or refuses packets")
    parts = attributes(answer[_ROUTE.size :])
    gateway = parts.get(lib.RTA_GATEWAY)
    return numbers("=I", parts.get(lib.RTA_OIF, bytes(4)))[0], _host(family, gateway) if gateway else None
