# SPDX-License-Identifier: Apache-2.0
"""WebSocket from outside, 2: heads that are slow, endless or many; who comes to the wrong door; and health
checks. Whoever else is there notices nothing."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time

from usherplay import (
    Broker,
    Client,
    Failed,
    TlsBroker,
    check,
    check_equal,
    client_pb,
    frame_bytes,
    play,
    program,
    scaled,
    varint,
)
from usherplay.client import take_frame
from usherplay.figures import percentile, pings, stats
from usherplay.strangers import Stranger, Witnesses, head, login_of, padded, send_to
from usherplay.websocket import BINARY, take_answer, ws_frame


SLOW_BUILD = scaled(10) < 10  # whose sanitizer keeps what was freed
STRANGER_AGE = 1.0  # s; who has been in the room for so long goes for a newcomer

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


if __name__ == "__main__":
    play(
        scene_slow_heads,
        scene_the_login_deadline_begins_anew,
        scene_endless_heads,
        scene_half_open_upgrades,
        scene_many_refusals_are_few_lines,
        scene_http_on_the_port_of_frames,
        scene_frames_on_the_port_of_websocket,
        scene_tls_and_none,
        scene_health,
    )
