# SPDX-License-Identifier: MIT
"""One qemu, from start to its end, and what its guest said meanwhile.

Emulated (TCG) always: /dev/kvm may open and not work.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .rows import ARCHES, Row

Words = list[dict[str, Any]]


class Ending(NamedTuple):
    """How a boot ended."""

    code: int | None  # of qemu; None if it was killed
    seconds: float
    words: Words
    damaged: int  # lines whose checksum is wrong
    tail: str  # the last words of the console, or of qemu
    problem: str = ""  # why it was killed


def missing_qemu(arch: str) -> str | None:
    """A sentence, if this machine has no qemu for that architecture."""
    command = ARCHES[arch].qemu.split()[0]
    if shutil.which(command):
        return None
    return f"{command} is not installed: apt-get install --no-install-recommends {ARCHES[arch].qemu_package}"


class Running:
    """The qemus that run now. stop() kills them, by their process groups, and lets no other start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    def start(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        with self._lock, log.open("wb") as out:
            if self.stopped:
                raise InterruptedError("stopped")
            # A session of its own, so that Ctrl-C at the terminal comes to us and not to it.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
            self._processes.add(process)
            return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill it if it still runs, and wait for its end."""
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        with self._lock:
            self._processes.discard(process)

    def stop(self) -> None:
        with self._lock:
            self.stopped = True
            processes = list(self._processes)
        for process in processes:
            self.end(process)


def command_of(
    row: Row, kernel: Path, image: Path, logs: Path, limit: float, told: Mapping[str, str]
) -> list[str]:
    arch = ARCHES[row.arch]
    command = [
        *arch.qemu.split(),
        *"-accel tcg,thread=multi,tb-size=256 -smp 1 -m 768 -display none -nodefaults -no-reboot".split(),
        *["-nic", "none"],
    ]
    ports = ["report"] if arch.report == "console" or arch.report == arch.console else ["console", "report"]
    for name in ports:
        command += ["-serial", f"file:{logs / row.name}.{name}"]
    # Mitigations guard nothing in here, and are slow to emulate.
    words = f"console={arch.console} REPORT={arch.report} LIMIT={limit:g} quiet panic=-1 mitigations=off"
    words += "".join(f" {name}={value}" for name, value in told.items())
    return [*command, "-kernel", str(kernel), "-initrd", str(image), "-append", words]


def listen(text: str) -> tuple[Words, int]:
    """The guest's words in what came out of its port, and how many lines are damaged."""
    words, damaged = [], 0
    for line in text.splitlines():
        if "@@" not in line:
            continue
        match = re.search(r"@@([0-9a-f]{8}) (\{.*\})\s*$", line)
        if match and zlib.crc32(match[2].encode()) == int(match[1], 16):
            words.append(json.loads(match[2]))
        else:
            damaged += 1
    return words, damaged


def boot(
    row: Row,
    kernel: Path,
    image: Path,
    logs: Path,
    limit: float,
    running: Running,
    told: Mapping[str, str],
) -> Ending:
    """Boot until the guest powers itself off, or limit seconds have gone. told: environment for guest.py."""
    logs.mkdir(parents=True, exist_ok=True)
    for old in logs.glob(f"{row.name}.*"):
        old.unlink()
    start = time.monotonic()
    problem, code = "", None
    command = command_of(row, kernel, image, logs, limit, told)
    process = running.start(command, logs / f"{row.name}.qemu")
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        problem = f"did not end within {limit:g} s"
    finally:
        running.end(process)
    if running.stopped:
        raise InterruptedError("stopped")
    seconds = time.monotonic() - start

    def text(name: str) -> str:
        path = logs / f"{row.name}.{name}"
        return path.read_text(errors="replace") if path.exists() else ""

    report = text("report")
    words, damaged = listen(report)
    lines = (text("qemu") + text("console") + report).splitlines()
    lines = [line for line in lines if line.strip() and "@@" not in line]
    panics = [line for line in lines[:-12] if "Kernel panic" in line]
    tail = "\n".join([*panics, *lines[-12:]])
    return Ending(code, round(seconds, 1), words, damaged, tail, problem)
