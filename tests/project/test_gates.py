# SPDX-License-Identifier: MIT
"""What .ci/run says when it is red, how it waits for apt, that its tools are pinned; no gate runs here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from ..support import Missing, needs, run

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "run"


class Machine:
    """A checkout that has .ci/run alone, and on PATH what it begins with: programs that do nothing."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.programs = folder / "checkout", folder / "programs"
        (self.checkout / ".ci").mkdir(parents=True)
        shutil.copy(SCRIPT, self.checkout / ".ci")
        self.programs.mkdir()
        needed, wanted = re.findall(r"(?s)for pair in (.*?); do", SCRIPT.read_text())
        for pair in f"{needed} {wanted}".replace("\\\n", "").split():
            if "/" not in pair:
                self.program(pair.split(":")[0], "exit 0")
        for name in "bash sh mktemp rm chmod dirname wc".split():
            found = shutil.which(name)
            assert found
            (self.programs / name).symlink_to(found)
        self.program("python3", "echo why not >&2; exit 7")
        self.program("apt-get", "exit 0")
        self.program("sleep", "exit 0")

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def gates(self) -> tuple[int, list[str], str]:
        """Exit status, what stdout has, what stderr has."""
        env = {**os.environ, "PATH": str(self.programs), "TMPDIR": str(self.checkout)}
        done = run("bash", str(self.checkout / ".ci" / "run"), env=env)
        return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_last_line_of_a_red_run_names_the_step(machine: Machine) -> None:
    """On the one stream that it writes to; and nothing is left behind."""
    status, lines, errors = machine.gates()
    assert (status, errors) == (7, "")
    assert lines[-3:-1] == ["why not", ""]
    step = next(line for line in lines if line.startswith("== README"))
    assert re.fullmatch(rf"FAILED at step: {re.escape(step[3:])}, after \d+ s \(\d+ s in all\)", lines[-1])
    assert [path.name for path in machine.checkout.iterdir()] == [".ci"]


def test_a_step_that_has_ended_says_how_long_it_took(machine: Machine) -> None:
    """When the next begins."""
    (machine.programs / "ip").unlink()
    _, lines, _ = machine.gates()
    first, _ = [line[3:] for line in lines if line.startswith("== ")]
    assert first == "Debian packages: iproute2"
    assert sum(re.fullmatch(rf"-- \d+ s: {first}", line) is not None for line in lines) == 1


def test_apt_is_waited_for(machine: Machine) -> None:
    """Also for the lock of its lists, for which it does not wait by itself."""
    (machine.programs / "ip").unlink()
    calls = machine.programs / "calls"
    log = shlex.quote(str(calls))
    machine.program(
        "apt-get",
        f"""echo "$@" >>{log}
        [ $(wc -l <{log}) -gt 2 ] && exit 0
        echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)'
        exit 100""",
    )
    assert machine.gates()[1][-1].startswith("FAILED at step: README")
    words = "-o DPkg::Lock::Timeout=300"
    asked = [f"{words} update -q"] * 3 + [f"{words} install -qy --no-install-recommends iproute2"]
    told = [line for line in calls.read_text().splitlines() if "indextargets" not in line]
    assert told == asked


@pytest.mark.parametrize("indexes", ["", "http://mirror/debian"])
def test_indexes_are_fetched_where_apt_has_none(machine: Machine, indexes: str) -> None:
    """Images often come without; no package is missing."""
    calls = machine.programs / "calls"
    log = shlex.quote(str(calls))
    machine.program("apt-get", f"""echo "$@" >>{log}; [ "$1" != indextargets ] || echo '{indexes}'""")
    step = next(line for line in machine.gates()[1] if line.startswith("== "))
    updated = any(line.endswith(" update -q") for line in calls.read_text().splitlines())
    assert (updated, step.startswith("== README")) == (not indexes, bool(indexes))


def test_whatever_else_apt_fails_of_ends_the_run(machine: Machine) -> None:
    """With apt's words before the last line."""
    (machine.programs / "ip").unlink()
    machine.program("apt-get", "echo 'E: no such mirror'; exit 100")
    lines = machine.gates()[1]
    assert lines[-3:-1] == ["E: no such mirror", ""]
    assert lines[-1].startswith("FAILED at step: Debian packages: iproute2, after")


@pytest.mark.parametrize("words", ["404  Not Found", "E: no such mirror"])
def test_what_a_mirror_does_not_serve_is_gone(machine: Machine, words: str) -> None:
    """A program that only a few tests need; any other failure to fetch it ends the run."""
    (machine.programs / "fish").unlink()
    machine.program("apt-get", f'case "$*" in *" fish") echo "fetch  {words}"; exit 100;; esac')
    machine.program("python3", 'echo "gone: $MPTCP_SOCKOPT_GONE"; exit 7')
    status, lines, _ = machine.gates()
    if "404" in words:
        assert status == 7
        assert "GONE: fish" in lines
        assert "gone: fish" in lines
    else:
        assert status == 1
        assert lines[-1].startswith("FAILED at step: Debian package: fish, after")


def test_a_program_that_is_gone_is_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own reason, although nothing may be missing; what is not gone is missing as ever."""
    monkeypatch.setenv("MPTCP_SOCKOPT_GONE", "fish zsh")
    with pytest.raises(pytest.skip.Exception, match="the mirror does not serve fish"):
        needs("no such program", "fish")
    with pytest.raises(Missing):
        needs("no such program", "chromium")


def test_every_tool_is_pinned() -> None:
    """Those of the extras "docs" and "lint" and of the group "wheels", and pip, which installs them."""
    constraints = (ROOT / ".ci" / "constraints.txt").read_text()
    pinned = {
        re.sub(r"[-_.]+", "-", name.lower()) for name in re.findall(r"(?m)^([\w.-]+)==\S+$", constraints)
    }
    lines = [line for line in constraints.splitlines() if not line.startswith("#")]
    assert len(pinned) == len(lines)
    pyproject = (ROOT / "pyproject.toml").read_text()
    tools = {"pip"}
    for group in ("docs", "lint", "wheels"):
        (block,) = re.findall(rf"(?ms)^{group} = \[\n(.*?)^\]", pyproject)
        names = re.findall(r'(?m)^  "([\w.-]+)', block)
        assert len(names) > 3
        tools |= set(names) - {"mptcp-sockopt"}
    assert tools <= pinned
    assert "PIP_CONSTRAINT=.ci/constraints.txt pip install -q '.[lint]'" in SCRIPT.read_text()
