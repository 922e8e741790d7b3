# SPDX-License-Identifier: MIT
"""Opening MPTCP sockets: the standard library's signatures, and TCP where the kernel has no MPTCP.

Names are resolved with TCP's protocol number, because getaddrinfo(3) refuses 262. The result is a plain
``socket.socket``, not a class of our own.
"""

from __future__ import annotations

import enum
import errno
import socket
import sys

from . import _border
from . import _types as t

# Errors unrelated to the protocol: a TCP socket would fail as well.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINTR, errno.EAGAIN)


class Support(enum.Enum):
    """Whether MPTCP sockets can be created here. Truthy or falsy; ``value`` is a sentence for people.

    Thread rule: immutable, use it anywhere.
    """

    YES = "MPTCP sockets can be created"
    KERNEL_TOO_OLD = "this kernel is too old for MPTCP (added in Linux 5.6)"
    NOT_BUILT_IN = "this kernel was built without MPTCP (CONFIG_MPTCP)"
    DISABLED = "MPTCP is disabled in this network namespace (sysctl net.mptcp.enabled=0)"
    FORBIDDEN = "a policy forbids this process to create MPTCP sockets (seccomp, BPF or a security module)"

    def __bool__(self) -> bool:
        return self is Support.YES


# The errnos of the kernel itself. A policy may use any errno.
_REASONS = {
    errno.EINVAL: Support.KERNEL_TOO_OLD,
    errno.EPROTONOSUPPORT: Support.NOT_BUILT_IN,
    errno.ENOPROTOOPT: Support.DISABLED,
}


def is_supported() -> Support:
    """Whether MPTCP sockets can be created in this network namespace, and if not, why.

    Creates an IPv4 MPTCP socket to find out. The result is falsy if that is refused while a TCP socket is
    not; create_socket() then returns a TCP socket. Any other failure, such as EMFILE, is unrelated to MPTCP
    and is raised. (A kernel built without CONFIG_MPTCP_IPV6 has MPTCP for IPv4 only; there,
    create_socket(AF_INET6) returns a TCP socket.)
    """
    sock, refusal = _mptcp_or_tcp(socket.AF_INET, socket.SOCK_STREAM)
    sock.close()
    return Support.YES if refusal is None else _REASONS.get(refusal, Support.FORBIDDEN)


def create_socket(
    family: int = socket.AF_INET,
    type: int = socket.SOCK_STREAM,
    *,
    fallback: bool = True,
    nodelay: bool = True,
) -> socket.socket:
    """``socket(family, type, IPPROTO_MPTCP)``.

    With fallback (the default), returns a TCP socket if MPTCP is refused by the kernel, its sysctl, or a
    policy (seccomp, BPF, a security module), unless the errno means a shortage, such as EMFILE or ENOMEM. If
    TCP is refused as well, TCP's error is raised. Without fallback, every refusal is an OSError. Whether the
    *peer* speaks MPTCP is another question: see status().

    nodelay sets TCP_NODELAY, as asyncio does for TCP. Sockets accepted from a listener inherit it.
    """
    if fallback:
        sock, _ = _mptcp_or_tcp(family, type)
    else:
        sock = _open(family, type, _border.IPPROTO_MPTCP)
    if nodelay:
        try:
            set_nodelay(sock)
        except BaseException:
            sock.close()
            raise
    return sock


def _mptcp_or_tcp(family: int, kind: int) -> tuple[socket.socket, int | None]:
    """An MPTCP socket and None; or, if MPTCP is refused, a TCP socket and the errno of the refusal."""
    try:
        return _open(family, kind, _border.IPPROTO_MPTCP), None
    except OSError as error:
        if error.errno in _SHORTAGES:
            raise
        return _open(family, kind, socket.IPPROTO_TCP), error.errno


def _open(family: int, kind: int, protocol: int) -> socket.socket:
    try:
        return socket.socket(family, kind, protocol)
    except OSError as error:
        name = "IPPROTO_MPTCP" if protocol == _border.IPPROTO_MPTCP else "IPPROTO_TCP"
        asked = f"socket({_name(socket.AddressFamily, family)}, {_name(socket.SocketKind, kind)}, {name})"
        raise OSError(error.errno, f"{asked}: {error.strerror}") from None


def _name(names: type[enum.IntEnum], number: int) -> str:
    """The name of a constant, or the number if it has no name."""
    try:
        return names(number).name
    except ValueError:
        return str(int(number))


def set_nodelay(sock: socket.socket) -> None:
    """TCP_NODELAY, where the kernel has it: it is an optimisation, not worth failing for."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        # MPTCP sockets have it since Linux 5.17.
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOPROTOOPT):
            raise


def as_tcp(sock: socket.socket) -> socket.socket:
    """The same kernel socket, as a ``socket.socket`` whose ``proto`` is IPPROTO_TCP.

    For libraries that look at ``proto``: asyncio cannot connect a socket whose ``proto`` is 262, and does not
    set TCP_NODELAY on it. The kernel's socket remains what it is, and status() says the same. sock is
    detached, as by socket.detach(): use only the result, which has the same timeout.

    OSError (EOPNOTSUPP) if sock is not a TCP or MPTCP socket, ValueError if it is closed; it is not detached
    then.
    """
    if not isinstance(sock, socket.socket):
        raise TypeError(f"as_tcp() takes a socket.socket, not {type(sock).__name__}")
    _border.tcp_protocol(_border.descriptor(sock), "as_tcp()")
    # Of a descriptor that was passed on, the object may name another family.
    family = sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)
    timeout = sock.gettimeout()
    tcp = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=sock.detach())
    tcp.settimeout(timeout)
    return tcp


def socket_factory(addr_info: tuple[int, int, int, str, t.Any], *, fallback: bool = True) -> socket.socket:
    """An MPTCP socket for an address that getaddrinfo() returned, not connected, with TCP_NODELAY set.

    For libraries that take a function which opens their sockets: aiohttp.TCPConnector(socket_factory=...),
    aiobotocore, aiohappyeyeballs. They read ``proto``, which is therefore IPPROTO_TCP: see as_tcp().
    fallback and errors: see create_socket().
    """
    return as_tcp(create_socket(addr_info[0], addr_info[1], fallback=fallback))


_DEFAULT_TIMEOUT: t.Any = getattr(socket, "_GLOBAL_DEFAULT_TIMEOUT", object())


def create_connection(
    address: tuple[str | None, int],
    timeout: float | None = _DEFAULT_TIMEOUT,
    source_address: t.Address | None = None,
    *,
    all_errors: bool = False,
    fallback: bool = True,
    nodelay: bool = True,
) -> socket.socket:
    """``socket.create_connection()`` with MPTCP: tries each address of the host in turn.

    If all fail, raises the last error or, with all_errors (Python 3.11), an ExceptionGroup of all errors.
    fallback and nodelay: see create_socket().
    """
    if all_errors and sys.version_info < (3, 11):
        raise ValueError("all_errors needs Python 3.11")
    host, port = address
    errors: list[OSError] = []
    found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    for family, kind, _, _, target in found:
        try:
            sock = create_socket(family, kind, fallback=fallback, nodelay=nodelay)
        except OSError as error:
            errors.append(error)
            continue
        try:
            if timeout is not _DEFAULT_TIMEOUT:
                sock.settimeout(timeout)
            if source_address:
                sock.bind(source_address)
            sock.connect(target)
        except OSError as error:
            errors.append(error)
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    try:
        if not errors:
            raise OSError(f"getaddrinfo({host!r}, {port!r}) returned no address")
        if all_errors and sys.version_info >= (3, 11):
            raise ExceptionGroup("create_connection failed", errors)  # noqa: F821  # a builtin from 3.11
        raise errors[-1]
    finally:
        errors.clear()  # break the reference cycle of exception, traceback and this frame


def create_server(
    address: t.Address,
    *,
    family: int = socket.AF_INET,
    backlog: int | None = None,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
    fallback: bool = True,
    nodelay: bool = True,
) -> socket.socket:
    """``socket.create_server()`` with MPTCP: bound, listening, SO_REUSEADDR set.

    The listener also accepts plain TCP clients. Call status() on each accepted socket to know: its ``proto``
    is copied from the listener and proves nothing. fallback and nodelay: see create_socket().
    """
    if family not in (socket.AF_INET, socket.AF_INET6):
        raise ValueError("family must be AF_INET or AF_INET6")
    if dualstack_ipv6 and family != socket.AF_INET6:
        raise ValueError("dualstack_ipv6 needs family=AF_INET6")
    sock = create_socket(family, fallback=fallback, nodelay=nodelay)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dualstack_ipv6 else 1)
        try:
            sock.bind(address)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} (binding {address!r})") from None
        if backlog is None:
            sock.listen()
        else:
            sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


# As mptcp_sockopt/__init__.py does for the names that it imports at once.
for _public in (
    Support,
    as_tcp,
    create_connection,
    create_server,
    create_socket,
    is_supported,
    socket_factory,
):
    _public.__module__ = "mptcp_sockopt"
