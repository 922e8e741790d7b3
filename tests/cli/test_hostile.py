# SPDX-License-Identifier: MIT
"""What another user, a peer or a file may try on whoever runs a command as root (SECURITY.md)."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mptcp_sockopt as mp
from mptcp_sockopt import cli, metrics
from mptcp_sockopt.cli import _recording, export
from reuseport import __main__ as reuseport

from ..support import in_private_network, mptcp_pair, needs, needs_root, run
from .commands import outcome
from .recorded import Record, event, header, many_paths, sample, written
from .records import connection
from .terminal import terminal

ROOT = Path(__file__).parents[2]
# A terminal would change its title, and its colour.
ESCAPE = "\x1b]0;owned\x07\x1b[31m\u202e"
TAKES_NO_FILE = {"selftest"}  # and is below the commands


# --------------------------------------------------------------------------------------- the terminal


BECOMES = {"run", "listen"}  # the program that they are given, or what calls them


@pytest.mark.parametrize(
    ("program", "command"),
    [
        (program, one.name)
        for program in (cli, reuseport)
        for one in program.COMMANDS
        if one.name not in TAKES_NO_FILE
    ],
)
def test_words_are_quoted_without_escape_sequences(program: Any, command: str) -> None:
    """As the names of files in /tmp are, after `plot /tmp/*`: in usage errors, and in all others."""
    for words in ([ESCAPE] * 4, ["--", f"/nonexistent/{ESCAPE}"]):
        if command in BECOMES:
            done = run(sys.executable, "-m", "mptcp_sockopt", command, *words, cwd=ROOT)
            told = done.stdout + done.stderr
        else:
            told = "".join(outcome(command, *words, main=program.main)[1:])
        assert told
        assert "\x1b" not in told, words


@pytest.mark.parametrize(
    "words", [["plot", ESCAPE, "-o", "x.html"], ["watch", ESCAPE], ["record", "-o", f"/nonexistent/{ESCAPE}"]]
)
def test_files_are_named_without_escape_sequences(words: list[str], mptcp: None) -> None:
    """That cannot be read, or written."""
    found = outcome(*words)
    assert found.code == 3
    assert "\\x1b]0;owned\\x07" in found.err
    assert "\x1b" not in found.err


def test_an_interface_may_have_any_name(mptcp: None) -> None:
    """In what check and doctor say of endpoints and their routes."""
    ip = needs("ip", "iproute2")

    def look() -> None:
        name = ESCAPE[:15].replace("/", "")
        for words in (
            f"link add name {name} type veth peer name other",
            f"addr add 10.9.9.1/24 dev {name}",
            f"link set {name} up",
            f"mptcp endpoint add 10.9.9.1 dev {name} subflow",
        ):
            subprocess.run([ip, *words.split(" ")], check=True)
        for command in ("check", "doctor"):
            found = outcome(command)
            assert "\x1b" not in found.out + found.err
            assert "\\x1b]0;owned\\x07" in found.out

    needs_root()
    in_private_network(look)


def test_last_words_of_a_server_are_escaped() -> None:
    """Those of an audited one that ended before it listened."""
    needs_root()
    said = f"import sys; sys.exit({ESCAPE!r})"
    done = run(sys.executable, "-m", "reuseport", "audit", "--", sys.executable, "-c", said, cwd=ROOT)
    assert done.returncode == 3
    assert "\\x1b]0;owned" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_what_a_peer_sends_is_not_shown(mptcp: None) -> None:
    """Neither as text nor as JSON."""

    def look() -> None:
        with mp.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        with server.accept()[0] as sock:
                            sock.recv(999)
                            sock.sendall(b"HTTP/1.1 500 owned " + ESCAPE.encode() + b"\r\n\r\nowned")

            threading.Thread(target=answer, daemon=True).start()
            for more in ([], ["--json"]):
                found = outcome("check", *server.getsockname(), "--http", *more)
                assert found.code == 0
                assert "owned" not in found.out + found.err
            server.shutdown(socket.SHUT_RDWR)

    in_private_network(look)


def altered(value: Any) -> Any:
    """Every text of a record with ESCAPE behind it, but the words that say what the record is."""
    if isinstance(value, dict):
        return {
            name: part if name in ("kind", "status", "state", "event") else altered(part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [altered(part) for part in value]
    return value + ESCAPE if isinstance(value, str) else value


def hostile() -> Iterator[Record]:
    for record in many_paths(2, 12):
        yield altered(record)
    yield altered(event(1.0, "ANNOUNCED", id=1, remote=["10.0.0.9", 1]))
    yield event(1.1, "X" + ESCAPE)


def test_a_recording_has_no_escape_sequence_for_the_screen(tmp_path: Path) -> None:
    """What watch draws of it: curses' own sequences, and none of the file's."""
    made = altered(connection(fallback_reason="other", processes=[{"pid": 1, "name": "python", "fd": 3}]))
    told = event(0.1, "X" + ESCAPE, token=made["token"])
    file = written(tmp_path / "run.jsonl", [sample(0, made), told, sample(0.2, made)])
    words = (sys.executable, "-m", "mptcp_sockopt", "watch", "-i", "0.001", file)
    with terminal(*words, rows=40, columns=160) as it:
        it.until(lambda lines: any("python\\x1b]0;owned" in line for line in lines), "a name")
        it.press("q")
        assert it.ended() == 0
        assert b"\x1b]0;owned" not in it.raw
        assert "\u202e".encode() not in it.raw


def test_a_recording_has_no_escape_sequence_for_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In its texts, and in the list of connections on standard error."""
    file = written(tmp_path / "run.jsonl", hostile())
    for words in ([], ["--connection", "9"]):
        cli.main(["plot", file, "-o", str(tmp_path / "x.html"), *words])
        err = capsys.readouterr().err
        assert "\x1b" not in err
    assert "\\u001b" not in (tmp_path / "x.html").read_text()
    assert "\x1b" not in (tmp_path / "x.html").read_text()


# ---------------------------------------------------------------------------------------- memory, code


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kB of a compressed file are any number of bytes: no more of a line is read than one may have."""
    monkeypatch.setattr(_recording, "_LONGEST_LINE", 1 << 16)
    first = Path(written(tmp_path / "head", [])).read_bytes()
    file = tmp_path / "bomb.jsonl.gz"
    file.write_bytes(gzip.compress(first + b"[" * (1 << 24)))
    assert file.stat().st_size < 1 << 16
    found = outcome("plot", file, "-o", tmp_path / "x.html")
    assert (found.code, f"{file}: line 2 is damaged" in found.err) == (3, True)
    assert header()["kind"] == "header"


def test_metrics_name_no_peer_and_no_process(mptcp: None) -> None:
    """Labels are ports and local addresses, and names of counters and kinds. The exporter is on loopback."""
    address, _ = export.parser().parse_args([]).listen
    assert address == "127.0.0.1"

    def look() -> None:
        with mptcp_pair(socket.AF_INET), metrics.Metrics() as found:
            found.look()
            labels = {name for row in found.collect() for name in row.labels}
            assert labels == LABELS

    in_private_network(look)


LABELS = {"address", "counter", "event", "family", "port", "reason", "state", "status", "what"}
LAUNCH = "import sys\nfrom {module} import main\nsys.exit(main())\n"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("mptcp_sockopt.cli", ["check", "--help"]),
        ("mptcp_sockopt.cli", ["doctor", "--json"]),
        ("mptcp_sockopt.cli", ["run", "--", "/bin/true"]),
        ("reuseport.__main__", ["lesson", "all"]),
    ],
)
def test_the_current_folder_has_no_code_of_ours(
    module: str, words: list[str], tmp_path: Path, mptcp: None
) -> None:
    """Started as the script that pip installs, in a folder full of modules that another user planted."""
    there, script = tmp_path / "there", tmp_path / "bin" / "command"
    there.mkdir()
    script.parent.mkdir()
    script.write_text(LAUNCH.format(module=module))
    names = {name.partition(".")[0] for name in sys.modules} | set(sys.stdlib_module_names)
    for name in names - {"sitecustomize", "usercustomize"}:
        (there / f"{name}.py").write_text("import os\nos.open('owned', os.O_CREAT)\n")
    done = run(sys.executable, str(script), *words, cwd=there, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert not (there / "owned").exists(), done.stderr
    assert done.returncode in (0, 1), done.stderr
