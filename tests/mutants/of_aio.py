# SPDX-License-Identifier: MIT
"""Mutations of asyncio's connections and servers."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "mptcp_sockopt/_loop_sockets.py",
        "aio",
        ("socket.IPPROTO_TCP if nodelay else 0, fileno", "socket.IPPROTO_TCP, fileno"),
        ("socket.IPV6_V6ONLY, 1)", "socket.IPV6_V6ONLY, 0)"),
        ("True if reuse_address is None else reuse_address", "bool(reuse_address)"),
        ("if error.errno != errno.EADDRNOTAVAIL:", "if True:"),
        ('[None if host == "" else host]', "[host]"),
    ),
    *of(
        "mptcp_sockopt/_loop_sockets.py",
        "aio_errors",
        ("if error.errno != errno.EADDRNOTAVAIL:", "if False:"),
        ("if not fallback or error.errno is None:", "if True:"),
        ("    if len({str(error) for error in errors}) == 1:", "    if len(errors) == 1:"),
        ("    if host is None or isinstance(host, bytes)", "    if not isinstance(host, str)"),
        ("        bound.pop().close()", "        bound.pop()"),
    ),
    *of(
        "mptcp_sockopt/_loop_sockets.py",
        "aio_life",
        ("                task.add_done_callback(_close_result)", "                pass"),
        ("                task.cancel()\n", ""),
        (
            "        except BaseException:\n            sock.close()",
            "        except OSError:\n            sock.close()",
        ),
        ("timeout=None if target is None else delay", "timeout=None"),
    ),
    *of(
        "mptcp_sockopt/aio.py",
        "aio aio_errors",
        ("        await _check(create, keywords)\n    own.pop", "        pass\n    own.pop"),
        ("    await _check(create, keywords)\n    keywords.pop", "    keywords.pop"),
        ("    return super(_MPTCPLoop, loop) if isinstance(loop, _MPTCPLoop) else loop", "    return loop"),
        ("frozenset(names) & inspect.signature(method).parameters.keys()", "frozenset(names)"),
        ("not in _PROTOCOLS", "in ()"),
        (
            "            self.close()\n            await self.wait_closed()\n            raise",
            "            raise",
        ),
    ),
    *of(
        "mptcp_sockopt/aio.py",
        "aio_life",
        ("        if not waited:", "        if True:"),
        ("        if not waited:", "        if False:"),
        ("start_serving=False, **keywords", "start_serving=begin, **keywords"),
        ("        for one in servers:\n            one.close()\n", ""),
    ),
)
