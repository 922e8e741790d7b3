# SPDX-License-Identifier: MIT
"""Mutations of views, trackers, samplers and what opens sockets."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "mptcp_sockopt/_fields.py",
        "fields views values",
        (
            "return lambda view: view[offset] if len(view) >= needed else None",
            "return lambda view: view[offset] if len(view) > offset else None",
        ),
        (
            "unpack_from(view, offset)[0] if len(view) >= needed else None",
            "unpack_from(view, offset)[0] if len(view) > needed else None",
        ),
        ("(view[offset] >> shift) & mask if", "view[offset] & mask if"),
        ("cls.fields = MappingProxyType({**cls.fields, **own})", "cls.fields = MappingProxyType(own)"),
        ("if len(raw) % cls._aligned:", "if False:"),
        ("if len(raw) < cls._smallest:", "if False:"),
        ("values[name] = None if clean and field.says_none(self, value) else value", "values[name] = value"),
        (
            "return type(other) is type(self) and isinstance(other, Record) and",
            "return isinstance(other, Record) and",
        ),
    ),
    *of(
        "mptcp_sockopt/_fields.py",
        "sampler diag fields",
        (
            'if length < field.needed:\n        raise ValueError(f"this kernel',
            'if False:\n        raise ValueError(f"this kernel',
        ),
    ),
    *of(
        "mptcp_sockopt/_fields.py",
        "fields views values recorded",
        ("if place.end > len(raw):\n            continue", ""),
        (
            "bits[place.offset] = bits.get(place.offset, 0) | value << place.shift",
            "bits[place.offset] = value << place.shift",
        ),
    ),
    *of(
        "mptcp_sockopt/_views.py",
        "views fields values",
        ("if flags & _KEY_OR_FALLBACK == _KEY else", "if flags & _KEY else"),
        ("(write_seq - snd_una) % 2**64", "write_seq - snd_una"),
        ("never=lambda info: info.bytes_received == 0,", "never=lambda info: info.bytes_sent == 0,"),
        ('"6.5": 80, "6.8": 84', '"6.5": 80, "6.8": 96'),
    ),
    *of(
        "mptcp_sockopt/_views.py",
        "live subflows views",
        ("return self.tcp_info.state in LIVE_STATES", "return self.tcp_info.state != TCPState.CLOSE"),
    ),
    *of(
        "mptcp_sockopt/_tcp_info.py",
        "live subflows",
        ("TCPState.FIN_WAIT2, TCPState.CLOSE_WAIT})", "TCPState.FIN_WAIT2})"),
    ),
    *of(
        "mptcp_sockopt/_tracker.py",
        "growth tracker tracker_replaced tracker_events",
        ("if self._updating == here:", "if False:"),
        ("here = self, os.getpid()", "here = self, 0"),
        ("known = before.subflows if same_socket else ()", "known = before.subflows"),
        ("known = before.subflows if growth is not None else ()", "known = before.subflows"),
        ("if old is None or not old.live]", "if old is None]"),
        ("was = [subflow for subflow in before.subflows if subflow.live]", "was = list(before.subflows)"),
        ("(gone + update.removed)[-_GONE:]", "gone + update.removed"),
        (
            "now.status is Status.FALLBACK and not (same_socket and _fell_before(before, now, continues))",
            "now.status is Status.FALLBACK and not _fell_before(before, now, continues)",
        ),
        ("now.status is Status.FALLBACK and not (same_socket and", "now.status is Status.FALLBACK and not ("),
        ("return continues or all(map(nothing_happened, now.subflows))", "return continues"),
        ("(counters(new.tcp_info) if continues else UNKNOWN)", "counters(new.tcp_info)"),
    ),
    *of(
        "mptcp_sockopt/_growth.py",
        "growth tracker tracker_events tracker_replaced",
        ("if new.token != old.token:\n            return None", "pass"),
        ("elif not (_has_key(new) and _same_numbers(old, new)):", "elif not _has_key(new):"),
        ("return None if _ran_back(growth) else growth", "return growth"),
        ("same = old.id == new.id\n", "same = True\n"),
        ("if not _ran_back(growth):\n                return old, growth", "return old, growth"),
        ("if old.local != new.local or", "if"),
        ("(now - was) % 2**32 >= 2**31:", "now < was:"),
        ("if _agreed(old) != _agreed(new):\n        return False", ""),
        ("if _TICKS < lost < 2**31:\n                return False", ""),
        ("or (was == TCPState.SYN_SENT and not _has_peer(old))", ""),
        ("or (state == TCPState.CLOSE and not _has_peer(new))", "or not _has_peer(new)"),
        ("new.busy_time < old.busy_time:", "False:"),
        ("return (new - old + 2**63) % 2**64 - 2**63", "return new - old"),
    ),
    *of(
        "mptcp_sockopt/_sockopt.py",
        "sockopt older_kernels errors live",
        ("_CONNECTED = Status.CONNECTING, Status.MPTCP", "_CONNECTED = Status.MPTCP, Status.MPTCP"),
        ("_OVER = Status.UNCONNECTED, Status.CLOSED", "_OVER = Status.CLOSED, Status.CLOSED"),
        ("_CONNECTED if states.strip(_CLOSE)", '_CONNECTED if b"\\x01" in states'),
        ("    if _LISTEN in states:\n        return _LISTENING\n", ""),
        ("_border.REFUSED_TCP: Status.TCP,", "_border.REFUSED_TCP: Status.FALLBACK,"),
        ("_border.REFUSED_OPTION: Status.UNKNOWN,", "_border.REFUSED_OPTION: Status.FALLBACK,"),
        ('    if _border.listens(fd, "status()"):\n        return Status.LISTENING\n', ""),
        ("Status.LISTENING if listening else answer", "answer"),
    ),
    *of(
        "mptcp_sockopt/_sockopt.py",
        "older_kernels sockopt lies",
        ("if before == after and len(after) == len(tcp_infos):", "if True:"),
    ),
    *of(
        "mptcp_sockopt/_sockopt.py",
        "sockopt",
        ("if length > len(view):\n        raise ValueError", "if False:\n        raise ValueError"),
    ),
    *of(
        "mptcp_sockopt/_sockets.py",
        "sockets",
        ("if error.errno in _SHORTAGES:\n            raise", "pass"),
        ("_REASONS.get(refusal, Support.FORBIDDEN)", "_REASONS.get(refusal, Support.DISABLED)"),
        ("return self is Support.YES", "return True"),
    ),
    *of(
        "mptcp_sockopt/_sampler.py",
        "sampler_calls bounds sampler_changes",
        ("            sampler._lock = _thread.RLock()", "            pass"),
    ),
    *of(
        "mptcp_sockopt/_sampler.py",
        "sampler sampler_changes",
        ("if self._added.pop(fd, None) is None:", "if self._added.pop(fd, True) is None:"),
        ("if self._asked != changes:", "if not self._asked:"),
    ),
    *of(
        "mptcp_sockopt/_sampler.py",
        "sampler bounds",
        ('b"".join([row.ljust(self._stride, b"\\0") for row in rows])', "self._rows.tobytes()"),
    ),
)
