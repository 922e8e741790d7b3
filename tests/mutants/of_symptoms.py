# SPDX-License-Identifier: MIT
"""Mistakes in docs/troubleshooting.md, and in the messages that point to it."""

from __future__ import annotations

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "docs/troubleshooting.md",
        "symptoms/page symptoms/sockets symptoms/paths symptoms/tools symptoms/connections",
        ("(latency)=", "(delay)="),
        ("](#40-ms-latency)", "](#latency)"),
        ("OSError: [Errno 93] Protocol not supported", "OSError: [Errno 94] Socket type not supported"),
        ("Error: any valid address is expected", "Error: a valid address is expected"),
        ("on the new socket **and on the old one**", "on the new socket"),
        ("`ip mptcp limits set add_addr_accepted 2`", "`ip mptcp limits set add_addr 2`"),
        ("OSError: [Errno 107] Transport endpoint is not connected", "OSError: [Errno 104] reset"),
        ("$(sysctl -n net.mptcp.blackhole_timeout)\n```", "\n```"),
    ),
    *of(
        "mptcp_sockopt/_border/questions.py",
        "symptoms/sockets",
        ("        problem.__notes__ = [_NOTES[refusal]]\n", ""),
        (
            'REFUSED_OPTION: f"See {SYMPTOMS}#unsupported-option"',
            'REFUSED_OPTION: f"See {SYMPTOMS}#errno-95"',
        ),
    ),
    *of(
        "mptcp_sockopt/_version.py",
        "symptoms/page",
        ('troubleshooting.html"', 'trouble.html"'),
    ),
    *of(
        "mptcp_sockopt/cli/_here.py",
        "symptoms/page symptoms/sockets symptoms/connections",
        ('return "suspended" if here.suspended else', "return"),
        ('mp.Support.DISABLED: "socket-92"', 'mp.Support.DISABLED: "socket-93"'),
        ('NO_PATH = "subflows-0"', 'NO_PATH = "no-path"'),
    ),
    *of(
        "mptcp_sockopt/cli/check.py",
        "symptoms/connections",
        ("    yield from _page(_ANCHORS.get(result))\n", ""),
        ('Result.NO_ANSWER: "three-seconds"', 'Result.NO_ANSWER: "fallback"'),
    ),
    *of(
        "mptcp_sockopt/cli/doctor.py",
        "symptoms/paths symptoms/sockets",
        ("here_.anchor(here) or (here_.NO_PATH if problems else None)", "here_.anchor(here)"),
        (
            "here_.anchor(here) or (here_.NO_PATH if problems else None)",
            "(here_.NO_PATH if problems else None)",
        ),
    ),
)
