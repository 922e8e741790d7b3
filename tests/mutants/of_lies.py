# SPDX-License-Identifier: MIT
"""Mutations that a kernel shows that lies, in the look-ups and dumps behind connections, events and endpoints."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "csrc/mptcp_diag.c",
        "lies",
        ("if (result == 1 && dump->met == met)\n\t\treturn -EPROTO;", ""),
        ("\treturn found->idiag_state == TCP_LISTEN ||\n", "\treturn 1 ||\n"),
    ),
    *of(
        "csrc/mptcp_diag.c",
        "lookup",
        ("map_address(mapped[1], asked_family, asked);", "map_address(mapped[1], family, asked);"),
    ),
    *of(
        "mptcp_sockopt/_border/lookups.py",
        "lies",
        ("if result < 0 and result != _NONE:", "if False:"),
    ),
    *of(
        "mptcp_sockopt/_border/sock_diag.py",
        "lies",
        ("if not result and not found.c.interrupted:", "if not result:"),
    ),
    *of(
        "mptcp_sockopt/_border/netlink.py",
        "lies",
        ("return None if flags & lib.NLM_F_DUMP_INTR else answers", "return answers"),
        ("is_errno = 0 < -error <= lib.MOST_ERRNO", "is_errno = error < 0"),
    ),
)
