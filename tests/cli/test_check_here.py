# SPDX-License-Identifier: MIT
"""mptcp-sockopt check, about this host: its sysctls and endpoints, and what it forbids or lacks."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from ..causes import set_sysctl
from ..net import set_mtu
from ..support import (
    LOOPBACK,
    Refusal,
    become_nobody,
    in_private_network,
    needs_root,
    where_refused,
)
from .commands import Outcome, attempt_of, fits, outcome


def test_this_host(mptcp: None) -> None:
    """Yes; a sysctl that is not as by default and what it means, and no endpoint."""

    def look() -> tuple[Outcome, Outcome]:
        set_sysctl("checksum_enabled", 1)
        return outcome("check"), outcome("check", "--json")

    found, as_json = in_private_network(look)
    text = " ".join(found.out.split())
    assert (found.code, found.err) == (0, "")
    assert text.startswith("MPTCP on this host: yes. ")
    assert "net.mptcp.checksum_enabled is 1, not 0 as by default. " in text
    assert "net.mptcp.enabled is" not in text
    assert "No endpoints: " in text
    assert fits(found.out)
    assert as_json.json["host"]["endpoints"] == []
    assert as_json.json["peer"] is None


def test_endpoints_have_their_routes(mptcp: None) -> None:
    """To the peer that was asked; one that gives no path is a problem, and so is a limit of 0."""

    def look() -> tuple[Outcome, Outcome, Outcome]:
        with testing.Paths(2) as paths, mp_server(paths) as port, paths.client:
            testing.add_endpoint(paths.client_addresses[1], "path1")
            testing.add_endpoint("10.66.0.1", signal=True)
            testing.add_endpoint("fd66::1")  # of the other family: no path of this connection
            one = outcome("check", paths.server_addresses[0], port)
            other = outcome("check", paths.server_addresses[1], port)
            testing.set_limits(0)
            return one, other, outcome("check", paths.server_addresses[1], port, "--json")

    one, other, limited = in_private_network(look)
    assert (one.code, other.code, limited.code) == (0, 0, 0)
    text = " ".join(one.out.split())
    assert (
        "endpoint 1: 10.9.1.1 dev path1, subflow to 10.9.0.2: no: no route to 10.9.0.2 from 10.9.1.1" in text
    )
    assert "Problem: Endpoint 1 gives no path: no route to 10.9.0.2 from 10.9.1.1 by path1" in text
    text = " ".join(other.out.split())
    assert "endpoint 1: 10.9.1.1 dev path1, subflow to 10.9.1.2: leaves by path1" in text
    assert "endpoint 2: 10.66.0.1, signal to 10.9.1.2: no: no interface has the address 10.66.0.1" in text
    assert "Problem" not in text
    (problem,) = limited.json["host"]["problems"]
    assert "ip mptcp limits set" in problem


@contextlib.contextmanager
def mp_server(paths: testing.Paths) -> Iterator[int]:
    with paths.server:
        server = mp.create_server(("0.0.0.0", 0), fallback=False)
    with server:
        yield int(server.getsockname()[1])


def test_mptcp_that_is_disabled(mptcp: None) -> None:
    """Exit 1, and how to enable it; the peer is not asked."""

    def look() -> tuple[Outcome, Outcome]:
        set_sysctl("enabled", 0)
        return outcome("check"), outcome("check", "127.0.0.1", 1)

    for found in in_private_network(look):
        assert found.code == 1
        assert "net.mptcp.enabled=0" in found.out
        assert "What to do next: As root: sysctl -w net.mptcp.enabled=1" in found.out


def test_a_policy_that_forbids_mptcp(mptcp: None) -> None:
    """Exit 3: other programs may be allowed to."""
    refusals: list[Refusal] = [("socket", {2: mp.IPPROTO_MPTCP}, errno.EACCES)]
    found = where_refused(refusals, lambda: outcome("check"))
    assert found.code == 3
    assert "cannot tell: a policy forbids" in " ".join(found.out.split())


def test_without_netlink(mptcp: None) -> None:
    """As without mptcp_diag: the class is told by when it fell back; what is not known is said."""
    refusals: list[Refusal] = [("socket", {0: socket.AF_NETLINK}, errno.EAFNOSUPPORT)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = where_refused(refusals, lambda: outcome("check", *server.getsockname(), "--json"))
    assert attempt_of(found)["fallback_reason"] == "no_option_in_answer"
    (missing,) = found.json["host"]["missing"]
    assert missing.startswith("limits and endpoints: ")
    assert where_refused(refusals, lambda: outcome("check")).code == 0


def test_loopback_that_does_not_work(mptcp: None) -> None:
    """Whether MPTCP is suspended is not known then."""

    def look() -> Outcome:
        set_mtu("lo", 68)  # no room for a SYN-ACK with the option
        return outcome("check")

    found = in_private_network(look)
    assert found.code == 3
    assert "cannot tell: whether MPTCP is suspended: " in " ".join(found.out.split())


def test_a_fallback_over_loopback_is_not_taken_for_suspended(
    mptcp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else removes the option there."""
    monkeypatch.setattr(mp, "create_server", lambda address, **_: socket.create_server(address))
    found = outcome("check")
    assert found.code == 3
    assert "a connection over loopback failed (it is fallback there)" in " ".join(found.out.split())


def test_nobody_may_ask(mptcp: None) -> None:
    """Everything, without privilege."""
    needs_root()

    def look() -> Outcome:
        with mp.create_server(("127.0.0.1", 0)) as server:
            become_nobody()
            return outcome("check", *server.getsockname(), "--json")

    found = testing.in_child(look)
    assert (found.code, found.json["host"]["missing"]) == (0, [])


def test_the_family_can_be_chosen(mptcp: None) -> None:
    """An address of the other family is no address of this name."""
    for option, family in (("-4", socket.AF_INET6), ("-6", socket.AF_INET)):
        found = outcome("check", LOOPBACK[family], 80, option)
        assert (found.code, found.out) == (3, "")
