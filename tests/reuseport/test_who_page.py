# SPDX-License-Identifier: MIT
"""docs/who.md: each sample is what the command prints, but for numbers of processes and seconds."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import processes
from reuseport import _net
from reuseport.__main__ import COMMANDS, command_parser, main

from ..support import in_private_network, until

PAGE = Path(__file__).parents[2] / "docs" / "who.md"
PORT = 8080
V4 = socket.AF_INET
Reuse = _net.Reuse


def listen(
    host: str = "127.0.0.1", reuse: Reuse = Reuse.ADDR | Reuse.PORT, mptcp: bool = False
) -> socket.socket:
    return _net.bind((host, PORT), reuse, mptcp=mptcp, backlog=128)


@contextlib.contextmanager
def workers(*mptcp: bool) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for is_mptcp in mptcp:
            stack.enter_context(listen(mptcp=is_mptcp))
        yield


@contextlib.contextmanager
def closed(count: int) -> Iterator[None]:
    """Connections that the server has closed first, before it ended."""
    with listen(reuse=Reuse.ADDR) as server:
        for _ in range(count):
            with socket.create_connection(("127.0.0.1", PORT), 5) as client, server.accept()[0] as accepted:
                accepted.close()
                assert client.recv(1) == b""
    waits = mp.TCPState.TIME_WAIT
    until(lambda: len(processes.tcp_sockets(PORT, waits)) == len(processes.tcp_sockets(PORT)), "TIME_WAIT")
    yield


@contextlib.contextmanager
def held() -> Iterator[None]:
    with (
        closed(2),
        _net.listen(("127.0.0.1", 443)) as server,
        _net.bind(("127.0.0.2", PORT), Reuse.ADDR) as client,
        _net.bind(("127.0.0.3", PORT)),
    ):
        client.connect(_net.name(server))
        yield


@contextlib.contextmanager
def one(host: str, reuse: Reuse = Reuse.ADDR) -> Iterator[None]:
    with listen(host, reuse):
        yield


SAMPLES: tuple[Callable[[], contextlib.AbstractContextManager[None]], ...] = (
    lambda: workers(True, True),
    lambda: workers(True, False),
    held,
    lambda: closed(2),
    lambda: closed(2),
    lambda: one("0.0.0.0"),
    lambda: one("0.0.0.0", Reuse.PORT),
)


def samples() -> list[tuple[str, str]]:
    """Each command of the page, and what it prints."""
    return re.findall(r"```sh\n\$ reuseport (.*?)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def printed(number: int, command: str) -> str:
    def look() -> str:
        with open("/proc/self/comm", "w") as file:
            file.write("server")
        with SAMPLES[number](), contextlib.redirect_stdout(io.StringIO()) as out:
            main(shlex.split(command))
        return out.getvalue()

    return in_private_network(look)


def masked(text: str) -> str:
    """Without what differs each time. Longer numbers may break lines elsewhere."""
    text = re.sub(
        r"(pid )\d+|\b\d+( +server)( +\d+)?|(for )\d+( s\b)|(wait )\d+( s\b)", r"\1\2\4\5\6\7", text
    )
    return " ".join(text.split())


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_a_sample_is_what_is_printed(mptcp: None, number: int) -> None:
    """In a private network, where these sockets are the only ones."""
    command, text = samples()[number]
    assert masked(printed(number, command)) == masked(text)


def test_every_sample_is_tested() -> None:
    """And fits 80 columns."""
    assert len(samples()) == len(SAMPLES)
    assert [line for _, text in samples() for line in text.splitlines() if len(line) > 80] == []


def test_the_page_has_every_option_and_flag() -> None:
    """As --help has them."""
    page = PAGE.read_text(encoding="utf-8")
    (who,) = (command for command in COMMANDS if command.name == "who")
    told = command_parser(who).format_help()
    assert "TCP and MPTCP only" in told
    options = set(re.findall(r"--[a-z][a-z0-9-]*", told)) - {"--help", "--no-v6only"}
    assert {option for option in options if f"`{option}" not in page} == set()
    flags = set(re.findall(r"\b([A-Z][A-Z+-]{3,}): ", " ".join(told.split())))
    assert len(flags) >= 5
    assert {flag for flag in flags if flag not in page} == set()
