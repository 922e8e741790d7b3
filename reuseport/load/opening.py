# SPDX-License-Identifier: MIT
"""Which stream a target takes, and whether it speaks TLS. A Python without ssl can do all else."""

from __future__ import annotations

from .clients import Target
from .streams import Stream


def open_stream(target: Target) -> Stream:
    if target.tls:
        from .tls import TLSStream  # not every Python has ssl

        return TLSStream(target)
    return Stream(target)


def speaks_tls(target: Target, within: float = 1.0) -> bool:
    """Whether it takes part in a handshake of TLS: an explanation for answers that nobody expects."""
    try:
        from .tls import handshakes
    except ImportError:
        return False
    return handshakes(target, within)
