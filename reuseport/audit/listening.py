# SPDX-License-Identifier: MIT
"""Where the audited command listens: it is awaited, its port is guessed, every address of it is found."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable
from typing import NamedTuple

from mptcp_sockopt import processes
from mptcp_sockopt.cli import CannotRun, escaped
from mptcp_sockopt.processes import Listener

from .._net import ANY, LOOPBACK
from ..load import Target
from .guard import Guard, Process, refusal

PATIENCE = 20.0  # seconds until it must listen
CALM = 0.3  # seconds without another listener: then it has opened all
_MAPPED = "::ffff:"
_ACCEPTS = 0x10000  # __SO_ACCEPTCON of a line of /proc/net/unix


class Place(NamedTuple):
    """Where to look for listeners: a port, a unix socket's path, or (None) any port."""

    port: int | None = None
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        return f"port {self.port}" if self.port else "any port"

    def inodes(self) -> frozenset[int]:
        """The sockets that listen here now."""
        if self.path is not None:
            return frozenset(_unix_listeners().get(self.path, ()))
        return frozenset(found.inode for found in processes.listeners(self.port or 0))


def await_listener(guard: Guard, server: Process, place: Place) -> Place:
    """Wait until the command listens, with all the listeners that it is going to have; returns the place,
    with its port. CannotRun if it ends before, or listens on several ports of which none was named."""
    deadline = time.monotonic() + PATIENCE
    found, since = place.inodes(), time.monotonic()
    while not found or time.monotonic() < since + CALM:
        if guard.main() is None:
            code = server.poll()
            ended = "CMD ended" if code is None else f"CMD ended ({ending(code)})"
            raise CannotRun(f"{ended} before it listened on {place}{last_words(guard, server)}")
        if not found and time.monotonic() > deadline:
            raise CannotRun(
                f"CMD does not listen on {place} after {PATIENCE:g} s{last_words(guard, server)}"
                + _elsewhere()
            )
        time.sleep(0.01)
        if (now := place.inodes()) != found:
            found, since = now, time.monotonic()
    return place if place.path is not None or place.port else Place(port=_one(_ports()))


def targets(place: Place, guard: Guard, *, tls: bool = False, far: Iterable[str] = ()) -> tuple[Target, ...]:
    """Every address of every listener, as clients of each family reach it. far: the addresses of this end of
    a wire, which only a wildcard listener has."""
    if place.path is not None:
        abstract = place.path.startswith("@")  # as /proc/net/unix has it; these belong to the network
        path = f"\0{place.path[1:]}" if abstract else guard.reach(place.path)
        return (Target(path, socket.AF_UNIX, tls=tls),)
    assert place.port
    listeners = processes.listeners(place.port)
    hosts = {}
    for listener in listeners:
        for family, host in _hosts(listener, tuple(far)):
            hosts[host] = family
    if not hosts:
        addresses = ", ".join(sorted({listener.host for listener in listeners}))
        raise CannotRun(f"CMD listens on {addresses} only: --rtt needs 0.0.0.0 or ::, a wire ends elsewhere")
    return tuple(Target((host, place.port), family, tls=tls) for host, family in hosts.items())


def _hosts(listener: Listener, far: tuple[str, ...]) -> Iterable[tuple[int, str]]:
    if listener.host == ANY[listener.family]:
        families = {listener.family: ""}
        if listener.family == socket.AF_INET6 and listener.v6only is False:
            families[socket.AF_INET] = ""
        for family in families:
            if far:
                yield from ((family, host) for host in far if (":" in host) == (family == socket.AF_INET6))
            else:
                yield family, LOOPBACK[family]
    elif not far:
        host = listener.host.removeprefix(_MAPPED)
        yield (socket.AF_INET6 if ":" in host else socket.AF_INET), host


def _ports() -> set[int]:
    return {listener.port for listener in processes.listeners(0)}


def _one(ports: set[int]) -> int:
    if len(ports) != 1:
        raise CannotRun(f"CMD listens on ports {', '.join(map(str, sorted(ports)))}: choose with --port")
    return ports.pop()


def _elsewhere() -> str:
    """Where it listens instead, as a hint."""
    ports, paths = sorted(_ports()), sorted(_unix_listeners())
    if ports:
        return f"; it listens on port {', '.join(map(str, ports))}: see --port"
    return f"; it listens on {', '.join(map(escaped, paths))}: see --unix" if paths else ""


def _unix_listeners() -> dict[str, set[int]]:
    """The unix sockets that listen in this network, by their paths as they were bound."""
    found: dict[str, set[int]] = {}
    with open("/proc/net/unix", errors="surrogateescape") as file:
        for line in file:
            words = line.split(maxsplit=7)
            with contextlib.suppress(ValueError):  # the heading
                if len(words) == 8 and int(words[3], 16) & _ACCEPTS:
                    found.setdefault(words[7].rstrip("\n"), set()).add(int(words[6]))
    return found


# ------------------------------------------------------------------------------------------ what it said


def ending(code: int) -> str:
    """How a process ended, in words."""
    from signal import Signals

    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {Signals(-code).name}"
    except ValueError:  # guard.UNKNOWN, or a real-time signal
        return f"killed by signal {-code}" if code > -128 else "its status is not known"


def last_words(guard: Guard, server: Process) -> str:
    """What the command said at its end, as the end of a sentence."""
    said = server.last_words()
    hint = refusal(said, guard.protection)
    return (f": {said}" if said else "") + (f"\n{hint}" if hint else "")
