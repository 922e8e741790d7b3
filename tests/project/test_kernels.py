# SPDX-License-Identifier: MIT
"""The judge of tests/kernels, over recorded and spoilt words of guests; nothing is booted here."""

from __future__ import annotations

import copy
import fcntl
import json
import re
import shlex
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from ..kernels import boot, debian, guest, rows, table, verdict
from ..kernels.__main__ import main, parser
from ..kernels.boot import Ending, Words
from ..kernels.debian import Unobtainable
from ..kernels.rows import ROWS, Row

ROW = next(row for row in ROWS if row.name == "amd64-6.12")
EXPECTED = rows.expectations()[ROW.name]


def good_words() -> Words:
    """What a guest says when all is well."""
    expected = copy.deepcopy(EXPECTED)
    figures = (
        "is_supported",
        "options",
        "mptcp_info",
        "tcp_info",
        "mptcp_tcpinfo",
        "full_info",
        "subflow_info",
        "mptcp_diag",
    )
    machine = ("machine", "bits", "byteorder")
    skipped = {reason: ["tests/test_abi.py::test_x"] * n for reason, n in expected["skipped"].items() if n}
    return [
        {"kind": "boot", "release": "6.12.1", **{key: expected[key] for key in machine}},
        {"kind": "sizes", **{name: expected[name] for name in figures}},
        *(
            {"kind": "sockets", "family": family, "found": expected["sockets"], "tcp_is_mptcp": [1, 0, 0]}
            for family in ("AF_INET", "AF_INET6")
        ),
        {"kind": "paths", **expected["subflows"]},
        {"kind": "outside", **expected["outside"]},
        {"kind": "commands", **expected["commands"]},
        {"kind": "findings", "found": {"bytes_again": 1, **expected["findings"]}},
        *(
            {
                "kind": "selftest", "option": option, "code": 0, "remarkable": [],
                "totals": ["# Totals: pass:88 fail:0 xfail:0 xpass:0 skip:0 error:0"],
            }
            for option in ("-4", "-6")
        ),
        {
            "kind": "pytest", "code": 0, "out": "", "files": ["tests/test_abi.py", "tests/test_views.py"],
            "counts": {
                "passed": {"tests/test_abi.py": 3, "tests/test_views.py": 4},
                "skipped": skipped,
                "failed": [],
            },
        },
        {"kind": "done", "up": 9.0},
    ]  # fmt: skip


def ending(words: Words, **changed: Any) -> Ending:
    return Ending(0, 9.0, words, 0, "reboot: Power down")._replace(**changed)


def judged(words: Words, **changed: Any) -> verdict.Outcome:
    return verdict.judge(ROW, EXPECTED, ending(words, **changed), "6.12.1-1")


def change(words: Words, kind: str, **values: Any) -> Words:
    for word in words:
        if word["kind"] == kind:
            word.update(values)
    return words


def test_a_good_guest_is_ok() -> None:
    """All of its figures are expected ones."""
    outcome = judged(good_words())
    assert (outcome.verdict, outcome.reasons, outcome.bad) == ("ok", [], False)
    assert outcome.figures["passed"] == 7


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda w: change(w, "sizes", tcp_info=249), "tcp_info is 249, not 248"),
        (lambda w: change(w, "sizes", options=[1, 2, 3]), "options is"),
        (lambda w: change(w, "sizes", is_supported="DISABLED"), "is_supported is DISABLED"),
        (lambda w: change(w, "sockets", tcp_is_mptcp=[0, 0, 0]), "tcp_is_mptcp is"),
        (lambda w: change(w, "paths", count=1), "subflows is"),
        (lambda w: change(w, "outside", nobody={}), "outside is"),
        (lambda w: change(w, "commands", show=70), "commands is"),
        (lambda w: change(w, "findings", found={"bytes_again": 0}), "findings is {'bytes_again': 0}"),
        (lambda w: [x for x in w if x["kind"] != "findings"], "findings is None"),
        (lambda w: change(w, "selftest", code=1), "selftest is"),
        (lambda w: change(w, "selftest", remarkable=["not ok 3 a"]), "self test -4: not ok 3 a"),
        (lambda w: change(w, "boot", release="6.1.12"), "calls itself 6.1.12, not 6.12"),
        (lambda w: change(w, "pytest", code=1), "pytest ended with 1"),
        (lambda w: change(w, "pytest", code=None, counts=None), "pytest did not count"),
        (lambda w: change(w, "pytest", files=["tests/test_new.py"]), "no test of tests/test_new.py"),
        (lambda w: [{"kind": "probe failed", "code": 1, "out": "OSError"}, *w], "the probe ended with 1"),
        (lambda w: [x for x in w if x["kind"] != "paths"], "subflows is None"),
        (lambda w: [x for x in w if x["kind"] != "selftest"], "selftest is"),
        (lambda w: [x for x in w if x["kind"] != "pytest"], "pytest did not count"),
    ],
)  # fmt: skip
def test_what_differs_is_a_failure(spoil: Any, reason: str) -> None:
    """And the sentence names it."""
    outcome = judged(spoil(good_words()))
    assert outcome.verdict == "FAIL"
    assert any(reason in text for text in outcome.reasons), outcome.reasons


def test_who_is_only_asked_needs_no_tests() -> None:
    """All that it answers counts."""
    words = [word for word in good_words() if word["kind"] not in ("pytest", "selftest")]
    outcome = verdict.judge(ROW, EXPECTED, ending(words), ask=True)
    assert (outcome.verdict, outcome.reasons) == ("ok", [])
    assert table.record_of(outcome)["findings"] == EXPECTED["findings"]
    outcome = verdict.judge(ROW, EXPECTED, ending(change(words, "sizes", tcp_info=249)), ask=True)
    assert outcome.reasons == ["tcp_info is 249, not 248"]


def test_a_roll_that_loses_somebody_is_a_failure() -> None:
    """What it printed is kept either way."""
    words = [word for word in good_words() if word["kind"] not in ("pytest", "selftest")]
    roll = {"kind": "roll", "words": "-6", "code": 0, "out": "PASS", "seconds": 1}
    outcome = verdict.judge(ROW, EXPECTED, ending([roll, *words]), ask=True)
    assert (outcome.verdict, outcome.rolls) == ("ok", ("roll -6: ended with 0\nPASS",))
    outcome = verdict.judge(ROW, EXPECTED, ending([{**roll, "code": 1}, *words]), ask=True)
    assert (outcome.verdict, outcome.reasons) == ("FAIL", ["roll -6 ended with 1"])


def test_a_failed_test_is_a_failure() -> None:
    """By name, with what pytest said."""
    words = good_words()
    counts = next(word for word in words if word["kind"] == "pytest")["counts"]
    counts["failed"] = ["tests/test_abi.py::test_planted"]
    change(words, "pytest", code=1, out="E assert False")
    (reason,) = judged(words).reasons
    assert "1 tests failed" in reason
    assert "test_planted" in reason
    assert "E assert False" in reason


def test_more_skips_or_fewer_are_a_failure() -> None:
    """By their reason."""
    words = good_words()
    skipped = next(word for word in words if word["kind"] == "pytest")["counts"]["skipped"]
    skipped["a new reason"] = ["tests/test_abi.py::test_y"]
    skipped["no C compiler"].pop()
    assert judged(words).reasons == [
        "1 tests are skipped, not 0: a new reason",
        "1 tests are skipped, not 2: no C compiler",
    ]


@pytest.mark.parametrize(
    ("words", "changed", "reason"),
    [
        ([], {}, "the guest said nothing"),
        (good_words()[:-1], {}, "did not say 'done'; its last word was 'pytest'"),
        ([*good_words()[:1], {"kind": "crash", "error": "Traceback\nRuntimeError: planted"}], {}, "planted"),
        ([*good_words()[:-1], {"kind": "crash", "error": "E"}, {"kind": "done"}], {}, "init crashed: E"),
        (good_words()[:2], {"code": None, "problem": "did not end within 60 s"}, "did not end within 60 s"),
        (good_words(), {"code": 1}, "qemu ended with 1"),
        (good_words(), {"damaged": 1}, "1 lines of the guest came damaged"),
        ([*good_words(), {"kind": "done"}], {}, "did not say 'done'"),
    ],
)
def test_who_did_not_do_the_work_is_broken(words: Words, changed: dict[str, Any], reason: str) -> None:
    """Whatever the figures are; the end of the console is shown."""
    outcome = judged(words, **changed)
    assert outcome.verdict == "BROKEN"
    assert any(reason in text for text in outcome.reasons), outcome.reasons
    assert "Power down" in outcome.reasons[-1]


def test_a_row_that_nobody_expects_is_a_failure() -> None:
    """Nor are figures that are not named."""
    assert verdict.judge(ROW, None, ending(good_words())).reasons == ["expected.json has no row amd64-6.12"]
    less = {key: value for key, value in EXPECTED.items() if key != "full_info"}
    (reason,) = verdict.judge(ROW, less, ending(good_words())).reasons
    assert reason == "full_info is 136, and expected.json does not name it"
    (reason,) = verdict.judge(ROW, {**EXPECTED, "ful_info": 136}, ending(good_words())).reasons
    assert "nobody measures" in reason


def test_a_required_row_may_not_be_gone() -> None:
    """Another is named GONE."""
    assert verdict.unobtainable(Row("amd64", "6.1", True), "why").bad
    outcome = verdict.unobtainable(Row("amd64", "7.0", False), "why")
    assert (outcome.verdict, outcome.bad) == ("GONE", False)
    assert table.line(outcome).endswith("why")


def test_damaged_lines_are_counted() -> None:
    """A line of the guest has a checksum; the kernel's own lines are none of its words."""
    text = json.dumps({"kind": "done"})
    line = f"@@{zlib.crc32(text.encode()):08x} {text}"
    assert boot.listen(f"[ 1.0] hello\r\n{line}\r\n[ 2.0] bye") == ([{"kind": "done"}], 0)
    assert boot.listen(f"[ 1.0] tail of another {line}") == ([{"kind": "done"}], 0)
    assert boot.listen(line.replace("done", "dome")) == ([], 1)
    assert boot.listen(line[:-3] + "[ 2.0] oops" + line[-3:]) == ([], 1)


def test_every_row_has_its_expectations_and_they_cover_what_was_asked_for() -> None:
    """23 rows, 7 architectures, 12 series, from 5.10 to 7.x; one small set; none is expected in vain."""
    assert {row.name for row in ROWS} == rows.expectations().keys()
    assert len(ROWS) >= 23
    assert {row.arch for row in ROWS} == rows.ARCHES.keys()
    assert len(rows.ARCHES) >= 7
    assert len({row.series for row in ROWS}) >= 12
    assert {row.name for row in ROWS} >= {name for names in rows.SMALL for name in names} - {"amd64-7.4"}
    required = {row.name for row in ROWS if row.required}
    assert required == {"amd64-5.10", "amd64-6.1", "amd64-6.12", "arm64-6.1", "arm64-6.12", "i386-6.1"}


def test_a_qemu_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence; its rows are broken, not skipped."""
    monkeypatch.setenv("PATH", "/nonexistent")
    sentence = boot.missing_qemu("s390x")
    assert sentence == (
        "qemu-system-s390x is not installed: apt-get install --no-install-recommends qemu-system-misc"
    )
    assert verdict.broken(ROW, sentence).bad


def test_a_machine_without_apt_has_no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unobtainable, match="apt-get is not installed"):
        debian.mirrors()


def test_who_is_stopped_leaves_nobody(tmp_path: Path) -> None:
    """stop() kills what runs, its children too, and nothing starts after it."""
    running = boot.Running()
    code = "import os, sys, time; os.fork(); print(os.getpid(), flush=True); time.sleep(60)"
    process = running.start([sys.executable, "-c", code], tmp_path / "log")
    deadline = time.monotonic() + 10
    while (tmp_path / "log").read_text().count("\n") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pids = [int(pid) for pid in (tmp_path / "log").read_text().split()]
    running.stop()
    assert process.returncode == -9
    for pid in pids:
        while Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with pytest.raises(InterruptedError):
        running.start([sys.executable, "-c", ""], tmp_path / "log")


def test_usage_errors_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    """And a sentence."""
    with pytest.raises(SystemExit) as caught:
        main(["--jobs", "many"])
    assert caught.value.code == 2
    assert "invalid int value" in capsys.readouterr().err
    for words in (["--only", "6.1"], ["--small"], ["--plant", "fail"]):
        with pytest.raises(SystemExit) as caught:
            main(["--write-docs", *words])
        assert caught.value.code == 2
        assert "--write-docs needs all rows" in capsys.readouterr().err


def test_a_list_waits_for_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which may boot for minutes, and holds the cache's lock meanwhile. A row that is not had is GONE."""

    def no_mirror() -> None:
        raise Unobtainable("no mirror")

    monkeypatch.setattr("tests.kernels.__main__.mirrors", no_mirror)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(
            target=main, args=(["--list", "--only", "i386", "--cache", str(tmp_path)],), daemon=True
        )
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["i386", "6.1", "required", "GONE"], ["i386", "6.5", "optional", "GONE"],
    ]  # fmt: skip
    assert main(["--list", "--only", "vax", "--cache", str(tmp_path)]) == 2


def test_the_command_tells_its_options() -> None:
    """All of those that README.md shows, and the planting in neither."""
    shown = subprocess.run(
        [sys.executable, "-m", "tests.kernels", "--help"],
        capture_output=True, text=True, check=True, timeout=60, cwd=rows.HERE.parent.parent,
    ).stdout  # fmt: skip
    usage = (rows.HERE / "README.md").read_text().split("```")[1]
    options = set(re.findall(r"--[\w-]+", usage))
    assert options == set(re.findall(r"(?m)^  (--[\w-]+)", shown))


def test_the_guest_runs_every_file_of_tests_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However deep it lies."""
    for name in ("test_views.py", "new/test_show.py", "project/test_house.py", "test_fuzz.py", "support.py"):
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(guest, "CHECKOUT", tmp_path)
    files, out = guest.tests_to_run()
    assert files == ["tests/new/test_show.py", "tests/test_views.py"]
    assert sorted(name for names in out.values() for name in names) == [
        "project/test_house.py",
        "test_fuzz.py",
    ]


# --------------------------------------------------------------------------------------------- the page


def test_the_page_is_what_the_last_full_run_said() -> None:
    """docs/kernels.md is rendered from docs/kernels.json, in which every row is good."""
    records = json.loads(table.RESULTS.read_text())["rows"]
    assert [f"{record['arch']}-{record['series']}" for record in records] == [row.name for row in ROWS]
    assert {record["verdict"] for record in records} <= {"ok", "GONE"}
    page = table.PAGE.read_text()
    assert table.rendered(page, records) == page
    assert table.to_json(records) == table.RESULTS.read_text()


def test_who_is_told_is_one_word() -> None:
    """All, root alone, or nobody; where nothing was asked, nobody."""
    told = copy.deepcopy(EXPECTED["outside"])
    found = table.outside_of(told)
    assert (found["told_paths"], found["told_ids"], found["told_reason"]) == ("all", "root", "root")
    assert (found["told_events"], found["told_listeners"]) == ("root", "root")
    told["root"].update(dict.fromkeys(told["root"], "ENOENT"))
    told["nobody"].update(dict.fromkeys(told["nobody"], "ENOENT"))
    assert set(table.outside_of(told).values()) == set(table.outside_of(None).values()) == {None}


def test_the_page_shows_what_is_expected() -> None:
    """The figures of the two agree."""
    expected = rows.expectations()
    for record in json.loads(table.RESULTS.read_text())["rows"]:
        if record["verdict"] == "ok":
            figures = expected[f"{record['arch']}-{record['series']}"]
            for name in ("mptcp_info", "tcp_info", "full_info", "subflow_info", "options", "is_supported"):
                assert record[name] == figures[name]
            told = table.outside_of(figures["outside"])
            assert {name: record[name] for name in told} == told


def test_the_commands_of_the_page_are_taken() -> None:
    """By the command's own parser."""
    (block,) = re.findall(r"```sh\n(.*?)```", table.PAGE.read_text(), re.DOTALL)
    for command in block.splitlines():
        python, flag, module, *words = shlex.split(command)
        assert (python, flag, module) == ("python", "-m", "tests.kernels")
        parser().parse_args(words)


def test_a_page_without_its_marks_is_refused() -> None:
    """Rather than left as it was."""
    with pytest.raises(ValueError, match="marks"):
        table.rendered("no marks", [])
    one = f"{table.BEGIN}\nold\n{table.END}\n"
    with pytest.raises(ValueError, match="marks"):
        table.rendered(one, [])
    page = f"a\n{one}b\n{one}b\n{one}c\n"
    gone = table.record_of(verdict.unobtainable(Row("amd64", "7.0", False), "why"))
    new = table.rendered(page, [gone])
    assert new.count("| amd64 | 7.0: GONE |") == len(table.TABLES)
    assert "old" not in new
    assert new.startswith("a\n")
    assert new.endswith(f"{table.END}\nc\n")
