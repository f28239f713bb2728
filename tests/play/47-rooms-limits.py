# SPDX-License-Identifier: Apache-2.0
"""Each limit of rooms at n and at one more, with its code, its counter and a bystander who is not
harmed; each failure that protocol.md 1.13 speaks of; and rooms with many in them.

USHER_PLAY_LARGE=1: the rooms as large as the design speaks of."""

import os
import time

from usherplay import Broker, Failed, check, check_equal, client_pb, eventually, play, scaled
from usherplay.client import Crowd
from usherplay.rooms import PARTIAL, Member, Owner

LARGE = bool(os.environ.get("USHER_PLAY_LARGE"))
CLASSES = (
    "talk:* create=client join=any history=256/60s,"
    "two:* create=client join=any members=2,"
    "tiny:* create=client join=any members=1 roster=none,"
    "short:* create=client join=any idle=1s,"
    "count:* create=client join=any roster=count members=100000 history=256/60s,"
    "list:* create=client join=any roster=list members=1024,"
    "bare:* create=client join=any roster=none members=100000"
)
OPTIONS = {
    "rooms.classes": CLASSES,
    "admin.listen": "127.0.0.1:0",
    "limits.requests_per_second": 0,
    "limits.logins_per_minute_per_source": 0,
    "limits.prelogin_per_source": 0,
    "limits.prelogin_connections": 100000,
}
State = client_pb.RoomState


class Bystanders:
    """Two in a room of their own, who say something, and hear it, whatever happens beside."""

    def __init__(self, broker):
        self.members = [Member(broker, f"bystander{i}") for i in range(2)]
        self.here = [member.join("talk:bystanders") for member in self.members][0]
        self.said = 0

    def look(self):
        text = b"still here %d" % self.said
        self.said += 1
        self.members[self.said % 2].publish(self.here, text)
        for member in self.members:
            check_equal(member.collect(self.here, 1)[0].payload, text, "a bystander")


def counts(broker, name, least=1):
    """That number has come to so much."""
    eventually(lambda: broker.numbers()[name] >= least, f"{name} at {least}")


def refused(member, code, kind, **fields):
    error = member.answer(member.post(kind, **fields)).error
    check_equal(client_pb.Error.Code.Name(error.code), code, kind)
    return error


def joins(member, room):
    """Whether there was a place for it."""
    try:
        return member.join(room)
    except Failed as failed:
        if "code=ROOM_FULL" not in str(failed):
            raise
        return None


# --- limits ----------------------------------------------------------------------------------------


def scene_rooms_of_the_node():
    with Broker({**OPTIONS, "rooms.count": 4}) as broker, Member(broker, "a") as a:
        others = Bystanders(broker)
        for i in range(3):
            a.join(f"short:{i}")
        refused(a, "ROOM_FULL", "join", room="short:3")
        counts(broker, "room_refused_rooms_count")
        others.look()
        check_equal(a.join("short:0").replay, State.COMPLETE, "one that is there")
        a.post("leave", room=a.join("short:2").room)
        eventually(lambda: broker.numbers()["rooms_closed"] == 1, "an idle room is closed")
        # Its place is free at the end of the turn that counts it.
        eventually(lambda: joins(a, "short:3"), "a place for another one")


def scene_rooms_of_a_user():
    with Broker({**OPTIONS, "rooms.per_user": 2}) as broker, Member(broker, "a") as a:
        others = Bystanders(broker)
        first = a.join("talk:1")
        a.join("talk:2")
        refused(a, "ROOM_FULL", "join", room="talk:3")
        check_equal(a.join("talk:1").room, first.room, "where he is already")
        a.post("leave", room=first.room)
        a.join("talk:3")
        others.look()


def scene_joins_of_a_user():
    with Broker({**OPTIONS, "rooms.per_user": 4}) as broker, Member(broker, "a") as a:
        others = Bystanders(broker)
        for _ in range(4 + 16):
            a.join("talk:1")
        error = refused(a, "RATE_LIMITED", "join", room="talk:1")
        check(0 < error.retry_after_ms <= 500, f"retry_after_ms {error.retry_after_ms}")
        counts(broker, "room_joins_limited")
        others.look()
        time.sleep(error.retry_after_ms / 1000 + 0.1)
        a.join("talk:1")


def scene_members():
    with Broker(OPTIONS) as broker:
        others = Bystanders(broker)
        members = [Member(broker, f"m{i}") for i in range(3)]
        members[0].join("two:1")
        here = members[1].join("two:1")
        refused(members[2], "ROOM_FULL", "join", room="two:1")
        counts(broker, "room_refused_members")
        members[0].post("leave", room=here.room)
        members[0].answer(members[0].last_id)
        members[2].join("two:1")
        others.look()


def scene_publish_rate():
    with Broker({**OPTIONS, "rooms.publish_per_second": 5}) as broker, Member(broker, "a") as a:
        others = Bystanders(broker)
        here = a.join("talk:1")
        ids = [a.post("publish", room=here.room, payload=b"x") for _ in range(6)]
        kinds = [a.answer(id).WhichOneof("body") for id in ids]
        check_equal(kinds[:5], ["done"] * 5, "five at once")
        if kinds[5] == "error":  # a slow machine has given one back meanwhile
            counts(broker, "room_messages_limited")
        a.post("leave", room=here.room)
        again = a.join("talk:1")
        ids = [a.post("publish", room=again.room, payload=b"x") for _ in range(6)]
        kinds = [a.answer(id).WhichOneof("body") for id in ids]
        check("error" in kinds, "he has not more by leaving and coming again")
        others.look()


def scene_deliveries():
    """Ten a second are five messages to two."""
    with Broker({**OPTIONS, "rooms.deliveries_per_second": 10}) as broker:
        with Member(broker, "a") as a, Member(broker, "b") as b:
            here = a.join("talk:1")
            b.join("talk:1")
            ids = [a.post("publish", room=here.room, payload=b"x") for _ in range(30)]
            frames = [a.answer(id) for id in ids]
            done = [frame for frame in frames if frame.WhichOneof("body") == "done"]
            errors = [frame.error for frame in frames if frame.WhichOneof("body") == "error"]
            check(5 <= len(done) <= 10 and errors, f"{len(done)} of 30")
            check(
                all(e.code == client_pb.Error.RATE_LIMITED and e.retry_after_ms for e in errors),
                "RATE_LIMITED, and when to come again",
            )
            counts(broker, "room_deliveries_limited", len(errors))
            check_equal(len(b.collect(here, len(done))), len(done), "what was taken")


def scene_names_and_payloads():
    frame_bytes = 4096
    options = {**OPTIONS, "limits.frame_bytes": frame_bytes, "rooms.publish_per_second": 0}
    with Broker(options) as broker:
        with Member(broker, "a") as a, Member(broker, "b") as b:
            others = Bystanders(broker)
            a.join("talk:" + "n" * 59)
            refused(a, "INVALID_NAME", "join", room="talk:" + "n" * 60)
            refused(a, "INVALID_NAME", "publish", name="talk:" + "n" * 60)
            refused(a, "INVALID_NAME", "join", room="")
            refused(a, "INVALID_NAME", "join", room="#talk")
            here = a.join("talk:1")
            b.join("talk:1")
            most = frame_bytes - 40 - 1
            a.publish(here, b"x" * most)
            refused(a, "TOO_LARGE", "publish", room=here.room, payload=b"x" * (most + 1))
            counts(broker, "room_messages_refused")
            check_equal(len(b.collect(here, 1)[0].payload), most, "the largest one")
            # Bundles of many: none larger than a frame.
            for i in range(40):
                a.post("publish", room=here.room, payload=b"y" * (300 + i))
            check_equal(len(b.collect(here, 40)), 40, "many")
            others.look()


# --- failures --------------------------------------------------------------------------------------


def all_came(members, here, total, what):
    """All have come to the newest, each message in its place unless PARTIAL was said: that is what a
    Member checks."""
    deadline = time.monotonic() + 60
    for member in members:
        while member.offsets[here.room] < total:
            check(
                member.pump(lambda m=member: m.offsets[here.room] >= total, 1)
                or time.monotonic() < deadline,
                f"{what}: {member.name} stands at {member.offsets[here.room]} of {total}",
            )


def scene_full_mailboxes():
    options = {**OPTIONS, "limits.mailbox_messages": 2, "rooms.publish_per_second": 0}
    with Broker(options) as broker:
        members = [Member(broker, f"m{i}") for i in range(10)]
        here = [member.join("talk:1") for member in members][0]
        done = 0
        for _ in range(scaled(20)):
            posted = [
                (member, member.post("publish", room=here.room, payload=b"%d" % i))
                for i in range(10)
                for member in members
            ]
            for member, id in posted:
                answer = member.answer(id)
                if answer.WhichOneof("body") == "done":
                    done = max(done, answer.done.offset)
                else:
                    check_equal(answer.error.code, client_pb.Error.BUSY, "a full room")
        check(done > 0, "nothing was taken")
        all_came(members, here, done, "full mailboxes")
        print(f"     {done} messages, {broker.numbers()['room_missed']} missed")


def scene_slow_member():
    """Who reads nothing for a while is not closed; what the history has not comes as PARTIAL."""
    options = {**OPTIONS, "rooms.publish_per_second": 0, "limits.output_soft_ms": 500}
    with Broker(options) as broker, Member(broker, "writer") as writer:
        slow = Member(broker, "slow", receive_buffer=4096)
        here = writer.join("talk:1")
        slow.join("talk:1")
        payload = b"p" * 60000
        for i in range(250):
            writer.publish(here, b"%d " % i + payload)
            writer.got[here.room].clear()
        time.sleep(1.5)
        check_equal(broker.log_events("slow_consumer"), [], "slow_consumer")
        all_came([slow], here, 250, "the slow one")
        check(len(slow.got[here.room]) < 250, "it never was slow")
        said = [state.replay for state in slow.room_states]
        check(PARTIAL in said, f"what it was told: {said}")
        check(broker.numbers()["room_pulls"] > 0, "it pulled")
        slow.got[here.room].clear()
        writer.publish(here, b"live")
        check_equal(slow.collect(here, 1)[0].payload, b"live", "live again")


def scene_memory_full():
    options = {
        **OPTIONS,
        "limits.memory_bytes": 16 << 20,
        "limits.inbox_bytes": 64 << 20,
        "limits.inbox_messages": 4096,
        "limits.inbox_age_ms": "10min",
    }
    with Broker(options) as broker, Owner(broker) as owner, Member(broker, "a") as a:
        hoarder = Member(broker, "hoarder", acks=True)
        newcomer = Member(broker, "b")
        here = a.join("talk:1")
        hoarder.drop()
        while owner.push(["hoarder"], b"m" * 16000).push.accepted:
            pass
        eventually(lambda: broker.numbers()["memory_full"] > 0, "memory is full")
        refused(a, "BUSY", "publish", room=here.room, payload=b"x")
        refused(newcomer, "BUSY", "join", room="talk:1")
        owner.kick("hoarder")
        eventually(
            lambda: broker.numbers()["memory_held_bytes"] < 8 << 20, "the memory is free again"
        )
        check(a.publish(here, b"x") >= 1, "he is still in")
        newcomer.join("talk:1")


def scene_closed_with_messages_under_way():
    with Broker({**OPTIONS, "rooms.publish_per_second": 0}) as broker, Owner(broker) as owner:
        members = [Member(broker, f"m{i}") for i in range(5)]
        here = [member.join("talk:1") for member in members][0]
        for member in members:
            for i in range(20):
                member.post("publish", room=here.room, payload=b"%d" % i)
        check_equal(owner.do("room_close", room="talk:1", detail="enough").code, 0, "RoomClose")
        done = 0
        for member in members:
            member.pump(lambda m=member: any(s.state == State.CLOSED for s in m.room_states))
            closed = [s for s in member.room_states if s.state == State.CLOSED]
            check_equal([s.detail for s in closed], ["enough"], "CLOSED, once")
            for frame in member.others:
                if frame.WhichOneof("body") == "done":
                    done = max(done, frame.done.offset)
        counts_of = {len(member.got[here.room]) for member in members}
        check_equal(len(counts_of), 1, f"all had the same: {counts_of}")
        check(max(counts_of) >= done, f"Done({done}), and {counts_of} came")
        for member in members:
            member.pump(lambda: False, 0.05)  # messages after CLOSED are an error of Member
            refused(member, "NOT_MEMBER", "publish", room=here.room, payload=b"late")


# --- many ------------------------------------------------------------------------------------------


def crowd_of(broker, count, room, prefix="c", answers=True):
    """So many members, who log in and join together."""
    members = [Member(broker, f"{prefix}{i}", welcome=False) for i in range(count)]
    crowd = Crowd(members)
    for member in members:
        member.post("login", username=member.name)
    crowd.until(lambda: all(member.frames for member in members), "the logins", 60)
    for member in members:
        member.welcome = member.expect("welcome").welcome
        member.post("join", room=room)
    for member in members:
        crowd.until(lambda m=member: m.frames, f"{member.name} has joined", 60)
        state = member.next_frame(0)
        while state.WhichOneof("body") != "room_state":
            crowd.until(lambda m=member: m.frames, f"{member.name} has joined", 60)
            state = member.next_frame(0)
        member._sort(state)
    return members, crowd, members[0].room_states[-1]


def scene_detached_members_cost_nothing():
    """Live messages pass by who is away: they are in no mailbox and no inbox."""
    count = 1000 if LARGE else scaled(400)
    options = {**OPTIONS, "rooms.publish_per_second": 0, "rooms.deliveries_per_second": 0}
    with Broker(options) as broker, Member(broker, "writer") as writer:
        members, crowd, here = crowd_of(broker, count, "count:1")
        writer.join("count:1")
        for member in members:
            crowd.remove(member)
            member.drop()
        eventually(lambda: broker.numbers()["detached"] == count, "all are detached")
        for i in range(256):  # the history is full
            writer.publish(here, b"h" * 900)
        before, held = broker.resident_bytes(), broker.numbers()["memory_held_bytes"]
        until = time.monotonic() + (60 if LARGE else 3)
        said = 256
        while time.monotonic() < until:
            writer.publish(here, b"h" * 900)
            writer.got[here.room].clear()
            said += 1
        after, held_after = broker.resident_bytes(), broker.numbers()["memory_held_bytes"]
        print(
            f"     {count} away, {said} messages: {after - before:+} B, held {held_after - held:+}"
        )
        check(held_after - held <= 1 << 20, f"held: {held} and then {held_after}")
        if scaled(10) == 10:  # a sanitizer keeps what was freed
            check(after - before <= 16 << 20, f"resident: {before} and then {after}")
        crowd.selector.close()


def scene_a_crowd_joins_at_once():
    """How much who is in a room hears of a thousand who come."""
    for room, count in (("count:1", scaled(1000, 50)), ("list:1", scaled(600, 50))):
        with Broker(OPTIONS) as broker, Member(broker, "first") as first:
            here = first.join(room)
            began = time.monotonic()
            members, crowd, _ = crowd_of(broker, count, room)
            check(
                first.pump(lambda: any(e.members == count + 1 for e in first.events), 30),
                "how many there are",
            )
            took = time.monotonic() - began
            first.pump(lambda: False, 0.1)
            events = list(first.events)
            named = {c.user for e in events for c in e.changes}
            frames = took / 0.25 + 2 + (count // 64 + 1 if room[0] == "l" else 0)
            check(len(events) <= frames, f"{len(events)} events in {took:.1f} s")
            if room[0] == "l":
                check_equal(len(named - {"first"}), count, "who came")
                state = first.join(room)
                check_equal(len(state.roster), count + 1, "the roster")
            print(f"     {count} joined {room}: {len(events)} events in {took:.1f} s")
            check(here.room in first.offsets, "still in")
            crowd.close()


def scene_a_large_room():
    """All get all, in order; how long turns took is told and not judged."""
    count = 19000 if LARGE else scaled(1500, 100)
    options = {**OPTIONS, "rooms.publish_per_second": 0, "rooms.deliveries_per_second": 0}
    with Broker(options) as broker:
        others = Bystanders(broker)
        members, crowd, here = crowd_of(broker, count, "bare:1")
        began = time.monotonic()
        for i in range(20):
            members[i].post("publish", room=here.room, payload=b"%d" % i)

        def got():
            for member in members:
                while member.frames:
                    member._sort(member.next_frame(0))
            return all(member.offsets[here.room] == 20 for member in members)

        crowd.until(got, "all twenty at all", 120)
        took = time.monotonic() - began
        texts = [m.payload for m in members[0].got[here.room]]
        for member in members:
            check_equal([m.payload for m in member.got[here.room]], texts, "one order")
        others.look()
        numbers = broker.numbers()
        turns = {name: numbers[name] for name in numbers if name.startswith("turn_duration")}
        print(f"     20 messages to {count} in {took:.2f} s; {turns}")
        crowd.close()


if __name__ == "__main__":
    play(
        scene_rooms_of_the_node,
        scene_rooms_of_a_user,
        scene_joins_of_a_user,
        scene_members,
        scene_publish_rate,
        scene_deliveries,
        scene_names_and_payloads,
        scene_full_mailboxes,
        scene_slow_member,
        scene_memory_full,
        scene_closed_with_messages_under_way,
        scene_detached_members_cost_nothing,
        scene_a_crowd_joins_at_once,
        scene_a_large_room,
    )
