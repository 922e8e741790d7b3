# SPDX-License-Identifier: MIT
"""The program of all planted servers: ``python server.py NAME [PORT]``. Its class says what each does."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # it is started by its path, from any directory
    sys.path[0] = str(Path(__file__).parents[3])

from tests.reuseport.planted import hopeless, restarting
from tests.reuseport.planted.base import Server


def servers(base: type[Server] = Server) -> dict[str, type[Server]]:
    """All of them, by name."""
    found = {base.name: base}
    for one in base.__subclasses__():
        found |= servers(one)
    return found


FAULTS = restarting, hopeless


if __name__ == "__main__":
    servers()[sys.argv[1]](int(sys.argv[2]) if len(sys.argv) > 2 else 8000).run()
