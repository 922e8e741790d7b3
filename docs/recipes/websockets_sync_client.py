# SPDX-License-Identifier: MIT
"""websockets, the client for threads, over MPTCP.

Hook: public, connect(sock=).
"""

import sys
from urllib.parse import urlsplit

from websockets.sync.client import connect

import mptcp_sockopt as mp


def mptcp_connect(url, **options):
    address = urlsplit(url)
    return connect(url, sock=mp.create_connection((address.hostname, address.port or 80)), **options)


if __name__ == "__main__":
    with mptcp_connect(sys.argv[1]) as connection:
        connection.send("hello")
        print(connection.recv())
