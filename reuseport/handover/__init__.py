# SPDX-License-Identifier: MIT
"""Replace one generation of a server by the next, and lose no connection.

retire() closes a listener whose successor listens on the same port; retire_server() does so for the server of
an event loop. The other way is to share the listener itself: with a child (LISTEN_FDS, as systemd does it) or
with any process (SCM_RIGHTS over a unix socket). Supervisor runs generations as processes, and replaces them
in the order that loses no connection.
"""

from __future__ import annotations

from ._aio import retire_server as retire_server
from ._generations import Generation as Generation
from ._generations import Worker as Worker
from ._passing import fetch as fetch
from ._passing import hand_over as hand_over
from ._passing import offer as offer
from ._retiring import LOOK as LOOK
from ._retiring import RetireReport as RetireReport
from ._retiring import Serve as Serve
from ._retiring import drain as drain
from ._retiring import retire as retire
from ._retiring import settle as settle
from ._retiring import step_aside as step_aside
from ._supervisor import Supervisor as Supervisor
from ._systemd import give_listen_fds as give_listen_fds
from ._systemd import notify as notify
from ._systemd import take_listen_fds as take_listen_fds
