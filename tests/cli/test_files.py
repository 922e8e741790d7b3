# SPDX-License-Identifier: MIT
"""Files that commands write where another user may write too: record, plot and export."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mptcp_sockopt import cli
from mptcp_sockopt.cli import _files, _outcome

from .recorded import many_paths, written


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    """The umask of a careless shell."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def record(path: Path) -> int:
    return cli.main(["record", "-o", str(path), "--for", "0.01"])


@pytest.mark.parametrize("name", ["run.jsonl", "run.jsonl.gz"])
def test_a_recording_is_its_owners(name: str, tmp_path: Path, mptcp: None) -> None:
    """Nobody else can read it, whatever the umask."""
    assert record(tmp_path / name) == 0
    assert mode_of(tmp_path / name) == 0o600


@pytest.mark.parametrize("content", [None, "", "precious"])
def test_a_recording_follows_no_link(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str], mptcp: None
) -> None:
    """To a file that is missing (and would be made), empty, or has something in it."""
    target, link = tmp_path / "target", tmp_path / "run.jsonl"
    if content is not None:
        target.write_text(content)
    link.symlink_to(target)
    assert record(link) == 3
    assert capsys.readouterr().err.endswith(f"{link} exists: choose another name, or remove it\n")
    assert (target.read_text() if target.exists() else None) == content


def test_a_recording_does_not_go_into_anothers_file(tmp_path: Path, mptcp: None) -> None:
    """An empty one of this user is taken, as mktemp makes it; one of another user is not."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.touch()
    assert record(mine) == 0
    assert mine.stat().st_size
    theirs.touch()
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(theirs, 65534, 65534)
    assert record(theirs) == 3
    assert not theirs.stat().st_size


def test_devices_and_pipes_are_written_through_links(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """/dev/stdout is a link."""
    if Path("/dev/stdout").exists() and not stat.S_ISREG(os.fstat(1).st_mode):
        with _files.create("/dev/stdout") as file:
            file.write(b"")
    reading, writing = os.pipe()
    with _files.create(f"/proc/self/fd/{writing}") as file:
        os.close(writing)
        file.write(b"told")
    with open(reading, "rb") as file:
        assert file.read() == b"told"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_picture_is_for_those_who_may_read_the_recording(mode: int, tmp_path: Path) -> None:
    """And takes the place of a link, not of what it points to."""
    recording = Path(written(tmp_path / "run.jsonl", many_paths(1, 5)))
    recording.chmod(mode)
    target, picture = tmp_path / "target", tmp_path / "run.html"
    target.write_text("precious")
    picture.symlink_to(target)
    assert cli.main(["plot", str(recording), "-o", str(picture)]) == 0
    assert not picture.is_symlink()
    assert (mode_of(picture), target.read_text()) == (mode, "precious")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.html", "run.jsonl", "target"]


def test_what_is_replaced_is_nobody_elses_file(tmp_path: Path) -> None:
    """What lies where the new file is made is not written to: no file, no link, whoever put it there."""
    target, file = tmp_path / "target", tmp_path / "x.prom"
    beside = Path(f"{file}.{os.getpid()}.tmp")
    for make in (beside.symlink_to, beside.hardlink_to):
        target.write_text("precious")
        make(target)
        _files.replace(str(file), b"metrics", 0o644)
        assert (file.read_bytes(), target.read_text(), beside.exists()) == (b"metrics", "precious", False)
        assert mode_of(file) == 0o644


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, and nothing beside it."""
    file = tmp_path / "x.prom"
    file.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: os.rename("/nonexistent", "/nonexistent"))
    with contextlib.suppress(FileNotFoundError):
        _files.replace(str(file), b"new", 0o644)
    assert [path.name for path in tmp_path.iterdir()] == ["x.prom"]
    assert file.read_text() == "old"


def test_what_is_quoted_is_escaped() -> None:
    """Control characters, bytes that are no text, what turns the direction; lines and letters stay."""
    text = "x\x1b]0;y\x07\x9b\udcff\u202e\tä日\n"
    assert _outcome.escaped(text) == "x\\x1b]0;y\\x07\\x9b\\udcff\\u202e\\tä日\n"
