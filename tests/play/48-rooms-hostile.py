# SPDX-License-Identifier: Apache-2.0
"""What one client who means ill can do to rooms, and to who is in them: floods of Joins, of comings
and goings, forged numbers and positions; the others go on."""

import time

from usherplay import Broker, check, check_equal, client_pb, eventually, play, scaled
from usherplay.client import Crowd
from usherplay.rooms import Member

CLASSES = (
    "talk:* create=client join=any history=64/60s roster=list members=1024,"
    "ask:* create=service join=service owner=maker"
)
OPTIONS = {
    "rooms.classes": CLASSES,
    "admin.listen": "127.0.0.1:0",
    "limits.logins_per_minute_per_source": 0,
    "limits.prelogin_per_source": 0,
    "limits.prelogin_connections": 100000,
    "limits.prelogin_bytes": 65536,
}
State = client_pb.RoomState


def code(member, kind, **fields):
    frame = member.answer_to(member.post(kind, **fields))
    kind = frame.WhichOneof("body")
    return client_pb.Error.Code.Name(frame.error.code) if kind == "error" else kind


def scene_a_flood_of_names():
    """He makes as many rooms as he may be in, and some; then he waits. There is room for others."""
    with Broker({**OPTIONS, "rooms.count": 200}) as broker:
        with Member(broker, "evil") as evil, Member(broker, "good") as good:
            codes = [code(evil, "join", room=f"talk:{i}") for i in range(300)]
            made = codes.count("room_state")
            check(made == 64, f"he made {made} rooms")
            check(set(codes) <= {"room_state", "ROOM_FULL", "RATE_LIMITED"}, f"codes {set(codes)}")
            check("RATE_LIMITED" in codes, "nobody stopped him")
            check(broker.numbers()["rooms"] <= 80, "rooms")
            good.join("talk:good")


def scene_rooms_left_behind():
    """Each Join makes a room that stands empty for 12 s: that, too, has an end."""
    with Broker(OPTIONS) as broker, Member(broker, "evil") as evil:
        made = 0
        for i in range(300):
            frame = evil.answer_to(evil.post("join", room=f"talk:{i}"))
            if frame.WhichOneof("body") == "room_state":
                made += 1
                evil.answer_to(evil.post("leave", room=frame.room_state.room))
        check(made <= 64 + 16 + 40, f"he made {made} rooms")
        check(broker.numbers()["rooms"] <= made, "rooms")
        check(broker.numbers()["room_joins_limited"] > 0, "room_joins_limited")


def scene_a_storm_against_a_hundred():
    """He joins and leaves as fast as he can: what each of the others gets in a second."""
    count = scaled(100, 20)
    for rate in (30, 0):  # 0: his Joins are not limited either
        with Broker(
            {**OPTIONS, "rooms.publish_per_second": rate, "limits.requests_per_second": 0}
        ) as broker:
            members = [Member(broker, f"m{i}") for i in range(count)]
            here = [member.join("talk:1") for member in members][0]
            members[0].drain(0.6)
            with Member(broker, "evil") as evil:
                began, rounds = time.monotonic(), 0
                while time.monotonic() < began + 2:
                    if (
                        evil.answer_to(evil.post("join", room="talk:1")).WhichOneof("body")
                        == "error"
                    ):
                        time.sleep(0.01)
                        continue
                    evil.answer_to(evil.post("leave", room=here.room))
                    rounds += 1
                took = time.monotonic() - began
            members[0].pump(lambda: False, 0.4)
            frames = len(members[0].events)
            bytes_each = sum(event.ByteSize() for event in members[0].events) / took
            print(
                f"     {rounds} rounds: {frames / took:.1f} frames, {bytes_each:.0f} B a second each"
            )
            if rate:
                check(frames <= 4 * (took + 1) + 4, f"{frames} frames in {took:.1f} s")
            members[0].publish(here, b"still here")
            for member in members:
                check_equal(member.collect(here, 1)[0].payload, b"still here", member.name)


def scene_forged_numbers():
    with Broker(OPTIONS) as broker, Member(broker, "evil") as evil, Member(broker, "good") as good:
        here = good.join("talk:1")
        for number in (here.room, 0, 1, 2**32 - 1, here.room + 1):
            check_equal(code(evil, "publish", room=number, payload=b"x"), "NOT_MEMBER", "Publish")
            check_equal(code(evil, "leave", room=number), "NOT_MEMBER", "Leave")
        check_equal(code(evil, "publish", name="talk:1", payload=b"x"), "NOT_MEMBER", "by name")
        good.publish(here, b"mine")
        check_equal([m.payload for m in good.collect(here, 1)], [b"mine"], "what came")
        evil.expect_nothing(0.05)


def scene_forged_positions():
    """A thousand of them, also of rooms of others and of the future, by one who is in one room."""
    with Broker(OPTIONS) as broker, Member(broker, "good") as good:
        evil = Member(broker, "evil")
        theirs = good.join("talk:theirs")
        good.publish(theirs, b"secret")
        here = evil.join("talk:1")
        evil.publish(here, b"a")
        evil.drop()
        eventually(lambda: broker.numbers()["detached"] == 1, "away")
        positions = [(1000 + i, 7, 2**64 - 1) for i in range(998)]
        positions += [(theirs.room, theirs.incarnation, 0), (here.room, here.incarnation, 2**63)]
        evil = evil.come_back(positions)
        evil.offsets[here.room] = 0  # what he has in truth
        states = [evil.state() for _ in range(1000)]
        check_equal(
            {state.room for state in states if state.state == State.JOINED}, {here.room}, "his own"
        )
        check_equal(sum(state.state == State.CLOSED for state in states), 999, "CLOSED")
        check_equal(states[-1].replay, State.PARTIAL, "a position of the future")
        check_equal([m.payload for m in evil.collect(here, 1)], [b"a"], "what there is")
        good.publish(theirs, b"secret")
        evil.pump(lambda: False, 0.1)  # messages of a room that he is not in are an error of Member
        # A Join from a position that is none.
        for incarnation, offset in ((here.incarnation, 2**64 - 1), (2**64 - 1, 0), (1, 1)):
            state = good.join("talk:1", recover=True, incarnation=incarnation, offset=offset)
            good.offsets[here.room] = 0  # what he says he has is not so
            check_equal(state.replay, State.PARTIAL, "a position that is none")
            check_equal([m.payload for m in good.collect(here, 1)], [b"a"], "what there is")


def scene_a_long_roster_in_small_frames():
    """1,024 names of 64 bytes, for who takes frames of 1 KiB."""
    count = scaled(1023, 100)
    options = {
        **OPTIONS,
        "limits.frame_bytes": 1024,
        "limits.inbox_bytes": 65536,
        "rooms.publish_per_second": 0,
    }
    with Broker(options) as broker:
        members = [Member(broker, f"{i:064}", welcome=False) for i in range(count)]
        with_names = Crowd(members)
        for member in members:
            member.post("login", username=member.name)
        with_names.until(lambda: all(member.frames for member in members), "logins", 60)
        for member in members:
            member.welcome = member.next_frame(0).welcome
            member.post("join", room="talk:1")
        with_names.until(lambda: broker.numbers()["room_joins"] == count, "joined", 60)
        with Member(broker, "z" * 64) as last:
            state = last.join("talk:1")
            names = {member.user for member in state.roster}
            last.pump(lambda: False, 1)
            for event in last.events:
                names |= {change.user for change in event.changes}
                check(event.ByteSize() < 1024, "a frame that he does not take")
            check_equal(len(names), count + 1, "who is in it")
            # He asks for it again and again: it costs him as many bytes, and others nothing.
            for _ in range(20):
                last.join("talk:1")
            last.publish(state, b"x")
        with_names.close()


def scene_asking_for_nobody():
    """Nobody answers for the owner; one of them waits for each user and room."""
    with Broker({**OPTIONS, "rooms.ask_ms": 500}) as broker, Member(broker, "evil") as evil:
        codes = [code(evil, "join", room="ask:1") for _ in range(3)]
        check_equal(set(codes), {"NO_SERVICE"}, "no owner")
        eventually(lambda: broker.numbers()["rooms"] == 0, "nothing is left")


if __name__ == "__main__":
    play(
        scene_a_flood_of_names,
        scene_rooms_left_behind,
        scene_a_storm_against_a_hundred,
        scene_forged_numbers,
        scene_forged_positions,
        scene_a_long_roster_in_small_frames,
        scene_asking_for_nobody,
    )
