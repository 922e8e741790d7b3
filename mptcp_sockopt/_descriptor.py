# SPDX-License-Identifier: MIT
"""What users may pass as a socket, and its file descriptor."""

from __future__ import annotations

_INT_MAX = 2**31 - 1


def descriptor(sock: object) -> int:
    """The descriptor of an int, of anything with fileno(), or of an asyncio transport or StreamWriter.

    TypeError for anything else, bool included; ValueError for a closed object or a number that is none.
    """
    if isinstance(sock, int) and not isinstance(sock, bool):
        fd: object = sock
    elif hasattr(sock, "fileno"):
        fd = sock.fileno()
    elif hasattr(sock, "get_extra_info"):
        inner = sock.get_extra_info("socket")
        if inner is None:
            raise ValueError(f"this {type(sock).__name__} has no socket: it is closed, or never had one")
        fd = inner.fileno()
    else:
        raise TypeError(f"a socket or a file descriptor is needed, not {type(sock).__name__}")
    return checked(sock, fd)


def checked(sock: object, fd: object) -> int:
    """What fileno() of sock gave, if it is a descriptor; TypeError and ValueError as descriptor()."""
    if not isinstance(fd, int) or isinstance(fd, bool):
        raise TypeError(f"fileno() of {type(sock).__name__} gave {type(fd).__name__}, not an int")
    if 0 <= fd <= _INT_MAX:
        return int(fd)
    if fd == -1 and not isinstance(sock, int):
        raise ValueError(f"this {type(sock).__name__} is closed: its fileno() is -1")
    raise ValueError(f"{fd} is not a file descriptor")
