# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments under messages with keep_s: each one whose sender heard Done is received
(I1), by its mid exactly once (I2), the mids of a user rise (I3), and nobody's messages are overtaken
by his own later ones, stored or not (P4).

--cycles N, or USHER_PLAY_KILLS=1000, is the size for a long run."""

import os
import random as randoms
import sys
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    ConnectionEnded,
    LinkClosed,
    LinkRefused,
    backend_pb,
    check,
    check_equal,
    play,
    scaled,
    seed,
)


def cycles_wanted():
    if "--cycles" in sys.argv:
        at = sys.argv.index("--cycles")
        cycles = int(sys.argv[at + 1])
        del sys.argv[at : at + 2]
        return cycles
    return int(os.environ.get("USHER_PLAY_KILLS", "0")) or max(5, scaled(30, 5))


CYCLES = cycles_wanted()
READERS = [f"reader{number}" for number in range(6)]
KEEP_S = 600000
OPTIONS = {
    "session.resume_ms": 3600000,
    "limits.takeovers_per_minute": 0,
    "limits.inbox_messages": 40,  # so that much waits on the disk, and comes in windows
    "limits.requests_per_second": 0,
    "inbox.stored_per_second": 0,
}


class Book:
    """What was promised to and seen by one reader. A payload is "sender number"."""

    def __init__(self):
        self.told = {}  # payload -> mid, 0 when it is not known
        self.seen = {}  # mid -> payload
        self.last_mid = 0
        self.last = {}  # sender -> the highest number that was processed
        self.again = 0

    def process(self, message):
        sender, number = message.payload.split()
        if message.mid:
            if message.mid <= self.last_mid:
                check_equal(self.seen.get(message.mid), message.payload, f"mid {message.mid} again")
                self.again += 1
                return
            self.seen[message.mid] = message.payload
            self.last_mid = message.mid
        elif message.redelivered:
            return
        check(
            int(number) > self.last.get(sender, 0),
            f"{message.payload} comes after {self.last.get(sender)}",
        )
        self.last[sender] = int(number)

    def missing(self):
        return set(self.told) - set(self.seen.values())


class Numbers:
    """Of one sender, a series for each receiver."""

    def __init__(self, name):
        self.name = name
        self.last = dict.fromkeys(READERS, 0)

    def next(self, to):
        self.last[to] += 1
        return b"%s %d" % (self.name.encode(), self.last[to])


class Role:
    """Does its steps until the broker is gone."""

    def __init__(self, random):
        self.random = random
        self.problem = None

    def run(self):
        try:
            self.begin()
            while True:
                self.step()
        except (ConnectionEnded, LinkClosed, LinkRefused, OSError):
            pass  # the broker was killed
        except AssertionError as error:
            self.problem = error


class Player(Role):
    """Sends to users who have a session; half of it is to be stored."""

    def __init__(self, broker, random, books, name):
        super().__init__(random)
        self.broker, self.books = broker, books
        self.numbers = Numbers(name)

    def begin(self):
        self.client = Client(self.broker)
        self.client.login(self.numbers.name)

    def step(self):
        posted = []
        for _ in range(self.random.randrange(1, 6)):
            to = self.random.choice(READERS)
            keep_s = self.random.choice((0, KEEP_S))
            payload = self.numbers.next(to)
            posted.append(
                (
                    self.client.post("send", to=to, payload=payload, keep_s=keep_s),
                    to,
                    payload,
                    keep_s,
                )
            )
        for id, to, payload, keep_s in posted:
            frame = self.client.answer_to(id)
            if keep_s and frame.WhichOneof("body") == "done":
                check(frame.done.mid > 0, "a Done without a mid")
                self.books[to].told[payload] = frame.done.mid


class Service(Role):
    """Pushes to some users at once, whether they are there or not."""

    def __init__(self, broker, random, books):
        super().__init__(random)
        self.broker, self.books = broker, books
        self.numbers = Numbers("service")
        self.shared = 0

    def begin(self):
        self.backend = Backend(self.broker)

    def step(self):
        names = self.random.sample(READERS, self.random.randrange(1, 4))
        self.shared = max(self.shared, *self.numbers.last.values()) + 1
        payload = b"service %d" % self.shared
        for name in names:
            self.numbers.last[name] = self.shared
        push = backend_pb.Push(to=names, payload=payload, keep_s=KEEP_S)
        result = self.backend.submit(backend_pb.Command(push=push))[0]
        failed = {failure.user for failure in result.push.failures}
        for name in set(names) - failed:
            self.books[name].told[payload] = result.push.mid if len(names) == 1 else 0


class Reader(Role):
    """Reads, acknowledges, loses his connection, resumes and logs in anew."""

    def __init__(self, broker, random, name, book):
        super().__init__(random)
        self.broker, self.name, self.book = broker, name, book
        self.client = self.welcome = None
        self.last_seq = 0

    def begin(self):
        self.come()

    def come(self):
        self.client = Client(self.broker)
        self.client.name = self.name
        if self.welcome is not None and self.random.random() < 0.6:
            self.client.post(
                "resume",
                username=self.name,
                epoch=self.welcome.epoch,
                secret=self.welcome.secret,
                last_seq=self.last_seq,
                last_mid=self.book.last_mid,
            )
            frame = self.client.next_frame()
            if frame is not None and frame.WhichOneof("body") == "welcome":
                self.last_seq = frame.welcome.next_seq - 1
                return
            self.client.close()
            self.client = Client(self.broker)
        self.client.post("login", username=self.name, acks=True, last_mid=self.book.last_mid)
        self.welcome = self.client.next_frame().welcome
        self.last_seq = 0

    def take(self, seconds):
        frame = self.client.next_frame(seconds)
        if frame is None:
            return False
        if frame.WhichOneof("body") == "message" and frame.message.seq > self.last_seq:
            self.last_seq = frame.message.seq
            self.book.process(frame.message)
        return True

    def step(self):
        for _ in range(self.random.randrange(1, 30)):
            if not self.take(0.02):
                break
        choice = self.random.random()
        if choice < 0.7:
            self.client.post("ack", id=0, seq=self.last_seq)
        elif choice < 0.78:
            self.client.drop()
            time.sleep(self.random.uniform(0, 0.05))
            self.come()
        elif choice < 0.8:
            self.client.post("logout")
            self.client.close()
            self.welcome = None
            time.sleep(self.random.uniform(0, 0.05))
            self.come()

    def read_all(self):
        """Until all that was promised is there."""
        self.welcome = None
        self.come()
        quiet_until = time.monotonic() + 30
        while self.book.missing() and time.monotonic() < quiet_until:
            while self.take(0.05):
                pass
            self.client.post("ack", id=0, seq=self.last_seq)
        self.client.close()
        missing = self.book.missing()
        check(
            not missing,
            f"{len(missing)} stored messages of {self.name} are lost: {sorted(missing)[:5]}",
        )
        for payload, mid in self.book.told.items():
            check(mid == 0 or self.book.seen[mid] == payload, f"mid {mid} is another message")


def run_until_the_end(broker, random, roles, orderly):
    threads = [threading.Thread(target=role.run, daemon=True) for role in roles]
    for thread in threads:
        thread.start()
    time.sleep(random.uniform(0.02, 0.5))
    check(broker.alive(), "the broker died by itself")
    if orderly:
        check_equal(broker.stop(), 0, "the exit code of a stop")
    else:
        broker.kill()
    for thread, role in zip(threads, roles):
        thread.join(60)
        check(not thread.is_alive(), "somebody did not notice the end")
        if role.problem:
            raise role.problem


def scene_nothing_stored_is_lost():
    random = seed()
    books = {name: Book() for name in READERS}
    with Broker(OPTIONS) as broker:
        own = lambda: randoms.Random(random.random())
        readers = [Reader(broker, own(), name, books[name]) for name in READERS]
        roles = [Player(broker, own(), books, f"player{n}") for n in range(2)]
        roles += [Service(broker, own(), books)] + readers
        kills = stops = 0
        while kills < CYCLES:
            orderly = random.random() < 0.15
            run_until_the_end(broker, random, roles, orderly)
            stops += orderly
            kills += not orderly
            broker.restart()
            if (kills + stops) % 10 == 9:
                for reader in readers:
                    reader.read_all()
        for reader in readers:
            reader.read_all()
        told = sum(len(book.told) for book in books.values())
        seen = sum(len(book.seen) for book in books.values())
        again = sum(book.again for book in books.values())
        print(
            f"     {kills} kills and {stops} stops: {told} told as stored, {seen} received,"
            f" {again} came again"
        )
        check(told > CYCLES, "too few to say anything")


if __name__ == "__main__":
    play(scene_nothing_stored_is_lost)
