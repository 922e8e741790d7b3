# SPDX-License-Identifier: MIT
"""What is Linux doing with my Multipath TCP connection?

Read a socket with mptcp_info(), mptcp_full_info(), snapshot() or status(), many
with a Sampler; follow one with a Tracker; open one with create_connection() or
create_server(); list those of all processes with mptcp_diag(). Test the kernel with
python -m mptcp_sockopt.selftest.

This is the one public door. The house, from the ground up (imports only go down):

    csrc/mptcp_abi.h   the kernel's structs and numbers, written once
    _mptcp_sockopt     the compiled module, made from csrc by build_ffi.py
    _version           the version, and the kernel release that is followed
    _descriptor        what may be passed as a socket
    _errors            the exceptions, and the review of errnos behind them
    _abi               the only importer of the compiled module
    _sock_diag         its second room: dumps of sock_diag(7)
    _rows              its third room: many sockets in one call
    _fields            how a view decodes
    _tcp_info          TCPInfo, and the states of a subflow
    _views             MPTCPInfo, SubflowAddrs, Subflow, MPTCPFullInfo
    _sockopt           one function per option; status(), snapshot()
    _sockets           opening sockets
    _diag              mptcp_diag(): every MPTCP connection of the network namespace
    _growth            how much counters grew, or that it is another connection
    _sampler           many sockets at once
    _tracker           one connection over time

The self test and the command line, over the public names alone:

    _ktap              tests of several processes, in TAP 13
    _netlink           a netlink request and its answer
    _sandbox           private network namespaces
    _cases             the self test's cases on one end of a connection
    _inq_cases         on what waits in a socket
    _socket_cases      on sockets of every kind
    _path_cases        on several subflows
    _loopback          whether they can be tried here, and why not
    selftest           python -m mptcp_sockopt.selftest
    cli                the command line
"""

from ._abi import (
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
