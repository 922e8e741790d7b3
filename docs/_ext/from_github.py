# SPDX-License-Identifier: MIT
"""One text for GitHub, the package index and the site: what a link leads to depends on where it is read.

- The README's links are absolute, for the package index. Here, those to pages lead to the site's own.
- Links of a page to a file of the repository that is no page lead to GitHub.

What is left is checked by the build, so that a link to a file that is not there is an error.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

REPOSITORY = "https://github.com/mptcp-sockopt/mptcp-sockopt"
#: A page or a picture of docs/, where the README links to.
_OWN = re.compile(
    r"https://(?:github|raw\.githubusercontent)\.com/mptcp-sockopt/mptcp-sockopt/(?:blob/)?main/docs/"
)
_LINK = re.compile(r"(?<!!)(\[[^]]*\]\()(?!https?:|#|mailto:)([^)#\s]+)((?:#[^)\s]*)?\))")


def _to_pages(app: Sphinx, relative: Path, parent: str, content: list[str]) -> None:
    """The README and the changelog, which pages include: their links to docs/ become links of the site."""
    text = _OWN.sub("/", content[0])
    content[0] = _to_github(Path(app.srcdir).parent, Path(app.srcdir), text)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    source[0] = _to_github(page.parent, Path(app.srcdir), source[0])
    if page.name == "index.md" and page.parent != Path(app.srcdir):  # a folder of pages
        source[0] += "\n```{toctree}\n:hidden:\n:titlesonly:\n:glob:\n\n*\n```\n"


def _to_github(folder: Path, docs: Path, text: str) -> str:
    def turned(link: re.Match[str]) -> str:
        before, path, after = link.groups()
        file = Path(path) if path.startswith("/") else (folder / path).resolve()
        if path.startswith("/") or not file.exists():
            return link[0]
        if file.is_relative_to(docs) and file.suffix in (".md", ".svg"):
            # An included text stands beside docs/, and links to docs/x.md.
            return link[0] if folder.is_relative_to(docs) else f"{before}/{file.relative_to(docs)}{after}"
        kind = "tree" if file.is_dir() else "blob"
        return f"{before}{REPOSITORY}/{kind}/main/{file.relative_to(docs.parent)}{after}"

    return _LINK.sub(turned, text)


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("include-read", _to_pages)
    app.connect("source-read", _read)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
