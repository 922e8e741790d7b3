# SPDX-License-Identifier: MIT
"""What this network namespace is set to: the sysctls, path manager and counters of MPTCP.

    sysctls()          net.mptcp.*, by name
    counters()         the kernel's MPTcpExt counters, by name
    limits()           subflows and announced addresses that a connection may have
    endpoints()        the addresses that the path manager uses
    route(endpoint)    whether packets from an endpoint leave by its interface
    addresses()        which interfaces have an address
    socket_options()   how MPTCP sockets answer here to each option that TCP sockets take
    refused_options()  those that MPTCP refuses to set, with the errno

Nothing is changed, and no privilege is needed. Functions may be called from any thread, and act on its
network namespace. ``import mptcp_sockopt`` does not import this module. The commands ``mptcp-sockopt check``
and ``doctor`` show what it finds.
"""

from __future__ import annotations

import enum
import errno
import os
import socket
from typing import NamedTuple

from ._border import config, options
from ._records import ShownByName

__all__ = [
    "Endpoint",
    "EndpointFlag",
    "Limits",
    "OptionStates",
    "RefusedOption",
    "Route",
    "SocketOption",
    "addresses",
    "counters",
    "endpoints",
    "limits",
    "refused_options",
    "route",
    "socket_options",
    "sysctls",
]

_SYSCTLS = "/proc/sys/net/mptcp"
#: Destinations of route(), if none is given. They are reserved for documentation (RFC 5737, RFC 3849), so
#: they have the route of most of the internet. No packet is sent.
_ANYWHERE = {socket.AF_INET: "203.0.113.1", socket.AF_INET6: "2001:db8::1"}


def sysctls() -> dict[str, int | str]:
    """The sysctls net.mptcp.*, by name without the prefix; an int where the value is a number.

    Which there are depends on the kernel. Empty if it has no MPTCP. Their meaning:
    https://docs.kernel.org/networking/mptcp-sysctl.html
    """
    found: dict[str, int | str] = {}
    try:
        names = sorted(os.listdir(_SYSCTLS))
    except FileNotFoundError:
        return found
    for name in names:
        with open(f"{_SYSCTLS}/{name}") as file:
            value = file.read().strip()
        found[name] = int(value) if value.isdecimal() else value
    return found


def counters() -> dict[str, int]:
    """The MPTcpExt counters of this network namespace, by name, as in ``nstat -az 'MPTcpExt*'``.

    They count since the namespace was created, and for all of its connections. MPCurrEstab is a current
    value. Which there are depends on the kernel. Empty if it has no MPTCP.
    """
    return config.counters()


class Limits(NamedTuple):
    """The limits of the in-kernel path manager. Thread rule: immutable, use it anywhere."""

    subflows: int
    """Additional subflows that a connection may have, created from either side."""
    add_addr_accepted: int
    """Announced addresses (ADD_ADDR) that a connection may accept, to create subflows to them."""


def limits() -> Limits:
    """``ip mptcp limits show``. OSError (ENOENT) if this kernel has no path manager for MPTCP."""
    return Limits(*config.limits())


class EndpointFlag(ShownByName, enum.IntFlag):
    """Bits of ``Endpoint.flags``; ``str()`` gives their names. Thread rule: immutable, use it anywhere."""

    SIGNAL = config.ENDPOINT_FLAGS["SIGNAL"]
    """Connections announce the address to the peer, which may create subflows to it."""
    SUBFLOW = config.ENDPOINT_FLAGS["SUBFLOW"]
    """Connections create a subflow from the address."""
    BACKUP = config.ENDPOINT_FLAGS["BACKUP"]
    """Its subflows are used only if no other is left."""
    FULLMESH = config.ENDPOINT_FLAGS["FULLMESH"]
    """A subflow from the address to each address of the peer."""
    IMPLICIT = config.ENDPOINT_FLAGS["IMPLICIT"]
    """The kernel created it, for an address that a subflow came from."""
    LAMINAR = config.ENDPOINT_FLAGS["LAMINAR"]
    """Subflows to addresses that the peer announces leave from it (Linux 6.18)."""

    def __str__(self) -> str:
        names = [name for name, bit in config.ENDPOINT_FLAGS.items() if self & bit]
        rest = int(self) & ~sum(config.ENDPOINT_FLAGS.values())
        return "|".join(names + [hex(rest)] * bool(rest)) or "0"


class Endpoint(NamedTuple):
    """An address that the in-kernel path manager uses. Thread rule: immutable, use it anywhere."""

    id: int
    """Its number, which is the id of subflows from it."""
    address: str
    port: int
    """Port that is announced with the address, or 0."""
    flags: EndpointFlag
    ifindex: int
    """Index of the interface that its subflows are bound to, or 0."""
    interface: str | None
    """The name of that interface; None for ifindex 0, or if it no longer exists."""


def endpoints() -> tuple[Endpoint, ...]:
    """``ip mptcp endpoint show``. OSError (ENOENT) if this kernel has no path manager for MPTCP."""
    return tuple(
        Endpoint(id, address, port, EndpointFlag(flags), ifindex, _name(ifindex) if ifindex else None)
        for id, address, port, flags, ifindex in config.endpoints()
    )


def _name(ifindex: int) -> str | None:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return None


def addresses() -> dict[str, tuple[str, ...]]:
    """``ip address show``: each address of this namespace, with the names of the interfaces that have it."""
    found: dict[str, list[str]] = {}
    for address, ifindex in config.addresses():
        found.setdefault(address, []).append(_name(ifindex) or str(ifindex))
    return {address: tuple(names) for address, names in found.items()}


class Route(NamedTuple):
    """How packets from an endpoint go to a destination. Truthy if they leave by the endpoint's interface.

    Thread rule: immutable, use it anywhere.
    """

    destination: str
    interface: str | None
    """The interface that they leave by; None if there is no route."""
    gateway: str | None
    """The router that they go to; None for a neighbour, or if there is no route."""
    problem: str | None
    """Why a subflow from this endpoint fails or takes another path, as a sentence. None if it leaves."""

    def __bool__(self) -> bool:
        return self.problem is None


def route(endpoint: Endpoint, destination: str | None = None) -> Route:
    """Whether packets from the endpoint's address to destination leave by the endpoint's interface.

    destination is an IP address of the endpoint's family; ValueError for any other text. Without it, an
    address is used that has no route of its own on most hosts, so the answer is that for the internet.

    Asks the kernel (RTM_GETROUTE) and sends no packet. IPv4 with an interface asks for the entry of the
    routing table (RTM_F_FIB_MATCH): otherwise the kernel would take any destination for a neighbour on that
    interface. In all other cases, the interface of the route must be the endpoint's, or that of its address.
    """
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    to = destination or "the internet"
    destination = destination or _ANYWHERE[family]
    try:
        socket.inet_pton(family, destination)
    except OSError:
        raise ValueError(f"{destination!r} is not an address of the family of {endpoint.address}") from None
    indices = {index for address, index in config.addresses() if address == endpoint.address}
    if not indices:
        return Route(destination, None, None, f"no interface has the address {endpoint.address}")
    wanted = {endpoint.ifindex} if endpoint.ifindex else indices
    match = family == socket.AF_INET and bool(endpoint.ifindex)
    try:
        index, gateway = config.route(destination, endpoint.address, endpoint.ifindex, match=match)
    except OSError as error:
        by = f" by {endpoint.interface or 'its interface'}" if endpoint.ifindex else ""
        problem = f"no route to {to} from {endpoint.address}{by} ({_reason(error)})"
        return Route(destination, None, None, problem)
    # The entry of a multipath route names no interface, but it matched the one that was asked for.
    index = index or endpoint.ifindex
    name = _name(index) or str(index)
    if index in wanted:
        return Route(destination, name, gateway, None)
    right = " or ".join(sorted(_name(index) or str(index) for index in wanted))
    return Route(destination, name, gateway, f"packets from {endpoint.address} leave by {name}, not {right}")


def _reason(error: OSError) -> str:
    return error.strerror or errno.errorcode.get(error.errno or 0, str(error.errno))


class OptionStates(NamedTuple):
    """How one call ends on MPTCP sockets in each state: "yes", "no effect", or the name of an errno.

    None if it fails on TCP sockets too. "no effect" is a setsockopt(2) that succeeds and changes nothing, and
    on TCP sockets does.

    Thread rule: immutable, use it anywhere.
    """

    fresh: str | None
    connected: str | None
    accepted: str | None
    listening: str | None


class SocketOption(NamedTuple):
    """A socket option, and how MPTCP sockets answer to it. Thread rule: immutable, use it anywhere."""

    name: str
    level: str
    """SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP or SOL_MPTCP, which TCP sockets do not have."""
    get: OptionStates
    """Of getsockopt(2)."""
    set: OptionStates
    """Of setsockopt(2); None in each state if the option can only be read."""


def socket_options() -> tuple[SocketOption, ...]:
    """Every socket option that TCP sockets take here, and how MPTCP sockets answer to it in each state.

    Tries them on MPTCP and TCP sockets of its own, connected over loopback, which takes a few ms and adds to
    the counters. Those of IPv6 are left out if it is disabled. Options that need a privilege the caller lacks
    are refused by both: None. Options whose value is a pointer are not tried. OSError if no MPTCP socket can
    be created or connected.
    """
    return tuple(
        SocketOption(
            name, level, *(OptionStates(*map(by_state.__getitem__, options.STATES)) for by_state in calls)
        )
        for name, level, *calls in options.socket_options()
    )


class RefusedOption(NamedTuple):
    """A socket option that an MPTCP socket refuses in a state in which a TCP socket takes it.

    For each state, the errno of setsockopt(2); None if MPTCP takes the option, or if TCP refuses it too.

    Thread rule: immutable, use it anywhere.
    """

    name: str
    fresh: int | None
    connected: int | None
    listening: int | None


def refused_options() -> tuple[RefusedOption, ...]:
    """The socket options that MPTCP refuses to set here and TCP takes. As socket_options(), which says more.

    Options that need a privilege the caller lacks are not in the result.
    """
    states = RefusedOption._fields[1:]
    found = options.refused_options()
    return tuple(RefusedOption(name, *map(by_state.get, states)) for name, by_state in found.items())
