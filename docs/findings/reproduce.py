# SPDX-License-Identifier: MIT
"""What the reproducers beside this file share: each is tried over TCP, then over MPTCP, in private networks.

Exit status: 1 if the fault shows, 0 if it does not, 3 if that cannot be seen here.
"""

import socket
import sys
import traceback

import mptcp_sockopt as mp
from mptcp_sockopt.testing import UnavailableError, in_private_network

TCP, MPTCP = socket.IPPROTO_TCP, mp.IPPROTO_MPTCP


def listening(protocol, host="127.0.0.1", port=0, backlog=128, reuseport=False):
    """A listener, over IPv6 if the host is an address of it."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuseport)
    sock.bind((host, port))
    sock.listen(backlog)
    return sock


def connecting(protocol, address, source=""):
    """A client, connected to an address from any source, or this one."""
    sock = socket.socket(
        socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM, protocol
    )
    sock.settimeout(20)
    if source:
        sock.bind((source, 0))
    sock.connect(address[:2])
    return sock


def exchange(client, accepted):
    """Data each way: then an MPTCP connection is fully established."""
    for one, other in ((client, accepted), (accepted, client)):
        one.sendall(b"hello")
        other.recv(5, socket.MSG_WAITALL)


def reproduce(once, cases=None, within=120):
    """Call once with each case, the last of which counts; those before it are controls.

    It returns what was seen, as a sentence, and whether that is the fault.
    """
    cases = cases or {"TCP": TCP, "MPTCP": MPTCP}
    if not (support := mp.is_supported()):
        sys.exit(print(f"cannot be seen here: {support.value}") or 3)
    try:
        for name, case in cases.items():
            seen, fault = in_private_network(lambda case=case: once(case), within=within)
            print(f"{name}: {seen}", flush=True)
            if fault and name != list(cases)[-1]:
                sys.exit(print("the control does the same: nothing is shown") or 3)
    except UnavailableError as error:
        sys.exit(print(f"cannot be seen here: {error}") or 3)
    except Exception:  # with which Python would end with 1
        sys.exit(traceback.print_exc() or 3)
    sys.exit(int(fault))
