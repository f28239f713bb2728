# SPDX-License-Identifier: Apache-2.0
"""Rooms and friends as programs on libusher see them: real `usher` processes that talk in a room,
lose their connections and their sessions, and are told what they missed."""

import importlib
import json
import signal
import time

from usherplay import Broker, check, check_equal, eventually, play, scaled, seed
from usherplay.relay import Relay

Running = importlib.import_module("80-tools").Running

OPTIONS = {
    "rooms.classes": "talk:* create=client join=any roster=list history=8/60s,"
    "short:* create=client join=any history=2/60s",
    "limits.requests_per_second": 0,
    "rooms.publish_per_second": 0,
}


class Talker(Running):
    """An `usher` in JSON, through a relay."""

    def __init__(self, relay, name, *more):
        host, port = relay.address[0], relay.address[1]
        super().__init__(
            "usher", "--user", name, "--host", host, "--port", str(port), "--json", *more
        )
        self.wait("WELCOME")

    def events(self, kind):
        return [entry for entry in map(json.loads, list(self.lines)) if entry["event"] == kind]

    def wait(self, kind, **fields):
        def fits(line):
            entry = json.loads(line)
            return entry["event"] == kind and all(
                entry.get(name) == value for name, value in fields.items()
            )

        return json.loads(self.wait_line(fits, f"{kind} {fields}"))

    def join(self, room):
        self.say(f"/join {room}")
        return self.wait("ROOM", room=room, state="JOINED")

    def offsets(self, room):
        return [e["offset"] for e in self.events("ROOM_MESSAGE") if e["room"] == room]


def wait_offset(talker, room, offset):
    return talker.wait("ROOM_MESSAGE", room=room, offset=offset)


def scene_talk():
    """All see the same under the same offset; who comes and goes is told."""
    with Broker(OPTIONS) as broker, Relay(broker) as relay, Talker(relay, "alice") as alice, Talker(
        relay, "bob"
    ) as bob:
        alice.join("talk:1")
        bob.join("talk:1")
        alice.wait("ROOM_MEMBERS", room="talk:1", members=2)
        for number in range(5):
            alice.say(f"#talk:1 a{number}")
            bob.say(f"#talk:1 b{number}")
        for talker in (alice, bob):
            wait_offset(talker, "talk:1", 10)
            check_equal(talker.offsets("talk:1"), list(range(1, 11)), "offsets")
        seen = [
            [(e["offset"], e["from"], e["payload"]) for e in talker.events("ROOM_MESSAGE")]
            for talker in (alice, bob)
        ]
        check_equal(seen[0], seen[1], "what both saw")
        bob.say("/leave talk:1")
        bob.wait("ROOM", room="talk:1", state="LEFT")
        alice.wait("ROOM_MEMBERS", room="talk:1", members=1)
        bob.say("/join nowhere")
        bob.wait("ERROR", code="NO_ROOM")


def scene_tunnel():
    """A lost connection: what was missed comes, in order, or it is told that it is gone."""
    with Broker(OPTIONS) as broker, Relay(broker) as relay, Relay(broker) as steady, Talker(
        relay, "alice"
    ) as alice, Talker(steady, "bob") as bob:
        for room in ("talk:1", "short:1"):
            alice.join(room)
            bob.join(room)
            bob.say(f"#{room} first")
            wait_offset(alice, room, 1)
        relay.cut()
        for number in range(5):
            bob.say(f"#talk:1 t{number}")
            bob.say(f"#short:1 s{number}")
        wait_offset(bob, "short:1", 6)
        alice.wait("WELCOME", replay="COMPLETE")
        alice.say("#talk:1 back")
        alice.say("#short:1 back")
        wait_offset(alice, "talk:1", 7)
        wait_offset(alice, "short:1", 7)
        check_equal(alice.offsets("talk:1"), list(range(1, 8)), "nothing is missing")
        missed = alice.offsets("short:1")
        told = [e["replay"] for e in alice.events("ROOM") if e["room"] == "short:1"][1:]
        check(missed == sorted(set(missed)), f"out of order: {missed}")
        if missed != list(range(1, 8)):
            check_equal(told[0], "PARTIAL", f"what came: {missed}")


def scene_new_session():
    """The broker forgets the session: the room is joined again, with what it still has."""
    with Broker({**OPTIONS, "session.resume_ms": 1000}) as broker, Relay(broker) as relay, Relay(
        broker
    ) as steady, Talker(relay, "alice") as alice, Talker(steady, "bob") as bob:
        alice.join("talk:1")
        bob.join("talk:1")
        bob.say("#talk:1 first")
        wait_offset(alice, "talk:1", 1)
        alice.process.send_signal(signal.SIGSTOP)
        relay.cut()
        eventually(lambda: broker.log_events("offline"), "the end of the session")
        bob.say("#talk:1 second")
        wait_offset(bob, "talk:1", 2)
        alice.process.send_signal(signal.SIGCONT)
        alice.wait("ROOM", room="talk:1", state="JOINED", replay="COMPLETE")
        wait_offset(alice, "talk:1", 2)
        alice.say("#talk:1 third")
        wait_offset(alice, "talk:1", 3)
        check_equal(alice.offsets("talk:1"), [1, 2, 3], "what alice saw")


def scene_restart():
    """A restart ends the rooms: who was in one is told, and joins again by hand."""
    with Broker(OPTIONS) as broker, Relay(broker) as relay, Talker(relay, "alice") as alice:
        first = alice.join("talk:1")
        alice.say("#talk:1 first")
        wait_offset(alice, "talk:1", 1)
        broker.kill()
        broker.start()
        alice.wait("ROOM", room="talk:1", state="CLOSED")
        alice.say("/join talk:1")
        eventually(
            lambda: alice.events("ROOM")[-1]["incarnation"] > first["incarnation"],
            "an incarnation of its own",
        )


def gaps_without_a_word(events, room):
    """Offsets that do not follow the one before though no ROOM said that some are gone."""
    found, last, may_jump = [], None, True
    for entry in events:
        if entry.get("room") != room or entry["event"] not in ("ROOM", "ROOM_MESSAGE"):
            continue
        if entry["event"] == "ROOM":
            may_jump = may_jump or entry["replay"] != "COMPLETE"
        else:
            offset = entry["offset"]
            if last is not None and (offset <= last or (offset != last + 1 and not may_jump)):
                found.append((last, offset))
            last, may_jump = offset, False
    return found


def scene_many_tunnels():
    """Cut again and again while others talk: the library believes the broker to the end, and nothing
    is missing in silence."""
    random = seed()
    with Broker(OPTIONS) as broker, Relay(broker) as relay, Relay(broker) as steady, Talker(
        relay, "alice"
    ) as alice, Talker(steady, "bob") as bob:
        rooms = ("talk:1", "short:1", "talk:2")
        for room in rooms:
            alice.join(room)
            bob.join(room)
        said = dict.fromkeys(rooms, 0)
        for _ in range(scaled(25)):
            for _ in range(random.randrange(12)):
                room = random.choice(rooms)
                bob.say(f"#{room} x")
                said[room] += 1
                if random.random() < 0.3:
                    alice.say(f"#{random.choice(rooms)} y")
            time.sleep(random.random() * 0.05)
            relay.cut(random.choice(("RST", "FIN")))
            time.sleep(random.random() * 0.15)
        for room in rooms:
            bob.say(f"#{room} the end")
        for room in rooms:
            alice.wait("ROOM_MESSAGE", room=room, payload="the end")
        events = [json.loads(line) for line in list(alice.lines)]
        errors = [e["error"] for e in events if e["event"] == "DISCONNECTED"]
        check(errors, "nothing was cut")
        check("EPROTO" not in errors, f"the broker was not believed: {errors}")
        for room in rooms:
            check_equal(gaps_without_a_word(events, room), [], f"gaps in {room}")


def scene_friends():
    """Whom one watches is shown with what he says of himself, until he is gone."""
    options = {**OPTIONS, "friends.mode": "open", "friends.batch_ms": 50}
    with Broker(options) as broker, Relay(broker) as relay, Talker(relay, "alice") as alice:
        alice.say("/watch bob eve")
        first = alice.wait("FRIENDS", snapshot=True)["friends"]
        check_equal(
            sorted((friend["user"], friend["state"]) for friend in first),
            [("bob", "OFFLINE"), ("eve", "OFFLINE")],
            "the snapshot",
        )
        with Talker(relay, "bob") as bob:
            bob.say("/status in a match")

            def seen(state, status=None):
                latest = [
                    friend
                    for entry in alice.events("FRIENDS")
                    for friend in entry["friends"]
                    if friend["user"] == "bob"
                ][-1]
                return latest["state"] == state and latest.get("status") == status

            eventually(lambda: seen("ONLINE", "in a match"), "bob with his status")
            bob.say("/quit")
            bob.process.wait(20)
            eventually(lambda: seen("OFFLINE"), "bob gone")


def scene_by_hand():
    """The lines for people: what comes from others cannot steer a terminal."""
    with Broker(OPTIONS) as broker:
        host, port = broker.address[0], str(broker.address[1])
        with Running("usher", "--user", "alice", "--host", host, "--port", port) as alice:
            alice.say("/join talk:1")
            alice.wait_line(
                lambda line: line.endswith("-- room talk:1: joined, 1 in it: alice"), "JOINED"
            )
            alice.say("#talk:1 hello  you")
            alice.wait_line(lambda line: line == "#talk:1 <alice> hello  you", "the message")
            alice.say("/leave talk:1")
            alice.wait_line(lambda line: line == "-- room talk:1: left", "LEFT")
            alice.say("/leave talk:1")
            alice.wait_line(lambda line: line == "not sent: you are not in that room", "why")
            alice.say("/watch bob -eve")
            alice.wait_line(lambda line: "refused: FORBIDDEN" in line, "friends.mode is off")
            alice.say("/join")
            alice.wait_line(lambda line: line.startswith("not sent: a name is missing"), "no room")


if __name__ == "__main__":
    play(
        scene_by_hand,
        scene_talk,
        scene_tunnel,
        scene_many_tunnels,
        scene_new_session,
        scene_restart,
        scene_friends,
    )
