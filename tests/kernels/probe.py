# SPDX-License-Identifier: MIT
"""What a kernel answers, asked through public names: python -m tests.kernels.probe, in a guest or anywhere.

Prints JSON objects, one a line: "sizes", "sockets", "socket options", "paths" (two subflows), "vectors" (the
bytes), "outside" (what is told of the two subflows without their socket) and "commands" (exit codes).
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

import mptcp_sockopt as mp
from mptcp_sockopt import host, testing
from mptcp_sockopt.selftest._cases import eventually

from ..support import LOOPBACK, connected, exchange, fallback_pair, in_private_network, tcp_pair, until
from . import outside

# What a caller has to say in the buffer: nothing, or how large its structs are.
REQUESTS = {
    mp.MPTCP_TCPINFO: struct.pack("=IIII", 16, 0, 0, 280),
    mp.MPTCP_SUBFLOW_ADDRS: struct.pack("=IIII", 16, 0, 0, 256),
    mp.MPTCP_FULL_INFO: struct.pack("=IIIIIIQQ", 0, 280, 0, 264, 0, 0, 0, 0),
}


def say(kind: str, **words: Any) -> None:
    print(json.dumps({"kind": kind, **words}), flush=True)


def answer(read: Callable[[], Any]) -> Any:
    """What it returns, or the name of its errno."""
    try:
        return read()
    except OSError as error:
        return "EOPNOTSUPP" if error.errno == errno.EOPNOTSUPP else errno.errorcode[error.errno or 0]


def raw_option(sock: socket.socket, level: int, option: int, size: int = 4096) -> bytes:
    """The option's answer, as long as the kernel says it is."""
    buffer = bytearray(REQUESTS.get(option, b"") if level == mp.SOL_MPTCP else b"").ljust(size, b"\0")
    length = mp.getsockopt_into(sock, level, option, buffer)
    return bytes(buffer[:length])


def answers(sock: socket.socket, option: int) -> bool:
    return isinstance(answer(lambda: raw_option(sock, mp.SOL_MPTCP, option)), bytes)


def is_mptcp_option(sock: socket.socket) -> Any:
    def read() -> int:
        return int.from_bytes(raw_option(sock, socket.SOL_TCP, mp.TCP_IS_MPTCP, 4), sys.byteorder)

    return answer(read)


def any_pair(family: int) -> contextlib.AbstractContextManager[tuple[socket.socket, socket.socket]]:
    """Of MPTCP where there is MPTCP."""
    server = mp.create_server((LOOPBACK[socket.AddressFamily(family)], 0), family=family)
    return connected(server, mp.create_socket(family))


def sizes() -> None:
    """Lengths of the kernel's structs, and which options answer on a living MPTCP socket."""
    with any_pair(socket.AF_INET) as (client, accepted):
        exchange(client, accepted)
        options = [n for n in range(9) if answers(client, n)]
        found: dict[str, Any] = dict.fromkeys(("mptcp_info", "full_info", "subflow_info"))
        found["tcp_info"] = len(raw_option(client, socket.SOL_TCP, socket.TCP_INFO))
        if mp.MPTCP_INFO in options:
            found["mptcp_info"] = len(raw_option(client, mp.SOL_MPTCP, mp.MPTCP_INFO))
        if mp.MPTCP_TCPINFO in options:
            (element,) = mp.mptcp_tcpinfo(client)
            found["mptcp_tcpinfo"] = len(element)
        if mp.MPTCP_FULL_INFO in options:
            full = raw_option(client, mp.SOL_MPTCP, mp.MPTCP_FULL_INFO)
            found["full_info"], found["subflow_info"] = len(full), struct.unpack_from("=I", full, 8)[0]
        say(
            "sizes",
            is_supported=mp.is_supported().name,
            options=options,
            mptcp_diag=answer(lambda: len(mp.mptcp_diag())),
            **found,
        )


def about(sock: socket.socket) -> list[Any]:
    """Status, is_mptcp(), the status of its snapshot, and how many subflows are there and live."""
    shot = mp.snapshot(sock)
    return [mp.status(sock).name, mp.is_mptcp(sock), shot.status.name, len(shot.subflows), shot.live_count]


def sockets(family: int) -> tuple[dict[str, Any], list[Any]]:
    """Sockets of every kind, and what is said of them; TCP_IS_MPTCP when connected, TCP, fallen back."""
    found: dict[str, Any] = {}
    host = LOOPBACK[socket.AddressFamily(family)]
    with any_pair(family) as (client, accepted):
        exchange(client, accepted)
        found["connected"], found["accepted"] = about(client), about(accepted)
        options = [is_mptcp_option(client)]
        for sock in (client, accepted):
            sock.shutdown(socket.SHUT_WR)
        if mp.is_supported():  # TCP lingers in TIME_WAIT, and what it says then is of no interest
            eventually(lambda: mp.snapshot(client).live_count == 0)
            found["shut down"] = about(client)
    with contextlib.suppress(ValueError):
        mp.status(client)
        found["closed"] = "answers"
    with tcp_pair(family) as ends:
        found["TCP"] = [about(sock) for sock in ends]
        options.append(is_mptcp_option(ends[0]))
    with mp.create_server((host, 0), family=family) as server:
        found["listener"] = about(server)
        client = socket.create_connection(server.getsockname()[:2], timeout=5)
        with client, server.accept()[0] as one:
            found["TCP to it"] = [about(client), about(one)]
    with mp.create_socket(family) as fresh:
        found["fresh"] = about(fresh)[:3]  # how many subflows it has changed in 6.5
    if mp.is_supported():
        with fallback_pair(family) as (client, accepted):
            exchange(client, accepted)
            found["fallen back"], found["its peer"] = about(client), about(accepted)
            options.append(is_mptcp_option(client))
            for read in (mp.mptcp_info, mp.mptcp_tcpinfo, mp.mptcp_subflow_addrs, mp.mptcp_full_info):
                with contextlib.suppress(mp.NotMPTCPError):
                    read(client)
                    found["fallen back"] = f"{read.__name__}() answers"
    return found, options


# ------------------------------------------------------------------------------- two subflows over lo


def two_paths() -> dict[str, dict[str, Any]]:
    """A second subflow from 127.0.0.2: by kind, what is said of it."""
    testing.set_limits(2, 2)
    testing.add_endpoint("127.0.0.2")
    events = answer(mp.mptcp_events)
    server = mp.create_server(("127.0.0.1", 0), fallback=False)
    with connected(server, mp.create_socket(fallback=False)) as (client, accepted):
        exchange(client, accepted)
        until(lambda: mp.mptcp_info(client).subflows == 1, "the second subflow")
        until(lambda: mp.snapshot(accepted).live_count == 2, "it, at the server")
        exchange(client, accepted, 3000)
        shot = mp.snapshot(client)
        hosts = [path.local[0] for path in shot.subflows if path.local]
        found = {"count": len(shot.subflows), "live": shot.live_count, "hosts": hosts}
        machine = {"byteorder": sys.byteorder, "bits": struct.calcsize("P") * 8}
        return {
            "paths": {**found, "accepted": about(accepted)},
            "vectors": {**machine, "found": vectors(client)},
            "outside": outside.told(client, events, answer),
            "commands": outside.commands(),
        }


def recorded(view: Any) -> dict[str, Any]:
    return {"raw": view.raw.hex(), "values": view.asdict()}


def vectors(sock: socket.socket) -> dict[str, Any]:
    """The bytes of every option, and what this machine makes of them."""
    found: dict[str, Any] = {
        "mptcp_info": recorded(mp.mptcp_info(sock)),
        "tcp_info": recorded(mp.TCPInfo(raw_option(sock, socket.SOL_TCP, socket.TCP_INFO))),
        "mptcp_tcpinfo": [recorded(view) for view in mp.mptcp_tcpinfo(sock)],
        "mptcp_subflow_addrs": [recorded(view) for view in mp.mptcp_subflow_addrs(sock)],
    }
    with contextlib.suppress(mp.UnsupportedOptionError):
        found["mptcp_full_info"] = recorded(mp.mptcp_full_info(sock))
    return found


def main() -> None:
    sizes()
    for family in (socket.AF_INET, socket.AF_INET6):
        found, options = sockets(family)
        say("sockets", family=family.name, found=found, tcp_is_mptcp=options)
    if mp.is_supported():
        tried = host.socket_options()
        say(
            "socket options",
            found={option.name: [option.level, *option.get, *option.set] for option in tried},
        )
        for kind, words in in_private_network(two_paths, within=200).items():
            say(kind, **words)
    else:
        say("commands", **outside.commands())


if __name__ == "__main__":
    main()
