# SPDX-License-Identifier: MIT
"""TCP Fast Open: the bytes that went with the SYN are in no counter of the connection at their sender."""

import socket
import time
from pathlib import Path

from reproduce import TCP, listening, reproduce

import mptcp_sockopt as mp
from mptcp_sockopt.testing import UnavailableError


def counted(protocol, sock):
    if protocol == TCP:
        return mp.snapshot(sock).subflows[0].tcp_info.bytes_sent
    return mp.mptcp_info(sock).bytes_sent


def once(protocol):
    listener = listening(protocol)
    try:
        Path("/proc/sys/net/ipv4/tcp_fastopen").write_text("1543")  # both sides, without cookies
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    except OSError as error:
        raise UnavailableError(error.errno, f"TCP Fast Open: {error.strerror}") from None
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as client:
        client.sendto(b"x" * 100, socket.MSG_FASTOPEN, listener.getsockname())
        with listener.accept()[0] as accepted:
            got = len(accepted.recv(999))
            client.sendall(b"y" * 50)
            got += len(accepted.recv(999))
            time.sleep(0.02)
            sent = counted(protocol, client)
    if sent is None:
        raise UnavailableError(0, "this kernel does not count bytes (Linux 6.5)")
    return f"100 bytes with the SYN and 50 after it, {got} arrived; bytes_sent is {sent}", sent < got


if __name__ == "__main__":
    reproduce(once)
