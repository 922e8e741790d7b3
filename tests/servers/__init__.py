# SPDX-License-Identifier: MIT
"""What `reuseport audit` says of servers that people use; the table of docs/servers.md.

    python -m tests.servers                 measures every set-up, and prints the page's table
    python -m tests.servers nginx haproxy   those alone
    python -m tests.servers --write         writes docs/servers.json and docs/servers.md
    python -m tests.servers --page          writes docs/servers.md from docs/servers.json, without measuring

From the ground up (imports only go down):

    setups      the set-ups: command, configuration, how it is restarted, and why it loses or not
    stages      a folder with its files, and an environment where its command is found
    measured    runs the audit, and makes a row of what it found
    page        docs/servers.md, from docs/servers.json
    __main__    the command
"""
