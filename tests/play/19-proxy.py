# SPDX-License-Identifier: Apache-2.0
"""Behind a proxy: who is behind it is who it says, for limits, logs and everybody who looks; from
anybody else a PROXY header is nothing. By headers of our own, cut anywhere, and by a real HAProxy.

The broker listens on 127.0.0.1 and the proxies are 127.0.0.9, so other addresses of loopback are
strangers."""

import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    TlsBroker,
    TlsClient,
    check,
    check_equal,
    eventually,
    frame_bytes,
    free_port,
    play,
    program,
)
from usherplay.client import Crowd
from usherplay.figures import stats
from usherplay.filebroker import FileBroker
from usherplay.tokens import Key, Keys

PROXY = "127.0.0.9"
BEHIND = {"proxy.from": PROXY, "auth.allow_open_network": "true"}
ALICE, BOB, MALLORY = "203.0.113.7", "198.51.100.8", "192.0.2.66"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def expect_numbers(broker, **expected):
    """Who was answered may know it before it is counted."""

    def counted():
        numbers = stats(broker)
        return all(numbers[name] == value for name, value in expected.items())

    eventually(counted, f"the numbers {expected}")


def line(address, port=4711):
    """Version 1."""
    family = "TCP6" if ":" in address else "TCP4"
    to = "::1" if ":" in address else "127.0.0.1"
    return f"PROXY {family} {address} {to} {port} 7400\r\n".encode()


def binary(address, port=4711, command=0x21, extra=b""):
    """Version 2."""
    ip = ipaddress.ip_address(address)
    family = 0x11 if ip.version == 4 else 0x21
    block = ip.packed + bytes(len(ip.packed)) + struct.pack("!HH", port, 7400) + extra
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


class Proxied(Client):
    """A client behind the proxy: its connection begins with that header. pause: between bytes."""

    def __init__(self, where, header, pause=None, source=PROXY, **others):
        self.header, self.pause = header, pause
        super().__init__(where, source=source, **others)

    def _connect(self):
        super()._connect()
        if self.pause is None:
            self.socket.sendall(self.header)
            return
        for byte in self.header:
            self.socket.sendall(bytes([byte]))
            time.sleep(self.pause)


class ProxiedTls(TlsClient):
    """The same where TLS follows."""

    def __init__(self, broker, header):
        self.header = header
        super().__init__(broker, source=PROXY)

    def _connect(self):
        self.socket.connect(self.address)
        self.socket.sendall(self.header)
        self.socket = self._context.wrap_socket(self.socket, server_hostname="localhost")


class Upgraded(Client):
    """A client over WebSocket whose upgrade has these lines of X-Forwarded-For. port: of the broker's
    listener, or of a proxy. Only what this play needs of WebSocket: whole messages, no controls."""

    KEY = b"dGhlIHNhbXBsZSBub25jZQ=="

    def __init__(self, port, *forwarded, source=PROXY, context=None, name=b"X-Forwarded-For"):
        self.lines = b"".join(name + b": " + text.encode() + b"\r\n" for text in forwarded)
        self.context, self.raw = context, bytearray()
        super().__init__(("127.0.0.1", port), source=source)

    def _connect(self):
        super()._connect()
        self.begin()
        if self.context is not None:
            self.socket = self.context.wrap_socket(self.socket, server_hostname="localhost")
        self.socket.sendall(
            b"GET /usher HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
            + self.KEY
            + b"\r\n"
            + self.lines
            + b"\r\n"
        )
        answer = b""
        while b"\r\n\r\n" not in answer and (data := self.socket.recv(4096)):
            answer += data
        self.head, _, rest = answer.partition(b"\r\n\r\n")
        self.status = int(self.head.split()[1])
        self.raw += rest

    def begin(self):
        """What comes before TLS and HTTP."""

    def send_bytes(self, data):
        size = len(data)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
        self.socket.sendall(b"\x82" + length + bytes(4) + data)

    def _cut(self):
        self.raw += self.buffer
        self.buffer.clear()
        while len(self.raw) >= 2:
            size, at = self.raw[1], 2
            if size == 126:
                size, at = struct.unpack_from("!H", self.raw, 2)[0], 4
            if len(self.raw) < at + size:
                break
            if self.raw[0] == 0x82:
                self.buffer += self.raw[at : at + size]
            del self.raw[: at + size]
        super()._cut()


class Chained(Upgraded):
    """One whose connection begins with a PROXY header, from a proxy of that kind."""

    def __init__(self, port, header, *forwarded):
        self.header = header
        super().__init__(port, *forwarded, source="127.0.0.10")

    def begin(self):
        self.socket.sendall(self.header)


def address_of(broker, name):
    with Backend(broker, hello=False) as tool:
        return tool.lookup(name).sessions[0].address


def failures(broker):
    return [(event["listener"], event["reason"]) for event in broker.log_events("proxy_failed")]


# --- who is behind it -------------------------------------------------------------------------


def scene_who_comes():
    """Both versions and families, in one piece, in pieces, and byte by byte."""
    rows = {
        "one": (line(ALICE), f"{ALICE}:4711"),
        "two": (binary(ALICE, 5), f"{ALICE}:5"),
        "six": (line("2001:db8::7"), "[2001:db8::7]:4711"),
        "six2": (binary("2001:db8::7"), "[2001:db8::7]:4711"),
        "mapped": (line("::ffff:203.0.113.7"), f"{ALICE}:4711"),
        "more": (binary(ALICE, extra=b"\x04\0\x10" + bytes(16) + bytes(400)), f"{ALICE}:4711"),
    }
    with Broker(BEHIND) as broker:
        backend = Backend(broker, presence=True)
        for pause in (None, 0.001):
            for name, (header, address) in rows.items():
                with Proxied(broker, header, pause if len(header) < 100 else None) as client:
                    client.login(name)
                    client.send(name, b"to myself")
                    client.expect("message", payload=b"to myself")
                    check_equal(address_of(broker, name), address, f"{name} in who")
                    online = backend.wait_event(name, "ONLINE", epoch=client.welcome.epoch)
                    check_equal(online.address, address, f"{name} in the stream")
                    client.post("logout")
                    client.read_to_end()
        with Proxied(broker, line(ALICE)) as client:
            client.login("alice")
            table = subprocess.run(
                [program("usherctl"), "--url", broker.link_url, "who"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            check(f"{ALICE}:4711" in table, f"usherctl who:\n{table}")
            check(PROXY not in table, f"the proxy is shown:\n{table}")
        # Header and Login in one segment.
        with Proxied(broker, b"") as client:
            frame = client.request("login", username="alice")
            client.send_bytes(binary(BOB) + frame_bytes(frame))
            client.expect("welcome")
            check_equal(address_of(broker, "alice"), f"{BOB}:4711", "in one segment")
        backend.close()
        check_equal(stats(broker)["proxied"], 14, "proxied")
        check_equal(failures(broker), [], "failures")


def scene_not_believed():
    """A header from anybody else: a frame that is broken, or one that never ends, and no address."""
    with Broker(BEHIND) as broker:
        with Client(broker, source="127.0.0.8") as forger:
            forger.send_bytes(binary(ALICE))
            forger.expect_close("PROTOCOL_ERROR")
        with Client(broker, source="127.0.0.8") as forger:
            forger.send_bytes(line(ALICE) * 4)
            forger.expect_close("PROTOCOL_ERROR")
        with Client(broker, source="127.0.0.8") as honest:
            honest.login("honest")
            check(address_of(broker, "honest").startswith("127.0.0.8:"), "his own address")
        check(
            all(ALICE not in str(event) for event in broker.lines),
            "the log believes a forged header",
        )
        check_equal(stats(broker)["proxied"], 0, "proxied")


def scene_missing():
    """From the proxy and without a header: closed, told, counted and logged. A look whether somebody
    listens is no fault."""
    with Broker(BEHIND) as broker:
        for data in (
            b"\x0c\x0a\x0a\x0a\x05alice\x00\x00",
            b"GET / HTTP/1.1\r\n\r\n",
            line(ALICE)[:-2] + b"x\r\n",
        ):
            with Client(broker, source=PROXY) as client:
                client.send_bytes(data)
                closed = client.expect_close("PROTOCOL_ERROR")
                check("proxy.from" in closed.detail, f"detail {closed.detail!r}")
                client.expect_eof()
        broker.wait_log("proxy_failed", count=3)
        check_equal(failures(broker), [("listen.tcp", "no PROXY header")] * 3, "the log")
        check_equal(broker.log_events("proxy_failed")[0]["address"].split(":")[0], PROXY, "who")
        for _ in range(5):
            Client(broker, source=PROXY).close()
        time.sleep(0.2)
        check_equal(len(failures(broker)), 3, "a connect that says nothing is a fault")
        expect_numbers(broker, proxy_refused=3, proxied=0)


def scene_slow():
    """n wait for their header, one more is refused; the deadline ends them, and nobody else waits."""
    options = {**BEHIND, "limits.handshakes": 3, "limits.handshake_deadline_ms": 1500}
    with Broker(options) as broker, Client(broker) as bystander:
        bystander.login("bystander")
        began = time.monotonic()
        waiting = [Client(broker, source=PROXY) for _ in range(3)]
        for client, start in zip(waiting, (b"", b"PROXY TCP4 203", SIGNATURE)):
            client.send_bytes(start)
        with Client(broker, source=PROXY) as more:
            more.expect_close("OVERLOADED")
        check(bystander.ping() < 1, "a bystander waits")
        for client in waiting:
            client.expect_close("PROTOCOL_ERROR", timeout=10)
        check(time.monotonic() - began >= 1.4, "the deadline came early")
        broker.wait_log("proxy_failed", count=3)
        check_equal(
            failures(broker), [("listen.tcp", "limits.handshake_deadline_ms")] * 3, "the log"
        )
        expect_numbers(broker, proxy_late=3, refused_handshakes=1)
        with Proxied(broker, line(ALICE), pause=0.001) as client:
            client.login("afterwards")


# --- limits -----------------------------------------------------------------------------------


def scene_one_floods():
    """One address behind the balancer takes no room of the others there, and none of the balancer's."""
    options = {
        **BEHIND,
        "limits.prelogin_per_source": 8,
        "limits.logins_per_minute_per_source": 10,
        "limits.login_deadline_ms": 60000,
    }
    with Broker(options) as broker:
        crowd = Crowd()
        for number in range(40):
            crowd.add(Proxied(broker, line(MALLORY, 1000 + number)))
        eventually(lambda: stats(broker)["refused_source"] >= 32, "the flood is refused")
        for number in range(8):
            with Proxied(broker, line(f"203.0.113.{number}")) as client:
                client.login(f"user{number}")
        with Client(broker) as direct:
            direct.login("direct")
        crowd.close()
        eventually(lambda: stats(broker)["connections_open"] <= 1, "they are gone")
        outcomes = []
        for number in range(12):
            with Proxied(broker, line(MALLORY, 2000 + number)) as client:
                frame = client.ask("login", username=f"mallory{number}")
                outcomes.append(frame.WhichOneof("body"))
                if outcomes[-1] == "welcome":
                    client.ask("logout")
        check_equal(outcomes, ["welcome"] * 10 + ["error"] * 2, "logins of one address")
        with Proxied(broker, line(BOB)) as client:
            client.login("bob")


def scene_failed_logins():
    key = Key("HS256", "a")
    options = {"proxy.from": PROXY, "limits.failed_logins_per_source": 5}
    with Keys(key) as file, file.broker(options) as broker:
        for number in range(5):
            with Proxied(broker, line(MALLORY, 1000 + number)) as client:
                client.post("login", username="alice", token=b"x.y.z")
                client.expect_error("UNAUTHENTICATED")
                client.expect_close("AUTH_FAILED")
        with Proxied(broker, line(MALLORY)) as client:
            client.post("login", username="mallory", token=key.sign("mallory"))
            client.expect_error("RATE_LIMITED")
        with Proxied(broker, line(ALICE)) as client:
            client.login("alice", token=key.sign("alice"))
        refused = broker.log_events("login_refused")
        check_equal({event["address"].split(":")[0] for event in refused}, {MALLORY}, "the log")


def scene_fights():
    """Takeovers are damped by the address of the device, not by the balancer's."""
    options = {**BEHIND, "limits.takeovers_per_minute": 4, "limits.login_deadline_ms": 60000}
    with Broker(options) as broker:
        holder = Proxied(broker, line(ALICE))
        holder.login("alice")
        outcomes = []
        for number in range(6):
            device = Proxied(broker, line(MALLORY, 1000 + number))
            outcomes.append(device.ask("login", username="alice").WhichOneof("body"))
            if outcomes[-1] == "welcome":
                holder.close()
                holder = device
            else:
                device.close()
        check_equal(outcomes, ["welcome"] * 4 + ["error"] * 2, "takeovers of one address")
        with Proxied(broker, line(BOB)) as owner:
            owner.login("alice")
            check_equal(address_of(broker, "alice"), f"{BOB}:4711", "who has it")
            holder.expect_close("REPLACED")
        holder.close()


# --- other ports, health, reload --------------------------------------------------------------


def scene_tls():
    """The header comes before TLS, and the deadline of the handshake begins behind it."""
    with TlsBroker(BEHIND) as broker:
        for header in (line(ALICE), binary(ALICE)):
            with ProxiedTls(broker, header) as client:
                client.login("alice")
                check_equal(address_of(broker, "alice"), f"{ALICE}:4711", "in who")
                client.post("logout")
                client.read_to_end()
        with Client(broker.tls_address, source=PROXY) as client:
            client.send_bytes(b"\x16\x03\x01\x02\x00\x01")
            client.read_to_end()
        broker.wait_log("proxy_failed")
        check_equal(failures(broker), [("listen.tls", "no PROXY header")], "the log")
        with Client(broker.tls_address, source="127.0.0.8") as forger:
            forger.send_bytes(line(ALICE))
            forger.expect_close("PROTOCOL_ERROR")
        check_equal(stats(broker)["plain_on_tls_port"], 1, "a header from a stranger")


def scene_health():
    """The proxy's own checks are the proxy's: no fault, nobody's room, nothing in the log."""
    options = {**BEHIND, "limits.prelogin_per_source": 2}
    with Broker(options) as broker:
        before = len(broker.lines)
        for number in range(60):
            with Client(broker, source=PROXY) as client:
                client.send_bytes((SIGNATURE + b"\x20\0\0\0", b"PROXY UNKNOWN\r\n")[number % 2])
                client.socket.shutdown(socket.SHUT_WR)
                client.read_to_end()
        eventually(lambda: stats(broker)["proxied_local"] == 60, "all were seen")
        with Proxied(broker, b"PROXY UNKNOWN\r\n") as client:
            client.login("itself")
            check(address_of(broker, "itself").startswith(f"{PROXY}:"), "the proxy's address")
        noise = [
            event.get("event")
            for event in broker.lines[before:]
            if event.get("level") in ("warn", "error")
        ]
        check_equal(noise, [], "the log")


def scene_reload():
    """Another balancer is added while everybody plays; a prefix that is none changes nothing."""
    with FileBroker({"auth__allow_open_network": True}) as broker:
        with Client(broker, source=PROXY) as client:
            client.login("alice")
            check(address_of(broker, "alice").startswith(f"{PROXY}:"), "before")
            broker.write(
                auth__allow_open_network=True, proxy__from=["127.0.0.8/31", "2001:db8::/32"]
            )
            check_equal(broker.reload()[0], 0, "a reload")
            client.ping()
        with Proxied(broker, line(ALICE)) as client:
            client.login("alice")
            check_equal(address_of(broker, "alice"), f"{ALICE}:4711", "afterwards")
            broker.write(auth__allow_open_network=True, proxy__from=["127.0.0.9/31"])
            code, lines = broker.reload()
            check(code != 0, f"a prefix that is none was taken: {lines}")
            client.ping()
        with Proxied(broker, line(BOB)) as client:
            client.login("bob")
            check_equal(address_of(broker, "bob"), f"{BOB}:4711", "still")


def scene_a_long_list():
    """As a content network publishes them: 64 prefixes, of which the last holds; one more is refused."""
    others = [f"192.0.{number}.0/24" for number in range(63)]
    with FileBroker({"auth__allow_open_network": True}) as broker:
        for count, taken in ((63, True), (64, False)):
            prefixes = [*(others * 2)[:count], "127.0.0.9"]
            broker.write(
                auth__allow_open_network=True, proxy__from=prefixes, ws__forwarded_from=prefixes
            )
            code, lines = broker.reload()
            check_equal(code == 0, taken, f"a reload with {count + 1}: {lines}")
        with Proxied(broker, line(ALICE)) as client:
            client.login("alice")
            check_equal(address_of(broker, "alice"), f"{ALICE}:4711", "by the last prefix")


# --- X-Forwarded-For --------------------------------------------------------------------------

FORWARDING = {"ws.forwarded_from": "127.0.0.9,10.0.0.0/8", "auth.allow_open_network": "true"}


def scene_forwarded():
    """The last one that is no proxy of ours, whatever the client wrote in front; from others nothing."""
    port = free_port()
    rows = {
        "one": ((ALICE,), f"{ALICE}:0"),
        "port": ((f"{ALICE}:4711",), f"{ALICE}:4711"),
        "six": (("2001:db8::7",), "[2001:db8::7]:0"),
        "forged": ((f"{MALLORY}, {ALICE}",), f"{ALICE}:0"),
        "lines": ((MALLORY, ALICE), f"{ALICE}:0"),
        "chain": ((f"{MALLORY}, {ALICE}, 10.1.2.3",), f"{ALICE}:0"),
        "chain2": ((f"{MALLORY}, {ALICE}", "10.1.2.3, 10.0.0.1"), f"{ALICE}:0"),
        "unknown": ((f"{ALICE}, unknown",), f"{PROXY}:"),
        "nonsense": ((f"{ALICE}, ::g",), f"{PROXY}:"),
        "nobody": ((), f"{PROXY}:"),
        "empty": (("",), f"{PROXY}:"),
        "own": (("10.1.2.3",), f"{PROXY}:"),
    }
    with Broker({**FORWARDING, "listen.ws": f"127.0.0.1:{port}"}) as broker:
        backend = Backend(broker, presence=True)
        for name, (lines, address) in rows.items():
            with Upgraded(port, *lines) as client:
                check_equal(client.status, 101, f"{name}: the upgrade")
                client.login(name)
                got = address_of(broker, name)
                check(got.startswith(address), f"{name}: {got}, expected {address}")
                online = backend.wait_event(name, "ONLINE", epoch=client.welcome.epoch)
                check_equal(online.address, got, f"{name} in the stream")
        for name, source in (("stranger", "127.0.0.8"), ("stranger2", "127.0.0.1")):
            with Upgraded(port, ALICE, source=source) as client:
                client.login(name)
                check(address_of(broker, name).startswith(f"{source}:"), "a forged header")
        with Upgraded(port, ALICE, name=b"X-Real-IP") as client:
            client.login("real")
            check(address_of(broker, "real").startswith(f"{PROXY}:"), "another header")
        # A refused upgrade is logged with the address of who asked.
        with Upgraded(
            port, MALLORY, name=b"Origin: https://evil.example\r\nX-Forwarded-For"
        ) as bad:
            check_equal(bad.status, 403, "a foreign origin")
        broker.wait_log("ws_refused")
        check_equal(broker.log_events("ws_refused")[-1]["address"], f"{MALLORY}:0", "the log")
        # Health checks of the proxy need no header.
        with Client(("127.0.0.1", port), source=PROXY) as check_of_proxy:
            check_of_proxy.socket.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            check(b" 200 " in check_of_proxy.socket.recv(4096), "the health check")
        backend.close()


def scene_forwarded_quota():
    """n of one address behind the balancer, and n + 1 gets 503; the others there do not notice. Who has
    logged in counts no more, and counts again where he is a stranger again."""
    port = free_port()
    options = {
        **FORWARDING,
        "listen.ws": f"127.0.0.1:{port}",
        "limits.prelogin_per_source": 4,
        "limits.login_deadline_ms": 60000,
        "limits.takeovers_per_minute": 4,
    }
    with Broker(options) as broker:
        sitting = [Upgraded(port, MALLORY) for _ in range(4)]
        check_equal([client.status for client in sitting], [101] * 4, "the first of one address")
        for lines in ((MALLORY,), (f"{ALICE}, {MALLORY}",), (f"{MALLORY}:99",)):
            with Upgraded(port, *lines) as more:
                check_equal(more.status, 503, f"{lines}: one more of it")
                check(b"Retry-After:" in more.head, f"no Retry-After: {more.head}")
        expect_numbers(broker, refused_source=3, ws_refused=3)
        for number in range(12):
            client = Upgraded(port, f"203.0.113.{number}")
            client.login(f"user{number}")
            sitting.append(client)
        sitting[0].login("mallory")
        with Upgraded(port, MALLORY) as again:
            check_equal(again.status, 101, "when one has logged in")
            with Upgraded(port, MALLORY) as more:
                check_equal(more.status, 503, "and one more")
        eventually(lambda: Upgraded(port, MALLORY).status == 101, "when one has gone")
        # Takeovers are damped where the device is.
        outcomes = []
        for _ in range(6):
            sitting.append(Upgraded(port, BOB))
            outcomes.append(sitting[-1].ask("login", username="user0").WhichOneof("body"))
        check_equal(outcomes, ["welcome"] * 4 + ["error"] * 2, "takeovers of one address")
        sitting.append(Upgraded(port, ALICE))
        sitting[-1].login("user0")
        for client in sitting:
            client.close()


def scene_forwarded_over_all():
    """Behind PROXY and TLS: the header names the proxy that forwards, and that one the player."""
    port, secure = free_port(), free_port()
    options = {
        **FORWARDING,
        "proxy.from": "127.0.0.10",
        "listen.ws": f"127.0.0.1:{port}",
        "listen.wss": f"127.0.0.1:{secure}",
    }
    with TlsBroker(options) as broker:
        with Upgraded(secure, f"{MALLORY}, {ALICE}", context=broker.context()) as client:
            client.login("secure")
            check_equal(address_of(broker, "secure"), f"{ALICE}:0", "over wss")
        with Upgraded(secure, context=broker.context()) as client:
            client.login("none")
            check(address_of(broker, "none").startswith(f"{PROXY}:"), "over wss without it")
        for number, header in enumerate((line("10.7.7.7"), binary("10.7.7.7"))):
            with Chained(port, header, ALICE) as client:
                client.login(f"both{number}")
                check_equal(address_of(broker, f"both{number}"), f"{ALICE}:0", "behind both")
        with Chained(port, line(BOB), ALICE) as client:
            client.login("bob")
            check_equal(address_of(broker, "bob"), f"{BOB}:4711", "whom PROXY names is no proxy")


# --- HAProxy ----------------------------------------------------------------------------------


class HAProxy:
    """The real one, with one frontend per row: {name: (port of the broker, options of its server)}."""

    def __init__(self, rows):
        self.folder = tempfile.TemporaryDirectory(prefix="usher-play-haproxy-")
        self.ports = {name: free_port() for name in rows}
        self.stats = os.path.join(self.folder.name, "stats")
        path = os.path.join(self.folder.name, "haproxy.cfg")
        with open(path, "w", encoding="ascii") as file:
            file.write(
                f"global\n  stats socket {self.stats}\n"
                "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n"
                "  timeout server 60s\n"
            )
            for name, (port, words) in rows.items():
                mode, _, words = words.rpartition("|")
                file.write(
                    f"listen {name}\n{mode}  bind 127.0.0.1:{self.ports[name]}\n"
                    f"  source {PROXY}\n"
                    f"  server usher 127.0.0.1:{port} check inter 200ms {words}\n"
                )
        self.process = subprocess.Popen(["haproxy", "-db", "-q", "-f", path])

    def state(self, name):
        """UP or DOWN, by its own health checks."""
        with socket.socket(socket.AF_UNIX) as stream:
            if stream.connect_ex(self.stats) != 0:
                return None
            stream.sendall(b"show stat\n")
            text = b""
            while data := stream.recv(65536):
                text += data
        for row in text.decode().splitlines():
            cells = row.split(",")
            if cells[0] == name and cells[1] == "usher":
                return cells[17]
        return None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.terminate()
        self.process.wait(10)
        self.folder.cleanup()


def scene_haproxy():
    """send-proxy and send-proxy-v2, plain and with TLS passed through, and its health checks."""
    if shutil.which("haproxy") is None:
        print("     no haproxy: left out")
        return
    with TlsBroker({**BEHIND, "limits.prelogin_per_source": 4}) as broker:
        rows = {
            "one": (broker.port, "send-proxy"),
            "two": (broker.port, "send-proxy-v2"),
            "tls": (broker.tls_port, "send-proxy-v2"),
            "options": (broker.port, "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
        }
        with HAProxy(rows) as proxy:
            for name in rows:
                eventually(lambda: proxy.state(name) == "UP", f"{name} is up")
            for name in ("one", "two", "options"):
                with Client(("127.0.0.1", proxy.ports[name]), source="127.0.0.77") as client:
                    client.login(name)
                    port = client.socket.getsockname()[1]
                    check_equal(address_of(broker, name), f"127.0.0.77:{port}", f"by {name}")
                    client.send(name, b"x" * 40000)
                    client.expect("message", payload=b"x" * 40000)
            broker.tls_address = ("127.0.0.1", proxy.ports["tls"])
            with TlsClient(broker, source="127.0.0.78") as client:
                client.login("tls")
                check(address_of(broker, "tls").startswith("127.0.0.78:"), "by TLS")
            # One address floods through it; the others there, and its checks, go on.
            flood = [
                Client(("127.0.0.1", proxy.ports["two"]), source="127.0.0.66") for _ in range(30)
            ]
            eventually(lambda: stats(broker)["refused_source"] >= 20, "the flood is refused")
            with Client(("127.0.0.1", proxy.ports["two"]), source="127.0.0.79") as client:
                client.login("quiet")
            check_equal(proxy.state("two"), "UP", "the health check in a flood")
            for client in flood:
                client.close()
        numbers = stats(broker)
        check_equal(numbers["proxy_refused"], 0, "refused headers")
        check(numbers["proxied_local"] > 0, "no health check was seen")
        print(f"     {numbers['proxied']} connections, {numbers['proxied_local']} checks")


def scene_nginx():
    """Its stream module, which has version 1 alone."""
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    if shutil.which("nginx") is None or not os.path.exists(module):
        print("     no nginx with the module stream: left out")
        return
    port = free_port()
    with Broker(BEHIND) as broker, tempfile.TemporaryDirectory(
        prefix="usher-play-nginx-"
    ) as folder:
        with open(os.path.join(folder, "nginx.conf"), "w", encoding="ascii") as file:
            file.write(
                f"load_module {module};\ndaemon off;\npid {folder}/pid;\n"
                f"error_log {folder}/error.log;\nevents {{}}\n"
                f"stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{broker.port};"
                f" proxy_bind {PROXY}; proxy_protocol on; }} }}\n"
            )
        process = subprocess.Popen(["nginx", "-c", file.name], stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "it listens")
            with Client(("127.0.0.1", port), source="127.0.0.77") as client:
                client.login("alice")
                own = client.socket.getsockname()[1]
                check_equal(address_of(broker, "alice"), f"127.0.0.77:{own}", "by nginx")
        finally:
            process.terminate()
            process.wait(10)


def scene_haproxy_http():
    """In mode http, with its own X-Forwarded-For behind what the client forges, and option httpchk."""
    if shutil.which("haproxy") is None:
        print("     no haproxy: left out")
        return
    port = free_port()
    with Broker({**FORWARDING, "listen.ws": f"127.0.0.1:{port}"}) as broker:
        mode = (
            "  mode http\n  option forwardfor\n  timeout tunnel 1h\n"
            "  option httpchk GET /health\n"
        )
        with HAProxy({"web": (port, f"{mode}|")}) as proxy:
            eventually(lambda: proxy.state("web") == "UP", "it is up")
            for name, lines in (("plain", ()), ("forger", (ALICE, "10.0.0.1"))):
                with Upgraded(proxy.ports["web"], *lines, source="127.0.0.77") as client:
                    check_equal(client.status, 101, f"{name}: the upgrade")
                    client.login(name)
                    check_equal(address_of(broker, name), "127.0.0.77:0", name)
                    client.send(name, b"to myself")
                    client.expect("message", payload=b"to myself")


if __name__ == "__main__":
    play(
        scene_who_comes,
        scene_not_believed,
        scene_missing,
        scene_slow,
        scene_one_floods,
        scene_failed_logins,
        scene_fights,
        scene_tls,
        scene_health,
        scene_reload,
        scene_a_long_list,
        scene_haproxy,
        scene_forwarded,
        scene_forwarded_quota,
        scene_forwarded_over_all,
        scene_haproxy_http,
        scene_nginx,
    )
