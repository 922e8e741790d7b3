# SPDX-License-Identifier: MIT
"""python -m mptcp_sockopt: the command line, as mptcp-sockopt is."""

from .cli import entry

entry()
