# SPDX-License-Identifier: MIT
"""cli/_page.py and plot.html: one page, that a browser opens without network; and, slow, what a browser makes
of it."""

from __future__ import annotations

import base64
import hashlib
import html
import html.parser
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mptcp_sockopt.cli import _page

from ..support import needs, run
from .recorded import Record, many_paths
from .test_panels import picture

TEMPLATE = Path(_page.__file__).with_name("plot.html")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;'\"{{data}}\\"


def page(lines: Iterable[Record]) -> str:
    return _page.page(picture([*lines]))


def data_of(text: str) -> Any:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


def test_it_is_one_file_without_network() -> None:
    """No address in it but the namespace of SVG; its policy allows its own script, and loads nothing."""
    text = page(many_paths(2, 50))
    assert re.findall(r"\w+://[^\"' ]*", text) == ["http://www.w3.org/2000/svg"]
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert len(TEMPLATE.read_text().splitlines()) <= 150


def test_names_are_no_markup() -> None:
    """Whatever a process is called: the same elements, and the name as a text of the data."""

    class Elements(html.parser.HTMLParser):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.found: list[str] = []
            self.feed(text)

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.found.append(tag)

    plain, hostile = page(many_paths(2, 9)), page(many_paths(2, 9, name=HOSTILE))
    assert Elements(hostile).found == Elements(plain).found
    assert data_of(hostile)["title"].endswith(f"{HOSTILE}/77")


def test_the_data_is_short() -> None:
    """Four digits of each value, null where there is none; where a path is stalled, from and to before."""
    data = data_of(page(many_paths(2, 40)))
    assert data["panels"][0]["lines"][0]["values"][:3] == [None, 51.3, 49.3]
    assert data["time"][:3] == [0, 0.1, 0.2]
    assert data["stalled"] == [[], [[20, 26]]]


# ------------------------------------------------------------------------------------------- in a browser

WORDS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-component-update
    --disable-background-networking --disable-sync --hide-scrollbars --virtual-time-budget=1000
    --window-size=1100,950 --dump-dom""".split()
OUTER = """<!doctype html><meta name="color-scheme" content="light dark"><title>"nothing"</title>
<script>onmessage = e => document.title = e.data;</script>
<iframe src="page.html" width="{width}" height="900" style="border: 0"></iframe>"""
# What a user does, by its place in a panel: 0 is the left end of the time axis, 1 the right one.
HANDS = """
const panel = n => document.querySelectorAll(".plot")[n], seen = {};
const all = (e, selector) => [...e.querySelectorAll(selector)];
const point = (type, n, at) => {
  const box = panel(n).getBoundingClientRect(), clientX = box.left + LEFT + at * wide, clientY = box.top + 60;
  panel(n).dispatchEvent(new PointerEvent(type, { clientX, clientY, bubbles: true }));
};
const drag = (n, from, to) => {
  point("pointerdown", n, from);
  for (const at of [(from + to) / 2, to]) point("pointermove", n, at);
  point("pointerup", n, to);
};
const count = n => ["fresh", "old"].map(kind => all(panel(n), `path.${kind}:not(.band)`).length);
const tip = () => byId("tip").hidden ? null : all(byId("tip"), "b, div").map(e => e.textContent);
"""


def seen(
    folder: Path, text: str, script: str, width: int = 1000, dark: bool = False, *, may_run: bool = True
) -> Any:
    """Open the page in Chromium, with one more script, and return what that put into the object `seen`.

    The page's policy gets the script's hash, if it may run. The page is in a frame of that width, because
    windows have at least 500 pixels.
    """
    chromium = shutil.which("google-chrome") or needs("chromium", "chromium")
    script = f"{HANDS}\n{script}\nparent.postMessage(JSON.stringify(seen), '*');"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    if may_run:
        assert text.count("script-src '") == 1
        text = text.replace("script-src '", f"script-src 'sha256-{digest}' '")
    (folder / "page.html").write_text(text.replace("</html>", f"<script>{script}</script></html>"))
    outer = folder / "outer.html"
    outer.write_text(OUTER.format(width=width))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    profile = f"--user-data-dir={folder / 'profile'}"
    done = run(chromium, *WORDS, scheme, profile, outer.as_uri(), timeout=120)
    assert done.returncode == 0, done.stderr
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout)
    return json.loads(html.unescape(title))


@pytest.mark.slow
def test_what_a_browser_draws(tmp_path: Path) -> None:
    """Every line, the events, names as text; values of a stalled path in grey only."""
    found = seen(
        tmp_path,
        page(many_paths(2, 200, name=HOSTILE)),
        """
        seen.counts = [0, 1, 2, 3, 4].map(count);
        seen.title = byId("title").textContent;
        seen.images = all(document, "img").length;
        seen.marks = all(panel(0), ".mark").length;
        seen.listed = all(byId("marks"), "li").map(e => e.textContent);
        show([11, 12]); // seconds, while it was stalled
        seen.stalled = [0, 1, 2, 3, 4].map(count);
        seen.grey = all(panel(1), ".old").map(e => getComputedStyle(e).stroke);
        """,
    )
    assert found["counts"] == [[1, 0], *[[2, 1]] * 4]
    assert found["stalled"] == [[1, 0], *[[1, 1]] * 4]
    assert found["grey"] == ["rgb(176, 176, 176)"]
    assert found["title"].endswith(f"{HOSTILE}/77")
    assert (found["images"], found["marks"]) == (0, 3)
    assert found["listed"] == ["5 s  path 0 is a backup", "10 s  path 1: no ACKs", "13 s  path 1: ACKs again"]


@pytest.mark.slow
def test_hover(tmp_path: Path) -> None:
    """The values of that moment, what is stalled, and the events near it; nothing after the pointer left."""
    text = page(many_paths(2, 200))
    found = seen(
        tmp_path,
        text,
        """
        seen.before = tip();
        point("pointermove", 1, 0.2);
        seen.early = tip();
        seen.line = all(document, ".at:not(.hidden)").length;
        point("pointermove", 1, 10 / 19.9);
        seen.stalled = tip();
        const box = byId("tip").getBoundingClientRect();
        seen.inside = box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
        point("pointerleave", 1, 0.5);
        seen.after = tip();
        """,
    )
    assert found["before"] is found["after"] is None
    rates = [line["values"][40] for line in data_of(text)["panels"][1]["lines"]]
    assert found["early"] == ["4 s", *(f"{n}  10.0.{n}.1 -> 10.0.{n}.2: {rates[n]:g} Mbit/s" for n in (0, 1))]
    assert found["stalled"][2:] == ["1  10.0.1.1 -> 10.0.1.2: 0 Mbit/s (no ACKs)", "2. path 1: no ACKs"]
    assert (found["line"], found["inside"]) == (5, True)


@pytest.mark.slow
def test_zoom(tmp_path: Path) -> None:
    """By dragging in any panel, either way; back by a double click, the button or Escape."""
    found = seen(
        tmp_path,
        page(many_paths(2, 200)),
        """
        const now = () => [...view.map(t => +t.toFixed(1)), byId("all").hidden];
        drag(0, 0.25, 0.75); seen.zoomed = now();
        drag(3, 0.75, 0.25); seen.twice = now();
        seen.labels = all(panel(0), "text").map(e => e.textContent).filter(t => t.endsWith(" s"));
        panel(2).dispatchEvent(new MouseEvent("dblclick", { bubbles: true })); seen.all = now();
        drag(1, 0.5, 0.502); seen.click = now();
        drag(1, 0.5, 1); byId("all").click(); seen.button = now();
        drag(1, 0.5, 1); dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" })); seen.escape = now();
        """,
    )
    assert found["zoomed"] == pytest.approx([5, 14.9, False], abs=0.1)
    assert found["twice"] == pytest.approx([7.5, 12.4, False], abs=0.1)
    assert found["labels"][:3] == ["7.5 s", "8 s", "8.5 s"]
    for way in ("all", "click", "button", "escape"):
        assert found[way] == [0, 19.9, True], way


@pytest.mark.slow
def test_one_path_alone(tmp_path: Path) -> None:
    """By a click on its name; all again by another, or on the connection. The connection stays, and the scale
    is that of what is shown."""
    found = seen(
        tmp_path,
        page(many_paths(3, 200)),
        """
        const key = n => byId("key").children[n].click();
        const now = () => [
            [0, 1, 2].map(n => all(panel(n), "path.fresh").length),
            all(byId("key"), "[aria-pressed=true]").map(e => e.textContent),
            Math.max(...all(panel(1), "text").map(e => +e.textContent).filter(isFinite)),
        ];
        seen.before = now();
        key(2); seen.alone = now();
        point("pointermove", 1, 0.5); seen.tip = tip().length;
        key(2); seen.again = now();
        key(1); key(0); seen.connection = now();
        """,
    )
    assert found["before"] == found["again"] == found["connection"] == [[1, 3, 3], ["the connection"], 40]
    assert found["alone"] == [[1, 1, 1], ["1  10.0.1.1 -> 10.0.1.2"], 10]
    assert found["tip"] == 3  # time, path, event


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1000])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_light_and_dark_wide_and_narrow(tmp_path: Path, dark: bool, width: int) -> None:
    """Nothing is wider than the window; text, lines and background have the contrast that WCAG asks for."""
    found = seen(
        tmp_path,
        page(many_paths(9, 100)),
        """
        seen.width = innerWidth;
        seen.content = document.documentElement.scrollWidth;
        const style = e => getComputedStyle(e);
        seen.back = style(document.body).backgroundColor;
        seen.text = [style(document.body).color, style(byId("note")).color];
        seen.lines = all(panel(1), "path.fresh").map(e => style(e).stroke);
        const labels = all(panel(0), "text").filter(e => e.textContent.endsWith(" s"));
        const ends = labels.map(e => e.getBoundingClientRect());
        seen.apart = ends.every((e, n) => n === 0 || e.left > ends[n - 1].right);
        """,
        width=width,
        dark=dark,
    )
    assert found["width"] == width >= found["content"]
    assert found["apart"]
    assert [contrast(colour, found["back"]) >= 4.5 for colour in found["text"]] == [True, True]
    assert len(set(found["lines"])) == 9
    assert min(contrast(colour, found["back"]) for colour in found["lines"]) >= 3
    assert (sum(rgb(found["back"])) < 3 * 64) is dark


def rgb(colour: str) -> list[int]:
    return [*map(int, re.findall(r"\d+", colour)[:3])]


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [part / 255 for part in rgb(colour)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
def test_no_other_script_runs(tmp_path: Path) -> None:
    """Not even one that is in the page: its policy does not have its hash."""
    text = page(many_paths(1, 9))
    assert seen(tmp_path, text, "") == {}
    assert seen(tmp_path, text, "", may_run=False) == "nothing"


@pytest.mark.slow
def test_an_hour_of_nine_paths(tmp_path: Path) -> None:
    """36,000 samples: a page that fits a mail, is drawn, and thinned to a few values for each pixel."""
    text = page(many_paths(9, 36_000))
    assert len(text) < 8_000_000
    assert 8_000 <= len(data_of(text)["time"]) <= 8_100
    found = seen(
        tmp_path,
        text,
        """
        seen.counts = [0, 1, 2, 3, 4].map(count);
        seen.longest = Math.max(...all(document, "path").map(e => e.getAttribute("d").length));
        drag(0, 0.2, 0.4);
        point("pointermove", 2, 0.5);
        seen.tip = tip();
        """,
    )
    assert found["counts"] == [[1, 0], *[[9, 1]] * 4]
    assert found["longest"] < 60_000
    assert re.fullmatch(r"0  10.0.0.1 -> 10.0.0.2: 20\.\d+ \(20 to 2\d\.\d+\) ms", found["tip"][1])
