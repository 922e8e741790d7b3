# SPDX-License-Identifier: MIT
"""Would a socket be allowed to bind and listen here, would it get connections, and what would help?

Nothing is bound to the port: the kernel's tables are read, and the rule is asked. Only whether the address
exists is tried, on a socket without a port.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import socket
from typing import NamedTuple, Protocol

from mptcp_sockopt import cli, processes

from .. import _lookup, _net
from . import answers, holders, rule
from .answers import Found, Traffic
from .rule import Place, Wish

_IP_BIND_ADDRESS_NO_PORT = 24
_CAP_NET_BIND_SERVICE = 10
_OVERFLOW_UID = "/proc/sys/kernel/overflowuid"


class Address(NamedTuple):
    host: str
    """``*``: every address, of IPv4 and IPv6."""
    port: int


def parsed(text: str) -> Address:
    """For argparse: ``127.0.0.1:80``, ``[::1]:80``, ``*:80``, ``:80``."""
    host, colon, port = text.rpartition(":")
    inner = host.removeprefix("[").removesuffix("]")
    if not colon or (":" in host and host != f"[{inner}]"):
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS:PORT (IPv6 in brackets: [::1]:80)")
    number = cli.port(port)
    if host in ("", "*"):
        return Address("*", number)
    family = socket.AF_INET6 if ":" in inner else socket.AF_INET
    try:
        packed = socket.inet_pton(family, inner.partition("%")[0])
    except OSError:
        raise argparse.ArgumentTypeError(f"{inner!r} is no IPv4 or IPv6 address") from None
    scope = "".join(inner.partition("%")[1:])
    if scope and (family == socket.AF_INET or scope == "%"):
        raise argparse.ArgumentTypeError(f"{inner!r}: an interface belongs to IPv6 only, as in fe80::1%lo")
    return Address(_as_the_kernel_writes_it(socket.inet_ntop(family, packed)) + scope, number)


def _as_the_kernel_writes_it(host: str) -> str:
    return "::ffff:0.0.0.0" if host == "::ffff:0:0" else host


class Options(Protocol):
    """What the command line says."""

    @property
    def command(self) -> str: ...
    @property
    def json(self) -> bool: ...
    @property
    def reuseaddr(self) -> bool: ...
    @property
    def reuseport(self) -> bool: ...
    @property
    def v6only(self) -> bool | None: ...
    @property
    def mptcp(self) -> bool: ...
    @property
    def device(self) -> str: ...
    @property
    def uid(self) -> int | None: ...


def run(options: Options, address: Address) -> int:
    host, _, scope = address.host.partition("%")
    found = judge(_wish(options, host, scope), address.port, options.mptcp, scope)
    return answers.finish(options, found)


def _wish(options: Options, host: str, scope: str) -> Wish:
    v6only = options.v6only
    if host == "*":
        host, v6only = (_net.ANY[socket.AF_INET6], False) if _has_ipv6() else (_net.ANY[socket.AF_INET], None)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family == socket.AF_INET:
        v6only = False
    elif host != rule.ANY6 and Place(family, host).ipv4 is None:
        v6only = True  # bind() sees to it
    elif v6only is None:
        v6only = _sysctl("net/ipv6/bindv6only") == 1
    device = _index(options.device or scope) if options.device or scope else 0
    uid = os.geteuid() if options.uid is None else options.uid
    return Wish(Place(int(family), host, v6only, device), uid, options.reuseaddr, options.reuseport)


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        if interface.isdecimal() and int(interface) in dict(socket.if_nameindex()):
            return int(interface)
        raise cli.CannotRun(f"there is no interface {interface!r}") from None


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def judge(wish: Wish, port: int, mptcp: bool = False, scope: str = "") -> Found:
    """Look at the port, and ask the rule."""
    held = holders.look(port)
    facts = [one.facts for one in held]
    answer = rule.answer(wish, facts)
    refusal = refused_outright(wish, mptcp, scope) or needs_capability(wish, port)
    blind = None
    if answer.binds and not holders.bound_only_are_told():
        blind = "before Linux 6.8, sockets that are only bound are not listed: one may be in the way"
        answer = answer._replace(binds=None)
    listening = processes.listeners(port)
    new = listener_of(wish, port, mptcp)
    kinds = [
        Traffic(to, None if (who := _lookup.takers(new, listening, to)) is None else tuple(who))
        for to in _lookup.destinations(new, listening)
    ]
    return Found(wish, port, mptcp, held, answer, refusal, blind, new, listening, kinds)


def listener_of(wish: Wish, port: int, mptcp: bool) -> processes.Listener:
    """What it would be."""
    place = wish.place
    v6only = place.v6only if place.family == socket.AF_INET6 else None
    return processes.Listener(
        place.family, place.host, port, 0, 0, wish.uid, 0, 0, place.device, v6only, mptcp
    )


# ------------------------------------------------------------------------- without regard to other sockets


def refused_outright(wish: Wish, mptcp: bool, scope: str) -> answers.Refusal | None:
    """What the kernel says of such a socket on no port: that there is no such address, for example."""
    place = wish.place
    try:
        with _net.open_socket(place.family, mptcp=mptcp) as sock:
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            if place.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, _as_set(place))
            if place.device and not scope:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _interface(place.device))
            sock.bind(
                (place.host, 0, 0, place.device if scope else 0)[: 2 if place.family == socket.AF_INET else 4]
            )
    except OSError as error:
        return answers.Refusal(errno.errorcode.get(error.errno or 0, str(error.errno)), str(error.strerror))
    return None


def _as_set(place: Place) -> bool:
    return bool(place.v6only and (place.host == rule.ANY6 or place.ipv4 is not None))


def _interface(index: int) -> bytes:
    return socket.if_indextoname(index).encode()


def needs_capability(wish: Wish, port: int) -> answers.Refusal | None:
    """For a port below net.ipv4.ip_unprivileged_port_start. Of another user than oneself, only root is known
    to have it."""
    start = _sysctl("net/ipv4/ip_unprivileged_port_start")
    if port >= (1024 if start is None else start):
        return None
    certain = wish.uid == os.geteuid()
    if _capable() if certain else wish.uid == 0:
        return None
    words = f"port {port} needs CAP_NET_BIND_SERVICE (net.ipv4.ip_unprivileged_port_start)"
    return answers.Refusal("EACCES", words, certain)


def _capable() -> bool:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> _CAP_NET_BIND_SERVICE & 1)


def _sysctl(name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError), open(f"/proc/sys/{name}") as file:
        return int(file.read())
    return None
