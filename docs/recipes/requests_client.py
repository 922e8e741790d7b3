# SPDX-License-Identifier: MIT
"""requests over MPTCP: every connection of the process, because urllib3 opens them.

Hook: public, the function urllib3.util.connection.create_connection.
"""

import sys

import requests
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
    print(requests.get(sys.argv[1], timeout=10).text)
