# SPDX-License-Identifier: MIT
"""An HTTP server for a WSGI application, which scrapers that hang, or send anything, do not stop."""

from __future__ import annotations

import contextlib
import io
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from typing import Any
from wsgiref import simple_server

#: Connections that are served at the same time; more are closed.
MOST = 100
#: Seconds that one may be silent.
PATIENCE = 10.0
#: Seconds that one may take altogether: a byte now and then is not silence.
LONGEST = 30.0
#: Bytes of a request that are read. The standard library would take 6 MB from each connection.
MOST_BYTES = 16_384


class _Handler(simple_server.WSGIRequestHandler):
    timeout = PATIENCE

    def handle(self) -> None:
        """Answer a request, of which only the head is read, and not more than MOST_BYTES of it."""
        with self.rfile as connection:
            self.rfile = io.BytesIO(_head(connection))
        super().handle()

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not news."""


def _head(connection: io.BufferedIOBase) -> bytes:
    head = b""
    while line := connection.readline(MOST_BYTES - len(head)):
        head += line
        if line in (b"\r\n", b"\n"):
            break
    return head


class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[Any, ...], family: int) -> None:
        self.address_family = family
        self._lock = threading.Lock()
        #: The connections that are served, and when they came.
        self._served: dict[Any, float] = {}
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without the reverse look-up of the address, which asks a name server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread, if there is room."""
        with self._lock:
            has_room = len(self._served) < MOST
            if has_room:
                self._served[request] = time.monotonic()
        if has_room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """The end of each connection."""
        with self._lock:
            self._served.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Twice a second: end what has taken too long. Its thread then closes it."""
        late = time.monotonic() - LONGEST
        with self._lock:
            for request in [request for request, began in self._served.items() if began < late]:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that is gone, or sent what is no HTTP, is none of our business."""


def server(address: tuple[str, int], app: Callable[..., Any]) -> Server:
    """It listens, but serves nobody before serve_forever(). OSError if it cannot listen there.

    No host is every address of this machine.
    """
    host, port = address
    if not host:
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
    except UnicodeError as error:
        raise OSError(f"no address of {host}: {error}") from None
    made = Server(place, family)
    made.set_app(app)
    return made
