# SPDX-License-Identifier: MIT
"""Every public name used rightly, as type checkers see it. Never run: tests/test_typed.py has it checked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Literal

from typing_extensions import assert_type

import mptcp_sockopt as mp
from mptcp_sockopt import aio, asgi, host, metrics, processes, testing, wsgi

Address = tuple[str, int] | tuple[str, int, int, int]


def kept(sampler: mp.Sampler[mp.MPTCPFullInfo]) -> mp.Sample[mp.MPTCPFullInfo]:
    return sampler.sample()


def peer(sock: mp.SocketLike) -> mp.Address | None:
    return mp.mptcp_subflow_addrs(sock)[0].remote


def views(sock: socket.socket, fd: int, writer: asyncio.StreamWriter) -> None:
    info = mp.mptcp_info(sock)
    assert_type(info, mp.MPTCPInfo)
    assert_type(info.token, int)
    assert_type(info.bytes_sent, int | None)
    assert_type(info.unacked_bytes, int | None)
    assert_type(info.flags, mp.InfoFlag | int)
    assert_type(bool(info.flags & mp.InfoFlag.FALLBACK), bool)
    assert_type(mp.MPTCPInfo(info.raw, byteorder="big"), mp.MPTCPInfo)
    assert_type(info.asdict(clean=True), dict[str, Any])
    assert_type((bytes(info), len(info), memoryview(info).nbytes, info.raw), tuple[bytes, int, int, bytes])
    assert_type({info: info == mp.mptcp_info(fd)}, dict[mp.MPTCPInfo, bool])
    assert_type(mp.TCPInfo.rtt.unit, str)
    assert_type(mp.TCPInfo.rtt.sentinel, int | None)
    assert_type(mp.MPTCPInfo.fields["token"].since, str)
    assert_type(mp.TCPInfo.rtt.kind == "gauge", bool)
    tcp_info = mp.mptcp_tcpinfo(fd)[0]
    assert_type(tcp_info, mp.TCPInfo)
    assert_type(tcp_info.rtt, int)
    assert_type(tcp_info.state, mp.TCPState | int)
    assert_type(tcp_info.state is mp.TCPState.CLOSE, bool)
    addrs = mp.mptcp_subflow_addrs(writer)[0]
    assert_type(addrs, mp.SubflowAddrs)
    assert_type(addrs.local, Address | None)
    assert_type(peer(writer.transport), Address | None)
    full = mp.mptcp_full_info(writer.transport)
    assert_type(full, mp.MPTCPFullInfo)
    path = full.subflows[0]
    assert_type(path, mp.Subflow)
    assert_type(path.id, int | None)
    assert_type(path.live, bool)
    assert_type(mp.Subflow(path.id, path.addrs, path.tcp_info), mp.Subflow)


def moments(sock: socket.socket, writer: asyncio.StreamWriter) -> None:
    shot = mp.snapshot(sock)
    assert_type(shot, mp.Snapshot)
    assert_type(shot.info, mp.MPTCPInfo | None)
    assert_type(shot.status, mp.Status)
    assert_type(
        (shot.bytes_sent, shot.bytes_acked, shot.bytes_received), tuple[int | None, int | None, int | None]
    )
    assert_type(mp.Snapshot(1, mp.Status.TCP, None, shot.subflows).live_count, int)
    assert_type(mp.status(sock) is mp.Status.MPTCP, bool)
    assert_type(mp.is_mptcp(sock), bool)
    assert_type(mp.getsockopt_into(sock, mp.SOL_MPTCP, mp.MPTCP_INFO, bytearray(96)), int)
    assert_type([mp.MPTCP_TCPINFO, mp.MPTCP_SUBFLOW_ADDRS, mp.MPTCP_FULL_INFO, mp.TCP_IS_MPTCP], list[int])
    tracker = mp.Tracker(writer)
    update = tracker.update()
    assert_type(update, mp.Update)
    assert_type(update.resending, bool)
    assert_type(
        [(delta.stalled, delta.standing) for delta in update.subflows], list[tuple[bool | None, int | None]]
    )
    assert_type(update.rate("bytes_acked"), float | None)
    assert_type(update.bytes_acked_rate, float | None)
    assert_type((update.bytes_sent, update.elapsed), tuple[int | None, int | None])
    assert_type(update.snapshot, mp.Snapshot)
    assert_type(update.removed, tuple[mp.Subflow, ...])
    delta = update.subflows[0]
    assert_type(delta, mp.SubflowDelta)
    assert_type(delta.subflow.tcp_info.rtt, int)
    assert_type(tracker.gone, tuple[mp.Subflow, ...])
    again = mp.SubflowDelta(delta.subflow, 1, 2, 3, 4, None)
    assert_type(mp.Update(shot, 1, True, False, 1, 2, 3, None, (), (), (again,)), mp.Update)
    match shot:
        case mp.Snapshot(time, mp.Status.FALLBACK, _, _):
            assert_type(time, int)
        case _:
            pass


def many(sock: socket.socket, fd: int, writer: asyncio.StreamWriter) -> None:
    sample = mp.Sampler([sock, fd]).sample()
    assert_type(sample, mp.Sample[mp.MPTCPInfo])
    assert_type(sample[0], mp.MPTCPInfo | OSError)
    assert_type(sample[1:], tuple[mp.MPTCPInfo | OSError, ...])
    assert_type(list(mp.Sampler([writer], full=True).sample()), list[mp.MPTCPFullInfo | OSError])
    assert_type(sample.column("token"), memoryview)
    assert_type(sample.columns(), dict[str, memoryview])
    assert_type(sample.asdict(clean=True), dict[str, Any])
    assert_type(sample.errnos, memoryview)
    assert_type(mp.Sampler(full=bool(fd)).sample()[0], Any | OSError)
    for row in kept(mp.Sampler([sock], full=True)):
        assert_type(row, mp.MPTCPFullInfo | OSError)
        if not isinstance(row, OSError):
            assert_type(row.info.bytes_sent, int | None)
    found = mp.mptcp_diag(listening=True)
    assert_type(found, mp.MPTCPDiag)
    assert_type(found[0], mp.MPTCPDiagMsg)
    assert_type(found[:2], tuple[mp.MPTCPDiagMsg, ...])
    assert_type([one.inode for one in found], list[int])
    assert_type(found[0].info, mp.MPTCPInfo)
    assert_type(found[0].remote, Address)
    assert_type(found.column("inode"), memoryview)
    assert_type(found.columns(), dict[str, memoryview])
    connections = mp.mptcp_diag(subflows=True, port=443)
    assert_type(connections, mp.MPTCPConnections)
    assert_type(mp.ConnectionPicker(info=["token"], tcp_info=("rtt",))(connections), list[dict[str, Any]])
    assert_type(mp.ConnectionPicker(["token"], shared=True)(connections), list[dict[str, Any]])
    assert_type(connections[:1], tuple[mp.MPTCPConnection, ...])
    for connection in connections:
        assert_type(connection.info, mp.MPTCPInfo | None)
        assert_type(connection.fallback_reason, mp.FallbackReason | None)
        assert_type(connection.subflows, tuple[mp.DiagSubflow, ...])
        assert_type((connection.dead, connection.token), tuple[bool, int | None])
    subflow = connections[0].subflows[0]
    assert_type(subflow.id, int | None)
    assert_type(subflow.flags, mp.SubflowFlag | None)
    assert_type(subflow.tcp_info, mp.TCPInfo | None)
    assert_type(subflow.opened_by, Literal["local", "remote"] | None)
    assert_type(mp.mptcp_lookup(("::1", 443, 0, 0), subflow.remote, dump=False), mp.MPTCPConnection | None)
    assert_type(mp.mptcp_lookup(token=1), mp.MPTCPConnection | None)
    reason = mp.FallbackReason("suspended")
    assert_type(reason, mp.FallbackReason)
    assert_type((reason.sentence, reason.causes, reason.next_step), tuple[str, tuple[str, ...], str])
    assert_type(reason is mp.FallbackReason.SUSPENDED, bool)
    assert_type(mp.is_stalled(mp.TCPInfo(b""), standing=10**9), bool | None)
    assert_type(mp.is_resending(found[0].info, found[0].info, []), bool)


async def told() -> None:
    with mp.mptcp_events(buffer=1 << 20) as events:
        assert_type(events, mp.MPTCPEvents)
        assert_type(events.fileno(), int)
        assert_type(events.read(), list[mp.MPTCPEvent])
        assert_type(events.wait(timeout=0.5), list[mp.MPTCPEvent])
        for event in events:
            assert_type(event, mp.MPTCPEvent)
            assert_type(event.kind, mp.MPTCPEventKind | int)
            assert_type(event.kind is mp.MPTCPEventKind.LOST, bool)
            assert_type((event.time, event.token, event.backup), tuple[int, int | None, bool | None])
            assert_type(event.remote, Address | None)
            assert_type(event.asdict(), dict[str, Any])
        async for event in events:
            assert_type(event, mp.MPTCPEvent)
        events.close()
    assert_type(mp.MPTCPEvent(mp.MPTCPEventKind.CLOSED, 1, token=2), mp.MPTCPEvent)


def opened() -> None:
    support = mp.is_supported()
    assert_type(support, mp.Support)
    assert_type(support is mp.Support.DISABLED, bool)
    assert_type(mp.create_socket(socket.AF_INET6, nodelay=False), socket.socket)
    assert_type(mp.create_connection(("localhost", 80), fallback=False), socket.socket)
    assert_type(mp.create_server(("", 80), reuse_port=True), socket.socket)
    assert_type(mp.create_server(("::1", 0, 0, 0), family=socket.AF_INET6), socket.socket)
    assert_type(mp.as_tcp(mp.create_socket()), socket.socket)
    factory: Callable[[tuple[int, int, int, str, Address]], socket.socket] = mp.socket_factory
    for addr_info in socket.getaddrinfo("localhost", 80):
        assert_type(mp.socket_factory(addr_info, fallback=False), socket.socket)
    print(factory)
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, mp.IPPROTO_MPTCP)
    assert_type(mp.__version__, str)
    try:
        mp.mptcp_info(3)
    except mp.NotMPTCPError as error:
        assert_type(error.errno, int | None)
    except mp.UnsupportedOptionError as error:
        assert_type(error.option, str)
    except mp.MPTCPError as error:
        assert_type(error.option, str)


async def looped(accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]) -> None:
    assert_type(await aio.connect("::1", 443, happy_eyeballs_delay=0.25, fallback=False), socket.socket)
    ends = await aio.open_connection("example.com", "https", ssl=True, limit=1 << 20)
    assert_type(ends, tuple[asyncio.StreamReader, asyncio.StreamWriter])
    transport, protocol = await aio.create_connection(asyncio.Protocol, "localhost", 80, nodelay=False)
    assert_type(transport, asyncio.Transport)
    assert_type(protocol, asyncio.Protocol)
    assert_type(await aio.start_server(accept, ["10.0.0.1", "::1"], 80, backlog=5), asyncio.Server)
    async with await aio.create_server(asyncio.Protocol, None, 80, fallback=False) as server:
        assert_type(server.is_serving(), bool)
    assert_type(aio.loop_class(), type[asyncio.SelectorEventLoop])
    assert_type(aio.loop_class(asyncio.BaseEventLoop), type[asyncio.BaseEventLoop])


def whose(inodes: list[int]) -> None:
    owners = processes.owners(inodes)
    assert_type(owners, processes.Owners)
    assert_type(owners[1], tuple[processes.Owner, ...] | None)
    assert_type(owners.missing, str | None)
    for owner in processes.iter_sockets(1):
        assert_type(owner, processes.Owner)
        assert_type(owner.tid, int)
        with processes.borrow(owner) as borrowed:
            assert_type(borrowed, int)
    listener = processes.listeners(80)[0]
    assert_type(listener, processes.Listener)
    assert_type(listener.mptcp, bool | None)
    handshake = processes.tcp_sockets(80, mp.TCPState.SYN_RECV)[0]
    assert_type(handshake, processes.TCPSocket)
    assert_type(handshake.local, Address)
    assert_type(processes.tcp_lookup(handshake.local, handshake.remote), processes.TCPSocket | None)
    assert_type(processes.in_netns("/run/netns/blue", mp.mptcp_diag), mp.MPTCPDiag)


def here() -> None:
    assert_type(host.sysctls(), dict[str, int | str])
    assert_type(host.counters(), dict[str, int])
    assert_type(host.addresses(), dict[str, tuple[str, ...]])
    assert_type(host.limits(), host.Limits)
    assert_type(host.limits().subflows, int)
    endpoint = host.endpoints()[0]
    assert_type(endpoint, host.Endpoint)
    assert_type(bool(endpoint.flags & host.EndpointFlag.SUBFLOW), bool)
    assert_type(host.route(endpoint), host.Route)
    assert_type(host.route(endpoint, "10.0.0.1").problem, str | None)
    option = host.refused_options()[0]
    assert_type(option, host.RefusedOption)
    answer = host.socket_options()[0]
    assert_type(answer, host.SocketOption)
    assert_type(answer.get, host.OptionStates)
    assert_type(answer.set.accepted, str | None)
    assert_type(option.connected, int | None)


def measured() -> None:
    with metrics.Metrics([443], events=False) as found:
        assert_type(found, metrics.Metrics)
        assert_type(found.look(), None)
        assert_type(found.read_events(), None)
        assert_type(found.collect(), list[metrics.Row])
        assert_type(found.missing, Mapping[str, str])
    for row in metrics.collect(range(1, 3)):
        assert_type(row.name, str)
        assert_type(row.labels, Mapping[str, str])
        if isinstance(row.value, metrics.Distribution):
            assert_type(row.value.buckets(), list[tuple[str, int]])
        else:
            value: float = row.value
            assert value
    assert_type(metrics.HELP["mptcp_paths"], str)


def tested(sock: socket.socket) -> None:
    assert_type(testing.in_child(lambda: 1), int)
    assert_type(testing.in_private_network(lambda: "one", within=5), str)
    assert_type(testing.enter_private_network(), None)
    with testing.Child(lambda: b"one") as child:
        assert_type(child, testing.Child[bytes])
        assert_type(child.result(within=1.5), bytes)
        assert_type(child.end(), int)
    with testing.Paths(2, rate=20e6, delay=0.01, family=socket.AF_INET6) as paths:
        assert_type(paths, testing.Paths)
        assert_type(paths.client, testing.PrivateNetwork)
        assert_type(paths.server_addresses, tuple[str, ...])
        paths.cut(0)
        paths.restore(0)
        paths.shape(1, rate=1e6)
        paths.alter(0, lambda frame, to_server: frame if to_server else None)
    with testing.PrivateNetwork() as network:
        assert_type(network, testing.PrivateNetwork)
        assert_type(network.fileno(), int)
        network.close()
    assert_type(testing.wait_for(sock, subflows=2), mp.Snapshot)
    testing.add_address("fd00::1", prefix=64)
    testing.add_endpoint("fd00::1", "path0", signal=True, backup=True, port=80)
    testing.set_limits(8, add_addr_accepted=8)
    testing.delete_endpoint(1)
    testing.delete_initial_address("127.0.0.1")
    testing.flush_endpoints()
    try:
        pass
    except (testing.UnavailableError, testing.ChildDiedError) as error:
        assert_type(error.errno, int | None)


async def answer(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    await send({"type": "http.response.start", "status": 200})


def served(environ: dict[str, Any]) -> None:
    app = asgi.MPTCPMiddleware(asgi.MPTCPMiddleware(answer))
    assert_type(app, asgi.MPTCPMiddleware)
    assert_type(wsgi.client_status(environ), mp.Status | None)
