# SPDX-License-Identifier: MIT
"""From whatever a user may pass as a socket to its file descriptor."""

from __future__ import annotations

_INT_MAX = 2**31 - 1


def descriptor(sock: object) -> int:
    """The descriptor of sock: an int, an object with fileno(), or an asyncio transport or StreamWriter.

    TypeError for anything else, including bool; ValueError for a closed object or an invalid number.
    """
    if isinstance(sock, int) and not isinstance(sock, bool):
        fd: object = sock
    elif hasattr(sock, "fileno"):
        fd = sock.fileno()
    elif hasattr(sock, "get_extra_info"):
        inner = sock.get_extra_info("socket")
        if inner is None:
            raise ValueError(f"this {type(sock).__name__} has no socket: it is closed or never had one")
        fd = inner.fileno()
    else:
        raise TypeError(f"expected a socket or a file descriptor, not {type(sock).__name__}")
    return checked(sock, fd)


def checked(sock: object, fd: object) -> int:
    """fd, which sock.fileno() returned, if it is a valid descriptor. Raises as descriptor()."""
    if not isinstance(fd, int) or isinstance(fd, bool):
        raise TypeError(f"fileno() of {type(sock).__name__} returned {type(fd).__name__}, not an int")
    if 0 <= fd <= _INT_MAX:
        return int(fd)
    if fd == -1 and not isinstance(sock, int):
        raise ValueError(f"this {type(sock).__name__} is closed: its fileno() is -1")
    raise ValueError(f"{fd} is not a file descriptor")
