# SPDX-License-Identifier: MIT
"""The private network namespace, without privilege."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from pathlib import Path

import pytest

from mptcp_sockopt import testing
from mptcp_sockopt.selftest import _ktap, _path_cases
from mptcp_sockopt.testing import _network

from ..support import Missing, tcp_pair

NOBODY = 65534


def without_privilege() -> None:
    """Become nobody for good, if this is root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def make_a_user_namespace() -> None:
    without_privilege()
    try:
        _network._call("unshare", _network._CLONE_NEWUSER)
    except OSError as error:
        raise Missing(f"user namespaces without privilege: {error}") from None


def test_a_user_namespace_will_do(mptcp: None) -> None:
    """Where one can be made, a private network can be too, with lo up and limits to set."""
    testing.in_child(make_a_user_namespace)

    def look() -> tuple[str, list[str]]:
        without_privilege()
        testing.enter_private_network()
        with tcp_pair(socket.AF_INET):
            pass
        testing.set_limits(1)
        return os.readlink("/proc/self/ns/net"), [name for _, name in socket.if_nameindex()]

    namespace, interfaces = testing.in_child(look)
    assert namespace != os.readlink("/proc/self/ns/net")
    assert "lo" in interfaces


# -------------------------------------------------------------------------------------- a refusal in words


def drop_capabilities() -> None:
    """All, for good; the user id stays."""
    version_3, nobody_in_particular = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, nobody_in_particular)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
        raise Missing(f"capset: {os.strerror(ctypes.get_errno())}")


def in_own_limits(limit: str, *, privileged: bool) -> str:
    """What a self test's case says in a user namespace whose root has set this limit to 0."""

    def look() -> str:
        maps = {"setgroups": "deny", "uid_map": f"0 {os.geteuid()} 1", "gid_map": f"0 {os.getegid()} 1"}
        try:
            _network._call("unshare", _network._CLONE_NEWUSER)
        except OSError as error:
            raise Missing(f"user namespaces: {_network._why(error)}") from None
        for name, text in maps.items():
            Path(f"/proc/self/{name}").write_text(text)
        Path(f"/proc/sys/user/{limit}").write_text("0")
        if not privileged:
            drop_capabilities()
        with pytest.raises(_ktap.Skip) as caught:
            _path_cases.enter_sandbox(socket.AF_INET)
        return str(caught.value)

    return testing.in_child(look)


@pytest.mark.parametrize(
    ("limit", "privileged", "words"),
    [
        ("max_user_namespaces", False, "user namespaces are disabled (user.max_user_namespaces=0)"),
        ("max_net_namespaces", True, "network namespaces are disabled (user.max_net_namespaces=0)"),
        ("max_net_namespaces", False, "network namespaces are disabled (user.max_net_namespaces=0)"),
    ],
)
def test_a_limit_of_nothing_is_named(limit: str, privileged: bool, words: str, mptcp: None) -> None:
    """By the kernel's name for it; not as "No space left on device"."""
    reason = in_own_limits(limit, privileged=privileged)
    assert reason == f"no private network namespace: {words}"


def why(
    number: int, switches: dict[str, str], status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The sentence on a system with these switches and this /proc/self/status."""
    for name, value in switches.items():
        path = tmp_path / "sys" / name.replace(".", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    (tmp_path / "status").write_text(status)
    monkeypatch.setattr(_network, "_SYSCTL", str(tmp_path / "sys"))
    monkeypatch.setattr(_network, "_STATUS", str(tmp_path / "status"))
    return _network._why(OSError(number, os.strerror(number)))


NOBODYS = "Name:\tpython\nCapEff:\t0000000000000000\nSeccomp:\t0\n"
ROOTS = NOBODYS.replace("0000000000000000", "000001ffffffffff")
FILTERED = NOBODYS.replace("Seccomp:\t0", "Seccomp:\t2")
USER, NET = "user.max_user_namespaces", "user.max_net_namespaces"
CLONE, APPARMOR = "kernel.unprivileged_userns_clone", "kernel.apparmor_restrict_unprivileged_userns"


@pytest.mark.parametrize(
    ("number", "switches", "status", "words"),
    [
        (errno.ENOSPC, {USER: "0", NET: "9"}, NOBODYS, f"user namespaces are disabled ({USER}=0)"),
        (errno.EUSERS, {USER: "0", NET: "9"}, NOBODYS, f"user namespaces are disabled ({USER}=0)"),
        (errno.ENOSPC, {USER: "9", NET: "0"}, NOBODYS, f"network namespaces are disabled ({NET}=0)"),
        (errno.ENOSPC, {USER: "0", NET: "0"}, ROOTS, f"network namespaces are disabled ({NET}=0)"),
        (
            errno.ENOSPC,
            {USER: "0", NET: "9"},
            ROOTS,
            "No space left on device: a limit on namespaces is reached",
        ),
        (
            errno.ENOSPC,
            {USER: "9", NET: "9"},
            NOBODYS,
            "No space left on device: a limit on namespaces is reached",
        ),
        (errno.ENOSPC, {}, "", "No space left on device: a limit on namespaces is reached"),
        (errno.EPERM, {CLONE: "0"}, NOBODYS, f"disabled for unprivileged users ({CLONE}=0)"),
        (errno.EPERM, {CLONE: "0"}, FILTERED, f"disabled for unprivileged users ({CLONE}=0)"),
        (errno.EPERM, {CLONE: "1", APPARMOR: "1"}, NOBODYS, f"AppArmor restricts .* ({APPARMOR}=1)"),
        (errno.EACCES, {APPARMOR: "1"}, NOBODYS, f"AppArmor restricts .* ({APPARMOR}=1)"),
        (errno.EPERM, {APPARMOR: "0", USER: "0"}, NOBODYS, "Operation not permitted: neither privilege"),
        (
            errno.EPERM,
            {USER: "9"},
            FILTERED,
            "Operation not permitted: system calls are filtered here (seccomp)",
        ),
        (errno.ENOSYS, {}, FILTERED, "Function not implemented: system calls are filtered here (seccomp)"),
        (errno.EPERM, {}, "", "Operation not permitted: neither privilege nor a user namespace is available"),
        (
            errno.EINVAL,
            {USER: "0"},
            NOBODYS,
            "Invalid argument: this kernel has no network or user namespaces",
        ),
        (errno.EIO, {USER: "0", APPARMOR: "1"}, NOBODYS, "Input/output error"),
    ],
)
def test_a_refusal_is_told_by_the_switch_that_explains_it(
    number: int,
    switches: dict[str, str],
    status: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And by no other: a switch that is off explains nothing where privilege did not need it."""
    sentence = why(number, switches, status, tmp_path, monkeypatch)
    before, _, after = words.partition(".* ")
    assert before in sentence
    assert sentence.endswith(after) or not after
    assert "=" not in sentence or "=" in words
