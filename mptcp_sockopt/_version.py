# SPDX-License-Identifier: MIT
"""What is said once, and taken from here: the version (also by the metadata and the compiled module), and
the Linux release that the layouts of csrc/mptcp_abi.h and the cases of the self test follow."""

__version__ = "0.2.0.dev0"
KERNEL = "7.3"
