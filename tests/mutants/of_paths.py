# SPDX-License-Identifier: MIT
"""Mutations of connections with their paths."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "csrc/mptcp_diag_tcp.c",
        "sock_diag_subflows fuzz",
        ("if (length != places[type].size)\n\t\t\t\treturn -EPROTO;", ""),
        (
            "if (attribute.nla_len < sizeof(attribute) || attribute.nla_len > left)\n\t\t\treturn -EPROTO;\n\t\ttype",
            "if (attribute.nla_len < sizeof(attribute))\n\t\t\treturn -EPROTO;\n\t\ttype",
        ),
        ("found->told |= (uint16_t)(1u << type);", "found->told = 0xffff;"),
        ("if (nest_length < 0)\n\t\treturn -EPROTO;", ""),
        ("if (!info)\n\t\treturn 0;", "if (!info)\n\t\treturn -EPROTO;"),
        ("dump->sets[port / 8] |= (uint8_t)(1u << port % 8);", ""),
        ("if (!found.told && !is_kept(dump, &found.msg))\n\t\treturn 0;", ""),
        ("if (!sets || msg->idiag_state == TCP_LISTEN)", "if (!sets)"),
        ("(msg->idiag_inode && sets[inode / 8] >> inode % 8 & 1)", "(sets[inode / 8] >> inode % 8 & 1)"),
        ("found.privileged = 1;", ""),
        (
            "if (info_length < LEAST_SUBFLOW_TCP_INFO || info_length > MOST_STRUCT",
            "if (info_length > MOST_STRUCT",
        ),
        ("if (info_length > TCP_INFO_ROOM)\n\t\tinfo_length = TCP_INFO_ROOM;", ""),
        ("if (dump->size - dump->used < dump->stride)\n\t\treturn -EINVAL;", ""),
    ),
    *of(
        "csrc/mptcp_diag.c",
        "sock_diag_subflows connections connections_selected lookup",
        ("{INET_DIAG_BC_D_EQ, 8, 12}", "{INET_DIAG_BC_D_EQ, 8, 8}"),
        ("{INET_DIAG_BC_JMP, 4, 12}", "{INET_DIAG_BC_JMP, 4, 4}"),
        ("if (dump->single)\n\t\t\t\treturn 1;", ""),
    ),
    *of(
        "csrc/mptcp_diag.c",
        "lookup fuzz",
        ("dump->used = 0;\n\tdump->stride = dump->barren = 0;", ""),
        ("|| !subflow.token_loc)", ")"),
        ("row->used = 0;", ""),
    ),
    *of(
        "mptcp_sockopt/_border/lookups.py",
        "lookup bounds connections",
        ("_free: deque[_Memory] = deque(maxlen=2)", "_free: deque[_Memory] = deque()"),
        ("return self.subflow_of_any(diag_end(row", "return path  # (diag_end(row"),
    ),
    *of(
        "mptcp_sockopt/_joined.py",
        "connections connections_beside connections_selected lookup",
        ("if self._port and self._lacks_paths(now):", "if False:"),
        ("or _were_any_without()", ""),
        ("or self._is_any_beside()", ""),
        ("elif port and port not in (sport, dport):", "elif False:"),
        ("_is_taken(listeners, family, sport, src)", "True"),
        (
            "for number, token in enumerate(now.tokens()) if token}",
            "for number, token in enumerate(now.tokens())}",
        ),
        ("if self._is_wanted(found):", "if True:"),
        ("asker.subflow_of_any if wait == waits[-1] else asker.subflow", "asker.subflow"),
        ("exact = listeners.get((family, port, src))", "exact = None"),
    ),
    *of(
        "mptcp_sockopt/_connections.py",
        "connections connections_beside lookup",
        ("return self.complete and all(", "return all("),
        ("return Status.CLOSING if path.token_local else Status.FALLBACK", "return Status.FALLBACK"),
        ("return row.state in _OPEN or bool(row.state in _HALF_CLOSED and row.inode)", "return True"),
        ("subflows = tuple(sorted(subflows, key=order(row)))", "pass"),
    ),
    *of(
        "mptcp_sockopt/_diag_subflow.py",
        "connections sock_diag_subflows",
        ("number(view) if told(view) & bit else None", "number(view)"),
        ('return "local" if flags & _OURS else "remote"', 'return "remote" if flags & _OURS else "local"'),
        ("return self._has(SubflowFlag.BKUP_LOC)", "return self._has(SubflowFlag.BKUP_REM)"),
        ("return joined, self.id or 0", "return not joined, self.id or 0"),
    ),
    *of(
        "mptcp_sockopt/_diag.py",
        "lookup",
        ("if subflow._is_told:", "if False:"),
        ("return None if one.row is None and one.status is Status.TCP else one", "return one"),
        ("return _searched(*ends, port) if dump else None", "return None"),
    ),
)
