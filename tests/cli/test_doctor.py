# SPDX-License-Identifier: MIT
"""mptcp-sockopt doctor: what is set, what was counted, what is refused, and what is wrong."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import host, testing
from mptcp_sockopt.cli import _meanings, doctor

from ..causes import network, set_sysctl
from ..net import counters, set_mtu
from ..support import (
    Refusal,
    become_nobody,
    fallback_pair,
    in_private_network,
    needs_root,
    where_refused,
)
from .commands import Outcome, fits, outcome


def words_of(found: Outcome) -> str:
    return " ".join(found.out.split())


def test_a_sound_host(mptcp: None) -> None:
    """Exit 0, no problem; every sysctl, and no counter at 0."""

    def look() -> tuple[Outcome, dict[str, int | str]]:
        return outcome("doctor"), host.sysctls()

    found, sysctls = in_private_network(look)
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith("MPTCP on this host: yes. ")
    assert "  ! " not in found.out
    for name, value in sysctls.items():
        assert f"\n  {name} = {value}\n" in found.out
    assert _meanings.SYSCTLS["stale_loss_cnt"].meaning in words_of(found)
    assert not re.search(r"^ +0  \w+:", found.out, re.MULTILINE)
    assert "MPCapableSYNTX" not in found.out  # its own connections are not counted
    assert fits(found.out)


def test_an_endpoint_that_the_kernel_made_is_no_problem(mptcp: None) -> None:
    """A path to an address that the peer announced; its endpoint has no route of its own."""

    def look() -> tuple[Outcome, Outcome]:
        with testing.Paths(2) as paths, connected(paths) as client, paths.client:
            testing.wait_for(client, subflows=2)
            to = "--to", paths.server_addresses[0]
            return outcome("doctor", *to), outcome("doctor", *to, "--json")

    found, as_json = in_private_network(look)
    assert "endpoint 1: 10.9.1.1, implicit (the kernel made it for a path)\n\n" in found.out
    assert fits(found.out)
    (endpoint,) = as_json.json["endpoints"]
    assert (endpoint["routes"], as_json.json["problems"]) == ([], [])


@contextlib.contextmanager
def connected(paths: testing.Paths) -> Iterator[socket.socket]:
    with paths.server:
        server = mp.create_server(("0.0.0.0", 0), fallback=False)
    with server, paths.client:
        address = paths.server_addresses[0], server.getsockname()[1]
        with mp.create_connection(address, fallback=False) as client, server.accept()[0]:
            yield client


def test_problems_come_first(mptcp: None) -> None:
    """Exit 1: an endpoint without a route, which another destination has; then a limit of 0."""

    def look() -> tuple[Outcome, Outcome, Outcome]:
        with testing.Paths(2) as paths, paths.client:
            testing.add_endpoint(paths.client_addresses[1], "path1")
            one, other = (outcome("doctor", "--to", address) for address in paths.server_addresses)
            testing.set_limits(0)
            return one, other, outcome("doctor", "--to", paths.server_addresses[1], "--json")

    one, other, limited = in_private_network(look)
    assert (one.code, other.code, limited.code) == (1, 0, 1)
    assert one.out.splitlines()[1].startswith(
        "  ! Endpoint 1 gives no path: no route to 10.9.0.2 from 10.9.1.1"
    )
    assert "  ! " not in other.out
    assert "to 10.9.1.2: leaves by path1" in other.out
    (problem,) = limited.json["problems"]
    assert "the limit of additional subflows is 0" in problem
    ((route,),) = [endpoint["routes"] for endpoint in limited.json["endpoints"]]
    assert (route["leaves"], route["interface"]) == (True, "path1")


def test_a_daemon_as_path_manager_is_told(mptcp: None) -> None:
    """Endpoints are not used then."""

    def look() -> Outcome:
        testing.add_endpoint("127.0.0.1")
        set_sysctl("pm_type", 1)
        return outcome("doctor", "--to", "127.0.0.1")

    found = in_private_network(look)
    assert (found.code, "! The path manager is not the kernel's" in found.out) == (1, True)
    assert "\n* pm_type = 1 (default: 0)\n" in found.out


def test_suspended_mptcp_is_a_problem(mptcp: None) -> None:
    """With how to end it."""

    def look() -> Outcome:
        with network("suspended") as made, made.client:
            return outcome("doctor")

    found = in_private_network(look)
    assert (found.code, found.out.startswith("MPTCP on this host: no. ")) == (1, True)
    assert found.out.splitlines()[1].startswith("    ") or "  ! It ends by itself" in found.out
    assert "Blackhole: " in found.out


def test_counters_are_grouped_by_question(mptcp: None) -> None:
    """A fallback in the first group; one that this version does not know at the end, without words."""

    def look() -> Outcome:
        with fallback_pair(socket.AF_INET):
            pass
        return outcome("doctor")

    found = in_private_network(look)
    _, _, group = found.out.partition("  Do connections that this host opens use MPTCP?\n")
    lines = group.splitlines()
    assert lines[0] == "    1  MPCapableSYNTX: connections tried with MPTCP"
    assert lines[1].startswith("    1  MPCapableFallbackSYNACK: ")
    shown = [*doctor._counter_lines({"MPCapableSYNTX": 12, "FooBar": 3, "Blackhole": 0})]
    assert shown[-2:] == ["  Others, which this version does not know", "     3  FooBar"]
    assert [line for line in shown if "Blackhole" in line] == []


def test_every_counter_has_one_sentence() -> None:
    """Those of docs/fallback.md too."""
    assert sum(len(group.meanings) for group in _meanings.COUNTERS) == len(_meanings.MEANINGS)
    page = (Path(__file__).parents[2] / "docs" / "fallback.md").read_text()
    named = set(re.findall(r"\b(?:MP|DSS|Dss|InfiniteMap|Data)[A-Z]\w*[a-z]\w*\b", page)) - {"MPTCPInfo"}
    assert len(named) > 15
    assert {name for name in named if not name.startswith("MPTcpExt")} - _meanings.MEANINGS.keys() == set()


def test_defaults_are_those_of_a_new_namespace(mptcp: None) -> None:
    """All but those that only list what there is."""
    found = in_private_network(host.sysctls)
    known = {name: _meanings.SYSCTLS[name].default for name in found if name in _meanings.SYSCTLS}
    assert {name: default for name, default in known.items() if default not in (None, found[name])} == {}


def test_refused_options_by_state(mptcp: None) -> None:
    """Those of every state together, with the error."""
    found = outcome("doctor")
    text = words_of(found)
    assert re.search(r"always \(Protocol not available\): [^:]*TCP_USER_TIMEOUT", text)
    assert re.search(r"connected and accepted \(Invalid argument\): SO_REUSEADDR, SO_REUSEPORT", text)
    assert re.search(r"always \(no effect\): SO_DONTROUTE", text)
    fine = host.OptionStates(*["yes"] * 4)
    never = host.OptionStates(*[None] * 4)
    options = [
        host.SocketOption("D", "L", fine, fine),
        host.SocketOption("B", "L", fine, fine._replace(connected="EPERM", listening="EPERM")),
        host.SocketOption("A", "L", fine, host.OptionStates("EPERM", "EPERM", None, None)),
        host.SocketOption("C", "L", fine, host.OptionStates(*["EPERM"] * 4)),
        host.SocketOption("E", "L", host.OptionStates(*["EPERM"] * 4), never),
        host.SocketOption("F", "L", fine, fine._replace(accepted="no effect")),
    ]
    assert [*doctor._option_lines(options)] == [
        "  always (Operation not permitted): A, C",
        "  connected and listening (Operation not permitted): B",
        "  read, always (Operation not permitted): E",
        "  accepted (no effect): F",
    ]


def test_json_has_everything(mptcp: None) -> None:
    """With stable keys."""

    def look() -> tuple[Outcome, dict[str, int], tuple[host.RefusedOption, ...]]:
        return outcome("doctor", "--json"), counters(), host.refused_options()

    found, counted, refused = in_private_network(look)
    keys = "schema works support suspended sysctls limits endpoints problems missing counters"
    keys += " refused_options socket_options"
    assert [*found.json] == keys.split()
    assert found.json["schema"] == 1
    assert found.json["counters"].keys() == counted.keys()
    assert found.json["refused_options"] == [option._asdict() for option in refused]
    assert found.json["limits"] == {"subflows": 2, "add_addr_accepted": 0}


def test_without_mptcp_the_rest_is_told(mptcp: None) -> None:
    """Disabled: exit 1. Options cannot be tried, which is said."""

    def look() -> Outcome:
        set_sysctl("enabled", 0)
        return outcome("doctor")

    found = in_private_network(look)
    assert (found.code, found.err) == (1, "")
    assert "  ! As root: sysctl -w net.mptcp.enabled=1" in found.out
    assert "\n* enabled = 0 (default: 1)\n" in found.out
    assert "  ? Not known: socket options: " in found.out
    assert "Socket options" not in found.out


def test_what_cannot_be_told(mptcp: None) -> None:
    """Exit 3 where loopback falls back; without netlink, endpoints are not known, which is said."""

    def look() -> Outcome:
        set_mtu("lo", 68)  # no room for a SYN-ACK with the option
        return outcome("doctor")

    found = in_private_network(look)
    assert found.code == 3
    assert words_of(found).count("a connection over loopback failed (timed out); is lo up?") == 1
    refusals: list[Refusal] = [("socket", {0: socket.AF_NETLINK}, errno.EAFNOSUPPORT)]
    found = where_refused(refusals, lambda: outcome("doctor"))
    assert (found.code, "  ? Not known: limits and endpoints: " in found.out) == (0, True)


def test_nobody_may_ask(mptcp: None) -> None:
    """Everything, without privilege."""
    needs_root()

    def look() -> Outcome:
        become_nobody()
        return outcome("doctor", "--json")

    found = in_private_network(look)
    assert (found.code, found.json["missing"]) == (0, [])


@pytest.mark.parametrize(
    "words", [["--to", "example.com"], ["--to", "10.0.0"], ["--to"], ["x"]], ids=" ".join
)
def test_usage_errors(words: list[str]) -> None:
    """Exit 2."""
    found = outcome("doctor", *words)
    assert (found.code, found.out) == (2, "")
