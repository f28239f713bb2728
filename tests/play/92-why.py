# SPDX-License-Identifier: Apache-2.0
"""Why was X disconnected: each cause of an end shows in `usherctl why` in words, with who, from where and
what the limit was; it is there after a restart and after kill -9, has its bounds, gives way to everything else
when there is no room, and shows nobody's bytes as anything but text."""

import json
import subprocess

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    eventually,
    play,
    program,
    scaled,
)
from usherplay.faults import People
from usherplay.tokens import Key, Keys

SECONDS = 30
UNSAVED = 75  # a full map has no room for what waits


def ctl(broker, *arguments):
    done = subprocess.run(
        [program("usherctl"), "--url", broker.link_url, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def why(broker, user, last=200):
    """The records, newest first."""
    code, out, errors = ctl(broker, "--json", "why", user, "--last", str(last))
    check(code in (0, 1), f"usherctl why: {errors}")
    return [json.loads(line) for line in out.splitlines()]


def words(broker, user):
    code, out, errors = ctl(broker, "why", user)
    check_equal(code, 0, f"usherctl why {user}: {errors}")
    return out


def wait_why(broker, user, *texts):
    """Waits until the newest record says all of that."""

    def told():
        newest = (why(broker, user) or [{"text": ""}])[0]
        return all(text in newest["text"] for text in texts) and newest

    return eventually(told, f"why {user} says {texts}: {why(broker, user)[:1]}", SECONDS)


def where(client):
    """As the broker sees it."""
    return "%s:%s" % client.socket.getsockname()[:2]


# --- each cause ----------------------------------------------------------------------------------


def scene_login_takeover_logout():
    with Broker() as broker, Client(broker) as first, Client(broker) as second:
        first.login("alice", client="game 1.2")
        record = wait_why(broker, "alice", "logged in from", where(first), "tcp", '"game 1.2"')
        check_equal((record["kind"], record["cause"]), ("online", "login"), "the first login")
        second.login("alice", client="game 1.3")
        first.expect_close("REPLACED")
        wait_why(broker, "alice", where(second), "displaced the connection from", where(first))
        text = words(broker, "alice")
        check("alice is online from " + where(second) in text, f"who is online: {text}")
        second.ask("logout")
        second.read_to_end()
        wait_why(broker, "alice", "logged out", where(second))
        text = words(broker, "alice")
        check("alice has no session now" in text, text)
        check("alice was disconnected" in text and "logged out" in text, text)


def scene_kicked():
    with Broker() as broker, Backend(broker, service="match", instance="m1") as match:
        with Client(broker) as client:
            client.login("bob")
            match.kick("bob", detail="afk")
            client.expect_close("KICKED")
            record = wait_why(broker, "bob", "kicked by service match", "m1", '"afk"')
            check(where(client) in record["text"], f"from where: {record}")
        with Client(broker) as client:
            client.login("bob")
            code, _, errors = ctl(broker, "kick", "bob", "--reason", "moved")
            check_equal(code, 0, errors)
            record = wait_why(broker, "bob", "kicked by", '"moved"')
            print("     " + record["text"])


def scene_lost_and_back():
    with Broker({"session.resume_ms": 3000}) as broker:
        client = Client(broker)
        welcome = client.login("carol")
        client.close()
        wait_why(broker, "carol", "connection lost", "the client closed the connection")
        check("is detached" in words(broker, "carol"), "detached")
        with Client(broker) as again:
            again.resume(welcome, 0, "carol")
            wait_why(broker, "carol", "came back to the session", where(again))
            with Client(broker) as third:
                third.resume(welcome, 0, "carol")
                wait_why(broker, "carol", "displaced the connection from", where(again))
                third.drop()
        wait_why(broker, "carol", "resume window over", "session.resume_ms is 3000")
        check_equal(
            [record["kind"] for record in why(broker, "carol")][:2],
            ["offline", "detached"],
            "the last two",
        )


def scene_heartbeat():
    with Broker({"session.heartbeat_ms": 500}) as broker, Client(broker) as client:
        client.login("dave")
        record = wait_why(
            broker, "dave", "heartbeat lost", "silent for", "session.heartbeat_ms is 500"
        )
        check(record["value"] >= 1500, f"silent for {record['value']} ms")


def scene_slow_consumer():
    """Neither one who does not read for long, nor one who asks for more than he reads."""
    options = {
        "limits.output_soft_ms": 500,
        "limits.output_soft_bytes": 4096,
        "limits.requests_per_second": 0,
        "limits.requests_per_second_per_source": 0,
    }
    with Broker(options) as broker, Client(broker, receive_buffer=4096) as slow:
        with Client(broker) as fast:
            slow.login("erin", acks=False)
            fast.login("frank")
            payload = b"x" * 30000

            def full():
                for _ in range(20):
                    fast.post("send", to="erin", payload=payload, id=0)
                fast.ping()
                newest = why(broker, "erin")[0]
                return "slow consumer" in newest["text"] and newest

            record = eventually(full, "erin is closed", SECONDS)
            check_equal(record["limit"], "limits.output_soft_ms", "which limit")
            check("limits.output_soft_ms is 500" in record["text"], record["text"])
            check(record["value"] > 0, "bytes that waited")


def scene_rules():
    """Broken frames, too many requests: the reason in words, and the limit with its numbers."""
    with Broker({"limits.requests_per_second": 5, "limits.frame_bytes": 4096}) as broker:
        with Client(broker) as client:
            client.login("gina")
            client.send_bytes(b"\x02\xff\xff")
            wait_why(broker, "gina", "broke the rules", "not a valid ClientFrame")
        with Client(broker) as client:
            client.login("gina")
            client.send_bytes(b"\xff\xff\x7f")
            wait_why(broker, "gina", "broke the rules", "limits.frame_bytes is 4096")
        with Client(broker) as client:
            client.login("hank")
            for _ in range(40):
                client.post("ping", id=0)
            wait_why(broker, "hank", "limits.requests_per_second is 5", "refused in a row")


def scene_token_over():
    key = Key("EdDSA", "a")
    options = {"auth.session_ends": "with_token", "auth.skew_ms": 0}
    with Keys(key) as keys, keys.broker(options) as broker, Client(broker) as client:
        client.login("iris", token=key.sign("iris", ttl=2))
        wait_why(broker, "iris", "token expired", where(client))
        for _ in range(2):
            with Client(broker) as other:
                other.post("login", username="iris", token=b"nonsense")
                other.read_to_end()
        record = wait_why(broker, "iris", "login refused 2 times", "not a token", "127.0.0.1")
        check_equal(record["count"], 2, "equal refusals are one record")
        with Client(broker) as other:
            other.post("resume", username="iris", epoch=1, secret=b"s" * 16)
            other.expect_error("RESUME_REJECTED")
        wait_why(broker, "iris", "resume refused", "another secret")


# --- across the ends of the process --------------------------------------------------------------


def scene_restart_and_kill():
    with Broker() as broker:
        with Backend(broker, service="match", instance="m1") as match:
            with Client(broker) as client:
                client.login("alice")
                match.kick("alice", detail="cheating")
                client.expect_close("KICKED")
            online = Client(broker)
            online.login("bob")
            before = wait_why(broker, "alice", '"cheating"')
        broker.stop()
        broker.start()
        check_equal(why(broker, "alice")[0], before, "the same after a stop and a start")
        wait_why(broker, "bob", "sent away", "the node was stopped")
        with Client(broker) as client:
            client.login("carol")
            broker.kill()
        broker.start()
        wait_why(broker, "carol", "cut off", "without a goodbye")
        check_equal(why(broker, "alice")[0], before, "the same after kill -9")
        code, out, _ = ctl(broker, "why", "nobody")
        check_equal(code, 1, "exit code for somebody unknown")
        check("nobody is not known here" in out and "goes back to" in out, out)


def scene_drain():
    with Broker() as broker:
        with Client(broker) as client:
            client.login("alice")
            code, _, errors = ctl(broker, "drain", "--seconds", "1")
            check_equal(code, 0, errors)
            client.read_to_end(20)
            broker._wait_end(30)
        broker.start()
        wait_why(broker, "alice", "sent away", "the node was drained")


def scene_all_that_was_told_is_there():
    """kill -9 at any moment: whoever was welcomed has a record of that login."""
    names = 0
    with Broker({"session.resume_ms": 3600000}) as broker:
        for _ in range(max(2, scaled(6, 3))):
            told = {}
            for _ in range(20):
                names += 1
                client = Client(broker)
                told[f"user{names}"] = client.login(f"user{names}").epoch
                client.drop()
            broker.kill()
            broker.start()
            for name, epoch in told.items():
                epochs = [r["epoch"] for r in why(broker, name) if r["kind"] == "online"]
                check(epoch in epochs, f"{name} was welcomed with {epoch}; there are {epochs}")


# --- bounds --------------------------------------------------------------------------------------


def ends_of(broker, names):
    return [name for name in names if why(broker, name)]


def scene_bounds():
    """Each user makes two records, online and offline: of 40 are 20 kept."""
    options = {"history.events": 20, "limits.logins_per_minute_per_source": 0}
    with Broker(options) as broker:
        names = [f"user{number}" for number in range(20)]
        for name in names:
            with Client(broker) as client:
                client.login(name)
                client.ask("logout")
                client.read_to_end()
        check_equal(ends_of(broker, names), names[10:], "who is in a history of 20 records")
        check_equal(len(why(broker, "user19", 200)), 2, "of each, both")
        with Client(broker) as client:
            client.login("one-more")
        eventually(lambda: len(why(broker, "one-more")) == 2, "detached", SECONDS)
        check_equal(ends_of(broker, names), names[11:], "two more push two out")
    with Broker({"history.events": 0}) as broker, Client(broker) as client:
        client.login("alice")
        check_equal(why(broker, "alice"), [], "a history of nothing")
        check("alice is online" in words(broker, "alice"), "but who is there is there")


def scene_no_sync_more():
    """As many commits as without: whoever logs in alone costs one."""
    counts = {}
    for events in (0, 1000):
        with Broker({"history.events": events, "admin.listen": "127.0.0.1:0"}) as broker:
            before = broker.numbers()["commits"]
            for number in range(10):
                with Client(broker) as client:
                    client.login(f"user{number}")
                    client.ask("logout")
                    client.read_to_end()
            counts[events] = broker.numbers()["commits"] - before
            check_equal(broker.numbers()["history_stored"], 20 if events else 0, "records")
    check_equal(counts[1000], counts[0], "commits with and without")


def scene_full_map():
    """A map that is full of sessions: the history was the first to go without, and lets the users have its
    room; what is missing is counted."""
    options = {
        "store.map_bytes": 1 << 20,
        "store.events_kept": 1024,
        "session.resume_ms": 3600000,
        "admin.listen": "127.0.0.1:0",
    }
    with Broker(options) as broker, People(broker) as people:
        broker.ends_with = (0, UNSAVED)
        admitted = 0
        while people.outcomes["UNAVAILABLE"] == 0:
            names = [f"player-{admitted + more:05}-" + "x" * 50 for more in range(40)]
            for client in people.logins(names):
                client.close()
            admitted += len(names)
            check(admitted < 20000, "the map never gets full")
        missing = broker.numbers()["history_missing"]
        print(f"     {admitted} users in a map of 1 MiB, {missing} records left out")
        check(admitted > 1000 and missing > 0, "who got in, and what was left out")


# --- other people's bytes ------------------------------------------------------------------------


def scene_hostile_texts():
    evil = 'x"\x1b]0;owned\x07\x1b[2J\r\nalice is fine\u202e"'
    with Broker() as broker, Backend(broker, service="match", instance="m1") as match:
        with Client(broker) as client:
            client.login("alice", client=evil)
            match.kick("alice", detail=evil)
            client.expect_close("KICKED")
        wait_why(broker, "alice", "kicked by service match")
        for arguments in (("why", "alice"), ("--json", "why", "alice")):
            _, out, _ = ctl(broker, *arguments)
            for sign in ("\x1b", "\x07", "\r", "\u202e"):
                check(sign not in out, f"{sign!r} in {out!r}")
        lines = words(broker, "alice").splitlines()
        check(
            not any(line.startswith("alice is fine") for line in lines), f"a forged line: {lines}"
        )
        for name in ("", "../x", "a" * 65, "a b", "\x1b[2J", "%s%n"):
            code, out, errors = ctl(broker, "why", name)
            check(code == 1, f"why {name!r}: {code} {out} {errors}")
            check("\x1b" not in out + errors, f"{name!r} on a terminal")
        broker.check_alive()


play(
    scene_login_takeover_logout,
    scene_kicked,
    scene_lost_and_back,
    scene_heartbeat,
    scene_slow_consumer,
    scene_rules,
    scene_token_over,
    scene_restart_and_kill,
    scene_drain,
    scene_all_that_was_told_is_there,
    scene_bounds,
    scene_no_sync_more,
    scene_full_map,
    scene_hostile_texts,
)
