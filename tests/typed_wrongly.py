# SPDX-License-Identifier: MIT
"""Every public name used wrongly once. Never run: tests/test_typed.py has it checked.

Both checkers must find each line wrong: where one does not, it complains of the comment for it.
"""

# pyright: basic
# pyright: reportUnnecessaryTypeIgnoreComment=error, reportUnusedExpression=false

from __future__ import annotations

import asyncio
import socket

import mptcp_sockopt as mp
from mptcp_sockopt import asgi, host, processes, testing, wsgi
from mptcp_sockopt import aio, host, processes, testing


def wrong(sock: socket.socket, info: mp.MPTCPInfo, tcp_info: mp.TCPInfo, addrs: mp.SubflowAddrs) -> None:
    # What is no socket.
    mp.mptcp_info("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.mptcp_tcpinfo(3.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.mptcp_subflow_addrs(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.mptcp_full_info(b"3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.is_mptcp([sock])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.status(("localhost", 80))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.snapshot({})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.Tracker("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.Sampler(sock)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    mp.ConnectionPicker()(mp.mptcp_diag())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.Sampler(["3"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    no_socket: mp.SocketLike = "3"  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    no_address: mp.Address = ("localhost", "80")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # What cannot be changed.
    info.token = 1  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    tcp_info.rtt = 1  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    addrs.local = ("localhost", 80)  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    mp.mptcp_full_info(sock).num_subflows = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    mp.snapshot(sock).subflows = ()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    mp.Tracker(sock).update().bytes_acked = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    mp.mptcp_diag()[0].inode = 1  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    mp.Tracker(sock).gone = ()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    # What is made of something else.
    mp.MPTCPInfo("raw")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.MPTCPInfo(info.raw, byteorder="native")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.TCPInfo(280)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.SubflowAddrs(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.MPTCPFullInfo([1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.MPTCPDiagMsg("raw")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.Subflow("1", addrs, tcp_info)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.Snapshot(1, mp.Status.TCP, None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    mp.SubflowDelta(1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    mp.Update(1, 2, 3)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    # What has another name, or is of bytes.
    info.split()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    tcp_info.count  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    info.tokn  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.mptcp_full_info(sock).subflows[0].rtt  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.snapshot(sock).token  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.InfoFlag.FALBACK  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.TCPState.CLOSED  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.Status.CONNECTED  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.Support.NO  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.mptcp_diag()[0].token  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.Tracker(sock).update().rate("bytes_aked")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.TCPInfo.rtt.units  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.SubflowFlag.JOIN  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    connections: mp.MPTCPConnections = mp.mptcp_diag()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    connections[0].info.token  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    connection: mp.MPTCPConnection = mp.mptcp_lookup(token=1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    path: mp.DiagSubflow = connection.subflows  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    path.id + 1  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand]
    mp.mptcp_lookup("10.0.0.1", 443)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.FallbackReason.STRIPPED  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.is_stalled(info)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.is_resending(info, tcp_info, [tcp_info])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # What may be None, or an error.
    mp.snapshot(sock).info.token  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    info.bytes_sent + 1  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand]
    mp.Sampler([sock]).sample()[0].token  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue]
    mp.Sampler([sock], full=True).sample()[0].info  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue]
    # Arguments that there are not, or of another type.
    mp.getsockopt_into(sock, mp.SOL_MPTCP, mp.MPTCP_INFO, b"read only", "96")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.create_socket("AF_INET")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.create_connection("localhost", 80)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.create_server(("", 80), fallbak=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    mp.as_tcp(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.socket_factory(socket.AF_INET)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mp.is_supported(sock)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    mp.mptcp_diag(True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    mp.mptcp_events(1 << 20)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    mp.MPTCPEvents().wait("5")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    mp.MPTCPEvent(1, 2).token = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    mp.MPTCPEventKind.SUB_LOST  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    found: mp.MPTCPDiag = mp.mptcp_diag()[:2]  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    kept: mp.Sample[mp.MPTCPInfo] = mp.Sampler([sock], full=True).sample()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # Numbers and texts.
    mp.SOL_MPTCP.upper()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.IPPROTO_MPTCP + "262"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
    mp.MPTCP_INFO.name  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.MPTCP_TCPINFO[0]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    mp.MPTCP_SUBFLOW_ADDRS()  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
    mp.MPTCP_FULL_INFO.value  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.TCP_IS_MPTCP.name  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.__version__ >= (0, 2)  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
    mp.nonsense  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.MPTCPError("no option").optoin  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.NotMPTCPError("no MPTCP").option.name  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    mp.UnsupportedOptionError("no option").option = 1  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    # For asyncio.
    aio.connect("localhost", 80, fallbak=True)  # type: ignore[call-arg, unused-coroutine]  # pyright: ignore[reportCallIssue]
    aio.open_connection("localhost", 80, limit="64K")  # type: ignore[arg-type, unused-coroutine]  # pyright: ignore[reportArgumentType]
    aio.create_connection(asyncio.Protocol(), "localhost", 80)  # type: ignore[arg-type, unused-coroutine]  # pyright: ignore[reportArgumentType]
    aio.create_server(asyncio.Protocol, 80)  # type: ignore[arg-type, unused-coroutine]  # pyright: ignore[reportArgumentType]
    aio.start_server("127.0.0.1", 80)  # type: ignore[arg-type, unused-coroutine]  # pyright: ignore[reportArgumentType]
    aio.loop_class(3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    aio.nonsense  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    # Of other processes.
    processes.owners("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    processes.iter_sockets("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    processes.listeners("80")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    processes.tcp_sockets(80, "SYN_RECV")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    processes.borrow(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    processes.in_netns(1.5, mp.mptcp_diag)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    processes.Owners([1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    processes.Owner(1, 2, "sh", 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    processes.Listener.hosts  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    processes.TCPSocket.stat  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    processes.nonsense  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    # Of this host.
    host.sysctls("enabled")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    host.counters(0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    host.addresses("lo")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    host.limits().subflow  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    host.endpoints(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    host.route("10.0.0.1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    host.refused_options("TCP_USER_TIMEOUT")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    host.Limits(2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    host.EndpointFlag.SIGNALS  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    host.Endpoint.addr  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    host.Route.reason  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    host.RefusedOption.errno  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    host.nonsense  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    # For tests.
    testing.in_child(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.in_private_network(print, within="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.enter_private_network(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    testing.Child(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.Paths(2, 20e6)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    testing.PrivateNetwork("one")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    testing.wait_for(sock, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    testing.add_address(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.add_endpoint("fd00::1", port="80")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.set_limits("8")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.delete_endpoint("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.delete_initial_address(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.flush_endpoints(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    testing.UnavailableError(1, "").what  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    testing.ChildDiedError(1, "").signal  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    testing.nonsense  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    # For web servers.
    asgi.MPTCPMiddleware(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    wsgi.client_status([])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    asgi.nonsense  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    wsgi.nonsense  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    print(no_socket, no_address, found, kept)
