# SPDX-License-Identifier: MIT
"""The verdicts of .ci/emulate.py: what a mirror that is not whole, or dead, makes of a place."""

from __future__ import annotations

import contextlib
import http.server
import importlib
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support import Missing

CI = Path(__file__).parents[2] / ".ci"
MIRROR = "http://mirror/debian"
MISSING = (
    f"E: Failed to fetch {MIRROR}/pool/main/g/glibc/libc6_2.41_s390x.deb  404  Not Found [IP: 192.0.2.1 80]"
)
HICCUP = f"E: Failed to fetch {MIRROR}/pool/main/z/zlib/zlib1g_1.3_s390x.deb  Connection failed"
INDEX = f"E: Failed to fetch {MIRROR}/dists/trixie/main/binary-s390x/by-hash/SHA256/ab12  404  Not Found"
RELEASE = f"E: Failed to fetch {MIRROR}/dists/trixy/InRelease  404  Not Found [IP: 192.0.2.1 80]"
AFTERWARDS = "E: Some files failed to download"


@pytest.fixture
def emulate(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(CI)
    return importlib.import_module("emulate")


def test_what_is_left_out_is_there(emulate: Any) -> None:
    """Else it would run under another name."""
    assert [name for name in emulate.ELSEWHERE if not (CI.parent / "tests" / name).exists()] == []


def test_each_target_has_a_place(emulate: Any) -> None:
    """On this processor with a loader of its own, else by an emulator."""
    targets = [place.target for place in emulate.PLACES.values()]
    assert {target.name for target in targets} | {*emulate.MUSL} == emulate.TARGETS.keys()
    names = {target.machine.name for target in targets if not target.machine.qemu}
    assert names == emulate.LOADERS.keys()


@pytest.mark.parametrize(
    ("lines", "files"),
    [
        ([MISSING, AFTERWARDS], ["libc6_2.41_s390x.deb"]),
        (
            ["Get:1 x", MISSING, MISSING, "E: Unable to fetch some archives, maybe run apt-get update"],
            ["libc6_2.41_s390x.deb"] * 2,
        ),
        ([INDEX, "E: Some index files failed to download. They have been ignored."], ["ab12"]),
        ([MISSING, HICCUP, AFTERWARDS], []),
        ([HICCUP, AFTERWARDS], []),
        ([RELEASE], []),
        (["E: Unable to locate package pyhton3"], []),
        ([MISSING, "E: The repository 'x Release' is not signed."], []),
        (["E: You don't have enough free space in /tmp."], []),
        ([MISSING.replace("404  Not Found", "503  Busy"), AFTERWARDS], []),
        ([], []),
    ],
)
def test_gone_is_a_404_for_what_an_index_names_and_nothing_else(
    emulate: Any, lines: list[str], files: list[str]
) -> None:
    """One other line of apt's, and it is a failure: a dead mirror, a typo, a full disk."""
    assert emulate.unserved("\n".join([*lines, "ended with 100: apt-get"])) == files


def outcomes(emulate: Any, names: list[str], **raised: str) -> int:
    def one(name: str) -> str:
        if name in raised:
            raise getattr(emulate, raised[name])(f"why not {name}")
        return "Python 3.13"

    status: int = emulate.run_all(names, one)
    return status


def test_every_place_is_marked_and_the_last_line_names_what_is_not_ok(
    emulate: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside what was seen there."""
    assert outcomes(emulate, ["aarch64", "s390x", "3.14"], s390x="NotServed") == 0
    lines = capsys.readouterr().out.splitlines()
    marks = sorted(line.split(" (")[0] for line in lines[:3])
    assert marks == ["GONE s390x", "ok   3.14", "ok   aarch64"]
    assert [line for line in lines if "why not s390x" in line and line.startswith("GONE")]
    assert lines[3] == "3 places: 2 ok; GONE: s390x"
    assert outcomes(emulate, ["aarch64", "s390x", "ppc64le"], s390x="NotServed", ppc64le="Failed") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "3 places: 1 ok; GONE: s390x; FAIL: ppc64le"


def test_some_places_have_no_excuse(emulate: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """They are named in the code; and a run in which none ran is no good run."""
    assert {"aarch64", "i686"} <= emulate.MUST_RUN <= {*emulate.PLACES, *emulate.MUSL}
    for name in emulate.MUST_RUN:
        assert outcomes(emulate, [name, "s390x"], **{name: "NotServed"}) == 1
        assert capsys.readouterr().out.splitlines()[-1] == f"2 places: 1 ok; FAIL: {name}"
    assert outcomes(emulate, ["s390x"], s390x="NotServed") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 places: 0 ok; GONE: s390x; FAIL: none ran"


def test_a_place_that_hangs_is_a_failure_of_that_place(
    emulate: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it said before; the others run."""
    monkeypatch.setattr("workshop.LIMIT", 0.5)

    def one(name: str) -> str:
        seen: str = emulate.run("sh", "-c", "echo so far; exec sleep 60") if name == "s390x" else "seen"
        return seen

    assert emulate.run_all(["s390x", "aarch64"], one) == 1
    shown = capsys.readouterr().out
    assert "so far\n    did not end within 0.5 s: sh -c" in shown.replace("\n    \n", "\n")
    assert shown.endswith("\n2 places: 1 ok; FAIL: s390x\n")


# ---------------------------------------------------------------------------------------- a planted mirror


@contextlib.contextmanager
def planted_mirror(real: str, *missing: str) -> Iterator[str]:
    """A mirror that hands on what the real one has, but for names with one of these words in them."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if any(word in self.path for word in missing):
                self.send_error(404)
                return
            try:
                with urllib.request.urlopen(real.rstrip("/") + self.path, timeout=60) as answer:
                    self.send_response(200)
                    self.send_header("Content-Length", answer.headers["Content-Length"])
                    self.end_headers()
                    shutil.copyfileobj(answer, self.wfile)
            except urllib.error.HTTPError as error:
                self.send_error(error.code)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ("", "none at all (apt-get update)"),
        ("http://a/ Google\nhttp://b/ Debian-Security\n", "http://a/, http://b/"),
    ],
)
def test_a_host_whose_indexes_name_no_archive(
    emulate: Any, monkeypatch: pytest.MonkeyPatch, told: str, known: str
) -> None:
    """An image of a machine that comes without indexes, or another distribution's."""
    monkeypatch.setattr(emulate, "run", lambda *words: told)
    with pytest.raises(emulate.Failed) as caught:
        emulate.mirror()
    assert str(caught.value).endswith(f"they know: {known}")


@pytest.fixture
def real(emulate: Any) -> str:
    if not shutil.which("apt-get"):
        raise Missing("apt-get")
    uri: str = emulate.mirror()
    return uri


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "suite"),
    [
        ((), "trixie"),
        (("musl_1.2.5",), "bookworm"),  # a file of trixie alone
        (("dists/trixie/main/binary-s390x/",), "bookworm"),
        (("_s390x.deb",), None),
    ],
)
def test_the_next_suite_is_tried_before_a_place_is_given_up(
    emulate: Any, real: str, tmp_path: Path, missing: tuple[str, ...], suite: str | None
) -> None:
    """A mirror that lacks an architecture's files is told from all else by apt itself."""
    wanted = ("s390x", ("trixie", "bookworm"), ("musl",), tmp_path)
    with planted_mirror(real, *missing) as uri:
        if suite:
            assert emulate.fetch(uri, *wanted) == (suite, tmp_path / f"{suite}-s390x-musl")
            assert list(tmp_path.glob("*/lib/ld-musl-s390x.so.1"))
        else:
            with pytest.raises(emulate.NotServed, match=r"(?s)trixie: .*404 for musl_.*bookworm: .*404 for"):
                emulate.fetch(uri, *wanted)
            assert not list(tmp_path.glob("*/"))


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["dead", "wrong address", "no such suite", "no such package"])
def test_a_dead_mirror_and_a_typo_are_failures(emulate: Any, real: str, tmp_path: Path, trouble: str) -> None:
    """Never GONE."""
    suite, package = "trixie", "musl"
    with planted_mirror(real, *["dists/"] * (trouble == "wrong address")) as uri:
        if trouble == "no such suite":
            suite = "trixy"
        if trouble == "no such package":
            package = "mulsl"
        if trouble != "dead":
            with pytest.raises(emulate.Failed) as caught:
                emulate.fetch(uri, "s390x", (suite, "bookworm"), (package,), tmp_path)
    if trouble == "dead":  # nobody listens there any more
        with pytest.raises(emulate.Failed) as caught:
            emulate.fetch(uri, "s390x", (suite, "bookworm"), (package,), tmp_path)
    assert not isinstance(caught.value, emulate.NotServed)
