# SPDX-License-Identifier: MIT
"""The kinds of client, each a small state machine on a connection."""

from __future__ import annotations

import select
import socket
import struct

import mptcp_sockopt

from .http import NotHTTPError
from .opening import open_stream
from .outcomes import OUTCOMES, Loss, Outcome, Where
from .run import Run
from .servers import REPLY, REQUEST
from .streams import NoTLSError, Stream

IN, OUT = select.EPOLLIN, select.EPOLLOUT
AGAIN = 1_000_000  # ns until a full unix listener is asked again
SMALL = 4096  # bytes: a receive buffer that leaves a long answer with its server
RESET_AT_CLOSE = struct.pack("@ii", 1, 0)  # SO_LINGER


class Exchange:
    """A client on one connection, from connect(2) on.

    begin() comes first. The loop calls ready() when the socket is, and wake() at the time that was asked for.
    """

    __slots__ = ("alarm", "begun", "place", "progress", "run", "stream", "target")

    stream: Stream
    buffer = 0
    """What the kernel receives for it, in bytes; 0: the usual."""

    def __init__(self, run: Run) -> None:
        self.run = run
        #: The target's place in the plan.
        self.place = run.next_place()
        self.target = run.plan.targets[self.place]
        self.begun = 0
        #: When something last happened.
        self.progress = 0
        #: When the loop shall call wake().
        self.alarm = 0

    # ---- what the kinds differ in

    def speak(self, now: int) -> None:
        """Connected, or about to be: send what can be sent."""
        raise NotImplementedError

    def take(self, data: bytes, now: int) -> bool:
        """What came in; whether the answer is whole."""
        raise NotImplementedError

    def ended(self, now: int) -> None:
        """Nothing more will come: without the whole answer."""
        self.lose(Outcome.EOF, now)

    def finish(self, now: int) -> None:
        """The answer is whole."""
        raise NotImplementedError

    def woken(self, now: int) -> None:
        """The time has come that wake() was asked for."""

    # ---- what they have in common

    def begin(self, now: int) -> None:
        self.begun = self.progress = now
        self.stream = stream = open_stream(self.target)
        self.run.loop.open[stream.number] = self
        if self.run.plan.source:
            stream.sock.bind(self.run.next_source())
        if self.buffer:
            stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)
        self._connect(now)

    def _connect(self, now: int) -> None:
        if self.stream.connect():
            self.speak(now)
            self.watch()
        else:
            self.run.loop.wake_at(now + AGAIN, self)

    def watch(self) -> None:
        self.run.loop.watch(self, IN | OUT if self.stream.outgoing else IN)

    def wake(self, now: int) -> None:
        if not self.stream.connecting:
            self.woken(now)
        elif now - self.begun > self.run.loop.patience:  # the queue of a unix listener is still full
            self.lose(Outcome.STALLED, now)
        else:
            self._connect(now)

    def ready(self, events: int, now: int) -> None:
        stream = self.stream
        if events & OUT:
            self.progress = now
            stream.flush()
        if events & ~OUT:
            self.read(now)
        if stream.watched and (stream.outgoing or stream.watched & OUT):
            self.watch()

    def read(self, now: int) -> None:
        while (data := self.stream.receive()) is not None:
            self.progress = now
            if not data:
                self.ended(now)
            elif self.take(data, now):
                self.finish(now)
            elif self.stream.ended:
                continue
            break

    def fail(self, error: Exception, now: int) -> None:
        """What any call of these raised is the outcome. What is none is raised again."""
        if isinstance(error, NotHTTPError):
            self.lose(Outcome.TLS if error.tls else Outcome.GARBAGE, now)
        elif isinstance(error, NoTLSError):
            self.lose(Outcome.NO_TLS, now)
        elif isinstance(error, OSError) and error.errno in OUTCOMES:
            self.lose(OUTCOMES[error.errno], now)
        else:
            raise error

    def stall(self, now: int) -> None:
        """There was no progress for too long."""
        self.lose(Outcome.STALLED, now)

    def asking(self) -> bool:
        """Whether the client has not said all yet."""
        return bool(self.stream.outgoing)

    def answering(self) -> bool:
        """Whether a part of the answer is here."""
        return False

    def where(self) -> Where | None:
        """How far it has come."""
        if self.answering():
            return Where.UNDER_WAY
        acked = self.stream.acknowledged()
        if acked is None:
            return None if self.stream.written else Where.HANDSHAKE
        if acked < 0 or (not acked and (self.stream.written or self.stream.outgoing)):
            return Where.HANDSHAKE
        return Where.ASKING if self.asking() else Where.QUEUE

    def loss(self, outcome: Outcome, now: int, status: int | None = None) -> Loss:
        at = self.progress if outcome is Outcome.STALLED else now
        client = self.run.plan.client
        return Loss(client, self.place, self.begun, now, at, outcome, self.where(), status)

    def lose(self, outcome: Outcome, now: int) -> None:
        loss = self.loss(outcome, now)
        self.alarm = 0
        self.close()
        self.run.lose(loss)

    def serve(self, now: int, status: int | None) -> None:
        """The answer is whole, and so is the connection."""
        if self.target.mptcp and not mptcp_sockopt.is_mptcp(self.stream.sock):
            self.lose(Outcome.FELL_BACK, now)
        else:
            self.alarm = 0
            self.close()
            self.run.serve(self.begun, self.place, status, now)

    def close(self) -> None:
        del self.run.loop.open[self.stream.number]
        self.stream.watched = 0
        self.stream.close()


class Who(Exchange):
    """Asks who serves."""

    __slots__ = ("_answer",)

    def speak(self, now: int) -> None:
        self._answer = b""
        self.stream.send(REQUEST)

    def take(self, data: bytes, now: int) -> bool:
        self._answer += data
        return len(self._answer) >= REPLY.size

    def answering(self) -> bool:
        return bool(self._answer)

    def finish(self, now: int) -> None:
        # Nothing more will come, and a reset leaves nothing behind. Closed in order, MPTCP connections stay
        # on the server: after some ten thousand the kernel finds no token for a new one, which falls back.
        self.stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        self.serve(now, REPLY.unpack(self._answer)[0])


class Raw(Exchange):
    """Waits for a first byte."""

    __slots__ = ()

    def speak(self, now: int) -> None:
        if self.target.tls:
            self.stream.send(b"")

    def take(self, data: bytes, now: int) -> bool:
        return True

    def finish(self, now: int) -> None:
        self.serve(now, None)


class Plain(Exchange):
    """Asks at once, and reads the answer."""

    __slots__ = ("answer",)

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.answer = run.new_answer()

    def speak(self, now: int) -> None:
        self.stream.send(self.run.wire)

    def take(self, data: bytes, now: int) -> bool:
        return self.answer.feed(data)

    def answering(self) -> bool:
        return self.answer.begun

    def ended(self, now: int) -> None:
        if self.answer.end() and self.run.is_like(self.answer):
            self.finish(now)
        else:
            self.lose(Outcome.EOF, now)

    def finish(self, now: int) -> None:
        self.serve(now, self.answer.status)

    def loss(self, outcome: Outcome, now: int, status: int | None = None) -> Loss:
        return super().loss(outcome, now, self.answer.status)


class Late(Plain):
    """Is silent for a while, and then asks."""

    __slots__ = ("_silent",)

    def speak(self, now: int) -> None:
        self._silent = True
        self.progress = now + self.run.wait
        if self.target.tls:
            self.stream.send(b"")
        self.run.loop.wake_at(self.progress, self)

    def woken(self, now: int) -> None:
        self._silent = False
        self.progress = now
        super().speak(now)
        self.watch()

    def asking(self) -> bool:
        return self._silent or super().asking()

    def read(self, now: int) -> None:
        super().read(now)
        if self._silent:
            self.progress = max(self.progress, self.alarm)


class Slow(Plain):
    """Takes its time to ask, and then to read the answer."""

    __slots__ = ("_asking", "_reading")

    buffer = SMALL

    def speak(self, now: int) -> None:
        self._asking, self._reading = True, False
        self.stream.send(self.run.wire[:-1])
        self.progress = now + self.run.wait // 2
        self.run.loop.wake_at(self.progress, self)

    def woken(self, now: int) -> None:
        self.progress = now
        if self._asking:
            self._asking = False
            self.stream.send(self.run.wire[-1:])
        self.watch()

    def asking(self) -> bool:
        return self._asking or super().asking()

    def read(self, now: int) -> None:
        if self._asking or self._reading:
            super().read(now)
        elif (data := self.stream.receive(1)) is None:
            self.progress = now
        elif not data:
            self.ended(now)
        elif self.take(data, now):
            self.finish(now)
        else:
            # The rest is left for a while: the kernel takes no more than SMALL of it.
            self._reading = True
            self.progress = now + self.run.wait // 2
            self.run.loop.unwatch(self)
            self.run.loop.wake_at(self.progress, self)
