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

from usherplay import Backend, Broker, Failed, check, check_equal, play, program, scaled, seed
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
    play(scene_images, scene_log, scene_weight)
