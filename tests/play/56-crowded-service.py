# SPDX-License-Identifier: Apache-2.0
"""What one player may take of a service and of the clock, and what many calls cost at once."""

import re
import time
import urllib.request

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    eventually,
    logged_in,
    play,
    scaled,
)
from usherplay.backend import reply_to
from usherplay.client import frame_bytes

LOUD = {
    "limits.requests_per_second": 1000000,
    "limits.requests_per_second_per_source": 1000000,
    "admin.listen": "127.0.0.1:0",
}


def burst(client, calls, **fields):
    """Many calls in one go; gives their ids."""
    frames = [client.request("call", **fields) for _ in range(calls)]
    client.send_bytes(b"".join(frame_bytes(frame) for frame in frames))
    return [frame.id for frame in frames]


def answers(client, ids, timeout=20):
    """{"reply": n, "TIMEOUT": n, ...} of these requests."""
    waiting = set(ids)
    counts = {}
    until = time.monotonic() + timeout
    while waiting:
        frame = client.next_frame(max(0.01, until - time.monotonic()))
        if frame.id not in waiting:
            continue
        waiting.discard(frame.id)
        kind = frame.WhichOneof("body")
        if kind == "error":
            kind = (
                frame.error.DESCRIPTOR.enum_types_by_name["Code"]
                .values_by_number[frame.error.code]
                .name
            )
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def longest_turn(broker):
    """The smallest bound that holds for all turns that were timed (one in 64 is), in ms."""
    port = next(line["port"] for line in broker.log_events("listening") if line["for"] == "admin")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    rows = re.findall(r'^usher_turn_duration_seconds_bucket\{le="([^"]+)"\} (\d+)$', text, re.M)
    check(rows, "no turn_duration in the metrics")
    return next(float(bound) * 1000 for bound, count in rows if count == rows[-1][1])


def scene_ever_earlier_timers():
    """Whoever asks for ever earlier ticks moves his own: others expire, and are told TIMEOUT."""
    with Broker(
        {**LOUD, "limits.users": 4, "limits.services": 1, "session.resume_ms": 500}
    ) as broker:
        with Backend(broker, service="slow") as backend, Client(broker) as mallory:
            mallory.login("mallory")
            for timeout_ms in range(60000, 1100, -50):  # more than 64 for each of the four and five
                mallory.post("call", id=1, service="none", method="m", timeout_ms=timeout_ms)
                mallory.answer_to(1)
            check(not broker.log_events("limit_hit"), "a limit of timers was met")
            victim, caller = Client(broker), Client(broker)
            victim.login("victim")
            victim.drop()
            caller.login("caller")
            id = caller.post("call", service="slow", method="m", timeout_ms=300)
            caller.expect_error("TIMEOUT", id=id)
            broker.wait_log("offline")
            caller.close()


def scene_one_way_calls():
    """One player's one-way calls take his share of a service's mail, and no more: n and n + 1."""
    with Broker({**LOUD, "limits.one_way_calls_per_user": 20}) as broker:
        with Backend(broker, service="shop") as shop, Client(broker) as mallory, Client(
            broker
        ) as alice:
            mallory.login("mallory")
            alice.login("alice")
            burst(mallory, 20, id=0, service="shop", method="m")
            mallory.ping()
            check_equal(broker.numbers()["calls_one_way_refused"], 0, "refused of n")
            burst(mallory, 500, id=0, service="shop", method="m")
            mallory.ping()
            burst(alice, 20, id=0, service="shop", method="a")
            wanted = alice.post("call", service="shop", method="buy")
            calls = [shop.expect_call() for _ in range(41)]
            check_equal([call.user for call in calls[:20]], ["mallory"] * 20, "the first")
            check_equal([call.user for call in calls[20:]], ["alice"] * 21, "the others")
            shop.reply(calls[-1])
            alice.expect("reply", id=wanted)
            check_equal(broker.numbers()["calls_one_way_refused"], 500, "refused of more")
            line = broker.wait_log("limit_hit")
            check_equal(
                (line["limit"], line["user"], line["service"]),
                ("limits.one_way_calls_per_user", "mallory", "shop"),
                "the log",
            )
            # A new session of his is no new share.
            shop.fetch(wait_ms=1)  # all are acknowledged
            burst(mallory, 20, id=0, service="shop", method="m")
            mallory.ask("logout")
            with Client(broker) as again:
                again.login("mallory")
                burst(again, 5, id=0, service="shop", method="m")
                again.ping()
                eventually(lambda: broker.numbers()["calls_one_way_refused"] == 505, "no new share")


def scene_calls_outlive_their_session():
    """Who logs out and in again, or takes himself over, has no more calls at a service than who stays;
    and has his share back when they are answered."""
    with Broker({**LOUD, "limits.calls_per_user": 4}) as broker:
        with Backend(broker, service="bank") as bank, Client(broker) as alice:
            alice.login("alice")
            sessions = [Client(broker) for _ in range(3)]
            for number, session in enumerate(sessions):
                session.login("mallory")
                ids = [session.post("call", service="bank", method="m") for _ in range(4)]
                if number > 0:
                    for id in ids:
                        session.expect_error("BUSY", id=id)
                if number == 0:
                    session.ask("logout")
            line = broker.wait_log("limit_hit")
            check_equal(
                (line["limit"], line["user"], line["service"]),
                ("limits.calls_per_user", "mallory", "bank"),
                "the log",
            )
            wanted = alice.post("call", service="bank", method="buy")
            calls = [bank.expect_call() for _ in range(5)]
            check_equal([call.user for call in calls], ["mallory"] * 4 + ["alice"], "calls")
            for call in calls:
                bank.reply(call)
            alice.expect("reply", id=wanted)
            again = [sessions[2].post("call", service="bank", method="m") for _ in range(4)]
            for id in again:
                bank.reply(bank.expect_call())
                sessions[2].expect("reply", id=id)
            for session in sessions:
                session.close()


def scene_calls_that_come_due_together():
    """However many they are, no turn sweeps all of them: each is answered, and others go on."""
    users, each = 20, scaled(1000, 50)
    with Broker({**LOUD, "limits.calls_per_user": each, "link.mail_items": 1000000}) as broker:
        with Backend(broker, service="hole") as hole, Backend(broker, service="echo") as echo:
            crowd = logged_in(broker, [f"user{number}" for number in range(users)], timeout=30)
            ids = [
                burst(client, each, service="hole", method="m", timeout_ms=2000) for client in crowd
            ]
            taken = 0
            until = time.monotonic() + 20
            while taken < users * each and time.monotonic() < until:
                taken += len(hole.fetch(wait_ms=50).mail)
                hole.mail.clear()
            check_equal(taken, users * each, "calls that the backend has")
            hole.fetch(wait_ms=1)  # it has acknowledged them, and answers none
            with Client(broker) as alice:
                alice.login("alice")
                slowest = 0
                until = time.monotonic() + 3.5
                while time.monotonic() < until:
                    began = time.monotonic()
                    id = alice.post("call", service="echo", method="m")
                    echo.reply(echo.expect_call())
                    alice.expect("reply", id=id)
                    slowest = max(slowest, time.monotonic() - began)
                    hole.fetch(wait_ms=1)
            counts = [answers(client, own) for client, own in zip(crowd, ids)]
            check_equal(counts, [{"TIMEOUT": each}] * users, "how the calls ended")
            print(
                f"     {users * each} calls came due together; another's call took "
                f"{slowest * 1000:.0f} ms at most, no turn more than {longest_turn(broker):.1f} ms"
            )
            for client in crowd:
                client.close()


def scene_a_backend_that_dies_with_many_calls():
    """They go in steps to the others, or their callers are told: nobody runs out of time."""
    users, each = 10, scaled(1000, 50)
    options = {
        **LOUD,
        "limits.calls_per_user": 2 * each,
        "link.mail_items": 1000000,
        "link.park_ms": 200,
        "link.grace_ms": 0,
        "link.fetch_timeout_ms": 3000,  # reading a thousand calls takes a while
    }
    with Broker(options) as broker:
        first = Backend(broker, service="shop", instance="first")
        crowd = logged_in(broker, [f"user{number}" for number in range(users)], timeout=30)
        known = [
            burst(client, each, service="shop", method="a", timeout_ms=20000) for client in crowd
        ]
        taken = 0
        while taken < users * each:
            taken += len(first.fetch(wait_ms=50).mail)
        first.fetch(wait_ms=1)  # acknowledged, and never answered
        waiting = [
            burst(client, each, service="shop", method="b", timeout_ms=20000) for client in crowd
        ]
        second = Backend(broker, service="shop", instance="second")
        first.close()
        served = {}
        until = time.monotonic() + 20
        while sum(len(own) for own in served.values()) < users * each and time.monotonic() < until:
            second.fetch(wait_ms=50)
            calls = [mail.call for mail in second.mail]
            second.mail.clear()
            for call in calls:
                served.setdefault(call.user, []).append(call.call)
            for start in range(0, len(calls), 100):
                second.submit(*[reply_to(call) for call in calls[start : start + 100]])
        for client, lost, kept in zip(crowd, known, waiting):
            check_equal(
                answers(client, lost + kept),
                {"SERVICE_LOST": each, "reply": each},
                "how the calls ended",
            )
        check(all(own == sorted(own) for own in served.values()), "calls came out of order")
        print(
            f"     {users * each} calls moved and as many were lost: no turn took more than "
            f"{longest_turn(broker):.1f} ms"
        )
        for client in crowd:
            client.close()
        second.close()


if __name__ == "__main__":
    play(
        scene_ever_earlier_timers,
        scene_one_way_calls,
        scene_calls_outlive_their_session,
        scene_calls_that_come_due_together,
        scene_a_backend_that_dies_with_many_calls,
    )
