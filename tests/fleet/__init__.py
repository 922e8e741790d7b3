# SPDX-License-Identifier: MIT
"""What is in deploy/, with a real Prometheus."""
