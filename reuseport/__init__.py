# SPDX-License-Identifier: MIT
"""Does my listening port share fairly, and lose nobody at a restart?

``python -m reuseport`` is the command; ``reuseport.steer`` and ``reuseport.handover`` are for programs. Of
mptcp_sockopt only public names are used. CONTRIBUTING.md has the map of the house.
"""
