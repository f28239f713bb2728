# SPDX-License-Identifier: Apache-2.0
"""Who is a member: each row of the table in protocol.md 1.13, for who joined by himself and for whom
a service added to stay; and resumes cut after every byte, after which nothing is missing in silence.

USHER_PLAY_LARGE=1: every byte; otherwise every few."""

import os
import time

from usherplay import Broker, check, check_equal, client_pb, play
from usherplay.client import ConnectionEnded
from usherplay.relay import Plan, Relay
from usherplay.rooms import Member, Owner
from usherplay.stage import OVER
from usherplay.tokens import Key, Keys
from usherplay.websocket import upgrade_bytes

DOWN = upgrade_bytes()[1] if OVER == "ws" else 0  # what goes before the first frame
STEP = 1 if os.environ.get("USHER_PLAY_LARGE") else 5
CLASSES = (
    "talk:* create=client join=any roster=list history=64/60s owner=maker idle=60s,"
    "made:* create=backend join=backend roster=list history=64/60s owner=maker idle=60s"
)
OPTIONS = {
    "rooms.classes": CLASSES,
    "limits.requests_per_second": 0,
    "limits.logins_per_minute_per_user": 0,
    "limits.logins_per_minute_per_source": 0,
    "rooms.publish_per_second": 0,
    "session.resume_ms": 60000,
}
State, Change = client_pb.RoomState, client_pb.RoomChange
BOTH = (("talk:1", False), ("made:1", True))


class Table:
    """alice, of whom the row tells, and bob, who looks on, in a room; and its owner."""

    def __init__(self, room, carried, options=None):
        self.room, self.carried = room, carried
        self.broker = Broker({**OPTIONS, **(options or {})})
        self.owner = Owner(self.broker)
        self.bob = Member(self.broker, "bob")
        self.alice = Member(self.broker, "alice")
        if carried:
            self.owner.do("room_open", room=room)
            self.add("bob")
            self.there = self.bob.state()
            self.add("alice")
            self.here = self.alice.state()
        else:
            self.there = self.bob.join(room)
            self.here = self.alice.join(room)
        self.owner.wait_news("JOINED alice " + ("SERVICE" if carried else "ASKED"))
        self.wait_change("alice", Change.JOINED)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for part in (self.alice, self.bob, self.owner):
            part.close() if hasattr(part, "close") else part.lose()
        self.broker.__exit__(kind, value, trace)

    def add(self, user):
        result = self.owner.do("room_add", room=self.room, users=[user], carry=True)
        check_equal((result.code, result.push.accepted), (0, 1), f"RoomAdd of {user}")

    def say(self, text):
        result = self.owner.do("room_publish", room=self.room, payload=text)
        check_equal(result.code, 0, "RoomPublish")
        return result.rooms.rooms[0].offset

    def wait_change(self, user, kind):
        self.bob.until(
            "room_event", lambda e: any((c.user, c.kind) == (user, kind) for c in e.changes)
        )

    def position(self):
        return self.here.room, self.here.incarnation, self.alice.offsets[self.here.room]


def payloads(messages):
    return [message.payload for message in messages]


def scene_away_and_back():
    for room, carried in BOTH:
        with Table(room, carried) as table:
            table.say(b"before")
            table.alice.collect(table.here, 1)
            position = table.position()
            table.alice.drop()
            table.wait_change("alice", Change.AWAY)
            table.owner.wait_news("AWAY alice UNKNOWN")
            for i in range(5):
                table.say(b"missed %d" % i)
            table.alice = table.alice.come_back([position])
            state = table.alice.state()
            check_equal((state.state, state.replay), (State.JOINED, State.COMPLETE), "named")
            check_equal(
                sorted((m.user, m.away) for m in state.roster),
                [("alice", False), ("bob", False)],
                "roster",
            )
            got = table.alice.collect(table.here, 5)
            check_equal(payloads(got), [b"missed %d" % i for i in range(5)], "what was missed")
            table.wait_change("alice", Change.BACK)
            table.owner.wait_news("BACK alice UNKNOWN")
            # A room that it does not name: it goes on from now.
            table.alice.drop()
            table.wait_change("alice", Change.AWAY)
            table.say(b"never")
            table.alice = table.alice.come_back([])
            state = table.alice.state()
            check_equal((state.replay, state.offset), (State.NONE, 7), "not named")
            table.say(b"now")
            check_equal(payloads(table.alice.collect(table.here, 1)), [b"now"], "from now on")


def scene_positions_of_ended_ones():
    for room, carried in BOTH:
        with Table(room, carried) as table:
            position = table.position()
            table.alice.drop()
            table.wait_change("alice", Change.AWAY)
            result = table.owner.do("room_remove", room=room, users=["alice"])
            check_equal(result.push.accepted, 1, "RoomRemove")
            table.owner.wait_news("LEFT alice SERVICE")
            table.alice = table.alice.come_back([position, (4711, 9, 3), (4712, 1, 2**64 - 1)])
            got = [table.alice.state() for _ in range(3)]
            check_equal(
                [(state.room, state.state) for state in got],
                [(table.here.room, State.REMOVED), (4711, State.CLOSED), (4712, State.CLOSED)],
                "positions",
            )
            table.say(b"x")
            table.alice.expect_nothing(0.1)
            # Closed while somebody is away.
            table.add("alice")
            here = table.alice.state()
            table.alice.drop()
            table.wait_change("alice", Change.AWAY)
            table.owner.do("room_close", room=room, detail="over")
            check_equal(table.bob.state().state, State.CLOSED, "bob")
            table.alice = table.alice.come_back([(here.room, here.incarnation, here.offset)])
            check_equal(table.alice.state().state, State.CLOSED, "alice")


def scene_takeover():
    for room, carried in BOTH:
        with Table(room, carried) as table:
            old, table.alice = table.alice, Member(table.broker, "alice")
            if carried:
                state = table.alice.state()
                check_equal((state.state, state.replay), (State.JOINED, State.NONE), "carried")
                table.say(b"x")
                check_equal(payloads(table.alice.collect(state, 1)), [b"x"], "carried")
                members, _ = table.owner.members(room)
                check_equal(
                    {m.user: (m.epoch, m.carry) for m in members}["alice"],
                    (table.alice.welcome.epoch, True),
                    "member",
                )
            else:
                table.owner.wait_news("LEFT alice TAKEOVER")
                table.wait_change("alice", Change.LEFT)
                table.say(b"x")
                table.alice.expect_nothing(0.1)
            old.read_to_end()


def scene_ends_of_the_session():
    for room, carried in BOTH:
        for cause in ("LOGOUT", "KICKED", "EXPIRED"):
            with Table(room, carried, {"session.resume_ms": 1000}) as table:
                if cause == "LOGOUT":
                    table.alice.post("logout")
                elif cause == "KICKED":
                    table.owner.kick("alice")
                else:
                    table.alice.drop()
                table.owner.wait_news(f"LEFT alice {cause}")
                table.wait_change("alice", Change.LEFT)
                with Member(table.broker, "alice") as again:
                    table.say(b"x")
                    again.expect_nothing(0.1)


def scene_end_of_the_token():
    key = Key("HS256", "k1")
    with Keys(key) as keys, keys.broker(
        {**OPTIONS, "auth.session_ends": "with_token", "auth.skew_ms": 0}
    ) as broker, Owner(broker) as owner:
        alice = Member(broker, "alice", welcome=False)
        alice.login("alice", token=key.sign("alice", ttl=3))
        alice.join("talk:1")
        owner.wait_news("JOINED alice ASKED")
        owner.wait_news("LEFT alice TOKEN_EXPIRED")
        alice.close()


def scene_killed():
    for room, carried in BOTH:
        with Table(room, carried) as table:
            table.say(b"x")
            table.alice.collect(table.here, 1)
            position = table.position()
            table.owner.lose()
            table.broker.kill()
            table.broker.restart()
            table.owner = Owner(table.broker)
            table.alice = table.alice.come_back([position])
            check_equal(table.alice.state().state, State.CLOSED, "after a kill")
            if carried:
                table.owner.do("room_open", room=room)
                table.add("alice")
                again = table.alice.state()
            else:
                again = table.alice.join(room)
            check(again.incarnation > table.here.incarnation, "a new life")
            check_equal(again.offset, 0, "a new life")


# --- cut after every byte --------------------------------------------------------------------------


def cut_once(relay, alice, position, cut_down):
    """A resume through the relay that is cut after so many bytes; gives what alice has then, or None
    when all of it came."""
    room, incarnation, offset = position
    # From here on nothing is told to who is not connected: the relay ends it when it likes.
    client = relay.connect(
        lambda: Member(relay, "alice", welcome=alice.welcome, timeout=10),
        Plan(cut_down=cut_down, cut_how="RST"),
    )
    client.last_id = alice.last_id
    frame = client.request(
        "resume",
        username="alice",
        epoch=alice.welcome.epoch,
        secret=alice.welcome.secret,
        last_seq=0,
    )
    frame.resume.rooms.add(room=room, incarnation=incarnation, offset=offset)
    client.offsets[room] = offset
    try:
        client.send_frame(frame)
        client.pump(lambda: client.offsets.get(room, 0) >= offset + 8, 20 if cut_down else 0.5)
    except (ConnectionEnded, OSError):
        pass
    for other in client.others:
        if other.WhichOneof("body") == "welcome":
            alice.welcome = other.welcome
    return client


def scene_cut_after_every_byte():
    """Each resume names what came whole before the cut. The client checks that offsets have no gap
    unless PARTIAL was said; here, that in the end each message came once and in order."""
    for members in (2, 10):
        with Broker(OPTIONS) as broker:
            others = [Member(broker, f"u{i}") for i in range(members - 1)]
            alice = Member(broker, "alice")
            here = alice.join("talk:1")
            for other in others:
                other.join("talk:1")
            got, said, cut = [], 0, DOWN
            with Relay(broker) as relay:
                client = alice
                position = (here.room, here.incarnation, 0)
                whole = False
                while not whole:
                    client.drop()
                    while said < position[2] + 8:  # the history has them all
                        others[said % len(others)].publish(here, b"m%d" % said)
                        said += 1
                    client = cut_once(relay, alice, position, cut)
                    fresh = list(client.got[here.room])
                    got += [message.payload for message in fresh]
                    position = (*position[:2], position[2] + len(fresh))
                    check_equal(client.offsets.get(here.room), position[2], f"cut at {cut}")
                    whole = position[2] == said and client.ended is None
                    cut += STEP
                    check(cut < DOWN + 100000, "it never comes whole")
                client.drop()
                client = cut_once(relay, alice, position, None)
                check_equal(got, [b"m%d" % i for i in range(said)], "all of it, in order, once")
                others[0].publish(here, b"live")
                check_equal(payloads(client.collect(here, 1)), [b"live"], "and live again")
                client.close()


if __name__ == "__main__":
    play(
        scene_away_and_back,
        scene_positions_of_ended_ones,
        scene_takeover,
        scene_ends_of_the_session,
        scene_end_of_the_token,
        scene_killed,
        scene_cut_after_every_byte,
    )
