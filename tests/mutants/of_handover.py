# SPDX-License-Identifier: MIT
"""Mutations of what hands a port from one generation of a server to the next."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "reuseport/handover/_passing.py",
        "reuseport/handover",
        ("except ConnectionError:", "except TimeoutError:"),
    ),
    *of(
        "reuseport/_net.py",
        "reuseport/handover",
        ("sock.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)", "sock.recvmsg(size, room)"),
    ),
    *of(
        "reuseport/handover/_retiring.py",
        "reuseport/handover",
        ("if shared is False or (shared is None and has_successor(self._inet)):", "if True:"),
        ("if shared is False or (shared is None and has_successor(self._inet)):", "if False:"),
        ("if row.inode not in ours and _covers(row, host):", "if _covers(row, host):"),
        ('return ":" in host or not row.v6only', "return True"),
        ("return bool(self._pending) and time.monotonic() < self.until", "return bool(self._pending)"),
        ("self.until = time.monotonic() + self._timeout", "self.until = math.inf"),
        ("    if serve and not _in_event_loop():", "    if not _in_event_loop():"),
    ),
    *of(
        "reuseport/handover/_retiring.py",
        "reuseport/handover_aio",
        ("    if serve and not _in_event_loop():", "    if serve:"),
    ),
    *of(
        "reuseport/handover/_aio.py",
        "reuseport/handover_aio",
        ("    for _ in range(_ROUNDS):\n        await asyncio.sleep(0)\n", ""),
        ("            while (unserved := bool(readable(socks, 0)))", "            while (unserved := False)"),
        (
            "                await asyncio.sleep(LOOK)\n            retirement.step_aside",
            "                time.sleep(LOOK)\n            retirement.step_aside",
        ),
        ("    if close:\n        close()\n", ""),
    ),
    *of(
        "reuseport/handover/_generations.py",
        "reuseport/supervisor",
        ("            self.close()\n\n    def _listen", "            pass\n\n    def _listen"),
        (
            "self._pressure = [signal.SIGTERM, signal.SIGKILL]",
            "self._pressure = [signal.SIGKILL, signal.SIGKILL]",
        ),
        (
            "self.deadline = time.monotonic() + grace if self._pressure else math.inf",
            "self.deadline = math.inf",
        ),
        ("        self._silent = True\n", "        pass\n"),
    ),
    *of(
        "reuseport/handover/_supervisor.py",
        "reuseport/supervisor",
        ("        successor.deadline = time.monotonic() + self._timeout\n", ""),
        ("        successor.deadline = math.inf\n", ""),
        (
            "while old.status is None and not old.retired and time.monotonic() < limit:",
            "while old.status is None and not old.retired:",
        ),
        (
            "while old.status is None and not old.retired and time.monotonic() < limit:",
            "while old.status is None and time.monotonic() < limit:",
        ),
        (
            "                    one.deadline = min(one.deadline, time.monotonic())\n",
            "                    pass\n",
        ),
        ("            one.stop(0 if starts else self._patience)", "            one.stop(self._patience)"),
        ("        for sock in (ours, *self._wakeup):\n", "        for sock in (ours,):\n"),
        ("return Worker(number, line, self.current is None)", "return Worker(number, line, not number)"),
        (
            "        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the supervisor stops it\n",
            "",
        ),
        ("            self._asked = False\n            began", "            began"),
    ),
    *of(
        "reuseport/handover/_systemd.py",
        "reuseport/notify",
        ('address.replace("@", "\\0", 1) if address[0] == "@" else address', "address"),
    ),
)
