# SPDX-License-Identifier: MIT
"""mptcp-sockopt export: served and written, clean to promtool, and whole whatever is done to it."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import cli
from mptcp_sockopt.cli import _serving

from ..support import (
    DEADLINE,
    at_work,
    become_nobody,
    exchange,
    in_private_network,
    mptcp_pair,
    needs_root,
    run,
    until,
)
from .exporting import EXPORT, ROOT, exporting, openmetrics, plain, promtool, scraped, value


@pytest.fixture(autouse=True)
def _client() -> None:
    """Everything here needs prometheus_client."""
    pytest.importorskip("prometheus_client")


def test_it_serves_what_there_is(mptcp: None) -> None:
    """Both formats, clean to promtool and to the parsers of prometheus_client; SIGTERM ends it with 0."""

    def look() -> None:
        with mptcp_pair(socket.AF_INET) as ends, exporting("--listen", "127.0.0.1:0") as (_, url):
            exchange(*ends, 1000)
            text = scraped(url)
            port = ends[1].getsockname()[1]
            assert value(text, f'mptcp_connections{{family="ipv4",port="{port}",status="mptcp"}}') == 1
            assert value(text, f'mptcp_received_bytes_total{{family="ipv4",port="{port}"}}') == 1000
            assert value(text, 'mptcp_path_rtt_seconds_count{address="127.0.0.1",family="ipv4"}') >= 2
            assert value(text, "mptcp_exporter_resident_memory_bytes") > 1e6
            assert {family.name for family in plain(text)} >= {"mptcp_paths", "mptcp_kernel"}
            found = scraped(url, "application/openmetrics-text")
            assert found.endswith("# EOF\n")
            assert len(openmetrics(found)) == len(plain(text))
            checked = promtool("check", "metrics", text=text)
            assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

    in_private_network(look)


def test_it_looks_between_scrapes(mptcp: None) -> None:
    """A connection that was over before the scrape is among the totals of the scrape."""

    def look() -> None:
        with exporting("--listen", "127.0.0.1:0", "--interval", "0.1") as (_, url):
            looks = value(scraped(url), "mptcp_exporter_looks_total")
            with mptcp_pair(socket.AF_INET) as ends:
                exchange(*ends, 5000)
                port = ends[1].getsockname()[1]
                token = mp.mptcp_info(ends[0]).token
                until(lambda: value(scraped(url), "mptcp_exporter_looks_total") > looks + 2, "some looks")
                assert token
            until(lambda: not mp.mptcp_diag(subflows=True), "the end of the connection")
            text = scraped(url)
            assert value(text, f'mptcp_received_bytes_total{{family="ipv4",port="{port}"}}') == 5000
            assert value(text, f'mptcp_connections{{family="ipv4",port="{port}",status="mptcp"}}') == 0

    in_private_network(look)


def test_a_textfile_is_replaced_and_removed_at_the_end(tmp_path: Path, mptcp: None) -> None:
    """World-readable whatever the umask, another file at each look, nothing beside it."""
    file = tmp_path / "mptcp.prom"

    def look() -> None:
        os.umask(0o077)
        with exporting("--textfile", str(file), "--interval", "0.1") as (_, said):
            assert said == f"{file} every 0.1 s"
            first = file.stat()
            assert first.st_mode & 0o777 == 0o644
            until(lambda: file.stat().st_ino != first.st_ino, "another file")
            text = file.read_text()
            assert value(text, "mptcp_available") == 1
            assert text.endswith("\n")
        assert list(tmp_path.iterdir()) == []

    in_private_network(look)


def test_where_it_cannot_write_the_old_file_stays(tmp_path: Path, mptcp: None) -> None:
    """At the start: exit code 3 and a sentence. Later: it says so once, goes on, and the file is whole."""
    file = tmp_path / "mptcp.prom"
    file.write_text("old\n")
    refused = run(*EXPORT, "--textfile", str(tmp_path / "nowhere" / "mptcp.prom"), cwd=ROOT)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "cannot run here: [Errno 2] No such file" in refused.stderr

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as a disk that is full after 1,000 bytes
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    full = subprocess.run(
        [*EXPORT, "--textfile", str(file)], cwd=ROOT, capture_output=True, text=True, preexec_fn=limited
    )
    assert full.returncode == 3, full
    assert "File too large" in full.stderr
    assert file.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [file]

    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "mptcp.prom"
    with exporting("--textfile", str(file), "--interval", "0.1") as (process, _):
        whole = file.stat().st_size
        assert process.stderr is not None
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
        line = process.stderr.readline()
        assert "File too large" in line
        assert file.stat().st_size >= whole > 1000
        assert os.listdir(folder) == ["mptcp.prom"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--textfile", "mptcp.txt"], "does not end in .prom"),
        (["--listen", "127.0.0.1"], "is not HOST:PORT"),
        (["--listen", "::1:80"], "is written in brackets"),
        (["--listen", "127.0.0.1:1", "--textfile", "a.prom"], "not allowed with"),
        (["--interval", "0.01"], "is not a number from 0.1 to 3600"),
        (["--port", "0"], "is not a port number"),
    ],
)
def test_usage(words: list[str], sentence: str) -> None:
    """Exit code 2, and a sentence."""
    done = run(*EXPORT, *words, cwd=ROOT)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_a_port_in_use(mptcp: None) -> None:
    """The second exporter ends with 3, and the first goes on; where there is no such address, too."""
    with exporting("--listen", "127.0.0.1:0") as (_, url):
        place = url.removeprefix("http://").removesuffix("/metrics")
        second = run(*EXPORT, "--listen", place, cwd=ROOT)
        assert second.returncode == 3
        assert f"cannot run here: {place}: Address already in use" in second.stderr
        assert value(scraped(url), "mptcp_available") == 1
    elsewhere = run(*EXPORT, "--listen", "192.0.2.1:0", cwd=ROOT)
    assert (elsewhere.returncode, "Cannot assign" in elsewhere.stderr) == (3, True)


def test_fifty_scrapers_some_that_hang_and_some_that_send_anything(mptcp: None) -> None:
    """All fifty get the whole page, and share looks; afterwards it still serves."""
    with exporting("--listen", "127.0.0.1:0", "--interval", "60") as (_, url), contextlib.ExitStack() as held:
        host, _, port = url.removeprefix("http://").removesuffix("/metrics").rpartition(":")
        address = host, int(port)
        for data in (b"", b"GET /metrics HTT", b"\0\xff\r\n\r\n", b"GET " + b"x" * 70_000 + b"\r\n\r\n"):
            for _ in range(3):
                sock = held.enter_context(socket.create_connection(address, DEADLINE))
                with contextlib.suppress(OSError):
                    sock.sendall(data)
        reset = socket.create_connection(address, DEADLINE)
        reset.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        reset.close()
        pages: list[str] = []
        threads = [
            threading.Thread(target=lambda: pages.append(scraped(url)), daemon=True) for _ in range(50)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert len(pages) == 50
        assert all(value(page, "mptcp_available") == 1 for page in pages)
        assert value(scraped(url), "mptcp_exporter_looks_total") <= 60


def test_a_request_without_end_takes_no_memory(mptcp: None) -> None:
    """No more than MOST_BYTES of it is read: then it is answered, or the connection is closed."""
    with exporting("--listen", "127.0.0.1:0", "--interval", "60") as (_, url):
        host, _, port = url.removeprefix("http://").removesuffix("/metrics").rpartition(":")
        with socket.create_connection((host, int(port)), DEADLINE) as sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\n")
            sent, header = 0, b"X: " + b"x" * 4000 + b"\r\n"
            with contextlib.suppress(ConnectionError):
                while not select.select([sock], [], [], 0)[0]:
                    sock.sendall(header)
                    sent += len(header)
                assert sock.recv(12) == b"HTTP/1.0 200"
            assert sent < 20 * _serving.MOST_BYTES + (4 << 20)  # the rest is in buffers of the kernel
        assert value(scraped(url), "mptcp_available") == 1


def test_more_connections_than_it_serves_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is silent for too long is closed, which makes room."""
    monkeypatch.setattr(_serving, "PATIENCE", 0.5)
    monkeypatch.setattr(_serving._Handler, "timeout", 0.5)
    monkeypatch.setattr(_serving, "MOST", 2)

    def app(_: object, start: object) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])  # type: ignore[operator]
        return [b"page"]

    with _serving.server(("127.0.0.1", 0), app) as server, contextlib.ExitStack() as held:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            address = server.server_name, server.server_port
            silent = [held.enter_context(socket.create_connection(address, DEADLINE)) for _ in range(3)]
            assert silent[2].recv(1) == b""
            began = time.monotonic()
            assert silent[0].recv(1) == silent[1].recv(1) == b""
            assert time.monotonic() - began > 0.2
            assert scraped(f"http://127.0.0.1:{server.server_port}/") == "page"
        finally:
            server.shutdown()
            thread.join(DEADLINE)


def test_as_nobody_it_says_what_is_missing(mptcp: None) -> None:
    """On standard error and as a metric; everything else is served."""
    needs_root()

    def look() -> str:
        import prometheus_client  # which nobody may perhaps not read

        assert prometheus_client
        become_nobody()
        reading, writing = os.pipe()
        sys.stderr = open(writing, "w")  # noqa: SIM115  # until the process ends
        pages: list[str] = []

        def scrape() -> None:
            with open(reading) as lines:
                said = [lines.readline()]
                while "http://" not in said[-1]:
                    said.append(lines.readline())
                pages.append(said[0] + scraped(said[-1].removeprefix("mptcp-sockopt export: ").strip()))
                os.kill(os.getpid(), signal.SIGTERM)

        with at_work(scrape):
            assert cli.main(["export", "--listen", "127.0.0.1:0"]) == 0
        return pages[0]

    text = in_private_network(look)
    assert "missing: events: " in text.splitlines()[0]
    assert value(text, 'mptcp_exporter_missing{what="events"}') == 1
    assert value(text, 'mptcp_exporter_missing{what="connections"}') == 0
    assert "mptcp_events_total" not in text
    assert "mptcp_kernel_total" in text


def test_without_prometheus_client_it_says_what_to_install() -> None:
    """Exit code 3."""
    code = "import sys; sys.modules['prometheus_client'] = None\n"
    code += "from mptcp_sockopt import cli; sys.exit(cli.main(['export']))"
    done = run(sys.executable, "-c", code, cwd=ROOT)
    assert done.returncode == 3
    assert "pip install 'mptcp-sockopt[metrics]'" in done.stderr
