# SPDX-License-Identifier: MIT
"""twisted over MPTCP: connect in a thread, and let the reactor adopt the connection.

Hook: public, reactor.adoptStreamConnection().
"""

import sys

from twisted.internet import protocol, reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import deferToThread

import mptcp_sockopt as mp


async def connect(factory, host, port, timeout=30):
    """The factory builds the protocol; a failure to connect is raised here."""
    with await deferToThread(mp.create_connection, (host, port), timeout) as sock:
        sock.setblocking(False)
        reactor.adoptStreamConnection(sock.fileno(), sock.family, factory)


class Hello(protocol.Protocol):
    def connectionMade(self):  # noqa: N802
        self.transport.write(b"hello\n")

    def dataReceived(self, data):  # noqa: N802
        print(data.decode())
        reactor.stop()


if __name__ == "__main__":
    factory = protocol.Factory.forProtocol(Hello)
    reactor.callWhenRunning(lambda: ensureDeferred(connect(factory, sys.argv[1], int(sys.argv[2]))))
    reactor.run()
