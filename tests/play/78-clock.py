# SPDX-License-Identifier: Apache-2.0
"""The wall clock jumps, by an hour, by a year, and backwards again and again: nobody is
disconnected, calls and resume windows last as long as they should, and epochs rise, also over a
restart with the clock set back. Stored messages keep their order and their tags, and expire by that
clock."""

import concurrent.futures
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    Failed,
    backend_pb,
    check,
    check_equal,
    check_presence,
    client_pb,
    eventually,
    play,
    scaled,
)
from usherplay.backend import kind_name
from usherplay.shim import Shim

HOUR_MS = 3600 * 1000
YEAR_MS = 365 * 24 * HOUR_MS
JUMPS = {
    "an hour forward": HOUR_MS,
    "an hour back": -HOUR_MS,
    "a year forward": YEAR_MS,
    "a year back": -YEAR_MS,
}
BACKWARDS = 12

RESUME_MS = 1500
HEARTBEAT_MS = 2000
CALL_MS = 700
EARLY = 0.02  # seconds; the broker counts whole milliseconds, from the begin of a batch
LATE = 15.0  # seconds by which a slow machine may be late
PLAYERS = 12


def broker_on(shim, **options):
    return Broker(
        {
            "store.path": shim.store,
            "session.resume_ms": RESUME_MS,
            "session.heartbeat_ms": HEARTBEAT_MS,
            **options,
        },
        environment=shim.environment(),
    )


class Players:
    """People who say something every now and then, in a thread of their own, and must never be
    disconnected."""

    def __init__(self, broker, count):
        self.clients = []
        for number in range(count):
            client = Client(broker, timeout=LATE)
            client.login(f"player{number}")
            self.clients.append(client)
        self.pings = 0
        self.problem = None
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.closing.wait(HEARTBEAT_MS / 8000):
                for client in self.clients:
                    client.ping()
                    self.pings += 1
        except (Failed, OSError) as error:
            self.problem = error

    def stop(self):
        self.closing.set()
        self.thread.join(LATE)
        if self.problem:
            raise self.problem
        return self.pings

    def close(self):
        for client in self.clients:
            client.close()


class Times:
    """What lasted how long, by the play's own monotonic clock."""

    def __init__(self):
        self.seconds = {}

    def check(self, what, seconds, least):
        self.seconds[what] = seconds
        check(
            seconds >= least - EARLY,
            f"{what} after {seconds:.3f} s instead of {least} s: too early",
        )

    def __str__(self):
        return "; ".join(f"{what} after {seconds:.2f} s" for what, seconds in self.seconds.items())


class Pending:
    """What runs while the clock jumps: two detached sessions, a call that nobody answers, one that
    is answered late, a silent client. Times are taken where they can only be too long."""

    def __init__(self, broker, backend):
        self.broker = broker
        self.backend = backend
        self.gone, self.back, self.caller, self.silent = (
            Client(broker, timeout=LATE) for _ in range(4)
        )
        self.silent.login("silent")
        self.caller.login("caller")
        self.gone_at = self._lose(self.gone, "gone")
        self.back_at = self._lose(self.back, "back")
        self.called_at = time.monotonic()
        self.dead = self.caller.post("call", service="judge", method="never", timeout_ms=CALL_MS)
        self.live = self.caller.post("call", service="judge", method="late")
        self.late = [backend.expect_call(LATE) for _ in range(2)][1]
        self.silent_at = time.monotonic()
        self.silent.post("ping", id=0)

    @staticmethod
    def _lose(client, name):
        client.login(name)
        lost_at = time.monotonic()
        client.drop()
        return lost_at

    def finish(self, times):
        self._come_back()
        self.backend.reply(self.late, payload=b"in time")
        check_equal(self.caller.answer_to(self.live).reply.payload, b"in time", "the late reply")
        answer = self.caller.answer_to(self.dead)
        check_equal(client_pb.Error.Code.Name(answer.error.code), "TIMEOUT", "the dead call")
        times.check("a call timed out", time.monotonic() - self.called_at, CALL_MS / 1000)
        self.caller.close()
        self.backend.wait_event("gone", "OFFLINE", "EXPIRED", timeout=LATE)
        times.check("a session expired", time.monotonic() - self.gone_at, RESUME_MS / 1000)
        self.silent.read_to_end(LATE)
        times.check(
            "a silent client was closed", time.monotonic() - self.silent_at, 2 * HEARTBEAT_MS / 1000
        )

    def _come_back(self):
        """Within the window a resume works. Only a machine that was too slow for it may miss."""
        with Client(self.broker, timeout=LATE) as client:
            client.name = "back"
            welcome = self.back.welcome
            frame = client.ask(
                "resume", username="back", epoch=welcome.epoch, secret=welcome.secret
            )
            seconds = time.monotonic() - self.back_at
            check(
                frame.WhichOneof("body") == "welcome" or seconds > RESUME_MS / 1000,
                f"a resume {seconds:.3f} s after the loss came too late",
            )


def check_undisturbed(events, players):
    for client in players.clients:
        kinds = [kind_name(event) for event in events if event.user == client.name]
        check_equal(kinds, ["ONLINE"], f"the events of {client.name}")


def through(what, move):
    """Players talk while `move` moves the clock between the beginning and the end of whatever has a
    deadline."""
    times = Times()
    with Shim() as shim, broker_on(shim) as broker:
        players = Players(broker, max(4, scaled(PLAYERS)))
        backend = Backend(broker, service="judge", presence=True, timeout=LATE)
        pending = Pending(broker, backend)
        move(shim)
        pending.finish(times)
        pings = players.stop()
        players.clients[0].ping()
        events = backend.all_events()
        check_undisturbed(events, players)
        check_presence(events, first_seq=1)
        players.close()
        backend.lose()
    print(f"     {what}: {pings} pings of {len(players.clients)} players; {times}")


def step_back(shim):
    """A second back, again and again, so that it never gets later."""
    for _ in range(BACKWARDS):
        shim["realtime_offset_ms"] -= 1000
        time.sleep(0.05)  # only so that twelve jumps do not become one


def scene_jumps():
    """One broker for each kind of jump, side by side, because most of it is waiting."""

    def jump_to(offset_ms):
        def move(shim):
            shim["realtime_offset_ms"] = offset_ms

        return move

    moves = {what: jump_to(offset_ms) for what, offset_ms in JUMPS.items()}
    moves["backwards again and again"] = step_back
    with concurrent.futures.ThreadPoolExecutor(len(moves)) as threads:
        waiting = [threads.submit(through, what, move) for what, move in moves.items()]
    for one in waiting:
        one.result()


def scene_stamps():
    """The stamps, and nothing else, follow the wall clock: so the shim does what it says."""
    with Shim() as shim, broker_on(shim) as broker, Client(broker, timeout=LATE) as client:
        client.login("alice")
        for offset_ms in (*JUMPS.values(), 0):
            shim["realtime_offset_ms"] = offset_ms

            def follows():  # not at once: a batch that runs already has its time
                frame = client.ask("ping", stamp=7)
                return abs((frame.pong.time_ms - offset_ms) / 1000 - time.time()) < LATE

            eventually(follows, f"stamps follow a clock moved by {offset_ms} ms", LATE)


def cpu_share(broker, shim, offsets_ms, people, seconds=6):
    """What part of a processor it uses while its clock has these values in turn and people talk."""
    until = time.monotonic() + seconds
    before, number = broker.cpu_seconds(), 0
    while time.monotonic() < until:
        shim["realtime_offset_ms"] = offsets_ms[number // 20 % len(offsets_ms)]  # a second each
        number += 1
        for client in people:
            client.ping(LATE)
        time.sleep(0.05)
    return (broker.cpu_seconds() - before) / seconds


def scene_no_processor_is_burnt():
    """A year ahead, back, and behind: whoever waits by another clock than he reckons by would wait
    no more."""
    with Shim() as shim, broker_on(shim, **{"admin.listen": "127.0.0.1:0"}) as broker, Backend(
        broker, service="chat"
    ), Client(broker, timeout=LATE) as alice, Client(broker, timeout=LATE) as bob:
        alice.login("alice")
        bob.login("bob")
        people = (alice, bob)
        still = cpu_share(broker, shim, [0], people)
        jumping = cpu_share(broker, shim, [YEAR_MS, 0], people)
        behind = cpu_share(broker, shim, [-YEAR_MS], people)
        print(
            f"     of a processor: {still:.3f} still, {jumping:.3f} a year ahead and back, "
            f"{behind:.3f} a year behind"
        )
        for what, share in (("jumps", jumping), ("is behind", behind)):
            check(
                share < 4 * still + 0.15,
                f"{share:.2f} of a processor while the clock {what}, "
                f"{still:.2f} while it stands still",
            )
        shim["realtime_offset_ms"] = 0


def scene_epochs_over_restarts():
    """The clock is set forward and back between the lives of the broker."""
    with Shim() as shim:
        with broker_on(shim, **{"session.resume_ms": 3600000}) as broker:
            highest = 0
            welcomes = {}
            for number, offset_ms in enumerate((0, YEAR_MS, -YEAR_MS, HOUR_MS, -5 * YEAR_MS, 0)):
                if number > 0:
                    (broker.kill if number % 2 else broker.stop)()
                    shim["realtime_offset_ms"] = offset_ms
                    broker.restart()
                for name, welcome in welcomes.items():
                    with Client(broker, timeout=LATE) as client:
                        again = client.resume(welcome, 0, name=name)
                        check_equal(again.epoch, welcome.epoch, f"the epoch of {name}'s resume")
                for name in ("alice", f"user{number}"):
                    with Client(broker, timeout=LATE) as client:
                        welcomes[name] = client.login(name)
                    check(
                        welcomes[name].epoch > highest,
                        f"epoch {welcomes[name].epoch} after {highest} with the clock moved by "
                        f"{offset_ms} ms",
                    )
                    highest = welcomes[name].epoch
            with Backend(broker, hello=False) as backend:
                check_presence(backend.all_events(), first_seq=1)


class Post:
    """A service that stores messages for alice, and what she has of them."""

    def __init__(self, broker):
        self.broker = broker
        self.made = 0
        self.waiting = []  # (mid, payload)
        self.last_mid = self.highest = 0

    def push(self, backend, keep_s=30 * 86400, tag=0):
        self.made += 1
        payload = b"%d" % self.made
        body = backend_pb.Push(to=["alice"], payload=payload, keep_s=keep_s, tag=tag)
        report = backend.submit(backend_pb.Command(push=body))[0].push
        check_equal(report.accepted, 1, "a push")
        return report.mid, payload

    def store(self, what, **fields):
        """One more, whose mid is above all of before; under its tag it is known again."""
        with Backend(self.broker, service="post") as backend:
            mid, payload = self.push(backend, tag=self.made + 1, **fields)
            check(mid > self.highest, f"mid {mid} after {self.highest}, {what}")
            self.highest = mid
            self.waiting.append((mid, payload))

    def repeat(self, what):
        """The last one again: some seconds are less than ten minutes, whatever the clock says."""
        with Backend(self.broker, service="post") as backend:
            mid, _ = self.push(backend, tag=self.made)
            self.made -= 1
            check_equal(mid, self.highest, f"the mid under its tag, {what}")

    def fetch(self, what, stored=client_pb.Welcome.COMPLETE):
        """She comes, says how far she was, and takes what waits; nothing of before comes again."""
        with Client(self.broker, timeout=LATE) as alice:
            frame = alice.ask("login", username="alice", acks=True, last_mid=self.last_mid)
            told = frame.welcome.stored, frame.welcome.stored_messages
            check_equal(told, (stored, len(self.waiting)), f"the Welcome {what}")
            for mid, payload in self.waiting:
                seq = alice.expect("message", mid=mid, payload=payload).message.seq
                self.last_mid = mid
            alice.post("ack", id=0, seq=seq)
            alice.expect_nothing(0.1)
            alice.ask("logout")
        self.waiting = []


STORED_OFFSETS_MS = (0, HOUR_MS, -HOUR_MS, -YEAR_MS, -5 * YEAR_MS, 0)
STORED_OPTIONS = {"inbox.keep_max_s": 30 * 86400}


def fetch_after(post, what, moved_ms):
    """What was stored before the clock moved is over if it moved for longer than it is kept."""
    if moved_ms <= 30 * 86400 * 1000:
        post.fetch(what)
        return
    del post.waiting[0]
    post.fetch(what, client_pb.Welcome.PARTIAL)


def scene_stored_while_it_runs():
    """The clock is set about while messages are stored and fetched."""
    with Shim() as shim, broker_on(shim, **STORED_OPTIONS) as broker:
        post = Post(broker)
        for offset_ms in STORED_OFFSETS_MS:
            what = f"with the clock moved by {offset_ms} ms"
            moved_ms = offset_ms - shim["realtime_offset_ms"]
            post.store(what)
            shim["realtime_offset_ms"] = offset_ms
            time.sleep(0.05)
            post.repeat(what)
            post.store(what)
            post.repeat(what)
            fetch_after(post, what, moved_ms)


def scene_stored_over_restarts():
    """The same between the lives of the broker. A start knows how old a tag is by the wall clock alone,
    so one that is set ahead makes them old; set back, it does not make them last."""
    with Shim() as shim, broker_on(shim, **STORED_OPTIONS) as broker:
        post = Post(broker)
        for number, offset_ms in enumerate(STORED_OFFSETS_MS):
            what = f"after a start with the clock moved by {offset_ms} ms"
            moved_ms = offset_ms - shim["realtime_offset_ms"]
            post.store(what)
            (broker.kill if number % 2 else broker.stop)()
            shim["realtime_offset_ms"] = offset_ms
            broker.restart()
            if moved_ms <= 0:
                post.repeat(what)
            post.store(what)
            fetch_after(post, what, moved_ms)


def scene_stored_expiry():
    """What is stored is over by the wall clock: set back, it waits for longer; ahead, it is gone, and
    its receiver is told."""
    with Shim() as shim, broker_on(shim) as broker:
        post = Post(broker)
        shim["realtime_offset_ms"] = HOUR_MS
        post.store("an hour ahead", keep_s=2)
        shim["realtime_offset_ms"] = 0
        time.sleep(3.5)
        post.fetch("an hour later")
        post.store("before an hour that is left out", keep_s=1800)
        post.waiting = []
        shim["realtime_offset_ms"] = HOUR_MS
        post.store("behind it", keep_s=1800)
        post.fetch("with one that is over", client_pb.Welcome.PARTIAL)


if __name__ == "__main__":
    play(
        scene_stamps,
        scene_jumps,
        scene_no_processor_is_burnt,
        scene_epochs_over_restarts,
        scene_stored_while_it_runs,
        scene_stored_over_restarts,
        scene_stored_expiry,
    )
