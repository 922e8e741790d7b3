# SPDX-License-Identifier: MIT
"""The suite itself: what hangs fails, what is missing skips or fails, and who starts it changes nothing."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ..net import set_mtu
from ..support import in_private_network, needs, run, started

ROOT = Path(__file__).parents[2]
HANGS = """
import subprocess, threading, time
def test_main_thread(): time.sleep(600)
def test_c(): threading.Lock().acquire() and threading.Event().wait()
def test_another_thread():
    thread = threading.Thread(target=time.sleep, args=(600,), daemon=True, name="stuck")
    thread.start()
    thread.join()
def test_in_its_cleanup():
    try:
        time.sleep(600)
    finally:
        time.sleep(600)
def test_fine(): pass
"""
LEAVES_A_THREAD = """
import threading, time
def test_fine(): threading.Thread(target=time.sleep, args=(600,)).start()
"""
SOCKETS = """
import socket
import pytest
@pytest.mark.parametrize("number", range(3))
def test_network(number): socket.create_connection(("127.0.0.1", 1), 600)
"""
CONNECTIONS = """
import pytest
@pytest.mark.parametrize("number", range(3))
def test_connections(number, mptcp): raise AssertionError
"""
PURE = "def test_pure(): pass\n"
SKIPS = "import pytest; pytest.skip('no such module', allow_module_level=True)\n"
LACKS = """
import pytest
from tests.support import Missing
@pytest.fixture
def thing(): raise Missing("the thing")
def test_by_its_fixture(thing): pass
def test_by_itself(): raise Missing("the thing")
"""


def pytest_of(folder: Path, *files: str, options: tuple[str, ...] = (), **more: Any) -> tuple[int, str]:
    """Exit status and output of pytest, with this suite's conftest.py, on such files."""
    for number, text in enumerate(files):
        (folder / f"test_{number}.py").write_text(text)
    command = (sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", os.devnull, "-rs", "-q")
    more = {"env": {**os.environ, "PYTEST_ADDOPTS": ""}, **more}
    done = run(*command, "-p", "no:cacheprovider", *options, str(folder), cwd=ROOT, **more)
    return done.returncode, done.stdout + done.stderr


def test_a_test_that_hangs_is_a_failure(tmp_path: Path) -> None:
    """With the stacks of all threads, and so is one that hangs again on its way out."""
    code, out = pytest_of(tmp_path, HANGS, options=("--limit", "0.3"))
    assert code == 1
    assert "4 failed, 1 passed" in out
    assert out.count("Failed: no end after 0.3 s") == 5  # the second time in a cleanup
    assert re.search(r'(?s)Thread 0x.*File ".*threading.py", line \d+ in run.*Current thread', out)


def test_a_thread_that_is_left_does_not_keep_the_suite(tmp_path: Path) -> None:
    """Python would wait for it at its end."""
    code, out = pytest_of(tmp_path, LEAVES_A_THREAD, options=("--limit", "1.5"))
    assert code == 1
    assert "1 passed" in out
    assert "Timeout" in out


def test_without_loopback_there_is_one_skip(tmp_path: Path) -> None:
    """For all tests of files that know sockets, with the reason; under --require-mptcp they fail."""

    ip = needs("ip", "iproute2")

    def look() -> list[tuple[int, str]]:
        subprocess.run([ip, "link", "set", "lo", "down"], check=True)
        with ThreadPoolExecutor() as pool:  # each waits for seconds
            return list(
                pool.map(
                    lambda more: pytest_of(tmp_path, SOCKETS, PURE, options=more), ((), ("--require-mptcp",))
                )
            )

    (code, out), (required, failures) = in_private_network(look)
    assert code == 0, out
    assert re.findall(r"SKIPPED \[(\d)\] \S+ (.*?\))", out) == [
        ("3", "sockets on 127.0.0.1 do not work here (ip link set lo up)")
    ]
    assert "1 passed, 3 skipped" in out
    assert (required, "1 passed, 3 errors" in failures) == (1, True), failures


def test_where_mptcp_falls_back_there_is_one_skip(tmp_path: Path, mptcp: None) -> None:
    """For all tests of MPTCP connections, with the reason; under --require-mptcp they fail."""

    def look() -> list[tuple[int, str]]:
        set_mtu("lo", 68)  # no room for a SYN-ACK with the option
        return [pytest_of(tmp_path, CONNECTIONS, PURE, options=more) for more in ((), ("--require-mptcp",))]

    (code, out), (required, failures) = in_private_network(look)
    assert code == 0, out
    ((count, reason),) = re.findall(r"SKIPPED \[(\d)\] \S+ (.*)", out)
    assert (count, "1 passed, 3 skipped" in out) == ("3", True), out
    assert re.match("MPTCP connections fall back to TCP|no MPTCP connection can be made", reason), reason
    assert (required, "1 passed, 3 errors" in failures) == (1, True), failures


def test_what_is_missing_is_a_skip_or_a_failure(tmp_path: Path) -> None:
    """To a test, to its fixture, or to a whole file."""
    code, out = pytest_of(tmp_path, LACKS, SKIPS)
    assert (code, "3 skipped" in out) == (0, True), out
    code, out = pytest_of(
        tmp_path, LACKS, SKIPS, options=("--require-mptcp", "--continue-on-collection-errors")
    )
    assert code == 1
    assert "1 failed, 2 errors" in out
    assert "--require-mptcp: the thing" in out
    assert "no such module" in out


def ignore(*numbers: signal.Signals) -> Callable[[], None]:
    def before_exec() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    return before_exec


def test_signals_are_the_same_whoever_starts_the_suite(tmp_path: Path) -> None:
    """nohup, a shell's background, a parent that reaps nobody: commands that tests start are not deaf."""
    file = """
import signal, subprocess, sys, os
def test_children():
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD):
        code = f"import signal; print(signal.getsignal({number.value}) is signal.SIG_IGN)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "False\\n")
    assert subprocess.run([sys.executable, "-c", "raise SystemExit(1)"]).returncode == 1
def test_deaf():
    for number in (signal.SIGHUP, signal.SIGINT):
        os.kill(os.getpid(), number)
"""
    deaf = ignore(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)
    code, out = pytest_of(tmp_path, file, preexec_fn=deaf)
    assert (code, "2 passed" in out) == (0, True), out


def test_a_command_ends_with_its_block() -> None:
    """Whatever it does, and whatever it ignores."""
    with started(
        sys.executable, "-c", "import time; time.sleep(600)", preexec_fn=ignore(signal.SIGTERM)
    ) as process:
        assert process.poll() is None
    assert process.returncode == -signal.SIGKILL


def test_names_of_tests_are_the_same_in_every_process(request: pytest.FixtureRequest) -> None:
    """No address is in them: else their order would differ, and none could be asked for by its name."""
    assert [item.nodeid for item in request.session.items if re.search(r"0x[0-9a-f]{6}", item.nodeid)] == []


def test_no_thread_outlives_the_suite() -> None:
    """Every one that a test makes is a daemon: what hangs in it does not hang Python's end."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "threading.Thread":
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert keywords.get("daemon") == "True", f"{path.name}:{node.lineno}"
