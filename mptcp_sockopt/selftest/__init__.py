# SPDX-License-Identifier: MIT
"""The self test, over public names alone: ``python -m mptcp_sockopt.selftest``."""
