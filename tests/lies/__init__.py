# SPDX-License-Identifier: MIT
"""Every reader under every lie of a kernel: ``python -m tests.lies`` prints the table.

    liar.c         preloaded, it changes the answers of getsockopt, getsockname and getpeername
    liar_netlink.c the same library: those of sendmsg, recvmsg, recv and recvfrom
    told           a lie: the errnos that it may cause, what a reader may believe; lies about one socket
    told_netlink   lies about sock_diag(7) and its datagrams
    told_rows      about one request of several, and about rows
    told_python    about netlink that Python reads
    readers        the readers, and the sockets that they read
    __main__       the command: runs each pair in a forked child, judges it, prints it

A pair is right if the reader gives the same value as without the lie, or the value that the lie makes of it
where nobody could tell, or an OSError with an errno that the lie allows. Everything else is WRONG: another
value, another exception, bytes of an earlier answer (the buffers are full of STALE), more than a second of
CPU time, more than 64 MiB. A child that dies is a CRASH, one that does not end is a HANG.
"""
