# SPDX-License-Identifier: MIT
"""The border: layouts, descriptors, buffers that grow."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import _abi

from .support import LOOPBACK, exchange, mptcp_pair
from .vectors import MPTCP_INFO, TCP_INFO

ROOT = Path(__file__).parent.parent


def test_the_reflected_layout_is_the_kernel_s() -> None:
    """Offsets and sizes against the tables typed by hand."""
    for struct, prefix, rows in (("mptcp_info", "mptcpi_", MPTCP_INFO), ("tcp_info", "tcpi_", TCP_INFO)):
        places = _abi.layout(struct, prefix)
        for name, offset, size, *_ in rows:
            assert (places[name].offset, places[name].size) == (offset, size), name


def test_numbers_are_the_kernel_s() -> None:
    """Once more by hand, from <linux/mptcp.h>, <linux/in.h> and <linux/tcp.h>."""
    assert (mp.IPPROTO_MPTCP, mp.SOL_MPTCP) == (262, 284)
    options = (mp.MPTCP_INFO, mp.MPTCP_TCPINFO, mp.MPTCP_SUBFLOW_ADDRS, mp.MPTCP_FULL_INFO)
    assert options == (1, 2, 3, 4)
    assert mp.TCP_IS_MPTCP == 43


@pytest.mark.parametrize("word_size", ["-m64", "-m32"])
def test_static_asserts_hold(word_size: str, tmp_path: Path) -> None:
    """On 64 and on 32 bits alike."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler")
    if platform.machine() not in ("x86_64", "i686"):
        word_size = "-std=gnu11"  # this compiler makes one size only
    source = tmp_path / "asserts.c"
    source.write_text('#include "mptcp_abi_assert.h"\nint nothing;\n')
    command = [compiler, word_size, "-ffreestanding", "-fsyntax-only", "-Wall", "-Werror", f"-I{ROOT}/csrc"]
    subprocess.run([*command, str(source)], check=True, timeout=60)
    wrong = tmp_path / "wrong.c"
    wrong.write_text(source.read_text() + '_Static_assert(sizeof(struct mptcp_info) == 95, "");\n')
    assert subprocess.run([*command, str(wrong)], capture_output=True, check=False, timeout=60).returncode


def test_a_descriptor_comes_from_many_things(mptcp_ends: tuple[socket.socket, socket.socket]) -> None:
    """An int, a subclass of it, a socket, anything with fileno()."""
    client, _ = mptcp_ends
    fd = client.fileno()

    class Handle:
        def fileno(self) -> int:
            return fd

    number = enum.IntEnum("number", {"FD": fd})
    info = mp.mptcp_info(client)
    for sock in (fd, number["FD"], Handle()):
        assert mp.mptcp_info(sock).token == info.token
        assert mp.status(sock) is mp.Status.MPTCP
        assert len(mp.mptcp_tcpinfo(sock)) == len(mp.mptcp_full_info(sock).subflows)


def test_a_descriptor_comes_from_asyncio(mptcp: None) -> None:
    """Transports and stream writers, until they are closed."""

    async def ask() -> None:
        with mp.create_server(("127.0.0.1", 0), fallback=False) as server:
            sock = mp.create_connection(server.getsockname(), fallback=False)
            _, writer = await asyncio.open_connection(sock=sock)
            assert mp.status(writer) is mp.Status.MPTCP
            assert mp.mptcp_info(writer.transport).token == mp.mptcp_info(sock).token
            writer.close()
            await writer.wait_closed()
            with pytest.raises(ValueError, match="closed"):
                mp.mptcp_info(writer)

    asyncio.run(ask())


FUNCTIONS: list[Any] = [
    mp.mptcp_info,
    mp.mptcp_tcpinfo,
    mp.mptcp_subflow_addrs,
    mp.mptcp_full_info,
    mp.is_mptcp,
    mp.status,
    mp.snapshot,
    lambda sock: mp.getsockopt_into(sock, mp.SOL_MPTCP, mp.MPTCP_INFO, bytearray(96)),
]


@pytest.mark.parametrize("read", FUNCTIONS)
@pytest.mark.parametrize("wrong", [None, True, False, "3", b"3", 3.0, [], object(), socket.socket])
def test_a_wrong_type_is_a_type_error(read: Any, wrong: object) -> None:
    """bool is one too: True is no descriptor."""
    with pytest.raises(TypeError):
        read(wrong)


@pytest.mark.parametrize("read", FUNCTIONS)
def test_a_closed_or_negative_one_is_a_value_error(read: Any, tmp_path: Path) -> None:
    """Before the kernel is asked, and it says which."""
    with pytest.raises(ValueError, match="-1 is not a file descriptor"):
        read(-1)
    with pytest.raises(ValueError, match="is not a file descriptor"):
        read(2**40)
    sock = socket.socket()
    sock.close()
    with pytest.raises(ValueError, match="this socket is closed"):
        read(sock)
    file = open(tmp_path / "file", "w")  # noqa: SIM115  # its being closed is the point
    file.close()
    with pytest.raises(ValueError, match="closed"):
        read(file)


def test_fileno_that_gives_nonsense_is_a_type_error() -> None:
    """As the standard library has it."""

    class Handle:
        def fileno(self) -> str:
            return "3"

    for read in FUNCTIONS:
        with pytest.raises(TypeError):
            read(Handle())


def test_arrays_grow_until_all_subflows_fit(
    mptcp_ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first buffer without room for one element is not the last."""
    client, server = mptcp_ends
    exchange(client, server)
    tcp_infos, addresses = mp.mptcp_tcpinfo(client), mp.mptcp_subflow_addrs(client)
    small: list[Any] = []
    monkeypatch.setattr(_abi, "_BUFFER_SIZE", 300)  # room for a header, and for none of the elements
    monkeypatch.setattr(_abi, "_free", small)
    monkeypatch.setattr(_abi, "_pop", small.pop)
    monkeypatch.setattr(_abi, "_push", small.append)
    assert [path.bytes_sent for path in mp.mptcp_tcpinfo(client)] == [path.bytes_sent for path in tcp_infos]
    assert mp.mptcp_subflow_addrs(client) == addresses
    full = mp.mptcp_full_info(client)
    assert tuple(path.addrs for path in full.subflows) == addresses
    assert full.num_subflows == len(tcp_infos)
    assert [len(view) for _, view in small] == [304]  # one, used thrice; the grown ones were not kept


def test_full_info_has_no_address_of_this_process(mptcp_ends: tuple[socket.socket, socket.socket]) -> None:
    """The two user pointers in the header are zeroed, so equal states compare equal."""
    raw = mp.mptcp_full_info(mptcp_ends[0]).raw
    assert raw[24:40] == bytes(16)


def test_threads_never_mix_their_buffers(mptcp: None) -> None:
    """Each thread reads its own connection, all at once."""
    problems: list[str] = []

    def read(sock: socket.socket) -> None:
        token, names = mp.mptcp_info(sock).token, (sock.getsockname(), sock.getpeername())
        for _ in range(2000):
            full = mp.mptcp_full_info(sock)
            if not (mp.mptcp_info(sock).token == token == full.info.token):
                problems.append("another connection's token")
            for addresses in (*mp.mptcp_subflow_addrs(sock), full.subflows[0].addrs):
                if (addresses.local, addresses.remote) != names:
                    problems.append("another connection's addresses")

    with mptcp_pair(socket.AF_INET) as one, mptcp_pair(socket.AF_INET) as other:
        threads = [threading.Thread(target=read, args=(sock,)) for sock in (*one, *other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


def test_no_descriptor_is_left_open(family: int) -> None:
    """Whatever was asked, and whatever failed."""
    before = os.listdir("/proc/self/fd")
    with mptcp_pair(family) as (client, _), socket.socket(socket.AddressFamily(family)) as tcp:
        for sock in (client, tcp):
            for read in FUNCTIONS:
                with contextlib.suppress(OSError):
                    read(sock)
        mp.is_supported()
        with pytest.raises(ConnectionRefusedError):
            mp.create_connection((LOOPBACK[socket.AddressFamily(family)], 1), timeout=1)
        with pytest.raises(OSError, match="binding"):
            mp.create_server(("192.0.2.1", 1))
    assert os.listdir("/proc/self/fd") == before


def test_importing_is_cheap() -> None:
    """Nothing heavy comes along: the list of what is never imported for the main job."""
    heavy = {"dataclasses", "ctypes", "cffi", "numpy", "typing", "asyncio", "json"}
    code = "import socket, sys; was = set(sys.modules); import mptcp_sockopt; print(*set(sys.modules) - was)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert heavy & set(found.stdout.split()) == set()


def test_a_compiled_module_of_another_version_is_an_import_error(tmp_path: Path) -> None:
    """A checkout that shadows an older install says so, at once."""
    shutil.copytree(Path(mp.__file__).parent, tmp_path / "mptcp_sockopt")
    (tmp_path / "mptcp_sockopt" / "_version.py").write_text('__version__ = "9.9"\n')
    found = subprocess.run(
        [sys.executable, "-c", "import mptcp_sockopt"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert found.returncode == 1
    assert f"mptcp_sockopt 9.9 was found with a compiled module of {mp.__version__}" in found.stderr


def test_a_missing_compiled_module_is_an_import_error(tmp_path: Path) -> None:
    """In a sentence that says what to do."""
    (tmp_path / "_mptcp_sockopt.py").write_text("raise ImportError('planted')\n")
    shutil.copytree(Path(mp.__file__).parent, tmp_path / "mptcp_sockopt")
    found = subprocess.run(
        [sys.executable, "-c", "import mptcp_sockopt"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "mptcp_sockopt needs its compiled module _mptcp_sockopt: install the package" in found.stderr
