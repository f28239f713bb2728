# SPDX-License-Identifier: Apache-2.0
"""What strangers, players and services can do to stored messages, and what options make of them: numbers
that cannot be, limits that shrink over a restart, drops that meet readers, a flood to names that nobody
has, a node that is full of users."""

import concurrent.futures
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    backend_pb,
    check,
    check_equal,
    client_pb,
    play,
    scaled,
)
from usherplay.backend import code_name

HOUR = 3600
LAST = 2**64 - 1
COMPLETE, PARTIAL = client_pb.Welcome.COMPLETE, client_pb.Welcome.PARTIAL


def pushes(backend, names, payload=b"gift", keep_s=HOUR, **fields):
    """One for each; gives the results."""
    return backend.submit(
        *(
            backend_pb.Command(
                push=backend_pb.Push(to=[name], payload=payload, keep_s=keep_s, **fields)
            )
            for name in names
        )
    )


def kept(backend, name, payload=b"gift", **fields):
    (result,) = pushes(backend, [name], payload, **fields)
    check_equal((code_name(result), result.push.accepted), ("OK", 1), "a stored push")
    return result.push.mid


def count_of(backend, name):
    return backend.query(backend_pb.Command(inbox=backend_pb.Inbox(user=name))).stored.count


def scene_numbers_that_cannot_be():
    """A last_mid that was never given is no more than all there is; what comes afterwards comes."""
    with Broker() as broker, Backend(broker, "post") as post:
        for name in ("alice", "bob"):
            kept(post, name, b"before")
        for last_mid in (LAST, LAST - 1, 2**63):
            with Client(broker) as alice:
                frame = alice.ask("login", username="alice", acks=True, last_mid=last_mid)
                check_equal(frame.welcome.stored_messages, 0, f"behind {last_mid}")
                mid = kept(post, "alice", b"after")
                alice.expect("message", payload=b"after", mid=mid)
                alice.post("ack", id=0, seq=LAST)
                alice.expect_close("PROTOCOL_ERROR")
        check_equal(count_of(post, "bob"), 1, "what is bob's")
        with Client(broker) as eve:
            eve.login("eve", acks=True)
            for keep_s in (2592001, 2**23, 2**32 - 1):
                eve.post("send", to="eve", payload=b"x", keep_s=keep_s)
                eve.expect_error("TOO_LARGE")
                check_equal(code_name(pushes(post, ["eve"], keep_s=keep_s)[0]), "TOO_LARGE", "push")
            for tag in (LAST, 2**63, 1):
                done = eve.send("eve", b"tagged", keep_s=1, tag=tag)
                eve.expect("message", payload=b"tagged", mid=done.mid)
                check_equal(eve.send("eve", b"other", keep_s=1, tag=tag).mid, done.mid, "its tag")
            eve.send("eve", b"untagged", tag=5)  # without keep_s it means nothing
            eve.expect("message", payload=b"untagged", mid=0)
        broker.check_alive()


def scene_smaller_limits():
    """What was stored under larger limits comes under smaller ones, in its order."""
    large = {"limits.frame_bytes": 65536, "limits.inbox_bytes": 262144}
    small = {
        "limits.frame_bytes": 4096,
        "limits.inbox_bytes": 1024,
        "limits.inbox_messages": 1,
        "inbox.stored_messages": 1,
        "inbox.stored_bytes": 1,
        "inbox.stored_total": 1,
        "inbox.stored_total_bytes": 1,
        "inbox.keep_max_s": 1,
        "inbox.waiting_bytes": 65536,
        "inbox.log_spare": 2,
        "limits.output_soft_bytes": 1024,
    }
    sizes = (10, 40000, 20, 60000, 3000, 30)
    with Broker(large) as broker:
        with Backend(broker, "post") as post:
            mids = [kept(post, "alice", bytes(size)) for size in sizes]
        broker.stop()
        broker.restart({**large, **small})
        with Client(broker) as alice, Backend(broker, "post") as post:
            check_equal(alice.login("alice", acks=True).stored_messages, len(mids), "Welcome")
            for mid, size in zip(mids, sizes):
                message = alice.expect("message", mid=mid).message
                check_equal(len(message.payload), size, "its bytes")
                alice.post("ack", id=0, seq=message.seq)
            alice.ping()
            for payload in (b"more", b""):  # what an entry takes is more than a byte, too
                code = code_name(pushes(post, ["alice"], payload, keep_s=1)[0])
                check_equal(code, "INBOX_FULL", f"{len(payload)} bytes more")


def scene_drops_meet_readers():
    """Messages come, are read and are dropped at the same time: each is had or dropped, in order."""
    rounds = scaled(40, 8)
    with Broker({"limits.inbox_messages": 8}) as broker, Backend(broker, "post") as post:
        seen, closing = [], threading.Event()

        def read():
            while not closing.is_set():
                with Client(broker) as alice:
                    last_mid = seen[-1] if seen else 0
                    frame = alice.ask("login", username="alice", acks=True, last_mid=last_mid)
                    check_equal(frame.WhichOneof("body"), "welcome", "a login")
                    for _ in range(20):
                        frame = alice.next_frame(0.02)
                        if frame is not None and frame.WhichOneof("body") == "message":
                            mid = frame.message.mid
                            check(not seen or mid > seen[-1], f"mid {mid} after {seen[-1:]}")
                            seen.append(mid)
                            alice.post("ack", id=0, seq=frame.message.seq)

        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            reader = threads.submit(read)
            mids = []
            for number in range(rounds):
                mids += [result.push.mid for result in pushes(post, ["alice"] * 15)]
                drops = (mids[-8], mids[-8], 0, LAST if number % 8 == 7 else 1)
                for up_to_mid in drops:
                    drop = backend_pb.InboxDrop(user="alice", up_to_mid=up_to_mid)
                    post.submit(backend_pb.Command(inbox_drop=drop))
                post.fetch(wait_ms=1)
            last = kept(post, "alice", b"the end")
            deadline = time.monotonic() + 30
            while seen[-1:] != [last] and time.monotonic() < deadline and not reader.done():
                post.fetch(wait_ms=50)
            closing.set()
            reader.result()
        check_equal(seen[-1], last, "the last one")
        check(set(seen) <= {*mids, last}, "a message that nobody sent")
        print(f"     {len(seen)} of {len(mids) + 1} were read, the others dropped")
        with Client(broker) as alice:
            check_equal(alice.login("alice").stored_messages, 0, "what is left")


def scene_flood_to_nobody():
    """70,000 names that nobody has: what has room is stored, those who play notice nothing, and all of
    it is there after a crash."""
    names = [f"nobody{number}" for number in range(scaled(70000, 2000))]
    with Broker({"limits.users": 1000, "admin.listen": "127.0.0.1:0"}) as broker:
        with Backend(broker, "post") as post, Client(broker) as alice:
            alice.login("alice", acks=True)
            began, refused = time.monotonic(), 0
            for at in range(0, len(names), 500):
                part = names[at : at + 500]
                while part:
                    results = pushes(post, part, keep_s=HOUR)
                    part = [name for name, result in zip(part, results) if result.code]
                    codes = {code_name(result) for result in results}
                    check(codes <= {"OK", "INBOX_FULL"}, f"codes {codes}")
                    refused += len(part)
                post.fetch(wait_ms=1)
                alice.ping()
            seconds = time.monotonic() - began
            numbers = broker.numbers()
            check_equal(numbers["stored_messages"], len(names), "stored")
        broker.kill()
        broker.restart()
        check_equal(broker.numbers()["stored_messages"], len(names), "stored, after a crash")
        with Client(broker) as nobody:
            check_equal(nobody.login(names[-1]).stored_messages, 1, "what is stored for a name")
        print(
            f"     {len(names)} in {seconds:.1f} s, {refused} tried again; "
            f"{numbers['memory_stored_bytes']} bytes of memory"
        )


def scene_full_of_users():
    """Who is away takes no place from somebody who comes. On a node that is full nobody is made for him."""
    users = 64
    with Broker({"limits.users": users}) as broker, Backend(broker, "post") as post:
        closing = threading.Event()
        codes = set()

        def flood():
            with Backend(broker, "flood") as other:
                while not closing.is_set():
                    results = pushes(other, [f"away{number}" for number in range(400)])
                    codes.update(code_name(result) for result in results)
                    other.fetch(wait_ms=1)

        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            flooding = threads.submit(flood)
            time.sleep(0.2)
            clients = [Client(broker) for _ in range(users)]
            outcomes = []
            for number, client in enumerate(clients):
                frame = client.answer_to(client.post("login", username=f"user{number}", acks=True))
                outcomes.append(frame.WhichOneof("body"))
            closing.set()
            flooding.result()
        check_equal(outcomes, ["welcome"] * users, "logins beside the flood")
        check(codes <= {"OK", "INBOX_FULL"}, f"codes {codes}")
        check_equal(code_name(pushes(post, ["carol"])[0]), "INBOX_FULL", "for who has no place")
        kept(post, "user0")
        with Client(broker) as late:
            frame = late.answer_to(late.post("login", username="carol"))
            check_equal(frame.WhichOneof("body"), "error", "one user too many")
        for client in clients:
            client.close()


if __name__ == "__main__":
    play(
        scene_numbers_that_cannot_be,
        scene_smaller_limits,
        scene_drops_meet_readers,
        scene_flood_to_nobody,
        scene_full_of_users,
    )
