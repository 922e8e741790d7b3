# SPDX-License-Identifier: MIT
"""mptcp-sockopt export where something is odd: addresses, files, signals, clocks, namespaces that go."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import testing
from mptcp_sockopt.cli import _serving, export
from mptcp_sockopt.cli._textfile import Textfile
from mptcp_sockopt.metrics import Metrics

from ..support import (
    DEADLINE,
    at_work,
    exchange,
    in_private_network,
    mptcp_pair,
    needs,
    needs_root,
    run,
    until,
)
from .exporting import EXPORT, ROOT, exporting, openmetrics, scraped, value


@pytest.fixture(autouse=True)
def _client() -> None:
    """Everything here needs prometheus_client."""
    pytest.importorskip("prometheus_client")


# ------------------------------------------------------------------------------------- where it serves


def test_a_port_without_an_address_is_every_address(mptcp: None) -> None:
    """:PORT, as Prometheus' own programs have it: IPv4 and IPv6."""
    with exporting("--listen", ":0") as (_, url):
        port = url.removesuffix("/metrics").rpartition(":")[2]
        hosts = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
        for host in hosts:
            assert value(scraped(f"http://{host}:{port}/metrics"), "mptcp_available") == 1


def test_a_link_local_address_with_its_interface(mptcp: None) -> None:
    """[fe80::1%lo]:0, whose scope the socket must have."""

    def look() -> None:
        testing.add_address("fe80::1")
        with exporting("--listen", "[fe80::1%lo]:0") as (_, url):
            port = int(url.removesuffix("/metrics").rpartition(":")[2])
            place = "fe80::1", port, 0, socket.if_nametoindex("lo")
            with socket.socket(socket.AF_INET6) as sock:
                sock.settimeout(DEADLINE)
                sock.connect(place)
                sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                assert sock.recv(100).startswith(b"HTTP/1.0 200 ")

    in_private_network(look)


def test_where_mptcp_is_off_it_says_so(mptcp: None) -> None:
    """net.mptcp.enabled=0: a metric, and no error."""

    def look() -> None:
        with exporting("--listen", "127.0.0.1:0") as (_, url):
            assert value(scraped(url), "mptcp_available") == 1
            Path("/proc/sys/net/mptcp/enabled").write_text("0")
            text = scraped(url)
            assert value(text, "mptcp_available") == 0
            assert value(text, 'mptcp_exporter_missing{what="connections"}') == 0
            assert len(openmetrics(scraped(url, "application/openmetrics-text"))) > 10

    in_private_network(look)


def test_a_scraper_that_sends_a_byte_now_and_then_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never silent for long, so only the whole time that it takes ends it; and that makes room."""
    monkeypatch.setattr(_serving, "LONGEST", 1.0)
    monkeypatch.setattr(_serving, "MOST", 2)

    def app(_: object, start: object) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])  # type: ignore[operator]
        return [b"page"]

    with contextlib.ExitStack() as held:
        server = held.enter_context(_serving.server(("127.0.0.1", 0), app))
        held.enter_context(at_work(server.serve_forever))
        held.callback(server.shutdown)
        address = server.server_name, server.server_port
        slow = [held.enter_context(socket.create_connection(address, DEADLINE)) for _ in range(2)]

        def has_room() -> bool:
            for sock in slow:
                with contextlib.suppress(OSError):
                    sock.send(b"G")
            with contextlib.suppress(OSError):
                return scraped(f"http://127.0.0.1:{server.server_port}/") == "page"
            return False

        assert not has_room()
        until(has_room, "room for another")


# -------------------------------------------------------------------------------------- what it writes


def test_two_exporters_on_one_file(tmp_path: Path, mptcp: None) -> None:
    """The second ends with 3, and the first goes on: of two, the counters would go backwards in turn."""
    file = tmp_path / "mptcp.prom"
    with exporting("--textfile", str(file), "--interval", "0.1"):
        for _ in range(2):
            second = run(*EXPORT, "--textfile", str(file), cwd=ROOT)
            assert second.returncode == 3
            assert f"cannot run here: another exporter writes {file}" in second.stderr
        before = file.stat().st_ino
        until(lambda: file.stat().st_ino != before, "another file")
    assert list(tmp_path.iterdir()) == []


def test_one_that_notices_later_leaves_the_file_alone(tmp_path: Path, mptcp: None) -> None:
    """Two that began at once: the one whose file was replaced ends, and does not remove the other's."""
    file, other = tmp_path / "mptcp.prom", tmp_path / "other"
    with exporting("--textfile", str(file), "--interval", "0.3", code=3) as (process, _):
        others = Textfile(str(other))
        others.write(b"other\n")
        os.rename(other, file)
        assert process.wait(DEADLINE) == 3
        assert file.read_text() == "other\n"
        others.remove()


def test_what_a_killed_one_left_is_replaced(tmp_path: Path, mptcp: None) -> None:
    """Its file, and the one beside it, which has the same process number, as in a container."""
    file = tmp_path / "mptcp.prom"
    with subprocess.Popen([*EXPORT, "--textfile", str(file)], cwd=ROOT, stderr=subprocess.DEVNULL) as killed:
        try:
            until(file.exists, "its file")
        finally:
            killed.kill()
    with exporting("--textfile", str(file), "--interval", "0.1") as (process, _):
        (tmp_path / f"{file.name}.{process.pid}.tmp").write_text("left")
        before = file.stat().st_ino
        until(lambda: file.stat().st_ino != before, "another file")
    assert list(tmp_path.iterdir()) == []


def test_what_stands_in_the_place_of_the_file(tmp_path: Path, mptcp: None) -> None:
    """A symbolic link and a FIFO are replaced, and what the link refers to is left alone; a folder is not."""
    file, elsewhere = tmp_path / "mptcp.prom", tmp_path / "elsewhere"
    elsewhere.write_text("precious\n")
    file.symlink_to(elsewhere)
    with exporting("--textfile", str(file)):
        assert not file.is_symlink()
        assert value(file.read_text(), "mptcp_available") == 1
    assert elsewhere.read_text() == "precious\n"
    os.mkfifo(file)
    with exporting("--textfile", str(file)):
        assert file.is_file()
    file.mkdir()
    refused = run(*EXPORT, "--textfile", str(file), cwd=ROOT)
    assert (refused.returncode, "Is a directory" in refused.stderr) == (3, True)
    assert sorted(tmp_path.iterdir()) == [elsewhere, file]


def test_a_disk_that_is_full_and_has_room_again(tmp_path: Path, mptcp: None) -> None:
    """A small file system of its own: said once, the old file is whole, and later there is a new one."""
    needs_root()
    mount = 'mount -t tmpfs -o size=128k none "$0" && exec "$@" --textfile "$0/mptcp.prom" --interval 0.1'
    command = [needs("unshare", "util-linux"), "--mount", "sh", "-c", mount, str(tmp_path), *EXPORT]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            while " every " not in (line := process.stderr.readline()):
                assert "missing: " in line, line
            folder = Path(f"/proc/{process.pid}/root{tmp_path}")
            file, filling = folder / "mptcp.prom", folder / "filling"
            with contextlib.suppress(OSError), open(filling, "wb", buffering=0) as sink:
                while True:
                    sink.write(bytes(4096))
            assert "No space left on device" in process.stderr.readline()
            whole = file.read_text()
            assert whole.endswith("\n")
            assert value(whole, "mptcp_available") == 1
            assert sorted(os.listdir(folder)) == ["filling", "mptcp.prom"]
            before = file.stat().st_ino
            filling.unlink()
            until(lambda: file.stat().st_ino != before, "another file")
            process.terminate()
            assert process.wait(DEADLINE) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


# --------------------------------------------------------------------------------------------- its end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_the_signals_that_end_it(tmp_path: Path, number: signal.Signals, mptcp: None) -> None:
    """With 0, and the file is removed."""
    with exporting("--textfile", str(tmp_path / "mptcp.prom")) as (process, _):
        process.send_signal(number)
        assert process.wait(DEADLINE) == 0
        assert list(tmp_path.iterdir()) == []


def test_what_nohup_ignores_is_ignored(tmp_path: Path, mptcp: None) -> None:
    """SIGHUP, and SIGINT in the background of a script; SIGTERM ends it."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    file = tmp_path / "mptcp.prom"
    with exporting("--textfile", str(file), "--interval", "0.1", preexec_fn=ignore) as (process, _):
        for number in (signal.SIGHUP, signal.SIGINT):
            process.send_signal(number)
            before = file.stat().st_ino
            until(lambda before=before: file.stat().st_ino != before, "another file")  # type: ignore[misc]


# ---------------------------------------------------------------------------------- clocks, namespaces


def test_a_wall_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch, mptcp: None) -> None:
    """To the future, to 1970 and before: pages are whole, no counter falls, and no duration is negative."""

    def look() -> None:
        steps = itertools.cycle([4e9, 0.0, -1e6, 1.7e9])
        monkeypatch.setattr(time, "time", lambda: next(steps))
        with mptcp_pair(socket.AF_INET) as ends, Metrics(events=False) as found, served(found) as url:
            before: dict[str, float] = {}
            for _ in range(5):
                exchange(*ends)
                text = scraped(url)
                now = totals(text)
                assert all(now[series] >= total for series, total in before.items())
                before = now
                assert not [line for line in text.splitlines() if line.rpartition(" ")[2].startswith("-")]
            assert value(text, "mptcp_exporter_look_gap_seconds") < DEADLINE
            assert sum(of for series, of in now.items() if "_seen_" in series) == 2

    in_private_network(look)


@contextlib.contextmanager
def served(found: Metrics) -> Iterator[str]:
    """Served in this process."""
    import prometheus_client

    app = prometheus_client.make_wsgi_app(export.registry_of(found))
    with _serving.server(("127.0.0.1", 0), app) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/metrics"
        finally:
            server.shutdown()
            thread.join(DEADLINE)


def totals(text: str) -> dict[str, float]:
    rows = [line.rpartition(" ") for line in text.splitlines() if "_total" in line and line[0] != "#"]
    return {series: float(number) for series, _, number in rows}


def test_a_namespace_that_goes(tmp_path: Path, mptcp: None) -> None:
    """Its interfaces, and who was in it: the exporter looks on, keeps totals, and ends in order."""
    file = tmp_path / "mptcp.prom"

    def look() -> None:
        with contextlib.ExitStack() as held:
            with testing.Paths(1) as paths:
                with paths.server:
                    server = held.enter_context(mp.create_server(("0.0.0.0", 0)))
                with paths.client:
                    held.enter_context(exporting("--textfile", str(file), "--interval", "0.1"))
                    address = paths.server_addresses[0], server.getsockname()[1]
                    client = held.enter_context(mp.create_connection(address, timeout=DEADLINE))
                accepted = held.enter_context(server.accept()[0])
                exchange(client, accepted, 5000)
                until(lambda: sum(of("mptcp_path_acked_bytes_total")) >= 5000, "its bytes")
            looks = sum(of("mptcp_exporter_looks_total"))
            until(lambda: sum(of("mptcp_exporter_looks_total")) > looks + 1, "looks without an interface")
            assert sum(of("mptcp_path_acked_bytes_total")) >= 5000
            assert sum(of("mptcp_exporter_failed_looks_total")) == 0

    def of(name: str) -> list[float]:
        lines = [line.rpartition(" ") for line in file.read_text().splitlines()]
        return [float(number) for series, _, number in lines if series.partition("{")[0] == name]

    in_private_network(look)
