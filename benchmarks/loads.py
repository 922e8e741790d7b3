# SPDX-License-Identifier: MIT
"""What a load costs that `reuseport` puts on a server: against threads, and against C."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from mptcp_sockopt import testing
from reuseport.load import Client, Loader, Plan, Report, Request, Target

from . import fixtures
from .measure import Measured, Scale, in_turns, spread

_RATE, _AT_ONCE = 1000, 48
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: floors\r\nDate: Mon, 30 Nov 2026 22:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
)
_REQUEST = Request().wire()


@contextmanager
def served() -> Iterator[int]:
    """The port of a server in C, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        serve = partial(fixtures.c_library("loads").load_serve, listener.fileno(), _ANSWER, len(_ANSWER))
        with testing.Child(serve):
            yield listener.getsockname()[1]


def asked(port: int) -> None:
    """One connection, as a thread makes it."""
    with socket.create_connection(("127.0.0.1", port), fixtures.PATIENCE) as sock:
        sock.sendall(_REQUEST)
        answer = b""
        while len(answer) < len(_ANSWER):
            data = sock.recv(1 << 16)
            if not data:
                raise RuntimeError("the server in C does not answer")
            answer += data


def threads(port: int, count: int) -> float:
    """CPU of one connection, in ns: threads of a pool make them at a rate, and one hands them out."""

    def load() -> float:
        begun = time.process_time_ns()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            due = time.monotonic()
            done = []
            for _ in range(count):
                time.sleep(max(0.0, due - time.monotonic()))
                done.append(pool.submit(asked, port))
                due += 1 / _RATE
            for one in done:
                one.result()
        return (time.process_time_ns() - begun) / count

    return testing.in_child(load)


def loaded(plan: Plan) -> Report:
    """To the end."""
    with Loader([plan]) as loader:
        while not loader.done and not loader.failed:
            time.sleep(0.01)
        report = loader.stop()
    if report.tally.good != plan.total:
        raise RuntimeError(f"not everybody was served: {report.tally.outcomes}")
    return report


def loader_cpu(port: int, count: int) -> float:
    """The same of our loader."""
    target = Target(("127.0.0.1", port), socket.AF_INET)
    return loaded(Plan(Client.PLAIN, (target,), _RATE, total=count)).cpu * 1e9 / count


def in_python(port: int, count: int) -> tuple[float, float]:
    """Time and CPU of one connection, in ns, a number of them at once."""
    target = Target(("127.0.0.1", port), socket.AF_INET)
    report = loaded(Plan(Client.PLAIN, (target,), None, at_once=_AT_ONCE, total=count))
    return report.seconds * 1e9 / count, report.cpu * 1e9 / count


def in_c(port: int, count: int) -> tuple[float, float]:
    """The same in C."""

    def load() -> tuple[float, float]:
        run: Callable[..., int] = fixtures.c_library("loads").load_run
        begun, used = time.perf_counter_ns(), time.process_time_ns()
        if run(port, _AT_ONCE, count, _REQUEST, len(_REQUEST), len(_ANSWER)) != count:
            raise RuntimeError("the load in C was not served")
        return (time.perf_counter_ns() - begun) / count, (time.process_time_ns() - used) / count

    return testing.in_child(load)


def loads(scale: Scale) -> Measured:
    """T28 and T28c."""
    found = Measured()
    with served() as port:
        few, many = min(500, scale.connections), min(5000, 10 * scale.connections)
        ways = {"threads": partial(threads, port, few), "loader": partial(loader_cpu, port, few)}
        in_turns(ways, 1)  # cold
        found.ratios.update(in_turns(ways, scale.few).table({"T28": "loader / threads"}))
        pairs = [(in_c(port, many), in_python(port, many)) for _ in range(scale.few)]
        found.ratios["T28c"] = spread([c[0] / python[0] for c, python in pairs])
        found.ratios["T28p"] = spread([c[1] / python[1] for c, python in pairs])
    return found
