# SPDX-License-Identifier: MIT
"""The only importer of the compiled module: the kernel's numbers, and its layouts by reflection."""

from __future__ import annotations

import struct

from .._version import __version__

try:
    from _mptcp_sockopt import ffi as ffi
    from _mptcp_sockopt import lib as lib
except ImportError as error:
    raise ImportError(
        f"mptcp_sockopt needs its compiled module _mptcp_sockopt: install the package on Linux ({error})",
        name=error.name,
    ) from error

_compiled_version = ffi.string(lib.mptcp_sockopt_version()).decode()
if _compiled_version != __version__:
    raise ImportError(
        f"mptcp_sockopt {__version__} found a compiled module of version {_compiled_version}: "
        "one of them is from another checkout or an older install; install again (pip install .)",
        name="_mptcp_sockopt",
    )

# From the header, through the C compiler: option numbers, flags, states.
IPPROTO_MPTCP: int = lib.IPPROTO_MPTCP
SOL_MPTCP: int = lib.SOL_MPTCP
MPTCP_INFO: int = lib.MPTCP_INFO
MPTCP_TCPINFO: int = lib.MPTCP_TCPINFO
MPTCP_SUBFLOW_ADDRS: int = lib.MPTCP_SUBFLOW_ADDRS
MPTCP_FULL_INFO: int = lib.MPTCP_FULL_INFO
TCP_IS_MPTCP: int = lib.TCP_IS_MPTCP
LEAST_MPTCP_INFO: int = lib.LEAST_MPTCP_INFO
MPTCP_INFO_ROOM: int = lib.MPTCP_INFO_ROOM
MOST_STATE: int = lib.MOST_STATE


def numbers(prefix: str) -> dict[str, int]:
    """The header's constants whose names begin with prefix; names without it."""
    return {name[len(prefix) :]: getattr(lib, name) for name in dir(lib) if name.startswith(prefix)}


# ---------------------------------------------------------------------------------------------- layouts


class Place:
    """Where a field lies in its struct. A bit-field is size bytes at offset, shifted and masked."""

    __slots__ = ("mask", "offset", "shift", "size")

    def __init__(self, offset: int, size: int, shift: int = 0, mask: int = 0) -> None:
        self.offset = offset
        self.size = size
        self.shift = shift
        self.mask = mask

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def format(self) -> str:
        """Format for the struct module, in native byte order, like the kernel's."""
        return "=" + {1: "B", 2: "H", 4: "I", 8: "Q"}[self.size]


def layout(struct_name: str, prefix: str = "") -> dict[str, Place]:
    """The fields of a C struct whose names begin with prefix, in order; names without it."""
    return {
        name[len(prefix) :]: Place(
            field.offset,
            ffi.sizeof(field.type),
            *((field.bitshift, (1 << field.bitsize) - 1) if field.bitshift >= 0 else ()),
        )
        for name, field in ffi.typeof(f"struct {struct_name}").fields
        if name.startswith(prefix)
    }


def packed(*places: Place) -> struct.Struct:
    """A Struct for adjacent fields."""
    return struct.Struct("=" + "".join(place.format[1:] for place in places))


def in_words(size: int) -> int:
    """The number of 64-bit words that hold size bytes."""
    return (size + 7) // 8
