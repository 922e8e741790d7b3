# SPDX-License-Identifier: MIT
"""net.ipv4.tcp_migrate_req=1 moves connections of a listener that closes to another. MPTCP's arrive dead."""

import contextlib
import time
from pathlib import Path

from reproduce import connecting, listening, reproduce

from mptcp_sockopt.testing import UnavailableError

NUMBER = 40


def received(sock):
    """What can be read at once: bytes, or the name of an error."""
    sock.setblocking(False)
    try:
        return sock.recv(5)
    except OSError as error:
        return type(error).__name__


def migrated():
    """How many connections the kernel says that it moved."""
    lines = [line.split() for line in Path("/proc/net/netstat").read_text().splitlines()]
    return dict(zip(*[line for line in lines if line[0] == "TcpExt:"], strict=True))["TCPMigrateReqSuccess"]


def once(protocol):
    sysctl = Path("/proc/sys/net/ipv4/tcp_migrate_req")
    if not sysctl.exists():
        raise UnavailableError(0, "this kernel has no net.ipv4.tcp_migrate_req (Linux 5.14)")
    sysctl.write_text("1")
    closes = listening(protocol, reuseport=True)
    stays = listening(protocol, port=closes.getsockname()[1], reuseport=True)
    clients = [connecting(protocol, stays.getsockname()) for _ in range(NUMBER)]
    for client in clients:
        client.sendall(b"hello")
    time.sleep(0.05)  # all wait at one of the two
    closes.close()
    time.sleep(0.2)  # resets arrive
    resets = [received(client) for client in clients].count("ConnectionResetError")
    accepted = []
    stays.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            accepted.append(received(stays.accept()[0]))
    served = accepted.count(b"hello")
    text = (
        f"{NUMBER} connections waited at two listeners, one of which closed: {resets} reset, {served} served"
    )
    dead = len(accepted) - served
    return f"{text}, {dead} accepted dead; TCPMigrateReqSuccess {migrated()}", dead > 0


if __name__ == "__main__":
    reproduce(once)
