# SPDX-License-Identifier: MIT
"""The workflows in .github, as far as they can be proven without GitHub: ``python -m pytest -m lint``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp

from ..support import Missing, run

pytestmark = pytest.mark.lint

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.stem: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

# What is released: each platform with the stable ABI, and with free threading.
PYTHONS = ("cp310", "cp314t", "cp315t")
PLATFORMS = {
    "manylinux": ("x86_64", "aarch64", "i686", "armv7l", "s390x", "riscv64", "ppc64le"),
    "musllinux": ("x86_64", "aarch64", "i686", "armv7l"),
}
# GitHub has machines for these (x86_64 runs i686 too); the others are emulated.
NATIVE = {"x86_64": "ubuntu-24.04", "i686": "ubuntu-24.04", "aarch64": "ubuntu-24.04-arm"}


def load(path: Path) -> Any:
    try:
        from ruamel.yaml import YAML
    except ImportError:
        raise Missing("ruamel.yaml: pip install '.[lint]'") from None
    return YAML(typ="safe", pure=True).load(path)


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool of the lint extra, from this Python's environment."""
    folder = Path(sys.executable).parent
    path = shutil.which(name, path=f"{folder}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        raise Missing(f"{name}: pip install '.[lint]'")
    return run(path, *map(str, arguments), cwd=ROOT)


def schema(path: Path) -> subprocess.CompletedProcess[str]:
    return tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", path)


def security(path: Path) -> subprocess.CompletedProcess[str]:
    return tool("zizmor", "--offline", "--no-progress", "--persona", "pedantic", "--strict-collection", path)


def identifiers(*options: str) -> list[str]:
    done = tool("cibuildwheel", "--print-build-identifiers", "--platform", "linux", *options, ".")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def jobs() -> dict[str, dict[str, Any]]:
    return {
        f"{name}.{job}": body for name, path in WORKFLOWS.items() for job, body in load(path)["jobs"].items()
    }


@pytest.mark.parametrize("check", [schema, security])
@pytest.mark.parametrize("path", WORKFLOWS.values(), ids=WORKFLOWS)
def test_a_workflow_has_the_form_that_github_wants_and_no_known_hole(check: Any, path: Path) -> None:
    """GitHub's schema; zizmor, of everything that needs no network."""
    done = check(path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    """The test above can fail: a key that there is not, an action by tag, a token for everything."""
    text = WORKFLOWS["wheels"].read_text()
    for check, right, wrong in (
        (schema, "runs-on:", "run-on:"),
        (schema, "timeout-minutes: 90", "timeout-minutes: soon"),
        (security, "043fb46d1a93c77aae656e7c1c64a875d1fc6a0a # v7.0.1", "main"),
        (security, "persist-credentials: false", "fetch-depth: 1"),
        (security, "permissions:\n  contents: read", "permissions: write-all"),
    ):
        assert right in text
        path = tmp_path / ".github" / "workflows" / "wheels.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(right, wrong))
        assert check(path).returncode != 0, wrong


def test_actions_are_pinned_by_commit() -> None:
    """With the release beside it, and one action is one commit everywhere."""
    pins: dict[str, str] = {}
    for path in WORKFLOWS.values():
        for line in re.findall(r"^ *-? *uses: .*$", path.read_text(), re.MULTILINE):
            pin = re.fullmatch(r" *-? *uses: ([\w./-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", line)
            assert pin, line
            assert pins.setdefault(pin[1], pin[2]) == pin[2]
    assert len(pins) == 6


def test_permissions_are_the_least() -> None:
    """Reading the repository; and for the job that publishes, a token for PyPI and not even that."""
    assert WORKFLOWS.keys() == {"ci", "wheels"}
    for path in WORKFLOWS.values():
        assert load(path)["permissions"] == {"contents": "read"}
    own = {name: job["permissions"] for name, job in jobs().items() if "permissions" in job}
    assert own == {"wheels.publish": {"id-token": "write"}}


def test_every_job_ends() -> None:
    """By itself: GitHub would wait for six hours."""
    assert all(0 < job["timeout-minutes"] <= 90 for job in jobs().values())


def test_only_a_pushed_tag_is_published_and_only_as_a_whole() -> None:
    """After every wheel and the sdist; in the environment that PyPI trusts."""
    publish = jobs()["wheels.publish"]
    assert publish["if"] == "github.event_name == 'push' && github.ref_type == 'tag'"
    assert load(WORKFLOWS["wheels"])["on"]["push"] == {"tags": ["v*"]}
    assert {f"wheels.{name}" for name in publish["needs"]} == jobs().keys() - {
        "ci.lint",
        "ci.test",
        "wheels.publish",
    }
    assert publish["environment"]["name"] == "pypi"
    taken, published = publish["steps"]
    assert published["uses"].startswith("pypa/gh-action-pypi-publish@")
    artifacts = [
        step["with"]["name"]
        for job in jobs().values()
        for step in job["steps"]
        if "if-no-files-found" in str(step)
    ]
    assert taken["with"]["pattern"] == "dist-*"
    assert sorted(artifacts) == ["dist-sdist", "dist-wheels-${{ matrix.arch }}"]


@pytest.mark.parametrize(("tag", "good"), [("v{}", True), ("{}", False), ("v{}.1", False), ("v", False)])
def test_the_tag_is_the_version_or_nothing_is_built(tag: str, good: bool) -> None:
    """The step as it stands there."""
    steps = jobs()["wheels.sdist"]["steps"]
    (step,) = [step for step in steps if step.get("name") == "The tag is the version"]
    assert step["if"] == "github.ref_type == 'tag'"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {"PATH": path, "GITHUB_REF_NAME": tag.format(mp.__version__)}
    done = run("bash", "-e", "-c", step["run"], cwd=ROOT, env=env)
    assert (done.returncode == 0) is good
    assert (f"the package's version {mp.__version__}" in done.stderr) is not good


def test_the_wheels_are_those_of_the_list() -> None:
    """What [tool.cibuildwheel] in pyproject.toml builds, no more and no less."""
    expected = [
        f"{python}-{libc}_{machine}"
        for libc, machines in PLATFORMS.items()
        for machine in machines
        for python in PYTHONS
    ]
    assert sorted(identifiers("--archs", "all")) == sorted(expected)


def test_the_rows_of_the_workflow_are_all_machines() -> None:
    """Each once; on its own processor where GitHub has it, else with the emulator for it."""
    rows = jobs()["wheels.wheels"]["strategy"]["matrix"]["include"]
    machines = [row["arch"] for row in rows]
    assert sorted(machines) == sorted(PLATFORMS["manylinux"])
    assert {row["arch"]: row["runner"] for row in rows if "emulated" not in row} == NATIVE
    for row in rows:
        if "emulated" in row:
            assert row["emulated"] == {"armv7l": "arm"}.get(row["arch"], row["arch"])
    found = [name for machine in machines for name in identifiers("--archs", machine)]
    assert sorted(found) == sorted(identifiers("--archs", "all"))


def test_the_local_builder_has_the_same_platforms() -> None:
    """.ci/workshop.py names its targets machine-libc; docs/releases.md says how many there are."""
    builder = ROOT / ".ci" / "workshop.py"
    targets = re.findall(r'^ +"(\w+)-(manylinux|musllinux)":', builder.read_text(), re.MULTILINE)
    expected = [(machine, libc) for libc, machines in PLATFORMS.items() for machine in machines]
    assert sorted(targets) == sorted(expected)
    count = "zero one two three four five six seven eight nine ten eleven twelve".split()[len(targets)]
    assert f"each of {count} platforms" in (ROOT / "docs" / "releases.md").read_text()


def test_the_builder_is_the_one_that_is_tested_here() -> None:
    """One release of cibuildwheel in the workflow and in the lint extra."""
    (pinned,) = re.findall(r'"cibuildwheel==([\d.]+);', PYPROJECT)
    commands = [step.get("run", "") for step in jobs()["wheels.wheels"]["steps"]]
    assert f"python -m pip install cibuildwheel=={pinned}" in commands


def test_every_python_of_the_classifiers_is_tested() -> None:
    """And the free-threaded ones that have wheels."""
    pythons = jobs()["ci.test"]["strategy"]["matrix"]["python"]
    classified = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)
    assert len(classified) >= 4
    assert set(classified) <= set(pythons)
    assert {f"cp{python.replace('.', '')}" for python in pythons if python.endswith("t")} < set(PYTHONS)
