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
        ("            if key not in self._known:\n", "            if True:\n"),
        ("elif kind == known.kind and marks == known.marks:", "elif True:"),
        ("                self._leave(kind, marks)\n", "                pass\n"),
        ("if of.kind.state != state:", "if False:"),
        (
            "if (status, reason, dead) != (before.status, before.reason, before.dead):",
            "if before is NOT_YET:",
        ),
        ("changed |= self._restless", "pass"),
        (
            "for path in [*[path for _, path in paths[0]], *paths[1]]:",
            "for path in [path for _, path in paths[0]]:",
        ),
        ("if reason and not before.reason:", "if reason:"),
        ("self._begin(OUTGOING, [*map(str, FallbackReason), UNKNOWN])", "pass"),
        ("        if status in _AS_TCP:\n", "        if False:\n"),
        ("if self._wanted and not self._wanted & {local[1], one.remote[1]}:", "if False:"),
        ("known.is_restless |= outstanding", "pass"),
        (
            "        for known in self._gone.values():\n            self._leave(known.kind, known.marks)",
            "        pass",
        ),
    ),
    *of(
        "mptcp_sockopt/_remembered.py",
        "tallies metrics",
        ("grown = tuple(map(sub, counted, before))", "grown = counted"),
        ("return grown if not grown or min(grown) >= 0 else", "return grown if True else"),
        ("        of.append(grown)\n", "        of[0] = grown\n"),
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
        "mptcp_sockopt/cli/_textfile.py",
        "cli/export_trouble cli/export",
        ("data, 0o644)", "data, 0o600)"),
        ("                os.unlink(self._name)\n", "                pass\n"),
        ("            if self._is_ours(os.lstat(self._name)):", "            if True:"),
        ("os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC", "os.O_RDONLY | os.O_CLOEXEC"),
    ),
    *of(
        "mptcp_sockopt/cli/_files.py",
        "cli/export_trouble",
        ("fcntl.flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"),
    ),
    *of(
        "mptcp_sockopt/cli/export.py",
        "cli/export_trouble",
        ("signal.SIGTERM, signal.SIGINT, signal.SIGHUP)", "signal.SIGTERM, signal.SIGINT)"),
        ("if number == signal.SIGTERM or before[number] is not signal.SIG_IGN:", "if True:"),
    ),
    *of(
        "mptcp_sockopt/cli/_serving.py",
        "cli/export cli/export_trouble",
        ("has_room = len(self._served) < MOST", "has_room = True"),
        ("                    request.shutdown(socket.SHUT_RDWR)", "                    pass"),
        ("made = Server(place, family)", "made = Server(address, family)"),
        ("            self._served.pop(request, None)", "            pass"),
    ),
)
