# SPDX-License-Identifier: MIT
"""The border: the one folder that sees cffi, the kernel's layout and netlink. Others see the names here.

Below it stands the kernel's layout (csrc/mptcp_abi.h), above it Python objects.
"""

from .abi import (
    IPPROTO_MPTCP,
    LEAST_MPTCP_INFO,
    MOST_STATE,
    MPTCP_FULL_INFO,
    MPTCP_INFO,
    MPTCP_INFO_ROOM,
    MPTCP_SUBFLOW_ADDRS,
    MPTCP_TCPINFO,
    SOL_MPTCP,
    TCP_IS_MPTCP,
    Place,
    layout,
    numbers,
)
from .questions import (
    REFUSED_FALLBACK,
    REFUSED_OPTION,
    REFUSED_TCP,
    failed,
    listens,
    speaks_mptcp,
    tcp_protocol,
    tcp_refusal,
)
from .sockopt import (
    descriptor,
    lingers,
    read_elements,
    read_full_info,
    read_info,
    read_into,
    read_names,
    read_tcp_info,
)

# layouts, listeners, netlink, packets, rows and sock_diag are rooms, imported by those who need them.
__all__ = [
    "IPPROTO_MPTCP",
    "LEAST_MPTCP_INFO",
    "MOST_STATE",
    "MPTCP_FULL_INFO",
    "MPTCP_INFO",
    "MPTCP_INFO_ROOM",
    "MPTCP_SUBFLOW_ADDRS",
    "MPTCP_TCPINFO",
    "REFUSED_FALLBACK",
    "REFUSED_OPTION",
    "REFUSED_TCP",
    "SOL_MPTCP",
    "TCP_IS_MPTCP",
    "Place",
    "descriptor",
    "failed",
    "layout",
    "layouts",
    "lingers",
    "listeners",
    "listens",
    "netlink",
    "numbers",
    "packets",
    "read_elements",
    "read_full_info",
    "read_info",
    "read_into",
    "read_names",
    "read_tcp_info",
    "rows",
    "sock_diag",
    "speaks_mptcp",
    "tcp_protocol",
    "tcp_refusal",
]
