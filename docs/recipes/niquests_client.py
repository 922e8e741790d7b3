# SPDX-License-Identifier: MIT
"""niquests over MPTCP. It takes over the name urllib3: requests runs on it as well, wherever it is installed.

Hook: public, Session(resolver=).
"""

import sys

import niquests
from urllib3.contrib.resolver.system import SystemResolver

import mptcp_sockopt as mp


class Resolver(SystemResolver):
    def create_connection(
        self, address, timeout=None, source_address=None, socket_options=None, *rest, **more
    ):
        host, port = address
        return mp.create_connection((host.strip("[]"), port), source_address=source_address)


def session(**options):
    return niquests.Session(resolver=Resolver(), **options)


if __name__ == "__main__":
    with session() as s:
        print(s.get(sys.argv[1], timeout=10).text)
