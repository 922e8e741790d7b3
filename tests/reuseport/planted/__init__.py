# SPDX-License-Identifier: MIT
"""Servers with a known fault, and what an audit of each must say: ``python -m tests.reuseport.planted``."""
