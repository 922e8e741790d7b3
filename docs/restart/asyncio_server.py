# SPDX-License-Identifier: MIT
"""An asyncio server that restarts at SIGHUP. All generations share a listener: asyncio_server.py [PORT]"""

from __future__ import annotations

import asyncio
import socket
import sys

import mptcp_sockopt
from reuseport import handover


async def serve(worker: handover.Worker, listener: socket.socket) -> None:
    clients: set[asyncio.Task[None] | None] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.add(asyncio.current_task())
        try:
            while line := await reader.readline():
                writer.write(b"generation %d: %s" % (worker.number, line))
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            clients.discard(asyncio.current_task())

    server = await asyncio.start_server(answer, sock=listener)
    worker.ready()
    await worker.wait_async()
    await handover.retire_server(server, 5.0, shared=True)
    worker.retired()
    while clients:
        await asyncio.sleep(0.1)


def main() -> None:
    address = ("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
    (listener,) = handover.take_listen_fds() or [mptcp_sockopt.create_server(address)]
    handover.Supervisor(lambda worker: asyncio.run(serve(worker, listener)), patience=60).run()


if __name__ == "__main__":
    main()
