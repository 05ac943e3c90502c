"""RFC 9110 and 9112, byte for byte: requests of clients and proxies, and the responses.

Each test cites its section.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from ci.publish import publish
from ci.serve import running
from ci.store import Body, FolderStore
from tests.ci.support.sockets import Answer, connect, exchange
from tests.ci.support.wheels import Factory, clock

WHEEL = "/nightly/vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl"
OLD, NEW = "Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 06 Nov 2048 08:49:37 GMT"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, factory: Factory) -> Iterator[str]:
    store = FolderStore(tmp_path_factory.mktemp("served") / "bucket", durable=False)
    commit = factory.commit(1)
    publish(store, factory.wheels(commit), commit, factory.matrix, clock=clock)
    with running(store, upstream="https://upstream.example/simple") as url:
        yield url


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the server says, whose loggers pass nothing on."""
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    for logger in loggers:
        logger.addHandler(caplog.handler)
    yield caplog
    for logger in loggers:
        logger.removeHandler(caplog.handler)


def ask(base: str, *lines: str, target: str = WHEEL, method: str = "GET") -> Answer:
    """One request with these header lines."""
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *lines])
    (answer,) = exchange(base, head.encode("latin-1") + b"\r\n\r\n")
    return answer


@pytest.fixture(scope="module")
def whole(base: str) -> Answer:
    answer = ask(base)
    assert answer.status == 200
    return answer


# RFC 9110, 13.2.2: the order in which conditions are evaluated. {e} is the ETag, {d} the date.
PRECEDENCE = [
    (["If-Match: {e}"], 200),
    (["If-Match: *"], 200),
    (['If-Match: "other"'], 412),
    (['If-Match: "other", {e}'], 200),
    (['If-Match: "other"', "If-Match: {e}"], 200),  # two lines are one list (5.3)
    (["If-Match: W/{e}"], 412),  # compared strongly (13.1.1)
    (["If-Match: nonsense"], 412),
    (["If-Match: "], 412),
    ([f"If-Unmodified-Since: {OLD}"], 412),
    ([f"If-Unmodified-Since: {NEW}"], 200),
    (["If-Unmodified-Since: {d}"], 200),
    (["If-Unmodified-Since: yesterday"], 200),  # no date, so ignored (13.1.4)
    (["If-Match: {e}", f"If-Unmodified-Since: {OLD}"], 200),  # the date is then ignored
    (['If-Match: "other"', "If-None-Match: {e}"], 412),  # step 1 is before step 3
    (["If-Match: {e}", "If-None-Match: {e}"], 304),
    (["If-None-Match: {e}"], 304),
    (["If-None-Match: W/{e}"], 304),  # compared weakly (13.1.2)
    (["If-None-Match: *"], 304),
    (['If-None-Match: "a,b", "", {e}'], 304),  # a comma inside of a tag
    (['If-None-Match: "x{q}'], 200),
    (['If-None-Match: "other"', "If-None-Match: {e}"], 304),
    (['If-None-Match: "other"', "If-Modified-Since: {d}"], 200),  # the date is then ignored
    (["If-Modified-Since: {d}"], 304),
    ([f"If-Modified-Since: {OLD}"], 200),
    (["If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT"], 200),  # 5.6.7: all three forms
    (["If-Modified-Since: Sunday, 06-Nov-44 08:49:37 GMT"], 304),
    (["If-Modified-Since: Sun Nov  6 08:49:37 2044"], 304),
    (["If-Modified-Since: Fri, 06 Nov 2048 08:49:37 +0200"], 200),  # a date of mails, not of HTTP
    (["If-None-Match: {e}", "Range: bytes=0-1"], 304),
    (['If-Match: "other"', "Range: bytes=0-1"], 412),
    (["If-Match: {e}", "Range: bytes=0-1"], 206),
]


@pytest.mark.parametrize(("lines", "status"), PRECEDENCE)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions_are_evaluated_in_their_order(
    base: str, whole: Answer, lines: list[str], status: int, method: str
) -> None:
    etag, date = whole.headers["etag"], whole.headers["last-modified"]
    sent = [line.format(e=etag, d=date, q="") for line in lines]
    answer = ask(base, *sent, method=method)
    if method == "HEAD" and status == 206:
        status = 200  # ranges are defined for GET only (14.2)
    assert answer.status == status
    if status in (304, 412):
        for name in ("etag", "cache-control", "last-modified", "date"):  # 15.4.5
            assert name in answer.headers
        assert whole.body not in (answer.body, b"")
    if status == 304:
        assert answer.body == b""
        assert "content-length" not in answer.headers


def test_a_condition_on_what_is_not_there_changes_nothing(base: str) -> None:
    """13.2.1: ignored unless the answer would be 2xx without them."""
    for line in ('If-Match: "x"', "If-None-Match: *", f"If-Unmodified-Since: {OLD}"):
        assert ask(base, line, target="/nothing").status == 404
        assert ask(base, line, target="/whl/nightly/cu118/torch/").status == 302


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Range: bytes=0-9"], 206),
        (["Range: BYTES=0-9"], 206),  # 14.1: units are compared without case
        (["Range: bytes=0-9", "If-Range: {e}"], 206),
        (["Range: bytes=0-9", "If-Range: W/{e}"], 200),  # 13.1.5: strong ones only
        (["Range: bytes=0-9", 'If-Range: "other"'], 200),
        (["Range: bytes=999999999-", 'If-Range: "other"'], 200),
        (["Range: bytes=0-9", f"If-Range: {OLD}"], 200),
        (["Range: bytes=0-9", f"If-Range: {NEW}"], 200),  # an exact match, no comparison
        (["Range: bytes=0-9", "If-Range: {d}"], 200),  # weak: it may change within this second
        (["Range: bytes=999999999-"], 416),
        (["Range: bytes=9-0"], 200),
        (["Range: bytes=0-1, 4-5"], 200),  # several may be answered in full (14.2)
        (["Range: bytes=0-1", "Range: bytes=4-5"], 200),
        (["Range: bytes =0-1"], 200),
        (["Range: seconds=0-1"], 200),
    ],
)
def test_ranges(base: str, whole: Answer, lines: list[str], status: int) -> None:
    etag, date = whole.headers["etag"], whole.headers["last-modified"]
    answer = ask(base, *(line.format(e=etag, d=date) for line in lines))
    assert answer.status == status
    assert answer.headers["accept-ranges"] == "bytes"
    if status == 206:
        assert answer.body == whole.body[:10]
        assert answer.headers["content-range"] == f"bytes 0-9/{len(whole.body)}"
        for name in ("etag", "cache-control", "date"):  # 15.3.7
            assert answer.headers[name] == whole.headers[name] or name == "date"
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(whole.body)}"


def test_a_date_that_is_old_enough_is_a_strong_validator(tmp_path: Path, factory: Factory) -> None:
    """8.8.2.2 and 13.1.5."""
    store = FolderStore(tmp_path / "bucket", durable=False)
    store.create("x.whl", Body.of(b"0123456789"))
    os.utime(store.root / "x.whl", (1_000_000_000, 1_000_000_000))
    with running(store) as url:
        date = ask(url, target="/x.whl").headers["last-modified"]
        part = ask(url, "Range: bytes=0-1", f"If-Range: {date}", target="/x.whl")
    assert (part.status, part.body) == (206, b"01")


@pytest.mark.parametrize(
    "target",
    [WHEEL, "/nightly/cu118/vllm/", "/", "/nothing", "/nightly", "/whl/nightly/cu118/torch/"],
)
def test_head_has_the_headers_of_get_and_no_body(base: str, target: str) -> None:
    """9.3.2."""
    got, head = ask(base, target=target), ask(base, target=target, method="HEAD")
    assert (head.status, head.body) == (got.status, b"")
    for answer in (got, head):
        parsedate_to_datetime(answer.headers.pop("date"))  # 6.6.1
    assert head.headers == got.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_a_method_that_is_known_and_not_allowed(base: str, method: str) -> None:
    """15.5.6: 405 names those that are allowed."""
    answer = ask(base, "Content-Length: 0", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_an_unknown_method(base: str) -> None:
    """9.1: 501; and methods are compared with their case."""
    assert ask(base, method="BREW").status == 501
    assert ask(base, method="get").status == 501


def test_options_of_the_whole_server(base: str) -> None:
    """9112, 3.2.4."""
    assert ask(base, target="*", method="OPTIONS").status == 405


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://x" + WHEEL, 200),  # 9112, 3.2.2: a server takes what a proxy is sent
        ("HTTP://x:80" + WHEEL, 200),
        ("http://x/nightly", 308),
        ("http://x", 200),
        ("http://x/../etc/passwd", 404),
        ("ftp://x" + WHEEL, 404),
        (WHEEL + "?query", 200),
        (WHEEL + "%00", 404),
        (WHEEL + "%", 404),
        (WHEEL + "%zz", 404),
        (WHEEL.replace("v", "%76", 1), 200),  # 4.2.3: an encoded letter is the letter
        (WHEEL.replace("/vllm", "%2Fvllm"), 404),  # an encoded slash is no separator
    ],
)
def test_targets(base: str, target: str, status: int) -> None:
    assert ask(base, target=target).status == status


def test_a_target_that_is_too_long(base: str) -> None:
    """9112, 3: 414; or 400, where it came in so many pieces that no request was seen in it."""
    assert ask(base, target="/" + "a" * 9000).status == 414
    assert ask(base, target="/" + "a" * 50_000).status in (400, 414)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",  # 9112, 3.2: no Host
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",  # two
        b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",  # none that could be
        b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user@x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",  # 5.1: a space before the colon
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",  # 9110, 5.5
        b"GET / HTTP/1.1\r\nHost: x\r\n b: c\r\nA\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",  # 6.3
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_a_malformed_request_is_refused_and_ends_the_connection(base: str, head: bytes) -> None:
    answers = exchange(base, head + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [answer.status for answer in answers] == [400]


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
def test_no_second_request_is_smuggled_in(
    base: str, framing: bytes, said: pytest.LogCaptureFixture
) -> None:
    """9112, 6.1 and 6.3: where lengths are in doubt, what follows is nobody's request."""
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + framing
    answers = exchange(base, head + b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [answer.status for answer in answers] == [400]
    assert "Traceback" not in said.text


def test_a_body_that_turns_to_nonsense_ends_the_connection(
    base: str, whole: Answer, said: pytest.LogCaptureFixture
) -> None:
    """9112, 8: also where the answer was given before."""
    head = f"GET {WHEEL} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with connect(base) as client:
        client.sendall(head)
        received = b""
        while not received.endswith(whole.body):
            received += client.recv(65536)
        client.sendall(b"nonsense\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := client.recv(65536):
                rest += chunk
    assert b" 200 " not in rest
    assert "Traceback" not in said.text


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_body_of_a_get_is_read_over(base: str, framing: bytes) -> None:
    """9110, 9.3.1: it means nothing, and the next request begins after it."""
    first = b"GET /nothing HTTP/1.1\r\nHost: x\r\n" + framing
    last = f"GET {WHEEL} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    assert [answer.status for answer in exchange(base, first, last)] == [404, 200]


def test_requests_in_a_row_are_answered_in_theirs(base: str, whole: Answer) -> None:
    """9112, 9.3.2."""
    one = f"GET {WHEEL} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    two = b"HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    last = (
        f"GET {WHEEL} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\nConnection: close\r\n\r\n".encode()
    )
    answers = exchange(base, one, two, last)
    assert [answer.status for answer in answers] == [200, 404, 206]
    assert answers[0].body == whole.body
    assert answers[2].body == whole.body[:4]


@pytest.mark.parametrize("lines", ["", "Host: x\r\n", "Connection: keep-alive\r\n"])
def test_http_1_0_gets_an_answer_and_the_connection_closes(
    base: str, whole: Answer, lines: str
) -> None:
    """9112, 9.3: no Host is asked of it, and no chunks are sent to it."""
    request = f"GET {WHEEL} HTTP/1.0\r\n{lines}\r\n".encode()
    (answer,) = exchange(base, request)
    assert (answer.status, answer.body) == (200, whole.body)
    assert "transfer-encoding" not in answer.headers


def test_what_depends_on_accept_says_so(base: str) -> None:
    """12.5.5; several lines are one list."""
    json = "application/vnd.pypi.simple.v1+json"
    page = "/nightly/cu118/vllm/"
    for lines, target, status in (
        (["Accept: text/html"], page, 200),
        ([f"Accept: {json}"], page, 200),
        (["Accept: image/png"], page, 406),
        (["Accept: text/html"], "/nothing", 404),
        ([], "/nothing", 404),
    ):
        answer = ask(base, *lines, target=target)
        assert (answer.status, answer.headers["vary"]) == (status, "Accept")
    both = ask(base, "Accept: image/png", f"Accept: {json}", target=page)
    assert both.headers["content-type"] == json
    etag = both.headers["etag"]
    known = ask(base, f"Accept: {json}", f"If-None-Match: {etag}", target=page)
    assert (known.status, known.headers["vary"]) == (304, "Accept")
    html = ask(base, "Accept: text/html", f"If-None-Match: {etag}", target=page)
    assert html.status == 200


def test_an_upgrade_is_ignored(base: str, whole: Answer) -> None:
    """7.8: a server may ignore it."""
    answer = ask(base, "Upgrade: websocket", "Connection: upgrade")
    assert (answer.status, answer.body) == (200, whole.body)


def test_an_expectation_is_answered_at_once(base: str) -> None:
    """10.1.1: a final status instead of 100."""
    answer = ask(base, "Expect: 100-continue", "Content-Length: 5", method="PUT")
    assert answer.status == 405
