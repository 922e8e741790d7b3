# SPDX-License-Identifier: MIT
"""Two servers, measured again: the verdict is that of docs/servers.md."""

from __future__ import annotations

import pytest

from ..support import Missing, needs
from . import page
from .measured import measure
from .setups import SETUPS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nginx", "gunicorn-sync", "gunicorn-sync-reuse-port"])
def test_a_row(name: str) -> None:
    """As short as a verdict can be, at a rate that any machine comes to."""
    (setup,) = (setup for setup in SETUPS if setup.name == name)
    if setup.package:
        needs(setup.command.split()[0], setup.package)
    row = measure(setup, "--restarts 5 --rate 100 --seconds 120")
    if "missing" in row:
        raise Missing(row["missing"])
    assert page.verdict(row) == page.verdict(page.load()["rows"][name]), row
    assert [*row["clients"]] == ["plain", *setup.clients]
