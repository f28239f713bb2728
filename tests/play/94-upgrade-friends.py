# SPDX-License-Identifier: Apache-2.0
"""Friends over a live upgrade: whoever watches goes on to see what is, each change once and in order, and
no snapshot that he has not asked for."""

import threading
import time

from usherplay import Backend, backend_pb, check, check_equal, eventually, play, scaled, seed
from usherplay.friends import (
    ADD,
    OFFLINE,
    ONLINE,
    Watcher,
    give_list,
    watcher,
)
from usherplay.friends_history import check_friends, note_events
from usherplay.history import History
from usherplay.successor import SucceededBroker

SLOW_SECONDS = 60
UPGRADES = scaled(8, least=3)


def broker_of(**options):
    return SucceededBroker(
        {
            "friends.mode": "open",
            "friends.batch_ms": 0,
            "link.grace_ms": 20000,
            "limits.logins_per_minute_per_user": 0,
            **{key.replace("__", "."): value for key, value in options.items()},
        },
        ws=True,
    )


def figure(broker, name):
    with Backend(broker, hello=False) as tool:
        stats = tool.query(backend_pb.Command(stats=backend_pb.Stats()))
        return {row.name: row.value for row in stats.numbers.numbers}[name]


def leave(client):
    check_equal(client.ask("logout").WhichOneof("body"), "done", "the answer to a Logout")
    client.close()


def scene_each_change_once():
    """Before, right before and right after each of several upgrades: what two watchers of both transports
    are told is exactly what has happened, behind one snapshot."""
    with broker_of() as broker:
        fans = [watcher(broker, "ann", over="tcp"), watcher(broker, "eve", over="ws")]
        bob, cid = watcher(broker, "bob"), watcher(broker, "cid")
        check_equal(cid.say(b"busy"), "done", "a status")
        for fan in fans:
            check_equal(fan.watch(["bob", "cid", "dan"]), "done", "the Watch")
            fan.until(lambda fan=fan: len(fan.shown) == 3, "three states")
            fan.until_shown("cid", ONLINE, b"busy")
            fan.changes.clear()
        wanted = []
        for _ in range(UPGRADES):
            leave(bob)
            broker.upgrade()
            bob = watcher(broker, "bob")
            wanted += [("bob", OFFLINE), ("bob", ONLINE)]
        leave(bob)
        wanted.append(("bob", OFFLINE))
        for fan in fans:
            fan.until_shown("bob", OFFLINE)
            check_equal(fan.quiet(0.3), 0, "what comes behind it")
            check_equal(fan.changes, wanted, f"what {fan.name} was told")
            check_equal(fan.snapshots, 1, "snapshots")
            check_equal(fan.shown["cid"], (ONLINE, b"busy"), "who has done nothing")
            check_equal(fan.shown["dan"], (OFFLINE, b""), "who has never been here")
        # What he says of himself has come over, and ends with his login.
        leave(cid)
        cid = watcher(broker, "cid")
        for fan in fans:
            fan.until_shown("cid", ONLINE, b"")
        check_equal(figure(broker, "friends_pairs"), 6, "pairs")
        for fan in fans:
            leave(fan)
        eventually(lambda: figure(broker, "friends_pairs") == 0, "no pairs are left", SLOW_SECONDS)


class Upgrades(threading.Thread):
    """Some, one after the other, while something else is done."""

    def __init__(self, broker, count):
        super().__init__(daemon=True)
        self.broker, self.count, self.fault, self.frozen = broker, count, None, []
        self.start()

    def run(self):
        try:
            for _ in range(self.count):
                time.sleep(0.2)
                self.frozen.append(self.broker.upgrade()["frozen_ms"])
        except BaseException as fault:  # pylint: disable=broad-exception-caught
            self.fault = fault

    def over(self):
        if self.fault is not None:
            raise self.fault
        return not self.is_alive()


class Town:
    """Users who watch each other and come and go, all of it by chance."""

    def __init__(self, broker, chance, count):
        self.broker, self.chance, self.history = broker, chance, History()
        self.names = [f"u{number}" for number in range(count)]
        self.here, self.lost, self.granted = {}, {}, {}

    def come(self, name):
        client = Watcher(self.broker, self.history, over=self.chance.choice(("tcp", "ws")))
        client.login(name)
        for other in self.granted.pop(name, ()):  # of his login before
            self.history.add("revoked", user=name, peer=other)
        self.here[name] = client
        self.granted[name] = set()
        self.watch(name)

    def watch(self, name):
        client, mine = self.here[name], self.granted[name]
        add = set(self.chance.sample(self.names, 4)) - mine
        remove = set(self.chance.sample(sorted(mine), len(mine) // 4))
        for other in sorted(add):
            self.history.add("granted", user=name, peer=other)
        check_equal(client.watch(sorted(add), sorted(remove)), "done", f"a Watch of {name}")
        for other in sorted(remove):
            self.history.add("revoked", user=name, peer=other)
        mine |= add
        mine -= remove

    def come_back(self, name):
        if name in self.lost:
            client = Watcher(self.broker, self.history, after=self.lost.pop(name))
            client.resume(client.welcome, 0)
            self.here[name] = client
        else:
            self.come(name)

    def step(self):
        name = self.chance.choice(self.names)
        what = self.chance.random()
        if name not in self.here:
            self.come_back(name)
        elif what < 0.3:
            client = self.here.pop(name)
            client.ask("logout")
            client.drop()
        elif what < 0.5:
            self.lost[name] = self.here.pop(name)
            self.lost[name].drop()
        elif what < 0.8:
            self.watch(name)
        else:
            self.here[name].quiet(0.01)

    def rest(self):
        """All are here, and everything has been read."""
        for name in self.names:
            if name not in self.here:
                self.come_back(name)
        deadline = time.monotonic() + SLOW_SECONDS
        while sum(client.quiet(0.1) for client in self.here.values()) > 0:
            check(time.monotonic() < deadline, "an end of what is told")


def scene_pictures_stay_true():
    """Logins, logouts, losses, resumes and Watches beside upgrades: when all is quiet each picture is what
    the stream says, nobody was told anything twice, and nobody is shown who is not watched."""
    with broker_of(friends__batch_ms=20, session__resume_ms=60000) as broker:
        town = Town(broker, seed(), 16)
        for name in town.names:
            town.come(name)
        upgrades = Upgrades(broker, UPGRADES)
        steps = 0
        while not upgrades.over():
            town.step()
            steps += 1
        town.rest()
        with Backend(broker) as backend:
            note_events(town.history, backend.all_events())
        town.history.add("quiet")
        check_friends(town.history)
        watched = sum(len(names) for names in town.granted.values())
        check_equal(figure(broker, "friends_pairs"), watched, "pairs")
        check_equal(broker.log_events("friends_stale", every_start=True), [], "stale shards")
        print(f"     {steps} steps beside {UPGRADES} upgrades, frozen for {upgrades.frozen} ms")
        for client in town.here.values():
            client.close()


def scene_in_a_tunnel():
    """A watcher whose connection is gone while all of it happens, one who does not read, and one whose
    own upgrade is between the loss and the resume: each sees in the end what is."""
    targets = [f"t{number}" for number in range(60)]
    with broker_of(
        session__resume_ms=60000, limits__output_soft_bytes=4096, limits__frame_bytes=4096
    ) as broker:
        people = [watcher(broker, name) for name in targets]
        ann, quick = watcher(broker, "ann"), watcher(broker, "quick")
        slow = watcher(broker, "slow", receive_buffer=4096)
        for client in (ann, slow, quick):
            check_equal(client.watch(targets), "done", "the Watch")
        for client in (ann, quick):
            client.until(lambda client=client: len(client.shown) == 60, "60 states")
        ann.drop()
        broker.wait_log("detached")
        for turn in range(30):
            for person in people:
                person.say(bytes([65 + turn]) * 128)
            if turn % 10 == 5:
                broker.upgrade()
        last = bytes([65 + 29]) * 128
        for person in people[:30]:
            leave(person)
        broker.upgrade()

        def is_true(client):
            return all(
                client.shown.get(name) == ((OFFLINE, b"") if index < 30 else (ONLINE, last))
                for index, name in enumerate(targets)
            )

        quick.until(lambda: is_true(quick), "what is, for one who reads", SLOW_SECONDS)
        slow.until(lambda: is_true(slow), "what is, for one who did not read", SLOW_SECONDS)
        check_equal(slow.snapshots, 1, "snapshots of one who did not read")
        again = Watcher(broker, after=ann)
        again.resume(ann.welcome, 0)
        again.until(lambda: is_true(again), "what is, for one who was away", SLOW_SECONDS)
        check_equal(again.snapshots, 1, "snapshots at a resume")
        for person in people[30:]:
            leave(person)
        for client in (again, slow, quick):
            client.until(
                lambda client=client: all(what == (OFFLINE, b"") for what in client.shown.values()),
                "nobody is left",
                SLOW_SECONDS,
            )


def scene_what_is_gathered():
    """A change that waits for friends.batch_ms is told when it would have been, once; who looks the same
    again by then, not at all."""
    batch_s = 6  # within it cid is back, on a slow machine, too
    with broker_of(friends__batch_ms=batch_s * 1000) as broker:
        ann, bob, cid = (watcher(broker, name) for name in ("ann", "bob", "cid"))
        check_equal(ann.watch(["bob", "cid"]), "done", "the Watch")
        ann.until(lambda: len(ann.shown) == 2, "two states")
        ann.quiet(batch_s + 0.1)
        leave(bob)
        leave(cid)
        began = time.monotonic()
        broker.upgrade()
        cid = watcher(broker, "cid")
        ann.until_shown("bob", OFFLINE)
        print(f"     told {time.monotonic() - began:.2f} s after it")
        check_equal(ann.quiet(batch_s + 0.5), 0, "what comes behind it")
        check_equal(ann.changes, [("bob", OFFLINE)], "what was told")
        check_equal((ann.snapshots, ann.frames_seen), (1, 2), "snapshots, and frames")
        cid.close()


def scene_limits_still_count():
    """What was counted before is counted after, and what is watched after is watched like before."""
    with broker_of(friends__targets=3, friends__watchers=2, friends__pairs=7) as broker:
        ann, bob, cid = (watcher(broker, name) for name in ("ann", "bob", "cid"))
        check_equal(ann.watch(["t1", "t2"]), "done", "ann's")
        check_equal(bob.watch(["t1", "t2", "t3"]), "done", "bob's")
        for _ in range(2):
            broker.upgrade()
        check_equal(figure(broker, "friends_pairs"), 5, "pairs")
        check_equal(ann.watch(["t3", "t4"]), "ROOM_FULL", "the 4th")
        check_equal(ann.watch(["t3"], ["t2"]), "done", "one for another")
        ann.until(lambda: ann.shown.keys() == {"t1", "t3"}, "two")
        check_equal(cid.watch(["t1"]), "done", "a third watcher")
        cid.until(lambda: cid.snapshots > 0, "a snapshot without him")
        cid.settle()
        check_equal(cid.shown, {}, "who has his watchers is left out")
        eventually(lambda: figure(broker, "friends_pairs") == 5, "the third is given back")
        check_equal(cid.watch(["x", "y", "z"]), "BUSY", "three, where two pairs are left")
        check_equal(cid.watch(["t2", "x"]), "done", "two")
        cid.until(lambda: cid.shown.keys() == {"t2", "x"}, "both")
        broker.upgrade()
        here = [watcher(broker, name) for name in ("t1", "t2", "t3")]
        ann.until(lambda: ann.shown == {"t1": (ONLINE, b""), "t3": (ONLINE, b"")}, "ann's")
        cid.until(lambda: cid.shown == {"t2": (ONLINE, b""), "x": (OFFLINE, b"")}, "cid's")
        for client in [ann, bob, cid] + here:
            leave(client)
        eventually(lambda: figure(broker, "friends_pairs") == 0, "all are given back")


def scene_services():
    """A Watch that friends.service is asked about while it happens, and lists: a takeover still keeps what
    a service made."""
    with broker_of(friends__mode="service", friends__service="social") as broker:
        ann, bob = watcher(broker, "ann"), watcher(broker, "bob")
        with Backend(broker, "social") as social:
            frame = ann.watch_frame(["bob"])
            ann.send_frame(frame)
            ask = social.expect_call(kind="watch")
            broker.upgrade()
            social.lose()
            social.reply(ask, 0, backend_pb.WatchGrant(targets=["bob"]).SerializeToString())
            check_equal(ann.word(frame.id), "done", "the answer")
            ann.until_shown("bob", ONLINE)
            check_equal(give_list(social, "ann", ["cid"], ADD), ("OK", 1, {}), "a list")
            ann.until(lambda: len(ann.shown) == 2, "both")
            broker.upgrade()
            social.lose()
            check_equal(
                give_list(social, "ann", ["dan"], ADD, ann.welcome.epoch), ("OK", 1, {}), "another"
            )
            ann.until(lambda: len(ann.shown) == 3, "three")
        other = watcher(broker, "ann")
        other.until(lambda: other.shown.keys() == {"cid", "dan"}, "what the service made")
        check_equal(figure(broker, "friends_pairs"), 2, "pairs")
        bob.close()


play(
    scene_each_change_once,
    scene_pictures_stay_true,
    scene_in_a_tunnel,
    scene_what_is_gathered,
    scene_limits_still_count,
    scene_services,
)
