# SPDX-License-Identifier: MIT
"""Why no process is seen to have a socket: only what is known, for root as for others."""

from __future__ import annotations

import functools
import re

from mptcp_sockopt import host, processes

_NOBODY = "no process in /proc is seen to have it"
_OTHERWISE = (
    "it is the kernel's own, on its way through a unix socket (SCM_RIGHTS), or in a thread's own table of "
    "descriptors (CLONE_FILES)"
)


def why(owners: processes.Owners) -> str:
    """In words, for a socket that owners does not find a process for."""
    reasons = [*filter(None, [owners.missing]), *in_flight()]
    return "; ".join([_NOBODY, *(reasons or [_OTHERWISE])])


def kernels_own(address: str, port: int) -> str | None:
    """The MPTCP endpoint for which the kernel itself listens there, in words."""
    address = address.partition("%")[0]
    try:
        found = [one for one in host.endpoints() if (one.address, one.port) == (address, port)]
    except OSError:
        return None  # no path manager
    return f"the kernel's own, for the MPTCP endpoint {found[0].id}" if found else None


@functools.cache
def in_flight() -> tuple[str, ...]:
    """The processes with descriptors in the messages that wait in their unix sockets, in words.

    The kernel tells how many there are (Linux 5.9), but not of what. Looks at every socket of every process
    that may be examined, so it is done once.
    """
    found: dict[str, int] = {}
    for owner in processes.iter_sockets():
        try:
            with open(f"/proc/{owner.pid}/fdinfo/{owner.fd}") as file:
                counts = re.findall(r"^scm_fds:\s*(\d+)", file.read(), re.MULTILINE)
        except OSError:
            continue
        if counts and int(counts[0]):
            name = f"pid {owner.pid} ({owner.command})"
            found[name] = found.get(name, 0) + int(counts[0])
    return tuple(
        f"it may be among the descriptors on their way to {name}: {count} wait in its unix sockets"
        for name, count in found.items()
    )
