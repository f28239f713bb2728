# SPDX-License-Identifier: Apache-2.0
"""A lost connection: the session waits, collects messages, and goes on or ends."""

import time

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    check_presence,
    client_pb,
    eventually,
    play,
)

COMPLETE = client_pb.Welcome.COMPLETE
DELIVERED = client_pb.Send.DELIVERED


def detach(backend, client, how="drop"):
    """Loses the connection and waits until the broker has noticed."""
    epoch = client.welcome.epoch
    getattr(client, how)()
    return backend.wait_event(client.name, "DETACHED", epoch=epoch)


def scene_resume():
    with Broker() as broker, Client(broker) as bob:
        bob.login("bob")
        backend = Backend(broker, presence=True)
        for how in ("drop", "close"):
            alice = Client(broker)
            welcome = alice.login("alice")
            event = detach(backend, alice, how)
            left = event.until_ms / 1000 - time.time()
            check(50 < left < 70, f"until_ms is {left:.0f} s from now, resume_ms is 60 s")
            for number in range(10):
                check_equal(bob.send("alice", b"%d" % number).epoch, welcome.epoch, "Done.epoch")
            info = backend.lookup("alice").sessions[0]
            check_equal(
                (info.state, info.epoch, info.inbox_messages),
                (2, welcome.epoch, 10),
                "alice in the map (2 is detached)",
            )
            alice = Client(broker)
            again = alice.resume(welcome, 0, name="alice")
            check_equal(
                (again.epoch, again.replay, again.next_seq),
                (welcome.epoch, COMPLETE, 1),
                "the Welcome of the resume",
            )
            check_equal(again.secret, welcome.secret, "the secret")
            for number in range(10):
                alice.expect("message", seq=number + 1, payload=b"%d" % number)
            bob.send("alice", b"live")
            alice.expect("message", seq=11, payload=b"live")
            backend.wait_event("alice", "RESUMED", epoch=welcome.epoch)
            alice.post("logout")
            alice.read_to_end()
        check_presence(backend.events)
        backend.close()


def scene_replay_with_acks():
    """The client names the last message that it processed; what comes after it is replayed."""
    with Broker() as broker, Client(broker) as bob:
        bob.login("bob")
        backend = Backend(broker, presence=True)
        for last_seq in range(0, 7):
            alice = Client(broker)
            welcome = alice.login("alice", acks=True)
            for number in range(1, 7):
                bob.send("alice", b"%d" % number)
            alice.messages(6)
            detach(backend, alice)
            bob.send("alice", b"7")
            alice = Client(broker)
            again = alice.resume(welcome, last_seq, name="alice")
            check_equal(
                (again.replay, again.next_seq),
                (COMPLETE, last_seq + 1),
                f"the Welcome of a resume after {last_seq}",
            )
            for number in range(last_seq + 1, 8):
                alice.expect("message", seq=number, payload=b"%d" % number)
            bob.send("alice", b"8")
            alice.expect("message", seq=8, payload=b"8")
            alice.post("ack", id=0, seq=8)
            alice.post("logout")
            alice.read_to_end()
        backend.close()


def scene_resume_many_times():
    """Cut at random, many times: joined over all connections the numbers have no gap, no double."""
    with Broker({"limits.takeovers_per_minute": 0}) as broker, Client(broker) as bob:
        bob.login("bob")
        alice = Client(broker)
        welcome = alice.login("alice", acks=True)
        last, sent = 0, 0
        for cut in range(30):
            for _ in range(7):
                sent += 1
                bob.send("alice", b"%d" % sent)
            for _ in range(cut % 8):
                if last < sent:
                    last += 1
                    alice.expect("message", seq=last, payload=b"%d" % last)
            if cut % 3 == 0:
                alice.post("ack", id=0, seq=last)
            alice.drop()
            alice = Client(broker)
            again = alice.resume(welcome, last, name="alice")
            check_equal(
                (again.epoch, again.replay, again.next_seq),
                (welcome.epoch, COMPLETE, last + 1),
                "the Welcome",
            )
        while last < sent:
            last += 1
            alice.expect("message", seq=last, payload=b"%d" % last)
        alice.expect_nothing(0.05)
        alice.close()


def scene_resume_of_a_live_session():
    """The broker has not noticed the loss yet: the old connection is closed."""
    with Broker() as broker:
        older = Client(broker)
        welcome = older.login("alice")
        with Client(broker) as newer:
            again = newer.resume(welcome, 0, name="alice")
            check_equal(again.epoch, welcome.epoch, "epoch")
            older.expect_close("STALE_SESSION")
            newer.ping()
            older.close()
            newer.ping()
        backend = Backend(broker)
        eventually(lambda: backend.lookup("alice").sessions[0].state == 2, "alice detached")
        check_presence(backend.all_events(), first_seq=1)


def scene_resume_rejected():
    with Broker() as broker:
        backend = Backend(broker, presence=True)
        holder = Client(broker)
        welcome = holder.login("alice")
        detach(backend, holder)
        good = {"username": "alice", "epoch": welcome.epoch, "secret": welcome.secret}
        wrong = {
            "another secret": {"secret": bytes(16)},
            "one bit of the secret": {
                "secret": bytes([welcome.secret[0] ^ 1]) + welcome.secret[1:]
            },
            "no secret": {"secret": b""},
            "a short secret": {"secret": welcome.secret[:15]},
            "a long secret": {"secret": welcome.secret + b"x"},
            "a higher epoch": {"epoch": welcome.epoch + 1},
            "a lower epoch": {"epoch": welcome.epoch - 1},
            "epoch 0": {"epoch": 0},
            "another user": {"username": "bob"},
        }
        details = set()
        for what, change in wrong.items():
            with Client(broker) as client:
                client.name = what
                client.post("resume", **{**good, **change})
                details.add(client.expect_error("RESUME_REJECTED").detail)
                client.login(f"other{len(details)}")  # the connection is free to log in
                client.ping()
        check(len(details) == 1, f"the answer tells what was wrong: {details}")
        for last_seq in (1, 1 << 63):
            with Client(broker) as client:  # a client that claims more than there ever was
                client.post("resume", last_seq=last_seq, **good)
                frame = client.next_frame()
                check(
                    frame is not None and frame.WhichOneof("body") in ("welcome", "error"),
                    "no answer to a resume with a last_seq of the future",
                )
        with Client(broker) as client:  # none of it has harmed the session
            again = client.resume(welcome, 0, name="alice")
            check_equal(again.epoch, welcome.epoch, "epoch")
        backend.close()


def scene_login_instead_of_resume():
    with Broker() as broker, Client(broker) as bob:
        bob.login("bob")
        backend = Backend(broker, presence=True)
        alice = Client(broker)
        welcome = alice.login("alice", acks=True)
        bob.send("alice", b"1")
        detach(backend, alice)
        bob.send("alice", b"2")
        with Client(broker) as alice:
            again = alice.login("alice", acks=True)
            check(again.epoch > welcome.epoch, "the epoch does not rise")
            alice.expect("message", seq=1, payload=b"1", redelivered=True)
            alice.expect("message", seq=2, payload=b"2", redelivered=True)
            event = backend.wait_event("alice", "ONLINE", "TAKEOVER", again.epoch)
            check_equal(event.previous_epoch, welcome.epoch, "previous_epoch")
        check_presence(backend.events)
        backend.close()


def scene_answer_waits_for_the_resume():
    """A call outlives the connection: its answer goes to the session when it resumes."""
    with Broker() as broker:
        service = Backend(broker, service="slow")
        watcher = Backend(broker, presence=True)
        alice = Client(broker)
        welcome = alice.login("alice")
        alice.post("call", id=55, service="slow", method="m", timeout_ms=20000)
        call = service.expect_call()
        detach(watcher, alice)
        service.reply(call, 3, b"late but here")
        with Client(broker) as alice:
            alice.resume(welcome, 0, name="alice")
            alice.expect("reply", id=55, status=3, payload=b"late but here")
        service.close()
        watcher.close()


def scene_an_epoch_never_gets_anothers_answer():
    with Broker() as broker:
        service = Backend(broker, service="slow")
        alice = Client(broker)
        alice.login("alice")
        alice.post("call", id=55, service="slow", method="old", timeout_ms=20000)
        call = service.expect_call()
        with Client(broker) as newer:
            newer.login("alice")
            newer.post("call", id=55, service="slow", method="new", timeout_ms=20000)
            check_equal(service.expect_call().method, "new", "the second call")
            service.reply(call, 0, b"for the old one")
            newer.expect_nothing(0.2)
        alice.close()
        service.close()


def scene_an_epoch_never_gets_anothers_done():
    """The same id in two epochs, and both wait: each Done is for the one that asked."""
    with Broker() as broker, Client(broker) as bob, Client(broker) as carol:
        bob.login("bob", acks=True)
        carol.login("carol", acks=True)
        older = Client(broker)
        older.login("alice")
        older.post("send", id=55, to="bob", payload=b"old", until=DELIVERED)
        bob.expect("message", payload=b"old")
        with Client(broker) as newer:
            newer.login("alice")
            newer.post("send", id=55, to="carol", payload=b"new", until=DELIVERED)
            carol.expect("message", payload=b"new")
            bob.post("ack", id=0, seq=1)
            bob.ping()
            newer.ping()  # behind whatever bob's ack has caused
            newer.expect_nothing(0.05)
            carol.post("ack", id=0, seq=1)
            check_equal(newer.expect("done", id=55).done.epoch, carol.welcome.epoch, "Done.epoch")
        older.close()


def scene_expiry():
    with Broker({"session.resume_ms": 500}) as broker, Client(broker) as bob:
        bob.login("bob")
        backend = Backend(broker, presence=True)
        alice = Client(broker)
        welcome = alice.login("alice", acks=True)
        check_equal(welcome.resume_ms, 500, "resume_ms")
        detach(backend, alice)
        began = time.monotonic()
        id = bob.post("send", to="alice", payload=b"x", until=DELIVERED)
        bob.send("alice", b"y")
        backend.wait_event("alice", "OFFLINE", "EXPIRED", welcome.epoch)
        took = time.monotonic() - began
        print(f"     offline after {took * 1000:.0f} ms (window 500)")
        check(0.4 < took < 3, f"expired after {took:.2f} s")
        # What was in the inbox is given up, and whoever asked is told.
        check_equal(bob.answer_to(id).error.code, client_pb.Error.UNDELIVERED, "code")
        bob.post("send", to="alice", payload=b"z")
        bob.expect_error("NOT_ONLINE")
        check_equal(backend.lookup("alice").sessions[0].state, 3, "state in the map (3 is gone)")
        with Client(broker) as alice:
            alice.name = "alice"
            alice.post("resume", username="alice", epoch=welcome.epoch, secret=welcome.secret)
            alice.expect_error("RESUME_REJECTED")
            again = alice.login("alice", acks=True)
            check(again.epoch > welcome.epoch, "the epoch was used again")
            alice.expect_nothing(0.1)
        check_presence(backend.events)
        backend.close()


def scene_resume_stops_the_clock():
    with Broker({"session.resume_ms": 600}) as broker:
        backend = Backend(broker, presence=True)
        alice = Client(broker)
        welcome = alice.login("alice")
        for _ in range(4):  # each loss has a window of its own
            alice.drop()
            time.sleep(0.3)
            alice = Client(broker)
            alice.resume(welcome, 0, name="alice")
        time.sleep(0.8)
        alice.ping()
        backend.fetch()
        check(all(event.kind != 4 for event in backend.events), "an offline of one who is here")
        alice.close()
        backend.close()


if __name__ == "__main__":
    play(
        scene_resume,
        scene_replay_with_acks,
        scene_resume_many_times,
        scene_resume_of_a_live_session,
        scene_resume_rejected,
        scene_login_instead_of_resume,
        scene_answer_waits_for_the_resume,
        scene_an_epoch_never_gets_anothers_answer,
        scene_an_epoch_never_gets_anothers_done,
        scene_expiry,
        scene_resume_stops_the_clock,
    )
