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
        ("            checked(sock, fd)  # the exception of an invalid descriptor comes first\n", ""),
    ),
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "bounds lies",
        (
            "while not length and (tries := tries - 1):\n            _, count",
            "while not length:\n            _, count",
        ),
        ("while not length and (tries := tries - 1):\n        room", "while not length:\n        room"),
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
        "mptcp_sockopt/_border/questions.py",
        "older_kernels",
        ("        answer = _answer(fd, call, lib.speaks_mptcp(fd))", "        answer = 1"),
    ),
    *of(
        "mptcp_sockopt/_border/questions.py",
        "errors bounds",
        (
            "        tcp_protocol(fd, call)\n        raise failure(fd, option, error)",
            "        raise failure(fd, option, error)",
        ),
        (
            "    if _answer(fd, call, reason) == _REFUSED_OTHER:\n",
            "    if _answer(fd, call, reason) is None:\n",
        ),
    ),
    *of(
        "mptcp_sockopt/_border/questions.py",
        "errors bounds lies",
        (
            "option, number = _ASKED[-answer >> 12], -answer & lib.MOST_ERRNO",
            "option, number = _ASKED[-answer >> 12], -answer",
        ),
    ),
    *of(
        "mptcp_sockopt/_border/questions.py",
        "errors",
        ("        problem.option = option\n", "        pass\n"),
    ),
    *of(
        "mptcp_sockopt/_border/questions.py",
        "errors sockopt abi",
        ("if error in _REFUSING and level == SOL_MPTCP", "if error in _REFUSING"),
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
        ("return next(_sequences) % 2**32", "return 1"),
        ("(result == 0 and not found.is_surely_mptcp) or result in _DOUBTFUL", "result in _DOUBTFUL"),
    ),
    *of(
        "mptcp_sockopt/_border/sock_diag.py",
        "sock_diag lies",
        ("            if self.is_full:\n                return -errno.EMSGSIZE\n", ""),
        ("left = limit - before", "left = limit"),
        ("self._drained + self.c.used > self.limit", "self._drained + self.c.used >= self.limit"),
        ("                self._drained += self.c.used\n", ""),
    ),
    *of(
        "mptcp_sockopt/_border/listeners.py",
        "sock_diag",
        ("most = max(limit, LIMIT)", "most = limit"),
    ),
    *of(
        "mptcp_sockopt/_border/listeners.py",
        "diag_listeners diag_missing",
        ("elif is_mptcp and inode:", "elif False:"),
        ("records[at : at + DIAG_INFO_AT] = record", "pass"),
        ("record[_COOKIE] = records[at + _COOKIE.start : at + _COOKIE.stop]", "pass"),
        ("            self._told.pop(0, None)\n", ""),
        ("                self._confirmed = True\n", ""),
        ("if self._shortest >= TCP_INFO_OF_6_18:\n            return None", "pass"),
        ('        if self._told:\n            return ""\n', ""),
    ),
    *of(
        "mptcp_sockopt/_border/listeners.py",
        "sock_diag diag_listeners",
        ("if self._tells or not self._others:", "if not self._others:"),
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
