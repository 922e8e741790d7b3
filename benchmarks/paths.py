# SPDX-License-Identifier: MIT
"""Connections with their paths: mptcp_diag(subflows=True) and mptcp_lookup()."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from . import fixtures
from .measure import Measured, Missing, Scale, Variant, cpu_with_children, interleave, repeated

_CHILDREN, _EACH = 3, 3000  # 18,000 plain TCP sockets


def read_both(_: None) -> None:
    """What people run instead: `ss -Mni; ss -tni`."""
    for words in (["-M", "-n", "-i"], ["-t", "-n", "-i"]):
        if subprocess.run(["ss", *words], check=False, stdout=subprocess.DEVNULL).returncode:
            raise Missing(f"ss {' '.join(words)} fails")


def read_paths(wanted: tuple[int, int]) -> None:
    """All of the namespace, or of a port; there must be so many, each with its path."""
    count, port = wanted
    found = mp.mptcp_diag(subflows=True, port=port)
    if len(found) != count or found[0].live_count != 1:
        raise RuntimeError(f"mptcp_diag(subflows=True) found {len(found)} connections of {count}")


def look_up(ends: tuple[mp.Address, mp.Address]) -> None:
    if mp.mptcp_lookup(*ends) is None:
        raise RuntimeError("mptcp_lookup() found nothing")


def look_up_token(token: int) -> None:
    if mp.mptcp_lookup(token=token) is None:
        raise RuntimeError("mptcp_lookup(token=) found nothing")


def paths(scale: Scale) -> Measured:
    """T22, T22l, T22t and T22p."""
    if shutil.which("ss") is None:
        raise Missing("no ss (iproute2)")
    found = Measured()
    socks: list[socket.socket] = []
    fixtures.grow(socks, 1000)
    variants: dict[str, Variant] = {"ss": repeated(read_both, None), "ours": repeated(read_paths, (1000, 0))}
    found.ratios["T22"] = interleave(variants, scale.few, cpu_with_children).ratios("ours", "ss")
    variants = {
        "info": repeated(mp.mptcp_info, socks[0]),
        "lookup": repeated(look_up, (socks[0].getsockname(), socks[0].getpeername())),
        "token": repeated(look_up_token, mp.mptcp_info(socks[0]).token),
    }
    costs = interleave(variants, scale.few)
    found.ratios.update(costs.table({"T22l": "lookup / info", "T22t": "token / info"}))
    with contextlib.ExitStack() as stack:
        reading, writing = os.pipe()
        for _ in range(_CHILDREN):
            stack.enter_context(testing.Child(lambda: hold_tcp(writing)))
        for _ in range(_CHILDREN):
            os.read(reading, 1)
        server = stack.enter_context(fixtures.listen())
        pairs = [fixtures.pair(server) for _ in range(50)]
        for one in pairs:
            for sock in one:
                stack.enter_context(sock)
        port = server.getsockname()[1]
        variants = {"all": repeated(read_paths, (1100, 0)), "port": repeated(read_paths, (100, port))}
        found.ratios["T22p"] = interleave(variants, scale.few).ratios("port", "all")
    return found


def hold_tcp(ready: int) -> None:
    """Both ends of many plain TCP connections, until this process is ended."""
    fixtures.allow_descriptors(2 * _EACH + 100)
    server = socket.create_server(("127.0.0.1", 0))
    kept = []
    for number in range(_EACH):
        source = f"127.1.{number % 50}.1", 0
        kept += [socket.create_connection(server.getsockname(), 5, source), server.accept()[0]]
    os.write(ready, b"x")
    threading.Event().wait()
