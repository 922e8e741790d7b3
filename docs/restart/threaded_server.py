# SPDX-License-Identifier: MIT
"""A threaded server that restarts at SIGHUP. Each generation has a listener: threaded_server.py [PORT]"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

import mptcp_sockopt
from reuseport import handover, steer

ADDRESS = ("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8080)


def work(worker: handover.Worker) -> None:
    def answer(sock: socket.socket) -> None:
        with sock, contextlib.suppress(ConnectionError), sock.makefile("rb") as lines:
            for line in lines:
                sock.sendall(b"generation %d: %s" % (worker.number, line))

    def serve(sock: socket.socket) -> None:
        threading.Thread(target=answer, args=(sock,)).start()

    # Once, as long as anybody listens: from now on the newest listener of this port wins.
    steering = steer.newest_wins(ADDRESS, family=socket.AF_INET) if worker.first else contextlib.nullcontext()
    with steering:
        listener = mptcp_sockopt.create_server(ADDRESS, reuse_port=True)
    worker.ready()
    worker.serve([listener], serve)
    handover.retire(listener, 5.0, serve)
    worker.retired()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()


if __name__ == "__main__":
    handover.Supervisor(work, patience=60).run()
