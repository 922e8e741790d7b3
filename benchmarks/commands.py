# SPDX-License-Identifier: MIT
"""What the commands cost that look at every connection: show, and a look of watch and record."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading

from mptcp_sockopt import testing
from mptcp_sockopt.cli._recording import Looks, Writer

from . import fixtures
from .measure import Measured, Missing, Scale, Variant, cpu_with_children, interleave, repeated, spread

_PROCESSES, _EACH = 50, 20
_SECOND = 1e9


def own(ready: int) -> None:
    """Some sockets of a process, until it is ended."""
    socks: list[socket.socket] = []
    fixtures.grow(socks, _EACH)
    os.write(ready, b"x")
    threading.Event().wait()


def read_ss(_: None) -> None:
    """What people run instead: `ss -Mnip; ss -tnip`."""
    for words in (["-M", "-n", "-i", "-p"], ["-t", "-n", "-i", "-p"]):
        if subprocess.run(["ss", *words], check=False, stdout=subprocess.DEVNULL).returncode:
            raise Missing(f"ss {' '.join(words)} fails")


def show(words: list[str]) -> bytes:
    """The command as it runs where it is installed: with its byte code, whatever the environment says."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.check_output([sys.executable, "-m", "mptcp_sockopt", "show", *words], env=environment)


def record(taker: tuple[Looks, Writer]) -> None:
    looks, writer = taker
    writer.sample(looks.look())


def commands(scale: Scale) -> Measured:
    """T23 and T24."""
    if shutil.which("ss") is None:
        raise Missing("no ss (iproute2)")
    found = Measured()
    with contextlib.ExitStack() as stack:
        reading, writing = os.pipe()
        for _ in range(_PROCESSES):
            stack.enter_context(testing.Child(lambda: own(writing)))
        for _ in range(_PROCESSES):
            os.read(reading, 1)
        shown = json.loads(show(["--json"]))["connections"]
        if len(shown) != _PROCESSES * _EACH or any(not row["processes"] for row in shown):
            raise RuntimeError(f"show found {len(shown)} connections of {_PROCESSES * _EACH}, or no process")
        variants: dict[str, Variant] = {
            "ss": repeated(read_ss, None),
            "json": repeated(show, ["--json"]),
            "text": repeated(show, []),
        }
        costs = interleave(variants, scale.few, cpu_with_children)
        found.ratios.update(costs.table({"T23": "json / ss", "T23t": "text / ss"}))
        looks = Looks(drawn=True)  # as those of watch
        variants = {
            "look": repeated(Looks.look, looks),
            "sample": repeated(record, (Looks(), Writer(lambda line: None))),
        }
        costs = interleave(variants, scale.few)
        found.ratios["T24"] = spread([cost / _SECOND for cost in costs.of["look"]])
        found.ratios["T24r"] = spread([cost / (_SECOND / 10) for cost in costs.of["sample"]])
    return found
