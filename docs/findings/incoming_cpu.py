# SPDX-License-Identifier: MIT
"""SO_INCOMING_CPU set after listen() steers nothing on MPTCP, though getsockopt() says that it is set."""

import os
import socket
import time

from reproduce import connecting, listening, reproduce

from mptcp_sockopt.testing import UnavailableError

SO_INCOMING_CPU, NUMBER = 49, 100


def once(protocol):
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        raise UnavailableError(0, "this needs two CPUs")
    listeners = [listening(protocol, reuseport=True)]
    listeners.append(listening(protocol, port=listeners[0].getsockname()[1], reuseport=True))
    for listener, cpu in zip(listeners, cpus, strict=True):
        listener.setsockopt(socket.SOL_SOCKET, SO_INCOMING_CPU, cpu)
        listener.setblocking(False)
    said = [listener.getsockopt(socket.SOL_SOCKET, SO_INCOMING_CPU) for listener in listeners] == cpus
    os.sched_setaffinity(0, {cpus[1]})
    clients = [connecting(protocol, listeners[0].getsockname()) for _ in range(NUMBER)]
    time.sleep(0.05)
    right = 0
    try:
        while True:
            listeners[1].accept()[0].close()
            right += 1
    except BlockingIOError:
        pass
    for client in clients:
        client.close()
    text = (
        f"getsockopt() {'confirms' if said else 'does not confirm'} it; of {NUMBER} connections made on a CPU"
    )
    return f"{text}, {right} came to the listener for it", said and right < NUMBER


if __name__ == "__main__":
    reproduce(once)
