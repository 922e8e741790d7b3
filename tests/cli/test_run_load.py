# SPDX-License-Identifier: MIT
"""mptcp-sockopt run under load: threads, children, processes that are killed in the middle of a call."""

from __future__ import annotations

import os
import subprocess
from typing import NamedTuple

import pytest

import mptcp_sockopt

from ..support import DEADLINE, rounds, started, until
from .running import PYTHON, RUN, counted, descriptors, needs_run, status_of, supervisor_of, under_run

# Each thread makes sockets; then the program waits.
THREADS = """
import socket, sys, threading
threads, sockets = map(int, sys.argv[1:])
failed = []
def work():
    try:
        for number in range(sockets):
            socket.socket((socket.AF_INET, socket.AF_INET6)[number % 2]).close()
    except OSError as error:
        failed.append(error)
for _ in range(2):
    pool = [threading.Thread(target=work) for _ in range(threads)]
    [thread.start() for thread in pool]
    [thread.join() for thread in pool]
    print(len(failed), flush=True)
    input()
"""
# Children that make sockets without end are killed; others make one each, and end by themselves.
CHILDREN = """
import os, random, signal, socket, sys
def child(work):
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid
def endless():
    while True:
        socket.socket().close()
def one():
    with socket.socket() as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == 262
        os.write(outward, b"x")
number = int(sys.argv[1])
for _ in range(2):
    inward, outward = os.pipe()
    living = []
    for _ in range(number):
        living.append(child(endless))
        if len(living) == 8:
            os.kill(living.pop(random.randrange(8)), signal.SIGKILL)
            os.wait()
        child(one)
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    for pid in living:
        os.kill(pid, signal.SIGKILL)
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
    os.close(outward)
    print(number - len(os.read(inward, number)), flush=True)
    os.close(inward)
    input()
"""


class Size(NamedTuple):
    """Of a supervisor."""

    rss: int  # kB
    threads: int


def size(pid: int) -> Size:
    """When it is idle: during a call it has a socket too."""
    until(lambda: len(descriptors(pid)) == 5, "a supervisor with five descriptors")
    status = status_of(pid)
    return Size(int(status["VmRSS"].split()[0]), int(status["Threads"]))


def under_load(code: str, *words: int) -> dict[str, int]:
    """Run a program that does its work twice, and prints how often it failed; what the supervisor counted.

    The supervisor does not grow. It is small: it has a copy of what Python has at the start, which is more if
    modules are compiled first.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    under_run("true", env=environment)
    needs_run()
    pipe = subprocess.PIPE
    command = (*RUN, "--verbose", "--", PYTHON, "-c", code, *map(str, words))
    with started(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        sizes = []
        for _ in range(2):
            assert process.stdout.readline() == "0\n"
            sizes.append(size(supervisor_of(process.pid)))
            process.stdin.write("\n")
            process.stdin.flush()
        _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    first, second = sizes
    assert second.threads == 1
    assert second.rss <= first.rss + 64
    # Who may not write byte code compiles each time, and keeps what that took.
    most = 8192 if os.access(os.path.dirname(mptcp_sockopt.__file__), os.W_OK) else 10240
    assert second.rss <= most or "libasan" in os.environ.get("LD_PRELOAD", "")
    assert not os.path.exists(f"/proc/{process.pid}")
    return counted(said)


def test_threads_of_one_program(mptcp: None) -> None:
    """Each gets what it asked for."""
    assert under_load(THREADS, 4, 50) == {"made": 400}


def test_children_that_are_killed(mptcp: None) -> None:
    """Nobody waits for one that is gone."""
    found = under_load(CHILDREN, 12)
    assert found["made"] >= 24
    assert found.keys() <= {"made", "gone"}


@pytest.mark.slow
def test_ten_threads_of_ten_thousand_sockets(mptcp: None) -> None:
    """No call hangs, fails, or stays TCP."""
    number = rounds(10_000)
    assert under_load(THREADS, 10, number) == {"made": 20 * number}


@pytest.mark.slow
def test_five_hundred_children(mptcp: None) -> None:
    """Half of them are killed while they make sockets."""
    found = under_load(CHILDREN, rounds(250))
    assert found["made"] >= 2 * rounds(250)
    assert found.keys() <= {"made", "gone"}
