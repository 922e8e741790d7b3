# SPDX-License-Identifier: MIT
"""When a restart is complete, and what is no evidence of one: probes as they may be, without a process."""

from __future__ import annotations

import os
import subprocess

import pytest

from reuseport.audit.family import Identity, Member, chain, inodes
from reuseport.audit.probes import Probe
from reuseport.audit.replaced import ENOUGH, Watch

from ..support import DEADLINE

MASTER = Identity(2, 10, 111)
OLD, NEW = Identity(3, 20, 222), Identity(4, 30, 333)


def by(*who: Identity, begun: int = 0, unseen: bool = False) -> Probe:
    return Probe(begun, begun + 1, who or None, unseen)


def watching(*probes: Probe, alive: tuple[Identity, ...] = (MASTER, OLD)) -> Watch:
    """After a control with these probes, and with a signal at 100."""
    watch = Watch()
    watch.add(probes or [by(OLD, MASTER)])
    assert watch.end_control(alive)
    watch.begin(100, alive)
    return watch


def test_complete_once_none_of_the_old_accepts() -> None:
    """20 in a row by somebody new; one by somebody old, or by nobody, and the row begins again."""
    watch = watching()
    new = [by(NEW, MASTER, begun=200 + n) for n in range(ENOUGH)]
    watch.add(new[:-1])
    assert watch.begun
    assert watch.complete() is None
    watch.add([by(OLD, MASTER, begun=300)])
    watch.add(new[:-1])
    assert watch.complete() is None
    watch.add([by(begun=400)])
    watch.add(new)
    assert watch.complete() == new[-1].ended
    assert not watch.nobody_accepts(since=0)


def test_what_was_not_seen_is_no_sign() -> None:
    """An owner that was gone too soon neither begins a row nor ends it; nor does a probe from before."""
    watch = watching()
    watch.add([by(NEW, MASTER, begun=50)] * ENOUGH)
    assert not watch.begun
    for n in range(ENOUGH):
        watch.add([by(NEW, MASTER, begun=200 + n), by(begun=200 + n, unseen=True)])
    assert watch.complete() == 200 + ENOUGH


def test_many_acceptors_take_more_probes() -> None:
    """An old one among them must not be missed."""
    watch = watching()
    workers = [Identity(50 + n, 40, n) for n in range(10)]
    probes = [by(workers[n % 10], MASTER, begun=200 + n) for n in range(50)]
    watch.add(probes[:-1])
    assert watch.complete() is None
    watch.add(probes[-1:])
    assert watch.complete() == probes[-1].ended


def test_the_same_number_with_another_stack_is_another_program() -> None:
    """execve(2)."""
    watch = watching(by(MASTER), alive=(MASTER,))
    again = MASTER._replace(stack=999)
    watch.add([by(again, begun=200)] * ENOUGH)
    assert watch.complete() is not None


def test_an_unseen_old_worker_is_not_new() -> None:
    """All who were there at the signal are old, seen or not."""
    other = Identity(9, 20, 444)
    watch = watching(alive=(MASTER, OLD, other))
    watch.add([by(other, MASTER, begun=200)] * ENOUGH)
    assert watch.complete() is None


def test_workers_that_come_and_go_are_no_evidence() -> None:
    """A child for each connection, or workers that end by themselves: then their parent must be replaced."""
    watch = watching(*(by(Identity(100 + n, 1, n), MASTER) for n in range(5)), alive=(MASTER,))
    assert watch.level == 1
    watch.add([by(Identity(200 + n, 1, n), MASTER, begun=200 + n) for n in range(ENOUGH)])
    assert watch.complete() is None
    successor = Identity(5, 50, 555)
    watch.add([by(Identity(300 + n, 1, n), successor, begun=300 + n) for n in range(ENOUGH)])
    assert watch.complete() is not None


def test_nobody_is_left_whose_replacement_counts() -> None:
    """If the parents come and go, too."""
    watch = Watch()
    watch.add([by(Identity(100, 1, 1), Identity(99, 1, 1))])
    assert not watch.end_control([])
    assert Watch().saw_nobody


def test_a_restart_is_taken_back_if_a_longer_control_says_so() -> None:
    """A worker that ends by itself every 5 s looks like a restart that takes 5 s, once."""
    watch = watching()
    watch.add([by(NEW, MASTER, begun=200)] * ENOUGH)
    assert watch.complete() is not None
    watch.end()
    watch.add([by(NEW, MASTER, begun=300), by(Identity(6, 60, 666), MASTER, begun=400)])
    assert watch.end_control([MASTER, Identity(6, 60, 666)])
    assert watch.level == 1
    assert watch.complete() is None


def test_nobody_accepts() -> None:
    """The last probes were in vain, be it one; who was accepted before is no matter."""
    watch = watching()
    watch.add([by(NEW, MASTER, begun=200), by(begun=300)])
    assert watch.nobody_accepts(since=300)
    assert not watch.nobody_accepts(since=100)


def test_a_process_that_ends_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds nothing: /proc says ENOENT of a folder that was open before."""
    child = subprocess.Popen(["sleep", "60"])
    listdir = os.listdir

    def too_late(folder: int) -> list[str]:
        child.kill()
        child.wait(DEADLINE)
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", too_late)
    assert list(inodes("/proc", child.pid)) == []


def test_a_chain_goes_up_to_the_first() -> None:
    """Ancestors that are not of the command are left out; a loop ends."""
    people = {3: Member(OLD, 2, False), 2: Member(MASTER, 1, False)}
    assert chain(people, 3) == (OLD, MASTER)
    assert chain(people, 7) == ()
    assert chain({2: Member(MASTER, 2, False)}, 2) == (MASTER,)
