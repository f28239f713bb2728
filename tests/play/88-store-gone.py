# SPDX-License-Identifier: Apache-2.0
"""The store's files are removed, replaced or moved away under a running broker: it notices by itself,
welcomes nobody whose login would be lost, says what to do, and goes on when they are back."""

import contextlib
import json
import os
import shutil
import urllib.error
import urllib.request

from usherplay import Broker, Client, check, check_equal, eventually, play

PATIENCE = 30.0
NAMES = ("data.mdb", "lock.mdb", "usher.lock")
WORDS = "removed or replaced"


class Watched(Broker):
    def __init__(self, **others):
        super().__init__({"admin.listen": "127.0.0.1:0"}, **others)

    def store_check(self):
        """What /readyz says of the store: whether it is well, and why not."""
        port = next(line["port"] for line in self.log_events("listening") if line["for"] == "admin")
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE
            ) as page:
                answer, status = json.load(page), page.status
        except urllib.error.HTTPError as error:
            answer, status = json.load(error), error.code
        check_equal(status, 200 if answer["ready"] else 503, "the status of /readyz")
        return next(
            (row["ok"], row["detail"]) for row in answer["checks"] if row["name"] == "store"
        )

    def notices(self, known=0):
        """Although nobody logs in; `known` lines were there before."""
        said = self.wait_log("store_failed", PATIENCE, known + 1)
        check(WORDS in said["error"], said)
        eventually(lambda: not self.store_check()[0], "/readyz knows it as well")
        why = self.store_check()[1]
        check(WORDS in why, f"/readyz says of the store: {why}")


def refused(broker, name):
    with Client(broker, timeout=PATIENCE) as client:
        client.expect_error("UNAVAILABLE", client.post("login", username=name, client="play"))


def welcomed(broker, name):
    with Client(broker, timeout=PATIENCE) as client:
        return client.login(name)


def scene_moved_away_and_back():
    with Watched() as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob")
        for count, name in enumerate(NAMES, 1):
            path = os.path.join(broker.store, name)
            known = len(broker.log_events("store_failed"))
            os.rename(path, path + ".aside")
            broker.notices(known)
            refused(broker, "late")
            alice.send("bob", b"still here")
            bob.expect("message", payload=b"still here")
            os.rename(path + ".aside", path)
            welcomed(broker, f"user{count}")
            broker.wait_log("store_recovered", PATIENCE, count)
        eventually(lambda: broker.store_check()[0], "/readyz says so", PATIENCE)
        os.rename(broker.store, broker.store + ".aside")
        refused(broker, "late")
        os.rename(broker.store + ".aside", broker.store)
        welcomed(broker, "last")


def scene_replaced():
    """By a copy, as who restores a backup without stopping first does: what is there is used by the
    next start, and nobody is told meanwhile that he is in it."""
    with Watched() as broker:
        welcomed(broker, "early")
        copy = broker.store + ".copy"
        shutil.copytree(broker.store, copy, ignore=shutil.ignore_patterns("*.sock*"))
        welcomed(broker, "between")
        for name in NAMES:
            os.replace(os.path.join(copy, name), os.path.join(broker.store, name))
        refused(broker, "late")
        broker.notices()
        broker.kill()
        broker.restart()
        welcomed(broker, "late")


def scene_removed_with_all():
    with Watched() as broker:
        welcomed(broker, "early")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(broker.store)
        broker.notices()
        os.mkdir(broker.store, 0o700)
        refused(broker, "late")
        broker.kill()
        broker.restart()
        welcomed(broker, "late")


play(scene_moved_away_and_back, scene_replaced, scene_removed_with_all)
