# SPDX-License-Identifier: MIT
"""A plugin of pytest for the guest: it counts, names every skip with its reason, and says what it leaves out.

The guest has no ss and no compiler. A test that wants one of them says so by Missing, which here is a skip
with that reason although --require-mptcp is given; anything else that is missing is a failure.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mptcp_sockopt import UnsupportedOptionError

COUNTS = Path("/tmp/counts.json")

# What the guest has not, by the words of Missing. expected.json says how many tests that are, on each row.
MAY_LACK = (
    r"ss\(8\) of iproute2",
    r"the program nft \(nftables\)",
    r"paths between network namespaces: a veth interface: .*",  # a module that is not in the image
    r"no C compiler",
    r"ssl of this Python .*",  # a library that is not in the image
    # 6.19 to 7.1: Debian has no package of their modules any more
    r"this kernel has no (mp)?tcp_diag( \(CONFIG_INET_MPTCP_DIAG\))?",
    r"this kernel has no blackhole detection \(Linux 6\.12\)",
    r"a kernel that resets an MPTCP connection at SO_LINGER 0",  # 6.5.10, and 6.16 to 6.19.14, do not
    r"this kernel has no (byte counters|MPTCP_FULL_INFO)( \(Linux 6\.5\))?",  # 6.1 has not
    r"a kernel (that counts bytes|with ages) of the connection",
    r"a kernel that takes a reset for a fallback",
    r"a kernel newer than 6\.5",
    r"a kernel that tells of MPTCP listeners \(6\.2\)",
    r"a kernel with PIDFD_THREAD \(Linux 6\.9\)",
    r"a kernel that leaves data in a subflow's own queue",  # from 6.19 on they do not
    r"a kernel that is told when to leave MPTCP out of a SYN",  # 6.12 is not
    r"TCP Fast Open of MPTCP listeners: .*",  # from 6.2
    r"a table of system calls for (i686|s390x)",  # their socket calls are one, with pointers: no filter sees
)

# Single tests that a kernel cannot do: machine and release, name, reason. Counted as skips, with that reason.
NOT_HERE = [
    (
        r"i686 6\.5\.",
        r"test_(closed(?!_)|both_ends_closed|after_the_end_all_stay_listed_where_it_was_closed_first"
        r"|payload_has_one_meaning\[v[46]-MPTCP)",
        "Linux 6.5.10 leaves subflows established when their connection has ended",
    ),
    (
        r"i686 6\.5\.",
        r"test_a_stage_is_what_the_page_says\[dead: initial subflow, removed",
        "Linux 6.5.10 lists a removed initial subflow no more at the end that accepted",
    ),
    (
        r"i686 6\.5\.",
        r"test_a_backup_path\b",
        "Linux 6.5.10 answers a join with the backup bit that came with it",
    ),
    (
        r"i686 6\.5\.",
        r"test_all_paths_gone_and_one_back\b",
        "Linux 6.5.10 brings no subflow to a connection that has none left",
    ),
    (
        r"s390x 6\.12\.",
        r"test_(no_descriptor_is_left_open\[v4\]|a_refused_connection_raises_the_last_error"
        r"|a_stage_is_what_the_page_says\[join refused by|a_join_that_failed_is_a_local_address_used"
        r"|after_a_failed_connect_the_initial_subflow_has_the_id_0\[v4\])",
        "under qemu 7.2, s390x 6.12 refuses no connection over IPv4, of plain TCP either: they time out",
    ),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    kernel = f"{platform.machine()} {platform.release()}"
    for item in items:
        for which, name, reason in NOT_HERE:
            if re.match(which, kernel) and re.match(name, item.name):
                item.add_marker(pytest.mark.skip(reason=reason))


class Counts:
    """What became of every test."""

    def __init__(self) -> None:
        self.passed: dict[str, int] = {}
        self.skipped: dict[str, list[str]] = {}
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.split("::")[0]
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skipped.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)
        elif report.when == "call":
            self.passed[file] = self.passed.get(file, 0) + 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        COUNTS.write_text(
            json.dumps({"passed": self.passed, "skipped": self.skipped, "failed": sorted(set(self.failed))})
        )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Counts())


@pytest.hookimpl(wrapper=True, trylast=True)  # inside of conftest.py's, which makes a failure of Missing
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    # Not at the top: pytest would warn that it was imported before it could rewrite its asserts.
    from mptcp_sockopt.testing import UnavailableError
    from tests.support import Missing, no_option

    try:
        return (yield)
    except (Missing, UnavailableError) as missing:
        _skip_or_raise(missing)
    except UnsupportedOptionError as error:
        _skip_or_raise(no_option(error))


def _skip_or_raise(missing: Exception) -> None:
    if any(re.fullmatch(reason, str(missing)) for reason in MAY_LACK):
        pytest.skip(str(missing))
    raise missing
