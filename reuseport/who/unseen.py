# SPDX-License-Identifier: MIT
"""Why no process is seen to have a socket."""
from __future__ import annotations
from mptcp_sockopt import processes
def why(local: object, owners: processes.Owners) -> str:
    return "; ".join(filter(None, ["no process in /proc is seen to have it", owners.missing]))
