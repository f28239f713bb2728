# SPDX-License-Identifier: Apache-2.0
"""Takeover: the newest login of a name wins, at once and alone."""

import time

from usherplay import (Backend, Broker, Client, check, check_equal, eventually,
                       check_presence, client_pb, frame_bytes, play, scaled, seed)

CONNECTIONS = 32


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
    with Broker() as broker, Client(broker) as bob:
        bob.login("bob")
        effects = 0
        for number in range(20):
            older = Client(broker)
            older.login("alice")
            stream = b"".join(
                frame_bytes(older.request("send", to="bob", payload=b"before")) for _ in range(5))
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
    with Broker() as broker, Client(broker) as bob:
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
    with Broker() as broker, Client(broker) as bob:
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
    rounds = scaled(20, 4)
    with Broker({"limits.mailbox_messages": 4096}) as broker:
        backend = Backend(broker)
        epochs, welcomes, survivor = set(), 0, None
        began = time.monotonic()
        for number in range(rounds):
            clients = [Client(broker) for _ in range(CONNECTIONS)]
            for client in clients:
                client.name = "alice"
                client.post("login", id=1, username="alice")
            if survivor is not None:
                survivor.read_to_end()
                survivor.close()
            survivor, seen = storm_round(clients)
            check(not epochs & seen, f"epochs used twice: {epochs & seen}")
            check(not epochs or min(seen) > max(epochs), "an epoch lower than an earlier round's")
            epochs |= seen
            welcomes += len(seen)
            check_equal(survivor.welcome_epoch, max(seen), "the survivor's epoch")
            check_equal(backend.lookup("alice").sessions[0].epoch, max(seen), "epoch in the map")
        took = time.monotonic() - began
        living = check_presence(backend.all_events(), first_seq=1)
        check_equal(living, {"alice": ("ONLINE", max(epochs))}, "who lives")
        survivor.close()
        print(f"     {rounds} rounds of {CONNECTIONS} logins: {welcomes} welcomes, one survivor "
              f"each, {rounds * CONNECTIONS / took:.0f} logins/s")


def storm_round(clients):
    """Reads until all but one are closed; gives that one and the epochs of all welcomes."""
    epochs = set()
    for client in clients:
        client.welcome_epoch = None
        frame = client.next_frame()
        check(frame is not None, "a login without an answer")
        if frame.WhichOneof("body") == "welcome":
            client.welcome_epoch = frame.welcome.epoch
            check(frame.welcome.epoch not in epochs, f"epoch {frame.welcome.epoch} twice")
            epochs.add(frame.welcome.epoch)
        else:  # replaced before it was welcomed
            client.frames.appendleft(frame)
    survivor = next(client for client in clients if client.welcome_epoch == max(epochs))
    for client in clients:
        if client is not survivor:
            client.expect_close("REPLACED", do_not_return=True)
            client.close()
    survivor.last_id = 1
    survivor.ping()
    survivor.expect_nothing(0)
    return survivor, epochs


def scene_close_during_takeover():
    """The old connection ends while the newer login is being stored: its end comes late."""
    rounds = scaled(200, 20)
    random = seed()
    with Broker() as broker:
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
    with Broker() as broker, Client(broker) as bob:
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
            second.expect("message", seq=seq, payload=payload, redelivered=True,
                          **{"from": "bob"})
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


def scene_blocked_old_connection():
    """The old connection never reads and its pipe is full: the newcomer's Welcome does not wait."""
    limits = {"limits.output_bytes": 64 << 20, "limits.output_soft_bytes": 64 << 20}
    with Broker(limits) as broker, Client(broker) as bob:
        limit = bob.login("bob").frame_bytes_max
        worst = 0.0
        for number in range(5):
            older = Client(broker, receive_buffer=4096)
            older.login("alice")
            payload = b"f" * (limit - 200)
            taken = 0
            for _ in range(scaled(150, 50)):  # more than the kernel's buffers hold
                if bob.ask("send", to="alice", payload=payload).WhichOneof("body") == "done":
                    taken += len(payload)
            with Client(broker) as newer:
                began = time.monotonic()
                newer.login("alice")
                worst = max(worst, time.monotonic() - began)
                newer.ping()
            older.drop()
        print(f"     Welcome in {worst * 1000:.1f} ms at worst, {taken >> 20} MiB unread")
        check(worst < 1.0, f"a Welcome took {worst:.2f} s")


if __name__ == "__main__":
    play(scene_replaced, scene_old_connection_has_no_effect, scene_messages_follow_the_newest,
         scene_late_closes, scene_close_during_takeover, scene_storm, scene_undelivered_messages_are_inherited,
         scene_blocked_old_connection)
