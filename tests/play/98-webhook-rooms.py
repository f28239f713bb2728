# SPDX-License-Identifier: Apache-2.0
"""News of rooms by webhook: in order, none left out in silence, none taken twice within a boot, whatever
the receiver does and whoever dies; and no room waits for it."""

import base64
import os
import tempfile
import threading
import time

from usherplay import Backend, Broker, check, check_equal, eventually, play, scaled, seed
from usherplay.filebroker import FileBroker
from usherplay.receiver import Receiver
from usherplay.rooms import Member, command

SECRET = "whsec_of_the_plays"
CLASSES = (
    "match:* create=client join=any webhook=yes follow=messages history=8/60s,"
    "quiet:* create=client join=any,"
    "both:* create=client join=any webhook=yes owner=maker"
)


def secret_file():
    handle, path = tempfile.mkstemp(prefix="usher-play-secret-")
    os.write(handle, SECRET.encode() + b"\n")
    os.close(handle)
    return path


def options(receiver, **others):
    return {
        "webhook.url": receiver.url,
        "webhook.secret_file": secret_file(),
        "webhook.retry_min_ms": 20,
        "webhook.retry_max_ms": 100,
        "webhook.timeout_ms": 600,
        "admin.listen": "127.0.0.1:0",
        "rooms.classes": CLASSES,
        "rooms.publish_per_second": 0,
        "limits.requests_per_second": 0,
        **{key.replace("__", "."): value for key, value in others.items()},
    }


def begun(receiver, boots=1):
    """It was told that a boot begins."""
    eventually(
        lambda: len([r for r in receiver.news_resets if r["reason"] == "boot"]) >= boots,
        f"RESET number {boots} of a boot",
        20,
    )


def check_news(receiver):
    """By boot: each once, in order, and a gap only where a RESET names it."""
    boots = {}
    for one in receiver.news:
        boots.setdefault(one["boot"], []).append(one["seq"])
    for boot, seqs in boots.items():
        lost = {
            seq
            for reset in receiver.news_resets
            if reset["boot"] == boot and "lost_first" in reset
            for seq in range(reset["lost_first"], reset["lost_last"] + 1)
        }
        check_equal(seqs, sorted(set(seqs)), "in order, each once")
        missing = set(range(1, seqs[-1] + 1)) - set(seqs)
        check(missing <= lost, f"left out in silence: {sorted(missing - lost)[:5]}")


def scene_what_a_request_is():
    with Receiver(SECRET) as receiver, Broker(options(receiver)) as broker:
        begun(receiver)
        check_equal(receiver.news_resets[0]["seq"], 0, "it begins at")
        with Member(broker, "alice") as alice, Member(broker, "bob") as bob:
            bob.join("quiet:1")
            state = alice.join("match:7")
            bob.join("match:7")
            alice.publish(state, b"\x00go")
        receiver.wait_news(6)
        told = [(n["kind"], n.get("user"), n["cause"], n["news_seq"]) for n in receiver.news[:6]]
        check_equal(
            told[:4],
            [
                ("OPENED", None, "ASKED", 1),
                ("JOINED", "alice", "ASKED", 2),
                ("JOINED", "bob", "ASKED", 3),
                ("MESSAGE", "alice", "UNKNOWN", 4),
            ],
            "news",
        )
        check_equal({kind for kind, *_ in told[4:]}, {"AWAY"}, "when their connections end")
        check_equal(base64.b64decode(receiver.news[3]["payload"]), b"\x00go", "payload")
        check_equal(receiver.news[3]["offset"], 1, "offset")
        check_equal({n["room"] for n in receiver.news}, {"match:7"}, "rooms")
        check_equal(receiver.bad_signatures, 0, "bad signatures")
        with Backend(broker, hello=False) as backend:
            page = backend.query(command("room_members", room="match:7")).members
        check_equal(page.news_seq, 6, "the list of members is true for that news_seq")
        bodies = [body for _, body in receiver.requests if "room_news" in body]
        check(all("events" not in body for body in bodies), "one request, one stream")
        check_equal(len({body["boot"] for body in bodies}), 1, "boots")
        eventually(lambda: broker.numbers()["webhook_news_waiting"] == 0, "nothing waits", 10)
        check_equal(broker.numbers()["webhook_news"], len(receiver.news), "webhook_news")


def scene_nobody_asked_for_it():
    """Without a class that says so a receiver hears nothing of that stream, until a reload says it."""
    with Receiver(SECRET) as receiver:
        values = {key.replace(".", "__"): value for key, value in options(receiver).items()}
        values["rooms__classes"] = "match:* create=client join=any"
        with FileBroker(values, {}) as broker:
            eventually(lambda: receiver.resets, "the first RESET", 20)
            with Member(broker, "alice") as alice:
                alice.join("match:1")
                values["rooms__classes"] = "match:* create=client join=any webhook=yes"
                eventually(lambda: len(receiver.events) >= 1, "ONLINE", 20)
                check(all("room_news" not in body for _, body in receiver.requests), "too early")
                broker.write(**values)
                check_equal(broker.reload()[0], 0, "reload")
                alice.join("match:2")
                receiver.wait_news(2)
        check_news(receiver)


def scene_whatever_it_does():
    faults = ["fail", "hang", "lose", "half", "none", "garbage", "odd", "cut", "torn", "plain"]
    faults += ["large", "huge", "lose", "fail"]
    with Receiver(SECRET) as receiver, Broker(options(receiver, webhook__batch=4)) as broker:
        begun(receiver)
        eventually(lambda: receiver.resets, "the first RESET", 20)
        taken = 0
        with Member(broker, "alice") as alice:
            state = alice.join("match:1")
            taken = 2
            receiver.wait_news(taken)
            for fault in faults:
                receiver.behave = [fault, fault]
                for number in range(10):
                    alice.publish(state, b"%d" % number)
                taken += 10
                receiver.wait_news(taken)
                eventually(lambda: not receiver.behave, f"{fault} was tried", 20)
        check_news(receiver)
        check_equal([r["reason"] for r in receiver.news_resets], ["boot"], "RESETs")
        told = {line["stream"] for line in broker.log_events("webhook_failing")}
        check("rooms" in told, f"told of {told}")


def scene_the_streams_do_not_wait_for_each_other():
    """A receiver that chokes on news of rooms hears of presence all the same."""
    with Receiver(SECRET) as receiver:
        plain, chokes, goes_on = receiver._take, threading.Event(), threading.Event()

        def choke(connection, body, say=True):
            if "room_news" in body and body["room_news"][0]["kind"] != "RESET":
                chokes.set()
                goes_on.wait(60)
            return plain(connection, body, say)

        receiver._take = choke
        with Broker(options(receiver, webhook__timeout_ms=60000)) as broker:
            begun(receiver)
            with Member(broker, "alice") as alice:
                alice.join("match:1")
                check(chokes.wait(20), "it hangs")
                with Member(broker, "bob"):
                    receiver.wait(2, "events: two logins")
            goes_on.set()
            receiver.wait_news(3)
            check_news(receiver)


def scene_too_slow():
    """What does not fit goes, the oldest first; it is named, counted, and no room has waited for it."""
    with Receiver(SECRET) as receiver, Broker(
        options(receiver, webhook__news_bytes=65536)
    ) as broker:
        begun(receiver)
        with Member(broker, "alice") as alice:
            state = alice.join("match:1")
            receiver.wait_news(2)
            receiver.usual = lambda: "hang"
            began = time.monotonic()
            for number in range(600):
                alice.publish(state, b"%04d" % number + bytes(500))
            slow = time.monotonic() - began
            alice.ping()
            numbers = broker.numbers()
            check(numbers["webhook_news_lost"] > 300, f"lost {numbers['webhook_news_lost']}")
            check(numbers["webhook_news_waiting"] >= 600, f"{numbers['webhook_news_waiting']} wait")
            receiver.usual = lambda: "take"
            eventually(lambda: receiver.news_seq >= 602, "the newest", 30)
        trimmed = [r for r in receiver.news_resets if r["reason"] == "trimmed"]
        check(trimmed, "it was told that it has missed something")
        check_news(receiver)
        lost = sum(r["lost_last"] - r["lost_first"] + 1 for r in trimmed)
        check_equal(
            lost, broker.numbers()["webhook_news_lost"], "what is named and what is counted"
        )
        last = [n for n in receiver.news if n["kind"] == "MESSAGE"][-1]
        check_equal(base64.b64decode(last["payload"])[:4], b"0599", "the newest message")
        print(f"     600 messages in {slow:.2f} s while it hung, {lost} lost to it")


def scene_both_are_told():
    """The owner and the receiver hear the same, by the same numbers."""
    with Receiver(SECRET) as receiver, Broker(options(receiver)) as broker:
        begun(receiver)
        with Backend(broker, "maker") as maker, Member(broker, "alice") as alice:
            alice.join("both:1")
            receiver.wait_news(2)
            maker.fetch()
            got = [mail.news for mail in maker.mail if mail.HasField("news")]
            check_equal(
                [(one.room, one.incarnation, one.news_seq) for one in got],
                [(one["room"], one["incarnation"], one["news_seq"]) for one in receiver.news[:2]],
                "news",
            )


def scene_a_receiver_of_another_boot():
    """One that has lost its number, or has one of another boot, is led back to the list."""
    with Receiver(SECRET) as receiver, Broker(options(receiver)) as broker:
        begun(receiver)
        with Member(broker, "alice") as alice:
            alice.join("match:1")
            receiver.wait_news(2)
            receiver.boot, receiver.news_seq, receiver.news = None, 0, []
            alice.join("match:2")
            eventually(lambda: receiver.news_seq >= 4, "it goes on", 20)
            reset = receiver.news_resets[-1]
            check_equal((reset["reason"], reset["lost_first"]), ("trimmed", 1), "RESET")
            receiver.news_seq = 1000
            alice.join("match:3")
            eventually(lambda: receiver.news_resets[-1]["reason"] == "ahead", "RESET", 20)
            alice.join("match:4")
            eventually(lambda: receiver.news_seq == 8, "it goes on", 20)


def scene_kills():
    """kill -9 of the broker, a receiver that hangs, loses and fails: each boot by itself is whole."""
    random = seed()
    rounds = scaled(6, 2)
    with Receiver(SECRET) as receiver, Broker(options(receiver, webhook__batch=7)) as broker:
        for number in range(rounds):
            begun(receiver, number + 1)
            receiver.usual = lambda: random.choice(("take", "take", "take", "lose", "fail", "half"))
            with Member(broker, f"alice{number}") as alice:
                state = alice.join("match:1")
                for count in range(200):
                    alice.publish(state, b"%d" % count)
                if number + 1 == rounds:
                    receiver.usual = lambda: "take"
                    eventually(lambda: receiver.news_seq >= 202, "all of the last boot", 30)
                broker.kill()
            receiver.usual = lambda: "take"
            broker.restart()
        begun(receiver, rounds + 1)
        check_news(receiver)
        check_equal(
            {r["reason"] for r in receiver.news_resets}, {"boot"}, "nothing else was missing"
        )
        check_equal(receiver.bad_signatures, 0, "bad signatures")


def scene_a_stop_tells_what_waits():
    with Receiver(SECRET) as receiver, Broker(options(receiver)) as broker:
        begun(receiver)
        with Member(broker, "alice") as alice:
            state = alice.join("match:1")
            for number in range(300):
                alice.publish(state, b"x")
            broker.stop()
        check(receiver.news_seq >= 302, f"told up to {receiver.news_seq}")
        check_news(receiver)


play(
    scene_what_a_request_is,
    scene_nobody_asked_for_it,
    scene_whatever_it_does,
    scene_the_streams_do_not_wait_for_each_other,
    scene_too_slow,
    scene_both_are_told,
    scene_a_receiver_of_another_boot,
    scene_kills,
    scene_a_stop_tells_what_waits,
)
