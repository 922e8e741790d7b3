# SPDX-License-Identifier: MIT
"""What a Sample and a dump give as a whole: columns, asdict(), tables."""

from __future__ import annotations

import json
import socket
import struct

import pytest

import mptcp_sockopt as mp

from .support import has_full_info, inode, mptcp_pair, tcp_pair
from .vectors import MPTCP_INFO_LENGTH as LENGTH
from .vectors import pattern

ROWS = b"".join(bytes([2, state]) + bytes(70) + pattern(LENGTH) for state in (1, 7))


@pytest.mark.parametrize("full", [False, True])
def test_columns_of_a_sample(mptcp: None, full: bool) -> None:
    """Every field that this kernel reports, as column() gives it."""
    if full and not has_full_info():
        full = False
    with mptcp_pair(socket.AF_INET) as (client, server), tcp_pair(socket.AF_INET) as (plain, _):
        sample = mp.Sampler([client, server, plain], full=full).sample()
        columns = sample.columns()
        info = mp.mptcp_info(client)
        there = {name for name in info.fields if getattr(info, name) is not None}
        assert columns.keys() == (there | {"num_subflows"} if full else there)
        assert {name: column.tolist() for name, column in columns.items()} == {
            name: sample.column(name).tolist() for name in columns
        }
        assert columns["token"].tolist() == [mp.mptcp_info(client).token, mp.mptcp_info(server).token, 0]


def test_columns_of_a_sample_of_an_older_kernel() -> None:
    """What it does not report is not among them: as of Linux 5.16, whose mptcp_info has 48 bytes."""
    ints = struct.pack("=3i", 48, 0, 0)
    columns = mp.Sample(False, (3,), 1, LENGTH, memoryview(pattern(LENGTH) + ints)).columns()
    assert columns.keys() == {name for name, field in mp.MPTCPInfo.fields.items() if field.needed <= 48}
    assert "bytes_sent" not in columns
    assert columns["token"].tolist() == [mp.MPTCPInfo(pattern(48)).token]


def test_a_sample_as_a_dict_is_json(mptcp: None) -> None:
    """A row that failed is None, beside its errno."""
    with mptcp_pair(socket.AF_INET) as (client, _), tcp_pair(socket.AF_INET) as (plain, _):
        sample = mp.Sampler([client, plain]).sample()
        found = json.loads(json.dumps(sample.asdict(clean=True)))
        assert found["fds"] == [client.fileno(), plain.fileno()]
        assert found["rows"][0]["token"] == mp.mptcp_info(client).token
        assert (found["rows"][1], found["errnos"]) == (None, [0, mp_errno(plain)])
        assert found["time"] == sample.time
        title, head, units, one, two = str(sample).splitlines()
        assert title == repr(sample)
        assert (head.split()[0], head.split()[-1], units.split()[-1]) == ("fd", "failure", "bytes")
        assert one.split()[:2] == [str(client.fileno()), str(found["rows"][0]["token"])]
        assert two.split()[:6] == [str(plain.fileno()), *["-"] * 5]
        assert two.endswith("this is a plain TCP socket")


def mp_errno(sock: socket.socket) -> int:
    with pytest.raises(mp.NotMPTCPError) as caught:
        mp.mptcp_info(sock)
    assert caught.value.errno is not None
    return caught.value.errno


def test_columns_of_a_dump() -> None:
    """Of the socket's fields and of the connection's; a field that the kernel lacks is not among them."""
    found = mp.MPTCPDiag(5, LENGTH, ROWS)
    columns = found.columns()
    assert columns.keys() == {*mp.MPTCPDiagMsg.fields, *mp.MPTCPInfo.fields}
    assert columns["state"].tolist() == [1, 7]
    assert [type(state) for state in columns["state"]] == [int, int]
    assert columns["token"].tolist() == [row.info.token for row in found]
    shorter = mp.MPTCPDiag(5, 48, bytes(2 * 120)).columns()
    assert "bytes_sent" not in shorter
    assert shorter["token"].tolist() == [0, 0]


def test_a_dump_as_a_dict_is_json() -> None:
    found = mp.MPTCPDiag(5, LENGTH, ROWS, "why")
    as_dict = json.loads(json.dumps(found.asdict(clean=True)))
    assert (as_dict["time"], as_dict["missing"], len(as_dict["rows"])) == (5, "why", 2)
    assert as_dict["rows"][0]["state"] == 1
    assert as_dict["rows"][0]["info"]["token"] == found[0].info.token
    title, head, _, one, two = str(found).splitlines()
    assert title == repr(found) == "<MPTCPDiag of 2 sockets, time 5, missing: why>"
    assert head.split()[:5] == ["local", "remote", "state", "fallback", "inode"]
    assert one.split()[2:4] == ["ESTABLISHED", str(found[0].fallback)]
    assert two.split()[2] == "CLOSE"
    assert len(str(mp.MPTCPDiag(5, LENGTH, b"")).splitlines()) == 3


def test_a_dump_of_this_namespace_as_a_table(mptcp: None) -> None:
    """A line for each socket."""
    with mptcp_pair(socket.AF_INET) as (client, _):
        found = mp.mptcp_diag()
        lines = str(found).splitlines()
        assert len(lines) == 3 + len(found)
        assert [line.split()[4] for line in lines if line.split()[4:5] == [str(inode(client))]]


@pytest.mark.parametrize("kind", ["socket", "number", "file"])
def test_a_sampler_takes_sockets_and_not_a_socket(kind: str) -> None:
    """Its message says what to write; a file, which can be iterated, is one socket too."""
    with socket.socket() as sock, sock.makefile() as file:
        one = {"socket": sock, "number": sock.fileno(), "file": file}[kind]
        with pytest.raises(
            TypeError, match=r"takes an iterable of sockets, not one \w+: Sampler\(\[sock\]\)"
        ):
            mp.Sampler(one)  # type: ignore[call-overload]
