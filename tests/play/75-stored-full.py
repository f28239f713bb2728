# SPDX-License-Identifier: Apache-2.0
"""No room for stored messages: in the map, in a map full of sessions, beside a reader that lets no
page go, and on the disk. Each is refused honestly, what was said to be stored is there after
kill -9, talk and logins go on as they would without, and it goes on when there is room."""

import errno
import importlib
import os
import resource

from usherplay import Broker, check, check_equal, client_pb, play, scaled
from usherplay.faults import OPTIONS, People
from usherplay.gifts import HOUR, NAMES, Gifts
from usherplay.shim import HALF, REFUSED, SYNCED_WRITES, SYNCS, WRITES, Shim

MAP_FULL = importlib.import_module("75-map-full")
SMALL = {
    "store.map_bytes": MAP_FULL.MAP_BYTES,
    "store.events_kept": 1024,
    "admin.listen": "127.0.0.1:0",
    "inbox.stored_per_second": 0,
    **OPTIONS,
}


def others_go_on(people, round):
    """Who does not store notices nothing: talk, new names, those who leave."""
    people.talk()
    for client in people.logins([f"new{round}.{number}" for number in range(5)]):
        check_equal(people.log_out(client), "done", "a logout")
    check_equal(people.outcomes["UNAVAILABLE"], 0, "logins that were refused")


def player_is_told(people, code):
    """A Send to somebody who is here is refused with the same word, and with a time."""
    talker = people.talkers[0]
    id = talker.post("send", to="listener", payload=bytes(900), keep_s=HOUR)
    error = talker.answer_to(id).error
    check_equal(client_pb.Error.Code.Name(error.code), code, "a Send with keep_s")
    check(error.retry_after_ms > 0, f"{code} without retry_after_ms")


def scene_full_map():
    """Their half of the map is full: INBOX_FULL, and an operator is told which limit it was."""
    with Broker(SMALL) as broker, People(broker) as people:
        gifts = Gifts(broker)
        people.talk()
        check_equal(set(gifts.fill()), {"INBOX_FULL"}, "why")
        stored = sum(map(len, gifts.told.values()))
        # Two: behind them a log that was not cleaned stayed full in 10 of 24 runs, behind ten in none of 16.
        for round in range(2):
            check_equal(set(gifts.push(20, 900)), {"INBOX_FULL"}, "why")
            others_go_on(people, round)
        player_is_told(people, "INBOX_FULL")
        numbers = broker.numbers()
        check(numbers["stored_refused_map"] > 20, "stored_refused_map")
        check_equal(numbers["stored_full_percent"], 100, "stored_full_percent")
        lines = [(line["percent"], line["limit"]) for line in broker.log_events("stored_full")]
        check_equal(lines[-1], (100, "store.map_bytes"), "the log")
        check(all(percent >= 80 for percent, _ in lines), f"told before it is full: {lines}")
        gifts.check()
        people.close()
        people.talkers = None
        gifts.crash()
        gifts.fetch(people, NAMES[:20])
        seconds = gifts.room_again(people)
        gifts.fetch(people, NAMES[20:])
        check(broker.numbers()["stored_full_percent"] < 80, "it is told as full for ever")
        gifts.push(200)
        gifts.crash()
        print(f"     {stored} were stored; room again after {seconds * 1000:.0f} ms")
        gifts.lose()


def scene_full_of_sessions():
    """A map that sessions have filled has no room for stored messages, though those have not their
    half; and what was stored before stays."""
    with Broker(SMALL) as broker, People(broker) as people:
        broker.ends_with = (0, MAP_FULL.UNSAVED)
        gifts = Gifts(broker)
        people.talk()
        check_equal(gifts.push(200), [], "refused")
        MAP_FULL.fill_with_sessions(people)
        MAP_FULL.fill_one_by_one(people)
        gifts.link()
        check_equal(set(gifts.fill()), {"INBOX_FULL"}, "why")
        player_is_told(people, "INBOX_FULL")
        check_equal(broker.numbers()["stored_full_percent"], 100, "stored_full_percent")
        check_equal(broker.log_events("stored_full")[-1]["limit"], "store.map_bytes", "the log")
        gifts.check()
        people.talk()
        MAP_FULL.leave_until_there_is_room(people)
        gifts.link()
        gifts.check()
        people.talk()
        gifts.kick(sorted(people.welcomes))
        people.talkers = None
        seconds = gifts.room_again(people)
        people.close()
        people.talkers = None
        gifts.crash()
        print(f"     {gifts.made} pushed; room again after {seconds * 1000:.0f} ms")
        gifts.lose()


def scene_stuck_reader():
    """No page comes back: whatever is refused has left nothing behind, and it ends with the reader."""
    with Broker(SMALL) as broker, People(broker) as people:
        gifts = Gifts(broker)
        people.talk()
        reader = MAP_FULL.Reader(broker)
        try:
            codes = set(gifts.fill())
            check(codes <= {"INBOX_FULL", "UNAVAILABLE"}, f"why: {codes}")
            for _ in range(max(2, scaled(10))):
                people.talk()
                codes |= set(gifts.push(20, 900))
            MAP_FULL.check_bound(broker)
            gifts.check()
        finally:
            reader.release()
        people.recover("somebody")
        seconds = gifts.room_again(people)
        people.close()
        people.talkers = None
        gifts.crash()
        print(f"     {codes}; room again after {seconds * 1000:.0f} ms")
        gifts.lose()


def suffer(broker, people, fill, free, total):
    """The disk is full: UNAVAILABLE, nothing is there of what was refused, and its tag is free."""
    gifts = Gifts(broker)
    people.talk()
    check_equal(gifts.push(100), [], "refused")
    fill()
    refused, rounds = 0, 0
    while rounds < max(3, scaled(8)) or (refused == 0 and rounds < 400):
        codes = gifts.push(20, 900)
        check(set(codes) <= {"UNAVAILABLE"}, f"why: {codes}")
        check(not total or len(codes) == 20, f"{len(codes)} of 20 were refused")
        refused += len(codes)
        rounds += 1
        people.talk(5)
        people.login(f"new{rounds}")
    check(refused > 0, "nothing was refused")
    player_is_told(people, "UNAVAILABLE")
    check(broker.numbers()["stored_refused_store"] > refused, "stored_refused_store")
    gifts.check()  # who asks is not told of more than is stored, either
    broker.check_alive()
    free()
    people.recover("somebody")
    seconds = gifts.room_again(people)
    del gifts.refused[200:]
    check_equal(gifts.push_again(), [], "the tag of what was refused is free")
    people.close()
    people.talkers = None
    gifts.crash()
    gifts.fetch(people, NAMES)
    gifts.lose()
    return refused, seconds


def scene_full_disk():
    """ENOSPC of each kind of call."""
    for what, calls, manner in (
        ("writes", WRITES, REFUSED),
        ("half a write", WRITES, HALF),
        ("syncs", SYNCS, REFUSED),
        ("all of them", WRITES | SYNCS | SYNCED_WRITES, REFUSED),
    ):
        options = {**SMALL, "store.map_bytes": 16 << 20}
        with Shim() as shim, Broker(
            {"store.path": shim.store, **options}, environment=shim.environment()
        ) as broker, People(broker) as people:
            refused, seconds = suffer(
                broker,
                people,
                lambda: shim.fail(calls, errno.ENOSPC, manner=manner),
                shim.heal,
                total=True,
            )
            print(f"     {what}: {refused} refused; room again after {seconds * 1000:.0f} ms")


def scene_file_size_limit():
    """The file may not grow: what fits into it is stored, and the rest is refused."""
    with Broker({**SMALL, "store.map_bytes": 16 << 20}) as broker, People(broker) as people:
        hard = resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE)[1]

        def limit(size):
            resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (size, hard))

        data = os.path.join(broker.store, "data.mdb")
        refused, seconds = suffer(
            broker, people, lambda: limit(os.path.getsize(data)), lambda: limit(hard), total=False
        )
        print(f"     {refused} refused; room again after {seconds * 1000:.0f} ms")


if __name__ == "__main__":
    play(
        scene_full_map,
        scene_full_of_sessions,
        scene_stuck_reader,
        scene_full_disk,
        scene_file_size_limit,
    )
