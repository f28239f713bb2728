# SPDX-License-Identifier: Apache-2.0
"""The memory budget (limits.memory_bytes) reached and passed, and allocations that fail: what is
new is refused in steps, nobody's session is lost, and bystanders go on."""

import collections
import http.client
import json
import os
import socket
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    ConnectionEnded,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    logged_in,
    play,
    scaled,
    seed,
)
from usherplay.pourers import Pourers
from usherplay.shim import MemoryShim

BUDGET = 16 << 20
PAYLOAD = b"m" * 32000
ROUNDS = 5  # of an operator who asks everything
OPTIONS = {
    "limits.memory_bytes": BUDGET,
    "limits.inbox_bytes": 4 << 20,
    "limits.inbox_messages": 4096,
    "limits.inbox_age_ms": "10min",
}
SLACK = 2 << 20  # each thread's share that is not summed yet, and what was on its way


def code_of(frame):
    """done, or the name of the error."""
    kind = frame.WhichOneof("body")
    return client_pb.Error.Code.Name(frame.error.code) if kind == "error" else kind


class Hoarders:
    """Users who never acknowledge, a service that writes to them, and a player."""

    def __init__(self, broker, backend, count):
        self.backend = backend
        self.clients = logged_in(broker, [f"hoarder{number}" for number in range(count)], acks=True)
        self.writer = Client(broker)
        self.writer.login("writer")
        self.sent = [0] * count

    def fill(self, enough, most=1200):
        """The service writes to one after the other until enough(); gives what the last got."""
        code = "done"
        for number in range(most):
            to = number % len(self.clients)
            taken = self.backend.push(f"hoarder{to}", PAYLOAD).push.accepted
            code = "done" if taken else "refused"
            self.sent[to] += code == "done"
            if code == "done":
                self.clients[to].messages(1)
            if enough(code):
                return code
        return code

    def acknowledge(self):
        for client, sent in zip(self.clients, self.sent):
            client.post("ack", id=0, seq=sent)
            client.ping()
        self.sent = [0] * len(self.clients)

    def close(self):
        for client in self.clients + [self.writer]:
            client.close()


def try_login(broker, name):
    with Client(broker) as client:
        frame = client.answer_to(client.post("login", username=name))
        if frame.WhichOneof("body") == "error":
            check(frame.error.retry_after_ms > 0, "a refusal without retry_after_ms")
        return code_of(frame)


STEP = 64 << 10  # each thread sums its own in steps, and each part by itself
THREADS = 16  # that hold anything


def parts_of(backend):
    """{part: bytes} of the book; together they are what is held."""
    numbers = backend.numbers("stats")
    parts = {
        name[len("memory_") : -len("_bytes")]: value
        for name, value in numbers.items()
        if name.startswith("memory_") and name.endswith("_bytes")
    }
    held = parts.pop("held")
    parts.pop("limit", None)
    check(len(parts) == 19, f"the parts are {sorted(parts)}")
    signed = [value - (1 << 64) if value >> 63 else value for value in parts.values()]
    rest = held - sum(signed)
    check(abs(rest) < len(parts) * STEP * THREADS, f"{rest} bytes have no part: {parts}")
    return parts


def scene_inboxes():
    """Tight: no logins. Full: no connections, no sends, no calls. Then all of it again."""
    # Nobody fetches while they hoard, which takes as long as it takes.
    with Broker({**OPTIONS, "link.fetch_timeout_ms": 60000}) as broker:
        backend = Backend(broker, service="chat")
        backend.fetch(wait_ms=1)

        def number(name):
            return backend.numbers("stats")[name]

        hoarders = Hoarders(broker, backend, 8)
        away = Client(broker)
        welcome = away.login("away")
        away.drop()
        hoarders.fill(lambda code: number("memory_tight") > 0)
        check_equal(try_login(broker, "newcomer"), "UNAVAILABLE", "a login when memory is tight")
        check(number("memory_full") == 0, "full before tight was looked at")
        asked = hoarders.writer.ask("send", to="hoarder0", payload=b"x")
        check_equal(code_of(asked), "BUSY", "a send to who does not read")
        check_equal(
            code_of(hoarders.writer.ask("send", to="writer", payload=b"x")), "done", "a send"
        )
        away = Client(broker)
        away.resume(welcome, 0, name="away")  # who has a session may come back to it
        check_equal(hoarders.fill(lambda code: code != "done"), "refused", "a push when it is full")
        asked = hoarders.writer.ask("send", to="writer", payload=b"x")
        check_equal(code_of(asked), "BUSY", "a send when it is full")
        held = number("memory_held_bytes")
        check(held <= BUDGET + SLACK, f"{held} bytes are held")
        parts = parts_of(backend)
        for_inboxes = parts["inboxes"] + parts["payloads"] + parts["messages"]
        check(for_inboxes > held * 3 / 4, f"of {held} bytes are for inboxes: {parts}")
        check_equal(backend.push("away", PAYLOAD).push.accepted, 0, "a push when it is full")
        check_equal(code_of(away.ask("call", service="chat", method="m")), "BUSY", "a call")
        with Client(broker) as stranger:
            stranger.expect_close("OVERLOADED")
        worst = max(ping_seconds(away) for _ in range(100))
        broker.wait_log("memory_level")
        hoarders.acknowledge()
        eventually(
            lambda: code_of(away.ask("send", to="writer", payload=b"x")) == "done",
            "sends are taken again",
        )
        eventually(lambda: try_login(broker, "newcomer") == "welcome", "logins are taken again")
        eventually(lambda: number("memory_held_bytes") < SLACK, "all of it is given back")
        # Two questions, and the newcomer is on its way out.
        eventually(
            lambda: number("sessions_online") + number("sessions_detached") == 11, "eleven sessions"
        )
        check(number("refused_memory") > 0 and number("logins_refused_memory") > 0, "counters")
        print(
            f"     {held >> 10} KiB held at most of {BUDGET >> 10}; worst ping when full "
            f"{worst * 1000:.1f} ms"
        )
        for client in (away, hoarders, backend):
            client.close()


def scene_players_have_half_of_it():
    """One player writes to many who are away, within his share of each inbox: from half of the memory
    on he is told BUSY, and nobody else hears of it."""
    count, each = 120, 8  # twice the budget
    with Broker({**OPTIONS, "session.resume_ms": 600000}) as broker:
        for client in logged_in(broker, [f"phone{number}" for number in range(count)], acks=True):
            client.drop()
        with Backend(broker, service="chat") as backend, Client(broker) as mallory:
            numbers = lambda: backend.numbers("stats")
            eventually(lambda: numbers()["sessions_detached"] == count, "all are away")
            mallory.login("mallory")
            codes = collections.Counter(
                code_of(mallory.ask("send", to=f"phone{number}", payload=PAYLOAD))
                for _ in range(each)
                for number in range(count)
            )
            check_equal(set(codes), {"done", "BUSY"}, "what he was told")
            held = numbers()["memory_held_bytes"]
            check(BUDGET // 2 - SLACK < held < BUDGET // 2 + SLACK, f"{held} bytes are held")
            check_equal(numbers()["memory_tight"], 0, "how often it was tight")
            check_equal(numbers()["inbox_memory_full"], codes["BUSY"], "inbox_memory_full")
            check_equal(try_login(broker, "newcomer"), "welcome", "a login")
            check_equal(code_of(mallory.ask("send", to="mallory", payload=b"x")), "done", "a send")
            check_equal(backend.push("phone0", b"x").push.accepted, 1, "a push to who is away")
            print(f"     {codes['done']} taken, {codes['BUSY']} refused, {held >> 10} KiB held")


def ping_seconds(client):
    began = time.monotonic()
    client.ping()
    return time.monotonic() - began


def scene_outputs():
    """Readers that do not read fill it: the largest outputs are closed, and their sessions wait."""
    with Broker(
        {
            **OPTIONS,
            "limits.output_bytes": 8 << 20,
            "limits.output_soft_bytes": 8 << 20,
            "limits.mailbox_messages": 4096,
        }
    ) as broker:
        backend = Backend(broker)
        slow = [Client(broker, receive_buffer=4096) for _ in range(4)]
        for number, client in enumerate(slow):
            client.login(f"slow{number}")
        writer, alice, bob = (Client(broker) for _ in range(3))
        for client, name in ((writer, "writer"), (alice, "alice"), (bob, "bob")):
            client.login(name)
        talked, busy, worst = 0, 0, 0.0
        for number in range(3000):
            if number % 50 == 0:
                numbers = backend.numbers("stats")
                if numbers["output_evicted"] >= 2:
                    break
            code = code_of(writer.ask("send", to=f"slow{number % 4}", payload=PAYLOAD))
            busy += code == "BUSY"
            if number % 10 == 0:
                began = time.monotonic()
                if code_of(bob.ask("send", to="alice", payload=b"hello")) == "done":
                    alice.expect("message", payload=b"hello")
                    talked += 1
                worst = max(worst, time.monotonic() - began)
        numbers = backend.numbers("stats")
        parts_of(backend)
        check(numbers["output_evicted"] >= 1, "nobody was closed")
        eventually(
            lambda: "limits.memory_bytes"
            in {line["limit"] for line in broker.log_events("limit_hit")},
            "the limit in the log",
        )
        eventually(
            lambda: code_of(bob.ask("send", to="alice", payload=b"after")) == "done",
            "it is taken again",
        )
        alice.expect("message", payload=b"after")
        check_equal(
            backend.numbers("count")["online"] + backend.numbers("count")["detached"], 7, "sessions"
        )
        print(
            f"     {numbers['output_evicted']} outputs closed; {talked} messages between "
            f"bystanders meanwhile, the slowest {worst * 1000:.1f} ms; {busy} sends BUSY"
        )
        for client in slow + [writer, alice, bob, backend]:
            client.close()


def scene_large_frames_in_the_making():
    """Frames that never end are no more than the budget, and whoever keeps the largest of them is closed:
    others can talk again."""
    with Broker({**OPTIONS, "limits.frame_bytes": 1 << 20}) as broker:
        backend = Backend(broker)

        def number(name):
            return backend.numbers("stats")[name]

        alice, bob = Client(broker), Client(broker)
        alice.login("alice")
        bob.login("bob")
        pourers = Pourers(broker, 40, (1 << 20) - 100)
        most = pourers.pour_all(number)
        check(number("memory_full") > 0, "it was never full")
        parts = parts_of(backend)
        check(parts["input"] > BUDGET / 4, f"frames in the making are not the most: {parts}")
        check(most < BUDGET + SLACK, f"{most >> 10} KiB held of {BUDGET >> 10}")
        check(number("input_evicted") > 0, "nobody was closed")
        eventually(
            lambda: code_of(bob.ask("send", to="alice", payload=b"after")) == "done",
            "it is taken again",
        )
        alice.expect("message", payload=b"after")
        check_equal(
            backend.numbers("count")["online"] + backend.numbers("count")["detached"],
            42,
            "sessions",
        )
        print(
            f"     {most >> 10} KiB held at most of {BUDGET >> 10}; "
            f"{number('input_evicted')} of 40 closed"
        )
        for client in (alice, bob, backend, pourers):
            client.close()


def scene_many_frames_in_the_making():
    """None of them is large, and together they are more than the budget: those that find no place wait,
    and each gets its answer when others have gone. Nobody is closed for it, but for those who are closed
    when memory was full for long."""
    count = 700
    with Broker({**OPTIONS, "limits.login_deadline_ms": "10min"}) as broker:
        backend = Backend(broker)

        def number(name):
            return backend.numbers("stats")[name]

        pourers = Pourers(broker, count, 32000)
        most = pourers.pour_all(number)
        check(number("memory_full") > 0, "it was never full")
        check(most < BUDGET + SLACK, f"{most >> 10} KiB held of {BUDGET >> 10}")
        for gone in range(0, count, 2):
            pourers.clients[gone].drop()
        answers, closed = set(), 0
        for stays in range(1, count, 2):
            eventually(
                lambda one=stays: pourers.is_closed(one)
                or (
                    not pourers.pour(one, spare=0) and pourers.done[one] == len(pourers.frames[one])
                ),
                "all of it is taken",
            )
        for stays in range(1, count, 2):
            client = pourers.clients[stays]
            client.socket.setblocking(True)
            try:
                answers.add(code_of(client.next_frame(20)))
            except (OSError, ConnectionEnded):
                closed += 1
        check(answers <= {"NOT_ONLINE", "BUSY"}, f"answers: {answers}")
        check(closed <= number("input_evicted"), f"{closed} closed for something else")
        print(
            f"     {most >> 10} KiB held at most of {BUDGET >> 10}, {(count >> 1) - closed} answers, "
            f"{closed} closed because it took so long"
        )
        pourers.close()
        backend.close()


def scene_frames_that_never_end():
    """The same, and they bring a byte now and then for ever: when memory was full for long those who
    keep most are closed, and a newcomer is let in."""
    count = 700
    with Broker({**OPTIONS, "limits.login_deadline_ms": "10min"}) as broker:
        backend = Backend(broker)

        def number(name):
            return backend.numbers("stats")[name]

        pourers = Pourers(broker, count, 32000)
        pourers.pour_all(number, 0.5)
        check(number("memory_full") > 0, "it was never full")

        def comes_in():
            for one in range(count):
                pourers.trickle(one)
            try:
                with Client(broker) as newcomer:
                    frame = newcomer.ask("login", username="newcomer")
                    return frame.WhichOneof("body") == "welcome"
            except (OSError, ConnectionEnded):
                return False

        eventually(comes_in, "a newcomer is let in", 120)
        check(number("input_evicted") > 0, "nobody was closed")
        counts = backend.numbers("count")
        check_equal(counts["online"] + counts["detached"], count + 1, "sessions")
        print(f"     {number('input_evicted')} of {count} closed, and a newcomer is in")
        pourers.close()
        backend.close()


class Sufferer:
    """Sends numbered messages to a friend while allocations fail, and comes back when its
    connection is lost. Every Send has at most one answer; one, while the connection lives."""

    def __init__(self, broker, name, friend):
        self.broker, self.name, self.friend = broker, name, friend
        self.got, self.accepted, self.lost = [], [], 0
        self.seq = 0
        self.number = 0
        self.client = None
        self.connect()

    def connect(self):
        """Until it is in; a session that it has is never gone."""

        def attempt():
            client = Client(self.broker)
            try:
                if self.client is None:
                    id = client.post("login", username=self.name, acks=True)
                else:
                    id = client.post(
                        "resume",
                        username=self.name,
                        epoch=self.welcome.epoch,
                        secret=self.welcome.secret,
                        last_seq=self.seq,
                    )
                frame = client.answer_to(id)
            except (OSError, ConnectionEnded):
                client.close()
                return False
            if frame.WhichOneof("body") == "welcome":
                if self.client is None:
                    self.welcome = frame.welcome
                self.client = client
                return True
            check(code_of(frame) in ("UNAVAILABLE", "BUSY"), f"{self.name}: {code_of(frame)}")
            client.close()
            return False

        eventually(attempt, f"{self.name} is in", 20)

    def take(self, timeout=None):
        for frame in list(self.client.frames):
            if frame.WhichOneof("body") == "message":
                self.client.frames.remove(frame)
                self.note(frame.message)

    def note(self, message):
        if message.seq <= self.seq:
            return
        check_equal(message.seq, self.seq + 1, f"{self.name}: seq")
        self.seq = message.seq
        self.got.append(int(message.payload.split()[0]))

    def round(self):
        self.number += 1
        try:
            frame = self.client.ask(
                "send", to=self.friend.name, payload=b"%d %s" % (self.number, b"y" * 3000)
            )
            if code_of(frame) == "done":
                self.accepted.append(self.number)
            else:
                check(code_of(frame) in ("BUSY", "INBOX_FULL"), f"a Send: {code_of(frame)}")
            self.take()
            self.client.post("ack", id=0, seq=self.seq)
        except (OSError, ConnectionEnded):
            self.lost += 1
            self.client.close()
            self.connect()


def scene_allocations_fail():
    """One in so many allocations of usherd fails, small and large ones."""
    if os.environ.get("USHER_PLAY_SCALE", "1") != "1":
        print("     not under a sanitizer")
        return
    seed()
    for every, least, rounds in ((20, 0, 300), (3, 1024, 300), (2, 0, 60)):
        shim = MemoryShim()
        with Broker(environment=shim.environment()) as broker:
            alice, bob = (Sufferer.__new__(Sufferer) for _ in range(2))
            alice.__init__(broker, "alice", bob)
            bob.__init__(broker, "bob", alice)
            backend = Backend(broker, service="chat")
            shim["least"] = least
            shim["every"] = every
            for _ in range(scaled(rounds)):
                for one in (alice, bob):
                    one.round()
            shim["every"] = 0
            broker.check_alive()
            for one in (alice, bob):
                one.round()

                def all_there(one=one):
                    one.client.ping()
                    one.take()
                    return set(one.friend.accepted) <= set(one.got)

                eventually(all_there, f"what {one.friend.name} sent is there", 10)
                check_equal(one.got, sorted(set(one.got)), f"{one.name}: order, and each once")
            failures = backend.numbers("stats")["memory_failures"]
            check(shim["failed"] > 20 and failures > 0, f"{shim['failed']} failed, {failures} seen")
            print(
                f"     one in {every} of at least {least} bytes: {shim['failed']} of "
                f"{shim['asked']} failed; {len(alice.accepted) + len(bob.accepted)} messages "
                f"taken, {alice.lost + bob.lost} connections lost and resumed"
            )
            for one in (alice.client, bob.client, backend):
                one.close()


def scene_a_share_without_memory():
    """The count of a user's one-way calls finds no memory, and finds some at the next try."""
    if os.environ.get("USHER_PLAY_SCALE", "1") != "1":
        print("     not under a sanitizer")
        return
    shim = MemoryShim()
    with Broker(environment=shim.environment()) as broker, Client(broker) as alice, Backend(
        broker, service="shop"
    ) as shop:
        alice.login("alice")
        alice.post("call", id=0, service="shop", method="m")  # all else that is needed is there
        shop.expect_call()
        shop.fetch(wait_ms=0)
        shim["least"], shim["every"] = 256, 1
        alice.post("call", id=0, service="shop", method="m")
        eventually(lambda: shim["failed"] > 1, "it is tried again")
        shim["every"] = 0
        check_equal(shop.expect_call().user, "alice", "whose call came")
        alice.ping()
        broker.check_alive()


def scene_operators_ask_without_memory():
    """What they are shown is made of many small pieces, and none of them is the end of the broker."""
    if os.environ.get("USHER_PLAY_SCALE", "1") != "1":
        print("     not under a sanitizer")
        return
    shim = MemoryShim()
    paths = (
        "/api/stats",
        "/api/node",
        "/api/sessions",
        "/api/sessions/alice",
        "/api/services",
        "/api/presence?after=0",
        "/api/recorder",
        "/readyz",
    )
    with Broker({"admin.listen": "127.0.0.1:0"}, environment=shim.environment()) as broker, Client(
        broker
    ) as alice:
        alice.login("alice")
        port = next(
            line["port"] for line in broker.log_events("listening") if line["for"] == "admin"
        )

        def ask(path):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                connection.request("GET", path)
                return json.load(connection.getresponse())
            except (OSError, http.client.HTTPException):
                return None  # what HTTP itself needs may be refused
            finally:
                connection.close()

        shim["every"] = 1 << 40
        ask("/api/stats")
        check(shim["asked"] > 200, f"JSON has memory of its own: {shim['asked']} allocations")
        answers = 0
        for every in (20, 61):  # each try that fails takes a millisecond
            shim["every"] = every
            for path in paths * ROUNDS:
                answers += ask(path) is not None
        shim["every"] = 0
        broker.check_alive()
        for path in paths:
            check(ask(path), path)
        alice.ping()
        check(answers > 0, "nobody was answered")
        print(
            f"     {answers} of {2 * ROUNDS * len(paths)} were answered, {shim['failed']} allocations "
            "failed"
        )


if __name__ == "__main__":
    play(
        scene_inboxes,
        scene_players_have_half_of_it,
        scene_outputs,
        scene_large_frames_in_the_making,
        scene_many_frames_in_the_making,
        scene_frames_that_never_end,
        scene_allocations_fail,
        scene_a_share_without_memory,
        scene_operators_ask_without_memory,
    )
