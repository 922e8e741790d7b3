# SPDX-License-Identifier: MIT
"""Netlink in Python, for rare requests: one request and its answer; path manager, interfaces.

Each call acts on the network namespace of the calling thread. OSError has the kernel's errno, or EPROTO for a
malformed answer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

from .. import _types as t
from .abi import layout, lib, packed

# Headers begin with the length, then the kind.
_MESSAGE, _ATTRIBUTE = packed(*layout("nlmsghdr").values()), packed(*layout("nlattr").values())
_GENERIC, _IFADDR = packed(*layout("genlmsghdr").values()), packed(*layout("ifaddrmsg").values())
_IFINFO = packed(*layout("ifinfomsg").values())
_TYPE_MASK: int = lib.NLA_TYPE_MASK  # a global: attributes of lib are looked up slowly
_ATTEMPTS = 10
_DATAGRAMS = 100  # an answer is one message and an acknowledgement, in one or two datagrams


class NoNetlinkError(OSError):
    """No netlink socket can be created here; errno is that of socket(2)."""


@contextlib.contextmanager
def connected(protocol: int) -> t.Iterator[socket.socket]:
    try:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    except OSError as error:
        raise NoNetlinkError(error.errno, f"socket(AF_NETLINK): {error.strerror}") from None
    with netlink:
        netlink.settimeout(5)
        netlink.bind((0, 0))
        yield netlink


def attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def nest(kind: int, *inside: bytes) -> bytes:
    return attribute(kind | lib.NLA_F_NESTED, b"".join(inside))


def number(kind: int, layout: str, value: int) -> bytes:
    """An attribute with a number in native byte order: B, H, I or i."""
    return attribute(kind, struct.pack(f"={layout}", value))


def attributes(data: bytes) -> dict[int, bytes]:
    """Values by kind; OSError (EPROTO) if the bytes are malformed."""
    found = {}
    while data:
        kind, value, data = _cut(data, _ATTRIBUTE)
        found[kind & _TYPE_MASK] = value
    return found


def call(netlink: socket.socket, kind: int, payload: bytes, flags: int = 0) -> bytes:
    """One request; returns the payload of its answer, which is empty for a plain acknowledgement.

    OSError with the kernel's errno if it refuses, EPROTO for a malformed answer.
    """
    length = _MESSAGE.size + len(payload)
    flags |= lib.NLM_F_REQUEST | lib.NLM_F_ACK
    netlink.send(_MESSAGE.pack(length, kind, flags, 1, 0) + payload)
    answer = b""
    for _ in range(_DATAGRAMS):
        messages = netlink.recv(65536)
        while messages:
            kind, body, messages = _cut(messages, _MESSAGE)
            if kind == lib.NLMSG_ERROR:
                (error,) = numbers("=i", body)
                if error:
                    raise _refused(error)
                return answer
            answer = body
    raise broken(f"{_DATAGRAMS} datagrams and no acknowledgement")


def commands(family: int, data: bytes) -> t.Iterator[tuple[int, dict[int, bytes]]]:
    """The messages of a generic netlink family in a datagram: command and attributes of each.

    Other messages are left out. OSError (EPROTO) if the bytes are malformed.
    """
    while data:
        kind, body, data = _cut(data, _MESSAGE)
        if kind == family:
            if len(body) < _GENERIC.size:
                raise broken(f"{len(body)} bytes, less than a header")
            yield body[0], attributes(body[_GENERIC.size :])


def dump(netlink: socket.socket, kind: int, payload: bytes) -> list[bytes]:
    """A request with several answers; returns their payloads. OSError as call(), or EAGAIN if what it lists
    changed during each of several dumps."""
    for _ in range(_ATTEMPTS):
        answers = _dumped(netlink, kind, payload)
        if answers is not None:
            return answers
    raise OSError(errno.EAGAIN, f"netlink: the list changed during each of {_ATTEMPTS} dumps")


def _dumped(netlink: socket.socket, kind: int, payload: bytes) -> list[bytes] | None:
    """As dump(), once; None if the list changed meanwhile, so that some may be missing."""
    length = _MESSAGE.size + len(payload)
    netlink.send(_MESSAGE.pack(length, kind, lib.NLM_F_REQUEST | lib.NLM_F_DUMP, 1, 0) + payload)
    answers: list[bytes] = []
    flags = 0
    for _ in range(_DATAGRAMS):
        messages = netlink.recv(65536)
        while messages:
            header = messages
            kind, body, messages = _cut(messages, _MESSAGE)
            flags |= _MESSAGE.unpack_from(header)[2]
            if kind in (lib.NLMSG_ERROR, lib.NLMSG_DONE):
                (error,) = numbers("=i", body)
                if error or kind == lib.NLMSG_ERROR:
                    raise _refused(error)
                return None if flags & lib.NLM_F_DUMP_INTR else answers
            answers.append(body)
    raise broken(f"{_DATAGRAMS} datagrams and no end")


def numbers(layout: str, data: bytes) -> tuple[int, ...]:
    """The numbers at the start of data; OSError (EPROTO) if it is shorter."""
    if len(data) < struct.calcsize(layout):
        raise broken(f"{len(data)} bytes for {layout}")
    return struct.unpack_from(layout, data)


def _cut(data: bytes, header: struct.Struct) -> tuple[int, bytes, bytes]:
    """The first message or attribute: its kind, its payload, and the rest of the data."""
    if len(data) < header.size:
        raise broken(f"{len(data)} bytes left, less than a header")
    length, kind, *_ = header.unpack_from(data)
    if not header.size <= length <= len(data):
        raise broken(f"a length of {length}, with {len(data)} bytes left and a header of {header.size}")
    return kind, data[header.size : length], data[(length + 3) & ~3 :]


def _refused(error: int) -> OSError:
    """The exception for what an answer has in the place of -errno."""
    is_errno = 0 < -error <= lib.MOST_ERRNO
    return OSError(-error, os.strerror(-error)) if is_errno else broken(f"an error of {error}")


def broken(found: str) -> OSError:
    return OSError(errno.EPROTO, f"netlink: {found}")


# ------------------------------------------------------------------------------------------ path manager


def described(netlink: socket.socket, family: str) -> tuple[int, dict[int, bytes]]:
    """The number of a generic netlink family, and all that the kernel tells of it: CTRL_ATTR_..."""
    name = attribute(lib.CTRL_ATTR_FAMILY_NAME, family.encode() + b"\0")
    request = _GENERIC.pack(lib.CTRL_CMD_GETFAMILY, 1, 0) + name
    answer = attributes(call(netlink, lib.GENL_ID_CTRL, request)[_GENERIC.size :])
    (kind,) = numbers("=H", answer.get(lib.CTRL_ATTR_FAMILY_ID, b""))
    return kind, answer


def generic(family: str, command: int, payload: bytes = b"") -> bytes:
    """Send one command to a generic netlink family; returns the payload of its answer, after its header."""
    with connected(lib.NETLINK_GENERIC) as netlink:
        kind, _ = described(netlink, family)
        return call(netlink, kind, _GENERIC.pack(command, 1, 0) + payload)[_GENERIC.size :]


def generic_dump(family: str, command: int) -> list[bytes]:
    """As generic(), for a command with several answers."""
    with connected(lib.NETLINK_GENERIC) as netlink:
        kind, _ = described(netlink, family)
        return [answer[_GENERIC.size :] for answer in dump(netlink, kind, _GENERIC.pack(command, 1, 0))]


def set_limits(subflows: int, add_addr_accepted: int = 0) -> None:
    """Allow up to this many additional subflows and accepted ADD_ADDR for each connection; at most 8."""
    generic(
        "mptcp_pm",
        lib.MPTCP_PM_CMD_SET_LIMITS,
        number(lib.MPTCP_PM_ATTR_SUBFLOWS, "I", subflows)
        + number(lib.MPTCP_PM_ATTR_RCV_ADD_ADDRS, "I", add_addr_accepted),
    )


def _endpoint(command: int, *parts: bytes) -> None:
    generic("mptcp_pm", command, nest(lib.MPTCP_PM_ATTR_ADDR, *parts))


def _address(address: str) -> bytes:
    family, kind = socket.AF_INET, lib.MPTCP_PM_ADDR_ATTR_ADDR4
    if ":" in address:
        family, kind = socket.AF_INET6, lib.MPTCP_PM_ADDR_ATTR_ADDR6
    packed_address = attribute(kind, socket.inet_pton(family, address))
    return number(lib.MPTCP_PM_ADDR_ATTR_FAMILY, "H", family) + packed_address


def add_endpoint(
    address: str, interface: str = "", *, signal: bool = False, backup: bool = False, port: int = 0
) -> None:
    """``ip mptcp endpoint add ADDRESS [dev INTERFACE] subflow``: new connections get a subflow from address.

    With signal, new connections announce address to the peer instead, which may connect to it (``signal [port
    PORT]``; for a port, the kernel creates a listener). The subflow of a backup endpoint is used only if no
    other is left.
    """
    flags = lib.MPTCP_PM_ADDR_FLAG_SIGNAL if signal else lib.MPTCP_PM_ADDR_FLAG_SUBFLOW
    parts = [number(lib.MPTCP_PM_ADDR_ATTR_FLAGS, "I", flags | lib.MPTCP_PM_ADDR_FLAG_BACKUP * backup)]
    if interface:
        parts.append(number(lib.MPTCP_PM_ADDR_ATTR_IF_IDX, "i", socket.if_nametoindex(interface)))
    if port:
        parts.append(number(lib.MPTCP_PM_ADDR_ATTR_PORT, "H", port))
    _endpoint(lib.MPTCP_PM_CMD_ADD_ADDR, _address(address), *parts)


def delete_endpoint(id: int) -> None:
    """``ip mptcp endpoint del id ID``: remove an endpoint and its subflows. ids start at 1."""
    _endpoint(lib.MPTCP_PM_CMD_DEL_ADDR, number(lib.MPTCP_PM_ADDR_ATTR_ID, "B", id))


def delete_initial_address(address: str) -> None:
    """``ip mptcp endpoint del id 0 ADDRESS``: connections drop the initial subflow from address."""
    _endpoint(lib.MPTCP_PM_CMD_DEL_ADDR, _address(address), number(lib.MPTCP_PM_ADDR_ATTR_ID, "B", 0))


def flush_endpoints() -> None:
    """``ip mptcp endpoint flush``: remove all endpoints and their subflows."""
    generic("mptcp_pm", lib.MPTCP_PM_CMD_FLUSH_ADDRS)


# -------------------------------------------------------------------------------------------- interfaces


def _route(kind: int, payload: bytes, flags: int = 0) -> None:
    with connected(lib.NETLINK_ROUTE) as netlink:
        call(netlink, kind, payload, flags)


def _name(interface: str) -> bytes:
    return attribute(lib.IFLA_IFNAME, interface.encode() + b"\0")


def add_address(address: str, interface: str = "lo", prefix: int = 0) -> None:
    """``ip address add ADDRESS/PREFIX dev INTERFACE nodad``; by default, prefix is that of a single host."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    host = socket.inet_pton(family, address)
    index = socket.if_nametoindex(interface)
    message = _IFADDR.pack(family, prefix or 8 * len(host), lib.IFA_F_NODAD, 0, index)
    _route(lib.RTM_NEWADDR, message + attribute(lib.IFA_LOCAL, host) + attribute(lib.IFA_ADDRESS, host))


def bring_up(interface: str) -> None:
    """``ip link set INTERFACE up``."""
    index = socket.if_nametoindex(interface)
    _route(lib.RTM_NEWLINK, _IFINFO.pack(0, 0, 0, index, lib.IFF_UP, lib.IFF_UP))


def add_veth(name: str, peer: str, namespace: int) -> None:
    """``ip link add NAME up type veth peer name PEER netns NAMESPACE``; namespace is a descriptor.

    The peers of all pairs have the same link-layer address and no ARP. On an interface without ARP, the
    kernel sends every frame to the interface's own address. So two peers can be joined without waiting for
    neighbour discovery.
    """
    up, noarp = lib.IFF_UP, lib.IFF_NOARP
    other = _IFINFO.pack(0, 0, 0, 0, noarp, noarp) + _name(peer)
    other += attribute(lib.IFLA_ADDRESS, b"\x02\0\0\0\x09\0") + number(lib.IFLA_NET_NS_FD, "I", namespace)
    kind = attribute(lib.IFLA_INFO_KIND, b"veth")
    pair = nest(lib.IFLA_LINKINFO, kind, nest(lib.IFLA_INFO_DATA, attribute(lib.VETH_INFO_PEER, other)))
    _route(
        lib.RTM_NEWLINK,
        _IFINFO.pack(0, 0, 0, 0, up, up) + _name(name) + pair,
        lib.NLM_F_CREATE | lib.NLM_F_EXCL,
    )
