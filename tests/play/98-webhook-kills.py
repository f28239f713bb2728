# SPDX-License-Identifier: Apache-2.0
"""Events through a webhook with kill -9 on both sides, to the receiver that docs/webhooks.md shows: none
lost, none taken twice, in order; and a disk that is full for the cursor alone costs repetitions only.

USHER_PLAY_EVENTS=100000 is the size for a long run."""

import errno
import json
import os
import re
import sqlite3
import subprocess
import tempfile
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    ConnectionEnded,
    check,
    check_equal,
    eventually,
    free_port,
    play,
    scaled,
    seed,
)
from usherplay.receiver import Receiver
from usherplay.shim import SYNCS, SYNCED_WRITES, WRITES, Shim

EVENTS = int(os.environ.get("USHER_PLAY_EVENTS", "0")) or scaled(10000, 1000)
PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/webhooks.md")
SECRET = "a secret of the plays"


def options(folder, url):
    path = os.path.join(folder, "webhook.secret")
    with open(path, "w", encoding="ascii") as file:
        file.write(SECRET + "\n")
    os.chmod(path, 0o600)
    return {
        "webhook.url": url,
        "webhook.secret_file": path,
        "webhook.retry_min_ms": 20,
        "webhook.retry_max_ms": 200,
        "webhook.batch": 50,
        "session.resume_ms": 0,
        "limits.takeovers_per_minute": 0,
        "limits.logins_per_minute_per_user": 0,
        "admin.listen": "127.0.0.1:0",
    }


class Documented:
    """The receiver in Python of the page, as a process that can be killed."""

    def __init__(self, folder):
        with open(PAGE, encoding="utf-8") as file:
            text = re.search(r"run: as receiver.py -->\n```python\n(.*?)```", file.read(), re.S)
        self.folder, self.port = folder, free_port()
        self.database = os.path.join(folder, "events.db")
        with open(os.path.join(folder, "receiver.py"), "w", encoding="utf-8") as file:
            file.write(text.group(1))
        self.process = None
        self.start()

    def start(self):
        with open(os.path.join(self.folder, "receiver.log"), "ab") as log:
            self.process = subprocess.Popen(
                ["/usr/bin/python3", "receiver.py", "events.db", str(self.port)],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def kill(self):
        self.process.kill()
        self.process.wait()

    def events(self):
        with sqlite3.connect(self.database, timeout=30) as db:
            return [json.loads(text) for (text,) in db.execute("SELECT text FROM events")]

    def count(self):
        with sqlite3.connect(self.database, timeout=30) as db:
            return db.execute("SELECT count(*) FROM events").fetchone()[0]


def come_and_go(broker, until, number, made):
    """Logins and logouts until the broker is gone, or it is time; a quarter of EVENTS in all."""
    try:
        while not until.is_set() and made[number] < EVENTS // 4:
            clients = []
            for user in range(10):
                client = Client(broker)
                client.post("login", username=f"user{number}.{user}")
                clients.append(client)
            for client in clients:
                client.expect("welcome")
                client.post("logout")
            for client in clients:
                client.expect("done")
                client.close()
                made[number] += 2
    except (ConnectionEnded, OSError):
        pass  # the broker was killed


def scene_kills_on_both_sides():
    random = seed()
    kills, made = {"broker": 0, "receiver": 0}, [0] * 4
    with tempfile.TemporaryDirectory(prefix="usher-play-hook-") as folder:
        receiver = Documented(folder)
        broker = Broker(options(folder, f"http://127.0.0.1:{receiver.port}/"))
        with broker:
            broker.wait_log("webhook_reset", 30)  # the first one: it begins
            while receiver.count() < EVENTS * 9 // 10:
                over = threading.Event()
                crowds = [
                    threading.Thread(target=come_and_go, args=(broker, over, number, made))
                    for number in range(4)
                ]
                for crowd in crowds:
                    crowd.start()
                for _ in range(random.randrange(1, 4)):
                    time.sleep(random.random() * 0.5)
                    kills["receiver"] += 1
                    receiver.kill()
                    receiver.start()
                time.sleep(random.random() * 0.5)
                broker.kill()
                kills["broker"] += 1
                over.set()
                for crowd in crowds:
                    crowd.join(30)
                broker.restart()
            with Backend(broker, hello=False) as backend:
                stream = backend.all_events()
            eventually(
                lambda: receiver.count() >= stream[-1].seq or not broker.alive(), "the rest", 60
            )
            broker.check_alive()
        events = receiver.events()
        receiver.kill()
    check(len(events) >= EVENTS, f"{len(events)} events")
    seqs = [event["seq"] for event in events]
    check_equal(seqs, list(range(1, len(seqs) + 1)), "seqs: each once, in order, none missing")
    told = {event["seq"]: (event["user"], event["epoch"], event["kind"]) for event in events}
    for event in stream:
        name = type(event).Kind.Name(event.kind)
        check_equal(told[event.seq], (event.user, event.epoch, name), f"event {event.seq}")
    print(f"     {len(seqs)} events, kills: {kills}")


def scene_full_disk_for_the_cursor():
    """While nothing can be stored the receiver goes on; after a crash it hears again what it has."""
    with tempfile.TemporaryDirectory(prefix="usher-play-hook-") as folder, Shim() as shim:
        with Receiver(SECRET) as receiver:
            settings = {**options(folder, receiver.url), "store.path": shim.store}
            with Broker(settings, environment=shim.environment()) as broker:
                eventually(lambda: receiver.resets, "the first RESET", 20)
                receiver.behave = ["fail"] * 1000
                for number in range(20):
                    with Client(broker) as client:
                        client.login(f"user{number}")
                        client.post("logout")
                        client.expect("done")
                time.sleep(1.5)  # what was kept before is stored
                shim.fail(WRITES | SYNCS | SYNCED_WRITES, errno.ENOSPC)
                receiver.behave = []
                receiver.wait(40)
                broker.wait_log("store_failed", 20)
                broker.kill()
                shim.heal()
                before = len(receiver.requests)
                broker.restart()
                with Client(broker) as client:
                    client.login("late")
                receiver.wait(41)
                again = [
                    event["seq"]
                    for _, body in receiver.requests[before:]
                    for event in body["events"]
                ]
                check_equal(again[0], 1, "from where it is told again")
                eventually(lambda: broker.numbers()["webhook_lag_events"] == 0, "lag 0", 10)
            check_equal(len(receiver.resets), 1, "RESETs")
            check_equal(
                [event["seq"] for event in receiver.events[:41]], list(range(1, 42)), "seqs"
            )


play(scene_kills_on_both_sides, scene_full_disk_for_the_cursor)
