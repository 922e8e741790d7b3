# SPDX-License-Identifier: MIT
"""Small questions to one socket, and the conversion of errnos to exceptions."""

from __future__ import annotations

import errno
import os
import socket

from .._errors import MPTCPError, NotMPTCPError, UnsupportedOptionError
from .._version import SYMPTOMS
from .abi import (
    IPPROTO_MPTCP,
    MPTCP_FULL_INFO,
    MPTCP_INFO,
    MPTCP_SUBFLOW_ADDRS,
    MPTCP_TCPINFO,
    SOL_MPTCP,
    ffi,
    lib,
    numbers,
)

REFUSED_TCP: int = lib.REFUSED_TCP
REFUSED_FALLBACK: int = lib.REFUSED_FALLBACK
REFUSED_OPTION: int = lib.REFUSED_OPTION

OPTION_NAMES = {
    MPTCP_INFO: "MPTCP_INFO",
    MPTCP_TCPINFO: "MPTCP_TCPINFO",
    MPTCP_SUBFLOW_ADDRS: "MPTCP_SUBFLOW_ADDRS",
    MPTCP_FULL_INFO: "MPTCP_FULL_INFO",
}
#: How often a read is tried if its buffer is too small because subflows are being added.
ATTEMPTS = 4
#: How often an MPTCP socket may refuse an option, because it may have been connected again in between.
TRIES: int = lib.MOST_REFUSALS

_ASKED: dict[int, str] = {getattr(lib, f"ASK_{name}"): name for name in numbers("ASK_")}


# Globals, because attributes of lib are looked up slowly, and TCP sockets may be asked every second.
_socket_ask, _mptcp_refusal = lib.socket_ask, lib.mptcp_refusal
_ASK_SO_ACCEPTCONN: int = lib.ASK_SO_ACCEPTCONN
_REFUSED_OTHER: int = lib.REFUSED_OTHER
_REFUSING = (-errno.EOPNOTSUPP, -errno.ENOPROTOOPT)


def _answer(fd: int, call: str, answer: int) -> int:
    """The result of socket_ask() and similar functions, or the OSError of the option that failed."""
    if answer < 0:
        option, number = _ASKED[-answer >> 12], -answer & lib.MOST_ERRNO
        raise OSError(number, f"{call} on fd {fd}: {reason_of(number)} (getsockopt({option}))")
    return answer


def tcp_protocol(fd: int, call: str) -> int:
    """SO_PROTOCOL of a TCP or MPTCP socket: IPPROTO_TCP or IPPROTO_MPTCP. OSError for any other."""
    protocol = _answer(fd, call, lib.tcp_protocol(fd))
    if not protocol:
        raise OSError(errno.EOPNOTSUPP, f"{call} on fd {fd}: {_REFUSALS[_REFUSED_OTHER][1]}")
    return protocol


def refusal(fd: int, error: int, level: int = SOL_MPTCP) -> int:
    """Why an option was refused with error (-errno): REFUSED_TCP or similar; 0 if the errno says it all.

    Negative, as socket_ask(), if that cannot be determined.
    """
    return _mptcp_refusal(fd) if error in _REFUSING and level == SOL_MPTCP else 0


def tcp_refusal(fd: int, call: str, option: str, error: int, reason: int) -> int:
    """refusal() of a TCP or MPTCP socket: REFUSED_TCP, REFUSED_FALLBACK or REFUSED_OPTION.

    OSError for any other socket, and for any other error.
    """
    if error not in _REFUSING:
        tcp_protocol(fd, call)
        raise failure(fd, option, error)
    if _answer(fd, call, reason) == _REFUSED_OTHER:
        raise OSError(errno.EOPNOTSUPP, f"{call} on fd {fd}: {_REFUSALS[reason][1]}")
    return reason


def is_doubtful(reason: int, option: str, left: int) -> bool:
    """Whether to try once more, which may be done left - 1 times.

    The refusal and the question for its reason are two calls. If a socket that speaks MPTCP has refused,
    either this kernel lacks the option or the socket was connected again in between.
    """
    return reason == REFUSED_OPTION and left > 1 and _has_option(option) is not False


def again(fd: int, option: str, error: int, left: int) -> int:
    """left - 1 if the refusal is doubtful; otherwise raises its exception."""
    reason = refusal(fd, error)
    if is_doubtful(reason, option, left):
        return left - 1
    raise failure(fd, option, error, reason)


def _has_option(name: str) -> bool | None:
    """Whether this kernel knows an option, from a socket that is never connected; None if there is none."""
    number = {known: number for number, known in OPTION_NAMES.items()}.get(name)
    try:
        fresh = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    except OSError:
        return None
    with fresh:
        # The shortest answer is enough.
        size = ffi.new("int *", 0)
        error = lib.sockopt_get(fresh.fileno(), SOL_MPTCP, number or 0, ffi.new("uint64_t *"), size)
    return None if number is None else error not in _REFUSING


def speaks_mptcp(fd: int, call: str) -> bool:
    """TCP_IS_MPTCP of a TCP or MPTCP socket, on any kernel; see _errors.py. OSError for any other."""
    answer = _socket_ask(fd, lib.ASK_TCP_IS_MPTCP)
    if answer < 0:
        tcp_protocol(fd, call)
        answer = _answer(fd, call, lib.speaks_mptcp(fd))
    return bool(answer)


def listens(fd: int, call: str) -> bool:
    """SO_ACCEPTCONN. OSError if the kernel refuses it."""
    return _answer(fd, call, _socket_ask(fd, _ASK_SO_ACCEPTCONN)) != 0


def failure(fd: int, option: str, error: int, reason: int = 0) -> OSError:
    """The exception for a read of option that returned error.

    error: -errno, or 0 if the buffer was always too small. reason: see refusal().
    """
    if not error:
        why = f"subflows were added during each of {ATTEMPTS} reads"
        return OSError(errno.EAGAIN, f"getsockopt({option}) on fd {fd}: {why}")
    if reason < 0:
        return failed(fd, option, -reason & lib.MOST_ERRNO, -reason >> 12)
    if reason == REFUSED_OPTION and _has_option(option):
        why = f"it was connected again during each of {TRIES} reads"
        return OSError(errno.EAGAIN, f"getsockopt({option}) on fd {fd}: {why}")
    return failed(fd, option, -error, reason)


_REFUSALS: dict[int, tuple[type[OSError], str]] = {
    _REFUSED_OTHER: (OSError, "not a TCP or MPTCP socket"),
    REFUSED_TCP: (NotMPTCPError, "this is a plain TCP socket"),
    REFUSED_FALLBACK: (NotMPTCPError, "this MPTCP socket fell back to TCP"),
    REFUSED_OPTION: (UnsupportedOptionError, "this kernel lacks the option"),
    lib.ANOTHER_CONNECTION: (OSError, "it belongs to another connection now"),
}


# What a traceback shows below the message: where to read on.
_NOTES = {
    REFUSED_TCP: f"See {SYMPTOMS}#errno-95",
    REFUSED_FALLBACK: f"See {SYMPTOMS}#errno-95",
    REFUSED_OPTION: f"See {SYMPTOMS}#unsupported-option",
}


def reason_of(number: int) -> str:
    """An errno in words. EPROTO is our own: the kernel refuses none of these options with it."""
    return "the kernel's answer is out of bounds" if number == errno.EPROTO else os.strerror(number)


def failed(fd: int, option: str, number: int, refusal: int = 0) -> OSError:
    """The exception for an errno and the reason of the refusal, as in socket_rows."""
    kind, reason = _REFUSALS.get(refusal) or (OSError, reason_of(number))
    if refusal in _ASKED:
        reason = f"refused for an unknown reason: getsockopt({_ASKED[refusal]}): {reason}"
    problem = kind(number, f"getsockopt({option}) on fd {fd}: {reason}")
    if isinstance(problem, MPTCPError):
        problem.option = option
        problem.__notes__ = [_NOTES[refusal]]
    return problem
