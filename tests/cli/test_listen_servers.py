# SPDX-License-Identifier: MIT
"""Servers as they are behind mptcp-sockopt listen, and what their applications are told of clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import processes, testing

from ..boxes import Box, Segment, strip
from ..recipes.environment import ALL, SMALL, Environment, NoIndexError, environment, is_small, variables
from ..recipes.programs import free_port
from ..support import DEADLINE, Missing, at_work, in_private_network, needs, rounds, started, until

pytestmark = pytest.mark.slow

LISTEN = (sys.executable, "-m", "mptcp_sockopt", "listen")
ASGI, WSGI = "tests.cli.served:asgi", "tests.cli.served:wsgi"
#: By name: the distribution, and the words behind `python -m`.
SERVERS = {
    "uvicorn": ("uvicorn", ["uvicorn", "--fd", "{fd}", ASGI]),
    "uvicorn with workers": ("uvicorn", ["uvicorn", "--fd", "{fd}", "--workers", "2", ASGI]),
    "hypercorn": ("hypercorn", ["hypercorn", "--bind", "fd://{fd}", ASGI]),
    "gunicorn": ("gunicorn", ["gunicorn", WSGI]),
    "gunicorn with threads": ("gunicorn", ["gunicorn", "--bind", "fd://{fd}", "--threads", "2", WSGI]),
}
NAMES = [name for name, (distribution, _) in SERVERS.items() if not is_small() or distribution in SMALL]
CONNECT: dict[str, Callable[..., socket.socket]] = {
    "mptcp": mp.create_connection,
    "tcp": socket.create_connection,
}


@pytest.fixture(scope="session")
def _environment() -> Environment | str:
    try:
        return environment(SMALL if is_small() else ALL)
    except NoIndexError as error:
        return str(error)


@pytest.fixture
def home(_environment: Environment | str, tmp_path: Path, mptcp: None) -> tuple[Environment, Path]:
    """The Python that has the servers, and a folder for its links."""
    if isinstance(_environment, str):
        raise Missing(_environment)
    return _environment, tmp_path


def port_of(server: subprocess.Popen[str]) -> int:
    """Of its descriptor 3, once it is there: connections may come before the server accepts them."""
    found: list[int] = []

    def look() -> bool:
        assert server.poll() is None
        for owner in processes.iter_sockets(server.pid):
            with contextlib.suppress(OSError), processes.borrow(owner) as fd:
                if owner.fd == 3 and mp.status(fd) is mp.Status.LISTENING:
                    with socket.socket(fileno=os.dup(fd)) as sock:
                        found.append(sock.getsockname()[1])
        return bool(found)

    until(look, "a listener")
    return found[0]


@contextlib.contextmanager
def serving(home: tuple[Environment, Path], name: str, address: str = ":0") -> Iterator[int]:
    """Its port."""
    known, folder = home
    distribution, words = SERVERS[name]
    if distribution in known.gone:
        pytest.skip(f"the package index does not serve {distribution}")
    command = (*LISTEN, address, "--", *known.command("-m", *words))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with started(*command, env=variables(folder), cwd=folder, **quiet) as server:
        try:
            yield port_of(server)
        finally:  # it ends its workers, unless it is killed
            server.terminate()
            server.wait(DEADLINE)


def asked(connect: Callable[..., socket.socket], address: tuple[str, int], requests: int = 1) -> list[Any]:
    """The answers over one connection, and at the end what the client says of it."""
    client = http.client.HTTPConnection(*address)
    with connect(address, DEADLINE) as client.sock:
        found = []
        for _ in range(requests):
            client.request("GET", "/")
            found.append(json.loads(client.getresponse().read()))
        return found


@pytest.mark.parametrize("name", NAMES)
def test_what_an_application_is_told(name: str, home: tuple[Environment, Path]) -> None:
    """What the socket of the server says, for MPTCP and TCP clients of both families."""
    with serving(home, name) as port:
        for host in ("127.0.0.1", "::1"):
            for status, connect in CONNECT.items():
                for _ in range(3):
                    assert asked(connect, (host, port)) == [{"told": status, "own": [status]}]


def test_nginx(tmp_path: Path, mptcp: None) -> None:
    """It takes the listener by the variable NGINX; both families, MPTCP and TCP."""
    nginx, port = needs("nginx", "nginx"), free_port()
    (tmp_path / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {tmp_path}/pid; error_log stderr;
        events {{ }}
        http {{
            access_log off; client_body_temp_path {tmp_path}/a; proxy_temp_path {tmp_path}/b;
            fastcgi_temp_path {tmp_path}/c; uwsgi_temp_path {tmp_path}/d; scgi_temp_path {tmp_path}/e;
            server {{ listen [::]:{port} ipv6only=off; location / {{ return 200 "$remote_addr"; }} }}
        }}""")
    words = ("env", "NGINX={fd};", nginx, "-c", str(tmp_path / "nginx.conf"))
    with started(*LISTEN, f":{port}", "--", *words, stderr=subprocess.DEVNULL) as server:
        try:
            assert port_of(server) == port
            for host in ("127.0.0.1", "::1"):
                for status, connect in CONNECT.items():
                    client = http.client.HTTPConnection(host, port)
                    with connect((host, port), DEADLINE) as client.sock:
                        for _ in range(2):
                            client.request("GET", "/")
                            answer = client.getresponse().read().decode()
                            assert answer.removeprefix("::ffff:") == host
                        assert mp.status(client.sock).value == status
        finally:
            server.terminate()
            server.wait(DEADLINE)


def test_a_thousand_requests_of_mixed_clients(home: tuple[Environment, Path]) -> None:
    """Each is told what its socket says, while others come and go."""
    wrong: list[Any] = []
    left, count = [rounds(1000)], [0]
    lock = threading.Lock()
    with serving(home, "uvicorn") as port:

        def ask(seed: int) -> None:
            drawn = random.Random(seed)
            while left[0] > 0:
                requests = drawn.randint(1, 5)
                status, host = drawn.choice([*CONNECT]), drawn.choice(["127.0.0.1", "::1"])
                found = asked(CONNECT[status], (host, port), requests)
                with lock:
                    left[0] -= requests
                    count[0] += requests
                    wrong.extend(one for one in found if one != {"told": status, "own": [status]})

        with contextlib.ExitStack() as stack:
            for seed in range(6):
                stack.enter_context(at_work(ask, seed))
    assert (wrong, count[0] >= rounds(1000)) == ([], True)


#: What happens to a client on its way, by the remainder of its port.
BOXES = (
    None,
    Box(strip, to_server=True, syn=True),
    Box(strip, to_server=False, syn=True),
    Box(strip, to_server=True, syn=False),
    Box(strip, to_server=False, syn=False),
)


#: What the client's socket says, and what the application is told.
BOTH = {("mptcp", "mptcp"), ("fallback", "tcp")}


def alter(frame: bytes, to_server: bool) -> bytes | None:
    segment = Segment(frame)
    if not segment.is_tcp:
        return frame
    at = segment.at if to_server else segment.at + 2
    box = BOXES[int.from_bytes(frame[at : at + 2], "big") % len(BOXES)]
    return box(frame, to_server) if box else frame


def test_clients_that_fall_back_on_the_way(home: tuple[Environment, Path], family: int) -> None:
    """Whatever a middlebox does, the application is told what its socket says: this end's view."""

    def inside() -> tuple[list[Any], set[tuple[str, str]]]:
        wrong, seen = [], set[tuple[str, str]]()
        with testing.Paths(1, family=family) as paths, contextlib.ExitStack() as stack:
            with paths.server:
                port = stack.enter_context(serving(home, "uvicorn"))
            paths.alter(0, alter)
            address = paths.server_addresses[0], port
            with paths.client:
                for number in range(100):
                    if number >= rounds(100) and seen >= BOTH:
                        break
                    client = http.client.HTTPConnection(*address)
                    with mp.create_connection(address, DEADLINE) as client.sock:
                        for _ in range(2):
                            client.request("GET", "/")
                            found = json.loads(client.getresponse().read())
                            if [found["told"]] != found["own"]:
                                wrong.append(found)
                            seen.add((mp.status(client.sock).value, found["told"]))
        return wrong, seen

    wrong, seen = in_private_network(inside, within=10 * DEADLINE)
    assert wrong == []
    assert seen >= BOTH
