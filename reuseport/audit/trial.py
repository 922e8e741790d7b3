# SPDX-License-Identifier: MIT
"""The order of an audit: start the command, load it, wait for good answers, restart it again and again.

This process only looks and gives the signals. The load is made by another one, and a third one makes probes;
so whatever is looked at here, the load does not wait for it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from mptcp_sockopt import testing
from mptcp_sockopt.cli import CannotRun

from .. import _net
from ..load import Live, Loader, Report, Target
from . import baseline, family, listening
from .evidence import Restart
from .guard import Guard
from .listening import Place
from .options import Options
from .probes import Prober
from .replaced import Watch
from .restarts import GoneError, Helper, Way, master

CONTROL = 1.0  # seconds without a restart, before the first one and after the last one
LONGER = 6.0  # seconds after the last one, if somebody was lost: one that is stalled is known after 5
TRUSTED = 1.0  # seconds that a restart takes if nothing shows when it is complete
GONE = 0.2  # seconds without a process of CMD: it has ended
BEHIND = 0.5  # seconds that an answer may take longer than in the baseline
TURN = 0.005
LOOK = 20_000_000  # ns between two looks for listeners of the old generation
_QUICK, _STEADY, _IDLE = 4, 20, 50  # ms from one probe to the next


class Found(NamedTuple):
    """What an audit saw. Times are of time.monotonic_ns()."""

    place: Place
    targets: tuple[Target, ...]
    restarts: tuple[Restart, ...]
    load: Report
    died: int | None
    """When CMD was last seen alive, if it ended."""
    ending: str
    """How it ended, and its last words."""
    stopped: str
    """Why there were no more restarts, if that was too early."""
    harmed: bool
    """Whether that is the doing of the last restart."""
    protection: dict[str, Any]
    sentence: str
    written: dict[str, Any]


def trial(options: Options) -> Found:
    """For a process of its own: it does not leave its private network again."""
    with contextlib.ExitStack() as held:
        far, clients = _network(options, held)
        guard = held.enter_context(Guard(unprotected=options.unprotected))
        server = guard.start(options.words)
        place = listening.await_listener(guard, server, options.place)
        here = listening.targets(place, guard, tls=options.tls)
        targets = listening.targets(place, guard, tls=options.tls, far=far) if far else here
        with clients:
            load = held.enter_context(Loader(options.plans(targets)))
        prober = held.enter_context(Prober(here, guard, options.request, silent=options.raw))
        course = _Course(options, guard, place, load, prober)
        stopped = course.run(targets)
        report = load.stop()
        return Found(
            place=place,
            targets=targets,
            restarts=tuple(course.restarts),
            load=report,
            died=course.died,
            ending=_ending(guard) if course.died else "",
            stopped=stopped,
            harmed=course.harmed,
            protection=guard.protection.asdict(),
            sentence=guard.protection.sentence,
            written=guard.written().asdict(),
        )


def _network(
    options: Options, held: contextlib.ExitStack
) -> tuple[tuple[str, ...], contextlib.AbstractContextManager[object]]:
    """Enter a private network; with a round trip, the server's end of a wire. Its addresses, and where the
    clients are."""
    _net.enter_private_network()
    if not options.rtt:
        return (), contextlib.nullcontext()
    paths = held.enter_context(testing.Paths(1, delay=options.rtt / 2000))
    far = [*paths.server_addresses]
    with contextlib.suppress(OSError):  # no IPv6 here
        for side, host in ((paths.client, "fd00:a::1"), (paths.server, "fd00:a::2")):
            with side:
                testing.add_address(host, "path0", 64)
        far.append("fd00:a::2")
    with paths.client:
        _net.allow_all_ports()
    held.enter_context(paths.server)
    return tuple(far), paths.client


def _ending(guard: Guard) -> str:
    server = guard.command
    assert server
    code = server.poll()
    how = listening.ending(code) if code is not None else "its status is not known"
    return f"{how}{listening.last_words(guard, server)}"


class _Died(Exception):  # noqa: N818  # an outcome
    """The server has ended."""


class _Course:
    """The restarts, one after the other."""

    def __init__(self, options: Options, guard: Guard, place: Place, load: Loader, prober: Prober) -> None:
        self._options, self._guard, self._place = options, guard, place
        self._load, self._prober = load, prober
        self._watch = Watch()
        self._way: Way = options.way
        self._helper: Helper | None = None
        self._alive_at = time.monotonic_ns()
        self._longest_control = 0.0
        self._look_at = 0
        self._most_waiting = BEHIND
        self.restarts: list[Restart] = []
        self.died: int | None = None
        self.harmed = False

    def run(self, targets: tuple[Target, ...]) -> str:
        """Until there are enough restarts, or the time is over. Why it was stopped before, or nothing."""
        options = self._options
        stopped = ""
        try:
            self._baseline(targets)
            begun = time.monotonic()
            while len(self.restarts) < options.restarts and time.monotonic() - begun < options.seconds:
                stopped = self._restart()
                if stopped:
                    break
                self._progress()
                self._pass(options.pause)
            if not stopped:
                self._pass(CONTROL - options.pause)
                if sum(live.lost + live.other for live in self._lives()):
                    self._pass(LONGER - CONTROL)
        except (_Died, GoneError):
            self.died = self._alive_at
            self._await_last_words()
        return stopped

    # ------------------------------------------------------------------------------------------- baseline

    def _baseline(self, targets: tuple[Target, ...]) -> None:
        """Good answers to every client, for a while without a restart: it is also the first control."""
        plans = self._options.plans(targets)
        begun = time.monotonic()
        until = begun + baseline.PATIENCE + max(map(baseline.longest, plans))
        before = self._lives()
        while True:
            window = max(CONTROL, 20 / self._options.rate)
            self._pass(window)
            now = self._lives()
            verdict = baseline.judge(plans, before, now, window)
            if verdict is baseline.Verdict.GOOD:
                break
            if verdict is baseline.Verdict.HOPELESS or time.monotonic() > until:
                raise CannotRun(baseline.reason(plans, before, now, window, self._load.stop()))
            before = now
        self._load.learned()
        self._most_waiting = 1.5 * self._waiting() + BEHIND
        self._control(time.monotonic() - begun)

    def _waiting(self) -> float:
        """For how many seconds of load there is no answer yet: how long an answer takes now."""
        live = self._load.live(0)
        return (live.started - live.ended) / self._options.rate

    def _lives(self) -> list[Live]:
        return [self._load.live(number) for number in range(len(self._load.plans))]

    def _control(self, seconds: float) -> bool:
        """So long nothing was restarted. Whether somebody is left whose replacement counts."""
        self._longest_control = max(self._longest_control, seconds)
        self._watch.add(self._prober.read())
        if self._options.trust_restart or self._way.respawn:
            return True
        if self._watch.saw_nobody:
            raise CannotRun(
                "who accepts cannot be seen: no process of CMD was found at the other end of a connection; "
                "see --trust-restart"
            )
        level = self._watch.level
        if not self._watch.end_control(self._identities()) or (
            self.restarts and self._watch.level > level and self._watch.complete() is None
        ):
            raise CannotRun(
                "the processes that accept come and go by themselves: without any restart, too. So nothing "
                "shows whether CMD restarts; see --trust-restart"
            )
        return True

    def _identities(self) -> set[family.Identity]:
        people = family.members(self._guard.proc, self._guard.processes())
        return {one.identity for one in people.values()}

    # ------------------------------------------------------------------------------------------- restarts

    def _restart(self) -> str:
        """One restart, until it is complete. Why there can be no more, or nothing."""
        server = master(self._guard, self._place)
        self._watch.begin(time.monotonic_ns(), self._identities())
        self._prober.set_pace(_STEADY)
        self.restarts.append(Restart(time.monotonic_ns(), behind=self._waiting() > self._most_waiting))
        self._helper = Helper(self._guard, self._way, self._options.words, server)
        begun = time.monotonic()
        complete = None
        for _ in self._turns(self._options.within):
            if self._helper and self._helper.is_done():
                self._helper = None
            self._watch.add(self._prober.read())
            if self._watch.begun:
                self._prober.set_pace(_QUICK)
            complete = None if self._helper else self._completed(time.monotonic() - begun)
            if complete:
                break
        self._helper = None
        self._prober.set_pace(_IDLE)
        self.restarts[-1] = self.restarts[-1]._replace(complete=complete)
        self._watch.end()
        if complete is None:
            return self._incomplete()
        took = time.monotonic() - begun
        if took > self._longest_control and not self._options.trust_restart:
            self._pass(1.2 * took)
            self._control(1.2 * took)
        return ""

    def _completed(self, seconds: float) -> int | None:
        complete = self._watch.complete()
        if complete is None and (self._none_left() or (self._options.trust_restart and seconds > TRUSTED)):
            return time.monotonic_ns()
        return complete

    def _none_left(self) -> bool:
        """Whether somebody new accepts from a listener, and no old process could."""
        rivals, newest, now = self._watch.rivals, self._watch.newest, time.monotonic_ns()
        if rivals is None or newest is None or now < self._look_at:
            return False
        self._look_at = now + LOOK
        rivals &= self._identities()
        holders = family.holders(
            self._guard.proc, [newest.pid, *(rival.pid for rival in rivals)], self._place.inodes()
        )
        return holders == {newest.pid}

    def _incomplete(self) -> str:
        """Why the last restart is not complete, and whether that did harm: the second half of its time tells.

        The load is asked, too: if only the probes come late, it is this machine's fault.
        """
        number, way, watch = len(self.restarts), self._way, self._watch
        within = f"{self._options.within:g} s after restart {number}"
        half = time.monotonic_ns() - round(self._options.within / 2 * 1e9)
        nobody = watch.nobody_accepts(since=half)
        if not self._place.inodes():
            self.harmed = True
            return f"nobody listens {within}"
        if nobody and self._load.live(0).last_good > half:
            return f"the load is served, but no probe is {within}: this machine is too busy"
        if nobody:
            self.harmed = not self.restarts[-1].behind
            return f"nobody accepts {within}"
        self.restarts[-1] = self.restarts[-1]._replace(begun=watch.begun)
        if watch.still and watch.begun:
            return f"processes that were there before still accept {within}"
        if watch.begun:
            return f"too few connections were seen to be accepted by somebody new {within}"
        return f"{way} replaced nobody who accepts, {within}"

    # -------------------------------------------------------------------------------------------- waiting

    def _pass(self, seconds: float) -> None:
        for _ in self._turns(seconds):
            self._watch.add(self._prober.read())

    def _turns(self, seconds: float) -> Iterator[None]:
        """Again and again, for so long. _Died if the server ends, and the load's error if that fails."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._load.failed:
                self._load.stop()
            if self._helper or self._guard.main() is not None:
                self._alive_at = time.monotonic_ns()
            elif time.monotonic_ns() - self._alive_at > GONE * 1e9:
                raise _Died
            yield
            time.sleep(TURN)

    def _await_last_words(self) -> None:
        """Its output may still be on its way."""
        if server := self._guard.command:
            with contextlib.suppress(TimeoutError):
                server.wait(1.0)

    def _progress(self) -> None:
        if sys.stderr.isatty():
            lost = sum(live.lost + live.other for live in self._lives())
            total = sum(live.ended for live in self._lives())
            words = f"restart {len(self.restarts)} of {self._options.restarts}, {lost} of {total:,} lost"
            print(f"reuseport audit: {words}", file=sys.stderr)
