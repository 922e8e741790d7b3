# SPDX-License-Identifier: MIT
"""The border: the one folder that sees cffi, the kernel's layout and netlink. Others see the names here.

Below it stands the kernel's layout (csrc/mptcp_abi.h), above it Python objects.
"""

from .abi import (
    IPPROTO_MPTCP,
    LEAST_MPTCP_INFO,
    MPTCP_FULL_INFO,
    MPTCP_INFO,
    MPTCP_SUBFLOW_ADDRS,
    MPTCP_TCPINFO,
    SOL_MPTCP,
    TCP_IS_MPTCP,
    Place,
    layout,
    numbers,
)
from .sockopt import (
    REFUSED_FALLBACK,
    REFUSED_OPTION,
    REFUSED_TCP,
    descriptor,
    failed,
    lingers,
    listens,
    read_elements,
    read_full_info,
    read_info,
    read_into,
    read_names,
    read_tcp_info,
    refusal,
    speaks_mptcp,
    tcp_protocol,
)

# layouts, netlink, packets, rows and sock_diag are rooms, imported by those who need them.
__all__ = [
    "IPPROTO_MPTCP",
    "LEAST_MPTCP_INFO",
    "MPTCP_FULL_INFO",
    "MPTCP_INFO",
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
    "refusal",
    "rows",
    "sock_diag",
    "speaks_mptcp",
    "tcp_protocol",
]
