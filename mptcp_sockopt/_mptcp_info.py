# SPDX-License-Identifier: MIT
"""struct mptcp_info, the state and counters of a connection, and its flags.

Attributes have the names of the C struct's fields, without ``mptcpi_``.

Thread rule of every class here: immutable, so any thread may use it at any time.
"""

from __future__ import annotations

import enum

from . import _border
from . import _types as t
from ._border import layouts
from ._fields import FieldOf, View, always, named, newer
from ._records import ShownByName
from ._unpacking import Without

_FLAGS = _border.numbers("MPTCP_INFO_FLAG_")


class InfoFlag(ShownByName, enum.IntFlag):
    """Bits of ``MPTCPInfo.flags``; ``str()`` gives their names. Thread rule: immutable, use it anywhere."""

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

# Plain ints compare faster.
_KEY = int(InfoFlag.REMOTE_KEY_RECEIVED)
_KEY_OR_FALLBACK = int(InfoFlag.REMOTE_KEY_RECEIVED | InfoFlag.FALLBACK)


def _unacked(flags: int, write_seq: int, snd_una: int) -> int | None:
    return (write_seq - snd_una) % 2**64 if flags & _KEY_OR_FALLBACK == _KEY else None


class MPTCPInfo(View):
    """``struct mptcp_info``: state and counters of a connection (MPTCP_INFO, Linux 5.16; RFC 8684).

    Ages are in ms, with the resolution of a jiffy. Sequence numbers start anywhere, wrap, and exceed 2^53;
    ``unacked_bytes`` is their difference. For a connection that fell back, which only mptcp_diag() shows,
    bytes_sent, bytes_acked and snd_una count what was passed to TCP, sent and acknowledged or not.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = ()
    _places = _border.layout("mptcp_info", "mptcpi_")
    _smallest = _border.LEAST_MPTCP_INFO
    _aligned = layouts.MPTCP_INFO_ALIGNED
    _small = "flags"  # the kernel assigns bits from the lowest up
    _computed: t.ClassVar[t.Mapping[str, tuple[t.Callable[..., t.Any], tuple[str, ...]]]] = {
        "unacked_bytes": (_unacked, ("flags", "write_seq", "snd_una"))
    }
    _vital = ("token", "flags", "subflows", "bytes_sent", "bytes_acked", "bytes_received")
    # The struct grew into its own tail padding, so the end of a field does not show whether the kernel knew
    # it. The length of the struct does. Where padding makes two lengths, the smaller one is of 32-bit
    # kernels.
    _size_since: t.ClassVar[t.Mapping[str, int]] = {
        "5.9": 40, "5.12": 44, "5.14": 44, "6.5": 80, "6.8": 84, "6.10": 96, "6.18": 96, "6.19": 96,
    }  # fmt: skip

    subflows: FieldOf[int] = always(
        "Subflows in addition to the initial one; 0 on a connection with one path. Includes joins that are "
        "not answered yet, and closed subflows with unread data in their receive queue. A one-byte counter "
        "that wraps: 300 subflows read as 44. `live_count` does not wrap.",
        "subflows",
        "5.9",
        "gauge",
    )
    """Subflows in addition to the initial one; 0 on a connection with one path. Includes joins that are not
    answered yet, and closed subflows with unread data in their receive queue. A one-byte counter that wraps:
    300 subflows read as 44. `live_count` does not wrap. (subflows; Linux 5.9)"""
    add_addr_signal: FieldOf[int] = always(
        "Addresses announced to the peer (ADD_ADDR), of endpoints that still exist.",
        "addresses",
        "5.9",
        "gauge",
    )
    """Addresses announced to the peer (ADD_ADDR), of endpoints that still exist. (addresses; Linux 5.9)"""
    add_addr_accepted: FieldOf[int] = always(
        "Addresses announced by the peer (ADD_ADDR) that this side accepted. 255 has been seen: a count "
        "that fell below 0.",
        "addresses",
        "5.9",
        "gauge",
    )
    """Addresses announced by the peer (ADD_ADDR) that this side accepted. 255 has been seen: a count that
    fell below 0. (addresses; Linux 5.9)"""
    subflows_max: FieldOf[int] = always(
        "Limit on additional subflows in the in-kernel path manager.", "subflows", "5.9", "limit"
    )
    """Limit on additional subflows in the in-kernel path manager. (subflows; Linux 5.9)"""
    add_addr_signal_max: FieldOf[int] = always(
        "Endpoints configured as `signal` in the in-kernel path manager; 0 with another path manager "
        "(pm_type).",
        "endpoints",
        "5.9",
        "limit",
    )
    """Endpoints configured as `signal` in the in-kernel path manager; 0 with another path manager (pm_type).
    (endpoints; Linux 5.9)"""
    add_addr_accepted_max: FieldOf[int] = always(
        "Limit on accepted addresses (ADD_ADDR).", "addresses", "5.9", "limit"
    )
    """Limit on accepted addresses (ADD_ADDR). (addresses; Linux 5.9)"""
    flags: FieldOf[InfoFlag | int] = named(
        "Flags (InfoFlag). FALLBACK is never set in an answer of getsockopt().", "bits", "5.9", FLAGS
    )
    """Flags (InfoFlag). FALLBACK is never set in an answer of getsockopt(). (bits; Linux 5.9)"""
    token: FieldOf[int] = always(
        "This side's token; 0 before connect(), on a listener, and after a fastclose.",
        "token",
        "5.9",
        "label",
    )
    """This side's token; 0 before connect(), on a listener, and after a fastclose. (token; Linux 5.9)"""
    write_seq: FieldOf[int] = always(
        "Data sequence number of the next byte written; can exceed 2^53.",
        "sequence number",
        "5.9",
        "sequence",
    )
    """Data sequence number of the next byte written; can exceed 2^53. (sequence number; Linux 5.9)"""
    snd_una: FieldOf[int] = always(
        "First data sequence number not yet acknowledged (after a fallback: not yet passed to TCP); can "
        "exceed 2^53.",
        "sequence number",
        "5.9",
        "sequence",
    )
    """First data sequence number not yet acknowledged (after a fallback: not yet passed to TCP); can exceed
    2^53. (sequence number; Linux 5.9)"""
    rcv_nxt: FieldOf[int] = always(
        "Next data sequence number expected from the peer; can exceed 2^53.",
        "sequence number",
        "5.9",
        "sequence",
    )
    """Next data sequence number expected from the peer; can exceed 2^53. (sequence number; Linux 5.9)"""
    local_addr_used: FieldOf[int | None] = newer(
        "5.12",
        "Local endpoints from which this connection has tried to join; failed joins count too.",
        "endpoints",
        "gauge",
    )
    """Local endpoints from which this connection has tried to join; failed joins count too. (endpoints; Linux
    5.12)"""
    local_addr_max: FieldOf[int | None] = newer(
        "5.12",
        "Endpoints configured as `subflow` in the in-kernel path manager; 0 with another path manager.",
        "endpoints",
        "limit",
    )
    """Endpoints configured as `subflow` in the in-kernel path manager; 0 with another path manager.
    (endpoints; Linux 5.12)"""
    csum_enabled: FieldOf[int | None] = newer(
        "5.14", "1 if the DSS checksum is in use, which either side can request.", "boolean", "label"
    )
    """1 if the DSS checksum is in use, which either side can request. (boolean; Linux 5.14)"""
    retransmits: FieldOf[int | None] = newer(
        "6.5",
        "Timeouts after which our DATA_FIN was sent again. Timeouts of data do not count, and an "
        "acknowledgement of the DATA_FIN does not reset it.",
        "timeouts",
        "gauge",
    )
    """Timeouts after which our DATA_FIN was sent again. Timeouts of data do not count, and an acknowledgement
    of the DATA_FIN does not reset it. (timeouts; Linux 6.5)"""
    bytes_retrans: FieldOf[int | None] = newer(
        "6.5",
        "Payload sent again by MPTCP, on the same or another subflow. Can grow even with one path and no "
        "loss.",
        "bytes",
        "counter",
    )
    """Payload sent again by MPTCP, on the same or another subflow. Can grow even with one path and no loss.
    (bytes; Linux 6.5)"""
    bytes_sent: FieldOf[int | None] = newer(
        "6.5",
        "Payload passed to subflows for the first time, without data in the SYN (TCP Fast Open).",
        "bytes",
        "counter",
    )
    """Payload passed to subflows for the first time, without data in the SYN (TCP Fast Open). (bytes; Linux
    6.5)"""
    bytes_received: FieldOf[int | None] = newer(
        "6.5",
        "Payload received in order, read or unread, counted on arrival while the receive buffer has room. "
        "Data beyond that waits in the subflow and counts when the application reads. From Linux 6.7 on, "
        "includes data in the peer's SYN.",
        "bytes",
        "counter",
    )
    """Payload received in order, read or unread, counted on arrival while the receive buffer has room. Data
    beyond that waits in the subflow and counts when the application reads. From Linux 6.7 on, includes data
    in the peer's SYN. (bytes; Linux 6.5)"""
    bytes_acked: FieldOf[int | None] = newer(
        "6.5",
        "Payload acknowledged by the peer, read or unread. Our DATA_FIN counts as one byte; data in the SYN "
        "does not count. After a fallback, the number of bytes passed to TCP, plus one.",
        "bytes",
        "counter",
    )
    """Payload acknowledged by the peer, read or unread. Our DATA_FIN counts as one byte; data in the SYN does
    not count. After a fallback, the number of bytes passed to TCP, plus one. (bytes; Linux 6.5)"""
    subflows_total: FieldOf[int | None] = newer(
        "6.8",
        "Subflows including the initial one if it is still usable: `subflows`, or one more. A one-byte "
        "counter that wraps: 0 where `subflows` is 255. `live_count` does not wrap.",
        "subflows",
        "gauge",
    )
    """Subflows including the initial one if it is still usable: `subflows`, or one more. A one-byte counter
    that wraps: 0 where `subflows` is 255. `live_count` does not wrap. (subflows; Linux 6.8)"""
    endp_laminar_max: FieldOf[int | None] = newer(
        "6.18", "Endpoints configured as `laminar`; always 0 on Linux 6.10 to 6.17.", "endpoints", "limit"
    )
    """Endpoints configured as `laminar`; always 0 on Linux 6.10 to 6.17. (endpoints; Linux 6.18)"""
    endp_fullmesh_max: FieldOf[int | None] = newer(
        "6.19", "Endpoints configured as `fullmesh`; always 0 on Linux 6.10 to 6.18.", "endpoints", "limit"
    )
    """Endpoints configured as `fullmesh`; always 0 on Linux 6.10 to 6.18. (endpoints; Linux 6.19)"""
    last_data_sent: FieldOf[int | None] = newer(
        "6.10",
        "Time since data was last sent. Before any was sent: since the socket was created or, after "
        "connect(AF_UNSPEC), since the previous connection last sent data.",
        "ms",
        "age",
        never=Without("bytes_sent"),
    )
    """Time since data was last sent. Before any was sent: since the socket was created or, after
    connect(AF_UNSPEC), since the previous connection last sent data. (ms; Linux 6.10)"""
    last_data_recv: FieldOf[int | None] = newer(
        "6.10",
        "Time since data was last received. Before any was received: since the socket was created or, after "
        "connect(AF_UNSPEC), since the previous connection last received data.",
        "ms",
        "age",
        never=Without("bytes_received"),
    )
    """Time since data was last received. Before any was received: since the socket was created or, after
    connect(AF_UNSPEC), since the previous connection last received data. (ms; Linux 6.10)"""
    last_ack_recv: FieldOf[int | None] = newer(
        "6.10",
        "Time since MPTCP last received an acknowledgement. Before the first: since the socket was created "
        "or, after connect(AF_UNSPEC), since the previous connection last received one.",
        "ms",
        "age",
        never=Without("bytes_acked"),
    )
    """Time since MPTCP last received an acknowledgement. Before the first: since the socket was created or,
    after connect(AF_UNSPEC), since the previous connection last received one. (ms; Linux 6.10)"""

    @property
    def unacked_bytes(self) -> int | None:
        """Bytes written but not acknowledged, including our DATA_FIN: ``write_seq - snd_una``, as SIOCOUTQ.

        None before there is a connection, and after a fallback, when only TCP knows. (bytes; Linux 5.9)
        """
        return _unacked(*[number(self) for number in _UNACKED])  # whatever a subclass shows

    def asdict(self, *, clean: bool = False) -> dict[str, t.Any]:
        """All fields by name, and ``unacked_bytes``. For clean and JSON, see ``TCPInfo.asdict()``."""
        return {**super().asdict(clean=clean), "unacked_bytes": self.unacked_bytes}

    def _rows(self) -> list[t.Row]:
        unacked = self.unacked_bytes
        return super()._rows() + [("unacked_bytes", unacked, "bytes")] * (unacked is not None)


#: Attributes of MPTCPInfo, which people may look for in an object that contains one.
IN_INFO = {*MPTCPInfo.fields, "unacked_bytes"}

_UNACKED = [MPTCPInfo.fields[name].number for name in MPTCPInfo._computed["unacked_bytes"][1]]
