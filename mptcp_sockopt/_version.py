# SPDX-License-Identifier: MIT
"""The version, said once: the package, its metadata and the compiled module take it from here."""

__version__ = "0.2.0.dev0"
