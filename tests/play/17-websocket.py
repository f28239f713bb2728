# SPDX-License-Identifier: Apache-2.0
"""WebSocket from outside: heads and frames made by hand, right ones and wrong ones, each whole and
byte by byte; who comes to the wrong door; health checks; and what a client sees of usher's ends.

Every row says what the broker answers, with which code, which line it logs, and what it counts; two
bystanders, one by TCP and one by WebSocket, notice nothing."""

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    Failed,
    TlsBroker,
    backend_pb,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
    program,
    scaled,
    varint,
)
from usherplay.backend import cause_name
from usherplay.client import take_frame
from usherplay.figures import percentile, pings, stats
from usherplay.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MESSAGE_BYTES_MAX,
    NO_CODE,
    PING,
    PONG,
    TEXT,
    check_accepted,
    head_bytes,
    take_answer,
    upgrade_lines,
    ws_close,
    ws_frame,
)

SLOW_BUILD = scaled(10) < 10  # whose sanitizer keeps what was freed
SECOND = 1.0
STRANGER_AGE = 1.0  # s; who has been in the room for so long goes for a newcomer
LINE_SECONDS = 0.12  # the log takes ten lines of an event in a second
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the one of RFC 6455
HEAD_BYTES = 8192  # ws.head_bytes
FRAGMENTS = 64  # ws.fragments
CONTROLS = 20  # ws.control_per_second


class Stranger:
    """A connection to one of the ports that sends anything."""

    def __init__(self, address, context=None, timeout=10):
        self.socket = socket.create_connection(address, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.got = bytearray()
        self.ended = False

    def send(self, data, bytewise=False):
        """The broker may have had enough before all of it is sent."""
        send_to(self.socket, data, bytewise)

    def more(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self.ended = not data
        self.got += data

    def answer(self, to_head=False):
        while True:
            answer = take_answer(self.got, to_head)
            if answer is not None:
                return answer
            if self.ended:
                raise Failed(f"the end instead of an answer; came: {bytes(self.got)!r}")
            self.more()

    def to_end(self):
        while not self.ended:
            self.more()
        return bytes(self.got)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()


def send_to(stream, data, bytewise):
    try:
        for piece in (data[at : at + 1] for at in range(len(data))) if bytewise else (data,):
            stream.sendall(piece)
    except OSError:
        pass


class Witnesses:
    """Two who are in, by TCP and by WebSocket, and what the broker has counted and logged."""

    def __init__(self, broker):
        self.broker = broker
        self.clients = [Client(broker, over=over, timeout=20) for over in ("tcp", "ws")]
        for client in self.clients:
            client.login(f"bystander-{client.over}")
        self.backend = Backend(broker)
        self.worst = 0.0
        self.before = None
        self.last_line = 0.0

    def begin(self, logged=False):
        """What is counted from here on is the row's; logged: there is room for its line."""
        if logged:
            time.sleep(max(0, self.last_line + LINE_SECONDS - time.monotonic()))
            self.last_line = time.monotonic()
        self.before = self.backend.numbers("stats")

    def counted(self, what, **more):
        """Exactly that came on top since begin()."""
        now = {}

        def same():
            now.update(self.backend.numbers("stats"))
            return all(now[name] - self.before[name] == more[name] for name in more)

        try:
            eventually(same, what)
        except Failed:
            got = {name: now[name] - self.before[name] for name in more}
            raise Failed(f"{what}: counted {got}, expected {more}") from None

    def logged(self, what, event, count, **fields):
        """The count-th line of this event has these fields."""
        try:
            line = self.broker.wait_log(event, count=count)
        except Failed as error:
            raise Failed(f"{what}: {error}") from None
        got = {name: line.get(name) for name in fields}
        check_equal(got, fields, f"{what}: the line {event}")
        check(line["address"].startswith("127.0.0.1:"), f"{what}: {line}")
        return line

    def undisturbed(self, what):
        for client in self.clients:
            self.worst = max(self.worst, client.ping())
            check(not client.frames, f"{what}: a bystander was told {client.frames}")
        self.broker.check_alive()

    def close(self):
        for client in self.clients:
            client.close()
        self.backend.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()


# --- heads ----------------------------------------------------------------------------------------


def lines_but(*without, add=(), first=None):
    """The lines of a good head, but for those that begin so, and others behind them."""
    lines = upgrade_lines(KEY)
    if first is not None:
        lines[0] = first
    return [
        line for line in lines if not any(line.startswith(f"{name}:") for name in without)
    ] + list(add)


def head(*without, add=(), first=None):
    return head_bytes(lines_but(*without, add=add, first=first))


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


def padded(size, add=()):
    """A good head of exactly so many bytes."""
    short = len(head(add=[*add, "X-Pad: "]))
    data = head(add=[*add, "X-Pad: " + "p" * (size - short)])
    check_equal(len(data), size, "bytes of the head made")
    return data


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


def login_of(name):
    return client_pb.ClientFrame(id=1, login=client_pb.Login(username=name))


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


# --- slow and many --------------------------------------------------------------------------------


def scene_slow_heads():
    """However slowly it comes: the deadline counts from the start, and is said."""
    limit = 0.4
    with Broker({"limits.handshake_deadline_ms": int(limit * 1000)}, ws=True) as broker:
        data = head()

        def silent(stranger):
            pass

        def half(stranger):
            stranger.send(data[:50])

        def all_but_one(stranger):
            stranger.send(data[:-1])

        def trickle(stranger):
            stranger.socket.settimeout(0.02)
            for byte in data[:-1]:
                stranger.send(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    stranger.more()
                if stranger.got:
                    break
            stranger.socket.settimeout(10)

        for number, behaviour in enumerate((silent, half, all_but_one, trickle)):
            with Stranger(broker.ws_address) as stranger:
                began = time.monotonic()
                behaviour(stranger)
                said = stranger.to_end()
                took = time.monotonic() - began
                check(limit * 0.8 < took < limit + 3, f"{behaviour.__name__}: {took:.2f} s")
                if behaviour is silent:
                    check_equal(said, b"", "said to one who says nothing")
                else:
                    check_equal(take_answer(bytearray(said)).status, 408, behaviour.__name__)
            line = broker.wait_log("ws_refused", count=number + 1)
            check("limits.handshake_deadline_ms" in line["reason"], line)
        check_equal(stats(broker)["ws_refused"], 4, "counted")


def scene_the_login_deadline_begins_anew():
    """With the upgrade, as the count of bytes before the login does."""
    with Broker({"limits.login_deadline_ms": 700, "limits.prelogin_bytes": 300}, ws=True) as broker:
        with Stranger(broker.ws_address) as stranger:
            stranger.send(padded(2000)[:-2])  # more than may come before a login
            time.sleep(0.4)
            began = time.monotonic()
            stranger.send(b"\r\n")
            check_equal(stranger.answer().status, 101, "status")
            stranger.to_end()
            took = time.monotonic() - began
            check(0.55 < took < 3, f"closed {took:.2f} s after the upgrade")


def scene_endless_heads():
    """Heads that never end, at full speed: nobody notices, nothing is kept."""
    with Broker(ws=True) as broker, Client(broker, over="tcp") as bystander:
        bystander.login("bystander")
        before = pings(bystander, 0.3)
        memory = broker.resident_bytes()
        stop = threading.Event()
        seen = []

        def attack():
            line = b"X-Header: " + b"v" * 4000 + b"\r\n"
            while not stop.is_set():
                with contextlib.suppress(OSError), Stranger(broker.ws_address) as stranger:
                    stranger.send(b"GET /usher HTTP/1.1\r\n" + line * 50)
                    seen.append(stranger.answer().status)

        threads = [threading.Thread(target=attack) for _ in range(4)]
        for thread in threads:
            thread.start()
        during = pings(bystander, 1.0)
        stop.set()
        for thread in threads:
            thread.join()
        check_equal(set(seen), {431}, "statuses")
        grown = broker.resident_bytes() - memory
        print(
            f"     {len(seen)} heads of 200 KB, bystander p99 {percentile(before, .99) * 1000:.2f}"
            f" -> {percentile(during, .99) * 1000:.2f} ms, memory {grown >> 10:+} KiB"
        )
        check(max(during) < 2, f"a bystander waited {max(during):.2f} s")
        check(grown < 32 << 20 or SLOW_BUILD, f"{grown >> 10} KiB more")


def scene_half_open_upgrades():
    """Thousands that begin a head and say no more. Meanwhile who comes by TCP gets in; and who comes by
    WebSocket as soon as the first of them have been there for a second, though all places are taken.
    """
    count, places = scaled(5000, 600), 256
    limits = {
        "limits.handshakes": places,
        "limits.handshake_deadline_ms": 600000,
        "limits.prelogin_connections": 100000,
    }
    with Broker(limits, ws=True) as broker, Client(broker, over="tcp") as bystander:
        bystander.login("bystander")
        before = pings(bystander, 0.3)
        memory = broker.resident_bytes()
        half, during, logins = [], [], []

        def begin_half(number):
            source = (f"127.0.2.{1 + number % 200}", 0)
            stream = socket.create_connection(broker.ws_address, 10, source_address=source)
            send_to(stream, head()[: 20 + number % 100], False)
            half.append(stream)

        def come(over):
            began = time.monotonic()
            with Client(broker, over=over, source="127.0.0.9", timeout=20) as guest:
                guest.login(f"guest-{over}")
            logins.append(time.monotonic() - began)

        began = time.monotonic()
        for number in range(count):
            begin_half(number)
            if number % 50 == 0:
                during.append(bystander.ping(timeout=20))
            if number % 250 == 249:
                come("tcp")
        took = time.monotonic() - began
        time.sleep(STRANGER_AGE + 0.2)
        for number in range(20):
            come("ws")
            begin_half(number)
        numbers = stats(broker)
        print(
            f"     {count} in {took:.1f} s: bystander p99 {percentile(before, .99) * 1000:.2f} -> "
            f"{percentile(during, .99) * 1000:.2f} ms, worst login {max(logins) * 1000:.0f} ms, "
            f"{numbers['connections_open']} open, {numbers['refused_handshakes']} refused, memory "
            f"{(broker.resident_bytes() - memory) >> 10:+} KiB"
        )
        check(max(during) < 2 and max(logins) < 5, "somebody waited")
        check(numbers["connections_open"] < places + 10, "more than limits.handshakes lets be")
        check(numbers["strangers_displaced"] > 0, "nobody went for another")
        for stream in half:
            stream.close()


def scene_many_refusals_are_few_lines():
    """A flood of bad heads does not flood the log."""
    count = scaled(2000, 300)
    with Broker(ws=True) as broker:
        bad = head("Upgrade")
        for _ in range(count):
            with Stranger(broker.ws_address) as stranger:
                stranger.send(bad)
                check_equal(stranger.answer().status, 426, "status")
        numbers = stats(broker)
        check_equal(numbers["ws_refused"], count, "counted")
        print(f"     {count} refusals, {len(broker.log_events('ws_refused'))} lines")


# --- the wrong door -------------------------------------------------------------------------------


def scene_http_on_the_port_of_frames():
    """426 and where WebSocket is."""
    methods = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
    with Broker(ws=True) as broker, Witnesses(broker) as witnesses:
        count = 0
        for method in methods:
            for bytewise in (False, True):
                count += 1
                witnesses.begin(logged=True)
                with Stranger(broker.tcp_address) as stranger:
                    stranger.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode(), bytewise)
                    answer = stranger.answer()
                    check_equal(answer.status, 426, f"{method}: status")
                    text = answer.body.decode()
                    check(
                        "listen.ws" in text and str(broker.ws_port) in text,
                        f"{method}: it does not say where: {text!r}",
                    )
                    check_equal(answer.headers["upgrade"], "websocket", "Upgrade")
                    check_equal(stranger.to_end(), b"", "behind the answer")
                witnesses.logged(method, "ws_refused", count)
                witnesses.counted(method, http_on_frame_port=1)
                witnesses.undisturbed(method)
    with Broker(ws=False) as broker, Stranger(broker.tcp_address) as stranger:
        stranger.send(b"GET /usher HTTP/1.1\r\n")
        text = stranger.answer().body.decode()
        check("listen.ws" in text and "not set" in text, f"it says {text!r}")


def close_in(data):
    """Usher's Close in raw bytes."""
    frame = client_pb.BrokerFrame()
    frame.ParseFromString(take_frame(bytearray(data)))
    return frame.close


def scene_frames_on_the_port_of_websocket():
    """Told at the first bytes, in frames: nobody waits for the end of a head that never comes."""
    firsts = {
        "a login": frame_bytes(login_of("alice")),
        "one byte": b"\x05",
        "a frame that begins as a head": varint(ord("G")),
        "a frame of a WebSocket client": ws_frame(BINARY, b"\0"),
        "text": b"hello\r\n\r\n",
        "a method in small letters": b"get /usher HTTP/1.1\r\n\r\n",
        "an unknown method": b"BREW /usher HTTP/1.1\r\n\r\n",
        "an empty line": b"\r\n\r\n",
    }
    with Broker(ws=True) as broker, Witnesses(broker) as witnesses:
        count = 0
        for what, data in firsts.items():
            for bytewise in (False, True):
                if what == "a frame that begins as a head":
                    data = b"GO"
                count += 1
                witnesses.begin(logged=True)
                with Stranger(broker.ws_address) as stranger:
                    began = time.monotonic()
                    stranger.send(data, bytewise)
                    said = close_in(stranger.to_end())
                    took = time.monotonic() - began
                    check_equal(said.reason, client_pb.Close.PROTOCOL_ERROR, f"{what}: reason")
                    check("WebSocket" in said.detail, f"{what}: {said}")
                    check(took < 1.5, f"{what}: told after {took:.2f} s")
                witnesses.logged(what, "ws_refused", count)
                witnesses.counted(what, frames_on_ws_port=1, ws_upgrades=0)
                witnesses.undisturbed(what)


def scene_tls_and_none():
    """TLS at the port without it gets its alert; others at the port of TLS are told in theirs."""
    with TlsBroker(ws=True) as broker, Client(broker, over="ws") as bystander:
        bystander.login("bystander")
        with Stranger(broker.ws_address) as stranger:
            try:
                broker.context().wrap_socket(stranger.socket, server_hostname="localhost")
                raise Failed("a handshake on a port without TLS")
            except ssl.SSLError as error:
                check("PROTOCOL_VERSION" in str(error).upper().replace(" ", "_"), f"{error}")
        broker.wait_log("tls_failed", count=1)
        check_equal(stats(broker)["tls_on_plain_port"], 1, "counted")
        with Stranger(broker.wss_address) as stranger:
            stranger.send(head())
            answer = stranger.answer()
            check_equal(answer.status, 426, "HTTP without TLS: status")
            check(b"TLS" in answer.body, f"HTTP without TLS: it says {answer.body!r}")
        with Stranger(broker.wss_address) as stranger:
            stranger.send(frame_bytes(login_of("alice")))
            said = close_in(stranger.to_end())
            check_equal(said.reason, client_pb.Close.PROTOCOL_ERROR, "frames without TLS")
            check("TLS" in said.detail, f"it says {said}")
        with Stranger(broker.wss_address, broker.context()) as stranger:
            stranger.send(frame_bytes(login_of("alice")))
            said = close_in(stranger.to_end())
            check_equal(said.reason, client_pb.Close.PROTOCOL_ERROR, "frames within TLS")
            check("WebSocket" in said.detail, f"it says {said}")
        with Stranger(broker.tls_address, broker.context()) as stranger:
            stranger.send(head())
            check_equal(stranger.answer().status, 426, "HTTP where frames are spoken by TLS")
        numbers = stats(broker)
        check_equal(numbers["plain_on_tls_port"], 2, "HTTP and frames without TLS, counted")
        check_equal(numbers["http_on_frame_port"], 1, "HTTP where frames are spoken, counted")
        check_equal(numbers["frames_on_ws_port"], 1, "frames within TLS, counted")
        bystander.ping()


# --- health ---------------------------------------------------------------------------------------


HEALTH = {
    "as HAProxy asks": b"OPTIONS / HTTP/1.0\r\n\r\n",
}


def health_requests():
    for method in ("GET", "HEAD"):
        yield f"{method} /health HTTP/1.0\r\n\r\n".encode(), method
        yield f"{method} /health HTTP/1.1\r\nHost: a\r\n\r\n".encode(), method
        yield f"{method} /health?from=haproxy HTTP/1.0\r\nConnection: close\r\n\r\n".encode(), method


def ask_health(address, status, context=None):
    words = {200: b"ready\n", 503: b"draining\n"}
    for data, method in health_requests():
        for bytewise in (False, True):
            with Stranger(address, context) as stranger:
                stranger.send(data, bytewise)
                answer = stranger.answer(method == "HEAD")
                check_equal(answer.status, status, f"{data}: status")
                check_equal(answer.body, words[status] if method == "GET" else b"", f"{data}: body")
                check_equal(
                    int(answer.headers["content-length"]), len(words[status]), f"{data}: length"
                )
                check_equal(stranger.to_end(), b"", f"{data}: behind the answer")
    return 2 * len(list(health_requests()))


def drain(broker, seconds):
    done = subprocess.run(
        [program("usherctl"), "--url", broker.link_url, "drain", "--seconds", str(seconds)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    check_equal(done.returncode, 0, f"usherctl drain: {done.stderr}")


def scene_health():
    """200 while it is well, 503 while it drains; neither a fault nor a line of the log."""
    with TlsBroker(ws=True) as broker:
        doors = ((broker.ws_address, None), (broker.wss_address, broker.context()))
        asked = sum(ask_health(address, 200, context) for address, context in doors)
        numbers = stats(broker)
        check_equal(numbers["ws_health_checks"], asked, "counted")
        check_equal(numbers["ws_refused"], 0, "refusals")
        with Client(broker, over="ws", timeout=30) as client:
            client.login("alice")
            drain(broker, 3600)
            broker.wait_log("draining")
            for address, context in doors:
                ask_health(address, 503, context)
            with Stranger(broker.ws_address) as stranger:
                stranger.send(head())
                answer = stranger.answer()
                check_equal(answer.status, 503, "an upgrade while it drains: status")
                check(int(answer.headers["retry-after"]) > 0, f"{answer}")
            client.ping()  # who is in stays until his wave comes


# --- frames ---------------------------------------------------------------------------------------


def good_ping(id=77):
    return frame_bytes(client_pb.ClientFrame(id=id, ping=client_pb.Ping(stamp=5)))


def broken_frames(limit):
    """What, bytes, code of WebSocket. limit: of a frame of usher's."""
    ping = good_ping()
    yield "no mask", ws_frame(BINARY, ping, key=None), 1002
    yield "a ping without mask", ws_frame(PING, b"", key=None), 1002
    yield "a Close without mask", ws_close(1000, key=None), 1002
    for bit in (1, 2, 4):
        yield f"reserved bit {bit}", ws_frame(BINARY, ping, reserved=bit), 1002
        yield f"reserved bit {bit} of a ping", ws_frame(PING, b"x", reserved=bit), 1002
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode}", ws_frame(opcode, ping[:20]), 1002
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "Close")):
        yield f"a {name} of 126 bytes", ws_frame(opcode, b"\x03\xe8" + b"p" * 124), 1002
        yield f"a {name} of 65536 bytes", ws_frame(opcode, b"\x03\xe8" * 32768), 1002
        yield f"a {name} in fragments", ws_frame(opcode, b"\x03\xe8", fin=False), 1002
    yield "a continuation of nothing", ws_frame(CONTINUATION, ping), 1002
    yield "a fragment that continues nothing", ws_frame(CONTINUATION, ping, fin=False), 1002
    yield "a continuation behind a whole message", (
        ws_frame(BINARY, b"") + ws_frame(CONTINUATION, ping)
    ), 1002
    inside = ws_frame(BINARY, ping[:3], fin=False)
    yield "a message inside a message", inside + ws_frame(BINARY, ping), 1002
    yield "a fragment that begins inside a message", inside + inside, 1002
    yield "text inside a message", inside + ws_frame(TEXT, b"x"), 1002
    for size in (1 << 63, (1 << 64) - 1):
        yield f"a length of {size}", ws_frame(BINARY, b"", form=64, told=size), 1002
    yield "125 bytes in 16 bits", ws_frame(BINARY, b"\0" * 125, form=16), 1002
    yield "a ping in 16 bits", ws_frame(PING, b"p", form=16), 1002
    yield "nothing in 64 bits", ws_frame(BINARY, b"", form=64), 1002
    yield "65535 bytes in 64 bits", ws_frame(BINARY, b"\0" * 65535, form=64), 1002
    yield "a Close of one byte", ws_frame(CLOSE, b"\x03"), 1002
    yield "a Close of one byte that begins a good code", ws_frame(CLOSE, b"\x0c"), 1002
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65535):
        yield f"a Close with {code}", ws_close(code), 1002
    yield "a message that ends within a frame", ws_frame(BINARY, ping[:-1]), 1002
    yield "a message that ends within a length", ws_frame(BINARY, b"\x80"), 1002
    yield "fragments that end within a frame", (inside + ws_frame(CONTINUATION, ping[3:-1])), 1002
    yield "a whole frame and a half", ws_frame(BINARY, b"\0" + ping[:4]), 1002
    yield "text", ws_frame(TEXT, b"hello"), 1003
    yield "text in fragments", ws_frame(TEXT, b"hel", fin=False), 1003
    yield "empty text", ws_frame(TEXT, b""), 1003
    for what, text in (
        ("half a character", b"\xe2\x82"),
        ("a long form", b"\xc0\xaf"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("a byte of none", b"\xff"),
    ):
        yield f"a Close with {what}", ws_close(1000, b"bye " + text), 1007
    yield "a message that is too large", ws_frame(BINARY, b"", told=limit + 6), 1009
    yield "a message of 2^40", ws_frame(BINARY, b"", form=64, told=1 << 40), 1009
    yield "a message of 2^63 - 1", ws_frame(BINARY, b"", form=64, told=(1 << 63) - 1), 1009
    yield "fragments that are too large", (
        ws_frame(BINARY, b"\0" * limit, fin=False) + ws_frame(CONTINUATION, b"", told=6)
    ), 1009
    yield "one fragment too many", (
        ws_frame(BINARY, b"", fin=False) + ws_frame(CONTINUATION, b"", fin=False) * FRAGMENTS
    ), 1009
    yield "too many pings", ws_frame(PING, b"p") * (CONTROLS * 2 + 1), 1008
    yield "too many pongs", ws_frame(PONG, b"p") * (CONTROLS * 2 + 1), 1008


def scene_broken_frames():
    """Each with its code, behind usher's own Close; whole and byte by byte; before the login too."""
    limit = 65536
    limits = {"limits.frame_bytes": limit, "limits.prelogin_bytes": limit + 100000}
    with Broker(limits, ws=True) as broker, Witnesses(broker) as witnesses:
        rows = list(broken_frames(limit))
        for number, row in enumerate(rows):
            broken_row(broker, witnesses, row, False, True, number + 1)
        for row in rows:
            if len(row[1]) < 4096:
                broken_row(broker, witnesses, row, True, True)
            if row[2] != 1009:  # by another limit: scene_message_bytes
                broken_row(broker, witnesses, row, False, False)
        print(f"     {len(rows)} rows, worst ping of a bystander {witnesses.worst * 1000:.1f} ms")


def broken_row(broker, witnesses, row, bytewise, known, count=None):
    """known: one who has logged in. count: of the line that is logged, if it is looked for."""
    what, data, code = row
    what = f"{what}{', byte by byte' if bytewise else ''}{'' if known else ', before the login'}"
    with Client(broker, over="ws", timeout=10) as client:
        if known:
            client.login("alice")
        else:
            client.wire.send(b"")  # waits for the upgrade
        client.name = what
        witnesses.begin(logged=count is not None)
        send_to(client.socket, data, bytewise)
        try:
            frames = client.read_to_end()
        except Failed as error:
            raise Failed(f"{what}: {error}") from None
        check_closed(what, client, frames, code)
    if count is not None:
        witnesses.logged(what, "ws_broken", count, status=code)
    witnesses.counted(what, ws_broken=1, ws_refused=0)
    witnesses.undisturbed(what)


def check_closed(what, client, frames, code):
    """By that code of WebSocket, behind a Close of usher that fits."""
    reason = "RATE_LIMITED" if code == 1008 else "PROTOCOL_ERROR"
    kinds = [frame.WhichOneof("body") for frame in frames]
    check(kinds[-1:] == ["close"], f"{what}: frames {kinds}, then {client.ended}")
    check_equal(frames[-1].close.reason, client_pb.Close.Reason.Value(reason), f"{what}: reason")
    check(client.wire.reader.closed is not None, f"{what}: no Close of WebSocket")
    check_equal(client.wire.reader.closed.code, code, f"{what}: code")


def scene_frames_of_usher_that_cannot_be():
    """In good messages: the same end as by TCP."""
    rows = {
        "a length of six bytes": b"\x80\x80\x80\x80\x80\x01",
        "a length that never ends": b"\xff" * 32,
        "a body that is none": frame_bytes(b"\x08"),
        "a body that is none behind a good one": good_ping() + frame_bytes(b"\x0f\x01"),
    }
    with Broker(ws=True) as broker:
        for what, payload in rows.items():
            for bytewise in (False, True):
                with Client(broker, over="ws") as client:
                    client.login("alice")
                    send_to(client.socket, ws_frame(BINARY, payload), bytewise)
                    frames = client.read_to_end()
                    check_equal(frames[-1].close.reason, client_pb.Close.PROTOCOL_ERROR, what)
                    check(client.wire.reader.closed.code in (1002, 4003), client.wire.reader.closed)
        check_equal(stats(broker)["closed_protocol"], 2 * len(rows), "counted")


def scene_good_frames():
    """What the RFC allows is taken: fragments, pings among them, empty messages, pongs unasked."""
    ping = good_ping()

    def fragments(*parts, between=b""):
        data = b""
        for number, part in enumerate(parts):
            data += between if number else b""
            opcode = CONTINUATION if number else BINARY
            data += ws_frame(opcode, part, fin=number == len(parts) - 1)
        return data

    rows = {  # what: (bytes, pongs of usher, payloads of WebSocket's pongs)
        "a message": (ws_frame(BINARY, ping), 1, []),
        "two frames in a message": (ws_frame(BINARY, ping + ping), 2, []),
        "two messages": (ws_frame(BINARY, ping) * 2, 2, []),
        "an empty message": (ws_frame(BINARY, b"") + ws_frame(BINARY, ping), 1, []),
        "a message of 126 bytes": (ws_frame(BINARY, b"\0" * (126 - len(ping)) + ping), 1, []),
        "a message of 125 bytes": (ws_frame(BINARY, b"\0" * (125 - len(ping)) + ping), 1, []),
        "a message of 65535 bytes": (ws_frame(BINARY, b"\0" * (65535 - len(ping)) + ping), 1, []),
        "a message of 65536 bytes": (ws_frame(BINARY, b"\0" * (65536 - len(ping)) + ping), 1, []),
        "a mask of zeros": (ws_frame(BINARY, ping, key=bytes(4)), 1, []),
        "fragments of one byte": (fragments(*(bytes([byte]) for byte in ping)), 1, []),
        "empty fragments": (fragments(b"", ping[:2], b"", b"", ping[2:], b""), 1, []),
        "nothing but empty fragments": (fragments(b"", b"", b"") + ws_frame(BINARY, ping), 1, []),
        "a ping inside a message": (
            fragments(ping[:1], ping[1:3], ping[3:], between=ws_frame(PING, b"in")),
            1,
            [b"in", b"in"],
        ),
        "the most fragments": (fragments(ping, *[b""] * (FRAGMENTS - 1)), 1, []),
        "the largest ping": (ws_frame(PING, b"p" * 125), 0, [b"p" * 125]),
        "an empty ping": (ws_frame(PING), 0, [b""]),
        "a pong that nobody asked for": (ws_frame(PONG, b"news") + ws_frame(BINARY, ping), 1, []),
        "a ping behind a frame": (ws_frame(BINARY, ping) + ws_frame(PING, b"b"), 1, [b"b"]),
    }
    with Broker(ws=True) as broker:
        for what, (data, answers, pongs) in rows.items():
            for bytewise in (False, True):
                with Client(broker, over="ws") as client:
                    client.login("alice")
                    client.name = what
                    send_to(client.socket, data, bytewise and len(data) < 4096)
                    for _ in range(answers):
                        client.expect("pong", id=77, stamp=5)
                    eventually(
                        lambda: newest_pongs(client) or not pongs or client.receive_more(0.02), what
                    )
                    check_pongs(what, newest_pongs(client), pongs)
                    client.ping()


def newest_pongs(client):
    return [event.payload for event in client.wire.events if event.kind == "pong"]


def check_pongs(what, got, sent):
    """Of several only the last has to be answered."""
    if not sent:
        check_equal(got, [], f"{what}: pongs")
        return
    check(got and got[-1] == sent[-1] and len(got) <= len(sent), f"{what}: pongs {got} for {sent}")


def scene_frames_over_tls():
    limit = 65536
    with TlsBroker({"limits.frame_bytes": limit}, ws=True) as broker:
        for what, data, code in broken_frames(limit):
            with WssClient(broker) as client:
                client.login("alice")
                send_to(client.socket, data, False)
                check_closed(what, client, client.read_to_end(), code)
        check_equal(stats(broker)["ws_broken"], len(list(broken_frames(limit))), "counted")


class WssClient(Client):
    def __init__(self, broker, **others):
        self._context = broker.context()
        super().__init__(broker.wss_address, over="ws", **others)

    def _connect(self):
        super()._connect()
        self.socket = self._context.wrap_socket(self.socket, server_hostname="localhost")


def scene_message_bytes():
    """A message may hold limits.frame_bytes and five more; before the login limits.prelogin_bytes."""
    limit = 1024
    with Broker({"limits.frame_bytes": limit, "limits.prelogin_bytes": 512}, ws=True) as broker:
        for size, taken in ((limit + 5, True), (limit + 6, False)):
            for parts in (1, 2, 3):
                with Client(broker, over="ws") as client:
                    client.login("alice")
                    payload = b"\0" * (size - len(good_ping())) + good_ping()
                    cuts = [size * part // parts for part in range(parts + 1)]
                    for part in range(parts):
                        send_to(
                            client.socket,
                            ws_frame(
                                CONTINUATION if part else BINARY,
                                payload[cuts[part] : cuts[part + 1]],
                                fin=part == parts - 1,
                            ),
                            False,
                        )
                    if taken:
                        client.expect("pong", id=77)
                    else:
                        what = f"{size} bytes in {parts}"
                        check_closed(what, client, client.read_to_end(), 1009)
        for told, code in ((512 + 6, 1009), (1 << 20, 1009)):
            with Client(broker, over="ws") as client:
                client.wire.send(b"")
                send_to(client.socket, ws_frame(BINARY, b"", told=told), False)
                check_closed(f"{told} bytes before the login", client, client.read_to_end(), code)


def scene_fragments():
    """At n and n + 1, by another limit."""
    for most in (1, 4):
        with Broker({"ws.fragments": most}, ws=True) as broker:
            for count in (most, most + 1):
                with Client(broker, over="ws") as client:
                    client.login("alice")
                    ping, data = good_ping(), b""
                    for number in range(count):
                        last = number == count - 1
                        part = ping[number:] if last else ping[number : number + 1]
                        data += ws_frame(CONTINUATION if number else BINARY, part, fin=last)
                    client.socket.sendall(data)
                    if count == most:
                        client.expect("pong", id=77)
                    else:
                        check_closed(f"{count} fragments", client, client.read_to_end(), 1009)


def scene_fragments_without_end():
    """They cost no more than a frame that does not end, and hold nobody else up."""
    count = scaled(400, 40)
    size = 60000
    options = {
        "ws.fragments": 65535,
        "session.heartbeat_ms": 600000,
        "limits.prelogin_connections": 100000,
    }
    grown = {}
    for over in ("tcp", "ws"):
        with Broker(options, ws=True) as broker, Client(broker, over="tcp") as bystander:
            bystander.login("bystander")
            held = []
            for number in range(count):
                client = Client(broker, over=over)
                client.login(f"held{number}")
                held.append(client)
            before = broker.resident_bytes()
            piece = varint(size + 1000) + b"x" * size
            for client in held:
                if over == "tcp":
                    client.socket.sendall(piece)
                else:
                    client.socket.sendall(
                        b"".join(
                            ws_frame(CONTINUATION if at else BINARY, piece[at : at + 64], fin=False)
                            for at in range(0, len(piece), 64)
                        )
                    )
            sent = count * size
            eventually(
                lambda: stats(broker)["bytes_in"] >= sent,
                "all of it is read",
                timeout=30,
                pause=0.1,
            )
            worst = max(bystander.ping() for _ in range(50))
            grown[over] = broker.resident_bytes() - before
            check(worst < 2, f"a bystander waited {worst:.2f} s")
            for client in held:
                client.drop()
            bystander.ping()
    print(
        f"     {count} frames of {size} bytes that do not end: {grown['tcp'] >> 20} MiB by TCP, "
        f"{grown['ws'] >> 20} MiB in fragments of 64 bytes"
    )
    check(grown["ws"] < 1.3 * grown["tcp"] + (8 << 20) or SLOW_BUILD, f"{grown}")


def scene_controls_per_second():
    """At n and n + 1 in one segment."""
    limit = 5
    with Broker({"ws.control_per_second": limit}, ws=True) as broker:
        for opcode in (PING, PONG):
            with Client(broker, over="ws") as client:
                client.login("alice")
                client.socket.sendall(ws_frame(opcode, b"n") * limit)
                client.ping()
                time.sleep(SECOND + 0.1)
                client.socket.sendall(ws_frame(opcode, b"n") * limit)
                client.ping()
            with Client(broker, over="ws") as client:
                client.login("alice")
                client.socket.sendall(ws_frame(opcode, b"n") * (limit + 1))
                check_closed(f"opcode {opcode}", client, client.read_to_end(), 1008)
        numbers = stats(broker)
        check_equal((numbers["ws_broken"], numbers["closed_rate_limited"]), (2, 2), "counted")


def scene_flood_of_pings():
    """At full speed, without reading a Pong: closed at once, nothing piles up."""
    with Broker(ws=True) as broker, Client(broker, over="tcp") as bystander:
        bystander.login("bystander")
        before = pings(bystander, 0.3)
        memory = broker.resident_bytes()
        stop = threading.Event()
        ends = []

        def attack(number):
            while not stop.is_set():
                with Client(broker, over="ws", receive_buffer=4096, timeout=20) as client:
                    client.login(f"flood{number}")
                    with contextlib.suppress(OSError):
                        for _ in range(50):
                            client.socket.sendall(ws_frame(PING, b"p" * 125) * 200)
                    ends.append(True)

        threads = [threading.Thread(target=attack, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        during = pings(bystander, 1.0)
        stop.set()
        for thread in threads:
            thread.join()
        numbers = stats(broker)
        grown = broker.resident_bytes() - memory
        print(
            f"     {len(ends)} floods, {numbers['ws_broken']} ended for it, bystander p99 "
            f"{percentile(before, .99) * 1000:.2f} -> {percentile(during, .99) * 1000:.2f} ms, "
            f"memory {grown >> 10:+} KiB"
        )
        check(numbers["ws_broken"] > 0, "no flood was ended")
        check(max(during) < 2, f"a bystander waited {max(during):.2f} s")
        check(grown < 32 << 20 or SLOW_BUILD, f"{grown >> 10} KiB more")


def scene_pings_before_the_login():
    """Count as bytes, and so come to an end."""
    limit = 256
    options = {"limits.prelogin_bytes": limit, "ws.control_per_second": 255}
    with Broker(options, ws=True) as broker:
        for opcode in (PING, PONG):
            with Client(broker, over="ws") as client:
                client.wire.send(b"")
                sent = 0
                while not client.ended and sent < 100 * limit:
                    send_to(client.socket, ws_frame(opcode, b"p" * 100), False)
                    sent += 106
                    client.receive_more(0.02)
                frames = client.read_to_end()
                check_equal(frames[-1].close.reason, client_pb.Close.PROTOCOL_ERROR, "reason")
                check_equal(client.wire.reader.closed.code, 4003, "code")
                print(f"     closed after {sent} bytes by a limit of {limit}")
                check(limit < sent < 4 * limit, f"{sent} bytes")


def scene_pings_amid_a_flood():
    """A Pong never stands within a message: neither while the socket takes parts of messages, nor while
    what waits for it is written."""
    count = scaled(6000, 1500)
    options = {
        "ws.control_per_second": 255,
        "limits.inbox_messages": 100000,
        "limits.inbox_bytes": 100 << 20,
        "limits.output_bytes": 100 << 20,
        "limits.output_soft_bytes": 50 << 20,
    }
    with Broker(options, ws=True) as broker, Client(broker, over="tcp") as bob:
        bob.login("bob")
        for reads in (True, False):
            with Client(broker, over="ws", receive_buffer=8192, timeout=60) as alice:
                alice.login("alice")
                pinged = seen = 0
                for number in range(count):
                    bob.post("send", id=0, to="alice", payload=b"f" * (number % 3000))
                    if number % 50 == 0:
                        bob.ping(timeout=20)
                        pinged += 1
                        alice.socket.sendall(ws_frame(PING, b"%d" % pinged))
                    if reads:
                        alice.receive_more(0.0001)
                while seen < count:
                    check_equal(
                        len(alice.expect("message").message.payload), seen % 3000, "payload"
                    )
                    seen += 1
                alice.ping()
                pongs = [int(payload) for payload in newest_pongs(alice)]
                check_equal(pongs, sorted(set(pongs)), "the order of pongs")
                check_equal(pongs[-1], pinged, "the last pong")
                how = "read" if reads else "not read"
                print(f"     {count} messages, {how} meanwhile, {pinged} pings, {len(pongs)} pongs")


# --- messages of the broker -----------------------------------------------------------------------


class Sizes:
    """The sizes of the messages that come."""

    def __init__(self, client):
        self.sizes = []
        take = client.wire.reader.take

        def noted(data):
            events = take(data)
            self.sizes += [len(event.payload) for event in events if event.kind == "message"]
            return events

        client.wire.reader.take = noted


def scene_burst():
    """300 messages of 1 KB that wait: in few messages of WebSocket, none above 16 KiB."""
    options = {"limits.inbox_messages": 1000, "limits.inbox_bytes": 1 << 20}
    with Broker(options, ws=True) as broker, Client(broker, over="tcp") as bob:
        bob.login("bob")
        with Client(broker, over="ws") as alice:
            welcome = alice.login("alice", acks=True)
        broker.wait_log("detached")
        for number in range(300):
            bob.send("alice", b"%03d" % number + b"k" * 1021)
        for receive_buffer in (None, 4096):
            again = Client(broker, over="ws", receive_buffer=receive_buffer)
            sizes = Sizes(again)
            again.resume(welcome, 0, name="alice")
            payloads = [message.payload for message in again.messages(300)]
            check_equal([int(payload[:3]) for payload in payloads], list(range(300)), "the order")
            sizes = sizes.sizes
            print(f"     300 KB in {len(sizes)} messages of {min(sizes)} to {max(sizes)} bytes")
            check(max(sizes) <= MESSAGE_BYTES_MAX, f"messages of {sizes}")
            check(300 * 1024 / MESSAGE_BYTES_MAX <= len(sizes) < 150, f"{len(sizes)} messages")
            again.drop()
            broker.wait_log("detached", count=2 if receive_buffer is None else 3)


def scene_large_frames():
    """A frame above 16 KiB goes alone, between others."""
    with Broker(ws=True) as broker, Client(broker, over="ws") as alice:
        alice.login("alice")
        sizes = Sizes(alice)
        for size in (16300, 16384, 16385, 60000, 10, 65000):
            alice.post("send", to="alice", payload=b"l" * size)
        got = sorted(len(frame.message.payload) for frame in take_messages(alice, 6))
        check_equal(got, sorted((16300, 16384, 16385, 60000, 10, 65000)), "payloads")
        print(f"     messages of {sizes.sizes} bytes")


def take_messages(client, count):
    messages = []
    while len(messages) < count:
        frame = client.next_frame()
        check(frame is not None, f"only {len(messages)} messages")
        if frame.WhichOneof("body") == "message":
            messages.append(frame)
    return messages


# --- pings of the broker --------------------------------------------------------------------------


def scene_who_sleeps_stays():
    """A page whose script does nothing for three heartbeats: its browser answers pings, so it stays,
    and loses nothing. One whose browser is dead does not stay."""
    heartbeat = 0.5
    options = {"session.heartbeat_ms": int(heartbeat * 1000)}
    with Broker(options, ws=True) as broker, Backend(broker) as backend, Client(
        broker, over="tcp"
    ) as bob:
        bob.login("bob")
        sleeper, dead = Client(broker, over="ws"), Client(broker, over="ws")
        sleeper.login("sleeper")
        dead.login("dead")
        sleeper.wire.pongs = True
        end = time.monotonic() + 6 * heartbeat
        sent = 0
        while time.monotonic() < end:
            bob.ping()
            sleeper.receive_more(0.05)
            if not sent and time.monotonic() > end - 3 * heartbeat:
                for sent in range(20):
                    bob.send("sleeper", b"%d" % sent)
        check_equal(
            [m.payload for m in sleeper.messages(20)], [b"%d" % n for n in range(20)], "lost"
        )
        check(3 <= sleeper.wire.pings <= 8, f"{sleeper.wire.pings} pings in 6 heartbeats")
        frames = dead.read_to_end()
        check_equal(frames[-1].close.reason, client_pb.Close.HEARTBEAT_TIMEOUT, "reason")
        check_equal(dead.wire.reader.closed.code, 4006, "code")
        check(1 <= dead.wire.pings <= 2, f"{dead.wire.pings} pings to one who is dead")
        states = {session.user: session.state for session in backend.list_all()[0]}
        online, detached = backend_pb.SessionInfo.ONLINE, backend_pb.SessionInfo.DETACHED
        check_equal(states, {"bob": online, "sleeper": online, "dead": detached}, "who is there")
        numbers = backend.numbers("stats")
        check(numbers["ws_pings"] >= 4, f"{numbers['ws_pings']} pings counted")
        print(f"     {sleeper.wire.pings} pings to the one, {dead.wire.pings} to the other")
        sleeper.close()
        dead.close()


def scene_who_talks_is_not_pinged():
    """And any word counts, a pong that nobody asked for too."""
    heartbeat = 0.4
    with Broker({"session.heartbeat_ms": int(heartbeat * 1000)}, ws=True) as broker:
        with Client(broker, over="ws") as talker, Client(broker, over="ws") as ponger:
            talker.login("talker")
            ponger.login("ponger")
            end = time.monotonic() + 5 * heartbeat
            while time.monotonic() < end:
                talker.ping()
                ponger.socket.sendall(ws_frame(PONG))
                talker.receive_more(heartbeat / 8)
                ponger.receive_more(0.001)
            check_equal((talker.wire.pings, ponger.wire.pings), (0, 0), "pings")
            check_equal((talker.ended, ponger.ended), (None, None), "ends")


# --- ends -----------------------------------------------------------------------------------------


def scene_codes():
    """What a page sees of usher's own ends: 4000 and the reason, and the detail. The harness checks
    each Close of WebSocket against the Close that came before."""
    seen = set()

    def closed(client, reason):
        client.expect_close(reason)
        number = client_pb.Close.Reason.Value(reason)
        check_equal(client.wire.reader.closed.code, 4000 + number, f"code of {reason}")
        seen.add(reason)
        client.close()

    options = {
        "limits.login_deadline_ms": 400,
        "limits.requests_per_second": 20,
        "limits.output_bytes": 65536,
        "limits.output_soft_bytes": 32768,
    }
    with Broker(options, ws=True) as broker, Backend(broker) as backend:

        def join(name):
            client = Client(broker, over="ws", timeout=10)
            return client, client.login(name)

        older, _ = join("alice")
        newer, welcome = join("alice")
        closed(older, "REPLACED")
        with Client(broker, over="tcp") as resumed:
            resumed.resume(welcome, 0, name="alice")
            closed(newer, "STALE_SESSION")
        kicked, _ = join("bob")
        backend.kick("bob", detail="\u00e4" * 100)  # 200 bytes: cut at the end of a character
        closed(kicked, "KICKED")
        text = kicked.wire.reader.closed.payload.decode()
        check(text == "\u00e4" * len(text) and len(text) > 50, f"the text {text!r}")
        out, _ = join("carl")
        out.post("logout", id=0)
        closed(out, "LOGGED_OUT")
        late = Client(broker, over="ws")
        closed(late, "AUTH_TIMEOUT")
        wrong, _ = join("dora")
        wrong.post("login", username="dora")
        wrong.expect_error("PROTOCOL")
        closed(wrong, "PROTOCOL_ERROR")
        fast, _ = join("eve")
        fast.send_bytes(b"".join(frame_bytes(fast.request("ping", id=0)) for _ in range(200)))
        fast.read_to_end()
        check_equal(fast.wire.reader.closed.code, 4008, "code of RATE_LIMITED")
        fast.close()
        last, _ = join("frank")
        broker.process.terminate()
        closed(last, "SHUTDOWN")
        broker._wait_end(20)
    print(f"     {', '.join(sorted(seen))}")


def scene_slow_consumer():
    """Who does not read is closed by WebSocket too, when he reads at last."""
    options = {
        "limits.output_bytes": 256 * 1024,
        "limits.output_soft_bytes": 64 * 1024,
        "limits.output_soft_ms": 300,
        "limits.close_linger_ms": 10000,
    }
    with Broker(options, ws=True) as broker, Client(broker, over="tcp") as bob:
        bob.login("bob")
        slow = Client(broker, over="ws", receive_buffer=4096)
        slow.login("slow")
        began = time.monotonic()
        while not broker.log_events("slow_consumer"):
            check(time.monotonic() - began < 30, "he is not closed")
            bob.ask("send", to="slow", payload=b"s" * 8000)
        frames = slow.read_to_end(30)
        if frames and frames[-1].WhichOneof("body") == "close":
            check_equal(frames[-1].close.reason, client_pb.Close.SLOW_CONSUMER, "reason")
            check_equal(slow.wire.reader.closed.code, 4007, "code")
        print(f"     {len(frames)} frames, then {slow.ended}; {slow.wire.reader.closed}")
        slow.close()
        bob.ping()


def scene_overloaded():
    """Who cannot be let in hears it: at the connect by a 503, unread; in the room by its code."""
    with Broker({"limits.connections": 2}, ws=True) as broker:
        with Client(broker, over="tcp") as one, Client(broker, over="ws") as two:
            one.login("one")
            two.login("two")
            with Stranger(broker.ws_address) as stranger:
                answer = stranger.answer()  # nothing was asked yet
                check_equal(answer.status, 503, "status")
                check(int(answer.headers["retry-after"]) > 0, f"{answer}")
                check("limits.connections" in answer.body.decode(), f"{answer}")
                check_equal(stranger.to_end(), b"", "behind the answer")
            two.ping()
    with Broker(
        {"limits.prelogin_connections": 3, "limits.login_deadline_ms": 60000}, ws=True
    ) as broker:
        waiting = [Client(broker, over="ws") for _ in range(3)]
        for client in waiting:
            client.wire.send(b"")
        time.sleep(1.2)  # who has been in the room for a second goes for a newcomer
        newcomer = Client(broker, over="ws")
        newcomer.login("newcomer")
        gone = eventually(
            lambda: [c for c in waiting if c.receive_more(0.01) or c.ended], "one goes for another"
        )
        gone[0].expect_close("OVERLOADED")
        check_equal(gone[0].wire.reader.closed.code, 4012, "code")
        for client in [*waiting, newcomer]:
            client.close()


def scene_a_close_is_a_lost_connection():
    """A page that closes, or is closed by its browser: echoed, the session detached, resumed."""
    closes = [(0, b""), (1000, b""), (1000, b"bye"), (1001, b""), (1003, b""), (1011, b"x" * 123)]
    closes += [(code, b"") for code in (1002, 1007, 1008, 1009, 1010, 1012, 1014, 3000, 4999)]
    detached = backend_pb.PresenceEvent.DETACHED
    with Broker(ws=True) as broker, Backend(broker) as backend, Client(broker, over="tcp") as bob:
        bob.login("bob")
        for number, (code, text) in enumerate(closes):
            alice = Client(broker, over="ws")
            welcome = alice.login(f"alice{number}", acks=True)
            alice.wire.close(code, text)
            alice.expect_eof()
            check_equal(alice.wire.reader.closed.code, code or NO_CODE, "the echo")
            event = eventually(
                lambda: [e for e in backend.all_events() if e.kind == detached][number:], "detached"
            )[0]
            check_equal((event.user, cause_name(event)), (f"alice{number}", "LOST"), "the event")
            bob.send(f"alice{number}", b"meanwhile")
            with Client(broker, over="ws") as again:
                back = again.resume(welcome, 0, name=f"alice{number}")
                check_equal(back.replay, client_pb.Welcome.COMPLETE, f"resume after {code}")
                again.expect("message", payload=b"meanwhile")
                again.post("logout", id=0)
                again.expect_close("LOGGED_OUT")
            alice.close()
        check_equal(stats(broker)["ws_broken"], 0, "counted as broken")


def scene_close_behind_requests():
    """What came before the Close is done; what comes behind it is not."""
    with Broker(ws=True) as broker, Client(broker, over="tcp") as bob:
        bob.login("bob")
        alice = Client(broker, over="ws")
        alice.login("alice")
        first = frame_bytes(alice.request("send", to="bob", payload=b"before"))
        second = frame_bytes(alice.request("send", to="bob", payload=b"behind"))
        alice.wire.left_with = 1000
        alice.socket.sendall(ws_frame(BINARY, first) + ws_close(1000) + ws_frame(BINARY, second))
        bob.expect("message", payload=b"before")
        alice.read_to_end()
        bob.expect_nothing(0.3)
        alice.close()


def scene_resets_and_halves():
    """Connections that end anywhere: in the head, in a header, in a payload, in a Close."""
    count = scaled(600, 100)
    stream = head() + ws_frame(BINARY, frame_bytes(login_of("ghost"))) + ws_frame(PING, b"x" * 20)
    stream += ws_frame(BINARY, good_ping()[:3], fin=False) + ws_close(1000, b"bye")
    with Broker(ws=True) as broker, Witnesses(broker) as witnesses:
        for number in range(count):
            stranger = Stranger(broker.ws_address)
            cut = number % (len(stream) + 1)
            stranger.send(stream[: min(cut, len(head()))])
            if cut >= len(head()):
                stranger.answer()
                stranger.send(stream[len(head()) : cut])
            if number % 2:
                stranger.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stranger.close()
        witnesses.undisturbed("cut connections")
        eventually(lambda: stats(broker)["connections_open"] == 2, "none is left", timeout=20)


if __name__ == "__main__":
    play(
        scene_refused_heads,
        scene_accepted_heads,
        scene_heads_over_tls,
        scene_another_path,
        scene_origins,
        scene_head_bytes,
        scene_slow_heads,
        scene_the_login_deadline_begins_anew,
        scene_endless_heads,
        scene_half_open_upgrades,
        scene_many_refusals_are_few_lines,
        scene_http_on_the_port_of_frames,
        scene_frames_on_the_port_of_websocket,
        scene_tls_and_none,
        scene_health,
        scene_broken_frames,
        scene_frames_of_usher_that_cannot_be,
        scene_good_frames,
        scene_frames_over_tls,
        scene_message_bytes,
        scene_fragments,
        scene_fragments_without_end,
        scene_controls_per_second,
        scene_flood_of_pings,
        scene_pings_before_the_login,
        scene_pings_amid_a_flood,
        scene_burst,
        scene_large_frames,
        scene_who_sleeps_stays,
        scene_who_talks_is_not_pinged,
        scene_codes,
        scene_slow_consumer,
        scene_overloaded,
        scene_a_close_is_a_lost_connection,
        scene_close_behind_requests,
        scene_resets_and_halves,
    )
