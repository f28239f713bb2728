# SPDX-License-Identifier: Apache-2.0
"""Stored messages as programs see them: what is answered is there after kill -9, comes once to each
client, and is known again; what expires or is dropped is told; what makes no sense is refused."""

import importlib
import json
import os
import shutil
import subprocess
import tempfile
import time

from usherplay import Backend, Broker, Client, backend_pb, check, check_equal, eventually, play
from usherplay.asker import Http
from usherplay.backend import LinkRefused, code_name
from usherplay.broker import program
from usherplay.schema import BIN

Running = importlib.import_module("80-tools").Running
HOUR = 3600
TOKEN = "token-of-the-backends-of-the-play"
COMPLETE, PARTIAL = 1, 2
JS = os.path.join(BIN, "..", "clients", "js", "package", "node.js")


def keep(backend, user, payload, keep_s=HOUR, **fields):
    """Stored for a user; gives the result of the Push."""
    push = backend_pb.Push(to=[user], payload=payload, keep_s=keep_s, **fields)
    return backend.submit(backend_pb.Command(push=push))[0]


def kept(backend, user, payload, **fields):
    """The same, which is to succeed; gives the mid."""
    result = keep(backend, user, payload, **fields)
    check_equal((code_name(result), result.push.accepted), ("OK", 1), "a stored push")
    check(result.push.mid > 0, "no mid")
    return result.push.mid


def listing(user, **fields):
    return backend_pb.Command(inbox=backend_pb.Inbox(user=user, **fields))


def inbox(backend, user, **fields):
    return backend.submit(listing(user, **fields))[0].stored


def ctl(broker, *arguments):
    run = subprocess.run(
        [program("usherctl"), "--url", broker.link_url, "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )
    return run.returncode, [json.loads(line) for line in run.stdout.splitlines()]


class Listener(Running):
    """`usher listen` in JSON."""

    def __init__(self, broker, name, *more):
        host, port = broker.tcp_address[0], str(broker.tcp_address[1])
        where = ("--host", host, "--port", port, "--json", "--acks")
        super().__init__("usher", "listen", "--user", name, *where, *more)

    def events(self, kind):
        return [each for each in map(json.loads, list(self.lines)) if each["event"] == kind]

    def messages(self, count):
        eventually(lambda: len(self.events("MESSAGE")) >= count, f"{count} messages")
        return [(each["mid"], each["payload"]) for each in self.events("MESSAGE")]


def scene_kill():
    """What was answered is there after kill -9, in its order, and once."""
    with Broker() as broker:
        with Backend(broker, "post") as post:
            mids = [kept(post, "alice", b"gift %d" % number) for number in range(5)]
            check_equal(mids, sorted(set(mids)), "mids rise")
        broker.kill()
        broker.start()
        wanted = [(mid, f"gift {number}") for number, mid in enumerate(mids)]
        with Listener(broker, "alice") as alice:
            check_equal(alice.messages(5), wanted, "what the C client got")
            welcome = alice.events("WELCOME")[0]
            check_equal((welcome["stored"], welcome["stored_messages"]), ("COMPLETE", 5), "Welcome")
        broker.kill()  # whatever was said of them, the client knows how far it was
        broker.start()
        with Listener(broker, "alice", "--last-mid", str(mids[-1])) as again, Backend(
            broker, "post"
        ) as post:
            last = kept(post, "alice", b"the end")
            check(last > mids[-1], "mids rise over crashes")
            check_equal(again.messages(1), [(last, "the end")], "what came again")


def scene_restored_backup():
    """A store of before: what was had since comes again with its mid, and new mids are above all."""

    def store(*arguments):
        subprocess.run([program("usherctl"), "store", *arguments], check=True, timeout=60)

    with Broker() as broker:
        backup = os.path.join(broker.folder, "backup")
        with Backend(broker, "post") as post:
            had = [kept(post, "alice", b"gift"), kept(post, "bob", b"card")]
            store("backup", broker.store, backup)
            with Listener(broker, "alice") as alice, Listener(broker, "bob") as bob:
                since = kept(post, "alice", b"since")
                check_equal(alice.messages(2), [(had[0], "gift"), (since, "since")], "before")
                check_equal(bob.messages(1), [(had[1], "card")], "before")
        broker.stop()
        store("restore", backup, broker.store)
        broker.start()
        with Backend(broker, "post") as post:
            with Listener(broker, "bob") as bob:  # who does not say how far he was
                check_equal(bob.messages(1), [(had[1], "card")], "what comes again")
            with Listener(broker, "alice", "--last-mid", str(since)) as alice:
                new = kept(post, "alice", b"new")
                check(new > since, f"a mid of before: {new}, after {since}")
                check_equal(alice.messages(1), [(new, "new")], "what alice has not had")


def scene_javascript():
    """The same for usher-client, whose storage knows how far it was."""
    if not os.path.exists(JS) or not shutil.which("node"):
        return
    with Broker() as broker:
        store = os.path.join(broker.folder, "mid")
        script = f"""
            import {{ connect }} from {json.dumps("file://" + os.path.realpath(JS))};
            import {{ existsSync, readFileSync, writeFileSync }} from "node:fs";
            const file = {json.dumps(store)};
            const midStorage = {{
                getItem: () => (existsSync(file) ? readFileSync(file, "utf8") : null),
                setItem: (key, value) => writeFileSync(file, value),
            }};
            const client = connect({{
                url: "tcp://127.0.0.1:{broker.port}", user: "alice", acks: true, midStorage }});
            client.on("welcome", ({{ stored, storedMessages }}) =>
                console.log(JSON.stringify({{ stored, storedMessages }})));
            client.on("message", ({{ mid, text }}) => {{
                console.log(JSON.stringify({{ mid, text }}));
                if (text === "the end") setTimeout(() => client.close(), 200);
            }});
        """

        def run():
            node = subprocess.run(
                ["node", "--input-type=module", "-e", script],
                capture_output=True,
                text=True,
                timeout=60,
            )
            check_equal(node.stderr, "", "what node complains of")
            return [json.loads(line) for line in node.stdout.splitlines()]

        with Backend(broker, "post") as post:
            mids = [kept(post, "alice", text) for text in (b"gift", b"the end")]
        broker.kill()
        broker.start()
        welcome, *messages = run()
        check_equal(welcome, {"stored": "COMPLETE", "storedMessages": 2}, "Welcome")
        check_equal([each["mid"] for each in messages], mids, "what came")
        broker.kill()
        broker.start()
        with Backend(broker, "post") as post:
            last = kept(post, "alice", b"the end")
        _, *messages = run()
        check_equal(messages, [{"mid": last, "text": "the end"}], "what came the second time")


def scene_players():
    """One player to another: Done when it is on disk; away only where the node says so."""
    with Broker() as broker, Client(broker) as bob, Client(broker) as alice:
        bob.login("bob")
        bob.post("send", to="alice", payload=b"x", keep_s=HOUR)
        bob.expect_error("NOT_ONLINE")
        alice.login("alice", acks=True)
        done = bob.send("alice", b"gift", keep_s=HOUR, tag=7)
        message = alice.expect("message", payload=b"gift").message
        check_equal((message.mid, getattr(message, "from")), (done.mid, "bob"), "the message")
        check_equal(bob.send("alice", b"gift", keep_s=HOUR, tag=7).mid, done.mid, "its tag")
        alice.expect_nothing(0.1)
    with Broker({"inbox.offline_from": "any"}) as broker, Client(broker) as bob:
        bob.login("bob")
        mid = bob.send("alice", b"gift", keep_s=HOUR).mid
        check(mid > 0, "no mid")
        with Client(broker) as alice:
            welcome = alice.login("alice", acks=True)
            check_equal((welcome.stored, welcome.stored_messages), (COMPLETE, 1), "Welcome")
            alice.expect("message", payload=b"gift", mid=mid)


def scene_tag():
    """A push that was LOST is pushed again under its tag: once, also over kill -9."""
    with Broker() as broker:
        with Backend(broker, "post") as post:
            mid = kept(post, "alice", b"gift", tag=2**64 - 1)
            check_equal(kept(post, "alice", b"gift", tag=2**64 - 1), mid, "the same tag")
            check(kept(post, "bob", b"gift", tag=2**64 - 1) > mid, "another receiver")
        broker.kill()
        broker.start()
        with Backend(broker, "post") as post:
            check_equal(kept(post, "alice", b"gift", tag=2**64 - 1), mid, "after a crash")
            check_equal(inbox(post, "alice").count, 1, "stored for alice")
        with Backend(broker, "other") as other:
            check(kept(other, "alice", b"gift", tag=2**64 - 1) > mid, "another sender")


def scene_expiry():
    with Broker() as broker, Backend(broker, "post") as post:
        kept(post, "alice", b"now", keep_s=1)
        later = kept(post, "alice", b"later", keep_s=HOUR)
        time.sleep(2.5)
        with Client(broker) as alice:
            welcome = alice.login("alice", acks=True)
            check_equal((welcome.stored, welcome.stored_messages), (PARTIAL, 1), "Welcome")
            alice.expect("message", payload=b"later", mid=later)
            alice.expect_nothing(0.1)


def scene_operator():
    """Listed page by page, dropped up to one, and told so."""
    with Broker() as broker, Backend(broker, "post") as post:
        mids = [kept(post, "alice", b"gift %d" % number) for number in range(5)]
        page = inbox(post, "alice", limit=2)
        check_equal([each.mid for each in page.messages], mids[:2], "the first page")
        check_equal((page.more, page.count, page.bytes), (True, 5, 30), "all of it")
        first = page.messages[0]
        check_equal(
            (first.service, getattr(first, "from"), first.payload_bytes), ("post", "", 6), ""
        )
        kept_ms = first.expires_ms - first.time_ms  # to the second
        check(abs(kept_ms - HOUR * 1000) <= 1000, f"kept for {kept_ms} ms")
        page = inbox(post, "alice", after_mid=mids[1])
        check_equal([each.mid for each in page.messages], mids[2:], "the rest")
        check_equal(page.more, False, "more")
        code, rows = ctl(broker, "inbox", "alice")
        check_equal((code, [row["mid"] for row in rows]), (0, mids), "usherctl inbox")
        code, rows = ctl(broker, "inbox-drop", "alice", "--up-to", str(mids[2]))
        check_equal((code, rows[0]["accepted"]), (0, 3), "usherctl inbox-drop")
        eventually(lambda: inbox(post, "alice").count == 2, "the drop")
        asker = Backend(broker, hello=False)
        check_equal(asker.query(listing("alice")).stored.count, 2, "asked without a link")
        drop = backend_pb.Command(inbox_drop=backend_pb.InboxDrop(user="alice", up_to_mid=mids[4]))
        try:
            asker.query(drop)
            check(False, "dropped without a link")
        except LinkRefused:
            pass
        code, _ = ctl(broker, "inbox-drop", "alice")
        check_equal(code, 64, "inbox-drop without --up-to")
        code, _ = ctl(broker, "inbox", "no such name!")
        check_equal(code, 1, "the inbox of nobody")
        broker.kill()
        broker.start()
        with Client(broker) as alice:
            welcome = alice.login("alice", acks=True)
            check_equal((welcome.stored, welcome.stored_messages), (PARTIAL, 2), "Welcome")
            for mid in mids[3:]:
                message = alice.expect("message", mid=mid).message
            alice.post("ack", id=0, seq=message.seq)
        with Client(broker) as alice:
            welcome = alice.login("alice", acks=True)
            check_equal((welcome.stored, welcome.stored_messages), (0, 0), "the next Welcome")


def scene_http():
    """The same by HTTP, and on an operator's page of the user."""
    options = {"http.listen": "127.0.0.1:0", "admin.listen": "127.0.0.1:0"}
    folder = tempfile.mkdtemp(prefix="usher-stored-")
    options["http.token_file"] = os.path.join(folder, "token")
    with open(options["http.token_file"], "w", encoding="ascii") as file:
        file.write(TOKEN + "\n")
    os.chmod(options["http.token_file"], 0o400)
    with Broker(options) as broker:
        door, operator = Http(broker, TOKEN, "http"), Http(broker)
        body = {"to": ["alice"], "payload_text": "gift", "keep_s": HOUR, "tag": 9}
        report = door.post("/v1/push", body)
        check_equal((report["accepted"], report["mid"] > 0), (1, True), "the report")
        check_equal(door.post("/v1/push", body)["mid"], report["mid"], "the same tag")
        second = door.post("/v1/push", {**body, "tag": 10})["mid"]
        page = door.json("/v1/inboxes/alice?limit=1")
        check_equal((page["count"], page["bytes"], page["more"]), (2, 8, True), "the inbox")
        row = page["messages"][0]
        check_equal((row["mid"], row["service"], row["from"]), (report["mid"], "http", ""), "a row")
        page = door.json(f"/v1/inboxes/alice?after={page['next']}")
        check_equal([row["mid"] for row in page["messages"]], [second], "the next page")
        check_equal(operator.json("/api/sessions/alice")["stored"]["messages"], 2, "the page")
        for body in ({}, {"up_to_mid": -1}, {"up_to_mid": 1, "all": True}):
            door.error("POST", "/v1/inboxes/alice/drop", 400, "MALFORMED", body=body)
        dropped = door.post("/v1/inboxes/alice/drop", {"up_to_mid": report["mid"]})
        check_equal((dropped["count"], dropped["bytes"]), (1, 4), "what was dropped")
        eventually(lambda: door.json("/v1/inboxes/alice")["count"] == 1, "the drop")
        too_long = {"to": ["alice"], "payload_text": "x", "keep_s": 2592001}
        door.error("POST", "/v1/push", 413, "TOO_LARGE", body=too_long)


def scene_notice():
    """Who is away is told elsewhere, by the service that the node names; who is there is not."""
    with Broker({"inbox.notify_service": "phone"}) as broker, Backend(
        broker, "post"
    ) as post, Backend(broker, "phone") as phone, Client(broker) as bob:
        bob.login("bob", acks=True)
        kept(post, "bob", b"here")
        bob.expect("message", payload=b"here")
        mid = kept(post, "alice", b"gift")
        batch = phone.fetch()
        while not batch.mail:
            batch = phone.fetch()
        (notice,) = [mail.stored for mail in batch.mail]
        check_equal((notice.user, notice.mid, notice.service), ("alice", mid, "post"), "the notice")
        check_equal((notice.payload_bytes, notice.count), (4, 1), "of what")


def scene_wrong():
    """What makes no sense, and what is too much."""
    with Broker({"inbox.keep_max_s": 60, "inbox.stored_messages": 2}) as broker, Backend(
        broker, "post"
    ) as post, Client(broker) as bob:
        bob.login("bob")
        for fields, code in (
            ({"keep_s": 61}, "TOO_LARGE"),
            ({"keep_s": 60, "transient": True}, "PROTOCOL"),
            ({"keep_s": 60, "until": 1}, "PROTOCOL"),
        ):
            bob.post("send", to="bob", payload=b"x", **fields)
            error = bob.expect_error(code)
            check("keep_s" in error.detail or "transient" in error.detail, error.detail)
        check("60" in bob_detail(bob), "the cap is told")
        check_equal(code_name(keep(post, "alice", b"x", keep_s=61)), "TOO_LARGE", "a push")
        refused = keep(post, "alice", b"x", keep_s=60, transient=True)
        check_equal(code_name(refused), "MALFORMED", "transient and stored")
        for _ in range(2):
            kept(post, "alice", b"x", keep_s=60)
        check_equal(code_name(keep(post, "alice", b"x", keep_s=60)), "INBOX_FULL", "the third")


def bob_detail(bob):
    bob.post("send", to="bob", payload=b"x", keep_s=61)
    return bob.expect_error("TOO_LARGE").detail


if __name__ == "__main__":
    play(
        scene_kill,
        scene_restored_backup,
        scene_javascript,
        scene_players,
        scene_tag,
        scene_expiry,
        scene_operator,
        scene_http,
        scene_notice,
        scene_wrong,
    )
