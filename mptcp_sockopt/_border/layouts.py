# SPDX-License-Identifier: MIT
"""Layouts of answers with several structs: MPTCP_FULL_INFO, the addresses of a subflow, a record of a dump.

All offsets come from the header by reflection. This module does not know what the fields mean.
"""

from __future__ import annotations

import socket
import struct

from .. import _types as t
from .abi import LEAST_MPTCP_INFO, MPTCP_INFO_ROOM, Place, ffi, layout, lib, numbers, packed

_MPTCP_INFO = layout("mptcp_info")
#: The size of today's mptcp_info, in bytes.
MPTCP_INFO_SIZE = max(place.end for place in _MPTCP_INFO.values())
MPTCP_INFO_ALIGNED = 4  # 8 on a 64-bit kernel


# ------------------------------------------------------------------------------------ the ends of a subflow

_IN = layout("kernel_sockaddr_in", "sin_")
_IN6 = layout("kernel_sockaddr_in6", "sin6_")
_ADDRS = layout("mptcp_subflow_addrs")
_FAMILY = _ADDRS["sa_family"]
_family = packed(_FAMILY).unpack_from
_scope_id = packed(_IN6["scope_id"]).unpack_from

ADDRS_SIZE = _ADDRS["ss_remote"].end
KNOWN_FAMILIES = (socket.AF_INET, socket.AF_INET6)
LOCAL, REMOTE = _ADDRS["ss_local"].offset, _ADDRS["ss_remote"].offset
#: The fields in the machine's byte order, whatever the family.
FAMILIES = [Place(start + _FAMILY.offset, _FAMILY.size) for start in (LOCAL, REMOTE)]


def families(addrs: t.Raw) -> tuple[int, int]:
    """The families of both addresses."""
    return _family(addrs, LOCAL)[0], _family(addrs, REMOTE)[0]


def scope_ids(addrs: t.Raw) -> list[Place]:
    """The fields of IPv6 addresses that are in the machine's byte order. (Ports and flowinfo are not.)"""
    place = _IN6["scope_id"]
    pairs = zip((LOCAL, REMOTE), families(addrs), strict=True)
    return [Place(at + place.offset, place.size) for at, family in pairs if family == socket.AF_INET6]


def address(addrs: t.Raw, start: int) -> t.Address | None:
    """The address at LOCAL or REMOTE; None if its family is neither AF_INET nor AF_INET6."""

    def part(place: Place) -> bytes:
        return addrs[start + place.offset : start + place.end]

    (family,) = _family(addrs, start)
    if family == socket.AF_INET:
        return socket.inet_ntop(family, part(_IN["addr"])), int.from_bytes(part(_IN["port"]), "big")
    if family == socket.AF_INET6:
        host = socket.inet_ntop(family, part(_IN6["addr"]))
        port, flowinfo = (int.from_bytes(part(_IN6[name]), "big") for name in ("port", "flowinfo"))
        (scope_id,) = _scope_id(addrs, start + _IN6["scope_id"].offset)
        return host, port, flowinfo, scope_id
    return None


# ------------------------------------------------------------------------------------------ MPTCP_FULL_INFO

#: The fields of its header, which mptcp_info follows.
FULL_INFO = layout("mptcp_full_info")
#: The offset of mptcp_info.
INFO_AT = FULL_INFO.pop("mptcp_info").offset
NUM_SUBFLOWS = FULL_INFO["num_subflows"]
#: The two user pointers.
POINTERS = slice(FULL_INFO["subflow_info"].offset, FULL_INFO["tcp_info"].end)
SUBFLOW_ID = layout("mptcp_subflow_info")["id"]
_FLAGS_AT = INFO_AT + _MPTCP_INFO["mptcpi_flags"].offset
_flags = packed(_MPTCP_INFO["mptcpi_flags"]).unpack_from
_STATE_AT: int = ffi.offsetof("struct tcp_info", "tcpi_state")
_LARGEST = 1 << 16  # bytes of an element: more than any struct, less than a number in the wrong byte order
_head = packed(*(place for place in FULL_INFO.values() if place.end <= POINTERS.start)).unpack_from
_num_subflows = packed(NUM_SUBFLOWS).unpack_from
#: The id of the mptcp_subflow_info at an offset: (id,).
subflow_id = packed(SUBFLOW_ID).unpack_from


def num_subflows(full_info: t.Raw | memoryview) -> int:
    (count,) = _num_subflows(full_info, NUM_SUBFLOWS.offset)
    return int(count)


def small_number(full_info: t.Raw) -> tuple[int, int]:
    """A number in the header that is always small, and the size of its field."""
    return _head(full_info)[2], FULL_INFO["size_sfinfo_kernel"].size


def full_info_shape(full_info: t.Raw) -> tuple[int, int, int, int, int]:
    """The layout of a compacted answer (see csrc/mptcp_sockopt.h), as five numbers.

    These are: the end of mptcp_info, the number of elements in each of the two arrays that follow, the
    element size of the first array, the offset of the addresses in its elements, and the element size of the
    second array.
    """
    _, tcp_info, element_of_kernel, element, count, room = _head(full_info)
    if count > room:
        count = room
    # 264 bytes with the addresses at 8 from a 64-bit kernel, 260 with the addresses at 4 from a 32-bit one.
    addrs = element_of_kernel - ADDRS_SIZE
    if addrs > 8:
        addrs = 8
    return len(full_info) - count * (element + tcp_info), count, element, addrs, tcp_info


def flags_and_states(full_info: t.Raw, shape: tuple[int, int, int, int, int]) -> tuple[int, bytes]:
    """mptcpi_flags, and tcpi_state of each subflow as one byte. shape: see full_info_shape()."""
    at, count, element, _, tcp_info = shape
    return _flags(full_info, _FLAGS_AT)[0], full_info[at + count * element + _STATE_AT :: tcp_info]


def is_full_info(full_info: t.Raw) -> bool:
    """Whether the header is consistent with the length, and has sizes that a kernel can report."""
    tcp_info_of_kernel, _, element_of_kernel, *_ = _head(full_info)
    info_end, count, element, addrs, tcp_info = full_info_shape(full_info)
    info = info_end - INFO_AT
    return (
        LEAST_MPTCP_INFO <= info <= MPTCP_INFO_ROOM
        and info % MPTCP_INFO_ALIGNED == 0
        and max(SUBFLOW_ID.end, addrs) + ADDRS_SIZE <= element_of_kernel <= _LARGEST
        and 0 < tcp_info_of_kernel <= _LARGEST
        and element <= element_of_kernel
        and tcp_info <= tcp_info_of_kernel
        and (count == 0 or (addrs + ADDRS_SIZE <= element and tcp_info > 0))
    )


# ------------------------------------------------------------------------------------------ record of a dump

_MSG, _ID = layout("inet_diag_msg", "idiag_"), layout("inet_diag_sockid", "idiag_")
_ID_AT = layout("inet_diag_msg")["id"].offset


def _in_id(name: str) -> Place:
    return Place(_ID_AT + _ID[name].offset, _ID[name].size)


#: The fields of inet_diag_msg without the socket's id, except the interface.
DIAG_MSG = {**_MSG, "ifindex": _in_id("if")}
#: The offset of mptcp_info in a record.
DIAG_INFO_AT: int = ffi.sizeof(ffi.typeof("struct inet_diag_msg"))
_COOKIE = _in_id("cookie")
_WORD = _COOKIE.size // 2
#: The two words of the cookie, each in the machine's byte order.
COOKIE = [Place(_COOKIE.offset, _WORD), Place(_COOKIE.offset + _WORD, _WORD)]
_cookie = packed(*COOKIE).unpack_from
_HOSTS, _PORTS = [_in_id("src"), _in_id("dst")], [_in_id("sport"), _in_id("dport")]
# Each connection of a dump has four addresses: plain numbers are quicker than places.
_ENDS = [(host.offset, port.offset) for host, port in zip(_HOSTS, _PORTS, strict=True)]
_FAMILY_AT, _INTERFACE = DIAG_MSG["family"].offset, DIAG_MSG["ifindex"]
_interface = packed(_INTERFACE).unpack_from
#: Their value if the kernel does not report the cookie.
NO_COOKIE = (0xFFFFFFFF, 0xFFFFFFFF)
_ANY_COOKIE = b"\xff" * _COOKIE.size


def cookie(record: t.Raw) -> int | None:
    words = _cookie(record, _COOKIE.offset)
    return None if words == NO_COOKIE else int(words[0] | words[1] << 32)


def diag_end(record: t.Raw, *, remote: bool) -> t.Address:
    """The local or remote address of the socket; flowinfo, which the kernel does not report, is 0."""
    host_at, port_at = _ENDS[remote]
    port = record[port_at] << 8 | record[port_at + 1]
    if record[_FAMILY_AT] == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, record[host_at : host_at + 4]), port
    host = record[host_at : host_at + 16]
    link_local = host[0] == 0xFE and host[1] & 0xC0 == 0x80
    scope_id = int(_interface(record, _INTERFACE.offset)[0]) if link_local else 0
    return socket.inet_ntop(socket.AF_INET6, host), port, 0, scope_id


# --------------------------------------------------------------------------------------- record of a subflow

_SUBFLOW = layout("diag_subflow")
#: The fields of a record of a subflow: those of inet_diag_msg, and what the kernel says about MPTCP.
DIAG_SUBFLOW = {**DIAG_MSG, **{name: place for name, place in _SUBFLOW.items() if name != "msg"}}
#: The offset of tcp_info in a record.
DIAG_TCP_INFO_AT: int = ffi.sizeof(ffi.typeof("struct diag_subflow"))
#: The bit of ``told`` that stands for a field.
TOLD = {name: 1 << number for name, number in numbers("MPTCP_SUBFLOW_ATTR_").items()}
TOLD_MPTCP: int = lib.SUBFLOW_TOLD_MPTCP
_FLAGS_OF_SUBFLOW, _TOLD = DIAG_SUBFLOW["flags"], DIAG_SUBFLOW["told"]
_flags_of_subflow, _told = packed(_FLAGS_OF_SUBFLOW).unpack_from, packed(_TOLD).unpack_from


#: A kernel that returns this much tcp_info tells a socket's ULP to every caller (since 6.15).
TCP_INFO_OF_6_18 = layout("tcp_info", "tcpi_")["raw_276"].end
_PRIVILEGED_AT = DIAG_SUBFLOW["privileged"].offset


def is_told(record: t.Raw) -> bool:
    """Whether the kernel surely told what there is to be told about MPTCP. False: it may withhold it."""
    return bool(told(record) or record[_PRIVILEGED_AT] or len(record) >= DIAG_TCP_INFO_AT + TCP_INFO_OF_6_18)


def told(record: t.Raw) -> int:
    """What the kernel told: TOLD_MPTCP, and the bits of TOLD."""
    return int(_told(record, _TOLD.offset)[0])


def subflow_flags(record: t.Raw) -> int | None:
    """The flags of a subflow; None if the kernel did not tell them."""
    if not told(record) & TOLD["FLAGS"]:
        return None
    return int(_flags_of_subflow(record, _FLAGS_OF_SUBFLOW.offset)[0])


_ports, _hosts = struct.Struct(">HH").pack, struct.Struct("=16s16sI").pack
_token = struct.Struct("=40xII").pack


def ident_of_ends(family: int, local: t.Address, remote: t.Address, interface: int = 0) -> bytes:
    """struct inet_diag_sockid of these addresses, with any cookie; bound to this interface, or their own."""
    try:
        hosts = [socket.inet_pton(family, end[0].partition("%")[0]) for end in (local, remote)]
        interface = interface or (local[3] if len(local) > 2 else 0) or (remote[3] if len(remote) > 2 else 0)
        return _ports(local[1], remote[1]) + _hosts(*hosts, interface) + _ANY_COOKIE
    except (OSError, OverflowError, ValueError, struct.error) as error:
        raise ValueError(f"not a pair of addresses: {local!r} and {remote!r} ({error})") from None


def ident_of_record(record: t.Raw) -> bytes:
    """struct inet_diag_sockid of the ends of a socket, with any cookie."""
    return bytes(record[_BOTH_ENDS.offset : _BOTH_ENDS.end]) + _ANY_COOKIE


def ident_of_token(token: int) -> bytes:
    """struct inet_diag_sockid with this token in the place of the cookie."""
    return _token(token, 0)


def selected(stride: int, *names: str) -> struct.Struct:
    """Unpacks these fields of each record of subflows: numbers, but ports and addresses as bytes."""
    ends = {"src": _HOSTS[0], "sport": _PORTS[0], "dport": _PORTS[1]}
    form, end = "=", 0
    for name in names:
        place = ends.get(name) or DIAG_SUBFLOW[name]
        kind = f"{place.size}s" if name in ends else place.format[1:]
        form += f"{place.offset - end}x{kind}"
        end = place.end
    return struct.Struct(f"{form}{stride - end}x")


#: The ends of a socket in a record: ports, addresses and the interface.
_BOTH_ENDS = Place(_PORTS[0].offset, _COOKIE.offset - _PORTS[0].offset)


def records(stride: int, places: t.Mapping[str, Place], at: int, more: t.Iterable[Place]) -> struct.Struct:
    """Unpacks these fields of each record, in order: numbers, and as bytes what "ends" stands for.

    more: fields of a struct at this offset.
    """
    form, end = "=", 0
    inside = [Place(at + place.offset, place.size) for place in more]
    for place in [*places.values(), *inside]:
        form += f"{place.offset - end}x" + (place.format[1:] if place.size <= 8 else f"{place.size}s")
        end = place.end
    return struct.Struct(f"{form}{stride - end}x")


def in_records(*names: str) -> dict[str, Place]:
    """The places of these fields of a record of any dump, and of "ends"; give them in order."""
    return {name: _BOTH_ENDS if name == "ends" else DIAG_SUBFLOW[name] for name in names}
