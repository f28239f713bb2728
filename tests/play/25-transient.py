# SPDX-License-Identifier: Apache-2.0
"""Now or never: transient messages go to who is connected and has nothing waiting for him. Who was
away comes back to what is, not to what was, and who reads slowly gets the newest."""

import os
import struct
import time

from usherplay import Backend, Broker, Client, backend_pb, check, check_equal, client_pb, play
from usherplay.backend import code_name, push

LARGE = bool(os.environ.get("USHER_PLAY_LARGE"))
AWAY_SECONDS = 11 if LARGE else 3
PLAYERS = 20
TICKS_PER_SECOND = 15
STALE_SECONDS = 0.2
POSITIONS_BYTES = 320  # of all players, in one message
FREE = {
    "limits.requests_per_second": 0,
    "limits.requests_per_second_per_source": 0,
    "link.fetch_timeout_ms": 60000,  # these services fetch nothing
}

HEAD = struct.Struct(">cId")  # what it is, its number, when it was sent


def payload_of(kind, number):
    return HEAD.pack(kind, number, time.monotonic()).ljust(POSITIONS_BYTES, b".")


def transient(client, to, payload=b"", **fields):
    """Sends one; True: it went."""
    return not client.send(to, payload, transient=True, **fields).dropped


def counted(broker):
    numbers = Backend(broker).numbers("stats")
    return numbers["transient_delivered"], numbers["transient_dropped"]


def scene_one():
    for acks in (False, True):
        with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
            alice.login("alice")
            welcome = bob.login("bob", acks=acks)
            done = alice.send("bob", b"at 3", transient=True)
            check_equal((done.epoch, done.dropped), (welcome.epoch, False), "Done")
            message = bob.expect("message", id=0, seq=0, payload=b"at 3", **{"from": "alice"})
            check(abs(message.message.time_ms / 1000 - time.time()) < 10, "time_ms")
            alice.send("bob", b"hi")
            bob.expect("message", seq=1, payload=b"hi")
            check(transient(alice, "bob", b"at 4"), "the second one did not go")
            bob.expect("message", seq=0, payload=b"at 4", redelivered=False)
            alice.post("send", id=0, to="bob", payload=b"at 5", transient=True)
            bob.expect("message", seq=0, payload=b"at 5")
            alice.expect_nothing(0.05)
            check(transient(bob, "bob", b"me"), "a note to oneself did not go")
            bob.expect("message", seq=0, payload=b"me", **{"from": "bob"})
            check_equal(counted(broker), (4, 0), "what was counted")


def scene_away():
    """Dropped, told, counted; and nothing of it comes after the return, whichever way he returns."""
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        alice.post("send", to="bob", payload=b"x", transient=True)
        alice.expect_error("NOT_ONLINE")
        bob = Client(broker)
        welcome = bob.login("bob", acks=True)
        bob.drop()
        while transient(alice, "bob", b"at 3"):
            time.sleep(0.01)  # the loss is not seen yet
        for number in range(20):
            check(not transient(alice, "bob", b"at %d" % number), "it went, and he is away")
            alice.post("send", id=0, to="bob", payload=b"at %d" % number, transient=True)
        alice.send("bob", b"kept")
        with Client(broker) as again:
            welcome = again.resume(welcome, 0, name="bob")
            check_equal((welcome.replay, welcome.next_seq), (1, 1), "COMPLETE, next_seq")
            again.expect("message", seq=1, payload=b"kept")
            check(transient(alice, "bob", b"now"), "he is there again")
            again.expect("message", seq=0, payload=b"now")
            with Client(broker) as other:
                other.login("bob", acks=True)
                other.expect("message", seq=1, payload=b"kept", redelivered=True)
                check(transient(alice, "bob", b"now"), "the newer one is there")
                other.expect("message", seq=0, payload=b"now", redelivered=False)
                other.expect_nothing(0.1)
        check(counted(broker)[1] >= 41, f"what was dropped: {counted(broker)}")


def scene_refused():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        limit = bob.login("bob").frame_bytes_max
        alice.post("send", to="bob", payload=b"x", transient=True, until=client_pb.Send.DELIVERED)
        error = alice.expect_error("PROTOCOL")
        check("transient" in error.detail, f"the detail does not say why: {error.detail}")
        alice.post("send", to="b b", payload=b"x", transient=True)
        alice.expect_error("INVALID_NAME")
        alice.post("send", to="bob", payload=b"x" * (limit - 20), transient=True)
        alice.expect_error("TOO_LARGE")
        bob.expect_nothing(0.05)
        check(transient(alice, "bob", b"x"), "the connection goes on")
    with Broker({"limits.requests_per_second": 5}) as broker, Client(broker) as alice:
        alice.login("alice")
        for _ in range(8):  # it costs its sender what any request does
            alice.post("send", to="nobody", payload=b"x", transient=True)
        codes = [alice.next_frame().error.code for _ in range(8)]
        check(codes.count(client_pb.Error.RATE_LIMITED) >= 2, f"answers {codes}")


def scene_pushes():
    with Broker() as broker, Backend(broker, "arena") as arena, Client(broker) as alice, Client(
        broker
    ) as bob:
        alice.login("alice", acks=True)
        welcome = bob.login("bob")
        bob.drop()
        while arena.push("bob", b"at 0", transient=True).push.accepted:
            time.sleep(0.01)
        result = arena.push(["alice", "bob", "nobody"], b"at 1", transient=True)
        report = result.push
        check_equal((report.accepted, report.dropped), (1, 1), "accepted and dropped")
        check_equal(
            [(failure.user, failure.code) for failure in report.failures],
            [("nobody", backend_pb.Result.NOT_ONLINE)],
            "failures",
        )
        alice.expect("message", seq=0, service="arena", payload=b"at 1")
        result = arena.push("bob", b"at 2", transient=True)
        check_equal(
            (code_name(result), result.push.accepted, result.push.dropped), ("OK", 0, 1), "one"
        )
        result = arena.push("alice", b"at 3", epoch=welcome.epoch, transient=True)
        check_equal(code_name(result), "STALE_EPOCH", "another epoch")
        everybody = backend_pb.Command(push_all=backend_pb.PushAll(payload=b"all", transient=True))
        kept = backend_pb.Command(push_all=backend_pb.PushAll(payload=b"kept"))
        results = arena.submit(everybody, everybody, kept, everybody)
        check_equal([entry.push.accepted for entry in results], [2] * 4, "mailboxes")
        for seq, payload in ((0, b"all"), (0, b"all"), (1, b"kept"), (0, b"all")):
            alice.expect("message", seq=seq, payload=payload)
        with Client(broker) as again:
            again.resume(welcome, 0, name="bob")
            again.expect("message", seq=1, payload=b"kept")
            again.expect_nothing(0.1)


class Arena:
    """A service that tells all players where all are, so often each second, and now and then
    something that matters."""

    def __init__(self, broker, transient):
        self.backend = Backend(broker, "arena")
        self.transient = transient
        self.names, self.number, self.events = [], 0, 0
        self.due = time.monotonic()

    def tick(self):
        self.due += 1 / TICKS_PER_SECOND
        time.sleep(max(0, self.due - time.monotonic()))
        self.number += 1
        commands = [push(self.names, payload_of(b"p", self.number), transient=self.transient)]
        if self.number % 5 == 0:
            self.events += 1
            commands.append(push(self.names, payload_of(b"e", self.events)))
        self.backend.submit(*commands)


class Player:
    """Reads what is there when it is asked to, and notes how old it is."""

    def __init__(self, client):
        self.client = client
        self.positions, self.events = [], []  # (number, age)

    def read(self):
        while self.client.receive_more(0):
            pass
        while self.client.frames:
            frame = self.client.frames.popleft()
            if frame.WhichOneof("body") != "message":
                continue
            kind, number, sent = HEAD.unpack_from(frame.message.payload)
            entry = (number, time.monotonic() - sent)
            (self.positions if kind == b"p" else self.events).append(entry)

    def stale(self):
        return sum(age > STALE_SECONDS for _, age in self.positions)


def arena_of(broker, transient, players):
    arena = Arena(broker, transient)
    others = [Player(Client(broker)) for _ in range(PLAYERS - players)]
    for number, other in enumerate(others):
        other.client.login(f"other{number}")
        arena.names.append(other.client.name)
    return arena, others


def run(arena, readers, seconds):
    for _ in range(int(seconds * TICKS_PER_SECOND)):
        arena.tick()
        for reader in readers:
            reader.read()


def come_back(transient):
    """A player whose connection is lost, and who resumes; what he is given then."""
    with Broker(FREE) as broker:
        arena, others = arena_of(broker, transient, 1)
        late = Player(Client(broker))
        welcome = late.client.login("late", acks=True)
        arena.names.append("late")
        run(arena, [*others, late], 1)
        late.client.drop()
        before = len(late.events)
        left = arena.number
        run(arena, others, AWAY_SECONDS)
        back = Player(Client(broker))
        back.client.resume(welcome, before if transient else left + before, name="late")
        returned = arena.number
        run(arena, [*others, back], 1)
        back.read()
        old = [number for number, _ in back.positions if left < number <= returned]
        events = [number for number, _ in late.events + back.events]
        check_equal(events, list(range(1, arena.events + 1)), "what matters, in its order")
        check(back.positions[-1][0] >= arena.number - 1, "the newest positions did not come")
        for player in (*others, back):
            player.client.close()
        return len(old), returned - left, back.stale(), len(back.positions)


def scene_comes_back():
    for transient_ in (False, True):
        old, missed, stale, positions = come_back(transient_)
        print(
            f"     transient {transient_}: away for {missed} positions, {old} of them came; "
            f"{stale} of {positions} older than {STALE_SECONDS * 1000:.0f} ms"
        )
        if transient_:
            check_equal(old, 0, "positions of the time of his absence")
        else:
            check(old > missed * 0.9, "without transient they wait for him")


def read_slowly(transient):
    """A player who does not read for a while, behind a small window."""
    with Broker(FREE) as broker:
        arena, others = arena_of(broker, transient, 1)
        slow = Player(Client(broker, receive_buffer=4096))
        slow.client.login("slow")
        arena.names.append("slow")
        run(arena, [*others, slow], 1)
        slow.read()
        before, left = len(slow.positions), arena.number
        run(arena, others, AWAY_SECONDS)
        returned = arena.number
        run(arena, [*others, slow], 1.5)
        old = [number for number, _ in slow.positions[before:] if left < number <= returned]
        numbers = [number for number, _ in slow.positions]
        check(numbers == sorted(set(numbers)), "positions go back, or come twice")
        events = [number for number, _ in slow.events]
        check_equal(events, list(range(1, arena.events + 1)), "what matters, in its order")
        check(numbers[-1] >= arena.number - 1, f"the newest is {numbers[-1]} of {arena.number}")
        for player in (*others, slow):
            player.client.close()
        return len(old), returned - left, slow.stale(), len(slow.positions)


def scene_reads_slowly():
    for transient_ in (False, True):
        old, missed, stale, positions = read_slowly(transient_)
        print(
            f"     transient {transient_}: {old} of {missed} positions waited for him; "
            f"{stale} of {positions} older than {STALE_SECONDS * 1000:.0f} ms"
        )
        if transient_:
            check(old < missed * 0.6, "a backlog of positions")
        else:
            check(old > missed * 0.9, "without transient all of them wait")


def scene_dense():
    """Twenty players who tell each other where they are, each for himself: who reads misses little."""
    with Broker(FREE) as broker:
        players = [Player(Client(broker)) for _ in range(PLAYERS)]
        for number, player in enumerate(players):
            player.client.login(f"p{number}")
        due = time.monotonic()
        ticks = 3 * TICKS_PER_SECOND
        for tick in range(ticks):
            due += 1 / TICKS_PER_SECOND
            time.sleep(max(0, due - time.monotonic()))
            for player in players:
                frames = b"".join(
                    bytes([len(body)]) + body
                    for body in (
                        player.client.request(
                            "send", 0, to=f"p{to}", payload=HEAD.pack(b"p", tick, 0), transient=True
                        ).SerializeToString()
                        for to in range(PLAYERS)
                    )
                )
                player.client.send_bytes(frames)
            for player in players:
                player.read()
        time.sleep(0.1)
        for player in players:
            player.read()
        came = sum(len(player.positions) for player in players)
        sent = ticks * PLAYERS * PLAYERS
        delivered, dropped = counted(broker)
        print(f"     {came} of {sent} came, {dropped} were dropped")
        check_equal((delivered, delivered + dropped), (came, sent), "what was counted")
        check(came > sent * 0.8, "who reads at once misses too much")
        for player in players:
            player.client.close()


def scene_order():
    """Ordinary and transient ones of one sender, to a reader who stops now and then: all ordinary
    ones come, and nothing is overtaken."""
    with Broker(FREE) as broker, Client(broker, receive_buffer=4096) as bob, Client(
        broker, timeout=30
    ) as alice:
        alice.login("alice")
        bob.login("bob", acks=True)
        went, numbers, kinds = 0, [], []

        def read(seconds):
            while (frame := bob.next_frame(seconds)) is not None:
                kind, number, _ = HEAD.unpack_from(frame.message.payload)
                check((kind == b"p") == (frame.message.seq == 0), "the kind and its seq")
                numbers.append(number)
                kinds.append(kind)
                if kind == b"e":
                    bob.post("ack", id=0, seq=frame.message.seq)

        for number in range(600):
            now = number % 3 != 0
            body = payload_of(b"p" if now else b"e", number)
            done = alice.send("bob", body, transient=now)
            went += now and not done.dropped
            if number % 100 == 99:
                read(0.02)
        read(0.5)
        check(numbers == sorted(numbers), "something was overtaken")
        check_equal(kinds.count(b"e"), 200, "ordinary ones")
        check_equal(kinds.count(b"p"), went, "transient ones, as Done said")
        check(0 < went < 400, f"{went} of 400 went")
        print(f"     {went} of 400 went")


if __name__ == "__main__":
    play(
        scene_one,
        scene_away,
        scene_refused,
        scene_pushes,
        scene_comes_back,
        scene_reads_slowly,
        scene_dense,
        scene_order,
    )
