# SPDX-License-Identifier: Apache-2.0
"""Receivers that docs/webhooks.md shows, as they stand there. The one in Python was away for too long, and
takes the list page by page while everybody comes and goes, and is killed in the middle of it: in the end it
has exactly who is online. The one in Node is told real events."""

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from http.client import HTTPConnection
from random import Random

from usherplay import (
    Broker,
    Client,
    ConnectionEnded,
    Failed,
    check,
    check_equal,
    eventually,
    free_port,
    play,
    scaled,
    seed,
)
from usherplay.asker import Http

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/webhooks.md")
SECRET, TOKEN = "a secret of the plays", "a-token-of-the-plays-which-is-long"
KEPT = 1024
ROWS, PAUSE_SECONDS = 5, 0.05  # of a page, and between two: a list takes about a second


def shown(name, language):
    with open(PAGE, encoding="utf-8") as file:
        found = re.search(rf"run: as {name} -->\n```{language}\n(.*?)```", file.read(), re.S)
    check(found, f"{name} is on the page")
    return found.group(1)


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o600)
    return path


def options(folder, port):
    return {
        "webhook.url": f"http://127.0.0.1:{port}/",
        "webhook.secret_file": write(folder, "webhook.secret", SECRET + "\n"),
        "webhook.retry_min_ms": 20,
        "webhook.retry_max_ms": 200,
        "webhook.batch": 50,
        "http.listen": f"127.0.0.1:{free_port()}",
        "http.token_file": write(folder, "http.token", TOKEN + "\n"),
        "admin.listen": "127.0.0.1:0",
        "store.events_kept": KEPT,
        "session.resume_ms": 1500,
        "limits.takeovers_per_minute": 0,
        "limits.logins_per_minute_per_user": 0,
    }


class Receiver:
    """The one in Python, with pages of a few rows and time between them."""

    def __init__(self, folder, port, http):
        text = shown("receiver.py", "python")
        for was, now in (
            ("limit=1000", f"limit={ROWS}"),
            ("        rows += [", f"        time.sleep({PAUSE_SECONDS})\n        rows += ["),
        ):
            check(was in text, f"the page has {was}")
            text = text.replace(was, now)
        write(folder, "receiver.py", text)
        self.folder, self.port, self.http = folder, port, http
        self.process = None

    def start(self):
        where = [f"http://{self.http}/v1", "http.token"]
        with open(os.path.join(self.folder, "receiver.log"), "ab") as log:
            self.process = subprocess.Popen(
                ["/usr/bin/python3", "receiver.py", "events.db", str(self.port), *where],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def log(self):
        with open(os.path.join(self.folder, "receiver.log"), encoding="utf-8") as file:
            return file.read()

    def _read(self, question):
        try:
            with sqlite3.connect(os.path.join(self.folder, "events.db"), timeout=30) as db:
                return db.execute(question).fetchall()
        except sqlite3.OperationalError:
            return []  # it has not made its tables yet

    def at(self):
        rows = self._read("SELECT seq, due FROM at")
        return rows[0] if rows else (0, 1)

    def online(self):
        return sorted(self._read("SELECT user, epoch, state FROM online"))


class Crowd:
    """Users who come, are taken over, lose their connections, come back, and go."""

    def __init__(self, broker, random, threads=4, users=25):
        self.over = threading.Event()
        self.made = 0
        self.threads = [
            threading.Thread(target=self._run, args=(broker, random.random(), number, users))
            for number in range(threads)
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, broker, chance, number, users):
        random, clients = Random(chance), {}
        try:
            while not self.over.is_set():
                name = f"user{number}.{random.randrange(users)}"
                self._step(broker, random, clients, name)
                self.made += 1
        except (ConnectionEnded, OSError, Failed):
            pass  # the broker was killed
        for client in clients.values():
            client.close()

    @staticmethod
    def _step(broker, random, clients, name):
        client = clients.pop(name, None)
        what = random.random()
        if client is None or what < 0.2:  # also a takeover
            again = Client(broker)
            again.post("login", username=name)
            again.expect("welcome")
            clients[name] = again
            if client is not None:
                client.close()
        elif what < 0.6:
            client.post("logout")
            client.read_to_end()
            client.close()
        else:
            client.close()  # lost: DETACHED, and later OFFLINE

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(60)


def truth(broker):
    """Who is online by the broker's own list, in one page, and the seq that it is true for."""
    page = Http(broker, TOKEN, "http").json("/v1/sessions?limit=1000")
    rows = [(row["user"], row["epoch"], row["state"]) for row in page["sessions"]]
    return page["presence_seq"], sorted(rows)


def check_same(broker, receiver):
    """When it has heard of everything that there is, what it has is what there is."""
    until = time.monotonic() + 60
    while True:
        seq, rows = truth(broker)
        at, due = receiver.at()
        mine = receiver.online()
        if (at, due) == (seq, 0) and receiver.at()[0] == truth(broker)[0]:
            break
        check(
            time.monotonic() < until, f"it is at {at}, due {due}, of {seq}\n{receiver.log()[-500:]}"
        )
        time.sleep(0.02)
    wrong = set(mine) ^ set(rows)
    check(not wrong, f"{len(wrong)} of {len(rows)} are wrong: {sorted(wrong)[:6]}")


def scene_the_list():
    random = seed()
    rounds = scaled(8, 3)
    with tempfile.TemporaryDirectory(prefix="usher-play-hook-") as folder:
        port = free_port()
        given = options(folder, port)
        receiver = Receiver(folder, port, given["http.listen"])
        with Broker(given) as broker:
            receiver.start()
            eventually(lambda: receiver.at()[1] == 0, "the first list", 30)
            for number in range(rounds):
                if number % 2 == 0:
                    receiver.kill()  # away for longer than events are kept
                crowd = Crowd(broker, random)
                goal = Http(broker, TOKEN, "http").json("/v1/presence")["next"] + KEPT * 3 // 2
                eventually(
                    lambda: Http(broker, TOKEN, "http").json("/v1/presence")["next"] > goal,
                    "events",
                    120,
                )
                if number % 2 == 0:
                    receiver.start()
                    before = receiver.log().count("begin anew")
                    eventually(lambda: receiver.log().count("begin anew") > before, "a RESET", 60)
                    if number % 4 == 0:
                        time.sleep(random.random())
                        receiver.kill()  # in the middle of the list
                        receiver.start()
                    # Whoever comes or goes while it lists does nothing afterwards that hides it.
                    time.sleep(random.random())
                if number % 4 == 3:
                    broker.kill()
                    crowd.end()
                    broker.restart()
                crowd.end()
                check_same(broker, receiver)
            broker.check_alive()
        receiver.kill()
        told = receiver.log()
        check(told.count("begin anew") >= rounds // 2, "it was away for too long")
        sizes = [int(size) for size in re.findall(r"has the list of (\d+)", told)]
        check(max(sizes) > ROWS * 4, f"pages: {sizes}")
        print(f"     {told.count('begin anew')} RESETs, lists of {sizes}")


def scene_another_store():
    """A receiver that knows another stream begins anew, and keeps nothing of that one."""
    with tempfile.TemporaryDirectory(prefix="usher-play-hook-") as folder:
        port = free_port()
        given = options(folder, port)
        receiver = Receiver(folder, port, given["http.listen"])
        for users in (20, 3):
            with Broker(given) as broker:
                if receiver.process is None:
                    receiver.start()
                clients = []
                eventually(lambda: receiver.at()[1] == 0, "the list", 30)
                for number in range(users):
                    clients.append(Client(broker))
                    clients[-1].login(f"{users}.{number}")
                check_same(broker, receiver)
                check_equal(len(receiver.online()), users, "who is online")
                for client in clients:
                    client.close()
        receiver.kill()


def scene_in_node():
    """In order, each once, also when the broker is killed; without a signature it takes nothing."""
    node = os.environ.get("USHER_NODE") or shutil.which("node")
    check(node, "there is a node")
    with tempfile.TemporaryDirectory(prefix="usher-play-hook-") as folder:
        port = free_port()
        given = options(folder, port)
        write(folder, "receiver.mjs", shown("receiver.mjs", "js"))
        process = subprocess.Popen(
            [node, "receiver.mjs", str(port)], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
        reader.start()
        try:
            eventually(lambda: lines, "it listens", 20)
            with Broker(given) as broker:
                broker.wait_log("webhook_reset", 20)  # the first one; it begins at 0 as well
                for number in range(60):
                    with Client(broker) as client:
                        client.login(f"user{number}")
                        client.post("logout")
                        client.expect("done")
                    if number == 30:
                        broker.kill()
                        broker.restart()
                last = Http(broker, TOKEN, "http").json("/v1/presence")["next"]
                eventually(lambda: len(lines) >= last + 1, f"{last} events", 30)
                stranger = HTTPConnection("127.0.0.1", port, timeout=20)
                stranger.request("POST", "/", b'{"events": []}', {"Usher-Signature": "t=1,v1=00"})
                check_equal(stranger.getresponse().status, 401, "without a signature")
        finally:
            process.kill()
            process.wait()
        seqs = [int(line.split()[0]) for line in lines[1:]]
        check_equal(seqs, list(range(1, last + 1)), "seqs")
        check_equal(lines[1], "1 user0 ONLINE\n", "the first one")


play(scene_the_list, scene_another_store, scene_in_node)
