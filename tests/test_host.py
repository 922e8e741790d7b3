# SPDX-License-Identifier: MIT
"""mptcp_sockopt.host: sysctls, counters, limits, endpoints and their routes, refused options."""

from __future__ import annotations

import errno
import os
import pickle
import re
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import host, testing
from mptcp_sockopt._border import config, netlink, options
from mptcp_sockopt.host import EndpointFlag

from .net import counters
from .support import (
    LOOPBACK,
    become_nobody,
    exchange,
    fallback_pair,
    in_private_network,
    mptcp_pair,
    needs_root,
    until,
    where_refused,
)

SYSCTLS = Path("/proc/sys/net/mptcp")


def test_sysctls_are_those_of_proc(mptcp: None) -> None:
    """Each file is one; numbers are ints, and a change is seen."""

    def look() -> None:
        found = host.sysctls()
        assert found.keys() == {path.name for path in SYSCTLS.iterdir()}
        assert {name: str(value) for name, value in found.items()} == {
            path.name: path.read_text().strip() for path in SYSCTLS.iterdir()
        }
        assert found["enabled"] == 1
        (SYSCTLS / "enabled").write_text("0")
        assert host.sysctls()["enabled"] == 0

    in_private_network(look)


def test_counters_are_those_of_the_threads_namespace(mptcp: None) -> None:
    """A fallback counts in the namespace where it happened."""

    def look() -> None:
        before = host.counters()
        assert before == counters()

        def elsewhere() -> int:
            with testing.PrivateNetwork():
                with fallback_pair(socket.AF_INET):
                    pass
                return host.counters()["MPCapableFallbackSYNACK"]

        with ThreadPoolExecutor(1) as thread:  # /proc/net is that of the main thread
            assert thread.submit(elsewhere).result() == 1
        assert host.counters() == before

    in_private_network(look)


def test_limits_are_what_was_set(mptcp: None) -> None:
    """Each at its place, for nobody too."""

    def look() -> host.Limits:
        testing.set_limits(subflows=3, add_addr_accepted=5)
        if not os.getuid():
            become_nobody()
        return host.limits()

    assert in_private_network(look) == host.Limits(subflows=3, add_addr_accepted=5)


def test_endpoints_are_what_was_added(mptcp: None) -> None:
    """In the order of their ids, with their flags, of both families, for nobody too."""

    def look() -> tuple[host.Endpoint, ...]:
        assert host.endpoints() == ()
        testing.add_endpoint("10.3.3.3", "lo")
        testing.add_endpoint("fd44::3", signal=True)
        testing.add_endpoint("10.3.3.4", backup=True)
        testing.add_endpoint("127.0.0.1", signal=True, port=7777)
        needs_root()
        become_nobody()
        return host.endpoints()

    subflow, signal, backup, with_port = in_private_network(look)
    assert subflow == host.Endpoint(1, "10.3.3.3", 0, EndpointFlag.SUBFLOW, 1, "lo")
    assert signal == host.Endpoint(2, "fd44::3", 0, EndpointFlag.SIGNAL, 0, None)
    assert backup.flags == EndpointFlag.SUBFLOW | EndpointFlag.BACKUP
    assert (with_port.address, with_port.port) == ("127.0.0.1", 7777)
    assert pickle.loads(pickle.dumps(backup)) == backup


def test_more_endpoints_than_a_datagram_holds() -> None:
    """A dump goes on until its end."""
    answers = [message(9, bytes([number] * 4)) for number in range(5)]
    assert dumped(*answers, message(3, bytes(4))) == [bytes([number] * 4) for number in range(5)]


def test_flags_have_the_kernels_names() -> None:
    """Those that this library does not know as a number."""
    numbers = [EndpointFlag[name] for name in "SIGNAL SUBFLOW BACKUP FULLMESH IMPLICIT LAMINAR".split()]
    assert numbers == [1, 2, 4, 8, 16, 32]
    assert [str(EndpointFlag(number)) for number in (0, 1, 6, 0x42)] == [
        "0",
        "SIGNAL",
        "SUBFLOW|BACKUP",
        "SUBFLOW|0x40",
    ]
    assert f"{EndpointFlag.SIGNAL}" == "SIGNAL"


def test_addresses_have_their_interfaces(mptcp: None) -> None:
    """One address may be on several; those of loopback are included."""

    def look() -> None:
        with testing.Paths(2) as paths, paths.client:
            testing.add_address("10.9.0.1", "path1", 24)
            found = host.addresses()
            assert found["127.0.0.1"] == ("lo",)
            assert found["10.9.0.1"] == ("path0", "path1")
            assert found["10.9.1.1"] == ("path1",)

    in_private_network(look)


# ------------------------------------------------------------------------------------------------ routes


def test_an_endpoint_leaves_by_its_interface_or_not(family: int, mptcp: None) -> None:
    """To the peer of its own path; not to that of another path, whether it has an interface or not."""

    def look() -> None:
        with testing.Paths(2, family=family) as paths, paths.client:
            testing.add_endpoint(paths.client_addresses[1], "path1")
            testing.add_endpoint(paths.client_addresses[0])
            bound, free = host.endpoints()
            first, second = paths.server_addresses
            assert host.route(bound, second) == host.Route(second, "path1", None, None)
            assert host.route(bound, second)
            astray = host.route(bound, first)
            assert not astray
            assert free.ifindex == 0
            assert host.route(free, first).interface == "path0"
            assert host.route(free, first)
            elsewhere = host.route(free, second)
            assert elsewhere.interface == "path1"
            assert elsewhere.problem == f"packets from {free.address} leave by path1, not path0"
            if family == socket.AF_INET:
                begin = f"no route to {first} from {bound.address} by path1 ("
                assert (astray.problem or "").startswith(begin)
            else:
                assert astray.problem == f"packets from {bound.address} leave by path0, not path1"
            nowhere = host.route(free)
            assert (nowhere.interface, nowhere.destination) == (None, host.route(bound).destination)
            assert (nowhere.problem or "").startswith(f"no route to the internet from {free.address} (")

    in_private_network(look)


def test_a_join_fails_where_the_route_says_so(family: int, mptcp: None) -> None:
    """An address that is not here cannot be bound; over IPv6, one without a route by its interface fails."""
    wanted = {"MPJoinSynTxBindErr": 1, "MPJoinSynTxConnectErr": int(family == socket.AF_INET6)}
    wanted = {name: number for name, number in wanted.items() if name in counters()}  # older kernels: none

    def look() -> None:
        with testing.Paths(2, family=family) as paths:
            with paths.server:
                server = mp.create_server((paths.server_addresses[0], 0), family=family, fallback=False)
            with server, paths.client:
                testing.add_endpoint("10.66.0.1" if family == socket.AF_INET else "fd66::1")
                if family == socket.AF_INET6:
                    testing.add_endpoint(paths.client_addresses[1], "path1")
                routes = [host.route(endpoint, paths.server_addresses[0]) for endpoint in host.endpoints()]
                assert not any(routes)
                assert routes[0].problem == f"no interface has the address {host.endpoints()[0].address}"
                address = server.getsockname()[:2]
                client = mp.create_connection(address, timeout=20, fallback=False)
                with client, server.accept()[0] as accepted:
                    exchange(client, accepted)
                    until(lambda: wanted.items() <= counters().items(), f"{wanted}")

    in_private_network(look)


def test_a_destination_is_an_address_of_the_same_family() -> None:
    """Any other text is an error of the caller."""
    endpoint = host.Endpoint(1, "10.0.0.1", 0, EndpointFlag.SUBFLOW, 0, None)
    for text in ("example.com", "fd00::1", "10.0.0", "0x0a000001"):
        with pytest.raises(ValueError, match=re.escape(repr(text))):
            host.route(endpoint, text)


# ------------------------------------------------------------------------------------------------ options


def test_options_that_only_mptcp_refuses(mptcp: None) -> None:
    """In each state as setsockopt() says: an errno, or None if MPTCP takes it."""
    found = {option.name: option for option in host.refused_options()}
    assert "TCP_USER_TIMEOUT" in found  # the usual complaint
    for name in ("TCP_NODELAY", "TCP_USER_TIMEOUT", "TCP_QUICKACK", "SO_KEEPALIVE", "SO_REUSEADDR"):
        level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP

        def refusal(sock: socket.socket, level: int = level, name: str = name) -> int | None:
            try:
                sock.setsockopt(level, getattr(socket, name), 1)
            except OSError as error:
                return error.errno
            return None

        with mptcp_pair(socket.AF_INET) as (client, _), mp.create_socket(fallback=False) as fresh:
            told = (found[name].fresh, found[name].connected) if name in found else (None, None)
            assert told == (refusal(fresh), refusal(client)), name


def test_every_option_is_taken_by_tcp(mptcp: None) -> None:
    """In some state, where the caller has the privilege and this kernel the option: the values are right."""
    never: dict[str, set[int]] = {}
    for family, tried in options._options().items():
        found = options._answers(family, socket.IPPROTO_TCP, tried)
        for level, name, value in tried:
            answers = [found[state, name] for state in options.STATES]
            numbers = {answer.get if value is None else answer.set for answer in answers}
            if level != mp.SOL_MPTCP and 0 not in numbers:
                never[name] = numbers
    # An older kernel, a privilege; of memory control groups, of datagrams, and of newer kernels' sockets.
    lacking = {errno.ENOPROTOOPT, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP}
    datagrams = {"IP_MULTICAST_TTL", "SO_PASSSEC"}
    assert {name for name, numbers in never.items() if numbers - lacking} - datagrams == set()


def test_an_option_ends_as_the_calls_do(mptcp: None) -> None:
    """In each state: yes, the errno, or None where TCP fails too; and what has no effect is seen."""
    found = {option.name: option for option in host.socket_options()}
    assert [*found.values()] == [*host.socket_options()] == [*host.socket_options()]
    assert found["TCP_NODELAY"] == ("TCP_NODELAY", "IPPROTO_TCP", ("yes",) * 4, ("yes",) * 4)
    assert found["SO_REUSEADDR"].set == ("yes", "EINVAL", "EINVAL", "yes")
    assert set(found["SO_BROADCAST"].set) == {"no effect"}
    assert set(found["SO_BUSY_POLL"].set) == {"yes"}  # to what it is: no change is to be seen on TCP either
    assert set(found["TCP_USER_TIMEOUT"].get) == {"EOPNOTSUPP"}
    assert set(found["SO_TYPE"].set) == {None}
    assert found["MPTCP_INFO"].get == ("yes",) * 4
    assert found["IP_MTU"].get == (None, "EOPNOTSUPP", "EOPNOTSUPP", None)
    with mptcp_pair(socket.AF_INET) as (_, accepted), pytest.raises(OSError) as refused:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    assert getattr(errno, f"{found['TCP_QUICKACK'].set.accepted}") == refused.value.errno  # 95 has two names
    assert {option.level for option in found.values()} == {*options.LEVELS.values()}


def test_refused_options_are_those_of_the_probe(mptcp: None) -> None:
    """The errnos of what cannot be set."""
    words = {option.name: option.set for option in host.socket_options()}
    for option in host.refused_options():
        number = option.connected
        assert words[option.name].connected == (number and options._word(number))


def test_what_tcp_refuses_too_is_left_out(mptcp: None) -> None:
    """As an option for which nobody lacks the privilege."""
    needs_root()

    def look() -> list[str]:
        become_nobody()
        with socket.socket() as tcp, pytest.raises(PermissionError):
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0)
        return [option.name for option in host.refused_options()]

    names = testing.in_child(look)
    assert "SO_MARK" not in names
    assert "TCP_USER_TIMEOUT" in names


def test_without_mptcp_there_is_nothing_to_try(mptcp: None) -> None:
    """The errno is the kernel's."""

    def look() -> int:
        (SYSCTLS / "enabled").write_text("0")
        with pytest.raises(OSError) as refused:
            host.refused_options()
        return refused.value.errno or 0

    assert in_private_network(look) == errno.ENOPROTOOPT


def test_without_ipv6_its_options_are_left_out(mptcp: None) -> None:
    """Those of IPv4 are still tried."""
    refusal = ("socket", {0: socket.AF_INET6}, errno.EAFNOSUPPORT)
    names = [option.name for option in where_refused([refusal], host.refused_options)]
    assert "TCP_USER_TIMEOUT" in names
    assert [name for name in names if name.startswith("IPV6")] == []


# ------------------------------------------------------------------------------ answers that are no answers


def message(kind: int, payload: bytes = b"") -> bytes:
    data = struct.pack("=IHHII", 16 + len(payload), kind, 2, 1, 0) + payload
    return data + bytes(-len(data) % 4)


class Kernel:
    """A netlink socket that has these datagrams, and then the last one for ever."""

    def __init__(self, *datagrams: bytes) -> None:
        self.datagrams = list(datagrams)

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, size: int) -> bytes:
        return self.datagrams.pop(0) if len(self.datagrams) > 1 else self.datagrams[0]


def dumped(*datagrams: bytes) -> list[bytes]:
    return netlink.dump(Kernel(*datagrams), 1, b"")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("datagrams", "number"),
    [
        ([message(2, struct.pack("=i", -errno.EPERM))], errno.EPERM),
        ([message(9), message(3, struct.pack("=i", -errno.ENOMEM))], errno.ENOMEM),
        ([message(2, bytes(4))], errno.EPROTO),  # an acknowledgement, which was not asked for
        ([message(3)], errno.EPROTO),
        ([message(3, struct.pack("=i", 1))], errno.EPROTO),
        ([message(9)], errno.EPROTO),  # for ever
        ([b"", b""], errno.EPROTO),
        ([message(9)[:-1]], errno.EPROTO),
    ],
    ids=["refused", "fails late", "ack", "done without a number", "done with 1", "no end", "empty", "cut"],
)
def test_a_broken_dump_is_an_error(datagrams: list[bytes], number: int) -> None:
    """Its own errno, or EPROTO."""
    with pytest.raises(OSError) as caught:
        dumped(*datagrams)
    assert caught.value.errno == number


@pytest.mark.parametrize(
    "nest",
    [
        b"",
        netlink.number(1, "H", socket.AF_INET),
        netlink.number(1, "H", socket.AF_INET) + netlink.attribute(3, bytes(4)),  # no id
        netlink.number(1, "H", socket.AF_INET) + netlink.number(2, "B", 1) + netlink.attribute(3, bytes(3)),
        netlink.number(1, "H", 77) + netlink.number(2, "B", 1) + netlink.attribute(3, bytes(4)),
    ],
    ids=["nothing", "no address", "no id", "a short address", "a strange family"],
)
def test_a_broken_endpoint_is_an_error(nest: bytes) -> None:
    """EPROTO."""
    with pytest.raises(OSError, match="netlink: ") as caught:
        config._endpoint(nest)
    assert caught.value.errno == errno.EPROTO


def test_loopback_is_its_own_route(family: socket.AddressFamily) -> None:
    """A local route is one too."""
    index, gateway = config.route(LOOPBACK[family], LOOPBACK[family])
    assert (socket.if_indextoname(index), gateway) == ("lo", None)


def test_without_a_path_manager_the_sentence_names_it() -> None:
    """As on a kernel without MPTCP."""

    def ask() -> tuple[int, int]:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    with pytest.raises(OSError, match="no path manager for MPTCP") as caught:
        config._path_manager(ask)
    assert caught.value.errno == errno.ENOENT
