# SPDX-License-Identifier: MIT
"""The sessions of the pages, run as doctests; and what docs/fallback.md says of causes and counters."""

from __future__ import annotations

import doctest
import re
import socket
import sys
from pathlib import Path

import pytest

import mptcp_sockopt as mp

from ..causes import CAUSES, fallen
from ..net import counters
from ..support import fallback_pair, in_private_network, until

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
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


@pytest.mark.parametrize(
    ("right", "wrong"), [("<Status.FALLBACK: 'fallback'>", "<Status.TCP: 'tcp'>"), ("mp.status(", "mp.stat(")]
)
def test_a_session_that_is_not_as_shown_is_seen(
    right: str, wrong: str, mptcp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong output; a name that there is not."""
    assert right in PAGES["README.md"]
    monkeypatch.setitem(PAGES, "README.md", PAGES["README.md"].replace(right, wrong))
    with pytest.raises(AssertionError):
        in_private_network(lambda: run("README.md"))


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


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of a table of docs/fallback.md."""
    lines = PAGES["fallback.md"].split(heading)[1].split("\n\n")[0].splitlines()[2:]
    return [line.strip("| ").split(" | ") for line in lines]


# One direction of options that are removed later is a row for all.
NAMES = [name for name in CAUSES if name not in ("client_stripped_later", "server_stripped_later")]
ROWS = dict(zip(NAMES, table("| cause | reason |"), strict=True))
COUNTERS = [name for names, _ in table("| counter | counts |") for name in names.split(", ")]
# These two count connections that do not fall back too.
TELLING = set(COUNTERS) - {"MPCapableSYNTX", "MPCapableSYNRX"}


def what_tells(grown: dict[str, int]) -> set[str]:
    return {name for name in TELLING if grown.get(name)}


@pytest.mark.parametrize("name", NAMES)
def test_a_cause_leaves_what_the_page_says(name: str, mptcp: None) -> None:
    """The reason, the server's end, and the counters of both ends; others that tell of a fallback stay 0."""
    _, reason, at_client, server, at_server = ROWS[name]
    assert reason == CAUSES[name].reason
    wanted = [TELLING & {*cell.split(", ")} for cell in (at_client, at_server)]

    if not set(COUNTERS) <= counters().keys():
        pytest.skip("this kernel has fewer counters than docs/fallback.md names")

    def look() -> None:
        with fallen(name) as (_, accepted, grown):
            until(lambda: [what_tells(side) for side in grown()] == wanted, "those counters, and no others")
            assert server == ("none" if accepted.fileno() < 0 else mp.status(accepted).name)

    in_private_network(look)


def test_every_counter_of_the_table_of_causes_is_explained() -> None:
    """But those that say what MPTCP sent at an end: fastclose and resets."""
    cells = " ".join(f"{row[2]} {row[4]}" for row in ROWS.values())
    assert {*re.findall(r"\b[A-Z]\w+\b", cells)} - set(COUNTERS) == {"MPFastcloseTx", "MPRstTx"}


def test_the_page_has_each_reason() -> None:
    """A section with its name, which begins with its sentence; and the flags that tell it."""
    text = re.sub(r"\s+", " ", PAGES["fallback.md"])
    for reason in mp.FallbackReason:
        assert f"### {reason} **{reason.sentence}**" in text
    assert [row[0] for row in table("| `fallback_reason` | `info.flags` |")] == [*mp.FallbackReason]
