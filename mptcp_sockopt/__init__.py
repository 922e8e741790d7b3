# SPDX-License-Identifier: MIT
"""What is Linux doing with my Multipath TCP connection?

Read a socket with mptcp_info(), mptcp_full_info(), snapshot() or status(), many
with a Sampler; follow one with a Tracker; open one with create_connection() or
create_server(); list those of all processes with mptcp_diag(), and find the processes with
mptcp_sockopt.processes. Test the kernel with python -m mptcp_sockopt.selftest.

This is the one public door; CONTRIBUTING.md has the map of the house behind it.
"""

from ._border import (
    IPPROTO_MPTCP,
    MPTCP_FULL_INFO,
    MPTCP_INFO,
    MPTCP_SUBFLOW_ADDRS,
    MPTCP_TCPINFO,
    SOL_MPTCP,
    TCP_IS_MPTCP,
)
from ._diag import MPTCPDiag, MPTCPDiagMsg, mptcp_diag
from ._errors import MPTCPError, NotMPTCPError, UnsupportedOptionError
from ._sampler import Sample, Sampler
from ._sockets import Support, create_connection, create_server, create_socket, is_supported
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
from ._tracker import SubflowDelta, Tracker, Update
from ._version import __version__
from ._views import InfoFlag, MPTCPFullInfo, MPTCPInfo, Subflow, SubflowAddrs, TCPInfo, TCPState

__all__ = [
    "IPPROTO_MPTCP",
    "MPTCP_FULL_INFO",
    "MPTCP_INFO",
    "MPTCP_SUBFLOW_ADDRS",
    "MPTCP_TCPINFO",
    "SOL_MPTCP",
    "TCP_IS_MPTCP",
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

# The classes answer to the name that users import them by, in help() and in pickles.
for _name in __all__:
    _object = globals()[_name]
    if isinstance(_object, type) or callable(_object):
        _object.__module__ = __name__
del _name, _object
