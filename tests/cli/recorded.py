# SPDX-License-Identifier: MIT
"""Recordings made for tests, line by line, in the format of `mptcp-sockopt record`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
TOKEN = 0x1F2E3D4C
BEGUN = 5_000_000_000  # of the monotonic clock, ns
EPOCH = 1_800_000_000.0


def header(interval: float = 0.1, **others: Any) -> Record:
    return {
        "schema": 1, "kind": "header", "version": "0", "kernel": "6.18.5", "time": EPOCH, "monotonic": BEGUN,
        "interval": interval, "full": False, "port": None, "pid": None, "missing": [],
        "fields": {"info": [], "tcp_info": []}, **others,
    }  # fmt: skip


def path(
    number: int,
    acked: int | None = 0,
    received: int | None = 0,
    *,
    id: int | None = None,
    local: tuple[str, int] | None = None,
    remote: tuple[str, int] | None = None,
    live: bool = True,
    stalled: bool | None = None,
    **tcp_info: int | None,
) -> Record:
    """Path number n goes from 10.0.n.1 to 10.0.n.2."""
    gauges = {"rtt": 20_000, "rcv_rtt": 21_000, "snd_cwnd": 10, "snd_mss": 1400, "notsent_bytes": 0}
    return {
        "id": number if id is None else id,
        "remote_id": number,
        "local": [*(local or (f"10.0.{number}.1", 40_000))],
        "remote": [*(remote or (f"10.0.{number}.2", 443))],
        "state": "ESTABLISHED" if live else "SYN_SENT",
        "live": live,
        "stalled": stalled,
        "tcp_info": {**gauges, "bytes_acked": acked, "bytes_received": received, **tcp_info},
        "rates": None,
    }


def connection(
    acked: int | None, received: int | None, *paths: Record, status: str = "mptcp", **others: Any
) -> Record:
    return {
        "token": TOKEN, "status": status, "state": "ESTABLISHED", "fallback_reason": None, "troubles": [],
        "local": ["10.0.0.1", 40_000], "remote": ["10.0.0.2", 443], "inode": 7, "uid": 0, "rqueue": 0,
        "processes": [{"pid": 77, "name": "python", "fd": 3}],
        "info": {"token": TOKEN, "bytes_acked": acked, "bytes_received": received},
        "rates": None, "subflows": [*paths], **others,
    }  # fmt: skip


def at(seconds: float) -> int:
    return BEGUN + round(seconds * 1e9)


def sample(seconds: float, *connections: Record) -> Record:
    return {"kind": "sample", "monotonic": at(seconds), "connections": [*connections]}


def event(seconds: float, name: str, **others: Any) -> Record:
    return {"kind": "event", "monotonic": at(seconds), "event": name, "token": TOKEN, **others}


def missed(seconds: float, samples: int = 1) -> Record:
    return {"kind": "missed", "monotonic": at(seconds), "samples": samples}


def many_paths(paths: int, samples: int, name: str = "python") -> Iterable[Record]:
    """10 Hz. Path 0 carries 40 Mbit/s, then 10; the others 10. The last one is stalled for a while.

    Every value is a whole number that depends on the sample's number only.
    """
    acked, total = [0] * paths, 0
    for n in range(samples):
        records = []
        for p in range(paths):
            dead = paths > 1 and p == paths - 1 and 0.5 <= n / samples < 0.65
            bits = 40_000_000 if p == 0 and n / samples < 0.8 else 10_000_000
            grown = 0 if dead else bits // 80 * (95 + (n * 7 + p * 3) % 11) // 100
            acked[p] += grown
            total += grown
            wave = (n * (p + 3)) % 40
            rtt, unsent = 20_000 + 3_000 * p + 50 * wave, 170_000 if dead else 800 * wave
            records.append(path(p, acked[p], stalled=dead, rtt=rtt, snd_cwnd=60 + wave, notsent_bytes=unsent))
        owners = [{"pid": 77, "name": name, "fd": 3}]
        yield sample(n / 10, connection(total, 0, *records, processes=owners))
        if n == samples // 4:
            yield event(n / 10, "SUB_PRIORITY", id=0, backup=True)


def written(file: Path, lines: Iterable[Record], **header_fields: Any) -> str:
    """Write a recording; returns its name."""
    with file.open("w") as out:
        for line in [header(**header_fields), *lines]:
            out.write(json.dumps(line) + "\n")
    return str(file)
