# SPDX-License-Identifier: MIT
"""Mutations of the rooms that see the compiled module."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "abi bounds",
        (
            "        if type(fd) is not int:\n            fd = checked(sock, fd)\n    try:\n        buffer = _pop_info()",
            "    try:\n        buffer = _pop_info()",
        ),
    ),
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "errors abi bounds",
        ("            checked(sock, fd)  # refused before the kernel was asked: what is no descriptor\n", ""),
    ),
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "bounds lies",
        (
            "while not length and (left := left - 1):\n            _, count",
            "while not length:\n            _, count",
        ),
        ("while not length and (left := left - 1):\n        room", "while not length:\n        room"),
    ),
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "sockopt abi",
        ("and any(inside[POINTERS])", "and False"),
        ("    view[: len(inside)] = inside\n    in_bounds", "    in_bounds"),
        (
            'copy = ffi.new("uint64_t[]", max(1, (length + 7) // 8))\n    inside = memoryview(ffi.buffer(copy))[: max(0, length)]\n    inside[:] = view[: len(inside)]',
            'copy = ffi.new("uint64_t[]", max(1, (length + 7) // 8))\n    inside = memoryview(ffi.buffer(copy))[: max(0, length)]',
        ),
    ),
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "lies",
        ("in_bounds = 0 <= reported <= len(inside)", "in_bounds = True"),
    ),
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "older_kernels",
        ("        answer = _answer(fd, call, lib.speaks_mptcp(fd))", "        answer = 1"),
    ),
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "errors bounds",
        (
            "        tcp_protocol(fd, call)\n        raise failure(fd, option, error)",
            "        raise failure(fd, option, error)",
        ),
        ("    if reason == _REFUSED_OTHER:\n", "    if False:\n"),
    ),
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "errors bounds lies",
        (
            "option, number = _ASKED[-answer >> 12], -answer & lib.MOST_ERRNO",
            "option, number = _ASKED[-answer >> 12], -answer",
        ),
    ),
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "errors",
        ("        problem.option = option\n", "        pass\n"),
    ),
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "errors sockopt abi",
        ("if level == SOL_MPTCP and error in", "if error in"),
    ),
    *of(
        "mptcp_sockopt/_border/rows.py",
        "sampler_changes sampler bounds sampler_calls",
        ("tokens[fd] if before.get(fd) == number else 0", "tokens.get(fd, 0)"),
        ("if len(spare) < _SPARE:", "if True:"),
        ("if block is None or len(block) != words:", "if block is None:"),
        ("if block is None or len(block) != words:", "if block is None or len(block) < words:"),
        ("if stride > self._narrow and longest * 2 < stride:", "if False:"),
        ("size = count * (stride + 3 * _INT)", "size = count * (stride + 2 * _INT)"),
    ),
    *of(
        "mptcp_sockopt/_border/layouts.py",
        "views fields values",
        ("    addrs = element_of_kernel - ADDRS_SIZE\n", "    addrs = 8\n"),
        ("        count = room\n", "        pass\n"),
        ("and element <= element_of_kernel\n", ""),
        ("        and info % MPTCP_INFO_ALIGNED == 0\n", ""),
    ),
    *of(
        "mptcp_sockopt/_border/layouts.py",
        "diag",
        ("words[0] | words[1] << 32", "words[0]"),
    ),
    *of(
        "mptcp_sockopt/_border/sock_diag.py",
        "sock_diag diag diag_listeners lies",
        (
            "if result == 0 and not found.c.interrupted:\n            return found.take(), found.c.info",
            "if result == 0:\n            return found.take(), found.c.info",
        ),
        ("        copy = memoryview(bytes(rows))\n", "        copy = rows\n"),
        ("self.c.sequence = next(_sequences) % 2**32", "self.c.sequence = 1"),
        ("(result == 0 and not found.is_surely_mptcp) or result in _DOUBTFUL", "result in _DOUBTFUL"),
    ),
    *of(
        "mptcp_sockopt/_border/sock_diag.py",
        "sock_diag lies",
        ("if self.c.size >= self.limit:", "if False:"),
        ("self.limit = limit // 8 * 8", "self.limit = limit"),
    ),
    Mutation(
        "mptcp_sockopt/_border/sock_diag.py",
        "diag_listeners",
        "if inode in told or (inode and one.is_mptcp):",
        "if inode and one.is_mptcp:",
        equivalent="since Linux 6.15 TCP's table names the ULP of each MPTCP listener to anybody, so each that "
        "was told passes the second half too; the first is for older kernels",
    ),
    *of(
        "mptcp_sockopt/_border/sock_diag.py",
        "diag_listeners",
        ("if inode in told or (inode and one.is_mptcp):", "if inode in told:"),
        ("record[:DIAG_INFO_AT] = ffi.buffer(ffi.addressof(inside.msg))", "pass"),
        ("told.pop(0, None)  # is being closed", "pass"),
    ),
    *of(
        "mptcp_sockopt/_border/sock_diag.py",
        "sock_diag diag_listeners",
        ("if any(one.is_mptcp or one.privileged for one in inside):\n        return 0", "pass"),
    ),
    *of(
        "mptcp_sockopt/_descriptor.py",
        "bounds",
        ("if not isinstance(fd, int) or isinstance(fd, bool):", "if not isinstance(fd, int):"),
    ),
    *of(
        "mptcp_sockopt/_descriptor.py",
        "bounds",
        ("if isinstance(sock, int) and not isinstance(sock, bool):", "if isinstance(sock, int):"),
    ),
)
