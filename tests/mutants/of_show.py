# SPDX-License-Identifier: MIT
"""Mutations of `show` and `record`: records, blocks, recordings, and what picks fields."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "mptcp_sockopt/_picking.py",
        "picking",
        ("key = state, told, flags, token > 0, id, remote_id", "key = state, told, flags, token > 0"),
        ("kind.append(id(marks))  # which is kept", "pass"),
        ("numbers = sorted(views, key=lambda number: key_of(views[number]))", "numbers = list(views)"),
        ("self._ends, self._orders = {}, {}", "pass"),
        ("if self._found._tcp_info_length:", "if False:"),
    ),
    *of(
        "mptcp_sockopt/cli/_looks.py",
        "cli/looks",
        ("elif since is None or was is None or was", "elif was is None or was"),
        ('if not now["unacked"]:', "if False:"),
        ("self._last, self._this = self._this, _Memory(found)", "self._this = _Memory(found)"),
        ('["no_path"] if record.pop("dead") else []', '["no_path"] * (0 * record.pop("dead"))'),
        ('path["stalled"] = this.time - since', 'path["stalled"] = 0'),
        ('if now["subflows"] and (not now["info"] or now["status"] == "fallback"):', "if False:"),
        ("if not wanted <= self.keys():", "if True:"),
        ('if record["status"] in ("listening", "closing"):', "if False:"),
        ("wanted = set(inodes) - {0}", "wanted = set(inodes)"),
        ("        for gone in self.keys() - wanted:", "        for gone in ():"),
        (' for address, name in found.items() if "." in address}', " for address, name in ()}"),
    ),
    *of(
        "mptcp_sockopt/cli/_looks.py",
        "cli/show",
        ("info[name] = str(info[name])", "pass"),
        ('if record["inode"] in held]', "]"),
    ),
    *of(
        "mptcp_sockopt/cli/_blocks.py",
        "cli/blocks",
        ('if path["stalled"]:', "if False:"),
        ('return "backup" if', 'return "ok" if'),
        ("line._replace(text=line.text[:width].rstrip())", "line"),
        ("if remote[1] != peer[1]:", "if False:"),
        ("if troubles else len(_WORST)", "if troubles else 0"),
        ("acked -= 1  # the SYN", "pass"),
        ("if number < 99.95:", "if number < 100:"),
        ('character if " " <= character <= "~" else', "character if True else"),
    ),
    *of(
        "mptcp_sockopt/cli/_recording.py",
        "cli/recording",
        ("self._compressor.flush(zlib.Z_SYNC_FLUSH)", 'b""'),
        ('if header["schema"] > SCHEMA:', "if False:"),
        ("except EOFError:", "except KeyError:"),
        ('return not line.endswith(b"\\n") and not _read(file, 1)', "return True"),
        ('if record["kind"] in _KINDS:', "if True:"),
        ("except (ValueError, RecursionError):", "except ValueError:"),
    ),
    *of(
        "mptcp_sockopt/cli/record.py",
        "cli/record",
        ("number += late", "pass"),
        ("rest = rest[count:]", "break"),
        ("if stat.S_ISREG(status.st_mode) and status.st_size:", "if False:"),
        ("self._write_events(before=sample.monotonic)", "pass"),
        ("if event.time >= before:", "if False:"),
        ("elif not self._wanted or event in self._wanted:", "else:"),
    ),
)
