# SPDX-License-Identifier: MIT
"""The border: layouts, descriptors, buffers that grow."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from _mptcp_sockopt import lib

import mptcp_sockopt as mp
from mptcp_sockopt._border import abi, sockopt

from .support import (
    FUNCTIONS,
    LOOPBACK,
    Missing,
    exchange,
    fallback_pair,
    has_full_info,
    mptcp_pair,
    run,
    tcp_pair,
    where_refused,
)
from .vectors import MPTCP_INFO, TCP_INFO

ROOT = Path(__file__).parent.parent


def test_the_reflected_layout_is_the_kernel_s() -> None:
    """Offsets and sizes against the tables typed by hand."""
    for struct, prefix, rows in (("mptcp_info", "mptcpi_", MPTCP_INFO), ("tcp_info", "tcpi_", TCP_INFO)):
        places = abi.layout(struct, prefix)
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
        raise Missing("no C compiler")
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
        assert len(mp.mptcp_tcpinfo(sock)) == len(mp.mptcp_subflow_addrs(sock)) == 1
    for sock in (fd, number["FD"], Handle()):
        assert mp.mptcp_full_info(sock).num_subflows == 1


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
    small_full: list[Any] = []
    monkeypatch.setattr(sockopt, "BUFFER_SIZE", 300)  # room for a header, and for none of the elements
    monkeypatch.setattr(sockopt, "_free", defaultdict(lambda: small))
    monkeypatch.setattr(sockopt, "_pop_full", small_full.pop)
    monkeypatch.setattr(sockopt, "_push_full", small_full.append)
    assert [path.bytes_sent for path in mp.mptcp_tcpinfo(client)] == [path.bytes_sent for path in tcp_infos]
    assert mp.mptcp_subflow_addrs(client) == addresses
    full = mp.mptcp_full_info(client)
    assert tuple(path.addrs for path in full.subflows) == addresses
    assert full.num_subflows == len(tcp_infos)
    # One of each, however often it was used; the grown ones were not kept.
    assert [len(buffer[1]) for buffer in small + small_full] == [304, 304]


@pytest.mark.parametrize("read", [mp.mptcp_tcpinfo, mp.mptcp_subflow_addrs])
def test_elements_that_do_not_fit_are_asked_for_again(
    read: Any, mptcp_ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: the kernel's count says how much room there must be, and some is added for newcomers."""
    found = read(mptcp_ends[0])
    sizes: list[int] = []
    new_buffer = sockopt._new_buffer

    def count_buffers(size: int) -> tuple[Any, memoryview]:
        sizes.append(size)
        assert len(sizes) <= 2, f"buffers of {sizes} bytes were not enough"
        return new_buffer(size)

    monkeypatch.setattr(sockopt, "BUFFER_SIZE", 64)
    monkeypatch.setattr(sockopt, "_free", defaultdict(list))
    monkeypatch.setattr(sockopt, "_new_buffer", count_buffers)
    assert len(read(mptcp_ends[0])) == len(found) == 1
    small, large = sizes
    assert small == 64 < 16 + 2 * len(found[0]) <= large


def test_nothing_is_cut_off(family: int) -> None:
    """An answer is as long as the kernel's struct: not shorter, and no longer, of whatever socket."""

    def length(sock: socket.socket, level: int, option: int) -> int:
        return len(sock.getsockopt(level, option, 1024))

    with mptcp_pair(family) as (mptcp, _), fallback_pair(family) as (fallen, _), tcp_pair(family) as (tcp, _):
        for sock in (mptcp, fallen, tcp):
            whole = length(sock, socket.SOL_TCP, socket.TCP_INFO)
            assert [len(path.tcp_info) for path in mp.snapshot(sock).subflows] == [whole]
        assert [len(tcp_info) for tcp_info in mp.mptcp_tcpinfo(mptcp)] == [whole]
        assert [len(addresses) for addresses in mp.mptcp_subflow_addrs(mptcp)] == [256]
        info = length(mptcp, mp.SOL_MPTCP, mp.MPTCP_INFO)
        assert len(mp.mptcp_info(mptcp)) == len(mp.mptcp_full_info(mptcp).info) == info


def test_there_is_room_for_fields_to_come() -> None:
    """More than the structs of Linux 7.1 take: 96, 280, 256 and 264 bytes."""
    rooms = (lib.MPTCP_INFO_ROOM, lib.TCP_INFO_ROOM, lib.SUBFLOW_ADDRS_ROOM, lib.SUBFLOW_INFO_ROOM)
    assert all(room >= size + 32 for room, size in zip(rooms, (96, 280, 256, 264), strict=True)), rooms


class Trampled(list[Any]):
    """A free list whose buffers are overwritten at once, as by another thread that takes them."""

    def append(self, buffer: Any) -> None:
        view = buffer[1]
        view[:] = b"\xee" * len(view)
        super().append(buffer)


@pytest.mark.parametrize("size", [8192, 300])
def test_a_buffer_is_given_back_after_it_was_read(
    size: int, mptcp_ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results do not change when another call takes the buffer; nor with one that was too small."""
    client, server = mptcp_ends
    exchange(client, server)
    token, names = mp.mptcp_info(client).token, (client.getsockname(), client.getpeername())
    free, free_info, free_full, free_tcp = Trampled(), Trampled(), Trampled(), Trampled()
    monkeypatch.setattr(sockopt, "BUFFER_SIZE", size)
    monkeypatch.setattr(sockopt, "_free", defaultdict(lambda: free, {"TCP_INFO": free_tcp}))
    for name, buffers in (("info", free_info), ("full", free_full)):
        monkeypatch.setattr(sockopt, f"_pop_{name}", buffers.pop)
        monkeypatch.setattr(sockopt, f"_push_{name}", buffers.append)
    for _ in range(2):  # with a new buffer, then with that one
        assert mp.mptcp_info(client).token == token
        full = mp.mptcp_full_info(client)
        assert full.info.token == token
        assert [(path.local, path.remote) for path in full.subflows] == [names]
        assert [path.tcp_info.state for path in full.subflows] == [mp.TCPState.ESTABLISHED]
        assert [(path.local, path.remote) for path in mp.mptcp_subflow_addrs(client)] == [names]
        assert [path.state for path in mp.mptcp_tcpinfo(client)] == [mp.TCPState.ESTABLISHED]
        assert sockopt.read_tcp_info(client.fileno(), mp.TCPInfo).state == mp.TCPState.ESTABLISHED
    assert [len(buffers) for buffers in (free, free_info, free_full, free_tcp)] == [1, 1, 1, 1]


def test_full_info_of_connections_that_take_turns(family: int) -> None:
    """An answer is as long as its own connection's, whatever the one before was."""
    with mptcp_pair(family) as (client, _), mp.create_socket(family, fallback=False) as fresh:
        found = [mp.mptcp_full_info(sock) for sock in (client, client, fresh, fresh, client)]
        assert [len(full.subflows) for full in found] == [1, 1, 0, 0, 1]
        assert {len(full.info) for full in found} == {len(mp.mptcp_info(client))}
        assert [full.subflows[0].remote for full in found if full.subflows] == [client.getpeername()] * 3


def test_an_answer_out_of_bounds_is_a_protocol_error(
    mptcp_ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words; said with a new buffer and with one that was used."""
    free: list[Any] = []
    monkeypatch.setattr(sockopt, "_pop_info", free.pop)
    monkeypatch.setattr(sockopt, "_push_info", free.append)
    monkeypatch.setattr(sockopt, "_get_info", lambda fd, pointer: -errno.EPROTO)
    for count in (0, 1):
        assert len(free) == count
        with pytest.raises(OSError, match=r"getsockopt\(MPTCP_INFO\).*answer is out of bounds") as caught:
            mp.mptcp_info(mptcp_ends[0])
        assert caught.value.errno == errno.EPROTO
    monkeypatch.setattr(sockopt, "_get_info", lambda fd, pointer: 40)
    assert len(mp.mptcp_info(mptcp_ends[0])) == 40


def test_the_number_of_a_protocol_is_not_enough() -> None:
    """Streams of another domain may number theirs as TCP does, as AF_SMC (43) might."""
    assert lib.tcp_protocol_of(socket.AF_INET6, socket.SOCK_STREAM, 6) == 6
    assert lib.tcp_protocol_of(socket.AF_INET, socket.SOCK_STREAM, 262) == 262
    assert lib.tcp_protocol_of(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) == 0
    assert lib.tcp_protocol_of(socket.AF_INET6, socket.SOCK_RAW, 6) == 0
    assert lib.tcp_protocol_of(43, socket.SOCK_STREAM, 6) == 0


def test_a_peer_is_absent_only_where_there_is_none() -> None:
    """ENOTCONN is the zero address; any other failure is raised, and told of the call that failed."""

    def names(sock: socket.socket) -> str:
        with pytest.raises(OSError, match="on fd") as caught:
            sockopt.read_names(sock.fileno(), mp.SubflowAddrs)
        assert caught.value.errno == errno.EPERM
        return str(caught.value)

    with socket.socket(socket.AF_INET6) as sock:
        assert sockopt.read_names(sock.fileno(), mp.SubflowAddrs).remote == ("::", 0, 0, 0)
        for call in ("getsockname", "getpeername"):
            said = where_refused([(call, {}, errno.EPERM)], lambda: names(sock))
            assert said.startswith(f"[Errno 1] {call}() on fd {sock.fileno()}: ")
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match=r"getsockname\(\)") as caught:
        sockopt.read_names(sock.fileno(), mp.SubflowAddrs)
    assert caught.value.errno == errno.EPROTO  # no Internet address


def test_full_info_has_no_address_of_this_process(mptcp_ends: tuple[socket.socket, socket.socket]) -> None:
    """The two user pointers in the header are zeroed, so equal states compare equal."""
    raw = mp.mptcp_full_info(mptcp_ends[0]).raw
    assert raw[24:40] == bytes(16)


def test_threads_never_mix_their_buffers(mptcp: None) -> None:
    """Two read each end of two connections, two are refused at a plain socket; all at once, for a second."""
    with_full_info = has_full_info()

    def read(sock: socket.socket) -> int:
        token, names, count = mp.mptcp_info(sock).token, (sock.getsockname(), sock.getpeername()), 0
        while not count or time.monotonic() < deadline:
            fulls, snapshot = [mp.mptcp_full_info(sock)] if with_full_info else [], mp.snapshot(sock)
            infos = [mp.mptcp_info(sock), snapshot.info, *(full.info for full in fulls)]
            assert {info and info.token for info in infos} == {token}
            paths = [path for full in fulls for path in full.subflows]
            addresses = [path.addrs for path in (*paths, *snapshot.subflows)]
            for ends in (*mp.mptcp_subflow_addrs(sock), *addresses):
                assert (ends.local, ends.remote) == names
            assert [tcp.state for tcp in mp.mptcp_tcpinfo(sock)] == [mp.TCPState.ESTABLISHED]
            count += 1
        return count

    def be_refused(sock: socket.socket) -> int:
        name, count = sock.getsockname(), 0
        while not count or time.monotonic() < deadline:
            for call in (mp.mptcp_info, mp.mptcp_full_info, mp.mptcp_tcpinfo, mp.mptcp_subflow_addrs):
                with pytest.raises(mp.NotMPTCPError, match=rf" fd {sock.fileno()}: "):
                    call(sock)
            assert [path.local for path in mp.snapshot(sock).subflows] == [name]
            count += 1
        return count

    interval = sys.getswitchinterval()
    with mptcp_pair(socket.AF_INET) as one, mptcp_pair(socket.AF_INET) as other, socket.socket() as plain:
        work = [(read, sock) for sock in (*one, *other)] + [(be_refused, plain)]
        deadline = time.monotonic() + 1
        sys.setswitchinterval(1e-5)
        try:
            with ThreadPoolExecutor(2 * len(work)) as threads:
                counts = [threads.submit(task, sock) for task, sock in 2 * work]
        finally:
            sys.setswitchinterval(interval)
        assert all(count.result() for count in counts)


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")
def test_importing_leaves_the_gil_off() -> None:
    """A module that does not say that it can do without switches it on again, for everybody."""
    code = "import sys, mptcp_sockopt; sys.exit(sys._is_gil_enabled())"
    done = run(sys.executable, "-W", "error", "-c", code, cwd=ROOT)
    assert done.returncode == 0, done.stderr


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
    # Compiled files may be such as are never compared with their sources.
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(mp.__file__).parent, tmp_path / "mptcp_sockopt", ignore=without)
    (tmp_path / "mptcp_sockopt" / "_version.py").write_text('__version__ = "9.9"\n')
    found = subprocess.run(
        [sys.executable, "-c", "import mptcp_sockopt"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert found.returncode == 1
    assert f"mptcp_sockopt 9.9 found a compiled module of version {mp.__version__}" in found.stderr


def test_a_missing_compiled_module_is_an_import_error(tmp_path: Path) -> None:
    """In a sentence that says what to do."""
    (tmp_path / "_mptcp_sockopt.py").write_text("raise ImportError('planted')\n")
    shutil.copytree(Path(mp.__file__).parent, tmp_path / "mptcp_sockopt")
    found = subprocess.run(
        [sys.executable, "-c", "import mptcp_sockopt"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "mptcp_sockopt needs its compiled module _mptcp_sockopt: install the package" in found.stderr
