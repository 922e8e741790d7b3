# SPDX-License-Identifier: MIT
"""uvicorn over MPTCP. From a shell: mptcp-sockopt listen :8000 -- uvicorn --fd {fd} module:app

Hook: public, Server.run(sockets=) and --fd.
"""

import socket
import sys

import uvicorn

import mptcp_sockopt as mp


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})


if __name__ == "__main__":
    listener = mp.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
    print("listening on port", listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
