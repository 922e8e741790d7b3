# SPDX-License-Identifier: MIT
"""What the readers return: the kernel's structs as views, and the enums that name their numbers.

Attributes are the fields of the C struct under the kernel's names without ``mptcpi_`` or ``tcpi_``. How a
view decodes is in _fields.py.

Thread rule of every class here: immutable, so any thread may use it at any time.
"""

from __future__ import annotations

import enum

from . import _border
from . import _types as t
from ._border import layouts
from ._fields import Record, View, always, newer, refuse_turned, turned
from ._tcp_info import LIVE_STATES
from ._tcp_info import TCPInfo as TCPInfo
from ._tcp_info import TCPState as TCPState

_FLAGS = _border.numbers("MPTCP_INFO_FLAG_")


class InfoFlag(enum.IntFlag):
    """Bits of ``MPTCPInfo.flags``. Thread rule: immutable, use it anywhere."""

    FALLBACK = _FLAGS["FALLBACK"]
    REMOTE_KEY_RECEIVED = _FLAGS["REMOTE_KEY_RECEIVED"]


# As ints, which are compared faster.
_KEY = int(InfoFlag.REMOTE_KEY_RECEIVED)
_KEY_OR_FALLBACK = int(InfoFlag.REMOTE_KEY_RECEIVED | InfoFlag.FALLBACK)


class MPTCPInfo(View):
    """``struct mptcp_info``: what MPTCP_INFO says of a connection (Linux 5.16; RFC 8684).

    Ages are in ms with the resolution of a jiffy. Of a connection that fell back, which only mptcp_diag()
    tells, bytes_sent, bytes_acked and snd_una count what was handed to TCP, sent and acknowledged or not.
    Sequence numbers begin anywhere, wrap, and exceed 2^53: ``unacked_bytes`` is their use.
    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _places = _border.layout("mptcp_info", "mptcpi_")
    _smallest = _border.LEAST_MPTCP_INFO
    _aligned = layouts.MPTCP_INFO_ALIGNED
    _small = "flags"  # bits are given out from the lowest on
    # The struct grew into its own tail padding, so the end of a field does not tell whether the kernel
    # knew it: its length then does. A 32-bit kernel's is the smaller one where padding makes two.
    _size_since: t.ClassVar[t.Mapping[str, int]] = {
        "5.9": 40, "5.12": 44, "5.14": 44, "6.5": 80, "6.8": 84, "6.10": 96, "6.18": 96, "6.19": 96,
    }  # fmt: skip

    subflows = always(
        "Subflows besides the initial one, joins that are not answered yet included; 0 on a connection with "
        "one path.", "subflows", "5.9",
    )  # fmt: skip
    add_addr_signal = always("ADD_ADDR that this side has announced.", "addresses", "5.9")
    add_addr_accepted = always(
        "ADD_ADDR of the peer that this side has accepted; 255, which was reported, is a count below 0.",
        "addresses", "5.9",
    )  # fmt: skip
    subflows_max = always("Limit on additional subflows, of the in-kernel path manager.", "subflows", "5.9")
    add_addr_signal_max = always("Endpoints configured as `signal`.", "endpoints", "5.9")
    add_addr_accepted_max = always("Limit on accepted ADD_ADDR.", "addresses", "5.9")
    flags = always("Bits of InfoFlag; FALLBACK is never seen through getsockopt.", "bits", "5.9")
    token = always("This side's token; 0 before connect, on a listener, after a fastclose.", "token", "5.9")
    write_seq = always(
        "Data sequence number that the next write gets; may exceed 2^53.", "sequence number", "5.9"
    )
    snd_una = always(
        "First data sequence number that is not acknowledged (after a fallback: not handed to TCP); may "
        "exceed 2^53.", "sequence number", "5.9",
    )  # fmt: skip
    rcv_nxt = always(
        "Data sequence number expected next from the peer; may exceed 2^53.", "sequence number", "5.9"
    )
    local_addr_used = newer(
        "5.12", "Local endpoints that this connection has tried to join from; a join that failed counts too.",
        "endpoints",
    )  # fmt: skip
    local_addr_max = newer("5.12", "Endpoints configured as `subflow`.", "endpoints")
    csum_enabled = newer(
        "5.14", "1 where the DSS checksum is in use: either side asking turns it on.", "boolean"
    )
    retransmits = newer("6.5", "MPTCP-level timeouts in a row, at this moment; not a total.", "timeouts")
    bytes_retrans = newer(
        "6.5", "Payload sent again by MPTCP, on the same subflow or others; also with one path, and no loss.",
        "bytes",
    )  # fmt: skip
    bytes_sent = newer(
        "6.5", "Payload handed to subflows for the first time; without that of the SYN (TCP Fast Open).",
        "bytes",
    )  # fmt: skip
    bytes_received = newer(
        "6.5",
        "Payload received in order, counted on arrival, read or not; from 6.7 with that of the peer's SYN.",
        "bytes",
    )  # fmt: skip
    bytes_acked = newer(
        "6.5",
        "Payload acknowledged by the peer, read or not; our own DATA_FIN counts as one byte, the SYN's data "
        "does not. After a fallback what was handed to TCP, and one more.", "bytes",
    )  # fmt: skip
    subflows_total = newer(
        "6.8", "Subflows with the initial one, if that is still usable: `subflows`, or one more.", "subflows"
    )
    endp_laminar_max = newer("6.18", "Endpoints configured as `laminar`; 0 on 6.10 to 6.17.", "endpoints")
    endp_fullmesh_max = newer("6.19", "Endpoints configured as `fullmesh`; 0 on 6.10 to 6.18.", "endpoints")
    last_data_sent = newer(
        "6.10", "Since data was last sent; before the first, since the socket was made.", "ms",
        never=lambda info: info.bytes_sent == 0,
    )  # fmt: skip
    last_data_recv = newer(
        "6.10", "Since data was last received; before the first, since the socket was made.", "ms",
        never=lambda info: info.bytes_received == 0,
    )  # fmt: skip
    last_ack_recv = newer(
        "6.10", "Since MPTCP last received an acknowledgement; before the first, since the socket was made.",
        "ms",
        never=lambda info: info.bytes_acked == 0,
    )  # fmt: skip

    @property
    def unacked_bytes(self) -> int | None:
        """Written and not acknowledged, our own DATA_FIN as one byte: ``write_seq - snd_una``, as SIOCOUTQ.

        None where there is no connection yet, and after a fallback, when only TCP knows. (bytes; Linux 5.9)
        """
        flags, write_seq, snd_una = [field.__get__(self) for field in _UNACKED]  # whatever a subclass shows
        return (write_seq - snd_una) % 2**64 if flags & _KEY_OR_FALLBACK == _KEY else None

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All fields by name, and ``unacked_bytes``; clean, and JSON, as in ``TCPInfo.asdict()``."""
        return {**super().asdict(clean=clean), "unacked_bytes": self.unacked_bytes}


_UNACKED = [MPTCPInfo.fields[name] for name in ("flags", "write_seq", "snd_una")]


class SubflowAddrs(View):
    """``struct mptcp_subflow_addrs``: the two ends of a subflow (Linux 5.16).

    Addresses are tuples as ``socket.getsockname()`` gives them. The kernel leaves scope_id and flowinfo 0,
    also for link-local addresses. Families may differ from subflow to subflow: on an IPv6 socket that
    talks IPv4 the initial one is v4-mapped, one that the path manager added may be plain IPv4.
    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _smallest = layouts.ADDRS_SIZE

    def _check(self) -> None:
        for family, place in zip(layouts.families(self), layouts.FAMILIES, strict=True):
            refuse_turned(type(self), family, place.size)

    @classmethod
    def _turned(cls, raw: bytes) -> bytes:
        """Families and scope_ids; ports and flowinfo are big-endian on every machine."""
        raw = turned(raw, layouts.FAMILIES)
        return turned(raw, layouts.scope_ids(raw))

    @property
    def local(self) -> t.Address | None:
        """This side's address; None for a family that is neither AF_INET nor AF_INET6."""
        return layouts.address(self, layouts.LOCAL)

    @property
    def remote(self) -> t.Address | None:
        """The peer's address, zero on a listener; None as for local."""
        return layouts.address(self, layouts.REMOTE)

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """Both addresses by name."""
        return {"local": self.local, "remote": self.remote}


class Subflow(Record):
    """One path of a connection. Thread rule: immutable, use it anywhere."""

    __slots__ = {
        "id": "Its number in the connection: 1 is the initial one, but 0 in a socket that connects "
        "again (after a failed connect(), or connect(AF_UNSPEC)) and once it was reset; never used again; "
        "with gaps where a join failed. The peer numbers its own way. None before 6.5, and on plain TCP.",
        "addrs": "Its two ends (SubflowAddrs).",
        "tcp_info": "What TCP knows of it (TCPInfo).",
    }

    id: int | None
    addrs: SubflowAddrs
    tcp_info: TCPInfo

    def __init__(self, id: int | None, addrs: SubflowAddrs, tcp_info: TCPInfo) -> None:
        _set_id(self, id)
        _set_addrs(self, addrs)
        _set_tcp_info(self, tcp_info)

    @property
    def local(self) -> t.Address | None:
        """This side's address, as getsockname() gives it."""
        return self.addrs.local

    @property
    def remote(self) -> t.Address | None:
        """The peer's address, as getpeername() gives it."""
        return self.addrs.remote

    @property
    def live(self) -> bool:
        """Whether it can carry data: ESTABLISHED, FIN_WAIT1, FIN_WAIT2 or CLOSE_WAIT.

        Not while it joins (SYN_SENT), not at its end, not in a listener; False too where the answer is too
        short to say. A path that has gone silent is live until TCP gives it up. docs/subflows.md has a table.
        """
        return self.tcp_info.state in LIVE_STATES

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All of it by name; clean as in ``TCPInfo.asdict()``."""
        tcp_info = self.tcp_info.asdict(clean=clean)
        return {"id": self.id, "live": self.live, **self.addrs.asdict(), "tcp_info": tcp_info}

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(id={self.id}, local={self.local}, remote={self.remote}, live={self.live}, ...)"


_new_object = object.__new__
_trusted_info, _trusted_addrs, _trusted_tcp_info = MPTCPInfo._trusted, SubflowAddrs._trusted, TCPInfo._trusted
_set_id, _set_addrs, _set_tcp_info = Subflow._setters

_ADDRS_SIZE = layouts.ADDRS_SIZE
_INFO_AT = layouts.INFO_AT
_shape = layouts.full_info_shape
_subflow_id = layouts.subflow_id


def _refuse_turned_head(view: type[View], full_info: bytes) -> None:
    refuse_turned(view, *layouts.small_number(full_info))


class MPTCPFullInfo(View):
    """``struct mptcp_full_info`` and its two arrays, from one call (Linux 6.5).

    The bytes are the struct as the kernel wrote it, with the two user pointers zeroed, then the
    ``mptcp_subflow_info`` elements, then the ``tcp_info`` elements. Both arrays are of one moment, under
    the socket lock; ``info`` was taken just before.
    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _smallest = _INFO_AT + MPTCPInfo._smallest

    def _check(self) -> None:
        _refuse_turned_head(type(self), self)
        if not layouts.is_full_info(self) or any(
            path.local is None and path.remote is None for path in self.subflows
        ):
            raise ValueError(f"{type(self).__name__} of {len(self)} bytes: its header does not fit them")
        self.info._check()
        for path in self.subflows:
            path.addrs._check()
            path.tcp_info._check()

    @classmethod
    def _turned(cls, raw: bytes) -> bytes:
        raw = turned(raw[:_INFO_AT], layouts.FULL_INFO.values()) + raw[_INFO_AT:]
        _refuse_turned_head(cls, raw)
        if not layouts.is_full_info(raw):
            raise ValueError(f"{cls.__name__} of {len(raw)} bytes: its header does not fit them")
        at, count, element, addrs, tcp_info = _shape(raw)
        parts = [raw[:_INFO_AT], MPTCPInfo._turned(raw[_INFO_AT:at])]
        for start in range(at, at + count * element, element):
            one = turned(raw[start : start + element], [layouts.SUBFLOW_ID])
            parts += one[:addrs], SubflowAddrs._turned(one[addrs:])
        for start in range(at + count * element, len(raw), tcp_info):
            parts.append(TCPInfo._turned(raw[start : start + tcp_info]))
        return b"".join(parts)

    @property
    def num_subflows(self) -> int:
        """The kernel's count of all subflows, a removed initial one included."""
        return layouts.num_subflows(self)

    @property
    def live_count(self) -> int:
        """How many subflows are ``live``."""
        return sum(subflow.live for subflow in self.subflows)

    @property
    def info(self) -> MPTCPInfo:
        """The connection itself."""
        return _trusted_info(self[_INFO_AT : _shape(self)[0]])

    @property
    def subflows(self) -> tuple[Subflow, ...]:
        """All subflows in the kernel's order: the initial one, then by age. Decoded at each access."""
        return self._subflows(*_shape(self))

    def _flags_and_states(self) -> tuple[int, bytes]:
        """``info.flags``, and the TCP state of each subflow, a byte each."""
        return layouts.flags_and_states(self, _shape(self))

    def _parts(self) -> tuple[int, bytes, MPTCPInfo, tuple[Subflow, ...]]:
        """_flags_and_states(), ``info`` and ``subflows``, for the price of one look at the header."""
        shape = _shape(self)
        flags, states = layouts.flags_and_states(self, shape)
        return flags, states, _trusted_info(self[_INFO_AT : shape[0]]), self._subflows(*shape)

    def _subflows(self, at: int, count: int, element: int, addrs: int, tcp_info: int) -> tuple[Subflow, ...]:
        addrs_at, infos_at = at + addrs, at + count * element
        found = []
        for _ in range(count):
            # Subflow(id, SubflowAddrs(...), TCPInfo(...)), without the checks of each: the kernel wrote these
            # bytes, or __new__ checked them.
            subflow = _new_object(Subflow)
            _set_id(subflow, _subflow_id(self, at)[0])
            _set_addrs(subflow, _trusted_addrs(self[addrs_at : addrs_at + _ADDRS_SIZE]))
            _set_tcp_info(subflow, _trusted_tcp_info(self[infos_at : infos_at + tcp_info]))
            found.append(subflow)
            at += element
            addrs_at += element
            infos_at += tcp_info
        return tuple(found)

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All of it by name; clean as in ``TCPInfo.asdict()``."""
        return {
            "num_subflows": self.num_subflows,
            "live_count": self.live_count,
            "info": self.info.asdict(clean=clean),
            "subflows": [subflow.asdict(clean=clean) for subflow in self.subflows],
        }

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(num_subflows={self.num_subflows}, info={self.info}, subflows={self.subflows})"
