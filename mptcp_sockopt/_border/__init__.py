# SPDX-License-Identifier: MIT
"""The border: the only package that uses cffi, the kernel's struct layouts and netlink.

Other modules import the names below. Under the border is the kernel's layout (csrc/mptcp_abi.h), above it are
Python objects.
"""

from .abi import IPPROTO_MPTCP as IPPROTO_MPTCP
from .abi import LEAST_MPTCP_INFO as LEAST_MPTCP_INFO
from .abi import MOST_STATE as MOST_STATE
from .abi import MPTCP_FULL_INFO as MPTCP_FULL_INFO
from .abi import MPTCP_INFO as MPTCP_INFO
from .abi import MPTCP_INFO_ROOM as MPTCP_INFO_ROOM
from .abi import MPTCP_SUBFLOW_ADDRS as MPTCP_SUBFLOW_ADDRS
from .abi import MPTCP_TCPINFO as MPTCP_TCPINFO
from .abi import SOL_MPTCP as SOL_MPTCP
from .abi import TCP_IS_MPTCP as TCP_IS_MPTCP
from .abi import Place as Place
from .abi import layout as layout
from .abi import numbers as numbers
from .questions import REFUSED_FALLBACK as REFUSED_FALLBACK
from .questions import REFUSED_OPTION as REFUSED_OPTION
from .questions import REFUSED_TCP as REFUSED_TCP
from .questions import failed as failed
from .questions import listens as listens
from .questions import speaks_mptcp as speaks_mptcp
from .questions import tcp_protocol as tcp_protocol
from .questions import tcp_refusal as tcp_refusal
from .sockopt import descriptor as descriptor
from .sockopt import lingers as lingers
from .sockopt import read_elements as read_elements
from .sockopt import read_full_info as read_full_info
from .sockopt import read_info as read_info
from .sockopt import read_into as read_into
from .sockopt import read_names as read_names
from .sockopt import read_tcp_info as read_tcp_info

#: Its public modules; whoever needs one imports it.
ROOMS = (
    "config",
    "layouts",
    "listeners",
    "lookups",
    "netlink",
    "options",
    "packets",
    "pm_events",
    "rows",
    "seccomp",
    "sock_diag",
)
