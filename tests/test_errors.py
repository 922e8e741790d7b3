# SPDX-License-Identifier: MIT
"""Every row of the review of errnos in mptcp_sockopt/_errors.py, on this kernel."""

from __future__ import annotations

import errno
import os
import pickle
import socket
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp

from .support import fallback_pair, in_private_network, reset

OPTIONS: dict[Any, str] = {
    mp.mptcp_info: "MPTCP_INFO",
    mp.mptcp_tcpinfo: "MPTCP_TCPINFO",
    mp.mptcp_subflow_addrs: "MPTCP_SUBFLOW_ADDRS",
    mp.mptcp_full_info: "MPTCP_FULL_INFO",
}
ALL: list[Any] = [*OPTIONS, mp.is_mptcp, mp.status, mp.snapshot]
Pair = tuple[socket.socket, socket.socket]


def refusal(family: int) -> int:
    """The kernel's errno for "not MPTCP": one meaning, two numbers."""
    return errno.EOPNOTSUPP if family == socket.AF_INET else errno.ENOPROTOOPT


@pytest.mark.parametrize("read", OPTIONS)
def test_plain_tcp_is_not_mptcp(read: Any, tcp_ends: Pair, family: int) -> None:
    """Both ends, and the message says so."""
    for sock in tcp_ends:
        with pytest.raises(mp.NotMPTCPError, match="plain TCP") as caught:
            read(sock)
        assert caught.value.errno == refusal(family)
        assert caught.value.option == OPTIONS[read]
        assert f"getsockopt({OPTIONS[read]}) on fd {sock.fileno()}" in str(caught.value)


@pytest.mark.parametrize("read", OPTIONS)
def test_fallen_back_is_not_mptcp(read: Any, fallback_ends: Pair, family: int) -> None:
    """And told apart from a socket that always was TCP, such as its peer."""
    client, accepted = fallback_ends
    with pytest.raises(mp.NotMPTCPError, match="fell back to TCP") as caught:
        read(client)
    assert caught.value.errno == refusal(family)
    with pytest.raises(mp.NotMPTCPError, match="plain TCP"):
        read(accepted)


def test_an_unknown_option_is_unsupported(mptcp_ends: Pair) -> None:
    """It is an MPTCP socket, and the kernel lacks the option."""
    with pytest.raises(mp.UnsupportedOptionError, match="this kernel lacks the option") as caught:
        mp.getsockopt_into(mptcp_ends[0], mp.SOL_MPTCP, 100, bytearray(8))
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("level", [socket.SOL_SOCKET, socket.SOL_TCP])
def test_options_of_other_levels_say_nothing_of_mptcp(level: int, tcp_ends: Pair) -> None:
    """What TCP does not know is a plain OSError, on a plain TCP socket too."""
    with pytest.raises(OSError) as caught:
        mp.getsockopt_into(tcp_ends[0], level, 9999, bytearray(8))
    assert type(caught.value) is OSError
    assert caught.value.errno == errno.ENOPROTOOPT


def test_the_family_of_exceptions() -> None:
    """Everything is an OSError; one except clause catches ours."""
    assert issubclass(mp.NotMPTCPError, mp.MPTCPError)
    assert issubclass(mp.UnsupportedOptionError, mp.MPTCPError)
    assert issubclass(mp.MPTCPError, OSError)
    assert not issubclass(mp.NotMPTCPError, mp.UnsupportedOptionError)


def test_exceptions_pickle(mptcp: None) -> None:
    """With errno, sentence and option."""
    with fallback_pair(socket.AF_INET) as (client, _), pytest.raises(mp.NotMPTCPError) as caught:
        mp.mptcp_info(client)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.errno, again.option, str(again)) == (
        mp.NotMPTCPError,
        caught.value.errno,
        "MPTCP_INFO",
        str(caught.value),
    )


@pytest.mark.parametrize("read", ALL)
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM),
        (socket.AF_INET6, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_STREAM),
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_NETLINK, socket.SOCK_RAW),
    ],
)
def test_other_sockets_are_plain_os_errors(read: Any, family: int, kind: int) -> None:
    """UDP, unix, netlink: never "fell back"."""
    with socket.socket(family, kind) as sock, pytest.raises(OSError) as caught:
        read(sock)
    assert not isinstance(caught.value, mp.MPTCPError)
    assert caught.value.errno in (errno.EOPNOTSUPP, errno.ENOPROTOOPT)
    assert "not a TCP or MPTCP socket" in str(caught.value)


def test_raw_sockets_of_the_same_number_are_plain_os_errors() -> None:
    """socket(AF_INET, SOCK_RAW, 262) is no MPTCP socket, though SO_PROTOCOL says 262."""

    def ask() -> list[str]:
        problems = []
        for family in (socket.AF_INET, socket.AF_INET6):
            with socket.socket(family, socket.SOCK_RAW, mp.IPPROTO_MPTCP) as sock:
                for read in ALL:
                    try:
                        problems.append(f"{read.__name__}() answered {read(sock)}")
                    except mp.MPTCPError as error:
                        problems.append(repr(error))
                    except OSError:
                        pass
        return problems

    assert in_private_network(ask) == []


@pytest.mark.parametrize("read", ALL)
def test_what_is_no_socket(read: Any, tmp_path: Path) -> None:
    """Pipes, regular files, directories: ENOTSOCK. Descriptors that are not open: EBADF."""
    call = f"getsockopt({OPTIONS[read]})" if read in OPTIONS else f"{read.__name__}()"
    pipe = os.pipe()
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    folder = os.open(tmp_path, os.O_RDONLY)
    for fd in (*pipe, file, folder):
        with pytest.raises(OSError) as caught:
            read(fd)
        assert caught.value.errno == errno.ENOTSOCK
        assert f"{call} on fd {fd}: " in str(caught.value)
        os.close(fd)
        with pytest.raises(OSError) as caught:
            read(fd)
        assert caught.value.errno == errno.EBADF
        assert f"{call} on fd {fd}: " in str(caught.value)


def test_a_reset_before_data_looks_like_fallback_to_the_kernel_too(mptcp_ends: Pair, family: int) -> None:
    """SO_LINGER 0 right after accept(): the client's kernel gives up MPTCP, and so do we."""
    client, accepted = mptcp_ends
    reset(accepted, client)
    assert mp.status(client) is mp.Status.FALLBACK
    with pytest.raises(mp.NotMPTCPError, match="fell back"):
        mp.mptcp_info(client)
