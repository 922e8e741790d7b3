# SPDX-License-Identifier: MIT
"""Opening sockets: MPTCP where the kernel has it, TCP or an error where not."""

from __future__ import annotations

import errno
import inspect
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mptcp_sockopt as mp

from .support import LOOPBACK, Refusal, in_private_network, where_refused

SWITCH = Path("/proc/sys/net/mptcp/enabled")


def nodelay(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_create_socket(family: int) -> None:
    """A plain socket.socket that is MPTCP, with NODELAY set."""
    with mp.create_socket(family) as sock:
        assert type(sock) is socket.socket
        assert mp.is_mptcp(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == mp.IPPROTO_MPTCP
        assert nodelay(sock) == 1
    with mp.create_socket(family, nodelay=False) as sock:
        assert nodelay(sock) == 0
    with mp.create_socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        assert not sock.getblocking()


@pytest.mark.parametrize("fallback", [True, False])
def test_what_is_neither_mptcp_nor_tcp_is_refused(fallback: bool, mptcp: None) -> None:
    """Datagrams and unix sockets, fallback or not."""
    for family, kind in ((socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM)):
        with pytest.raises(OSError) as caught:
            mp.create_socket(family, kind, fallback=fallback)
        assert caught.value.errno == errno.EPROTONOSUPPORT


def test_server_and_connection(family: int) -> None:
    """Both ends MPTCP, both NODELAY: the accepted socket inherits it."""
    host = LOOPBACK[socket.AddressFamily(family)]
    with (
        mp.create_server((host, 0), family=family, backlog=5) as server,
        mp.create_connection(server.getsockname()[:2], timeout=5) as client,
        server.accept()[0] as accepted,
    ):
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert client.gettimeout() == 5
        for sock in (client, accepted):
            assert mp.status(sock) is mp.Status.MPTCP
            assert nodelay(sock) == 1


def test_names_are_resolved(mptcp: None) -> None:
    """Though getaddrinfo refuses protocol 262, and the first address may not answer."""
    with mp.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
        with mp.create_connection(("localhost", port), 5, ("127.0.0.1", 0)) as client:
            assert mp.is_mptcp(client)
            assert client.getsockname()[0] == "127.0.0.1"


def test_a_server_of_both_families(mptcp: None) -> None:
    """dualstack_ipv6 takes IPv4 clients as well; without it IPv4 is free for another."""
    with (
        mp.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
        mp.create_connection(("127.0.0.1", server.getsockname()[1]), timeout=5) as client,
    ):
        assert mp.is_mptcp(client)
    with (
        mp.create_server(("::", 0), family=socket.AF_INET6) as six,
        mp.create_server(("0.0.0.0", six.getsockname()[1])) as four,
    ):
        assert six.getsockname()[1] == four.getsockname()[1]


def test_reuse_port(mptcp: None) -> None:
    """Two servers on one port if both say so."""
    with mp.create_server(("127.0.0.1", 0), reuse_port=True) as one:
        mp.create_server(one.getsockname(), reuse_port=True).close()
        with pytest.raises(OSError) as caught:
            mp.create_server(one.getsockname())
        assert caught.value.errno == errno.EADDRINUSE
        assert "binding" in str(caught.value)


def test_bad_arguments_are_value_errors() -> None:
    """Before a socket is made."""
    with pytest.raises(ValueError, match="family"):
        mp.create_server(("127.0.0.1", 0), family=socket.AF_UNIX)
    with pytest.raises(ValueError, match="dualstack"):
        mp.create_server(("127.0.0.1", 0), dualstack_ipv6=True)


def test_a_refused_connection_raises_the_last_error(mptcp: None) -> None:
    """Or all of them, from Python 3.11."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
        with pytest.raises(ConnectionRefusedError):
            mp.create_connection(address, timeout=5)
        if sys.version_info >= (3, 11):
            with pytest.raises(ExceptionGroup) as caught:  # noqa: F821  # a builtin from 3.11
                mp.create_connection(address, timeout=5, all_errors=True)
            assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError]
        else:
            with pytest.raises(ValueError, match=r"Python 3\.11"):
                mp.create_connection(address, timeout=5, all_errors=True)
    with pytest.raises(socket.gaierror):
        mp.create_connection(("no.such.host.invalid", 80), timeout=5)


def test_the_timeout_is_the_default_of_the_socket_module(mptcp: None) -> None:
    """As of socket.create_connection()."""
    with mp.create_server(("127.0.0.1", 0)) as server:
        with mp.create_connection(server.getsockname()) as client:
            assert client.gettimeout() is socket.getdefaulttimeout()
        with mp.create_connection(server.getsockname(), None) as client:
            assert client.gettimeout() is None


@pytest.mark.parametrize("timeout", [None, 0.0, 7.5])
def test_as_tcp_is_the_same_kernel_socket(family: int, timeout: float | None) -> None:
    """Whose object says TCP, with the timeout of the one that is detached."""
    sock = mp.create_socket(family)
    sock.settimeout(timeout)
    fd = sock.fileno()
    with mp.as_tcp(sock) as tcp:
        assert sock.fileno() == -1
        assert type(tcp) is socket.socket
        assert (tcp.fileno(), tcp.gettimeout()) == (fd, timeout)
        assert (tcp.family, tcp.type, tcp.proto) == (family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        assert os.get_blocking(fd) is (timeout is None)
        assert mp.is_mptcp(tcp)
        assert not tcp.get_inheritable()


def test_as_tcp_asks_the_kernel_for_the_family(family: int) -> None:
    """An object made of a descriptor may name another, as uvicorn --fd does; plain TCP passes as well."""
    for made in (mp.create_socket(family, fallback=False), socket.socket(socket.AddressFamily(family))):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=made.detach()) as wrong:
            before = mp.status(wrong)
            with mp.as_tcp(wrong) as tcp:
                assert (tcp.family, tcp.proto) == (family, socket.IPPROTO_TCP)
                assert mp.status(tcp) is before


def test_as_tcp_refuses_what_is_not_tcp() -> None:
    """And leaves it as it was."""
    for family, kind in ((socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM)):
        with socket.socket(family, kind) as sock:
            with pytest.raises(OSError, match="as_tcp") as caught:
                mp.as_tcp(sock)
            assert caught.value.errno == errno.EOPNOTSUPP
            assert sock.fileno() >= 0
    with pytest.raises(ValueError, match="closed"):
        mp.as_tcp(sock)
    with pytest.raises(TypeError, match="not int"):
        mp.as_tcp(3)  # type: ignore[arg-type]


def test_socket_factory(family: int) -> None:
    """Of an address of getaddrinfo(), a socket that connects as MPTCP and says that it is TCP."""
    with mp.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family) as server:
        host, port = server.getsockname()[:2]
        (addr_info,) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with mp.socket_factory(addr_info) as client, mp.as_tcp(server) as listener:
            assert (client.proto, nodelay(client)) == (socket.IPPROTO_TCP, 1)
            client.connect(addr_info[4])
            with listener.accept()[0] as accepted:
                for sock in (client, accepted):
                    assert (mp.status(sock), sock.proto) == (mp.Status.MPTCP, socket.IPPROTO_TCP)


def test_socket_factory_where_mptcp_is_refused() -> None:
    """TCP, or the kernel's error without fallback; what is not TCP is refused, too."""

    def ask() -> None:
        addr_info = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9))
        with mp.socket_factory(addr_info) as sock:
            assert mp.status(sock) is mp.Status.TCP
        with pytest.raises(OSError) as caught:
            mp.socket_factory(addr_info, fallback=False)
        assert caught.value.errno == errno.ENOPROTOOPT
        with pytest.raises(OSError) as caught:
            mp.socket_factory((socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("127.0.0.1", 9)))
        assert caught.value.errno == errno.EPROTONOSUPPORT

    where_refused([("socket", MPTCP_SOCKETS, errno.ENOPROTOOPT)], ask)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(mp.create_connection, socket.create_connection), (mp.create_server, socket.create_server)],
)
def test_signatures_are_the_standard_library_s(
    ours: Callable[..., object], theirs: Callable[..., object]
) -> None:
    """With two more keywords."""
    mine, standard = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
    assert [*standard, "fallback", "nodelay"] == [
        n for n in mine if n in standard or n in ("fallback", "nodelay")
    ]
    for name, parameter in standard.items():
        assert (mine[name].kind, mine[name].default) == (parameter.kind, parameter.default), name


def test_is_supported_names_the_reason(mptcp: None) -> None:
    """Switched off in this namespace; switched on again."""

    def ask() -> list[mp.Support]:
        answers = [mp.is_supported()]
        for switch in ("0", "1"):
            SWITCH.write_text(switch)
            answers.append(mp.is_supported())
        return answers

    assert in_private_network(ask) == [mp.Support.YES, mp.Support.DISABLED, mp.Support.YES]
    assert mp.Support.YES
    assert not any(
        [mp.Support.DISABLED, mp.Support.NOT_BUILT_IN, mp.Support.KERNEL_TOO_OLD, mp.Support.FORBIDDEN]
    )
    assert "net.mptcp.enabled=0" in mp.Support.DISABLED.value


def test_fallback_to_tcp_where_mptcp_is_switched_off(mptcp: None) -> None:
    """fallback=True gives TCP, fallback=False the kernel's error; MPTCP sockets that live go on."""

    def ask() -> None:
        with mp.create_server(("127.0.0.1", 0)) as old:
            SWITCH.write_text("0")
            with (
                mp.create_server(("127.0.0.1", 0)) as server,
                mp.create_connection(server.getsockname(), timeout=5) as client,
            ):
                assert mp.status(client) is mp.Status.TCP
                assert nodelay(client) == 1
            for make in (mp.create_socket, lambda **k: mp.create_connection(old.getsockname(), **k)):
                with pytest.raises(OSError) as caught:
                    make(fallback=False)
                assert caught.value.errno == errno.ENOPROTOOPT
            with pytest.raises(OSError) as caught:
                mp.create_server(("127.0.0.1", 0), fallback=False)
            assert caught.value.errno == errno.ENOPROTOOPT
            assert mp.is_mptcp(old)

    in_private_network(ask)


MPTCP_SOCKETS = {0: socket.AF_INET, 2: mp.IPPROTO_MPTCP}  # arguments of socket(2)
TCP_SOCKETS = {0: socket.AF_INET, 2: socket.IPPROTO_TCP}
SUPPORT = [
    (errno.EINVAL, mp.Support.KERNEL_TOO_OLD),
    (errno.EPROTONOSUPPORT, mp.Support.NOT_BUILT_IN),
    (errno.ENOPROTOOPT, mp.Support.DISABLED),
    *(
        (number, mp.Support.FORBIDDEN)
        for number in (
            errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.EOPNOTSUPP,
            errno.ESOCKTNOSUPPORT, errno.ENOENT, errno.EIO, errno.EBADF,
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("number", "support"), SUPPORT)
def test_every_refusal_has_a_name_and_gives_tcp(number: int, support: mp.Support) -> None:
    """Whoever refuses MPTCP, with whatever errno: is_supported() and the three that open sockets agree."""

    def ask() -> None:
        assert mp.is_supported() is support
        assert not support
        with (
            mp.create_socket() as sock,
            mp.create_server(("127.0.0.1", 0)) as server,
            mp.create_connection(server.getsockname(), timeout=5) as client,
        ):
            statuses = [mp.status(one) for one in (sock, server, client)]
            assert statuses == [mp.Status.TCP, mp.Status.LISTENING, mp.Status.TCP]
            assert {one.proto for one in (sock, server, client)} == {socket.IPPROTO_TCP}
            for make in (
                mp.create_socket,
                lambda **k: mp.create_server(("127.0.0.1", 0), **k),
                lambda **k: mp.create_connection(server.getsockname(), **k),
            ):
                with pytest.raises(OSError) as caught:
                    make(fallback=False)
                assert caught.value.errno == number
                assert "socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP): " in str(caught.value)

    where_refused([("socket", MPTCP_SOCKETS, number)], ask)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT, errno.ENOSYS])
def test_where_tcp_is_refused_too_nothing_is_said_of_mptcp(number: int) -> None:
    """TCP's own error is raised, by is_supported() and with fallback alike, and names what was asked."""

    def ask() -> None:
        for call in (mp.is_supported, mp.create_socket):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.ENETDOWN
            assert "socket(AF_INET, SOCK_STREAM, IPPROTO_TCP): " in str(caught.value)

    where_refused([("socket", MPTCP_SOCKETS, number), ("socket", TCP_SOCKETS, errno.ENETDOWN)], ask)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_shortage_says_nothing_of_mptcp(number: int) -> None:
    """It is raised, and no TCP socket is tried instead."""

    def ask() -> None:
        for call in (mp.is_supported, mp.create_socket):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == number
            assert "IPPROTO_MPTCP" in str(caught.value)

    where_refused([("socket", MPTCP_SOCKETS, number)], ask)


def test_the_two_families_are_refused_apart(mptcp: None) -> None:
    """A kernel may have MPTCP for IPv4 alone: an IPv6 socket is TCP then, and is_supported() stays YES."""

    def ask() -> None:
        assert mp.is_supported() is mp.Support.YES
        with mp.create_socket(socket.AF_INET6) as sock:
            assert mp.status(sock) is mp.Status.TCP
        with mp.create_socket() as sock:
            assert mp.is_mptcp(sock)

    refusal: Refusal = ("socket", {0: socket.AF_INET6, 2: mp.IPPROTO_MPTCP}, errno.EPROTONOSUPPORT)
    where_refused([refusal], ask)


def test_an_error_names_numbers_that_have_no_name(mptcp: None) -> None:
    """As they were passed: flags beside the type among them."""
    number = int(socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    for fallback, protocol in ((True, "IPPROTO_TCP"), (False, "IPPROTO_MPTCP")):
        with pytest.raises(OSError) as caught:
            mp.create_socket(socket.AF_INET, number, fallback=fallback)
        assert f"socket(AF_INET, {number}, {protocol}): " in str(caught.value)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOPROTOOPT, errno.ENOBUFS])
def test_nodelay_is_a_wish_where_the_kernel_does_not_know_it(number: int, mptcp: None) -> None:
    """MPTCP before Linux 5.17. Any other failure is raised, and leaves no descriptor behind."""
    refusal: Refusal = ("setsockopt", {1: socket.SOL_TCP, 2: socket.TCP_NODELAY}, number)

    def ask() -> None:
        if number != errno.ENOBUFS:
            with mp.create_socket(fallback=False) as sock:
                assert nodelay(sock) == 0
            return
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError) as caught:
            mp.create_socket(fallback=False)
        assert caught.value.errno == number
        assert os.listdir("/proc/self/fd") == before

    where_refused([refusal], ask)


@pytest.mark.parametrize("backlog", [3, 7])
def test_the_backlog_is_the_listener_s(backlog: int, family: int) -> None:
    """The kernel keeps it in the listener's tcp_info, as `sacked`."""
    address = (LOOPBACK[socket.AddressFamily(family)], 0)
    with mp.create_server(address, family=family, backlog=backlog, fallback=False) as server:
        (path,) = mp.snapshot(server).subflows
        assert path.tcp_info.sacked == backlog
