# SPDX-License-Identifier: Apache-2.0
"""Why was X disconnected: what `usherctl why` says is there after a restart and after kill -9, has its bounds,
gives way to everything else when there is no room, and shows nobody's bytes as anything but text. Each reason
by itself is in 92-why-reasons.py."""

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    eventually,
    play,
    scaled,
)
from usherplay.faults import People
from usherplay.why import ctl, wait_why, why, words

SECONDS = 30
UNSAVED = 75  # a full map has no room for what waits


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


def scene_many_records():
    """Of one user more than an answer may have: it is bounded, newest first, and says that there is more. Of a
    user whom nobody has seen there is nothing, however much is kept of others."""
    pairs = scaled(150, 110)
    options = {
        "limits.logins_per_minute_per_source": 0,
        "limits.logins_per_minute_per_user": 0,
        "limits.requests_per_second_per_source": 0,
    }
    with Broker(options) as broker:
        for _ in range(pairs):
            with Client(broker) as client:
                epoch = client.login("alice").epoch
                client.ask("logout")
                client.read_to_end()
        for last, most in ((1, 1), (20, 20), (200, 200)):
            records = why(broker, "alice", last)
            least = most if most < 200 else 100  # an answer is one frame of the link, too
            check(least <= len(records) <= most, f"{len(records)} records of --last {last}")
            check_equal(records[0]["epoch"], epoch, "the newest is the first")
            times = [record["time_ms"] for record in records]
            check_equal(times, sorted(times, reverse=True), "newest first")
        for last in ("1", "20", "200"):
            out = ctl(broker, "why", "alice", "--last", last)[1]
            check("There is more" in out, f"that there is more than --last {last}: {out[-200:]}")
        code, out, errors = ctl(broker, "--json", "why", "alice", "--last", "1000000")
        count = len(out.splitlines())
        check(code in (0, 64) and count <= 200, f"--last 1000000: {code}, {count} records {errors}")
        check_equal(why(broker, "somebody-else"), [], "of one whom nobody has seen")
        code, out, _ = ctl(broker, "why", "alice2")  # a name that begins like another
        check("alice2 is not known here" in out and code == 1, out)


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


def fill_a_map(events):
    """Users until one is refused; gives how many got in, and how many records were left out."""
    options = {
        "store.map_bytes": 1 << 20,
        "store.events_kept": 1024,
        "session.resume_ms": 3600000,
        "history.events": events,
        "admin.listen": "127.0.0.1:0",
    }
    with Broker(options) as broker, People(broker) as people:
        broker.ends_with = (0, UNSAVED)
        asked = 0
        while people.outcomes["UNAVAILABLE"] == 0:
            names = [f"player-{asked + more:05}-" + "x" * 50 for more in range(40)]
            for client in people.logins(names):
                client.close()
            asked += len(names)
            check(asked < 20000, "the map never gets full")
        return people.outcomes["welcome"], broker.numbers()["history_missing"]


def scene_full_map():
    """A map that is full of sessions: the history was the first to go without, and lets the users have all of
    its room, so that as many get in as without it; what is missing is counted."""
    without, none = fill_a_map(0)
    admitted, missing = fill_a_map(100000)
    print(f"     {admitted} users in a map of 1 MiB, {missing} records left out; {without} without")
    check(admitted > 1000 and missing > 0 and none == 0, "who got in, and what was left out")
    check(admitted >= without - 40, f"{admitted} got in with a history, {without} without")


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
        for name in (
            "",
            "../x",
            "a" * 65,
            "a b",
            "\x1b[2J",
            "%s%n",
            "\u00e4nna",
            "a\u202eb",
            "\U0001f3b2",
        ):
            code, out, errors = ctl(broker, "why", name)
            check(code == 1, f"why {name!r}: {code} {out} {errors}")
            check("\x1b" not in out + errors, f"{name!r} on a terminal")
        broker.check_alive()


play(
    scene_restart_and_kill,
    scene_drain,
    scene_all_that_was_told_is_there,
    scene_bounds,
    scene_many_records,
    scene_no_sync_more,
    scene_full_map,
    scene_hostile_texts,
)
