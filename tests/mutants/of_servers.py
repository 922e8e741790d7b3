# SPDX-License-Identifier: MIT
"""Mutations of what makes docs/servers.md and docs/audit.md from real servers."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "tests/servers/page.py",
        "servers/page",
        ('VERDICTS = {0: "PASS", 1: "FAIL",', 'VERDICTS = {0: "PASS", 1: "PASS",'),
        ('    if not found.losing:\n        return f"0 of', '    if found.losing:\n        return f"0 of'),
        ("    low, high = found.interval\n", "    low, high = 0.0, found.at_most\n"),
        ('return "not had" if "missing" in row else', 'return "not had" if not row else'),
        ("return f\"{client['lost']:,} of", 'return f"{0:,} of'),
        (
            'yield from ("```sh", row["command"], "```", "", "```", *row["said"], "```", "")',
            'yield from ("```", *row["said"], "```", "")',
        ),
        ('_wrapped(f"{setup.why} ({setup.known})")', "_wrapped(setup.why)"),
        ("for name in dict.fromkeys(name for setup in SETUPS for name in setup.files):", "for name in ():"),
    ),
    *of(
        "tests/servers/measured.py",
        "servers/page",
        (
            'words = ["reuseport audit", common, *clients, setup.options, "--", setup.command]',
            'words = ["reuseport audit", *clients, setup.options, "--", setup.command]',
        ),
    ),
    *of(
        "tests/servers/samples.py",
        "servers/samples",
        (
            '    rf"(plain|late|keepalive|slow): {COUNT} of {COUNT} lost in restarts(; .+)?",\n',
            '    rf"(plain): {COUNT} of {COUNT} lost in restarts(; .+)?",\n',
        ),
        ('r"\\n {4}", " ", self.output', 'r"\\n {3}", " ", self.output'),
    ),
    *of(
        "reuseport/audit/options.py",
        "servers/samples",
        ('"--slow-path",', '"--slowpath",'),
    ),
    *of(
        "reuseport/audit/listening.py",
        "servers/samples",
        ("CMD does not listen on", "CMD listens not on"),
    ),
)
