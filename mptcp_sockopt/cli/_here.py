# SPDX-License-Identifier: MIT
"""This host, as `check` and `doctor` see it: can connections from here use MPTCP, and over which paths?"""

from __future__ import annotations

import socket
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import mptcp_sockopt as mp
from mptcp_sockopt import host

from .._version import SYMPTOMS
from ._table import WIDTH

# A SYN over loopback that gets no answer is not sent again within this time, so MPTCP is not given up.
_LOOPBACK_SECONDS = 0.5

_SUSPENDED = (
    "Sockets can be created, but MPTCP is suspended in this network namespace: blackhole detection is "
    f"active. (reason: {mp.FallbackReason.SUSPENDED.value})"
)
_NEXT_STEPS = {
    mp.Support.KERNEL_TOO_OLD: "Use a kernel from Linux 5.16 on.",
    mp.Support.NOT_BUILT_IN: "Use a kernel with CONFIG_MPTCP=y, as most distributions build it.",
    mp.Support.DISABLED: "As root: sysctl -w net.mptcp.enabled=1",
    mp.Support.FORBIDDEN: "Try as another user, or outside the container or service: a seccomp filter, a BPF "
    "program or a security module is in the way.",
}
#: The anchor of docs/troubleshooting.md for problems().
NO_PATH = "subflows-0"
_ANCHORS = {
    mp.Support.KERNEL_TOO_OLD: "socket-93",
    mp.Support.NOT_BUILT_IN: "socket-93",
    mp.Support.DISABLED: "socket-92",
    mp.Support.FORBIDDEN: "socket-13",
}


class Here(NamedTuple):
    """What was found. A part that could not be read is None, and has a sentence in missing."""

    support: mp.Support
    suspended: bool | None
    sysctls: dict[str, int | str]
    limits: host.Limits | None
    endpoints: tuple[host.Endpoint, ...] | None
    missing: tuple[str, ...]

    @property
    def works(self) -> bool | None:
        """Whether a connection opened here now uses MPTCP, if the peer does; None if that is not known."""
        if self.support is mp.Support.FORBIDDEN:
            return None  # another program may be allowed to
        if not self.support:
            return False
        return None if self.suspended is None else not self.suspended


def look() -> Here:
    support, missing = mp.is_supported(), []
    suspended = None
    if support:
        try:
            suspended = is_suspended()
        except OSError as error:
            hint = "; is lo up?" if error.errno or isinstance(error, TimeoutError) else ""
            why = error.strerror or error
            missing.append(f"whether MPTCP is suspended: a connection over loopback failed ({why}){hint}")
    limits = endpoints = None
    try:
        limits, endpoints = host.limits(), host.endpoints()
    except OSError as error:
        missing.append(f"limits and endpoints: {error.strerror or error}")
    return Here(support, suspended, host.sysctls(), limits, endpoints, tuple(missing))


def is_suspended() -> bool:
    """Whether blackhole detection keeps MPTCP out of new connections in this namespace.

    A connection over loopback tells it, which harms nothing: the kernel counts the connections that it opened
    without MPTCP for this reason. OSError if that connection fails, or falls back for another reason.
    """
    before = host.counters().get("MPCapableSYNTXDisabled", 0)
    server = mp.create_server(("127.0.0.1", 0), fallback=False)
    with server, mp.create_socket(fallback=False) as client:
        client.settimeout(_LOOPBACK_SECONDS)
        client.connect(server.getsockname())
        found = mp.status(client)
    if found is not mp.Status.MPTCP and host.counters().get("MPCapableSYNTXDisabled", 0) == before:
        raise OSError(f"it is {found.value} there")
    return found is not mp.Status.MPTCP


# ------------------------------------------------------------------------------------------------- words


def verdict(here: Here) -> str:
    """One line: whether connections from here use MPTCP."""
    if here.works is None:
        why = here.support.value if not here.support else "; ".join(here.missing)
        return f"MPTCP on this host: cannot tell: {why}"
    if not here.works:
        why = _SUSPENDED if here.suspended else f"{here.support.value}."
        return f"MPTCP on this host: no. {why}"
    return "MPTCP on this host: yes. Sockets can be created, and new connections use it."


def next_step(here: Here) -> str | None:
    """What to do if connections from here do not use MPTCP."""
    if not here.suspended:
        return _NEXT_STEPS.get(here.support)
    command = f"sysctl -w net.mptcp.blackhole_timeout={here.sysctls.get('blackhole_timeout')}"
    return f"{mp.FallbackReason.SUSPENDED.next_step} The command is: {command}"


def anchor(here: Here) -> str | None:
    """Where docs/troubleshooting.md says why connections from here do not use MPTCP."""
    return "suspended" if here.suspended else _ANCHORS.get(here.support)


def page(anchor: str) -> str:
    """The address of that page and anchor: a line by itself, because it is too long for others."""
    return f"{SYMPTOMS}#{anchor}"


def problems(here: Here, destinations: Sequence[str] = ()) -> list[str]:
    """What keeps connections from here from having several paths, a sentence each."""
    found = []
    creates = host.EndpointFlag.SUBFLOW | host.EndpointFlag.LAMINAR
    if here.sysctls.get("path_manager", "kernel") != "kernel" or here.sysctls.get("pm_type"):
        if here.endpoints:
            found.append("The path manager is not the kernel's, so endpoints and limits are not used.")
    elif here.limits and here.endpoints and not here.limits.subflows:
        found.append(
            "There are endpoints, but the limit of additional subflows is 0. As root: ip mptcp limits set "
            "subflow 2"
        )
    for endpoint in here.endpoints or ():
        routes = routes_of(endpoint, destinations) if endpoint.flags & creates else []
        if routes and not any(routes):
            found.append(f"Endpoint {endpoint.id} gives no path: {routes[0].problem}.")
    return found


def routes_of(endpoint: host.Endpoint, destinations: Iterable[str] = ()) -> list[host.Route]:
    """Its routes to those destinations that are of its family; without any, that to the internet.

    None for an implicit one: the kernel made it for a path that is there, and opens none from it.
    """
    if endpoint.flags & host.EndpointFlag.IMPLICIT:
        return []
    family = family_of(endpoint.address)
    same = [destination for destination in destinations if family_of(destination) == family]
    if not destinations:
        return [host.route(endpoint)]
    return [host.route(endpoint, destination) for destination in same]


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def endpoint_lines(here: Here, destinations: Sequence[str] = (), indent: str = "") -> list[str]:
    """The endpoints and limits; each endpoint with its routes."""
    if here.endpoints is None or here.limits is None:
        return []
    if not here.endpoints:
        return wrapped(
            "No endpoints: connections from here use one path, unless the peer announces more. For a second "
            "one, as root: ip mptcp endpoint add ADDRESS dev INTERFACE subflow",
            indent,
        )
    lines = wrapped(
        f"Up to {here.limits.subflows} additional subflows for each connection, and up to "
        f"{here.limits.add_addr_accepted} addresses accepted from the peer.",
        indent,
    )
    for endpoint in here.endpoints:
        port = f" port {endpoint.port}" if endpoint.port else ""
        device = f" dev {endpoint.interface or endpoint.ifindex}" if endpoint.ifindex else ""
        flags = str(endpoint.flags).lower().replace("|", " ")
        if endpoint.flags & host.EndpointFlag.IMPLICIT:
            flags += " (the kernel made it for a path)"
        first = f"{indent}endpoint {endpoint.id}: "
        lines += wrapped(f"{endpoint.address}{port}{device}, {flags}", f"{indent}    ", first)
        for route in routes_of(endpoint, destinations):
            to = f"to {route.destination}: " if destinations else ""
            lines += wrapped(f"{to}{_way(route)}", f"{indent}    ")
    return lines


def _way(route: host.Route) -> str:
    if route.problem:
        return f"no: {route.problem}"
    by = f" by router {route.gateway}" if route.gateway else ""
    return f"leaves by {route.interface}{by}"


def wrapped(text: str, indent: str = "", first: str | None = None) -> list[str]:
    """Lines of at most 79 columns; long words, as addresses, are not broken."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def asdict(here: Here, destinations: Sequence[str] = ()) -> dict[str, Any]:
    """As JSON has it."""
    endpoints = here.endpoints and [
        {
            "id": endpoint.id,
            "address": endpoint.address,
            "port": endpoint.port,
            "flags": int(endpoint.flags),
            "interface": endpoint.interface,
            "routes": [
                {**route._asdict(), "leaves": bool(route)} for route in routes_of(endpoint, destinations)
            ],
        }
        for endpoint in here.endpoints
    ]
    return {
        "works": here.works,
        "support": here.support.name,
        "suspended": here.suspended,
        "sysctls": here.sysctls,
        "limits": here.limits and here.limits._asdict(),
        "endpoints": None if here.endpoints is None else endpoints or [],
        "problems": problems(here, destinations),
        "missing": list(here.missing),
    }
