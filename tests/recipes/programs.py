# SPDX-License-Identifier: MIT
"""redis, PostgreSQL and a server of grpcio: on TCP, and over MPTCP by ``mptcp-sockopt run``."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..support import DEADLINE, NOBODY, needs, started, until
from .environment import Environment

RUN = (sys.executable, "-m", "mptcp_sockopt", "run", "--")
HOSTS = ("127.0.0.1", "::1")


def free_port() -> int:
    """One that nobody listens on at the moment: these servers cannot be told to take any."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        return int(sock.getsockname()[1])


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        for host in HOSTS:
            socket.create_connection((host, port), 1).close()
        return True
    return False


@contextlib.contextmanager
def serving(port: int, *command: str, **options: object) -> Iterator[int]:
    """The process of a server, from when it listens until it has ended."""
    with (
        tempfile.TemporaryFile("w+") as output,
        started(*command, stdout=output, stderr=subprocess.STDOUT, **options) as server,
    ):
        try:
            until(lambda: _listens(port) or server.poll() is not None, f"{command} to listen")
            if server.poll() is not None:
                output.seek(0)
                raise AssertionError(f"{command} ended: {output.read()}")
            yield server.pid
        finally:
            server.terminate()  # killed, it would leave its workers
            server.wait(DEADLINE / 2)


@contextlib.contextmanager
def redis(*prefix: str) -> Iterator[int]:
    program, port = needs("redis-server", "redis-server"), free_port()
    words = ["--port", str(port), "--bind", *HOSTS, "--save", "", "--dir", "/", "--protected-mode", "no"]
    with serving(port, *prefix, program, *words):
        yield port


@contextlib.contextmanager
def postgresql(*prefix: str) -> Iterator[int]:
    """It refuses to run as root: nobody runs it then, but not the prefix, which may be out of his reach."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    programs = found[-1].parent if found else Path(needs("postgres", "postgresql")).parent
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        user: tuple[str, ...] = ()
        if os.geteuid() == 0:
            os.chown(home, NOBODY, NOBODY)
            user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        init = [*user, str(programs / "initdb"), "-D", f"{home}/data", "-A", "trust", "-U", "postgres"]
        subprocess.run([*init, "--no-sync"], check=True, stdout=subprocess.DEVNULL, cwd=home)
        words = ["-D", f"{home}/data", "-p", str(port), "-h", ",".join(HOSTS), "-k", home, "-c", "fsync=off"]
        with serving(port, *prefix, *user, str(programs / "postgres"), *words, cwd=home):
            yield port


GRPC = """
import sys, concurrent.futures, grpc

class Hello(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)

server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), handlers=[Hello()])
server.add_insecure_port("[::]:" + sys.argv[1])
server.start()
server.wait_for_termination()
"""


@contextlib.contextmanager
def grpcio(environment: Environment, *prefix: str) -> Iterator[int]:
    port = free_port()
    with serving(port, *prefix, *environment.command("-c", GRPC, str(port))):
        yield port


SERVERS = {"redis": redis, "postgresql": postgresql}
