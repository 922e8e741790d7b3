# SPDX-License-Identifier: MIT
"""What a kernel tells of connections to those who do not have their sockets: readers, events, commands."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mptcp_sockopt as mp
from mptcp_sockopt import cli, testing

from ..support import become_nobody, fallback_pair, until

# Of the kinds of events, those that surely come. (An end may also try, in vain, to join the other one.)
KINDS = {"CREATED", "ESTABLISHED", "SUB_ESTABLISHED", "LISTENER_CREATED"}


def told(client: socket.socket, events: mp.MPTCPEvents | str, answer: Callable[..., Any]) -> dict[str, Any]:
    """To root and to nobody, of client's connection and one that fell back."""
    ends = client.getsockname(), client.getpeername()
    token = mp.mptcp_info(client).token
    with fallback_pair(socket.AF_INET) as (fallen, _):
        others = fallen.getsockname(), fallen.getpeername()

        def readers() -> dict[str, Any]:
            return {
                "dump": answer(_dump),
                "by addresses": answer(lambda: _token(mp.mptcp_lookup(*ends)) == token),
                "by token": answer(lambda: _token(mp.mptcp_lookup(token=token)) == token),
                "reason": answer(lambda: _reason(mp.mptcp_lookup(*others))),
            }

        def of_nobody() -> dict[str, Any]:
            become_nobody()
            return {**readers(), "events": answer(lambda: mp.mptcp_events().close())}

        of_root = {**readers(), "events": events if isinstance(events, str) else _kinds(events)}
        return {"root": of_root, "nobody": testing.in_child(of_nobody)}


def _dump() -> list[int]:
    """How many connections have two paths; how many paths those are, and how many have ids."""
    found = [one.subflows for one in mp.mptcp_diag(subflows=True) if len(one.subflows) == 2]
    paths = [path for both in found for path in both]
    return [len(found), len(paths), sum(path.remote_id is not None for path in paths)]


def _token(found: mp.MPTCPConnection | None) -> int | None:
    return found.token if found else None


def _reason(found: mp.MPTCPConnection | None) -> str | None:
    return found.fallback_reason.name if found and found.fallback_reason else None


def _kinds(events: mp.MPTCPEvents) -> list[str]:
    """Of KINDS, those that there were until both ends had the second subflow."""
    found: list[str] = []

    def both() -> bool:
        found.extend(str(event.kind) for event in events.read())
        return found.count("SUB_ESTABLISHED") == 2

    with events:
        until(both, "the events of the second subflow")
    return sorted(KINDS.intersection(found))


def commands() -> dict[str, int]:
    """The exit codes of commands, as root."""
    with tempfile.TemporaryDirectory() as folder:
        recording, page = Path(folder) / "r.jsonl", Path(folder) / "r.html"
        found = {
            command.split()[0]: testing.in_child(functools.partial(_run, command))
            for command in (
                "show",
                "watch -n 1",
                "events --for 0.1",
                "check",
                f"record -o {recording} -i 0.1 --for 0.5",
                f"plot {recording} -o {page}",
                "doctor",
            )
        }
        return {**found, "run": _under_run()}


def _under_run() -> int:
    """0 if a socket of a program under `run` is MPTCP."""
    code = "import socket; raise SystemExit(socket.socket().getsockopt(socket.SOL_SOCKET, 38) != 262)"
    command = [sys.executable, "-m", "mptcp_sockopt", "run", "--strict", "--", sys.executable, "-c", code]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False, timeout=60).returncode


def _run(command: str) -> int:
    with contextlib.ExitStack() as stack:
        for number in (1, 2):
            nothing = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, nothing)
            os.dup2(nothing, number)
        return cli.main(command.split())
