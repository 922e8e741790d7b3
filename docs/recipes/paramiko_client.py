# SPDX-License-Identifier: MIT
"""paramiko over MPTCP.

Hook: public, SSHClient.connect(sock=).
"""

import sys

import paramiko

import mptcp_sockopt as mp


def connect(client, host, port=22, **options):
    client.connect(host, port, sock=mp.create_connection((host, port)), **options)


if __name__ == "__main__":
    host, port, user, password = sys.argv[1:]
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # trusts everyone
        connect(client, host, int(port), username=user, password=password)
        stdin, stdout, _ = client.exec_command("cat")
        stdin.write("hello\n")
        print(stdout.readline())
