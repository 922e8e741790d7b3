# SPDX-License-Identifier: MIT
"""One connection over time: what came, what went, and how much was carried in between.

An Update is a pure function of two snapshots (_difference()); Tracker remembers the last one. What the
kernel does with counters and ids, as seen on 6.18, decides what may be compared with what:

    event                                   token    counters of the connection   initial subflow
    --------------------------------------  -------  ---------------------------  -------------------------
    its initial subflow is removed          stays    stay                         id 1, CLOSE, last counters
    both ends shut down, the peer closed    stays    stay                         may be id 0, CLOSE, zeros
    a fastclose came                        0        stay                         id 0, CLOSE, zeros
    connect(AF_UNSPEC)                      0        zero, and no key             id 0, CLOSE, zeros
    connected again                         another  from zero                    id 0, from zero

On 6.5.10 a removed initial subflow has id 0 and zeros too: what is known of it at last is what it had before.
Additional subflows leave the list as they go, and their counters with them (mptcp_net-next issue 385).
"""

from __future__ import annotations

from . import _abi
from ._fields import Record
from ._sockopt import Snapshot, Status, snapshot
from ._views import InfoFlag, MPTCPInfo, Subflow, TCPInfo, TCPState

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ._sockopt import SocketLike

_COUNTERS = ("bytes_sent", "bytes_acked", "bytes_received", "bytes_retrans")
_GONE = 1000


class _Delta(Record):
    """What SubflowDelta and Update have in common."""

    __slots__: Mapping[str, str] = {}

    elapsed: int | None
    bytes_sent: int | None
    bytes_acked: int | None
    bytes_received: int | None
    bytes_retrans: int | None

    def rate(self, counter: str) -> float | None:
        """That delta in bytes/s: ``rate("bytes_acked")``, ``rate("bytes_received")`` ...

        None where the delta is None, or no time has passed.
        """
        if counter not in _COUNTERS:
            raise ValueError(f"no counter {counter!r}: there are {', '.join(_COUNTERS)}")
        delta: int | None = getattr(self, counter)
        return delta * 1e9 / self.elapsed if delta is not None and self.elapsed else None

    def _deltas(self) -> dict[str, Any]:
        rates = {f"{counter}_rate": self.rate(counter) for counter in _COUNTERS}
        return {counter: getattr(self, counter) for counter in _COUNTERS} | rates


class SubflowDelta(_Delta):
    """What one subflow in use did since the previous update. Thread rule: immutable, use it anywhere."""

    __slots__ = {
        "subflow": "The subflow now (Subflow).",
        "elapsed": "Time since the previous update, in ns; None at the first.",
        "bytes_sent": "Payload that TCP sent in it, retransmissions included; None where unknown.",
        "bytes_acked": "Acknowledged by TCP, SYN and FIN as one byte each; perhaps out of order.",
        "bytes_received": "Received by TCP, the peer's FIN as one byte.",
        "bytes_retrans": "Payload that TCP retransmitted.",
    }

    subflow: Subflow

    @property
    def id(self) -> int | None:
        """The subflow's id."""
        return self.subflow.id

    def asdict(self) -> dict[str, Any]:
        """The deltas by name, rates in bytes/s among them, and the subflow's id."""
        return {"id": self.id, **self._deltas()}


class Update(_Delta):
    """What a connection did since the previous update.

    Deltas are the connection's own, never a sum of its subflows', and None where they are not known: at the
    first update, and whenever ``continues`` is False. Goodput is ``rate("bytes_acked")`` of what this side
    sends, ``rate("bytes_received")`` of what it receives.
    Thread rule: immutable, use it anywhere.
    """

    __slots__ = {
        "snapshot": "The socket now (Snapshot).",
        "elapsed": "From the previous snapshot's time to this one's, in ns; None at the first update.",
        "continues": "Whether the counters go on from the previous update. False at the first one, without a "
        "connection, in a new connection of the same socket, and in the update with fell_back.",
        "fell_back": "Whether the socket spoke plain TCP for the first time: True in one update.",
        "bytes_sent": "Payload sent (bytes; None before Linux 6.5).",
        "bytes_acked": "Payload that the peer acknowledged, our own DATA_FIN as one byte.",
        "bytes_received": "Payload received in order. Before Linux 6.5 with the peer's DATA_FIN as one byte.",
        "bytes_retrans": "Payload sent again on another subflow (bytes; None before Linux 6.5).",
        "added": "Subflows in use now that were not: all of them at the first update.",
        "removed": "Subflows that were in use and are not, with the last counters that could be read.",
        "subflows": "A SubflowDelta for every subflow in use now, in the kernel's order.",
    }

    snapshot: Snapshot
    continues: bool
    fell_back: bool
    added: tuple[Subflow, ...]
    removed: tuple[Subflow, ...]
    subflows: tuple[SubflowDelta, ...]

    @property
    def status(self) -> Status:
        """The snapshot's."""
        return self.snapshot.status

    def asdict(self, *, clean: bool = False) -> dict[str, Any]:
        """All of it by name, rates in bytes/s among it; clean as in ``TCPInfo.asdict()``."""
        return {
            "snapshot": self.snapshot.asdict(clean=clean),
            "elapsed": self.elapsed,
            "continues": self.continues,
            "fell_back": self.fell_back,
            **self._deltas(),
            "added": [subflow.id for subflow in self.added],
            "removed": [subflow.asdict(clean=clean) for subflow in self.removed],
            "subflows": [delta.asdict() for delta in self.subflows],
        }


class Tracker:
    """``Tracker(sock).update()``: a connection over time, of any TCP-family socket on any kernel.

    sock is kept, and asked anew at each update: once it is closed, update() raises ValueError. A number is
    kept as a number; if another socket gets it, that is a new connection. A subflow that came and went
    between two updates is not seen. On plain TCP, and after a fallback, the connection is its one TCP flow,
    and the deltas are that flow's.
    Thread rule: one thread at a time; what it returns is immutable.
    """

    __slots__ = ("_gone", "_last", "_sock")

    def __init__(self, sock: SocketLike) -> None:
        _abi.descriptor(sock)  # what is none is refused here
        self._sock = sock
        self._last: Snapshot | None = None
        self._gone: tuple[Subflow, ...] = ()

    def update(self) -> Update:
        """Take a snapshot(), and say what has changed since the previous one.

        Raises as snapshot(); the next update then compares with the last that succeeded.
        """
        now = snapshot(self._sock)
        update = _difference(self._last, now)
        self._last, self._gone = now, (self._gone + update.removed)[-_GONE:]
        return update

    @property
    def gone(self) -> tuple[Subflow, ...]:
        """Every subflow that an update saw removed, the latest last; at most the latest 1,000.

        ids are unique within a connection. A socket that connected again has subflows of both here.
        """
        return self._gone

    def __repr__(self) -> str:
        return f"Tracker({self._sock!r})"


# --------------------------------------------------------------------------------------- the pure core


def _difference(before: Snapshot | None, now: Snapshot) -> Update:
    elapsed = None if before is None else now.time - before.time
    continues = before is not None and _continues(before, now)
    fell_back = before is not None and now.status is Status.FALLBACK and before.status is not now.status
    was = [] if before is None else [subflow for subflow in before.subflows if subflow.live]
    # In another connection nothing is the same, whatever its id. In a fallback the one flow is.
    known = was if continues or fell_back else []
    pairs = [(next((old for old in known if _is_same(old, new)), None), new) for new in now.subflows]
    latest = {old: new for old, new in pairs if old is not None}
    removed = [latest.get(old, old) for old in was if old not in latest or not latest[old].live]
    return Update(
        now,
        elapsed,
        continues,
        fell_back,
        *_connection_deltas(before if continues else None, now),
        tuple([new for old, new in pairs if new.live and old is None]),
        tuple(removed),
        tuple(
            [
                SubflowDelta(new, elapsed, *_subflow_deltas(old, new, continues))
                for old, new in pairs
                if new.live
            ]
        ),
    )


def _continues(before: Snapshot, now: Snapshot) -> bool:
    """Whether both are of one connection, and its counters of one kind."""
    old, new = before.info, now.info
    if old is not None and new is not None:
        # A fastclose takes the token away and leaves the peer's key.
        if new.token:
            return new.token == old.token
        return _has_key(new) and (old.token != 0 or _has_key(old))
    if old is None and new is None and len(before.subflows) == len(now.subflows) == 1:
        return _is_same(before.subflows[0], now.subflows[0])
    return False


def _has_key(info: MPTCPInfo) -> bool:
    return bool(info.flags & InfoFlag.REMOTE_KEY_RECEIVED)


def _is_same(old: Subflow, new: Subflow) -> bool:
    """By id; without ids by the two addresses. The counters of one subflow never run backwards."""
    if old.id is not None and new.id is not None:
        same = old.id == new.id
    else:
        # getpeername() knows no peer before a TCP connection is established, and none after it.
        peerless = (not _has_peer(old) and old.tcp_info.state == TCPState.SYN_SENT) or (
            not _has_peer(new) and not new.live
        )
        same = old.local == new.local and (old.remote == new.remote or peerless)
    return same and all(delta is None or delta >= 0 for delta in _growth(old.tcp_info, new.tcp_info))


def _has_peer(subflow: Subflow) -> bool:
    return subflow.remote is not None and subflow.remote[1] != 0


def _growth(old: MPTCPInfo | TCPInfo, new: MPTCPInfo | TCPInfo) -> list[int | None]:
    """How much each of the counters grew; None for one that this kernel does not have."""
    pairs = [(getattr(old, counter), getattr(new, counter)) for counter in _COUNTERS]
    return [None if None in pair else pair[1] - pair[0] for pair in pairs]


def _connection_deltas(before: Snapshot | None, now: Snapshot) -> list[int | None]:
    if before is None:
        return [None] * len(_COUNTERS)
    old, new = before.info, now.info
    if old is None or new is None:
        return _growth(before.subflows[0].tcp_info, now.subflows[0].tcp_info)
    if new.bytes_acked is None and _has_key(old):
        # Before 6.5 sequence numbers tell the same. They are of 64 bits, begin anywhere and wrap.
        return [None, (new.snd_una - old.snd_una) % 2**64, (new.rcv_nxt - old.rcv_nxt) % 2**64, None]
    return _growth(old, new)


def _subflow_deltas(old: Subflow | None, new: Subflow, continues: bool) -> list[int | None]:
    if old is not None:
        return _growth(old.tcp_info, new.tcp_info)
    # It was not there, so all that it did, it did since.
    return [getattr(new.tcp_info, counter) if continues else None for counter in _COUNTERS]
