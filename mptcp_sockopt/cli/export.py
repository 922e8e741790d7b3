# SPDX-License-Identifier: MIT
"""``mptcp-sockopt export``: metrics of the MPTCP connections here, for Prometheus."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import mptcp_sockopt as mp
from mptcp_sockopt import metrics

from ._outcome import PASS, CannotRun, Parser, between, escaped, host_and_port, need_streams, port
from ._serving import Server, server
from ._table import parsed
from ._textfile import Textfile

NAME = "mptcp-sockopt export"
LISTEN = ("127.0.0.1", 10262)
#: Looks take at most this part of one processor.
SHARE = 1 / 20
#: How often events are read, in seconds: the kernel keeps some thousands.
_EVENTS = 1.0
#: What the command adds to the rows of metrics.
HELP = {
    "mptcp_exporter_cpu_seconds_total": "CPU time of the exporter's process.",
    "mptcp_exporter_resident_memory_bytes": "Memory of the exporter's process.",
    "mptcp_exporter_info": "The exporter's version.",
}
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PAGE = os.sysconf("SC_PAGE_SIZE")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = Parser(
        prog=NAME,
        description="Serve metrics of the MPTCP connections of this network namespace to Prometheus, or "
        "write them for node_exporter: connections, fallbacks by class, paths by local address, bytes, "
        "round-trip times, and the kernel's counters. Needs prometheus_client: "
        "pip install 'mptcp-sockopt[metrics]'. No privilege is needed, except CAP_NET_ADMIN to count "
        "events; mptcp_exporter_missing says what cannot be seen. docs/fleet.md has the metrics, rules and a "
        "dashboard. SIGTERM, SIGINT or SIGHUP ends it.",
        epilog="Exit status: 0 ended by a signal, 2 usage, 3 it cannot serve or write here.",
    )
    where = made.add_mutually_exclusive_group()
    where.add_argument(
        "--listen",
        metavar="ADDR:PORT",
        type=host_and_port,
        default=LISTEN,
        help=f"serve http://ADDR:PORT/metrics (default {LISTEN[0]}:{LISTEN[1]}); PORT 0 is any free one, "
        "and without ADDR it is every address of this host",
    )
    where.add_argument(
        "--textfile",
        metavar="FILE",
        type=_textfile,
        help="write FILE, which ends in .prom, for the textfile collector of node_exporter; it is removed at "
        "the end",
    )
    made.add_argument(
        "--port",
        metavar="P",
        type=port,
        action="append",
        default=[],
        help="only connections and listeners with port P; can be repeated",
    )
    made.add_argument(
        "--interval",
        metavar="S",
        type=between(float, 0.1, 3600),
        default=5.0,
        help="look every S seconds (default 5), also between scrapes: a connection that is shorter can be "
        "missed. It looks less often where that would take more than a twentieth of a processor",
    )
    return made


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    options = parsed(parser(), argv)
    need_streams("stderr")
    _client()
    gc.set_threshold(100_000)  # a look makes thousands of tuples, none of them in a cycle
    with _ended_by_signals() as stop, metrics.Metrics(options.port) as found:
        found.look()
        for part, sentence in found.missing.items():
            _say(f"missing: {part}: {sentence}")
        if options.textfile:
            _write_on(found, options, stop)
        else:
            _serve(found, options, stop)
    return PASS


def _serve(found: metrics.Metrics, options: argparse.Namespace, stop: int) -> None:
    app = _client().make_wsgi_app(registry_of(found))
    try:
        serving = server(options.listen, app)
    except OSError as error:
        host, number = options.listen
        raise CannotRun(f"{_shown(host, number)}: {error.strerror or error}") from None
    with serving, _running(serving):
        _say(f"http://{_shown(serving.server_name, serving.server_port)}/metrics")
        for _ in _looks(found, options.interval, stop):
            pass


def _write_on(found: metrics.Metrics, options: argparse.Namespace, stop: int) -> None:
    registry, file, failure = registry_of(found), Textfile(options.textfile), ""
    generate = _client().generate_latest
    file.write(generate(registry))  # or it cannot run here
    _say(f"{options.textfile} every {options.interval:g} s")
    try:
        for _ in _looks(found, options.interval, stop, look=False):
            try:
                file.write(generate(registry))
                failure = ""
            except OSError as error:  # the old file stays: a full disk may have room again
                if str(error) != failure:
                    failure = str(error)
                    _say(failure)
    finally:
        file.remove()  # numbers that nobody keeps up would be believed


def _looks(found: metrics.Metrics, interval: float, stop: int, *, look: bool = True) -> Iterator[None]:
    """Look every interval until stop can be read; and read events in between."""
    due = time.monotonic() + interval
    while not select.select([stop], [], [], max(0.0, min(due - time.monotonic(), _EVENTS)))[0]:
        found.read_events()
        if time.monotonic() < due:
            continue
        began, cpu = time.monotonic(), time.process_time()
        if look:
            found.look()
        yield
        due = began + max(interval, (time.process_time() - cpu) / SHARE)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[int]:
    """A descriptor that can be read once a signal came.

    The handler may interrupt any line of this thread, so it must not take a lock, as threading.Event does.
    """
    stop, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def note(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(write, b".")

    before = {number: signal.getsignal(number) for number in _ENDING}
    for number in _ENDING:
        if number == signal.SIGTERM or before[number] is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(stop)
        os.close(write)


@contextlib.contextmanager
def _running(serving: Server) -> Iterator[None]:
    thread = threading.Thread(target=serving.serve_forever, name="scrapes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        serving.shutdown()
        thread.join()


# --------------------------------------------------------------------------------------------- prometheus


def registry_of(found: metrics.Metrics) -> Any:
    """A registry of prometheus_client that collects from found."""
    registry = _client().CollectorRegistry()
    registry.register(Collector(found))
    return registry


class Collector:
    """A collector of prometheus_client."""

    def __init__(self, found: metrics.Metrics) -> None:
        self._found = found

    def describe(self) -> list[Any]:
        """Nothing: a registry would look here and now, to know the names."""
        return []

    def collect(self) -> Iterator[Any]:
        """The rows as metric families."""
        core, families = importlib.import_module("prometheus_client.core"), dict[str, Any]()
        kinds = {
            "counter": core.CounterMetricFamily,
            "gauge": core.GaugeMetricFamily,
            "histogram": core.HistogramMetricFamily,
        }
        for row in [*self._found.collect(), *_own_rows()]:
            family = families.get(row.name)
            if family is None:
                text = metrics.HELP.get(row.name) or HELP[row.name]
                family = families[row.name] = kinds[row.kind](row.name, text, labels=list(row.labels))
            values = list(row.labels.values())
            if isinstance(row.value, metrics.Distribution):
                family.add_metric(values, buckets=row.value.buckets(), sum_value=row.value.sum)
            else:
                family.add_metric(values, row.value)
        yield from families.values()


def _own_rows() -> Iterator[metrics.Row]:
    with contextlib.suppress(OSError), open("/proc/self/statm", "rb") as file:
        resident = int(file.read().split()[1]) * _PAGE
        yield metrics.Row("mptcp_exporter_resident_memory_bytes", "gauge", {}, resident)
    yield metrics.Row("mptcp_exporter_cpu_seconds_total", "counter", {}, time.process_time())
    yield metrics.Row("mptcp_exporter_info", "gauge", {"version": mp.__version__}, 1)


def _client() -> Any:
    try:
        return importlib.import_module("prometheus_client")
    except ImportError:
        raise CannotRun("export needs prometheus_client: pip install 'mptcp-sockopt[metrics]'") from None


# ------------------------------------------------------------------------------------------------- words


def _textfile(text: str) -> str:
    if not text.endswith(".prom"):
        raise argparse.ArgumentTypeError(
            f"{text!r} does not end in .prom, so node_exporter would not read it"
        )
    return text


def _shown(host: str, number: int) -> str:
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads standard error
        print(f"{NAME}: {escaped(sentence)}", file=sys.stderr, flush=True)
