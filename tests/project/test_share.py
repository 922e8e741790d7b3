# SPDX-License-Identifier: MIT
"""The folder share: man pages and completions are those of the parsers, and work in man and in the shells."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt.cli import Command

from ..support import needs, run
from . import share

SHARE = share.SHARE
PAGES = {path.name: path for path in sorted(SHARE.glob("man/man1/*"))}
#: Each command: the name of its program, its own, and its parser.
COMMANDS = [
    (name, command.name, program.parser_of(command))
    for name, program in share.PROGRAMS.items()
    for command in program.commands
]
of_each_command = pytest.mark.parametrize(
    ("program", "name", "parser"), COMMANDS, ids=[f"{program} {name}" for program, name, _ in COMMANDS]
)
AGAIN = "out of date: python -m tests.project.share writes it"
SECONDS = 30


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return {option for action in shown for option in action.option_strings}


def file_of(shell: str, program: str) -> Path:
    return SHARE / share.SHELLS[shell].format(program)


# ------------------------------------------------------------------------- what the tools are not needed for


def test_there_is_a_page_for_every_command_and_no_other() -> None:
    """And one for each program."""
    wanted = {f"{program}-{name}.1" for program, name, _ in COMMANDS}
    assert PAGES.keys() == wanted | {f"{program}.1" for program in share.PROGRAMS}, AGAIN


@of_each_command
def test_a_page_has_every_option(program: str, name: str, parser: argparse.ArgumentParser) -> None:
    """Of its command, and no other; but -h. Its name leads to it, and the program's page to the page."""
    text = PAGES[f"{program}-{name}.1"].read_text().replace("\\-", "-")
    shown = re.findall(r"^\.TP\n(\\fB-.*)", text, re.MULTILINE)
    parsers = [parser, *share.parts(parser)]
    wanted = set().union(*map(options_of, parsers)) - {"-h", "--help"}
    assert set(re.findall(r"\\fB(-[^\\]+)", " ".join(shown))) == wanted, AGAIN
    purposes = [each.purpose for each in share.PROGRAMS[program].commands if each.name == name]
    assert f"{program}-{name} - {purposes[0]}\n" in text, AGAIN
    assert f"\n\\fB{name}\\fR\n{purposes[0]}\n" in PAGES[f"{program}.1"].read_text().replace("\\-", "-"), (
        AGAIN
    )


@of_each_command
def test_completions_have_every_option(program: str, name: str, parser: argparse.ArgumentParser) -> None:
    """Of each command, in each shell."""
    bash, zsh, fish = (file_of(shell, program).read_text() for shell in share.SHELLS)
    prefix = f"_shtab_{program}_{name}".replace("-", "_")
    found = re.search(rf"^{prefix}_option_strings=\((.*)\)$", bash, re.MULTILINE)
    assert set(shlex.split(found[1]) if found else []) == options_of(parser), AGAIN
    found = re.search(rf"^{prefix}_options=\(\n(.*?)^\)$", zsh, re.MULTILINE | re.DOTALL)
    assert all(option in (found[1] if found else "") for option in options_of(parser)), AGAIN
    lines = re.findall(rf"^complete .*using {name}[';].*?(?= -d |$)", fish, re.MULTILINE)
    words = {f"-{dashes}{option}" for line in lines for dashes, option in re.findall(r" -([sl]) (\S+)", line)}
    assert words == {
        f"-l{option[2:]}" if option.startswith("--") else f"-s{option[1:]}" for option in options_of(parser)
    }, AGAIN


def test_nothing_in_it_is_of_a_day_a_release_or_a_machine() -> None:
    """So no build differs from another, and no release changes a file."""
    for path in PAGES.values():
        assert re.match(r'\.TH [A-Z\\-]+ "1" "" "mptcp\\-sockopt" "User Commands"\n', path.read_text())
    for path in filter(Path.is_file, SHARE.rglob("*")):
        assert mp.__version__ not in path.read_text()
        assert str(SHARE.parent) not in path.read_text()


# ---------------------------------------------------------------------------------------------- with them


@pytest.mark.lint
def test_the_folder_is_what_the_parsers_say() -> None:
    """Every file, to the letter."""
    found = {str(path.relative_to(SHARE)): path.read_text() for path in SHARE.rglob("*") if path.is_file()}
    written = share.written()
    other = {path for path in written.keys() | found.keys() if written.get(path) != found.get(path)}
    assert other == set(), AGAIN


@pytest.mark.lint
def test_words_of_an_epilog_go_where_they_belong() -> None:
    """What each exit status means into a section; lists stay lists."""
    parser = argparse.ArgumentParser(
        prog="x y",
        description="Does %(prog)s.",
        epilog="keys:\n  q  quit\n\nMore. Exit status: 0 yes, 3 cannot tell,\n1 no (or, once, perhaps). End.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where to")
    page = share.man_page(parser, "x-y", "do it", "x(1)")
    assert "\nx\\-y \\- do it\n.SH SYNOPSIS\n.B x y\n.ad l\n[\\-h] \\-o FILE\n" in page.replace("\\%", "")
    assert "\nDoes x y.\n.PP\n.nf\nkeys:\n  q  quit\n.fi\n.PP\nMore. End.\n" in page
    statuses = re.findall(r"\\fB(\d)\\fR\n(.*)", page)
    assert statuses == [("0", "yes"), ("1", "no (or, once, perhaps)"), ("2", "usage"), ("3", "cannot tell")]


@pytest.mark.lint
def test_a_file_is_completed_as_one() -> None:
    """What the parser calls FILE, or FILE and what it may end in: an option's value, or a word."""
    parser = argparse.ArgumentParser(prog="x y")
    parser.add_argument("source", metavar="FILE")
    parser.add_argument("-o", metavar="FILE.svg|png", required=True)
    parser.add_argument("-n", metavar="N")
    program = share.Program(
        lambda: argparse.ArgumentParser("x"), [Command("y", "", "do it")], lambda _: parser, "do"
    )
    bash, zsh, fish = (share.completions(program, shell).splitlines() for shell in share.SHELLS)
    assert [line for line in bash if "COMPGEN=_" in line] == [
        "_shtab_x_y_pos_0_COMPGEN=_shtab_compgen_files",
        "_shtab_x_y__o_COMPGEN=_shtab_compgen_files",
    ]
    assert sum(line.endswith(':_files"') for line in zsh) == 2
    assert sum("__fish_complete_path" in line for line in fish) == 2


# -------------------------------------------------------------------------------------------- the readers


@pytest.mark.parametrize("page", PAGES)
def test_a_page_renders(page: str) -> None:
    """Without a warning, with its sections, in 80 columns."""
    groff = needs("groff", "groff-base")
    words = (groff, "-man", "-ww", "-Tascii", "-P-cbou", str(PAGES[page]))
    done = run(*words, env={**os.environ, "LD_PRELOAD": ""})  # not under sanitizers, which dislike it
    assert (done.returncode, done.stderr) == (0, "")
    headings = re.findall(r"^[A-Z][A-Z ]+$", done.stdout, re.MULTILINE)
    assert [*headings[:3], *headings[-2:]] == ["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"]
    assert max(map(len, done.stdout.splitlines())) <= 80


#: What is typed, and what is offered.
TYPED = {
    "mptcp-sockopt self": {"selftest"},
    "mptcp-sockopt selftest --st": {"--strict"},
    "mptcp-sockopt record -o recor": {"recorded.jsonl"},
    "reuseport m": {"matrix"},
    "reuseport lesson c": {"client"},
    "reuseport lesson client --mp": {"--mptcp"},
    "reuseport fair --mode e": {"epoll", "exclusive"},
    "reuseport fair --mode fork --work": {"--workers"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the shell is: it has one file."""
    (tmp_path / "recorded.jsonl").touch()
    return tmp_path


@pytest.mark.parametrize("typed", TYPED)
def test_bash_completes(typed: str, folder: Path) -> None:
    """As when Tab is pressed: with the words so far."""
    bash = needs("bash", "bash")
    program, *words = typed.split()
    code = f"""source {shlex.quote(str(file_of("bash", program)))}
    function=$(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    COMP_WORDS=({typed}) COMP_CWORD={len(words)}
    $function && printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = run(bash, "--norc", "-euc", code, cwd=folder)
    assert (set(done.stdout.split()), done.stderr) == (TYPED[typed], "")


@pytest.mark.parametrize("typed", TYPED)
def test_fish_completes(typed: str, folder: Path) -> None:
    """The same."""
    fish = needs("fish", "fish")
    code = f"source {shlex.quote(str(file_of('fish', typed.split()[0])))}; complete -C {shlex.quote(typed)}"
    env = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    done = run(fish, "--no-config", "-c", code, env=env, cwd=folder)
    assert ({line.partition("\t")[0] for line in done.stdout.splitlines()}, done.stderr) == (TYPED[typed], "")


#: Completes what is typed, tells it to a descriptor, and begins again.
WIDGET = """PS1= fpath=({folder} $fpath); autoload -U compinit; compinit -u -D
tell() {{ zle complete-word; print -ru {number} -- $BUFFER; BUFFER= }}; zle -N tell; bindkey '^O' tell
print -u {number} ready
"""


@pytest.fixture
def zsh(folder: Path) -> Iterator[Callable[[str], str]]:
    """Type words at a zsh that has the completions: what it makes of them."""
    program = needs("zsh", "zsh")
    terminal, theirs = pty.openpty()
    told, telling = os.pipe()
    env = {**os.environ, "HOME": str(folder), "TERM": "dumb"}
    child = subprocess.Popen(
        [program, "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs,
        env=env, cwd=folder, pass_fds=[telling], start_new_session=True,
    )  # fmt: skip
    os.close(theirs)

    def typed(words: str) -> str:
        os.write(terminal, words.encode())
        seen, shown, deadline = b"", b"", time.monotonic() + SECONDS
        while not seen.endswith(b"\n"):
            ready, _, _ = select.select([terminal, told], [], [], deadline - time.monotonic())
            assert ready, shown
            if terminal in ready:
                shown += os.read(terminal, 4096)
            if told in ready:
                seen += os.read(told, 4096)
        return seen.decode().rstrip("\n")

    try:
        functions = shlex.quote(str(SHARE / "zsh/site-functions"))
        assert typed(WIDGET.format(folder=functions, number=telling)) == "ready"
        yield typed
    finally:
        child.kill()
        child.wait(SECONDS)
        for descriptor in (terminal, told, telling):
            os.close(descriptor)


def test_zsh_completes(zsh: Callable[[str], str]) -> None:
    """The same; among several it writes none."""
    for typed, offered in TYPED.items():
        *before, _ = typed.split()
        assert zsh(f"{typed}\x0f") == (" ".join([*before, *offered, ""]) if len(offered) == 1 else typed)
