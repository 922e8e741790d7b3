# SPDX-License-Identifier: MIT
"""What the readers return: the kernel's structs as views, and the enums that name their numbers.

Attributes are the fields of the C struct under the kernel's names without ``mptcpi_`` or ``tcpi_``. How a
view decodes is in _fields.py.

Thread rule of every class here: immutable, so any thread may use it at any time.
"""

from __future__ import annotations

import enum
import socket
import struct

from . import _abi
from ._fields import Record, View, always, newer
from ._tcp_info import LIVE_STATES
from ._tcp_info import TCPInfo as TCPInfo
from ._tcp_info import TCPState as TCPState

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, TypeAlias

    from typing_extensions import Self

    #: As socket.getsockname() gives it: (host, port) of IPv4, (host, port, flowinfo, scope_id) of IPv6.
    Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

_FLAGS = _abi.numbers("MPTCP_INFO_FLAG_")


class InfoFlag(enum.IntFlag):
    """Bits of ``MPTCPInfo.flags``. Thread rule: immutable, use it anywhere."""

    FALLBACK = _FLAGS["FALLBACK"]
    REMOTE_KEY_RECEIVED = _FLAGS["REMOTE_KEY_RECEIVED"]


class MPTCPInfo(View):
    """``struct mptcp_info``: what MPTCP_INFO says of a connection (Linux 5.16; RFC 8684).

    Ages are in ms with the resolution of a jiffy. Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _places = _abi.layout("mptcp_info", "mptcpi_")
    _smallest = _abi.LEAST_MPTCP_INFO
    # The struct grew into its own tail padding, so the end of a field does not tell whether the kernel
    # knew it: its length then does. A 32-bit kernel's is the smaller one where padding makes two.
    _size_since: ClassVar[Mapping[str, int]] = {
        "5.9": 40, "5.12": 44, "5.14": 44, "6.5": 80, "6.8": 84, "6.10": 96, "6.18": 96, "6.19": 96,
    }  # fmt: skip

    subflows = always("Subflows besides the initial one; 0 on a connection with one path.", "subflows", "5.9")
    add_addr_signal = always("ADD_ADDR that this side has announced.", "addresses", "5.9")
    add_addr_accepted = always("ADD_ADDR of the peer that this side has accepted.", "addresses", "5.9")
    subflows_max = always("Limit on additional subflows, of the in-kernel path manager.", "subflows", "5.9")
    add_addr_signal_max = always("Endpoints configured as `signal`.", "endpoints", "5.9")
    add_addr_accepted_max = always("Limit on accepted ADD_ADDR.", "addresses", "5.9")
    flags = always("Bits of InfoFlag; FALLBACK is never seen through getsockopt.", "bits", "5.9")
    token = always("This side's token; 0 before connect, on a listener, after a fastclose.", "token", "5.9")
    write_seq = always("Data sequence number that the next write gets.", "sequence number", "5.9")
    snd_una = always("First data sequence number that is not acknowledged.", "sequence number", "5.9")
    rcv_nxt = always("Data sequence number expected next from the peer.", "sequence number", "5.9")
    local_addr_used = newer("5.12", "Local endpoints that this connection uses.", "endpoints")
    local_addr_max = newer("5.12", "Endpoints configured as `subflow`.", "endpoints")
    csum_enabled = newer(
        "5.14", "1 where the DSS checksum is in use: either side asking turns it on.", "boolean"
    )
    retransmits = newer("6.5", "MPTCP-level timeouts in a row, at this moment; not a total.", "timeouts")
    bytes_retrans = newer("6.5", "Payload sent again on another subflow (reinjected).", "bytes")
    bytes_sent = newer("6.5", "Payload sent.", "bytes")
    bytes_received = newer("6.5", "Payload received in order, counted on arrival.", "bytes")
    bytes_acked = newer(
        "6.5", "Payload acknowledged by the peer; our own DATA_FIN counts as one byte.", "bytes"
    )
    subflows_total = newer(
        "6.8", "Subflows with the initial one, if that is still usable: `subflows`, or one more.", "subflows"
    )
    endp_laminar_max = newer("6.18", "Endpoints configured as `laminar`; 0 on 6.10 to 6.17.", "endpoints")
    endp_fullmesh_max = newer("6.19", "Endpoints configured as `fullmesh`; 0 on 6.10 to 6.18.", "endpoints")
    last_data_sent = newer("6.10", "Since data was last sent.", "ms")
    last_data_recv = newer("6.10", "Since data was last received.", "ms")
    last_ack_recv = newer("6.10", "Since an MPTCP-level acknowledgement was last received.", "ms")


_SOCKADDR_IN = _abi.layout("kernel_sockaddr_in", "sin_")
_SOCKADDR_IN6 = _abi.layout("kernel_sockaddr_in6", "sin6_")
_ADDRS = _abi.layout("mptcp_subflow_addrs")
_family = struct.Struct(_ADDRS["sa_family"].format).unpack_from
_scope_id = struct.Struct(_SOCKADDR_IN6["scope_id"].format).unpack_from


def _address(raw: bytes, start: int) -> Address | None:
    def part(place: _abi.Place) -> bytes:
        return raw[start + place.offset : start + place.end]

    (family,) = _family(raw, start)
    if family == socket.AF_INET:
        host = socket.inet_ntop(family, part(_SOCKADDR_IN["addr"]))
        return host, int.from_bytes(part(_SOCKADDR_IN["port"]), "big")
    if family == socket.AF_INET6:
        host = socket.inet_ntop(family, part(_SOCKADDR_IN6["addr"]))
        port = int.from_bytes(part(_SOCKADDR_IN6["port"]), "big")
        flowinfo = int.from_bytes(part(_SOCKADDR_IN6["flowinfo"]), "big")
        (scope_id,) = _scope_id(raw, start + _SOCKADDR_IN6["scope_id"].offset)
        return host, port, flowinfo, scope_id
    return None


class SubflowAddrs(View):
    """``struct mptcp_subflow_addrs``: the two ends of a subflow (Linux 5.16).

    Addresses are tuples as ``socket.getsockname()`` gives them. The kernel leaves scope_id and flowinfo 0,
    also for link-local addresses. Families may differ from subflow to subflow: on an IPv6 socket that
    talks IPv4 the initial one is v4-mapped, one that the path manager added may be plain IPv4.
    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _smallest = _ADDRS["ss_remote"].end

    @property
    def local(self) -> Address | None:
        """This side's address; None for a family that is neither AF_INET nor AF_INET6."""
        return _address(self, _ADDRS["ss_local"].offset)

    @property
    def remote(self) -> Address | None:
        """The peer's address, zero on a listener; None as for local."""
        return _address(self, _ADDRS["ss_remote"].offset)

    def asdict(self, *, clean: bool = False) -> dict[str, Any]:
        """Both addresses by name."""
        return {"local": self.local, "remote": self.remote}


class Subflow(Record):
    """One path of a connection. Thread rule: immutable, use it anywhere."""

    __slots__ = {
        "id": "Its number in the connection: 1 is the initial one; never used again; with gaps where a join "
        "failed; the peer numbers its own way. None before Linux 6.5, and on plain TCP.",
        "addrs": "Its two ends (SubflowAddrs).",
        "tcp_info": "What TCP knows of it (TCPInfo).",
    }

    id: int | None
    addrs: SubflowAddrs
    tcp_info: TCPInfo

    def __init__(self, id: int | None, addrs: SubflowAddrs, tcp_info: TCPInfo) -> None:
        super().__init__(id, addrs, tcp_info)

    @property
    def local(self) -> Address | None:
        """This side's address, as getsockname() gives it."""
        return self.addrs.local

    @property
    def remote(self) -> Address | None:
        """The peer's address, as getpeername() gives it."""
        return self.addrs.remote

    @property
    def live(self) -> bool:
        """Whether it can carry data: ESTABLISHED, FIN_WAIT1, FIN_WAIT2 or CLOSE_WAIT.

        Not while it joins (SYN_SENT), not at its end, not in a listener; False too where the answer is too
        short to say. A path that has gone silent is live until TCP gives it up. docs/subflows.md has a table.
        """
        return self.tcp_info.state in LIVE_STATES

    def asdict(self, *, clean: bool = False) -> dict[str, Any]:
        """All of it by name; clean as in ``TCPInfo.asdict()``."""
        tcp_info = self.tcp_info.asdict(clean=clean)
        return {"id": self.id, "live": self.live, **self.addrs.asdict(), "tcp_info": tcp_info}

    def __repr__(self) -> str:
        return f"Subflow(id={self.id}, local={self.local}, remote={self.remote}, live={self.live}, ...)"


_new_object, _new_bytes = object.__new__, bytes.__new__
_set_id, _set_addrs, _set_tcp_info = (vars(Subflow)[name].__set__ for name in Subflow.__slots__)

_ADDRS_SIZE = SubflowAddrs._smallest

_FULL_INFO = _abi.layout("mptcp_full_info")
_full_info_head = struct.Struct("=IIIIII").unpack_from  # all before the pointers
_full_info_count = struct.Struct(_FULL_INFO["num_subflows"].format).unpack_from
_subflow_id = struct.Struct(_abi.layout("mptcp_subflow_info")["id"].format).unpack_from


class MPTCPFullInfo(View):
    """``struct mptcp_full_info`` and its two arrays, from one call (Linux 6.5).

    The bytes are the struct as the kernel wrote it, with the two user pointers zeroed, then the
    ``mptcp_subflow_info`` elements, then the ``tcp_info`` elements. Both arrays are of one moment, under
    the socket lock; ``info`` was taken just before.
    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _smallest = _FULL_INFO["mptcp_info"].offset + MPTCPInfo._smallest

    def __new__(cls, raw: bytes | bytearray | memoryview) -> Self:
        view = super().__new__(cls, raw)
        info_end, count, element, addrs, _ = view._shape()
        info = info_end - _FULL_INFO["mptcp_info"].offset
        if (
            (info not in MPTCPInfo._size_since.values() and info % 8)
            or info < MPTCPInfo._smallest
            or (count and not 4 <= addrs <= element - SubflowAddrs._smallest)
            or any(path.local is path.remote is None for path in view.subflows)
        ):
            raise ValueError(f"MPTCPFullInfo of {len(view)} bytes: its header does not fit them")
        return view

    def _shape(self) -> tuple[int, int, int, int, int]:
        """Where mptcp_info ends, how many elements follow, and the sizes and the offset in them."""
        _, tcp_info, element_of_kernel, element, count, room = _full_info_head(self)
        count = min(count, room)
        # 264 bytes with the addresses at 8 from a 64-bit kernel, 260 with them at 4 from a 32-bit one.
        addrs = min(element_of_kernel - SubflowAddrs._smallest, 8)
        return len(self) - count * (element + tcp_info), count, element, addrs, tcp_info

    @property
    def num_subflows(self) -> int:
        """The kernel's count of all subflows, a removed initial one included."""
        (count,) = _full_info_count(self, _FULL_INFO["num_subflows"].offset)
        return int(count)

    @property
    def live_count(self) -> int:
        """How many subflows are ``live``."""
        return sum(subflow.live for subflow in self.subflows)

    @property
    def info(self) -> MPTCPInfo:
        """The connection itself."""
        return MPTCPInfo(self[_FULL_INFO["mptcp_info"].offset : self._shape()[0]])

    @property
    def subflows(self) -> tuple[Subflow, ...]:
        """All subflows in the kernel's order: the initial one, then by age. Decoded at each access."""
        at, count, element, addrs, tcp_info = self._shape()
        addrs_at, infos_at = at + addrs, at + count * element
        found = []
        for _ in range(count):
            # Subflow(id, SubflowAddrs(...), TCPInfo(...)), without the checks of each: the kernel wrote these
            # bytes, or __new__ checked them.
            subflow = _new_object(Subflow)
            _set_id(subflow, _subflow_id(self, at)[0])
            _set_addrs(subflow, _new_bytes(SubflowAddrs, self[addrs_at : addrs_at + _ADDRS_SIZE]))
            _set_tcp_info(subflow, _new_bytes(TCPInfo, self[infos_at : infos_at + tcp_info]))
            found.append(subflow)
            at += element
            addrs_at += element
            infos_at += tcp_info
        return tuple(found)

    def asdict(self, *, clean: bool = False) -> dict[str, Any]:
        """All of it by name; clean as in ``TCPInfo.asdict()``."""
        return {
            "num_subflows": self.num_subflows,
            "live_count": self.live_count,
            "info": self.info.asdict(clean=clean),
            "subflows": [subflow.asdict(clean=clean) for subflow in self.subflows],
        }

    def __repr__(self) -> str:
        return f"MPTCPFullInfo(num_subflows={self.num_subflows}, info={self.info}, subflows={self.subflows})"
