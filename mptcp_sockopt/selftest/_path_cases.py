# SPDX-License-Identifier: MIT
"""Self test cases with several subflows, which need a private network namespace.

Uses only public names of mptcp_sockopt.
"""

from __future__ import annotations

import socket

import mptcp_sockopt as mp

from .. import testing
from ._cases import LOOPBACK, eventually
from ._ktap import Skip, check, is_shortage, named


@named("4 subflows, all listed and live")
def several_subflows(family: int) -> None:
    with _Paths(family) as paths:
        shot = mp.snapshot(paths.client)
        check(
            len(shot.subflows) == shot.live_count == 4, f"{len(shot.subflows)} listed, {shot.live_count} live"
        )
        hosts = {path.local[0] for path in shot.subflows if path.local}
        check(hosts == {paths.initial, *paths.others}, f"their local addresses are {sorted(hosts)}")
        ids = [path.id for path in shot.subflows]
        check(None in ids or len(set(ids)) == 4, f"ids are not unique: {ids}")
        check(eventually(lambda: mp.snapshot(paths.accepted).live_count == 4), "the server has fewer than 4")


@named("initial subflow removed: 3 of 4 live")
def initial_removed(family: int) -> None:
    with _Paths(family) as paths:
        testing.delete_initial_address(paths.initial)
        check(
            eventually(lambda: mp.snapshot(paths.client).live_count == 3),
            f"{mp.snapshot(paths.client).live_count} are live, not 3",
        )
        shot = mp.snapshot(paths.client)
        dead = [path.local[0] for path in shot.subflows if path.local and not path.live]
        check(dead in ([paths.initial], []), f"subflows that are not live: {dead}, expected {paths.initial}")
        total = shot.info.subflows_total if shot.info else None
        check(total in (3, None), f"subflows_total is {total}, not 3")
        check(shot.status is mp.Status.MPTCP, f"its status is {shot.status.name}")


class _Paths:
    """A connection with four subflows, from four addresses in this private namespace."""

    def __init__(self, family: int) -> None:
        prefix = "127.0.9." if family == socket.AF_INET else "fd00:9::"
        self.initial, *self.others = [f"{prefix}{n}" for n in range(1, 5)]
        self._server = mp.create_server((LOOPBACK[family], 0), family=family, fallback=False)
        port = self._server.getsockname()[1]
        self.client = mp.create_connection(
            (LOOPBACK[family], port), source_address=(self.initial, 0), fallback=False
        )
        self.accepted, _ = self._server.accept()

    def __enter__(self) -> _Paths:
        # The path manager starts when the connection is fully established, that is, after data in both
        # directions.
        for one, other in ((self.client, self.accepted), (self.accepted, self.client)):
            one.sendall(b"x")
            other.recv(1)
        check(
            eventually(lambda: mp.mptcp_info(self.client).subflows == 3),
            f"{mp.mptcp_info(self.client).subflows} additional subflows were added, not 3",
        )
        eventually(lambda: mp.snapshot(self.client).live_count == 4)  # above, unanswered joins counted too
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self.client, self.accepted, self._server):
            sock.close()


def enter_sandbox(family: int) -> None:
    """Enter a private namespace whose path manager adds three subflows to every connection."""
    try:
        testing.enter_private_network()
    except testing.UnavailableError as error:
        if is_shortage(error):
            raise
        raise Skip(str(error)) from None
    testing.set_limits(8, 8)
    for last in range(1, 5):
        if family == socket.AF_INET6:
            testing.add_address(f"fd00:9::{last}")
        if last > 1:
            testing.add_endpoint(f"127.0.9.{last}" if family == socket.AF_INET else f"fd00:9::{last}")


CASES = (several_subflows, initial_removed)
