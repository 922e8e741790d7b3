# SPDX-License-Identifier: MIT
"""What is Linux doing with my Multipath TCP connection?

    status(sock)             what a socket is: MPTCP, fallen back to TCP, plain TCP ...
    snapshot(sock)           that, the connection, and its paths, at one moment
    mptcp_info(sock)         the connection alone; mptcp_full_info() has its paths too
    Tracker(sock).update()   bytes, rates and paths since the last update()
    Sampler(socks).sample()  many sockets in one call
    mptcp_diag()             every MPTCP connection of this network namespace
    mptcp_sockopt.processes  which processes have a socket, and who listens on a port
    create_connection(), create_server(), create_socket()
                             as those of the socket module, with MPTCP
    is_supported()           whether MPTCP sockets can be made here, or why not

Fields are attributes with the kernel's names: snapshot(sock).subflows[0].tcp_info.rtt.
TCPInfo.rtt.unit is its unit. What the kernel does not report is None, and a failure is
an OSError. print() shows a result as a table, and .asdict(clean=True) is for JSON.
Test the kernel with: python -m mptcp_sockopt.selftest

This is the one public door; CONTRIBUTING.md has the map of the house behind it.
"""

from . import _types as t  # noqa: F401  # annotations of public classes are looked up here
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
    from ._diag import MPTCPDiag, MPTCPDiagMsg, mptcp_diag
    from ._sampler import Sample, Sampler
    from ._sockets import Support, create_connection, create_server, create_socket, is_supported
    from ._tracker import Tracker
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
    "InfoFlag",
    "MPTCPDiag",
    "MPTCPDiagMsg",
    "MPTCPError",
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
    "Support",
    "TCPInfo",
    "TCPState",
    "Tracker",
    "UnsupportedOptionError",
    "Update",
    "__version__",
    "create_connection",
    "create_server",
    "create_socket",
    "getsockopt_into",
    "is_mptcp",
    "is_supported",
    "mptcp_diag",
    "mptcp_full_info",
    "mptcp_info",
    "mptcp_subflow_addrs",
    "mptcp_tcpinfo",
    "snapshot",
    "status",
]

#: What is loaded with its room when it is used first: most programs that import the package need none of it,
#: and the rooms behind _types import typing.
_LATER = {
    "_diag": ("MPTCPDiag", "MPTCPDiagMsg", "mptcp_diag"),
    "_sampler": ("Sample", "Sampler"),
    "_sockets": ("Support", "create_connection", "create_server", "create_socket", "is_supported"),
    "_tracker": ("Tracker",),
    "_types": ("Address", "SocketLike"),
    "_updates": ("SubflowDelta", "Update"),
}

if not TYPE_CHECKING:  # a checker would believe that there is every name

    def __getattr__(name):
        for room, names in _LATER.items():
            if name in names:
                module = __import__(room, globals(), fromlist=names, level=1)
                # All at once: their annotations name each other, and are looked up here.
                globals().update({other: getattr(module, other) for other in names})
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


# They answer to the name that users import them by, in help() and in pickles. Those of _LATER see to it
# themselves. Their annotations are then looked up here: hence t and FieldOf.
for _name in __all__:
    _object = globals().get(_name)
    if isinstance(_object, type) or callable(_object):
        _object.__module__ = __name__
del _name, _object
