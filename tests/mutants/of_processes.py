# SPDX-License-Identifier: MIT
"""Mutations of what looks into other processes, and into TCP's table."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "mptcp_sockopt/_border/layouts.py",
        "diag ports",
        ("link_local = host[0] == 0xFE and host[1] & 0xC0 == 0x80", "link_local = host[0] == 0xFE"),
        (
            "return socket.inet_ntop(socket.AF_INET, record[host_at : host_at + 4]), port",
            "return socket.inet_ntop(socket.AF_INET, record[host_at + 4 : host_at + 8]), port",
        ),
    ),
    *of(
        "csrc/mptcp_diag_tcp.c",
        "sock_diag_tcp ports",
        ("if (v6only && (v6only_length != sizeof(*v6only) || *v6only > 1))\n\t\treturn -EPROTO;", ""),
        ("!(dump->tcp >> message[offsetof(struct inet_diag_msg, idiag_state)] & 1)", "0"),
        ("found.v6only = *v6only;", "found.v6only = 1;"),
    ),
    *of(
        "csrc/mptcp_diag.c",
        "sock_diag_tcp ports",
        (".id.idiag_sport = {(uint8_t)(port >> 8), (uint8_t)port},", ""),
        (".idiag_states = dump->tcp,", ".idiag_states = 1,"),
    ),
    *of(
        "mptcp_sockopt/_border/sockopt.py",
        "processes_borrow",
        ("return bool(linger[0])", "return bool(linger[1])"),
    ),
    *of(
        "mptcp_sockopt/_ports.py",
        "ports",
        ('if not rows or any(row["is_mptcp"] or row["privileged"] for row in rows):', "if True:"),
        ('if row["cookie"] in still', "if True"),
        ('True if row["inode"] in mptcp else None if reason else False', 'row["inode"] in mptcp'),
        ("if not 0 <= port <= 65535:", "if False:"),
        ('key=lambda row: int(row["family"] != socket.AF_INET)', "key=lambda row: 0"),
        ("mask = sum({1 << state for state in states}) or _EVERY_STATE", "mask = _EVERY_STATE"),
        ("if TCPState.CLOSE in states:", "if False:"),
        (' if port in (0, row["local"][1])]', "]"),
        (
            'queue=row["rqueue"],\n        backlog=row["wqueue"],',
            'queue=row["wqueue"],\n        backlog=row["rqueue"],',
        ),
        (" if mptcp is None else None,\n    )", ",\n    )"),
    ),
    *of(
        "mptcp_sockopt/processes.py",
        "processes processes_borrow",
        ("refused += 1", "pass"),
        ("nobody = None if missing else ()", "nobody = ()"),
        ("nobody = None if missing else ()", "nobody = None"),
        ("or (nobody if inode else ())", "or nobody"),
        (
            "if inode and (wanted is None or inode in wanted) and (fd, inode) not in seen:",
            "if wanted is None or inode in wanted:",
        ),
        ("        if not _has_ended(pid):\n            raise\n", ""),
        ("        if not _has_ended(pid):\n            raise\n", "        raise\n"),
        ('for tid in sorted(map(int, os.listdir(f"/proc/{pid}/task"))):', "for tid in ():"),
        ("if tid != pid:", "if True:"),
        ('re.sub(r"[^ -~]", "?", file.read().rstrip("\\n"))', "file.read()"),
        ("if option := _hides_processes():", "if option := '':"),
        (" and spared not in {os.getegid(), *os.getgroups()}", ""),
        ('if how in ("4", "ptraceable") or (', "if ("),
        ('if not os.path.exists("/proc/self"):', "if not seen:"),
        ("if int(capabilities, 16) >> _CAP_SYS_PTRACE & 1:", "if False:"),
        ('os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE', "False"),
        (
            "    finally:\n        os.close(fd)\n\n\ndef _duplicate",
            "    finally:\n        pass\n\n\ndef _duplicate",
        ),
        ("    finally:\n        os.close(pidfd)", "    finally:\n        pass"),
        ("owner.tid, 0 if owner.tid == owner.pid else _PIDFD_THREAD", "owner.pid, 0"),
        ("or status.st_ino != owner.inode:", "and status.st_ino != owner.inode:"),
        ('and not listens(fd, "borrow()")', ""),
        ("if lingers(fd) and", "if False and"),
        (
            "    with ThreadPoolExecutor(1) as thread:\n        return thread.submit(inside).result()",
            "    return inside()",
        ),
        ("    if _libc().setns(fd, _CLONE_NEWNET):", "    if False:"),
        (
            "    for pid in pids:\n        try:\n            for owner in",
            "    for pid in pids[:1]:\n        try:\n            for owner in",
        ),
    ),
)
