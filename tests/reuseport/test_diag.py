# SPDX-License-Identifier: MIT
"""What sock_diag and /proc tell about real sockets."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest

import mptcp_sockopt as mp
from reuseport import _diag, _net

from ..support import DEADLINE, LOOPBACK, Missing, in_private_network, until


@contextlib.contextmanager
def deferring(family: int, mptcp: bool = False) -> Iterator[tuple[str, int]]:
    """A listener that leaves a connection in SYN_RECV until the client has spoken (TCP_DEFER_ACCEPT)."""
    with _net.listen((LOOPBACK[socket.AddressFamily(family)], 0), family=family, mptcp=mptcp) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        yield _net.name(listener)


def connect(family: int, address: tuple[str, int], mptcp: bool = False) -> socket.socket:
    client = _net.open_socket(family, mptcp=mptcp)
    client.settimeout(DEADLINE)
    client.connect(address)
    return client


def test_listeners_of_both_families_and_protocols(mptcp: None) -> None:
    """Each with its own address, protocol, backlog, uid, inode and cookie."""

    def look() -> None:
        v4, v6, reuse = socket.AF_INET, socket.AF_INET6, _net.Reuse.PORT
        sockets = [
            _net.listen(("127.0.0.1", 5000), reuse, backlog=7),
            _net.listen(("127.0.0.1", 5000), reuse, mptcp=True, backlog=8),
            _net.listen(("0.0.0.0", 5000), reuse, backlog=9),
            _net.listen(("::1", 5000), reuse, family=v6, backlog=10),
            _net.listen(("::", 5000), reuse, family=v6, mptcp=True, v6only=True, backlog=11),
        ]
        sockets.append(_net.listen(("127.0.0.1", 5001)))
        found = sorted(_diag.with_protocols(5000), key=lambda listener: listener.backlog)
        assert [(x.family, x.host, x.port, x.mptcp, x.backlog, x.v6only) for x in found] == [
            (v4, "127.0.0.1", 5000, False, 7, None),
            (v4, "127.0.0.1", 5000, True, 8, None),
            (v4, "0.0.0.0", 5000, False, 9, None),
            (v6, "::1", 5000, False, 10, True),
            (v6, "::", 5000, True, 11, True),
        ]
        assert [x.inode for x in found] == [os.fstat(sock.fileno()).st_ino for sock in sockets[:-1]]
        assert {x.uid for x in found} == {os.getuid()}
        assert {x.queue for x in found} == {x.interface for x in found} == {0}
        assert len({x.cookie for x in found}) == 5
        with _net.listen(("::", 5002), family=v6, v6only=False):
            assert [x.v6only for x in _diag.with_protocols(5002)] == [False]

    in_private_network(look)


def test_queue(family: int) -> None:
    """The connections that nobody accepted yet."""
    address = (LOOPBACK[socket.AddressFamily(family)], 0)
    with _net.listen(address, family=family) as listener, contextlib.ExitStack() as clients:
        for _ in range(3):
            clients.enter_context(connect(family, _net.name(listener)))
        port = _net.name(listener)[1]
        until(lambda: [x.queue for x in _diag.listeners(port)] == [3], "three connections in the queue")
        listener.accept()[0].close()
        assert [x.queue for x in _diag.listeners(port)] == [2]


@pytest.mark.parametrize("kind", ["tcp", "mptcp"])
def test_unaccepted(family: int, kind: str) -> None:
    """Those in the accept queue, also when their client has closed; not those that were accepted."""
    where, mptcp = (LOOPBACK[socket.AddressFamily(family)], 0), kind == "mptcp"
    with _net.listen(where, family=family, mptcp=mptcp) as listener, contextlib.ExitStack() as stack:
        address = _net.name(listener)
        first, _ = (stack.enter_context(connect(family, address, mptcp)) for _ in range(2))
        until(lambda: len(_diag.unaccepted(address[1])) == 2, "two in the queue")
        before = _diag.unaccepted(address[1])
        first.close()
        assert _diag.unaccepted(address[1]) == before
        with listener.accept()[0]:
            assert len(_diag.unaccepted(address[1]) & before) == 1


@pytest.mark.parametrize("kind", ["tcp", "mptcp"])
def test_handshakes_in_flight(family: int, kind: str) -> None:
    """They are in the set until they are in the accept queue, and only those of the port."""
    multipath = kind == "mptcp"
    with deferring(family, multipath) as address, deferring(family, multipath) as other:
        assert _diag.syn_received(address[1]) == frozenset()
        with connect(family, address, multipath) as one, connect(family, address, multipath) as two:
            with connect(family, other, multipath):
                both = {_diag.Handshake(address, _net.name(client)) for client in (one, two)}
                assert _diag.syn_received(address[1]) == both
            one.send(b"x")
            rest = {_diag.Handshake(address, _net.name(two))}
            until(lambda: _diag.syn_received(address[1]) == rest, "the first handshake to end")
            assert [x.queue for x in _diag.listeners(address[1])] == [1]


def test_a_handshake_whose_ack_never_comes(family: int) -> None:
    """Here the client's filter drops every SYN-ACK; when the client lets one in, the handshake ends."""
    in_private_network(lambda: handshake_without_ack(family))  # some kernels ask privilege for a filter


def handshake_without_ack(family: int) -> None:
    so_attach_filter, so_detach_filter = 26, 27
    drop_all = array.array("B", struct.pack("=HBBI", 0x06, 0, 0, 0))  # ret #0
    where = (LOOPBACK[socket.AddressFamily(family)], 0)
    with _net.listen(where, family=family) as listener, _net.open_socket(family, mptcp=False) as client:
        program = struct.pack("HP", 1, drop_all.buffer_info()[0])
        client.setsockopt(socket.SOL_SOCKET, so_attach_filter, program)
        client.setblocking(False)
        assert client.connect_ex(_net.name(listener)) == errno.EINPROGRESS
        address = _net.name(listener)
        expected = {_diag.Handshake(address, _net.name(client))}
        until(lambda: _diag.syn_received(address[1]) == expected, "the handshake")
        assert [x.queue for x in _diag.listeners(address[1])] == [0]
        client.setsockopt(socket.SOL_SOCKET, so_detach_filter, 0)
        until(lambda: not _diag.syn_received(address[1]), "a retransmitted SYN to be answered")
        assert [x.queue for x in _diag.listeners(address[1])] == [1]


def test_an_ipv4_client_of_a_dual_stack_listener_is_a_mapped_address() -> None:
    """::ffff:127.0.0.1 at both ends."""

    def look() -> None:
        with _net.listen(("::", 5000), family=socket.AF_INET6, v6only=False) as listener:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
            with connect(socket.AF_INET, ("127.0.0.1", 5000)) as client:
                remote = ("::ffff:127.0.0.1", _net.name(client)[1])
                expected = {_diag.Handshake(("::ffff:127.0.0.1", 5000), remote)}
                assert _diag.syn_received(5000) == expected

    in_private_network(look)


def test_more_handshakes_than_one_buffer_holds() -> None:
    """800 of them, each exactly once."""

    def look() -> None:
        with deferring(socket.AF_INET) as address, contextlib.ExitStack() as clients:
            names = set()
            for _ in range(800):
                client = clients.enter_context(connect(socket.AF_INET, address))
                names.add(_diag.Handshake(address, _net.name(client)))
            assert _diag.syn_received(address[1]) == names

    in_private_network(look)


def answer(*messages: tuple[int, int, bytes]) -> list[bytes] | None:
    """What a dump gives for such netlink messages (type, flags, payload)."""
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, kernel:
        for kind, flags, body in messages:
            kernel.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        ours.settimeout(DEADLINE)
        return _diag._answer(ours)


def test_ends_of_a_dump() -> None:
    """Done, refused (in either way), or interrupted by a change and to be repeated."""
    multi, interrupted, error, done, data = 2, 0x10, 2, 3, 20
    one, two = b"one".ljust(72), b"two".ljust(72)
    assert answer((data, multi, one), (data, multi, two), (done, multi, bytes(4))) == [one, two]
    assert answer((data, multi | interrupted, one), (done, multi, bytes(4))) is None
    assert answer((data, multi, one), (done, multi | interrupted, bytes(4))) is None
    for kind in (error, done):
        with pytest.raises(OSError, match="sock_diag: ") as caught:
            answer((kind, 0, struct.pack("=i", -errno.EPERM) + bytes(16)))
        assert caught.value.errno == errno.EPERM


def test_a_dump_that_is_always_interrupted_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """EAGAIN, after a bounded number of attempts."""
    monkeypatch.setattr(_diag, "_answer", lambda netlink: None)
    with pytest.raises(BlockingIOError):
        _diag.syn_received(5000)


def test_a_kernel_without_mptcp_diag_leaves_the_protocol_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """None, not False, and the reason."""

    def refuse(*, listening: bool) -> mp.MPTCPDiag:
        raise mp.UnsupportedOptionError(errno.ENOENT, "no mptcp_diag")

    monkeypatch.setattr(mp, "mptcp_diag", refuse)
    with _net.listen(("127.0.0.1", 0)) as listener:
        (found,) = _diag.with_protocols(_net.name(listener)[1])
    assert found.mptcp is None
    assert "this kernel cannot list its MPTCP sockets" in (found.unknown or "")


def test_a_listener_of_a_moment_ago_is_looked_at_again(mptcp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that began to listen after MPTCP's were listed is no TCP listener for that."""
    ask = mp.mptcp_diag
    late: list[socket.socket] = []

    def look() -> list[bool | None]:
        with contextlib.ExitStack() as stack:

            def listen_after(*, listening: bool) -> mp.MPTCPDiag:
                found = ask(listening=listening)
                if len(late) < most:
                    late.append(
                        stack.enter_context(_net.listen(("127.0.0.1", 5000), _net.Reuse.PORT, mptcp=True))
                    )
                return found

            monkeypatch.setattr(mp, "mptcp_diag", listen_after)
            stack.enter_context(_net.listen(("127.0.0.1", 5000), _net.Reuse.PORT))
            return sorted((x.mptcp for x in _diag.with_protocols(5000)), key=str)

    most = 3
    assert in_private_network(look) == [False, True, True, True]
    most = 100
    assert in_private_network(look) == [False, None] + [True] * 9


def test_owners() -> None:
    """Every descriptor of a socket, in every process; a socket of nobody's is absent."""
    with _net.listen(("127.0.0.1", 0)) as listener, listener.dup() as twin:
        inode = os.fstat(listener.fileno()).st_ino
        with open("/proc/self/comm") as file:
            command = file.read().strip()
        expected = [
            _diag.Owner(os.getpid(), fd, command) for fd in sorted([listener.fileno(), twin.fileno()])
        ]
        found, _ = _diag.owners([inode, 1])
        assert found == {inode: expected}


def test_a_process_that_cannot_be_read_is_told() -> None:
    """As another user, everybody else's descriptors are closed books, and owners() says so."""
    if os.getuid():
        raise Missing("root, to become another user")
    with _net.listen(("127.0.0.1", 0)) as listener:
        inode = os.fstat(listener.fileno()).st_ino

        def look() -> tuple[dict[int, list[_diag.Owner]], int]:
            os.setresuid(65534, 65534, 65534)
            return _diag.owners([inode])

        # The child has the listener too, but a process that changed its uid may not even read itself.
        found, unreadable = in_private_network(look)
        assert unreadable
        assert os.getpid() not in [owner.pid for owner in found.get(inode, [])]


def message(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack("=IHHII", 16 + len(body) if length is None else length, kind, 0, 1, 0) + body


ROW, DONE = message(20, bytes(72)), message(3, bytes(4))


@pytest.mark.parametrize(
    ("datagram", "number"),
    [
        (message(2, b""), errno.EPROTO),
        (message(2, bytes(4)), errno.EPROTO),
        (message(2, struct.pack("=i", -errno.ENOENT)), errno.ENOENT),
        (message(20, bytes(71)), errno.EPROTO),
        (message(20, bytes(72), length=15), errno.EPROTO),
        (message(20, bytes(72), length=89), errno.EPROTO),
        (ROW + DONE[:15], errno.EPROTO),
    ],
)
def test_what_is_no_answer_is_an_error(datagram: bytes, number: int) -> None:
    """Of the system, with its number: never struct.error, never a wait for more."""
    netlink, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with netlink, kernel:
        netlink.settimeout(DEADLINE)
        kernel.send(datagram)
        with pytest.raises(OSError, match="sock_diag: ") as caught:
            _diag._answer(netlink)
        assert caught.value.errno == number


@pytest.mark.parametrize("raw", [b"\0", b"\3\0\1\0", b"\5\0\1\0", bytes(4)])
def test_broken_attributes_are_an_error(raw: bytes) -> None:
    """Shorter than their header, or longer than what is there."""
    with pytest.raises(OSError, match="an attribute of") as caught:
        _diag._attributes(raw)
    assert caught.value.errno == errno.EPROTO


@pytest.mark.parametrize("datagram", [ROW * 100, b""], ids=["rows", "nothing"])
def test_an_answer_without_end_has_a_bound(datagram: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose datagrams bring nothing; one within the bound is whole."""
    monkeypatch.setattr(_diag, "_MOST", 2 * max(len(datagram), _diag._LEAST))
    for end, enough in ((DONE, True), (datagram, False)):
        netlink, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with netlink, kernel:
            netlink.settimeout(DEADLINE)
            for part in (datagram, end):
                kernel.send(part)
            if enough:
                assert len(_diag._answer(netlink) or []) == len(datagram) // len(ROW)
            else:
                with pytest.raises(OSError, match="take more than") as caught:
                    _diag._answer(netlink)
                assert caught.value.errno == errno.EMSGSIZE
