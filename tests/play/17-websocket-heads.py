# SPDX-License-Identifier: Apache-2.0
"""WebSocket from outside, 1: the head of an upgrade, made by hand, right and wrong, whole and byte by byte.

Every row says what the broker answers, which line it logs, and what it counts; two bystanders, one by
TCP and one by WebSocket, notice nothing."""

import json

from usherplay import (
    Broker,
    TlsBroker,
    check,
    check_equal,
    eventually,
    frame_bytes,
    play,
)
from usherplay.figures import stats
from usherplay.strangers import (
    HEAD_BYTES,
    KEY,
    Stranger,
    Witnesses,
    head,
    lines_but,
    login_of,
    padded,
)
from usherplay.websocket import BINARY, check_accepted, head_bytes, ws_frame


def refused_heads():
    """What, bytes, status."""
    good = head()
    yield "a folded line", head(add=["X-A: b", " c"]), 400
    yield "a folded first field", good.replace(b"\r\nHost", b"\r\n Host", 1), 400
    yield "a line feed alone", good.replace(b"\r\n", b"\n"), 400
    yield "one line feed alone", good.replace(b"\r\nHost", b"\nHost", 1), 400
    yield "an empty line of a line feed", good[:-2] + b"\n", 400
    yield "a carriage return in a value", head(add=["X-A: b\rc"]), 400
    yield "a carriage return in the first line", head(first="GET /usher\r HTTP/1.1"), 400
    yield "a NUL in a value", head(add=["X-A: b\0c"]), 400
    yield "a NUL in a name", head(add=["X\0A: b"]), 400
    yield "a NUL in the path", head(first="GET /usher\0 HTTP/1.1"), 400
    yield "a control character", head(add=["X-A: b\x1bc"]), 400
    yield "two Host", head(add=["Host: localhost"]), 400
    yield "two Host, one in small letters", head(add=["host: elsewhere"]), 400
    yield "two keys", head(add=[f"Sec-WebSocket-Key: {KEY}"]), 400
    yield "two versions", head(add=["Sec-WebSocket-Version: 13"]), 400
    yield "two origins", head(add=["Origin: null", "Origin: null"]), 400
    yield "no Host", head("Host"), 400
    yield "a Host with a space", head("Host", add=["Host: local host"]), 400
    yield "a Host with a slash", head("Host", add=["Host: localhost/usher"]), 400
    yield "a Host with a name before it", head("Host", add=["Host: me@localhost"]), 400
    yield "a body", head(add=["Content-Length: 5"]), 400
    yield "a body that comes", head(add=["Content-Length: 5"]) + b"12345", 400
    yield "a body of no length", head(add=["Content-Length: x"]), 400
    yield "a body in chunks", head(add=["Transfer-Encoding: chunked"]), 400
    yield "a body in chunks that comes", head(
        add=["transfer-encoding: chunked"]
    ) + b"0\r\n\r\n", 400
    yield "frames behind the head", good + ws_frame(BINARY, b"\0"), 400
    yield "a byte behind the head", good + b"x", 400
    yield "another request behind the head", good + good, 400
    yield "a line without a colon", head(add=["nonsense"]), 400
    yield "a line of a colon", head(add=[": b"]), 400
    yield "a space before the colon", head(add=["X-A : b"]), 400
    yield "a name with a slash", head(add=["X/A: b"]), 400
    yield "no key", head("Sec-WebSocket-Key"), 400
    for what, key in (
        ("a short key", KEY[:-4]),
        ("a long key", KEY[:-2] + "AA=="),
        ("a key without its end", KEY[:-2] + "AA"),
        ("a key with other characters", "!" + KEY[1:]),
        ("a key of blanks", " " * 24),
    ):
        yield what, head("Sec-WebSocket-Key", add=[f"Sec-WebSocket-Key: {key}"]), 400
    for first in (
        "GET /usher",
        "GET /usher HTTP/1.1 ",
        "GET  /usher HTTP/1.1",
        "GET /usher HTTP/1",
        "GET /usher HTTP/1.10",
        "GET /usher http/1.1",
        "GET /usher#top HTTP/1.1",
        "GET /us\tsher HTTP/1.1",
        "GET /us\x7fher HTTP/1.1",
        "GET  HTTP/1.1",
    ):
        yield f"the first line {first!r}", head(first=first), 400
    yield "another version", head(first="GET /usher HTTP/2.0"), 505
    yield "version 0.9", head(first="GET /usher HTTP/0.9"), 505
    for path in ("/", "/usher/", "/Usher", "/usher2", "/healthy", "/health/", "//usher", "*"):
        yield f"the path {path}", head(first=f"GET {path} HTTP/1.1"), 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        yield f"the method {method}", head(first=f"{method} /usher HTTP/1.1"), 405
    yield "HEAD of the path", head(first="HEAD /usher HTTP/1.1"), 405
    yield "POST to /health", head(first="POST /health HTTP/1.1"), 405
    yield "CONNECT", head(first="CONNECT localhost:1 HTTP/1.1"), 404
    yield "no Upgrade", head("Upgrade"), 426
    yield "another Upgrade", head("Upgrade", add=["Upgrade: h2c"]), 426
    yield "an Upgrade that is longer", head("Upgrade", add=["Upgrade: websockets"]), 426
    yield "no Connection", head("Connection"), 426
    yield "another Connection", head("Connection", add=["Connection: keep-alive"]), 426
    yield "HTTP/1.0", head(first="GET /usher HTTP/1.0"), 426
    yield "no version", head("Sec-WebSocket-Version"), 426
    for version in ("8", "12", "14", "013", "13, 8", ""):
        line = f"Sec-WebSocket-Version: {version}"
        yield f"version {version!r}", head("Sec-WebSocket-Version", add=[line]), 426
    for origin in (
        "https://game.example",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://10.0.0.1",
        "http://[::2]",
        "https://localhost@evil.example",
        "null",
        "localhost",
        "",
    ):
        yield f"the origin {origin!r}", head(add=[f"Origin: {origin}"]), 403
    yield "a byte too many", padded(HEAD_BYTES + 1), 431
    yield "cookies of 9 KiB", head(add=["Cookie: " + "c" * 9216]), 431
    yield "lines without end", b"GET /usher HTTP/1.1\r\n" + b"X-A: b\r\n" * 2048, 431
    yield "a line without end", b"GET /usher HTTP/1.1\r\nX-A: " + b"b" * 16384, 431
    yield "a first line without end", b"GET /" + b"u" * 16384, 431


def accepted_heads():
    """What, bytes, whether usher.v1 is chosen."""
    yield "a good head", head(), True
    small = [line.split(": ", 1) for line in lines_but()[1:]]
    yield "names in small letters", head_bytes(
        [lines_but()[0]] + [f"{name.lower()}: {value}" for name, value in small]
    ), True
    yield "names in capitals", head_bytes(
        [lines_but()[0]] + [f"{name.upper()}: {value}" for name, value in small]
    ), True
    yield "no blanks around values", head_bytes(
        [lines_but()[0]] + [f"{name}:{value}" for name, value in small]
    ), True
    yield "blanks around values", head_bytes(
        [lines_but()[0]] + [f"{name}: \t {value} \t" for name, value in small]
    ), True
    for value in (
        "keep-alive, Upgrade",
        "upgrade",
        "Upgrade,keep-alive",
        "a ,\tUPGRADE ,b",
        ",upgrade",
    ):
        line = f"Connection: {value}"
        yield f"Connection {value!r}", head("Connection", add=[line]), True
    yield "Connection in two lines", head(
        "Connection", add=["Connection: keep-alive", "Connection: Upgrade"]
    ), True
    for value in ("WebSocket", "WEBSOCKET", "h2c, websocket"):
        yield f"Upgrade {value!r}", head("Upgrade", add=[f"Upgrade: {value}"]), True
    yield "a query", head(first="GET /usher?token=SECRET&x=/health HTTP/1.1"), True
    yield "the target of a proxy", head(first="GET http://localhost/usher?a=b HTTP/1.1"), True
    yield "HTTP/1.2", head(first="GET /usher HTTP/1.2"), True
    protocol = "Sec-WebSocket-Protocol"
    yield "no protocol", head(protocol), False
    for value, chosen in (
        ("chat", False),
        ("chat, superchat", False),
        ("usher.v2", False),
        ("USHER.V1", False),
        ("chat, usher.v1", True),
        ("usher.v2,usher.v1,usher.v1", True),
    ):
        yield f"protocols {value}", head(protocol, add=[f"{protocol}: {value}"]), chosen
    yield "protocols in two lines", head(
        protocol, add=[f"{protocol}: chat", f"{protocol}: usher.v1"]
    ), True
    extension = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    yield "an extension", head(add=[extension]), True
    yield "cookies of 7 KiB", head(add=["Cookie: " + "c" * 7168]), True
    yield "a body of 0 bytes", head(add=["Content-Length: 0"]), True
    yield "the largest head", padded(HEAD_BYTES), True
    yield "bytes above 127", head(add=["X-A: caf\u00e9"]), True
    for host in ("localhost:7401", "[::1]:7401", "game.example", ""):
        yield f"Host {host!r}", head("Host", add=[f"Host: {host}"]), True
    for origin in (
        "file://",
        "http://localhost",
        "http://localhost:8080",
        "https://127.0.0.1:1",
        "http://127.9.9.9",
        "http://[::1]:3000",
    ):
        yield f"the origin {origin}", head(add=[f"Origin: {origin}"]), True


def check_refusal(what, answer, status, left):
    check_equal(answer.status, status, f"{what}: status (it said {answer.body!r})")
    headers = answer.headers
    wanted = "close, Upgrade" if status == 426 else "close"
    check_equal(headers["connection"], wanted, f"{what}: Connection")
    if status == 426:
        check_equal(headers.get("sec-websocket-version"), "13", f"{what}: version")
    if status == 405:
        check("GET" in headers.get("allow", ""), f"{what}: Allow in {headers}")
    check_equal(left, b"", f"{what}: bytes behind the answer")


def refused_row(broker, witnesses, what, data, status, count):
    """count: of the line that is logged; None: byte by byte, and the line is not looked for."""
    witnesses.begin(logged=count is not None)
    with Stranger(broker.ws_address) as stranger:
        stranger.send(data, bytewise=count is None)
        to_head = data.startswith(b"HEAD")
        answer = stranger.answer(to_head)
        check_refusal(what, answer, status, stranger.to_end())
        check(to_head or answer.body.endswith(b"\n"), f"{what}: it says {answer.body!r}")
    if count is not None:
        line = witnesses.logged(what, "ws_refused", count, status=status)
        check(status != 403 or "ws.origins" in line["reason"], f"{what}: {line}")
    witnesses.counted(what, ws_refused=1, ws_upgrades=0)
    witnesses.undisturbed(what)


def scene_refused_heads():
    """Each with its status, whole and byte by byte."""
    rows = list(refused_heads())
    with Broker(ws=True) as broker, Witnesses(broker) as witnesses:
        for number, (what, data, status) in enumerate(rows):
            refused_row(broker, witnesses, what, data, status, number + 1)
        for what, data, status in rows:
            if "behind the head" not in what:  # what comes later than our answer is none
                refused_row(broker, witnesses, f"{what}, byte by byte", data, status, None)
        print(f"     {len(rows)} heads, worst ping of a bystander {witnesses.worst * 1000:.1f} ms")


def scene_accepted_heads():
    """What proxies and browsers differ in; then the connection is one to log in on."""
    rows = list(accepted_heads())
    with Broker(ws=True) as broker, Witnesses(broker) as witnesses:
        for what, data, chosen in rows:
            for bytewise in (False, True):
                witnesses.begin()
                with Stranger(broker.ws_address) as stranger:
                    stranger.send(data, bytewise)
                    check_accepted(stranger.answer(), KEY, offered=chosen)
                    stranger.send(ws_frame(BINARY, frame_bytes(login_of("guest"))), bytewise)
                    eventually(lambda: len(stranger.got) > 10 or stranger.more(), what)
                    check_equal(stranger.got[0], 0x82, f"{what}: the first byte of a message")
                witnesses.counted(what, ws_refused=0, ws_upgrades=1)
                witnesses.undisturbed(what)
        print(f"     {len(rows)} heads")
        check_equal(broker.log_events("ws_refused"), [], "refusals")
        check(not any("SECRET" in json.dumps(line) for line in broker.lines), "a query is logged")


def scene_heads_over_tls():
    """The same rules behind TLS."""
    with TlsBroker(ws=True) as broker:
        refused = list(refused_heads())
        for what, data, status in refused:
            with Stranger(broker.wss_address, broker.context()) as stranger:
                stranger.send(data)
                check_refusal(what, stranger.answer(data.startswith(b"HEAD")), status, b"")
        for what, data, chosen in accepted_heads():
            with Stranger(broker.wss_address, broker.context()) as stranger:
                stranger.send(data)
                check_accepted(stranger.answer(), KEY, offered=chosen)
        check_equal(stats(broker)["ws_refused"], len(refused), "refusals counted")


def scene_another_path():
    with Broker({"ws.path": "/play/v1"}, ws=True) as broker:
        for path, status in (
            ("/play/v1", 101),
            ("/usher", 404),
            ("/play/v1?a", 101),
            ("/play", 404),
        ):
            with Stranger(broker.ws_address) as stranger:
                stranger.send(head(first=f"GET {path} HTTP/1.1"))
                check_equal(stranger.answer().status, status, path)


def scene_origins():
    """ws.origins names them exactly; without it any page may come, but while everybody is let in
    (auth.mode open) only one of this machine."""
    listed = {"ws.origins": "https://game.example,http://localhost:8080"}
    nobody = {"ws.origins": "null"}  # what a page says that has no origin; any page can make one
    service = {"auth.mode": "service", "auth.service": "login"}
    cases = (
        (listed, "https://game.example", 101),
        (listed, "http://localhost:8080", 101),
        (listed, None, 101),
        (listed, "http://localhost", 403),
        (listed, "http://127.0.0.1:8080", 403),
        (listed, "http://game.example", 403),
        (listed, "https://game.example:443", 403),
        (listed, "https://GAME.example", 403),
        (listed, "null", 403),
        (nobody, "null", 101),
        (nobody, "http://localhost", 403),
        (service, "https://evil.example", 101),
        (service, "null", 101),
        (service, None, 101),
    )
    for options in (listed, nobody, service):
        with Broker(options, ws=True) as broker:
            for rules, origin, status in cases:
                if rules is not options:
                    continue
                with Stranger(broker.ws_address) as stranger:
                    add = [] if origin is None else [f"Origin: {origin}"]
                    stranger.send(head(add=add))
                    check_equal(stranger.answer().status, status, f"{origin} by {options}")
            for line in broker.log_events("ws_refused"):
                check("ws.origins" in line["reason"], f"the log: {line}")


def scene_head_bytes():
    """At n and n + 1, by another limit."""
    with Broker({"ws.head_bytes": 1024}, ws=True) as broker:
        for size, status in ((1023, 101), (1024, 101), (1025, 431)):
            for bytewise in (False, True):
                with Stranger(broker.ws_address) as stranger:
                    stranger.send(padded(size), bytewise)
                    check_equal(stranger.answer().status, status, f"a head of {size} bytes")


if __name__ == "__main__":
    play(
        scene_refused_heads,
        scene_accepted_heads,
        scene_heads_over_tls,
        scene_another_path,
        scene_origins,
        scene_head_bytes,
    )
