# SPDX-License-Identifier: MIT
"""The private network namespace, without privilege."""

from __future__ import annotations

import os
import socket

from mptcp_sockopt import _sandbox

from .support import Missing, in_a_child, tcp_pair

NOBODY = 65534


def without_privilege() -> None:
    """Become nobody for good, if this is root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def make_a_user_namespace() -> None:
    without_privilege()
    try:
        _sandbox._unshare(_sandbox._CLONE_NEWUSER)
    except OSError as error:
        raise Missing(f"user namespaces without privilege: {error}") from None


def test_a_user_namespace_will_do(mptcp: None) -> None:
    """Where one can be made, a private network can be too, with lo up and limits to set."""
    in_a_child(make_a_user_namespace)

    def look() -> tuple[str, list[str]]:
        without_privilege()
        _sandbox.enter_private_network()
        with tcp_pair(socket.AF_INET):
            pass
        _sandbox.set_limits(1)
        return os.readlink("/proc/self/ns/net"), [name for _, name in socket.if_nameindex()]

    namespace, interfaces = in_a_child(look)
    assert namespace != os.readlink("/proc/self/ns/net")
    assert "lo" in interfaces
