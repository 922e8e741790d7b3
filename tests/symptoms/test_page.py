# SPDX-License-Identifier: MIT
"""The anchors, which are an interface; and what makes a section be found."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

import pytest

from mptcp_sockopt._border import questions
from mptcp_sockopt._version import SYMPTOMS
from mptcp_sockopt.cli import _here, check

from .page import PAGE, ROOT, SECTIONS

#: Messages of any version point to these, so none of them may go, or be named otherwise.
ANCHORS = {
    *(
        "socket-92",
        "socket-93",
        "socket-13",
        "ai-socktype",
        "errno-95",
        "unsupported-option",
        "setsockopt-92",
    ),
    *("accepted", "fallback", "three-seconds", "suspended", "latency", "bytes-again", "silent-minute"),
    *("subflows-0", "no-traffic", "netlink-eperm", "iproute2", "ss-m-empty", "events-eperm", "run-tcp"),
    *("python-h", "compiled-module", "in-use", "reload", "audit-refuses"),
}
TESTS = "".join(
    path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)
)


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_each_anchor_is_on_the_page_once() -> None:
    """And above a heading."""
    labels = re.findall(r"^\((.*)\)=$", PAGE, re.MULTILINE)
    assert sorted(labels) == sorted(ANCHORS)
    assert SECTIONS.keys() == ANCHORS
    assert PAGE.count("\n## ") == len(ANCHORS)


def test_messages_point_to_anchors() -> None:
    """Those of exceptions, check and doctor; at the documentation that the package index shows."""
    urls = dict(line.split(", ", 1) for line in metadata("mptcp-sockopt").get_all("Project-URL") or [])
    assert urls["Documentation"] + "troubleshooting.html" == SYMPTOMS
    notes = [note.removeprefix(f"See {SYMPTOMS}#") for note in questions._NOTES.values()]
    assert {*notes, _here.NO_PATH, *_here._ANCHORS.values(), *check._ANCHORS.values()} <= ANCHORS


@pytest.mark.parametrize("anchor", SECTIONS)
def test_a_section_says_how_to_check_and_what_to_do(anchor: str) -> None:
    """It begins with what is printed, unless that is a time; a test provokes it."""
    section = SECTIONS[anchor]
    assert re.search(r"^Check(:| and cure:)|\| check", section.text, re.MULTILINE)
    assert re.search(r"^(Cure|Check and cure)[:,]|\| cure", section.text, re.MULTILINE)
    assert section.text.startswith("\n```text\n") or anchor == "latency"
    assert f'"{anchor}"' in TESTS


def test_the_list_at_the_top_is_complete() -> None:
    """Each heading has its link, in some order."""
    top = PAGE[: PAGE.index("\n(")]
    linked = re.findall(r"\]\(#([\w-]+)\)", top)
    assert sorted(linked) == sorted(slug(section.heading) for section in SECTIONS.values())


def test_its_links_lead_to_headings() -> None:
    """Of this page, and of others."""
    for file, anchor in re.findall(r"\]\(([\w/.]*)#([\w-]+)\)", PAGE):
        text = (ROOT / "docs" / file).read_text() if file else PAGE
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert anchor in [slug(heading) for heading in headings], (file, anchor)


def test_others_link_to_its_headings() -> None:
    """Pages, the README."""
    headings = {slug(section.heading) for section in SECTIONS.values()}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    linked = {
        anchor for page in pages for anchor in re.findall(r"troubleshooting\.md#([\w-]+)", page.read_text())
    }
    # What commands print has an anchor of ours.
    assert linked - headings <= ANCHORS
    assert linked & headings
