# SPDX-License-Identifier: MIT
"""urllib3 over MPTCP: every connection of the process, of requests, boto3 and elasticsearch too.

Hook: public, the function urllib3.util.connection.create_connection.
"""

import sys

import urllib3.util.connection

import mptcp_sockopt as mp


def create_connection(address, timeout=None, source_address=None, socket_options=None):
    host, port = address
    sock = mp.create_connection((host.strip("[]"), port), timeout, source_address)
    for option in socket_options or ():
        sock.setsockopt(*option)
    return sock


urllib3.util.connection.create_connection = create_connection

if __name__ == "__main__":
    print(urllib3.PoolManager().request("GET", sys.argv[1], timeout=10).data.decode())
