# SPDX-License-Identifier: MIT
"""The programs of docs/recipes, run with the libraries that they are for; and the table of docs/programs.md.

    python -m pytest -m slow tests/recipes
    python -m tests.recipes --write

From the ground up (imports only go down):

    ends           the statuses of both ends of a connection, for answers and for tests
    environment    virtual environments with the libraries, at the versions of constraints.txt
    peers          servers of our own, each over MPTCP and over TCP (runs in such an environment)
    programs       redis, PostgreSQL and nginx
    clients        how each client library is used, with its recipe and without (runs in an environment)
    measured       one library in every combination: statuses, TCP_NODELAY, the time of a request (runs there)
    table          the table of docs/programs.md
    __main__       the command
"""
