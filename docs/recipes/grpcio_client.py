# SPDX-License-Identifier: MIT
"""grpcio over MPTCP, client or server: mptcp-sockopt run -- python grpcio_client.py HOST:PORT

Hook: none, because its C++ opens the sockets.
"""

import sys

import grpc

if __name__ == "__main__":
    with grpc.insecure_channel(sys.argv[1]) as channel:
        hello = channel.unary_unary("/greeter/hello")
        print(hello(b"hello", timeout=10).decode())
