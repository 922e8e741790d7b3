# SPDX-License-Identifier: MIT
"""Mutations of mptcp_events(), from the bytes of a message to the object that is waited for."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "mptcp_sockopt/_border/netlink.py",
        "events_parser",
        ("        if kind == family:\n", "        if True:\n"),
        ("            if len(body) < _GENERIC.size:\n", "            if False:\n"),
    ),
    *of(
        "mptcp_sockopt/_border/pm_events.py",
        "events_parser",
        ("if len(value) != layout.size:", "if len(value) < layout.size:"),
        ('        parts["server_side"] = True\n', "        pass\n"),
        ('_PORT = struct.Struct(">H")', '_PORT = struct.Struct("<H")'),
        ("interface if is_link_local else 0", "0"),
        ("interface if is_link_local else 0", "interface"),
        (
            'lib.MPTCP_ATTR_ERROR: ("error", struct.Struct("=B"))',
            'lib.MPTCP_ATTR_ERROR: ("error", struct.Struct("=b"))',
        ),
    ),
    *of(
        "mptcp_sockopt/_border/pm_events.py",
        "events_lost",
        ("return parsed(data, family) if sender == 0 else []", "return parsed(data, family)"),
        ("        if error.errno == errno.ENOENT:\n", "        if False:\n"),
        ("        subscribed.close()\n        if error", "        if error"),
        ("lib.SO_RCVBUFFORCE, buffer", "lib.SO_RCVBUFFORCE, 4096"),
        ("with contextlib.suppress(PermissionError):  # beyond", "with contextlib.nullcontext():  # beyond"),
        ("socket.SOCK_RAW | socket.SOCK_NONBLOCK", "socket.SOCK_RAW"),
    ),
    *of(
        "mptcp_sockopt/_events.py",
        "events_lost",
        ("                    self._lost = True\n", "                    self._pending.append(_lost())\n"),
        ("                    self._lost = False\n                    self", "                    self"),
        ("                    if self._lost:  # the kernel", "                    if False:  # the kernel"),
        ("self._lost and found[-1].kind is not MPTCPEventKind.LOST", "self._lost"),
        ("len(found) < _MOST or (", "len(found) < _MOST and not ("),
        ("                self._pending.extendleft(reversed(found))\n", ""),
        ("extendleft(reversed(found))", "extendleft(found)"),
    ),
    *of(
        "mptcp_sockopt/_events.py",
        "events",
        ("_KINDS.get(kind, kind), time", "kind, time"),
        ('"kind": int(self.kind)}', '"kind": self.kind}'),
        ("            if left is not None and left <= 0:\n                break\n", ""),
        (
            "            while not self._pending:\n                self._check()\n",
            "            while not self._pending:\n",
        ),
        ("                os.eventfd_write(self._waker, 1)\n", ""),
        (
            "                os.close(self._waker)\n                self._socket.close()\n",
            "                self._socket.close()\n",
        ),
        ('            warn(f"unclosed {self!r}", ResourceWarning, source=self)\n', ""),
        ("                    loop.remove_reader(fd)\n", "                    pass\n"),
        ("                os.close(fd)\n", "                pass\n"),
        ("                fds.append(os.dup(self._waker))\n", ""),
        ("        self._lock = _thread.RLock()\n        if not", "        if not"),
        (
            "            os.close(self._waker)\n            self._waker = os.eventfd(0)\n",
            "            pass\n",
        ),
    ),
)
