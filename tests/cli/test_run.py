# SPDX-License-Identifier: MIT
"""mptcp-sockopt run: which sockets become MPTCP, and what is where that cannot be."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import mptcp_sockopt as mp

from ..net import counters
from ..support import (
    LOOPBACK,
    NOBODY,
    Missing,
    in_private_network,
    needs,
    needs_root,
    run,
    started,
    where_refused,
)
from .running import (
    IPPROTO_MPTCP,
    IPPROTO_TCP,
    PROTOCOLS,
    PYTHON,
    RUN,
    STRICT,
    VERBOSE,
    counted,
    foreign_listener,
    needs_run,
    python,
    under_run,
)

ENABLED = Path("/proc/sys/net/mptcp/enabled")


@pytest.fixture
def works(mptcp: None) -> None:
    """This test is about what the command does where it can."""
    needs_run()


# ------------------------------------------------------------------------------------------------ sockets


def talk(command: list[str], family: int) -> None:
    """Run a client that says x and waits for an answer; the kernel lists both ends as MPTCP connections."""
    address = LOOPBACK[socket.AddressFamily(family)]

    def inside() -> None:
        with mp.create_server((address, 0), family=family, fallback=False) as server:
            port = server.getsockname()[1]
            with started(*RUN, "--", *command, address, str(port)) as client:
                accepted, _ = server.accept()
                with accepted:
                    assert accepted.recv(1) == b"x"
                    ends = {row.local[1] == port: row.status for row in mp.mptcp_diag(subflows=True)}
                    assert ends == {False: mp.Status.MPTCP, True: mp.Status.MPTCP}
                    accepted.sendall(b"y")
                assert client.wait(30) == 0

    in_private_network(inside)


def test_a_client_speaks_mptcp(works: None, family: int) -> None:
    """One that was written for TCP: the kernel says so of both ends."""
    code = (
        "import socket, sys; sock = socket.create_connection(sys.argv[1:]); sock.send(b'x'); "
        "assert sock.recv(1) == b'y'"
    )
    talk([PYTHON, "-c", code], family)


CLIENT_C = r"""
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int v6 = strchr(argv[1], ':') != 0, fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(argv[argc - 1]))};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = six.sin6_port};
	char c;

	inet_pton(v6 ? AF_INET6 : AF_INET, argv[1], v6 ? (void *)&six.sin6_addr : (void *)&four.sin_addr);
	if (connect(fd, v6 ? (void *)&six : (void *)&four, v6 ? sizeof(six) : sizeof(four)))
		return 1;
	return write(fd, "x", 1) != 1 || read(fd, &c, 1) != 1 || c != 'y';
}
"""


def test_a_static_program_speaks_mptcp(works: None, family: int, tmp_path: Path) -> None:
    """A preloaded library does not reach it."""
    (tmp_path / "client.c").write_text(CLIENT_C)
    program = str(tmp_path / "client")
    built = run(needs("cc", "gcc"), "-static", "-o", program, str(tmp_path / "client.c"))
    if built.returncode:
        raise Missing(f"a C library to link with -static: {built.stderr}")
    talk([program], family)


def test_children_speak_mptcp(works: None) -> None:
    """However far down; all are counted."""
    script = f'{PYTHON} -c "$1"; ({PYTHON} -c "$1" &) ; wait'
    done = under_run("sh", "-c", f"sh -c '{script}' sh \"$1\"", "sh", PROTOCOLS, options=VERBOSE)
    assert done.stdout.split() == 4 * [IPPROTO_MPTCP]
    assert counted(done.stderr) == {"made": 4}


def test_where_mptcp_is_switched_off_the_program_runs_on_tcp(works: None) -> None:
    """It sees nothing of the refusal; --verbose counts it."""

    def inside() -> None:
        ENABLED.write_text("0")
        done = under_run(PYTHON, "-c", PROTOCOLS, options=VERBOSE)
        assert done.stdout.split() == 2 * [IPPROTO_TCP]
        assert counted(done.stderr) == {"passed on": 2, "refused": 2}

    in_private_network(inside)


def test_strict_gives_the_program_the_errno(works: None) -> None:
    """Of the kernel where MPTCP is switched off."""

    def inside() -> None:
        ENABLED.write_text("0")
        code = "import socket\ntry: socket.socket()\nexcept OSError as error: print(error.errno)"
        assert python(code, options=STRICT).split() == [str(errno.ENOPROTOOPT)]

    in_private_network(inside)


def test_other_sockets_are_as_asked_for(works: None) -> None:
    """Other kinds and protocols, flags that do not exist, and sockets that are MPTCP anyway."""
    code = """
import os, socket
from socket import *
def protocol(*words):
    try:
        with socket(*words) as sock:
            return sock.getsockopt(SOL_SOCKET, SO_PROTOCOL)
    except OSError as error:
        return -error.errno
print([protocol(*words) for words in (
    (AF_INET, SOCK_DGRAM), (AF_UNIX, SOCK_STREAM), (AF_INET6, SOCK_STREAM, 6), (AF_INET, SOCK_STREAM, 262),
    (AF_INET, SOCK_STREAM | 16), (AF_INET, SOCK_STREAM, 132 << 8), (AF_INET + (1 << 16), SOCK_STREAM))])
"""
    bare = run(PYTHON, "-c", code)
    *_, last = bare.stdout.split()
    expected = bare.stdout.replace(", 6,", ", 262,")
    assert python(code) == expected
    assert last


def test_flags_of_a_socket_are_as_asked_for(works: None) -> None:
    """CLOEXEC and NONBLOCK, separately and together."""
    code = """
import fcntl, os, socket, ctypes
libc = ctypes.CDLL(None)
for flags in 0, socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK, socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK:
    fd = libc.socket(socket.AF_INET, socket.SOCK_STREAM | flags, 0)
    print(fd, fcntl.fcntl(fd, fcntl.F_GETFD), fcntl.fcntl(fd, fcntl.F_GETFL))
    protocol = socket.socket(fileno=fd).getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
    print("protocol", protocol)
"""
    found = python(code)
    assert found.count("protocol 262") == 4
    assert found.replace("262", "6") == run(PYTHON, "-c", code).stdout


def test_the_limit_of_descriptors_is_the_programs(works: None) -> None:
    """As many sockets as without it, then EMFILE; and a socket again when one was closed."""
    code = """
import socket, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
made = []
try:
    while True:
        made.append(socket.socket())
except OSError as error:
    print(len(made), error.errno)
made.pop().close()
print(socket.socket().fileno())
"""
    assert python(code) == run(PYTHON, "-c", code).stdout


def test_another_network_namespace_keeps_tcp(works: None) -> None:
    """A socket of ours would be in the wrong one; with --strict there is none at all."""
    needs_root()
    command = (needs("unshare", "util-linux"), "-n", PYTHON, "-c", PROTOCOLS)
    done = under_run(*command, options=VERBOSE)
    assert done.stdout.split() == 2 * [IPPROTO_TCP]
    assert counted(done.stderr) == {"passed on": 2, "other namespace": 2}
    refused = under_run(*command, options=STRICT)
    assert f"[Errno {errno.EPROTONOSUPPORT}]" in refused.stderr


def test_a_socket_is_of_the_user_who_asked(works: None) -> None:
    """As root steps down: listeners share a port only if their user is the same."""
    needs_root()
    code = f"""
import os, socket
for uid in 0, {NOBODY}, 0:
    os.seteuid(0)
    os.seteuid(uid)
    with socket.socket() as sock:
        print(os.fstat(sock.fileno()).st_uid)
os.setuid({NOBODY})
one, other = socket.socket(), socket.socket()
for sock in one, other:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", one.getsockname()[1]))
    sock.listen()
    print(os.fstat(sock.fileno()).st_uid, sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL))
"""
    assert python(code).split() == ["0", "65534", "0", *2 * ["65534", IPPROTO_MPTCP]]


UNTRACEABLE = f"import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n{PROTOCOLS}"  # PR_SET_DUMPABLE


def test_a_program_that_cannot_be_traced_speaks_mptcp(works: None) -> None:
    """Its namespace files are closed to the supervisor: /proc/PID/net is not."""
    assert python(UNTRACEABLE).split() == 2 * [IPPROTO_MPTCP]


@pytest.mark.parametrize(
    ("code", "without", "counters"),
    [
        (PROTOCOLS, "-sys_ptrace", {"made": 2}),
        (UNTRACEABLE, "-sys_admin", {"made": 2}),
        (UNTRACEABLE, "-sys_ptrace", {"passed on": 2, "unreadable": 2}),
    ],
    ids=["seen", "untraceable", "hidden"],
)
def test_where_proc_hides_processes(works: None, code: str, without: str, counters: dict[str, int]) -> None:
    """hidepid: only a program that its own user may not trace is hidden from the supervisor."""
    needs_root()
    # Group 0 sees all processes. The first process waits for the report: with it, all others are killed.
    script = f"""
mount -o remount,hidepid=2 /proc &&
setpriv --regid {NOBODY} --clear-groups --bounding-set {without} "$@"
while grep -qs mptcp-run /proc/[0-9]*/comm; do :; done
"""
    needs("mount", "mount")
    before = (needs("unshare", "util-linux"), "-mpf", "--mount-proc", "sh", "-c", script, "sh")
    done = run(*before, *RUN, "--verbose", "--", PYTHON, "-c", code)
    assert counted(done.stderr) == counters
    assert done.stdout.split() == 2 * [IPPROTO_MPTCP if "made" in counters else IPPROTO_TCP]


def test_a_nested_run_leaves_it_to_the_outer_one(works: None) -> None:
    """Says so if --verbose; where MPTCP is off it says nothing either."""
    done = under_run(*RUN, "--verbose", "--", PYTHON, "-c", PROTOCOLS, options=VERBOSE)
    assert done.stdout.split() == 2 * [IPPROTO_MPTCP]
    first, _, rest = done.stderr.partition("\n")
    assert first == "mptcp-sockopt run: an outer run makes the sockets, and counts them"
    assert counted(rest)["made"] >= 2

    def off() -> None:
        ENABLED.write_text("0")
        assert python(f"import subprocess; subprocess.run({[*RUN, '--', 'true']})") == ""

    in_private_network(off)


# ------------------------------------------------------------------------------------------ where it cannot

NOTIF_ADDFD = 0x40182103  # on most processors; of ppc64le: 0x80182103


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (("seccomp", {}, errno.EPERM), "this system refuses a seccomp filter with a listener: Operation not"),
        (("ioctl", {1: NOTIF_ADDFD}, errno.EINVAL), "Linux 5.14 is needed"),
        (("close_range", {}, errno.EPERM), "could not be set up: Operation not permitted"),
    ],
)
def test_where_it_is_refused_the_program_runs_on_tcp(
    works: None, refusal: tuple[str, dict[int, int], int], sentence: str
) -> None:
    """One line says why; with --strict it does not run."""
    if refusal[0] == "ioctl" and os.uname().machine.startswith("ppc"):
        raise Missing("a processor with this number of an ioctl")

    def inside() -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
        return under_run(PYTHON, "-c", PROTOCOLS), under_run("true", options=STRICT)

    done, strict = where_refused([refusal], inside)
    assert done.stdout.split() == 2 * [IPPROTO_TCP]
    assert done.stderr.startswith("mptcp-sockopt run: ")
    assert done.stderr.endswith(f"; {PYTHON} runs on TCP\n")
    assert (done.stderr.count("\n"), done.returncode) == (1, 0)
    assert sentence in done.stderr
    assert (strict.returncode, strict.stderr.count("\n")) == (125, 1)
    assert "runs on TCP" not in strict.stderr


def test_under_a_foreign_listener_the_program_runs_on_tcp(works: None) -> None:
    """A process has only one; a container runtime's comes first."""
    done, strict = foreign_listener(
        lambda: (under_run(PYTHON, "-c", PROTOCOLS), under_run("true", options=STRICT))
    )
    assert done.stdout.split() == 2 * [IPPROTO_TCP]
    assert "something else already answers for this process's system calls" in done.stderr
    assert strict.returncode == 125


def test_nothing_is_counted_as_a_connection(works: None) -> None:
    """Starting a program opens no socket in the network."""

    def inside() -> None:
        before = counters()
        under_run("true")
        assert counters() == before

    in_private_network(inside)


def test_standard_error_may_be_closed(works: None) -> None:
    """No report is written then, and not to another file by its number."""
    script = '"$@" 2>&-'
    done = run("sh", "-c", script, "sh", *RUN, "--verbose", "--", PYTHON, "-c", PROTOCOLS)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, 2 * [IPPROTO_MPTCP], "")


def test_it_is_quick_to_be_loaded() -> None:
    """Only what it needs: no module of the other commands."""
    code = "import sys, mptcp_sockopt.cli.run; print(*sorted(sys.modules))"
    loaded = run(sys.executable, "-c", code).stdout.split()
    assert {name for name in loaded if name.startswith("mptcp_sockopt.cli.")} == {
        f"mptcp_sockopt.cli.{name}" for name in ("_outcome", "_program", "_table", "run")
    }
