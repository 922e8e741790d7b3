# SPDX-License-Identifier: MIT
"""Who is asked, by which kind of client, how often: a load is a list of plans."""

from __future__ import annotations

import enum
import socket
from typing import NamedTuple

from .._net import Reuse, listen, url
from .http import Request
from .servers import be_patient


class Client(enum.Enum):
    """A kind of client."""

    WHO = "who"
    """One byte there, four back: the number of who serves."""
    PLAIN = "plain"
    """Connects, asks at once, and reads the answer."""
    RAW = "raw"
    """Connects, and waits for a first byte."""
    LATE = "late"
    """Connects, is silent for a while, and then asks."""
    SLOW = "slow"
    """Takes its time to ask, and then to read the answer."""
    KEEPALIVE = "keepalive"
    """Asks many times on one connection, and is silent between."""


class Target(NamedTuple):
    """A listener under load: clients connect to it."""

    address: tuple[str, int] | str
    """A string is the path of a unix socket."""
    family: int
    mptcp: bool = False
    tls: bool = False
    """Who answers is not verified."""

    @property
    def inet(self) -> tuple[str, int]:
        """Host and port. ValueError: it is a unix socket."""
        if isinstance(self.address, str):
            raise ValueError(f"{self} has no port")
        return self.address

    def __str__(self) -> str:
        return f"unix:{self.address}" if isinstance(self.address, str) else url(*self.address)

    def listen(self, reuse: Reuse = Reuse.PORT) -> socket.socket:
        """A listener of a server that no silent client can block."""
        return be_patient(listen(self.inet, reuse, family=self.family, mptcp=self.mptcp))


class Plan(NamedTuple):
    """What one kind of client does."""

    client: Client
    targets: tuple[Target, ...]
    """In turn, a connection each."""
    rate: float | None
    """How many are begun per second, whatever becomes of them. None: a new one when another has ended."""
    at_once: int = 4096
    """How many are open at the same time, at most."""
    request: Request = Request()
    wait: float = 0.5
    """Seconds: how long LATE is silent, SLOW takes, KEEPALIVE is silent between two requests."""
    expect: int | None = None
    """The status of a good answer. None: 200 to 399."""
    total: int | None = None
    """How many are begun in all. None: no end."""
    source: tuple[str, int] | None = None
    """Where the first connection comes from; each has the next port."""
    most: int = 100
    """KEEPALIVE: requests on one connection, before the client closes it."""

    def is_good(self, status: int) -> bool:
        return 200 <= status < 400 if self.expect is None else status == self.expect

    @property
    def population(self) -> int:
        """How many connections are kept alive, for the rate."""
        if self.rate is None:
            return self.at_once
        return min(self.at_once, max(1, round(self.rate * self.wait)))
