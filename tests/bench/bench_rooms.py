# SPDX-License-Identifier: Apache-2.0
"""The groups of tests/bench/run that measure rooms and friends.

Rooms have a `limit` of their own (echo_rooms.c), in usher's own frames, so usher-bench plays the same
members at both; redis, nats and mosquitto get them from the load generator that speaks their
protocols: one channel for each room, whose publishers have subscribed to it, too."""

import threading
import urllib.request

from bench_servers import ROOM_LIMIT, Servers

OTHERS = ("redis", "nats", "mosquitto")
CLASS = "create=client join=any members=100000 roster=none history=256/60s"
NO_LIMITS = (
    "--set",
    "rooms.publish_per_second=0",
    "--set",
    "rooms.deliveries_per_second=0",
)
TICKS = (("usher", "bench:"), ("tick 20 ms", "bench20:"), ("tick 50 ms", "bench50:"))
CLASSES = (
    "--set",
    f"rooms.classes=bench:* {CLASS},bench20:* {CLASS} tick=20ms,bench50:* {CLASS} tick=50ms",
    *NO_LIMITS,
)
ONE_TO_A_THOUSAND = ((1, 32), (8, 32), (8, 64), (8, 128), (8, 512))
# Rooms of 1,000 users in all, and publications in all of them in a second.
EVERYBODY = ((100, 20000), (10, 5000), (500, 20000))
LARGE = 17000  # of 20,000 files usherd gives so many and a few to clients
BESIDE_RATE = 200
WATCHED = 100


def others(servers, wanted):
    """The peers that are installed and wanted."""
    for peer in wanted:
        servers.start(peer)
    return wanted


def timed(seconds):
    return ("-d", seconds, "--warmup", 0.4)


def rooms(recorder, rounds, seconds, wanted=OTHERS):
    """One to a thousand: a member publishes, all get it. And a PushAll to as many users, by the same
    broker in the same rounds. A window's worth at once, and the next when all have come: what a
    delivery costs goes by how many leave in one send, so that must be the same for all."""
    with Servers(recorder.folder) as servers:
        servers.start(ROOM_LIMIT)
        servers.start("usher", *CLASSES)
        others(servers, wanted)
        for number in range(rounds):
            for window, size in ONE_TO_A_THOUSAND:
                setting = f"room of 1000, W={window}, {size} B"
                load = ("-u", 1000, "-w", window, "-s", size, "--burst", *timed(seconds))
                for peer, at in (("limit", ROOM_LIMIT), ("usher", "usher")):
                    figures = servers.bench("room", "--publishers", 1, *load, at=at)
                    recorder.add(number, peer, setting, figures)
                recorder.add(number, "PushAll", setting, servers.bench("push-all", *load))
                for peer in wanted:
                    figures = servers.load(
                        peer,
                        *("-S", "room", "-n", 1, "-u", 1000, "-w", window, "-s", size),
                        *("-t", seconds, "-W", 0.4),
                    )
                    recorder.add(number, peer, setting, figures)


def rooms_open(recorder, rounds, seconds, wanted=OTHERS):
    """Everybody publishes at a fixed rate in all, in rooms of several sizes; at once and with ticks. No
    answers are wanted, as of what a game says many times a second: with a tick a Done is a send of its
    own, which the messages do not share."""
    with Servers(recorder.folder) as servers:
        servers.start(ROOM_LIMIT)
        servers.start("usher", *CLASSES)
        others(servers, wanted)
        for number in range(rounds):
            for count, rate in EVERYBODY:
                setting = f"{count} rooms of {1000 // count}, {rate // 1000} a second each"
                load = ("room", "--post", "-u", 1000, "-R", count, "-r", rate, *timed(seconds))
                recorder.add(number, "limit", setting, servers.bench(*load, at=ROOM_LIMIT))
                for peer, name in TICKS:
                    recorder.add(number, peer, setting, servers.bench(*load, "--room", name))
                for peer in wanted:
                    figures = servers.load(
                        peer,
                        *("-S", "room", "-R", count, "-u", 1000, "-r", rate),
                        *("-t", seconds, "-W", 0.4),
                    )
                    recorder.add(number, peer, setting, figures)


# --- large rooms ---------------------------------------------------------------------------------


def long_turns(port):
    """Of the turns that are timed, one in 64: how many took more than 1 ms, and than 2.5; and all."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    counts = {}
    for line in text.splitlines():
        if line.startswith("usher_turn_duration_seconds_bucket"):
            bound = line.split('le="', 1)[1].split('"', 1)[0]
            counts[float(bound.replace("+Inf", "inf"))] = float(line.rsplit(" ", 1)[1])
    timed_turns = counts[float("inf")]
    return timed_turns - counts[0.001], timed_turns - counts[0.0025], timed_turns


class Bystander:
    """Two users who send to each other at a low rate, while something else happens."""

    def __init__(self, servers, seconds):
        self.servers, self.seconds, self.figures = servers, seconds, {}
        self.thread = threading.Thread(target=self.run)

    def run(self):
        self.figures = self.servers.bench(
            *("forward", "--post", "-u", 2, "--prefix", "beside-", "-r", BESIDE_RATE),
            *timed(self.seconds),
        )

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.thread.join()


def rooms_large(recorder, rounds, seconds, wanted=OTHERS):
    """A room of 17,000: what a delivery costs, how long turns are, and how late others are while ten
    messages a second go to all of it."""
    admin = 19
    for number in range(rounds):
        with Servers(recorder.folder) as servers:
            servers.start(ROOM_LIMIT)
            port = servers.port("usher") + admin
            servers.start("usher", *CLASSES, "--set", f"admin.listen=127.0.0.1:{port}")
            load = ("room", "-u", LARGE, "-s", 64, "--publishers", 1)
            setting = f"room of {LARGE}, W=1, 64 B"
            for peer, at in (("limit", ROOM_LIMIT), ("usher", "usher")):
                figures = servers.bench(*load, *timed(seconds), at=at)
                recorder.add(number, peer, setting, figures)
            with Bystander(servers, seconds) as alone:
                pass
            recorder.add(number, "usher", "bystander, alone", alone.figures)
            before = long_turns(port)
            with Bystander(servers, seconds + 6) as beside:
                figures = servers.bench(*load, "-r", 10, *timed(seconds + 4))
            after = long_turns(port)
            names = ("turns_over_1_ms", "turns_over_2_5_ms", "turns_timed")
            figures.update({name: b - a for name, a, b in zip(names, before, after)})
            recorder.add(number, "usher", f"room of {LARGE}, 10 a second", figures)
            recorder.add(number, "usher", "bystander, beside it", beside.figures)


def rooms_away(recorder, rounds, seconds, wanted=OTHERS):
    """A thousand of the members of a busy room have no connection for a while: memory."""
    with Servers(recorder.folder) as servers:
        servers.start("usher", *CLASSES, "--set", "session.resume_ms=300000")
        for number in range(rounds):
            load = ("room", "-u", 1100, "-r", 1000, "-s", 64, "--publishers", 10)
            for away in (0, 1000):
                figures = servers.bench(*load, "--away", away, *timed(seconds))
                recorder.add(number, "usher", f"1,100 members, {away} of them away", figures)


# --- friends -------------------------------------------------------------------------------------


def friends(recorder, rounds, seconds, wanted=OTHERS):
    """10,000 users log in from nothing and each watches 100 others, by how long changes are gathered;
    and a herd of all of them. A fresh broker for each, so that memory begins at zero."""
    users = 10000
    for number in range(rounds):
        for watch, batch_ms in ((0, 250), (WATCHED, 0), (WATCHED, 250), (WATCHED, 1000)):
            setting = f"each watches {watch}" + (f", batch {batch_ms} ms" if watch else "")
            with Servers(recorder.folder) as servers:
                options = ("friends.mode=open", f"friends.batch_ms={batch_ms}")
                sets = [word for option in options for word in ("--set", option)]
                servers.start("usher", *sets)
                figures = servers.bench("friends", "-u", users, "--watch", watch)
                recorder.add(number, "usher", setting, figures)


GROUPS = {
    "rooms": rooms,
    "rooms-open": rooms_open,
    "rooms-large": rooms_large,
    "rooms-away": rooms_away,
    "friends": friends,
}
