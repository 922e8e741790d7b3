# SPDX-License-Identifier: MIT
"""audit: restart any server under load, in namespaces of its own, and count the connections that are lost.

options    what can be asked for
trial      the order of things, in a process of its own
guard      the namespaces in which the server can do no harm
listening  where it listens
baseline   good answers before the first restart
restarts   how a restart is asked for
probes     who accepts, seen by another process
replaced   when a restart is complete
evidence   what each restart lost, and why
report     in words, for JSON, and the verdict
"""

from __future__ import annotations

from .command import run as run
from .options import Options as Options
from .options import add_arguments as add_arguments
