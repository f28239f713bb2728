# SPDX-License-Identifier: Apache-2.0
"""HTTP for backends: every path as docs/openapi.json tells it, what is refused and how, strangers and
crowds, and the stream of presence with a cursor: over restarts and kills, none lost, none doubled."""

import base64
import http.client
import json
import os
import re
import signal
import stat
import tempfile
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    client_pb,
    eventually,
    logged_in,
    play,
    scaled,
)
from usherplay.asker import SLOW_SECONDS, Http, read_all
from usherplay.faults import OPTIONS, SECONDS
from usherplay.shim import SYNCED_WRITES, SYNCS, Shim

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
TOKEN, ADMIN = "token-of-the-backends-of-the-play", "token-of-the-operators"
RUNNING = re.compile(r'BACKEND\(\w+, "(\w+)", "([^"]+)", (true|false)')


def options(**more):
    """With a token, in a folder that the system forgets."""
    folder = tempfile.mkdtemp(prefix="usher-http-")
    given = {"http.listen": "127.0.0.1:0"}
    for key, token in (("http.token_file", TOKEN), ("admin.token_file", ADMIN)):
        given[key] = os.path.join(folder, key)
        with open(given[key], "w", encoding="ascii") as file:
            file.write(token + "\n")
        os.chmod(given[key], stat.S_IRUSR)
    given.update({key.replace("__", "."): value for key, value in more.items()})
    return given


def backends(broker, token=TOKEN):
    return Http(broker, token, "http")


# --- the paths -----------------------------------------------------------------------------------


def told_paths():
    with open(os.path.join(ROOT, "docs", "openapi.json"), encoding="utf-8") as file:
        return json.load(file)["paths"]


def same_fields(got, told, where):
    """Whether both have the same fields of the same kinds."""
    if isinstance(told, dict):
        check(isinstance(got, dict), f"{where}: {got!r}")
        check_equal(sorted(got), sorted(told), f"the fields of {where}")
        for key in told:
            same_fields(got[key], told[key], f"{where}.{key}")
    elif isinstance(told, list):
        for row in told[:1]:
            check(got, f"{where} is empty")
            same_fields(got[0], row, f"{where}[0]")
    else:
        check_equal(type(got), type(told), f"the kind of {where}")


def scene_paths():
    """The table of the program and the file tell the same paths, and each example of the file runs."""
    told = told_paths()
    with open(os.path.join(ROOT, "broker", "operate", "backends.def"), encoding="utf-8") as file:
        rows = RUNNING.findall(file.read())
    check(len(rows) >= 17, f"the table: {rows}")
    written = sorted(
        (method.upper(), re.sub(r"\{\w+\}", "*", path)) for path in told for method in told[path]
    )
    check_equal(sorted((method, path) for method, path, _ in rows), written, "the paths")
    given = options(rooms__classes="match:* create=service join=service roster=list owner=matches")
    given["friends.mode"] = "backend"
    with Broker(given) as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob")
        door = backends(broker)
        for path, methods in told.items():
            for method, operation in methods.items():
                if path.endswith("/stream"):
                    continue
                run_example(door, method.upper(), path, operation)
        alice.read_to_end()


def run_example(door, method, path, operation):
    path = path.replace("{user}", "alice").replace("{room}", "match:1")
    if path == "/v1/presence":
        path += "?after=0&limit=1&wait_ms=100"
    body = operation.get("requestBody")
    example = body["content"]["application/json"]["example"] if body else None
    answer = door.ask(method, path, example)
    check_equal(answer.status, 200, f"{method} {path}: {answer.text[:300]}")
    told = operation["responses"]["200"]["content"]["application/json"]["example"]
    same_fields(answer.json(), told, f"{method} {path}")


# --- pushes and kicks ----------------------------------------------------------------------------


def refused(door, path, body, status, code):
    door.error("POST", path, status, code, body=body)


def scene_push():
    with Broker(options()) as broker, Client(broker) as alice, Client(broker) as bob:
        door = backends(broker)
        epoch = alice.login("alice", acks=True).epoch
        bob.login("bob+1@x")
        payload = bytes(range(256))
        for text in (
            base64.b64encode(payload).decode(),
            base64.urlsafe_b64encode(payload).decode().rstrip("="),
        ):
            report = door.post("/v1/push", {"to": ["alice"], "payload": text, "epoch": epoch})
            check_equal((report["accepted"], report["failures"]), (1, []), "the report")
            message = alice.expect("message").message
            check_equal((message.payload, message.service), (payload, "http"), "the push")
        to = ["alice", "nobody", "bob+1@x", "!http", "!"]
        report = door.post("/v1/push", {"to": to, "payload_text": "grüße"})
        check_equal(
            (report["accepted"], sorted((row["user"], row["code"]) for row in report["failures"])),
            (2, [(name, "NOT_ONLINE") for name in ("!", "!http", "nobody")]),
            "some are not there",
        )
        for client in (alice, bob):
            check_equal(client.expect("message").message.payload.decode(), "grüße", "the text")
        one = {"payload_text": "x"}
        refused(door, "/v1/push", {**one, "to": ["nobody"]}, 404, "NOT_ONLINE")
        refused(door, "/v1/push", {**one, "to": ["alice"], "epoch": epoch + 1}, 409, "STALE_EPOCH")
        report = door.post("/v1/push-all", {"payload_text": "all", "transient": True})
        check_equal((report["accepted"], report["dropped"]), (2, 0), "to all")
        for client in (alice, bob):
            check_equal(client.expect("message").message.payload, b"all", "to all")
        alice.drop()
        eventually(
            lambda: door.json("/v1/sessions/alice")["session"]["state"] == "DETACHED", "she is away"
        )
        report = door.post("/v1/push", {**one, "to": ["alice"], "transient": True})
        check_equal((report["accepted"], report["dropped"]), (0, 1), "now or never")
        door.post("/v1/push", {**one, "to": ["alice"]})
        session = door.json("/v1/sessions/alice")["session"]
        check(session["inbox_messages"] >= 1, f"it waits for her: {session}")
        many = [f"player{i}" for i in range(1000)]
        report = door.post("/v1/push", {**one, "to": many})
        check_equal(len(report["failures"]), 1000, "a report of the largest push")
        refused(door, "/v1/push", {**one, "to": many + ["x"]}, 400, "MALFORMED")


def scene_traceparent():
    """The header of a push comes unchanged to its receivers; one that is none costs nobody the push."""
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    none = [parent.upper(), "ff" + parent[2:], parent + "-more", "x" * 4000, "gr\xfc\xdfe", " "]
    with Broker(options()) as broker, Client(broker) as alice:
        alice.login("alice")
        door = backends(broker)
        for given in [parent, *none]:
            headers = {"Traceparent": given}
            door.post("/v1/push", {"to": ["alice"], "payload_text": "x"}, headers=headers)
            door.post("/v1/push-all", {"payload_text": "x"}, headers=headers)
            for _ in range(2):
                got = alice.expect("message").message.traceparent
                check_equal(got, parent if given == parent else "", f"with {given[:60]!r}")
        numbers = Backend(broker).numbers("stats")
        check_equal(numbers["traceparents_invalid"], 2 * (len(none) - 1), "traceparents_invalid")
        door.post("/v1/push", {"to": ["alice"], "payload_text": "x"})
        check_equal(alice.expect("message").message.traceparent, "", "without a header")


def scene_kick():
    with Broker(options()) as broker, Client(broker) as alice:
        door = backends(broker)
        epoch = alice.login("alice").epoch
        path = "/v1/sessions/alice/kick"
        refused(door, path, {"epoch": epoch + 1}, 409, "STALE_EPOCH")
        check_equal(door.post(path, {"epoch": epoch, "detail": "cheat"})["code"], "OK", "the kick")
        alice.expect_close("KICKED")
        line = broker.wait_log("kicked")
        check_equal((line["by"], line["detail"]), ("http 127.0.0.1", "cheat"), "in the log")
        refused(door, path, {"epoch": epoch}, 404, "NOT_ONLINE")
        refused(door, "/v1/sessions/nobody/kick", None, 404, "NOT_ONLINE")


def scene_lists():
    with Broker(options()) as broker:
        players = logged_in(broker, [f"p{i:03}" for i in range(250)])
        door = backends(broker)
        names, after = [], ""
        while True:
            page = door.json(f"/v1/sessions?limit=100&after={after}")
            check_equal(page["presence_seq"], 250, "what the page is true for")
            names += [row["user"] for row in page["sessions"]]
            if not page["more"]:
                break
            after = page["next"]
        check_equal(names, [f"p{i:03}" for i in range(250)], "all of them, once, in order")
        check_equal(len(door.json("/v1/sessions?limit=1000")["sessions"]), 250, "in one page")
        check_equal(len(door.json("/v1/sessions?prefix=p24")["sessions"]), 10, "by a prefix")
        rows = door.post("/v1/lookup", {"users": ["p001", "x", "p000"]})["sessions"]
        check_equal(
            [(row["user"], row["state"]) for row in rows],
            [("p001", "ONLINE"), ("x", "GONE"), ("p000", "ONLINE")],
            "a lookup",
        )
        check_equal(door.json("/v1/count")["online"], 250, "the count")
        answer = door.ask("GET", "/v1/sessions/x")
        check_equal(
            (answer.status, answer.json()["error"]), (404, "NOT_ONLINE"), "who is not there"
        )
        check_equal(answer.json()["presence_seq"], 250, "as of when")
        for player in players:
            player.close()


# --- who may -------------------------------------------------------------------------------------


def scene_tokens():
    given = options(admin__listen="127.0.0.1:0")
    with Broker(given) as broker, Client(broker) as alice:
        alice.login("alice")
        push = {"to": ["alice"], "payload_text": "x"}
        for token in (None, ADMIN, TOKEN[:-1], TOKEN + "x", "Basic"):
            door = backends(broker, token)
            door.error("GET", "/v1/count", 401, "UNAUTHORIZED")
            door.error("POST", "/v1/push", 401, "UNAUTHORIZED", body=push)
        operators = Http(broker, TOKEN)
        operators.error("GET", "/api/node", 401, "unauthorized")
        operators.error("POST", "/api/sessions/alice/kick", 401, "unauthorized")
        for path in ("/", "/metrics", "/healthz", "/readyz", "/api/node", "/console.js"):
            backends(broker).error("GET", path, 404, "NOT_FOUND")
        Http(broker, ADMIN).error("GET", "/v1/count", 404, "not_found")
        lines = broker.log_events("admin_refused")
        check(lines and lines[0]["for"] == "http", f"whose door it was: {lines[:1]}")
        backends(broker).post("/v1/push", push)
        for headers in ({"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = backends(broker).ask("GET", "/v1/count", headers=headers)
            check(answer.status in (400, 403), f"{headers}: {answer.status}")
        stranger = backends(broker, None).raw(
            b"POST /v1/push HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
        )
        check(b" 401 " in read_all(stranger)[:20], "a stranger's body is awaited")
    check_open(given)


def check_open(given):
    """Without a token one may look, and at an address of the loopback alone."""
    alone = {"http.listen": "127.0.0.1:0"}
    with Broker(alone) as broker, Client(broker) as alice:
        alice.login("alice")
        door = backends(broker, None)
        check_equal(door.json("/v1/count")["online"], 1, "without a token one may look")
        door.error("POST", "/v1/sessions/alice/kick", 403, "FORBIDDEN")
        door.error("POST", "/v1/push-all", 403, "FORBIDDEN", body={"payload_text": "x"})
    for faulty, word in (
        ({"http.listen": "0.0.0.0:0"}, "http.token_file"),
        ({**given, "http.token_file": given["admin.token_file"]}, "a token of the admin endpoint"),
        ({**given, "http.token_file": "/nowhere/token"}, "http.token_file"),
        ({**alone, "http.waits": 128}, "http.waits"),
    ):
        broker = Broker(faulty, wait=False)
        broker.ends_with = (64, 78)
        check(broker._wait_end(SLOW_SECONDS) in (64, 78), f"it starts with {faulty}")
        check(any(word in str(line) for line in broker.lines), f"it does not say why: {word}")
        broker.close()


# --- what makes no sense -------------------------------------------------------------------------


def scene_malformed():
    with Broker(options(http__body_bytes=4096)) as broker, Client(broker) as alice:
        door = backends(broker)
        alice.login("alice")
        one = {"to": ["alice"], "payload_text": "x"}
        for body in (
            "", "[]", "null", "1", "{", '{"to": ["alice"]}', '{"to": ["alice"], "to": ["alice"]}',
            "[" * 3000, '{"to":"alice","payload_text":"x"}', b"\xff\xfe",
            {**one, "transiant": True}, {**one, "to": []}, {**one, "to": [1]}, {**one, "to": {}},
            {**one, "payload": "eA=="}, {"to": ["alice"], "payload": "e"},
            {"to": ["alice"], "payload": "e!=="}, {"to": ["alice"], "payload": 1},
            {**one, "epoch": -1}, {**one, "epoch": "1"}, {**one, "epoch": 1.5},
            {**one, "epoch": 10**30}, {**one, "transient": 1}, {**one, "payload_text": None},
        ):  # fmt: skip
            refused(door, "/v1/push", body, 400, "MALFORMED")
        refused(door, "/v1/sessions/alice/kick", {"reason": -1}, 400, "MALFORMED")
        refused(door, "/v1/sessions/alice/kick", {"retry_after_ms": 2**40}, 400, "MALFORMED")
        refused(door, "/v1/rooms/x/add", {"users": ["a"], "epochs": []}, 400, "MALFORMED")
        refused(
            door, "/v1/sessions/alice/watch-list", {"mode": "ALL", "targets": []}, 400, "MALFORMED"
        )
        for cut in range(4):  # where the line that says which is not known is full
            refused(
                door, "/v1/push", {**one, "x" * cut + "\N{EURO SIGN}" * 200: 1}, 400, "MALFORMED"
            )
        refused(door, "/v1/push", {**one, "payload_text": "x" * 5000}, 413, "TOO_LARGE")
        refused(door, "/v1/sessions/%FF/kick", None, 400, "MALFORMED")
        for path in ("/v1/sessions/%C3", "/v1/sessions?prefix=%FF", "/v1/rooms?after=%ED%A0%80",
                     "/v1/presence?after=x", "/v1/presence?after=-1", "/v1/presence?wait_ms=x",
                     "/v1/sessions?limit=0", "/v1/sessions?by=name", "/v1/sessions/%00",
                     "/v1/sessions?after=" + "a" * 300):  # fmt: skip
            door.error("GET", path, 400, "MALFORMED")
        for method, path in (
            ("GET", "/v1/push"),
            ("DELETE", "/v1/sessions/alice"),
            ("PUT", "/v1/count"),
        ):
            door.error(method, path, 405, "METHOD_NOT_ALLOWED")
        for path in ("/v1", "/v1/", "/v2/count", "/v1/sessions/a/b", "/v1/push/"):
            door.error("GET", path, 404, "NOT_FOUND")
        longest = "n" * 64
        report = door.post("/v1/lookup", {"users": [longest, "n" * 65, "", "ü", "#x"]})
        check_equal({row["state"] for row in report["sessions"]}, {"GONE"}, "names at the limits")
        refused(door, "/v1/sessions/" + "n" * 255 + "/kick", None, 404, "NOT_ONLINE")
        refused(door, "/v1/sessions/" + "n" * 256 + "/kick", None, 400, "MALFORMED")
        for room, status, code in (
            ("nowhere", 404, "NO_ROOM"),
            ("n" * 65, 400, "MALFORMED"),
            ("a%20b", 400, "MALFORMED"),
        ):
            door.error("GET", f"/v1/rooms/{room}/members", status, code)
            refused(door, f"/v1/rooms/{room}/open", None, status, code)
        twice = door.raw(
            b"POST /v1/push HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
            + TOKEN.encode()
            + b"\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        check(b" 400 " in read_all(twice)[:20], "a body of two lengths")
        big = door.raw(
            b"GET /v1/count HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40000 + b"\r\n\r\n"
        )
        check(b" 200 " not in read_all(big)[:20], "a head of 40 KB")
        check_head(door)
        check_equal(door.post("/v1/push", one)["accepted"], 1, "and it goes on")


def check_head(door):
    """The head of a stream is one, and what follows on that connection is the next answer."""
    connection = http.client.HTTPConnection(*door.address, timeout=SLOW_SECONDS)
    given = {"Authorization": f"Bearer {TOKEN}"}
    for method, path in (("HEAD", "/v1/presence/stream"), ("GET", "/v1/count")) * 2:
        connection.request(method, path, headers=given)
        response = connection.getresponse()
        check_equal(response.status, 200, f"{method} {path}")
        check_equal(len(response.read()) > 0, method == "GET", f"what {method} brings")
    connection.close()


# --- crowds --------------------------------------------------------------------------------------


def scene_crowd():
    """Those who say nothing, say it slowly, or wait for events keep nobody out."""
    given = options(http__connections=24, http__waits=4, http__requests=2)
    with Broker(given) as broker, Client(broker) as alice:
        alice.login("alice")
        door = backends(broker)
        silent = [door.raw(b"POST /v1/push HTTP/1.1\r\n" if i % 2 else b"") for i in range(60)]
        check_equal(door.json("/v1/count")["online"], 1, "beside those who are silent")
        waiting = [long_poll(door, 30000) for _ in range(4)]
        eventually(lambda: is_busy(door), "one more long poll is BUSY")
        check_equal(door.json("/v1/count")["online"], 1, "who asks at once is answered")
        check_equal(
            door.post("/v1/push", {"to": ["alice"], "payload_text": "x"})["accepted"], 1, "a push"
        )
        waiting[0].close()
        eventually(lambda: not is_busy(door), "who has gone gives his place back")
        with Client(broker) as bob:
            bob.login("bob")
            for connection in waiting[1:]:
                check_equal(poll_answer(connection)["events"][0]["user"], "bob", "the event")
        for connection in silent:
            connection.close()


def long_poll(door, wait_ms, after=1):
    connection = door.raw(
        f"GET /v1/presence?after={after}&wait_ms={wait_ms} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
    )
    return connection


def poll_answer(connection, status=b"200"):
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, data = data.split(b"\r\n\r\n", 1)
    check(head.startswith(b"HTTP/1.1 " + status), f"{head}")
    size = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    while len(data) < size:
        data += connection.recv(65536)
    return json.loads(data)


def is_busy(door):
    answer = door.ask("GET", "/v1/presence?after=1&wait_ms=1")
    if answer.status == 429:
        check_equal(answer.json()["error"], "BUSY", "the reason")
        check(int(answer.headers["Retry-After"]) > 0, "when to come again")
    return answer.status == 429


def scene_bodies():
    """Bodies that do not end hold no more than there is memory."""
    given = options(http__body_bytes=262144, admin__listen="127.0.0.1:0")
    given["limits.memory_bytes"] = budget = 16 << 20
    head = (
        f"POST /v1/push HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Length: 262144\r\n\r\n"
    ).encode()
    with Broker(given) as broker, Client(broker) as alice:
        door = backends(broker)
        operators = Http(broker, ADMIN)
        alice.login("alice")
        slow = [door.raw(head + b" " * 250000) for _ in range(110)]

        def held():
            return operators.scrape()[0][("usher_memory_held_bytes", ())]

        eventually(lambda: held() > budget * 3 / 4, "bodies are held")
        most = max(held() for _ in range(20))
        check(most <= budget, f"{most} bytes are held")
        for connection in slow:
            connection.sendall(b" " * (262144 - 250000))
        answers = [read_some(connection) for connection in slow]
        check(any(b" 503 " in answer and b"BUSY" in answer for answer in answers), "who is refused")
        check(
            all(b" 503 " in answer or b" 400 " in answer for answer in answers if answer),
            f"{set(answers)}",
        )
        for connection in slow:
            connection.close()
        eventually(lambda: held() < budget / 2, "it is given back")
        report = door.post("/v1/push", {"to": ["alice"], "payload_text": "x"})
        check_equal(report["accepted"], 1, "and it goes on")


def read_some(connection):
    try:
        return connection.recv(65536)
    except OSError:
        return b""


def scene_disk_hangs():
    """Who has given up may come again, and again, but what is under way for him has a limit."""
    with Shim() as disk:
        given = options(http__requests=2, http__waits=1)
        with Broker(given, keep=disk.folder, environment=disk.environment()) as broker:
            with Client(broker) as alice:
                alice.login("alice")
                alice.drop()
                check_rounds(broker, disk, 6)


def push_at(door, answers):
    answer = door.ask("POST", "/v1/push", {"to": ["alice"], "payload_text": "x"})
    answers.append(answer.status)


def check_rounds(broker, disk, most):
    door = backends(broker)
    answers = []
    disk.hold(SYNCS | SYNCED_WRITES)
    for _ in range(4):
        pushes = [threading.Thread(target=push_at, args=(door, answers)) for _ in range(2)]
        for push in pushes:
            push.start()
        for push in pushes:
            push.join()
    check_equal((answers.count(504), answers[6:]), (most, [429, 429]), f"{answers}")
    disk.release()
    eventually(
        lambda: door.ask("POST", "/v1/push", {"to": ["alice"], "payload_text": "y"}).status == 200,
        "it goes on when the disk does",
    )


def scene_long_poll():
    with Broker(options()) as broker, Client(broker) as alice:
        door = backends(broker)
        start = door.json("/v1/presence")
        check_equal((start["events"], start["next"]), ([], 0), "where it is")
        waiting = long_poll(door, 30000, after=0)
        alice.login("alice")
        page = poll_answer(waiting)
        check_equal([event["seq"] for event in page["events"]], [1], "the event that was awaited")
        began = time.monotonic()
        page = door.json("/v1/presence?after=1&wait_ms=1500")
        check((page["events"], page["next"]) == ([], 1), f"nothing came: {page}")
        check(time.monotonic() - began >= 1.4, "it has not waited")
        answer = door.ask("GET", "/v1/presence?after=99")
        check_equal((answer.status, answer.json()["error"]), (410, "GONE"), "beyond the end")
        waiting = long_poll(door, 60000)
        lasting = long_poll(door, 60000)
        broker.process.send_signal(signal.SIGHUP)
        broker.wait_log("reloaded")
        with Client(broker) as bob:
            bob.login("bob")
            check_equal(poll_answer(waiting)["events"][0]["user"], "bob", "after a reload")
            poll_answer(lasting)
        last = door.json("/v1/presence")["next"]
        stopped = threading.Thread(target=broker.stop)
        waiting = long_poll(door, 60000, after=last)
        time.sleep(0.2)
        stopped.start()
        check_stop(waiting)
        stopped.join()


def check_stop(waiting):
    """The players are sent away first, and who follows presence may hear of that; or of the end."""
    data = b""
    while b"}" not in data:
        more = waiting.recv(65536)
        check(more, f"a long poll is cut at a stop: {data}")
        data += more
    check(b"HTTP/1.1 200" in data or (b"HTTP/1.1 503" in data and b"DRAINING" in data), f"{data}")


def kick_slowly(door, answers):
    """Whoever finds no room comes again."""
    status = 429
    while status == 429:
        connection = http.client.HTTPConnection(*door.address, timeout=SLOW_SECONDS)
        began = time.monotonic()
        connection.request(
            "POST", "/v1/sessions/alice/kick", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        response = connection.getresponse()
        status, body = response.status, json.load(response)
        connection.close()
    answers.append((status, body["error"], time.monotonic() - began))


def scene_slow_store():
    """Who waits for a disk that hangs holds up nobody else, and is told in time that it may still
    happen; and then it does."""
    given = options(http__requests=4)
    with Shim() as shim, Broker(
        {**given, **OPTIONS, "store.path": shim.store}, environment=shim.environment()
    ) as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob")
        door, answers = backends(broker), []
        shim.hold(SYNCS)
        threads = [threading.Thread(target=kick_slowly, args=(door, answers)) for _ in range(4)]
        threads[0].start()
        eventually(lambda: shim["held"] > 0, "a sync hangs", SECONDS)
        check_equal(
            door.post("/v1/push", {"to": ["bob"], "payload_text": "x"})["accepted"], 1, "a push"
        )
        bob.expect("message")
        for thread in threads[1:]:
            thread.start()
        eventually(
            lambda: door.ask("GET", "/v1/count").status == 429, "as many wait as may", SECONDS
        )
        for thread in threads:
            thread.join()
        check_equal({answer[:2] for answer in answers}, {(504, "TIMEOUT")}, "the answers")
        check(all(8 < answer[2] < 18 for answer in answers), f"when: {answers}")
        check_equal(door.json("/v1/count")["online"], 2, "there is room again")
        shim.release()
        alice.expect("close", timeout=SECONDS)


def scene_head():
    """A HEAD of what does not end holds no place."""
    with Broker(options(http__waits=1)) as broker, Client(broker) as alice:
        alice.login("alice")
        door = backends(broker)
        for path in ("/v1/presence/stream?after=0", "/v1/presence/stream"):
            answer = door.ask("HEAD", path)
            check_equal(
                (answer.status, answer.headers["Content-Type"]), (200, "text/event-stream"), path
            )
            eventually(lambda: not is_busy(door), "a HEAD holds no place")


# --- the stream ----------------------------------------------------------------------------------


class Stream:
    """Follows presence by server-sent events, as a client of EventSource would: comes again with the
    last id. Knows the events in the order in which they came."""

    def __init__(self, broker, cut_after=None):
        self.broker, self.cut_after = broker, cut_after
        self.events, self.faults, self.connects = [], [], 0
        self.last_id = "0"
        self.over = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over:
            try:
                self.follow()
            except (OSError, http.client.HTTPException, IndexError):
                time.sleep(0.02)

    def follow(self):
        door = backends(self.broker)
        connection = http.client.HTTPConnection(*door.address, timeout=SLOW_SECONDS)
        try:
            connection.request(
                "GET",
                "/v1/presence/stream",
                headers={"Authorization": f"Bearer {TOKEN}", "Last-Event-ID": self.last_id},
            )
            response = connection.getresponse()
            if response.status != 200:
                self.faults.append((response.status, response.read()))
                time.sleep(0.05)
                return
            self.connects += 1
            self.read(response)
        finally:
            connection.close()

    def read(self, response):
        left = self.cut_after
        event = {}
        while not self.over and (left is None or left > 0):
            line = response.readline().decode()
            if not line.endswith("\n"):
                return
            key, _, value = line.rstrip("\n").partition(":")
            if key:
                event[key] = value.strip()
                continue
            if "id" in event:
                self.last_id = event["id"]
            if "data" in event:
                self.events.append(json.loads(event["data"]))
                left = None if left is None else left - 1
            event = {}

    def wait(self, count, what, seconds=120):
        eventually(lambda: len(self.events) >= count, what, seconds)

    def close(self):
        self.over = True

    def check(self, count):
        seqs = [event["seq"] for event in self.events]
        check_equal(seqs, list(range(1, count + 1)), "each event once, in order")


def scene_stream():
    """One comes, waits through a sign of life, hears of everybody, and of nobody twice."""
    with Broker(options()) as broker, Client(broker) as alice:
        stream = Stream(broker)
        alice.login("alice")
        stream.wait(1, "the first event")
        time.sleep(scaled(17, 17))
        with Client(broker) as bob:
            bob.login("bob")
            stream.wait(2, "an event after a sign of life", 10)
        check_equal(stream.connects, 1, "connections")
        check_equal(stream.events[0]["kind"], "ONLINE", "the first event")
        stream.close()


def churn(broker, rounds, client=None):
    """Two events each: ONLINE and OFFLINE."""
    for i in range(rounds):
        with Client(broker) as player:
            player.login(f"player{i}")
            player.post("logout")
            player.read_to_end()


def scene_ten_thousand():
    """10,000 events while the follower is cut again and again and the broker is stopped and killed: he
    has each once, in order, and so has one who is never cut."""
    rounds = scaled(5000)
    with Broker(options(session__resume_ms=600000)) as broker:
        cut, steady = Stream(broker, cut_after=97), Stream(broker)
        part = rounds // 4
        churn(broker, part)
        broker.stop()
        broker.start()
        churn(broker, part)
        broker.kill()
        broker.start()
        churn(broker, part)
        broker.kill()
        broker.start()
        churn(broker, rounds - 3 * part)
        count = backends(broker).json("/v1/presence")["presence_last"]
        check(count >= 2 * rounds, f"events: {count}")
        for stream in (cut, steady):
            stream.wait(count, f"{count} events")
            stream.check(count)
            check(all(status in (503, 429) for status, _ in stream.faults), f"{stream.faults[:3]}")
        check(cut.connects >= count // 97, f"it was cut {cut.connects} times")
        for stream in (cut, steady):
            stream.close()


def scene_too_old():
    """Who comes too late is told so at once, and begins anew by a list and its cursor."""
    with Broker(options(store__events_kept=1024)) as broker, Client(broker) as alice:
        alice.login("alice")
        churn(broker, 700)
        door = backends(broker)
        for path in (
            "/v1/presence?after=5",
            "/v1/presence?after=5&wait_ms=100",
            "/v1/presence/stream?after=5",
        ):
            answer = door.ask("GET", path)
            check_equal((answer.status, answer.json()["error"]), (410, "GONE"), path)
            check(answer.json()["presence_last"] >= 1401, "where the stream is")
        page = door.json("/v1/sessions")
        check_equal([row["user"] for row in page["sessions"]], ["alice"], "who is there")
        page = door.json(f"/v1/presence?after={page['presence_seq']}")
        check_equal(page["events"], [], "and nothing has happened since")


def scene_beside_nng():
    """What comes by HTTP and what comes by the link meet in one stream and one inbox."""
    with Broker(options()) as broker, Client(broker) as alice:
        backend = Backend(broker, presence=True)
        door = backends(broker)
        alice.login("alice", acks=True)
        backend.wait_events(lambda events: len(events) >= 1, "the login")
        event = door.json("/v1/presence?after=0")["events"][0]
        check_equal(
            (event["seq"], event["epoch"], event["user"]),
            (backend.events[0].seq, backend.events[0].epoch, backend.events[0].user),
            "the same event",
        )
        check_equal(len(door.json("/v1/rooms")["rooms"]), 0, "no rooms")


play(
    scene_paths,
    scene_push,
    scene_traceparent,
    scene_kick,
    scene_lists,
    scene_tokens,
    scene_malformed,
    scene_crowd,
    scene_bodies,
    scene_disk_hangs,
    scene_long_poll,
    scene_slow_store,
    scene_head,
    scene_stream,
    scene_ten_thousand,
    scene_too_old,
    scene_beside_nng,
)
