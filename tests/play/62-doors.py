# SPDX-License-Identifier: Apache-2.0
"""The doors: what strangers, slow readers and crowds can take, and that nobody else notices.

Each scene prints its figure. USHER_DOORS_SCALE=10 makes the crowds that much larger."""

import contextlib
import os
import resource
import socket
import ssl
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    Failed,
    TlsBroker,
    TlsClient,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
    scaled,
    varint,
)
from usherplay.figures import percentile, pings, stats

LARGER = int(os.environ.get("USHER_DOORS_SCALE", "1"))
SLOW_BUILD = scaled(10) < 10
MIB = 1 << 20
STRANGER_AGE = 1.0  # s; who has been in the room for so long goes for a newcomer


def crowd(figure, least=10):
    return scaled(figure, least) * LARGER


def compared(before, during):
    """For people: the bystander's p99 and its ratio."""
    first, then = percentile(before, 0.99), percentile(during, 0.99)
    return f"bystander p99 {first * 1000:.2f} -> {then * 1000:.2f} ms ({then / first:.1f}x)"


def is_closed(stream):
    """Without waiting for it; what was sent before is of no interest."""
    stream.setblocking(False)
    try:
        while stream.recv(65536):
            pass
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        pass
    return True


def honest_login(broker, name, source=None, tls=False):
    """Seconds from connect to Welcome."""
    began = time.monotonic()
    kind = TlsClient if tls else Client
    with kind(broker, source=source, timeout=20) as client:
        client.login(name)
        return time.monotonic() - began


def patience_with(broker, tls=False):
    """Seconds that a login may take among strangers: one, or as many times what it takes without
    them where the machine is busy with something else."""
    return max(1.0, 10 * max(honest_login(broker, f"alone{n}", tls=tls) for n in range(10)))


def memory_peak(broker):
    """The most that the process has had."""
    with open(f"/proc/{broker.process.pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise Failed("no VmHWM")


def flood(sender, to, payload, until, seconds=30):
    """Sends with a window until `until` says so."""
    deadline = time.monotonic() + seconds
    waiting = 0
    while not until():
        check(time.monotonic() < deadline, f"nothing happened in {seconds} s of flood")
        if waiting < 16:
            sender.post("send", to=to, payload=payload)
            waiting += 1
        sender.receive_more(0.0001 if waiting < 16 else 0.05)
        while sender.frames:
            sender.next_frame()
            waiting -= 1
    while waiting:
        check(sender.next_frame(20) is not None, "a sender of the flood waits for his answers")
        waiting -= 1


# --- slow readers -------------------------------------------------------------------------------


def scene_slow_reader():
    """T17: one who never reads is closed by bytes; the sender does not wait, nor anybody else."""
    limits = {"limits.output_bytes": 256 * 1024, "limits.output_soft_bytes": 128 * 1024}
    with Broker(limits) as broker, Client(broker) as sender, Client(broker) as bystander:
        sender.login("sender")
        bystander.login("bystander")
        before = pings(bystander, 0.5)
        memory = broker.resident_bytes()
        slow = Client(broker, receive_buffer=4096)
        slow.login("slow")
        during = []
        began = time.monotonic()

        def closed():
            during.append(bystander.ping(timeout=20))
            return broker.log_events("slow_consumer")

        flood(sender, "slow", b"f" * 8000, closed)
        took = time.monotonic() - began
        print(
            f"     closed after {took:.2f} s, memory +{(memory_peak(broker) - memory) >> 10} KiB "
            f"at its peak, {compared(before, during)}"
        )
        check(max(during) < 2, f"a bystander waited {max(during):.2f} s")
        sender.ping()
        slow.close()


def scene_trickle_reader():
    """T18: he reads a byte now and then, to look alive; above the soft limit for too long he is
    closed all the same, also when nothing is sent to him any more."""
    limits = {
        "limits.output_bytes": 64 * MIB,
        "limits.output_soft_bytes": 16384,
        "limits.output_soft_ms": 700,
    }
    with Broker(limits) as broker, Client(broker) as sender:
        sender.login("sender")
        slow = Client(broker, receive_buffer=4096)
        slow.login("slow")
        for _ in range(110):  # more than the kernel takes
            sender.ask("send", to="slow", payload=b"f" * 60000, timeout=20)
        began = time.monotonic()

        def closed():
            with contextlib.suppress(OSError):
                slow.socket.settimeout(0.001)
                slow.socket.recv(1)
            return broker.log_events("slow_consumer")

        eventually(closed, "the trickling reader closed", timeout=20)
        print(f"     closed {time.monotonic() - began:.2f} s after the last message (limit 0.7 s)")
        sender.ping()
        slow.close()


def scene_slow_army():
    """T19: many slow readers, each within its own limit. Memory stays within the limit for all of
    them, the largest goes first, and new logins work."""
    army_size = crowd(150, 20)
    budget = 8 * MIB if army_size >= 100 else 2 * MIB
    limits = {
        "limits.output_bytes": MIB,
        "limits.output_soft_bytes": MIB,
        "limits.output_total_bytes": budget,
        "limits.close_linger_ms": 100,
    }
    with Broker(limits) as broker, Client(broker) as sender:
        sender.login("sender")
        army = []
        for number in range(army_size):
            slow = Client(broker, receive_buffer=4096, timeout=20)
            slow.login(f"slow{number}")
            army.append(slow)
        before = broker.resident_bytes()

        def evicted():
            return len(broker.log_events("slow_consumer")) or stats(broker)["output_evicted"]

        number = 0
        payload = b"f" * 60000
        deadline = time.monotonic() + 120
        latencies = []
        while number < army_size * 60 and not (number % army_size == 0 and evicted() >= 3):
            sender.post("send", id=0, to=f"slow{number % army_size}", payload=payload)
            number += 1
            if number % 100 == 0:
                sender.ping(timeout=20)
                latencies.append(honest_login(broker, f"honest{number}"))
                check(time.monotonic() < deadline, "nobody was evicted in 120 s")
        numbers = stats(broker)
        grown = memory_peak(broker) - before
        print(
            f"     {army_size} slow readers: {numbers['output_evicted']} evicted, memory "
            f"+{grown / MIB:.1f} MiB at its peak (limit {budget / MIB:.0f} MiB of output); "
            f"honest login {max(latencies) * 1000:.1f} ms at worst"
        )
        check(numbers["output_evicted"] > 0, "nobody was evicted")
        line = broker.wait_log("limit_hit")
        check_equal(line["limit"], "limits.output_total_bytes", "limit")
        check(grown < budget + 24 * MIB or SLOW_BUILD, f"{grown / MIB:.1f} MiB")
        for slow in army:
            slow.close()


# --- before the login ---------------------------------------------------------------------------


def scene_slowloris():
    """T20: a byte now and then, of a frame or of a TLS hello, or nothing at all. The deadline is
    absolute; who is honest does not wait."""
    count = crowd(150, 20)
    deadline = 1.5
    options = {
        "limits.login_deadline_ms": int(deadline * 1000),
        "limits.handshake_deadline_ms": int(deadline * 1000),
        "limits.handshakes": 20000,
        "limits.prelogin_connections": 20000,
    }
    with TlsBroker(options) as broker:
        login = client_pb.ClientFrame(id=1)
        login.login.username = "never"
        login.login.client = "x" * 3000
        frame = frame_bytes(login)
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(400)
        patience = patience_with(broker, tls=True)
        holders = []
        for number in range(count):
            address, data = [
                (broker.address, frame),
                (broker.tls_address, hello),
                (broker.address, b""),
                (broker.tls_address, b""),
            ][number % 4]
            stream = socket.create_connection(address)
            holders.append([stream, data, time.monotonic(), None])
        latencies, sent = [], 0
        give_up = time.monotonic() + 60
        while any(holder[3] is None for holder in holders):
            check(time.monotonic() < give_up, "a slow stranger was not closed in 60 s")
            for holder in holders:
                stream, data, since, _ = holder
                if holder[3] is None and is_closed(stream):
                    holder[3] = time.monotonic() - since
                elif holder[3] is None and sent < len(data):
                    with contextlib.suppress(OSError):
                        stream.send(data[sent : sent + 1])
            sent += 1
            latencies.append(honest_login(broker, f"honest{sent}", tls=sent % 2 == 0))
            time.sleep(0.05)
        ages = [holder[3] for holder in holders]
        print(
            f"     {count} slow strangers: closed after {min(ages):.2f} to {max(ages):.2f} s "
            f"(deadline {deadline} s); honest login p99 "
            f"{percentile(latencies, .99) * 1000:.1f} ms"
        )
        check(min(ages) >= deadline - 0.1, "one was closed before the deadline")
        check(percentile(latencies, 0.99) < patience or SLOW_BUILD, "honest logins wait")
        for holder in holders:
            holder[0].close()


def scene_output_before_login():
    """T21: requests that are answered, and never read."""
    count, limit = crowd(100, 10), 1000
    with Broker(
        {
            "limits.prelogin_output_bytes": limit,
            "limits.prelogin_connections": 20000,
            "limits.login_deadline_ms": 60000,
            "limits.prelogin_bytes": 65536,
        }
    ) as broker:
        resume = client_pb.ClientFrame(id=7)
        resume.resume.username = "nobody"
        resume.resume.epoch = 1
        before = stats(broker)["bytes_out"]
        rude = []
        for _ in range(count):
            client = Client(broker, receive_buffer=4096)
            client.name = "rude"
            with contextlib.suppress(OSError):
                client.send_bytes(frame_bytes(resume) * 200)
            rude.append(client)
        eventually(
            lambda: all(is_closed(client.socket) for client in rude),
            "those who ask and do not read are closed",
            timeout=20,
        )
        each = (stats(broker)["bytes_out"] - before) / count
        print(
            f"     {count} strangers, 200 questions each: {each:.0f} bytes answered to each "
            f"(limit {limit})"
        )
        check(each <= limit, f"{each:.0f} bytes before login")
        # One who asks less than that is answered, and may still log in.
        with Client(broker) as client:
            for _ in range(5):
                client.post("resume", username="nobody", epoch=1)
                client.expect_error("RESUME_REJECTED")
            client.login("patient")
            client.ping()


def scene_a_login_behind_too_much_output():
    """Who has asked for more than he is answered before login is closed, and not let in by what stands
    behind it: he would hear nothing of that, and keep out whom he replaces."""
    with Broker({"limits.prelogin_output_bytes": 1000}) as broker, Client(broker) as alice:
        alice.login("alice")
        with Client(broker) as greedy:
            greedy.name = "greedy"
            questions = b"".join(
                frame_bytes(client_pb.ClientFrame(id=number + 1)) for number in range(100)
            )
            login = client_pb.ClientFrame(id=1000)
            login.login.username = "alice"
            greedy.send_bytes(questions + frame_bytes(login))
            answers = greedy.read_to_end()
            check({frame.WhichOneof("body") for frame in answers} <= {"error", "close"}, "answers")
        check_equal(stats(broker)["takeovers"], 0, "takeovers")
        alice.ping()


def scene_bytes_before_login():
    """T22: the largest frame that is allowed, all but its last byte, held."""
    count = crowd(200, 20)
    with Broker(
        {"limits.prelogin_connections": 20000, "limits.login_deadline_ms": 60000}
    ) as broker:
        limit = 4096
        streams = [socket.create_connection(broker.address) for _ in range(count)]
        eventually(lambda: stats(broker)["connections_open"] == count, "all connected", timeout=20)
        before = broker.resident_bytes()
        for stream in streams:
            stream.sendall(varint(limit) + b"x" * (limit - 1))
        eventually(lambda: stats(broker)["bytes_in"] >= count * limit, "all of it read", timeout=20)
        each = (broker.resident_bytes() - before) / count
        print(f"     {count} frames of {limit} bytes but one: {each:.0f} bytes of memory each")
        check(each < 2 * limit or SLOW_BUILD, f"{each:.0f} bytes for each")
        over = Client(broker)
        over.name = "over"
        over.send_bytes(varint(limit + 1))  # the announcement is enough
        over.expect_close("PROTOCOL_ERROR")
        check_equal(honest_login(broker, "honest") < 10, True, "honest login")
        for stream in streams:
            stream.close()


def scene_one_source():
    """T27: one address fills its part, n and n + 1; another does not notice. Silent, its oldest goes
    for the one after them."""
    limit = 20
    with Broker({"limits.prelogin_per_source": limit, "limits.login_deadline_ms": 60000}) as broker:
        patience = patience_with(broker)
        held = [Client(broker, source="127.0.0.9") for _ in range(limit)]
        eventually(lambda: stats(broker)["connections_open"] == limit, "n are let in")
        time.sleep(STRANGER_AGE + 0.1)
        extra = [Client(broker, source="127.0.0.9") for _ in range(limit)]
        for old in held:
            close = old.expect_close("OVERLOADED")
            check("limits.prelogin_per_source" in close.detail and close.retry_after_ms > 0, close)
            old.close()
        check_equal(
            broker.wait_log("stranger_displaced")["limit"], "limits.prelogin_per_source", "limit"
        )
        check_equal(
            (stats(broker)["strangers_displaced"], stats(broker)["refused_source"]),
            (limit, 0),
            "displaced, refused",
        )
        held = extra
        more = Client(broker, source="127.0.0.9")
        more.name = "one too many"  # those who are there have just come
        close = more.expect_close("OVERLOADED")
        check("limits.prelogin_per_source" in close.detail and close.retry_after_ms > 0, close)
        check_equal(broker.wait_log("limit_hit")["limit"], "limits.prelogin_per_source", "limit")
        latencies = [
            honest_login(broker, f"other{number}", source="127.0.0.10") for number in range(30)
        ]
        print(
            f"     {limit} held by one address; login from another p99 "
            f"{percentile(latencies, .99) * 1000:.1f} ms"
        )
        check(percentile(latencies, 0.99) < patience or SLOW_BUILD, "another address waits")
        # A login makes room for the next one of the same address.
        held[0].login("first")
        honest_login(broker, "second", source="127.0.0.9")
        check_equal(stats(broker)["refused_source"], 1, "counted")
        for client in held:
            client.close()


def silent_crowd(broker, sources, each):
    """Connections that say nothing, from addresses of 127.0.1.0/24."""
    return [
        Client(broker, source=f"127.0.1.{1 + number % sources}") for number in range(sources * each)
    ]


def scene_the_room_full_of_silence():
    """More strangers than the room holds, from some addresses, say nothing. Whoever comes to log in
    is in at once, from another address and from one of theirs, while they come again and again."""
    sources, each = 36, 32
    with Broker({"limits.prelogin_per_source": 32, "limits.login_deadline_ms": 60000}) as broker:
        patience = patience_with(broker)
        silent = silent_crowd(broker, sources, each)
        eventually(lambda: stats(broker)["connections_open"] == 1024, "the room is full")
        time.sleep(STRANGER_AGE + 0.1)
        latencies = []
        for number in range(20):
            latencies.append(honest_login(broker, f"other{number}", source="127.0.0.10"))
            latencies.append(honest_login(broker, f"same{number}", source="127.0.1.1"))
            silent += silent_crowd(broker, sources, 1)
        print(
            f"     {sources * each} silent strangers of {sources} addresses; login "
            f"p99 {percentile(latencies, .99) * 1000:.1f} ms"
        )
        check(percentile(latencies, 0.99) < patience or SLOW_BUILD, "who logs in waits")
        check(stats(broker)["strangers_displaced"] > 0, "nobody went")
        # Who was told to go is counted until he has gone.
        eventually(
            lambda: stats(broker)["connections_open"] <= 1024 + 1, "no more than the room holds"
        )
        for stranger in silent:
            stranger.close()


def scene_the_room_full_of_half_handshakes():
    """The same at the door of TLS: they connect and begin no handshake."""
    limits = {
        "limits.handshakes": 64,
        "limits.handshake_deadline_ms": 60000,
        "limits.prelogin_per_source": 32,
    }
    with TlsBroker(limits) as broker:
        silent = [
            socket.create_connection(
                ("127.0.0.1", broker.tls_port),
                timeout=10,
                source_address=(f"127.0.1.{1 + number // 32}", 0),
            )
            for number in range(64)
        ]
        time.sleep(STRANGER_AGE + 0.1)
        for number in range(5):
            honest_login(broker, f"other{number}", source="127.0.0.10", tls=True)
            honest_login(broker, f"same{number}", source="127.0.1.1", tls=True)
        check_equal(stats(broker)["strangers_displaced"] > 0, True, "one went")
        check_equal(stats(broker)["refused_handshakes"], 0, "refused")
        for stream in silent:
            stream.close()


# --- crowds and files ---------------------------------------------------------------------------


def scene_half_close():
    """T24: a client says that it will send no more, and reads on."""
    with Broker() as broker, Client(broker) as other:
        other.login("other")
        client = Client(broker)
        client.login("half")
        client.send_bytes(
            b"".join(frame_bytes(client.request("ping", stamp=number)) for number in range(50))
        )
        client.socket.shutdown(socket.SHUT_WR)
        frames = client.read_to_end()
        pongs = [frame for frame in frames if frame.WhichOneof("body") == "pong"]
        broker.wait_log("detached")
        cpu = broker.cpu_seconds()
        time.sleep(0.5)
        idle = (broker.cpu_seconds() - cpu) / 0.5
        print(f"     {len(pongs)} of 50 answers came, then the end; CPU idle {idle * 100:.0f} %")
        check(idle < 0.3, f"{idle * 100:.0f} % CPU after a half-close")
        check_equal(stats(broker)["connections_open"], 1, "what is left")
        other.ping()
        client.close()


class FewFiles(Broker):
    """Under a limit of open files."""

    FILES = 256

    def command(self):
        return ["prlimit", f"--nofile={self.FILES}:{self.FILES}"] + super().command()


def scene_files():
    """T25: more connections than files. Who is in stays, the store works, nothing spins, and there
    is room as soon as there are files."""
    count = 600
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    for reserve, how in ((64, "refused"), (0, "accepting pauses")):
        with FewFiles(
            {
                "limits.prelogin_connections": 20000,
                "limits.login_deadline_ms": 600000,
                "limits.files_reserved": reserve,
            }
        ) as broker, Client(broker) as inside:
            inside.login("inside")
            before = pings(inside, 0.3)
            crowd_there = []
            if not reserve:  # somebody takes files away that the broker counted on
                fewer = (FewFiles.FILES * 3 // 4, FewFiles.FILES)
                resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE, fewer)
            for _ in range(count):
                stream = socket.socket()
                stream.setblocking(False)
                stream.connect_ex(broker.address)
                crowd_there.append(stream)
            during = pings(inside, 0.5)
            cpu, began = broker.cpu_seconds(), time.monotonic()
            time.sleep(1)
            busy = (broker.cpu_seconds() - cpu) / (time.monotonic() - began)
            lines = len(broker.lines)
            for stream in crowd_there:
                stream.close()
            began = time.monotonic()

            def taken():
                try:
                    return honest_login(broker, "later")
                except (OSError, Failed):
                    return None

            resumed = eventually(taken, "a login after the crowd has left", timeout=20)
            waited = time.monotonic() - began
            print(
                f"     {count} connections at {FewFiles.FILES} files, {reserve} reserved ({how})"
                f": CPU while full {busy * 100:.0f} %, a login {waited * 1000:.0f} ms after, "
                f"{lines} log lines, {compared(before, during)}"
            )
            check(resumed is not None and (busy < 0.5 or SLOW_BUILD), f"{busy * 100:.0f} % CPU")
            check(lines < 200, f"{lines} log lines")
            check_equal(bool(broker.log_events("accept_paused")), reserve == 0, "accepting paused")
            inside.ping()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def scene_files_of_the_admin_port():
    """Whoever fills the admin port has its own files and nobody else's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    places = 100
    with FewFiles({"admin.listen": "127.0.0.1:0", "admin.connections": places}) as broker:
        told = broker.log_events("fewer_connections")[0]["connections"]
        port = next(
            line["port"] for line in broker.log_events("listening") if line["for"] == "admin"
        )
        players = [Client(broker, timeout=20) for _ in range(told)]
        for number, player in enumerate(players[:-1]):
            player.login(f"player{number}")
        strangers = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(2 * places)]
        players[-1].login("last")
        with Backend(broker, service="chat"):
            check_equal(broker.log_events("accept_paused"), [], "accepting paused")
        for one in [*players, *strangers]:
            one.close()
        print(f"     {told} players beside {places} of {FewFiles.FILES} files for operators")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def scene_churn():
    """T26: connections come and go, by FIN, by RST, in the middle of a handshake."""
    seconds = 2.5 * LARGER
    with TlsBroker({"limits.prelogin_connections": 20000}) as broker, Client(broker) as inside:
        inside.login("inside")
        for number in range(100):
            churn_once(broker, number)
        eventually(lambda: stats(broker)["connections_open"] == 1, "a quiet start", timeout=20)
        memory, files = broker.resident_bytes(), sum(broker.descriptors().values())
        done = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            churn_once(broker, done)
            done += 1
        eventually(lambda: stats(broker)["connections_open"] == 1, "all of them gone", timeout=20)
        grown = broker.resident_bytes() - memory

        def files_are_back():
            return sum(broker.descriptors().values()) <= files

        eventually(files_are_back, "as many files as before", timeout=20)
        numbers = stats(broker)
        print(
            f"     {done / seconds:.0f} connections/s, {done} in all: memory {grown >> 10:+} KiB"
            f", files +0, {numbers['events_stale']} stale events"
        )
        # The heap keeps what handshakes that ran at the same time have used.
        check(grown < 48 * MIB or SLOW_BUILD, f"{grown >> 10} KiB more")
        inside.ping()


def churn_once(broker, number):
    kind = number % 4
    stream = socket.create_connection(broker.tls_address if kind == 2 else broker.address)
    if kind == 1:
        stream.sendall(b"\x05\x08")
    elif kind == 2:
        stream.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03half")
    if kind == 3:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.close()


# --- requests -----------------------------------------------------------------------------------


def scene_rate():
    """n requests at once pass, n + 1 do not; who waits as told gets through; who goes on is
    closed, and comes back to the same allowance."""
    limit = 50
    with Broker({"limits.requests_per_second": limit}) as broker, Client(broker) as other:
        other.login("other")
        client = Client(broker)
        welcome = client.login("fast")
        batch = [client.request("ping", stamp=number) for number in range(limit + 1)]
        client.send_bytes(b"".join(frame_bytes(frame) for frame in batch))
        for frame in batch[:limit]:
            client.expect("pong", id=frame.id)
        error = client.expect_error("RATE_LIMITED", id=batch[limit].id)
        check(error.retry_after_ms > 0 and "limits.requests_per_second" in error.detail, error)
        time.sleep(error.retry_after_ms / 1000 + 0.01)
        client.ping()
        client.send_bytes(
            b"".join(frame_bytes(client.request("ping", id=0)) for _ in range(4 * limit))
        )
        frames = client.read_to_end()
        close = frames[-1].close
        check_equal(close.reason, client_pb.Close.RATE_LIMITED, "reason")
        check(close.retry_after_ms > 0, "retry_after_ms")
        broker.wait_log("rate_limited")
        numbers = stats(broker)
        check_equal(numbers["closed_rate_limited"], 1, "counted")
        print(f"     {limit} a second: closed after {numbers['requests_limited']} refusals")
        again = Client(broker)
        again.resume(welcome, 0, name="fast")
        again.send_bytes(b"".join(frame_bytes(again.request("ping")) for _ in range(2 * limit)))
        answers = [again.next_frame().WhichOneof("body") for _ in range(limit)]
        check("error" in answers, "a resume brought a new allowance")
        other.ping()
        client.close()
        again.close()


def scene_requests_of_one_source():
    """Users of one address share an allowance; who comes from another does not notice."""
    limit = 60
    with Broker(
        {"limits.requests_per_second": 50, "limits.requests_per_second_per_source": limit}
    ) as broker, Client(broker, source="127.0.0.2") as first, Client(
        broker, source="127.0.0.2"
    ) as second, Client(
        broker
    ) as other:
        for client, name in ((first, "first"), (second, "second"), (other, "other")):
            client.login(name)
        for source in ("127.0.0.2", None):  # taken over; the stop checks what is not given back
            again = Client(broker, source=source)
            again.login("other")
            other.close()
            other = again
        began = time.monotonic()
        batches = [
            [client.request("ping", stamp=number) for number in range(40)]
            for client in (first, second)
        ]
        for client, batch in zip((first, second), batches):
            client.send_bytes(b"".join(frame_bytes(frame) for frame in batch))
        answers = [
            client.answer_to(frame.id)
            for client, batch in zip((first, second), batches)
            for frame in batch
        ]
        refused = [frame.error for frame in answers if frame.WhichOneof("body") == "error"]
        passed = len(answers) - len(refused)
        most = limit + limit * (time.monotonic() - began) + 1
        check(limit <= passed <= most, f"{passed} of {len(answers)} passed, at most {most:.0f}")
        check(refused, "nothing was refused: the machine is too slow for this, or it is broken")
        for error in refused:
            check(
                error.code == client_pb.Error.RATE_LIMITED
                and error.retry_after_ms > 0
                and "per_source" in error.detail,
                error,
            )
        for _ in range(40):
            other.ping()
        time.sleep(max(error.retry_after_ms for error in refused) / 1000 + 0.01)
        second.ping()
        numbers = stats(broker)
        check_equal(numbers["requests_limited_source"], len(refused), "counted")
        check_equal(numbers["closed_rate_limited"], 0, "closed")
        lines = eventually(
            lambda: [
                line for line in broker.log_events("limit_hit") if "per_source" in line["limit"]
            ],
            "a line in the log",
        )
        check(lines[0]["address"].startswith("127.0.0.2:"), f"the log: {lines}")
        other.close()
        print(
            f"     {passed} of {len(answers)} passed, {len(refused)} refused, "
            f"{len(lines)} log lines"
        )


# --- the process --------------------------------------------------------------------------------


def scene_process():
    """What it has given up."""
    with Broker({"process.core_dumps": "false"}) as broker:
        folder = f"/proc/{broker.process.pid}"
        with open(f"{folder}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        check_equal((status["NoNewPrivs"], status["Umask"]), ("1", "0077"), "NoNewPrivs, Umask")
        for name in os.listdir(broker.store):
            mode = os.stat(os.path.join(broker.store, name)).st_mode
            check_equal(mode & 0o077, 0, f"rights of others on {name}")
        if os.geteuid() == 0:
            print("     run by root: whether it can be dumped is not visible")
            broker.wait_log("running_as_root")
        else:
            check_equal(os.stat(f"{folder}/fd").st_uid, 0, "it can be dumped")
            check_equal(broker.log_events("running_as_root"), [], "warnings")


if __name__ == "__main__":
    play(
        scene_slow_reader,
        scene_trickle_reader,
        scene_slow_army,
        scene_slowloris,
        scene_output_before_login,
        scene_a_login_behind_too_much_output,
        scene_bytes_before_login,
        scene_one_source,
        scene_the_room_full_of_silence,
        scene_the_room_full_of_half_handshakes,
        scene_half_close,
        scene_files,
        scene_files_of_the_admin_port,
        scene_churn,
        scene_rate,
        scene_requests_of_one_source,
        scene_process,
    )
