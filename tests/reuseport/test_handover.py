# SPDX-License-Identifier: MIT
"""From one generation to the next: nobody in the queue, in a handshake, or in a dying successor is lost."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from reuseport import handover
from reuseport._load import Tally, Target, answer_as, attempt
from reuseport._net import LOOPBACK, Reuse, listen, name, open_socket
from reuseport.handover import Supervisor, Worker, drain, fetch, hand_over, offer, retire

from ..support import DEADLINE, in_private_network, run, until

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("mptcp", [False, True], ids=["tcp", "mptcp"])


def clients(address: tuple[str, int], count: int, *, family: int, mptcp: bool) -> list[socket.socket]:
    """Connections that wait in the queue."""
    found = []
    for _ in range(count):
        found.append(open_socket(family, mptcp=mptcp))
        found[-1].settimeout(DEADLINE)
        found[-1].connect(address)
        found[-1].sendall(b"?")
    return found


@BOTH
def test_retire_serves_who_waits(mptcp: bool, family: int) -> None:
    """Those in the queue are answered by the old one, and the listener is closed."""
    with listen((LOOPBACK[family], 0), Reuse.PORT, family=family, mptcp=mptcp) as listener:
        waiting = clients(name(listener), 5, family=family, mptcp=mptcp)
        report = retire(listener, 5, answer_as(9))
        assert listener.fileno() == -1
    assert (report.drained, report.late) == (5, 0)
    for sock in waiting:
        with sock:
            assert int.from_bytes(sock.recv(4), sys.byteorder) == 9


def test_retire_waits_for_a_handshake_and_gives_up_at_the_timeout() -> None:
    """A client that never finishes its handshake holds SYN_RECV: late is 1, and the time is bounded."""

    def silent_client() -> tuple[int, int, float]:
        defer_accept = 9
        with listen(("127.0.0.1", 0), Reuse.PORT) as listener:
            # The ACK alone does not finish a handshake with TCP_DEFER_ACCEPT: data has to come.
            listener.setsockopt(socket.IPPROTO_TCP, defer_accept, 30)
            with socket.create_connection(name(listener)):
                begun = time.monotonic()
                report = retire(listener, 0.3, answer_as(1))
                return report.snapshot, report.late, time.monotonic() - begun

    snapshot, late, seconds = in_private_network(silent_client)
    assert (snapshot, late) == (1, 1)
    assert 0.3 <= seconds < 20  # and not the 64 s of such a handshake


def test_retire_does_not_lose_a_handshake_that_ends_in_time() -> None:
    """The same client says something while retire() waits: it is served."""

    def slow_client() -> tuple[int, int, int]:
        with listen(("127.0.0.1", 0), Reuse.PORT) as listener:
            listener.setsockopt(socket.IPPROTO_TCP, 9, 30)
            with socket.create_connection(name(listener), timeout=DEADLINE) as sock:
                speaker = threading.Timer(0.2, sock.sendall, [b"?"])
                speaker.start()
                report = retire(listener, 10, answer_as(77))
                speaker.join()
                return report.drained, report.late, int.from_bytes(sock.recv(4), sys.byteorder)

    assert in_private_network(slow_client) == (1, 0, 77)


def test_retire_steers_first(family: int) -> None:
    """The switch is thrown before anything is counted."""
    order: list[str] = []
    with listen((LOOPBACK[family], 0), Reuse.PORT, family=family) as listener:
        waiting = clients(name(listener), 1, family=family, mptcp=False)

        def serve(sock: socket.socket) -> None:
            order.append("served")
            sock.close()

        retire([listener], 5, serve, steer=lambda: order.append("steered"))
    assert order == ["steered", "served"]
    waiting[0].close()


@BOTH
def test_stepping_aside(mptcp: bool, family: int) -> None:
    """Nobody new finds the listener, and who waits in its queue is served all the same."""
    with listen((LOOPBACK[family], 0), family=family, mptcp=mptcp) as listener:
        (waiting,) = clients(name(listener), 1, family=family, mptcp=mptcp)
        handover.step_aside(listener)
        with open_socket(family, mptcp=mptcp) as late, pytest.raises(ConnectionRefusedError):
            late.connect(name(listener))
        assert drain(listener, answer_as(6)) == 1
        with waiting:
            assert int.from_bytes(waiting.recv(4), sys.byteorder) == 6


def test_drain_survives_connections_that_went_away() -> None:
    """A client that reset while it waited is skipped or served in vain; the others are served."""
    with listen(("127.0.0.1", 0)) as listener:
        waiting = clients(name(listener), 3, family=socket.AF_INET, mptcp=False)
        waiting[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        waiting[1].close()
        assert drain(listener, answer_as(4)) in (2, 3)
        assert [len(sock.recv(4)) for sock in (waiting[0], waiting[2])] == [4, 4]
        for sock in waiting:
            sock.close()


@BOTH
def test_scm_rights(mptcp: bool, family: int) -> None:
    """The same listener, in another process: what was queued before is accepted there."""
    address = f"\0reuseport-test-{os.getpid()}-{family}-{mptcp}"
    with (
        offer(address) as door,
        listen((LOOPBACK[family], 0), family=family, mptcp=mptcp) as listener,
    ):
        waiting = clients(name(listener), 1, family=family, mptcp=mptcp)
        pid = os.fork()
        if pid == 0:
            listener.close()
            door.close()
            with fetch(address, DEADLINE) as fetched:
                answer_as(55)(fetched.accept()[0])
            os._exit(0)
        assert hand_over(door, listener)
        assert os.waitpid(pid, 0) == (pid, 0)
        assert int.from_bytes(waiting[0].recv(4), sys.byteorder) == 55
        waiting[0].close()


def test_listen_fds_as_systemd_has_them(tmp_path: Path) -> None:
    """Through exec: descriptors 3 and 4, LISTEN_FDS, LISTEN_PID; nothing for another process."""
    code = (
        "import os, sys\n"
        "from reuseport.handover import take_listen_fds\n"
        "listeners = take_listen_fds()\n"
        "print([(sock.fileno(), sock.getsockname()[1], sock.get_inheritable()) for sock in listeners])\n"
        "print('LISTEN_FDS' in os.environ, take_listen_fds())\n"
    )
    with listen(("127.0.0.1", 0)) as one, listen(("127.0.0.1", 0)) as other:
        ports = [name(one)[1], name(other)[1]]
        inward, outward = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(outward, 1)
            handover.give_listen_fds([one, other])
            os.chdir(ROOT)
            os.execv(sys.executable, [sys.executable, "-c", code])
        os.close(outward)
        with os.fdopen(inward) as output:
            lines = output.read().splitlines()
        assert os.waitpid(pid, 0)[1] == 0
    assert lines == [str([(3, ports[0], False), (4, ports[1], False)]), "False []"]
    environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"}
    found = run(sys.executable, "-c", code, cwd=ROOT, env=environment)
    assert found.stdout.splitlines()[0] == "[]"


def test_a_successor_that_dies_changes_nothing() -> None:
    """Before it is ready: the old generation serves on, and the next restart works."""

    def roll() -> tuple[list[bool], int, list[int]]:
        address = ("127.0.0.1", 80)

        def work(worker: Worker) -> None:
            if worker.number in (1, 2):
                os._exit(3)
            with listen(address, Reuse.PORT) as listener:
                worker.ready()
                worker.serve([listener], answer_as(worker.number))
                retire(listener, 5, answer_as(worker.number))

        def who() -> int:
            tally = Tally()
            attempt(Target(address, family=socket.AF_INET, mptcp=False), tally)
            (number,) = tally.served_by
            return number

        with Supervisor(work) as supervisor:
            served, restarts = [who()], []
            for _ in range(3):
                restarts.append(supervisor.restart())
                served.append(who())
            return restarts, supervisor.failed, served

    assert in_private_network(roll) == ([False, False, True], 2, [0, 0, 0, 3])


def test_a_first_generation_that_dies_is_an_error() -> None:
    """There is nothing to fall back to."""

    def work(worker: Worker) -> None:
        os._exit(1)

    with pytest.raises(RuntimeError, match="first generation died"):
        Supervisor(work).__enter__()


def test_generations_end_with_their_supervisor() -> None:
    """No process is left, and one that does not stop is killed at the end of the patience."""
    inward, outward = os.pipe()

    def stubborn(worker: Worker) -> None:
        os.write(outward, f"{os.getpid()}\n".encode())
        worker.ready()
        signal.pause()

    with Supervisor(stubborn, patience=0.2) as supervisor:
        assert supervisor.current is not None
    pid = int(os.read(inward, 100))
    until(lambda: not Path(f"/proc/{pid}").exists(), "the generation to be gone")
    os.close(inward)
    os.close(outward)
