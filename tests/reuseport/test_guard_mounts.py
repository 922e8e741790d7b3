# SPDX-License-Identifier: MIT
"""Where CMD may write: which directories get overlays, what is mounted below, what older kernels refuse."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mptcp_sockopt import testing
from mptcp_sockopt.cli import CannotRun
from reuseport.audit import _mounts, _syscalls, guard

from ..support import NOBODY, Refusal, needs_root, where_refused
from .guarded import USERS, become, guarded, home_of, mount_tmpfs, own_mounts, shell

MS_NOSUID_NODEV_NOEXEC = 14


def own(path: str) -> str:
    """Make a directory of the user, which tests as root are not."""
    os.mkdir(path)
    os.chown(path, NOBODY, NOBODY)
    return path


# ------------------------------------------------------------------------------------------- what is wanted


def test_directories_are_wanted_once(tmp_path: Path) -> None:
    """Without symbolic links, outer ones first; not what is missing, no directory, or the root."""
    (tmp_path / "home" / "work").mkdir(parents=True)
    (tmp_path / "link").symlink_to("home")
    (tmp_path / "file").write_text("")
    names = ("link/work", "link", "home", "missing", "file")
    found = _mounts.wanted([str(tmp_path / name) for name in names] + ["", "/"], privileged=True)
    home = tmp_path.resolve() / "home"
    assert found == [_mounts.Wanted(str(home), "/"), _mounts.Wanted(str(home / "work"), "/")]


def test_without_privilege_owners_count() -> None:
    """An overlay copies no directory of somebody else, so what is below one needs an overlay of its own.
    Where the user may not write, there is none; but there may be one below."""
    needs_root()

    def look() -> list[_mounts.Wanted]:
        own_mounts()
        mount_tmpfs("/mnt", 0o777)
        for path in ("mine", "mine/too", "mine/others", "mine/others/mine", "closed", "closed/mine"):
            own(f"/mnt/{path}")
        for path in ("/mnt/mine/others", "/mnt/closed"):
            os.chown(path, 0, 0)
        become("user")
        paths = ["/mnt", "/mnt/mine/too", "/mnt/mine/others/mine", "/mnt/closed"]
        return _mounts.wanted(paths, privileged=False)

    assert testing.in_child(look) == [
        _mounts.Wanted("/mnt", "/mnt"),
        _mounts.Wanted("/mnt/closed/mine", "/mnt/closed"),
        _mounts.Wanted("/mnt/mine/too", "/mnt"),
        _mounts.Wanted("/mnt/mine/others/mine", "/mnt/mine/others"),
    ]


@pytest.mark.parametrize("user", USERS)
def test_a_working_directory_in_another_one_has_no_overlay_of_its_own(user: str) -> None:
    """One in /tmp, where HOME is too, is part of the overlay over /tmp; CMD starts in it, and writes."""
    with home_of(user) as home:
        found = guarded(
            lambda cage: (shell(cage, "pwd; echo x > file; cat file"), cage.protection), user, home
        )
    said, protection = found
    assert said == f"{home}\nx\n0"
    assert "/tmp" in protection.overlays
    assert home not in protection.overlays
    assert "/tmp" in protection.sentence


@pytest.mark.parametrize("user", USERS)
def test_a_working_directory_elsewhere_has_one(user: str) -> None:
    """A checkout on a disk of its own; HOME may be missing."""

    def before() -> None:
        own_mounts()
        mount_tmpfs("/mnt")
        own("/mnt/work,a:b\\c")

    def look(cage: guard.Guard) -> tuple[str, list[guard.Change], bool]:
        said = shell(cage, "echo x > file; cat file; echo $HOME")
        return said, cage.written().changes, os.path.exists("/mnt/work,a:b\\c/file")

    said, changes, exists = guarded(look, user, "/mnt/work,a:b\\c", before=before)
    assert said.startswith("x\n")
    assert changes == [guard.Change("/mnt/work,a:b\\c/file", "created")]
    assert not exists


# --------------------------------------------------------------------------------------------- nested mounts


def nested(home: str) -> None:
    """A tmpfs, a file and a /proc are mounted in HOME."""
    own_mounts()
    for name in ("disk", "proc"):
        os.mkdir(f"{home}/{name}")
    for name in ("file", "other"):
        Path(home, name).write_text(name)
        os.chmod(f"{home}/{name}", 0o666)
    mount_tmpfs(f"{home}/disk", 0o777)
    Path(home, "disk/live").write_text("live")
    _syscalls.mount(f"{home}/other", f"{home}/file", flags=_syscalls.MS_BIND)
    _syscalls.mount("proc", f"{home}/proc", "proc")


SCRIPT = "echo x > disk/new; cat disk/live file; (echo x > file) 2>&1; ls proc/version; echo x > top"


def test_what_is_mounted_below_is_seen_and_unharmed() -> None:
    """As root: another file system gets an overlay, and the rest can be read."""
    with home_of("root") as home:

        def look(cage: guard.Guard) -> tuple[str, list[str], str]:
            said = shell(cage, SCRIPT)
            live = " ".join(sorted(os.listdir(home) + os.listdir(f"{home}/disk")))
            return said, [change.path for change in cage.written().changes], live

        said, changes, live = guarded(look, "root", home, before=lambda: nested(home))
    assert said.startswith("liveother")
    assert "Read-only file system" in said
    assert said.endswith("proc/version\n0")
    assert changes == [f"{home}/disk/new", f"{home}/top"]
    assert live == "disk file live other proc"


def test_without_privilege_the_kernel_reveals_nothing_below_a_mount() -> None:
    """So HOME stays read-only, which is told; the file system in it has an overlay."""
    with home_of("user") as home:

        def look(cage: guard.Guard) -> tuple[str, guard.Protection, str]:
            said = shell(cage, f"{SCRIPT}; cat disk/new")
            why = guard.refusal(said, cage.protection)
            return said, cage.protection, why

        said, protection, why = guarded(look, "user", home, before=lambda: nested(home))
        assert not os.path.exists(f"{home}/top")
    assert said.startswith("liveother")
    assert "Read-only file system" in said
    assert said.endswith("x\n0")
    assert "/tmp" not in protection.overlays
    assert f"{home}/disk" in protection.overlays
    assert dict(protection.read_only)[home] == "something is mounted below it"
    assert f"{home} is read-only: something is mounted below it" in why


# ----------------------------------------------------------------------------------------- older kernels

NO_SETATTR: Refusal = ("mount_setattr", {}, errno.ENOSYS)  # before 5.12
NO_OVERLAYS: Refusal = ("mount", {3: 0}, errno.EPERM)  # before 5.11, for a user
NO_PROC: Refusal = ("mount", {3: MS_NOSUID_NODEV_NOEXEC}, errno.EPERM)  # in a container


def protection_where(refusals: list[Refusal], user: str) -> tuple[guard.Protection, str]:
    with home_of(user) as home:

        def look(cage: guard.Guard) -> tuple[guard.Protection, str]:
            return cage.protection, shell(cage, "echo x > file; ls file")

        found = where_refused(refusals, lambda: guarded(look, user, home))
        assert os.listdir(home) == []
    return found


@pytest.mark.parametrize("user", USERS)
def test_overlays_are_enough_where_not_all_can_be_read_only(user: str) -> None:
    """Linux 5.11: it is said that CMD may write elsewhere."""
    protection, said = protection_where([NO_SETATTR], user)
    assert said == "file\n0"
    assert protection.protected
    assert "Linux 5.12" in protection.unsealed
    assert "elsewhere to files" in protection.sentence
    assert protection.asdict()["unsealed"] == protection.unsealed


def test_read_only_is_enough_where_there_are_no_overlays() -> None:
    """CMD can write nothing."""
    protection, said = protection_where([NO_OVERLAYS], "user")
    assert "Read-only file system" in said
    assert protection.overlays == ()
    assert (
        dict(protection.read_only)["/tmp"]
        == "this kernel refuses overlays without privilege (they need Linux 5.11)"
    )
    assert protection.sentence == "CMD could write nothing; all else was read-only"


@pytest.mark.parametrize(
    ("refusals", "why"),
    [
        (
            [NO_SETATTR, NO_OVERLAYS],
            r"Linux 5\.12\), and /\S+: this kernel refuses overlays .* Linux 5\.11\)",
        ),
        ([NO_PROC], r"mount /proc: Operation not permitted \(as in containers"),
    ],
    ids=["neither", "proc"],
)
def test_a_kernel_that_can_protect_nothing(refusals: list[Refusal], why: str) -> None:
    """Exit status 3, and the way out."""
    with pytest.raises(
        CannotRun, match=rf"the live system cannot be protected from CMD here: .*{why}.*; --unprotected"
    ):
        protection_where(refusals, "user")
