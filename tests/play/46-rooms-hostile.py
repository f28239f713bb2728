# SPDX-License-Identifier: Apache-2.0
"""Rooms at the edges of what a client, a service and small limits may do to them: whatever they do,
each member knows where he stands, and each request has its answer."""

import contextlib
import time

from usherplay import Broker, check, check_equal, client_pb, eventually, frame_bytes, play
from usherplay.rooms import Member, Owner
from usherplay.shim import SYNCS, Shim

CLASSES = (
    "talk:* create=client join=any members=5000 history=64/60s,"
    "list:* create=client join=any roster=list,"
    "tick:* create=client join=any tick=200ms history=64/60s"
)
OPTIONS = {
    "rooms.classes": CLASSES,
    "rooms.publish_per_second": 0,
    "limits.requests_per_second": 0,
    "session.resume_ms": 60000,
    "limits.inbox_age_ms": 60000,
}
State = client_pb.RoomState


def resume_frame(client, member, rooms):
    """A Resume of that member's session, to be sent by the client."""
    frame = client.request(
        "resume",
        username=member.name,
        epoch=member.welcome.epoch,
        secret=member.welcome.secret,
        last_seq=0,
    )
    for room in rooms:
        frame.resume.rooms.add(room=room.room, incarnation=room.incarnation, offset=room.offset)
    return frame


def scene_end_meets_full_mailbox():
    """A room ends while the mailbox of a member, who waits for the disk, takes no more of it: he
    hears of the end all the same, and his other rooms go on."""
    disk = Shim()
    options = {
        **OPTIONS,
        "limits.mailbox_messages": 2,
        "limits.turn_messages": 2,
        "store.path": disk.store,
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(disk)
        broker = stack.enter_context(Broker(options, environment=disk.environment()))
        alice = stack.enter_context(Member(broker, "alice"))
        bob = stack.enter_context(Member(broker, "bob"))
        owner = stack.enter_context(Owner(broker))
        ends, stays = alice.join("talk:ends"), alice.join("talk:stays")
        bob.join("talk:ends")
        bob.join("talk:stays")
        again = Member(broker, "alice", welcome=alice.welcome)
        disk.hold(SYNCS)
        try:
            again.send_frame(resume_frame(again, alice, [ends, stays]))
            eventually(lambda: disk["held"] > 0, "the resume is in the hands of the committer")
            for i in range(8):
                bob.publish(ends, b"%d" % i)
                bob.publish(stays, b"%d" % i)
            check_equal(owner.do("room_close", room="talk:ends").code, 0, "RoomClose")
            bob.pump(lambda: any(s.state == State.CLOSED for s in bob.room_states))
        finally:
            disk.release()
        again.offsets = {ends.room: 0, stays.room: 0}
        again.gap = {ends.room: True}
        told = []
        again.pump(lambda: [told.append(s) for s in again.room_states if s.state] or told, 20)
        check_equal([(s.state, s.room) for s in told[:1]], [(State.CLOSED, ends.room)], "the end")
        bob.publish(stays, b"last")
        got = again.collect(stays, 9)
        check_equal(got[-1].payload, b"last", "the other room")


def scene_leave_behind_join():
    """Who joins again and leaves in one breath is out, and each of his requests has an answer."""
    with Broker(OPTIONS) as broker, Member(broker, "alice") as alice, Member(broker, "bob") as bob:
        here, other = alice.join("talk:1"), alice.join("talk:2")
        bob.join("talk:1")
        bob.join("talk:2")
        for recover in (False, True):
            join = alice.request("join", room="talk:1", recover=recover)
            leave = alice.request("leave", room=here.room)
            alice.send_bytes(frame_bytes(join) + frame_bytes(leave))
            check_equal(alice.answer(leave.id).WhichOneof("body"), "done", "Leave")
            answer = alice.answer(join.id)
            check_equal(answer.error.code, client_pb.Error.NOT_MEMBER, "the Join")
            check_equal(alice.state().state, State.LEFT, "RoomState")
            alice.post("publish", room=here.room, payload=b"x")
            alice.expect_error("NOT_MEMBER")
            bob.publish(here, b"not for alice")
            bob.publish(other, b"for alice")
            check_equal(alice.collect(other, 1)[0].payload, b"for alice", "the other room")
            alice.join("talk:1")


def scene_many_rosters():
    """Large rosters, asked for again and again by who reads none of them, are more than a connection
    takes: they wait until it does, and nobody is closed for them."""
    options = {
        **OPTIONS,
        "limits.output_bytes": 65536,
        "limits.output_soft_bytes": 16384,
        "rooms.per_user": 1024,
    }
    rooms = [f"list:{i}" for i in range(40)]
    with Broker(options) as broker:
        crowd = [Member(broker, f"{i:02}" + "x" * 62) for i in range(60)]
        for member in crowd:
            for room in rooms:
                member.post("join", room=room)
            member.pump(lambda: len(member.room_states) >= len(rooms))
            member.drain(0.01)
        for recover in (False, True):
            with Member(broker, "alice", receive_buffer=4096) as alice:
                ids = [
                    alice.post("join", room=room, recover=recover)
                    for _ in range(30)
                    for room in rooms
                ]
                time.sleep(0.5)
                answers = {frame.id: frame for frame in answers_to(alice, ids)}
                check_equal(sorted(set(ids) - set(answers)), [], "without an answer")
                states = [frame.room_state for frame in answers.values() if not frame.error.code]
                check_equal({state.name for state in states}, set(rooms), "rooms")
                for state in states:
                    check(state.members >= 61, f"{state.name}: {state.members} members")
                codes = {frame.error.code for frame in answers.values()}
                check(codes <= {0, client_pb.Error.BUSY}, f"refused: {codes}")
                alice.post("logout")
                alice.read_to_end()


class Measuring(Member):
    """Notes how large the largest frame is."""

    largest = 0

    def saw(self, frame):
        self.largest = max(self.largest, frame.ByteSize())


def scene_small_frames():
    """No frame about a room is larger than the Welcome says frames are."""
    with Broker({**OPTIONS, "limits.frame_bytes": 1024}) as broker:
        crowd = [Measuring(broker, f"{i:02}" + "x" * 62) for i in range(60)]
        for member in crowd:
            member.join("list:1")
        late = Measuring(broker, "late")
        late.join("list:1")
        late.until("room_event", lambda event: event.members == 61)
        slow = [member.join("tick:1") for member in crowd[:2]][0]
        for i in range(60):
            crowd[1].publish(slow, b"p" * 900 if i % 8 == 0 else b"p" * 50)
        crowd[0].collect(slow, 60)
        crowd[0].drop()
        late.until("room_event", lambda event: any(c.kind == 1 for c in event.changes))
        largest = max(member.largest for member in crowd + [late])
        check(largest <= 1024, f"a frame of {largest} bytes")


def scene_who_comes_and_goes():
    """Who joins and leaves all the time in a large room costs its members no more than a part of what
    may be delivered there."""
    options = {**OPTIONS, "rooms.deliveries_per_second": 400}
    options["rooms.classes"] = "count:* create=client join=any roster=count"
    with Broker(options) as broker, Owner(broker) as owner:
        crowd = [Member(broker, f"u{i}") for i in range(100)]
        here = [member.join("count:1") for member in crowd][0]
        with Member(broker, "alice") as alice:
            before = owner.numbers("stats")["room_deliveries"]
            began = time.monotonic()
            while time.monotonic() - began < 4:
                alice.join("count:1")
                alice.post("leave", room=here.room)
                time.sleep(0.01)
            passed = time.monotonic() - began
            events = (owner.numbers("stats")["room_deliveries"] - before) / len(crowd)
            check(
                1 <= events <= passed + 2, f"{events} events in {passed} s, and one a second may be"
            )


def scene_leave_for_more():
    """Who leaves and joins again may not publish more by that."""
    options = {**OPTIONS, "rooms.publish_per_second": 10}
    with Broker(options) as broker, Member(broker, "alice") as alice:
        began, taken = time.monotonic(), 0
        for _ in range(8):
            here = alice.join("talk:1")
            ids = [alice.post("publish", room=here.room, payload=b"x") for _ in range(10)]
            taken += sum(alice.answer(id).WhichOneof("body") == "done" for id in ids)
            alice.answer(alice.post("leave", room=here.room))
        most = 10 + 10 * (time.monotonic() - began) + 1
        check(taken <= most, f"{taken} were taken, and {most:.0f} may be")


def answers_to(client, ids):
    """The frames with those ids."""
    wanted, found = set(ids), []
    deadline = time.monotonic() + 30
    while len(found) < len(wanted) and time.monotonic() < deadline:
        frame = client.next_frame(1)
        if frame is not None and frame.id in wanted:
            found.append(frame)
    return found


if __name__ == "__main__":
    play(
        scene_end_meets_full_mailbox,
        scene_leave_behind_join,
        scene_many_rosters,
        scene_small_frames,
        scene_who_comes_and_goes,
        scene_leave_for_more,
    )
