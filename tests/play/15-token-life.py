# SPDX-License-Identifier: Apache-2.0
"""Tokens over a session's life: with auth.session_ends a session ends with the token of its login,
and without it lives on. What its client hears and may still do, who comes in with an old token, and
what a restart remembers."""

import time

from usherplay import Backend, Broker, Client, check, check_equal, check_presence, eventually, play
from usherplay.backend import kind_name
from usherplay.tokens import Key, Keys

CONFIGURATION = 78
ENDS = {"auth.session_ends": "with_token", "auth.skew_ms": 0, "admin.listen": "127.0.0.1:0"}
LATE = 1.5  # a machine may be busy
EARLY = 0.01
KEY = Key("EdDSA", "a")


def log_in(broker, user, ttl, **fields):
    """A Client that is online for ttl seconds, with the time at which its token ends."""
    client = Client(broker)
    ends = time.time() + ttl
    client.login(user, token=KEY.sign(user, ttl=ttl), **fields)
    return client, ends


def expect_end(client, ends):
    """The session ends when the token does, and not before."""
    close = client.expect_close(
        "TOKEN_EXPIRED", do_not_return=False, timeout=ends - time.time() + 5
    )
    late = time.time() - ends
    check(-EARLY <= late <= LATE, f"the session ended {late:.3f} s after its token")
    check("new one" in close.detail, f"detail: {close.detail}")


def told_ms(welcome, ttl):
    """What the Welcome says of it."""
    check(
        ttl * 1000 - 2000 <= welcome.token_ms <= ttl * 1000 + 1000,
        f"token_ms {welcome.token_ms} of a token of {ttl} s",
    )


def events_of(backend, user):
    return [event for event in backend.all_events() if event.user == user]


def scene_a_session_ends_with_its_token():
    with Keys(KEY) as file, file.broker(ENDS) as broker, Backend(broker) as backend:
        alice, ends = log_in(broker, "alice", 2)
        bob, _ = log_in(broker, "bob", 60)
        told_ms(alice.welcome, 2)
        told_ms(bob.welcome, 60)
        expect_end(alice, ends)
        last = events_of(backend, "alice")[-1]
        check_equal(
            (kind_name(last), last.cause), ("OFFLINE", last.TOKEN_EXPIRED), "what others hear"
        )
        check_equal(broker.wait_log("offline")["cause"], "TOKEN_EXPIRED", "what the log says")
        check_equal(broker.numbers()["token_expired"], 1, "token_expired")
        # The session is gone: it cannot be resumed, the old token does not help, a new one does.
        with Client(broker) as old:
            old.name = "alice"
            old.post(
                "resume", username="alice", epoch=alice.welcome.epoch, secret=alice.welcome.secret
            )
            old.expect_error("RESUME_REJECTED")
            old.post("login", username="alice", token=KEY.sign("alice", ttl=-1))
            old.expect_error("UNAUTHENTICATED")
        again, _ = log_in(broker, "alice", 60)
        check(again.welcome.epoch > alice.welcome.epoch, "epochs do not rise")
        bob.ping()
        check_presence(backend.all_events())


def scene_without_the_option_it_lives_on():
    with Keys(KEY) as file, file.broker({**ENDS, "auth.session_ends": "never"}) as broker:
        alice, ends = log_in(broker, "alice", 1)
        check_equal(alice.welcome.token_ms, 0, "token_ms")
        time.sleep(max(0, ends - time.time()) + 1)
        alice.ping()
        welcome = alice.welcome
        alice.drop()
        with Client(broker) as back:
            back.resume(welcome, 0, name="alice")
            back.ping()
        check_equal(broker.numbers()["token_expired"], 0, "token_expired")


def scene_clocks_that_differ_are_forgiven():
    """auth.skew_ms, as at the login: an expired token is good so much longer, and so is its session."""
    with Keys(KEY) as file, file.broker({**ENDS, "auth.skew_ms": 2000}) as broker:
        alice, ends = log_in(broker, "alice", -1)
        expect_end(alice, ends + 2)


def scene_who_is_away():
    """A detached session ends with its token too, in its window; until then it can be resumed, and
    what is left of the token is told again."""
    with Keys(KEY) as file, file.broker(ENDS) as broker, Backend(broker) as backend:
        alice, ends = log_in(broker, "alice", 3, acks=True)
        welcome = alice.welcome
        alice.drop()
        with Client(broker) as back:
            told = back.resume(welcome, 0, name="alice")
            told_ms(told, 3)
            check(told.token_ms <= welcome.token_ms, "a resume brings no more time")
            back.drop()
        eventually(lambda: events_of(backend, "alice")[-1].cause == 12, "it ends while detached")
        check(-EARLY <= time.time() - ends <= LATE, "when it ended")
        with Client(broker) as late:
            late.name = "alice"
            late.post("resume", username="alice", epoch=welcome.epoch, secret=welcome.secret)
            late.expect_error("RESUME_REJECTED")
        check_presence(backend.all_events())


def scene_a_new_token_in_time_loses_nothing():
    """A client that logs in anew before the end takes its inbox along; an older token shortens."""
    with Keys(KEY) as file, file.broker(ENDS) as broker:
        alice, ends = log_in(broker, "alice", 2, acks=True)
        bob, _ = log_in(broker, "bob", 60)
        bob.post("send", to="alice", payload=b"for whoever comes")
        alice.expect("message")
        newer, _ = log_in(broker, "alice", 60, acks=True)
        alice.expect_close("REPLACED", do_not_return=True)
        message = newer.expect("message").message
        check_equal((message.payload, message.redelivered), (b"for whoever comes", True), "inbox")
        time.sleep(max(0, ends - time.time()) + 1)
        newer.ping()  # the first token's end is nothing to it
        older, ends = log_in(broker, "alice", 1, acks=True)
        newer.expect_close("REPLACED", do_not_return=True)
        older.expect("message")
        expect_end(older, ends)


def scene_a_restart_remembers():
    """By an orderly stop and by SIGKILL; a token that ended meanwhile ends its session at the start."""
    with Keys(KEY) as file, file.broker(ENDS) as broker:
        for end in (broker.stop, broker.kill):
            alice, ends = log_in(broker, "alice", 4)
            bob, over = log_in(broker, "bob", 1)
            end()
            time.sleep(max(0, over - time.time()))
            broker.restart()
            with Client(broker) as late:
                late.name = "bob"
                late.post(
                    "resume", username="bob", epoch=bob.welcome.epoch, secret=bob.welcome.secret
                )
                late.expect_error("RESUME_REJECTED")
            with Client(broker) as back:
                back.resume(alice.welcome, 0, name="alice")
                back.ping()
                expect_end(back, ends)
            eventually(lambda: broker.numbers()["token_expired"] == 2, "both have ended")


def scene_a_service_says_until_when():
    """auth.mode service: the yes may have an end, or none; one that is over is a no."""
    options = {**ENDS, "auth.mode": "service", "auth.service": "door"}

    def ask(user, **fields):
        client = Client(broker)
        client.name = user
        client.post("login", username=user, token=b"ticket")
        door.reply(door.expect_call(kind="auth").call, **fields)
        return client

    with Broker(options) as broker, Backend(broker, "door") as door:
        ends = time.time() + 2
        alice = ask("alice", token_ends_ms=int(ends * 1000))
        told_ms(alice.expect("welcome", id=1).welcome, 2)
        bob = ask("bob")
        check_equal(bob.expect("welcome", id=1).welcome.token_ms, 0, "token_ms without an end")
        carol = ask("carol", token_ends_ms=int(time.time() * 1000) - 1)
        carol.expect_error("UNAUTHENTICATED")
        carol.expect_close("AUTH_FAILED")
        expect_end(alice, ends)
        bob.ping()
        check_equal(broker.numbers()["logins_refused_expired"], 1, "logins_refused_expired")


def scene_many_tokens_end_at_once():
    """A login service that was restarted gives many tokens of one end; who is not among them notices
    nothing but a slow moment."""
    count = 200
    options = {**ENDS, "session.heartbeat_ms": 600000}  # they wait in silence
    with Keys(KEY) as file, file.broker(options) as broker, Backend(broker) as backend:
        began = time.time()
        bystanders = [log_in(broker, f"bystander{number}", 600)[0] for number in range(10)]
        each = (time.time() - began) / 10
        ends = int(time.time() + 2 + 3 * count * each)  # when all of them are in
        clients = []
        for number in range(count):
            client = Client(broker)
            client.login(f"u{number}", token=KEY.sign(f"u{number}", ttl=None, exp=ends))
            clients.append(client)
        check(time.time() < ends, "the logins took too long for this scene")
        for client in clients:
            expect_end_at = max(0.1, ends - time.time() + 10)
            client.expect_close("TOKEN_EXPIRED", timeout=expect_end_at)
        took = time.time() - ends
        for bystander in bystanders:
            bystander.ping()
        eventually(lambda: broker.numbers()["sessions_online"] == 10, "the bystanders are left")
        check_presence(backend.all_events())
        print(f"     {count} sessions ended within {took:.2f} s")


def scene_with_open_authentication_it_is_refused():
    broker = Broker({"auth.session_ends": "with_token"}, wait=False)
    try:
        check_equal(broker._wait_end(20), CONFIGURATION, "exit code")
        text = "\n".join(broker.raw_lines())
        check("auth.session_ends" in text and "auth.mode" in text, f"what it says: {text}")
    finally:
        broker.close()


play(
    scene_a_session_ends_with_its_token,
    scene_without_the_option_it_lives_on,
    scene_clocks_that_differ_are_forgiven,
    scene_who_is_away,
    scene_a_new_token_in_time_loses_nothing,
    scene_a_restart_remembers,
    scene_a_service_says_until_when,
    scene_many_tokens_end_at_once,
    scene_with_open_authentication_it_is_refused,
)
