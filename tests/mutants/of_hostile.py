# SPDX-License-Identifier: MIT
"""Mutations of what keeps other users, peers and files from harming whoever runs a command (SECURITY.md)."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "mptcp_sockopt/cli/_files.py",
        "cli/files",
        ("flags | os.O_CREAT | os.O_EXCL, mode)", "flags | os.O_CREAT, mode)"),
        ("PRIVATE = 0o600", "PRIVATE = 0o644"),
        ("there.st_uid == os.geteuid() and not there.st_size and", "not there.st_size and"),
        ("not there.st_size and not is_link", "not there.st_size"),
        ("raise error from None  # a link to nothing", "raise"),
        ("os.unlink(beside)  # of a process that was killed, or somebody else's", "pass"),
        ("os.fchmod(new, mode)", "pass"),
        ("os.replace(beside, path)", "open(path, 'wb').write(data)"),
        ("            os.unlink(beside)\n        raise OSError", "            pass\n        raise OSError"),
        ("if stat.S_ISREG(there.st_mode) and not ours:", "if False:"),
    ),
    *of(
        "mptcp_sockopt/cli/_outcome.py",
        "cli/hostile cli/files",
        ("{escaped(reason(error))}", "{reason(error)}"),
        ("super().error(escaped(message))", "super().error(message)"),
        ('if c.isprintable() or c == "\\n" else', 'if c != "\\x1b" else'),
    ),
    *of("mptcp_sockopt/cli/check.py", "cli/hostile", ('print(escaped("\\n".join(', 'print(("\\n".join(')),
    *of("mptcp_sockopt/cli/plot.py", "cli/files", ("st_mode) & 0o666)", "st_mode) & 0o666 | 0o044)")),
    *of("mptcp_sockopt/cli/_program.py", "cli/hostile", ("{name}: {escaped(text)}", "{name}: {text}")),
    *of(
        "mptcp_sockopt/cli/_serving.py",
        "cli/export",
        ("readline(MOST_BYTES - len(head))", "readline(MOST_BYTES)"),
    ),
    *of("reuseport/lesson.py", "cli/hostile", ('"-I", "-c", start, "lesson"', '"-m", "reuseport", "lesson"')),
)
