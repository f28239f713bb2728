# SPDX-License-Identifier: Apache-2.0
"""Following one user: every stage of his messages with times, of nobody else's, bounded and sampled,
and over by itself."""

import json
import subprocess
import threading

from usherplay import (
    Backend,
    Broker,
    Client,
    backend_pb,
    check,
    check_equal,
    eventually,
    logged_in,
    play,
    program,
)
from usherplay.backend import code_name
from usherplay.rooms import Member

START, STOP, READ = backend_pb.Trace.START, backend_pb.Trace.STOP, backend_pb.Trace.READ


def order(backend, user, action, **fields):
    trace = backend_pb.Trace(user=user, action=action, **fields)
    return backend.query(backend_pb.Command(trace=trace))


def start(backend, user, **fields):
    check_equal(code_name(order(backend, user, START, **fields)), "OK", f"a trace of {user}")


def read(backend, user):
    """All records, page by page."""
    records, after = [], 0
    while True:
        result = order(backend, user, READ, after=after)
        check_equal(code_name(result), "OK", f"reading the trace of {user}")
        page = [json.loads(line) for line in result.lines.lines]
        records += page
        if not page:
            return records
        after = result.lines.next


def stages(records, direction, id):
    return [
        record["stage"]
        for record in records
        if (record["direction"], record["id"]) == (direction, id)
    ]


def scene_every_stage():
    with Broker({"limits.inbox_messages": 2}) as broker, Backend(broker) as backend:
        with Client(broker) as alice, Client(broker) as bob:
            alice.login("alice", acks=True)
            bob.login("bob")
            start(backend, "alice")
            bob.send("alice", b"one")
            bob.send("alice", b"three")
            alice.messages(2)
            bob.expect_error("INBOX_FULL", id=bob.post("send", to="alice", payload=b"x"))
            alice.ask("ack", seq=1)
            sent = alice.send("bob", b"hello")
            nobody = alice.post("send", to="carol", payload=b"?")
            alice.expect_error("NOT_ONLINE", id=nobody)
            called = alice.post("call", service="nobody", method="m", payload=b"12")
            alice.expect_error("NO_SERVICE", id=called)
            records = eventually(
                lambda: [
                    r
                    for r in read(backend, "alice")
                    if r["stage"] == "refused" and r["id"] == called
                ]
                and read(backend, "alice"),
                "the end of the trace",
            )
            check_equal(stages(records, "out", 1), ["queued", "sent", "acked"], "message 1")
            check_equal(stages(records, "out", 2), ["queued", "sent"], "message 2")
            check("refused" in stages(records, "out", 0), "the one that was too much")
            check_equal(stages(records, "in", nobody), ["arrived", "turn", "refused"], "to nobody")
            check_equal(stages(records, "in", nobody - 1), ["arrived", "turn", "acked"], "to bob")
            first = next(r for r in records if r["stage"] == "queued")
            check_equal(
                (first["peer"], first["bytes"], first["kind"]),
                ("bob", 3, "message"),
                "the first record",
            )
            for id, said in ((nobody, ("carol", 1, "send")), (called, ("nobody", 2, "call"))):
                turn = next(r for r in records if r["stage"] == "turn" and r["id"] == id)
                check_equal((turn["peer"], turn["bytes"], turn["kind"]), said, "what he asked for")
            times = [record["time_us"] for record in records if record["stage"] != "arrived"]
            check(times == sorted(times) and sent is not None, "the records are out of order")
            check_equal(
                [record["seq"] for record in records],
                list(range(1, len(records) + 1)),
                "their numbers",
            )
            check_equal(code_name(order(backend, "bob", READ)), "GONE", "bob's trace")
            order(backend, "alice", STOP)
            count = len(read(backend, "alice"))
            alice.ping()
            check_equal(len(read(backend, "alice")), count, "records after the end")
            for record in records[:6]:
                print(
                    f"     {record['direction']:3} {record['kind']:8} {record['id']:3} "
                    f"{record['stage']:8} {record['wait_us']:6} us"
                )


def scene_bounded():
    """The newest records of many; one in so many, and then whole; as many traces as there is room
    for; none of somebody who is not there."""
    with Broker() as broker, Backend(broker) as backend:
        with Client(broker) as alice:
            alice.login("alice")
            start(backend, "alice")
            for _ in range(30):
                ids = [alice.post("ping", stamp=1) for _ in range(100)]
                alice.answer_to(ids[-1])
            records = read(backend, "alice")
            check_equal(len(records), 4096, "records kept")
            check_equal(records[-1]["seq"] - records[0]["seq"], 4095, "without a gap")
            check(records[0]["seq"] > 1, "the oldest are still there")
            start(backend, "alice", one_in=10)
            ids = [alice.post("ping", stamp=1) for _ in range(100)]
            alice.answer_to(ids[-1])
            got = {record["id"] for record in read(backend, "alice")}
            check_equal(got, {id for id in ids if id % 10 == 0}, "the sample")
            check_equal(code_name(order(backend, "nobody", START)), "NOT_ONLINE", "nobody")
            check_equal(
                code_name(order(backend, "alice", START, seconds=3601)),
                "MALFORMED",
                "a trace of more than an hour",
            )
            order(backend, "alice", STOP)
            others = logged_in(broker, [f"user{number}" for number in range(9)])
            for number in range(8):
                start(backend, f"user{number}")
            check_equal(code_name(order(backend, "user8", START)), "UNAVAILABLE", "one too many")
            order(backend, "user3", STOP)
            start(backend, "user8")
            others[3].ping()  # its mark is stale: the slot is another's now
            check_equal(read(backend, "user8"), [], "what user3 did, in the trace of user8")
            for other in others:
                other.close()


def scene_by_hand():
    """usherctl trace prints while it happens, and ends when the time is over."""
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        process = subprocess.Popen(
            [program("usherctl"), "--url", broker.link_url, "trace", "alice", "--seconds", "2"],
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
        reader.start()

        def seen():
            alice.ping()
            return bool(lines) or process.poll() is not None

        eventually(seen, "a line of usherctl trace", 10)
        check_equal(process.wait(20), 0, "exit code")
        reader.join(5)
        check(lines and all(json.loads(line)["kind"] == "ping" for line in lines), f"{lines[:3]}")
        done = subprocess.run(
            [program("usherctl"), "--url", broker.link_url, "trace", "bob"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        check_equal(done.returncode, 1, "exit code for somebody who is not there")


def scene_rooms():
    """What becomes of a room's messages: taken with their offset, handed out, passed over while he
    does not read, and pulled when he does again."""
    options = {
        "rooms.classes": "talk:* create=client join=any history=256/60s",
        "rooms.publish_per_second": 0,
        "limits.requests_per_second": 0,
        "limits.output_bytes": 131072,
    }
    with Broker(options) as broker, Backend(broker) as backend:
        with Member(broker, "alice") as alice, Member(broker, "bob") as bob:
            start(backend, "alice")
            here, there = alice.join("talk:1"), bob.join("talk:1")
            joined, peer = alice.last_id, f"#{here.room}"
            alice.publish(here, b"four")
            published = alice.last_id
            bob.publish(there, b"twelve bytes")
            alice.collect(here, 2)
            alice.post("publish", room=here.room + 1000, payload=b"x")
            alice.expect_error("NOT_MEMBER")
            refused = alice.last_id
            records = read(backend, "alice")
            check_equal(stages(records, "in", joined), ["arrived", "turn", "acked"], "the Join")
            check_equal(
                stages(records, "in", published), ["arrived", "turn", "queued", "acked"], "Publish"
            )
            check_equal(stages(records, "in", refused), ["arrived", "turn", "refused"], "refused")
            taken = next(r for r in records if r["id"] == published and r["stage"] == "acked")
            check_equal(taken["offset"], 1, "the offset that it was taken with")
            queued = next(r for r in records if r["stage"] == "queued")
            check_equal((queued["peer"], queued["bytes"]), (peer, 4), "to which room")
            sent = [r for r in records if r["kind"] == "room_messages"]
            check_equal(
                [(r["stage"], r["direction"], r["id"], r["peer"]) for r in sent],
                [("sent", "out", offset, peer) for offset in (1, 2)],
                "handed out",
            )
            behind(backend, alice, bob, here, there)


def behind(backend, alice, bob, here, there):
    """Alice reads nothing until something has been dropped, and then all of it."""
    count, payload = 0, b"x" * 8192
    while not any(r["stage"] == "dropped" for r in read(backend, "alice")):
        for _ in range(20):
            bob.publish(there, payload)
            count += 1
        check(count < 4000, "she never falls behind")
        bob.drain()
    bob.publish(there, b"last")
    alice.pump(lambda: alice.offsets[here.room] == count + 3, 30)
    records = eventually(
        lambda: (all := read(backend, "alice"))
        and any(r["stage"] == "pulled" for r in all)
        and all,
        "what was missed is pulled",
    )
    dropped = [r for r in records if r["stage"] == "dropped"]
    pulled = [r for r in records if r["stage"] == "pulled"]
    check({r["kind"] for r in dropped} <= {"room_messages", "room_state"}, f"{dropped[:3]}")
    check(pulled[-1]["id"] >= dropped[0]["id"], f"{dropped[0]} and {pulled[-1]}")
    print(f"     {count} published, {len(dropped)} records dropped, {len(pulled)} pulled")


play(scene_every_stage, scene_rooms, scene_bounded, scene_by_hand)
