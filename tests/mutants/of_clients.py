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
)
