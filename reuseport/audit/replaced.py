# SPDX-License-Identifier: MIT
"""When a restart is complete: once nobody who was there at the signal accepts any more.

That is so if probes in a row were accepted by new processes only. It also is if a new process accepts from a
listener that it holds, and no old one holds a listener but its ancestors, which were never seen to accept.

Pure: it is told who accepted, and who was there. A control without a signal comes first. If processes that
accepted in it are gone at its end, then such processes come and go by themselves, and are no evidence; but
their parents may be, or the parents of those.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .family import Identity
from .probes import Probe

ENOUGH = 20  # probes in a row that nobody of the old generation accepts
_PER_ACCEPTOR = 5  # of so many acceptors, one with an equal share is missed less than once in a hundred times


class Watch:
    """Follows one restart after the other.

    Thread rule: for one thread.
    """

    def __init__(self) -> None:
        self.level = 0
        """Whose replacement counts: 0 for the processes that accept, 1 for their parents ..."""
        self._control: list[Probe] = []
        self._after: list[Probe] = []
        self._old: frozenset[Identity] = frozenset()
        self._acceptors: frozenset[Identity] = frozenset()
        self._signal: int | None = None

    def add(self, probes: Iterable[Probe]) -> None:
        """What has been seen since the last call."""
        for probe in probes:
            if self._signal is None:
                self._control.append(probe)
                self._acceptors |= set((probe.chain or ())[:1])
            elif probe.begun > self._signal:
                self._after.append(probe)

    @property
    def saw_nobody(self) -> bool:
        """Whether no acceptor at all could be seen in the control."""
        return not any(probe.chain for probe in self._control)

    def end_control(self, alive: Collection[Identity]) -> bool:
        """The control is over, and these are alive. False if nobody is left whose replacement would count."""
        chains = [probe.chain for probe in self._control if probe.chain]
        while any(len(chain) > self.level and chain[self.level] not in alive for chain in chains):
            self.level += 1
        self._control = []
        return any(len(chain) > self.level for chain in chains)

    def begin(self, signal: int, alive: Iterable[Identity]) -> None:
        """A restart is asked for, and these are alive: the old generation."""
        self._signal, self._old, self._after, self._control = signal, frozenset(alive), [], []

    @property
    def begun(self) -> bool:
        """Whether anybody new has accepted since the signal."""
        return any(self._is_new(probe) for probe in self._after)

    @property
    def still(self) -> bool:
        """Whether somebody old was among the last that accepted."""
        last = [probe for probe in self._after if probe.chain][-ENOUGH:]
        return any(not self._is_new(probe) for probe in last)

    @property
    def rivals(self) -> frozenset[Identity] | None:
        """The old processes that could accept, if they hold a listener, and none but they could.

        None if that is not known: nobody new has accepted; or parents count, and not who accepts.
        """
        new = [probe.chain for probe in self._after if self._is_new(probe)]
        ancestors = {one for chain in new if chain for one in chain[1:]} - self._acceptors
        return None if self.level or not new else self._old - ancestors

    @property
    def newest(self) -> Identity | None:
        """Who accepted last, of the new ones."""
        new = [probe.chain[0] for probe in self._after if probe.chain and self._is_new(probe)]
        return new[-1] if new else None

    def complete(self) -> int | None:
        """When the last probe was accepted that it takes; None if it is not complete, as far as seen."""
        row = 0
        acceptors: set[Identity] = set()
        for probe in self._after:
            if probe.unseen:
                continue
            if not self._is_new(probe):
                row = 0
                continue
            row += 1
            acceptors.update(probe.chain[self.level : self.level + 1] if probe.chain else ())
            if row >= max(ENOUGH, min(200, _PER_ACCEPTOR * len(acceptors))):
                return probe.ended
        return None

    def nobody_accepts(self, since: int) -> bool:
        """Whether all probes that ended since then were in vain: one takes a second, then."""
        return all(probe.chain is None for probe in self._after if probe.ended > since and not probe.unseen)

    def end(self) -> None:
        """The restart is over, one way or the other: a control begins."""
        self._signal = None

    def _is_new(self, probe: Probe) -> bool:
        chain = probe.chain
        return chain is not None and len(chain) > self.level and chain[self.level] not in self._old
