# SPDX-License-Identifier: MIT
"""SIOCOUTQ of a listener: MPTCP says that it succeeded, and that -22 bytes are queued."""

import fcntl
import struct

from reproduce import listening, reproduce

SIOCOUTQ = 0x5411


def once(protocol):
    try:
        (queued,) = struct.unpack("i", fcntl.ioctl(listening(protocol), SIOCOUTQ, bytes(4)))
    except OSError as error:
        return f"refused: {error.strerror}", False
    return f"{queued} bytes", queued < 0


if __name__ == "__main__":
    reproduce(once)
