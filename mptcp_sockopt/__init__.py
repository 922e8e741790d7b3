# SPDX-License-Identifier: MIT
"""What is Linux doing with my Multipath TCP connection?

    status(sock)             is it MPTCP, fallen back to TCP, or plain TCP?
    snapshot(sock)           its status, connection counters and subflows at one moment
    mptcp_info(sock)         the connection only; mptcp_full_info() adds the subflows
    Tracker(sock).update()   bytes, rates and subflow changes since the last update()
    Sampler(socks).sample()  many sockets in one call
    mptcp_diag()             every MPTCP connection here; with subflows=True, its paths too
    create_connection(), create_server(), create_socket()
                             like those of the socket module, with MPTCP
    as_tcp(), socket_factory()
                             for libraries that accept TCP sockets only, as asyncio
    mptcp_lookup()           one connection, by its two addresses or its token
    mptcp_events()           connections, subflows and addresses that come and go, live
    is_supported()           whether MPTCP sockets can be created here, or why not
    mptcp_sockopt.aio        connections and servers for asyncio and uvloop
    mptcp_sockopt.host       sysctls, limits, endpoints and counters of MPTCP here
    mptcp_sockopt.metrics    what monitoring stores, as rows
    mptcp_sockopt.processes  which processes hold a socket, and who listens on a port
    mptcp_sockopt.testing    private networks and emulated paths for your tests

Fields are attributes with the kernel's names: snapshot(sock).subflows[0].tcp_info.rtt.
TCPInfo.rtt.unit is its unit. A field that this kernel does not report is None. A
failure is an OSError. print() shows a result as a table. For JSON, use
.asdict(clean=True). To test the kernel: python -m mptcp_sockopt.selftest
"""

from . import _types as t  # noqa: F401  # annotations of public classes are resolved here
from ._border import (
    IPPROTO_MPTCP,
    MPTCP_FULL_INFO,
    MPTCP_INFO,
    MPTCP_SUBFLOW_ADDRS,
    MPTCP_TCPINFO,
    SOL_MPTCP,
    TCP_IS_MPTCP,
)
from ._errors import MPTCPError, NotMPTCPError, UnsupportedOptionError
from ._fields import FieldOf as FieldOf
from ._sockopt import (
    Snapshot,
    Status,
    getsockopt_into,
    is_mptcp,
    mptcp_full_info,
    mptcp_info,
    mptcp_subflow_addrs,
    mptcp_tcpinfo,
    snapshot,
    status,
)
from ._version import __version__
from ._views import InfoFlag, MPTCPFullInfo, MPTCPInfo, Subflow, SubflowAddrs, TCPInfo, TCPState

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from ._diag import (
        DiagSubflow,
        MPTCPConnection,
        MPTCPConnections,
        MPTCPDiag,
        MPTCPDiagMsg,
        SubflowFlag,
        mptcp_diag,
        mptcp_lookup,
    )
    from ._events import MPTCPEvent, MPTCPEventKind, MPTCPEvents, mptcp_events
    from ._picking import ConnectionPicker
    from ._reasons import FallbackReason
    from ._sampler import Sample, Sampler
    from ._sockets import (
        Support,
        as_tcp,
        create_connection,
        create_server,
        create_socket,
        is_supported,
        socket_factory,
    )
    from ._tracker import Tracker
    from ._troubles import is_resending, is_stalled
    from ._types import Address as Address
    from ._types import SocketLike as SocketLike
    from ._updates import SubflowDelta, Update

__all__ = [
    "IPPROTO_MPTCP",
    "MPTCP_FULL_INFO",
    "MPTCP_INFO",
    "MPTCP_SUBFLOW_ADDRS",
    "MPTCP_TCPINFO",
    "SOL_MPTCP",
    "TCP_IS_MPTCP",
    "Address",
    "ConnectionPicker",
    "DiagSubflow",
    "FallbackReason",
    "InfoFlag",
    "MPTCPConnection",
    "MPTCPConnections",
    "MPTCPDiag",
    "MPTCPDiagMsg",
    "MPTCPError",
    "MPTCPEvent",
    "MPTCPEventKind",
    "MPTCPEvents",
    "MPTCPFullInfo",
    "MPTCPInfo",
    "NotMPTCPError",
    "Sample",
    "Sampler",
    "Snapshot",
    "SocketLike",
    "Status",
    "Subflow",
    "SubflowAddrs",
    "SubflowDelta",
    "SubflowFlag",
    "Support",
    "TCPInfo",
    "TCPState",
    "Tracker",
    "UnsupportedOptionError",
    "Update",
    "__version__",
    "as_tcp",
    "create_connection",
    "create_server",
    "create_socket",
    "getsockopt_into",
    "is_mptcp",
    "is_resending",
    "is_stalled",
    "is_supported",
    "mptcp_diag",
    "mptcp_events",
    "mptcp_full_info",
    "mptcp_info",
    "mptcp_lookup",
    "mptcp_subflow_addrs",
    "mptcp_tcpinfo",
    "snapshot",
    "socket_factory",
    "status",
]

#: Names whose module is imported at first use. Most programs that import the package need none of them, and
#: _types leads to an import of typing.
_LATER = {
    "_diag": (
        "DiagSubflow",
        "MPTCPConnection",
        "MPTCPConnections",
        "MPTCPDiag",
        "MPTCPDiagMsg",
        "SubflowFlag",
        "mptcp_diag",
        "mptcp_lookup",
    ),
    "_picking": ("ConnectionPicker",),
    "_reasons": ("FallbackReason",),
    "_events": ("MPTCPEvent", "MPTCPEventKind", "MPTCPEvents", "mptcp_events"),
    "_sampler": ("Sample", "Sampler"),
    "_sockets": (
        "Support",
        "as_tcp",
        "create_connection",
        "create_server",
        "create_socket",
        "is_supported",
        "socket_factory",
    ),
    "_tracker": ("Tracker",),
    "_troubles": ("is_resending", "is_stalled"),
    "_types": ("Address", "SocketLike"),
    "_updates": ("SubflowDelta", "Update"),
}

if not TYPE_CHECKING:  # with a __getattr__, a checker would accept any name

    def __getattr__(name):
        for room, names in _LATER.items():
            if name in names:
                module = __import__(room, globals(), fromlist=names, level=1)
                # All of them at once: their annotations refer to each other, and are resolved here.
                globals().update({other: getattr(module, other) for other in names})
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


# help() and pickles show the public name of each object. The modules in _LATER do this themselves. As a
# result, annotations are resolved in this module: that is why it imports t and FieldOf.
for _name in __all__:
    _object = globals().get(_name)
    if isinstance(_object, type) or callable(_object):
        _object.__module__ = __name__
del _name, _object
