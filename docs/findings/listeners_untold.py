# SPDX-License-Identifier: MIT
"""The kernel's dump of MPTCP listeners (ss -M) leaves out most of those that share a port."""

import socket
import struct

from reproduce import listening, reproduce

from mptcp_sockopt.testing import UnavailableError

NUMBER = 20
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLMSG_ERROR, NLMSG_DONE = 4, 20, 2, 3
REQUEST_DUMP, PROTOCOL, LISTEN = 0x301, 3, 1 << 10


def told(protocol, port):
    """How many listeners of a port sock_diag(7) tells of."""
    ask = (
        struct.pack("=BBBxI", socket.AF_INET, min(protocol, 255), 0, LISTEN)
        + struct.pack("!HH", port, 0)
        + bytes(44)
    )
    ask += struct.pack("=HHI", 8, PROTOCOL, protocol)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(ask), SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 1, 0) + ask)
        count = 0
        while True:
            data = netlink.recv(1 << 16)
            while data:
                size, kind = struct.unpack_from("=IH", data)
                if kind == NLMSG_ERROR:
                    raise UnavailableError(0, "this kernel's module for the dump is missing")
                if kind == NLMSG_DONE:
                    return count
                count += 1
                data = data[size + 3 & ~3 :]


def once(protocol):
    listeners = [listening(protocol, reuseport=True)]
    port = listeners[0].getsockname()[1]
    listeners += [listening(protocol, port=port, reuseport=True) for _ in range(NUMBER - 1)]
    found = told(protocol, port)
    return f"{NUMBER} listeners share a port, the dump has {found}", found < NUMBER


if __name__ == "__main__":
    reproduce(once)
