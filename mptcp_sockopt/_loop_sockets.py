# SPDX-License-Identifier: MIT
"""Sockets for an event loop: connected, or bound, at the addresses that the loop finds for a host.

The rules and the errors are those of asyncio's loop.create_connection() and create_server(). Only public
methods of the loop are used: getaddrinfo(), sock_connect(), create_task().
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from . import _sockets

# A family, and an address of it.
_Target = tuple[int, Any]
_Attempt = Callable[[_Target], Coroutine[Any, Any, socket.socket]]


async def connect(
    host: Any,
    port: Any,
    *,
    family: int = 0,
    flags: int = 0,
    local_addr: Any = None,
    happy_eyeballs_delay: float | None = None,
    interleave: int | None = None,
    all_errors: bool = False,
    fallback: bool = True,
    nodelay: bool = True,
) -> socket.socket:
    """A connected non-blocking socket, for what takes ``sock=``, such as websockets and asyncssh.

    The keywords are those of ``loop.create_connection()``, and so are the errors. The addresses of the host
    are tried in turn, or, with happy_eyeballs_delay, the next one so many seconds after the last (RFC 8305).
    The socket's ``proto`` is one that asyncio accepts: see as_tcp(). all_errors needs Python 3.11.
    """
    if all_errors and sys.version_info < (3, 11):
        raise ValueError("all_errors needs Python 3.11")
    loop = asyncio.get_running_loop()
    literal = _literal(host, port, family)
    targets = [literal] if literal else await _resolved((host, port), family, flags)
    sources = None if local_addr is None else await _resolved(local_addr, family, flags)
    if interleave is None and happy_eyeballs_delay is not None:
        interleave = 1
    if interleave:
        targets = _interleaved(targets, interleave)

    async def attempt(target: _Target) -> socket.socket:
        sock = _open(target[0], fallback, nodelay)
        try:
            if sources is not None:
                _bind(sock, [address for kind, address in sources if kind == target[0]])
            if not 0 <= target[1][1] <= 65535:  # uvloop would connect to another port, the rest of a division
                raise OverflowError("connect(): port must be 0-65535.")
            await loop.sock_connect(sock, target[1])
        except BaseException:
            sock.close()
            raise
        return sock

    errors: list[OSError] = []
    try:
        if happy_eyeballs_delay is None:
            for target in targets:
                try:
                    return await attempt(target)
                except OSError as error:
                    errors.append(error)
        elif sock := await _race(attempt, targets, happy_eyeballs_delay, errors):
            return sock
        raise _combined(errors, all_errors)
    finally:
        errors.clear()  # break the reference cycle of exception, traceback and this frame


async def _resolved(where: Any, family: int, flags: int) -> list[_Target]:
    """The addresses of a host and port."""
    host, port = where[:2]
    literal = _literal(host, port, family, *where[2:])
    if literal:
        return [literal]  # no thread is needed
    infos = await asyncio.get_running_loop().getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM, flags=flags
    )
    if not infos:
        raise OSError(f"getaddrinfo({host!r}) returned empty list")
    return [(info[0], info[4]) for info in infos]


def _literal(host: Any, port: Any, family: int, flowinfo: int = 0, scope_id: int = 0) -> _Target | None:
    """The address that a numeric host and port are, or None if they are to be looked up."""
    if host is None or isinstance(host, bytes) or "%" in host:
        return None
    try:
        number = int(port or 0)
    except (TypeError, ValueError):  # the name of a service
        return None
    for kind in (socket.AF_INET, socket.AF_INET6) if family == socket.AF_UNSPEC else (family,):
        try:
            socket.inet_pton(kind, host)
        except OSError:
            continue
        six = kind == socket.AF_INET6
        return kind, (host, number, flowinfo, scope_id) if six else (host, number)
    return None


def _interleaved(targets: list[_Target], first: int) -> list[_Target]:
    """The families in turn, after a number of addresses of the first one (RFC 8305, section 4)."""
    families: dict[int, list[_Target]] = {}
    for target in targets:
        families.setdefault(target[0], []).append(target)
    preferred, *others = families.values()
    ahead = first - 1 if first > 1 else 0
    rounds = itertools.zip_longest(preferred[ahead:], *others)
    return preferred[:ahead] + [target for each in rounds for target in each if target is not None]


def _open(family: int, fallback: bool, nodelay: bool) -> socket.socket:
    """A non-blocking socket whose ``proto`` suits asyncio.

    That is IPPROTO_TCP, or, without nodelay, 0, as ``socket.socket()`` has it: then asyncio connects the
    socket too, but does not set TCP_NODELAY.
    """
    kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
    try:
        sock = _sockets.create_socket(family, kind, fallback=fallback, nodelay=nodelay)
    except OSError as error:
        if not fallback or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno)) from None  # as the standard library says it
    return socket.socket(family, kind, socket.IPPROTO_TCP if nodelay else 0, fileno=sock.detach())


def _bind(sock: socket.socket, addresses: list[Any]) -> None:
    """To the first address that can be bound."""
    failure = OSError(f"no matching local address with family={sock.family!r} found")
    for address in addresses:
        try:
            return sock.bind(address)
        except OSError as error:
            failure = _not_bound(address, error)
    raise failure


def _not_bound(address: Any, error: OSError) -> OSError:
    why = str(error.strerror).lower()
    return OSError(error.errno, f"error while attempting to bind on address {address!r}: {why}")


async def _race(
    attempt: _Attempt, targets: list[_Target], delay: float, errors: list[OSError]
) -> socket.socket | None:
    """The first to connect of attempts that begin a delay apart, or when one fails (RFC 8305, section 5)."""
    waiting = iter(targets)
    target = next(waiting, None)
    tasks: list[asyncio.Task[socket.socket]] = []
    running: set[asyncio.Task[socket.socket]] = set()
    winner = None
    try:
        while target is not None or running:
            if target is not None:
                tasks.append(asyncio.create_task(attempt(target)))
                running.add(tasks[-1])
                target = next(waiting, None)
            done, running = await asyncio.wait(
                running, timeout=None if target is None else delay, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    winner = task
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
        errors += [error for task in tasks if isinstance(error := task.exception(), OSError)]
        return None
    finally:
        for task in tasks:
            if task is not winner:
                task.cancel()
                # One may have connected at the same moment, or may connect though it is cancelled.
                task.add_done_callback(_close_result)


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _combined(errors: list[OSError], all_errors: bool) -> Exception:
    if all_errors and sys.version_info >= (3, 11):
        return ExceptionGroup("create_connection failed", errors)  # noqa: F821  # a builtin from 3.11
    if len({str(error) for error in errors}) == 1:
        return errors[0]
    return OSError("Multiple exceptions: " + ", ".join(map(str, errors)))


async def listeners(
    host: Any,
    port: Any,
    *,
    family: int = socket.AF_UNSPEC,
    flags: int = socket.AI_PASSIVE,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    keep_alive: bool | None = None,
    fallback: bool = True,
    nodelay: bool = True,
) -> list[socket.socket]:
    """Sockets bound to every address of a host, or of several hosts. They do not listen yet.

    An address whose family is switched off here is left out, unless all are.
    """
    several = isinstance(host, Iterable) and not isinstance(host, str)
    targets: dict[_Target, None] = {}
    for each in host if several else [None if host == "" else host]:
        targets |= dict.fromkeys(await _resolved((each, port), family, flags))
    failure = OSError(f"could not bind on any address out of {[address for _, address in targets]!r}")
    bound: list[socket.socket] = []
    try:
        for kind, address in targets:
            sock = _open(kind, fallback, nodelay)
            bound.append(sock)
            set_options(sock, True if reuse_address is None else reuse_address, keep_alive)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if kind == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind(address)
            except OSError as error:
                failure = _not_bound(address, error)
                if error.errno != errno.EADDRNOTAVAIL:
                    raise failure from None
                bound.pop().close()
        if not bound:
            raise failure
    except BaseException:
        for sock in bound:
            sock.close()
        raise
    return bound


def set_options(sock: socket.socket, reuse_address: bool | None, keep_alive: bool | None) -> None:
    """Of a server's socket: what create_server() ignores beside its argument sock."""
    if reuse_address:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if keep_alive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
