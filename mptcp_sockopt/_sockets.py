# SPDX-License-Identifier: MIT
"""Opening MPTCP sockets: the standard library's signatures, and TCP where the kernel has no MPTCP.

Names are resolved with TCP's protocol number, because getaddrinfo(3) refuses 262. What comes back is a
plain ``socket.socket``; there is no socket class of ours.
"""

from __future__ import annotations

import enum
import errno
import socket
import sys

from . import _border
from . import _types as t

# These say nothing of the protocol: a TCP socket would be refused as well.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINTR, errno.EAGAIN)


class Support(enum.Enum):
    """Whether MPTCP sockets can be made here; truthy or falsy. ``value`` is a sentence for people.

    Thread rule: immutable, use it anywhere.
    """

    YES = "MPTCP sockets can be made"
    KERNEL_TOO_OLD = "this kernel is older than MPTCP (Linux 5.6)"
    NOT_BUILT_IN = "this kernel was built without MPTCP (CONFIG_MPTCP)"
    DISABLED = "MPTCP is switched off in this network namespace (sysctl net.mptcp.enabled=0)"
    FORBIDDEN = "a policy forbids MPTCP sockets to this process (seccomp, BPF or a security module)"

    def __bool__(self) -> bool:
        return self is Support.YES


# What the kernel itself answers. A policy may answer with any errno.
_REASONS = {
    errno.EINVAL: Support.KERNEL_TOO_OLD,
    errno.EPROTONOSUPPORT: Support.NOT_BUILT_IN,
    errno.ENOPROTOOPT: Support.DISABLED,
}


def is_supported() -> Support:
    """Whether MPTCP sockets can be made in this network namespace, and if not, why.

    Asks by making one, of IPv4. Where that is refused and a TCP socket is not, the answer is falsy, and
    create_socket() gives TCP. Any other failure, such as EMFILE, says nothing of MPTCP and is raised.
    (A kernel may have MPTCP for IPv4 alone, CONFIG_MPTCP_IPV6: create_socket() gives TCP for AF_INET6 then.)
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

    With fallback (the default) it is a TCP socket where MPTCP is refused, whoever refuses it: the kernel, its
    sysctl, or a policy (seccomp, BPF, a security module), with any errno but those of a shortage. If TCP is
    refused as well, TCP's error is raised. Without fallback every refusal is an OSError. Whether the *peer*
    speaks MPTCP is another question: ask status().
    nodelay sets TCP_NODELAY, as asyncio does for TCP; sockets accepted from a listener inherit it.
    """
    if fallback:
        sock, _ = _mptcp_or_tcp(family, type)
    else:
        sock = _open(family, type, _border.IPPROTO_MPTCP)
    if nodelay:
        _set_nodelay(sock)
    return sock


def _mptcp_or_tcp(family: int, kind: int) -> tuple[socket.socket, int | None]:
    """An MPTCP socket and None; or, where the protocol is refused, a TCP socket and the errno of that."""
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
    """Of a constant; a number that has none is given as it is."""
    try:
        return names(number).name
    except ValueError:
        return str(int(number))


def _set_nodelay(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        # MPTCP sockets know it from Linux 5.17; it is a wish, not worth a connection.
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOPROTOOPT):
            sock.close()
            raise


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
    """``socket.create_connection()`` with MPTCP: tries every address that the name has.

    The last failure is raised or, with all_errors (Python 3.11), an ExceptionGroup of all. fallback and
    nodelay as in create_socket().
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
            raise OSError(f"getaddrinfo({host!r}, {port!r}) gave no address")
        if all_errors and sys.version_info >= (3, 11):
            raise ExceptionGroup("create_connection failed", errors)  # noqa: F821  # a builtin from 3.11
        raise errors[-1]
    finally:
        errors.clear()  # break the cycle of exception, traceback and this frame


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

    Plain TCP clients are served as well: what was accepted says status(), never ``sock.proto``, which
    Python copies from the listener. fallback and nodelay as in create_socket().
    """
    if family not in (socket.AF_INET, socket.AF_INET6):
        raise ValueError("family is AF_INET or AF_INET6")
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


# As mptcp_sockopt/__init__.py does for what it imports at once.
for _public in (Support, create_connection, create_server, create_socket, is_supported):
    _public.__module__ = "mptcp_sockopt"
