# SPDX-License-Identifier: MIT
"""The cases of the self test that need several subflows, and so a private network namespace.

Uses public names of mptcp_sockopt only.
"""

from __future__ import annotations

import contextlib
import socket

import mptcp_sockopt as mp

from .. import testing
from ._cases import eventually, pair
from ._ktap import Skip, check, is_shortage, named

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator


@named("4 subflows, all listed and live")
def several_subflows(family: int) -> None:
    with _four_paths(family) as (client, accepted):
        shot = mp.snapshot(client)
        check(
            len(shot.subflows) == shot.live_count == 4, f"{len(shot.subflows)} listed, {shot.live_count} live"
        )
        hosts = {path.local[0] for path in shot.subflows if path.local}
        check(hosts == {*_hosts(family)}, f"they start from {sorted(hosts)}")
        ids = [path.id for path in shot.subflows]
        check(None in ids or len(set(ids)) == 4, f"their ids are {ids}")
        check(eventually(lambda: mp.snapshot(accepted).live_count == 4), "the server does not see 4")


@named("4 subflows less the initial one, 3 live")
def initial_removed(family: int) -> None:
    initial = _hosts(family)[0]
    with _four_paths(family) as (client, _):
        testing.delete_initial_address(initial)
        check(
            eventually(lambda: mp.snapshot(client).live_count == 3),
            f"{mp.snapshot(client).live_count} are live, not 3",
        )
        shot = mp.snapshot(client)
        dead = [path.local[0] for path in shot.subflows if path.local and not path.live]
        check(dead in ([initial], []), f"those that are not live are {dead}, not {initial}")
        total = shot.info.subflows_total if shot.info else None
        check(total in (3, None), f"subflows_total is {total}, not 3")
        check(shot.status is mp.Status.MPTCP, f"its status is {shot.status.name}")


def _hosts(family: int) -> list[str]:
    """The four addresses of the private namespace that subflows start from, the initial one's first."""
    return [f"127.0.9.{n}" if family == socket.AF_INET else f"fd00:9::{n}" for n in range(1, 5)]


@contextlib.contextmanager
def _four_paths(family: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection of four subflows, from these addresses."""
    with pair(family, source=_hosts(family)[0]) as (client, accepted):
        # The path manager starts when the connection is fully established: data went both ways.
        for one, other in ((client, accepted), (accepted, client)):
            one.sendall(b"x")
            other.recv(1)
        check(
            eventually(lambda: mp.mptcp_info(client).subflows == 3),
            f"{mp.mptcp_info(client).subflows} additional subflows came, not 3",
        )
        eventually(lambda: mp.snapshot(client).live_count == 4)  # counted above while they still join
        yield client, accepted


def enter_sandbox(family: int) -> None:
    """A private namespace whose path manager adds three subflows to every connection."""
    try:
        testing.enter_private_network()
    except testing.UnavailableError as error:
        if is_shortage(error):
            raise
        raise Skip(str(error)) from None
    testing.set_limits(8, 8)
    for host in _hosts(family):
        if family == socket.AF_INET6:
            testing.add_address(host)
    for host in _hosts(family)[1:]:
        testing.add_endpoint(host)


CASES = (several_subflows, initial_removed)
