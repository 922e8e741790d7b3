# SPDX-License-Identifier: MIT
"""The page: its sections, and the lines that they show."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
# What is printed, and is another at each run: a descriptor, a port behind a host.
_VARIES = re.compile(r"(?<=fd )\d+|(?<=fd=)\d+|(?<=', )\d+(?=\))")


class Section(NamedTuple):
    heading: str
    text: str

    @property
    def lines(self) -> list[str]:
        """What it shows as printed."""
        blocks = re.findall(r"```text\n(.*?)```", self.text, re.DOTALL)
        return [line for block in blocks for line in block.splitlines()]


#: By anchor.
SECTIONS = {
    anchor: Section(heading, text)
    for anchor, heading, text in re.findall(
        r"^\(([\w-]+)\)=\n## (.*?)\n(.*?)(?=^\([\w-]+\)=$|\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
}


def shows(anchor: str, *printed: str) -> None:
    """Each of these was printed, and is a line of the section, but for what differs at each run."""
    lines = [_VARIES.sub("N", line) for line in SECTIONS[anchor].lines]
    assert [line for line in printed if _VARIES.sub("N", line) not in lines] == [], lines


def says(anchor: str, *words: str) -> None:
    """The section has these words in its text, so that who searches for them finds it."""
    text = " ".join(SECTIONS[anchor].text.split())
    assert [word for word in words if word not in text] == []


def joined(output: str) -> str:
    """What a command printed, on one line, however it was wrapped."""
    return " ".join(output.split())


def raised(call: Callable[[], object]) -> str:
    """The last line of a traceback."""
    with pytest.raises(OSError) as caught:
        call()
    return traceback.format_exception_only(caught.value)[0].strip()
