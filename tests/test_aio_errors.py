# SPDX-License-Identifier: MIT
"""Calls that fail: with the error of asyncio's own function, and nothing is left."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import aio

from .loops import descriptors, loop_of, run
from .support import Refusal, in_private_network, where_refused
from .tls import contexts

# Type, errno and text; of a group, those of its errors.
Failure = tuple[Any, ...]
HE = {"happy_eyeballs_delay": 0.2}


async def failure(made: Awaitable[Any]) -> Failure:
    try:
        result = await made
    except Exception as error:
        inner = [(type(one), str(one)) for one in getattr(error, "exceptions", ())]
        return type(error), getattr(error, "errno", None), str(error), inner
    if isinstance(result, tuple):
        result[-1].close() if isinstance(result[-1], asyncio.StreamWriter) else result[0].close()
    else:
        result.close()
    return ("no failure",)


def connecting(dead: int) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Host, port and keywords of calls that fail; at a port where nobody listens."""
    context = contexts()[1]
    stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
    four = "127.0.0.1"
    return {
        "refused": ((four, dead), {}),
        "refused, IPv6": (("::1", dead), {}),
        "refused by two": (("localhost", dead), {}),
        "refused by two, raced": (("localhost", dead), HE),
        "refused by two, and told both": (("localhost", dead), {"all_errors": True}),
        "refused by one, and told": ((four, dead), {"all_errors": True, **HE}),
        "text as port": ((four, str(dead)), {}),
        "bytes": ((b"127.0.0.1", dead), {}),
        "no route": (("192.0.2.1", 9), {}),
        "no route, IPv6": (("2001:db8::1", 9), {}),
        "no interface": (("fe80::1%none", 9), {}),
        "unknown name": (("no.such.host.invalid", 9), {}),
        "unknown service": ((four, "no-such-service"), {}),
        "a port too high": ((four, 70000), {}),
        "a port too high, as text": ((four, "70000"), {}),
        "a port too low": ((four, -1), {}),
        "a name and a port too high": (("localhost", 70000), {}),
        "not a host": ((3, dead), {}),
        "a NUL": (("127.0.0.1\0", dead), {}),
        "another family": (("::1", dead), {"family": socket.AF_INET}),
        "no such family": ((four, dead), {"family": 99}),
        "a family of no internet": ((four, dead), {"family": socket.AF_UNIX}),
        "flags": (("localhost", dead), {"flags": 1 << 30}),
        "local_addr of another family": (("::1", dead), {"local_addr": (four, 0)}),
        "local_addr that is unknown": ((four, dead), {"local_addr": ("no.such.host.invalid", 0)}),
        "local_addr that is none": ((four, dead), {"local_addr": 3}),
        "local_addr that is short": ((four, dead), {"local_addr": (four,)}),
        "no host": ((), {}),
        "no host, with ssl": ((), {"ssl": context}),
        "no host but a port, with ssl": ((None, dead), {"ssl": context}),
        "an empty host, with ssl": (("", dead), {"ssl": True}),
        "server_hostname without ssl": ((four, dead), {"server_hostname": "a"}),
        "timeout without ssl": ((four, dead), {"ssl_handshake_timeout": 3}),
        "timeout of the end without ssl": ((four, dead), {"ssl_shutdown_timeout": 3}),
        "a word that there is not": ((four, dead), {"nonsense": 1}),
        "both host and sock": ((four, dead), {"sock": socket.socket(socket.AF_INET, stream)}),
        "a datagram socket": ((), {"sock": socket.socket(socket.AF_INET, datagram)}),
        "a socket that is closed": ((), {"sock": closed()}),
        "a number as socket": ((), {"sock": 3}),
        "a socket that is not connected": ((), {"sock": socket.socket(socket.AF_INET, stream)}),
        "interleaved": (("localhost", dead), {"interleave": 2}),
        "a protocol without sockets": (("localhost", dead), {"proto": 132}),
    }


def closed() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock


def listening(taken: int) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """The same of servers; at a port where somebody listens."""
    four = "127.0.0.1"
    return {
        "in use": ((four, taken), {}),
        "in use, by one of two": ((["127.0.0.2", four], taken), {}),
        "no address of this host": (("192.0.2.1", 0), {}),
        "unknown name": (("no.such.host.invalid", 0), {}),
        "no host": ((), {}),
        "ssl that is no context": ((four, 0), {"ssl": True}),
        "timeout without ssl": ((four, 0), {"ssl_handshake_timeout": 3}),
        "timeout of the end without ssl": ((four, 0), {"ssl_shutdown_timeout": 3}),
        "a word that there is not": ((four, 0), {"nonsense": 1}),
        "keep_alive": ((four, taken), {"keep_alive": True}),
        "a port too high": ((four, 70000), {}),
        "not a port": ((four, "no-such-service"), {}),
        "another family": (("::1", 0), {"family": socket.AF_INET}),
        "a backlog that is none": ((four, 0), {"backlog": "x"}),
        "both host and sock": ((four, 0), {"sock": socket.socket()}),
        "a datagram socket": ((), {"sock": socket.socket(type=socket.SOCK_DGRAM)}),
        "a number as socket": ((), {"sock": 3}),
    }


# Rows of bind errors: the text may be another, and asyncio has no errno if no address is left (Python 3.12).
OF_BIND = ("in use", "no address of this host", "keep_alive")


def same(ours: Failure, theirs: Failure, what: str) -> bool:
    if what.startswith(OF_BIND):
        return ours[0] is theirs[0] and theirs[1] in (ours[1], None)
    return ours == theirs


# Rows in which it is the loop that refuses, each in its own words.
OF_THE_LOOP = ("a word", "both", "a datagram", "a socket", "a number", "a protocol", "no interface")


def compared(table: Callable[[int], dict[str, Any]], pairs: list[tuple[Any, Any]], port: int) -> list[Any]:
    """What is not the same: on asyncio's loop, in which nothing is left by our calls."""

    async def main() -> list[Any]:
        found = []
        for what, (words, keywords) in table(port).items():
            for ours, theirs in pairs:
                before = descriptors()
                mine = await failure(ours(*words, **keywords))
                left = descriptors() - before
                standard = await failure(theirs(*words, **keywords))
                if not same(mine, standard, what) or left > 0:
                    found.append((what, mine, standard, left))
            if isinstance(keywords.get("sock"), socket.socket):
                keywords["sock"].close()
        return found

    return run(asyncio.SelectorEventLoop, main)


async def made_by_loop(*words: Any, **keywords: Any) -> object:
    loop = asyncio.get_running_loop()
    return await loop.create_connection(asyncio.Protocol, *words, **keywords)


async def made_by_us(*words: Any, **keywords: Any) -> object:
    return await aio.create_connection(asyncio.Protocol, *words, **keywords)


async def served_by_loop(*words: Any, **keywords: Any) -> object:
    return await asyncio.get_running_loop().create_server(asyncio.Protocol, *words, **keywords)


async def served_by_us(*words: Any, **keywords: Any) -> object:
    return await aio.create_server(asyncio.Protocol, *words, **keywords)


def test_connections_fail_as_asyncio_s(mptcp: None) -> None:
    """With the type, errno and text of the error."""

    def inside() -> list[Any]:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            pairs = [(made_by_us, made_by_loop), (aio.open_connection, asyncio.open_connection)]
            return compared(connecting, pairs, unused.getsockname()[1])

    assert in_private_network(inside) == []


def test_servers_fail_as_asyncio_s(mptcp: None) -> None:
    """The same; the text of a bind error may be another."""

    def inside() -> list[Any]:
        with mp.create_server(("127.0.0.1", 0)) as server:
            return compared(listening, [(served_by_us, served_by_loop)], server.getsockname()[1])

    assert in_private_network(inside) == []


class TwoAddresses(asyncio.SelectorEventLoop):
    """Of every host."""

    async def getaddrinfo(self, host: Any, port: Any, **keywords: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", port)) for n in (1, 2)]


@pytest.mark.parametrize("host", ["127.0.0.1", "two.test"])
def test_no_socket_to_be_had(host: str) -> None:
    """As where there are too many: one text, also of two addresses."""

    async def main() -> tuple[Failure, Failure]:
        return await failure(aio.open_connection(host, 9)), await failure(asyncio.open_connection(host, 9))

    refusals: list[Refusal] = [("socket", {0: socket.AF_INET}, errno.EMFILE)]
    ours, theirs = where_refused(refusals, lambda: run(TwoAddresses, main))
    assert ours == theirs == (OSError, errno.EMFILE, "[Errno 24] Too many open files", [])


@pytest.mark.slow
def test_connections_on_uvloop_fail_as_on_asyncio(mptcp: None) -> None:
    """What the loop itself does not refuse: also with keywords that uvloop lacks."""
    loops = [loop_of("uvloop"), asyncio.SelectorEventLoop]

    def inside() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            for what, (words, keywords) in connecting(unused.getsockname()[1]).items():
                if not what.startswith(OF_THE_LOOP):
                    on_uvloop, on_asyncio = (
                        run(loop, lambda: failure(made_by_us(*words, **keywords)))  # noqa: B023
                        for loop in loops
                    )
                    # A keyword that one of the loops has not: it says so, with its own name.
                    assert on_uvloop == on_asyncio or "keyword argument" in f"{on_uvloop} {on_asyncio}", what

    in_private_network(inside)
