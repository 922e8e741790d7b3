# SPDX-License-Identifier: MIT
"""Does my listening port share fairly, and lose nobody at a restart?

``python -m reuseport`` is the command. The house, from the ground up (imports only go down; of
mptcp_sockopt public names only):

    _report     verdict lines, JSON, exit codes
    _net        addresses, options, listeners
    _diag       sock_diag: listeners, handshakes in flight, owners
    _borrow     sockets of other processes: duplicated, asked, closed
    _programs   which program a process runs
    _lookup     which listener of a port a connection goes to
    _children   functions in forked children that leave nothing behind
    _lab        network namespaces, veth, the wire with a round-trip time
    _load       the loader, kinds of loss, bounds, chi-square
    steer       the newest generation wins: classic BPF, SO_INCOMING_CPU
    handover    retire(), SCM_RIGHTS, LISTEN_FDS, the supervisor
    demo        seed 1: generations that share port 3088
    lesson      seed 2: SO_REUSEADDR and SO_REUSEPORT, port 3333
    matrix      who may bind beside whom, against the rule
    fair        how evenly workers share connections
    roll        rolling restarts under load: who is lost
    _audit      audit's trial and its loader
    inspect     who: a port's listeners; audit: any server under restarts
"""
