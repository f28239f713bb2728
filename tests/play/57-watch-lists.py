# SPDX-License-Identifier: Apache-2.0
"""Friends whom services choose: WatchList, and the answers of friends.service."""

import threading
import time

from usherplay import (
    Backend,
    Broker,
    LinkRefused,
    backend_pb,
    check,
    check_equal,
    eventually,
    play,
    scaled,
    seed,
)
from usherplay.client import Crowd
from usherplay.friends import (
    ADD,
    OFFLINE,
    ONLINE,
    REMOVE,
    SET,
    Watcher,
    code_of,
    give_list,
    watch_list,
    watcher,
)

from usherplay.friends_history import check_friends, note_events
from usherplay.history import History


def broker_of(**options):
    return Broker(
        {
            "friends.mode": "backend",
            "friends.batch_ms": 100,
            "limits.logins_per_minute_per_user": 0,
            **{key.replace("__", "."): value for key, value in options.items()},
        }
    )


def pairs_of(broker):
    with Backend(broker, hello=False) as tool:
        stats = tool.query(backend_pb.Command(stats=backend_pb.Stats()))
        return {row.name: row.value for row in stats.numbers.numbers}["friends_pairs"]


def scene_modes():
    """SET, ADD and REMOVE, and what each is answered."""
    with broker_of() as broker, Backend(broker, "social") as social:
        check_equal(give_list(social, "ann", ["bob"])[0], "NOT_ONLINE", "nobody of that name")
        check_equal(
            give_list(social, "!w0", ["bob"])[0], "NOT_ONLINE", "a name of the broker's own"
        )
        ann, bob = watcher(broker, "ann"), watcher(broker, "bob")
        epoch = ann.welcome.epoch
        check_equal(give_list(social, "ann", ["bob"], epoch=epoch + 1)[0], "STALE_EPOCH", "epoch")
        check_equal(give_list(social, "ann", ["bob", "cid"]), ("OK", 2, {}), "SET")
        ann.until(lambda: len(ann.shown) == 2, "two states")
        check_equal(ann.shown, {"bob": (ONLINE, b""), "cid": (OFFLINE, b"")}, "the picture")
        check_equal(give_list(social, "ann", ["dan"], ADD, epoch), ("OK", 1, {}), "ADD")
        ann.until(lambda: len(ann.shown) == 3, "three states")
        check_equal(give_list(social, "ann", ["bob", "nobody"], REMOVE), ("OK", 2, {}), "REMOVE")
        ann.until(lambda: ann.shown.keys() == {"cid", "dan"}, "two are left")
        names = ["cid", "", "a b", "x" * 65, "x" * 300, "eve"]
        code, accepted, failures = give_list(social, "ann", names)
        check_equal((code, accepted), ("OK", 2), "a list with names that are none")
        check_equal(set(failures.values()), {"MALFORMED"}, "their codes")
        check_equal(len(failures), 4, "how many are none")
        ann.until(lambda: ann.shown.keys() == {"cid", "eve"}, "cid and eve")
        check_equal(give_list(social, "ann", ["a b"], ADD)[0], "MALFORMED", "one that is none")
        check_equal(give_list(social, "ann", []), ("OK", 0, {}), "an empty SET")
        ann.until(lambda: ann.shown == {}, "nobody is left")
        check_equal(pairs_of(broker), 0, "pairs")
        command = watch_list("ann", ["bob"])
        command.watch_list.mode = 7
        check_equal(code_of(social.submit(command)[0]), "MALFORMED", "a mode that is none")
        with Backend(broker, hello=False) as tool:
            try:
                tool.query(watch_list("ann", ["bob"]))
                check(False, "a WatchList without a link was taken")
            except LinkRefused as refused:
                check_equal(refused.code, "MALFORMED", "a WatchList without a link")
        check_equal(bob.quiet(0.2), 0, "what bob is shown")
    with Broker({"friends.mode": "off"}) as broker, Backend(broker, "social") as social:
        watcher(broker, "ann")
        check_equal(give_list(social, "ann", ["bob"])[0], "FORBIDDEN", "with friends.mode off")


def scene_limits():
    """Each limit at n and n + 1."""
    with broker_of(friends__targets=4, friends__watchers=2, friends__pairs=7) as broker:
        with Backend(broker, "social") as social:
            people = [watcher(broker, name) for name in ("ann", "bob", "cid")]
            ann = people[0]
            check_equal(give_list(social, "ann", list("abcde"))[0], "FULL", "5 targets")
            check_equal(give_list(social, "ann", list("abcd")), ("OK", 4, {}), "4 targets")
            check_equal(give_list(social, "ann", ["e"], ADD)[0], "FULL", "the 5th")
            check_equal(give_list(social, "ann", list("efgh")), ("OK", 4, {}), "4 others")
            ann.until(lambda: ann.shown.keys() == set("efgh"), "four others")
            check_equal(give_list(social, "bob", ["e"]), ("OK", 1, {}), "the 2nd watcher of e")
            check_equal(give_list(social, "cid", ["e"])[0], "FULL", "the 3rd")
            check_equal(
                give_list(social, "cid", ["e", "z"]),
                ("OK", 1, {"e": "FULL"}),
                "the 3rd among others",
            )
            eventually(lambda: pairs_of(broker) == 6, "what was full is given back")
            check_equal(give_list(social, "cid", ["y", "x"], ADD)[0], "FULL", "two pairs more")
            check_equal(give_list(social, "cid", ["y", "x"]), ("OK", 2, {}), "two for one")
            check_equal(pairs_of(broker), 7, "pairs")
            check_equal(give_list(social, "ann", ["i"])[0], "OK", "one for four")
            check_equal(pairs_of(broker), 4, "pairs")
            for client in people:
                client.ask("logout")
            eventually(lambda: pairs_of(broker) == 0, "all are given back")


def scene_revoke():
    """Once a REMOVE is answered its target is told no more, however much goes on with him."""
    rounds = scaled(60, 10)
    with broker_of(friends__batch_ms=0) as broker, Backend(broker, "social") as social:
        ann = watcher(broker, "ann")
        stop = threading.Event()

        def come_and_go():
            while not stop.is_set():
                bob = watcher(broker, "bob")
                bob.say(b"here")
                bob.ask("logout")
                bob.close()

        thread = threading.Thread(target=come_and_go)
        thread.start()
        try:
            for _ in range(rounds):
                check_equal(give_list(social, "ann", ["bob"], ADD), ("OK", 1, {}), "ADD")
                ann.until(lambda: "bob" in ann.shown and len(ann.changes) > 0, "a change of bob")
                check_equal(give_list(social, "ann", ["bob"], REMOVE), ("OK", 1, {}), "REMOVE")
                ann.settle()  # all that was sent before the result has been read
                ann.until(lambda: "bob" not in ann.shown, "the snapshot without him")
                ann.changes.clear()
                check_equal(ann.quiet(0.05), 0, "what is told of bob afterwards")
        finally:
            stop.set()
            thread.join()


def scene_history():
    """Some who watch, some who come and go, lists that change, connections that are lost: rules F1 to F3
    over all of it."""
    random = seed()
    history = History()
    with broker_of(session__resume_ms=60000) as broker, Backend(broker, "social") as social:
        with Backend(broker, presence=True) as follower:
            targets = [f"t{number}" for number in range(12)]
            here = {}
            watchers = []
            for number in range(4):
                watchers.append(Watcher(broker, history))
                watchers[-1].login(f"w{number}")
            for _ in range(scaled(400, 40)):
                churn(random, broker, social, history, targets, here, watchers)
            time.sleep(0.5)
            for client in watchers:
                client.settle()
            last = social.query(backend_pb.Command(snapshot=backend_pb.Snapshot(limit=1)))
            follower.wait_events(
                lambda events: events and events[-1].seq >= last.sessions.presence_seq, "the last"
            )
            note_events(history, follower.events)
            history.add("quiet")
    check_friends(history)
    shown = sum(entry.kind == "shown" for entry in history.entries)
    print(f"     {shown} states, {len(follower.events)} events")


def churn(random, broker, social, history, targets, here, watchers):
    what = random.random()
    place = random.randrange(len(watchers))
    client = watchers[place]
    if what < 0.5:
        come_or_go(random, broker, targets, here)
    elif what < 0.75:
        names = random.sample(targets, 3)
        for name in names:
            history.add("granted", user=client.name, peer=name)
        check_equal(give_list(social, client.name, names, ADD)[0], "OK", "ADD")
    elif what < 0.9:
        names = random.sample(targets, 3)
        check_equal(give_list(social, client.name, names, REMOVE)[0], "OK", "REMOVE")
        client.settle()
        for name in names:
            history.add("revoked", user=client.name, peer=name)
    else:
        client.drop()
        watchers[place] = Watcher(broker, history, after=client)
        watchers[place].resume(client.welcome, 0)


def come_or_go(random, broker, targets, here):
    name = random.choice(targets)
    client = here.pop(name, None)
    if client is None:
        here[name] = watcher(broker, name)
    elif random.random() < 0.3:
        client.drop()
        here[name] = Watcher(broker, after=client)
        here[name].resume(client.welcome, 0)
    else:
        check_equal(client.ask("logout").WhichOneof("body"), "done", "the Logout")
        client.close()


def scene_takeover():
    """What a service made goes with the user, what his client made does not."""
    with broker_of(friends__mode="open") as broker, Backend(broker, "social") as social:
        ann, bob = watcher(broker, "ann"), watcher(broker, "bob")
        check_equal(ann.watch(["own"]), "done", "the client's own")
        check_equal(give_list(social, "ann", ["bob", "cid"]), ("OK", 2, {}), "a SET")
        ann.until(lambda: ann.shown.keys() == {"bob", "cid"}, "SET took the client's own away")
        check_equal(ann.watch(["own", "cid"]), "done", "the client's own again")
        ann.until(lambda: ann.shown.keys() == {"bob", "cid", "own"}, "three")
        check_equal(give_list(social, "ann", ["own2"], ADD), ("OK", 1, {}), "an ADD")
        ann2 = Watcher(broker)
        ann2.login("ann")
        ann2.until(lambda: ann2.shown.keys() == {"bob", "cid", "own2"}, "the snapshot at the login")
        check_equal(ann2.snapshots, 1, "snapshots")
        check_equal(pairs_of(broker), 3, "pairs")
        bob.ask("logout")
        ann2.until_shown("bob", OFFLINE)
        check_equal(
            give_list(social, "ann", ["dan"], ADD, ann.welcome.epoch)[0],
            "STALE_EPOCH",
            "the old login",
        )
        check_equal(ann2.watch(["own2"]), "done", "what a service made already")
        ann3 = Watcher(broker)
        ann3.login("ann")
        ann3.until(lambda: ann3.shown.keys() == {"bob", "cid", "own2"}, "the next login")
        ann3.ask("logout")
        eventually(lambda: pairs_of(broker) == 0, "no pairs without a session")
        ann4 = watcher(broker, "ann")
        check_equal(ann4.quiet(0.4), 0, "what a new session is shown")


def scene_detached():
    """A list that comes while nobody is connected is shown at the resume."""
    with broker_of(session__resume_ms=60000) as broker, Backend(broker, "social") as social:
        ann = watcher(broker, "ann")
        watcher(broker, "bob")
        ann.drop()
        eventually(lambda: social.lookup("ann").sessions[0].state == 2, "ann is detached")
        check_equal(give_list(social, "ann", ["bob", "cid"]), ("OK", 2, {}), "a list meanwhile")
        again = Watcher(broker, after=ann)
        again.resume(ann.welcome, 0)
        again.until(lambda: len(again.shown) == 2, "both")
        check_equal(again.snapshots, 1, "snapshots")


def scene_lists_of_all():
    """After a restart a service sends all lists again, many to a Submit."""
    count = scaled(200, 20)
    broker = broker_of(session__resume_ms=60000)
    try:
        clients = [watcher(broker, f"u{number}") for number in range(count)]
        lists = [
            watch_list(f"u{number}", [f"u{(number + step) % count}" for step in range(1, 11)])
            for number in range(count)
        ]
        for round in range(2):
            with Backend(broker, "social") as social, Crowd(clients) as crowd:
                for first in range(0, count, 50):
                    for result in social.submit(*lists[first : first + 50]):
                        check_equal((code_of(result), result.push.accepted), ("OK", 10), "a list")
                crowd.until(
                    lambda: all(len(client.shown) == 10 for client in clients), "all pictures"
                )
                for client in clients:
                    check(
                        all(state == ONLINE for state, _ in client.shown.values()),
                        f"{client.name} sees {client.shown}",
                    )
                for client in clients:
                    crowd.remove(client)
            if round == 0:
                broker.kill()
                broker.start()
                clients = [come_back(broker, client) for client in clients]
                check(not any(client.shown for client in clients), "pictures before the lists")
    finally:
        broker.close()


def come_back(broker, client):
    again = Watcher(broker, after=client)
    again.resume(client.welcome, 0)
    return again


class Judge:
    """An instance of friends.service that grants what `grants` gives of a WatchAsk; None: no answer."""

    def __init__(self, broker, grants):
        self.backend = Backend(broker, "social")
        self.grants = grants
        self.asks = []
        self.open = True
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while self.open:
            ask = self.backend.next_call(0.1, kind="watch")
            if ask is None:
                continue
            self.asks.append(ask)
            granted = self.grants(ask)
            if granted is None:
                continue
            status, payload = granted
            self.backend.reply(ask, status, payload)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.open = False
        self.thread.join()
        self.backend.close()


def grant(names):
    return 0, backend_pb.WatchGrant(targets=names).SerializeToString()


def scene_service():
    """friends.mode service: what it grants is watched, the rest is left out; a no, a silence, nobody
    there, and bytes that are no grant let nobody in."""
    answers = {
        "all": lambda ask: grant(ask.targets),
        "some": lambda ask: grant([name for name in ask.targets if name.startswith("b")]),
        "none": lambda ask: grant([]),
        "no": lambda ask: (7, b"no"),
        "junk": lambda ask: (0, b"\xff\xff\xff"),
        "bad names": lambda ask: grant(["a b", ""]),
        "many": lambda ask: grant([f"n{number}" for number in range(30)]),
        "silent": lambda ask: None,
    }
    how = ["all"]
    with broker_of(
        friends__mode="service",
        friends__service="social",
        friends__ask_ms=700,
        friends__targets=20,
    ) as broker:
        ann = watcher(broker, "ann")
        watcher(broker, "bob")
        check_equal(ann.watch(["bob"]), "NO_SERVICE", "with no instance")
        with Judge(broker, lambda ask: answers[how[0]](ask)) as judge:
            check_equal(ann.watch(["bob", "cid"]), "done", "granted")
            ann.until(lambda: ann.shown.keys() == {"bob", "cid"}, "both")
            ask = judge.asks[0]
            check_equal((ask.user, ask.epoch), ("ann", ann.welcome.epoch), "who is named")
            check_equal(list(ask.targets), ["bob", "cid"], "who is asked for")
            check(0 < ask.timeout_ms <= 700, f"the time left is {ask.timeout_ms}")
            how[0] = "some"
            check_equal(ann.watch(["dan", "ben"], ["cid"]), "done", "granted in part")
            ann.until(lambda: ann.shown.keys() == {"bob", "ben"}, "the one of them")
            for word, code in (
                ("none", "FORBIDDEN"),
                ("no", "FORBIDDEN"),
                ("junk", "FORBIDDEN"),
                ("bad names", "FORBIDDEN"),
                ("many", "ROOM_FULL"),
                ("silent", "TIMEOUT"),
            ):
                how[0] = word
                check_equal(ann.watch(["eve"]), code, f"an answer: {word}")
            asked = len(judge.asks)
            check_equal(ann.watch([], ["bob"]), "done", "who takes away is not judged")
            check_equal(len(judge.asks), asked, "asks")
            ann.until(lambda: ann.shown.keys() == {"ben"}, "ben alone")
            check_equal(pairs_of(broker), 1, "pairs")
            check_equal(ann.ping() < 20, True, "the connection goes on")


def scene_service_takeover():
    """An answer that comes after the login that asked is over is nobody's."""
    held = []
    with broker_of(friends__mode="service", friends__service="social") as broker:
        with Judge(broker, lambda ask: held.append(ask)) as judge:
            ann = watcher(broker, "ann")
            ann.send_frame(ann.watch_frame(["bob"]))
            eventually(lambda: held, "the ask")
            ann2 = watcher(broker, "ann")
            judge.grants = lambda ask: grant(ask.targets)
            judge.backend.reply(held[0], 0, grant(["bob"])[1])
            check_equal(ann2.quiet(0.3), 0, "what another login is shown")
            check_equal(pairs_of(broker), 0, "pairs")


if __name__ == "__main__":
    play(
        scene_modes,
        scene_limits,
        scene_revoke,
        scene_history,
        scene_takeover,
        scene_detached,
        scene_lists_of_all,
        scene_service,
        scene_service_takeover,
    )
