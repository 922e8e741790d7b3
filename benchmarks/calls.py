# SPDX-License-Identifier: MIT
"""What one call costs, as ratios inside one interleaved run: python benchmarks/calls.py [--rounds N]

Thread CPU time, because machines are shared; every variant once a round in random order; the median of
the rounds' ratios. The connections live in a private network namespace. A C compiler is needed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mptcp_sockopt as mp
from mptcp_sockopt import _sandbox

HERE = Path(__file__).resolve().parent
SUBFLOWS = 8
MPTCP_INFO = struct.Struct("=6B2xIIQQQ3BxIQQQQ4BIII")  # what a user of the standard library would write

Variant = Callable[[int], object]


def compile_floor(folder: str) -> ctypes.CDLL:
    library = Path(folder) / "floor.so"
    command = ["cc", "-O2", "-shared", "-fPIC", f"-I{HERE.parent / 'csrc'}", str(HERE / "floor.c")]
    subprocess.run([*command, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def connect(subflows: int) -> list[socket.socket]:
    """A connection of that many subflows: client, accepted, listener."""
    server = mp.create_server(("127.0.0.1", 0), fallback=False)
    client = mp.create_connection(server.getsockname(), timeout=5, fallback=False)
    accepted, _ = server.accept()
    for one, other in ((client, accepted), (accepted, client)):
        one.sendall(b"x")
        other.recv(1)
    deadline = time.monotonic() + 5
    while mp.snapshot(client).live_count != subflows:
        if time.monotonic() > deadline:
            raise SystemExit(f"{mp.snapshot(client).live_count} subflows came, not {subflows}")
        time.sleep(0.01)
    return [client, accepted, server]


def ratios(variants: dict[str, Variant], base: str, rounds: int) -> dict[str, list[float]]:
    """Each variant's cost over the base's, round by round."""
    repeats = {name: calibrate(variant) for name, variant in variants.items()}
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        costs = {}
        for name in random.sample(list(variants), len(variants)):
            begun = time.thread_time_ns()
            variants[name](repeats[name])
            costs[name] = (time.thread_time_ns() - begun) / repeats[name]
        for name, cost in costs.items():
            found[name].append(cost / costs[base])
    return found


def calibrate(variant: Variant) -> int:
    """How many calls make about 5 ms."""
    repeats = 100
    while True:
        begun = time.thread_time_ns()
        variant(repeats)
        took = time.thread_time_ns() - begun
        if took > 2_000_000:
            return max(1, round(repeats * 5_000_000 / took))
        repeats *= 2


def of_info(sock: socket.socket, floor: ctypes.CDLL) -> dict[str, Variant]:
    def stdlib(n: int) -> None:
        unpack = MPTCP_INFO.unpack
        for _ in range(n):
            unpack(sock.getsockopt(284, 1, 96))

    def ours(n: int) -> None:
        read = mp.mptcp_info
        for _ in range(n):
            read(sock)

    fd = sock.fileno()
    return {"stdlib": stdlib, "C": lambda n: floor.floor_info(fd, n), "ours": ours}


def of_full_info(sock: socket.socket, floor: ctypes.CDLL) -> dict[str, Variant]:
    def ours(n: int) -> None:
        read = mp.mptcp_full_info
        for _ in range(n):
            read(sock)

    fd = sock.fileno()
    return {"C": lambda n: floor.floor_full_info(fd, n), "ours": ours}


def row(name: str, found: list[float], gate: float) -> str:
    low, middle, high = statistics.quantiles(found, n=4)
    verdict = "ok" if middle <= gate else "above"
    return f"{name:<58} {middle:5.2f}  [{low:.2f} {high:.2f}]  <= {gate:.1f}  {verdict}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, metavar="N", help="rounds, 31 by default")
    options = parser.parse_args(argv)
    _sandbox.enter_private_network()
    _sandbox.set_limits(8, 8)
    with tempfile.TemporaryDirectory() as folder:
        floor = compile_floor(folder)
    gc.disable()
    print(f"Python {sys.version.split()[0]}, medians of {options.rounds} rounds [quartiles], thread CPU time")
    (client, *_kept) = one = connect(1)
    found = ratios(of_info(client, floor), "stdlib", options.rounds)
    print(row("mptcp_info / socket.getsockopt + Struct.unpack", found["ours"], 1.3))
    found = ratios(of_full_info(client, floor), "C", options.rounds)
    print(row("mptcp_full_info / the C call, 1 subflow", found["ours"], 2.0))
    for last in range(2, SUBFLOWS + 1):
        _sandbox.add_endpoint(f"127.0.9.{last}")
    for sock in one:
        sock.close()
    (client, *_kept) = connect(SUBFLOWS)
    found = ratios(of_full_info(client, floor), "C", options.rounds)
    print(row(f"mptcp_full_info / the C call, {SUBFLOWS} subflows", found["ours"], 1.6))
    return 0


if __name__ == "__main__":
    sys.exit(main())
