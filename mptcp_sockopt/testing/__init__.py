# SPDX-License-Identifier: MIT
"""For tests of programs that use MPTCP: private networks, paths that you can cut, child processes.

    in_private_network(f)   call f in a network namespace of its own, without privilege
    Paths(2, rate=20e6)     paths between two namespaces, with rate and delay: cut(), restore()
    PrivateNetwork()        another namespace: ``with`` moves the thread there and back
    wait_for(sock, ...)     wait until a connection has a number of live subflows
    add_endpoint(address)   the in-kernel path manager: endpoints, and set_limits()
    in_child(f), Child(f)   call f in a forked process that leaves nothing behind

UnavailableError means that this machine lacks something, which its message names. ``import mptcp_sockopt``
does not import this module. Functions for endpoints, limits and addresses act on the network namespace of the
calling thread and need privilege in it, which in_private_network() gives; a failure is an OSError with the
kernel's errno.
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

# help() and pickles show their public name.
for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
