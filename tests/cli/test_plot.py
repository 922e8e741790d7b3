# SPDX-License-Identifier: MIT
"""mptcp-sockopt plot: which connection it draws, what it says, and what it cannot draw."""

from __future__ import annotations

import gzip
import json
import os
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from mptcp_sockopt import cli
from mptcp_sockopt.cli._figure import digest
from mptcp_sockopt.cli._panels import picture_of
from mptcp_sockopt.cli._recording import read_recording
from mptcp_sockopt.cli._series import series_of, survey

from ..support import run
from .recorded import TOKEN, Record, connection, header, many_paths, path, sample, written
from .test_page import HOSTILE, data_of

#: From lines, or the name of a file, and more words: the exit code, stderr, and the data of the page.
Plot: TypeAlias = Callable[..., tuple[int, str, Any]]
DOCS = Path(__file__).parents[2] / "docs"
CANNOT = "mptcp-sockopt: cannot run here: "


@pytest.fixture
def plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Plot:
    def plot(lines: Sequence[Record] | Path, *words: str) -> tuple[int, str, Any]:
        file = str(lines) if isinstance(lines, Path) else written(tmp_path / "run.jsonl", lines)
        page = tmp_path / "run.html"
        page.unlink(missing_ok=True)
        code = cli.main(["plot", file, "-o", str(page), *words])
        out, err = capsys.readouterr()
        assert out == ""
        return code, err.replace(f"{tmp_path}/", ""), data_of(page.read_text()) if page.exists() else None

    return plot


def one(token: int = TOKEN, each: int = 1000, name: str = "python") -> list[Record]:
    """Records of one connection at three moments."""
    owners = [{"pid": 77, "name": name, "fd": 3}]
    return [connection(each * n, 0, path(0, each * n), token=token, processes=owners) for n in range(3)]


def together(*connections: Sequence[Record]) -> list[Record]:
    return [sample(n / 10, *records) for n, records in enumerate(zip(*connections, strict=True))]


def test_one_connection_is_drawn_without_a_word(plot: Plot) -> None:
    """Exit code 0."""
    code, err, data = plot([*many_paths(2, 50)])
    assert (code, err) == (0, "")
    assert data["title"] == "10.0.0.1:40000 -> 10.0.0.2:443  python/77"
    assert len(data["panels"]) == 5


def test_of_several_the_busiest_is_drawn(plot: Plot) -> None:
    """It says which, and how to get the others. Their names are printable."""
    code, err, data = plot(together(one(7, 10), one(8, 4000, name="a\x1b"), one(9, 30)))
    assert (code, data["subtitle"][7:23]) == (0, "token 0x00000008")
    assert err.splitlines() == [
        "mptcp-sockopt plot: connection 1 of 3, the busiest:",
        "    1  0x00000008   8.0 kB  10.0.0.1:40000 -> 10.0.0.2:443  a\\x1b/77",
        "The others, for --connection:",
        "    2  0x00000009     60 B  10.0.0.1:40000 -> 10.0.0.2:443  python/77",
        "    3  0x00000007     20 B  10.0.0.1:40000 -> 10.0.0.2:443  python/77",
    ]


@pytest.mark.parametrize("word", ["2", "0x1f2e3d4c", str(0x1F2E3D4C)], ids=["number", "hex", "decimal"])
def test_one_of_several_by_number_or_token(plot: Plot, word: str) -> None:
    """A token as `show` and ss print it, or in decimals."""
    code, err, data = plot(together(one(each=10), one(8)), "--connection", word)
    assert (code, data["subtitle"][7:23]) == (0, "token 0x1f2e3d4c")
    assert err.startswith("mptcp-sockopt plot: connection 2 of 2:\n")


def test_of_many_only_some_are_listed(plot: Plot) -> None:
    """Nine others."""
    _, err, _ = plot(together(*(one(token) for token in range(100, 130))))
    lines = err.splitlines()
    assert (len(lines), lines[-1]) == (13, "  and 20 more")


def test_a_connection_that_is_not_there(plot: Plot) -> None:
    """A sentence and what is there; exit code 3, nothing written."""
    assert plot(together(one()), "--connection", "0x99") == (
        3,
        f"{CANNOT}run.jsonl has no connection 0x99 (153). It has:\n"
        "    1  0x1f2e3d4c   2.0 kB  10.0.0.1:40000 -> 10.0.0.2:443  python/77\n",
        None,
    )


def test_nothing_to_draw(plot: Plot) -> None:
    """No sample, samples without connections, one sample of it."""
    assert (
        plot([]) == plot([sample(0), sample(1)]) == (3, f"{CANNOT}run.jsonl has no connection in it\n", None)
    )
    code, err, _ = plot([sample(0, one()[0]), sample(1)])
    name = "10.0.0.1:40000 -> 10.0.0.2:443  python/77"
    assert (code, err) == (3, f"{CANNOT}run.jsonl has one sample of {name}, and a rate takes two\n")


def test_two_samples_of_an_idle_connection(plot: Plot) -> None:
    """Lines at zero."""
    code, _, data = plot([sample(n / 10, connection(5, 5, path(0, 5, 5))) for n in range(2)])
    assert (code, data["panels"][0]["lines"][0]["values"]) == (0, [None, 0])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "run.jsonl is empty"),
        ("hello\n", "run.jsonl is no recording of `mptcp-sockopt record`"),
        ('{"connections": []}\n', "run.jsonl is no recording of `mptcp-sockopt record`"),
        (json.dumps(header(schema=2)), "run.jsonl was written by a newer version: its schema is 2, and this"),
        (f"{json.dumps(header())}\nx\ny\n", "run.jsonl: line 2 is damaged"),
        (f"{json.dumps(header(interval=-1))}\n", "run.jsonl has no connection in it"),
    ],
    ids=["empty", "text", "json", "newer", "a broken line", "a header alone"],
)
def test_no_recording(plot: Plot, tmp_path: Path, text: str, sentence: str) -> None:
    """A sentence and exit code 3."""
    file = tmp_path / "run.jsonl"
    file.write_text(text)
    code, err, data = plot(file)
    assert (code, err[: len(CANNOT + sentence)], data) == (3, CANNOT + sentence, None)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "damage",
    [
        {"connections": [{}]},
        {"connections": [7]},
        {"connections": [connection(0, 0, {"local": []})]},
        {"connections": [{**connection(0, 0), "token": [1]}]},
        {"connections": [connection("x", 0)]},  # type: ignore[arg-type]
        {"connections": [{**connection(0, 0), "subflows": None}]},
        {"monotonic": 1 << 2000},
        {"monotonic": 1},
        {"connections": [connection(0, 0, path(0, rtt=float("inf")))]},  # type: ignore[arg-type]
    ],
    ids=range(9),
)
def test_a_line_that_record_does_not_write(plot: Plot, damage: Record) -> None:
    """No traceback."""
    code, err, data = plot([*together(one()), {**sample(9, *one()[:1]), **damage}, *together(one())])
    assert (code, err.startswith(f"{CANNOT}run.jsonl is damaged: "), data) == (3, True, None)


def test_a_recording_that_was_cut_off(plot: Plot, tmp_path: Path) -> None:
    """Drawn up to the last whole line, plain and compressed."""
    lines = "".join(json.dumps(line) + "\n" for line in [header(), *many_paths(2, 50)])
    for name, data in (("run.jsonl", lines.encode()), ("run.jsonl.gz", gzip.compress(lines.encode()))):
        file = tmp_path / name
        file.write_bytes(data[: len(data) * 3 // 4])
        code, err, drawn = plot(file)
        assert (code, err) == (0, "")
        assert 20 < len(drawn["time"]) < 50


def test_a_file_that_can_be_read_once_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe is refused, and not waited for."""
    os.mkfifo(tmp_path / "pipe")
    assert cli.main(["plot", str(tmp_path / "pipe"), "-o", str(tmp_path / "x.html")]) == 3
    assert capsys.readouterr().err.endswith("pipe is no regular file, and it has to be read twice\n")
    assert cli.main(["plot", str(tmp_path / "none"), "-o", str(tmp_path / "x.html")]) == 3
    assert capsys.readouterr().err.endswith("none cannot be read: No such file or directory\n")


def test_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence with its name, exit code 3."""
    file = written(tmp_path / "run.jsonl", many_paths(1, 5))
    output = str(tmp_path / "none" / "x.html")
    assert cli.main(["plot", file, "-o", output]) == 3
    assert capsys.readouterr().err == f"{CANNOT}[Errno 2] No such file or directory: {output!r}\n"
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))
    try:
        assert cli.main(["plot", file, "-o", str(tmp_path / "full.html")]) == 3
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert "File too large" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["x.jsonl"], "the following arguments are required: -o"),
        (["x.jsonl", "-o", "x.pdf"], "argument -o: 'x.pdf' does not end in .svg, .png, .html"),
        (["x.jsonl", "-o", "svg"], "argument -o: 'svg' does not end in .svg, .png, .html"),
        (["x.jsonl", "-o", "x.html", "--connection", "0"], "argument --connection: '0' is neither a token"),
        (["x.jsonl", "-o", "x.html", "--connection", "x"], "argument --connection: 'x' is neither a token"),
    ],
)
def test_usage(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["plot", *words])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_without_matplotlib(tmp_path: Path) -> None:
    """svg and png say how to install it, before anything is read; html needs nothing of it."""
    file = written(tmp_path / "run.jsonl", many_paths(1, 5))
    code = (
        "import sys; sys.modules['matplotlib'] = None; from mptcp_sockopt.cli import main; sys.exit(main())"
    )
    for suffix in ("svg", "png"):
        output = tmp_path / f"x.{suffix}"
        found = run(sys.executable, "-c", code, "plot", "/none", "-o", str(output))
        assert (found.returncode, found.stdout, output.exists()) == (3, "", False)
        assert "pip install 'mptcp-sockopt[plot]'" in found.stderr
        assert found.stderr.count("\n") == 1
    found = run(sys.executable, "-c", code, "plot", file, "-o", str(tmp_path / "x.html"))
    assert (found.returncode, found.stderr) == (0, "")


def test_the_picture_of_docs_plot() -> None:
    """It says that it was drawn from the recording beside it."""
    lines = read_recording(DOCS / "plot.jsonl.gz").lines
    (found,) = survey([*lines])
    header, lines = read_recording(DOCS / "plot.jsonl.gz")
    drawn = picture_of(series_of(found, header, lines))
    assert digest(drawn) in (DOCS / "plot.svg").read_text()
    marks = [text for _, text in drawn.marks]
    assert marks == ["path 1: no ACKs", "path 1: ACKs again"]


def test_the_page_is_the_same_when_repeated(plot: Plot, tmp_path: Path) -> None:
    """Byte for byte."""
    pages = []
    for _ in range(2):
        assert plot([*many_paths(2, 50, name=HOSTILE)])[0] == 0
        pages.append((tmp_path / "run.html").read_bytes())
    assert pages[0] == pages[1]
