# SPDX-License-Identifier: MIT
"""Paths that do not come up, or carry nothing: the signs of each cause, and its cure."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from ..cli.commands import outcome
from ..net import counters
from ..support import become_nobody, exchange, in_private_network, needs, needs_root, run, until
from .page import SECTIONS, joined, says, shows

# What differs from one screen of show to the next: addresses, ports, processes, times and bytes.
_FIGURES = re.compile(r" +[\d.]+ (?:us|ms|s|[kMG]?B)\b|\d+|(?<=  )python\S*")


def alike(text: str) -> list[str]:
    return [_FIGURES.sub("", line).strip() for line in text.splitlines()]


def ip(*words: str) -> None:
    """``ip mptcp ...`` as the page has it, but for what is in capitals there."""
    done = run(needs("ip", "iproute2"), "mptcp", *words)
    assert (done.returncode, done.stderr) == (0, ""), done


@contextlib.contextmanager
def two_paths() -> Iterator[testing.Paths]:
    """Without any endpoint, and with the kernel's own limits."""
    with testing.Paths(2) as paths:
        for side in (paths.client, paths.server):
            with side:
                testing.flush_endpoints()
                testing.set_limits(subflows=2, add_addr_accepted=0)
        yield paths


@contextlib.contextmanager
def connection(paths: testing.Paths) -> Iterator[socket.socket]:
    """The client of a connection on which data crossed."""
    with paths.server:
        listener = mp.create_server(("0.0.0.0", 0))
    with paths.client:
        client = mp.create_connection((paths.server_addresses[0], listener.getsockname()[1]))
    accepted, _ = listener.accept()
    with listener, client, accepted:
        exchange(client, accepted)
        exchange(client, accepted)
        yield client


def grown(side: testing.PrivateNetwork, name: str) -> Callable[[], bool]:
    """Whether one of its counters grows from now on."""
    with side:
        before = counters()[name]

    def has() -> bool:
        with side:
            return counters()[name] > before

    return has


def test_nobody_told_the_kernel_of_a_second_address(mptcp: None) -> None:
    """One path; show prints it as on the page, doctor says it, and the command of the page helps."""

    def look() -> None:
        with two_paths() as paths, connection(paths) as client, paths.client:
            info = mp.mptcp_info(client)
            assert (info.subflows, info.subflows_total) in ((0, 1), (0, None))
            assert alike(outcome("show").out) == alike("\n".join(SECTIONS["subflows-0"].lines))
            assert "No endpoints" in outcome("doctor").out
            ip("endpoint", "add", paths.client_addresses[1], "dev", "path1", "subflow")
            testing.wait_for(client, subflows=2)

    in_private_network(look)
    says("subflows-0", "`ip mptcp endpoint add ADDRESS dev INTERFACE subflow`", "`No endpoints`")


def test_limits_that_forbid_it(mptcp: None) -> None:
    """The client's own, for its endpoints and for what the server announces; and the server's."""

    def look() -> None:
        with two_paths() as paths:
            with paths.client:
                testing.add_endpoint(paths.client_addresses[1], "path1")
                testing.set_limits(subflows=0)
            with connection(paths) as client, paths.client:
                assert mp.mptcp_info(client).subflows_max == 0
                found = outcome("doctor", "--to", paths.server_addresses[1]).out
                assert "the limit of additional subflows is 0" in joined(found)
                assert "troubleshooting.html#subflows-0\n" in found
                ip("limits", "set", "subflow", "2")
            with paths.server:
                testing.set_limits(subflows=0)
            rejected = grown(paths.server, "MPJoinRejected")
            with connection(paths):
                until(rejected, "a join that the server refuses")
            with paths.client:
                testing.flush_endpoints()
            with paths.server:
                testing.set_limits(subflows=2)
                testing.add_endpoint(paths.server_addresses[1], "path1", signal=True)
            announced = grown(paths.client, "AddAddr")
            with connection(paths) as client:
                until(announced, "an address")
                info = mp.mptcp_info(client)
                assert (info.subflows, info.add_addr_accepted_max) == (0, 0)
            with paths.client:
                ip("limits", "set", "add_addr_accepted", "2")
            with connection(paths) as client:
                testing.wait_for(client, subflows=2)

    in_private_network(look)
    says("subflows-0", "`ip mptcp limits set subflow 2`", "`ip mptcp limits set add_addr_accepted 2`")
    says("subflows-0", "`subflows_max` is 0", "`add_addr_accepted_max` is 0", "`AddAddr`", "`MPJoinRejected`")


def test_joins_that_get_nowhere(mptcp: None) -> None:
    """From an address that is not here, and over a path that loses its packets."""

    def look() -> None:
        with two_paths() as paths:
            with paths.client:
                testing.add_endpoint("10.77.7.7")
            failed = grown(paths.client, "MPJoinSynTxBindErr")
            with connection(paths), paths.client:
                until(failed, "a join that fails here")
                assert "no interface has the address" in joined(outcome("doctor").out)
                testing.flush_endpoints()
                testing.add_endpoint(paths.client_addresses[1], "path1")
            paths.cut(1)
            tried, answered = grown(paths.client, "MPJoinSynTx"), grown(paths.client, "MPJoinSynAckRx")
            arrived = grown(paths.server, "MPJoinSynRx")
            with connection(paths), paths.client:
                until(tried, "a join")
                until(lambda: re.search(r" opening$", outcome("show").out, re.MULTILINE), "that path")
                assert not answered()
                assert not arrived()

    in_private_network(look)
    says("subflows-0", "`MPJoinSynTxBindErr`", "no interface has the endpoint's address", "`opening`")
    says("no-traffic", "`opening`")


def test_a_path_that_is_only_a_backup(mptcp: None) -> None:
    """show prints it as on the page; the command of the page makes it an ordinary one."""

    def look() -> None:
        with two_paths() as paths:
            with paths.client:
                testing.add_endpoint(paths.client_addresses[1], "path1", backup=True)
            with connection(paths) as client, paths.client:
                testing.wait_for(client, subflows=2)
                wanted = alike("\n".join(SECTIONS["no-traffic"].lines))
                until(lambda: alike(outcome("show").out) == wanted, "the screen of the page")
                ip("endpoint", "change", "id", "1", "nobackup")
                until(lambda: " backup" not in outcome("show").out, "a path that is none")

    in_private_network(look)
    says("no-traffic", "`ip mptcp endpoint change id ID nobackup`")


@pytest.mark.parametrize(
    "words", [("endpoint", "add", "10.0.0.1", "subflow"), ("limits", "set", "subflow", "2")]
)
def test_settings_need_privilege(words: tuple[str, ...], mptcp: None) -> None:
    """Reading them does not."""
    needs_root()
    program = needs("ip", "iproute2")

    def as_nobody(*words: str) -> tuple[int, str]:
        done = run(program, "mptcp", *words)
        return done.returncode, done.stderr

    def look() -> None:
        become_nobody()
        code, said = as_nobody(*words)
        assert code != 0
        shows("netlink-eperm", *said.splitlines())
        assert [as_nobody(what)[0] for what in ("limits", "endpoint")] == [0, 0]

    testing.in_child(look)


def test_a_word_that_this_ip_does_not_know(mptcp: None) -> None:
    """Is taken for an address, as `laminar` by those before it."""

    def look() -> str:
        return run(needs("ip", "iproute2"), "mptcp", "endpoint", "add", "10.0.0.1", "unknown").stderr

    shows("iproute2", *in_private_network(look).replace("unknown", "laminar").splitlines())
