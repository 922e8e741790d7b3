# SPDX-License-Identifier: MIT
"""docs/audit.md: its commands work as they stand there, and its samples are what they print."""

from __future__ import annotations

import argparse
import ast
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from reuseport.audit import add_arguments

from ..reuseport.planted.table import PROGRAM
from ..support import Missing, needs
from . import samples
from .stages import NotHereError

PAGE = samples.PAGE.read_text()
SAMPLES = samples.samples(PAGE)
COMMANDS = samples.sections(PAGE)
AUDITS = [command for commands in COMMANDS.values() for command in commands if "reuseport audit" in command]
DEBIAN = {"nginx": "nginx-light", "haproxy": "haproxy"}
SOURCE = Path(__file__).parents[2] / "reuseport"


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser()
    add_arguments(found, "audit")
    return found


def test_four_servers_in_five_commands() -> None:
    """From the install to the verdict."""
    assert [*COMMANDS] == ["nginx", "haproxy", "gunicorn", "uvicorn"]
    for server, commands in COMMANDS.items():
        assert (len(commands), commands[0]) == (5, "pip install mptcp-sockopt")
        assert all(server in shlex.split(command) for command in commands[1:])
        assert "reuseport audit" in commands[-1]


@pytest.mark.parametrize("command", AUDITS)
def test_a_command_is_understood(command: str) -> None:
    """By the audit as it is."""
    options = parser().parse_args(shlex.split(command)[2:])
    assert options.cmd[0] == "--"


def test_every_option_of_the_page_exists() -> None:
    """In --help; so does what the page says about kinds of clients."""
    text = re.sub(r"```(?:sh|text)\n.*?```", "", PAGE, flags=re.DOTALL)
    words = {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"(?<!\S)--[\w-]+", code)}
    known = set(parser()._option_string_actions)
    assert words - known - {"--reuse-port"} == set()
    assert len(words) > 15


def test_a_sample_is_of_a_command_of_the_page() -> None:
    """One for each server, and one with all clients."""
    assert [sample.command for sample in SAMPLES if sample.command not in AUDITS] == []
    assert len({shlex.split(sample.command.partition(" -- ")[2])[0] for sample in SAMPLES}) == 4
    lines = [line.partition(":")[0] for sample in SAMPLES for line in sample.lines]
    assert {"plain", "late", "keepalive", "slow"} <= {*lines}


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.command for sample in SAMPLES])
def test_a_sample_looks_like_a_report(sample: samples.Sample) -> None:
    """Each line has the shape that a report of this version has, and the last one is the verdict."""
    assert samples.shapeless(sample.lines) == []
    assert sample.lines[0].startswith("asked: ")
    assert sample.lines[-1].startswith("AUDIT: ")
    assert [line for line in sample.output.splitlines()[:-1] if len(line) > 80] == []


def test_the_shapes_are_those_of_a_report(tmp_path: Path) -> None:
    """Of a server that loses nobody, under every kind of client."""
    where = (tmp_path, {**os.environ})
    command = f"reuseport audit --late 100 --keepalive --slow -- {sys.executable} {PROGRAM} careful"
    code, out = samples.run(command, where, "--restarts", "8", "--rate", "100", "--pause", "0.05")
    lines = samples.Sample(command, out).lines
    assert samples.shapeless(lines) == [], out
    assert {"asked", "restarts", "plain", "late", "keepalive", "slow"} <= {
        line.partition(":")[0] for line in lines
    }
    assert code == 0, out


def test_the_refusals_are_those_of_the_code() -> None:
    """Each sentence of the page stands in the audit."""
    table = PAGE.split("| it says | do |")[1].split("\n\n")[0]
    quoted = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    said = [_text(path) for path in (SOURCE / "audit").glob("*.py")]
    assert len(quoted) > 12
    assert [words for words in quoted if not any(words in text for text in said)] == []


def _text(path: Path) -> str:
    """All texts of a module; what is filled in is left out."""
    tree = ast.parse(path.read_text())
    parts = [
        node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return "\n".join(str(node.value) for node in parts)


def proven(command: str, where: tuple[Path, dict[str, str]]) -> tuple[int, str]:
    """As short as a verdict can be; with fewer connections, if this machine or the server cannot do that."""
    for rate in ("100", "20"):
        code, out = samples.run(command, where, "--restarts", "5", "--seconds", "120", "--rate", rate)
        if code != 3:
            break
    return code, out


@pytest.mark.slow
@pytest.mark.parametrize("server", COMMANDS)
def test_the_commands_run(server: str) -> None:
    """Each ends with a verdict. (pip install is for .ci/run.)"""
    if server in ("haproxy", "uvicorn") and "MPTCP_SOCKOPT_FEWER" in os.environ:
        pytest.skip("nginx and gunicorn are enough here")
    if server in DEBIAN:
        needs(server, DEBIAN[server])
    try:
        with samples.folder(server) as where:
            for command in COMMANDS[server][1:]:
                if "reuseport audit" not in command:
                    assert samples.run(command, where)[0] == 0
                    continue
                code, out = proven(command, where)
                assert code in (0, 1), (command, out)
                lines = samples.Sample(command, out).lines
                assert samples.shapeless(lines) == [], (command, out)
                assert lines[-1].startswith("AUDIT: PASS: " if code == 0 else "AUDIT: FAIL: ")
    except NotHereError as error:
        raise Missing(str(error)) from None
