# SPDX-License-Identifier: Apache-2.0
"""Limits, each at n and n + 1, and that whoever breaks one harms only himself."""

import time

from usherplay import (
    Backend,
    Broker,
    Client,
    ConnectionEnded,
    Failed,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
    scaled,
)


def scene_inbox_of_a_detached_user():
    with Broker({"limits.inbox_messages": 8}) as broker, Client(broker) as bob:
        bob.login("bob")
        backend = Backend(broker, presence=True)
        for acks in (False, True):
            alice = Client(broker)
            welcome = alice.login("alice", acks=acks)
            alice.drop()
            backend.wait_event("alice", "DETACHED", epoch=welcome.epoch)
            for number in range(8):
                bob.send("alice", b"%d" % number)
            for _ in range(3):
                bob.post("send", to="alice", payload=b"one too many")
                bob.expect_error("INBOX_FULL")
            for number in range(8):
                result = backend.push("alice", b"%d" % number)
                check_equal(result.push.accepted, 1, "a push beside the players' part")
            result = backend.push("alice", b"one too many")
            check_equal(result.push.accepted, 0, "a push into the full part of services")
            alice = Client(broker)
            alice.resume(welcome, 0, name="alice")
            for number in range(16):
                alice.expect("message", seq=number + 1, payload=b"%d" % (number % 8))
            alice.expect_nothing(0.05)
            alice.post("ack", id=0, seq=16)
            alice.ping()
            bob.send("alice", b"room again")
            alice.expect("message", seq=17, payload=b"room again")
            alice.post("logout")
            alice.read_to_end()
        backend.close()


def scene_inbox_without_acknowledgements():
    """A client that promised to acknowledge and does not."""
    with Broker({"limits.inbox_messages": 8}) as broker, Client(broker) as bob, Client(
        broker
    ) as alice:
        bob.login("bob")
        alice.login("alice", acks=True)
        for number in range(8):
            bob.send("alice", b"%d" % number)
        bob.post("send", to="alice", payload=b"one too many")
        bob.expect_error("INBOX_FULL")
        alice.messages(8)
        alice.post("ack", id=0, seq=3)
        alice.ping()
        for number in range(3):
            bob.send("alice", b"more")
        bob.post("send", to="alice", payload=b"one too many")
        bob.expect_error("INBOX_FULL")


def scene_inbox_bytes():
    with Broker({"limits.inbox_bytes": 10000}) as broker, Client(broker) as bob:
        bob.login("bob")
        backend = Backend(broker, presence=True)
        alice = Client(broker)
        alice.login("alice")
        alice.drop()
        backend.wait_event("alice", "DETACHED")
        taken = 0
        while True:
            frame = bob.ask("send", to="alice", payload=b"x" * 900)
            if frame.WhichOneof("body") == "error":
                check_equal(frame.error.code, client_pb.Error.INBOX_FULL, "code")
                break
            taken += 1
            check(taken < 20, "the inbox takes more bytes than its limit")
        check(9 <= taken <= 11, f"{taken} messages of 900 bytes fit into 10000")
        backend.close()


def flood(sender, to, payload, stop, seconds=20):
    """Sends with a window until stop() says so; gives how much was taken."""
    deadline = time.monotonic() + seconds
    taken = answered = sent = 0
    while not stop():
        check(
            time.monotonic() < deadline,
            f"nothing happened in {seconds} s of flood " f"({taken * len(payload) >> 20} MiB)",
        )
        if sent - answered < 16:
            sender.post("send", to=to, payload=payload)
            sent += 1
        sender.receive_more(0.0001 if sent - answered < 16 else 0.05)
        while sender.frames:
            taken += sender.next_frame().WhichOneof("body") == "done"
            answered += 1
    while answered < sent:
        frame = sender.next_frame()
        check(frame is not None, "a sender of the flood waits for its answers")
        taken += frame.WhichOneof("body") == "done"
        answered += 1
    return taken


def bystander_ping(pair, rounds=20):
    """The worst of some messages between two others."""
    worst = 0.0
    for number in range(rounds):
        began = time.monotonic()
        pair[0].post("send", id=0, to=pair[1].name, payload=b"%d" % number)
        pair[1].expect("message", payload=b"%d" % number)
        worst = max(worst, time.monotonic() - began)
    return worst


def scene_slow_reader():
    """One never reads. Whoever sends to him is refused when enough waits, and he is closed when he
    has not read for limits.output_soft_ms; nobody else notices."""
    limits = {
        "limits.output_bytes": 65536,
        "limits.output_soft_bytes": 32768,
        "limits.output_soft_ms": 700,
    }
    with Broker(limits) as broker, Client(broker) as bob:
        bob.login("bob")
        pair = [Client(broker), Client(broker)]
        for number, client in enumerate(pair):
            client.login(f"bystander{number}")
        before = bystander_ping(pair)
        slow = Client(broker, receive_buffer=4096)
        slow.login("slow")
        backend = Backend(broker, presence=True, presence_after=3)
        began = time.monotonic()
        taken = flood(bob, "slow", b"f" * 8000, lambda: broker.log_events("slow_consumer"))
        took = time.monotonic() - began
        after = bystander_ping(pair)
        backend.wait_event("slow", "DETACHED", "SLOW_CONSUMER")
        print(
            f"     closed after {took:.2f} s and {taken * 8000 >> 10} KiB; bystanders at worst "
            f"{before * 1000:.1f} ms before, {after * 1000:.1f} ms beside"
        )
        check(after < 1.0, f"a bystander waited {after:.2f} s")
        # He may miss the Close; but nothing of another reason may come.
        try:
            last = slow.read_to_end(10)[-1]
            if last.WhichOneof("body") == "close":
                check_equal(last.close.reason, client_pb.Close.SLOW_CONSUMER, "reason")
        except ConnectionEnded:
            pass
        for client in pair + [slow]:
            client.close()
        backend.close()


def scene_slow_reader_by_time():
    """Above the soft limit for too long, also when nothing more is sent to him."""
    limits = {
        "limits.output_bytes": 32 << 20,
        "limits.output_soft_bytes": 16384,
        "limits.output_soft_ms": 700,
    }
    with Broker(limits) as broker, Client(broker) as bob:
        bob.login("bob")
        slow = Client(broker, receive_buffer=4096)
        slow.login("slow")
        payload = b"f" * 60000
        for _ in range(scaled(120, 110)):  # more than the kernel takes, less than the hard limit
            bob.ask("send", to="slow", payload=payload)
        began = time.monotonic()
        broker.wait_log("slow_consumer", 8)
        took = time.monotonic() - began
        print(f"     closed {took:.2f} s after the last message (soft limit 0.7 s)")
        bob.ping()
        slow.close()


def scene_connections():
    with Broker({"limits.connections": 10}) as broker:
        clients = [Client(broker) for _ in range(10)]
        for number, client in enumerate(clients):
            client.login(f"user{number}")
        extra = Client(broker)
        extra.name = "one too many"
        frames = extra.read_to_end()
        check(all(frame.WhichOneof("body") == "close" for frame in frames), f"got {frames}")
        if frames:
            check_equal(frames[-1].close.reason, client_pb.Close.OVERLOADED, "reason")
        extra.close()
        for client in clients:
            client.ping()
        clients.pop().close()

        def taken():
            try:
                newer = Client(broker)
                newer.login("later")
                return newer
            except (Failed, OSError):
                return None

        began = time.monotonic()
        eventually(taken, "a connection in the place of one that left").ping()
        print(f"     room again after {(time.monotonic() - began) * 1000:.0f} ms")
        for client in clients:
            client.ping()
            client.close()


def scene_users():
    with Broker({"limits.users": 5}) as broker:
        clients = [Client(broker) for _ in range(5)]
        for number, client in enumerate(clients):
            client.login(f"user{number}")
        with Client(broker) as extra:
            extra.name = "one too many"
            extra.post("login", username="extra")
            extra.expect_error("BUSY")
        with Client(broker) as again:  # who has a session is not one more
            again.login("user0")
            again.ping()
        clients[1].post("logout")
        clients[1].read_to_end()

        def taken():
            with Client(broker) as later:
                later.name = "later"
                later.post("login", username="later")
                return later.next_frame().WhichOneof("body") == "welcome"

        eventually(taken, "a login in the place of one who left")
        for client in clients:
            client.close()


def scene_heartbeat():
    with Broker({"session.heartbeat_ms": 300}) as broker:
        backend = Backend(broker, presence=True)
        with Client(broker) as silent, Client(broker) as alive:
            check_equal(silent.login("silent").heartbeat_ms, 300, "heartbeat_ms")
            began = time.monotonic()
            alive.login("alive")
            while time.monotonic() - began < 0.5:
                alive.ping()
                time.sleep(0.1)
            silent.expect_nothing(0)
            while not silent.frames and time.monotonic() - began < 4:
                silent.receive_more(0.05)
                alive.ping()
            took = time.monotonic() - began
            silent.expect_close("HEARTBEAT_TIMEOUT")
            print(f"     silent one closed after {took * 1000:.0f} ms (three times 300)")
            check(0.5 < took < 3, f"closed after {took:.2f} s")
            backend.wait_event("silent", "DETACHED", "HEARTBEAT")
            # Bytes count, whole frames or not, and so does a frame without a body.
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                alive.send_bytes(b"\0")
                time.sleep(0.1)
            alive.ping()
        backend.close()


def scene_heartbeat_after_talk():
    """Two heartbeats count from the last word, whenever that was, and one for what is on its
    way: who speaks at the end of the second, a little late, is not closed."""
    with Broker({"session.heartbeat_ms": 500, "limits.login_deadline_ms": 300}) as broker:
        talkers = []
        for number in range(5):
            client = Client(broker)
            client.login(f"talker{number}")
            client.began = time.monotonic()
            client.last_word = None
            talkers.append(client)
        worst = 0.0
        for number, client in enumerate(talkers):  # the last words are 0.25 s apart
            time.sleep(max(0, client.began + 0.1 + 0.25 * number - time.monotonic()))
            client.last_word = time.monotonic()  # said later, so the silence is shorter than that
            for other in talkers[number:]:
                other.ping()
        while any(not client.ended for client in talkers):
            for client in talkers:
                client.receive_more(0.01)
                if client.ended and client.last_word:
                    silence = time.monotonic() - client.last_word
                    worst = max(worst, silence)
                    check(silence > 1.49, f"closed after {silence:.2f} s of silence")
                    client.last_word = None
            check(time.monotonic() - talkers[0].began < 8, "a silent one was not closed")
        print(f"     closed after {worst:.2f} s of silence at worst (three times 0.5)")


def scene_memory_of_floods():
    """Requests from one who does not read his answers: bounded, and nobody else waits."""
    with Broker() as broker, Client(broker) as control:
        control.login("control")
        before = broker.resident_bytes()
        rude = Client(broker, receive_buffer=4096, timeout=0.2)
        rude.login("rude", timeout=20)
        data = b"".join(frame_bytes(rude.request("ping", stamp=n)) for n in range(2000))
        sent = 0
        end = time.monotonic() + 3
        try:
            while time.monotonic() < end:
                rude.send_bytes(data)
                sent += len(data)
        except OSError:
            pass
        worst = max(control.ping() for _ in range(20))
        grown = broker.resident_bytes() - before
        print(
            f"     {sent >> 10} KiB of pings unread: {grown >> 10} KiB more memory, worst ping "
            f"of a bystander {worst * 1000:.1f} ms"
        )
        check(grown < 64 << 20, f"{grown >> 20} MiB for one connection")
        rude.drop()


if __name__ == "__main__":
    play(
        scene_inbox_of_a_detached_user,
        scene_inbox_without_acknowledgements,
        scene_inbox_bytes,
        scene_slow_reader,
        scene_slow_reader_by_time,
        scene_connections,
        scene_users,
        scene_heartbeat,
        scene_heartbeat_after_talk,
        scene_memory_of_floods,
    )
