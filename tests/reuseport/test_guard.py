# SPDX-License-Identifier: MIT
"""A command in a guard: it changes no live file, sees no live process, and is followed when it daemonizes."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mptcp_sockopt.cli import CannotRun
from reuseport.audit import _init, guard

from ..support import DEADLINE, NOBODY, needs_root, until
from .guarded import USERS, guarded, home_of, mount_tmpfs, own_mounts, python, shell


@pytest.fixture(params=USERS)
def user(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def home(user: str) -> Iterator[str]:
    with home_of(user) as path:
        yield path


# ----------------------------------------------------------------------------------------------- files


def tree(directory: str) -> dict[str, tuple[int, int, str]]:
    """Modes, times and contents."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        shown = path.lstat()
        text = path.read_text() if stat.S_ISREG(shown.st_mode) else ""
        found[str(path)] = (shown.st_mode, shown.st_mtime_ns, text)
    return found


def test_live_files_stay_as_they_are(user: str, home: str) -> None:
    """CMD creates, changes, moves and removes; it sees what it wrote, and the report lists it."""
    Path(home, "old").mkdir()
    for name in ("changed", "removed", "moved", "old/file"):
        Path(home, name).write_text("live")
    for path in (home, *map(str, Path(home).rglob("*"))):
        if os.getuid() == 0 and user == "user":
            os.chown(path, NOBODY, NOBODY)
    before, mark = tree(home), uuid.uuid4().hex
    script = (
        "echo x > made; echo x >> changed; rm removed; mv moved there; mkdir new; echo x > new/file; "
        f"rm -r old; ln -s made link; echo x > /tmp/{mark}; "
        f"cat made changed there new/file link /tmp/{mark}; ls old"
    )

    def look(cage: guard.Guard) -> tuple[str, list[guard.Change], guard.Written]:
        said = shell(cage, script)
        return said, cage.written().changes, cage.written(2)

    said, changes, some = guarded(look, user, home)
    assert said.startswith("x\nlivex\nlivex\nx\nx\n"), said
    assert said.endswith("2")  # ls finds nothing
    assert tree(home) == before
    assert not os.path.exists(f"/tmp/{mark}")
    created, changed, removed = (
        ("link", "made", "new", "new/file", "there"),
        ("changed",),
        ("moved", "old", "removed"),
    )
    assert changes == sorted(
        [guard.Change(f"/tmp/{mark}", "created")]
        + [guard.Change(f"{home}/{name}", "created") for name in created]
        + [guard.Change(f"{home}/{name}", "changed") for name in changed]
        + [guard.Change(f"{home}/{name}", "removed") for name in removed]
    )
    assert some == guard.Written(changes[:2], len(changes) - 2)


def test_all_else_is_read_only(user: str, home: str) -> None:
    """Also what the user may write: CMD gets EROFS, and the report says why."""
    needs_root()

    def before() -> None:
        own_mounts()
        mount_tmpfs("/mnt", 0o777)
        Path("/mnt/file").write_text("live")
        Path("/mnt/file").chmod(0o666)

    def look(cage: guard.Guard) -> tuple[str, str, str, str]:
        server = cage.start(["sh", "-c", "echo x > /mnt/file; echo x > /mnt/other; mkdir /mnt/new"])
        server.wait(DEADLINE / 2)
        words = server.last_words()
        why = guard.refusal(words, cage.protection), guard.refusal("bind: busy", cage.protection)
        return words, Path("/mnt/file").read_text(), *why

    words, text, why, nothing = guarded(look, user, home, before=before)
    assert words.count("Read-only file system") == 3
    assert text == "live"
    assert "--unprotected" in why
    assert home in why or "/tmp" in why
    assert nothing == ""


def test_settings_of_the_kernel_are_read_only() -> None:
    """A start script of root's may set them; most are not of the private network, but everybody's."""
    needs_root()
    script = "cat /proc/sys/vm/swappiness > /tmp/value; cat /tmp/value > /proc/sys/vm/swappiness"
    with home_of("root") as home:
        said = guarded(lambda cage: shell(cage, script), "root", home)
    assert "/proc/sys/vm/swappiness: Read-only file system" in said


def test_devices_and_outputs_go_on_working(user: str, home: str) -> None:
    """/dev/null and the like; /dev/stdout and /dev/stderr may be opened again, and add to what was said."""
    script = (
        "echo one; echo two > /dev/stdout; echo three > /dev/stderr; echo > /dev/null; head -c 2 /dev/zero"
    )
    said = guarded(
        lambda cage: shell(cage, f"{script} | wc -c; : > /dev/shm/x; cat; ls /proc/self/fd/0"), user, home
    )
    assert said == "one\ntwo\nthree\n2\n/proc/self/fd/0\n0"


def test_a_server_that_became_another_user_writes() -> None:
    """nginx's workers open /dev/stderr again at USR1; directories have their modes."""
    needs_root()
    code = (
        f"import os; os.setuid({NOBODY}); os.mkdir('/tmp/{uuid.uuid4().hex}');"
        "print('mine', file=open('/dev/stderr', 'w'))"
    )
    with home_of("root") as home:
        words = guarded(
            lambda cage: (
                (end := cage.start([python("root"), "-c", code])).wait(DEADLINE / 2) or end.last_words()
            ),
            "root",
            home,
        )
    assert words == "mine"


def test_a_long_output_keeps_its_end() -> None:
    """The last words are there, however much came before."""

    def look(cage: guard.Guard) -> tuple[str, int]:
        server = cage.start(["sh", "-c", "head -c 20000000 /dev/zero; printf '\\n\\033last words'"])
        assert server.wait(DEADLINE / 2) == 0
        return server.last_words(12), len(server.output())

    with home_of("user") as home:
        words, length = guarded(look, "user", home)
    assert words == r"\x1blast words"
    assert length < 17_000_000


def test_a_user_keeps_its_ids_and_gets_low_ports(home: str, user: str) -> None:
    """A program that believes to be root changes its ids, and there is only one."""
    said = guarded(
        lambda cage: shell(cage, "id -u; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), user, home
    )
    uid = NOBODY if user == "user" and os.getuid() == 0 else os.getuid()
    assert said == f"{uid}\n{'1024' if user == 'root' else '0'}\n0"


def test_a_unix_socket_of_the_live_server(user: str, home: str) -> None:
    """It refuses CMD, which makes another in its place; that is reached from here. The live one answers."""
    path = f"{home}/admin.sock"
    code = (
        "import os, socket, sys\n"
        "try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
        "except ConnectionRefusedError: print('refused')\n"
        "os.unlink(sys.argv[1])\n"
        "server = socket.socket(socket.AF_UNIX); server.bind(sys.argv[1]); server.listen()\n"
        "print('up', flush=True)\n"
        "server.accept()[0].send(b'of CMD')\n"
    )

    def look(cage: guard.Guard) -> tuple[bytes, str]:
        server = cage.start([python(user), "-c", code, path])
        while b"up" not in server.output() and server.poll() is None:
            signal.sigtimedwait((), 0.01)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE / 2)
            client.connect(cage.reach(path))
            return client.recv(100), server.last_words()

    with socket.socket(socket.AF_UNIX) as live:
        live.bind(path)
        live.listen()
        os.chmod(path, 0o777)
        assert guarded(look, user, home) == (b"of CMD", "refused\nup")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            live.accept()[0].close()


# ----------------------------------------------------------------------------------------------- processes


def test_processes_are_counted_followed_and_told(user: str, home: str) -> None:
    """CMD ends, and leaves two daemons; one of them is its successor."""

    def look(cage: guard.Guard) -> None:
        server = cage.start(["sh", "-c", "sleep 301 & (setsid sh -c 'sleep 302; exit 5' &); exit 7"])
        assert cage.main() in (server, *cage.daemons())
        assert server.wait(DEADLINE / 2) == 7
        first, second = cage.daemons()

        def first_words() -> bytes:
            return Path(cage.proc, str(first.pid), "cmdline").read_bytes()

        assert cage.main() is first
        assert cage.proc.startswith("/proc/self/fd/")
        until(lambda: len(cage.processes()) == 3, "all to be there")
        until(lambda: first_words().startswith(b"sleep"), "the program")
        words = first_words()
        assert words == b"sleep\x00301\x00"
        assert Path(f"/proc/{first.outside}/cmdline").read_bytes() == words
        assert {first.pid, second.pid} < set(cage.processes())
        [worker] = set(cage.processes()) - {first.pid, second.pid}
        first.send_signal(signal.SIGTERM)
        assert first.wait(DEADLINE / 2) == -signal.SIGTERM
        assert cage.main() is second
        asleep = cage.process(worker)
        assert asleep.poll() is None
        asleep.send_signal(signal.SIGKILL)
        assert asleep.wait(DEADLINE / 2) == guard.UNKNOWN
        assert second.wait(DEADLINE / 2) == 5
        assert cage.main() is None
        assert cage.processes() == []
        again = cage.start(["sleep", "303"])
        assert cage.main() is again
        assert cage.daemons() == []
        with pytest.raises(TimeoutError):
            again.wait(0.01)
        helper = cage.start(["sh", "-c", "kill -HUP $PID"], {"PID": str(again.pid)}, main=False)
        assert helper.wait(DEADLINE / 2) == 0
        assert again.wait(DEADLINE / 2) == -signal.SIGHUP

    guarded(look, user, home)


def test_there_is_somebody_while_a_daemon_forks_twice() -> None:
    """Each parent ends as soon as it has a child."""
    code = (
        "import os, time\n"
        "for _ in range(30):\n"
        "    if os.fork(): os._exit(0)\n"
        "open('last', 'w').write(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )

    def look(cage: guard.Guard) -> None:
        cage.start([python("user"), "-c", code])
        last = cage.reach("last")
        until(lambda: cage.main() is None or os.path.exists(last), "the last of them")
        main = cage.main()
        assert main
        assert main.poll() is None

    with home_of("user") as home:
        for _ in range(3):
            guarded(look, "user", home)


def test_the_owner_of_a_live_pid_file_is_nobody(user: str, home: str) -> None:
    """The daemon that a pid file names, is not there, and cannot be ended."""
    pid = os.getpid()
    said = guarded(lambda cage: shell(cage, f"kill -0 {pid} 2>&1 || ls /proc/{pid}; echo $$"), user, home)
    assert "No such process" in said
    assert said.splitlines()[-2] == "2"


def test_signals_have_their_default_actions() -> None:
    """Under nohup, the auditor ignores SIGHUP; CMD does not. Python ignores SIGPIPE."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def look(cage: guard.Guard) -> tuple[int, ...]:
        codes = []
        for number in (signal.SIGHUP, signal.SIGPIPE):
            server = cage.start(["sleep", "304"])
            server.send_signal(number)
            codes.append(server.wait(DEADLINE / 2))
        return tuple(codes)

    with home_of("user") as home:
        assert guarded(look, "user", home, before=ignore) == (-signal.SIGHUP, -signal.SIGPIPE)


def test_a_program_that_is_not_there(user: str, home: str) -> None:
    """One sentence, and the guard may be used again."""

    def look(cage: guard.Guard) -> str:
        with pytest.raises(CannotRun, match=r"^/no/such/server: No such file or directory$"):
            cage.start(["/no/such/server"])
        return shell(cage, "echo fine")

    assert guarded(look, user, home) == "fine\n0"


def test_unprotected_is_what_it_says(user: str, home: str) -> None:
    """Live files and processes; daemons are followed and ended all the same."""

    def look(cage: guard.Guard) -> tuple[str, list[int]]:
        said = shell(cage, f"kill -0 {os.getpid()}; echo x > file; id -u; (setsid sleep 305 &)")
        [daemon] = cage.daemons()
        assert cage.main() is daemon
        assert cage.processes() == [daemon.pid]
        assert daemon.outside == daemon.pid
        assert cage.written() == guard.Written([], 0)
        assert "unprotected" in cage.protection.sentence
        return said, [daemon.pid]

    said, [daemon] = guarded(look, user, home, unprotected=True)
    uid = NOBODY if user == "user" and os.getuid() == 0 else os.getuid()
    assert said == f"{uid}\n0"
    assert Path(home, "file").read_text() == "x\n"
    with pytest.raises(ProcessLookupError):
        os.kill(daemon, 0)


def test_a_command_that_is_started_again_and_again(user: str, home: str) -> None:
    """What belonged to the one before is closed; what is said is that of the last."""

    def look(cage: guard.Guard) -> tuple[int, str]:
        held = []
        for number in range(5):
            process = cage.start(["echo", str(number)])
            process.wait(DEADLINE / 2)
            other = cage.start(["true"], main=False)
            other.wait(DEADLINE / 2)
            cage.forget(other)
            held.append(len(os.listdir("/proc/self/fd")))
        assert cage.command is process
        return held[-1] - held[0], process.last_words()

    assert guarded(look, user, home) == (0, "4")


def test_a_command_inherits_nothing(user: str, home: str) -> None:
    """But its three streams: no descriptor of the auditor, and none of PID 1."""
    said = guarded(lambda cage: shell(cage, "ls -l /proc/self/fd"), user, home)
    held = re.findall(r" (\d+) -> (\S+)", said)
    assert [number for number, what in held if not what.endswith("/fd")] == ["0", "1", "2"], said


def test_a_command_that_never_stops_talking() -> None:
    """Its output is read in portions, and questions are answered in between."""
    read, write = os.pipe()
    output = os.memfd_create("output")
    try:
        os.set_blocking(read, False)
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.write(write, bytes(1 << 20))
        server: Any = object.__new__(_init._Server)
        server._outputs = {read: output}
        server._keep(read)
        assert os.fstat(output).st_size == _init.PACKET
    finally:
        for fd in (read, write, output):
            os.close(fd)
