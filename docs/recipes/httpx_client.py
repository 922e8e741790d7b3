# SPDX-License-Identifier: MIT
"""httpx, sync, over MPTCP: a transport whose connections are opened by us.

Hook: private, _pool of httpx.HTTPTransport, _network_backend of httpcore.ConnectionPool, httpcore._backends.
"""

import sys

import httpcore
import httpx
from httpcore._backends.sync import SyncStream

import mptcp_sockopt as mp


class Backend(httpcore.SyncBackend):
    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        source = None if local_address is None else (local_address, 0)
        try:
            return SyncStream(mp.create_connection((host, port), timeout, source))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error


def transport(**options):
    """An httpx.HTTPTransport, with its own options: verify, http2, limits and the others."""
    made = httpx.HTTPTransport(**options)
    made._pool._network_backend = Backend()
    return made


if __name__ == "__main__":
    with httpx.Client(transport=transport()) as client:
        print(client.get(sys.argv[1]).text)
