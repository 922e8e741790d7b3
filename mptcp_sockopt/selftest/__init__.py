# SPDX-License-Identifier: MIT
"""The self test: ``python -m mptcp_sockopt.selftest``. Uses only public names of mptcp_sockopt."""
