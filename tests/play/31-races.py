# SPDX-License-Identifier: Apache-2.0
"""Races for one session: ends that come late, two resumes, resume against login, and the stop.

USHER_PLAY_LARGE=1 runs more of each, and holds ends back for up to 3 s."""

import collections
import os
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    ConnectionEnded,
    check,
    check_equal,
    check_presence,
    client_pb,
    eventually,
    play,
    scaled,
    seed,
)
from usherplay.backend import kind_name
from usherplay.client import Crowd, Witness
from usherplay.history import History, check_history
from usherplay.relay import Plan, Relay

LARGE = bool(os.environ.get("USHER_PLAY_LARGE"))
FREE = {"limits.takeovers_per_minute": 0}


class Caller:
    """A third user who sends every 10 ms, whatever happens; half of it until DELIVERED."""

    def __init__(self, broker, history):
        self.client = Witness(broker, history)
        self.client.login("carol")
        self.number = 0
        self.due = time.monotonic()

    def call(self):
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + 0.01
        until = client_pb.Send.DELIVERED if self.number % 2 else client_pb.Send.ACCEPTED
        self.client.post("send", to="alice", payload=b"%d" % self.number, until=until)
        self.number += 1
        self.client.frames.clear()


def turn(crowd, caller):
    """Reads once; whoever is alice acknowledges what she gets."""
    if caller is not None:
        caller.call()
    for client in crowd.read(0.005):
        if caller is not None and client is caller.client:
            continue
        messages = [frame.message.seq for frame in client.take("message")]
        if messages and not client.ended:
            try:
                client.post("ack", id=0, seq=messages[-1])
            except OSError:
                pass


def turns(crowd, caller, condition, what, timeout=30):
    deadline = time.monotonic() + timeout
    while not condition():
        check(time.monotonic() < deadline, f"not within {timeout} s: {what}")
        turn(crowd, caller)


def scene_late_closes_through_a_relay():
    """The ends of old connections arrive up to seconds late, around and after the newer logins.
    Whoever sends to the user is never told that he is offline."""
    rounds, hold = (300, 3.0) if LARGE else (scaled(200, 16), 0.6)
    random = seed()
    history = History()
    options = {**FREE, "limits.close_linger_ms": 5000, "limits.inbox_messages": 4096}
    with Broker(options) as broker, Relay(broker) as relay, Crowd() as crowd:
        current, held = None, []
        caller = None
        for _ in range(rounds):
            if current is not None and caller is None:
                caller = Caller(broker, history)
                crowd.add(caller.client)
            plan = Plan(hold_end=random.random() * random.choice((0, 0, 0.002, 0.02, hold)))
            newer = relay.connect(lambda: Witness(relay, history), plan)
            crowd.add(newer)
            check(current is None or not current.ended, "the living session was closed")
            when = random.choice(("before", "beside", "after")) if current else "never"
            if when == "before":
                leave(crowd, current, random)
            newer.post("login", username="alice", acks=True)
            if when == "beside":
                leave(crowd, current, random)
            turns(crowd, caller, lambda: newer.welcome, "the Welcome of the newer")
            if when == "after":
                leave(crowd, current, random)
            if current is not None:
                held.append(current.pipe)
            current = newer
            end = time.monotonic() + random.random() * random.choice((0, 0, 0.03))
            turns(crowd, caller, lambda: time.monotonic() > end, "a pause")
        turns(crowd, caller, lambda: all(pipe.over.is_set() for pipe in held), "the last late end")
        check(not current.ended, "the living session was closed")
        caller.due = time.monotonic() + 3600
        history.quiet()
        pings = [client.post("ping") for client in (current, caller.client)]
        turns(crowd, caller, lambda: answered(history, pings), "pongs")
        turns(crowd, caller, lambda: waiting(history) == 0, "an answer to each of carol's messages")
        counts = check_history(history)
        check_equal(counts["unknown"], 0, "messages without an answer")
        check_late_ends(broker, current)
        offline = sum(entry.word == "NOT_ONLINE" for entry in history.entries)
        print(
            f"     {rounds} takeovers beside {caller.number} messages: {counts['delivered']} "
            f"delivered, {counts['refused'] + counts['reported']} reported, {offline} called "
            "offline"
        )


def leave(crowd, client, random):
    """The old side goes; when the broker has closed it already, only our half of it is left."""
    if client.ended:
        client.socket.close()
    else:
        crowd.remove(client)
        client.drop() if random.random() < 0.5 else client.close()


def answered(history, ids):
    return sum(entry.word == "pong" for entry in history.entries) == len(ids)


def waiting(history):
    sent = sum(entry.kind == "send" for entry in history.entries)
    return sent - sum(
        entry.kind == "answer" and entry.user == "carol" and entry.word != "pong"
        for entry in history.entries
    )


def check_late_ends(broker, current):
    tool = Backend(broker, hello=False)
    events = [event for event in tool.all_events() if event.user == "alice"]
    check_equal(
        check_presence(tool.all_events(), first_seq=1)["alice"],
        ("ONLINE", current.welcome.epoch),
        "alice at the end",
    )
    kinds = collections.Counter(kind_name(event) for event in events)
    check_equal(kinds["OFFLINE"], 0, "offline events of a user who was always there")
    last = [kind_name(event) for event in events if event.epoch == current.welcome.epoch]
    check_equal(last, ["ONLINE"], "the last session's events")
    tool.close()


# --- two who want the same session ---------------------------------------------------------------


def outcome(client):
    """What it was told until it is closed, or serves: "winner", or the last word."""
    words = []
    while True:
        try:
            frame = client.next_frame(20)
        except ConnectionEnded:
            return words[-1] if words else "nothing"
        check(frame is not None, f"{client.name}: neither served nor told why: {words}")
        kind = frame.WhichOneof("body")
        if kind == "welcome":
            try:
                client.post("ping")
            except OSError:
                pass
        elif kind == "pong":
            words.append("served")
        elif kind == "error":
            words.append(client_pb.Error.Code.Name(frame.error.code))
        elif kind == "close":
            words.append(client_pb.Close.Reason.Name(frame.close.reason))
            continue
        if words and words[-1] in ("RESUME_REJECTED", "served"):
            return words[-1]


def resume_request(client, welcome, name="alice", **fields):
    client.name = name
    return client.request(
        "resume", **{"username": name, "epoch": welcome.epoch, "secret": welcome.secret, **fields}
    )


def settle(racers):
    """Reads all to their end; gives the one that serves, and why the others do not."""
    words = {}
    for client in racers:
        words[client] = outcome(client)
    served = [client for client in racers if words[client] == "served"]
    if len(served) > 1:  # both were for a moment; the one that lost is closed by now
        for client in served:
            try:
                client.ping(timeout=20)
            except (ConnectionEnded, OSError):
                pass
        for client in served:
            if client.ended or client.frames:
                words[client] = outcome(client)
        served = [client for client in racers if words[client] == "served"]
    check_equal(len(served), 1, f"one winner of {sorted(words.values())}")
    return served[0], sorted(word for word in words.values() if word != "served")


def scene_two_resumes():
    rounds = 2000 if LARGE else scaled(120, 20)
    random = seed()
    told = collections.Counter()
    with Broker(FREE) as broker:
        holder = Client(broker)
        welcome = holder.login("alice")
        for _ in range(rounds):
            racers = [Client(broker) for _ in range(random.choice((2, 2, 3)))]
            if random.random() < 0.5:
                holder.drop()
            for client in racers:
                client.send_frame(resume_request(client, welcome))
                client.last_id = 100
            winner, words = settle(racers)
            told.update(words)
            check(set(words) == {"STALE_SESSION"}, f"the losers were told {words}")
            if not holder.ended:
                check_equal(outcome(holder), "STALE_SESSION", "what the holder was told")
            for client in racers:
                if client is not winner:
                    client.close()
            holder.close()
            holder = winner
        holder.ping()
        tool = Backend(broker, hello=False)
        living = check_presence(tool.all_events(), first_seq=1)
        check_equal(living["alice"], ("ONLINE", welcome.epoch), "alice at the end")
        tool.close()
        holder.close()
    print(f"     {rounds} races of two or three resumes: one winner each, told: {dict(told)}")


def scene_resume_against_login():
    """The login wins, before or after: a resume is for the session that was there."""
    rounds = 2000 if LARGE else scaled(120, 20)
    random = seed()
    told = collections.Counter()
    with Broker(FREE) as broker:
        holder = Client(broker)
        welcome = holder.login("alice")
        for _ in range(rounds):
            resumer, newcomer = Client(broker), Client(broker)
            newcomer.name = "alice"
            if random.random() < 0.5:
                holder.drop()
            steps = [
                lambda: resumer.send_frame(resume_request(resumer, welcome)),
                lambda: newcomer.post("login", username="alice"),
            ]
            random.shuffle(steps)
            for step in steps:
                step()
            resumer.last_id = 100
            fresh = newcomer.expect("welcome", timeout=20).welcome
            check(fresh.epoch > welcome.epoch, "the epoch does not rise")
            word = outcome(resumer)
            if word == "served":  # it was first, and is replaced by now
                word = outcome(resumer)
            check(word in ("REPLACED", "RESUME_REJECTED"), f"the resume was told {word}")
            told[word] += 1
            newcomer.ping()
            resumer.close()
            holder.close()
            holder, welcome = newcomer, fresh
        tool = Backend(broker, hello=False)
        living = check_presence(tool.all_events(), first_seq=1)
        check_equal(living["alice"], ("ONLINE", welcome.epoch), "alice at the end")
        tool.close()
        holder.close()
    print(
        f"     {rounds} races of a resume and a login: the login won all, the resume was told "
        f"{dict(told)}"
    )


def scene_wrong_resumes_disturb_nobody():
    """Wrong secret, an old epoch, the session of another: refused, and the holder feels nothing."""
    with Broker(FREE) as broker:
        old = Client(broker)
        stale = old.login("alice")
        alice, carol = Client(broker), Client(broker)
        welcome, other = alice.login("alice"), carol.login("carol")
        old.close()
        tool = Backend(broker, hello=False)
        before = tool.all_events()
        wrong = [
            (welcome, {"secret": bytes(16)}),
            (stale, {}),
            (other, {}),
            (welcome, {"secret": other.secret}),
            (welcome, {"epoch": other.epoch}),
            (welcome, {"username": "carol"}),
            (welcome, {"epoch": welcome.epoch + 1}),
            (welcome, {"last_seq": 1 << 40}),
        ]
        count, worst = scaled(400, 80), 0.0
        for number in range(count):
            session, change = wrong[number % len(wrong)]
            with Client(broker) as intruder:
                intruder.send_frame(resume_request(intruder, session, **change))
                worst = max(worst, alice.ping())
                intruder.expect_error("RESUME_REJECTED")
        alice.expect_nothing(0)
        carol.ping()
        check_equal(len(tool.all_events()), len(before), "events of refused resumes")
        print(
            f"     {count} wrong resumes refused; the holder's slowest ping "
            f"{worst * 1000:.1f} ms"
        )
        tool.close()
        alice.close()
        carol.close()


# --- the stop ------------------------------------------------------------------------------------


def stopping_outcome(client):
    """All that a resume was told while the broker stopped."""
    words = []
    try:
        while (frame := client.next_frame(20)) is not None:
            kind = frame.WhichOneof("body")
            if kind == "error":
                words.append(client_pb.Error.Code.Name(frame.error.code))
            elif kind == "close":
                words.append(client_pb.Close.Reason.Name(frame.close.reason))
            else:
                words.append(kind)
    except ConnectionEnded:
        return tuple(words)
    check(False, f"{client.name}: open and silent after the stop: {words}")


def scene_resume_while_stopping():
    """A session that the restarted broker still has is never called unknown: the answer is
    DRAINING or Close(SHUTDOWN), or a Welcome and then that."""
    rounds, count = (40, 60) if LARGE else (scaled(6, 2), 40)
    random = seed()
    told = collections.Counter()
    broker = Broker({**FREE, "session.resume_ms": 600000})
    with broker:
        welcomes = {}
        for number in range(count):
            with Client(broker) as client:
                welcomes[f"user{number}"] = client.login(f"user{number}")
        for _ in range(rounds):
            comers = {}
            for name in welcomes:
                comers[name] = Client(broker)
                comers[name].name = name
            starts = sorted((random.random() * 0.02, name) for name in welcomes)
            signal_at = random.random() * 0.015
            began = time.monotonic()
            stopped = False
            for start, name in starts:
                while time.monotonic() - began < start:
                    time.sleep(0.0001)
                if start >= signal_at and not stopped:
                    broker.process.terminate()
                    stopped = True
                try:
                    comers[name].send_frame(resume_request(comers[name], welcomes[name], name))
                except OSError:
                    pass
            for name, client in comers.items():
                words = stopping_outcome(client)
                told[" ".join(words) or "nothing"] += 1
                check("RESUME_REJECTED" not in words, f"{name}: {words} while stopping")
                check(words and words[-1] == "SHUTDOWN", f"{name} was told {words}")
                client.close()
            check_equal(broker.stop(), 0, "exit code")
            broker.restart()
            for name, welcome in welcomes.items():  # all of them are still there
                with Client(broker) as client:
                    client.name = name
                    client.send_frame(resume_request(client, welcome, name))
                    client.last_id = 1
                    again = client.expect("welcome", timeout=20).welcome
                    check_equal(again.epoch, welcome.epoch, "epoch after the restart")
            detached(broker, count)
    for words, number in told.most_common():
        print(f"     {number} times: {words}")


def detached(broker, count):
    tool = Backend(broker, hello=False)
    eventually(lambda: tool.numbers("count")["detached"] == count, "all are detached again")
    tool.close()


if __name__ == "__main__":
    play(
        scene_late_closes_through_a_relay,
        scene_two_resumes,
        scene_resume_against_login,
        scene_wrong_resumes_disturb_nobody,
        scene_resume_while_stopping,
    )
