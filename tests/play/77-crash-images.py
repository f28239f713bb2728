# SPDX-License-Identifier: Apache-2.0
"""Loss of power: a run is recorded, what was written and what was synced, and of every sync and of
many random points an image is built of what the disk could hold then. Each must open, hold
everything that clients and backends had been told, and nothing that was never written."""

import os
import shutil
import struct
import subprocess
import tempfile
import threading

from usherplay import (
    Backend,
    Broker,
    Client,
    Failed,
    backend_pb,
    check,
    check_equal,
    play,
    program,
    scaled,
    seed,
)
from usherplay.faults import OPTIONS, SECONDS, People
from usherplay.shim import Shim

USERS = 24
IMAGES = int(os.environ.get("USHER_PLAY_IMAGES", "1500"))
STEPS = int(os.environ.get("USHER_PLAY_STEPS", "400"))
SYNC_US = 300  # a real disk takes its time; who is told before a sync is told well before it


class Told:
    """What was told, and when: how many records the log had at that moment."""

    def __init__(self, shim):
        self.shim = shim
        self.lines = []

    def add(self, kind, *fields):
        """At once after it came, so that the position is not later than need be."""
        line = " ".join([kind, str(self.shim["records"]), *map(str, fields)])
        self.lines.append(line)  # one step, so threads may share it

    def welcome(self, client):
        welcome = client.welcome
        self.add("welcome", client.name, welcome.epoch, welcome.secret.hex())


class Watcher:
    """A backend that notes each event that it sees."""

    def __init__(self, broker, told, after):
        self.backend = Backend(broker, presence=True, presence_after=after)
        self.told = told
        self.seen = after
        self.closing = False
        self.problem = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.closing:
                batch = self.backend.fetch(wait_ms=50)
                for event in batch.presence:
                    self.told.add("event", event.seq, event.user, event.epoch, event.kind)
                    self.seen = event.seq
        except (Failed, OSError) as error:
            self.problem = error

    def close(self):
        self.closing = True
        self.thread.join(SECONDS)
        self.backend.lose()
        if self.problem:
            raise self.problem


def live(people, told, random, steps):
    """Logins, several at once, takeovers, resumes, losses and logouts."""
    here = {}  # name -> client
    lost = {}
    for _ in range(steps):
        choice = random.random()
        if choice < 0.5 or not here:
            names = random.sample(
                [f"user{number:02}" for number in range(USERS)], random.choice((1, 1, 2, 5))
            )
            for client in people.logins(names):
                told.welcome(client)
                here[client.name] = client
                lost.pop(client.name, None)
            continue
        client = here.pop(random.choice(sorted(here)))
        if choice < 0.65:
            check_equal(people.log_out(client), "done", "a logout")
            told.add("logout", client.name, client.welcome.epoch)
        else:
            client.drop()
            lost[client.name] = client
        if lost and choice > 0.8:
            client = lost.pop(random.choice(sorted(lost)))
            again, outcome = people.resume(client.name, client.welcome)
            check_equal(outcome, "welcome", "a resume")
            here[client.name] = again


def record(shim, told, random, steps):
    """Two lives of the broker with an orderly stop between, and one at the end."""
    options = {"store.path": shim.store, "store.map_bytes": 64 << 20, **OPTIONS}
    with Broker(options, environment=shim.environment()) as broker:
        seen = 0
        for life in range(2):
            shim["delay_us"] = SYNC_US
            watcher = Watcher(broker, told, seen)
            with People(broker) as people:
                live(people, told, random, steps)
                seen = watcher.seen
                watcher.close()
                check_equal(broker.stop(60), 0, "the orderly stop")
            if life == 0:
                broker.restart()


def judge(shim, told, random):
    """Images of what the library has recorded, each held against what was told."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="usher-images-", dir=place)
    path = os.path.join(shim.folder, "told")
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(told) + "\n")
    arguments = [shim.log, path, folder, str(scaled(IMAGES)), str(random.randrange(1 << 31))]
    try:
        judged = subprocess.run(
            [program("usher-crash-images"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(f"     {judged.stdout.strip()}")
        check(
            judged.returncode == 0,
            f"the judge ended with {judged.returncode}: " f"{judged.stderr.strip()}",
        )
    finally:
        if not os.environ.get("USHER_PLAY_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)


def scene_images():
    random = seed()
    with Shim(record=True) as shim:
        told = Told(shim)
        record(shim, told, random, max(20, scaled(STEPS)))
        judge(shim, told.lines, random)


def log_writer(shim, *arguments):
    shim["delay_us"] = SYNC_US if arguments[0] == "live" else 0
    done = subprocess.run(
        [program("usher-log-writer"), arguments[0], shim.store, *map(str, arguments[1:])],
        env={**os.environ, **shim.environment()},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    check_equal((done.returncode, done.stderr), (0, ""), "usher-log-writer")
    return done.stdout.splitlines()


def scene_log():
    """The same of the log of stored messages, as the committer writes it: what comes and goes."""
    random = seed()
    with Shim(record=True) as shim:
        judge(shim, log_writer(shim, "live", max(20, scaled(STEPS))), random)


class Mail:
    """Messages that are stored for some users, who come now and then and take a part of theirs."""

    def __init__(self, broker, told, random):
        self.broker, self.told, self.random = broker, told, random
        self.names = [f"user{number}" for number in range(8)]
        self.waiting = {name: [] for name in self.names}  # mids
        self.last_mid = dict.fromkeys(self.names, 0)
        self.made = 0

    def _make(self, count):
        self.made += 1
        payload = b"%d " % self.made + bytes(self.random.choice((0, 100, 600, 600, 2500)))
        tag = self.random.choice((self.made, 2**64 - self.made))
        names = self.random.sample(self.names, count)
        return backend_pb.Push(to=names, payload=payload, keep_s=3600, tag=tag)

    def _note(self, push, name, mid):
        check(mid > 0, "no mid")
        self.told.add("stored", name, mid, push.tag, push.payload.split(b" ")[0].decode())
        self.waiting[name].append(mid)

    def push(self, backend):
        """Some at once, each told as soon as its answer is here; and one to several, who may have it
        under different mids."""
        pushes = [self._make(1) for _ in range(self.random.choice((1, 1, 3, 12)))]
        results = backend.submit(*(backend_pb.Command(push=push) for push in pushes))
        for push, result in zip(pushes, results):
            check_equal((result.code, result.push.accepted), (0, 1), "a push")
            self._note(push, push.to[0], result.push.mid)
        push = self._make(3)
        report = backend.submit(backend_pb.Command(push=push))[0].push
        check_equal(report.accepted, 3, "a push to three")
        for name in push.to:
            last = max(self.waiting[name], default=self.last_mid[name])
            question = backend_pb.Command(inbox=backend_pb.Inbox(user=name, after_mid=last))
            (row,) = backend.query(question).stored.messages
            self._note(push, name, row.mid)

    def _done(self, name, mid):
        """What is said before it can be stored."""
        self.told.add("done", name, mid)
        self.last_mid[name] = mid

    def take(self, name):
        """He comes, and has processed some of it."""
        mids = self.waiting[name]
        with Client(self.broker) as client:
            last_mid = self.last_mid[name]
            welcome = client.ask("login", username=name, acks=True, last_mid=last_mid).welcome
            check_equal(welcome.stored_messages, len(mids), f"what is stored for {name}")
            part = self.random.randrange(len(mids) + 1)
            for mid in mids[:part]:
                seq = client.expect("message", mid=mid).message.seq
            if part > 0:
                self._done(name, mids[part - 1])
                client.post("ack", id=0, seq=seq)
            client.ping()
            client.ask("logout")
        del mids[:part]

    def drop(self, backend, name):
        mids = self.waiting[name]
        if mids:
            self._done(name, mids[0])
            body = backend_pb.InboxDrop(user=name, up_to_mid=mids[0])
            backend.submit(backend_pb.Command(inbox_drop=body))
            del mids[0]


def scene_stored():
    """Stored messages of a real broker, whose start then reads each image: what was answered is there
    until its receiver has said that he has it, once, in the order of the mids; tags are known again,
    and new mids are above all. Its own sessions are in the images as in the scene above."""
    random = seed()
    with Shim(record=True) as shim:
        told = Told(shim)
        options = {
            "store.path": shim.store,
            "store.map_bytes": 64 << 20,
            "inbox.log_spare": 2,
            "limits.inbox_messages": 20000,
            "limits.inbox_bytes": 32 << 20,
            **OPTIONS,
        }
        with Broker(options, environment=shim.environment()) as broker:
            shim["delay_us"] = SYNC_US
            mail = Mail(broker, told, random)
            for life in range(2):
                with Backend(broker, "post") as backend:
                    for step in range(max(15, scaled(STEPS) // 2)):
                        mail.push(backend)
                        if step % 3 == 2:
                            mail.take(random.choice(mail.names))
                        backend.fetch(wait_ms=1)  # which is its sign of life
                        if step % 20 == 19:
                            mail.drop(backend, random.choice(mail.names))
                if life == 0:
                    broker.kill()
                    broker.restart()
            check_equal(broker.stop(60), 0, "the orderly stop")
        judge(shim, told.lines, random)


# The head of a record, as shim.h has it; and the kinds that write.
RECORD, WRITES = struct.Struct("<IIQQ32s"), (2, 3)


def bytes_written(log):
    total = 0
    with open(log, "rb") as file:
        while head := file.read(RECORD.size):
            _, kind, _, size, _ = RECORD.unpack(head)
            total += size if kind in WRITES else 0
            file.seek(size, os.SEEK_CUR)
    return total


# Messages of 128 bytes in a commit, how many are stored, and what each may cost.
WEIGHTS = ((1, 12000, 40000), (16, 24000, 2048), (256, 60000, 500))


def scene_weight():
    """What a stored message costs in bytes written, its end and the cleaning of the log included."""
    for each, messages, most in WEIGHTS:
        with Shim(record=True) as shim:
            if messages > scaled(messages):  # a sanitizer's run is too short to be steady
                return
            print(f"     {log_writer(shim, 'weigh', each, messages)[0]}", end="")
            cost = bytes_written(shim.log) / messages
            print(f", {each} a commit: {cost:.0f} bytes written for each")
            check(cost <= most, f"{cost:.0f} bytes for a message, {each} a commit")


if __name__ == "__main__":
    play(scene_images, scene_log, scene_stored, scene_weight)
