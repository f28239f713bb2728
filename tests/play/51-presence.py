# SPDX-License-Identifier: Apache-2.0
"""Presence: the truth, in order, without gaps, however a backend asks for it."""

import re
import subprocess
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    backend_pb,
    check,
    check_equal,
    check_presence,
    eventually,
    play,
    seed,
)
from usherplay.backend import cause_name, kind_name, state_name


def story(broker):
    """Everything that can happen to alice once; gives what a backend must see."""
    seen = []
    alice = Client(broker)
    first = alice.login("alice", client="phone")
    seen.append(("ONLINE", "LOGIN", first.epoch, 0))
    alice.drop()
    wait_state(broker, "alice", "DETACHED")
    seen.append(("DETACHED", "LOST", first.epoch, 0))
    alice = Client(broker)
    alice.resume(first, 0, name="alice")
    seen.append(("RESUMED", None, first.epoch, 0))
    newer = Client(broker)
    second = newer.login("alice", client="tablet")
    seen.append(("ONLINE", "TAKEOVER", second.epoch, first.epoch))
    alice.close()
    newer.post("logout")
    newer.read_to_end()
    newer.close()
    seen.append(("OFFLINE", "LOGOUT", second.epoch, 0))
    third = Client(broker)
    welcome = third.login("alice")
    seen.append(("ONLINE", "LOGIN", welcome.epoch, 0))
    third.drop()
    seen.append(("DETACHED", "LOST", welcome.epoch, 0))
    wait_state(broker, "alice", "GONE")
    seen.append(("OFFLINE", "EXPIRED", welcome.epoch, 0))
    return seen


def wait_state(broker, user, state):
    tool = Backend(broker, hello=False)
    eventually(lambda: state_name(tool.lookup(user).sessions[0]) == state, f"{user} {state}")
    tool.close()


def check_story(events, seen):
    got = [
        (kind_name(event), cause_name(event), event.epoch, event.previous_epoch) for event in events
    ]
    expected = [
        (kind, cause or other[1], epoch, previous)
        for (kind, cause, epoch, previous), other in zip(seen, got)
    ]
    check_equal(got, expected + seen[len(expected) :], "the events")


SHORT = {"session.resume_ms": 700}


def scene_events():
    with Broker(SHORT) as broker:
        backend = Backend(broker, presence=True)
        check_equal(backend.accepted.presence_from, 1, "presence_from of a new stream")
        seen = story(broker)
        backend.wait_events(lambda events: len(events) >= len(seen), f"{len(seen)} events")
        check_story(backend.events, seen)
        check_equal(check_presence(backend.events, first_seq=1), {}, "who lives")
        online = backend.events[0]
        check_equal(online.client, "phone", "client")
        check("127.0.0.1" in online.address, f"address {online.address!r}")
        check(abs(online.time_ms / 1000 - time.time()) < 30, "time_ms is far from now")
        until = backend.events[1].until_ms - backend.events[1].time_ms
        check(500 < until < 1000, f"until_ms is {until} ms after the event (window 700)")
        check_equal(backend.resets, 0, "resets")
        print(f"     {len(seen)} events, each once and in order")
        backend.close()


def scene_catch_up():
    """Whoever comes back says what it has, and gets what it missed."""
    with Broker(SHORT) as broker:
        seen = story(broker)
        for after in range(1, len(seen) + 1):
            backend = Backend(broker, presence=True, presence_after=after)
            check_equal(backend.accepted.presence_from, after + 1, "presence_from")
            missed = len(seen) - after
            backend.wait_events(lambda events: len(events) >= missed, f"{missed} events")
            check_story(backend.events, seen[after:])
            backend.close()
        backend = Backend(broker, presence=True)  # 0: from now on
        check_equal(backend.accepted.presence_from, len(seen) + 1, "presence_from")
        backend.fetch(wait_ms=50)
        check_equal(backend.events, [], "events of before")
        with Client(broker) as bob:
            bob.login("bob")
            backend.wait_event("bob", "ONLINE")
        backend.close()
        tool = Backend(broker, hello=False)  # without a link
        check_story(tool.all_events(limit=3)[: len(seen)], seen)
        tool.close()


def scene_not_done_comes_again():
    with Broker() as broker:
        backend = Backend(broker, presence=True)
        clients = [Client(broker) for _ in range(5)]
        for number, client in enumerate(clients):
            client.login(f"user{number}")
        backend.wait_events(lambda events: len(events) == 5, "five logins")
        first = list(backend.events)
        backend.events.clear()
        backend.presence_done = 2  # as if the answers had been lost
        backend.wait_events(lambda events: len(events) == 3, "three again")
        check_equal(backend.events, first[2:], "the events that came again")
        for client in clients:
            client.close()
        backend.close()


def scene_observers_agree():
    """Three observers at their own pace and the stored stream show the same."""
    random = seed()
    with Broker({"session.resume_ms": 300}) as broker:
        observers = [Backend(broker, presence=True) for _ in range(3)]
        clients = {}
        for step in range(200):
            name = f"user{random.randrange(12)}"
            client = clients.pop(name, None)
            choice = random.random()
            if client is None or choice < 0.3:
                newer = Client(broker)
                newer.login(name)
                clients[name] = newer
                if client is not None:
                    client.close()
            elif choice < 0.7:
                client.drop()
            else:
                client.post("logout")
                client.read_to_end()
            if step % 7 == 0:
                observers[random.randrange(2)].fetch(wait_ms=1)
        for client in clients.values():
            client.drop()
        tool = Backend(broker, hello=False)
        eventually(lambda: not tool.list_all()[0], "an empty map")
        stored = tool.all_events()
        for observer in observers:
            observer.wait_events(lambda events: len(events) >= len(stored), "all events")
            check_equal(
                [event.SerializeToString() for event in observer.events],
                [event.SerializeToString() for event in stored],
                "an observer's events",
            )
            observer.close()
        check_equal(check_presence(stored, first_seq=1), {}, "who lives")
        tool.close()
        print(f"     {len(stored)} events, the same for all")


def scene_snapshot_is_a_position():
    """Each page is the state at its seq: what the events up to there add up to."""
    random = seed()
    with Broker() as broker:
        tool = Backend(broker, hello=False)
        clients = {}
        for step in range(120):
            name = f"user{random.randrange(20):02}"
            client = clients.pop(name, None)
            if client is not None and random.random() < 0.5:
                client.drop()
                continue
            clients[name] = Client(broker)
            clients[name].login(name)
            if client is not None:
                client.close()
            if step % 10 == 0:
                pages, _ = tool.snapshot(limit=6)
                events = tool.all_events()
                for info, seq in pages:
                    living = check_presence(
                        [event for event in events if event.seq <= seq], first_seq=1
                    )
                    check_equal(
                        living.get(info.user),
                        (state_name(info), info.epoch),
                        f"{info.user} at seq {seq}",
                    )
        for client in clients.values():
            client.drop()
        tool.close()


def quoted_bytes(line):
    """One message as nngcat --hex prints it."""
    return bytes(int(digits, 16) for digits in re.findall(rb"\\x([0-9a-fA-F]{2})", line))


def scene_feed():
    """The lossy copy shows the same to a tool that knows only nng."""
    with Broker(SHORT) as broker:
        url = f"ipc://{broker.folder}/feed.sock"
        broker.stop()
        broker.restart({"feed.url": url})
        tool = Backend(broker, hello=False)
        start = len(tool.all_events())
        feed = subprocess.Popen(
            ["nngcat", "--sub", "--dial", url, "--subscribe", "presence/", "--hex"],
            stdout=subprocess.PIPE,
        )
        try:
            time.sleep(0.5)  # until the subscription is there
            seen = story(broker)
            time.sleep(0.5)
        finally:
            feed.terminate()
            output = feed.communicate()[0]
        stored = tool.all_events()[start:]
        tool.close()
        got = []
        for line in output.splitlines():
            topic, _, body = quoted_bytes(line).partition(b"\0")
            event = backend_pb.PresenceEvent.FromString(body)
            check_equal(topic, b"presence/" + event.user.encode(), "topic")
            got.append(event)
        check_equal(got, stored, "what the feed showed")
        check_story(got, seen)
        print(f"     {len(got)} events in the feed")


if __name__ == "__main__":
    play(
        scene_events,
        scene_catch_up,
        scene_not_done_comes_again,
        scene_observers_agree,
        scene_snapshot_is_a_position,
        scene_feed,
    )
