# SPDX-License-Identifier: MIT
"""On a connected MPTCP socket, IP_FREEBIND and IP_TRANSPARENT are refused (EINVAL), and set nevertheless."""

import socket

from reproduce import connecting, listening, reproduce

from mptcp_sockopt.testing import UnavailableError

OPTIONS = {"IP_FREEBIND": 15, "IP_TRANSPARENT": 19}


def once(protocol):
    listener = listening(protocol)
    said, fault = [], False
    with connecting(protocol, listener.getsockname()) as client:
        for name, option in OPTIONS.items():
            try:
                client.setsockopt(socket.IPPROTO_IP, option, 1)
                answer = "taken"
            except OSError as error:
                answer = f"refused ({error.strerror})"
            try:
                value = client.getsockopt(socket.IPPROTO_IP, option)
            except OSError as error:
                raise UnavailableError(error.errno, f"{name} cannot be read here") from None
            said.append(f"{name} {answer}, then it is {value}")
            fault |= answer != "taken" and value == 1
    return "; ".join(said), fault


if __name__ == "__main__":
    reproduce(once)
