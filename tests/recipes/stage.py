# SPDX-License-Identifier: MIT
"""Peers that serve, and recipes that are run against them."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ..support import DEADLINE, needs, started
from . import programs
from .clients import CLIENTS
from .environment import ALL, NIQUESTS, ROOT, SMALL, Environment, environment, is_small, variables
from .servers import SERVERS

RECIPES = ROOT / "docs" / "recipes"


class Recipe(NamedTuple):
    name: str
    about: str  # what its docstring says first
    hook: str  # public, private or none
    how: str  # what the hook is, or why there is none

    @property
    def path(self) -> Path:
        return RECIPES / f"{self.name}.py"

    @property
    def prefix(self) -> tuple[str, ...]:
        """What its command begins with."""
        return programs.RUN if self.hook == "none" else ()


def recipe(name: str) -> Recipe:
    docstring = ast.get_docstring(ast.parse((RECIPES / f"{name}.py").read_text()))
    found = re.fullmatch(r"(.+)\n\nHook: (public|private|none), (.+)\.", docstring or "")
    assert found, f"the docstring of {name} names no hook"
    return Recipe(name, *found.groups())


class Stage:
    """``with Stage() as stage:`` the peers serve until the end of the block."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._ports: dict[str, dict[str, int]] = {}

    def __enter__(self) -> Stage:
        with contextlib.ExitStack() as stack:
            self.folder = stack.enter_context(tempfile.TemporaryDirectory())
            self.variables = variables(Path(self.folder))
            self.environment = environment(SMALL if is_small() else ALL)
            command = self.environment.command("-m", "tests.recipes.peers")
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            peers = stack.enter_context(self._started(command, **pipes))
            self._ports = json.loads(peers.stdout.readline())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *of: object) -> None:
        self._stack.close()

    def _started(self, command: list[str], **options: Any) -> Any:
        return started(*command, env=self.variables, cwd=self.folder, **options)

    def ports(self, service: str) -> dict[str, dict[str, int]]:
        """{"mptcp": {service: port, ...}, "tcp": ...}. Starts the service, unless it serves already."""
        for protocol, ports in self._ports.items():
            if service not in ports:
                prefix = programs.RUN if protocol == "mptcp" else ()
                if service == "grpc":
                    serving = programs.grpcio(self.environment, *prefix)
                else:
                    serving = programs.SERVERS[service](*prefix)
                ports[service] = self._stack.enter_context(serving)
        return self._ports

    def environment_of(self, distribution: str) -> Environment:
        """A skip where the package index does not serve the library."""
        found = environment(NIQUESTS) if distribution == "niquests" else self.environment
        if distribution in found.gone:
            pytest.skip(f"the package index does not serve {distribution}")
        return found

    @contextlib.contextmanager
    def measured(self, name: str, plain: bool = False, prefix: tuple[str, ...] = ()) -> Iterator[Measured]:
        client = CLIENTS[name]
        words = [name, json.dumps(self.ports(client.service)), *(["--plain"] if plain else [])]
        chosen = self.environment_of(client.distribution)
        command = [*prefix, *chosen.command("-m", "tests.recipes.measured", *words)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with self._started(command, **pipes) as process:
            yield Measured(process)

    def output(self, name: str, *words: str) -> str:
        """What the recipe prints when it is run as a command."""
        found = recipe(name)
        chosen = self.environment_of(CLIENTS[name].distribution)
        command = [*found.prefix, *chosen.command(str(found.path), *words)]
        run = subprocess.run(
            command, env=self.variables, cwd=self.folder, capture_output=True, text=True, timeout=DEADLINE
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    @contextlib.contextmanager
    def serving(self, name: str, *words: str) -> Iterator[tuple[int, int]]:
        """The process and the port of a recipe that serves. Other words of Python stand before its file."""
        server = SERVERS[name]
        chosen = self.environment_of(server.distribution)
        if server.command:
            with self._commanded(server.command, chosen) as found:
                yield found
            return
        command = chosen.command(*words, str(recipe(name).path), "0")
        with self._started(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            port = re.fullmatch(r"listening on port (\d+)\n", server.stdout.readline())
            assert port
            yield server.pid, int(port[1])

    @contextlib.contextmanager
    def _commanded(self, command: str, chosen: Environment) -> Iterator[tuple[int, int]]:
        """The process and the port of a server that a shell starts, in a copy of docs/recipes."""
        port = programs.free_port()
        path = f"{chosen.python.parent}:{Path(sys.executable).parent}:{self.variables['PATH']}"
        with tempfile.TemporaryDirectory() as folder:
            for source in (*RECIPES.glob("*.py"), *RECIPES.glob("*.conf")):
                text = source.read_text().replace("8000", str(port))
                Path(folder, source.name).write_text(text)
            words = shlex.split(command.replace("8000", str(port)))
            after = words[words.index("--") + 1 :]
            program = next(word for word in after if word != "env" and "=" not in word)
            if shutil.which(program, path=path) is None:
                needs(program, program)
            variables = {**self.variables, "PATH": path}
            with programs.serving(port, *words, cwd=folder, env=variables) as pid:
                yield pid, port


class Measured:
    """A process of measured.py."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.result: dict[str, Any] = json.loads(process.stdout.readline() or "{}")

    def seconds(self, requests: int) -> float:
        print(requests, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())
