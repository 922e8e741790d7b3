# SPDX-License-Identifier: MIT
"""Mutations of the command who of reuseport: the rule of bind(), what is seen, and what is said of it."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "reuseport/who/rule.py",
        "reuseport/who_rule reuseport/who_bind",
        (
            "holder.reuseaddr and holder.state is not State.LISTEN:\n        return False",
            "holder.reuseaddr:\n        return False",
        ),
        ("holder.state is State.STUB or holder.uid == wish.uid", "holder.uid == wish.uid"),
        ("and mine == ANY4 and not old.v6only", "and False"),
        ("return new.host == ANY6 and not new.v6only", "return new.host == ANY6"),
        ("None if remembered else False", "False"),
        ("        yield place._replace(v6only=True)\n", ""),
        ("    if holder.state is State.LISTEN:\n        return False\n", ""),
        ("return holder.reuseaddr is not False or accepted", "return accepted"),
        (
            "found = {refuses(wish, one) for one in likely or possible}",
            "found = {refuses(wish, one) for one in possible}",
        ),
        ("(wish.uid, another) if holder.uid is None else (holder.uid,)", "(wish.uid,)"),
    ),
    *of(
        "reuseport/who/holders.py",
        "reuseport/who_bind reuseport/who_others",
        (
            "if sock.timer == _STUB_TIMER or sock.state == TCPState.TIME_WAIT:",
            "if sock.state == TCPState.TIME_WAIT:",
        ),
        ("None if self.state is State.STUB or sock.uid == unmapped() else sock.uid", "sock.uid"),
        ("held._replace(options=None, unseen=why) if held.kernel.inode in doubtful else held", "held"),
        ("if sock.state != TCPState.SYN_RECV]", "if sock.state != TCPState.CLOSE]"),
    ),
    *of(
        "reuseport/who/bind.py",
        "reuseport/who_bind",
        ("answer = answer._replace(binds=None)", "pass"),
        ("        v6only = True  # bind() sees to it", "        v6only = v6only"),
        ("if _capable() if certain else wish.uid == 0:", "if True:"),
        ("refused_outright(wish, mptcp, scope) or", ""),
    ),
    *of(
        "reuseport/who/answers.py",
        "reuseport/who_bind",
        ("if number in living else fact", ""),
        ("elif maybe and found.answer.binds is False:", "elif maybe:"),
        ('        return "none"', '        return "all"'),
        ("if not rest.binds and closed:", "if False:"),
    ),
    *of(
        "reuseport/_lookup.py",
        "reuseport/lookup reuseport/who_bind",
        ("    if new.family == socket.AF_INET:\n        return mine\n", "    return mine\n"),
        ("if listener.interface not in (0, to.interface):", "if False:"),
    ),
    *of(
        "reuseport/who/unseen.py",
        "reuseport/seen",
        ("if counts and int(counts[0]):", "if False:"),
        ("(one.address, one.port) == (address, port)", "False"),
    ),
    *of(
        "reuseport/_programs.py",
        "reuseport/who_others",
        ('not names[-1].startswith("user@")', "True"),
        ("or bool(one.unit and other.unit and one.unit != other.unit)", ""),
    ),
    *of(
        "reuseport/who/notes.py",
        "reuseport/who_others",
        ("and row.listener.v6only is False", ""),
        ('key=lambda address: (":" not in address, address)', "key=lambda address: address"),
    ),
    *of(
        "reuseport/who/command.py",
        "reuseport/seen reuseport/who_others",
        ('not seen whole", CANNOT', 'not seen whole", PASS'),
        ("{_HELD if held else _NOBODY}", "{_NOBODY}"),
    ),
)
