# SPDX-License-Identifier: Apache-2.0
"""auth.mode http: a web server is asked who somebody is, and what happens when it answers something
else, slowly, or not at all."""

import base64
import json
import os
import tempfile
import time

from usherplay import Backend, Broker, Client, check, check_equal, client_pb, eventually, play
from usherplay.filebroker import FileBroker
from usherplay.receiver import Receiver, answer
from usherplay.tls import Identity

SECRET = "whsec_of_logins"
CONFIGURATION = 78


def secret_file(text=SECRET):
    handle, path = tempfile.mkstemp(prefix="usher-play-secret-")
    os.write(handle, text.encode() + b"\n")
    os.close(handle)
    return path


class Judge(Receiver):
    """Lets in whose token is "good"; for others it answers what `answers` has by token: a status
    and an object, or a text; or does what the Receiver can do by that name."""

    def __init__(self, **others):
        super().__init__(SECRET, **others)
        self.answers = {}
        self.asked = []

    def _take(self, connection, body):
        token = base64.b64decode(body["token"])
        self.asked.append(body)
        if token == b"good":
            connection.sendall(answer(200, json.dumps({"allow": True}).encode()))
            return True
        told = self.answers.get(token.decode(), (401, ""))
        if isinstance(told, str):
            return getattr(self, "_" + told)(connection, body)
        status, value = told
        text = value if isinstance(value, str) else json.dumps(value)
        connection.sendall(answer(status, text.encode()))
        return True


def mode(judge, **others):
    return {
        "auth.mode": "http",
        "auth.http.url": judge.url,
        "auth.http.secret_file": secret_file(),
        "auth.deadline_ms": 700,
        "limits.failed_logins_per_source": 0,
        "admin.listen": "127.0.0.1:0",
        **{key.replace("__", "."): value for key, value in others.items()},
    }


def ask(broker, user, token, **fields):
    client = Client(broker)
    client.name = user or "somebody"
    client.post("login", username=user, token=token, **fields)
    return client


def expect_refused(client, text=None):
    error = client.expect("error", id=1).error
    check_equal(error.code, client_pb.Error.UNAUTHENTICATED, "its code")
    if text is not None:
        check_equal(error.detail, text, "what it says")
    client.expect_close("AUTH_FAILED")


def scene_it_decides():
    with Judge() as judge, Broker(mode(judge, limits__prelogin_bytes=16384)) as broker:
        judge.answers = {
            "who": (200, {"allow": True, "user": "carol"}),
            "banned": (200, {"allow": False, "reason": "banned until \u202eMonday"}),
            "other": (200, {"allow": True, "user": "mallory"}),
            "forbidden": (403, {"reason": "no"}),
        }
        with ask(broker, "alice", b"good", client="phone") as alice:
            alice.expect("welcome", id=1)
            alice.ping()
            asked = judge.asked[-1]
            check_equal(
                (asked["user"], asked["client"], asked["transport"], asked["node"]),
                ("alice", "phone", "tcp", "usher-1"),
                "what it hears",
            )
            check(asked["address"].startswith("127.0.0.1:"), f"address {asked['address']}")
        with ask(broker, "", b"who") as carol:
            carol.expect("welcome", id=1)
            with Backend(broker, hello=False) as backend:
                check(backend.lookup("carol").sessions[0].epoch > 0, "who it is")
        with ask(broker, "bob", b"banned") as bob:
            expect_refused(bob, "banned until ?Monday")
        with ask(broker, "bob", b"other") as bob:
            expect_refused(bob, "the username is not the token's sub")
        with ask(broker, "bob", b"forbidden") as bob:
            expect_refused(bob, "no")
        with ask(broker, "bob", b"unheard of") as bob:
            expect_refused(bob, "the login service refuses")
        with ask(broker, "", b"good") as nobody:  # it was left to it to say who that is
            expect_refused(nobody)
        with ask(broker, "bob", b"\x00\xff" * 2049) as bob:
            expect_refused(bob)
        check_equal(judge.connections, 1, "connections, which are kept")
        check_equal(judge.bad_signatures, 0, "bad signatures")


def scene_whatever_it_answers():
    """Nobody gets in by anything but a documented yes, and the next login is as good as ever."""
    odd = {
        "list": (200, []),
        "text": (200, "yes"),
        "none": (200, {}),
        "number": (200, {"allow": 1}),
        "word": (200, {"allow": "true"}),
        "twice": (200, '{"allow": false, "allow": true}'),
        "torn": (200, '{"allow": true'),
        "behind": (200, '{"allow": true} {"allow": false}'),
        "created": (201, {"allow": True}),
        "failed": (500, {"allow": True}),
        "moved": "redirect",
        "noise": "garbage",
        "cut": "cut",
        "silence": "hang",
        "drops": "slow",
        "flood": "huge",
        "interim": "endless",
    }
    with Judge() as elsewhere, Judge() as judge, Broker(mode(judge)) as broker:
        judge.elsewhere = elsewhere.url
        judge.answers = dict(odd)
        for token in odd:
            with ask(broker, "bob", token.encode()) as bob:
                began = time.monotonic()
                bob.expect_error("UNAVAILABLE", id=1)
                check(time.monotonic() - began < 20, "it took too long")
                bob.post("login", username="bob", token=b"good")  # the connection is still good
                bob.expect("welcome")
        for claims in ({"user": 7}, {"rooms": "match:*"}, {"rooms": [7]}, {"ends_ms": "x"}):
            judge.answers["claims"] = (200, {"allow": True, **claims})
            with ask(broker, "bob", b"claims") as bob:
                expect_refused(bob)
        check_equal(len(elsewhere.asked), 0, "asked where the redirect leads")
        failures = broker.numbers()["auth_http_failures"]
        check_equal(failures, len(odd), "auth_http_failures")


def scene_rooms_and_end():
    with Judge() as judge:
        judge.answers = {
            "rooms": (200, {"allow": True, "rooms": ["match:*"]}),
            "over": (200, {"allow": True, "ends_ms": 1000}),
        }
        classes = {"rooms.classes": "match:* create=token join=token"}
        with Broker({**mode(judge), **classes}) as broker:
            with ask(broker, "alice", b"rooms") as alice:
                alice.expect("welcome", id=1)
                id = alice.post("join", room="match:7")
                alice.expect("room_state", id=id)
            with ask(broker, "alice", b"good") as alice:
                alice.expect("welcome", id=1)
                alice.post("join", room="match:7")
                alice.expect_error("FORBIDDEN")
            with ask(broker, "alice", b"over") as alice:
                expect_refused(alice, "the token has expired")


def scene_strangers_cost_a_bound():
    """So many at once, others within the deadline, and who fails often is not asked about."""
    with Judge() as judge:
        judge.answers = {"silence": "hang"}
        with Broker(mode(judge, auth__http__connections=4, auth__deadline_ms=1500)) as broker:
            clients = [ask(broker, f"user{n}", b"silence") for n in range(40)]
            eventually(lambda: len(judge.asked) == 4, "four are asked about", 10)
            began = time.monotonic()
            for client in clients:
                client.expect_error("UNAVAILABLE", id=1)
                client.close()
            check(time.monotonic() - began < 10, "all are told by the deadline")
            # Those who came later have a moment left when the first four are given up.
            check(len(judge.asked) < 40, f"{len(judge.asked)} were asked about")
            with ask(broker, "alice", b"good") as alice:
                alice.expect("welcome", id=1)
        limited = mode(judge, limits__failed_logins_per_source=3)
        with Broker(limited) as broker:
            before = len(judge.asked)
            for number in range(10):
                with ask(broker, "bob", b"bad") as bob:
                    bob.expect("error", id=1)
            check(len(judge.asked) - before <= 4, f"{len(judge.asked) - before} asked about")


def scene_one_source_hangs():
    """Whoever knows tokens at which the judge hangs has a part of the connections, not all."""
    with Judge() as judge:
        judge.answers = {"silence": "hang"}
        given = mode(judge, auth__http__connections=8, auth__deadline_ms=4000)
        given["limits.login_deadline_ms"] = 10000
        given["limits.prelogin_per_source"] = 32
        with Broker(given) as broker:
            clients = []
            for number in range(20):
                client = Client(broker, source="127.0.0.2")
                client.post("login", username=f"user{number}", token=b"silence")
                clients.append(client)
            eventually(lambda: len(judge.asked) >= 2, "two are asked about", 10)
            for name in ("alice", "bob"):
                with ask(broker, name, b"good") as player:
                    player.expect("welcome", id=1)
            hanging = [asked for asked in judge.asked if asked["user"].startswith("user")]
            check_equal(len(hanging), 2, "of one source are asked about")
            for client in clients:
                client.expect_error("UNAVAILABLE", id=1)
                client.close()


def scene_it_changes():
    """Another URL from a reload on; who waits at the old one is answered by it."""
    with Judge() as first, Judge() as second:
        values = {key.replace(".", "__"): value for key, value in mode(first).items()}
        with FileBroker(values) as broker:
            with ask(broker, "alice", b"good") as alice:
                alice.expect("welcome", id=1)
            values["auth__http__url"] = second.url
            broker.write(**values)
            check_equal(broker.reload()[0], 0, "reload")
            with ask(broker, "bob", b"good") as bob:
                bob.expect("welcome", id=1)
            check_equal((len(first.asked), len(second.asked)), (1, 1), "who was asked")
            values["auth__http__url"] = ""
            broker.write(**values)
            check(broker.reload()[0] != 0, "a reload that takes it away is refused")
        for line in broker.lines:
            check("whsec" not in str(line), f"a secret in the log: {line}")


def scene_stop_while_it_hangs():
    with Judge() as judge:
        judge.answers = {"silence": "hang"}
        with Broker(mode(judge, auth__deadline_ms=2500)) as broker:
            clients = [ask(broker, f"user{n}", b"silence") for n in range(5)]
            eventually(lambda: len(judge.asked) == 5, "all are asked about", 10)
            began = time.monotonic()
            broker.stop()
            check(time.monotonic() - began < 10, "the stop waits for it")
            for client in clients:
                client.close()


def scene_urls():
    for url, fine in (
        ("http://127.0.0.1/x", True),
        ("http://[::1]:8/x", True),
        ("https://game.example/x", True),
        ("http://game.example/x", False),
        ("http://localhost.game.example/x", False),
        ("http://127.0.0.1@game.example/x", False),
        ("ftp://127.0.0.1/", False),
        ("", False),
    ):
        options = {"auth.mode": "http", "auth.http.url": url}
        broker = Broker(options, wait=False)
        if fine:
            broker.wait_log("ready", 20)
            broker.stop()
        else:
            check_equal(broker._wait_end(20), CONFIGURATION, f"exit code with {url!r}")
        broker.close()
    with Broker(
        {"auth.mode": "http", "auth.http.url": "http://a.example/", "auth.http.plain": "true"}
    ):
        pass


def scene_tls():
    with tempfile.TemporaryDirectory(prefix="usher-play-tls-") as folder:
        authority = Identity(folder, "authority")
        with Judge(identity=Identity(folder, "judge", authority)) as judge:
            with Broker(mode(judge, auth__http__ca_file=authority.certificate)) as broker:
                with ask(broker, "alice", b"good") as alice:
                    alice.expect("welcome", id=1)
            with Broker(mode(judge)) as broker:
                with ask(broker, "alice", b"good") as alice:
                    alice.expect_error("UNAVAILABLE", id=1)
                check_equal(len(judge.asked), 1, "who was believed")


play(
    scene_it_decides,
    scene_whatever_it_answers,
    scene_rooms_and_end,
    scene_strangers_cost_a_bound,
    scene_one_source_hangs,
    scene_it_changes,
    scene_stop_while_it_hangs,
    scene_urls,
    scene_tls,
)
