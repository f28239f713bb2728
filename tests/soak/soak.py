#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The soak: everything that clients and backends can do, together and for long, against one
usherd; at the end nothing may be left of it.

A warm-up, a rest, the soak itself, a rest. At each rest all clients and backends are gone and all
sessions have ended; what the process holds then is compared. `./dev soak [MINUTES]` runs it."""

import argparse
import collections
import os
import random
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "play"))

from usherplay import Backend, Broker, Client, ConnectionEnded, Failed  # noqa: E402
from usherplay import check, check_equal, client_pb, eventually  # noqa: E402

from crowd import (
    Callers,
    Churn,
    Exchange,
    Floods,
    Rounds,
    SlowReaders,  # noqa: E402
    SLOW_SECONDS,
    Strangers,
)
from services import Commands, Follower, Instances  # noqa: E402

RESUME_MS = 10000
SAMPLE_SECONDS = 5.0
LOG_LINES_KEPT = 1000  # usherd's log, for the case of a failure
WARM_UP_SECONDS = 60
# What may remain at rest: the allocator's arenas do not give everything back. The slope under
# load is held against a bound only when there is enough of it to mean something.
RSS_GROWTH_KIB = 4096
RSS_GROWTH_SHORT_KIB = 16384  # after a warm-up so short that little is warm
SLOPE_KIB_PER_HOUR = 4096
SLOPE_SECONDS_LEAST = 20 * 60
RESET_SECONDS = 90
STAYING = 1 + 16  # the actor of those who ask without a link, and the shards of friends

# Limits that the floods reach, a stream that is cut all the time, and links that break quickly.
OPTIONS = {
    "store.map_bytes": 64 << 20,
    "store.events_kept": 16384,
    "session.resume_ms": RESUME_MS,
    "session.heartbeat_ms": 5000,
    "link.park_ms": 300,
    "link.grace_ms": 500,
    "link.fetch_timeout_ms": 2000,
    "link.mail_items": 64,
    "link.calls_max": 256,
    "limits.takeovers_per_minute": 0,
    "limits.connections": 400,
    "limits.prelogin_connections": 64,
    "limits.login_deadline_ms": 1500,
    "limits.output_bytes": 262144,
    "limits.output_soft_bytes": 65536,
    "limits.output_soft_ms": 2000,
    "limits.inbox_messages": 128,
    "limits.mailbox_messages": 64,
    "limits.calls_per_user": 8,
    "limits.call_timeout_ms": 2000,
}

REFUSALS = (
    "inbox_full",
    "mailbox_full",
    "sends_not_online",
    "errors_too_large",
    "errors_protocol",
    "resumes_rejected",
    "takeovers_damped",
    "closed_slow_consumer",
    "closed_heartbeat",
    "closed_auth_timeout",
    "closed_protocol",
    "calls_timed_out",
    "calls_no_service",
    "calls_lost",
    "replies_late",
    "link_refused",
    "commit_failures",
    "accept_paused",
    "log_dropped",
)


class Door:
    """How clients come in: plain TCP, and every name is believed. A subclass with credentials or
    TLS is one more row of DOORS."""

    def __init__(self, broker):
        self.address, self.link_url = broker.address, broker.link_url
        self.resume_seconds = RESUME_MS / 1000

    @staticmethod
    def options():
        """What usherd needs for it."""
        return {}

    def connect(self, make=Client, **options):
        options.setdefault("timeout", SLOW_SECONDS)
        return make(self.address, **options)

    def login_frame(self, client, name, acks):
        return client.request("login", username=name, acks=acks, client="soak")

    def login(self, client, name, acks):
        client.name = name
        client.send_frame(self.login_frame(client, name, acks))
        return self._welcomed(client)

    def resume(self, client, welcome, last_seq, name):
        client.name = name
        client.post(
            "resume", username=name, epoch=welcome.epoch, secret=welcome.secret, last_seq=last_seq
        )
        return self._welcomed(client)

    @staticmethod
    def _welcomed(client):
        """ConnectionEnded, with the reason among the frames, when it is turned away."""
        frame = client.next_frame(SLOW_SECONDS)
        check(frame is not None, f"{client.name}: no answer to a login or resume")
        if frame.WhichOneof("body") == "welcome":
            client.welcome = frame.welcome
            return client.welcome
        rejected = client_pb.Error.RESUME_REJECTED
        check(frame.error.code != rejected, f"{client.name}: a resume in time was rejected")
        client.frames.appendleft(frame)
        raise ConnectionEnded(f"{client.name} was turned away")


DOORS = {"plain": Door}


class Crew:
    """All activities; each phase runs them in threads. The first failure stops everything."""

    def __init__(self, door, number):
        self.tally, self.failure = collections.Counter(), None
        kinds = [
            Churn,
            Strangers,
            Floods,
            SlowReaders,
            Rounds,
            Exchange,
            Callers,
            Instances,
            Commands,
            Follower,
        ]
        self.activities = []
        for kind in kinds:
            # A Counter may lose an update between two threads, so each activity has its own.
            one = kind(door, random.Random(f"{number} {kind.__name__}"), collections.Counter())
            self.activities.append(one)
        self.follower = self.activities[-1]
        self.ending = threading.Event()

    def counted(self):
        """Of all activities, and rounds by name."""
        return sum((one.tally.copy() for one in self.activities), collections.Counter())

    def _work(self, one):
        name = type(one).__name__
        one.stopping = self.ending.is_set
        try:
            while not self.ending.is_set():
                began = time.monotonic()
                one.round()
                one.tally[f"{name} rounds"] += 1
                one.longest = max(one.longest, time.monotonic() - began)
            one.rest()
        except Exception as error:  # whatever it is, it ends the soak
            if self.failure is None:
                self.failure = f"{name}: {type(error).__name__}: {error}"
                traceback.print_exc()
            self.ending.set()

    def run(self, seconds, watch):
        """For so long; calls watch() all the time."""
        self.ending.clear()
        threads = [
            threading.Thread(target=self._work, args=(one,), daemon=True) for one in self.activities
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.ending.wait(0.2):
            watch()
        self.ending.set()
        for thread in threads:
            thread.join(3 * SLOW_SECONDS)
            check(not thread.is_alive() or self.failure, "an activity does not end")
        check(self.failure is None, self.failure)

    def close(self):
        """No process is left behind."""
        for one in self.activities:
            if isinstance(one, Instances):
                one.rest()


class Watch:
    """Looks at the broker from outside."""

    def __init__(self, broker, crew):
        self.broker, self.crew = broker, crew
        self.asker = Backend(broker, hello=False, timeout=SLOW_SECONDS)
        self.began = self.line_at = self.sample_at = time.monotonic()
        self.samples = []  # (seconds, KiB)
        self.strange = []
        self.before = self.look()

    def status(self, name):
        with open(f"/proc/{self.broker.process.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith(f"{name}:"):
                    return int(line.split()[1])
        raise Failed(f"/proc has no {name}")

    def look(self):
        stats = self.asker.numbers("stats")
        now = {
            "time": time.monotonic(),
            "rss": self.status("VmRSS"),
            "anonymous": self.status("RssAnon"),
            "threads": self.status("Threads"),
            "cpu": self.broker.cpu_seconds(),
            "files": sum(self.broker.descriptors().values()),
            "store": sum(
                entry.stat().st_blocks * 512
                for entry in os.scandir(self.broker.store)
                if entry.is_file()
            )
            >> 10,
            "instances": stats["actors"] - stats["stored_sessions"],
        }
        return {**stats, **now}

    def __call__(self):
        self.broker.check_alive()
        now = time.monotonic()
        if now - self.sample_at >= SAMPLE_SECONDS:
            self.sample_at = now
            self.samples.append((now, self.status("VmRSS")))
            self.strange += self.broker.raw_lines()
            del self.broker.lines[:-LOG_LINES_KEPT]
            check(not self.strange, f"usherd wrote beside its log: {self.strange[:20]}")
        if now - self.line_at >= 60:
            self.line_at = now
            self.line()

    def line(self):
        now, before = self.look(), self.before
        self.before = now
        seconds = max(0.001, now["time"] - before["time"])

        def per_second(name):
            return (now[name] - before[name]) / seconds

        refusals = " ".join(
            f"{name}={now[name] - before[name]}" for name in REFUSALS if now[name] != before[name]
        )
        minute = (now["time"] - self.began) / 60
        print(
            f"minute {minute:5.1f}  rss {now['rss']} KiB (anonymous {now['anonymous']})  "
            f"files {now['files']}  "
            f"actors {now['actors']} (sessions {now['stored_sessions']}, rest "
            f"{now['instances']})  connections {now['connections_open']}  "
            f"messages/s {per_second('messages_delivered'):.0f}  "
            f"logins/s {per_second('logins'):.0f}  cpu {100 * per_second('cpu'):.0f} %  "
            f"store {now['store']} KiB  threads {now['threads']}  | {refusals}",
            flush=True,
        )

    def slope(self, since):
        """KiB per hour by least squares over the last three quarters of the samples since then."""
        samples = [sample for sample in self.samples if sample[0] >= since]
        samples = samples[len(samples) // 4 :]
        if len(samples) < 3:
            return 0.0
        middle_x = sum(at for at, _ in samples) / len(samples)
        middle_y = sum(rss for _, rss in samples) / len(samples)
        above = sum((at - middle_x) * (rss - middle_y) for at, rss in samples)
        return 3600 * above / sum((at - middle_x) ** 2 for at, _ in samples)

    def at_rest(self):
        """Waits until nobody is left; gives what there is then."""

        def empty():
            stats = self.asker.numbers("stats")
            return not (
                stats["stored_sessions"]
                or stats["connections_open"]
                or stats["sessions_online"]
                or stats["sessions_detached"]
            )

        eventually(empty, "no session and no connection", RESET_SECONDS, 0.2)
        eventually(
            lambda: self.look()["actors"] <= STAYING,
            "no actor but the askers'",
            RESET_SECONDS,
            0.2,
        )
        return self.look()


def compare(watch, first, last, slope, seconds):
    """The process against what it was after the warm-up. Gives what is wrong."""
    wrong = []
    for name in ("files", "threads"):
        try:
            eventually(lambda: watch.look()[name] <= first[name], name, RESET_SECONDS, 0.2)
        except Failed:
            wrong.append(f"{name}: {first[name]} before, {watch.look()[name]} after")
    for name in ("rss", "anonymous", "files", "actors", "connections_open", "threads", "store"):
        print(f"at rest: {name} {first[name]} -> {last[name]}")
    print(f"slope of rss under load: {slope:+.0f} KiB per hour")
    long = seconds >= SLOPE_SECONDS_LEAST
    if last["rss"] > first["rss"] + (RSS_GROWTH_KIB if long else RSS_GROWTH_SHORT_KIB):
        wrong.append(f"rss grew from {first['rss']} to {last['rss']} KiB")
    if long and slope > SLOPE_KIB_PER_HOUR:
        wrong.append(f"rss grows by {slope:.0f} KiB per hour")
    check_equal(last["commit_failures"], 0, "commits that failed")
    return wrong


def soak(broker, crew, watch, minutes):
    seconds = minutes * 60
    warm_up = min(WARM_UP_SECONDS, seconds / 4)
    crew.run(warm_up, watch)
    watch.line()
    first = watch.at_rest()
    check_equal(crew.follower.catch_up(), {}, "who is listed at rest")
    print(f"warm after {warm_up:.0f} s; at rest rss is {first['rss']} KiB", flush=True)
    since = time.monotonic()
    crew.run(seconds - warm_up, watch)
    slope = watch.slope(since)
    watch.line()
    last = watch.at_rest()
    check_equal(crew.follower.catch_up(), {}, "who is listed at rest")
    print(
        "longest rounds: "
        + ", ".join(f"{type(one).__name__} {one.longest:.1f} s" for one in crew.activities)
    )
    print(
        "what happened: "
        + ", ".join(f"{name} {count}" for name, count in sorted(crew.counted().items()))
    )
    wrong = compare(watch, first, last, slope, seconds)
    check(not wrong, "; ".join(wrong))
    idle = [
        type(one).__name__
        for one in crew.activities
        if not one.tally[f"{type(one).__name__} rounds"]
    ]
    check(not idle, f"these did nothing: {idle}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument(
        "--seed",
        type=int,
        default=int(os.environ.get("USHER_PLAY_SEED", random.SystemRandom().randrange(1 << 31))),
    )
    parser.add_argument("--door", choices=DOORS, default="plain", help="how clients come in")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option for usherd, over those of the soak",
    )
    return parser.parse_args()


def main():
    given = arguments()
    print(
        f"soak of {given.minutes:g} minutes, seed {given.seed} (repeat with --seed "
        f"{given.seed}; threads interleave in their own way)",
        flush=True,
    )
    door = DOORS[given.door]
    options = {**OPTIONS, **door.options(), **dict(pair.split("=", 1) for pair in given.set)}
    try:
        with Broker(options) as broker:
            crew = Crew(door(broker), given.seed)
            try:
                soak(broker, crew, Watch(broker, crew), given.minutes)
            finally:
                crew.close()
        check_equal(broker.raw_lines(), [], "what usherd wrote beside its log")
    except Failed as failure:
        print(f"FAIL soak: {failure}", flush=True)
        sys.exit(1)
    print("ok   soak: usherd stopped in order with 0")


if __name__ == "__main__":
    main()
