# SPDX-License-Identifier: MIT
"""http.client over MPTCP.

Hook: public, the method connect().
"""

import http.client
import sys
from urllib.parse import urlsplit

import mptcp_sockopt as mp


class MPTCPConnection(http.client.HTTPConnection):
    def connect(self):
        self.sock = mp.create_connection((self.host, self.port), self.timeout, self.source_address)


class MPTCPSConnection(http.client.HTTPSConnection, MPTCPConnection):
    """For https: HTTPSConnection.connect() calls the one above, and then starts TLS."""


if __name__ == "__main__":
    url = urlsplit(sys.argv[1])
    connection = MPTCPConnection(url.hostname, url.port, timeout=10)
    connection.request("GET", "/")
    print(connection.getresponse().read().decode())
    connection.close()
