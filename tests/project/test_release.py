# SPDX-License-Identifier: MIT
"""A release, rehearsed in a clone: what a pushed tag starts, as far as it needs no GitHub."""

from __future__ import annotations

import email
import json
import os
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import mptcp_sockopt as mp

from ..support import Missing, needs, run
from .test_workflows import jobs

pytestmark = pytest.mark.lint

ROOT = Path(__file__).parents[2]
VERSION = re.sub(r"\.dev\d+$", "", mp.__version__)
# As docs/releases.md says them.
EDITS = (
    ("mptcp_sockopt/_version.py", f'"{mp.__version__}"', f'"{VERSION}"'),
    ("CHANGELOG.md", "\n## Unreleased\n", f"\n## {VERSION} - 2026-12-24\n"),
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with the commit of the release, and its tag."""
    git = needs("git", "git")
    if not (ROOT / ".git").exists():
        raise Missing("a checkout: this is an sdist")
    folder = tmp_path_factory.mktemp("release") / "clone"
    run(git, "clone", "-q", str(ROOT), str(folder))
    for file, old, new in EDITS:
        text = (folder / file).read_text()
        if old != new and (file != "CHANGELOG.md" or old in text):
            assert text.count(old) == 1
            (folder / file).write_text(text.replace(old, new))
    known = {"GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@x", "GIT_COMMITTER_NAME": "x"}
    env = {**os.environ, **known, "GIT_COMMITTER_EMAIL": "x@x"}
    for words in (["commit", "-qa", "--allow-empty", "-m", "release"], ["tag", f"v{VERSION}"]):
        done = run(git, *words, cwd=folder, env=env)
        assert done.returncode == 0, done.stderr
    return folder


def perform(clone: Path, job: str, tag: str) -> dict[str, str]:
    """The commands of a job in the clone, without those that install tools; returns its outputs."""
    output, environment = clone.parent / "output", clone.parent / "environment"
    output.write_text("")
    environment.write_text("")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for step in jobs()[job]["steps"]:
        if "run" not in step or "pip install" in step["run"]:
            continue
        told = dict(line.split("=", 1) for line in environment.read_text().splitlines())
        github = {"GITHUB_REF_NAME": tag, "GITHUB_OUTPUT": str(output), "GITHUB_ENV": str(environment)}
        env = {**os.environ, "PATH": path, **github, **told}
        done = run("bash", "-e", "-c", step["run"], cwd=clone, env=env, timeout=300)
        assert done.returncode == 0, (step, done.stdout + done.stderr)
    return dict(line.split("=", 1) for line in output.read_text().splitlines())


def test_a_pushed_tag_makes_files_of_that_version(clone: Path) -> None:
    """The sdist by the workflow's own commands, and a wheel from it: in their names, metadata and module."""
    found = perform(clone, "wheels.sdist", f"v{VERSION}")
    assert len(json.loads(found["json"])) == 7
    (sdist,) = (clone / "dist").iterdir()
    assert sdist.name == f"mptcp_sockopt-{VERSION}.tar.gz"
    with tarfile.open(sdist) as archive:
        told = archive.extractfile(f"mptcp_sockopt-{VERSION}/PKG-INFO")
        assert told
        assert email.message_from_bytes(told.read())["Version"] == VERSION
        assert {member.mtime for member in archive} == {int(found["seconds"])}
    assert run("tar", "-xzf", str(sdist), cwd=clone.parent).returncode == 0
    source = clone.parent / f"mptcp_sockopt-{VERSION}"
    env = {**os.environ, "SOURCE_DATE_EPOCH": found["seconds"]}
    words = ("-m", "build", "-q", "-w", "--no-isolation", "-o", str(clone / "dist"), str(source))
    done = run(sys.executable, *words, env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (clone / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        info = f"mptcp_sockopt-{VERSION}.dist-info"
        assert email.message_from_bytes(archive.read(f"{info}/METADATA"))["Version"] == VERSION
        bill = json.loads(archive.read(f"{info}/sboms/mptcp-sockopt.cdx.json"))
        assert bill["metadata"]["component"]["version"] == VERSION
        (module,) = [name for name in archive.namelist() if name.endswith(".so")]
        assert VERSION.encode() in archive.read(module)
    done = run(sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel))
    assert done.returncode == 0, done.stdout


def test_another_tag_makes_nothing(clone: Path) -> None:
    """The first command of all fails."""
    with pytest.raises(AssertionError, match=f"the package's version {VERSION}"):
        perform(clone, "wheels.sdist", f"v{VERSION}1")


def test_the_steps_of_a_release_are_those_of_the_page() -> None:
    """docs/releases.md names each file that is edited here."""
    page = (ROOT / "docs" / "releases.md").read_text()
    assert [file for file, _, _ in EDITS if f"`{file}`" not in page] == []
