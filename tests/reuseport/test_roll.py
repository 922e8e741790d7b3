# SPDX-License-Identifier: MIT
"""roll and fair, as commands, small."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reuseport import load, roll
from reuseport.roll import SAFE, STRATEGIES, share_of_old

from ..support import in_private_network, needs, rounds, run

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "reuseport")


def reuseport(*words: str, code: int = 0, timeout: float = 60) -> Any:
    """Run a command with --json; its object."""
    found = run(*COMMAND, *words, "--json", cwd=ROOT, timeout=timeout)
    assert found.returncode == code, found.stdout + found.stderr
    result = json.loads(found.stdout)
    assert result["schema"] == 1
    assert result["command"] == words[0]
    return result


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id=""),
        pytest.param(["--mptcp"], id="--mptcp", marks=pytest.mark.slow),
        pytest.param(["-6"], id="-6", marks=pytest.mark.slow),
        pytest.param(["--mptcp", "-6"], id="--mptcp -6"),
    ],
)
@pytest.mark.parametrize("strategy", SAFE)
def test_safe_strategies_lose_nobody(strategy: str, words: list[str], mptcp: None) -> None:
    """Over both protocols and both families."""
    result = reuseport("roll", "--strategy", strategy, "--conns", "1000", "--restarts", "5", *words)
    (found,) = result["strategies"]
    assert found["lost"] == 0
    assert result["verdict"] == "ROLL: PASS: 0 of 5 restarts lost anybody (at most 45 % do, 95 %)"
    assert found["connections"] >= 1000
    restarts = found["restarts"]
    assert (restarts["asked"], restarts["judged"], restarts["losses"]) == (5, 5, [0] * 5)
    assert restarts["at_most"] == pytest.approx(1 - 0.05 ** (1 / 5))


def test_what_is_counted_and_the_seconds_are_of_one_span() -> None:
    """From the first connection on to the last that was begun, or the rate would be any number."""

    def measured() -> roll.Result:
        words = "roll", "inherit", False, socket.AF_INET, 200, 4, 2, None, 1.0, 60.0
        options = roll.Options(*words, json=False)
        return roll.roll_on_loopback("inherit", options)

    result = in_private_network(measured)
    (plan,) = result.report.plans
    assert result.report.begun <= min(plan.begun_at) * 10_000_000 + 10_000_000
    assert result.report.ended >= max(plan.begun_at) * 10_000_000
    assert plan.tally.total == sum(plan.begun_at.values()) >= 200
    assert plan.rate == pytest.approx(plan.tally.total / result.report.seconds)
    assert result.report.begun < min(result.moments)
    assert max(result.moments) < result.report.ended


def test_losses_belong_to_their_restarts() -> None:
    """By the moment at which each began."""
    moments = (100, 200, 300)
    losses = tuple(
        load.Loss(load.Client.WHO, 0, at - 5, at, at, load.Outcome.RESET, load.Where.QUEUE)
        for at in (50, 110, 120, 310)
    )
    target = load.Target(("127.0.0.1", 80), socket.AF_INET)
    tally = load.Tally()
    for loss in losses:
        tally.lose(loss)
    plan = load.Plan(load.Client.WHO, (target,), None)
    found = load.PlanReport(plan, tally, losses, (), {}, 1.0, 0, 0, 0.0)
    result = roll.Result("naive", load.Report((found,), 0, 400, 0.0, ()), moments, 3)
    assert result.restarts.losses == (2, 0, 1)
    assert result.lost == 4  # one of them was not at a restart
    assert result.asdict()["reset_where"] == {"queue": 4}


@pytest.mark.slow
def test_an_ipv6_listener_steps_aside_before_it_closes() -> None:
    """Without that, about one SYN in 800 restarts was lost."""
    words = ("roll", "--strategy", "newest", "-6", "--restarts", f"{rounds(2000)}", "--seconds", "400")
    (found,) = reuseport(*words, timeout=500)["strategies"]
    assert found["lost"] == 0


@pytest.mark.parametrize("words", [[], ["--mptcp"]], ids=" ".join)
def test_the_naive_restart_is_caught(words: list[str], mptcp: None) -> None:
    """The prover can say no: exit 1, and what kind of loss."""
    result = reuseport("roll", "--strategy", "naive", "--conns", "4000", "--restarts", "40", *words, code=1)
    (found,) = result["strategies"]
    assert found["lost"] == found["losses"]["reset"] == sum(found["restarts"]["losses"]) > 0
    assert found["restarts"]["losing"] <= 40


OVER_THE_WIRE = ("roll", "--rtt", "40", "--rate", "500", "--conns", "1500", "--restarts", "4")


def test_the_drain_loses_what_is_predicted() -> None:
    """With a round trip in the handshake: rate x share x RTT, within what chance allows.

    A busy machine lengthens handshakes and bunches them. The slowest connection, which takes two round trips
    where nothing is in its way, tells by how much; where nothing is, half as much or twice is seen.
    """
    needs("ip", "iproute2")
    seen = []
    for _ in range(3):
        (found,) = reuseport(*OVER_THE_WIRE, "--strategy", "drain", code=1)["strategies"]
        lost, predicted = found["lost"], found["predicted"]
        # Two listeners share the port for a moment or for long: all of a round trip is lost, or half of it.
        reached = found["connections"] / 3 * 4 * 0.04
        assert reached / 2 <= predicted <= reached * 1.001
        delay, chance = max(1.0, found["slowest_seconds"] / 0.08), 3 * predicted**0.5
        seen.append((lost, predicted, delay))
        if predicted / delay - chance <= lost <= predicted * delay + chance:
            return
    pytest.fail(f"lost, predicted, delay: {seen}")


@pytest.mark.slow
def test_over_a_wire_the_newest_loses_nobody() -> None:
    """It steers, and knows who is in a handshake."""
    needs("ip", "iproute2")
    (found,) = reuseport(*OVER_THE_WIRE, "--strategy", "newest")["strategies"]
    assert found["lost"] == 0


def test_the_share_of_the_old_listener() -> None:
    """All of the last round trip, but half of the time that two shared the port."""
    assert share_of_old(0, 0.08) == 0.08
    assert share_of_old(0.02, 0.08) == pytest.approx(0.07)
    assert share_of_old(1, 0.08) == 0.04


def test_a_parent_that_ignores_the_end_of_children() -> None:
    """SIGCHLD ignored is inherited; the command waits for its own children all the same."""
    words = ("roll", "--strategy", "pass", "--conns", "100", "--restarts", "2")
    found = run(*COMMAND, *words, cwd=ROOT, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert (found.returncode, found.stderr) == (0, "")


def test_a_time_cap_is_exit_3() -> None:
    """What was not reached is no proof."""
    found = run(*COMMAND, "roll", "--strategy", "pass", "--conns", "1000000000", "--seconds", "0.5", cwd=ROOT)
    assert found.returncode == 3
    assert "cannot run here: in 0.5 s it came to" in found.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["roll", "--conns", "0"],
        ["roll", "--rtt", "-1"],
        ["roll", "--strategy", "hope"],
        ["roll", "--rate", "nan"],
        ["roll", "--seconds", "1e9"],
        ["roll", "--in-flight", "100000"],
        ["fair", "--workers", "1"],
        ["fair", "--conns", "70000"],
        ["nonsense"],
        [],
    ],
    ids=" ".join,
)
def test_usage_errors(words: list[str]) -> None:
    """Exit 2, and a sentence on stderr."""
    found = run(*COMMAND, *words, cwd=ROOT)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr


def test_every_command_has_help_that_fits() -> None:
    """80 columns."""
    names = ("demo", "serve", "client", "lesson", "matrix", "fair", "roll", "who", "audit")
    for words in ([], *([name] for name in names)):
        found = run(*COMMAND, *words, "-h", cwd=ROOT, env={**os.environ, "COLUMNS": "80"})
        assert found.returncode == 0
        assert max(map(len, found.stdout.splitlines())) <= 80


def test_strategies_are_all_there() -> None:
    """Two controls and four that are safe."""
    assert set(STRATEGIES) == {"naive", "drain", *SAFE}


def test_reuseport_is_fair_and_exclusive_epoll_is_not() -> None:
    """On 4-tuples that are all different."""
    result = reuseport("fair", "--mode", "reuseport", "--conns", "4000", "--workers", "4")
    assert result["verdict"] == "FAIR: PASS: RANDOM-FAIR"
    (found,) = result["modes"]
    assert sum(found["shares"]) == 4000
    assert found["degrees_of_freedom"] == 3
    result = reuseport("fair", "--mode", "exclusive", "--conns", "4000", "--workers", "4", code=1)
    assert result["verdict"] == "FAIR: FAIL: SKEWED exclusive"


def test_a_closed_pipe_is_no_traceback() -> None:
    """reuseport -h | head -n 1"""
    found = subprocess.run(
        f"{shlex.quote(sys.executable)} -m reuseport -h | head -n 1",
        shell=True, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert found.stderr == ""
