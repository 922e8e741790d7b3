# SPDX-License-Identifier: MIT
"""Hand a listener to an unrelated process: SCM_RIGHTS over a unix socket."""

from __future__ import annotations

import os
import socket
import struct

from .._net import receive_fds


def offer(address: str) -> socket.socket:
    """A unix socket from which any process of this user may fetch a listener; abstract with a leading NUL."""
    door = socket.socket(socket.AF_UNIX)
    door.bind(address)
    door.listen(1)
    return door


def hand_over(door: socket.socket, listener: socket.socket) -> bool:
    """Accept one process at the door and send it the listener; False if it is another user's, or has gone."""
    visitor, _ = door.accept()
    with visitor:
        _, uid, _ = struct.unpack("=iII", visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            return False
        try:
            socket.send_fds(visitor, [b"L"], [listener.fileno()])
        except ConnectionError:
            return False
    return True


def fetch(address: str, timeout: float) -> socket.socket:
    """The listener that is offered at address."""
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(timeout)
        visitor.connect(address)
        data, descriptors = receive_fds(visitor, 1, 1)
    if data != b"L" or len(descriptors) != 1:
        for fd in descriptors:
            os.close(fd)
        raise ConnectionError("no listener was handed over")
    return socket.socket(fileno=descriptors[0])
