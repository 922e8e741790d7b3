# SPDX-License-Identifier: MIT
"""The border: the only package that uses cffi, the kernel's struct layouts and netlink.

Other modules import the names below. Under the border is the kernel's layout (csrc/mptcp_abi.h), above it are
Python objects.
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

# layouts, listeners, netlink, packets, rows and sock_diag are modules; whoever needs one imports it.
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
