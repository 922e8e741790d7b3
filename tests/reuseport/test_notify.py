# SPDX-License-Identifier: MIT
"""What a service manager is told of a supervisor: sd_notify(3)."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from reuseport.handover import notify

from ..support import DEADLINE
from .services import plain, service


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As sd_notify(3) has it; without NOTIFY_SOCKET nobody is told, and that is no error."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    name = f"@reuseport-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(DEADLINE / 2)
        manager.bind(name.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        with service(plain) as running:

            def told() -> list[str]:
                return manager.recv(1000).decode().splitlines()

            status = "STATUS=generation 0 serves, 0 older have connections, 0 were never ready"
            assert told() == ["READY=1", status]
            running.signal(signal.SIGHUP)
            word, clock, _ = told()
            assert (word, clock.partition("=")[0]) == ("RELOADING=1", "MONOTONIC_USEC")
            assert told()[0] == "READY=1"
            running.signal(signal.SIGTERM)
            assert told()[0] == "STOPPING=1"
            assert running.status() == 0


def test_nobody_there_to_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager that has gone, or that is not on a unix socket."""
    for name in (str(tmp_path / "gone"), "vsock:2:1234", ""):
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        assert not notify("READY=1")
