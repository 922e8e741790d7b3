# SPDX-License-Identifier: MIT
"""The workflows in .github, as far as they can be proven without GitHub: ``python -m pytest -m lint``."""

from __future__ import annotations

import json
import os
import re
import runpy
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

TARGETS = runpy.run_path(str(ROOT / ".ci" / "targets.py"))["TARGETS"]
PYTHONS = ("cp310", "cp314t", "cp315t")  # with the stable ABI, and with free threading


def load(path: Path) -> Any:
    try:
        from ruamel.yaml import YAML
    except ImportError:
        raise Missing("ruamel.yaml: pip install '.[lint]'") from None
    return YAML(typ="safe", pure=True).load(path)


def tool(name: str, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of the lint extra, from this Python's environment."""
    folder = Path(sys.executable).parent
    path = shutil.which(name, path=f"{folder}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        raise Missing(f"{name}: pip install '.[lint]'")
    return run(path, *map(str, arguments), cwd=ROOT, env={**os.environ, **env})


def schema(path: Path) -> subprocess.CompletedProcess[str]:
    return tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", path)


def security(path: Path) -> subprocess.CompletedProcess[str]:
    return tool("zizmor", "--offline", "--no-progress", "--persona", "pedantic", "--strict-collection", path)


def jobs() -> dict[str, dict[str, Any]]:
    return {
        f"{name}.{job}": body for name, path in WORKFLOWS.items() for job, body in load(path)["jobs"].items()
    }


def step_of(job: str, begin: str) -> dict[str, Any]:
    """The step with a name, or a command, that begins so."""
    steps: list[dict[str, Any]] = jobs()[job]["steps"]
    (found,) = [step for step in steps if step.get("name", step.get("run", "")).startswith(begin)]
    return found


def perform(step: dict[str, Any], **env: str) -> subprocess.CompletedProcess[str]:
    """Run a step as it stands there."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return run("bash", "-e", "-c", step["run"], cwd=ROOT, env={"PATH": path, **env})


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
    assert len(pins) == 7


def test_permissions_are_the_least() -> None:
    """Reading the repository; and for the jobs that publish, a token for PyPI or Pages and not even that."""
    assert WORKFLOWS.keys() == {"ci", "docs", "wheels"}
    for path in WORKFLOWS.values():
        assert load(path)["permissions"] == {"contents": "read"}
    own = {name: job["permissions"] for name, job in jobs().items() if "permissions" in job}
    assert own == {
        "docs.publish": {"id-token": "write", "pages": "write"},
        "wheels.publish": {"id-token": "write"},
    }


def test_every_job_ends() -> None:
    """By itself: GitHub would wait for six hours."""
    assert all(0 < job["timeout-minutes"] <= 90 for job in jobs().values())


def test_only_a_pushed_tag_is_published_and_only_as_a_whole() -> None:
    """After every wheel and the sdist; in the environment that PyPI trusts."""
    publish = jobs()["wheels.publish"]
    assert publish["if"] == "github.event_name == 'push' && github.ref_type == 'tag'"
    assert load(WORKFLOWS["wheels"])["on"]["push"] == {"tags": ["v*"]}
    others = {name for name in jobs() if name.startswith("wheels.")} - {"wheels.publish"}
    assert {f"wheels.{name}" for name in publish["needs"]} == others
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


def test_the_site_is_published_with_a_pushed_tag_only_and_built_always() -> None:
    """What is built is what was tested."""
    assert load(WORKFLOWS["docs"])["on"] == {
        "push": {"branches": ["main"], "tags": ["v*"]},
        "pull_request": None,
    }
    publish = jobs()["docs.publish"]
    assert publish["if"] == "github.event_name == 'push' && github.ref_type == 'tag'"
    assert (publish["needs"], publish["environment"]["name"]) == ("build", "github-pages")
    commands = [step["run"] for step in jobs()["docs.build"]["steps"] if "run" in step]
    assert commands[1] == "python -m pytest -m docs"
    assert " -W " in commands[2]


@pytest.mark.parametrize(("tag", "good"), [("v{}", True), ("{}", False), ("v{}.1", False), ("v", False)])
def test_the_tag_is_the_version_or_nothing_is_built(tag: str, good: bool) -> None:
    """By the first step of all."""
    step = step_of("wheels.sdist", "The tag is the version")
    assert step["if"] == "github.ref_type == 'tag'"
    done = perform(step, GITHUB_REF_NAME=tag.format(mp.__version__))
    assert (done.returncode == 0) is good
    assert (f"the package's version {mp.__version__}" in done.stderr) is not good


def filled(text: str, row: dict[str, str]) -> str:
    """What GitHub puts in for a row of the matrix."""
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda name: row[name[1]], text)


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, str]]:
    """The jobs that build wheels. They are made at run time, so that the tools above do not see them."""
    out = tmp_path / "output"
    step = step_of("wheels.sdist", "The machines")
    done = perform(step, GITHUB_OUTPUT=str(out))
    assert done.returncode == 0, done.stderr
    (line,) = out.read_text().splitlines()
    name, _, value = line.partition("=")
    body = jobs()["wheels.sdist"]["outputs"]["machines"]
    assert body == f"${{{{ steps.{step['id']}.outputs.{name} }}}}"
    assert jobs()["wheels.wheels"]["strategy"]["matrix"] == {
        "include": "${{ fromJSON(needs.sdist.outputs.machines) }}"
    }
    found: list[dict[str, str]] = json.loads(value)
    return found


def test_the_jobs_are_told_what_they_ask_for(rows: list[dict[str, str]]) -> None:
    """GitHub replaces a name that a row does not have with nothing, and says so to nobody."""
    asked = set(re.findall(r"matrix\.(\w+)", WORKFLOWS["wheels"].read_text()))
    assert [row for row in rows if row.keys() != asked] == []


def test_the_jobs_build_every_target_and_nothing_else(rows: list[dict[str, str]]) -> None:
    """For each Python once, by what cibuildwheel makes of the settings of each job."""
    settings = step_of("wheels.wheels", "python -m cibuildwheel")["env"]
    found = []
    for row in rows:
        env = {name: filled(value, row) for name, value in settings.items() if name.startswith("CIBW_")}
        done = tool("cibuildwheel", "--print-build-identifiers", "--platform", "linux", ".", **env)
        assert done.returncode == 0, done.stderr
        found += done.stdout.split()
    platforms = ["{1}_{0}".format(*name.split("-")) for name in TARGETS]
    assert sorted(found) == sorted(f"{python}-{platform}" for platform in platforms for python in PYTHONS)


def test_what_no_runner_of_github_runs_is_emulated(rows: list[dict[str, str]]) -> None:
    """And nothing else. The runners are of the release that all other jobs have."""
    (release,) = {job["runs-on"] for name, job in jobs().items() if name != "wheels.wheels"}
    runs = {release: {"EM_X86_64", "EM_386"}, f"{release}-arm": {"EM_AARCH64"}}
    elf = {target.machine.name: target.machine.elf.split()[2] for target in TARGETS.values()}
    assert [row for row in rows if (elf[row["arch"]] in runs[row["runner"]]) is bool(row["emulated"])] == []


def test_the_platforms_are_as_many_as_said() -> None:
    """In docs/releases.md."""
    count = "zero one two three four five six seven eight nine ten eleven twelve".split()[len(TARGETS)]
    assert f"each of {count} platforms" in (ROOT / "docs" / "releases.md").read_text()


def test_the_builder_is_the_one_that_is_tested_here() -> None:
    """One release of cibuildwheel in the workflow and in the lint extra."""
    (pinned,) = re.findall(r'"cibuildwheel==([\d.]+);', PYPROJECT)
    assert step_of("wheels.wheels", "python -m pip install")["run"].endswith(f" cibuildwheel=={pinned}")


def test_every_python_of_the_classifiers_is_tested() -> None:
    """And the free-threaded ones that have wheels."""
    pythons = jobs()["ci.test"]["strategy"]["matrix"]["python"]
    classified = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)
    assert len(classified) >= 4
    assert set(classified) <= set(pythons)
    assert {f"cp{python.replace('.', '')}" for python in pythons if python.endswith("t")} < set(PYTHONS)
