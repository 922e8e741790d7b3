# SPDX-License-Identifier: MIT
"""struct mptcp_info, what the kernel says of a connection, and the flags in it.

Attributes are the fields of the C struct under the kernel's names without ``mptcpi_``.

Thread rule of every class here: immutable, so any thread may use it at any time.
"""

from __future__ import annotations

import enum

from . import _border
from . import _types as t
from ._border import layouts
from ._fields import FieldOf, View, always, named, newer
from ._records import ShownByName

_FLAGS = _border.numbers("MPTCP_INFO_FLAG_")


class InfoFlag(ShownByName, enum.IntFlag):
    """Bits of ``MPTCPInfo.flags``; ``str()`` is their names. Thread rule: immutable, use it anywhere."""

    FALLBACK = _FLAGS["FALLBACK"]
    REMOTE_KEY_RECEIVED = _FLAGS["REMOTE_KEY_RECEIVED"]

    def __str__(self) -> str:
        rest, names = int(self), []
        for name, bit in _FLAGS.items():
            if rest & bit:
                names.append(name)
                rest ^= bit
        return "|".join(names + [hex(rest)] * bool(rest)) or "0"


#: Every combination of the flags.
FLAGS = {number: InfoFlag(number) for number in range(2 * max(_FLAGS.values()))}

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
    _vital = ("token", "flags", "subflows", "bytes_sent", "bytes_acked", "bytes_received")
    # The struct grew into its own tail padding, so the end of a field does not tell whether the kernel
    # knew it: its length then does. A 32-bit kernel's is the smaller one where padding makes two.
    _size_since: t.ClassVar[t.Mapping[str, int]] = {
        "5.9": 40, "5.12": 44, "5.14": 44, "6.5": 80, "6.8": 84, "6.10": 96, "6.18": 96, "6.19": 96,
    }  # fmt: skip

    subflows: FieldOf[int] = always(
        "Subflows besides the initial one, joins that are not answered yet included, and dead ones "
        "while data is left in their receive queue; 0 on a connection with one path. Counted in a byte, "
        "which wraps: of 300 it says 44; `live_count` does not.",
        "subflows",
        "5.9",
        "gauge",
    )
    """Subflows besides the initial one, joins that are not answered yet included, and dead ones while data is
    left in their receive queue; 0 on a connection with one path. Counted in a byte, which wraps: of 300 it
    says 44; `live_count` does not. (subflows; Linux 5.9)"""
    add_addr_signal: FieldOf[int] = always(
        "ADD_ADDR that this side has announced, of endpoints that are still there.",
        "addresses",
        "5.9",
        "gauge",
    )
    """ADD_ADDR that this side has announced, of endpoints that are still there. (addresses; Linux 5.9)"""
    add_addr_accepted: FieldOf[int] = always(
        "ADD_ADDR of the peer that this side has accepted; 255, which was reported, is a count below 0.",
        "addresses",
        "5.9",
        "gauge",
    )
    """ADD_ADDR of the peer that this side has accepted; 255, which was reported, is a count below 0.
    (addresses; Linux 5.9)"""
    subflows_max: FieldOf[int] = always(
        "Limit on additional subflows, of the in-kernel path manager.", "subflows", "5.9", "limit"
    )
    """Limit on additional subflows, of the in-kernel path manager. (subflows; Linux 5.9)"""
    add_addr_signal_max: FieldOf[int] = always(
        "Endpoints configured as `signal`, of the in-kernel path manager; 0 with another (pm_type).",
        "endpoints",
        "5.9",
        "limit",
    )
    """Endpoints configured as `signal`, of the in-kernel path manager; 0 with another (pm_type). (endpoints;
    Linux 5.9)"""
    add_addr_accepted_max: FieldOf[int] = always("Limit on accepted ADD_ADDR.", "addresses", "5.9", "limit")
    """Limit on accepted ADD_ADDR. (addresses; Linux 5.9)"""
    flags: FieldOf[InfoFlag | int] = named(
        "Bits of InfoFlag; FALLBACK is never seen through getsockopt.", "bits", "5.9", FLAGS
    )
    """Bits of InfoFlag; FALLBACK is never seen through getsockopt. (bits; Linux 5.9)"""
    token: FieldOf[int] = always(
        "This side's token; 0 before connect, on a listener, after a fastclose.", "token", "5.9", "label"
    )
    """This side's token; 0 before connect, on a listener, after a fastclose. (token; Linux 5.9)"""
    write_seq: FieldOf[int] = always(
        "Data sequence number that the next write gets; may exceed 2^53.",
        "sequence number",
        "5.9",
        "sequence",
    )
    """Data sequence number that the next write gets; may exceed 2^53. (sequence number; Linux 5.9)"""
    snd_una: FieldOf[int] = always(
        "First data sequence number that is not acknowledged (after a fallback: not handed to TCP); may "
        "exceed 2^53.",
        "sequence number",
        "5.9",
        "sequence",
    )
    """First data sequence number that is not acknowledged (after a fallback: not handed to TCP); may exceed
    2^53. (sequence number; Linux 5.9)"""
    rcv_nxt: FieldOf[int] = always(
        "Data sequence number expected next from the peer; may exceed 2^53.",
        "sequence number",
        "5.9",
        "sequence",
    )
    """Data sequence number expected next from the peer; may exceed 2^53. (sequence number; Linux 5.9)"""
    local_addr_used: FieldOf[int | None] = newer(
        "5.12",
        "Local endpoints that this connection has tried to join from; a join that failed counts too.",
        "endpoints",
        "gauge",
    )
    """Local endpoints that this connection has tried to join from; a join that failed counts too. (endpoints;
    Linux 5.12)"""
    local_addr_max: FieldOf[int | None] = newer(
        "5.12",
        "Endpoints configured as `subflow`, of the in-kernel path manager; else 0.",
        "endpoints",
        "limit",
    )
    """Endpoints configured as `subflow`, of the in-kernel path manager; else 0. (endpoints; Linux 5.12)"""
    csum_enabled: FieldOf[int | None] = newer(
        "5.14", "1 where the DSS checksum is in use: either side asking turns it on.", "boolean", "label"
    )
    """1 where the DSS checksum is in use: either side asking turns it on. (boolean; Linux 5.14)"""
    retransmits: FieldOf[int | None] = newer(
        "6.5",
        "Timeouts that sent our DATA_FIN again; not of data, and not 0 again once it is acknowledged.",
        "timeouts",
        "gauge",
    )
    """Timeouts that sent our DATA_FIN again; not of data, and not 0 again once it is acknowledged. (timeouts;
    Linux 6.5)"""
    bytes_retrans: FieldOf[int | None] = newer(
        "6.5",
        "Payload sent again by MPTCP, on the same subflow or others; also with one path, and no loss.",
        "bytes",
        "counter",
    )
    """Payload sent again by MPTCP, on the same subflow or others; also with one path, and no loss. (bytes;
    Linux 6.5)"""
    bytes_sent: FieldOf[int | None] = newer(
        "6.5",
        "Payload handed to subflows for the first time; without that of the SYN (TCP Fast Open).",
        "bytes",
        "counter",
    )
    """Payload handed to subflows for the first time; without that of the SYN (TCP Fast Open). (bytes; Linux
    6.5)"""
    bytes_received: FieldOf[int | None] = newer(
        "6.5",
        "Payload received in order, counted on arrival, read or not, while the receive buffer has room. "
        "What comes beyond waits in the subflow and counts when the program reads. From 6.7 with that "
        "of the peer's SYN.",
        "bytes",
        "counter",
    )
    """Payload received in order, counted on arrival, read or not, while the receive buffer has room. What
    comes beyond waits in the subflow and counts when the program reads. From 6.7 with that of the peer's SYN.
    (bytes; Linux 6.5)"""
    bytes_acked: FieldOf[int | None] = newer(
        "6.5",
        "Payload acknowledged by the peer, read or not; our own DATA_FIN counts as one byte, the SYN's data"
        " does not. After a fallback what was handed to TCP, and one more.",
        "bytes",
        "counter",
    )
    """Payload acknowledged by the peer, read or not; our own DATA_FIN counts as one byte, the SYN's data does
    not. After a fallback what was handed to TCP, and one more. (bytes; Linux 6.5)"""
    subflows_total: FieldOf[int | None] = newer(
        "6.8",
        "Subflows with the initial one, if that is still usable: `subflows`, or one more. Counted in a "
        "byte, which wraps: 0 where `subflows` is 255; `live_count` does not.",
        "subflows",
        "gauge",
    )
    """Subflows with the initial one, if that is still usable: `subflows`, or one more. Counted in a byte,
    which wraps: 0 where `subflows` is 255; `live_count` does not. (subflows; Linux 6.8)"""
    endp_laminar_max: FieldOf[int | None] = newer(
        "6.18", "Endpoints configured as `laminar`; 0 on 6.10 to 6.17.", "endpoints", "limit"
    )
    """Endpoints configured as `laminar`; 0 on 6.10 to 6.17. (endpoints; Linux 6.18)"""
    endp_fullmesh_max: FieldOf[int | None] = newer(
        "6.19", "Endpoints configured as `fullmesh`; 0 on 6.10 to 6.18.", "endpoints", "limit"
    )
    """Endpoints configured as `fullmesh`; 0 on 6.10 to 6.18. (endpoints; Linux 6.19)"""
    last_data_sent: FieldOf[int | None] = newer(
        "6.10",
        "Since data was last sent; before the first, since the socket was made, or, after "
        "connect(AF_UNSPEC), since that of the connection before.",
        "ms",
        "age",
        never=lambda info: info.bytes_sent == 0,
    )
    """Since data was last sent; before the first, since the socket was made, or, after connect(AF_UNSPEC),
    since that of the connection before. (ms; Linux 6.10)"""
    last_data_recv: FieldOf[int | None] = newer(
        "6.10",
        "Since data was last received; before the first, since the socket was made, or, after "
        "connect(AF_UNSPEC), since that of the connection before.",
        "ms",
        "age",
        never=lambda info: info.bytes_received == 0,
    )
    """Since data was last received; before the first, since the socket was made, or, after
    connect(AF_UNSPEC), since that of the connection before. (ms; Linux 6.10)"""
    last_ack_recv: FieldOf[int | None] = newer(
        "6.10",
        "Since MPTCP last received an acknowledgement; before the first, since the socket was made, or, "
        "after connect(AF_UNSPEC), since that of the connection before.",
        "ms",
        "age",
        never=lambda info: info.bytes_acked == 0,
    )
    """Since MPTCP last received an acknowledgement; before the first, since the socket was made, or, after
    connect(AF_UNSPEC), since that of the connection before. (ms; Linux 6.10)"""

    @property
    def unacked_bytes(self) -> int | None:
        """Written and not acknowledged, our own DATA_FIN as one byte: ``write_seq - snd_una``, as SIOCOUTQ.

        None where there is no connection yet, and after a fallback, when only TCP knows. (bytes; Linux 5.9)
        """
        flags, write_seq, snd_una = [number(self) for number in _UNACKED]  # whatever a subclass shows
        return (write_seq - snd_una) % 2**64 if flags & _KEY_OR_FALLBACK == _KEY else None

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All fields by name, and ``unacked_bytes``; clean, and JSON, as in ``TCPInfo.asdict()``."""
        return {**super().asdict(clean=clean), "unacked_bytes": self.unacked_bytes}

    def _rows(self) -> list[t.Row]:
        unacked = self.unacked_bytes
        return super()._rows() + [("unacked_bytes", unacked, "bytes")] * (unacked is not None)


#: What MPTCPInfo has, and people may look for in what has one.
IN_INFO = {*MPTCPInfo.fields, "unacked_bytes"}

_UNACKED = [MPTCPInfo.fields[name].number for name in ("flags", "write_seq", "snd_una")]
