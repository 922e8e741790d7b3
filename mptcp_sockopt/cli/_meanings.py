# SPDX-License-Identifier: MIT
"""What the kernel's MPTCP sysctls and counters mean: a sentence for each.

Sources: Documentation/networking/mptcp-sysctl.rst, and the comments of net/mptcp/mib.h. Names that a newer
kernel adds are shown without a sentence.
"""

from __future__ import annotations

from typing import NamedTuple


class Sysctl(NamedTuple):
    default: int | str | None  # None: it has none, it lists what there is
    meaning: str


SYSCTLS = {
    "enabled": Sysctl(1, "1: MPTCP sockets can be created. 0: they cannot."),
    "add_addr_timeout": Sysctl(
        120, "Seconds after which an announced address that the peer did not confirm is announced again."
    ),
    "add_addr_v6_port_drop_ts": Sysctl(
        1, "1: announcements of an IPv6 address with a port leave out TCP's timestamp, to find room."
    ),
    "allow_join_initial_addr_port": Sysctl(
        1, "1: the peer may add subflows to the address and port that it connected to."
    ),
    "available_path_managers": Sysctl(None, "What path_manager can be set to."),
    "available_schedulers": Sysctl(None, "What scheduler can be set to."),
    "blackhole_timeout": Sysctl(
        3600,
        "Seconds without MPTCP for all new connections, after the SYNs of one were lost with MPTCP and got "
        "through without. 0: never.",
    ),
    "checksum_enabled": Sysctl(0, "1: ask for DSS checksums, which find altered data and cost CPU time."),
    "close_timeout": Sysctl(
        60, "Seconds that a connection lives after its last subflow is gone, in case a new one comes."
    ),
    "path_manager": Sysctl("kernel", "kernel: endpoints and limits are used. userspace: a daemon decides."),
    "pm_type": Sysctl(0, "The older form of path_manager. 0: kernel. 1: userspace."),
    "scheduler": Sysctl("default", "What chooses the subflow for each piece of data."),
    "stale_loss_cnt": Sysctl(
        4, "Timeouts without progress after which a subflow is stale, and gets no new data."
    ),
    "syn_retrans_before_tcp_fallback": Sysctl(
        2, "SYNs that are sent again with MPTCP before one is sent without."
    ),
}


class Group(NamedTuple):
    question: str
    meanings: dict[str, str]


COUNTERS = (
    Group(
        "Do connections that this host opens use MPTCP?",
        {
            "MPCapableSYNTX": "connections tried with MPTCP",
            "MPCapableSYNACKRX": "of them, answered with MPTCP; the others fell back, failed or wait",
            "MPCapableFallbackSYNACK": "answered without it: by a TCP server, or a middlebox removed it",
            "MPCapableSYNTXDrop": "went on without MPTCP, because SYNs with it got no answer",
            "Blackhole": "times that such a SYN without MPTCP got through, so MPTCP was suspended",
            "MPCapableSYNTXDisabled": "connections opened without MPTCP while it was suspended",
            "MPCapableDataFallback": "fell back at the first packet: it had no MPTCP option, or was a reset",
            "MPFallbackTokenInit": "fell back, because no token could be created",
            "SimultConnectFallback": "fell back, because both ends connected at the same time",
            "MD5SigFallback": "fell back, because TCP_MD5SIG is set",
        },
    ),
    Group(
        "Do connections that this host accepts use MPTCP?",
        {
            "MPCapableSYNRX": "SYNs that asked for MPTCP",
            "MPCapableACKRX": "of them, handshakes that ended with MPTCP",
            "MPCapableFallbackACK": "handshakes that ended without, though both had asked for it",
            "MPCapableEndpAttempt": "new connections to the port of an endpoint, refused: it is for joins",
            "MD5SigReset": "reset, because TCP_MD5SIG is set",
        },
    ),
    Group(
        "Does anything on the way alter packets?",
        {
            "DssFallback": "fell back later: the mapping of the data was missing or wrong. If the "
            "peer that sends did not fall back too, this host receives the same bytes again and again",
            "DssReset": "subflows reset for the same reason",
            "DSSCorruptionFallback": "fell back, because mapping and data contradict each other",
            "DSSCorruptionReset": "subflows reset for the same reason",
            "DSSNotMatching": "mappings that contradict the one before",
            "DSSNoMatchTCP": "mappings that are not for the bytes they came with: packets were cut or joined",
            "DataCsumErr": "wrong DSS checksums: data was altered",
            "MPFailTx": "told the peer of a wrong checksum",
            "MPFailRx": "the peer told of a wrong checksum",
            "InfiniteMapTx": "connections that went on as TCP after that: told by this host",
            "InfiniteMapRx": "the same, told by the peer",
            "FallbackFailed": "could not fall back, because there were several subflows: reset",
        },
    ),
    Group(
        "Do further subflows come up?",
        {
            "MPJoinSynTx": "joins tried by this host",
            "MPJoinSynAckRx": "of them, answered",
            "MPJoinSynAckBackupRx": "of them, answered as backup",
            "MPJoinSynAckHMacFailure": "answers with a wrong HMAC: altered, or forged",
            "MPJoinSynTxCreatSkErr": "joins that failed here: no socket could be created",
            "MPJoinSynTxBindErr": "joins that failed here: the endpoint's address is on no interface",
            "MPJoinSynTxConnectErr": "joins that failed here: no route from the endpoint",
            "MPJoinSynRx": "joins that peers tried",
            "MPJoinSynBackupRx": "of them, as backup",
            "MPJoinAckRx": "of them, completed",
            "MPJoinAckHMacFailure": "joins with a wrong HMAC: altered, or forged",
            "MPJoinRejected": "joins refused, because of the limits or the path manager",
            "MPJoinNoTokenFound": "joins to a connection that is not here: it ended, or is on another server "
            "behind the same address",
            "MPJoinPortSynRx": "joins that peers tried to the port of an endpoint",
            "MPJoinPortSynAckRx": "joins to another port that the peer answered",
            "MPJoinPortAckRx": "joins to the port of an endpoint that were completed",
            "MismatchPortSynRx": "joins to a port that is not the endpoint's",
            "MismatchPortAckRx": "last packets of such joins",
        },
    ),
    Group(
        "Which addresses were announced?",
        {
            "AddAddrTx": "addresses that this host announced",
            "AddAddrTxDrop": "of them, not sent: no room in the packet",
            "EchoAdd": "confirmed by the peer",
            "AddAddr": "addresses that peers announced",
            "AddAddrDrop": "of them, ignored: one before was still being handled",
            "PortAdd": "of them, with a port",
            "EchoAddTx": "confirmed by this host",
            "EchoAddTxDrop": "confirmations not sent: no room in the packet",
            "RmAddrTx": "addresses that this host withdrew",
            "RmAddrTxDrop": "of them, not sent: no room in the packet",
            "RmAddr": "addresses that peers withdrew",
            "RmAddrDrop": "of them, ignored: one before was still being handled",
            "MPPrioTx": "told the peer that a subflow is now backup, or no longer is",
            "MPPrioRx": "the same, told by the peer",
        },
    ),
    Group(
        "Does data get through?",
        {
            "SubflowStale": "subflows that made no progress, and were set aside",
            "SubflowRecover": "of them, came back",
            "MPTCPRetrans": "pieces of data sent again, on the same or another subflow",
            "DuplicateData": "packets received twice",
            "NoDSSInWindow": "packets dropped: their data is outside the window",
            "RcvPruned": "packets dropped for lack of memory",
            "OFOPruned": "packets dropped from the out-of-order queue for lack of memory",
            "BacklogDrop": "packets dropped, because too many waited to be handled",
            "WinProbe": "probes of a peer whose window is full",
            "OFOQueueTail": "packets of one subflow that were ahead of another: the usual case",
            "OFOQueue": "packets that were put in between those",
            "OFOMerge": "packets that were merged in that queue",
            "SndWndShared": "times that a subflow used the send window of the connection",
            "RcvWndShared": "times that a subflow announced the receive window of the connection",
            "RcvWndConflictUpdate": "times that subflows disagreed on that window, and it was corrected",
            "RcvWndConflict": "times that subflows updated that window at the same moment",
        },
    ),
    Group(
        "How do connections end?",
        {
            "MPCurrEstab": "connections that are established now, those that fell back included",
            "RmSubflow": "subflows that were removed",
            "MPFastcloseTx": "connections that this host aborted",
            "MPFastcloseRx": "connections that peers aborted",
            "MPRstTx": "subflows that this host reset, with a reason",
            "MPRstRx": "subflows that peers reset, with a reason",
        },
    ),
)

#: Every counter's sentence, by name.
MEANINGS = {name: meaning for group in COUNTERS for name, meaning in group.meanings.items()}
