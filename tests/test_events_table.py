# SPDX-License-Identifier: MIT
"""The tables of docs/events.md: what each cause is told as, at the client and at the server, on two paths."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt._border import netlink

from .net import alter, destroy
from .support import DEADLINE, Missing, exchange, in_private_network, until
from .test_events import Kind, subscribed

PAGE = (Path(__file__).parents[1] / "docs" / "events.md").read_text()
CLOSED, SUB_CLOSED, JOINED = Kind.CLOSED, Kind.SUB_CLOSED, Kind.SUB_ESTABLISHED


class Scene(NamedTuple):
    """Two networks with two paths between them, a listener, and what is told on both sides."""

    paths: testing.Paths
    server: socket.socket
    told: tuple[mp.MPTCPEvents, mp.MPTCPEvents]
    seen: tuple[list[mp.MPTCPEvent], list[mp.MPTCPEvent]]

    def until(self, *expected: Kind | tuple[Kind, int], side: int = 0) -> mp.MPTCPEvent:
        """Wait for the last of these kinds, or kinds with an error, and compare: nothing else was told."""
        self.look(lambda: len(self.seen[side]) >= len(expected), f"{expected}, not {self.seen[side]}")
        found = [(event.kind, event.error) for event in self.seen[side]]
        assert found == [kind if isinstance(kind, tuple) else (kind, None) for kind in expected]
        event = self.seen[side][-1]
        self.seen[side].clear()
        return event

    def look(self, truth: Callable[[], object], what: str) -> None:
        def is_true() -> object:
            for events, seen in zip(self.told, self.seen, strict=True):
                seen += events.read()
            return truth()

        until(is_true, what)

    def nothing(self, side: int) -> None:
        """That side was told nothing up to now: a listener, which is told at once, comes first."""
        with (self.paths.client, self.paths.server)[side], mp.create_server(("", 0), fallback=False):
            self.until(Kind.LISTENER_CREATED, side=side)
        self.until(Kind.LISTENER_CLOSED, side=side)


@contextlib.contextmanager
def scene(announced: bool = True) -> Iterator[Scene]:
    with testing.Paths(2) as paths, contextlib.ExitStack() as stack:
        told = []
        for side in (paths.client, paths.server):
            with side:
                told.append(stack.enter_context(subscribed()))
        with paths.server:
            if not announced:
                testing.flush_endpoints()
            server = stack.enter_context(mp.create_server(("0.0.0.0", 0), fallback=False))
        here = Scene(paths, server, (told[0], told[1]), ([], []))
        here.until(Kind.LISTENER_CREATED, side=1)
        yield here


@contextlib.contextmanager
def connected(here: Scene, subflows: int = 2) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection whose beginning has been told on both sides."""
    with here.paths.client:
        address = here.paths.server_addresses[0], here.server.getsockname()[1]
        client = mp.create_connection(address, timeout=DEADLINE / 2, fallback=False)
    accepted, _ = here.server.accept()
    with client, accepted:
        exchange(client, accepted)
        for sock in (client, accepted):
            testing.wait_for(sock, subflows=subflows, within=DEADLINE / 2)
        if subflows == 2:
            here.look(lambda: all(seen and seen[-1].kind is JOINED for seen in here.seen), "two subflows")
            for seen in here.seen:
                seen.clear()
        yield client, accepted


def join_at_closed_port() -> None:
    with scene(announced=False) as here, connected(here, 1):
        here.until(Kind.CREATED, Kind.ESTABLISHED)
        here.server.close()
        with here.paths.client:
            testing.add_endpoint(here.paths.client_addresses[1])
        event = here.until((SUB_CLOSED, errno.ECONNREFUSED))
        assert event.local
        assert event.local[0] == here.paths.client_addresses[1]
        here.until(Kind.CREATED, Kind.ESTABLISHED, Kind.LISTENER_CLOSED, side=1)
        here.nothing(side=1)


def set_sysctl(side: testing.PrivateNetwork, name: str, value: int) -> None:
    with side:
        path = Path("/proc/sys/net") / name
        if not path.exists():
            raise Missing(f"the sysctl {name}")
        path.write_text(str(value))


def impatient(here: Scene) -> None:
    """TCP gives up soon, on both sides."""
    for side in (here.paths.client, here.paths.server):
        set_sysctl(side, "ipv4/tcp_retries2", 1)
        set_sysctl(side, "ipv4/tcp_syn_retries", 1)


def bring_down(interface: str) -> None:
    """``ip link set INTERFACE down``."""
    set_interface_flags = 0x8914
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, set_interface_flags, struct.pack("16sH22x", interface.encode(), 0))


def remove_address(address: str, interface: str) -> None:
    """``ip address del ADDRESS/24 dev INTERFACE``."""
    route, delete_address, local = 0, 21, 2
    message = struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, socket.if_nametoindex(interface))
    with netlink.connected(route) as asked:
        netlink.call(asked, delete_address, message + netlink.attribute(local, socket.inet_aton(address)))


def set_backup(id: int, is_backup: bool) -> None:
    """``ip mptcp endpoint change id ID backup``."""
    set_flags, address, address_id, flags, backup = 7, 1, 2, 6, 4
    parts = netlink.number(address_id, "B", id) + netlink.number(flags, "I", backup * is_backup)
    netlink.generic("mptcp_pm", set_flags, netlink.nest(address, parts))


def lost_on_the_way(cut: Callable[[Scene], object], *numbers: int) -> mp.MPTCPEvent:
    """The client sends on both paths, one of which carries nothing any more."""
    with scene() as here, connected(here) as (client, server):
        impatient(here)
        cut(here)
        client.setblocking(False)
        server.setblocking(False)

        def is_told() -> object:
            with contextlib.suppress(BlockingIOError):
                client.send(bytes(100_000))
            with contextlib.suppress(BlockingIOError):
                server.recv(1 << 20)
            return here.seen[0]

        here.look(is_told, "the end of a path")
        (event,) = here.seen[0]
        assert (event.kind, event.error in numbers) == (SUB_CLOSED, True)
        here.nothing(side=1)
        return event


def join_not_answered() -> None:
    with scene() as here:
        impatient(here)
        here.paths.cut(1)
        with connected(here, 1):
            here.until(Kind.CREATED, Kind.ESTABLISHED, Kind.ANNOUNCED, (SUB_CLOSED, errno.ETIMEDOUT))
            here.until(Kind.CREATED, Kind.ESTABLISHED, side=1)
            here.nothing(side=1)


def join_rejected() -> None:
    with scene() as here:
        with here.paths.server:
            testing.set_limits(0, 0)
        with connected(here, 1):
            here.until(Kind.CREATED, Kind.ESTABLISHED, Kind.ANNOUNCED, JOINED, SUB_CLOSED)
            here.until(Kind.CREATED, Kind.ESTABLISHED, side=1)
            here.nothing(side=1)


def reset() -> None:
    with scene() as here, connected(here) as (client, _):
        path = mp.mptcp_full_info(client).subflows[1]
        assert path.local
        assert path.remote
        with here.paths.server:
            destroy(path.remote, path.local)
        here.until((SUB_CLOSED, errno.ECONNRESET))
        here.until((SUB_CLOSED, errno.ECONNABORTED), side=1)


def dropped() -> None:
    lost_on_the_way(lambda here: here.paths.cut(1), errno.ETIMEDOUT)


def own_link_down() -> None:
    def cut(here: Scene) -> None:
        with here.paths.client:
            bring_down("path1")

    lost_on_the_way(cut, errno.ENETUNREACH, errno.ETIMEDOUT)


def own_address_removed() -> None:
    def cut(here: Scene) -> None:
        with here.paths.client:
            remove_address(here.paths.client_addresses[1], "path1")

    lost_on_the_way(cut, errno.ENETUNREACH, errno.ETIMEDOUT)


def options_stripped() -> None:
    def strip(here: Scene) -> None:
        with here.paths.server:
            alter("iifname path1 tcp flags & syn == 0 reset tcp option mptcp")

    event = lost_on_the_way(strip, errno.ECONNRESET)
    assert (event.reset_reason, event.reset_flags) == (6, 0)


def endpoint_deleted() -> None:
    with scene(announced=False) as here, contextlib.ExitStack() as stack:
        with here.paths.client:
            testing.add_endpoint(here.paths.client_addresses[1])
        stack.enter_context(connected(here))
        with here.paths.client:
            testing.delete_endpoint(1)
        here.until(SUB_CLOSED)
        here.until(Kind.REMOVED, SUB_CLOSED, side=1)


def announced_and_withdrawn() -> None:
    with scene(announced=False) as here, connected(here, 1):
        here.until(Kind.CREATED, Kind.ESTABLISHED)
        here.until(Kind.CREATED, Kind.ESTABLISHED, side=1)
        address = here.paths.server_addresses[1]
        with here.paths.server:
            testing.add_endpoint(address, signal=True)
        here.look(lambda: len(here.seen[0]) == 2, "announcement and join")
        announced, joined = here.seen[0]
        assert (announced.kind, announced.remote) == (
            Kind.ANNOUNCED,
            (address, here.server.getsockname()[1]),
        )
        assert (announced.family, announced.local, announced.id) == (None, None, None)
        assert (joined.kind, joined.remote, joined.remote_id) == (
            JOINED,
            announced.remote,
            announced.remote_id,
        )
        here.seen[0].clear()
        here.until(JOINED, side=1)
        with here.paths.server:
            testing.delete_endpoint(1)
        here.look(lambda: len(here.seen[0]) == 2, "withdrawal and end")
        assert here.seen[0][0] == mp.MPTCPEvent(
            Kind.REMOVED, here.seen[0][0].time, joined.token, remote_id=joined.remote_id
        )
        here.until(Kind.REMOVED, SUB_CLOSED)
        here.until(SUB_CLOSED, side=1)


def backup() -> None:
    with scene(announced=False) as here, contextlib.ExitStack() as stack:
        with here.paths.client:
            testing.add_endpoint(here.paths.client_addresses[1])
        stack.enter_context(connected(here))
        for is_backup in (True, False):
            with here.paths.client:
                set_backup(1, is_backup)
            assert here.until(Kind.SUB_PRIORITY, side=1).backup is is_backup
        here.nothing(side=0)


def no_joins_to_the_initial_address() -> None:
    with scene() as here:
        set_sysctl(here.paths.server, "mptcp/allow_join_initial_addr_port", 0)
        with here.paths.client:
            address = here.paths.server_addresses[0], here.server.getsockname()[1]
            client = mp.create_connection(address, timeout=DEADLINE / 2, fallback=False)
        accepted, _ = here.server.accept()
        with client, accepted:
            exchange(client, accepted)
            here.look(lambda: all(len(seen) >= 2 for seen in here.seen), "both ends")
        for seen, bit in zip(here.seen, (1, 0), strict=True):
            assert [(event.kind, (event.flags or 0) & 1) for event in seen[:2]] == [
                (Kind.CREATED, bit),
                (Kind.ESTABLISHED, bit),
            ]


def fallback() -> None:
    with scene() as here:
        with here.paths.server:
            server = socket.create_server(("0.0.0.0", 0))
        with here.paths.client:
            address = here.paths.server_addresses[0], server.getsockname()[1]
            client = mp.create_connection(address, timeout=DEADLINE / 2, fallback=False)
        with server, client:
            with here.paths.client:
                (row,) = mp.mptcp_diag()
            assert mp.status(client) is mp.Status.FALLBACK
            here.nothing(side=0)
        assert here.until(CLOSED).token == row.info.token
        here.nothing(side=1)


def nothing_is_sent() -> None:
    with scene() as here, connected(here):
        here.paths.cut(1)
        for side in (0, 1):
            here.nothing(side)


# By the words of docs/events.md, in its order.
CAUSES = {
    "its join was answered by a RST": join_at_closed_port,
    "its join was not answered": join_not_answered,
    "its join was beyond the server's limits": join_rejected,
    "the server aborted it, which sends a RST": reset,
    "packets are lost while it sends": dropped,
    "a middlebox removes MPTCP's options while it sends": options_stripped,
    "its own link went down while it sends": own_link_down,
    "its own address was removed while it sends": own_address_removed,
    "its own endpoint was deleted": endpoint_deleted,
    "the server announces an address, then withdraws it": announced_and_withdrawn,
    "it makes its endpoint a backup": backup,
    "the server refuses joins to its initial address": no_joins_to_the_initial_address,
    "the connection fell back in the handshake": fallback,
    "it carries nothing, and nothing is sent": nothing_is_sent,
}


def rows(head: str) -> list[list[str]]:
    """The cells of a table of the page."""
    lines = PAGE.split(head)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize("cause", CAUSES)
def test_what_a_cause_is_told_as(cause: str, mptcp: None) -> None:
    """As its row says, and nothing else."""
    in_private_network(CAUSES[cause])


def test_the_page_has_these_causes() -> None:
    """In this order."""
    assert [cause for cause, _, _ in rows("| cause on the second path |")] == list(CAUSES)


def test_the_page_has_every_kind() -> None:
    """Once."""
    named = [name for event, *_ in rows("| event | told to |") for name in event.split(", ")]
    assert named == [kind.name for kind in Kind]


def test_the_program_of_the_page(mptcp: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Prints what is shown; in a namespace where nobody else has connections."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (shown,) = re.findall(r"```\n(CREATED.*?)```", PAGE, re.DOTALL)

    def run() -> None:
        exec(code, {})
        sys.stdout.flush()

    in_private_network(run)
    assert capfd.readouterr().out == shown
