# SPDX-License-Identifier: MIT
"""The events of the path manager: a subscription to its multicast group, and what a message says.

The group is mptcp_pm_events of the generic netlink family mptcp_pm (Linux 5.12). A command is an event.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

from .. import _types as t
from .._errors import UnsupportedOptionError
from . import netlink
from .abi import lib

CALL = "mptcp_events()"
_FAMILY, _GROUP = "mptcp_pm", b"mptcp_pm_events\0"
_LARGEST = 65536  # bytes of a datagram; an event has about 120
_WHO = "root, or the owner of the user namespace that owns this network namespace (CAP_NET_ADMIN)"

# By attribute: the name of what it holds, and its layout.
_NUMBERS = {
    lib.MPTCP_ATTR_TOKEN: ("token", struct.Struct("=I")),
    lib.MPTCP_ATTR_FAMILY: ("family", struct.Struct("=H")),
    lib.MPTCP_ATTR_LOC_ID: ("id", struct.Struct("=B")),
    lib.MPTCP_ATTR_REM_ID: ("remote_id", struct.Struct("=B")),
    lib.MPTCP_ATTR_BACKUP: ("backup", struct.Struct("=?")),
    lib.MPTCP_ATTR_ERROR: ("error", struct.Struct("=B")),
    lib.MPTCP_ATTR_FLAGS: ("flags", struct.Struct("=H")),
    lib.MPTCP_ATTR_IF_IDX: ("ifindex", struct.Struct("=i")),
    lib.MPTCP_ATTR_RESET_REASON: ("reset_reason", struct.Struct("=I")),
    lib.MPTCP_ATTR_RESET_FLAGS: ("reset_flags", struct.Struct("=I")),
    lib.MPTCP_ATTR_SERVER_SIDE: ("server_side", struct.Struct("=?")),
}
_PORT = struct.Struct(">H")
_SERVER_SIDE: int = lib.MPTCP_PM_EV_FLAG_SERVER_SIDE
# The address of an end: attribute and family; and the attribute of its port.
_ENDS = {
    "local": (
        {lib.MPTCP_ATTR_SADDR4: socket.AF_INET, lib.MPTCP_ATTR_SADDR6: socket.AF_INET6},
        lib.MPTCP_ATTR_SPORT,
    ),
    "remote": (
        {lib.MPTCP_ATTR_DADDR4: socket.AF_INET, lib.MPTCP_ATTR_DADDR6: socket.AF_INET6},
        lib.MPTCP_ATTR_DPORT,
    ),
}


def subscribe(buffer: int) -> tuple[socket.socket, int]:
    """A non-blocking socket that receives the events, and the number of their family.

    Unread events may take about buffer bytes; without privilege, net.core.rmem_max limits it.
    UnsupportedOptionError if the kernel has no such events, PermissionError if the caller may not have them.
    """
    try:
        with netlink.connected(lib.NETLINK_GENERIC) as asked:
            family, told = netlink.described(asked, _FAMILY)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise _unsupported("has no path manager of MPTCP") from None
        raise OSError(error.errno, f"{CALL}: {error.strerror}") from None
    groups = netlink.attributes(told.get(lib.CTRL_ATTR_MCAST_GROUPS, b""))
    numbers = {
        group.get(lib.CTRL_ATTR_MCAST_GRP_NAME): group.get(lib.CTRL_ATTR_MCAST_GRP_ID, b"")
        for group in map(netlink.attributes, groups.values())
    }
    if _GROUP not in numbers:
        raise _unsupported("tells no events of MPTCP")
    (group,) = netlink.numbers("=I", numbers[_GROUP])
    subscribed = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, lib.NETLINK_GENERIC)
    try:
        subscribed.bind((0, 0))
        subscribed.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        with contextlib.suppress(PermissionError):  # beyond net.core.rmem_max
            subscribed.setsockopt(socket.SOL_SOCKET, lib.SO_RCVBUFFORCE, buffer)
        subscribed.setsockopt(lib.SOL_NETLINK, lib.NETLINK_ADD_MEMBERSHIP, group)
    except OSError as error:
        subscribed.close()
        if error.errno == errno.EPERM:
            raise PermissionError(errno.EPERM, f"{CALL}: only {_WHO} may subscribe to events") from None
        raise OSError(error.errno, f"{CALL}: {error.strerror}") from None
    return subscribed, family


def _unsupported(lacking: str) -> UnsupportedOptionError:
    problem = UnsupportedOptionError(
        errno.EOPNOTSUPP, f"{CALL}: this kernel {lacking}: this needs Linux 5.12 with CONFIG_MPTCP"
    )
    problem.option = "mptcp_pm_events"
    return problem


def receive(subscribed: socket.socket, family: int) -> list[dict[str, t.Any]]:
    """The events of one datagram, which is empty if it is not from the kernel.

    BlockingIOError if there is none; OSError with ENOBUFS if events were lost, EPROTO if it is malformed.
    """
    data, (sender, _) = subscribed.recvfrom(_LARGEST)
    return parsed(data, family) if sender == 0 else []


def parsed(data: bytes, family: int) -> list[dict[str, t.Any]]:
    """The events in a datagram: ``kind``, a number, and those parts of MPTCPEvent that there are."""
    return [{"kind": command, **_parts(told)} for command, told in netlink.commands(family, data)]


def _parts(told: t.Mapping[int, bytes]) -> dict[str, t.Any]:
    parts: dict[str, t.Any] = {}
    for kind, value in told.items():
        if kind in _NUMBERS:
            name, layout = _NUMBERS[kind]
            parts[name] = _number(layout, value)
    if parts.get("flags", 0) & _SERVER_SIDE:
        parts["server_side"] = True
    for name, (addresses, port) in _ENDS.items():
        number = _number(_PORT, told[port]) if port in told else 0
        for kind, family in addresses.items():
            if kind in told:
                parts[name] = _address(family, told[kind], number, parts.get("ifindex", 0))
    return parts


def _number(layout: struct.Struct, value: bytes) -> t.Any:
    if len(value) != layout.size:
        raise netlink.broken(f"an attribute of {len(value)} bytes instead of {layout.size}")
    return layout.unpack(value)[0]


def _address(family: int, host: bytes, port: int, interface: int) -> t.Address:
    """As socket.getsockname() returns it; flowinfo, which the kernel does not report, is 0."""
    try:
        text = socket.inet_ntop(family, host)
    except ValueError:
        raise netlink.broken(f"an address of {len(host)} bytes") from None
    if family == socket.AF_INET:
        return text, port
    is_link_local = host[0] == 0xFE and host[1] & 0xC0 == 0x80
    return text, port, 0, interface if is_link_local else 0
