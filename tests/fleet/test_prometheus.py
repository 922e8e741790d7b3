# SPDX-License-Identifier: MIT
"""A real Prometheus scrapes the exporter: queries, alerts that fire and resolve, and figures that add up."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing

from ..cli.exporting import openmetrics, plain, promtool, scraped
from ..net import alter
from ..support import DEADLINE, at_work, exchange, in_private_network, needs, rounds, until
from .prometheus import DEPLOY, EXPORTER, Prometheus, exporter, page, prometheus

pytestmark = pytest.mark.slow
INTERVAL = 2  # seconds, between two scrapes and between two evaluations
ALERT = 'ALERTS{alertname="MPTCPAddressStalled",alertstate="firing"}[5m]'


@pytest.fixture(autouse=True)
def _programs() -> None:
    """Everything here needs these."""
    pytest.importorskip("prometheus_client")
    needs("prometheus", "prometheus")


def dashboard() -> dict[str, str]:
    """The queries of the dashboard, with its variables replaced as Grafana does, by panel and letter."""
    found = {}
    for panel in json.loads((DEPLOY / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            query = re.sub(r"\$(instance|address)", ".*", target["expr"]).replace("$__rate_interval", "10s")
            assert "$" not in query
            found[f"{panel['title']} {target['refId']}"] = query
    return found


class Traffic:
    """Connections over both paths, in which something is always under way."""

    def __init__(self, paths: testing.Paths, count: int) -> None:
        self._over = threading.Event()
        self._paths = paths
        with paths.server:
            self.server = mp.create_server(("0.0.0.0", 0))
        self.address = paths.server_addresses[0], self.server.getsockname()[1]
        self.ends = [self.connect() for _ in range(count)]

    def connect(self) -> tuple[socket.socket, socket.socket]:
        with self._paths.client:
            client = mp.create_connection(self.address, timeout=DEADLINE)
        accepted, _ = self.server.accept()
        exchange(client, accepted)
        return client, accepted

    @contextlib.contextmanager
    def flowing(self) -> Iterator[None]:
        """A little in each connection, forty times a second, whatever becomes of it."""
        for pair in self.ends:
            for sock in pair:
                sock.setblocking(False)

        def flow() -> None:
            while not self._over.wait(0.025):
                for client, accepted in list(self.ends):
                    for one in (client, accepted):
                        with contextlib.suppress(OSError):
                            one.send(b"x" * 2000)
                        with contextlib.suppress(OSError):
                            one.recv(1 << 17)

        with at_work(flow) as thread:
            try:
                yield
            finally:
                self._over.set()
                thread.join(DEADLINE)
                for pair in self.ends:
                    for sock in pair:
                        sock.close()
                self.server.close()


def within(seen: Prometheus, alert: str, fires: bool) -> None:
    until(lambda: (alert in seen.firing()) == fires, f"{alert} {'fires' if fires else 'is resolved'}")


def test_a_path_that_is_cut_and_a_fallback_storm(tmp_path: Path, mptcp: None) -> None:
    """The alert of the address fires within two evaluations and resolves; the right class rises; and every
    query of the dashboard has an answer."""

    def look() -> None:
        with testing.Paths(2, delay=0.002) as paths:
            paths.shape(1, delay=0.02)  # so that the other is preferred
            traffic = Traffic(paths, 6)
            for client, _ in traffic.ends:
                testing.wait_for(client, subflows=2, within=20)
            with (
                traffic.flowing(),
                paths.client,
                exporter("--interval", "0.5"),
                prometheus(tmp_path, f"{INTERVAL}s", wait="4s") as seen,
            ):
                until(lambda: seen.total('mptcp_paths{state="live"}') == 12, "twelve live paths")
                assert seen.firing() == set()

                cut = time.time()
                paths.cut(0)
                within(seen, "MPTCPAddressStalled", True)
                took = evaluations(seen)
                all_of_it = (first(seen, ALERT, 1) - cut) / INTERVAL
                print(f"evaluation intervals: {took:.2f} from the scrape, {all_of_it:.2f} from the cut")
                assert took <= 2
                paths.restore(0)
                within(seen, "MPTCPAddressStalled", False)

                with paths.server:
                    alter("tcp flags & (syn | ack) == syn reset tcp option mptcp")
                for _ in range(10):
                    traffic.ends.append(traffic.connect())
                    for sock in traffic.ends[-1]:
                        sock.setblocking(False)
                until(lambda: seen.total("mptcp_fallbacks_total") == 10, "ten fallbacks")
                classes = {dict(labels)["reason"] for labels in seen.query("mptcp_fallbacks_total > 0")}
                assert classes == {"no_option_in_answer"}
                within(seen, "MPTCPFallbackShareHigh", True)

                queries = dashboard()
                with accepting_tcp() as port:
                    until(lambda: not silent(seen, queries), "an answer to every query")
                    until(
                        lambda: seen.total(f'mptcp_accepted_as_tcp_total{{port="{port}"}}') == 1, "its client"
                    )
                    assert seen.total(f'mptcp_listener_queue{{port="{port}"}}') == 1
                # Without the rules, a query of a name that there is not has no answer either: so it can fail.
                assert seen.query("mptcp_connectionz") == {}

    in_private_network(look, within=300)


@contextlib.contextmanager
def accepting_tcp() -> Iterator[int]:
    """An MPTCP listener here, and a client that came by TCP and waits in its queue: the port."""
    with mp.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        yield server.getsockname()[1]


def silent(seen: Prometheus, queries: dict[str, str]) -> set[str]:
    """The queries that have no answer."""
    return {name for name, query in queries.items() if not seen.query(query)}


def evaluations(seen: Prometheus) -> float:
    """How many evaluation intervals it took from the scrape that saw three stalled paths to the alert."""
    stalled = first(seen, 'mptcp_paths{state="stalled"}[5m]', 3)
    return (first(seen, ALERT, 1) - stalled) / INTERVAL


def first(seen: Prometheus, query: str, least: float) -> float:
    """When a series first had this value or more."""
    return min(at for _, samples in seen.matrix(query) for at, value in samples if value >= least)


def test_connections_that_come_and_go(tmp_path: Path, mptcp: None) -> None:
    """Of 20,000 in two minutes, no counter was ever reset, totals are what the programs counted, the number
    of series is that of few connections, memory stays, and every page is clean."""
    count = rounds(20_000)

    def look() -> None:
        with exporter("--interval", "0.5"), prometheus(tmp_path) as seen:
            received, series = churn(count, 120 * count / 20_000)
            until(lambda: not mp.mptcp_diag(subflows=True), "the end of the connections")
            scrapes = seen.total("scrape_samples_scraped")
            until(lambda: seen.total("mptcp_connections") == 0, "a scrape after the end")
            window = "[15m]"
            counters = seen.matrix(f'{{__name__=~"mptcp.*(_total|_bucket|_count|_sum)"}}{window}')
            assert len(counters) > 100
            assert [labels for labels, samples in counters if resets(samples)] == []
            ratio = seen.total("mptcp_received_bytes_total") / received
            unseen = seen.total("mptcp_exporter_unseen_connections_total")
            events = seen.total('mptcp_events_total{event="created"}')
            found = seen.total("mptcp_connections_seen_total")
            kernels = seen.total('mptcp_kernel_total{counter="MPCapableSYNTX"}')
            memory = seen.matrix(f"mptcp_exporter_resident_memory_bytes{window}")[0][1]
            middle, end = memory[len(memory) // 3][1], memory[-1][1]
            found, events = found / 2 / count, events / 2 / count
            print(f"of the bytes {ratio:.4f}; of the connections {found:.4f}, by events {events:.4f}")
            print(f"memory from a third to the end {end / middle:.3f}; unseen {unseen:g}")
            print(f"samples {scrapes:g}, with the first ten connections {series}")
            assert kernels == count
            assert abs(ratio - 1) < 0.01
            assert abs(found - 1) < 0.01
            assert events == 1
            assert unseen <= 0.01 * 2 * count
            assert end / middle < 1.1
            assert scrapes <= series + 20

    in_private_network(look, within=600)


def resets(samples: list[tuple[float, float]]) -> int:
    """As the function of Prometheus, for a single series."""
    values = [value for _, value in samples]
    return sum(now < before for before, now in itertools.pairwise(values))


def churn(count: int, seconds: float) -> tuple[int, int]:
    """Connections that last 1.5 s: the bytes that both ends received, and the samples that ten make."""
    received, samples, hold = 0, 0, 1.5
    held: collections.deque[tuple[float, socket.socket, socket.socket]] = collections.deque()
    began = time.monotonic()
    with mp.create_server(("127.0.0.1", 0), backlog=1024) as server:
        for number in range(count):
            due = began + number * seconds / count
            time.sleep(max(0.0, due - time.monotonic()))
            while held and held[0][0] < time.monotonic():
                for sock in held.popleft()[1:]:
                    sock.close()
            client = mp.create_connection(server.getsockname())
            accepted, _ = server.accept()
            exchange(client, accepted, 1000)
            received += 2000
            held.append((time.monotonic() + hold, client, accepted))
            if number == 10:
                samples = len(re.findall(r"^\w", page(), re.MULTILINE))
            if number % 1000 == 999:
                assert_clean()
        time.sleep(hold)
        for _, *ends in held:
            for sock in ends:
                sock.close()
    return received, samples


def assert_clean() -> None:
    """Both formats, to the parsers of prometheus_client and to promtool."""
    text = page()
    found = scraped(f"http://{EXPORTER}/metrics", "application/openmetrics-text")
    assert len(openmetrics(found)) == len(plain(text)) > 20
    checked = promtool("check", "metrics", text=text)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
