# SPDX-License-Identifier: MIT
# The compiled module, as seen by mypy. Only mptcp_sockopt/_border/abi.py imports it;
# tests/project/test_house.py compares this list with the module.
from collections.abc import Callable
from typing import Any, Final, final, type_check_only

# Pointers, structs and types of cffi. On this side of the border they can be anything.
CData = Any

@final
@type_check_only
class _Lib:
    IPPROTO_TCP: Final[int]
    IPPROTO_MPTCP: Final[int]
    SOL_MPTCP: Final[int]
    MPTCP_INFO: Final[int]
    MPTCP_TCPINFO: Final[int]
    MPTCP_SUBFLOW_ADDRS: Final[int]
    MPTCP_FULL_INFO: Final[int]
    TCP_INFO: Final[int]
    TCP_IS_MPTCP: Final[int]
    MPTCP_INFO_FLAG_FALLBACK: Final[int]
    MPTCP_INFO_FLAG_REMOTE_KEY_RECEIVED: Final[int]
    TCP_ESTABLISHED: Final[int]
    TCP_SYN_SENT: Final[int]
    TCP_SYN_RECV: Final[int]
    TCP_FIN_WAIT1: Final[int]
    TCP_FIN_WAIT2: Final[int]
    TCP_TIME_WAIT: Final[int]
    TCP_CLOSE: Final[int]
    TCP_CLOSE_WAIT: Final[int]
    TCP_LAST_ACK: Final[int]
    TCP_LISTEN: Final[int]
    TCP_CLOSING: Final[int]
    TCP_NEW_SYN_RECV: Final[int]
    NETLINK_SOCK_DIAG: Final[int]
    TCPDIAG_GETSOCK: Final[int]
    SOCK_DIAG_BY_FAMILY: Final[int]
    NLM_F_REQUEST: Final[int]
    NLM_F_DUMP_INTR: Final[int]
    NLM_F_DUMP: Final[int]
    NLMSG_ERROR: Final[int]
    NLMSG_DONE: Final[int]
    NLMSG_OVERRUN: Final[int]
    NLA_TYPE_MASK: Final[int]
    INET_DIAG_REQ_PROTOCOL: Final[int]
    INET_DIAG_INFO: Final[int]
    INET_DIAG_SKV6ONLY: Final[int]
    INET_DIAG_MARK: Final[int]
    INET_DIAG_ULP_INFO: Final[int]
    INET_ULP_INFO_NAME: Final[int]
    NETLINK_GENERIC: Final[int]
    NLM_F_ACK: Final[int]
    NLM_F_EXCL: Final[int]
    NLM_F_CREATE: Final[int]
    NLA_F_NESTED: Final[int]
    GENL_ID_CTRL: Final[int]
    CTRL_CMD_GETFAMILY: Final[int]
    CTRL_ATTR_FAMILY_ID: Final[int]
    CTRL_ATTR_FAMILY_NAME: Final[int]
    MPTCP_PM_CMD_ADD_ADDR: Final[int]
    MPTCP_PM_CMD_DEL_ADDR: Final[int]
    MPTCP_PM_CMD_GET_ADDR: Final[int]
    MPTCP_PM_CMD_FLUSH_ADDRS: Final[int]
    MPTCP_PM_CMD_SET_LIMITS: Final[int]
    MPTCP_PM_CMD_GET_LIMITS: Final[int]
    MPTCP_PM_ATTR_ADDR: Final[int]
    MPTCP_PM_ATTR_RCV_ADD_ADDRS: Final[int]
    MPTCP_PM_ATTR_SUBFLOWS: Final[int]
    MPTCP_PM_ADDR_ATTR_FAMILY: Final[int]
    MPTCP_PM_ADDR_ATTR_ID: Final[int]
    MPTCP_PM_ADDR_ATTR_ADDR4: Final[int]
    MPTCP_PM_ADDR_ATTR_ADDR6: Final[int]
    MPTCP_PM_ADDR_ATTR_PORT: Final[int]
    MPTCP_PM_ADDR_ATTR_FLAGS: Final[int]
    MPTCP_PM_ADDR_ATTR_IF_IDX: Final[int]
    MPTCP_PM_ADDR_FLAG_SIGNAL: Final[int]
    MPTCP_PM_ADDR_FLAG_SUBFLOW: Final[int]
    MPTCP_PM_ADDR_FLAG_BACKUP: Final[int]
    MPTCP_PM_ADDR_FLAG_FULLMESH: Final[int]
    MPTCP_PM_ADDR_FLAG_IMPLICIT: Final[int]
    MPTCP_PM_ADDR_FLAG_LAMINAR: Final[int]
    NETLINK_ROUTE: Final[int]
    RTM_NEWLINK: Final[int]
    IFLA_ADDRESS: Final[int]
    IFLA_IFNAME: Final[int]
    IFLA_LINKINFO: Final[int]
    IFLA_NET_NS_FD: Final[int]
    IFLA_INFO_KIND: Final[int]
    IFLA_INFO_DATA: Final[int]
    VETH_INFO_PEER: Final[int]
    IFF_UP: Final[int]
    IFF_NOARP: Final[int]
    RTM_NEWADDR: Final[int]
    IFA_ADDRESS: Final[int]
    IFA_LOCAL: Final[int]
    IFA_F_NODAD: Final[int]
    RTM_GETADDR: Final[int]
    RTM_GETROUTE: Final[int]
    RTM_F_FIB_MATCH: Final[int]
    RTN_UNICAST: Final[int]
    RTN_LOCAL: Final[int]
    RTA_DST: Final[int]
    RTA_SRC: Final[int]
    RTA_OIF: Final[int]
    RTA_GATEWAY: Final[int]
    SO_BUSY_POLL: Final[int]
    SO_MAX_PACING_RATE: Final[int]
    SO_INCOMING_CPU: Final[int]
    SO_ZEROCOPY: Final[int]
    TCP_MD5SIG: Final[int]
    TCP_THIN_LINEAR_TIMEOUTS: Final[int]
    TCP_SAVE_SYN: Final[int]
    TCP_FASTOPEN_CONNECT: Final[int]
    TCP_INQ: Final[int]
    TCP_TX_DELAY: Final[int]
    TCP_RTO_MAX_MS: Final[int]
    IP_MTU_DISCOVER: Final[int]
    IP_RECVERR: Final[int]
    IP_FREEBIND: Final[int]
    IP_MINTTL: Final[int]
    IP_BIND_ADDRESS_NO_PORT: Final[int]
    IP_LOCAL_PORT_RANGE: Final[int]
    IPV6_MTU_DISCOVER: Final[int]
    IPV6_RECVERR: Final[int]
    SOL_PACKET: Final[int]
    PACKET_VNET_HDR: Final[int]
    PACKET_IGNORE_OUTGOING: Final[int]
    SO_RCVBUFFORCE: Final[int]
    SO_TIMESTAMPNS: Final[int]
    ETH_P_ALL: Final[int]
    MPTCP_INFO_ROOM: Final[int]
    TCP_INFO_ROOM: Final[int]
    SUBFLOW_ADDRS_ROOM: Final[int]
    SUBFLOW_INFO_ROOM: Final[int]
    LEAST_MPTCP_INFO: Final[int]
    LEAST_TCP_INFO: Final[int]
    LEAST_SUBFLOW_TCP_INFO: Final[int]
    LEAST_SUBFLOW_ADDRS: Final[int]
    LEAST_SUBFLOW_INFO: Final[int]
    MOST_STRUCT: Final[int]
    MOST_SUBFLOWS: Final[int]
    MOST_STATE: Final[int]
    MOST_FAMILY: Final[int]
    MOST_TYPE: Final[int]
    MOST_PROTOCOL: Final[int]
    MOST_ERRNO: Final[int]
    MOST_REFUSALS: Final[int]
    MOST_BARREN: Final[int]
    MOST_RECORDS: Final[int]
    MPTCP_DIAG_DATAGRAM: Final[int]
    def mptcp_sockopt_version(self) -> CData: ...
    def sockopt_get(self, fd: int, level: int, option: int, value: CData, length: CData, /) -> int: ...
    def mptcp_get_info(self, fd: int, info: CData, /) -> int: ...
    def tcp_get_info(self, fd: int, info: CData, /) -> int: ...
    def mptcp_get_subflow_data(self, fd: int, option: int, data: CData, size: int, /) -> int: ...
    def mptcp_get_full_info(self, fd: int, full: CData, size: int, /) -> int: ...
    def mptcp_full_info_room(self, subflows: int, /) -> int: ...
    ASK_SO_DOMAIN: Final[int]
    ASK_SO_TYPE: Final[int]
    ASK_SO_PROTOCOL: Final[int]
    ASK_SO_ACCEPTCONN: Final[int]
    ASK_TCP_IS_MPTCP: Final[int]
    def socket_ask(self, fd: int, question: int, /) -> int: ...
    REFUSED_OTHER: Final[int]
    REFUSED_TCP: Final[int]
    REFUSED_FALLBACK: Final[int]
    REFUSED_OPTION: Final[int]
    TOKEN_GONE: Final[int]
    ANOTHER_CONNECTION: Final[int]
    def mptcp_refusal(self, fd: int, /) -> int: ...
    def tcp_protocol(self, fd: int, /) -> int: ...
    def tcp_protocol_of(self, domain: int, type: int, protocol: int, /) -> int: ...
    def speaks_mptcp(self, fd: int, /) -> int: ...
    def mptcp_get_rows(self, rows: CData, /) -> int: ...
    def socket_name(self, fd: int, peer: int, names: CData, /) -> int: ...
    V6ONLY_NOT_TOLD: Final[int]
    def mptcp_diag_request(self, fd: int, dump: CData, family: int, states: int, /) -> int: ...
    def tcp_diag_request(self, fd: int, dump: CData, port: int, /) -> int: ...
    def mptcp_diag_receive(self, fd: int, dump: CData, /) -> int: ...
    def mptcp_diag_parse(self, dump: CData, length: int, /) -> int: ...

@final
@type_check_only
class _FFI:
    def addressof(self, struct: CData) -> CData: ...
    def buffer(self, pointer: CData, size: int = ...) -> Any: ...
    def from_buffer(self, ctype: str, memory: object) -> CData: ...
    def gc(self, pointer: CData, destructor: Callable[[CData], object]) -> CData: ...
    def new(self, ctype: str, init: object = ...) -> CData: ...
    def new_allocator(self, *, should_clear_after_alloc: bool) -> Callable[[str, int], CData]: ...
    def offsetof(self, struct: str, field: str) -> int: ...
    def sizeof(self, ctype: CData) -> int: ...
    def string(self, pointer: CData) -> bytes: ...
    def typeof(self, ctype: str) -> CData: ...

lib: Final[_Lib]
ffi: Final[_FFI]
