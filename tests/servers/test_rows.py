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
    """As short as a verdict can be. A busy machine gets fewer connections, and loses more of them."""
    (setup,) = (setup for setup in SETUPS if setup.name == name)
    if setup.package:
        needs(setup.command.split()[0], setup.package)
    for rate in (400, 100, 25):
        row = measure(setup, f"--restarts 5 --seconds 120 --rate {rate}")
        if "missing" in row:
            raise Missing(row["missing"])
        if row["exit"] != 3:
            break
    assert page.verdict(row) == page.verdict(page.load()["rows"][name]), row
    assert [*row["clients"]] == ["plain", *setup.clients]
