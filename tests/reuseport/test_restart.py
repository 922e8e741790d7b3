# SPDX-License-Identifier: MIT
"""docs/restart.md: its servers lose nobody under load, and the same servers with a careless end do."""

from __future__ import annotations

import functools
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ..support import DEADLINE, in_private_network, rounds, started, until
from .restarting import ENVIRONMENT, FOLDER, PORT, ROOT, generation_of, restarted, service

PAGE = (ROOT / "docs" / "restart.md").read_text()
PROGRAMS = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
# The end of a generation, and how one writes it at first.
CARELESS = {
    "asyncio_server": ("await handover.retire_server(server, 5.0, shared=True)", "server.close()"),
    "threaded_server": ("handover.retire(listener, 5.0, serve)", "listener.close()"),
}
EACH = pytest.mark.parametrize("name", PROGRAMS)


@EACH
@pytest.mark.parametrize("restarts", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_restarts_under_load_lose_nobody(name: str, restarts: int) -> None:
    """Every client is answered by one generation or the next."""
    restarts = max(5, rounds(restarts)) if restarts > 5 else restarts
    done, load = in_private_network(lambda: restarted(PROGRAMS[name], restarts))
    assert (done, load.newest, load.lost) == (restarts, restarts, [])
    assert load.served >= 100 * restarts


@EACH
def test_the_careless_end_loses_somebody(name: str, tmp_path: Path) -> None:
    """The control, without which no loss proves nothing."""
    careful, careless = CARELESS[name]
    program = tmp_path / f"{name}.py"
    program.write_text(PROGRAMS[name].read_text().replace(careful, careless))
    assert careless in program.read_text()
    _, load = in_private_network(lambda: restarted(program, 200, until_lost=True))
    assert load.lost


@pytest.mark.slow
@EACH
def test_long_connections_live_beside_newer_generations(name: str) -> None:
    """One from before each of five restarts is answered by its own generation, after the last one too."""
    in_private_network(functools.partial(_long_connections, PROGRAMS[name]))


def _long_connections(program: Path) -> None:
    with service(program) as server:
        found = [connection()]
        for number in range(1, 6):
            server.send_signal(signal.SIGHUP)
            while True:
                sock = connection()
                if ask(sock) == number:
                    break
                sock.close()
            found.append(sock)
        assert [ask(sock) for sock in found] == [0, 1, 2, 3, 4, 5]
        for sock in found:
            sock.close()
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE) == 0


def connection() -> socket.socket:
    return socket.create_connection(("127.0.0.1", PORT), timeout=DEADLINE)


def ask(sock: socket.socket) -> int:
    """The generation that answers."""
    sock.sendall(b"hello\n")
    return generation_of(sock.recv(100))


@EACH
def test_a_server_is_shown_as_it_is_and_is_short(name: str) -> None:
    """On the page, without the first line, which is for lawyers."""
    text = PROGRAMS[name].read_text().partition("\n")[2]
    assert f"```python\n{text}```" in PAGE
    assert len([line for line in text.splitlines() if line.strip()]) <= 40


def test_the_units_are_shown_as_they_are() -> None:
    for unit in ("hello.socket", "hello.service"):
        assert f"```text\n# {unit}\n{(FOLDER / unit).read_text()}```" in PAGE


def test_retire_has_seven_numbered_steps() -> None:
    """On the page and in the module; what is numbered there stands in this order in the code."""
    steps = PAGE.partition("## retire() in seven steps")[2].partition("\n## ")[0]
    assert re.findall(r"^(\d)\. ", steps, re.MULTILINE) == list("1234567")


def test_systemd_finds_nothing_wrong_with_the_units() -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("this machine has no systemd-analyze")
    units = [str(FOLDER / "hello.service"), str(FOLDER / "hello.socket")]
    found = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_server_takes_the_socket_of_systemd(tmp_path: Path) -> None:
    """That of systemd's own tool, whose first connection starts the server; restarts keep the socket."""
    if not shutil.which("systemd-socket-activate"):
        pytest.skip("this machine has no systemd-socket-activate")
    log = tmp_path / "log"

    def activated() -> list[int]:
        command = ("systemd-socket-activate", f"--listen=127.0.0.1:{PORT}", "-E", "PYTHONPATH")
        program = (sys.executable, str(PROGRAMS["asyncio_server"]), "1")  # a port that it must not open
        with log.open("w") as errors, started(*command, *program, env=ENVIRONMENT, stderr=errors) as server:
            until(lambda: "Listening on" in log.read_text(), "systemd's socket")
            numbers: list[int] = []
            for number in range(3):
                while not numbers or numbers[-1] < number:
                    with connection() as sock:
                        numbers.append(ask(sock))
                server.send_signal(signal.SIGHUP)
            server.send_signal(signal.SIGTERM)
            assert server.wait(DEADLINE) == 0
        return sorted({*numbers})

    assert in_private_network(activated) == [0, 1, 2]
