# SPDX-License-Identifier: Apache-2.0
"""Rooms as clients see them: one order for all, nothing missing in silence, and what becomes of a
membership when its connection, its session or its room ends."""

import time

from usherplay import Broker, check, check_equal, client_pb, play
from usherplay.rooms import Member

CLASSES = (
    "match:* create=client join=any members=3 roster=list,"
    "talk:* create=client join=any history=8/60s,"
    "tick:* create=client join=any tick=200ms history=64/60s,"
    "news create=backend join=any publish=backend,"
    "shut:* create=client join=backend,"
    "open:* create=client join=any publish=any,"
    "short:* create=client join=any idle=1s"
)
OPTIONS = {"rooms.classes": CLASSES, "limits.requests_per_second": 0}
State = client_pb.RoomState


def scene_talk():
    with Broker(OPTIONS) as broker, Member(broker, "alice") as alice, Member(broker, "bob") as bob:
        first = alice.join("talk:1")
        check_equal(
            (first.replay, first.offset, first.state), (State.NONE, 0, State.JOINED), "Join"
        )
        second = bob.join("talk:1")
        check_equal((second.room, second.incarnation), (first.room, first.incarnation), "the room")
        offsets = [alice.publish(first, b"hi %d" % i) for i in range(20)]
        check_equal(offsets, list(range(1, 21)), "offsets")
        for member in (alice, bob):
            got = member.collect(first, 20)
            check_equal([m.payload for m in got], [b"hi %d" % i for i in range(20)], "messages")
            check_equal({(m.service, getattr(m, "from")) for m in got}, {("", "alice")}, "from")
        bob.publish(second, b"me too")
        check_equal(alice.collect(first, 1)[0].payload, b"me too", "from the other one")


def scene_refusals():
    with Broker(OPTIONS) as broker, Member(broker, "alice") as alice:
        for name, code in (
            ("nothing", "NO_ROOM"),
            ("a b", "INVALID_NAME"),
            ("news", "NO_ROOM"),
            ("shut:1", "FORBIDDEN"),
        ):
            alice.post("join", room=name)
            alice.expect_error(code)
        for kind, fields in (("leave", {"room": 7}), ("publish", {"room": 7, "payload": b"x"})):
            alice.post(kind, **fields)
            alice.expect_error("NOT_MEMBER")
        alice.post("publish", name="open:1", payload=b"x")
        alice.expect_error("NO_ROOM")
        others = [Member(broker, f"u{i}") for i in range(4)]
        for other in others[:3]:
            other.join("match:1")
        others[3].post("join", room="match:1")
        others[3].expect_error("ROOM_FULL")
        here = others[0].join("open:1")
        alice.post("publish", name="open:1", payload=b"from outside")
        check_equal(alice.answer_to(alice.last_id).done.offset, 1, "Done")
        check_equal(others[0].collect(here, 1)[0].payload, b"from outside", "not a member")


def scene_leave():
    with Broker(OPTIONS) as broker, Member(broker, "alice") as alice, Member(broker, "bob") as bob:
        here = alice.join("talk:1")
        bob.join("talk:1")
        alice.post("leave", room=here.room)
        check_equal(alice.answer_to(alice.last_id).WhichOneof("body"), "done", "Leave")
        check_equal(alice.state().state, State.LEFT, "RoomState")
        bob.publish(here, b"x")
        alice.post("publish", room=here.room, payload=b"x")
        alice.expect_error("NOT_MEMBER")
        alice.expect_nothing(0.05)


def scene_resume():
    """Away, and back: what the history has comes, what it has not is said."""
    with Broker(OPTIONS) as broker, Member(broker, "bob") as bob:
        for missed, replay in ((0, State.COMPLETE), (8, State.COMPLETE), (9, State.PARTIAL)):
            alice = Member(broker, "alice")
            here = alice.join("talk:1")
            there = bob.join("talk:1")
            bob.publish(there, b"before")
            check_equal(alice.collect(here, 1)[0].payload, b"before", "live")
            position = alice.offsets[here.room]
            alice.drop()
            time.sleep(0.2)
            for i in range(missed):
                bob.publish(there, b"missed %d" % i)
            alice = alice.come_back([(here.room, here.incarnation, position)])
            state = alice.state()
            check_equal(
                (state.replay, state.offset), (replay, position + missed), f"after {missed}"
            )
            got = alice.collect(here, min(missed, 8), partial=replay == State.PARTIAL)
            check_equal(
                [m.payload for m in got],
                [b"missed %d" % i for i in range(missed)][-8:],
                "what was missed",
            )
            bob.publish(there, b"after")
            check_equal(alice.collect(here, 1)[0].payload, b"after", "live again")
            alice.post("logout")
            alice.read_to_end()
            bob.drain()


def scene_takeover():
    with Broker(OPTIONS) as broker, Member(broker, "alice") as old, Member(broker, "bob") as bob:
        here = old.join("match:1")
        bob.join("match:1")
        with Member(broker, "alice") as new:
            bob.publish(here, b"x")
            event = bob.until("room_event", lambda e: any(c.kind == 3 for c in e.changes))
            check_equal([c.user for c in event.changes if c.kind == 3], ["alice"], "LEFT")
            new.expect_nothing(0.05)
            again = new.join("match:1")
            check_equal(sorted(m.user for m in again.roster), ["alice", "bob"], "roster")


def scene_idle():
    with Broker(OPTIONS) as broker, Member(broker, "alice") as alice:
        first = alice.join("short:1")
        alice.publish(first, b"x")
        alice.post("leave", room=first.room)
        alice.answer_to(alice.last_id)
        time.sleep(1.5)
        alice.drain()
        second = alice.join("short:1", recover=True, incarnation=first.incarnation, offset=1)
        check(second.incarnation > first.incarnation, "the same life")
        check_equal((second.replay, second.offset), (State.PARTIAL, 0), "an offset of before")


def scene_tick():
    with Broker(OPTIONS) as broker, Member(broker, "alice") as alice, Member(broker, "bob") as bob:
        here = alice.join("tick:1")
        bob.join("tick:1")
        check_equal(here.tick_ms, 200, "tick_ms")
        for i in range(30):
            alice.publish(here, b"%d" % i)
        got = bob.collect(here, 30)
        check_equal([m.payload for m in got], [b"%d" % i for i in range(30)], "messages")


def scene_restart():
    with Broker(OPTIONS) as broker:
        alice = Member(broker, "alice")
        here = alice.join("talk:1")
        alice.publish(here, b"x")
        broker.kill()
        broker.restart()
        alice = alice.come_back([(here.room, here.incarnation, 1)])
        state = alice.state()
        check_equal((state.state, state.room), (State.CLOSED, here.room), "after a restart")
        again = alice.join("talk:1")
        check(again.incarnation > here.incarnation, "incarnations rise")


if __name__ == "__main__":
    play(
        scene_talk,
        scene_refusals,
        scene_leave,
        scene_resume,
        scene_takeover,
        scene_idle,
        scene_tick,
        scene_restart,
    )
