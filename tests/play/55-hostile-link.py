# SPDX-License-Identifier: Apache-2.0
"""Peers on the sockets for backends and for the feed that are no backends: usherd lives, real
backends go on, memory stays where it was, and so does the CPU: what a dead listener of nng 1.5 has
accepted and nobody takes is watched by its poller for nothing, so that one that hangs up keeps a
processor busy until usherd takes it away (broker/link/orphans.c).

USHER_PLAY_PEERS: how many idle ones."""

import collections
import multiprocessing
import os
import random
import resource
import socket
import struct
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    Failed,
    Link,
    LinkClosed,
    backend_pb,
    check,
    check_equal,
    eventually,
    free_port,
    play,
    scaled,
    seed,
)
from usherplay.backend import SP_HEADER, SP_REQ, connect

SP_PUB, SP_SUB, SP_REP = 0x0020, 0x0021, 0x0031
IDLE_PEERS = 1000
KILLS = 60
STORM = 200
GROWTH_BYTES = 96 << 20
REPAIR_SECONDS = 15
ANSWER_SECONDS = 1.0
CONNECTIONS = 4096  # four fifths of LINK_FILES_MAX of the broker
CROWD = 100
QUESTIONS = 1000  # in one Submit; many more do not fit an arena
CROWD_SECONDS = 6
CROWD_BOUND_SECONDS = 10.0  # who waits behind all of the crowd waits until it ends


def header(protocol, reserved=0):
    return SP_HEADER.pack(b"\0SP\0", protocol, reserved)


def attacks(url, protocol):
    """What a peer says, and whether it waits for our header first."""
    lead = b"\x01" if url.startswith("ipc") else b""

    def sized(size, data=b""):
        return header(protocol) + lead + struct.pack(">Q", size) + data

    return {
        "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 500,
        "wrong magic": b"\0XX\0" + header(protocol)[4:],
        "wrong version": b"\0SP\1" + header(protocol)[4:],
        "its own protocol": header(SP_REP if protocol == SP_REQ else SP_PUB),
        "protocol 0": header(0),
        "protocol 65535": header(0xFFFF),
        "reserved bits": header(protocol, 0xFFFF),
        "2^63 bytes": sized(1 << 63),
        "2^63 - 1 bytes": sized((1 << 63) - 1),
        "2^64 - 1 bytes": sized((1 << 64) - 1),
        "2^64 - 9 bytes": sized((1 << 64) - 9),
        "2^32 bytes": sized(1 << 32, b"x" * 1000),
        "1 GiB": sized(1 << 30, b"x" * 100000),
        "one more than allowed": sized(65537, b"x" * 65537),
        "wrong lead": header(protocol) + b"\x02" + struct.pack(">Q", 4) + b"\x80\0\0\1",
        "no request id": sized(2, b"xx"),
        "ids without an end": sized(400, b"\0\0\0\1" * 100),
        "empty": sized(0),
        "half a message": sized(100, b"\x80\0\0\1" + b"x" * 50),
        "half a header": header(protocol)[:5],
        "one byte": b"\0",
        "nothing": b"",
    }


def dial(url, what):
    """A connection; a listener that somebody killed is back after a moment."""

    def attempt():
        try:
            return connect(url, 2)
        except OSError:
            return None

    return attempt() or eventually(attempt, f"a listener after {what}", REPAIR_SECONDS)


def attack(url, protocol):
    """Everybody three times: stays, goes, and goes with a reset. Gives those who stayed."""
    held = []
    for what, data in attacks(url, protocol).items():
        for way in ("stays", "goes", "resets"):
            stream = dial(url, what)
            try:
                stream.sendall(data)
            except OSError:
                pass
            if way == "stays":
                held.append(stream)
                continue
            if way == "resets":
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.close()
    return held


class Service:
    """A backend and a user who calls it: `calls` measures what hostile peers do to them."""

    def __init__(self, broker):
        self.backend = Backend(broker, service="chat", presence=True)
        self.backend.fetch(wait_ms=1)
        self.client = Client(broker)
        self.client.login("alice")

    def calls(self, count):
        """The worst time of so many."""
        worst = 0.0
        for _ in range(count):
            began = time.monotonic()
            self.client.post("call", service="chat", method="m")
            self.backend.reply(self.backend.expect_call())
            self.client.expect("reply")
            worst = max(worst, time.monotonic() - began)
        return worst

    def close(self):
        self.client.close()
        self.backend.close()


def newcomer(url, service):
    """A backend that says Hello and fetches, or None: for eventually."""
    backend = Backend(url, service=service, hello=False, timeout=ANSWER_SECONDS)
    try:
        backend.hello()
        backend.fetch(wait_ms=1, timeout=ANSWER_SECONDS)
        return backend
    except (OSError, Failed):
        backend.close()
        return None


def cpu_while(broker, seconds):
    before = broker.cpu_seconds()
    time.sleep(seconds)
    return (broker.cpu_seconds() - before) / seconds


def calm(broker):
    """Soon it does nothing while nothing is to be done."""
    eventually(lambda: cpu_while(broker, 0.3) < 0.5, "a calm processor", REPAIR_SECONDS)


def scene_every_attack():
    for kind in ("ipc", "tcp"):
        url = f"tcp://127.0.0.1:{free_port()}"
        options = {} if kind == "ipc" else {"link.urls": None}
        with Broker({"link.urls": url} if kind == "tcp" else options) as broker:
            broker.link_url = url if kind == "tcp" else broker.link_url
            service = Service(broker)
            alone = service.calls(30)
            before = broker.resident_bytes()
            held = attack(broker.link_url, SP_REQ)
            broker.check_alive()
            worst = service.calls(30)
            check_equal(service.backend.fetch(wait_ms=1).presence_reset, False, "presence_reset")
            began = time.monotonic()
            other = eventually(
                lambda: newcomer(broker.link_url, "other"),
                "a new backend is served",
                REPAIR_SECONDS,
            )
            took = time.monotonic() - began
            cpu = cpu_while(broker, 0.5)
            grown = broker.resident_bytes() - before
            check(grown < GROWTH_BYTES, f"memory grew by {grown >> 20} MiB")
            service.calls(5)
            for stream in held:
                stream.close()
            calm(broker)
            other.close()
            service.close()
            print(
                f"     {kind}: {3 * len(held)} peers; worst call {worst * 1000:.1f} ms (alone "
                f"{alone * 1000:.1f}), a new backend after {took:.2f} s, {cpu * 100:.0f} % CPU, "
                f"memory grew by {grown >> 10} KiB"
            )


def storm(url, protocol):
    """So many who say their part of the handshake and leave in the same moment."""
    for _ in range(STORM):
        try:
            stream = connect(url, 2)
            stream.sendall(header(protocol))
            stream.close()
        except OSError:
            time.sleep(0.01)


def leave_at_once(url):
    """Says nothing."""
    dial(url, "a short visit").close()


def leave_in_the_handshake(url):
    """Says his part, and leaves at any moment while nng answers."""
    with dial(url, "a short visit") as stream:
        stream.sendall(header(SP_REQ))
        until = time.perf_counter() + random.random() * 0.0006
        while time.perf_counter() < until:
            pass


def scene_short_visits():
    """Fifty times a second somebody connects to the ipc path and leaves, before his part of the handshake
    or in the middle of it: each new backend is let in, and no listener dies of the former."""
    for visit_once in (leave_at_once, leave_in_the_handshake):
        with Broker() as broker:
            service = Service(broker)
            over = threading.Event()

            def visits():
                while not over.wait(0.02):
                    try:
                        visit_once(broker.link_url)
                    except OSError:
                        pass

            thread = threading.Thread(target=visits, daemon=True)
            thread.start()
            worst = 0.0
            for _ in range(scaled(20, 5)):
                began = time.monotonic()
                eventually(
                    lambda: newcomer(broker.link_url, "other"),
                    "a new backend is served",
                    REPAIR_SECONDS,
                ).close()
                worst = max(worst, time.monotonic() - began)
                service.calls(2)
                time.sleep(0.1)
            over.set()
            thread.join()
            deaths = numbers(service, "link_listener_deaths")[0]
            # A listener that is busy with the others may be taken for a dead one on a busy machine.
            check(visit_once is leave_in_the_handshake or deaths == 0, f"{deaths} listeners died")
            service.close()
            print(
                f"     {visit_once.__name__}: a new backend waited for {worst * 1000:.0f} ms at most, "
                f"{deaths} deaths"
            )


def scene_storms_of_visits():
    """Peers who leave just when the handshake begins, as fast as can be, so that the listener's queue is
    full: should it be taken for dead, it is replaced, and whoever was connected goes on."""
    with Broker() as broker:
        service = Service(broker)
        for _ in range(scaled(KILLS, 10)):
            for _ in range(5):
                storm(broker.link_url, SP_REQ)
            service.backend.fetch(wait_ms=1)
        worst = service.calls(10)
        began = time.monotonic()
        eventually(
            lambda: newcomer(broker.link_url, "other"), "a new backend is served", REPAIR_SECONDS
        ).close()
        took = time.monotonic() - began
        service.calls(5)
        print(
            f"     {numbers(service, 'link_listener_deaths')[0]} deaths; worst call "
            f"{worst * 1000:.1f} ms, a new backend after {took:.2f} s"
        )
        service.close()


def numbers(service, *names):
    stats = service.backend.numbers("stats")
    return [stats[name] for name in names]


class FewFiles(Broker):
    """Under a limit of open files."""

    FILES = 256

    def command(self):
        return ["prlimit", f"--nofile={self.FILES}:{self.FILES}"] + super().command()


def scene_files_of_clients():
    """Strangers at the link, who say nothing or their header, and more subscribers of the feed than there are
    files: players and a backend come in beside them."""
    link, feed = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    cases = ((link, b""), (link, header(SP_REQ)), (feed, b""), (feed, header(SP_SUB)))
    with FewFiles({"link.urls": link, "feed.url": feed}) as broker:
        for case, (url, said) in enumerate(cases):
            crowd = []
            for _ in range(FewFiles.FILES + 100):
                host, port = url[len("tcp://") :].rsplit(":", 1)
                stream = socket.socket()
                stream.setblocking(False)
                stream.connect_ex((host, int(port)))
                crowd.append(stream)
            for stream in crowd:
                try:
                    stream.send(said)
                except OSError:
                    pass  # turned away already
            with Client(broker) as player:
                player.login(f"player{case}")
                player.post("ping", stamp=1)
                player.expect("pong")
            eventually(lambda: newcomer(link, "service"), "a backend beside the crowd").close()
            files = len(os.listdir(f"/proc/{broker.process.pid}/fd"))
            check(files < FewFiles.FILES - 64, f"{files} files are open")
            for stream in crowd:
                stream.close()


def scene_idle_peers():
    """Many who connect and say nothing, half a header, or a header alone."""
    count = int(os.environ.get("USHER_PLAY_PEERS", scaled(IDLE_PEERS, 100)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 200), hard))
    with Broker() as broker:
        service = Service(broker)
        alone = service.calls(30)
        before = broker.resident_bytes()
        peers = []
        for number in range(count):
            stream = dial(broker.link_url, f"{number} idle peers")
            said = (b"", header(SP_REQ)[:4], header(SP_REQ))[number % 3]
            if said:
                stream.sendall(said)
            peers.append(stream)
        worst = service.calls(30)
        grown = broker.resident_bytes() - before
        cpu = cpu_while(broker, 0.5)
        check(grown < GROWTH_BYTES, f"memory grew by {grown >> 20} MiB")
        check(cpu < 0.5, f"beside idle peers it uses {cpu:.2f} processors")
        for stream in peers:
            stream.close()
        service.calls(5)
        # Their ends in the middle of the handshake are the worst for nng: a newcomer is served.
        began = time.monotonic()
        eventually(
            lambda: newcomer(broker.link_url, "other"), "a new backend is served", REPAIR_SECONDS
        ).close()
        took = time.monotonic() - began
        eventually(lambda: broker.descriptors()["socket"] < 40, "closed sockets of gone peers", 20)
        service.close()
        print(
            f"     {count} idle peers: worst call {worst * 1000:.1f} ms (alone "
            f"{alone * 1000:.1f}), {cpu * 100:.0f} % CPU, memory grew by {grown >> 10} KiB; a "
            f"new backend {took:.2f} s after they went"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def is_open(stream):
    stream.settimeout(0.1)
    try:
        return stream.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def strangers(broker, count):
    """So many who say their header, hear the broker's, and wait for nothing."""
    streams = []
    for number in range(count):
        stream = dial(broker.link_url, f"{number} strangers")
        stream.sendall(header(SP_REQ))
        check_equal(len(stream.recv(8)), 8, "the broker's header")
        streams.append(stream)
    return streams


def scene_strangers_take_no_place():
    """As many connections as there can be, all of strangers who say nothing: with the first one more the
    oldest of them goes, and no other. Those with a link keep their connections, and new ones come in.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, CONNECTIONS + 1000), hard))
    with Broker({"limits.connections": 1000, "link.fetch_timeout_ms": 60000}) as broker:
        service = Service(broker)
        service.calls(1)
        # nng counts a connection after the handshake, on any of its threads: the next one may come before.
        crowd = strangers(broker, 1)
        time.sleep(0.5)
        crowd += strangers(broker, CONNECTIONS - 3)  # the service has two
        service.calls(5)
        check_equal(numbers(service, "link_displaced"), [0], "who had to go of n")
        check(is_open(crowd[0]), "the oldest of n has gone")
        crowd += strangers(broker, 1)
        eventually(lambda: not is_open(crowd[0]), "the oldest of n + 1 goes")
        check(is_open(crowd[1]) and is_open(crowd[-1]), "others went as well")
        check_equal(numbers(service, "link_displaced"), [1], "who had to go of n + 1")
        crowd += strangers(broker, 200)
        for number in range(20):
            newcomer(broker.link_url, f"other{number}").close()
        service.calls(5)
        check(numbers(service, "link_displaced")[0] > 200, "who had to go in the end")
        check(is_open(crowd[-1]), "the newest has gone")
        for stream in crowd:
            stream.close()
        service.calls(5)
        service.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def requests():
    pb = backend_pb
    command = pb.Command
    return [
        pb.LinkRequest(hello=pb.Hello(service="x", instance="i", incarnation=1)),
        pb.LinkRequest(fetch=pb.Fetch(link=1, wait_ms=1, bytes_max=600)),
        pb.LinkRequest(
            submit=pb.Submit(
                seq=1,
                commands=[
                    command(lookup=pb.Lookup(users=["alice", "bob"])),
                    command(count=pb.Count()),
                    command(list=pb.List(prefix="a", limit=3)),
                    command(snapshot=pb.Snapshot(limit=2)),
                    command(events=pb.Events(limit=5)),
                    command(stats=pb.Stats()),
                ],
            )
        ),
        pb.LinkRequest(
            submit=pb.Submit(
                link=16777216,
                lane=3,
                seq=1,
                commands=[
                    command(push=pb.Push(to=["nobody"], payload=b"p")),
                    command(push_all=pb.PushAll(payload=b"q")),
                    command(kick=pb.Kick(user="nobody", epoch=1)),
                    command(reply_to=pb.ReplyTo(call=99, payload=b"r")),
                    command(drain=pb.Drain()),
                ],
            )
        ),
    ]


def scene_garbage_protobuf():
    """Requests that are random, mutated or cut: each is answered, none does anything to others."""
    random = seed()
    total = scaled(4000, 300)
    codes = collections.Counter()
    with Broker() as broker:
        service = Service(broker)
        before, grown = 0, 0
        link = Link(broker.link_url)
        good = [request.SerializeToString() for request in requests()]
        for number in range(total):
            data = (
                bytearray(random.choice(good))
                if number % 4
                else bytearray(random.randbytes(random.choice((0, 1, 10, 1000, 60000))))
            )
            for _ in range(random.randrange(0, 5)):
                if data:
                    place = random.randrange(len(data))
                    data[place] = random.randrange(256)
                    if random.random() < 0.3:
                        del data[place : place + random.randrange(1, 9)]
            answer = backend_pb.LinkAnswer()
            answer.ParseFromString(link.request(bytes(data)))
            kind = answer.WhichOneof("body")
            check(kind is not None, f"an answer without a body to {data.hex()}")
            codes[
                backend_pb.Refused.Code.Name(answer.refused.code) if kind == "refused" else kind
            ] += 1
            if number == total // 4:
                before = broker.resident_bytes()
            grown = max(grown, broker.resident_bytes() - before if before else 0)
        worst = service.calls(20)
        check(codes["MALFORMED"] > total // 10, f"too few were refused: {codes}")
        check(grown < GROWTH_BYTES, f"memory grew by {grown >> 20} MiB")
        service.close()
        link.close()
        print(
            f"     {total} requests: {dict(codes)}; worst call {worst * 1000:.1f} ms, memory "
            f"grew by {grown >> 10} KiB"
        )


class Crowd:
    """So many peers without a link, each of which asks as much at once as a Submit holds, for ever. In a
    process of its own, as all of its answers are a lot to read."""

    def __init__(self, url, peers):
        self.url, self.peers = url, peers
        self.process = multiprocessing.get_context("fork").Process(target=self.run, daemon=True)
        self.process.start()

    def run(self):
        question = backend_pb.Command(recorder=backend_pb.Recorder(user="nobody"))
        self.body = backend_pb.LinkRequest(
            submit=backend_pb.Submit(seq=1, commands=[question] * QUESTIONS)
        ).SerializeToString()
        threads = [threading.Thread(target=self.ask) for _ in range(self.peers)]
        for thread in threads:
            thread.start()

    def ask(self):
        link = Link(self.url, 60)
        while True:
            answer = backend_pb.LinkAnswer()
            try:
                answer.ParseFromString(link.request(self.body))
            except Failed:
                return  # the broker stops
            if answer.WhichOneof("body") == "refused":
                time.sleep(0.05)

    def end(self):
        self.process.kill()
        self.process.join()


def scene_crowd_without_a_link():
    """100 peers who have no link ask without end: calls and the questions of who has one are answered
    as ever, and a new backend is let in."""
    with Broker() as broker:
        service = Service(broker)
        alone = service.calls(30)
        crowd = Crowd(broker.link_url, CROWD)
        time.sleep(1.5)
        worst_call = worst_question = worst_hello = 0.0
        rounds = 0
        until = time.monotonic() + CROWD_SECONDS
        while time.monotonic() < until or rounds < 5:
            rounds += 1
            worst_call = max(worst_call, service.calls(3))
            began = time.monotonic()
            service.backend.submit(backend_pb.Command(lookup=backend_pb.Lookup(users=["alice"])))
            worst_question = max(worst_question, time.monotonic() - began)
            began = time.monotonic()
            # Beside that the service fetches as it should: else its link is lost after a while.
            eventually(
                lambda: service.backend.fetch(wait_ms=1) and newcomer(broker.link_url, "other"),
                "a new backend is served",
                REPAIR_SECONDS,
            ).close()
            worst_hello = max(worst_hello, time.monotonic() - began)
            time.sleep(0.2)  # an instance is kept for link.fetch_timeout_ms, and there is a limit
        refused, commands = numbers(service, "link_crowded", "link_commands")
        crowd.end()
        check(refused > 0 and commands > QUESTIONS, f"refused {refused}, commands {commands}")
        check(
            max(worst_call, worst_question) < CROWD_BOUND_SECONDS,
            f"a call took {worst_call:.2f} s, a question {worst_question:.2f} s",
        )
        check(worst_hello < CROWD_BOUND_SECONDS, f"a new backend waited for {worst_hello:.2f} s")
        service.close()
        print(
            f"     {CROWD} peers asked {commands} things, and were refused {refused} times; in "
            f"{rounds} rounds the worst call {worst_call * 1000:.0f} ms (alone "
            f"{alone * 1000:.1f}), question {worst_question * 1000:.0f} ms, new backend "
            f"{worst_hello * 1000:.0f} ms"
        )


class Subscriber:
    """A plain SUB socket on the feed."""

    def __init__(self, url):
        self.ipc = url.startswith("ipc")
        self.stream = connect(url, 2)
        self.stream.sendall(header(SP_SUB))
        self.read(SP_HEADER.size)

    def read(self, size):
        data = b""
        while len(data) < size:
            part = self.stream.recv(size - len(data))
            if not part:
                raise LinkClosed("the feed was closed")
            data += part
        return data

    def topic(self, timeout):
        self.stream.settimeout(timeout)
        if self.ipc:
            self.read(1)
        (size,) = struct.unpack(">Q", self.read(8))
        return self.read(size).partition(b"\0")[0].decode()

    def close(self):
        self.stream.close()


def hears(broker, url, name):
    """Whether a new subscriber hears of a login within a moment."""
    subscriber = None
    try:
        subscriber = Subscriber(url)
        with Client(broker) as client:
            client.login(name)
            for _ in range(50):
                if subscriber.topic(ANSWER_SECONDS) == f"presence/{name}":
                    return True
    except (OSError, Failed):
        return False
    finally:
        if subscriber is not None:
            subscriber.close()
    return False


def scene_feed():
    """The same on the feed: who listens goes on hearing, newcomers hear it, at the latest when its
    listener was repaired, and the rest of usherd does not notice."""
    with Broker() as broker:
        url = f"ipc://{broker.folder}/feed.sock"
        broker.stop()
        broker.restart({"feed.url": url})
        service = Service(broker)
        before = broker.resident_bytes()
        # nng counts a subscriber a moment after he was greeted, and what came before he does not hear.
        eventually(lambda: hears(broker, url, "first"), "the feed is heard")
        listener = Subscriber(url)
        eventually(lambda: hears(broker, url, "second"), "the feed is heard beside another")
        slow = [Subscriber(url) for _ in range(20)]  # never read
        held = attack(url, SP_SUB)
        for number in range(scaled(300, 40)):
            with Client(broker) as client:
                client.login(f"user{number % 20}")
        seen = set()
        while "presence/user1" not in seen:  # who was there before hears of the others
            seen.add(listener.topic(5))
        worst = service.calls(20)
        began = time.monotonic()
        eventually(lambda: hears(broker, url, "late"), "newcomers hear the feed", REPAIR_SECONDS)
        took = time.monotonic() - began
        grown = broker.resident_bytes() - before
        check(grown < GROWTH_BYTES, f"memory grew by {grown >> 20} MiB")
        for stream in held + slow + [listener]:
            stream.close()
        calm(broker)
        service.close()
        print(
            f"     {3 * len(held)} peers on the feed: worst call {worst * 1000:.1f} ms, memory "
            f"grew by {grown >> 10} KiB; a newcomer hears it after {took:.2f} s"
        )


if __name__ == "__main__":
    play(
        scene_every_attack,
        scene_short_visits,
        scene_storms_of_visits,
        scene_idle_peers,
        scene_strangers_take_no_place,
        scene_files_of_clients,
        scene_garbage_protobuf,
        scene_crowd_without_a_link,
        scene_feed,
    )
