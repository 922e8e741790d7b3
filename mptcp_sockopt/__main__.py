# SPDX-License-Identifier: MIT
"""python -m mptcp_sockopt: the command line, the same as mptcp-sockopt."""

import sys

from .cli import main

sys.exit(main())
