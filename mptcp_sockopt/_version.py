# SPDX-License-Identifier: MIT
"""The package version, and KERNEL: the Linux release that csrc/mptcp_abi.h and the self test follow.

The metadata and the compiled module take the version from here.
"""

__version__ = "0.2.0.dev0"
KERNEL = "7.3"
