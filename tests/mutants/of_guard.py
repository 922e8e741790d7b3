# SPDX-License-Identifier: MIT
"""Mutations of what keeps an audited command from the live system."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "reuseport/audit/_mounts.py",
        "reuseport/guard_mounts reuseport/guard",
        ('        _syscalls.make_read_only("/")', "        pass"),
        ('return [Wanted(path, "/" if privileged else _owned_from(path)) for path in ordered]',
         'return [Wanted(path, "/") for path in ordered]'),
        ("if point is not None and len(point) >= len(directory.since):", "if False:"),
        ("                    _syscalls.mount(source, mount.point, flags=_syscalls.MS_BIND)", "                    pass"),
        ("lowerdir=/proc/self/fd/{lower}", "lowerdir={point}"),
        ('_syscalls.mount("proc", "/proc", "proc", flags)', "pass"),
        ("        os.chmod(upper, stat.S_IMODE(like.st_mode))", "        pass"),
    ),
    *of(
        "reuseport/audit/_init.py",
        "reuseport/guard reuseport/guard_ends",
        ("os.fchmod(writer, 0o666)", "pass"),
        ("setsigdef=(signal.SIGPIPE,),", "setsigdef=(),"),
        ("        with_default_signals()", "        pass"),
        ("pids = sorted(set(_children()) - self._started, key=_start_time)[:DAEMONS]",
         "pids = sorted(set(_children()), key=_start_time)[:DAEMONS]"),
        ("                _shorten(output)", "                pass"),
        ("if data := os.read(pipe, PACKET):", "if data := os.read(pipe, 1 << 24):"),
        ("        if not orders.protected:\n            _end_children()", "        pass"),
        ("_syscalls.CLONE_NEWNS | _syscalls.CLONE_NEWPID | _syscalls.CLONE_NEWIPC",
         "_syscalls.CLONE_NEWNS | _syscalls.CLONE_NEWPID"),
    ),
    *of(
        "reuseport/audit/guard.py",
        "reuseport/guard reuseport/guard_ends reuseport/guard_mounts",
        ("self._control.shutdown(socket.SHUT_RDWR)", "pass"),
        ("                self.forget(self._main)", "                pass"),
        ("            os.close(process.output_fd)", "            pass"),
        ("            poll.register(self._guard, 0)", "            pass"),
        ("if mounted.unsealed and mounted.refused:", "if False:"),
        ("_REFUSALS = (errno.EROFS, errno.EOVERFLOW)", "_REFUSALS = ()"),
        ("        if self._main and self._main.poll() is None:\n            return self._main", "        pass"),
    ),
    *of(
        "reuseport/audit/_ids.py",
        "reuseport/guard",
        ("return outside if (first, count) == (number, 1) else number", "return number"),
        ('Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")', "pass"),
    ),
    *of(
        "reuseport/audit/_written.py",
        "reuseport/guard",
        ("if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:", "if False:"),
        ("yield from _changes(entry.path, path)", "pass"),
    ),
)  # fmt: skip
