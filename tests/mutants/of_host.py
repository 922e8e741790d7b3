# SPDX-License-Identifier: MIT
"""Mutations of what reads the settings of a host, and of the commands check and doctor."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "mptcp_sockopt/_border/config.py",
        "host",
        (
            "asked = lib.MPTCP_PM_ATTR_SUBFLOWS, lib.MPTCP_PM_ATTR_RCV_ADD_ADDRS",
            "asked = lib.MPTCP_PM_ATTR_RCV_ADD_ADDRS, lib.MPTCP_PM_ATTR_SUBFLOWS",
        ),
        ("flags = lib.RTM_F_FIB_MATCH if match else 0", "flags = 0"),
        ("parts.get(lib.IFA_LOCAL) or parts.get(lib.IFA_ADDRESS)", "parts.get(lib.IFA_ADDRESS, b'')[:0]"),
        ("if interface:\n        request +=", "if False:\n        request +="),
    ),
    *of(
        "mptcp_sockopt/_border/netlink.py",
        "host netlink",
        ("            answers.append(body)", "            answers = [body]"),
        ("if error or kind == lib.NLMSG_ERROR:", "if error:"),
    ),
    *of(
        "mptcp_sockopt/_border/options.py",
        "host",
        ("    if tcp.set:\n        return None", "    if False:\n        return None"),
        ("if tcp.get and level != SOL_MPTCP:", "if tcp.get:"),
        ("if tcp.get and level != SOL_MPTCP:", "if False:"),
        ("tcp.before != tcp.after and mptcp.before == mptcp.after", "mptcp.before == mptcp.after"),
        ("tcp.before != tcp.after and mptcp.before == mptcp.after", "tcp.before != tcp.after"),
        ("if family == socket.AF_INET6:\n                continue", "if False:\n                continue"),
        (
            "(fresh, client, accepted, server), strict=True)",
            "(client, fresh, accepted, server), strict=True)",
        ),
        ("None if value is None else _set(*pair)", "_set(*pair)"),
    ),
    *of(
        "mptcp_sockopt/_border/config.py",
        "host",
        ('"/proc/thread-self/net/netstat"', '"/proc/self/net/netstat"'),
    ),
    *of(
        "mptcp_sockopt/host.py",
        "host",
        ("match = family == socket.AF_INET and bool(endpoint.ifindex)", "match = False"),
        ("    if not indices:", "    if False:"),
        ("if index in wanted:", "if True:"),
        ("return self.problem is None", "return True"),
        ("int(value) if value.isdecimal() else value", "value"),
    ),
    *of(
        "mptcp_sockopt/cli/_here.py",
        "cli/check_here cli/doctor cli/check",
        (
            'get("MPCapableSYNTXDisabled", 0) == before:\n        raise',
            'get("MPCapableSYNTXDisabled", 0) == -1:\n        raise',
        ),
        ("return found is not mp.Status.MPTCP", "return False"),
        ("if routes and not any(routes):", "if not any(routes):"),
        ("EndpointFlag.IMPLICIT:\n        return []", "EndpointFlag.IMPLICIT:\n        pass"),
        ("and not here.limits.subflows:", "and here.limits.subflows:"),
    ),
    *of(
        "mptcp_sockopt/cli/_peer.py",
        "cli/check_here cli/check",
        ("syns * _SECONDS_PER_SYN - _MARGIN", "syns * _SECONDS_PER_SYN + 2"),
        ("elif now != acknowledged:", "elif True:"),
        ("if seconds >= longest:", "if seconds < longest:"),
        ("if result is Result.RESET and _tcp_is_reset(peer):", "if False:"),
        ("if result is Result.UNCONFIRMED and peer.data:", "if False:"),
        ("_UNCONFIRMED = 3\n", "_UNCONFIRMED = 2\n"),
        (
            "reason = FallbackReason.FIRST_DATA if agreed else FallbackReason.NO_OPTION_IN_ANSWER\n",
            "reason = None\n",
        ),
    ),
    *of(
        "mptcp_sockopt/cli/check.py",
        "cli/check cli/check_here",
        ("if attempt.result not in (Result.UNREACHABLE, Result.REFUSED):", "if True:"),
        ("here.works is not False and here.support:", "True:"),
        ('return "unknown" if set(results) <= {*UNKNOWN} else "no"', 'return "no"'),
    ),
    *of(
        "mptcp_sockopt/cli/doctor.py",
        "cli/doctor",
        (
            "counters = host.counters()  # before our own connections\n    here = here_.look()\n    tried, missing = _tried()",
            "here = here_.look()\n    tried, missing = _tried()\n    counters = host.counters()",
        ),
        ("in meanings.items() if counters.get(name)]", "in meanings.items() if name in counters]"),
        ("return f\"{what}{when} ({', '.join(reasons)})\"", 'return f"{what}{when}"'),
        ('when = "always" if len(refused) == len(applies)', 'when = "always" if len(refused) == 4'),
        (' or _refusals(option.get, "read, ")', ""),
        ("    if here.works is None:\n        return CANNOT\n", ""),
    ),
)
