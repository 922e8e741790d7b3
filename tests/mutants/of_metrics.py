# SPDX-License-Identifier: MIT
"""Mutations of what monitoring stores, and of the command export."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "mptcp_sockopt/_bounded.py",
        "tallies",
        ("if len(self._known) >= self._most:", "if False:"),
    ),
    *of(
        "mptcp_sockopt/_tallies.py",
        "tallies metrics",
        ("known = self._known.get(key) or self._gone.get(key)", "known = self._known.get(key)"),
        (
            "return {name: max(0, number - before[name]) for name, number in counted.items()}",
            "return counted",
        ),
        ("            elif key in self._known:\n", "            else:\n"),
        ("changed |= self._restless", "pass"),
        (
            "for path in [*[path for _, path in paths[0]], *paths[1]]:",
            "for path in [path for _, path in paths[0]]:",
        ),
        ("if reason and not before.reason:", "if reason:"),
        ("self._begin(OUTGOING, [*map(str, FallbackReason), UNKNOWN])", "pass"),
        ("(by_paths if status in _AS_TCP else by_row).items():", "by_row.items():"),
        ("if self._wanted and not self._wanted & {local[1], one.remote[1]}:", "if False:"),
        ("known.is_restless |= outstanding", "pass"),
        ("        for known in self._gone.values():\n            self._leave(known)", "        pass"),
    ),
    *of(
        "mptcp_sockopt/metrics.py",
        "metrics tallies",
        ("if self._began <= asked or not self._looks:", "if not self._looks:"),
        ("self._missing[name] = error.strerror or str(error)", "pass"),
        ('if "connections" not in self._missing:', "if True:"),
        ("elif token is None or self._tally.has_seen(token):", "elif token is None:"),
        ("itertools.accumulate(self.counts)", "self.counts"),
    ),
    *of(
        "mptcp_sockopt/cli/export.py",
        "cli/export",
        ("            os.unlink(file)  # numbers", "            pass  # numbers"),
    ),
    *of(
        "mptcp_sockopt/cli/_serving.py",
        "cli/export",
        ("if self._room.acquire(blocking=False):", "if True:"),
    ),
)
