# SPDX-License-Identifier: MIT
"""The reference, from the code: what Sphinx cannot read by itself.

- ``{commands} reuseport``: the commands of a program, from their parsers; each option is a target.
- The rows of fields.md, which ``python -m tests.project.fields`` writes, become targets too.
- In docstrings, ``name()`` of a public function becomes a link, and so does a thread rule a paragraph.
- Names of the standard library lead to Python's own pages.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Iterator

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from tests.project import fields, share

WIDTH = 68  # of a usage; a phone scrolls it, alone


class Commands(SphinxDirective):
    """What a program's parsers say: its usage, and a section for each command."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        program = share.PROGRAMS[name]
        found: list[nodes.Node] = [*self.about(program.parser(), listed=False)]
        for command in program.commands:
            parser = program.parser_of(command)
            section = nodes.section(ids=[nodes.make_id(parser.prog)], names=[parser.prog])
            section += nodes.title(text=parser.prog)
            section += list(self.about(parser))
            self.state.document.note_explicit_target(section, section)
            found.append(section)
        return found

    def about(self, parser: argparse.ArgumentParser, *, listed: bool = True) -> Iterator[nodes.Node]:
        status, rest = share.exit_status(parser.epilog or "")
        for words, raw in [
            *share.paragraphs(parser, parser.description or ""),
            *share.paragraphs(parser, rest),
        ]:
            yield nodes.literal_block(text=words, language="none") if raw else nodes.paragraph(text=words)
        for each in (parser, *share.parts(parser)):
            each.formatter_class = functools.partial(argparse.HelpFormatter, width=WIDTH)
            each.color = False  # type: ignore[attr-defined]  # Python 3.14
            usage = each.format_usage().removeprefix("usage: ").rstrip()
            yield nodes.literal_block(text=usage, language="none")
            if listed:
                yield from self.arguments_of(each)
        yield nodes.rubric(text="Exit status")
        yield _definitions((code, meaning, None) for code, meaning in status)

    def arguments_of(self, parser: argparse.ArgumentParser) -> Iterator[nodes.Node]:
        rows = []
        for action in parser._actions:
            if action.help == argparse.SUPPRESS or isinstance(
                action, (argparse._HelpAction, argparse._SubParsersAction)
            ):
                continue
            words = parser._get_formatter()._expand_help(action) if action.help else ""
            default = action.default
            if default not in (None, False, [], (), argparse.SUPPRESS) and "default" not in words:
                words = f"{words} (default: {default})".strip()
            rows.append((_invoked(action), words, self.target(parser, action)))
        if rows:
            yield _definitions(rows)

    def target(self, parser: argparse.ArgumentParser, action: argparse.Action) -> str | None:
        """Of an option: what :option:, the index and the search find."""
        program = parser.prog.replace(" ", "-")
        ids = [nodes.make_id(f"{program} {option}") for option in action.option_strings]
        standard = self.env.domains.standard_domain
        for option in action.option_strings:
            standard.add_program_option(program, option, self.env.docname, ids[-1])
        return ids[-1] if ids else None


def _invoked(action: argparse.Action) -> str:
    """An option as --help shows it, or the name of an argument."""
    if action.choices:
        takes = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        takes = str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return str(action.metavar or action.dest)
    return ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {takes}")


def _definitions(rows: object) -> nodes.definition_list:
    listed = nodes.definition_list()
    for word, meaning, target in rows:  # type: ignore[attr-defined]
        term = nodes.term("", "", nodes.literal(text=word), ids=[target] if target else [])
        listed += nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph(text=meaning)))
    return listed


def _rows_as_targets(app: Sphinx, doctree: nodes.document) -> None:
    """In fields.md: a row below a class's name is an attribute of that class."""
    if app.env.docname != fields.PAGE.stem:
        return
    results = {result.__name__: result for result in fields.RESULTS}
    python = app.env.domains.python_domain
    for section in doctree.findall(nodes.section):
        owner = results.get(section[0].astext())
        for table in section.children if owner else ():
            if not isinstance(table, nodes.table):
                continue
            wide = len(list(table.findall(nodes.colspec))) == 5
            table["classes"] += ["fields"] * wide
            for row in next(table.findall(nodes.tbody)).findall(nodes.row):
                first, *others = row.findall(nodes.entry)
                name = f"{owner.__module__}.{owner.__name__}.{first.astext()}"  # type: ignore[union-attr]
                first["ids"].append(name)
                python.note_object(name, "attribute", name, location=first)
                title = f"{first.astext()} ({owner.__name__} attribute)"  # type: ignore[union-attr]
                first.insert(0, addnodes.index(entries=[("single", title, name, "", None)]))
                if wide:
                    for cell in others[:3]:
                        cell["classes"].append("short")
                    others[2]["classes"].append("since")


@functools.cache
def _calls(module: str) -> re.Pattern[str]:
    """A public function of a module in a sentence, as ``name()`` without any mark-up."""
    room = importlib.import_module(module)
    names = [name for name in room.__all__ if inspect.isfunction(getattr(room, name))]
    return re.compile(rf"(?<![`.\w])({'|'.join(names) or '(?!)'})\(\)(?!`)")


#: Indented lines below a sentence: as they stand, and no quotation.
_EXAMPLE = re.compile(r"^(?![ *-]|\d+\.|\.\. )(.*(?<!::))\n\n(    )", re.MULTILINE)


def _tidy(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    module = name
    while module not in sys.modules:
        module = module.rpartition(".")[0]
    text = _EXAMPLE.sub(r"\1\n\n::\n\n\2", "\n".join(lines))
    if hasattr(sys.modules[module], "__all__"):
        text = _calls(module).sub(rf":py:func:`~{module}.\1`", text)
    before, mark, rule = text.partition("Thread rule: ")
    if mark:
        text = f"{before.rstrip()}\n\n**Threads:** {rule}"
    lines[:] = text.splitlines()


#: What fields.md has: the attributes of results.
_ON_FIELDS = {
    id(getattr(result, name))
    for result in fields.RESULTS
    for name in dir(result)
    if name != "raw" and inspect.isdatadescriptor(getattr(result, name))
}


def _only_methods(
    app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object
) -> bool | None:
    """Of a result: each attribute is described once, on fields.md."""
    # For a slot, Sphinx hands over a mark of its own.
    slot = type(thing).__module__.startswith("sphinx.") and any(
        name in getattr(result, "__slots__", ()) for result in fields.RESULTS
    )
    return True if slot or id(thing) in _ON_FIELDS or name == "fields" else None


#: As annotations are written, instead of what they stand for.
_ALIASES = {
    "int | ~?mptcp_sockopt._annotations.HasFileno | ~?mptcp_sockopt._annotations.HasExtraInfo": (
        "~mptcp_sockopt.SocketLike"
    ),
    r"(?<![\w.])t\.Address": "~mptcp_sockopt.Address",
    r"tuple\[str, int\] | tuple\[str, int, int, int\]": "~mptcp_sockopt.Address",
}


def _shorten(
    app: Sphinx,
    what: str,
    name: str,
    thing: object,
    options: object,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    def shortened(text: str | None) -> str | None:
        for long, short in _ALIASES.items():
            text = re.sub(long.replace(" | ", r" \| "), short, text) if text else text
        return text

    return shortened(signature), shortened(result)


def _python(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """A link to Python's page of a module, without fetching anything."""
    target = node.get("reftarget", "")
    module, _, name = target.rpartition(".")
    if node.get("refdomain") != "py" or module.partition(".")[0] not in sys.stdlib_module_names or not name:
        return None
    return nodes.reference("", "", text, refuri=f"https://docs.python.org/3/library/{module}.html#{target}")


def setup(app: Sphinx) -> dict[str, object]:
    app.add_directive("commands", Commands)
    app.connect("doctree-read", _rows_as_targets)
    app.connect("autodoc-process-docstring", _tidy)
    app.connect("autodoc-skip-member", _only_methods)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("missing-reference", _python)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
