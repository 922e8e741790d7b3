# SPDX-License-Identifier: MIT
"""Mutations of what a server's end knows of a client."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "mptcp_sockopt/_clients.py",
        "clients asgi wsgi",
        ("if not (peer_port and isinstance(host, str)", "if not (isinstance(host, str)"),
        ("or (found.row is None and found.token)", ""),
        ("except (OSError, TypeError, ValueError):", "except (TypeError, ValueError):"),
        ("if owner == os.getpid():", "if True:"),
        ("asker.close()  # an answer may be left in it", "pass"),
        ("self._idle.pop()[1].close()", "self._idle.pop()"),
        ("self._idle.append((os.getpid(), asker))", "asker.close()"),
    ),
    *of(
        "mptcp_sockopt/_border/lookups.py",
        "clients",
        (
            "if path is None or (path[_STATE_AT] == _LISTEN and",
            "if path is None or (path[_STATE_AT] == _LISTEN or",
        ),
        ("remote[0][:3].lower() in _LINK_LOCAL):", "False):"),
    ),
    *of(
        "mptcp_sockopt/asgi.py",
        "asgi",
        ('scope = {**scope, "extensions": extensions}', 'scope["extensions"] = extensions'),
        ('if scope.get("http_version") == "3":', "if False:"),
        ('in ("http", "websocket")', 'in ("http",)'),
        ("else found.value", "else found"),
    ),
    *of(
        "mptcp_sockopt/wsgi.py",
        "wsgi",
        ('environ.get("SERVER_ADDR") or environ["SERVER_NAME"]', 'environ["SERVER_NAME"]'),
        ('"gunicorn.socket", "werkzeug.socket")', '"gunicorn.socket",)'),
        ("except (OSError, TypeError, ValueError):", "except OSError:"),
    ),
    *of(
        "mptcp_sockopt/_connections.py",
        "clients lookup",
        ("token = subflow.token_local\n", "token = None\n"),
        ("if token is not None or subflow._is_told else None", ""),
    ),
    *of(
        "mptcp_sockopt/cli/listen.py",
        "cli/listen",
        ("os.set_inheritable(FD, True)", "pass"),
        ("os.environ.pop(name, None)", "pass"),
        ("if not any(_PLACE in word for word in command[1:]):", "if True:"),
        ("if not is_every or error.errno not in _NO_IPV6:", "if True:"),
        ("dualstack_ipv6=dualstack,", ""),
        ("fallback=not options.no_fallback,", ""),
        ("backlog=options.backlog,", ""),
        ('if os.environ.get("LISTEN_PID") != str(os.getpid()):', "if True:"),
        ("if not mp.is_mptcp(listener):", "if False:"),
    ),
    *of("mptcp_sockopt/cli/_program.py", "cli/listen", ("if sys.stderr:", "if True:")),
)
