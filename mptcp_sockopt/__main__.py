# SPDX-License-Identifier: MIT
"""python -m mptcp_sockopt: the command line, as mptcp-sockopt is."""

import sys

from .cli import main

sys.exit(main())
