# SPDX-License-Identifier: MIT
"""Whether an answer is whole: at every byte of answers of every kind."""

from __future__ import annotations

import os

import pytest

from reuseport.load.http import Answer, NotHTTPError, Request

OK = b"HTTP/1.1 200 OK\r\n"

WHOLE = {
    "length": OK + b"Content-Length: 5\r\n\r\nhello",
    "length, folded case, blanks": OK + b"CONTENT-LENGTH:\t 5 \r\n\r\nhello",
    "length 0": OK + b"Content-Length: 0\r\n\r\n",
    "lengths that agree": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a length in the body": OK + b"Content-Length: 22\r\n\r\n\r\nContent-Length: 99\r\n",
    "newlines alone": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "newlines alone, others in the body": b"HTTP/1.1 200 OK\nContent-Length: 6\n\no\r\n\r\nk",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n0\r\n\r\n4567890abcd\r\n0\r\n\r\n",
    "chunk extensions": OK + b"transfer-encoding: gzip, chunked\r\n\r\n5;a=b; c\r\nhello\r\n0;last\r\n\r\n",
    "trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nExpires: never\r\nA: b\r\n\r\n",
    "chunks beside a length": OK
    + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    + OK
    + b"Content-Length: 0\r\n\r\n",
    "error": b"HTTP/1.0 503 Busy\r\nContent-Length: 2\r\n\r\nno",
}


def fed(data: bytes, portion: int, *, head: bool = False) -> tuple[Answer, bool]:
    """An answer that comes in portions; whether it is whole after the last."""
    answer, whole = Answer(head=head), False
    for start in range(0, len(data), portion):
        assert not whole, f"whole {len(data) - start} bytes early"
        whole = answer.feed(data[start : start + portion])
    return answer, whole


@pytest.mark.parametrize("portion", [1, 2, 7, 10_000])
@pytest.mark.parametrize("name", WHOLE)
def test_whole_with_the_last_byte(name: str, portion: int) -> None:
    """However the bytes come; and no cut of it is whole, not even at the end of the connection."""
    data = WHOLE[name]
    answer, whole = fed(data, portion)
    assert whole
    assert not answer.excess
    assert answer.status is not None
    assert answer.status >= 200
    for cut in range(1, len(data)):
        part, whole = fed(data[:cut], portion)
        assert not whole, data[:cut]
        assert not part.end(), data[:cut]


@pytest.mark.parametrize("portion", [1, 10_000])
def test_without_length_only_the_end_completes_it(portion: int) -> None:
    """And it says so, with its length: only a comparison shows that it was cut."""
    answer, whole = fed(OK + b"Server: x\r\n\r\nsome text\r\n\r\n", portion)
    assert not whole
    assert (answer.end(), answer.until_end, answer.length, answer.keep) == (True, True, 13, False)


@pytest.mark.parametrize("name", ["length", "chunks", "error"])
def test_head_has_no_body(name: str) -> None:
    """Whatever its header says."""
    head, blank, _ = WHOLE[name].partition(b"\r\n\r\n")
    assert fed(head + blank, 1, head=True)[1]


def test_what_is_informational_is_no_answer() -> None:
    """103 and then the end: nothing was answered."""
    answer, whole = fed(b"HTTP/1.1 103 Early Hints\r\n\r\n", 1)
    assert (whole, answer.end(), answer.status, answer.begun) == (False, False, None, True)


@pytest.mark.parametrize(
    ("data", "keep"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", True),
        (OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n", False),
        (OK + b"Connection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", True),
    ],
)
def test_whether_the_connection_goes_on(data: bytes, keep: bool) -> None:
    """By version and header."""
    answer, whole = fed(data, 1)
    assert (whole, answer.keep) == (True, keep)


def test_what_comes_after_the_answer() -> None:
    """It is whole, and something is wrong with the connection."""
    answer = Answer()
    assert answer.feed(WHOLE["length"] + b"x")
    assert answer.excess


@pytest.mark.parametrize(
    ("data", "tls"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", True),  # an alert
        (b"\x16\x03\x03\x00\x7a\x02", True),  # a handshake
        (b"\x15\x01", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        (b"<html>", False),
        (b"\x00\x00\x00\x07", False),
        (b"HTTP/2 200\r\n\r\n", False),
        (b"HTTP/1.1 OK\r\n\r\n", False),
        (OK + b"Content-Length: many\r\n\r\n", False),
        (OK + b"Content-Length: -1\r\n\r\n", False),
        (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", False),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nok", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n", False),
        (OK + b"X: " + b"y" * (1 << 19), False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * (1 << 15), False),
    ],
)
def test_what_is_no_answer(data: bytes, tls: bool) -> None:
    """TLS is told from other things."""
    with pytest.raises(NotHTTPError) as told:
        fed(data, 10_000)
    assert told.value.tls is tls


def test_a_request_has_the_bytes_that_were_typed() -> None:
    """Also those that are no text, as the command line gives them."""
    typed = b"/caf\xc3\xa9/\xe2\x82\xac/\xff"
    wire = Request(path=os.fsdecode(typed), headers=("X: \udcff",)).wire()
    assert wire.startswith(b"GET " + typed + b" HTTP/1.1\r\n")
    assert b"\r\nX: \xff\r\n" in wire


def test_a_request() -> None:
    """What is missing is added, what is given stays, and the length is that of the body."""
    assert Request().wire() == b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert Request().wire(close=False) == b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    posted = Request("POST", "/form", ("Host: example.org", "X-A: b"), b"a=1")
    assert posted.wire(close=False) == (
        b"POST /form HTTP/1.1\r\nHost: example.org\r\nX-A: b\r\nContent-Length: 3\r\n\r\na=1"
    )
    assert not posted.idempotent
    assert Request("PUT").wire().endswith(b"Content-Length: 0\r\n\r\n")
    assert Request("PUT").idempotent
