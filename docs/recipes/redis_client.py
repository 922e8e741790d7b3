# SPDX-License-Identifier: MIT
"""redis-py over MPTCP. Options of its own for the socket, such as socket_keepalive, have no effect then.

Hook: private, the method _connect() of redis.Connection.
"""

import sys

import redis

import mptcp_sockopt as mp


class MPTCPConnection(redis.Connection):
    def _connect(self):
        sock = mp.create_connection((self.host, self.port), self.socket_connect_timeout)
        sock.settimeout(self.socket_timeout)
        return sock


def client(host, port):
    pool = redis.ConnectionPool(connection_class=MPTCPConnection, host=host, port=port)
    return redis.Redis.from_pool(pool)


if __name__ == "__main__":
    with client(sys.argv[1], int(sys.argv[2])) as r:
        print(r.ping())
