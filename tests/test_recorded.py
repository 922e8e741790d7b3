# SPDX-License-Identifier: MIT
"""Bytes that real kernels wrote, decoded on any machine to what their own machine made of them.

tests/vectors/ARCH-SERIES.json holds, for each kernel of tests/kernels, the bytes of every option in the byte
order of that kernel, on a connection of two subflows, and the values that this package decoded there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp

RECORDINGS = {
    path.stem: json.loads(path.read_text()) for path in Path(__file__).parent.glob("vectors/*.json")
}
VIEWS: dict[str, Any] = {
    "mptcp_info": mp.MPTCPInfo,
    "tcp_info": mp.TCPInfo,
    "mptcp_tcpinfo": mp.TCPInfo,
    "mptcp_subflow_addrs": mp.SubflowAddrs,
    "mptcp_full_info": mp.MPTCPFullInfo,
}
OTHER = {"little": "big", "big": "little"}


def structs(recording: dict[str, Any]) -> Iterator[tuple[str, bytes, Any]]:
    """Name, bytes and values of every struct in a recording."""
    for name in VIEWS:
        found = recording.get(name, [])
        for one in found if isinstance(found, list) else [found]:
            yield name, bytes.fromhex(one["raw"]), one["values"]


def holds(found: Any, recorded: Any) -> bool:
    """Whether all that was recorded is there; what this package decodes since then may be there too."""
    if isinstance(recorded, dict):
        return all(name in found and holds(found[name], value) for name, value in recorded.items())
    if isinstance(recorded, list):
        return len(found) == len(recorded) and all(map(holds, found, recorded))
    return bool(found == recorded)


def decoded(name: str, raw: bytes, byteorder: str) -> Any:
    """As JSON has it: tuples are lists."""
    return json.loads(json.dumps(VIEWS[name](raw, byteorder=byteorder).asdict()))


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_every_kernel_s_bytes_mean_here_what_they_meant_there(name: str) -> None:
    """Of either byte order, of 32 and of 64 bits."""
    recording = RECORDINGS[name]
    found = list(structs(recording))
    assert len(found) >= 6
    for kind, raw, values in found:
        assert holds(decoded(kind, raw, recording["byteorder"]), values)
        if recording["byteorder"] == sys.byteorder:
            assert VIEWS[kind](raw) == VIEWS[kind](raw, byteorder=sys.byteorder) == raw


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_the_wrong_byte_order_is_refused(name: str) -> None:
    """Whether it is said, or said by saying nothing."""
    order = RECORDINGS[name]["byteorder"]
    for kind, raw, _ in structs(RECORDINGS[name]):
        with pytest.raises(ValueError, match="of the other byte order"):
            VIEWS[kind](raw, byteorder=OTHER[order])
        if order != sys.byteorder:
            with pytest.raises(ValueError, match="of the other byte order"):
                VIEWS[kind](raw)


def test_the_recordings_are_of_many_kinds() -> None:
    """Both byte orders, 32 and 64 bits, all lengths that the kernels which can be booted have."""
    everything = list(RECORDINGS.values())
    assert {recording["byteorder"] for recording in everything} == {"little", "big"}
    assert {recording["bits"] for recording in everything} == {32, 64}
    lengths: dict[str, set[int]] = {}
    for recording in everything:
        for kind, raw, _ in structs(recording):
            lengths.setdefault(kind, set()).add(len(raw))
    assert lengths["mptcp_info"] >= {44, 48, 80, 96}
    assert lengths["tcp_info"] >= {232, 240, 248, 280}
    elements = {
        int.from_bytes(raw[8:12], recording["byteorder"])
        for recording in everything
        for kind, raw, _ in structs(recording)
        if kind == "mptcp_full_info"
    }
    assert elements == {260, 264}


def test_two_subflows_were_recorded() -> None:
    """From 127.0.0.1 and 127.0.0.2, live, with the payload that went over them."""
    for name, recording in RECORDINGS.items():
        hosts = [one["values"]["local"][0] for one in recording["mptcp_subflow_addrs"]]
        assert hosts == ["127.0.0.1", "127.0.0.2"], name
        assert [one["values"]["state"] for one in recording["mptcp_tcpinfo"]] == [mp.TCPState.ESTABLISHED] * 2
        assert recording["mptcp_info"]["values"]["subflows"] == 1
