# SPDX-License-Identifier: Apache-2.0
"""Friends: what clients are shown of those they watch, and what not."""

import time

from usherplay import Broker, Client, check, check_equal, eventually, play, scaled
from usherplay.client import Crowd
from usherplay.friends import AWAY, OFFLINE, ONLINE, Watcher, watcher

OPEN = {
    "friends.mode": "open",
    "friends.batch_ms": 100,
    "limits.logins_per_minute_per_user": 0,
}


def broker_of(**options):
    return Broker({**OPEN, **{key.replace("__", "."): value for key, value in options.items()}})


def scene_shown():
    """A login and a logout are shown, with when; who is not known is offline."""
    with broker_of() as broker:
        ann = watcher(broker, "ann")
        before_ms = int(time.time() * 1000) - 2
        bob = watcher(broker, "bob")
        check_equal(ann.watch(["bob", "cid", "nobody"]), "done", "the Watch")
        ann.until(lambda: len(ann.shown) == 3, "three states")
        check_equal(ann.shown["bob"], (ONLINE, b""), "bob")
        check_equal(ann.shown["cid"], (OFFLINE, b""), "cid")
        check(before_ms <= ann.since["bob"] <= time.time() * 1000 + 2, "since when bob is online")
        check_equal(ann.since["nobody"], 0, "since when nobody is offline")
        cid = watcher(broker, "cid")
        ann.until_shown("cid", ONLINE)
        check(before_ms <= ann.since["cid"] <= time.time() * 1000 + 2, "since when cid is online")
        check_equal(cid.ask("logout").WhichOneof("body"), "done", "the Logout")
        ann.until_shown("cid", OFFLINE)
        check(ann.since["cid"] > before_ms, "since when cid is offline")
        check_equal(ann.snapshots, 1, "snapshots")
        check_equal(ann.changes, [("cid", ONLINE), ("cid", OFFLINE)], "changes")
        check_equal(bob.quiet(0.2), 0, "what bob is shown, who watches nobody")


def scene_status():
    """A status is seen by who watches, counts once a second, ends with the login that said it; an
    invisible one is offline to clients, and online to backends."""
    from usherplay import Backend

    with broker_of() as broker, Backend(broker, "ops") as ops:
        ann, bob = watcher(broker, "ann"), watcher(broker, "bob")
        check_equal(bob.say(b"x" * 129), "TOO_LARGE", "129 bytes")
        check_equal(bob.say(b"in the lobby"), "done", "a status")
        check_equal(ann.watch(["bob"]), "done", "the Watch")
        ann.until_shown("bob", ONLINE, b"in the lobby")
        for number in range(20):
            check_equal(bob.say(b"match %d" % number), "done", "a status in between")
        ann.until_shown("bob", ONLINE, b"match 19")
        check(len(ann.changes) <= 2, f"20 statuses in a second were {ann.changes}")
        bob.quiet(1.1)
        check_equal(bob.say(b"y" * 128), "done", "128 bytes")
        ann.until_shown("bob", ONLINE, b"y" * 128)
        bob.quiet(1.1)
        check_equal(bob.say(b"still here", invisible=True), "done", "invisible")
        ann.until_shown("bob", OFFLINE, b"")
        check_equal(ops.lookup("bob").sessions[0].state, 1, "what backends see")
        # He leaves, and comes back: a login of a new epoch, which has said nothing.
        check_equal(bob.ask("logout").WhichOneof("body"), "done", "the Logout")
        check_equal(ann.quiet(0.4), 0, "what is shown of an invisible one who leaves")
        bob = watcher(broker, "bob")
        ann.until_shown("bob", ONLINE, b"")
        check_equal(bob.say(b"back"), "done", "a status")
        ann.until_shown("bob", ONLINE, b"back")
        bob2 = watcher(broker, "bob")  # a takeover: another login, which has said nothing either
        ann.until_shown("bob", ONLINE, b"")
        check_equal(bob2.say(b""), "done", "an empty status")
        check_equal(ann.quiet(0.4), 0, "what an empty status changes")
        cid = watcher(broker, "cid")
        check_equal(bob2.quiet(1.1), 0, "")
        check_equal(bob2.say(b"hidden", invisible=True), "done", "invisible")
        ann.until_shown("bob", OFFLINE)
        cid.watch(["bob"])
        cid.until_shown("bob", OFFLINE, b"")


def scene_resume():
    """Nothing of a lost connection is shown within the window; who resumes gets a snapshot, and
    then what comes; the end of the window is shown."""
    with broker_of(session__resume_ms=3000) as broker:
        ann, bob = watcher(broker, "ann"), watcher(broker, "bob")
        ann.watch(["bob"])
        ann.until_shown("bob", ONLINE)
        bob.drop()
        check_equal(ann.quiet(0.5), 0, "what is shown of a lost connection")
        back = Watcher(broker, after=bob)
        back.resume(bob.welcome, 0)
        check_equal(ann.quiet(0.5), 0, "what is shown of a resume")
        ann.drop()
        dan = watcher(broker, "dan")
        back.ask("logout")
        again = Watcher(broker, after=ann)
        again.resume(ann.welcome, 0)
        again.until(lambda: again.snapshots == 1, "a snapshot")
        again.until_shown("bob", OFFLINE)  # in it, or right behind it
        check_equal(again.shown, {"bob": (OFFLINE, b"")}, "the snapshot")
        check_equal(again.watch(["dan"], ["bob"]), "done", "another Watch")
        again.until(lambda: again.shown.keys() == {"dan"}, "dan alone")
        dan.drop()
        again.until_shown("dan", OFFLINE)  # the window is over
        check_equal(again.changes, [("dan", OFFLINE)], "changes")


def scene_away():
    """friends.show_away shows it."""
    with broker_of(friends__show_away="true", session__resume_ms=60000) as broker:
        ann, bob = watcher(broker, "ann"), watcher(broker, "bob")
        bob.say(b"hello")
        ann.watch(["bob"])
        ann.until_shown("bob", ONLINE, b"hello")
        bob.drop()
        ann.until_shown("bob", AWAY, b"hello")
        cid = watcher(broker, "cid")
        cid.watch(["bob"])
        cid.until_shown("bob", AWAY)
        back = Watcher(broker, after=bob)
        back.resume(bob.welcome, 0)
        ann.until_shown("bob", ONLINE, b"hello")
        cid.until_shown("bob", ONLINE, b"hello")


def scene_takeover():
    """What the client asked for ends with the login."""
    with broker_of() as broker:
        ann, bob = watcher(broker, "ann"), watcher(broker, "bob")
        ann.watch(["bob"])
        ann.until_shown("bob", ONLINE)
        ann2 = watcher(broker, "ann")
        ann2.settle()
        bob.ask("logout")
        check_equal(ann2.quiet(0.5), 0, "what another login is shown")
        eventually(lambda: pairs_of(broker) == 0, "no pairs are left")
        check_equal(ann2.watch(["bob"]), "done", "the Watch of the other one")
        ann2.until_shown("bob", OFFLINE)


def pairs_of(broker):
    return figure(broker, "friends_pairs")


def figure(broker, name):
    from usherplay import Backend, backend_pb

    with Backend(broker, hello=False) as tool:
        stats = tool.query(backend_pb.Command(stats=backend_pb.Stats()))
        return {row.name: row.value for row in stats.numbers.numbers}[name]


def scene_limits():
    """Each limit at n and at n + 1; what is refused changes nothing; pairs are given back."""
    with broker_of(friends__targets=5, friends__watchers=3, friends__pairs=9) as broker:
        ann, bob, cid, dan, eve = (
            watcher(broker, name) for name in ("ann", "bob", "cid", "dan", "eve")
        )
        check_equal(ann.watch(["t1", "t2", "t3", "t4", "t5", "t6"]), "ROOM_FULL", "6 at once")
        check_equal(ann.watch(["t1", "t2", "t3", "t4", "t5"]), "done", "5")
        ann.until(lambda: len(ann.shown) == 5, "five states")
        check_equal(ann.watch(["t6"]), "ROOM_FULL", "the 6th")
        check_equal(ann.watch(["t6"], ["t1"]), "done", "one for another")
        ann.until(lambda: ann.shown.keys() == {"t2", "t3", "t4", "t5", "t6"}, "five others")
        check_equal(ann.watch(["t2", "t2", "t3"]), "done", "those that are watched already")
        check_equal(pairs_of(broker), 5, "pairs")
        check_equal(bob.watch(["t2", "t3"]), "done", "bob's")
        check_equal(cid.watch(["t2"]), "done", "cid's")
        check_equal(pairs_of(broker), 8, "pairs")
        check_equal(dan.watch(["t2"]), "done", "a fourth watcher")
        dan.until(lambda: dan.snapshots > 0, "a snapshot without him")
        dan.settle()
        check_equal(dan.shown, {}, "who has his watchers is left out")
        eventually(lambda: pairs_of(broker) == 8, "the fourth is given back")
        check_equal(figure(broker, "friends_watchers_full"), 1, "counted")
        check_equal(eve.watch(["x", "y"]), "BUSY", "two, where one pair is left")
        check_equal(eve.watch(["x"]), "done", "the last pair")
        check_equal(dan.watch(["x"]), "BUSY", "one more")
        check_equal(figure(broker, "friends_pairs_full"), 2, "counted")
        for client in (ann, bob, cid, dan, eve):
            client.ask("logout")
        eventually(lambda: pairs_of(broker) == 0, "all are given back")


def scene_names():
    """Names that none can have, many at once, many times the same."""
    with broker_of(friends__targets=1000) as broker:
        ann = watcher(broker, "ann")
        for name in ("", " ", "a b", "!w0", "#room", "a/b", "ü", "x" * 65, "a" * 300):
            check_equal(ann.watch([name]), "INVALID_NAME", f"Watch of {name!r}")
            check_equal(ann.watch(["ok", name]), "INVALID_NAME", "one such among others")
            check_equal(ann.watch([], [name]), "INVALID_NAME", f"remove of {name!r}")
        check_equal(pairs_of(broker), 0, "nothing of it is kept")
        names = [f"{'n' * 56}{number:08}" for number in range(1000)]
        began = time.monotonic()
        for first in range(0, 1000, 200):
            check_equal(ann.watch(names[first : first + 200]), "done", "200 long names")
        ann.until(lambda: len(ann.shown) == 1000, "a thousand states")
        check_equal(pairs_of(broker), 1000, "pairs")
        check_equal(ann.watch(["one-more"]), "ROOM_FULL", "one more")
        check_equal(ann.watch([names[7]] * 100, names[:100]), "done", "one name 100 times")
        ann.until(lambda: len(ann.shown) == 901, "901 are left")
        check_equal(pairs_of(broker), 901, "pairs")
        bob = watcher(broker, "n" * 56 + "00000999")
        ann.until_shown(bob.name, ONLINE)
        for first in range(0, 1000, 200):
            check_equal(ann.watch([], names[first : first + 200]), "done", "200 taken away")
        ann.until(lambda: ann.shown == {}, "an empty snapshot")
        check_equal(pairs_of(broker), 0, "pairs")
        print(f"     a thousand names: {time.monotonic() - began:.2f} s")


def scene_herd():
    """A crowd that comes back within its window causes nothing beyond snapshots."""
    count = scaled(300, 30)
    with broker_of(session__resume_ms=120000) as broker, Crowd() as crowd:
        clients = [watcher(broker, f"u{number}") for number in range(count)]
        for number, client in enumerate(clients):
            client.watch([f"u{(number + step) % count}" for step in range(1, 11)])
        for client in clients:
            client.until(
                lambda: len(client.shown) == 10
                and all(state == ONLINE for state, _ in client.shown.values()),
                "ten friends online",
            )
        for client in clients:
            client.drop()
        back = []
        for client in clients:
            again = Watcher(broker, after=client)
            again.resume(client.welcome, 0)
            back.append(again)
            crowd.add(again)
        crowd.until(lambda: all(len(client.shown) == 10 for client in back), "all snapshots")
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            crowd.read(0.05)
        for client in back:
            check_equal(client.snapshots, 1, f"snapshots of {client.name}")
            check_equal(client.states_seen, 10, f"states told to {client.name}")


def scene_toggles():
    """However often somebody changes within a window, each of his watchers gets one state at most."""
    logins = scaled(300, 30)
    with broker_of(friends__batch_ms=3000, limits__takeovers_per_minute=0) as broker:
        watchers = [watcher(broker, f"w{number}") for number in range(5)]
        for client in watchers:
            client.watch(["bob"])
            client.until_shown("bob", OFFLINE)
        began = time.monotonic()
        for _ in range(logins):
            with Client(broker) as bob:
                bob.login("bob")
                bob.ask("logout")
        bob = watcher(broker, "bob")
        windows = (time.monotonic() - began) / 3 + 1
        for client in watchers:
            client.until_shown("bob", ONLINE)
            check(
                len(client.changes) <= windows,
                f"{2 * logins} toggles in {windows:.1f} windows were {len(client.changes)} states",
            )
        check(figure(broker, "friends_events") >= 2 * logins, "they were events")
        # On, off and on again within one window is nothing.
        for client in watchers:
            client.quiet(0.1)
        bob.ask("logout")
        bob = watcher(broker, "bob")
        for client in watchers:
            before = len(client.changes)
            check_equal(client.quiet(0.2), 0, "what is told before the window ends")
            check_equal(len(client.changes), before, "changes")
        time.sleep(3.5)
        for client in watchers:
            check_equal(client.quiet(0.2), 0, "what off and on again tells")


def scene_at_once():
    """friends.batch_ms 0: each change is told at once, every one of them."""
    with broker_of(friends__batch_ms=0) as broker:
        ann = watcher(broker, "ann")
        ann.watch(["bob"])
        ann.until_shown("bob", OFFLINE)
        for _ in range(20):
            bob = watcher(broker, "bob")
            ann.until_shown("bob", ONLINE)
            bob.ask("logout")
            ann.until_shown("bob", OFFLINE)
        check_equal(len(ann.changes), 40, "changes")


def scene_kill():
    """kill -9: sessions are there again, watches and statuses are not."""
    broker = broker_of(session__resume_ms=60000)
    try:
        ann, bob = watcher(broker, "ann"), watcher(broker, "bob")
        bob.say(b"hello")
        ann.watch(["bob"])
        ann.until_shown("bob", ONLINE, b"hello")
        broker.kill()
        broker.start()
        ann2 = Watcher(broker, after=ann)
        ann2.resume(ann.welcome, 0)
        check_equal(ann2.quiet(0.3), 0, "what is shown of the watches before")
        check_equal(ann2.watch(["bob", "cid"]), "done", "the Watch again")
        ann2.until(lambda: len(ann2.shown) == 2, "both")
        check_equal(ann2.shown["bob"], (ONLINE, b""), "bob, who may come back")
        bob2 = Watcher(broker, after=bob)
        bob2.resume(bob.welcome, 0)
        check_equal(ann2.quiet(0.4), 0, "what his resume shows")
        bob2.ask("logout")
        ann2.until_shown("bob", OFFLINE)
    finally:
        broker.close()


def scene_many():
    """One user whom many watch: all are told, by one change."""
    count = scaled(1000, 50)
    with broker_of(friends__watchers=count) as broker, Crowd() as crowd:
        bob = watcher(broker, "bob")
        fans = [watcher(broker, f"f{number}") for number in range(count)]
        for fan in fans:
            fan.send_frame(fan.watch_frame(["bob"]))
            crowd.add(fan)
        crowd.until(lambda: all(fan.shown.get("bob", (0,))[0] == ONLINE for fan in fans), "online")
        bob.ask("logout")
        crowd.until(lambda: all(fan.shown["bob"][0] == OFFLINE for fan in fans), "offline")
        late = watcher(broker, "late")
        late.watch(["bob"])
        late.until(lambda: late.snapshots > 0, "a snapshot")
        late.settle()
        check_equal(late.shown, {}, "one more than friends.watchers")
        for fan in fans[: count // 2]:
            fan.send_frame(fan.watch_frame([], ["bob"]))
        eventually(lambda: pairs_of(broker) == count - count // 2, "half of them leave")
        check_equal(late.watch(["bob"]), "done", "now there is room")
        late.until_shown("bob", OFFLINE)


def scene_slow():
    """Who does not read is told the newest of each when he does, and nobody else waits for him."""
    targets = [f"t{number}" for number in range(150)]
    with broker_of(
        friends__batch_ms=0, limits__output_soft_bytes=4096, limits__frame_bytes=4096
    ) as broker:
        people = [watcher(broker, name) for name in targets]
        slow = watcher(broker, "slow", receive_buffer=4096)
        quick = watcher(broker, "quick")
        for client in (slow, quick):
            client.watch(targets)
        quick.until(lambda: len(quick.shown) == 150, "150 states")
        for turn in range(8):
            for person in people:
                person.say(bytes([65 + turn]) * 128)
            quick.until(
                lambda: all(
                    status == bytes([65 + turn]) * 128 for _, status in quick.shown.values()
                ),
                f"round {turn}",
            )
        slow.until(
            lambda: len(slow.shown) == 150
            and all(status == b"H" * 128 for _, status in slow.shown.values()),
            "the newest of each",
        )
        check(slow.states_seen <= quick.states_seen, "the slow one was not told more")


def scene_off():
    """friends.mode off, and backend: clients may not watch."""
    for mode, say in (("off", "FORBIDDEN"), ("backend", "done")):
        with Broker({"friends.mode": mode}) as broker:
            ann = watcher(broker, "ann")
            check_equal(ann.watch(["bob"]), "FORBIDDEN", f"a Watch with {mode}")
            check_equal(ann.say(b"hello"), say, f"a SetStatus with {mode}")
            check_equal(ann.quiet(0.3), 0, "states")


def scene_rate():
    """Many names in one Watch are more work than one request, and count as more."""
    with Broker({**OPEN, "limits.requests_per_second": 100}) as broker:
        ann = watcher(broker, "ann")
        names = [f"friend{i}" for i in range(160)]
        few = [ann.watch_frame([], names[:1]) for _ in range(30)]
        for frame in few:
            ann.send_frame(frame)
        check_equal({ann.word(frame.id) for frame in few}, {"done"}, "Watches of one name")
        many = [ann.watch_frame(names if i % 2 else [], [] if i % 2 else names) for i in range(30)]
        for frame in many:
            ann.send_frame(frame)
        words = [ann.word(frame.id) for frame in many]
        check_equal(words[0], "done", "the first one of many names")
        check(words.count("done") < 25, f"so many passed: {words.count('done')}")
        check_equal(set(words), {"done", "RATE_LIMITED"}, "answers")


if __name__ == "__main__":
    play(
        scene_shown,
        scene_status,
        scene_resume,
        scene_away,
        scene_takeover,
        scene_limits,
        scene_names,
        scene_herd,
        scene_toggles,
        scene_at_once,
        scene_kill,
        scene_many,
        scene_slow,
        scene_off,
        scene_rate,
    )
