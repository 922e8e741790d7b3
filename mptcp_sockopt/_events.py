# SPDX-License-Identifier: MIT
"""mptcp_events(): what the kernel tells of connections, subflows and announced addresses, as it happens."""

from __future__ import annotations

import _thread
import collections
import contextlib
import enum
import errno
import os
import select
import time
import warnings
from weakref import ref

from . import _border
from . import _types as t
from ._border import pm_events
from ._records import Record, ShownByName
from ._shown import host_and_port, short

_NUMBERS = _border.numbers("MPTCP_EVENT_")
_MOST = 10_000  # events of one read(), so that it ends while they keep coming
_BARREN = 100  # datagrams without an event, which the kernel does not send
_LONGEST = (1 << 31) - 1  # ms that poll(2) takes


class MPTCPEventKind(ShownByName, enum.IntEnum):
    """Values of ``MPTCPEvent.kind``: the kernel's names and numbers, and LOST.

        CREATED           a connection; at its handshake
        ESTABLISHED       a connection was confirmed by the peer, and may get more subflows
        CLOSED            a connection ended
        ANNOUNCED         the peer announced an address (ADD_ADDR)
        REMOVED           the peer withdrew an address (REMOVE_ADDR)
        SUB_ESTABLISHED   another subflow joined; the initial subflow has no such event
        SUB_CLOSED        a subflow ended
        SUB_PRIORITY      the peer changed a subflow to backup, or back (MP_PRIO)
        LISTENER_CREATED  an MPTCP socket listens (Linux 6.2)
        LISTENER_CLOSED   it does not listen any more (Linux 6.2)
        LOST              events were lost here, because they were not read in time

    Thread rule: immutable, use it anywhere.
    """

    CREATED = _NUMBERS["CREATED"]
    ESTABLISHED = _NUMBERS["ESTABLISHED"]
    CLOSED = _NUMBERS["CLOSED"]
    ANNOUNCED = _NUMBERS["ANNOUNCED"]
    REMOVED = _NUMBERS["REMOVED"]
    SUB_ESTABLISHED = _NUMBERS["SUB_ESTABLISHED"]
    SUB_CLOSED = _NUMBERS["SUB_CLOSED"]
    SUB_PRIORITY = _NUMBERS["SUB_PRIORITY"]
    LISTENER_CREATED = _NUMBERS["LISTENER_CREATED"]
    LISTENER_CLOSED = _NUMBERS["LISTENER_CLOSED"]
    LOST = -1  # not the kernel's


_KINDS = {int(kind): kind for kind in MPTCPEventKind}


class MPTCPEvent(Record):
    """Something that came, went or changed. What the kernel did not tell is None: see docs/events.md.

    Thread rule: immutable, use it anywhere.
    """

    __slots__ = {
        "kind": "What happened (MPTCPEventKind); a plain int if a newer kernel has more events.",
        "time": "time.monotonic_ns() when it was read. The kernel gives no time.",
        "token": "This end's token of the connection, as MPTCPInfo.token. The two ends have different ones.",
        "family": "AF_INET or AF_INET6, of the subflow or listener.",
        "local": "This end's address; of an IPv4 subflow of an IPv6 socket, one such as ::ffff:10.0.0.1.",
        "remote": "The peer's address; in ANNOUNCED, the one that it announced.",
        "id": "This end's address id of the subflow.",
        "remote_id": "The peer's address id of the subflow; in ANNOUNCED and REMOVED, of the address.",
        "backup": "Whether the subflow is backup.",
        "error": "The errno that ended the subflow (see errno.errorcode).",
        "flags": "MPTCP_PM_EV_FLAG_...; 1: no joins to the peer's initial address, 2: server_side.",
        "ifindex": "The interface that the subflow is bound to.",
        "reset_reason": "Why the subflow was reset (MP_TCPRST; RFC 8684, section 3.6).",
        "reset_flags": "Its flags; 1: the reason is transient.",
        "server_side": "True if this end accepted the connection; None if not told, as for clients on 6.18.",
    }

    kind: MPTCPEventKind | int
    """What happened (MPTCPEventKind); a plain int if a newer kernel has more events."""
    time: int
    """time.monotonic_ns() when it was read. The kernel gives no time."""
    token: int | None
    """This end's token of the connection, as MPTCPInfo.token. The two ends have different ones."""
    family: int | None
    """AF_INET or AF_INET6, of the subflow or listener."""
    local: t.Address | None
    """This end's address; of an IPv4 subflow of an IPv6 socket, one such as ::ffff:10.0.0.1."""
    remote: t.Address | None
    """The peer's address; in ANNOUNCED, the one that it announced."""
    id: int | None
    """This end's address id of the subflow."""
    remote_id: int | None
    """The peer's address id of the subflow; in ANNOUNCED and REMOVED, of the address."""
    backup: bool | None
    """Whether the subflow is backup."""
    error: int | None
    """The errno that ended the subflow (see errno.errorcode)."""
    flags: int | None
    """MPTCP_PM_EV_FLAG_...; 1: no joins to the peer's initial address, 2: server_side."""
    ifindex: int | None
    """The interface that the subflow is bound to."""
    reset_reason: int | None
    """Why the subflow was reset (MP_TCPRST; RFC 8684, section 3.6)."""
    reset_flags: int | None
    """Its flags; 1: the reason is transient."""
    server_side: bool | None
    """True if this end accepted the connection; None if not told, as for clients on 6.18."""

    def __init__(
        self,
        kind: MPTCPEventKind | int,
        time: int,
        token: int | None = None,
        family: int | None = None,
        local: t.Address | None = None,
        remote: t.Address | None = None,
        id: int | None = None,
        remote_id: int | None = None,
        backup: bool | None = None,
        error: int | None = None,
        flags: int | None = None,
        ifindex: int | None = None,
        reset_reason: int | None = None,
        reset_flags: int | None = None,
        server_side: bool | None = None,
    ) -> None:
        super().__init__(
            _KINDS.get(kind, kind), time, token, family, local, remote, id, remote_id, backup, error, flags,
            ifindex, reset_reason, reset_flags, server_side,
        )  # fmt: skip

    def asdict(self) -> dict[str, t.Any]:
        """Everything by name; kind is a plain int."""
        return {**dict(zip(self._names, self._parts(), strict=True)), "kind": int(self.kind)}

    def __repr__(self) -> str:
        parts = dict(zip(self._names, self._parts(), strict=True))
        return short(type(self).__name__, {name: part for name, part in parts.items() if name != "time"}, "")

    def __str__(self) -> str:
        told = {"token": self.token and f"{self.token:08x}"}
        told |= {"local": self.local and host_and_port(self.local)}
        told |= {"remote": self.remote and host_and_port(self.remote)}
        told |= {name: getattr(self, name) for name in self._names[self._names.index("id") :]}
        words = [f"{name} {part}" for name, part in told.items() if part is not None]
        return " ".join([str(self.kind), *words])


def mptcp_events(*, buffer: int = 1 << 22) -> MPTCPEvents:
    """Subscribe to the MPTCP events of the calling thread's network namespace (Linux 5.12).

    buffer: bytes that unread events may take, of which each takes about 800. Without privilege in the first
    user namespace, the kernel gives at most net.core.rmem_max. An event has no addresses of older events, and
    there are none for connections that exist already: subscribe first, then call mptcp_diag().

    PermissionError unless the caller is root, or the owner of the user namespace that owns the network
    namespace. UnsupportedOptionError if the kernel has no such events. Any other OSError has the kernel's
    errno.
    """
    if not 0 < buffer < 1 << 31:
        raise ValueError(f"buffer must be from 1 to {(1 << 31) - 1} bytes, not {buffer}")
    return MPTCPEvents(buffer=buffer)


class MPTCPEvents:
    """A subscription to events, from mptcp_events(). Use it as you wait for other things:

        for event in events: ...         wait for each event
        async for event in events: ...   the same in a coroutine
        events.wait(timeout)             a list, after at most timeout seconds
        events.read()                    a list, at once: when select() finds fileno() readable

    If events come faster than they are read, the kernel drops those that do not fit in the buffer. It tells
    at once, before the events that it kept. Here, an event LOST follows the ones that were kept: what was
    lost came after them. Call mptcp_diag() then, to find out what has become of the connections.

    Close it, or use it in a with statement. close() ends the iterations of other threads and tasks; wait() in
    another thread raises OSError (EBADF). The subscription goes on if the process gives up its privileges.
    After a fork, parent and child share it: each event goes to whoever reads first, so close it in one of
    them, which leaves the other subscribed.

    Thread rule: any thread may call any method, and each event goes to one caller.
    """

    __slots__ = (
        "__weakref__", "_closed", "_family", "_lock", "_lost", "_pending", "_socket", "_waker",
    )  # fmt: skip

    def __init__(self, *, buffer: int) -> None:
        self._closed = True
        self._lock = _thread.RLock()
        self._lost = False  # and what was kept is still to be read
        self._pending = collections.deque[MPTCPEvent]()
        self._waker = os.eventfd(0)  # readable when this is closed
        try:
            self._socket, self._family = pm_events.subscribe(buffer)
        except BaseException:
            os.close(self._waker)
            raise
        self._closed = False
        _open.add(ref(self, _open.discard))

    def fileno(self) -> int:
        """The descriptor to wait for; -1 if this is closed. Only read() may read from it."""
        return -1 if self._closed else self._socket.fileno()

    def read(self) -> list[MPTCPEvent]:
        """The events that there are, at most some 10,000; never waits. OSError with EBADF if this is closed.

        OSError with EPROTO for a malformed message; the next call goes on after it.
        """
        found: list[MPTCPEvent] = []
        with self._lock:
            try:
                # After a loss, up to what was kept: then the kernel lets nothing new in, and it ends.
                while len(found) < _MOST or (self._lost and found[-1].kind is not MPTCPEventKind.LOST):
                    event = self._next()
                    if event is None:
                        break
                    found.append(event)
            except BaseException:
                self._pending.extendleft(reversed(found))
                raise
        return found

    def wait(self, timeout: float | None = None) -> list[MPTCPEvent]:
        """The events that there are, or the first ones to come; empty after timeout seconds (None: never).

        Raises as read(), and EBADF also if another thread closes this.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (found := self.read()):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self._await(left)
        return found

    def __iter__(self) -> t.Iterator[MPTCPEvent]:
        """Each event, waiting for it; ends when this is closed."""
        self._check()
        while not self._closed:
            try:
                event = self._next()
                if event is None:
                    self._await(None)
                    continue
            except OSError:
                if self._closed:  # by another thread
                    return
                raise
            yield event

    async def __aiter__(self) -> t.AsyncIterator[MPTCPEvent]:
        """Each event, waiting for it in the running loop of asyncio; ends when this is closed."""
        self._check()
        while not self._closed:
            try:
                event = self._next()
                if event is None:
                    await self._ready()
                    continue
            except OSError:
                if self._closed:
                    return
                raise
            yield event

    def close(self) -> None:
        """Unsubscribe. May be called again."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.eventfd_write(self._waker, 1)
                os.close(self._waker)
                self._socket.close()

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self, warn: t.Callable[..., None] = warnings.warn) -> None:
        if not self._closed:
            warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self.close()

    def __reduce__(self) -> str:
        raise TypeError("a subscription to events cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<MPTCPEvents {'closed' if self._closed else f'fd={self.fileno()}'}>"

    def _next(self) -> MPTCPEvent | None:
        """The next event; None if there is none now."""
        barren = 0
        with self._lock:
            while not self._pending:
                self._check()
                if barren > _BARREN:  # so that read() ends
                    return None
                try:
                    found = pm_events.receive(self._socket, self._family)
                except BlockingIOError:
                    if not self._lost:
                        return None
                    self._lost = False
                    self._pending.append(_lost())
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    if self._lost:  # the kernel tells the next loss once the queue has been read empty
                        self._pending.append(_lost())
                    self._lost = True
                else:
                    now = time.monotonic_ns()
                    self._pending.extend([MPTCPEvent(time=now, **parts) for parts in found])
                    barren += not found
            return self._pending.popleft()

    def _check(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, f"{pm_events.CALL}: closed")

    def _await(self, left: float | None) -> None:
        """Wait until there is something to read, for at most left seconds, or until this is closed."""
        with self._doubles() as fds:
            poll = select.poll()
            for fd in fds:
                poll.register(fd, select.POLLIN)
            poll.poll(None if left is None else min(left * 1000 + 1, _LONGEST))

    async def _ready(self) -> None:
        """As _await(), in the running loop."""
        import asyncio

        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        with self._doubles() as fds:
            try:
                for fd in fds:
                    loop.add_reader(fd, ready.set)
                await ready.wait()
            finally:
                for fd in fds:
                    loop.remove_reader(fd)

    @contextlib.contextmanager
    def _doubles(self) -> t.Iterator[list[int]]:
        """Descriptors of one wait: another thread may close this, and another task wait in the same loop."""
        fds: list[int] = []
        try:
            with self._lock:
                self._check()
                fds.append(os.dup(self._socket.fileno()))
                fds.append(os.dup(self._waker))
            yield fds
        finally:
            for fd in fds:
                os.close(fd)

    def _forked(self) -> None:
        """In a forked child, where no other thread holds the lock, and no wait of the parent must end."""
        self._lock = _thread.RLock()
        if not self._closed:
            os.close(self._waker)
            self._waker = os.eventfd(0)


def _lost() -> MPTCPEvent:
    return MPTCPEvent(MPTCPEventKind.LOST, time.monotonic_ns())


# All subscriptions of this process, as in _sampler.py.
_open: set[ref[MPTCPEvents]] = set()


def _forked() -> None:
    for alive in list(_open):
        events = alive()
        if events is not None:
            events._forked()


os.register_at_fork(after_in_child=_forked)


# As mptcp_sockopt/__init__.py does for the names that it imports at once.
for _public in (MPTCPEvent, MPTCPEventKind, MPTCPEvents, mptcp_events):
    _public.__module__ = "mptcp_sockopt"
