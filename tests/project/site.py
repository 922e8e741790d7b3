# SPDX-License-Identifier: MIT
"""The documentation site: built as CI builds it, and what can be wrong with its pages."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

ROOT = Path(__file__).parents[2]
SECONDS = 300


def build(docs: Path, out: Path, builder: str = "html") -> subprocess.CompletedProcess[str]:
    """From nothing; any warning is an error."""
    words = "-W --keep-going -n -E -q".split()
    command = [
        sys.executable,
        "-m",
        "sphinx",
        *words,
        "-b",
        builder,
        "-d",
        f"{out}.trees",
        str(docs),
        str(out),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)


class Page(HTMLParser):
    """The ids of a page, and where its links and pictures lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links = set[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def dead_links(site: Path) -> list[str]:
    """Links within the site that lead to no file, or to no id in it."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            if urlsplit(link).scheme or urlsplit(link).netloc:
                continue
            file, anchor = urldefrag(link)
            file = unquote(file.partition("?")[0])
            target = (path.parent / file).resolve() if file else path
            if target.is_dir():
                target /= "index.html"
            known = target.is_file()
            if not known or (target in pages and anchor and anchor not in pages[target].ids):
                dead.append(f"{path.relative_to(site)}: {link}")
    return dead


_MEASURE = """<!doctype html><title></title><script>
const wide = [];
async function measure(page, width) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px";
  frame.src = page;
  document.body.append(frame);
  await new Promise(loaded => frame.onload = loaded);
  const parts = frame.contentDocument.querySelectorAll("html, body, .main, .content");
  if ([...parts].some(part => part.scrollWidth > Math.max(part.clientWidth, 1) + 1)) wide.push(page);
  frame.remove();
}
onload = async () => {
  for (const page of PAGES) await measure(page, WIDTH);
  document.title = JSON.stringify(wide);
};
</script><body></body>"""


def scrolls_sideways(chromium: str, site: Path, width: int) -> list[str]:
    """The pages that do so in a window as wide: theirs, and not a table or a block of code alone."""
    pages = [str(path.relative_to(site)) for path in sorted(site.rglob("*.html"))]
    outer = site / "measure.html"
    outer.write_text(_MEASURE.replace("PAGES", json.dumps(pages)).replace("WIDTH", str(width)))
    words = (
        "--headless --no-sandbox --disable-gpu --allow-file-access-from-files --virtual-time-budget=600000"
    )
    command = [chromium, *words.split(), f"--user-data-dir={site}.profile", "--dump-dom", outer.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    outer.unlink()
    (title,) = re.findall(r"<title>(.+?)</title>", done.stdout)
    found: list[str] = json.loads(html.unescape(title))
    return found


def red_boxes(text: str) -> list[str]:
    """What docutils and furo draw where they could not make sense of a page."""
    return re.findall(
        r'class="(?:[^"]* )?(?:system-message|problematic|contents local|contents topic)\b', text
    )


def inventory(site: Path) -> set[tuple[str, str]]:
    """Kind and name of all that other projects may link to."""
    raw = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(raw).decode().splitlines()
    # A line is: name, domain:role, priority, page, title; a name may have blanks.
    found = [re.fullmatch(r"(.+?) (\w+:\w+) -?\d+ \S+ .*", line) for line in lines]
    return {(each[2], each[1]) for each in found if each}
