# SPDX-License-Identifier: MIT
"""Every cause of a fallback, made: the class that the client's row tells, and what the page says of it."""

from __future__ import annotations

import socket

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import FallbackReason

from .causes import CAUSES, fallen
from .support import in_private_network, inode, until

INET, INET6 = socket.AF_INET, socket.AF_INET6
#: One second each, for a SYN that is lost.
PATIENT = {
    name for name, cause in CAUSES.items() if cause.sysctls.keys() & {"syn_retrans_before_tcp_fallback"}
}


def connection_of(sock: socket.socket) -> mp.MPTCPConnection | None:
    """Its row, with its path."""
    return next((row for row in mp.mptcp_diag(subflows=True) if row.inode == inode(sock)), None)


def reason_of(sock: socket.socket) -> FallbackReason | None:
    row = connection_of(sock)
    return None if row is None else row.fallback_reason


def reason_when_it_falls_back(name: str, family: int) -> FallbackReason | None:
    with fallen(name, family) as (client, _, _):
        until(lambda: reason_of(client), "a reason")
        return reason_of(client)


@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_is_in_its_class(name: str, mptcp: None) -> None:
    """By the client's row alone."""
    assert in_private_network(lambda: reason_when_it_falls_back(name, INET)) is CAUSES[name].reason


@pytest.mark.parametrize("name", sorted(CAUSES.keys() - PATIENT))
def test_a_cause_is_in_its_class_over_ipv6(name: str, mptcp: None) -> None:
    """The same flags."""
    assert in_private_network(lambda: reason_when_it_falls_back(name, INET6)) is CAUSES[name].reason


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_is_always_in_its_class(name: str, family: int) -> None:
    """20 of 20."""
    found = [in_private_network(lambda: reason_when_it_falls_back(name, family)) for _ in range(20)]
    assert found == [CAUSES[name].reason] * 20
