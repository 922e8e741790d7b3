# SPDX-License-Identifier: MIT
"""The rules of the house, asked of its sources: floors, doors, and what only the border may see.

Everything here works on any checkout, so that a copy with a mistake in it can be asked too. problems() is one
sentence for each breach, with file and line. They are printed, with the tree, its floors and purposes, by:

    python -m tests.project.house
"""

from __future__ import annotations

import ast
import functools
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = "docs/house.md"  # has the floors
LIBRARY, APPLICATION = "mptcp_sockopt", "reuseport"
COMPILED = "_mptcp_sockopt"
BORDER = f"{LIBRARY}._border"
IMPORTER = f"{BORDER}.abi"  # of the compiled module
# What stands on the public names alone.
HOMES = (f"{LIBRARY}.selftest", f"{LIBRARY}.cli", APPLICATION)

# What breaks a rule, and why it may: a module, and a private room or a kind of secret. The list is to become
# shorter: an entry that is not needed is a breach too.
SELFTEST = f"{LIBRARY}.selftest"
EXCEPTIONS: dict[tuple[str, str], str] = {
    (f"{SELFTEST}.__main__", f"{LIBRARY}._version"): "which kernel it follows, nobody else asks",
    (f"{SELFTEST}._cases", "format"): "the other opinion: it reads and writes the kernel's bytes by itself",
    (f"{SELFTEST}._cases", "offset"): "the same",
    (f"{SELFTEST}._inq_cases", "format"): "as _cases",
    (f"{SELFTEST}._inq_cases", "number"): "as _cases",
    (f"{SELFTEST}._socket_cases", "format"): "as _cases",
    (f"{SELFTEST}._socket_cases", f"{BORDER}.netlink"): "as _cases; nothing public asks for a token",
    (f"{LIBRARY}.cli._here", f"{LIBRARY}._version"): "the address of a page, which is nothing to offer",
    (f"{LIBRARY}.cli._program", f"{BORDER}.seccomp"): "execvp(3), which nothing public calls",
    (f"{LIBRARY}.cli.run", f"{BORDER}.seccomp"): "it becomes another program, which no library may do",
    (f"{LIBRARY}._fields", "offset"): "to decode what lies at an offset is what it is for",
    (f"{LIBRARY}._unpacking", "offset"): "the same, for many fields at once",
}


class Use(NamedTuple):
    """A name of another module, as a dotted name, and the line that uses it."""

    name: str
    line: int


class Module(NamedTuple):
    name: str  # dotted
    is_package: bool
    text: str


@functools.cache
def _parsed(module: Module) -> ast.Module:
    return ast.parse(module.text)


def modules(root: Path) -> dict[str, Module]:
    """Every module of both packages, however deep, by its dotted name."""
    found = {}
    for package in (LIBRARY, APPLICATION):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            found[name] = Module(name, is_package, path.read_text(encoding="utf-8"))
    return found


# --------------------------------------------------------------------------------------------- imports


def uses(module: Module, known: dict[str, Module]) -> Iterator[Use]:
    """What a module names of others, resolved: by import statements of every kind and level, by attributes
    of what they bind, and by strings, as a table of rooms that are imported later has them."""
    names, strings = _named(module)
    yield from names
    yield from (use for use in strings if use.name in known)


@functools.cache
def _imported(module: Module) -> tuple[list[Use], dict[str, str]]:
    """What its import statements name, and what each name that they bind stands for."""
    names, bound = [], dict[str, str]()
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names.append(Use(alias.name, node.lineno))
                first = alias.name.partition(".")[0]
                bound[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{_base(module, node)}.{alias.name}"
                names.append(Use(name, node.lineno))
                bound[alias.asname or alias.name] = name
    return names, bound


def _meant(module: Module, node: ast.expr) -> str:
    """The dotted name that a name or an attribute stands for, or nothing."""
    first, dot, rest = _dotted(node).partition(".")
    _, bound = _imported(module)
    return f"{bound[first]}{dot}{rest}" if first in bound else ""


@functools.cache
def _named(module: Module) -> tuple[list[Use], list[Use]]:
    """The dotted names, and the strings that may be some."""
    names, strings = list(_imported(module)[0]), []
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.Attribute):
            if meant := _meant(module, node):
                names.append(Use(meant, node.lineno))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            package = module.name if module.is_package else module.name.rpartition(".")[0]
            strings.append(Use(package * node.value.startswith(".") + node.value, node.lineno))
    return names, strings


def _base(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    here = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*here, *([node.module] if node.module else [])])


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def owner_of(name: str, known: dict[str, Module]) -> str:
    """The module that a dotted name is of, or nothing."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


# ----------------------------------------------------------------------------------------------- floors


def floors(root: Path) -> dict[str, int]:
    """By module: the lines of the block of docs/house.md that has them."""
    text = (root / PAGE).read_text(encoding="utf-8")
    block = text.partition("```text floors\n")[2].partition("```")[0]
    found: dict[str, int] = {}
    for number, line in enumerate(block.splitlines()):
        for word in line.split():
            name = word if word.split(".")[0] in (LIBRARY, APPLICATION) else f"{LIBRARY}.{word}"
            if name in found:
                raise ValueError(f"{name} has two floors")
            found[name] = number
    return found


def arrows(known: dict[str, Module]) -> Iterator[tuple[str, str, int]]:
    """Each use of one module by another: who, whom, and the line."""
    for module in known.values():
        for use in uses(module, known):
            owner = owner_of(use.name, known)
            if owner and owner != module.name:
                yield module.name, owner, use.line


def climbing(known: dict[str, Module], floor: dict[str, int]) -> Iterator[str]:
    for name in sorted(known.keys() ^ floor.keys()):
        yield f"{name}: it has no floor in {PAGE}" if name in known else f"{name}: no such module"
    for name, owner, line in arrows(known):
        if name in floor and owner in floor and floor[owner] >= floor[name]:
            yield f"{name}:{line}: imports {owner}, which is not below it"


# ------------------------------------------------------------------------------------------------ doors


def exported(package: Module) -> set[str]:
    """The strings of its __all__; without one, of its ROOMS, and what it imports as itself."""
    assigned = {
        ast.unparse(node.targets[0]): node.value
        for node in _parsed(package).body
        if isinstance(node, ast.Assign)
    }
    if "__all__" in assigned:
        return set(ast.literal_eval(assigned["__all__"]))
    imports = [node for node in _parsed(package).body if isinstance(node, ast.ImportFrom)]
    as_itself = {alias.name for node in imports for alias in node.names if alias.name == alias.asname}
    return as_itself | set(ast.literal_eval(assigned["ROOMS"]))


def _inside(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def behind_doors(known: dict[str, Module]) -> Iterator[tuple[str, str, str]]:
    """Names that are not public, where they are not at home: the module, a private room, a sentence.

    What stands on public names sees no private room of the library. The border has a door of its own. And a
    name with an underscore is its module's own, everywhere.
    """
    public, at_border = exported(known[LIBRARY]), exported(known[BORDER])
    for module in known.values():
        home = next((home for home in HOMES if _inside(module.name, home)), None)
        for use in uses(module, known):
            owner = owner_of(use.name, known)
            if not owner or owner == module.name:
                continue
            own = use.name[len(owner) + 1 :].partition(".")[0]
            private_room = any(map(_is_private, owner.split(".")))
            secret = _is_private(own)
            if _inside(owner, BORDER) and not _inside(module.name, BORDER):
                name = use.name[len(BORDER) + 1 :].partition(".")[0]
                secret = secret or name not in {"", *at_border}
            if home and not _inside(owner, home):
                secret = secret or private_room or (owner == LIBRARY and own not in {"", *public})
            if secret:
                yield module.name, owner, f"{use.line}: {use.name} is not public"


# ----------------------------------------------------------------------------------------------------- border

_FORMAT_CALLS = re.compile(r"struct\.(Struct|pack|pack_into|unpack|unpack_from|iter_unpack|calcsize)")
_NETLINK = re.compile(r"socket\.(AF_NETLINK|NETLINK_\w+)")
_LEVEL = re.compile(r"socket\.(SOL|IPPROTO)_\w+")
_KERNEL_NAMES = re.compile(r"_?(SO|SOL|TCP|MPTCP|IP|IPV6|IPPROTO|SIOC|NETLINK|NLM_F|NLMSG|NLA|RTM)_?[A-Z]")


def beyond_the_border(known: dict[str, Module]) -> Iterator[tuple[str, str, str]]:
    """What only the border may see, elsewhere: the module, a kind of secret, a sentence.

    An application sets socket options of its own, and so it may number them; cffi and netlink are not for it.
    """
    for module in known.values():
        if _inside(module.name, BORDER):
            if module.name != IMPORTER and any(use.name.startswith(COMPILED) for use in uses(module, known)):
                yield module.name, "cffi", f" imports the compiled module, as {IMPORTER} alone may"
            continue
        for use in uses(module, known):
            if {COMPILED, "cffi", "ffi", "lib"} & set(use.name.split(".")):
                yield module.name, "cffi", f"{use.line}: {use.name} is cffi's"
            if _NETLINK.fullmatch(use.name):
                yield module.name, "netlink", f"{use.line}: {use.name} is for the border"
        if _inside(module.name, LIBRARY):
            yield from ((module.name, *secret) for secret in _secrets(module))


@functools.cache
def _secrets(module: Module) -> list[tuple[str, str]]:
    return [secret for node in ast.walk(_parsed(module)) for secret in _secrets_of(module, node)]


def _secrets_of(module: Module, node: ast.AST) -> Iterator[tuple[str, str]]:
    """What a piece of code knows of the kernel's layout: the kind, a sentence."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if (
            _FORMAT_CALLS.fullmatch(_meant(module, node.func) or called)
            and node.args
            and _is_format(node.args[0])
        ):
            yield "format", f"{node.lineno}: {called}({ast.unparse(node.args[0])}) is the format of a struct"
        if called.rpartition(".")[2] in ("getsockopt", "setsockopt") and any(map(_is_number, node.args[:2])):
            yield "number", f"{node.lineno}: {ast.unparse(node)} numbers an option"
        if called.rpartition(".")[2] == "Place":
            yield "offset", f"{node.lineno}: {ast.unparse(node)} places a field"
    elif isinstance(node, ast.Attribute) and node.attr == "offset":
        yield "offset", f"{node.lineno}: {ast.unparse(node)}"
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        if node.slice.lower and node.slice.upper and _is_number(node.slice.lower):
            yield "offset", f"{node.lineno}: {ast.unparse(node)} cuts at a number"
    elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
        if _LEVEL.fullmatch(ast.unparse(node.elts[0])) and _is_number(node.elts[1]):
            yield "number", f"{node.lineno}: {ast.unparse(node)} numbers an option"
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            for name in _numbered(target, node.value):
                yield "number", f"{node.lineno}: {name} is a number of the kernel's"


def _numbered(target: ast.expr, value: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=True):
            yield from _numbered(one, its)
    elif isinstance(target, ast.Name) and _KERNEL_NAMES.match(target.id) and _is_number(value):
        yield target.id


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def _is_format(node: ast.expr) -> bool:
    """Not one that only steps over whole records (s, x), nor one that is reflected from the header."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    words = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return bool(re.search(r"[a-rt-wyzA-Z]", "".join(words)))


# -------------------------------------------------------------------------------------------------------- all


def problems(root: Path) -> list[str]:
    """Every breach of these rules in a checkout."""
    known = modules(root)
    found = list(climbing(known, floors(root)))
    breaches = [*behind_doors(known), *beyond_the_border(known)]
    found += [f"{name}:{sentence}" for name, what, sentence in breaches if (name, what) not in EXCEPTIONS]
    stale = EXCEPTIONS.keys() - {(name, what) for name, what, _ in breaches}
    return found + [f"{name}: nothing of {what} is left, and its exception can go" for name, what in stale]


def purpose(module: Module) -> str:
    """The first sentence of its docstring."""
    paragraph = (ast.get_docstring(_parsed(module)) or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).partition(". ")[0].rstrip(".:")


def tree(root: Path, width: int) -> Iterator[str]:
    """The folders, and in each its files with floor and purpose."""
    known, floor = modules(root), floors(root)
    for folder in sorted(name for name, module in known.items() if module.is_package):
        indent = "  " * folder.count(".")
        yield f"{indent}{folder.rpartition('.')[2]}/"
        files = [name for name in known if name.rpartition(".")[0] == folder and not known[name].is_package]
        for name in [folder, *sorted(files)]:
            file = "__init__" if name == folder else name.rpartition(".")[2]
            place = f"{indent}  {file + '.py':<20} {floor.get(name, '?'):>2}  "
            yield place + textwrap.shorten(purpose(known[name]), width - len(place), placeholder=" ...")


def main(root: Path = ROOT) -> int:
    known, floor, found = modules(root), floors(root), problems(root)
    print(*tree(root, shutil.get_terminal_size((120, 0)).columns), *found, sep="\n")
    pairs = {(name, owner) for name, owner, _ in arrows(known)}
    verdict = f"broken rules: {len(found)}" if found else "none climbs, and no rule is broken"
    print(
        f"{len(known)} modules on {len({*floor.values()})} floors, {len(pairs)} imports among them: {verdict}"
    )
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
