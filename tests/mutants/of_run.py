# SPDX-License-Identifier: MIT
"""Mutations of the command run, and of the C that makes a program's sockets."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "csrc/seccomp_filter.c",
        "cli/run",
        ("{BPF_IF_EQUAL, 0, 7, AF_INET6}", "{BPF_IF_EQUAL, 0, 7, AF_INET}"),
        ("~(uint32_t)(SOCK_CLOEXEC | SOCK_NONBLOCK)", "~(uint32_t)SOCK_CLOEXEC"),
        ("{BPF_IF_EQUAL, 0, 1, IPPROTO_TCP}", "{BPF_IF_EQUAL, 0, 1, IPPROTO_MPTCP}"),
        ("|| errno != ENOENT)", "|| 0)"),
    ),
    *of(
        "csrc/seccomp_run.c",
        "cli/run_process cli/run",
        ("is_nested(strict))", "0)"),
        ("mptcp < 0 ? !strict :", ""),
        ("tcp_protocol(plain) == IPPROTO_MPTCP", "1"),
        ("{SIGPIPE, SIGXFSZ}", "{SIGXFSZ, SIGXFSZ}"),
    ),
    *of(
        "csrc/seccomp_supervisor.c",
        "cli/run_process cli/run cli/run_load",
        ("network.st_ino != self->network.st_ino ||", "0 ||"),
        ("\t\tsetfsuid(uid);", "\t\t;"),
        ("\t\tsetfsuid(self->uid);", "\t\t;"),
        ("? O_CLOEXEC : 0", "? 0 : 0"),
        ("type | SOCK_CLOEXEC,", "SOCK_STREAM | SOCK_CLOEXEC,"),
        ("\tclose(fd);\n\treturn error;", "\treturn error;"),
        ("\tif (self->strict)", "\tif (0)"),
        ("\tsetsid();\n", ""),
        ("\t\tsignal(i, SIG_IGN);", "\t\t;"),
        ("\t\tdup2(null, i);", "\t\t;"),
        ("fcntl(report < 0 ? null : report,", "fcntl(report < 0 ? 2 : report,"),
        ("if (atoi(number) != syscall(__NR_getpid))", "if (0)"),
        ('"%u/net/dev"', '"%u/ns/net"'),
    ),
    *of(
        "mptcp_sockopt/cli/run.py",
        "cli/run_process cli/run",
        ("not (options.strict or", "not ("),
        ("_stderr() if options.verbose else -1", "_stderr()"),
        ("        if options.verbose and not begun:", "        if not begun:"),
    ),
    *of(
        "mptcp_sockopt/cli/_program.py",
        "cli/run_process",
        ("NOT_FOUND if failed.errno == errno.ENOENT else", "NOT_FOUND if failed.errno else"),
        ("        self.exit(OURS,", "        self.exit(2,"),
        ("    _forget_locale()\n", ""),
        ('if b"LC_CTYPE" in before:', "if False:"),
    ),
)
