# SPDX-License-Identifier: MIT
"""What the documents say is run, or compared with what is."""

from __future__ import annotations

import functools
import os
import re
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt._border import abi, layouts
from mptcp_sockopt._border.sock_diag import LIMIT, stride_of
from mptcp_sockopt._version import KERNEL
from mptcp_sockopt.selftest import __main__ as selftest
from mptcp_sockopt.selftest import _cases, _inq_cases, _socket_cases
from reuseport import matrix, roll
from reuseport.__main__ import COMMANDS

from .. import test_diag_table
from ..kernels import rows
from ..support import in_private_network, run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()
SELFTEST = (ROOT / "docs" / "selftest.md").read_text()
# The one address of the project; pyproject.toml says it too.
SOURCE = "https://github.com/mptcp-sockopt/mptcp-sockopt"
OWN = re.compile(
    r"https://(?:github|raw\.githubusercontent)\.com/mptcp-sockopt/mptcp-sockopt/(?:blob/|tree/)?main/([\w./-]+)"
)

COUNT = "zero one two three four five six seven eight nine ten eleven twelve".split()


def test_the_first_screen_of_the_readme() -> None:
    """What it is, how to install it, a session and what to use for what, in 80 columns."""
    screen = README[: README.index("## Every connection of this machine")]
    lines = screen.splitlines()
    assert len(lines) <= 52
    assert [line for line in lines if len(line) > 80] == []
    assert re.findall(r"```(\w+)", screen) == ["sh", "pycon"]
    assert "pip install mptcp-sockopt\n" in screen
    assert "| I want to | use |" in screen
    text = [line for line in README.splitlines() if not re.match(r"\[\w+\]: ", line)]
    assert len(text) <= 200


def test_every_page_is_linked_from_the_readme() -> None:
    """In one of its tables, or where it says what to do if the install fails; or from CONTRIBUTING."""
    ours = re.findall(r"\(docs/(\w+\.md)\)", (ROOT / "CONTRIBUTING.md").read_text())
    assert ours
    linked = re.findall(r"^\[(\w+)\]: .*/docs/(\w+\.md)$", README, re.MULTILINE)
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    pages -= {"index.md", "changelog.md"}  # of the site: they include the README and the changelog
    assert sorted(page for _, page in linked) == sorted(pages - set(ours))
    assert [label for label, _ in linked if f"][{label}]" not in README] == []


def test_the_example_of_docs_reuseport(mptcp: None) -> None:
    """Runs as it is printed."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "reuseport.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert (names["report"].late, names["old"].fileno(), names["new"].fileno()) == (0, -1, -1)


def test_docs_reuseport_has_every_command_and_strategy() -> None:
    """And the figures of its table are those of the code."""
    page = (ROOT / "docs" / "reuseport.md").read_text()
    table = page.split("| command | what it does |")[1].split("\n\n")[0]
    assert [name for name, _, _ in COMMANDS if not re.search(rf"`(reuseport )?{name}\b", table)] == []
    assert f" {len(matrix.cells()):,} pairs of sockets" in table
    assert f"{COUNT[len(roll.STRATEGIES)]} strategies" in table
    strategies = page.split("| strategy | loses |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", strategies, re.MULTILINE) == list(roll.STRATEGIES)


def test_the_table_of_docs_mptcp_diag_is_that_of_the_tests() -> None:
    """The same sockets in the same order, and each is told or not told as its proof says."""
    lines = (ROOT / "docs" / "mptcp_diag.md").read_text().split("| socket |")[1].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [(socket, answer.startswith("no")) for socket, answer in cells] == [
        (socket, not told) for socket, (told, _) in test_diag_table.ROWS.items()
    ]


def test_the_example_of_docs_mptcp_diag(mptcp: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Runs as it is printed; in a namespace where nobody else has connections."""
    parts = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "mptcp_diag.md").read_text(), re.DOTALL)

    def run() -> None:
        for code in parts:
            exec(code, {})
        sys.stdout.flush()

    in_private_network(run)
    row, summary, *paths, found = capfd.readouterr().out.splitlines()
    ends = r"\('127\.0\.0\.1', \d+\) \('127\.0\.0\.1', \d+\)"
    assert re.fullmatch(rf"{ends} False 0", row)
    assert summary == "2 sockets, 0 bytes sent"
    assert all(re.fullmatch(rf"mptcp {ends} None", line) for line in paths[::2])
    assert all(re.fullmatch(r"   0 0 (local|remote) ESTABLISHED \d+ us", line) for line in paths[1::2])
    assert (len(paths), found) == (4, "mptcp True")


def test_the_examples_of_docs_processes(mptcp: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Run as they are printed; in a namespace where nobody else has connections."""
    page = (ROOT / "docs" / "processes.md").read_text()
    names: dict[str, Any] = {}

    def run() -> None:
        for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            exec(code, names)
        sys.stdout.flush()
        with mp.create_server(("127.0.0.1", 0)):
            names["report"](os.getpid())
        assert len(names["of_container"](os.getpid())) == 0
        sys.stdout.flush()

    in_private_network(run)
    (shown,) = re.findall(r"```\n(True.*?)```", page, re.DOTALL)
    printed = capfd.readouterr().out
    assert printed.startswith(shown)
    assert "Status.LISTENING" in printed


def test_the_examples_of_docs_testing(mptcp: None, capfd: pytest.CaptureFixture[str]) -> None:
    """A pytest file of 25 lines, and a script, run as they are printed."""
    page = (ROOT / "docs" / "testing.md").read_text()
    first, _, *others = re.findall(r"```python\n(.*?)```", page, re.DOTALL)  # pytest runs the second one
    assert len(list(filter(None, first.splitlines()))) <= 25
    names: dict[str, Any] = {}
    exec(first, names)
    (test,) = [thing for name, thing in names.items() if name.startswith("test_")]
    test()
    capfd.readouterr()
    for code in others:
        exec(code, {})
    (shown,) = re.findall(r"```\n(True.*?)```", page, re.DOTALL)
    sys.stdout.flush()
    assert capfd.readouterr().out == shown


def test_the_two_commands_are_what_ci_runs() -> None:
    """The two for a checkout, word for word in .ci/run."""
    checkout = README[README.index("## From a checkout") :]
    commands = re.findall(r"```sh\n(.*?)\n```", checkout, re.DOTALL)
    assert len(commands) == 2
    script = (ROOT / ".ci" / "run").read_text()
    for command in commands:
        assert command in script


def test_the_self_test_looks_as_shown() -> None:
    """Number of cases, first lines, totals."""
    names = selftest.Plan().names
    shown = SELFTEST[SELFTEST.index("TAP version 13\n1..") :]
    assert shown.splitlines()[1:4] == [f"1..{len(names)}", f"ok 1 {names[0]}", f"ok 2 {names[1]}"]
    assert f"# Totals: pass:{len(names)} fail:0 xfail:0 xpass:0 skip:0 error:0\n" in shown


def test_the_kernels_checks_have_their_cases() -> None:
    """docs/selftest.md names cases of the plan, and all but those that the kernel's tests lack."""
    cells = [line.split(" | ")[1] for line in SELFTEST.splitlines() if " | `" in line]
    named = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    planned = selftest.Plan().names
    assert [name for name in named if not any(title.endswith(name) for title in planned)] == []
    cases = [function for _, function in (*selftest.TOS, *selftest.ONE_END, *selftest.WITH_DATA)]
    cases = [case.func if isinstance(case, functools.partial) else case for case in cases]
    cases += [*_inq_cases.CASES, _socket_cases.unread, _socket_cases.look_up]
    assert named == {case.__doc__ for case in cases if case is not _cases.full_info_bogus}


def test_the_options_of_the_self_test_are_all_shown() -> None:
    """As its usage has them."""
    (shown,) = re.findall(r"^mptcp-sockopt selftest (.+)$", SELFTEST, re.MULTILINE)
    usage = selftest.parser().format_usage().partition("selftest")[2]
    assert re.findall(r"--?[\w-]+", shown) == re.findall(r"--?[\w-]+", usage)[1:]  # all but -h


def test_the_kernels_are_as_many_as_said() -> None:
    """Oldest, newest, and how many architectures, in every document that says it."""
    series = sorted({row.series for row in rows.ROWS}, key=lambda name: [*map(int, name.split("."))])
    number = COUNT[len(rows.ARCHES)]
    assert f": {series[0]} to {series[-1]}, of {number} architectures" in README
    unreleased = (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1]
    assert f"{number} architectures" in unreleased
    assert f"on {number} architectures" in (ROOT / "docs" / "kernels.md").read_text()


def test_units_and_releases_as_shown() -> None:
    """The examples of docs/api.md."""
    assert f"`TCPInfo.rtt.unit` is `{mp.TCPInfo.rtt.unit!r}`" in API
    sent = mp.MPTCPInfo.bytes_sent
    assert f"`MPTCPInfo.bytes_sent.since` is `{sent.since!r}` and its `kind` is `{sent.kind!r}`" in API


def test_the_glossary_explains_what_the_pages_say() -> None:
    """Its terms are in order, stand on another page, and each has a source."""
    lines = (ROOT / "docs" / "glossary.md").read_text().split("|---|---|---|\n")[1].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines]
    terms = [term for term, _, _ in rows]
    assert terms == sorted(terms, key=lambda term: term.lower().replace("_", " "))
    pages = [path for path in (ROOT / "docs").glob("*.md") if path.name != "glossary.md"]
    text = " ".join(" ".join(path.read_text() for path in pages).split()).lower()
    assert [term for term in terms if term.lower() not in text] == []
    source = re.compile(r"RFC 8684, \d(\.\d)*|sysctl, `\w+`|kernel, MPTCP|[\w-]+\(\d\)|\[\w+\.md\]\(.*\)")
    assert [term for term, _, where in rows if not source.fullmatch(where)] == []


def programs_of(page: str) -> list[tuple[str, str]]:
    """Each program of a page, and what it prints, as shown below it."""
    return re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", page, re.DOTALL)


PROGRAMS = programs_of((ROOT / "docs" / "asyncio.md").read_text())


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_the_programs_of_docs_asyncio(number: int, mptcp: None) -> None:
    """Print what is shown, and nothing of a resource that is left open."""
    assert (ROOT / "docs" / "asyncio.md").read_text().count("```python") == len(PROGRAMS) == 4
    code, shown = PROGRAMS[number]
    if "asyncio.Runner" in code and sys.version_info < (3, 11):
        pytest.skip("asyncio.Runner (Python 3.11)")
    # Without -X dev: a callback that takes long, on a busy machine, is logged then.
    done = run(sys.executable, "-W", "error", "-c", code)
    assert (done.stdout, done.stderr) == (shown, "")


@pytest.mark.parametrize(
    ("document", "pattern", "figure"),
    [
        ("README.md", r"Python (\S+) or newer", (metadata("mptcp-sockopt")["Requires-Python"] or "")[2:]),
        (
            "docs/install.md",
            r"Python (\S+) or newer",
            (metadata("mptcp-sockopt")["Requires-Python"] or "")[2:],
        ),
        ("docs/mptcp_diag.md", r"(\d+) bytes on Linux", str(stride_of(layouts.MPTCP_INFO_SIZE))),
        ("docs/mptcp_diag.md", r"(\d+) MiB", str(LIMIT >> 20)),
        (
            "docs/mptcp_diag.md",
            r"about ([\d,]+) connections",
            f"{LIMIT / stride_of(layouts.MPTCP_INFO_SIZE):.2g}",
        ),
        ("docs/subflows.md", r"up to ([\d,]+) subflows; for a longer answer", str(abi.lib.MOST_SUBFLOWS)),
        ("docs/selftest.md", r"deadline of (\d+) seconds", str(selftest.SECONDS)),
        ("SECURITY.md", r"at most (\d+) seconds", str(selftest.SECONDS)),
    ],
)
def test_a_figure_is_that_of_the_code(document: str, pattern: str, figure: str) -> None:
    """Limits and sizes that pages name."""
    (found,) = re.findall(pattern.replace(" ", r"\s"), (ROOT / document).read_text())
    assert float(found.replace(",", "")) == float(figure), (found, figure)


def test_every_status_is_named() -> None:
    """In the table of docs/api.md."""
    row = next(line for line in API.splitlines() if line.startswith("| `status(sock)`"))
    assert [name for name in mp.Status.__members__ if name not in row] == []


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "tests/README.md",
        "tests/kernels/README.md",
    ]
    + [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))],
)
def test_links_and_paths_exist(document: str) -> None:
    """Links, relative or to this repository, and files named in code."""
    text = (ROOT / document).read_text()
    for path in OWN.findall(text):
        assert (ROOT / path).exists(), path
    labels = re.findall(r"^\[(\w+)\]: ", text, re.MULTILINE)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert set(re.findall(r"\]\[(\w+)\]", prose)) == set(labels)
    assert sorted(labels) == sorted(set(labels))
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert ((ROOT / document).parent / link).exists(), link
    for path in re.findall(r"`((?:csrc|tests|benchmarks|docs|mptcp_sockopt|reuseport)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path


def test_what_the_package_index_shows_has_no_relative_link() -> None:
    """The README in the installed package's metadata: there, a relative link leads nowhere."""
    told = metadata("mptcp-sockopt")
    shown = told.get_payload() or told["Description"]  # type: ignore[attr-defined]
    assert shown.strip() == README.strip()
    links = re.findall(
        r"\]\(([^)]+)\)|<(?:a|img)[^>]+(?:href|src)=[\"']([^\"']+)|^\[\w+\]: (\S+)", shown, re.M
    )
    assert len(links) >= 10
    assert [link for link in links if not "".join(link).startswith("https://")] == []
    urls = dict(line.split(", ", 1) for line in told.get_all("Project-URL") or [])
    assert urls.keys() >= {"Source", "Documentation", "Changelog", "Issues"}
    (site,) = re.findall(r'^html_baseurl = "(.+)"$', (ROOT / "docs" / "conf.py").read_text(), re.MULTILINE)
    assert urls.pop("Documentation") == site
    assert all(url.startswith(SOURCE) for url in urls.values())


def test_the_changelog_dates_its_releases() -> None:
    """All but what is not released yet; the newest is the version before this one, or this one."""
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    releases = headings[1:] if headings[0] == "Unreleased" else headings
    assert releases
    for release in releases:
        assert re.fullmatch(r"\d+\.\d+\.\d+ - 20\d\d-[01]\d-[0-3]\d", release), release


def test_the_changelog_has_each_kind_of_change_once_a_release() -> None:
    """In the order of Keep a Changelog, with empty lines around every heading, and no entry twice."""
    text = (ROOT / "CHANGELOG.md").read_text()
    for release in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.+)$", release, re.MULTILINE)
        assert kinds == [kind for kind in ("Added", "Changed", "Fixed") if kind in kinds], kinds
        for kind in release.split("\n### ")[1:]:
            # The same entry in other words begins with the same name.
            begins = re.findall(r"^- (.{,20})", kind, re.MULTILINE)
            assert sorted(begins) == sorted(set(begins))
    assert re.findall(r"[^\n]\n#|^#+ .*\n[^\n]", text, re.MULTILINE) == []
    entries = [line for line in text.splitlines() if line.startswith("- ")]
    assert sorted(entries) == sorted(set(entries))


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("csrc/mptcp_abi.h", "Layouts follow Linux {}:"),
        ("CHANGELOG.md", "Kernel ABI: as of Linux {}."),
        ("docs/selftest.md", "as of Linux {})"),
    ],
)
def test_one_release_is_followed(document: str, sentence: str) -> None:
    """By the layouts and by the self test; every page says the same."""
    text = (ROOT / document).read_text()
    pattern = re.escape(sentence).replace(r"\{\}", r"(\d+\.\d+)")
    assert re.findall(pattern, text) == [KERNEL]
