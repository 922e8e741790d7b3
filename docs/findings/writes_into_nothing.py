# SPDX-License-Identifier: MIT
"""The only path is reset: for a minute, send() succeeds, poll() says writable, and nothing arrives.

usage: writes_into_nothing.py [SECONDS]  (1; above 60, the end is seen too)
"""

import select
import socket
import sys
import time

from reproduce import connecting, exchange, listening, reproduce

from mptcp_sockopt.testing import Paths

ETHERNET, RST, ACK = 14, 4, 16
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0


def reset(frame, to_server):
    """What the server sends becomes a reset, as from a firewall that forgot the connection."""
    frame = bytearray(frame)
    if not to_server and frame[12:14] == b"\x08\x00" and frame[ETHERNET + 9] == socket.IPPROTO_TCP:
        frame[ETHERNET + (frame[ETHERNET] & 15) * 4 + 13] = RST | ACK
    return bytes(frame)


def once(protocol):
    with Paths(1) as paths:
        with paths.server:
            listener = listening(protocol, "0.0.0.0")
        with paths.client:
            client = connecting(protocol, (paths.server_addresses[0], listener.getsockname()[1]))
        accepted = listener.accept()[0]
        exchange(client, accepted)
        paths.alter(0, reset)
        poll, sent, error, begin = select.poll(), 0, "no error", time.monotonic()
        poll.register(client, select.POLLIN | select.POLLRDHUP)  # ERR and HUP are always asked for
        told = []
        while time.monotonic() < begin + SECONDS and error == "no error":
            try:
                sent += client.send(b"0123456789")
            except OSError as reason:
                error = type(reason).__name__
            told = told or poll.poll(250)
        seconds = time.monotonic() - begin
        accepted.setblocking(False)
        got = len(accepted.recv(1 << 20))
    what = "something" if told else "nothing"
    text = f"{error} from send() in {seconds:.1f} s, {what} from poll(); {sent} bytes sent, {got} arrived"
    return text, error == "no error" and got < sent


if __name__ == "__main__":
    reproduce(once)
