# SPDX-License-Identifier: MIT
"""mptcp-sockopt run: what the program and its caller see of it: nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

from ..support import (
    needs,
    needs_root,
    run,
    started,
    until,
)
from .commands import fits, outcome
from .running import (
    IPPROTO_MPTCP,
    PROTOCOLS,
    PYTHON,
    RUN,
    descriptors,
    gone,
    needs_run,
    status_of,
    supervisor_of,
    under_run,
)


@pytest.fixture
def works(mptcp: None) -> None:
    """This test is about what the command does where it can."""
    needs_run()


# ------------------------------------------------------------------------------------------ the process


def test_the_program_replaces_the_command(works: None) -> None:
    """PID, parent, process group and session; no child of ours is to be waited for, as strace does it."""
    code = """
import os
print(os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0))
try:
    os.waitpid(-1, os.WNOHANG | 0x40000000)  # __WALL
except ChildProcessError:
    print("no child")
"""
    with started(*RUN, "--", PYTHON, "-c", code, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(timeout=30)
    me = os.getpid()
    assert out.split() == [*map(str, (process.pid, me, os.getpgid(0), os.getsid(0))), "no", "child"]


def test_the_first_process_of_a_pid_namespace(works: None) -> None:
    """A container's: it has PID 1 and no unknown child, and needs a /proc of its own."""
    needs_root()
    unshare = (needs("unshare", "util-linux"), "-pf")
    code = f"""
import os, subprocess
subprocess.run(["true"])
print(os.getpid())
{PROTOCOLS}
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("no child")
"""
    command = (*RUN, "--strict", "--", PYTHON, "-c", code)
    done = run(*unshare, "--mount-proc", *command)
    assert done.stdout.split() == ["1", *2 * [IPPROTO_MPTCP], "no", "child"], done
    without = run(*unshare, *command)
    assert without.returncode == 125
    assert "the /proc of this PID namespace is needed" in without.stderr


def test_a_program_that_adopts_orphans(works: None) -> None:
    """A subreaper, as a user's systemd: the supervisor is no orphan that comes to it."""
    code = """
import os
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("no child")
"""
    prctl = ctypes.CDLL(None).prctl
    with started(
        *(*RUN, "--", PYTHON, "-c", code),
        stdout=subprocess.PIPE,
        preexec_fn=lambda: prctl(36, 1, 0, 0, 0),  # PR_SET_CHILD_SUBREAPER
    ) as process:
        out, _ = process.communicate(timeout=30)
    assert out == "no child\n"


def test_signals_are_as_they_were(works: None) -> None:
    """What Python ignores is not ignored in the program, and what the caller ignores is."""
    ignored = [signal.SIGHUP, signal.SIGUSR1]

    def prepare() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

    def masks(output: str) -> dict[str, int]:
        lines = (line.split(":\t") for line in output.splitlines() if line.startswith(("SigIgn", "SigBlk")))
        return {name: int(mask, 16) for name, mask in lines}

    under = masks(under_run("cat", "/proc/self/status", preexec_fn=prepare).stdout)
    # Without `run` too: glibc's posix_spawn leaves signal 32 ignored in whatever it starts.
    alone = masks(run("cat", "/proc/self/status", preexec_fn=prepare).stdout)
    assert under == alone
    assert all(under["SigIgn"] & 1 << number - 1 for number in ignored)
    assert under["SigBlk"] == 1 << signal.SIGUSR2 - 1


@pytest.mark.parametrize("locale", [{}, {"LC_CTYPE": "C"}, {"LC_ALL": "C"}, {"LANG": "C"}])
def test_the_environment_is_as_it_was(works: None, locale: dict[str, str]) -> None:
    """Python changes LC_CTYPE in the C locale, for itself."""
    kept = {name: text for name, text in os.environ.items() if name == "LD_PRELOAD" or "SAN_OPTIONS" in name}
    environment = {"PATH": os.environ["PATH"], "EMPTY": "", **kept, **locale}
    assert under_run("env", "-0", env=environment).stdout == run("env", "-0", env=environment).stdout


def test_descriptors_are_as_they_were(works: None) -> None:
    """What the caller hands on, and what it closed: nothing of ours is left."""
    inward, outward = os.pipe()
    try:
        for closed in ("", "<&-", ">&- 2>&-", "<&- >&- 2>&-"):
            script = f'"$@" {closed}'
            code = f"import os; os.write({outward}, repr(sorted(os.listdir('/proc/self/fd'))).encode())"
            seen = []
            for before in ((), (*RUN, "--")):
                run("sh", "-c", script, "sh", *before, PYTHON, "-c", code, pass_fds=[outward])
                seen.append(os.read(inward, 4096))
            assert seen[0] == seen[1], closed
    finally:
        os.close(inward)
        os.close(outward)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGKILL])
def test_death_by_a_signal_is_seen_as_such(works: None, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the caller, who waits for the program itself."""
    # Under ASan the shell has its handler, too.
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0")
    done = under_run("sh", "-c", f"ulimit -c 0; kill -{int(number)} $$")
    assert done.returncode == -number


def test_signals_reach_the_program(works: None) -> None:
    """WINCH, USR1 and QUIT to the PID that was started; the supervisor is not touched by them."""
    code = """
import signal
numbers = [signal.SIGWINCH, signal.SIGUSR1, signal.SIGQUIT]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready", flush=True)
for _ in numbers:
    print(int(signal.sigwait(numbers)), flush=True)
import socket
print(socket.socket().getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL), flush=True)
"""
    numbers = (signal.SIGWINCH, signal.SIGUSR1, signal.SIGQUIT)
    with started(*RUN, "--", PYTHON, "-c", code, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        supervisor = supervisor_of(process.pid)
        for number in numbers:
            process.send_signal(number)
            os.kill(supervisor, number)
            assert process.stdout.readline() == f"{int(number)}\n"
        assert process.stdout.readline() == f"{IPPROTO_MPTCP}\n"
        assert process.wait(30) == 0
    gone(supervisor)


def test_a_service_manager_hears_the_program(works: None) -> None:
    """As sd_notify(3): the message comes from the PID that was started."""
    code = """
import os, socket
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
"""
    # In a short path: that of a socket has at most 107 bytes.
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        path = f"{folder}/notify"
        manager.settimeout(30)
        manager.bind(path)
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with started(*RUN, "--", PYTHON, "-c", code, env={**os.environ, "NOTIFY_SOCKET": path}) as process:
            text, [(_, _, credentials)], _, _ = manager.recvmsg(16, socket.CMSG_SPACE(12))
    assert text == b"READY=1"
    assert struct.unpack("=3i", credentials)[0] == process.pid


def test_a_daemon_does_not_hold_the_caller(works: None) -> None:
    """The caller reads the output to its end, though a child and the supervisor live on."""
    script = "sleep 600 >/dev/null 2>&1 & echo $!; read line"
    pipe = subprocess.PIPE
    with started(*RUN, "--", "sh", "-c", script, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        daemon = int(process.stdout.readline())
        supervisor = supervisor_of(process.pid)
        out, _ = process.communicate("\n", timeout=30)
    try:
        assert (process.returncode, out) == (0, "")
        assert status_of(daemon)["Name"] == "sleep"
        assert status_of(supervisor)["Name"] == "mptcp-run"
    finally:
        os.kill(daemon, signal.SIGKILL)
    gone(supervisor)


def test_the_supervisor_has_nothing_of_the_callers(works: None) -> None:
    """Session, descriptors, folder, memory; it ends when the program is killed."""
    inward, outward = os.pipe()
    with started(*RUN, "--", "sleep", "600", pass_fds=[outward]) as process:
        until(lambda: status_of(process.pid)["Name"] == "sleep", "the program")
        supervisor = supervisor_of(process.pid)
        until(lambda: len(descriptors(supervisor)) == 5, "the listener at the supervisor")
        null, listener = "/dev/null", "anon_inode:seccomp notify"
        assert [*descriptors(supervisor).values()] == [null, null, null, null, listener]
        assert os.getsid(supervisor) == supervisor
        assert status_of(supervisor)["PPid"] != str(process.pid)
        assert os.readlink(f"/proc/{supervisor}/cwd") == "/proc"
        process.kill()
        process.wait(30)
    gone(supervisor)
    os.close(inward)
    os.close(outward)


def test_a_long_command_is_not_in_the_name_of_the_supervisor(works: None) -> None:
    """As Java's often are: pkill -f with its last word finds the program alone."""
    with started(*RUN, "--", "sh", "-c", "read line", "x" * 10_000, stdin=subprocess.PIPE) as process:
        until(lambda: status_of(process.pid)["Name"] == "sh", "the program")
        supervisor = supervisor_of(process.pid)
        assert b"x" not in Path(f"/proc/{supervisor}/cmdline").read_bytes()
        process.communicate("\n", timeout=30)
    gone(supervisor)


def test_without_the_supervisor_sockets_fail(works: None) -> None:
    """As the page says: ENOSYS."""
    code = """
import socket
input("ready\\n")
try:
    socket.socket()
except OSError as error:
    print(error.errno)
"""
    pipe = subprocess.PIPE
    with started(*RUN, "--", PYTHON, "-u", "-c", code, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        supervisor = supervisor_of(process.pid)
        os.kill(supervisor, signal.SIGKILL)
        gone(supervisor)
        out, _ = process.communicate("\n", timeout=30)
    assert out.split() == [str(errno.ENOSYS)]


# ------------------------------------------------------------------------------------------- exit codes


def test_exit_codes_are_the_programs_or_those_of_env(tmp_path: Path) -> None:
    """And the reason is a line on standard error."""
    script = tmp_path / "script"
    script.write_text("exit 9")
    script.chmod(0o755)
    (tmp_path / "text").write_text("")
    for command, code, said in (
        (["sh", "-c", "exit 7"], 7, ""),
        ([str(script)], 9, ""),
        (["no-such\x1b"], 127, r"no-such\x1b: No such file or directory"),
        ([""], 127, ": No such file or directory"),
        ([str(tmp_path / "text")], 126, f"{tmp_path}/text: Permission denied"),
        ([str(tmp_path / "text" / "x")], 126, f"{tmp_path}/text/x: Not a directory"),
    ):
        done = under_run(*command, env={**os.environ, "PATH": "/usr/bin:/bin"})
        assert done.returncode == code, done
        assert done.stderr.endswith(f"mptcp-sockopt run: {said}\n" if said else "")


@pytest.fixture
def open_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only folders that everybody may search: in another one, what is not found may be there (EACCES)."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def test_what_cannot_be_said_changes_nothing(open_path: None) -> None:
    """Standard error on a full disk, or a pipe that nobody reads: the exit code is the same."""
    inward, outward = os.pipe()
    os.close(inward)
    with open("/dev/full", "w") as full, open(outward, "w") as broken:
        for stderr in full, broken:
            done = subprocess.run([*RUN, "--", "no-such"], stderr=stderr, timeout=30, check=False)
            assert done.returncode == 127


def test_a_dash_is_no_option(open_path: None) -> None:
    """But a program, which is not there."""
    assert run(*RUN, "-", "true").returncode == 127


@pytest.mark.parametrize("words", [[], ["--"], ["--verbose"], ["--no-such", "--", "true"]])
def test_a_usage_error_is_125(words: list[str]) -> None:
    """2 may be the program's own."""
    found = outcome("run", *words)
    assert found.code == 125
    assert found.err.startswith("usage: mptcp-sockopt run [-h] [--verbose] [--strict] -- CMD ...\n")


def test_options_of_the_program_are_its_own(works: None) -> None:
    """With -- and without."""
    for before in (["--"], []):
        assert run(*RUN, *before, "echo", "-n", "--verbose", "--").stdout == "--verbose --"


def test_help_fits_the_screen() -> None:
    """And names every limit."""
    found = outcome("run", "--help")
    assert found.code == 0
    assert fits(found.out)
    text = " ".join(found.out.split())
    for limit in (
        "no_new_privs",
        "EINTR",
        "ENOSYS",
        "cgroup",
        "Landlock",
        "seccomp listener",
        "io_uring",
        "/proc",
        "Linux 5.14",
    ):
        assert limit in text
