# SPDX-License-Identifier: MIT
"""gevent over MPTCP: mptcp_sockopt opens gevent's sockets, because socket is patched before it is imported.

Hook: public, gevent.monkey.patch_all().
"""

import gevent.monkey

gevent.monkey.patch_all()

import sys  # noqa: E402

import mptcp_sockopt as mp  # noqa: E402


def main(host, port):
    with mp.create_connection((host, port)) as sock:
        sock.sendall(b"hello\n")
        print(sock.recv(4096).decode())


if __name__ == "__main__":
    gevent.spawn(main, sys.argv[1], int(sys.argv[2])).get()
