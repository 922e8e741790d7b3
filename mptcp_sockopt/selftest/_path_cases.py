# SPDX-License-Identifier: MIT
"""Self test cases with several subflows, which need a private network namespace.

Uses only public names of mptcp_sockopt.
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
        check(hosts == {*_hosts(family)}, f"their local addresses are {sorted(hosts)}")
        ids = [path.id for path in shot.subflows]
        check(None in ids or len(set(ids)) == 4, f"ids are not unique: {ids}")
        check(eventually(lambda: mp.snapshot(accepted).live_count == 4), "the server has fewer than 4")


@named("initial subflow removed: 3 of 4 live")
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
        check(dead in ([initial], []), f"subflows that are not live: {dead}, expected {initial}")
        total = shot.info.subflows_total if shot.info else None
        check(total in (3, None), f"subflows_total is {total}, not 3")
        check(shot.status is mp.Status.MPTCP, f"its status is {shot.status.name}")


def _hosts(family: int) -> list[str]:
    """The four local addresses of the subflows, in the private namespace; the first is the initial one's."""
    return [f"127.0.9.{n}" if family == socket.AF_INET else f"fd00:9::{n}" for n in range(1, 5)]


@contextlib.contextmanager
def _four_paths(family: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection with four subflows, one from each of these addresses."""
    with pair(family, source=_hosts(family)[0]) as (client, accepted):
        # The path manager starts when the connection is fully established: after data in both directions.
        for one, other in ((client, accepted), (accepted, client)):
            one.sendall(b"x")
            other.recv(1)
        check(
            eventually(lambda: mp.mptcp_info(client).subflows == 3),
            f"{mp.mptcp_info(client).subflows} additional subflows were added, not 3",
        )
        eventually(lambda: mp.snapshot(client).live_count == 4)  # above, unanswered joins counted too
        yield client, accepted


def enter_sandbox(family: int) -> None:
    """Enter a private namespace whose path manager adds three subflows to every connection."""
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
