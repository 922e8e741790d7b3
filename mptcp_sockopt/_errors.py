# SPDX-License-Identifier: MIT
"""The exceptions, and the review of errnos that they rest on.

What getsockopt(SOL_MPTCP, ...) answers, as seen on Linux 5.10 to 7.3 (IPv4 / IPv6):

    socket                                          errno
    ----------------------------------------------  ------------------------------
    MPTCP: fresh, listening, connecting, connected,
      shut down, disconnected                       success
    MPTCP that fell back to TCP, in any TCP state   EOPNOTSUPP / ENOPROTOOPT
    plain TCP, also accepted by an MPTCP listener   EOPNOTSUPP / ENOPROTOOPT
    MPTCP, option unknown to this kernel            EOPNOTSUPP / EOPNOTSUPP
    MPTCP, kernel before 5.16                       EOPNOTSUPP / EOPNOTSUPP
    UDP                                             EOPNOTSUPP / ENOPROTOOPT
    AF_UNIX                                         EOPNOTSUPP
    not a socket; not open                          ENOTSOCK; EBADF

So one errno has four meanings, and one meaning two errnos: the split between the families comes from
the generic ip_getsockopt() and ipv6_getsockopt() tails (mptcp_net-next issue 358) and is still there.
Others map EOPNOTSUPP alone to "not MPTCP" and raise on IPv6, or compare kernel versions, which
distributions' backports make wrong. We ask the socket: its SO_PROTOCOL (262 stays after a fallback, an
accepted plain TCP socket says 6), and TCP_IS_MPTCP, which tells a living MPTCP socket from a fallen-back
one on *every* kernel, because before 6.10, when the option appeared, a living one answers EOPNOTSUPP and
the TCP socket behind a fallback ENOPROTOOPT.

An errno is never renamed: everything here is an OSError and keeps the kernel's number. EPROTO is ours, for an
answer out of the bounds in csrc/mptcp_sockopt.h. Where the socket cannot be asked why, the errno is that of
the question which failed, and the message names it.
"""

from __future__ import annotations


class MPTCPError(OSError):
    """An MPTCP socket option that could not be read. Never raised itself: see its two children.

    ``errno`` is the kernel's, and ``option`` the option's name, such as ``"MPTCP_INFO"``.
    Thread rule: it belongs to who caught it.
    """

    option: str = ""


class NotMPTCPError(MPTCPError):
    """The socket speaks plain TCP: it always did, or its connection fell back (RFC 8684, section 3.7).

    ``errno`` is EOPNOTSUPP on an IPv4 socket and ENOPROTOOPT on an IPv6 one; both mean it.
    Thread rule: it belongs to who caught it.
    """


class UnsupportedOptionError(MPTCPError):
    """An MPTCP socket, but the running kernel lacks the option; or, of mptcp_diag(), that dump.

    Thread rule: it belongs to who caught it.
    """
