# SPDX-License-Identifier: MIT
"""The package version, which the metadata and the compiled module take from here, and KERNEL: the Linux
release that the layouts in csrc/mptcp_abi.h and the self test follow."""

__version__ = "0.2.0.dev0"
KERNEL = "7.3"
