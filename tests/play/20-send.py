# SPDX-License-Identifier: Apache-2.0
"""Sending: who gets what, in which order, and the one answer that each request has."""

import os
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    backend_pb,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
    scaled,
)
from usherplay.client import Witness
from usherplay.history import History, rule_answers

LARGE = bool(os.environ.get("USHER_PLAY_LARGE"))
DELIVERED = client_pb.Send.DELIVERED


def scene_send():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        epoch = bob.login("bob").epoch
        check_equal(alice.send("bob", b"hello").epoch, epoch, "Done.epoch, which is the receiver's")
        message = bob.expect(
            "message",
            id=0,
            seq=1,
            payload=b"hello",
            service="",
            redelivered=False,
            **{"from": "alice"},
        ).message
        skew = abs(message.time_ms / 1000 - time.time())
        check(skew < 10, f"time_ms is {skew:.1f} s away from now")
        alice.expect_nothing(0.05)
        check_equal(bob.send("bob", b"note").epoch, epoch, "Done.epoch of a note to oneself")
        bob.expect("message", seq=2, payload=b"note", **{"from": "bob"})
        alice.send("bob", b"")
        bob.expect("message", seq=3, payload=b"")
        every = bytes(range(256)) * 4
        alice.send("bob", every)
        bob.expect("message", seq=4, payload=every)


def scene_refusals_go_on():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        for name, code in (
            ("nobody", "NOT_ONLINE"),
            ("a b", "INVALID_NAME"),
            ("x" * 65, "INVALID_NAME"),
            ("", "INVALID_NAME"),
            ("\u00fc", "INVALID_NAME"),
            ("Alice", "NOT_ONLINE"),
        ):
            alice.post("send", to=name, payload=b"x")
            alice.expect_error(code)
            alice.post("send", id=0, to=name, payload=b"x")  # id 0: no answer, success or not
        alice.expect_nothing(0.1)
        alice.ping()


def scene_no_id_no_answer():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob")
        for number in range(100):
            alice.post("send", id=0, to="bob", payload=b"%d" % number)
        for number in range(100):
            bob.expect("message", seq=number + 1, payload=b"%d" % number)
        alice.post("call", id=0, service="none", method="m")
        alice.expect_nothing(0.1)


def scene_ping():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        for id, stamp in ((7, 1), (0, 2), (0, 0), (2**64 - 1, 2**64 - 1)):
            alice.post("ping", id=id, stamp=stamp)
            pong = alice.expect("pong", id=id, stamp=stamp).pong
            check(abs(pong.time_ms / 1000 - time.time()) < 10, "time_ms is far from now")


def scene_largest_payload():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        limit = bob.login("bob").frame_bytes_max
        payload = b"l" * (limit - 200)  # room for the names and numbers of the Message
        for _ in range(20):
            alice.send("bob", payload)
            bob.expect("message", payload=payload)


def exchange(sender, receiver, to, count, window):
    """Sends `count` numbered messages, at most `window` of them unanswered; gives the seconds.
    Each is taken, and arrives, in order, once."""
    began = time.monotonic()
    sent = answered = received = 0
    while answered < count or received < count:
        room = min(count, answered + window) - sent
        if room > 0 and (room >= window // 2 or sent == 0 or count - sent == room):
            sender.send_bytes(
                b"".join(
                    frame_bytes(sender.request("send", to=to, payload=b"%d" % (sent + n)))
                    for n in range(room)
                )
            )
            sent += room
        while sender.frames or (answered < sent and sender.receive_more(0.001)):
            if not sender.frames:
                continue
            frame = sender.next_frame()
            check_equal(frame.WhichOneof("body"), "done", f"the answer to request {frame.id}")
            answered += 1
        while receiver.frames or (received < sent and receiver.receive_more(0.001)):
            if not receiver.frames:
                continue
            receiver.expect("message", payload=b"%d" % received)
            received += 1
        check(
            time.monotonic() - began < 60,
            f"stuck: {sent} sent, {answered} answered, " f"{received} received",
        )
    return time.monotonic() - began


def scene_order():
    count = scaled(5000, 1000)
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob")
        forth = exchange(alice, bob, "bob", count, 500)
        back = exchange(bob, alice, "alice", count, 500)
        bob.expect_nothing(0.05)
        alice.expect_nothing(0.05)
        print(f"     {count} there in {forth:.2f} s, {count} back in {back:.2f} s")


def scene_order_both_ways_without_a_window():
    """Everything at once from both sides. A broker that is short of room may refuse with BUSY;
    what it took arrives once and in order, and nothing is left without an answer."""
    count = scaled(5000, 1000)
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob")
        streams = {
            client: b"".join(
                frame_bytes(client.request("send", to=to, payload=b"%d" % n)) for n in range(count)
            )
            for client, to in ((alice, "bob"), (bob, "alice"))
        }
        began = time.monotonic()
        for client, stream in streams.items():
            client.send_bytes(stream)
        taken, refused, arrived = {}, {}, {}
        for client in (alice, bob):
            taken[client], refused[client], arrived[client] = [], [], []
            while len(taken[client]) + len(refused[client]) < count:
                frame = client.next_frame()
                check(frame is not None, "requests without an answer")
                sort_answer(frame, taken[client], refused[client], arrived[client])
        took = time.monotonic() - began
        for receiver, sender in ((alice, bob), (bob, alice)):
            while len(arrived[receiver]) < len(taken[sender]):
                frame = receiver.next_frame()
                check(
                    frame is not None,
                    f"{len(taken[sender])} messages were taken and "
                    f"{len(arrived[receiver])} arrived",
                )
                sort_answer(frame, [], [], arrived[receiver])
            check_equal(arrived[receiver], sorted(taken[sender]), "the messages that arrived")
            receiver.expect_nothing(0.05)
        print(
            f"     {2 * count} messages in {took:.2f} s, "
            f"{sum(map(len, refused.values()))} refused as BUSY"
        )


def sort_answer(frame, taken, refused, arrived):
    kind = frame.WhichOneof("body")
    if kind == "message":
        check_equal(frame.message.seq, len(arrived) + 1, "seq")
        arrived.append(int(frame.message.payload))
    elif kind == "done":
        taken.append(frame.id - 2)  # id 1 was the login
    else:
        check_equal(kind, "error", "kind of the answer")
        check(
            frame.error.code in (client_pb.Error.BUSY, client_pb.Error.INBOX_FULL),
            f"refused with {client_pb.Error.Code.Name(frame.error.code)}",
        )
        refused.append(frame.id - 2)


def scene_many_senders():
    """Each sender's messages stay in order; the receiver's seq has no gap over all of them."""
    senders, each = 20, scaled(100, 20)
    # All of them may be read before bob's turn comes: more than the default lets wait for one user.
    with Broker({"limits.mailbox_messages": 4096}) as broker, Client(broker) as bob:
        bob.login("bob")
        clients = []
        for number in range(senders):
            client = Client(broker)
            client.login(f"sender{number}")
            clients.append(client)
        for client in clients:
            client.send_bytes(
                b"".join(
                    frame_bytes(client.request("send", 0, to="bob", payload=b"%d" % n))
                    for n in range(each)
                )
            )
        following = dict.fromkeys((client.name for client in clients), 0)
        for seq in range(1, senders * each + 1):
            message = bob.expect("message", seq=seq).message
            sender = getattr(message, "from")
            check_equal(int(message.payload), following[sender], f"the next message of {sender}")
            following[sender] += 1
        for client in clients:
            client.drop()


def scene_acknowledge():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        with Client(broker) as bob:
            bob.login("bob", acks=True)
            for number in range(5):
                alice.send("bob", b"%d" % number)
            bob.messages(5)
            for seq in (3, 1, 0, 3, 5, 5, 2):  # lower than before is ignored
                bob.post("ack", id=0, seq=seq)
            bob.ping()
            id = bob.post("ack", seq=5)  # with an id it is answered like any request
            bob.expect("done", id=id)
        for beyond in (6, 7, 1 << 32, (1 << 64) - 1):
            with Client(broker) as bob:
                bob.login("bob", acks=True)
                for number in range(5):
                    alice.send("bob", b"%d" % number)
                bob.messages(5)
                bob.post("ack", seq=5, id=0)
                bob.post("ack", seq=beyond)
                bob.expect_error("PROTOCOL")
                bob.expect_close("PROTOCOL_ERROR")


def scene_until_delivered():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob", acks=True)
        ids = [alice.post("send", to="bob", payload=b"x", until=DELIVERED) for _ in range(3)]
        bob.messages(3)
        alice.expect_nothing(0.1)
        bob.post("ack", id=0, seq=2)
        check_equal(sorted(alice.expect("done").id for _ in range(2)), ids[:2], "delivered")
        alice.expect_nothing(0.1)
        bob.post("ack", id=0, seq=3)
        alice.expect("done", id=ids[2])
        with Client(broker) as carol:  # without acks: handed to the socket is delivered
            carol.login("carol")
            alice.send("carol", b"y", until=DELIVERED)
            carol.messages(1)
        id = alice.post("send", to="bob", payload=b"z", until=DELIVERED)
        bob.messages(1)
        bob.post("logout")
        frame = alice.answer_to(id)
        check_equal(frame.error.code, client_pb.Error.UNDELIVERED, "given up by a logout")


def scene_id_in_flight():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob", acks=True)
        alice.post("send", id=77, to="bob", until=DELIVERED)
        bob.messages(1)
        alice.post("send", id=77, to="bob", until=DELIVERED)
        alice.expect_error("PROTOCOL", id=77)
        alice.expect_close("PROTOCOL_ERROR")
    for kind in ("ping", "ack", "logout"):  # whatever the second one is
        with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
            alice.login("alice")
            bob.login("bob", acks=True)
            alice.post("send", id=77, to="bob", until=DELIVERED)
            bob.messages(1)
            alice.post(kind, id=77)
            alice.expect_error("PROTOCOL", id=77)
            alice.expect_close("PROTOCOL_ERROR")
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        for _ in range(3):  # an id is free again once it is answered
            alice.post("send", id=77, to="alice", payload=b"x")
            check_equal(alice.answer_to(77).WhichOneof("body"), "done", "answer")


# --- acknowledgements that lie --------------------------------------------------------------------


def scene_ack_lies():
    """Nothing is released that was not acknowledged, whatever the number says."""
    for lies in ((0,), (2, 1, 0), (0, 1 << 32), (4,), ((1 << 64) - 1,)):
        with Broker() as broker, Client(broker) as alice:
            alice.login("alice")
            bob = Client(broker)
            bob.login("bob", acks=True)
            ids = [
                alice.post("send", to="bob", payload=b"%d" % number, until=DELIVERED)
                for number in range(1, 4)
            ]
            bob.messages(3)
            for lie in lies:
                bob.post("ack", id=0, seq=lie)
            honest = max(lie for lie in (0, *lies) if lie <= 3)
            if max(lies) > 3:
                bob.expect_close("PROTOCOL_ERROR")
            else:
                bob.ping()
            check_equal(
                sorted(alice.expect("done").id for _ in range(honest)),
                ids[:honest],
                "what was reported delivered",
            )
            alice.ping()  # and nothing else was, before this
            bob.close()
            with Client(broker) as again:
                again.login("bob", acks=True)
                for seq, number in enumerate(range(honest + 1, 4), 1):
                    again.expect("message", seq=seq, payload=b"%d" % number, redelivered=True)
                again.expect_nothing(0.05)


def scene_resume_that_lies():
    """A last_seq of messages that were never sent acknowledges nothing."""
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        bob = Client(broker)
        welcome = bob.login("bob", acks=True)
        alice.send("bob", b"1")
        bob.messages(1)
        bob.drop()
        eventually(lambda: broker.log_events("detached"), "bob is detached")
        ids = [
            alice.post("send", to="bob", payload=b"%d" % number, until=DELIVERED)
            for number in range(2, 5)
        ]
        alice.ping()
        for last_seq in (4, 5, 1 << 32, (1 << 64) - 1):
            with Client(broker) as liar:
                liar.name = "bob"
                liar.post(
                    "resume",
                    username="bob",
                    epoch=welcome.epoch,
                    secret=welcome.secret,
                    last_seq=last_seq,
                )
                frame = liar.next_frame()
                check(frame is not None, f"no answer to last_seq {last_seq}")
                if frame.WhichOneof("body") == "error":
                    check_equal(frame.error.code, client_pb.Error.RESUME_REJECTED, "code")
                alice.ping()
                check(
                    not alice.frames,
                    f"reported delivered by last_seq {last_seq}, never sent: " f"{alice.frames}",
                )
        with Client(broker) as bob:  # they are all still there
            bob.resume(welcome, 1, name="bob")
            for number in range(2, 5):
                bob.expect("message", seq=number, payload=b"%d" % number)
            bob.post("ack", id=0, seq=4)
            check_equal(sorted(alice.expect("done").id for _ in ids), ids, "delivered in the end")


def scene_ack_flood():
    """Acknowledgements as fast as they go, right and wrong ones: nobody waits, nothing grows."""
    count = 1000000 if LARGE else scaled(200000, 20000)
    with Broker() as broker, Client(broker) as alice, Client(broker, timeout=60) as bob:
        alice.login("alice")
        bob.login("bob", acks=True)
        for _ in range(5):
            alice.send("bob", b"x")
        bob.messages(5)
        blocks = [
            b"".join(frame_bytes(bob.request("ack", id=0, seq=number % 4)) for number in range(500))
            for _ in range(2)
        ]
        bob.send_bytes(blocks[0])
        bob.ping()
        before, began, worst = broker.resident_bytes(), time.monotonic(), 0.0
        for number in range(count // 500):
            bob.send_bytes(blocks[number % 2])
            if number % 20 == 0:
                worst = max(worst, alice.ping())
        bob.ping(60)
        took = time.monotonic() - began
        grown = broker.resident_bytes() - before
        print(
            f"     {count} acks, {count / took:.0f}/s: {grown >> 10} KiB more memory, slowest "
            f"ping of a bystander {worst * 1000:.1f} ms"
        )
        check(grown < 64 << 20, f"{grown >> 20} MiB more")
        bob.post("ack", seq=5)
        bob.expect("done")


# --- one answer ----------------------------------------------------------------------------------


class Asker:
    """Asks, and remembers what must come of it."""

    def __init__(self, broker, history):
        # The longest name, so that a Message to somebody is larger than the Send was.
        self.client = Witness(broker, history, timeout=20)
        self.limit = self.client.login("a" * 64).frame_bytes_max
        self.wanted = {}

    def ask(self, word, kind, **fields):
        id = self.client.post(kind, **fields)
        self.wanted[id] = word
        return id

    def now(self, word, kind, **fields):
        """Asks and waits for the answer."""
        self.look(self.ask(word, kind, **fields))

    def look(self, id):
        frame = self.client.answer_to(id)
        kind = frame.WhichOneof("body")
        word = client_pb.Error.Code.Name(frame.error.code) if kind == "error" else kind
        check_equal(word, self.wanted.pop(id), f"the answer to request {id}")
        return frame


def refused_sends(asker, broker, backend):
    """Every way in which a Send can end, but those that wait."""
    asker.now("done", "send", to="a" * 64, payload=b"to myself")
    asker.now("NOT_ONLINE", "send", to="unknown", payload=b"x")
    asker.now("INVALID_NAME", "send", to="no name", payload=b"x")
    asker.now("INVALID_NAME", "send", to="", payload=b"x")
    full = Client(broker)
    full.login("full", acks=True)
    for _ in range(4):
        asker.now("done", "send", to="full", payload=b"x")
    asker.now("INBOX_FULL", "send", to="full", payload=b"x")
    asker.now("INBOX_FULL", "send", to="full", payload=b"x", until=DELIVERED)
    plain = Client(broker)
    plain.login("plain")
    asker.now("TOO_LARGE", "send", to="plain", payload=b"l" * (asker.limit - 50))
    asker.now("done", "send", to="plain", payload=b"x", until=DELIVERED)
    for name, end in (
        ("leaver", lambda client: client.post("logout")),
        ("kicked", lambda client: backend.kick("kicked")),
    ):
        client = Client(broker)
        client.login(name, acks=True)
        given_up = asker.ask("UNDELIVERED", "send", to=name, payload=b"x", until=DELIVERED)
        client.expect("message")
        end(client)
        asker.look(given_up)
        asker.now("NOT_ONLINE", "send", to=name, payload=b"x")
        client.close()
    lost = Client(broker)
    lost.login("lost", acks=True)
    lost.drop()
    backend.wait_event("lost", "DETACHED")
    waits = asker.ask("UNDELIVERED", "send", to="lost", payload=b"x", until=DELIVERED)
    backend.wait_event("lost", "OFFLINE", "EXPIRED", timeout=20)
    asker.look(waits)
    asker.now("NOT_ONLINE", "send", to="lost", payload=b"x")
    full.messages(4)
    full.expect_nothing(0.05)  # what was refused does not come
    full.close()
    plain.close()


def calls(asker, broker):
    """Every way in which a Call can end."""
    asker.now("NO_SERVICE", "call", service="none", method="m")
    asker.now("INVALID_NAME", "call", service="no name", method="m")
    asker.now("INVALID_NAME", "call", service="chat", method="m" * 129)
    asker.now("TOO_LARGE", "call", service="chat", method="m", payload=b"l" * 17000)
    service = Backend(broker, service="chat")
    for status in (0, 7):
        id = asker.ask("reply", "call", service="chat", method="m")
        service.reply(service.expect_call(), status, b"r")
        check_equal(asker.look(id).reply.status, status, "status")
    late = [
        asker.ask("TIMEOUT", "call", service="chat", method="m", timeout_ms=1500) for _ in range(2)
    ]
    asker.now("BUSY", "call", service="chat", method="m")  # limits.calls_per_user is 2
    handed = [service.expect_call() for _ in late]
    for id in late:
        asker.look(id)
    for call in handed:  # a reply that comes too late is told so, and is no second answer
        check_equal(service.reply(call).code, 3, "a late reply (3 is GONE)")
    lost = asker.ask("SERVICE_LOST", "call", service="chat", method="m", timeout_ms=20000)
    service.expect_call()
    service.fetch(wait_ms=1)  # which acknowledges it
    waiting = backend_pb.LinkRequest(
        fetch=backend_pb.Fetch(link=service.link, mail_done=service.mail_done, wait_ms=1000)
    )
    service.fetcher.post(waiting.SerializeToString())
    service.lose()  # with a Fetch that waits, so that it is noticed at once
    asker.look(lost)


def scene_one_answer():
    """Each request with an id has one answer, the one that fits; with id 0 there is none."""
    history = History()
    options = {
        "limits.inbox_messages": 4,
        "limits.calls_per_user": 2,
        "session.resume_ms": 500,
        "link.grace_ms": 100,
    }
    with Broker(options) as broker:
        backend = Backend(broker, presence=True)
        asker = Asker(broker, history)
        refused_sends(asker, broker, backend)
        calls(asker, broker)
        check_equal(asker.wanted, {}, "requests without an answer")
        asker.now("pong", "ping")
        asker.now("done", "ack", seq=0)
        for _ in range(2):
            for kind, fields in (
                ("send", {"to": "unknown"}),
                ("send", {"to": "no name"}),
                ("call", {"service": "none", "method": "m"}),
                ("ack", {"seq": 0}),
            ):
                asker.client.post(kind, id=0, **fields)
        asker.client.ping()
        asker.client.expect("message", payload=b"to myself")
        asker.client.expect_nothing(0.1)
        asker.now("done", "logout")
        asker.client.expect_close("LOGGED_OUT")
        rule_answers(history)
        words = sorted({entry.word for entry in history.entries if entry.kind == "answer"})
        print(
            f"     {sum(entry.kind == 'answer' for entry in history.entries)} answers of "
            f"{len(words)} kinds: {' '.join(words)}"
        )
        asker.client.close()
        backend.close()


if __name__ == "__main__":
    play(
        scene_send,
        scene_refusals_go_on,
        scene_no_id_no_answer,
        scene_ping,
        scene_largest_payload,
        scene_order,
        scene_order_both_ways_without_a_window,
        scene_many_senders,
        scene_acknowledge,
        scene_until_delivered,
        scene_id_in_flight,
        scene_ack_lies,
        scene_resume_that_lies,
        scene_ack_flood,
        scene_one_answer,
    )
