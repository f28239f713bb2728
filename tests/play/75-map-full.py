# SPDX-License-Identifier: Apache-2.0
"""A small store that is full, and a foreign process that keeps old pages of it from being used
again: the file stays within its bound, refusals are honest, talk goes on, and it recovers by
itself, also when that process was killed."""

import os
import subprocess
import time

from usherplay import Backend, Broker, Failed, check, check_equal, eventually, play, program, scaled
from usherplay.backend import kind_name
from usherplay.faults import OPTIONS, SECONDS, People, read_stream

MAP_BYTES = 1 << 20  # the least that the configuration allows
SMALL = {"store.map_bytes": MAP_BYTES, "store.events_kept": 1024, **OPTIONS}
UNSAVED = 75  # a full map has no room for what waits either
AT_ONCE = 40


def file_bytes(broker):
    return os.path.getsize(os.path.join(broker.store, "data.mdb"))


def check_bound(broker):
    size = file_bytes(broker)
    check(size <= MAP_BYTES, f"the file has {size} bytes, store.map_bytes is {MAP_BYTES}")
    return size


def check_map(people, backend):
    """The last epoch that each was welcomed with is in the map. The stream is longer than what is
    kept of it, so it cannot be asked."""
    living = {info.user: info.epoch for info in backend.list_all()[0]}
    told = {
        name: welcomes[-1].epoch
        for name, welcomes in people.welcomes.items()
        if name not in people.gone
    }
    check_equal(living, told, "the map against the last Welcomes")


# --- full of sessions ----------------------------------------------------------------------------


def fill_with_sessions(people):
    """New names until one is refused; gives the clients of the last round, who are still here."""
    number = 0
    while True:
        refused = people.outcomes["UNAVAILABLE"]
        names = [f"player-with-a-name-of-some-length-{number + more:05}" for more in range(AT_ONCE)]
        clients = people.logins(names)
        number += AT_ONCE
        if people.outcomes["UNAVAILABLE"] > refused:
            return clients
        for client in clients[1:]:
            client.close()  # the session stays, detached
        check(number < 100000, "the map never gets full")


def fill_one_by_one(people):
    """The same, each in a commit of its own, which needs less room; gives how many came in."""
    for number in range(10000):
        client, outcome = people.login(f"one-more-{number:05}-" + "x" * 40)
        client.close()
        if outcome != "welcome":
            check_equal(outcome, "UNAVAILABLE", "a new name in a full map")
            return number
    raise Failed("the map never gets full")


def leave_until_there_is_room(people):
    """One after the other logs in again and leaves, until a new name is taken; gives how many."""
    for number, name in enumerate(sorted(people.welcomes)):
        if not people.welcomes[name] or name in ("talker", "listener"):
            continue
        client = people.must_login(name)
        check_equal(people.log_out(client), "done", "a logout in a full map")
        client.close()
        client, outcome = people.login("z" * 60)
        client.close()
        if outcome == "welcome":
            return number + 1
    raise Failed("everybody left, and there is no room")


def scene_full_of_sessions():
    """New names are refused; those who are there resume, take over, are lost and leave, and that
    makes room."""
    with Broker(SMALL) as broker, People(broker) as people:
        broker.ends_with = (0, UNSAVED)
        backend = Backend(broker, hello=False)
        people.talk()
        here = fill_with_sessions(people)
        count = sum(bool(told) for told in people.welcomes.values())
        people.talk()
        for client in here[:5]:
            client.drop()
        for client in here[:5]:
            outcome = people.resume(client.name, client.welcome)[1]
            check_equal(outcome, "welcome", "a resume in a full map")
        for client in here[5:10]:
            people.must_login(client.name)
        alone = fill_one_by_one(people)
        size = check_bound(broker)
        check_map(people, backend)
        people.talk()
        left = leave_until_there_is_room(people)
        check_map(people, backend)
        check_bound(broker)
        people.talk()
        print(
            f"     {count} sessions, and {alone} one by one, in {size} bytes; "
            f"{people.summary()}; room again after {left} logouts"
        )
        backend.lose()


def scene_start_with_a_full_map():
    """Killed while many are online and the map is full. The start has to store that they are
    detached: it does, or it says what to raise; with that everybody is there."""
    with Broker(SMALL) as broker, People(broker) as people:
        broker.ends_with = (0, UNSAVED)
        people.talk()
        fill_with_sessions(people)
        fill_one_by_one(people)
        broker.kill()
        people.close()
        broker.start(wait=False)
        eventually(lambda: broker.log_events("ready") or not broker.alive(), "the start", SECONDS)
        started = broker.alive()
        if not started:
            code = broker.kill()
            said = " ".join(broker.raw_lines())
            check(code > 0 and "store.map_bytes" in said, f"it ended with {code} and said {said!r}")
            broker.restart({"store.map_bytes": 4 * MAP_BYTES})
        with Backend(broker, hello=False) as backend:
            check_map(people, backend)
        print(f"     {'it started' if started else 'it started with a larger map only'}")


# --- a reader that does not let go ---------------------------------------------------------------


class Reader:
    """A foreign process in a read transaction on the store."""

    def __init__(self, broker):
        self.process = subprocess.Popen(
            [program("usher-hold-reader"), broker.store],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        line = self.process.stdout.readline()
        if not line.startswith(b"holding"):
            raise Failed(f"the reader holds nothing: {line!r}")

    def release(self):
        self.process.stdin.close()
        check_equal(self.process.stdout.readline(), b"released\n", "the reader's last word")
        self.process.wait(SECONDS)
        self.process.stdout.close()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def churn_until_refused(people, names):
    """Takeovers: the content does not grow, but each commit needs pages, and none comes back."""
    for _ in range(10000):
        before = people.outcomes["UNAVAILABLE"]
        people.logins(names)
        if people.outcomes["UNAVAILABLE"] > before:
            return
    raise Failed("a reader that keeps every page does not fill the map")


def live_with(broker, people, names, end):
    """A reader comes, the map fills, the reader ends so; gives (bytes, seconds to recover)."""
    reader = Reader(broker)
    try:
        churn_until_refused(people, names)
        for _ in range(max(3, scaled(20))):  # refused again and again, and nothing grows
            people.logins(names)
            people.talk(5)
        size = check_bound(broker)
    finally:
        end(reader)
    return size, people.recover(names[0])


def scene_stuck_reader():
    names = [f"player{number}" for number in range(4)]
    for what, end in (("released", Reader.release), ("killed", Reader.kill)):
        with Broker(SMALL) as broker, People(broker) as people:
            backend = Backend(broker, hello=False)
            people.talk()
            people.logins(names)
            size, seconds = live_with(broker, people, names, end)
            for _ in range(50):  # and it stays well
                check_equal(len(people.logins(names)), len(names), "welcomes after the recovery")
            people.talk()
            check_map(people, backend)
            print(
                f"     a reader that was {what}: {people.summary()}; {size} bytes while it held, "
                f"{check_bound(broker)} at the end; logins again after {seconds * 1000:.0f} ms"
            )
            backend.lose()


def scene_loss_beside_a_stuck_reader():
    """A connection that is lost while nothing can be stored is stored when the reader is gone."""
    with Broker(SMALL) as broker, People(broker) as people:
        backend = Backend(broker, hello=False)
        lost = people.must_login("lost")
        reader = Reader(broker)
        try:
            churn_until_refused(people, ["churn0", "churn1"])
            lost.drop()
            people.talkers = None
        finally:
            reader.release()
        began = time.monotonic()

        def detached():
            events = [event for event in read_stream(backend) or () if event.user == "lost"]
            return events and kind_name(events[-1]) == "DETACHED"

        eventually(detached, "the loss is stored", SECONDS)
        print(f"     stored {(time.monotonic() - began) * 1000:.0f} ms after the reader was gone")
        check_equal(people.resume("lost", lost.welcome)[1], "welcome", "the resume")
        backend.lose()


if __name__ == "__main__":
    play(
        scene_full_of_sessions,
        scene_start_with_a_full_map,
        scene_stuck_reader,
        scene_loss_beside_a_stuck_reader,
    )
