# SPDX-License-Identifier: Apache-2.0
"""Who has not logged in: a Resume without the secret reaches nobody, tells nothing about who is
online, and leaves its connection a stranger's; and what comes behind a refused request is answered,
whoever refused it."""

import time

from usherplay import (
    Backend,
    Broker,
    Client,
    ConnectionEnded,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
)
from usherplay.shim import SYNCED_WRITES, SYNCS, Shim

WRONG = b"x" * 16
NEVER = 60000  # no deadline of a login within a scene


def names(frames):
    """What they are, without what differs between two sessions."""
    found = []
    for frame in frames:
        kind = frame.WhichOneof("body")
        if kind == "error":
            kind = client_pb.Error.Code.Name(frame.error.code)
        elif kind == "close":
            kind = "close " + client_pb.Close.Reason.Name(frame.close.reason)
        found.append((frame.id, kind))
    return found


def say(client, *requests):
    """All in one write."""
    client.send_bytes(
        b"".join(frame_bytes(client.request(kind, **fields)) for kind, fields in requests)
    )


def answers(client, count, timeout=20):
    """That many frames, or those before the end."""
    found = []
    try:
        while len(found) < count:
            frame = client.next_frame(timeout)
            if frame is None:
                break
            found.append(frame)
    except ConnectionEnded:
        pass
    return found


def hear(broker, requests, count, timeout=20):
    with Client(broker) as client:
        client.name = "a stranger"
        say(client, *requests)
        return names(answers(client, count, timeout))


def resume(name, epoch=1, secret=WRONG, **fields):
    return "resume", {"username": name, "epoch": epoch, "secret": secret, **fields}


def login(name, **fields):
    return "login", {"username": name, **fields}


def number(broker, name):
    with Backend(broker) as backend:
        return backend.numbers("stats")[name]


# --- nobody learns who is online ------------------------------------------------------------------


def scene_nobody_learns_who_is_online():
    """A name that has no session, one that is online, one that is detached: whatever is behind the
    Resume, in the same write or later, the answers are the same."""
    ping = ("ping", {"stamp": 1})
    behind = (
        (),
        (ping,),
        (login("mallory"),),
        (resume("nobody"), login("mallory")),
        (login("mallory"), ping),
        (("ping", {"stamp": 1}), login("mallory")),
    )
    with Broker({"limits.takeovers_per_minute": 0}) as broker, Client(broker) as alice:
        alice.login("alice")
        detached = Client(broker)
        gone = detached.login("dora")
        detached.drop()
        eventually(lambda: number(broker, "sessions_detached") == 1, "dora detached")
        wrong = bytes([gone.secret[0] ^ 1]) + gone.secret[1:]
        claims = [
            ("nobody", 1, WRONG),
            ("alice", alice.welcome.epoch, WRONG),
            ("alice", 1, alice.welcome.secret),
            ("alice", alice.welcome.epoch, b""),
            ("alice", alice.welcome.epoch, alice.welcome.secret + b"x"),
            ("dora", gone.epoch, wrong),
        ]
        for more in behind:
            heard = {
                claim: hear(broker, (resume(*claim), *more), 2 + len(more), 0.15)
                for claim in claims
            }
            wanted = heard[claims[0]]
            for claim, got in heard.items():
                if (
                    got != wanted
                ):  # on a loaded machine an answer may take longer: once more, patiently
                    got = hear(broker, (resume(*claim), *more), 2 + len(more), 2)
                    wanted = hear(broker, (resume(*claims[0]), *more), 2 + len(more), 2)
                check_equal(got, wanted, f"the answers to {claim[0]} and {len(more)} behind")
            check_equal(wanted[0], (1, "RESUME_REJECTED"), "the first answer")
        alice.ping()
        with Client(broker) as back:  # the secret itself is good
            say(back, resume("dora", gone.epoch, gone.secret))
            back.expect("welcome", id=1)


# --- while the disk stands still ------------------------------------------------------------------


def scene_the_disk_stands_still():
    """Her session's actor waits for the disk. Strangers who name her are answered all the same, stay
    strangers, and are limited and ended as such."""
    limits = {
        "limits.prelogin_connections": 64,
        "limits.prelogin_per_source": 32,
        "limits.login_deadline_ms": 1500,
    }
    count = 100
    with Shim() as shim, Broker(
        {"store.path": shim.store, **limits}, environment=shim.environment()
    ) as broker:
        alice = Client(broker)
        alice.login("alice")
        shim.hold(SYNCS | SYNCED_WRITES)
        second = Client(broker)  # the takeover waits
        second.post("login", username="alice")
        second.expect_nothing(0.2)
        before = broker.resident_bytes()
        strangers = [Client(broker) for _ in range(count)]
        began = time.monotonic()
        for stranger in strangers:
            try:
                say(stranger, resume("alice"))
            except OSError:
                pass  # refused, and reset
        heard = [names(answers(stranger, 1)) for stranger in strangers]
        check([(1, "RESUME_REJECTED")] in heard, "nobody was answered while the disk stood still")
        check(time.monotonic() - began < 1.2, "answers waited for the disk")
        junk = frame_bytes(b"\xa2\x06\xe0\xd4\x03" + b"x" * 60000)
        for stranger in strangers:
            try:
                stranger.send_bytes(junk)
            except OSError:
                pass
        for stranger in strangers:
            stranger.read_to_end()  # every one of them ends: for its bytes, or refused
        check(broker.resident_bytes() - before < 16 << 20, "strangers fill the memory")
        silent = [Client(broker, source="127.0.0.2") for _ in range(3)]
        for stranger in silent:
            say(stranger, resume("alice"))
            stranger.expect_error("RESUME_REJECTED")
        for stranger in silent:  # their time ends too
            stranger.expect_close("AUTH_TIMEOUT")
        second.expect_nothing(0.05)  # hers does not: her login is good and waits
        shim.release()
        second.expect("welcome", id=1)
        for client in strangers + silent + [alice, second]:
            client.close()


# --- behind a refusal -----------------------------------------------------------------------------


def expect_behind(broker, first, code, what, after=None):
    """Three requests in one write; the first is refused without a Close. The second finds what is so
    then, the third is one that nobody may send before login."""
    with Client(broker) as client:
        client.name = what
        say(client, first, login("mallory"), ("ping", {"stamp": 1}))
        if after is not None:
            after()
        heard = names(answers(client, 5))
        check_equal(heard[0], (1, code), f"{what}: the first answer")
        check_equal(sorted({frame[0] for frame in heard}), [0, 1, 2, 3], f"{what}: {heard}")
        check_equal(len(heard), 4, f"{what}: {heard}")
        check_equal(heard[-2:], [(3, "PROTOCOL"), (0, "close PROTOCOL_ERROR")], what)
        return heard[1][1]


def scene_a_resume_that_is_rejected():
    """By the door, and by her actor: the secret is right, but nobody can have seen so many."""
    with Broker() as broker, Client(broker) as alice:
        welcome = alice.login("alice")
        check_equal(
            expect_behind(broker, resume("alice"), "RESUME_REJECTED", "a wrong secret"),
            "welcome",
            "the Login behind it",
        )
        check_equal(
            expect_behind(
                broker,
                resume("alice", welcome.epoch, welcome.secret, last_seq=77),
                "RESUME_REJECTED",
                "a wrong seq",
            ),
            "welcome",
            "the Login behind it",
        )


def scene_a_fight():
    with Broker({"limits.takeovers_per_minute": 1}) as broker:
        clients = [Client(broker) for _ in range(2)]
        for client in clients:
            client.login("alice")
        check_equal(
            expect_behind(broker, login("alice"), "RATE_LIMITED", "a fight"),
            "welcome",
            "the Login behind it",
        )
        for client in clients:
            client.close()


def scene_the_store_fails():
    """Both logins are refused, each by its id."""
    with Shim() as shim, Broker(
        {"store.path": shim.store}, environment=shim.environment()
    ) as broker:
        shim.fail(SYNCS | SYNCED_WRITES)
        check_equal(
            expect_behind(broker, login("alice"), "UNAVAILABLE", "a store that fails"),
            "UNAVAILABLE",
            "the Login behind it",
        )
        shim.heal()


def scene_no_service_answers():
    options = {"auth.mode": "service", "auth.service": "door", "limits.login_deadline_ms": NEVER}
    with Broker(options) as broker:
        check_equal(
            expect_behind(broker, login("alice"), "UNAVAILABLE", "nobody to ask"),
            "UNAVAILABLE",
            "the Login behind it",
        )


def scene_too_many_logins_wait():
    options = {
        "auth.mode": "service",
        "auth.service": "door",
        "limits.logins_waiting": 1,
        "limits.login_deadline_ms": NEVER,
        "auth.deadline_ms": 30000,
    }
    with Broker(options) as broker, Backend(broker, "door") as door, Client(broker) as first:
        first.post("login", username="first")
        call = door.expect_call(kind="auth")
        check_equal(
            expect_behind(broker, login("alice"), "BUSY", "too many wait"),
            "BUSY",
            "the Login behind it",
        )
        door.reply(call.call)
        first.expect("welcome", id=1)


def scene_too_many_users():
    with Broker({"limits.users": 1}) as broker, Client(broker) as first:
        first.login("first")
        check_equal(
            expect_behind(broker, login("alice"), "BUSY", "limits.users"),
            "BUSY",
            "the Login behind it",
        )


def scene_a_refusal_that_closes():
    """Close is the last frame: nothing behind it is answered."""
    with Broker() as broker:
        heard = hear(broker, (login("no name"), login("mallory")), 3, 0.5)
        check_equal(heard, [(1, "INVALID_NAME"), (0, "close AUTH_FAILED")], "the answers")


if __name__ == "__main__":
    # The last two need the shim, which the sanitizers do not bear.
    play(
        scene_nobody_learns_who_is_online,
        scene_a_resume_that_is_rejected,
        scene_a_fight,
        scene_no_service_answers,
        scene_too_many_logins_wait,
        scene_too_many_users,
        scene_a_refusal_that_closes,
        scene_the_disk_stands_still,
        scene_the_store_fails,
    )
