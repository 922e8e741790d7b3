# SPDX-License-Identifier: MIT
"""fchown() of a socket: on MPTCP it counts for SO_REUSEPORT only before the first setsockopt()."""

import os
import socket

from reproduce import listening, reproduce

from mptcp_sockopt.testing import Child, UnavailableError

NOBODY = 65534


def once(protocol):
    reading, writing = os.pipe()
    try:
        os.chown(reading, NOBODY, -1)
    except OSError as error:  # EPERM; or EINVAL in a user namespace that has one user only
        raise UnavailableError(error.errno, "this needs root, to become another user") from None

    def other_user():
        os.setresuid(NOBODY, NOBODY, NOBODY)
        listener = listening(protocol, reuseport=True)
        os.write(writing, str(listener.getsockname()[1]).encode())
        listener.accept()

    with Child(other_user), socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as sock:
        port = int(os.read(reading, 9))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        os.fchown(sock.fileno(), NOBODY, -1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError as error:
            return f"a socket given to the other user cannot share its port: {error.strerror}", True
    return "a socket given to the other user shares its port", False


if __name__ == "__main__":
    reproduce(once)
