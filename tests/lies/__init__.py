# SPDX-License-Identifier: MIT
"""Every reader under every lie of a kernel: ``python -m tests.lies`` prints the table (``--short``: without
variations; ``--json``, and with it ``--first``: ends after the first lie that is not right).

    liar.c     preloaded, it bends the answers of getsockopt, getsockname, getpeername, sendmsg and recvmsg
    told       the lies, the errnos that may come of each, and what must be believed of it
    readers    the readers, and the sockets that they read
    __main__   runs each pair in a forked child, judges it, prints

Right is the value that the reader gives without the lie, the value that the lie makes of it where nobody
could tell, or an OSError with an errno that the lie allows. All else is WRONG: another value, another
exception, bytes of an earlier answer (the buffers are full of STALE), more than a second of CPU time, more
than 64 MiB. A child that dies is a CRASH, one that does not end a HANG.
"""
