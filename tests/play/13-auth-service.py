# SPDX-License-Identifier: Apache-2.0
"""auth.mode service: a backend is asked who somebody is, and what happens when it is not there."""

import time

from usherplay import (
    Backend,
    Broker,
    Client,
    Honest,
    check,
    check_equal,
    check_presence,
    eventually,
    play,
    scaled,
)
from usherplay.filebroker import FileBroker

CONFIGURATION = 78
MODE = {"auth.mode": "service", "auth.service": "door"}


def ask(broker, user, token=b"", **fields):
    """A client whose Login is on its way."""
    client = Client(broker)
    client.name = user or "somebody"
    client.post("login", username=user, token=token, **fields)
    return client


def join(client, room):
    """The RoomState of who is let in."""
    id = client.post("join", room=room)
    return client.expect("room_state", id=id).room_state


def expect_refused(client):
    client.expect_error("UNAUTHENTICATED")
    client.expect_close("AUTH_FAILED")


def scene_only_backends_are_instances():
    """Who judges logins, who asks without hello and the admin endpoint have actors, and are neither
    instances nor users."""
    for mode in ({}, MODE):
        with Broker({**mode, "admin.listen": "127.0.0.1:0"}) as broker:
            with Backend(broker, "", hello=False) as stranger:
                stranger.numbers("stats")
                check(broker.numbers()["actors"] >= 2, "actors of its own")
                check_equal(broker.numbers()["instances"], 0, f"instances with {mode}")
                check_equal(broker.numbers()["users"], 0, f"users with {mode}")
            with Backend(broker, "door") as door:
                check_equal(broker.numbers()["instances"], 1, "instances with one")
                with ask(broker, "alice") as alice:
                    if mode:
                        door.reply(door.expect_call(kind="auth").call)
                    alice.expect("welcome", id=1)
                    check_equal(broker.numbers()["users"], 1, "users with one")
                    check_equal(broker.numbers()["instances"], 1, "instances with one and a user")


def scene_the_service_decides():
    with Broker(MODE) as broker, Backend(broker, "door") as door:
        with ask(broker, "alice", b"\x00secret\xff", client="phone") as alice:
            call = door.expect_call(kind="auth")
            check_equal(
                (call.user, call.token, call.client),
                ("alice", b"\x00secret\xff", "phone"),
                "what the service hears",
            )
            check(call.address.startswith("127.0.0.1:"), f"address {call.address}")
            # Two threads look at the clock; the second may have looked a little earlier.
            check(0 < call.timeout_ms <= 2100, f"timeout_ms {call.timeout_ms}")
            check_equal(door.lookup("alice").sessions[0].epoch, 0, "epoch before the answer")
            alice.expect_nothing(0.05)
            door.reply(call.call)
            alice.expect("welcome", id=1)
            alice.ping()
        with ask(broker, "", b"ticket") as nobody:  # the service says who it is
            door.reply(door.expect_call(kind="auth").call, 0, b"bob")
            nobody.expect("welcome", id=1)
            check_equal(door.lookup("bob").sessions[0].client, "", "bob is there")
        for user, status, payload in (
            ("carol", 1, b""),
            ("carol", 0, b"mallory"),
            ("", 0, b""),
            ("", 0, b"a b"),
            ("carol", 403, b"carol"),
        ):
            with ask(broker, user) as carol:
                door.reply(door.expect_call(kind="auth").call, status, payload)
                expect_refused(carol)
        check_equal(
            sorted({event.user for event in door.all_events()}),
            ["alice", "bob"],
            "who was ever online",
        )
        stats = door.numbers("stats")
        check_equal(
            (
                stats["logins_refused_service"],
                stats["logins_refused_name"],
                stats["logins_refused_subject"],
            ),
            (2, 1, 2),
            "refusals",
        )


def scene_a_verdict_may_name_rooms():
    """The claim `rooms`, as that of a token: kept with the session, over a resume and a crash; and one
    that is none lets nobody in."""
    rooms = "key:* create=token join=token"
    with Broker({**MODE, "rooms.classes": rooms}) as broker:
        with Backend(broker, "door") as door, ask(broker, "alice") as alice:
            door.reply(door.expect_call(kind="auth").call, rooms=["key:a*", "key:b"])
            welcome = alice.expect("welcome", id=1).welcome
            check_equal(join(alice, "key:a7").name, "key:a7", "a room of the claim")
            check_equal(join(alice, "key:b").name, "key:b", "another one")
            alice.post("join", room="key:c")
            alice.expect_error("NO_ROOM")
            with ask(broker, "bob") as bob:
                door.reply(door.expect_call(kind="auth").call)
                bob.expect("welcome", id=1)
                bob.post("join", room="key:b")
                bob.expect_error("FORBIDDEN")
            for bad in (["key:a b"], [""], ["key:*", "*x"], ["key:a"] * 17):
                with ask(broker, "eve") as eve:
                    door.reply(door.expect_call(kind="auth").call, rooms=bad)
                    expect_refused(eve)
            check_equal(door.lookup("eve").sessions[0].epoch, 0, "who had a bad claim")
        broker.kill()
        broker.restart()
        with Client(broker) as again:
            again.name = "alice"
            again.post(
                "resume", username="alice", epoch=welcome.epoch, secret=welcome.secret, last_seq=0
            )
            again.expect("welcome", id=1)
            check_equal(join(again, "key:a9").name, "key:a9", "the claim after a crash")


def scene_nobody_to_ask():
    """UNAVAILABLE, the connection stays; once there is an instance it works."""
    with Broker(MODE) as broker:
        with ask(broker, "alice") as alice:
            error = alice.expect_error("UNAVAILABLE")
            check(error.retry_after_ms > 0, "no retry_after_ms")
            with Backend(broker, "door") as door:
                alice.post("login", username="alice")
                door.reply(door.expect_call(kind="auth").call)
                alice.expect("welcome", id=2)


def scene_a_late_service():
    with Broker({**MODE, "auth.deadline_ms": 300}) as broker:
        with Backend(broker, "door") as door, ask(broker, "alice") as alice:
            call = door.expect_call(kind="auth")
            alice.expect_error("UNAVAILABLE")
            door.reply(call.call)
            check_equal(door.lookup("alice").sessions[0].epoch, 0, "epoch after a late answer")
            alice.post("login", username="alice")
            door.reply(door.expect_call(kind="auth").call)
            alice.expect("welcome", id=2)


def scene_a_deadline_that_becomes_less():
    """A reload holds for whoever waits already, and for those who come behind him."""
    options = {**MODE, "limits.login_deadline_ms": 120000}
    with FileBroker({"auth__deadline_ms": 60000}, options) as broker, Backend(
        broker, "door"
    ) as door, ask(broker, "alice") as alice:
        door.expect_call(kind="auth")
        broker.write(auth__deadline_ms=100)
        check_equal(broker.hup()["event"], "reloaded", "the reload")
        alice.expect_error("UNAVAILABLE")
        with ask(broker, "bob") as bob:
            bob.expect_error("UNAVAILABLE")


def scene_an_instance_that_dies():
    """Its logins go to another, which answers; those it had acknowledged end as UNAVAILABLE."""
    options = {
        **MODE,
        "link.grace_ms": 200,
        "link.fetch_timeout_ms": 1500,
        "auth.deadline_ms": 9000,
        "limits.login_deadline_ms": 10000,
    }
    with Broker(options) as broker:
        first = Backend(broker, "door")
        alice = ask(broker, "alice")
        first.expect_call(kind="auth")  # in a Batch, not acknowledged
        second = Backend(broker, "door")
        first.lose()
        call = second.expect_call(kind="auth")
        check(call.redelivered, "not marked redelivered")
        second.reply(call.call)
        alice.expect("welcome", id=1)
        bob = ask(broker, "bob")
        second.expect_call(kind="auth")
        second.fetch(wait_ms=1)  # acknowledges it
        second.lose()
        bob.expect_error("UNAVAILABLE", timeout=20)


def scene_calls_and_logins_of_one_service():
    """Also its users' calls; and no login is remembered as a pin."""
    with Broker(MODE) as broker, Backend(broker, "door") as door:
        with ask(broker, "alice") as alice:
            door.reply(door.expect_call(kind="auth").call)
            alice.expect("welcome", id=1)
            alice.post("call", service="door", method="knock", payload=b"x")
            call = door.expect_call()
            check_equal((call.user, call.method, call.payload), ("alice", "knock", b"x"), "call")
            door.reply(call.call, 0, b"come in")
            check_equal(alice.expect("reply", id=2).reply.payload, b"come in", "reply")


def scene_who_leaves_takes_no_more():
    """Logins that wait for the service count for their address as long as it is asked, also when
    nobody waits for its answer any more: n and n + 1. Others do not notice."""
    options = {
        **MODE,
        "limits.prelogin_per_source": 4,
        "auth.deadline_ms": 20000,
        "limits.login_deadline_ms": 30000,
    }
    with Broker(options) as broker, Backend(broker, "door") as door:
        calls = []
        for _ in range(4):
            rude = Client(broker, source="127.0.0.2")
            rude.post("login", username="mallory", token=b"good")
            calls.append(door.expect_call(kind="auth"))
            rude.drop()
        with Client(broker, source="127.0.0.2") as one_more, Client(
            broker, source="127.0.0.3"
        ) as alice:
            id = one_more.post("login", username="mallory", token=b"good")
            error = one_more.expect_error("BUSY", id=id)
            check(error.retry_after_ms > 0 and "address" in error.detail, f"the answer: {error}")
            check_equal(broker.wait_log("limit_hit")["limit"], "limits.prelogin_per_source", "log")
            alice.post("login", username="alice")
            call = door.expect_call(kind="auth")
            check_equal(call.user, "alice", "who is asked about")
            door.reply(call.call)
            alice.expect("welcome", id=1)
            door.reply(calls[0].call)
            eventually(lambda: door.numbers("stats")["logins_checked"] == 2, "the first is judged")
            id = one_more.post("login", username="mallory", token=b"good")
            door.reply(door.expect_call(kind="auth").call)
            one_more.expect("welcome", id=id)


def scene_many_at_once():
    """Every second one is refused; nobody else gets in, everybody is answered."""
    count = scaled(1000, 100)
    with Broker(
        {**MODE, "limits.failed_logins_per_source": 0, "limits.prelogin_connections": 4096}
    ) as broker:
        door = Honest(broker, "door")
        asked = []

        @door.service.on_login
        def judge(login):
            asked.append(login.user)
            return int(login.user[1:]) % 2 == 0

        with door:
            began = time.monotonic()
            for start in range(0, count, 50):
                clients = [ask(broker, f"u{number}") for number in range(start, start + 50)]
                for number, client in enumerate(clients, start):
                    if number % 2 == 0:
                        client.expect("welcome", id=1)
                    else:
                        expect_refused(client)
                for client in clients:
                    client.close()
            took = time.monotonic() - began
        check_equal(len(asked), count, "logins that the service was asked about")
        backend = Backend(broker)
        events = backend.all_events()
        check_presence(events)
        check_equal(sum(event.kind == 1 for event in events), count // 2, "who came online")
        print(f"     {count} logins in {took:.1f} s")


def scene_settings_that_do_not_start():
    for options, says in (
        ({"auth.service": ""}, "auth.service"),
        ({"auth.service": "a b"}, "auth.service"),
        ({"auth.deadline_ms": 3000}, "auth.deadline_ms"),
    ):
        broker = Broker({**MODE, **options}, wait=False)
        try:
            check_equal(broker._wait_end(20), CONFIGURATION, f"exit code with {options}")
            check(says in "\n".join(broker.raw_lines()), f"{says} is not named")
        finally:
            broker.close()
    broker = Broker({**MODE, "auth.deadline_ms": 2999})
    check_equal(broker.stop(), 0, "exit code")
    broker.close()


play(
    scene_only_backends_are_instances,
    scene_the_service_decides,
    scene_a_verdict_may_name_rooms,
    scene_nobody_to_ask,
    scene_a_late_service,
    scene_a_deadline_that_becomes_less,
    scene_an_instance_that_dies,
    scene_calls_and_logins_of_one_service,
    scene_who_leaves_takes_no_more,
    scene_many_at_once,
    scene_settings_that_do_not_start,
)
