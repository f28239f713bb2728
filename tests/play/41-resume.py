# SPDX-License-Identifier: Apache-2.0
"""Resume after a cut anywhere: what comes back is whole, or is said not to be.

USHER_PLAY_LARGE=1: 500 streams, each cut 20 times."""

import os
import time

from usherplay import Broker, Client, check, check_equal, client_pb, eventually, play, scaled, seed
from usherplay.client import Crowd, Witness
from usherplay.history import History, check_history
from usherplay.relay import Plan, Relay
from usherplay.stage import OVER
from usherplay.websocket import upgrade_bytes

LARGE = bool(os.environ.get("USHER_PLAY_LARGE"))
UP, DOWN = upgrade_bytes() if OVER == "ws" else (0, 0)  # what goes before the first frame
COMPLETE, PARTIAL = client_pb.Welcome.COMPLETE, client_pb.Welcome.PARTIAL


class Stream:
    """A receiver behind the relay whose connection is cut again and again."""

    def __init__(self, relay, history, name, acks, cuts, random):
        self.relay, self.history, self.random = relay, history, random
        self.name, self.acks, self.cuts = name, acks, cuts
        self.seq = 0  # the last message processed
        self.unacked = 0
        self.session = None  # the Welcome of the login
        self.welcomed = False
        self.asked_at = None
        self.waits = []  # seconds from Resume to Welcome
        self.client = None

    def plan(self):
        if self.cuts <= 0:
            return Plan()
        self.cuts -= 1
        how = self.random.choice(("RST", "FIN"))
        if self.acks and self.random.random() < 0.3:  # its own words are cut too
            return Plan(cut_up=UP + self.random.randrange(60, 120), cut_how=how)
        return Plan(
            cut_down=self.random.choice(
                (self.random.randrange(0, DOWN + 100), DOWN + self.random.randrange(100, 2000))
            ),
            cut_how=how,
        )

    def connect(self, crowd):
        plan = self.plan() if self.session else Plan()
        self.client = self.relay.connect(
            lambda: Witness(self.relay, self.history, after=self.client, timeout=10), plan
        )
        self.client.stream = self
        self.client.name = self.name
        self.welcomed = False
        self.asked_at = time.monotonic()
        crowd.add(self.client)
        try:
            if self.session:
                self.client.post(
                    "resume",
                    username=self.name,
                    epoch=self.session.epoch,
                    secret=self.session.secret,
                    last_seq=self.seq,
                )
            else:
                self.client.post("login", username=self.name, acks=self.acks)
        except OSError:
            pass  # cut already; the end is read in its turn

    def look(self, crowd):
        for frame in self.client.take():
            kind = frame.WhichOneof("body")
            if kind == "welcome":
                self._welcome(frame.welcome)
            elif kind == "message":
                self.seq = frame.message.seq
                self.unacked += 1
            elif kind != "pong":
                check(kind == "close", f"{self.name}: {frame}")
        if self.client.ended:
            self.connect(crowd)
        elif self.acks and self.welcomed and self.unacked > self.random.randrange(6):
            self.unacked = 0
            try:
                self.client.post("ack", id=0, seq=self.seq)
            except OSError:
                pass

    def _welcome(self, welcome):
        if self.session:
            self.waits.append(time.monotonic() - self.asked_at)
        self.session = self.session or welcome
        self.welcomed = True
        self.unacked = 0
        self.seq = welcome.next_seq - 1


class Feeder:
    """Sends numbered messages to all streams in turn, within a window."""

    def __init__(self, broker, history, names):
        self.client = Witness(broker, history)
        self.client.login("feeder")
        self.names = names
        self.next = {name: 0 for name in names}
        self.asked = {}  # id -> (name, number)
        self.accepted = {name: [] for name in names}
        self.turn = 0

    def feed(self, window):
        frames = []
        while len(self.asked) < window:
            name = self.names[self.turn % len(self.names)]
            self.turn += 1
            payload = b"%d " % self.next[name] + b"." * (self.turn % 60)
            frame = self.client.request("send", to=name, payload=payload)
            self.asked[frame.id] = name, self.next[name]
            self.next[name] += 1
            frames.append(frame)
        if frames:
            self.client.send_frames(frames)

    def look(self):
        for frame in self.client.take():
            if frame.id in self.asked:
                name, number = self.asked.pop(frame.id)
                if frame.WhichOneof("body") == "done":
                    self.accepted[name].append(number)


def check_stream(stream, history, accepted):
    """The k-th accepted message has seq k, so the truth is known: what did not come lies exactly
    in the gaps that a PARTIAL admitted."""
    connections, got, admitted, asked = set(), {}, set(), {}
    said = {"COMPLETE": 0, "PARTIAL": 0, "FRESH": 0}
    for entry in history.entries:
        if entry.user != stream.name:
            continue
        if entry.kind == "resume":
            asked[entry.connection] = entry.seq
        elif entry.kind == "welcome":
            said[entry.word] += 1
            connections.add(entry.connection)
            last_seq = asked.get(entry.connection, 0)
            missing = range(last_seq + 1, entry.seq)
            check_equal(
                entry.word == "PARTIAL",
                len(missing) > 0,
                f"{stream.name}: PARTIAL, with last_seq {last_seq} and {entry}",
            )
            admitted.update(missing)
        elif entry.kind == "message":
            check(
                got.setdefault(entry.seq, entry.number) == entry.number,
                f"{stream.name}: another message under {entry}",
            )
    for seq, number in got.items():
        check_equal(number, accepted[seq - 1], f"{stream.name}: the message with seq {seq}")
    missing = set(range(1, len(accepted) + 1)) - set(got)
    check(
        missing <= admitted,
        f"{stream.name}: {sorted(missing - admitted)[:10]} did not come and " "no PARTIAL said so",
    )
    if stream.acks:
        check_equal((missing, said["PARTIAL"]), (set(), 0), f"{stream.name}: missing with acks")
    return said, len(missing)


def scene_resume_cut():
    """Cut after a random byte, by FIN or RST, of either direction, many times."""
    count, cuts = (500, 20) if LARGE else (scaled(80, 8), scaled(12, 5))
    random = seed()
    history = History()
    options = {
        "limits.mailbox_messages": 16384,
        "limits.inbox_messages": 4096,
        "limits.inbox_bytes": 4 << 20,
    }
    with Broker(options) as broker, Relay(broker) as relay, Crowd() as crowd:
        streams = [
            Stream(relay, history, f"stream{number}", number % 3 != 0, cuts, random)
            for number in range(count)
        ]
        feeder = Feeder(broker, history, [stream.name for stream in streams])
        crowd.add(feeder.client)
        feeder.client.stream = None
        for stream in streams:
            stream.connect(crowd)
        crowd_look(
            crowd,
            lambda: all(stream.session for stream in streams),
            streams,
            feeder,
            "everybody is welcome",
        )
        for stream in streams:  # from here on each connection has a plan of its own
            stream.client.pipe.cut()
        crowd_look(
            crowd,
            lambda: all(stream.cuts <= 0 for stream in streams),
            streams,
            feeder,
            "all cuts",
            window=2 * count,
        )
        # The last plan cuts, too: a pause until everything has come through the next one.
        crowd_look(crowd, lambda: not feeder.asked, streams, feeder, "an answer to everything")
        for stream in streams:
            stream.client.pipe.cut()
        crowd_look(
            crowd,
            lambda: all(
                stream.welcomed
                and not stream.client.pipe.over.is_set()
                and stream.seq == len(feeder.accepted[stream.name])
                for stream in streams
            ),
            streams,
            feeder,
            "the last message of every stream",
        )
        history.quiet()
        everybody = {stream.name for stream in streams} | {feeder.client.name}
        crowd_look(crowd, Ping(crowd, history, everybody), streams, feeder, "pongs")
        counts = check_history(history)
        resumed = lost = partial = 0
        for stream in streams:
            said, missing = check_stream(stream, history, feeder.accepted[stream.name])
            resumed += said["COMPLETE"] + said["PARTIAL"]
            partial += said["PARTIAL"]
            lost += missing
        waits = sorted(wait for stream in streams for wait in stream.waits)
        print(
            f"     {count} streams, {resumed} resumes welcomed ({partial} PARTIAL), "
            f"{counts['accepted']} messages, {lost} lost without acks and said so; Resume to "
            f"Welcome {waits[len(waits) // 2] * 1000:.1f} ms p50, "
            f"{waits[int(len(waits) * 0.99)] * 1000:.1f} ms p99"
        )
        check(partial > 0 and resumed > partial, "the cuts did not do their work")


class Ping:
    """Asks those who have not answered yet, again and again: a connection may still be cut by its
    last plan, and what comes after it answers."""

    def __init__(self, crowd, history, names):
        self.crowd, self.history, self.names = crowd, history, names
        self.due = 0.0

    def __call__(self):
        missing = self.names - {
            entry.user for entry in self.history.entries[-10000:] if entry.word == "pong"
        }
        if missing and time.monotonic() >= self.due:
            self.due = time.monotonic() + 0.5
            for client in self.crowd.clients():
                if client.name not in missing or (client.stream and not client.stream.welcomed):
                    continue
                try:
                    client.post("ping")
                except OSError:
                    pass  # cut; the end is read in its turn
        return not missing


def crowd_look(crowd, condition, streams, feeder, what, window=0):
    deadline = time.monotonic() + (600 if LARGE else 60)
    while not condition():
        check(time.monotonic() < deadline, f"waited in vain: {what}")
        feeder.feed(window)
        for client in crowd.read(0.02):
            if client.stream is None:
                feeder.look()
            elif client.stream.client is client:
                client.stream.look(crowd)


# --- a short exchange, cut after every byte -----------------------------------------------------

MESSAGES = 3


def exchange(relay, broker, bob, name, plan, acks):
    """Login, three messages, an Ack for each; gives (Client, Welcome or None, last seq)."""
    alice = relay.connect(lambda: Client(relay), plan)
    alice.name = name
    last, fed = 0, False
    try:
        alice.post("login", username=name, acks=acks)
        while last < MESSAGES:
            if alice.welcome is not None and not fed:
                fed = True
                for number in range(1, MESSAGES + 1):
                    bob.send(name, b"%d" % number)
            frame = alice.next_frame(10)
            check(frame is not None, "neither a frame nor the end")
            if frame.WhichOneof("body") == "welcome":
                alice.welcome = frame.welcome
            else:
                last += 1
                check_equal(
                    (frame.message.seq, frame.message.payload),
                    (last, b"%d" % last),
                    "a message before the cut",
                )
                if acks:
                    alice.post("ack", id=0, seq=last)
        alice.ping()
    except (OSError, AssertionError):
        check(alice.ended or alice.pipe.over.wait(5), "a failure without a cut")
    return alice, last


def come_back(broker, bob, alice, last, acks):
    """Resumes, or logs in when no Welcome had come; everything is there, or said not to be."""
    with Client(broker) as again:
        again.name = alice.name
        if alice.welcome is None:
            again.login(alice.name, acks=acks)
            bob.send(alice.name, b"later")
            again.expect("message", seq=1, payload=b"later", redelivered=False)
            word = "login"
        else:
            welcome = again.resume(alice.welcome, last)
            if acks:
                check_equal(
                    (welcome.replay, welcome.next_seq), (COMPLETE, last + 1), "a resume with acks"
                )
            else:
                check_equal(
                    welcome.replay,
                    COMPLETE if welcome.next_seq == last + 1 else PARTIAL,
                    f"without acks, last_seq {last}, next_seq {welcome.next_seq}",
                )
                check(last + 1 <= welcome.next_seq <= MESSAGES + 1, "next_seq")
            for seq in range(welcome.next_seq, MESSAGES + 1):
                again.expect("message", seq=seq, payload=b"%d" % seq)
            bob.send(alice.name, b"later")
            again.expect("message", seq=MESSAGES + 1, payload=b"later", redelivered=False)
            word = client_pb.Welcome.Replay.Name(welcome.replay)
        again.post("logout")
        again.read_to_end()
    alice.close()
    return word


def scene_cut_after_every_byte():
    """Each byte of Login, Welcome, Message and Ack is once the last one that passes."""
    with Broker() as broker, Relay(broker) as relay, Client(broker) as bob:
        bob.login("bob")
        for acks in (True, False):
            whole, last = exchange(relay, broker, bob, "measure", Plan(), acks)
            check_equal(last, MESSAGES, "messages of the exchange without a cut")
            up, down = whole.pipe.moved
            whole.post("logout")
            whole.read_to_end()
            words = {"login": 0, "COMPLETE": 0, "PARTIAL": 0}
            cases = [
                (how, where, cut)
                for how in ("RST", "FIN")
                for where, size in (("cut_up", up), ("cut_down", down))
                for cut in range(0, size + 1)
            ]
            for number, (how, where, cut) in enumerate(cases):
                plan = Plan(**{where: cut, "cut_how": how})
                alice, last = exchange(relay, broker, bob, f"u{number:06}", plan, acks)
                words[come_back(broker, bob, alice, last, acks)] += 1
            print(
                f"     {'with' if acks else 'without'} acks: {len(cases)} cuts in {up} bytes up "
                f"and {down} down, by RST and FIN: {words}"
            )
            check(
                words["login"] and words["COMPLETE"] and bool(words["PARTIAL"]) != acks,
                f"the cuts did not do their work: {words}",
            )
        eventually(lambda: broker.descriptors()["socket"] < 20, "no connection is left behind")


if __name__ == "__main__":
    play(scene_resume_cut, scene_cut_after_every_byte)
