# SPDX-License-Identifier: MIT
"""Where a set-up runs: a folder with its files, and an environment in which its command is found."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..recipes.environment import NoIndexError, environment
from .setups import FILES, MADE, SetUp


class NotHereError(Exception):
    """The server cannot be had on this machine; the reason."""


class Stage(NamedTuple):
    folder: Path  # the working directory
    variables: dict[str, str]  # of the environment
    version: str


@contextlib.contextmanager
def stage(setup: SetUp, install: bool = False) -> Iterator[Stage]:
    """``install``: Debian's package is installed, if it is missing."""
    variables = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    if setup.package:
        version = _of_debian(setup, variables["PATH"], install)
    else:
        home, version = _of_pypi(setup)
        (packages,) = (home / "lib").glob("python*/site-packages")
        variables |= {"PATH": f"{home / 'bin'}:{variables['PATH']}", "SITE_PACKAGES": str(packages)}
    with tempfile.TemporaryDirectory(prefix="servers-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # workers of nginx and apache are www-data
        for file in setup.files:
            shutil.copy(FILES / file, folder)
        for file, data in MADE.items():
            (folder / file).write_bytes(data)
        yield Stage(folder, variables | {"PWD": name}, version)


def _of_debian(setup: SetUp, path: str, install: bool) -> str:
    program = setup.command.split()[0]
    if not shutil.which(program, path=path) and install:
        if os.geteuid():
            raise NotHereError(f"{setup.package} is not installed, and only root can install it")
        _apt_get("update", "-q")
        _apt_get("install", "-qy", "--no-install-recommends", setup.package)
    if not shutil.which(program, path=path):
        raise NotHereError(f"Debian's {setup.package} is not installed")
    said = subprocess.run(
        setup.version.split(), capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    found = re.search(r"\d+\.\d+[\w.]*", said.stdout + said.stderr)
    return found[0] if found else "unknown"


def _apt_get(*words: str) -> None:
    done = subprocess.run(["apt-get", *words], capture_output=True, text=True)
    if done.returncode:
        raise NotHereError(f"apt-get {words[0]} failed: {done.stderr.strip()[-300:]}")


def _of_pypi(setup: SetUp) -> tuple[Path, str]:
    """The environment's folder, and the version."""
    try:
        found = environment((setup.source,))
    except NoIndexError as error:
        raise NotHereError(str(error)) from None
    if setup.source in found.gone:
        raise NotHereError(f"the package index does not serve {setup.source} for this Python")
    look = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    said = subprocess.run(found.command("-c", look, setup.source), capture_output=True, text=True, check=True)
    return found.python.parent.parent, said.stdout.strip()
