# SPDX-License-Identifier: MIT
"""The sessions of the pages, run as doctests; and what docs/fallback.md says of causes and counters."""

from __future__ import annotations

import contextlib
import doctest
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp

from ..net import counters
from ..support import exchange, fallback_pair, in_private_network, inode, mptcp_pair, reset, until
from ..test_diag_table import connecting_to_a_full_queue

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
KINDS = {"pycon", "python", "sh", "text", "text floors", ""}
INET = socket.AF_INET
# What is printed, and is another at each run: a descriptor, a port behind a host, a time.
VARIES = re.compile(r"(?<=fd )\d+|(?<=', )\d+(?=\))|\d+(?= us$)")


def session_of(page: str) -> str:
    """All of its parts, without what is another at each run."""
    found = re.findall(r"^( *)```pycon\n(.*?)^ *```", PAGES[page], re.DOTALL | re.MULTILINE)
    text = "\n".join(re.sub(f"^{indent}", "", part, flags=re.MULTILINE) for indent, part in found)
    return re.sub(r"^(?!>>>|\.\.\.).*", lambda line: VARIES.sub("...", line[0]), text, flags=re.MULTILINE)


def run(page: str) -> None:
    """As a doctest."""
    test = doctest.DocTestParser().get_doctest(session_of(page), {}, page, page, 0)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    try:
        runner.run(test, out=report.append, clear_globs=False)
    finally:
        for value in test.globs.values():
            if isinstance(value, socket.socket):
                value.close()
    assert "".join(report) == ""
    assert runner.summarize(verbose=False).attempted >= 8


@pytest.mark.parametrize("page", [name for name in PAGES if session_of(name)])
def test_the_session_of_a_page(page: str, mptcp: None) -> None:
    """Prints what is shown; in a namespace where nobody else has connections."""
    in_private_network(lambda: run(page))


def test_every_block_is_of_a_kind_that_is_run_or_shown() -> None:
    """A session, a program (each page with one has a test of its own), commands, or text."""
    kinds = {
        name: set(re.findall(r"^ *```(.*)\n(?:.*\n)*?^ *```$", text, re.MULTILINE))
        for name, text in PAGES.items()
    }
    assert {name: found - KINDS for name, found in kinds.items() if found - KINDS} == {}
    programs = [name for name, found in kinds.items() if "python" in found]
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in programs if f'"docs" / "{name}"' not in tests] == []


@pytest.mark.slow
def test_the_programs_of_docs_export(mptcp: None, capfd: pytest.CaptureFixture[str]) -> None:
    """pandas prints what is shown, and Prometheus gets both metrics."""
    pytest.importorskip("pandas")
    pytest.importorskip("prometheus_client")
    page = (ROOT / "docs" / "export.md").read_text()
    for_pandas, for_prometheus = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (shown,) = re.findall(r"```\n(remote.*?)```", page, re.DOTALL)

    def run_both() -> None:
        exec(for_pandas, {})
        print("----")
        with fallback_pair(INET):
            exec(for_prometheus, {})
        sys.stdout.flush()

    in_private_network(run_both)
    printed, _, metrics = capfd.readouterr().out.partition("----\n")
    assert printed == shown
    assert 'mptcp_connections{fallback="yes"} 1.0\n' in metrics
    assert "mptcp_unacked_bytes 0.0\n" in metrics


# ------------------------------------------------------------------------------------ docs/fallback.md


def table(heading: str) -> dict[str, list[str]]:
    """Of docs/fallback.md: its rows by their first cell."""
    lines = PAGES["fallback.md"].split(heading)[1].split("\n\n")[0].splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in lines]
    return {first: rest for first, *rest in cells}


CAUSES = table("| cause | client: flags |")
COUNTERS = [name for names in table("| counter | counts |") for name in names.split(", ")]
# These two count connections that do not fall back too.
TELLING = set(COUNTERS) - {"MPCapableSYNTX", "MPCapableSYNRX"}


def row_of(client: socket.socket) -> str:
    """The flags of a connection, as the page writes them."""
    rows = [row for row in mp.mptcp_diag() if row.inode == inode(client)]
    if not rows:
        return "no row"
    flags = "both" if rows[0].info.flags == 3 else str(rows[0].info.flags)
    return f"{flags}, CLOSE" if rows[0].state == mp.TCPState.CLOSE else flags


@contextlib.contextmanager
def syns_lost() -> Iterator[socket.socket]:
    """A connection that was made without MPTCP after its SYNs with the option got no answer."""
    with connecting_to_a_full_queue() as (deaf, client):
        Path("/proc/sys/net/mptcp/syn_retrans_before_tcp_fallback").write_text("0")
        with deaf.accept()[0]:
            until(lambda: mp.status(client) is mp.Status.FALLBACK, "a SYN without the option")
            until(lambda: mp.snapshot(client).subflows[0].live, "the answer")
            yield client


def tcp_listener() -> tuple[str, dict[str, int]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        mp.create_connection(server.getsockname()) as client,
    ):
        return row_of(client), counters()


def lost() -> tuple[str, dict[str, int]]:
    with syns_lost() as client:
        return row_of(client), counters()


def detection_active() -> tuple[str, dict[str, int]]:
    with syns_lost(), mp.create_server(("127.0.0.1", 0)) as server:
        before = counters()
        with mp.create_connection(server.getsockname()) as client, server.accept()[0] as accepted:
            exchange(client, accepted)
            assert (mp.status(client), mp.status(accepted)) == (mp.Status.FALLBACK, mp.Status.TCP)
            return row_of(client), {name: number - before[name] for name, number in counters().items()}


def both_connect() -> tuple[str, dict[str, int]]:
    with mp.create_socket(fallback=False) as client:
        client.bind(("127.0.0.1", 0))
        client.connect(client.getsockname())
        return row_of(client), counters()


def reset_before_data() -> tuple[str, dict[str, int]]:
    with mptcp_pair(INET) as (client, accepted):
        reset(accepted, client)
        return row_of(client), counters()


#: Those that can be had without altering packets, as the page calls them.
HERE: dict[str, Callable[[], tuple[str, dict[str, int]]]] = {
    "the peer's listener speaks TCP": tcp_listener,
    "SYNs with MP_CAPABLE lost, a plain SYN answered": lost,
    "blackhole detection active since then": detection_active,
    "both ends connected at once": both_connect,
    "reset before the first data (no fallback)": reset_before_data,
}


@pytest.mark.parametrize("cause", HERE)
def test_a_cause_leaves_what_the_page_says(cause: str, mptcp: None) -> None:
    """The flags in mptcp_diag(), and the counters of both ends; others that tell of a fallback stay 0."""
    if not set(COUNTERS) <= counters().keys():
        pytest.skip("this kernel has fewer counters than docs/fallback.md names")
    flags, client, _, server = CAUSES[cause]
    found, grown = in_private_network(HERE[cause])
    assert found == flags
    wanted = {name for name in f"{client}, {server}".split(", ") if name in TELLING}
    assert {name for name in TELLING if grown[name]} == wanted


def test_every_counter_of_the_table_of_causes_is_explained() -> None:
    """But those that say what MPTCP sent at an end: fastclose and resets."""
    named = set(
        re.findall(r"\b[A-Z]\w+[a-z]\w+[A-Z]\w*\b", " ".join(" ".join(row) for row in CAUSES.values()))
    )
    assert named - set(COUNTERS) - {"MPFastcloseTx", "MPRstTx"} == set()
