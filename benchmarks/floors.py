# SPDX-License-Identifier: MIT
"""floors.c, compiled into a temporary folder and loaded here: the cost that nothing can go below."""

from __future__ import annotations

import array
import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .measure import Missing, Variant

HERE = Path(__file__).resolve().parent

OF_ONE = ("null", "so_type", "info", "tcpinfo", "subflow_addrs", "full_info")


@functools.cache
def library() -> ctypes.CDLL:
    """Compiled once a process tree: children inherit it."""
    if shutil.which("cc") is None:
        raise Missing("no C compiler (cc): the floors are written in C")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "floors.so"
        flags = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC", f"-I{HERE.parent / 'csrc'}"]
        done = subprocess.run(
            ["cc", *flags, str(HERE / "floors.c"), "-o", str(made)],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Missing(f"cc does not compile benchmarks/floors.c: {done.stderr.strip()}")
        return ctypes.CDLL(str(made))


def of_one(name: str, fd: int) -> Variant:
    """The C call of that name (OF_ONE) on one socket. Missing where the kernel refuses it."""
    call: Callable[[int, int], int] = library()[f"floor_{name}"]
    if call(fd, 1) < 0:
        raise Missing(f"the kernel refuses the C call of {name}")
    return lambda n: call(fd, n)


def of_many(fds: Sequence[int]) -> Variant:
    """MPTCP_INFO of all of them, in a C loop, into one array."""
    call: Callable[..., int] = library().floor_loop
    numbers = array.array("i", fds)
    infos = ctypes.create_string_buffer(library().floor_info_size() * len(fds))
    first = ctypes.c_void_p(numbers.buffer_info()[0])

    def variant(n: int) -> array.array[int]:
        if call(first, len(fds), infos, n) != len(fds):
            raise RuntimeError("a socket did not answer MPTCP_INFO")
        return numbers  # which must live as long as the call

    return variant
