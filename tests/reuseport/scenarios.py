# SPDX-License-Identifier: MIT
"""Random sets of sockets on one port, and one more that is to be bound there: what the kernel says.

A scenario follows from its seed. It opens, binds, listens, connects, accepts and closes sockets of both
families and protocols, with every pair of options, of one or two users, some bound to lo. Then play() asks
the rule of ``who --bind``, really binds and listens, and really connects.

Everything happens in the network namespace of the caller, which prepare() has set up.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mptcp_sockopt import processes, testing
from reuseport import _lookup
from reuseport.who import holders
from reuseport.who.rule import ANY6, Answer, Holder, Place, Wish, answer

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)
OTHER_UID = 65534
IP_LOCAL_PORT_RANGE = 51  # Linux 6.3
CLIENTS = 62_000, 65_000  # their local ports; scenarios have ports below
HELPER = 61_999  # listens on every address, for clients whose local port is the scenario's
HOSTS = {
    V4: ("0.0.0.0", "127.0.0.1", "127.0.0.2", "127.0.0.6"),
    V6: ("::", "::", "::1", "fd00::1", "::ffff:0.0.0.0", "::ffff:127.0.0.1"),
}
DESTINATIONS = {4: ("127.0.0.1", "127.0.0.2", "127.0.0.3"), 6: ("::1", "fd00::1", "fd00::2")}
LO = 1


class Made(NamedTuple):
    """A socket of a scenario, with what it was made of."""

    sock: socket.socket
    wish: Wish


def prepare() -> None:
    """Once in a namespace."""
    for address in ("fd00::1", "fd00::2"):
        testing.add_address(address, "lo")
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
        file.write("1024 65535")


def has_another_user() -> bool:
    """Whether sockets of OTHER_UID can be opened."""
    own = os.geteuid()
    try:
        os.seteuid(OTHER_UID)
    except OSError:
        return False  # not root, or this user namespace does not know it
    os.seteuid(own)
    return True


def range_of(low: int, high: int) -> bytes:
    return struct.pack("=I", low | high << 16)


class Scenario:
    """Sockets on one port."""

    def __init__(self, seed: int, port: int, uids: bool, mptcp: bool) -> None:
        self.random, self.port = random.Random(seed), port
        self.uids, self.mptcp = uids, mptcp
        self.made: list[Made] = []
        self.accepted: list[socket.socket] = []
        self.clients: list[socket.socket] = []
        self.known: dict[tuple[object, ...], Wish] = {}  # by both ends and the interface
        self.log: list[str] = []

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def wish(self) -> Wish:
        family = self.random.choice((V4, V4, V6))
        host = self.random.choice(HOSTS[family])
        v6only = host == ANY6 and self.chance(0.5)
        if family == V6 and host != ANY6 and ":" in host and "." not in host:
            v6only = True
        device = LO if self.chance(0.15) else 0
        uid = OTHER_UID if self.uids and self.chance(0.2) else os.getuid()
        return Wish(Place(family, host, v6only, device), uid, self.chance(0.5), self.chance(0.5))

    def open(self, wish: Wish) -> socket.socket:
        own = os.geteuid()
        if wish.uid != own:
            os.seteuid(wish.uid)
        try:
            protocol = 262 if self.mptcp and not wish.place.device and self.chance(0.3) else 0
            sock = socket.socket(wish.place.family, socket.SOCK_STREAM, protocol)
        finally:
            if wish.uid != own:
                os.seteuid(own)
        sock.settimeout(10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, wish.reuseaddr)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, wish.reuseport)
        if wish.place.device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        if wish.place.family == V6:
            v6only = wish.place.host == ANY6 and bool(wish.place.v6only)  # else bind() sets it
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        return sock

    # ------------------------------------------------------------------------------------------ steps

    def build(self) -> None:
        often = (self.bind, self.bind, self.bind, self.listen, self.listen, self.connect, self.connect)
        for _ in range(self.random.randint(1, 12)):
            step = self.random.choice((*often, self.local, self.auto, self.close, self.end, self.end))
            with contextlib.suppress(OSError):
                step()

    def bind(self) -> None:
        wish = self.wish()
        sock = self.open(wish)
        try:
            sock.bind((wish.place.host, self.port))
        except OSError:
            sock.close()
            raise
        self.made.append(Made(sock, wish))
        self.log.append(f"bind {wish}")
        if self.chance(0.5):
            sock.listen(8)
            self.log.append("listen")

    def listen(self) -> None:
        if self.made:
            number = self.random.randrange(len(self.made))
            self.made[number].sock.listen(8)
            self.log.append(f"listen {number}")

    def client(self, family: int, wish: Wish | None = None, local: bool = False) -> socket.socket:
        """With the scenario's port, or with one of the clients'."""
        sock = self.open(wish or Wish(Place(family, "", device=0), os.getuid()))
        ports = (self.port, self.port) if local else CLIENTS
        sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, range_of(*ports))
        self.clients.append(sock)
        return sock

    def connect(self) -> None:
        version = self.random.choice((4, 4, 6))
        to = self.random.choice(DESTINATIONS[version])
        family = V4 if version == 4 else V6
        sock = self.client(family, Wish(Place(family, "", False), os.getuid()))
        sock.connect((to, self.port))
        self.log.append(f"connect {to}")
        if self.chance(0.8):
            self.accept()

    def accept(self) -> None:
        for made in self.made:
            with contextlib.suppress(OSError):
                made.sock.setblocking(False)
                try:
                    accepted, _ = made.sock.accept()
                finally:
                    made.sock.settimeout(10)
                self.accepted.append(accepted)
                self.remember(accepted, made.wish)
                self.log.append("accept")

    def local(self) -> None:
        """A client that binds the port itself."""
        wish = self.wish()
        to = "127.0.0.1" if wish.place.ipv4 is not None else self.random.choice(("::1", "127.0.0.1"))
        if wish.place.family == V6 and "." in to:
            to = f"::ffff:{to}"
        sock = self.open(wish)
        self.clients.append(sock)
        sock.bind((wish.place.host, self.port))
        sock.connect((to, HELPER))
        self.remember(sock, wish)
        self.log.append(f"local {wish} {to}")

    def auto(self) -> None:
        """A client that gets the port from connect()."""
        wish = self.wish()
        if wish.place.host != ANY6:
            wish = wish._replace(place=wish.place._replace(v6only=False))  # bind() is not called
        to = self.random.choice(
            ("127.0.0.1", "127.0.0.2") if wish.place.family == V4 else ("::1", "fd00::1", "::ffff:127.0.0.1")
        )
        sock = self.client(wish.place.family, wish, local=True)
        sock.connect((to, HELPER))
        self.remember(sock, wish)
        self.log.append(f"auto {wish} {to}")

    def remember(self, sock: socket.socket, wish: Wish) -> None:
        """Of a connection, what nobody can read once its process has closed it."""
        self.known[sock.getsockname(), sock.getpeername(), wish.place.device] = wish

    def complete(self, held: holders.Socket) -> Holder:
        """What is known of a socket here, because this is who made it."""
        facts = held.facts
        wish = self.known.get((held.kernel.local, held.kernel.remote, held.kernel.ifindex))
        if wish is None or facts.reuseaddr is not None:
            return facts
        v6only = facts.place.v6only if facts.place.v6only is not None else wish.place.v6only
        return facts._replace(
            reuseaddr=wish.reuseaddr, reuseport=wish.reuseport, place=facts.place._replace(v6only=v6only)
        )

    def close(self) -> None:
        if self.made:
            self.made.pop(self.random.randrange(len(self.made))).sock.close()
            self.log.append("close")

    def end(self) -> None:
        """One end of a connection, or both; in either order."""
        for ends in self.random.sample([self.accepted, self.clients], self.random.randint(1, 2)):
            if ends:
                sock = ends.pop(self.random.randrange(len(ends)))
                if self.chance(0.1):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
                self.log.append(f"end {'accepted' if ends is self.accepted else 'client'}")

    def finish(self) -> None:
        for sock in (*(made.sock for made in self.made), *self.accepted, *self.clients):
            sock.close()


class Outcome(NamedTuple):
    """What the rule said, and what the kernel did."""

    answer: Answer
    complete: Answer
    bound: bool
    wrong: str | None


@contextlib.contextmanager
def helper() -> Iterator[socket.socket]:
    with socket.socket(V6, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("::", HELPER))
        sock.listen(4096)
        yield sock


def play(seed: int, port: int, uids: bool, mptcp: bool) -> Outcome:
    scenario = Scenario(seed, port, uids, mptcp)
    try:
        scenario.build()
        return judge(scenario)
    finally:
        scenario.finish()


def judge(scenario: Scenario) -> Outcome:
    """Once more if sockets came or went meanwhile: MPTCP ends its connections in its own time."""
    wish = scenario.wish()
    for _ in range(10):
        found = holders.look(scenario.port)
        outcome = tried(scenario, wish, found)
        if not outcome.wrong or facts_of(holders.look(scenario.port)) == facts_of(found):
            break
    return outcome


def facts_of(found: Sequence[holders.Socket]) -> list[Holder]:
    return [held.facts for held in found]


def tried(scenario: Scenario, wish: Wish, found: Sequence[holders.Socket]) -> Outcome:
    """Ask the rule, then bind, listen and connect."""
    told = answer(wish, facts_of(found))
    complete = answer(wish, [scenario.complete(held) for held in found])
    words = "\n".join(
        [*scenario.log, *(f"  {held.facts}" for held in found), f"wish {wish}", f"{told}", f"{complete}"]
    )
    with scenario.open(wish) as sock:
        try:
            sock.bind((wish.place.host, scenario.port))
        except OSError as error:
            wrong = f"{words}\nbind: {error}" if told.binds or complete.binds else None
            return Outcome(told, complete, False, wrong)
        try:
            sock.listen(64)
        except OSError as error:
            return Outcome(told, complete, False, f"{words}\nlisten: {error}")
        if told.binds is False or complete.binds is False:
            return Outcome(told, complete, True, f"{words}\nit was bound")
        return Outcome(told, complete, True, traffic(scenario, sock, words))


def traffic(scenario: Scenario, sock: socket.socket, words: str) -> str | None:
    """Connect to every destination once: does the new listener get what it is told to get?"""
    listening = processes.listeners(scenario.port)
    inode = os.fstat(sock.fileno()).st_ino
    (new,) = [one for one in listening if one.inode == inode]
    others = [one for one in listening if one.inode != inode]
    for to in _lookup.destinations(new, others):
        if to.interface not in (0, LO):
            continue
        takers = _lookup.takers(new, others, to._replace(interface=LO))
        for host in hosts_of(to, listening):
            mine = gets(sock, host, scenario.port)
            certain = takers is not None and (new not in takers or takers == [new])
            # If nobody gets it, the queue of another may be full.
            wrong = takers == [new] if mine is None else certain and mine is not (new in (takers or ()))
            if wrong:
                return f"{words}\n{to} {host}: mine: {mine}; told: {takers}"
    return None


def hosts_of(to: _lookup.Destination, listening: Sequence[processes.Listener]) -> list[str]:
    if to.host is not None:
        return [to.host]
    named = {one.host.removeprefix("::ffff:") for one in listening}
    return [host for host in DESTINATIONS[to.version] if host not in named]


def gets(sock: socket.socket, host: str, port: int) -> bool | None:
    """Whether a listener gets a connection to host; None if nobody does."""
    with socket.socket(V6 if ":" in host else V4, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        client.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, range_of(*CLIENTS))
        try:
            client.connect((host, port))
        except OSError:
            return None
        mine = bool(select.select([sock], [], [], 0)[0])
        if mine:
            sock.accept()[0].close()
        return mine
