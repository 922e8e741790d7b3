# SPDX-License-Identifier: MIT
"""For tests of programs that speak MPTCP: networks of their own, paths that are cut, children that end.

    in_private_network(f)   call f in a network namespace of its own; no privilege is needed
    Paths(2, rate=20e6)     paths between two namespaces, each with a rate and a delay: cut(), restore()
    PrivateNetwork()        one more namespace: ``with`` moves a thread there and back
    wait_for(sock, ...)     until a connection has so many live subflows
    add_endpoint(address)   the in-kernel path manager: endpoints, and set_limits()
    in_child(f), Child(f)   call f in a forked process that leaves nothing behind

What a machine lacks is an UnavailableError, whose message names it. ``import mptcp_sockopt`` does not import
this module. What is about endpoints, limits and addresses is about the network namespace of the calling
thread, and takes privilege in it, which in_private_network() gives: OSError has the kernel's errno.
"""

from __future__ import annotations

from .._border.netlink import (
    add_address,
    add_endpoint,
    delete_endpoint,
    delete_initial_address,
    flush_endpoints,
    set_limits,
)
from ._children import Child, ChildDiedError, in_child
from ._network import PrivateNetwork, UnavailableError, enter_private_network, in_private_network
from ._paths import Paths
from ._wait import wait_for

__all__ = [
    "Child",
    "ChildDiedError",
    "Paths",
    "PrivateNetwork",
    "UnavailableError",
    "add_address",
    "add_endpoint",
    "delete_endpoint",
    "delete_initial_address",
    "enter_private_network",
    "flush_endpoints",
    "in_child",
    "in_private_network",
    "set_limits",
    "wait_for",
]

# They answer to the name that users import them by.
for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
