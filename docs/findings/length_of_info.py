# SPDX-License-Identifier: MIT
"""A field that fits into the returned length of struct mptcp_info need not be there: it may be padding."""

import socket

from reproduce import TCP, connecting, listening, reproduce

import mptcp_sockopt as mp

END_OF_RETRANSMITS = 48  # the u32 at offset 44, since Linux 6.5


def once(protocol):
    listener = listening(protocol)
    with connecting(protocol, listener.getsockname()) as client:
        if protocol == TCP:
            length = mp.getsockopt_into(client, socket.IPPROTO_TCP, socket.TCP_INFO, bytearray(512))
            return f"struct tcp_info has {length} bytes, and no padding at its end", False
        length = mp.getsockopt_into(client, mp.SOL_MPTCP, mp.MPTCP_INFO, bytearray(512))
        there = mp.mptcp_info(client).retransmits is not None
    fits = length >= END_OF_RETRANSMITS
    words = {True: "", False: "not "}
    return (
        f"{length} bytes, into which retransmits {words[fits]}fits; it is {words[there]}there",
        fits != there,
    )


if __name__ == "__main__":
    reproduce(once)
