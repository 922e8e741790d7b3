# SPDX-License-Identifier: MIT
"""Mistakes that the fast tests must notice: ``python -m tests.mutants``.

of_c          mistakes in csrc
of_border     in the modules that see the compiled one
of_clients    in what a server knows of its clients, and the command listen
of_paths      in the C and Python of connections with their paths
of_events     in mptcp_events()
of_aio        in the connections and servers of asyncio
of_objects    in the modules above them
of_troubles   in what tells of trouble
of_processes  in what reads other processes, and TCP's table
of_host       in what reads the settings of a host, and in the commands check and doctor
of_metrics    in what monitoring stores, and in the command export
of_show       in the commands show and record
of_watch      in the command watch
of_plot       in what draws recordings
of_servers    in what makes the table of real servers, and the samples of audit
of_run        in the command run, and in its C
of_handover   in what hands a port to the next generation of a server
of_audit      in what an audit takes for evidence, and what it says
of_guard      in what keeps an audited command from the live system
of_load       in the loader of reuseport, and in what it says about restarts
of_who        in the command who of reuseport
of_hostile    in what keeps other users, peers and files from doing harm
of_findings   in the programs of docs/findings, and in what counts how often they show their faults
of_symptoms   in docs/troubleshooting.md, and in what points to it
of_cost       in what measures the cost of MPTCP, and in its page and picture
__main__      applies them one by one
"""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """A text that stands in a file once, and what stands there instead."""

    file: str
    tests: str  # the files that must notice, the quickest first: NAME of tests/test_NAME.py, or cli/NAME
    old: str
    new: str
    equivalent: str = ""  # why no test can tell the two apart


def of(file: str, tests: str, *pairs: tuple[str, str]) -> tuple[Mutation, ...]:
    """Mutations of one file that the same tests should notice: old and new texts."""
    return tuple([Mutation(file, tests, old, new) for old, new in pairs])
