# SPDX-License-Identifier: MIT
"""audit: restart any server under load, in namespaces of its own, and count the connections that are lost."""
