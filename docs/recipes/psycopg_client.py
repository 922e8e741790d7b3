# SPDX-License-Identifier: MIT
"""psycopg over MPTCP: mptcp-sockopt run -- python psycopg_client.py HOST PORT

Hook: none, because libpq opens the socket.
"""

import sys

import psycopg

if __name__ == "__main__":
    with psycopg.connect(
        host=sys.argv[1], port=sys.argv[2], user="postgres", dbname="postgres"
    ) as connection:
        print(*connection.execute("select 'hello'").fetchone())
