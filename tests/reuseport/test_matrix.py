# SPDX-License-Identifier: MIT
"""reuseport matrix: the rule and the kernel."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import sys
from collections.abc import Callable

import pytest

from mptcp_sockopt.testing import _network
from reuseport import matrix
from reuseport.__main__ import main
from reuseport._net import Reuse
from reuseport.matrix import ADDRESSES, Address, Cell, Finding, Side, allowed, overlap

from ..support import in_private_network, run

MATRIX = (sys.executable, "-m", "reuseport", "matrix")
Observe = Callable[[Cell, int], str]


def observed(cells: list[Cell], observe: Observe) -> list[str]:
    def in_child() -> list[str]:
        return [observe(cell, 10_000 + number) for number, cell in enumerate(cells)]

    return in_private_network(in_child)


@pytest.fixture(scope="module")
def kernel() -> list[str]:
    """What the kernel does, for every cell."""
    return observed(matrix.cells(), matrix.observe)


def mismatches(kernel: list[str]) -> int:
    return sum(matrix.predict(cell) != seen for cell, seen in zip(matrix.cells(), kernel, strict=True))


def test_the_matrix_has_all_pairs() -> None:
    """16 of options x 49 of addresses x 4 of protocols x 4 lifecycles, each once."""
    cells = matrix.cells()
    assert len(set(cells)) == len(cells) == 16 * 49 * 4 * 4 == 12_544
    assert len(set(matrix.cells((False, True)))) == 2 * 12_544
    assert len(set(matrix.leftovers())) == 4 * 16 * 4


def test_the_kernel_follows_the_rule(kernel: list[str], mptcp: None) -> None:
    """In all cells; and the only errno is EADDRINUSE, at any step after the first."""
    assert mismatches(kernel) == 0
    refusals = {f"{step}: EADDRINUSE" for step in ("bind 2", "listen 1", "listen 2")}
    assert set(kernel) == {"ok"} | refusals


def on_addresses(function: Callable[[Address, Address], bool]) -> Callable[[Side, Side, bool], bool]:
    def rule(one: Side, other: Side, listens: bool) -> bool:
        return not function(one.address, other.address) or allowed(
            one._replace(address=ADDRESSES[0]), other._replace(address=ADDRESSES[0]), listens
        )

    return rule


MUTANTS: dict[str, Callable[[Side, Side, bool], bool]] = {
    "REUSEADDR does not help": lambda one, other, listens: allowed(
        one._replace(reuse=one.reuse & Reuse.PORT), other, listens
    ),
    "REUSEPORT does not help": lambda one, other, listens: allowed(
        one._replace(reuse=one.reuse & Reuse.ADDR), other, listens
    ),
    "the newcomer's options are enough": lambda one, other, listens: allowed(
        one, other._replace(reuse=one.reuse), listens
    ),
    "a listener is no obstacle": lambda one, other, listens: allowed(one, other, False),
    "what only binds is an obstacle": lambda one, other, listens: allowed(one, other, True),
    "TCP and MPTCP are two worlds": lambda one, other, listens: (
        one.mptcp != other.mptcp or allowed(one, other, listens)
    ),
    "all addresses overlap": on_addresses(lambda one, other: True),
    "equal addresses overlap only": on_addresses(lambda one, other: one == other),
    "IPv6 never meets IPv4": on_addresses(
        lambda one, other: (":" in one.host) == (":" in other.host) and overlap(one, other)
    ),
    "[::] takes IPv6 only": on_addresses(
        lambda one, other: overlap(*(matrix.V6ONLY if a.host == "::" else a for a in (one, other)))
    ),
}


@pytest.mark.parametrize("rule", MUTANTS.values(), ids=MUTANTS)
def test_a_wrong_rule_is_seen(
    rule: Callable[[Side, Side, bool], bool], kernel: list[str], monkeypatch: pytest.MonkeyPatch, mptcp: None
) -> None:
    """The comparison can fail: each of these rules disagrees with the kernel somewhere."""
    monkeypatch.setattr(matrix, "allowed", rule)
    assert mismatches(kernel) > 0


def test_overlap_has_no_order() -> None:
    """It is symmetric, and every address overlaps with itself."""
    for one, other in itertools.product(ADDRESSES, repeat=2):
        assert overlap(one, other) is overlap(other, one)
    assert all(overlap(address, address) for address in ADDRESSES)


def test_leftovers_follow_the_rule(mptcp: None) -> None:
    """What a closed listener left does not listen: REUSEADDR on both, or REUSEPORT on both, is enough."""
    cells = matrix.leftovers()
    seen = observed(cells, matrix.observe_leftover)
    assert seen == [matrix.predict_leftover(cell) for cell in cells]
    assert {"ok", "bind 2: EADDRINUSE"} == set(seen)


def test_the_states_are_what_they_are_called(mptcp: None) -> None:
    """By /proc/net/tcp, at the moment of the second bind()."""

    def states(mptcp: bool) -> list[set[int]]:
        side = Side(ADDRESSES[1], Reuse.ADDR, mptcp)
        found: list[set[int]] = []
        bring_to = matrix.bring_to

        def spy(state: str, child: socket.socket, client: socket.socket, port: int) -> None:
            bring_to(state, child, client, port)
            found.append(matrix.states_at(port))

        matrix.bring_to = spy
        for number, state in enumerate(matrix.STATES):
            matrix.observe_leftover(Cell(side, side, state), 10_000 + number)
        return found

    established, fin_wait_1, fin_wait_2, time_wait, close_wait = 1, 4, 5, 6, 8
    one, two, three, four = in_private_network(lambda: states(False))
    assert one == {established}
    assert two <= {fin_wait_1, fin_wait_2}
    assert three == {close_wait}
    assert four == {time_wait}
    assert in_private_network(lambda: states(True)) == [{established}] * 3 + [{time_wait}]


@pytest.mark.parametrize("switches", [[], ["--leftover"]], ids=["matrix", "leftover"])
def test_the_command_passes(switches: list[str], mptcp: None) -> None:
    """As whoever runs it, in a namespace of its own."""
    in_private_network(lambda: None)  # or it is missing here
    done = run(*MATRIX, *switches)
    assert done.returncode == 0, done.stderr
    cells = 256 if switches else 12_544
    after = " after a closed listener" if switches else ""
    assert done.stdout.endswith(f"\nMATRIX: PASS: {cells} cells{after}, 0 mismatches\n")
    assert max(map(len, done.stdout.splitlines())) <= 80
    found = json.loads(run(*MATRIX, *switches, "--json").stdout)
    assert (found["schema"], found["command"], found["cells"], found["mismatches"]) == (
        1,
        "matrix",
        cells,
        [],
    )


@pytest.mark.parametrize(
    ("switches", "cells"), [([], 25_088), (["--leftover"], 512)], ids=["matrix", "leftover"]
)
def test_another_users_socket(switches: list[str], cells: int, mptcp: None) -> None:
    """Root can ask: the rule holds there too. Anybody else is told that it takes root."""
    done = run(*MATRIX, "--uid", "--json", *switches)
    if os.geteuid():
        assert done.returncode == 3
        assert "root" in done.stderr
    else:
        found = json.loads(done.stdout)
        assert (done.returncode, found["cells"], found["mismatches"]) == (0, cells, [])


def test_without_a_namespace_it_cannot_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 3: the caller's own ports are not touched."""

    def refused(function: str, *_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(_network, "_call", refused)
    assert main(["matrix"]) == 3
    captured = capsys.readouterr()
    said = "reuseport: cannot run here: no private network namespace: Operation not permitted"
    assert captured.err.startswith(said)
    assert captured.out == ""


@pytest.mark.parametrize("switch", [[], ["--json"]], ids=["text", "json"])
def test_mismatches_are_the_result(switch: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1, each with what was expected and observed; the text shows 20, JSON all."""
    side = Side(ADDRESSES[4], Reuse.ADDR | Reuse.PORT, mptcp=True)
    cell = Cell(side, side._replace(address=ADDRESSES[6]), "listen 2, 1")
    found = [Finding(cell, "ok", "listen 1: EPERM")] * 25
    options = options_of(switch)
    assert matrix.report(options, found, 1.0) == 1
    out = capsys.readouterr().out
    if switch:
        mismatch = json.loads(out)["mismatches"]
        assert len(mismatch) == 25
        assert mismatch[0]["first"]["address"] == "[::] v6only"
        assert mismatch[0]["observed"] == "listen 1: EPERM"
    else:
        assert out.count("MISMATCH MPTCP [::] v6only ADDR|PORT; MPTCP [::ffff:127.0.0.1] ADDR|PORT") == 20
        assert "... and 5 more" in out
        assert out.endswith("MATRIX: FAIL: 25 cells, 25 mismatches\n")


def options_of(switches: list[str]) -> matrix.Options:
    parser = argparse.ArgumentParser()
    matrix.add_arguments(parser, "matrix")
    return matrix.Options(command="matrix", **vars(parser.parse_args(switches)))
