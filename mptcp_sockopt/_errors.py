# SPDX-License-Identifier: MIT
"""The exceptions, and the errnos that they are based on.

Results of getsockopt(SOL_MPTCP, ...) on Linux 5.10 to 7.3 (IPv4 / IPv6):

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

EOPNOTSUPP has four meanings, and "not MPTCP" has two errnos. The address families differ because the generic
ip_getsockopt() and ipv6_getsockopt() end differently (mptcp_net-next issue 358). Mapping EOPNOTSUPP alone to
"not MPTCP" fails on IPv6, and comparing kernel versions fails with distributions' backports. So we ask the
socket two questions:

- SO_PROTOCOL: it is still 262 after a fallback, and 6 on a plain TCP socket that an MPTCP listener accepted.
- TCP_IS_MPTCP: it distinguishes MPTCP from a fallback on every kernel. The option is new in 6.10, but older
  kernels refuse it with EOPNOTSUPP on an MPTCP socket and with ENOPROTOOPT after a fallback.

Errnos are never translated: every exception here is an OSError with the kernel's number. EPROTO is our own,
for an answer outside the bounds in csrc/mptcp_sockopt.h. If a question to the socket fails, its errno is
raised, and the message names the question.
"""

from __future__ import annotations


class MPTCPError(OSError):
    """An MPTCP socket option could not be read. The base class of the two below; never raised itself.

    ``errno`` is the kernel's, and ``option`` is the option's name, such as ``"MPTCP_INFO"``. If a socket
    option was refused, a traceback names the page that helps (a note, which Python prints from 3.11 on).
    Thread rule: for the thread that caught it.
    """

    option: str = ""
    __notes__: list[str]


class NotMPTCPError(MPTCPError):
    """The socket speaks plain TCP: it always did, or its connection fell back (RFC 8684, section 3.7).

    ``errno`` is EOPNOTSUPP on an IPv4 socket and ENOPROTOOPT on an IPv6 one; both mean the same.
    Thread rule: for the thread that caught it.
    """


class UnsupportedOptionError(MPTCPError):
    """The running kernel lacks the option, or, for mptcp_diag(), cannot list MPTCP sockets.

    Thread rule: for the thread that caught it.
    """
