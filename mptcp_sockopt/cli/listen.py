# SPDX-License-Identifier: MIT
"""listen: an MPTCP listener for a server that cannot make one itself."""

from __future__ import annotations

import argparse
import errno
import os
import socket
from collections.abc import Sequence

import mptcp_sockopt as mp

from ._outcome import host_and_port, positive
from ._program import OURS, ProgramParser, become, say
from ._table import parsed

_NAME = "mptcp-sockopt listen"
FD = 3  # the first that systemd passes: sd_listen_fds(3)
_PLACE = "{fd}"
_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_EVERY = ("", "*", "::")
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def parser() -> argparse.ArgumentParser:
    made = ProgramParser(
        prog=_NAME,
        usage="%(prog)s [-h] [--backlog N] [--reuse-port]\n"
        "                            [--no-fallback] HOST:PORT -- CMD ...",
        description="Start a server with an MPTCP listener, which has TCP_NODELAY, as its descriptor 3. The "
        "server need not know of MPTCP, but must take a listener from its caller. "
        f"Each {_PLACE} in its arguments becomes 3. Without one, the listener is announced as systemd does "
        "it, by LISTEN_FDS and LISTEN_PID. The server replaces this command: it has its PID, terminal and "
        "signals.",
        epilog="Exit status: 125 usage, or there is no listener, 126 CMD cannot be executed, 127 CMD was not "
        "found; any other is that of CMD.",
    )
    made.add_argument(
        "address",
        metavar="HOST:PORT",
        type=host_and_port,
        help="where to listen; [::]:PORT or :PORT is every address, of IPv4 too; PORT 0 is any free one",
    )
    made.add_argument("command", metavar="CMD", nargs="*", help="a server and its arguments")
    made.add_argument(
        "--backlog",
        type=positive(int, 2**31 - 1),
        default=2048,
        metavar="N",
        help="connections that may wait to be accepted (default 2048; net.core.somaxconn bounds it)",
    )
    made.add_argument(
        "--reuse-port", action="store_true", help="other listeners may share the port (SO_REUSEPORT)"
    )
    made.add_argument(
        "--no-fallback", action="store_true", help="end where MPTCP is refused, instead of listening with TCP"
    )
    return made


def main(argv: Sequence[str]) -> int:
    at = argv.index("--") if "--" in argv else len(argv)
    made = parser()
    options = parsed(made, argv[:at])
    command = [*options.command, *argv[at + 1 :]]
    if options.command or not command:
        made.error("CMD is missing" if not command else f"write -- before {command[0]}")
    try:
        _refuse_others()
        listener = _listener(options)
        if not mp.is_mptcp(listener):
            why = mp.is_supported()
            say(_NAME, f"{'MPTCP is refused' if why else why.value}; {command[0]} listens with TCP")
        _hand_over(listener)
    except (OSError, UnicodeError) as error:
        say(_NAME, str(error))
        return OURS
    for name in _VARIABLES:
        os.environ.pop(name, None)
    # One or the other: gunicorn ends when it is told twice.
    if not any(_PLACE in word for word in command[1:]):
        os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    return become(_NAME, [command[0], *(word.replace(_PLACE, str(FD)) for word in command[1:])])


def _refuse_others() -> None:
    """OSError if this process got listeners from its own caller, in whose place ours would be."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return  # they were for another
    given = os.environ.get("LISTEN_FDS", "")
    for fd in range(FD, FD + int(given)) if given.isdecimal() and len(given) < 6 else ():
        try:
            os.fstat(fd)
        except OSError:
            raise OSError(f"LISTEN_FDS is {given}, but descriptor {fd} is not open") from None
    raise OSError(f"LISTEN_FDS is {given!r}: CMD gets listeners already, start it without this command")


def _listener(options: argparse.Namespace) -> socket.socket:
    host, port = options.address
    family, address, is_every = socket.AF_INET6, ("::", port), host in _EVERY
    if not is_every:
        family, address = _resolved(host, port)
    try:
        return _opened(options, address, family, is_every)
    except OSError as error:
        if not is_every or error.errno not in _NO_IPV6:
            raise
    return _opened(options, ("0.0.0.0", port), socket.AF_INET, False)


def _opened(options: argparse.Namespace, address: mp.Address, family: int, dualstack: bool) -> socket.socket:
    return mp.create_server(
        address,
        family=family,
        backlog=options.backlog,
        reuse_port=options.reuse_port,
        dualstack_ipv6=dualstack,
        fallback=not options.no_fallback,
    )


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """The first address of the host; the others are named, because a listener has one."""
    try:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OSError(f"no address of {host}: {reason}") from None
    (family, _, _, _, address), *others = found
    more = [other[4][0] for other in others]
    if more:
        say(_NAME, f"{host}: listening on {address[0]}, not on {', '.join(map(str, more))}")
    return family, address  # type: ignore[return-value]


def _hand_over(listener: socket.socket) -> None:
    """As descriptor 3, in the place of what was there."""
    fd = listener.detach()
    if fd != FD:
        os.dup2(fd, FD)
    os.set_inheritable(FD, True)  # not so fd: execve(2) closes it
