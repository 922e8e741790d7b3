# SPDX-License-Identifier: MIT
"""Do my workers share a port evenly, and does a restart lose connections?

``python -m reuseport`` is the command; ``reuseport.steer`` and ``reuseport.handover`` are for programs. Of
mptcp_sockopt only public names are used. CONTRIBUTING.md has the map of the house.
"""
