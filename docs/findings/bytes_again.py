# SPDX-License-Identifier: MIT
"""A middlebox begins to strip MPTCP options: the receiver gets bytes again and again, without an error."""

import contextlib
import socket
import time

from reproduce import connecting, exchange, listening, reproduce

from mptcp_sockopt.testing import Paths

ETHERNET, MPTCP_OPTION, NOP = 14, 30, 1


def strip(frame, to_server):
    """Overwrite the MPTCP options of an IPv4 frame by NOPs."""
    frame = bytearray(frame)
    tcp = ETHERNET + (frame[ETHERNET] & 15) * 4
    if frame[12:14] != b"\x08\x00" or frame[ETHERNET + 9] != socket.IPPROTO_TCP:
        return bytes(frame)
    at, end = tcp + 20, tcp + (frame[tcp + 12] >> 4) * 4
    while at < end and frame[at]:
        length = 1 if frame[at] == NOP else frame[at + 1]
        if frame[at] == MPTCP_OPTION:
            frame[at : at + length] = bytes([NOP]) * length
        at += length
    return bytes(frame)


def once(protocol):
    with Paths(1) as paths:
        with paths.server:
            listener = listening(protocol, "0.0.0.0")
        with paths.client:
            client = connecting(protocol, (paths.server_addresses[0], listener.getsockname()[1]))
        accepted = listener.accept()[0]
        exchange(client, accepted)
        words = [number.to_bytes(4, "big") for number in range(500)]
        got = b""
        with contextlib.suppress(ConnectionError):  # a reset would do no harm
            for n in range(20):  # 100 bytes each
                if n == 10:
                    paths.alter(0, strip)
                client.sendall(b"".join(words[25 * n : 25 * n + 25]))
                time.sleep(0.005)
            time.sleep(0.6)  # TCP is silent now
            got = accepted.recv(1 << 20)
    again = len(got) - 4 * len({got[at : at + 4] for at in range(0, len(got), 4)})
    return f"2000 bytes sent, {len(got)} received, {again} of them not for the first time", again > 0


if __name__ == "__main__":
    reproduce(once)
