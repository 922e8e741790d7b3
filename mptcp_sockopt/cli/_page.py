# SPDX-License-Identifier: MIT
"""A picture as one HTML page that needs no network: plot.html with the data in it."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import re
from typing import Any

from ._panels import COLOURS, NOTE, Line, Picture, thinned

# Values of each line. More would make the page too large for a mail.
MOST = 8_000


def page(picture: Picture) -> str:
    """The page. It lets only its own script run, and no text of the recording is markup in it."""
    template = importlib.resources.files(__package__).joinpath("plot.html").read_text(encoding="utf-8")
    script = template[template.rindex("<script>") + len("<script>") : template.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "hash": f"sha256-{digest}",
        "title": html.escape(picture.title),
        "light": _variables(0),
        "dark": _variables(1),
        "data": _data(thinned(picture, MOST)).replace("<", "\\u003c"),
    }
    return re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], template)


def _variables(which: int) -> str:
    return " ".join(f"--c{n}: {colours[which]};" for n, colours in enumerate(COLOURS))


def _data(picture: Picture) -> str:
    data = {
        "title": picture.title,
        "subtitle": picture.subtitle,
        "note": NOTE,
        "time": [round(moment, 3) for moment in picture.time],
        "panels": [
            {
                "title": panel.title,
                "unit": panel.unit,
                "steps": panel.steps,
                "lines": [_line(line) for line in panel.lines],
            }
            for panel in picture.panels
        ],
        "paths": picture.paths,
        "colours": len(COLOURS),
        "stalled": [[found.span() for found in re.finditer(b"\x01+", flags)] for flags in picture.stalled],
        "marks": [(round(mark.time, 3), mark.text) for mark in picture.marks],
    }
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def _line(line: Line) -> dict[str, Any]:
    columns = {"values": line.values, "low": line.low, "high": line.high}
    return line._asdict() | {name: values and [*map(_short, values)] for name, values in columns.items()}


def _short(value: float) -> float | None:
    """Four digits of it."""
    if value != value:
        return None
    short = float(f"{value:.4g}")
    return int(short) if short.is_integer() else short
