# SPDX-License-Identifier: MIT
"""docs/fields.md is what the fields say of themselves."""

from __future__ import annotations

from . import fields


def test_the_page_is_what_the_fields_say() -> None:
    """Each with its unit, kind, release and docstring; `python -m tests.project.fields` writes it."""
    assert fields.PAGE.read_text().partition(fields.BEGIN)[2] == f"\n{fields.written()}"
    assert len(fields.RESULTS) >= 11
