# SPDX-License-Identifier: Apache-2.0
"""Another process in the place of the one that serves, and rooms go over: each member has every message
once and in one order, a Join that waits for its owner has its answer, who is away misses nothing, and
nobody is told anything that has not happened."""

import os
import subprocess
import tempfile
import time

from usherplay import check, check_equal, client_pb, eventually, play, program, scaled
from usherplay.backend import code_name
from usherplay.receiver import Receiver
from usherplay.rooms import Member, Owner, states
from usherplay.successor import Loop, SucceededBroker

CLASSES = (
    "talk:* create=client join=any roster=list history=8/60s,"
    "tick:* create=client join=any roster=list history=64/60s tick=50ms,"
    "ask:* create=service join=service owner=maker roster=list,"
    "shut:* create=backend join=backend publish=member,"
    "told:* create=client join=any owner=maker webhook=yes follow=messages"
)
OPTIONS = {
    "rooms.classes": CLASSES,
    "rooms.ask_ms": 8000,
    "rooms.publish_per_second": 0,
    "limits.requests_per_second": 0,
    "link.grace_ms": 5000,
}
SECRET = b"whsec_of_the_plays"
UPGRADES = scaled(6, least=3)
State = client_pb.RoomState


def ctl(broker, *arguments):
    done = subprocess.run(
        [program("usherctl"), "--url", broker.link_url, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    check_equal(done.returncode, 0, f"usherctl {arguments}: {done.stderr}")
    return done.stdout


def upgrade(broker, *owners):
    """And each owner of rooms finds the new process."""
    line = broker.upgrade()
    for owner in owners:
        owner.lose()
    return line


def is_quiet(members):
    """Nobody was told anything but messages."""
    for member in members:
        check_equal(list(member.room_states), [], f"{member.name}: RoomStates that came")
        check_equal(list(member.events), [], f"{member.name}: RoomEvents that came")
        check_equal(states(member.others), [], f"{member.name}: what else came")


def talk(member, here):
    def once(number):
        member.publish(here, b"%s %d" % (member.name.encode(), number))

    return once


def listen(member):
    def once(_):
        member.pump(lambda: False, 0.05)

    return once


def talk_through(broker, room):
    """Two speak and one listens, of both transports."""
    members = [
        Member(broker, f"{name}-{room}", over=over)
        for name, over in (("anna", "tcp"), ("bert", "ws"), ("cora", "tcp"))
    ]
    here = [member.join(room) for member in members]
    for member in members:
        member.drain(0.4)
    loops = [
        Loop(talk(members[0], here[0])),
        Loop(talk(members[1], here[1])),
        Loop(listen(members[2])),
    ]
    return members, here, loops


def scene_talk_goes_on():
    """What each member gets is checked by each of them: offsets go on, nothing comes twice."""
    with SucceededBroker({**OPTIONS}, ws=True) as broker:
        rooms = [talk_through(broker, room) for room in ("talk:1", "tick:1")]
        frozen = []
        for _ in range(UPGRADES):
            time.sleep(0.2)
            line = broker.upgrade()
            check_equal(line["rooms"], 2, "rooms that went over")
            frozen.append(line["frozen_ms"])
        for members, here, loops in rooms:
            counts = [loop.end() for loop in loops]
            total = sum(counts[:2])
            got = [member.collect(at, total) for member, at in zip(members, here)]
            said = [[message.payload for message in messages] for messages in got]
            check_equal(said[1:], said[:-1], "one order for all")
            check_equal(len(set(said[0])), total, "each once")
            is_quiet(members)
            print(
                f"     {total} messages in {here[0].name} beside {UPGRADES} upgrades; {frozen} ms"
            )
            for member in members:
                member.close()


def scene_a_join_waits_for_its_owner():
    """One whose owner was asked before, one whose owner is asked after, one whom nobody answers."""
    with SucceededBroker({**OPTIONS}) as broker, Owner(broker) as owner:
        alice, bob, cora, dora = (Member(broker, name) for name in ("alice", "bob", "cora", "dora"))
        id = alice.post("join", room="ask:1")
        owner.reply(owner.next_ask())
        there = alice.answer_to(id).room_state
        owner.wait_news("OPENED ASKED", "JOINED alice ASKED")
        alice.drain(0.4)
        asked = bob.post("join", room="ask:1")
        ask = owner.next_ask()
        unasked = cora.post("join", room="ask:1")
        silent = dora.post("join", room="ask:2")
        alice.ping()
        for _ in range(2):
            upgrade(broker, owner)
        owner.reply(ask)
        state = bob.answer_to(asked).room_state
        check_equal((state.state, state.incarnation), (State.JOINED, there.incarnation), "a yes")
        owner.wait(lambda: len(owner.asks) >= 2, "the other RoomAsks")
        asks = {ask.user: ask for ask in owner.asks}
        check_equal(sorted(asks), ["cora", "dora"], "who is asked about")
        owner.reply(asks["cora"], 7, b"not on the list")
        check("not on the list" in cora.expect_error("FORBIDDEN", id=unasked).detail, "its words")
        owner.wait(lambda: dora.pump(lambda: dora.others, 0.05), "end of the time", 60)
        error = dora.answer(silent).error
        check_equal(error.code, client_pb.Error.TIMEOUT, f"what dora is told: {error}")
        check_equal(code_name(owner.reply(asks["dora"])), "GONE", "too late")
        owner.wait_news("JOINED bob ASKED")
        event = alice.until("room_event", lambda event: event.changes)
        check_equal([change.user for change in event.changes], ["bob"], "who has come")
        for member in (alice, bob, cora, dora):
            member.close()


def scene_who_is_away():
    """In a tunnel while the process is another one: the others are told once that she is away and
    that she is back, and she misses nothing."""
    with SucceededBroker({**OPTIONS}) as broker, Member(broker, "bob") as bob:
        alice = Member(broker, "alice")
        here = alice.join("talk:1")
        there = bob.join("talk:1")
        bob.publish(there, b"before")
        alice.collect(here, 1)
        position = alice.offsets[here.room]
        bob.drain(0.4)
        alice.drop()
        event = bob.until("room_event", lambda event: event.changes)
        check_equal([(c.user, c.kind) for c in event.changes], [("alice", 1)], "AWAY")
        for number in range(3):
            bob.publish(there, b"missed %d" % number)
            broker.upgrade()
        alice = alice.come_back([(here.room, here.incarnation, position)])
        state = alice.state()
        check_equal((state.replay, state.offset), (State.COMPLETE, 4), "what the room says")
        got = alice.collect(here, 3)
        check_equal([m.payload for m in got], [b"missed %d" % i for i in range(3)], "the rest")
        event = bob.until("room_event", lambda event: event.changes)
        check_equal([(c.user, c.kind) for c in event.changes], [("alice", 2)], "BACK")
        bob.publish(there, b"after")
        check_equal(alice.collect(here, 1)[0].payload, b"after", "live again")
        alice.close()


def scene_history_and_who_comes_late():
    """What the room has of its messages, what it says of itself, and who is in it."""
    with SucceededBroker({**OPTIONS}) as broker, Member(broker, "alice") as alice:
        here = alice.join("talk:1")
        for number in range(20):
            alice.publish(here, b"%d" % number)
        with Owner(broker) as owner:
            members, page = owner.members("talk:1")
        rows = ctl(broker, "rooms")
        check("talk:1" in rows, rows)
        for _ in range(2):
            broker.upgrade()
        check_equal(ctl(broker, "rooms"), rows, "usherctl rooms")
        with Owner(broker) as owner:
            members_after, page_after = owner.members("talk:1")
        check_equal((members_after, page_after), (members, page), "the members")
        with Member(broker, "bob") as bob:
            bob.offsets[here.room] = 0
            there = bob.join("talk:1", recover=True)
            check_equal(
                (there.replay, there.offset, there.room, there.incarnation),
                (State.PARTIAL, 20, here.room, here.incarnation),
                "a late Join",
            )
            got = bob.collect(there, 8)
            check_equal([m.payload for m in got], [b"%d" % i for i in range(12, 20)], "history")
            check_equal(bob.publish(there, b"21"), 21, "its offset")
            got = alice.collect(here, 21)
            check_equal([m.payload for m in got[-2:]], [b"19", b"21"], "what alice got")


def scene_closed_rooms_stay_closed():
    """A room that only a service lets anybody into, and that it closes."""
    with SucceededBroker({**OPTIONS}) as broker, Owner(broker, "staff") as owner:
        alice, bob = Member(broker, "alice"), Member(broker, "bob")
        opened = owner.do("room_open", room="shut:1", members_max=2).rooms.rooms[0]
        check_equal(
            owner.do("room_add", room="shut:1", users=["alice"], carry=True).WhichOneof("value"),
            "push",
            "RoomAdd",
        )
        here = alice.state()
        upgrade(broker, owner)
        bob.post("join", room="shut:1")
        bob.expect_error("FORBIDDEN")
        alice.publish(here, b"alone")
        check_equal(alice.collect(here, 1)[0].payload, b"alone", "her own")
        with Member(broker, "alice") as again:  # and she stays in it, by that carry
            state = again.state()
            check_equal(
                (state.state, state.incarnation, state.offset),
                (State.JOINED, opened.incarnation, 1),
                "she stays",
            )
            owner.do("room_close", room="shut:1")
            check_equal(again.state().state, State.CLOSED, "the end")
        bob.close()
        alice.close()


def secret_file():
    handle, path = tempfile.mkstemp(prefix="usher-play-secret-")
    os.write(handle, SECRET + b"\n")
    os.close(handle)
    return path


def posted(receiver):
    """The seq of all news that were posted, in their order, and of which boots."""
    seqs, boots = [], set()
    for _, body in list(receiver.requests):
        for news in body.get("room_news", ()):
            boots.add(body["boot"])
            if news["kind"] != "RESET":
                seqs.append(news["seq"])
    return seqs, boots


def scene_news_are_told_once():
    """To the service that owns the rooms, and by webhook: one boot, no number left out."""
    with Receiver(SECRET.decode()) as receiver:
        options = {
            **OPTIONS,
            "webhook.url": receiver.url,
            "webhook.secret_file": secret_file(),
            "webhook.retry_min_ms": 20,
            "webhook.retry_max_ms": 100,
            "webhook.timeout_ms": 20000,
            "webhook.batch": 7,
        }
        with SucceededBroker(options) as broker, Owner(broker) as owner:
            eventually(lambda: receiver.news_resets, "the RESET of the boot", 20)
            alice, bob = Member(broker, "alice"), Member(broker, "bob")
            here = alice.join("told:1")
            bob.join("told:1")
            for number in range(UPGRADES):
                if number == UPGRADES // 2:
                    receiver.behave = ["lose", "hang"]  # and so some are under way, or wait
                for message in range(30):
                    alice.publish(here, b"%d %d" % (number, message))
                upgrade(broker, owner)
                alice.publish(here, b"%d after" % number)
            wanted = 3 + 31 * UPGRADES
            owner.wait(lambda: len(owner.news) >= wanted, "news of all")
            receiver.wait_news(wanted, 60)
            check_equal([news.news_seq for news in owner.news], list(range(1, wanted + 1)), "owner")
            check_equal([n["news_seq"] for n in receiver.news], list(range(1, wanted + 1)), "hook")
            check_equal([r["reason"] for r in receiver.news_resets], ["boot"], "RESETs")
            seqs, boots = posted(receiver)
            check_equal(len(boots), 1, "boots")
            again = len(seqs) - len(set(seqs))
            print(f"     {wanted} news, of which {again} were posted again")
            for member in (alice, bob):
                member.close()


def scene_a_refusal_changes_nothing():
    """The new process has another number of I/O threads and does not take it: the posting thread rested
    by then, and goes on."""
    with Receiver(SECRET.decode()) as receiver, tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "other")
        with open(path, "w", encoding="ascii") as file:
            file.write(f'#!/bin/sh\nexec {program("usherd")} "$@" --set threads.io=7\n')
        os.chmod(path, 0o700)
        options = {
            **OPTIONS,
            "webhook.url": receiver.url,
            "webhook.secret_file": secret_file(),
            "process.upgrade_program": path,
        }
        with SucceededBroker(options) as broker, Member(broker, "alice") as alice:
            here = alice.join("told:1")
            for number in range(3):
                alice.publish(here, b"%d" % number)
                code, said = broker.ask()
                check_equal(code, 1, f"the exit code of usherctl, which said {said}")
                check("nothing is lost" in said, said)
            check_equal(len(alice.collect(here, 3)), 3, "messages")
            receiver.wait_news(5)
            check_equal([n["news_seq"] for n in receiver.news], list(range(1, 6)), "news")
            check_equal([r["reason"] for r in receiver.news_resets], ["boot"], "RESETs")


play(
    scene_talk_goes_on,
    scene_a_join_waits_for_its_owner,
    scene_who_is_away,
    scene_history_and_who_comes_late,
    scene_closed_rooms_stay_closed,
    scene_news_are_told_once,
    scene_a_refusal_changes_nothing,
)
