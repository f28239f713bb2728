# SPDX-License-Identifier: Apache-2.0
"""Takeover: the newest login of a name wins, at once and alone."""

import os
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    backend_pb,
    check,
    check_equal,
    check_presence,
    client_pb,
    eventually,
    frame_bytes,
    play,
    scaled,
    seed,
)
from usherplay.backend import kind_name
from usherplay.client import Crowd, Witness
from usherplay.figures import percentile
from usherplay.history import History, check_history, times_to_close

LARGE = bool(os.environ.get("USHER_PLAY_LARGE"))
CONNECTIONS = 64
FREE = {"limits.takeovers_per_minute": 0}  # here people do nothing else


def scene_replaced():
    with Broker() as broker, Client(broker) as bob:
        bob.login("bob")
        older = Client(broker)
        first = older.login("alice")
        newer = Client(broker)
        second = newer.login("alice")
        check(second.epoch > first.epoch, f"epoch {second.epoch} after {first.epoch}")
        check_equal(second.replay, client_pb.Welcome.FRESH, "replay")
        check_equal(second.next_seq, 1, "next_seq")
        older.expect_close("REPLACED", do_not_return=True)
        newer.ping()
        check_equal(bob.send("alice", b"hello").epoch, second.epoch, "Done.epoch")
        newer.expect("message", seq=1, payload=b"hello", redelivered=False)
        # What is closed does not come back by its secret.
        with Client(broker) as again:
            again.post("resume", username="alice", epoch=first.epoch, secret=first.secret)
            again.expect_error("RESUME_REJECTED")
        newer.ping()
        older.close()  # a late close of the old connection touches nobody
        newer.ping()
        newer.close()


def scene_old_connection_has_no_effect():
    """The old side does not read and goes on writing; nothing of it arrives."""
    with Broker(FREE) as broker, Client(broker) as bob:
        bob.login("bob")
        effects = 0
        for number in range(20):
            older = Client(broker)
            older.login("alice")
            stream = b"".join(
                frame_bytes(older.request("send", to="bob", payload=b"before")) for _ in range(5)
            )
            older.send_bytes(stream)
            bob.messages(5)
            with Client(broker) as newer:
                newer.login("alice")
                try:
                    for _ in range(20):
                        older.send_frame(older.request("send", to="bob", payload=b"after"))
                except OSError:
                    pass
                newer.ping()
                bob.ping()
                effects += sum(frame.WhichOneof("body") == "message" for frame in bob.frames)
                bob.frames.clear()
            older.drop()
        check_equal(effects, 0, "messages of a replaced connection that arrived")


def scene_messages_follow_the_newest():
    """What is sent to the name after the new Welcome never arrives at the old connection."""
    with Broker(FREE) as broker, Client(broker) as bob:
        bob.login("bob")
        holder = Client(broker)
        holder.login("alice")
        for number in range(30):
            newer = Client(broker)
            newer.login("alice")
            bob.post("send", id=0, to="alice", payload=b"%d" % number)
            newer.expect("message", seq=1, payload=b"%d" % number)
            for frame in holder.read_to_end():
                check_equal(frame.WhichOneof("body"), "close", "a frame at the old connection")
            holder.close()
            holder = newer
        holder.close()


def scene_late_closes():
    """Old connections end late and in any way, while a third user sends all the time."""
    random = seed()
    with Broker(FREE) as broker, Client(broker) as bob:
        bob.login("bob")
        old = []
        current = Client(broker)
        current.login("alice")
        for number in range(60):
            newer = Client(broker)
            newer.login("alice")
            old.append(current)
            current = newer
            if old and random.random() < 0.8:
                victim = old.pop(random.randrange(len(old)))
                (victim.drop if random.random() < 0.5 else victim.close)()
            bob.send("alice", b"still here")  # never NOT_ONLINE
            current.expect("message", payload=b"still here")
        current.ping()
        events = Backend(broker).all_events()
        living = check_presence(events, first_seq=1)
        check_equal(living["alice"], ("ONLINE", current.welcome.epoch), "alice at the end")
        for client in old + [current]:
            client.drop()


def scene_storm():
    """Many logins of one name at once; each serves as long as it lives. All rules over
    what everybody saw."""
    rounds = 10000 if LARGE else scaled(20, 4)
    random = seed()
    with Broker({**FREE, "limits.mailbox_messages": 16384}) as broker:
        backend = Backend(broker)
        highest, welcomes, closes, survivor, served = 0, 0, [], None, 0
        began = time.monotonic()
        for number in range(rounds):
            history = History()
            bob = Witness(broker, history)
            bob.login("bob")
            clients = [Witness(broker, history) for _ in range(CONNECTIONS)]
            newest = storm_round(bob, clients, random)
            if survivor is not None:
                last = survivor.read_to_end()[-1]
                check_equal(last.close.reason, client_pb.Close.REPLACED, "the survivor's Close")
                survivor.close()
            survivor = newest
            counts = check_history(history)
            served += counts["delivered"]
            epochs = [
                entry.epoch
                for entry in history.entries
                if entry.kind == "welcome" and entry.user == "alice"
            ]
            check(min(epochs) > highest, "an epoch lower than an earlier round's")
            highest = max(epochs)
            check_equal(survivor.welcome.epoch, highest, "the survivor's epoch")
            check_equal(backend.lookup("alice").sessions[0].epoch, highest, "epoch in the map")
            welcomes += len(epochs)
            closes += times_to_close(history)
            for client in clients:
                if client is not survivor:
                    client.close()
            bob.close()
        took = time.monotonic() - began
        if not LARGE:
            living = check_presence(backend.all_events(), first_seq=1)
            check_equal(living["alice"], ("ONLINE", highest), "alice at the end")
        survivor.close()
        closes.sort()
        print(
            f"     {rounds} rounds of {CONNECTIONS} logins: {welcomes} welcomes, one survivor "
            f"each, {served} messages of theirs, {rounds * CONNECTIONS / took:.0f} logins/s; "
            f"from a later Welcome to the Close {percentile(closes, 0.5) * 1000:.1f} ms p50, "
            f"{percentile(closes, 0.99) * 1000:.1f} ms p99"
        )


def storm_round(bob, clients, random):
    """All log in within 5 ms, now and then within 100, and talk while they may; gives the survivor,
    who answers a ping."""
    now = time.monotonic()
    spread = random.choice((0.005, 0.005, 0.1))
    starts = sorted((now + random.random() * spread, number) for number in range(len(clients)))
    numbers = iter(range(1 << 30))
    with Crowd([bob, *clients]) as crowd:
        talkers = set()
        deadline = now + 60
        while (
            starts
            or sum(not client.ended for client in clients) > 1
            or not any(client.welcome and not client.ended for client in clients)
        ):
            check(time.monotonic() < deadline, "more than one survivor, or none")
            while starts and starts[0][0] <= time.monotonic():
                clients[starts.pop(0)[1]].post("login", username="alice")
            for client in crowd.read(0.0005):
                client.frames.clear()
                if client.welcome and client is not bob:
                    talkers.add(client)
            talkers = {client for client in talkers if not client.ended}
            for client in talkers:
                talk(client, next(numbers))
        survivor = next(client for client in clients if not client.ended)
        survivor.frames.clear()
        survivor.history.quiet()
        survivor.ping()
        bob.ping()
        survivor.ping()  # behind what bob's side has answered
        for client in crowd.clients():
            crowd.remove(client)
    return survivor


def talk(client, number):
    """A ping and a message to bob; the other side may be gone."""
    try:
        client.send_frames(
            [
                client.request("ping", stamp=number),
                client.request("send", to="bob", payload=b"%d" % number),
            ]
        )
    except OSError:
        pass


def scene_close_during_takeover():
    """The old connection ends while the newer login is being stored: its end comes late."""
    rounds = scaled(200, 20)
    random = seed()
    with Broker(FREE) as broker:
        old = Client(broker)
        old.login("alice")
        for _ in range(rounds):
            new = Client(broker)
            new.post("login", id=1, username="alice")
            time.sleep(random.choice((0, 0, 0.0002, 0.001)))
            old.drop() if random.random() < 0.5 else old.close()
            new.name = "alice"
            new.expect("welcome", id=1)
            new.last_id = 1
            new.ping()
            old = new
        time.sleep(0.05)
        old.ping()
        state = Backend(broker).lookup("alice").sessions[0].state
        check_equal(state, 1, "alice in the map (1 is online)")


def scene_undelivered_messages_are_inherited():
    with Broker(FREE) as broker, Client(broker) as bob:
        bob.login("bob")
        first = Client(broker)
        first.login("alice", acks=True)
        for number in range(5):
            bob.send("alice", b"%d" % number)
        first.messages(5)
        first.post("ack", id=0, seq=2)
        first.ping()
        second = Client(broker)
        check_equal(second.login("alice", acks=True).next_seq, 1, "next_seq")
        for seq, payload in enumerate((b"2", b"3", b"4"), 1):
            second.expect("message", seq=seq, payload=payload, redelivered=True, **{"from": "bob"})
        first.expect_close("REPLACED", do_not_return=True)
        bob.send("alice", b"new")
        second.expect("message", seq=4, payload=b"new", redelivered=False)
        second.post("ack", id=0, seq=3)
        second.ping()
        third = Client(broker)
        third.login("alice", acks=True)
        third.expect("message", seq=1, payload=b"new", redelivered=True)
        third.post("ack", id=0, seq=1)
        third.ping()
        fourth = Client(broker)
        fourth.login("alice", acks=True)
        fourth.expect_nothing(0.1)
        # What was collected while nobody was connected is marked as well.
        fourth.drop()
        eventually(lambda: broker.log_events("detached"), "alice is detached")
        bob.send("alice", b"collected")
        fifth = Client(broker)
        fifth.login("alice", acks=True)
        fifth.expect("message", seq=1, payload=b"collected", redelivered=True)
        fifth.close()
        for client in (first, second, third, fourth):
            client.close()


def fill(sender, name, payload, count):
    """Sends until the receiver's pipe is full; gives the bytes that were taken."""
    taken = 0
    for start in range(0, count, 10):
        ids = [sender.post("send", to=name, payload=payload) for _ in range(start, start + 10)]
        taken += sum(sender.answer_to(id).WhichOneof("body") == "done" for id in ids)
    return taken * len(payload)


def seconds_until_closed(client):
    """For how long what it writes is still taken; it does not read."""
    began = time.monotonic()
    while time.monotonic() - began < 20:
        try:
            client.post("ping", id=0)
        except OSError:
            return time.monotonic() - began
        time.sleep(0.01)
    raise AssertionError("the old connection was not closed in 20 s")


def scene_blocked_old_connection():
    """The old connection never reads and its pipe is full: the newcomer's Welcome does not wait."""
    limits = {**FREE, "limits.output_bytes": 64 << 20, "limits.output_soft_bytes": 64 << 20}
    rounds = 1000 if LARGE else scaled(16, 4)
    with Broker(limits) as broker, Client(broker) as bob:
        limit = bob.login("bob").frame_bytes_max
        waits, closes, taken = [], [], 0
        payload = b"f" * (limit - 200)
        for number in range(rounds):
            older = Client(broker, receive_buffer=4096)
            older.login("alice")
            taken = fill(bob, "alice", payload, 100)  # more than the kernel's buffers hold
            with Client(broker) as newer:
                began = time.monotonic()
                newer.login("alice")
                waits.append(time.monotonic() - began)
                newer.ping()
                if LARGE or number % 4 == 0:
                    closes.append(seconds_until_closed(older))
            older.drop()
        waits.sort()
        print(
            f"     {rounds} times, {taken >> 20} MiB unread: Welcome after "
            f"{percentile(waits, 0.5) * 1000:.1f} ms p50, {percentile(waits, 0.99) * 1000:.1f} "
            f"ms p99; the old connection gone after {max(closes):.2f} s at most"
        )
        check(waits[-1] < 5.0, f"a Welcome took {waits[-1]:.2f} s")


class Zombie(threading.Thread):
    """Writes valid frames as fast as they are taken and never reads."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client = client
        self.number = 0  # of the last one that was begun
        self.ended_at = None
        self.start()

    def run(self):
        try:
            while True:
                self.number += 1
                payload = b"%d" % self.number
                self.client.send_frames(
                    [
                        self.client.request("send", id=0, to="bob", payload=payload),
                        self.client.request(
                            "call", id=0, service="chat", method="m", payload=payload
                        ),
                        self.client.request("ack", id=0, seq=1),
                    ]
                )
        except OSError:
            self.ended_at = time.monotonic()


def scene_zombie_writer():
    """Nothing that the old side writes after the newer Welcome has an effect: no message, no
    call, no acknowledgement."""
    rounds = scaled(4, 2)
    with Broker({**FREE, "link.mail_items": 1 << 20}) as broker:
        service = Backend(broker, service="chat")
        worst, written = 0.0, 0
        for _ in range(rounds):
            history = History()
            bob, older = Witness(broker, history), Witness(broker, history, timeout=30)
            bob.login("bob")
            older.login("alice", acks=True)
            bob.send("alice", b"0")  # what the zombie acknowledges all the time
            zombie = Zombie(older)
            with Crowd([bob]) as crowd:
                crowd.until(lambda: len(bob.frames) > 100, "the zombie's messages")
                newer = Witness(broker, history)
                newer.login("alice", acks=True)
                began, last = time.monotonic(), zombie.number
                bob.take()
                bob.post("send", id=0, to="alice", payload=b"1")
                if LARGE:
                    time.sleep(5)
                crowd.until(
                    lambda: bob.take() is not None and not zombie.is_alive(),
                    "the end of the zombie's connection",
                )
                worst = max(worst, zombie.ended_at - began)
                written += zombie.number - last
                while service.fetch(wait_ms=50).mail:
                    pass
                calls = [int(mail.call.payload) for mail in service.mail]
                service.mail.clear()
                check(
                    calls and max(calls) <= last,
                    f"a call that the zombie began after the newer "
                    f"Welcome came through: {max(calls, default=None)} after {last}",
                )
                newer.expect("message", payload=b"1")
                newer.ping()
                third = Witness(broker, history)  # what was acknowledged is not inherited
                third.login("alice", acks=True)
                third.expect("message", seq=1, payload=b"1", redelivered=True)
                newer.expect_close("REPLACED")
                older.read_to_end()
                third.post("ack", id=0, seq=1)
                history.quiet()
                third.ping()
                crowd.remove(bob)
                bob.ping()
            check_history(history)
            for client in (bob, third, newer):
                client.close()
        service.close()
        print(
            f"     {rounds} zombies, {written} times three frames after the newer Welcome "
            f"without effect; closed {worst:.2f} s after it at most"
        )


def refused_on(client, frame):
    """A second login, or what amounts to it, on a connection: one declared answer, then the end."""
    client.send_frame(frame)
    client.expect_error("PROTOCOL", id=frame.id)
    client.expect_close("PROTOCOL_ERROR")
    client.close()


def scene_self_takeover():
    with Broker(FREE) as broker:
        backend = Backend(broker, presence=True)
        for name, make in {
            "twice": lambda client: client.request("login", username="twice"),
            "another": lambda client: client.request("login", username="mallory"),
            "resume": lambda client: client.request(
                "resume",
                username="resume",
                epoch=client.welcome.epoch,
                secret=client.welcome.secret,
            ),
        }.items():
            client = Client(broker)
            epoch = client.login(name).epoch
            refused_on(client, make(client))
            backend.wait_event(name, "DETACHED", "PROTOCOL", epoch)
        with Client(broker) as client:  # two in one segment: the second is one too many
            client.name = "segment"
            client.send_bytes(
                b"".join(
                    frame_bytes(client.request("login", username=name))
                    for name in ("segment", "segment")
                )
            )
            frames = client.read_to_end()
            kinds = [(frame.WhichOneof("body"), frame.id) for frame in frames]
            check(
                kinds
                in ([("welcome", 1), ("error", 2), ("close", 0)], [("error", 2), ("close", 0)]),
                f"two logins in one segment: {kinds}",
            )
            backend.wait_event("segment", "DETACHED", "PROTOCOL")
        after_the_close(broker, backend)
        events = backend.all_events()
        check_presence(events, first_seq=1)
        online = [event.user for event in events if kind_name(event) == "ONLINE"]
        check_equal(
            sorted(online),
            ["another", "holder", "holder", "kicked", "resume", "segment", "twice"],
            "who was ever online",
        )
        backend.close()


def after_the_close(broker, backend):
    """A Login on a connection that was told to go is not heard."""
    older, newer = Client(broker), Client(broker)
    older.login("holder")
    epoch = newer.login("holder").epoch
    older.expect("close", reason=client_pb.Close.REPLACED)
    try:
        older.post("login", username="holder")
    except OSError:
        pass
    older.expect_eof()
    newer.ping()
    kicked = Client(broker)
    kicked.login("kicked")
    check_equal(backend.kick("kicked").code, backend_pb.Result.OK, "code of the kick")
    kicked.expect("close", reason=client_pb.Close.KICKED)
    try:
        kicked.post("login", username="kicked")
    except OSError:
        pass
    kicked.expect_eof()
    infos = backend.lookup("holder", "kicked").sessions
    check_equal(
        [(info.state, info.epoch) for info in infos],
        [(1, epoch), (3, infos[1].epoch)],
        "holder is online, kicked is gone",
    )
    for client in (older, newer, kicked):
        client.close()


if __name__ == "__main__":
    play(
        scene_replaced,
        scene_old_connection_has_no_effect,
        scene_messages_follow_the_newest,
        scene_late_closes,
        scene_close_during_takeover,
        scene_storm,
        scene_undelivered_messages_are_inherited,
        scene_blocked_old_connection,
        scene_zombie_writer,
        scene_self_takeover,
    )
