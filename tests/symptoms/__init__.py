# SPDX-License-Identifier: MIT
"""docs/troubleshooting.md: each message that it explains is provoked, and printed as the page has it."""
