# SPDX-License-Identifier: MIT
"""Answers at once, but to /slow half a second later (WSGI)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.5)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


application = app  # the name that uwsgi looks for
