# SPDX-License-Identifier: MIT
"""The package version; the Linux release that it follows; and where messages say to read on.

The metadata and the compiled module take the version from here. csrc/mptcp_abi.h and the self test follow
KERNEL. SYMPTOMS is docs/troubleshooting.md in the documentation that pyproject.toml names: messages point to
its anchors.
"""

__version__ = "0.2.0.dev0"
KERNEL = "7.3"
SYMPTOMS = "https://mptcp-sockopt.github.io/mptcp-sockopt/troubleshooting.html"
