# SPDX-License-Identifier: MIT
"""Measure what MPTCP costs beside TCP, for programs in C and in Python: ratios within one run.

On loopback, and over two paths with a rate: the time of a small request, throughput, the time until a
connection is open, CPU time. On loopback: kernel memory of a connection, and what Nagle's algorithm does.

Exit status: 0 measured; 2 usage; 3 something needed for a measurement is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import cli

from . import cost_memory, cost_page, fixtures
from .cost_networks import KINDS, Kind, Network, check, loopback, shaped
from .ends import Far, InC, InPython, Program, received
from .measure import Costs, Measured, Missing, in_turns, several_in_turns
from .report import Document, load, machine

ROOT = Path(__file__).resolve().parent.parent


class Scale(NamedTuple):
    """How much is measured; the rest is of each round and way."""

    rounds: int
    requests: int
    loopback: int  # bytes
    shaped: int  # bytes
    connections: int
    held: int  # connections, whose memory is counted


FULL = Scale(rounds=21, requests=500, loopback=128 << 20, shaped=8 << 20, connections=50, held=1000)
SMALL = Scale(rounds=3, requests=20, loopback=2 << 20, shaped=1 << 18, connections=3, held=100)

_REPEATED = 10  # of thousands

#: What one way of opening sockets measures, and whether more of it is better.
WHATS = {"latency": False, "throughput": True, "transfer": False, "opening": False, "connection": False}


# ---------------------------------------------------------------------------------- what a round measures


class Bench:
    """Connections of all kinds between this process and another, and what they are made to do."""

    def __init__(self, network: Network, scale: Scale, volume: int, programs: Mapping[str, Program]) -> None:
        self._network, self._scale, self._volume, self._programs = network, scale, volume, programs
        self._listeners = network.listening()
        pairs = {name: network.pair(kind, self._listeners[kind.listener]) for name, kind in KINDS.items()}
        self._near = {name: client for name, (client, _) in pairs.items()}
        far = {name: accepted for name, (_, accepted) in pairs.items()}
        far |= {str(protocol): sock for protocol, sock in self._listeners.items()}
        self._far = Far(programs, far)
        self.repeated = 0  # for a subflow that did not come: the kernel tries once

    def way(self, name: str, program: str) -> dict[str, float]:
        """What a kind of connection costs a program, in ns."""
        begun = self._exchange(name, program)
        return begun | self._bulk(name, program) | self._connections(KINDS[name], program)

    def _exchange(self, name: str, program: str) -> dict[str, float]:
        count = self._scale.requests
        self._far.order(program, "answer", name, count)
        times = self._programs[program].ask(self._near[name], count)
        self._far.took()
        return {"latency": statistics.median(times)}

    def _bulk(self, name: str, program: str) -> dict[str, float]:
        workers, begun, used = kernel_threads(), time.perf_counter_ns(), time.thread_time_ns()
        self._far.order(program, "drain", name, self._volume)
        self._programs[program].pour(self._near[name], self._volume)
        wall, used = time.perf_counter_ns() - begun, time.thread_time_ns() - used
        used += self._far.took()
        return {"throughput": wall, "transfer": used + since(workers)}

    def _connections(self, kind: Kind, program: str) -> dict[str, float]:
        """The waiting for subflows does not count: the kernel makes them after the first data."""
        count, ours = self._scale.connections, self._programs[program]
        listener = self._listeners[kind.listener]
        self._network.allow(kind)
        workers, wall, used = kernel_threads(), time.perf_counter_ns(), time.thread_time_ns()
        self._far.order(program, "accept", str(kind.listener), count)
        with self._network.client:
            ours.open(self._network.target(listener), kind.client, count)
        used, wall = time.thread_time_ns() - used, time.perf_counter_ns() - wall
        used += self._far.took()
        complete = all(has_its_subflows(kind, sock) for sock in ours.opened())
        begun = time.thread_time_ns()
        ours.close()
        used += time.thread_time_ns() - begun
        self._far.order(program, "close")
        used += self._far.took()
        if complete:
            return {"opening": wall / count, "connection": (used + since(workers)) / count}
        self.repeated += 1
        if self.repeated > _REPEATED:
            raise Missing(f"connections that get {kind.subflows} subflows each")
        return self._connections(kind, program)

    def checked(self) -> None:
        """The connections are still what they were."""
        for name, kind in KINDS.items():
            check(kind, self._near[name])

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._far.__exit__()
        for sock in (*self._near.values(), *self._listeners.values()):
            sock.close()


def has_its_subflows(kind: Kind, sock: mp.SocketLike) -> bool:
    try:
        check(kind, sock, wait=True)
    except Missing:
        return False
    return True


def kernel_threads() -> dict[str, int]:
    """CPU time of each of the kernel's threads, in ns: its workers open and close subflows. None are seen in
    a container."""
    found = {}
    with contextlib.suppress(OSError):
        if Path("/proc/2/comm").read_text() == "kthreadd\n":
            for thread in Path("/proc/2/task/2/children").read_text().split():
                with contextlib.suppress(OSError), open(f"/proc/{thread}/schedstat") as file:
                    found[thread] = int(file.read().split()[0])
    return found


def since(before: Mapping[str, int]) -> int:
    """What they used since then, when they have come to rest."""
    used, last = 0, -1
    for _ in range(20):
        now = kernel_threads()
        used = sum(cost - before.get(thread, 0) for thread, cost in now.items())
        if used - last < 50_000:
            break
        last = used
        time.sleep(0.002)
    return used


# ----------------------------------------------------------------------------------------- what is measured


def programs_here(notes: list[str]) -> dict[str, Program]:
    """C is there if a compiler is."""
    found: dict[str, Program] = {}
    try:
        found["C"] = InC()
    except Missing as reason:
        notes.append(f"programs in C: {reason}")
    return found | {"Python": InPython()}


def compared(name: str, costs: Mapping[str, Costs], programs: Sequence[str]) -> Measured:
    """Each kind against TCP to TCP, of the same program and round."""
    found = Measured()
    for what, more in WHATS.items():
        for program in programs:
            for kind in KINDS:
                if kind != "tcp":
                    pair = (f"{kind} {program}", f"tcp {program}")
                    found.ratios[f"{name} {program} {what} {kind}"] = costs[what].ratios(
                        *(reversed(pair) if more else pair)
                    )
    return found


def connections(name: str, scale: Scale) -> Measured:
    """Loopback, or the paths with a rate."""
    notes: list[str] = []
    programs = programs_here(notes)
    with contextlib.ExitStack() as kept:
        network = loopback() if name == "loopback" else kept.enter_context(shaped())
        volume = scale.loopback if name == "loopback" else scale.shaped
        bench = kept.enter_context(Bench(network, scale, volume, programs))
        ways: dict[str, Callable[[], dict[str, float]]] = {
            f"{kind} {program}": partial(bench.way, kind, program) for program in programs for kind in KINDS
        }
        several_in_turns(ways, 1)  # cold
        found = compared(name, several_in_turns(ways, scale.rounds), list(programs))
        bench.checked()
    if bench.repeated:
        notes.append(f"{name}: {bench.repeated} times new connections of which one lacked a subflow")
    found.notes.extend(notes)
    return found


def nagle(scale: Scale) -> Measured:
    """A request in two writes, with Nagle's algorithm at the client, and without."""
    network = loopback()
    listeners = network.listening()
    ways: dict[str, Callable[[], float]] = {}
    with contextlib.ExitStack() as kept:
        for name in ("tcp", "mptcp 1"):
            for on in (False, True):
                client, accepted = network.pair(KINDS[name], listeners[KINDS[name].listener])
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, not on)
                kept.enter_context(client)
                kept.enter_context(accepted)
                ways[f"{name} {on}"] = partial(in_two_writes, client, accepted)
        in_turns(ways, 4)  # at first, a connection acknowledges everything at once
        costs = in_turns(ways, scale.rounds)
    kinds = ("tcp", "mptcp 1")
    return Measured({f"nagle {name}": costs.ratios(f"{name} True", f"{name} False") for name in kinds})


def in_two_writes(client: socket.socket, accepted: socket.socket) -> float:
    """The usual time of a few."""
    times = []
    for _ in range(3):
        begun = time.perf_counter_ns()
        client.sendall(bytes(32))
        client.sendall(bytes(32))
        accepted.sendall(received(accepted, 64))
        received(client, 64)
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times)


# --------------------------------------------------------------------------------------------- the command

PARTS: dict[str, Callable[[Scale], Measured]] = {
    "loopback": partial(connections, "loopback"),
    "paths": partial(connections, "paths"),
    "nagle": nagle,
    "memory": lambda scale: cost_memory.memory(min(scale.rounds, 5), scale.held),
}


def measure(scale: Scale, *, everything: bool) -> Measured:
    """One part may be missing without the others; memory, for which root is needed, may be absent."""
    found = Measured()
    for name, part in PARTS.items():
        print(f"cost: {name}", file=sys.stderr, flush=True)
        with contextlib.suppress(Missing):  # said below, by each part's notes
            fixtures.c_library("ends")  # compiled once, here
        try:
            found.add(fixtures.apart(partial(part, scale), 600))
        except Missing as reason:
            optional = name == "memory" and not everything
            (found.notes if optional else found.missing).append(f"{name}: {reason}")
    return found


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks cost", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    rounds = cli.between(int, 2, 10**6)
    parser.add_argument("--rounds", type=rounds, metavar="N", help=f"default {FULL.rounds}")
    parser.add_argument("--small", action="store_true", help="shorter and less exact: seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE, too")
    parser.add_argument("--write", action="store_true", help="rewrite docs/cost.*")
    parser.add_argument("--render", action="store_true", help="measure nothing; render from docs/cost.json")
    options = parser.parse_args(argv)
    if options.write and options.small:
        parser.error("--write measures in full")
    if options.render:
        cost_page.write(ROOT, load((ROOT / "docs" / "cost.json").read_text()))
        return cli.PASS
    scale = SMALL if options.small else FULL
    scale = scale._replace(rounds=options.rounds or scale.rounds)
    document = Document(machine(), scale.rounds, measure(scale, everything=options.write))
    print(cost_page.text(document))
    if options.json:
        options.json.write_text(document.dump())
    measured = document.measured
    if options.write and not measured.missing:
        cost_page.write(ROOT, document)
    for note in measured.notes:
        print(f"Not measured: {note}", file=sys.stderr)
    for what in measured.missing:
        print(f"MISSING: {what}", file=sys.stderr)
    if options.write and measured.missing:
        print("Nothing was written.", file=sys.stderr)
    return cli.CANNOT if measured.missing else cli.PASS
