# SPDX-License-Identifier: Apache-2.0
"""TLS: like plain connections once they are in; and what strangers can do to it, which is little.

USHER_TLS_IDLE=1000 keeps that many idle connections for the figure of their memory."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

from usherplay import (
    Client,
    Failed,
    Identity,
    RawTls,
    TlsBroker,
    TlsClient,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
    program,
    scaled,
)
from usherplay.figures import percentile, pings, stats

IDLE = int(os.environ.get("USHER_TLS_IDLE", scaled(300, 30)))


def is_closed(stream):
    """Without waiting for it; what was sent before is of no interest."""
    stream.setblocking(False)
    try:
        while stream.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def scene_talk():
    with TlsBroker() as broker, Client(broker) as plain:
        plain.login("plain")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = broker.context()
            context.minimum_version = context.maximum_version = version
            with TlsClient(broker, context) as secret:
                welcome = secret.login("secret", acks=True)
                check_equal(secret.socket.version(), version.name.replace("_", "."), "version")
                check_equal(secret.socket.compression(), None, "compression")
                for size in (0, 1, 1000, 16384, 60000):
                    payload = os.urandom(size)
                    plain.send("secret", payload)
                    secret.expect("message", payload=payload)
                    secret.send("plain", payload)
                    plain.expect("message", payload=payload)
                secret.drop()
            with TlsClient(broker, context) as again:
                again.resume(welcome, 5, name="secret")
                again.ping()
                again.post("logout")
                again.read_to_end()
        check_equal(stats(broker)["tls_handshakes"], 4, "handshakes")
        check_equal(broker.log_events("tls_failed"), [], "failures")


def scene_large_output():
    """More than a socket takes, both ways at once."""
    with TlsBroker(
        {
            "limits.output_bytes": 64 << 20,
            "limits.output_soft_bytes": 64 << 20,
            "limits.inbox_bytes": 64 << 20,
            "limits.inbox_messages": 100000,
        }
    ) as broker, TlsClient(broker) as reader, TlsClient(broker) as writer:
        reader.login("reader")
        writer.login("writer")
        count = scaled(400, 40)
        for number in range(count):
            writer.send("reader", b"%06d" % number + b"x" * 50000, timeout=20)
        for number in range(count):
            message = reader.expect("message", timeout=20).message
            check_equal(message.payload[:6], b"%06d" % number, "order")
        reader.ping(timeout=20)


def scene_wrong_ports():
    with TlsBroker() as broker:
        plain = Client(broker.tls_address)
        plain.name = "plain"
        plain.post("login", username="plain")
        close = plain.expect_close("PROTOCOL_ERROR")
        check("TLS" in close.detail, f"detail: {close.detail}")
        line = broker.wait_log("tls_failed")
        check("listen.tls" in line["reason"] and line["address"].startswith("127.0.0.1:"), line)
        try:
            broker.context().wrap_socket(
                socket.create_connection(broker.address), server_hostname="localhost"
            )
            raise Failed("a TLS handshake on the plain port")
        except ssl.SSLError as error:
            check("ALERT_PROTOCOL_VERSION" in str(error), f"the client sees: {error}")
        line = broker.wait_log("tls_failed", count=2)
        check("listen.tcp" in line["reason"], line)
        numbers = stats(broker)
        check_equal((numbers["plain_on_tls_port"], numbers["tls_on_plain_port"]), (1, 1), "counted")


def scene_half_handshakes():
    """T59: 200 are held, of three kinds. Those who are in, and those who come, do not wait for
    them; all are closed at the deadline."""
    held_count = scaled(200, 40)
    deadline = 1.5
    with TlsBroker({"limits.handshake_deadline_ms": int(deadline * 1000)}) as broker, TlsClient(
        broker
    ) as inside:
        inside.login("inside")
        hello = client_hello(broker)
        before = pings(inside, 0.5)
        memory = broker.resident_bytes()
        held = []
        began = time.monotonic()
        for number in range(held_count):
            stream = socket.create_connection(broker.tls_address)
            stream.sendall([b"", hello[: len(hello) // 2], hello][number % 3])
            held.append(stream)
        latencies = []
        for number in range(5):
            start = time.monotonic()
            with TlsClient(broker, timeout=20) as honest:
                honest.login(f"honest{number}")
            latencies.append(time.monotonic() - start)
        during = pings(inside, 0.3)
        grown = broker.resident_bytes() - memory
        eventually(
            lambda: all(is_closed(stream) for stream in held),
            "all of them closed at the deadline",
            timeout=30,
        )
        oldest = time.monotonic() - began
        check(oldest >= deadline, f"closed after {oldest:.2f} s, before the deadline")
        check_equal(stats(broker)["tls_failed"], held_count, "counted")
        print(
            f"     {held_count} held: {grown // held_count} bytes each; ping p99 "
            f"{percentile(before, .99) * 1000:.2f} ms before, "
            f"{percentile(during, .99) * 1000:.2f} ms beside; honest login "
            f"{max(latencies) * 1000:.1f} ms at worst; the last gone after {oldest:.2f} s "
            f"(deadline {deadline} s)"
        )
        check(max(latencies) < 1.0 or scaled(10) < 10, f"a login took {max(latencies):.2f} s")
        for stream in held:
            stream.close()


def client_hello(broker):
    """The first bytes of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    wrapped = broker.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        wrapped.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def scene_too_many_handshakes():
    limit = 8
    with TlsBroker({"limits.handshakes": limit}) as broker:
        held = [socket.create_connection(broker.tls_address) for _ in range(limit)]
        extra = socket.create_connection(broker.tls_address)
        extra.settimeout(10)
        check_equal(extra.recv(1), b"", "one too many is closed")
        check_equal(broker.wait_log("limit_hit")["limit"], "limits.handshakes", "limit")
        held.pop().close()

        def room():
            try:
                with TlsClient(broker) as client:
                    return client.login("room")
            except (OSError, Failed):
                return False

        eventually(room, "room after one has left")
        for stream in held:
            stream.close()


def flood_of_handshakes(broker, stop, counts, context):
    while not stop.is_set():
        try:
            with socket.create_connection(broker.tls_address, 10) as stream:
                context.wrap_socket(stream, server_hostname="localhost").close()
            counts.append(1)
        except OSError:
            counts.append(0)


def scene_handshake_flood():
    """T59: as many as two programs can make. Those who are in keep being served between any two."""
    with TlsBroker() as broker, TlsClient(broker) as inside:
        inside.login("inside")
        before = pings(inside, 0.7)
        began, cpu = time.monotonic(), broker.cpu_seconds()
        done = stats(broker)["tls_handshakes"]
        rude = [
            subprocess.Popen(
                [
                    "openssl",
                    "s_time",
                    "-connect",
                    "%s:%d" % broker.tls_address,
                    "-new",
                    "-time",
                    "3",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        during = pings(inside, 2.5)
        for process in rude:
            process.wait(60)
        took = time.monotonic() - began
        spent = broker.cpu_seconds() - cpu
        done = stats(broker)["tls_handshakes"] - done
        check(done > 10, f"{done} handshakes in {took:.1f} s")
        print(
            f"     {done / took:.0f} handshakes/s, at most {spent / done * 1000:.2f} ms of CPU "
            f"each ({spent / took * 100:.0f} % of one); ping p50/p99 "
            f"{percentile(before, .5) * 1000:.2f}/{percentile(before, .99) * 1000:.2f} ms before"
            f", {percentile(during, .5) * 1000:.2f}/{percentile(during, .99) * 1000:.2f} ms beside"
        )
        check(max(during) < 5, f"a ping took {max(during):.2f} s")


def scene_login_latency():
    with TlsBroker() as broker:
        figures = {}
        for kind, make in (("plain", lambda: Client(broker)), ("TLS", lambda: TlsClient(broker))):
            took = []
            for number in range(scaled(100, 20)):
                began = time.monotonic()
                with make() as client:
                    client.login(f"{kind}{number}", timeout=20)
                took.append(time.monotonic() - began)
            figures[kind] = took
        print(
            "     connect to Welcome, p50/p99: "
            + ", ".join(
                f"{kind} {percentile(took, .5) * 1000:.2f}/{percentile(took, .99) * 1000:.2f} ms"
                for kind, took in figures.items()
            )
        )


def scene_renegotiation():
    with TlsBroker() as broker, TlsClient(broker) as inside:
        inside.login("inside")
        rude = RawTls(broker.tls_address, RawTls.TLS_1_2)
        check(not rude.renegotiate(), "the broker renegotiates")
        line = broker.wait_log("tls_failed")
        check("renegotiate" in line["reason"], line)
        check_equal(rude.receive(), b"", "the connection is over")
        inside.ping()
        rude.close()


def scene_key_update_flood():
    with TlsBroker() as broker, TlsClient(broker) as inside:
        inside.login("inside")
        rude = RawTls(broker.tls_address, RawTls.TLS_1_3)
        login = client_pb.ClientFrame(id=1)
        login.login.username = "rude"
        check(rude.send(frame_bytes(login)) and rude.receive(), "the rude one logs in")
        sent = 0
        while sent < 100000 and rude.update_keys():
            sent += 1
        line = broker.wait_log("tls_failed", 20)
        check("KeyUpdate" in line["reason"], line)
        print(f"     {sent} KeyUpdates sent before it was closed (32 are allowed)")
        check(sent >= 32, f"{sent} are few")
        inside.ping()
        broker.wait_log("detached")
        rude.close()


def scene_reload_under_load():
    """Certificates change while clients come; nobody is refused, and a wrong file changes
    nothing."""
    with TlsBroker() as broker, TlsClient(broker) as inside:
        inside.login("inside")
        stop, counts = threading.Event(), []
        threads = [
            threading.Thread(
                target=flood_of_handshakes,
                args=(broker, stop, counts, broker.context()),
                daemon=True,
            )
        ]
        threads[0].start()
        seen = {certificate_of(broker)}
        for number in range(3):
            newer = Identity(broker.certificates.name, f"newer{number}", broker.authority)
            shutil.copy(newer.certificate, broker.identity.certificate)
            shutil.copy(newer.key, broker.identity.key)
            broker.process.send_signal(signal.SIGHUP)
            broker.wait_log("tls_reloaded", count=number + 1)
            seen.add(certificate_of(broker))
        check_equal(len(seen), 4, "each of them was seen")
        last = certificate_of(broker)
        with open(broker.identity.key, "w", encoding="ascii") as file:
            file.write("no key at all\n")
        broker.process.send_signal(signal.SIGHUP)
        line = broker.wait_log("tls_refused")
        check("tls.key_file" in line["error"], line)
        check_equal(certificate_of(broker), last, "the certificate after a refused reload")
        stop.set()
        threads[0].join()
        check_equal(counts.count(0), 0, f"failures among {len(counts)} handshakes")
        print(f"     {len(counts)} handshakes around 4 reloads")
        inside.ping()


def certificate_of(broker):
    with socket.create_connection(broker.tls_address, 10) as stream:
        with broker.context().wrap_socket(stream, server_hostname="localhost") as wrapped:
            return wrapped.getpeercert(True)


def scene_reload_without_tls():
    """SIGHUP is nothing to die of."""
    broker = TlsBroker({"listen.tls": "", "tls.certificate_file": "", "tls.key_file": ""})
    with broker, Client(broker) as alice:
        broker.process.send_signal(signal.SIGHUP)
        alice.login("alice")
        check_equal(broker.log_events("tls_refused"), [], "refusals")


def refused(broker, identity):
    try:
        with TlsClient(broker, broker.context(identity)) as client:
            client.post("login", username="stranger")
            return client.next_frame() is None
    except (OSError, Failed):
        return True


def scene_client_certificates():
    with TlsBroker(wait=False) as broker:
        broker.kill()
        broker.restart({"tls.client_ca_file": broker.authority.certificate})
        folder = broker.certificates.name
        known = Identity(folder, "known", broker.authority)
        stranger = Identity(folder, "stranger")
        with TlsClient(broker, broker.context(known)) as client:
            client.login("known")
            client.ping()
            check(refused(broker, None), "without a certificate")
            check(refused(broker, stranger), "with a certificate of somebody else")
            client.ping()
        broker.wait_log("tls_failed", count=2)


def scene_memory():
    """What an idle connection costs."""
    with TlsBroker() as broker:
        warm = [idle_user(broker, f"warm{number}") for number in range(10)]
        before = broker.resident_bytes()
        users = [idle_user(broker, f"user{number}") for number in range(IDLE)]
        each = (broker.resident_bytes() - before) / IDLE
        print(f"     {IDLE} idle users over TLS: {each / 1024:.1f} KiB of RSS each")
        check(each < 64 * 1024 or scaled(10) < 10, f"{each:.0f} bytes for an idle connection")
        cpu = broker.cpu_seconds()
        time.sleep(0.5)
        check(broker.cpu_seconds() - cpu < 0.25, "idle connections cost time")
        for user in warm + users:
            user.close()


def idle_user(broker, name):
    client = TlsClient(broker, timeout=20)
    client.login(name)
    return client


def usher(*arguments):
    return subprocess.run(
        [program("usher"), *arguments], text=True, capture_output=True, timeout=30
    )


def scene_tools():
    with TlsBroker() as broker:
        common = ("send", "--user", "tool", "--to", "tool", "--port", str(broker.tls_port), "hello")
        good = usher(*common[:-1], "--ca", broker.authority.certificate, common[-1])
        check_equal(good.returncode, 0, f"usher over TLS: {good.stderr}")
        cases = {
            "self-signed|unable to get|certificate": ("--tls",),
            "hostname mismatch": ("--ca", broker.authority.certificate, "--server-name", "other"),
            "cannot be used": ("--ca", "/nowhere"),
        }
        for pattern, arguments in cases.items():
            bad = usher(*common[:-1], *arguments, common[-1])
            check_equal(bad.returncode, 2, f"usher {arguments}: {bad.stderr}")
            check(re.search(pattern, bad.stderr), f"usher {arguments} says: {bad.stderr}")
        listener = subprocess.Popen(
            [
                program("usher"),
                "listen",
                "--user",
                "listener",
                "--port",
                str(broker.tls_port),
                "--ca",
                broker.authority.certificate,
                "--count",
                "40",
                "--json",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        eventually(
            lambda: any(line["user"] == "listener" for line in broker.log_events("login")),
            "usher listen over TLS",
            timeout=20,
        )
        with TlsClient(broker) as sender:
            sender.login("sender")
            for _ in range(40):  # several records each
                sender.post("send", id=0, to="listener", payload=b"y" * 50000)
            output, _ = listener.communicate(timeout=60)
        check_equal((listener.returncode, output.count("y" * 50000)), (0, 40), "what it heard")
        half = usher(*common[:-1], "--tls", "--key", broker.identity.key, common[-1])
        check_equal(half.returncode, 64, f"a key without a certificate: {half.stderr}")
        broker.stop()
        broker.restart({"tls.client_ca_file": broker.authority.certificate})
        known = Identity(broker.certificates.name, "known", broker.authority)
        good = usher(
            *common[:-1],
            "--ca",
            broker.authority.certificate,
            "--certificate",
            known.certificate,
            "--key",
            known.key,
            common[-1],
        )
        check_equal(good.returncode, 0, f"usher with a certificate: {good.stderr}")
        bad = usher(*common[:-1], "--ca", broker.authority.certificate, common[-1])
        check_equal(bad.returncode, 2, f"usher without a certificate: {bad.stderr}")


if __name__ == "__main__":
    play(
        scene_talk,
        scene_large_output,
        scene_wrong_ports,
        scene_half_handshakes,
        scene_too_many_handshakes,
        scene_handshake_flood,
        scene_login_latency,
        scene_renegotiation,
        scene_key_update_flood,
        scene_reload_under_load,
        scene_reload_without_tls,
        scene_client_certificates,
        scene_memory,
        scene_tools,
    )
