# SPDX-License-Identifier: MIT
"""Retiring a listener, and handing one to another process: nobody in the queue or in a handshake is lost."""

from __future__ import annotations

import os
import socket
import socketserver
import sys
import threading
import time
from pathlib import Path

import pytest

from reuseport import handover
from reuseport._net import LOOPBACK, Reuse, listen, name, open_socket
from reuseport.handover import drain, fetch, hand_over, offer, retire
from reuseport.handover._retiring import has_successor

from ..support import DEADLINE, at_work, in_private_network, run
from .answers import answer_as, answers, clients

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("mptcp", [False, True], ids=["tcp", "mptcp"])


@BOTH
def test_retire_serves_who_waits(mptcp: bool, family: int) -> None:
    """Those in the queue are answered by the old one, and the listener is closed."""
    with listen((LOOPBACK[family], 0), Reuse.PORT, family=family, mptcp=mptcp) as listener:
        waiting = clients(name(listener), 5, family=family, mptcp=mptcp)
        report = retire(listener, 5, answer_as(9))
        assert listener.fileno() == -1
    assert (report.drained, report.late) == (5, 0)
    assert answers(waiting) == [9] * 5


def test_a_listener_that_closes_at_once_loses_who_waits() -> None:
    """The control of all that serve who waits."""
    with listen(("127.0.0.1", 0), Reuse.PORT) as listener:
        waiting = clients(name(listener), 3)
    assert answers(waiting) == ["ConnectionResetError"] * 3


@BOTH
def test_retire_hides_a_listener_only_if_another_gets_its_connections(mptcp: bool, family: int) -> None:
    """A listener that another process has too is found by everybody, as before."""
    with listen((LOOPBACK[family], 0), Reuse.PORT, family=family, mptcp=mptcp) as listener:
        shared, address = listener.dup(), name(listener)
        with shared, shared.dup():  # with a third descriptor, it listens to the end
            retire(listener, 5, answer_as(1))
            waiting = clients(address, 1, family=family, mptcp=mptcp)
            with listen(address, Reuse.PORT, family=family, mptcp=mptcp):
                retire(shared, 5, answer_as(2))
            with open_socket(family, mptcp=mptcp) as late, pytest.raises(ConnectionRefusedError):
                late.connect(address)
    assert answers(waiting) == [2]


@pytest.mark.parametrize(
    ("host", "other", "covers"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::", True),
        ("127.0.0.1", "::1", False),
        ("::1", "::", True),
        ("::1", "0.0.0.0", False),
        ("127.0.0.1", "v6only", False),
        ("::1", "v6only", True),
    ],
)
def test_who_is_a_successor(host: str, other: str, covers: bool) -> None:
    """Who would get the connections: the same address, or a wildcard that covers it."""
    v6only, other = other == "v6only", other.replace("v6only", "::")

    def scenario() -> bool:
        families = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in (host, other)]
        with listen((host, 80), Reuse.PORT, family=families[0]) as old, old.dup() as shared:
            assert not has_successor([old]), shared
            with listen((other, 80), Reuse.PORT, family=families[1], v6only=v6only) as new:
                assert not has_successor([old, new])
                return has_successor([old])

    assert in_private_network(scenario) is covers


def test_a_shared_listener_is_only_closed() -> None:
    """shared=True: who waits is for the other process that has it, and the kernel is not asked."""
    with listen(("127.0.0.1", 0)) as listener, listener.dup() as other:
        waiting = clients(name(listener), 2)
        report = retire(listener, 5, answer_as(1), shared=True)
        assert (report.drained, listener.fileno()) == (0, -1)
        assert drain(other, answer_as(2)) == 2
    assert answers(waiting) == [2, 2]


def test_retire_ends_in_time_though_serving_takes_long() -> None:
    """After twice the timeout and one call, it closes; the report says that somebody still waited."""
    with listen(("127.0.0.1", 0), Reuse.PORT) as listener:
        waiting = clients(name(listener), 50)

        def slowly(sock: socket.socket) -> None:
            time.sleep(0.1)
            answer_as(1)(sock)

        report = retire(listener, 0.2, slowly)
        assert report.unserved
        assert 1 <= report.drained < 50
    assert set(answers(waiting)) == {1, "ConnectionResetError"}


def test_retire_beside_a_socketserver() -> None:
    """Without serve: serve_forever() goes on accepting in its thread, then it can be shut down."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            answer_as(3)(self.request)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        request_queue_size = 64

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            super().server_bind()

    with Server(("127.0.0.1", 0), Handler) as server:
        address = name(server.socket)
        waiting = clients(address, 20)
        with listen(address, Reuse.PORT), at_work(server.serve_forever, 0.01):
            report = retire(server.socket, 5)
            assert server.socket.fileno() >= 0
            server.shutdown()
    assert (report.drained, report.unserved) == (0, False)
    assert answers(waiting) == [3] * 20


def test_retire_takes_a_unix_socket(tmp_path: Path) -> None:
    """It has no handshake and no port: who waits is served."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        client.connect(str(tmp_path / "sock"))
        client.sendall(b"?")
        assert retire(listener, 5, answer_as(8)).drained == 1
        assert answers([client]) == [8]


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


def test_a_visitor_that_has_gone() -> None:
    """A successor that dies before it has the listener does the old generation no harm."""
    address = f"\0reuseport-test-{os.getpid()}-gone"
    with offer(address) as door, listen(("127.0.0.1", 0)) as listener:
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(address)
        assert not hand_over(door, listener)


def test_a_fetched_listener_is_not_inherited() -> None:
    """Else it would stay open in any program that is started, which accepts nobody."""
    address = f"\0reuseport-test-{os.getpid()}-kept"
    with offer(address) as door, listen(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hand_over, args=(door, listener), daemon=True)
        thread.start()
        with fetch(address, DEADLINE) as fetched:
            assert not fetched.get_inheritable()
        thread.join(DEADLINE)


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
