# SPDX-License-Identifier: Apache-2.0
"""The admin endpoint: every route, who may, hostile HTTP, health while the store fails and during a
stop, the scrape as Prometheus reads it, and players who notice nothing of it."""

import glob
import http.client
import json
import os
import re
import socket
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
    free_port,
    logged_in,
    play,
    scaled,
)
from usherplay.asker import SLOW_SECONDS, Http, read_all
from usherplay.backend import SP_HEADER, SP_REQ, connect
from usherplay.faults import OPTIONS, SECONDS, People
from usherplay.filebroker import FileBroker
from usherplay.rooms import Member
from usherplay.shim import SYNCED_WRITES, SYNCS, WRITES, Shim

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
MONITORING = os.path.join(ROOT, "broker", "admin", "monitoring")
CHANGE, VIEW = "change-token-of-the-play", "viewing-token-of-the-play"
ENDPOINT = {"admin.listen": "127.0.0.1:0"}
LISTENER_SECONDS = 90  # should the sign of trouble be lost: it is looked at twice a minute anyway
SP_SUB = 0x0021
# Made by Prometheus itself and not by a scrape.
NOT_SCRAPED = {"up"}


def with_tokens():
    """Options with both token files, in a folder that the system forgets."""
    folder = tempfile.mkdtemp(prefix="usher-tokens-")
    options = dict(ENDPOINT)
    for key, token in (("admin.token_file", CHANGE), ("admin.view_token_file", VIEW)):
        options[key] = os.path.join(folder, key)
        with open(options[key], "w", encoding="ascii") as file:
            file.write(token + "\nnot this line\n")
        os.chmod(options[key], stat.S_IRUSR)
    return options


# --- what it answers -----------------------------------------------------------------------------


def scene_routes():
    with Broker(ENDPOINT) as broker, Client(broker) as alice, Client(broker) as bob:
        http_ = Http(broker)
        alice.login("alice", acks=True)
        bob.login("bob+1@x", acks=True)
        node = http_.json("/api/node")
        check_equal(
            (node["state"], node["may_change"], node["auth_mode"], node["pid"]),
            ("serving", False, "open", broker.process.pid),
            "the node",
        )
        check(
            {"kind": "tcp", "address": f"127.0.0.1:{broker.port}"} in node["listeners"],
            f"the listeners: {node}",
        )
        page = http_.json("/api/sessions?limit=1")
        check_equal(
            ([row["user"] for row in page["sessions"]], page["more"], page["next"]),
            (["alice"], True, "alice"),
            "the first page",
        )
        page = http_.json("/api/sessions?limit=1&after=alice")
        check_equal([row["user"] for row in page["sessions"]], ["bob+1@x"], "the second page")
        check(not page["more"], "nobody comes after the last")
        check_equal(
            http_.json("/api/sessions?prefix=al")["sessions"][0]["state"],
            "online",
            "the state of alice",
        )
        check_equal(
            http_.json("/api/sessions/alice")["session"]["transport"], "tcp", "by which she came"
        )
        bob.drop()
        bob_path = "/api/sessions/bob%2B1%40x"
        eventually(lambda: http_.json(bob_path)["session"]["state"] == "detached", "bob is away")
        alice.send("bob+1@x", b"wait")
        eventually(
            lambda: http_.json(bob_path)["session"]["inbox_messages"] == 1, "bob's inbox shows one"
        )
        check_equal(
            [row["user"] for row in http_.json("/api/sessions?state=detached")["sessions"]],
            ["bob+1@x"],
            "who is detached",
        )
        check_equal(http_.json("/api/slowest")["users"][0]["user"], "bob+1@x", "the slowest")
        events = http_.json("/api/presence?limit=2")
        check_equal(
            [(event["user"], event["kind"]) for event in events["events"]],
            [("bob+1@x", "ONLINE"), ("bob+1@x", "DETACHED")],
            "the newest events",
        )
        check_equal(events["presence_last"], 3, "the end of the stream")
        check_equal(len(http_.json("/api/presence?after=0")["events"]), 3, "the whole stream")
        http_.error("GET", "/api/sessions/nobody", 404, "not_found")
        for path in (
            "/api/sessions?limit=x",
            "/api/sessions?state=up",
            "/api/sessions/%zz",
            "/api/sessions/a%00b",
            "/api/sessions/a%2Fb",
            "/api/sessions?nonsense=1",
        ):
            http_.error("GET", path, 400, "bad_request")
        for path in (
            "/api",
            "/api/",
            "/metrics/",
            "/api/sessions/a/b",
            "/../etc/passwd",
            "/%2e%2e/etc/passwd",
            "//etc/passwd",
        ):
            http_.error("GET", path, 404, "not_found")
        http_.error("DELETE", "/api/node", 405, "method_not_allowed")


def scene_slowest():
    """Who does not read comes first, before the one whose inbox is full."""
    options = {**ENDPOINT, "limits.output_bytes": 64 << 20, "limits.output_soft_bytes": 64 << 20}
    with Broker(options) as broker, Client(broker) as alice, Client(broker) as carol, Client(
        broker, receive_buffer=4096
    ) as bob:
        http_ = Http(broker)
        alice.login("alice")
        bob.login("bob")
        carol.login("carol", acks=True)
        for _ in range(200):
            alice.send("carol", b"x")

        def fullest():
            alice.send("bob", bytes(32768))
            users = http_.json("/api/slowest")["users"]
            return users[0]["output_bytes"] > 0 and users

        users = eventually(fullest, "output of bob waits", SECONDS, 0)
        check_equal([user["user"] for user in users], ["bob", "carol"], "the slowest first")
        check_equal(users[1]["inbox_messages"], 200, "the inbox of carol")
        check(users[0]["since_ms"] > 0, "since when bob is here")
        samples, _ = http_.scrape()
        check(samples[("usher_output_bytes", ())] >= users[0]["output_bytes"], "the reading")
        check_equal(samples[("usher_inbox_messages", ())], 200, "the inboxes of all")
        bob.drop()
        eventually(
            lambda: http_.scrape()[0][("usher_output_bytes", ())] == 0, "given back", SECONDS
        )


def scene_services():
    with Broker(ENDPOINT) as broker, Client(broker) as alice:
        http_ = Http(broker)
        alice.login("alice")
        with Backend(broker, "chess", "one", presence=True) as one:
            alice.post("call", service="chess", method="m")
            call = one.expect_call()
            rows = eventually(
                lambda: [
                    row
                    for row in http_.json("/api/services")["services"]
                    if row["instances"] and row["instances"][0]["calls_open"] == 1
                ],
                "the call shows as open",
            )
            row = rows[0]["instances"][0]
            check_equal(
                (rows[0]["name"], row["instance"], row["state"], row["presence"]),
                ("chess", "one", "serving", True),
                "the instance",
            )
            check(row["last_fetch_ms"] > 0, "when it last fetched")
            one.reply(call, payload=b"done")
            one.fetch()
            eventually(
                lambda: http_.json("/api/services")["services"][0]["instances"][0]["calls_open"]
                == 0,
                "the answered call is not open",
            )


def scene_console():
    with Broker(ENDPOINT) as broker:
        http_ = Http(broker)
        page = http_.get("/")
        for header, value in (
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Content-Type", "text/html; charset=utf-8"),
        ):
            check_equal(page.headers[header], value, header)
        check("default-src 'self'" in page.headers["Content-Security-Policy"], "the policy")
        again = http_.get("/index.html", 304, headers={"If-None-Match": page.headers["ETag"]})
        check_equal(again.text, "", "the body of a page that is the same")
        for path in glob.glob(os.path.join(ROOT, "broker", "admin", "console", "*.*")):
            http_.get("/" + os.path.basename(path))


# --- who may --------------------------------------------------------------------------------------


def scene_tokens():
    with Broker(with_tokens()) as broker, Client(broker) as alice:
        http_ = Http(broker)
        alice.login("alice")
        kick = "/api/sessions/alice/kick"  # first: the log takes ten such lines in a second
        http_.error("POST", kick, 403, "forbidden", body="{}", token=VIEW)
        http_.error("POST", kick, 401, "unauthorized", body="{}")
        alice.ping()  # still there
        for path in ("/healthz", "/readyz", "/"):
            http_.get(path)
        for path in ("/metrics", "/api/stats", "/api/node", "/api/sessions", "/api/nothing"):
            http_.error("GET", path, 401, "unauthorized")
        for token in ("x", CHANGE[:-1], CHANGE + "x", CHANGE[:-1] + "x", "not this line"):
            http_.error("GET", "/api/node", 401, "unauthorized", token=token)
        check(http_.json("/api/node", token=CHANGE)["may_change"], "the one token may change")
        check(not http_.json("/api/node", token=VIEW)["may_change"], "the other may not")
        eventually(
            lambda: {line["reason"] for line in broker.log_events("admin_refused")}
            == {"unauthorized", "forbidden"},
            "what the log says of refusals",
        )
        check(
            not any(CHANGE in str(line) or VIEW in str(line) for line in broker.lines),
            "a token is in the log",
        )
        samples, _ = Http(broker, VIEW).scrape()
        check(samples[("usher_admin_refused_total", ())] >= 12, "refusals are counted")


def scene_nobody_changes_without_a_token():
    with Broker(ENDPOINT) as broker, Client(broker) as alice:
        alice.login("alice")
        http_ = Http(broker)
        http_.error("POST", "/api/sessions/alice/kick", 403, "forbidden", body="{}")
        http_.error("POST", "/api/sessions/alice/kick", 403, "forbidden", body="{}", token="guess")
        alice.ping()


def scene_hosts():
    options = {**ENDPOINT, "admin.host": "usher.example"}
    with Broker(options) as broker:
        http_ = Http(broker)
        for host in (
            "127.0.0.1",
            "localhost:1",
            "[::1]:7",
            "10.2.3.4",
            "usher.example:80",
            "LOCALHOST",
        ):
            http_.get("/api/node", headers={"Host": host})
        for host in (
            "evil.example",
            "127.0.0.1.evil.example",
            "usher.example.evil",
            "localhost:x",
            "[::1",
            "[evil]",
        ):
            http_.error("GET", "/api/node", 400, "bad_host", headers={"Host": host})
        twice = http_.raw(
            b"GET /api/node HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n"
            b"Connection: close\r\n\r\n"
        )
        check(b" 400 " in read_all(twice).split(b"\r\n")[0], "two Hosts are let through")


def scene_a_name_that_looks_like_a_step():
    """Users may be called so, and browsers leave nothing of it in a path but the step."""
    with Broker(with_tokens()) as broker:
        http_ = Http(broker, CHANGE)
        for name in (".", "..", "~"):
            http_.error("GET", f"/api/sessions/{name}/kick", 405, "method_not_allowed")
        for name in (".", ".."):
            with Client(broker) as mallory:
                mallory.login(name)
                check_equal(http_.json(f"/api/sessions/~{name}")["session"]["user"], name, name)
                http_.post("/api/trace", {"user": name})
                http_.json(f"/api/trace/~{name}")
                check_equal(http_.ask("DELETE", f"/api/trace/~{name}").status, 200, "its end")
                http_.post(f"/api/sessions/~{name}/kick", {})
                mallory.expect_close("KICKED")
        http_.error("GET", "/api/sessions/~", 400, "bad_request")


def scene_commands():
    with Broker(with_tokens()) as broker, Client(broker) as alice, Client(broker) as bob:
        http_ = Http(broker, CHANGE)
        welcome = alice.login("alice")
        bob.login("bob")
        done = http_.post("/api/sessions/alice/push", {"text": "maintenance at noon"})
        check_equal((done["code"], done["epoch"]), ("OK", welcome.epoch), "the push")
        alice.expect("message", service="admin", payload=b"maintenance at noon")
        for body in (
            "",
            "{}",
            "[]",
            '{"text": 1}',
            '{"text": "a", "epoch": -1}',
            '{"te',
            '{"text": "a", "text": "b"}',
        ):
            http_.error("POST", "/api/sessions/alice/push", 400, "bad_request", body=body)
        http_.error("POST", "/api/sessions/alice/push", 413, "too_large", body="x" * 65537)
        stale = http_.post("/api/sessions/alice/kick", {"epoch": welcome.epoch - 1}, 409)
        check_equal(stale["code"], "STALE_EPOCH", "a kick of another epoch")
        alice.ping()
        gone = http_.post("/api/sessions/nobody/kick", {}, 409)
        check_equal(gone["code"], "NOT_ONLINE", "a kick of nobody")
        http_.post(
            "/api/sessions/alice/kick",
            {"epoch": welcome.epoch, "detail": "bye", "do_not_return": True},
        )
        alice.expect_close("KICKED", do_not_return=True)
        bob.ping()
        broker.wait_log("admin_change")
        changes = broker.log_events("admin_change")
        check(any("kick" in line["path"] for line in changes), "the log has no kick")
        http_.post("/api/sessions/bob/kick", {})
        check_equal(bob.expect_close("KICKED").detail, "kicked by an operator", "what bob hears")
        eventually(lambda: len(broker.log_events("kicked")) == 2, "both kicks are in the log")
        check_equal(
            [line["by"] for line in broker.log_events("kicked")],
            ["admin 127.0.0.1"] * 2,
            "who kicked, in the log",
        )


def scene_rooms():
    options = {
        **with_tokens(),
        "rooms.classes": "talk:* create=client join=any history=8/60s,"
        "match:* create=client join=any roster=list owner=maker,"
        "big create=backend join=any",
        "limits.requests_per_second": 0,
    }
    with Broker(options) as broker, Member(broker, "alice") as alice, Member(broker, "bob") as bob:
        http_ = Http(broker, VIEW)
        check_equal(
            http_.json("/api/rooms"), {"rooms": [], "more": False}, "the rooms of an empty broker"
        )
        here = alice.join("talk:1")
        bob.join("talk:1")
        alice.join("match:a+b@x")
        for _ in range(10):
            alice.publish(here, b"hi")
        bob.drop()
        row = eventually(
            lambda: (row := http_.json("/api/rooms/talk:1")["room"])["away"] == 1 and row,
            "bob is away",
        )
        check(row["messages_per_s"] > 0 and row["opened_ms"] > 1e12, f"of its life: {row}")
        wanted = {
            "room": "talk:1",
            "incarnation": here.incarnation,
            "class": "talk:*",
            "owner": "",
            "members": 2,
            "away": 1,
            "offset": 10,
            "deliveries": 20,
            "history_messages": 8,
        }
        check_equal({key: row[key] for key in wanted}, wanted, "the room")
        check(row["history_bytes"] > 0, f"bytes of the history: {row}")
        check_equal(http_.json("/api/rooms/match%3aa%2Bb%40x")["room"]["owner"], "maker", "owner")
        check_room_pages(http_, lambda: alice.publish(here, b"hi"))
        http_.error("GET", "/api/rooms?by=size", 400, "bad_request")
        http_.error("GET", "/api/rooms/nothing", 404, "not_found")
        http_.error("GET", "/api/rooms/alice", 404, "not_found")  # a user's actor is no room
        http_.error("GET", "/api/rooms/a%20b", 400, "bad_request")
        http_.error("GET", "/api/rooms/talk:1/members", 404, "not_found")
        check_room_closes(broker, alice, here)


def check_room_pages(http_, publish):
    page = http_.json("/api/rooms/talk:1?limit=1")
    check_equal(
        ([member["user"] for member in page["members"]], page["more"]),
        (["alice"], True),
        "the first member",
    )
    page = http_.json(f"/api/rooms/talk:1?limit=1&after={page['next']}")
    check_equal(
        [(member["user"], member["away"], member["carry"]) for member in page["members"]],
        [("bob", True, False)],
        "the second one",
    )
    check(not page["more"] and "next" not in page, f"behind the last one: {page}")
    names = lambda path: [room["room"] for room in http_.json(f"/api/rooms?{path}")["rooms"]]
    check_equal(names(""), ["match:a+b@x", "talk:1"], "by name")
    check_equal(names("by=members"), ["talk:1", "match:a+b@x"], "by members")
    for by in ("messages", "deliveries"):  # in the last seconds, so it has to go on
        eventually(lambda: publish() and names(f"by={by}") == ["talk:1", "match:a+b@x"], f"by {by}")
    check_equal(names("prefix=ma"), ["match:a+b@x"], "of that beginning")
    first = http_.json("/api/rooms?limit=1")
    check_equal((first["more"], first["next"]), (True, "match:a+b@x"), "a page")
    check_equal(names(f"limit=1&after={first['next'].replace('+', '%2B')}"), ["talk:1"], "the next")
    # What a room did before is no rate of now, as soon as there is something to compare with.
    eventually(
        lambda: http_.json("/api/rooms")["rooms"][1]["deliveries_per_s"] == 0, "rates of now"
    )
    check(http_.json("/api/rooms")["rooms"][1]["deliveries"] > 20, "deliveries in all")


def check_room_closes(broker, alice, here):
    http_ = Http(broker, VIEW)
    close = "/api/rooms/talk:1/close"
    http_.error("POST", close, 403, "forbidden", body={})
    http_.token = CHANGE
    for body in ('{"incarnation": -1}', '{"detail": 1}', "[]"):
        http_.error("POST", close, 400, "bad_request", body=body)
    stale = http_.post(close, {"incarnation": here.incarnation + 1}, 409)
    check_equal(stale["code"], "STALE_EPOCH", "another life of it")
    http_.error("POST", "/api/rooms/nothing/close", 404, "not_found", body={})
    http_.post(close, {"incarnation": here.incarnation, "detail": "by hand"})
    closed = alice.state()
    check_equal(
        (closed.room, closed.state, closed.detail),
        (here.room, client_pb.RoomState.CLOSED, "by hand"),
        "what its members hear",
    )
    http_.error("GET", "/api/rooms/talk:1", 404, "not_found")
    ended = broker.wait_log("room_ended")
    check_equal(
        (ended["room"], ended["by"], ended["detail"]),
        ("talk:1", "127.0.0.1", "by hand"),
        "who closed it, in the log",
    )


def refused(member, room, code):
    member.post("join", room=room)
    member.expect_error(code)


def scene_room_numbers():
    """Every reason for which a Join is refused has its number, and members are counted as they come
    and go, one by one or with their room."""
    options = {
        **with_tokens(),
        "rooms.classes": "talk:* create=client join=any members=2,shut:* create=client join=backend,"
        "own:* create=service join=service owner=nobody",
        "rooms.count": 4,  # shut:1 is one, though nobody may join it
        "rooms.per_user": 2,
        "rooms.publish_per_second": 2,
    }
    with Broker(options) as broker, Member(broker, "alice") as alice, Member(broker, "bob") as bob:
        http_ = Http(broker, CHANGE)
        carol = Member(broker, "carol")
        here = alice.join("talk:1")
        bob.join("talk:1")
        refused(carol, "talk:1", "ROOM_FULL")
        refused(carol, "nothing", "NO_ROOM")
        refused(carol, "shut:1", "FORBIDDEN")
        refused(carol, "own:1", "NO_SERVICE")
        alice.join("talk:2")
        refused(alice, "talk:3", "ROOM_FULL")
        carol.join("talk:3")
        refused(bob, "talk:4", "ROOM_FULL")
        for _ in range(100):  # at two a second
            alice.post("publish", room=here.room, payload=b"x")
        alice.pump(lambda: len(alice.others) == 100)
        kinds = [frame.WhichOneof("body") for frame in alice.others]
        check(kinds.count("done") >= 2 and "error" in kinds, f"the answers: {kinds}")
        samples, _ = http_.scrape()
        reasons = "members no_room forbidden owner_gone per_user rooms_count".split()
        for reason in reasons:
            key = ("usher_room_joins_refused_total", (("reason", reason),))
            check_equal(samples[key], 1, f"refused: {reason}")
        limited = {"room_messages_limited": kinds.count("error"), "room_deliveries_limited": 0}
        counters = http_.json("/api/stats")["counters"]
        check_equal({name: counters[name] for name in limited}, limited, "messages limited")

        def members(count):
            return lambda: http_.json("/api/stats")["gauges"]["room_members"] == count

        eventually(members(4), "four members")
        carol.post("logout")
        eventually(members(3), "three, when one has logged out")
        http_.post("/api/rooms/talk:1/close", {})
        eventually(members(1), "one, when a room of two is closed")
        carol.close()


# --- what operators do --------------------------------------------------------------------------


def scene_timeline():
    """Everything that happened to a user, and to nobody with a name like it, also when no session
    is left."""
    with Broker(with_tokens()) as broker:
        http_ = Http(broker, VIEW)
        with Client(broker) as first, Client(broker) as second, Client(broker) as other:
            other.login("alicia")
            first.login("alice", acks=True)
            welcome = second.login("alice", acks=True)
            first.expect_close("REPLACED")
            second.drop()
        eventually(
            lambda: http_.json("/api/sessions/alice")["session"]["state"] == "detached",
            "alice is away",
        )
        with Client(broker) as third:
            third.resume(welcome, 0, name="alice")
            answer = http_.json("/api/sessions/alice")
            check_equal(
                (answer["session"]["state"], answer["session"]["epoch"]),
                ("online", welcome.epoch),
                "the session",
            )
            check_equal(
                [event["event"] for event in answer["timeline"]],
                ["login", "takeover", "detached", "resumed"],
                "alice's timeline",
            )
            http_.post("/api/sessions/alice/kick", {"detail": "enough"}, token=CHANGE)
            third.expect_close("KICKED")
        answer = http_.json("/api/sessions/alice")
        check_equal(answer["session"], None, "the session of who was kicked")
        events = answer["timeline"]
        check_equal([event["event"] for event in events][4:], ["kicked"], "how it ended")
        times = [event["time_ms"] for event in events]
        check(times == sorted(times) and abs(times[-1] / 1000 - time.time()) < 600, f"{times}")
        check_equal(
            {(event["user"], event["level"]) for event in events},
            {("alice", "info")},
            "whose events",
        )
        http_.error("GET", "/api/sessions/ali", 404, "not_found")


def scene_recorder():
    with Broker(with_tokens()) as broker:
        http_ = Http(broker, VIEW)
        for name in ("alice", "bob", "carol"):
            with Client(broker) as client:
                client.login(name)
                client.ask("logout")
                client.read_to_end()
        events = http_.json("/api/recorder")["events"]
        check_equal(events[0]["event"], "starting", "the oldest line")
        told = [(event["event"], event["user"]) for event in events if "user" in event]
        check_equal(
            told,
            [(event, name) for name in ("alice", "bob", "carol") for event in ("login", "logout")],
            "what happened to users",
        )
        check_equal(http_.json("/api/recorder?limit=3")["events"], events[-3:], "the newest three")
        http_.error("GET", "/api/recorder?limit=0", 400, "bad_request")
        http_.error("GET", "/api/recorder", 401, "unauthorized", token="guess")


def scene_reload():
    """What changed, what waits for a restart; one fault and nothing has changed."""
    with FileBroker({"limits__inbox_messages": 3}, with_tokens()) as broker:
        http_ = Http(broker, CHANGE)
        broker.write(limits__inbox_messages=7, limits__users=4096)
        http_.error("POST", "/api/reload", 403, "forbidden", token=VIEW)
        check_equal(broker.log_events("reloaded"), [], "reloads by who may only look")
        later = ["limits.users"]
        check_equal(
            http_.post("/api/reload"),
            {
                "changed": [{"option": "limits.inbox_messages", "from": "3", "to": "7"}],
                "restart_needed": later,
            },
            "the reload",
        )
        check_equal(
            http_.post("/api/reload", {}),
            {"changed": [], "restart_needed": later},
            "the same file again",
        )
        broker.write(limits__inbox_messages=9, limits__inbox_massages=9)
        refused = http_.post("/api/reload", {}, 409)
        check(
            refused["error"] == "refused" and "inbox_massages" in refused["detail"],
            f"a reload with a fault: {refused}",
        )
        broker.write(limits__inbox_messages=9, limits__users=131072)
        check_equal(
            http_.post("/api/reload"),
            {
                "changed": [{"option": "limits.inbox_messages", "from": "7", "to": "9"}],
                "restart_needed": [],
            },
            "the repaired file, beside what held before the fault",
        )


def scene_drain():
    """It ends when the last client is gone, with 0; the endpoint tells of it until then."""
    with Broker(with_tokens()) as broker, Client(broker) as alice:
        http_ = Http(broker, CHANGE)
        alice.login("alice")
        http_.error("POST", "/api/drain", 403, "forbidden", body="{}", token=VIEW)
        for body in ('{"seconds": 3601}', '{"seconds": -1}', '{"seconds": "9"}', "[]"):
            http_.error("POST", "/api/drain", 400, "bad_request", body=body)
        check_equal(http_.json("/readyz")["state"], "serving", "after all those")
        check_equal(
            http_.post("/api/drain", {"seconds": 600}, 202), {"state": "draining"}, "the drain"
        )
        answer = eventually(
            lambda: (got := http_.ask("GET", "/readyz")).status == 503 and got,
            "not ready because it drains",
            SECONDS,
        )
        check_equal((answer.json()["state"], failing(answer)), ("draining", {"drain"}), "readyz")
        check_equal(http_.json("/api/node")["state"], "draining", "the node")
        http_.get("/healthz")
        check_equal(broker.wait_log("draining")["over_ms"], 600000, "over how long")
        http_.error("POST", "/api/drain", 409, "refused", body="{}")
        alice.ping()
        alice.close()
        check_equal(broker._wait_end(SLOW_SECONDS), 0, "the exit code")


def scene_restart():
    """A node that is alone begins again when it is asked to, in the same process."""
    with Broker({**with_tokens(), "admin.listen": f"127.0.0.1:{free_port()}"}) as broker:
        http_ = Http(broker, CHANGE)
        for body in ('{"restart": 1}', '{"restart": true, "seconds": 3}'):
            http_.error("POST", "/api/drain", 400, "bad_request", body=body)
        with Client(broker) as alice:
            alice.login("alice")
            check_equal(
                http_.post("/api/drain", {"restart": True}, 202)["state"], "stopping", "the answer"
            )
            alice.expect_close("SHUTDOWN")
        broker.wait_log("ready", count=2)
        with Client(broker) as alice:
            alice.login("alice")


def scene_trace():
    with Broker(with_tokens()) as broker, Client(broker) as alice, Client(broker) as bob:
        http_ = Http(broker, CHANGE)
        bob.login("bob")
        alice.login("alice", acks=True)
        for body, status, error in (
            ({"user": "alice", "seconds": 3601}, 400, "bad_request"),
            ({"user": "alice", "one_in": -1}, 400, "bad_request"),
            ({"user": 5}, 400, "bad_request"),
            ({}, 400, "bad_request"),
            ({"user": "!"}, 400, "bad_request"),  # not a user: those who have said no Hello
            ({"user": "nobody"}, 404, "not_found"),
        ):
            http_.error("POST", "/api/trace", status, error, body=body)
        http_.error("POST", "/api/trace", 403, "forbidden", body={"user": "alice"}, token=VIEW)
        http_.error("GET", "/api/trace/alice", 404, "not_found")
        http_.error("DELETE", "/api/trace/alice", 404, "not_found")
        http_.post("/api/trace", {"user": "alice", "seconds": 600})
        bob.send("alice", b"one")
        alice.messages(1)
        alice.ask("ack", seq=1)

        def read(tail=""):
            return http_.json(f"/api/trace/alice{tail}", token=VIEW)

        def ended():
            answer = read()
            stages = [
                record["stage"]
                for record in answer["records"]
                if (record["direction"], record["id"]) == ("out", 1)
            ]
            return stages == ["queued", "sent", "acked"] and answer

        answer = eventually(ended, "message 1 from its arrival to its end")
        records = answer["records"]
        check_equal((answer["active"], answer["dropped"]), (True, 0), "a trace that goes on")
        check(0 < answer["until_ms"] / 1000 - time.time() <= 601, f"until {answer['until_ms']}")
        check_equal(
            (records[0]["peer"], records[0]["bytes"], records[0]["kind"]),
            ("bob", 3, "message"),
            "the first record",
        )
        check(abs(records[0]["time_us"] / 1e6 - time.time()) < 60, f"its time: {records[0]}")
        after = records[0]["seq"]
        check_equal(read(f"?after={after}&limit=2")["records"], records[1:3], "a page")
        check_equal(read(f"?after={records[-1]['seq']}")["records"], [], "after the last")
        # Who chooses the largest ids is followed like everybody.
        alice.send_frame(alice.request("send", id=2**64 - 1, to="bob", payload=b"hidden"))
        alice.answer_to(2**64 - 1)
        eventually(
            lambda: [
                record
                for record in read(f"?after={records[-1]['seq']}")["records"]
                if record["peer"] == "bob" and int(record["id"]) >= 2**63
            ],
            "a message with an id that is no whole number of JSON's",
        )
        records = read()["records"]
        broker.wait_log("followed")
        check_equal(
            [
                (line["user"], line["seconds"], line["one_in"])
                for line in broker.log_events("followed")
            ],
            [("alice", 600, 1)],
            "who is followed, in the log",
        )
        check_traces_are_few(http_, broker)
        http_.error("DELETE", "/api/trace/alice", 403, "forbidden", token=VIEW)
        check_equal(http_.ask("DELETE", "/api/trace/alice").status, 200, "the end of it")
        alice.ping()
        answer = read()
        check_equal(
            (answer["active"], answer["until_ms"], answer["records"]),
            (False, 0, records),
            "a trace that was ended",
        )
        http_.error("DELETE", "/api/trace/alice", 404, "not_found")


def check_traces_are_few(http_, broker):
    """Eight are followed, alice among them; nobody more."""
    others = [Client(broker) for _ in range(8)]
    for number, other in enumerate(others):
        other.login(f"user{number}")
        body = {"user": f"user{number}"}
        if number < 7:
            http_.post("/api/trace", body)
        else:
            http_.error("POST", "/api/trace", 409, "refused", body=body)
    for other in others:
        other.close()


# --- numbers --------------------------------------------------------------------------------------


def scene_scrape():
    """As Prometheus' own parser reads it, and in agreement with /api/stats."""
    count = scaled(2000, 200)
    with Broker(ENDPOINT) as broker, Client(broker) as alice, Client(broker) as bob, Backend(
        broker, "echo", "one"
    ) as echo:
        http_ = Http(broker)
        alice.login("alice")
        bob.login("bob")
        for number in range(count):  # each is a batch of its own, and one batch in 64 is timed
            alice.send("bob", b"%d" % number)
        bob.messages(count)
        for number in range(32):  # one in 16 is timed
            alice.post("call", service="echo", method="m")
            echo.reply(echo.expect_call())
        samples, families = http_.scrape()
        for family in families.values():
            check(family.documentation, f"{family.name} has no HELP")
            check(
                re.fullmatch("(usher|process)_[a-z0-9_]+", family.name), f"the name {family.name}"
            )
        labels = {name for sample, pairs in samples for name, _ in pairs}
        check_equal(
            labels,
            set("reason limit state direction kind outcome listener le version node".split()),
            "the labels",
        )
        check_equal(samples[("usher_sessions", (("state", "online"),))], 2, "sessions online")
        check_equal(samples[("usher_messages_accepted_total", ())], count, "messages accepted")
        check_equal(samples[("usher_users", ())], 2, "users")
        check(samples[("process_resident_memory_bytes", ())] > 1e6, "memory")
        check_equal(samples[("usher_login_latency_seconds_count", ())], 2, "logins timed")
        for name in (
            "delivery_latency_seconds",
            "call_latency_seconds",
            "turn_duration_seconds",
            "commit_latency_seconds",
            "commit_size",
        ):
            check_histogram(samples, f"usher_{name}")
        stats = http_.json("/api/stats")
        check_equal(stats["counters"]["messages_accepted"], count, "accepted, by /api/stats")
        login = stats["histograms"]["login_latency"]
        check_equal(
            (login["unit"], login["count"], login["buckets"][-1]["le"]),
            ("seconds", 2, None),
            "a histogram of /api/stats",
        )
        print(
            f"     {len(samples)} samples in {len(families)} families; delivery: mean "
            f"{mean_us(samples, 'delivery_latency_seconds'):.0f} us of "
            f"{samples[('usher_delivery_latency_seconds_count', ())]:.0f}"
        )


def mean_us(samples, name):
    return samples[(f"usher_{name}_sum", ())] / samples[(f"usher_{name}_count", ())] * 1e6


def check_histogram(samples, name):
    """Something was recorded, and the buckets rise to the count."""
    buckets = [
        (float(dict(labels)["le"]), value)
        for (sample, labels), value in samples.items()
        if sample == f"{name}_bucket"
    ]
    values = [value for _, value in sorted(buckets)]
    check(values == sorted(values) and len(values) > 10, f"{name}: {values}")
    check_equal(values[-1], samples[(f"{name}_count", ())], f"{name}: the last bucket")
    check(values[-1] > 0 and samples[(f"{name}_sum", ())] > 0, f"{name} recorded nothing")


def scene_dashboard_and_alerts():
    """Every metric that they name is in a real scrape, and every alert has a runbook line."""
    with Broker(ENDPOINT) as broker:
        samples, _ = Http(broker).scrape()
    known = {name for name, _ in samples}
    series = {(name, pair) for name, labels in samples for pair in labels}
    with open(os.path.join(MONITORING, "grafana.json"), encoding="utf-8") as file:
        dashboard = json.load(file)
    texts = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    check(len(texts) > 20, "the dashboard has too few expressions")
    with open(os.path.join(MONITORING, "alerts.yaml"), encoding="utf-8") as file:
        rules = file.read()
    alerts = re.split(r"\n +- alert: ", rules)[1:]
    for alert in alerts:
        check(re.search(r'\n +runbook: "\S', alert), f"no runbook: {alert.splitlines()[0]}")
        texts.append(re.search(r"expr: (.*)", alert)[1])
    check(len(alerts) > 15, "there are too few alerts")
    for text in texts:
        names = set(re.findall(r"\b(?:usher|process)_\w+|\bup\b", text)) - NOT_SCRAPED
        check(names <= known, f"{text}: not in a scrape: {names - known}")
        for name, label, value in re.findall(r'(usher_\w+){[^}]*?(\w+)="([^"$]+)"', text):
            check((name, (label, value)) in series, f"{text}: no such series")
    print(f"     {len(texts)} expressions, {len(alerts)} alerts")


# --- hostile HTTP ---------------------------------------------------------------------------------


HOST = b"Host: localhost\r\n"
# What is no request, or one that is too much.
HOSTILE = (
    b"\0\1\2\3\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 100000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 20000 + b"\r\n",
    b"POST /api/drain HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    b"POST /api/drain HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\n",
    b"POST /api/drain HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
)


def scene_hostile():
    """None of it is served, and each is cut; so are one that sends a byte now and then, and one
    that says nothing. Meanwhile and afterwards the others are answered."""
    with Broker(ENDPOINT) as broker:
        http_ = Http(broker)
        began = time.monotonic()
        silent = http_.raw()
        trickle = http_.raw(b"GET / HTTP/1.1\r\nX: ")
        trickle.settimeout(0.1)
        hostile = []
        for data in HOSTILE:
            connection = http_.raw()
            try:
                connection.sendall(data)
            except OSError:
                pass  # it was cut before we had said all
            hostile.append(connection)
            http_.get("/healthz")

        def is_cut():
            try:
                trickle.sendall(b"y")
                return trickle.recv(1) == b""
            except (ConnectionResetError, BrokenPipeError):
                return True
            except socket.timeout:
                return False

        eventually(is_cut, "the trickle is cut", SLOW_SECONDS, 0.2)
        check_equal(silent.recv(1), b"", "the silent one is cut")
        print(f"     cut after {time.monotonic() - began:.1f} s")
        for data, connection in zip(HOSTILE, hostile):
            first = read_all(connection).split(b"\r\n")[0]
            check(b" 200 " not in first, f"{data[:60]!r}: {first!r}")
        check(http_.json("/api/stats")["counters"]["admin_late"] >= 2, "they are counted")
        broker.check_alive()


AMBIGUOUS = (
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
)


def scene_where_a_body_ends():
    """Who says it twice, or in two ways, is refused, and what comes behind is nobody's request."""
    with Broker(ENDPOINT) as broker:
        http_ = Http(broker)
        behind = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for ask in (b"GET /healthz", b"POST /api/drain"):
            head = ask + b" HTTP/1.1\r\nHost: localhost\r\n"
            for rest in AMBIGUOUS:
                answer = read_all(http_.raw(head + rest + behind))
                check(
                    answer.startswith(b"HTTP/1.1 400 ") and b'"bad_framing"' in answer,
                    f"{rest}: {answer[:200]}",
                )
                check_equal(answer.count(b"HTTP/1.1 "), 1, f"answers to {rest}")
            answer = read_all(
                http_.raw(
                    head + b"Transfer-Encoding: chunked\r\n" b"Connection: close\r\n\r\n0\r\n\r\n"
                )
            )
            check(b" 400 " not in answer, f"chunked alone: {answer[:100]}")


def scene_many_connections():
    """32 connections that are stuck in the middle of a request: players notice nothing, and the
    endpoint answers beside them. Then more ask at once than there are places."""
    with Broker(ENDPOINT) as broker, Client(broker) as alice, Client(broker) as bob:
        http_ = Http(broker)
        alice.login("alice")
        bob.login("bob")
        stuck = [http_.raw(b"POST /api/drain HTTP/1.1\r\nHost: x\r\nContent-Le") for _ in range(32)]
        count = scaled(500, 50)
        began = time.monotonic()
        for number in range(count):
            alice.send("bob", b"%d" % number)
        bob.messages(count)
        seconds = time.monotonic() - began
        print(f"     {count} messages, one after the other, in {seconds:.2f} s beside them")

        def answers():
            try:
                return http_.ask("GET", "/healthz").status == 200
            except (OSError, http.client.HTTPException):
                return False

        check(answers(), "the endpoint does not answer beside them")
        for connection in stuck:
            connection.close()
        eventually(answers, "the endpoint answers", SLOW_SECONDS)
        outcomes = []

        def ask():
            outcomes.append(answers())

        crowd = [threading.Thread(target=ask) for _ in range(60)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        print(f"     {sum(outcomes)} of {len(crowd)} who ask at once are answered")
        check(sum(outcomes) >= 32, f"{sum(outcomes)} of {len(crowd)} were answered")
        broker.check_alive()


def counted(http_):
    return http_.json("/api/stats")["counters"]


def is_open(connection):
    connection.settimeout(0.05)
    try:
        return connection.recv(1) != b""
    except socket.timeout:
        return True
    except OSError:
        return False


def scene_places_go_to_who_asks():
    """Silent ones keep nobody out: with one more than there are places the oldest of them goes, of the
    address that has the most; a lone one of another address stays."""
    places = 8
    with Broker({**ENDPOINT, "admin.connections": places}) as broker:
        http_ = Http(broker)
        lone = socket.create_connection(http_.address, SLOW_SECONDS, ("127.0.0.2", 0))
        silent = [http_.raw() for _ in range(places - 1)]
        time.sleep(0.3)
        check(all(map(is_open, [lone, *silent])), "they have all places and nobody else came")
        check_equal(counted(http_)["admin_displaced"], 1, "who came is the first one more")
        check(not is_open(silent[0]), "the oldest is still there")
        check(all(map(is_open, [lone, *silent[1:]])), "more than one had to go")
        others = [http_.raw(b"GET / HTTP/1.1\r\nX: ") for _ in range(40)]
        began = time.monotonic()
        for _ in range(20):
            http_.get("/healthz")
        took = time.monotonic() - began
        check(took < 2, f"20 probes beside silent ones took {took:.1f} s")
        check(is_open(lone), "the lone one of another address had to go")
        for connection in [lone, *silent, *others]:
            connection.close()
        print(f"     20 probes in {took:.2f} s, {counted(http_)['admin_displaced']} had to go")


def scene_places_of_those_who_do_not_read():
    """Who asks for much again and again, reads nothing and so fills his connection, has no place for ever:
    a probe finds one at once, whichever thread makes the answers."""
    places, people = 4, 200
    with Broker({**ENDPOINT, "admin.connections": places}) as broker:
        http_ = Http(broker)
        crowd = logged_in(broker, [f"user-{number}-" + "x" * 48 for number in range(people)])
        for path in ("/metrics", "/api/sessions?limit=1000"):
            size = len(http_.get(path).text)
            asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            asked *= 4 * 1024 * 1024 // size  # more than the system keeps of what he does not read
            slow = []
            for _ in range(places + 24):  # more than MHD takes
                connection = socket.socket()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                connection.connect(http_.address)
                connection.setblocking(False)
                connection.send(asked)
                slow.append(connection)
                time.sleep(0.1)
            began = time.monotonic()
            for _ in range(5):
                http_.get("/healthz")
            took = time.monotonic() - began
            check(took < 10, f"5 probes beside those who ask for {path} took {took:.1f} s")
            for connection in slow:
                connection.close()
            print(f"     5 probes in {took:.2f} s beside {len(slow)} who ask for {path}")
        for client in crowd:
            client.close()


def scene_a_flood_of_silent_ones():
    """They come again and again; a probe is answered all the while."""
    with Broker(ENDPOINT) as broker:
        http_ = Http(broker)
        done = threading.Event()

        def flood():
            held = []
            while not done.is_set():
                held.append(http_.raw())
                if len(held) > 100:
                    held.pop(0).close()

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            longest = 0
            for _ in range(30):
                began = time.monotonic()
                probe = http.client.HTTPConnection(
                    *http_.address, timeout=SLOW_SECONDS, source_address=("127.0.0.3", 0)
                )
                probe.request("GET", "/healthz")
                check_equal(probe.getresponse().status, 200, "the probe's status")
                probe.close()
                longest = max(longest, time.monotonic() - began)
                time.sleep(0.02)
        finally:
            done.set()
            flooding.join()
        check(longest < 3, f"a probe took {longest:.1f} s")
        print(
            f"     the slowest of 30 probes took {longest * 1000:.0f} ms, "
            f"{counted(http_)['admin_displaced']} had to go"
        )


def scene_a_scrape_that_stays_connected():
    """It is quiet between two scrapes and closed for that, but was never late; one that begins
    another request and does not end it is."""
    with Broker(ENDPOINT) as broker:
        http_ = Http(broker)
        request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        quiet, slow = http_.raw(request), http_.raw(request)
        for connection in (quiet, slow):
            check(connection.recv(65536).startswith(b"HTTP/1.1 200"), "the first answer")
        slow.sendall(b"GET /healthz HTT")
        for connection in (quiet, slow):
            connection.settimeout(SLOW_SECONDS)
            check_equal(connection.recv(1), b"", "it is closed")
        numbers = counted(http_)
        check_equal(
            (numbers["admin_quiet"], numbers["admin_late"], numbers["admin_displaced"]),
            (1, 1, 0),
            "quiet, late, displaced",
        )


# --- health ---------------------------------------------------------------------------------------


def failing(answer):
    return {entry["name"] for entry in answer.json()["checks"] if not entry["ok"]}


def scene_store_failure():
    """Not ready while the store refuses, alive all the time; a store that hangs holds up neither of
    the two."""
    with Shim() as shim, Broker(
        {"store.path": shim.store, **OPTIONS, **ENDPOINT}, environment=shim.environment()
    ) as broker, People(broker) as people:
        http_ = Http(broker)
        people.must_login("first")
        http_.get("/readyz")
        shim.fail(SYNCS | WRITES | SYNCED_WRITES)
        people.logins(["refused"])
        answer = http_.get("/readyz", 503)
        check_equal(failing(answer), {"store"}, "what is not ready")
        check("Input/output error" in answer.text, f"the reason: {answer.text}")
        http_.get("/healthz")
        check_equal(http_.scrape()[0][("usher_store_failing", ())], 1, "the reading")
        shim.heal()
        people.recover("second")
        eventually(lambda: http_.ask("GET", "/readyz").status == 200, "it is ready again", SECONDS)
        shim.hold(SYNCS)
        with Client(broker) as waiting:
            waiting.post("login", username="waiting")
            eventually(lambda: shim["held"] > 0, "a sync hangs", SECONDS)
            answer = eventually(
                lambda: (got := http_.ask("GET", "/readyz")).status == 503 and got,
                "not ready while a commit hangs",
                SLOW_SECONDS,
            )
            check_equal(failing(answer), {"store"}, "what is not ready")
            http_.get("/healthz")
            check(http_.scrape()[0][("usher_commit_stalled_seconds", ())] >= 3, "for how long")
            shim.release()
            waiting.expect("welcome", timeout=SECONDS)
        eventually(lambda: http_.ask("GET", "/readyz").status == 200, "it is ready again", SECONDS)


def scene_listeners():
    """Not ready while the feed's listener cannot work, or that of backends; alive all the time.
    A folder in the place of the socket keeps it from being repaired. Somebody who leaves is the
    reason to look; that it is looked at without one is for unit/link/link_test."""
    with tempfile.TemporaryDirectory(prefix="usher-feed-") as folder:
        feed = os.path.join(folder, "feed.sock")
        with Broker({**ENDPOINT, "feed.url": f"ipc://{feed}"}) as broker:
            http_ = Http(broker)
            names = [entry["name"] for entry in http_.json("/readyz")["checks"]]
            check_equal(names, ["store", "link", "feed", "reaper", "accept", "drain"], "the checks")
            bad = set()
            for name, path, protocol in (
                ("feed", feed, SP_SUB),
                ("link", broker.link_path, SP_REQ),
            ):
                with connect(f"ipc://{path}") as visitor:
                    visitor.sendall(SP_HEADER.pack(b"\0SP\0", protocol, 0))
                    check_equal(len(visitor.recv(SP_HEADER.size)), SP_HEADER.size, "the handshake")
                    os.unlink(path)
                    os.mkdir(path)
                bad.add(name)
                eventually(
                    lambda: failing(http_.ask("GET", "/readyz")) == bad,
                    f"{bad} are told",
                    LISTENER_SECONDS,
                )
                http_.get("/readyz", 503)
                http_.get("/healthz")
            os.rmdir(feed)
            os.rmdir(broker.link_path)
            eventually(
                lambda: http_.ask("GET", "/readyz").status == 200,
                "it is ready again",
                LISTENER_SECONDS,
            )


def scene_stop():
    """During an orderly stop it is alive, says that it stops, and ends with the broker."""
    with Broker({**ENDPOINT, "limits.close_linger_ms": 3000}) as broker, Client(broker) as alice:
        http_ = Http(broker)
        alice.login("alice")
        done = threading.Thread(target=broker.stop)
        done.start()  # lasts until alice has read her last frames and closed

        def stopping():
            answer = http_.ask("GET", "/readyz")
            return answer.status == 503 and answer.json()["state"] == "stopping"

        eventually(stopping, "not ready because it stops", SECONDS)
        http_.get("/healthz")
        alice.expect_close("SHUTDOWN")
        alice.close()
        done.join()


def scene_starts():
    """Wrong files, and an address in use, end the start with a reason."""
    folder = tempfile.mkdtemp(prefix="usher-tokens-")
    short = os.path.join(folder, "short")
    with open(short, "w", encoding="ascii") as file:
        file.write("short\n")
    both = os.path.join(folder, "both")
    with open(both, "w", encoding="ascii") as file:
        file.write(CHANGE + "\n")
    with Broker(ENDPOINT) as broker:
        port = Http(broker).address[1]
        cases = (
            ({"admin.listen": f"127.0.0.1:{port}"}, 69, "admin.listen"),
            ({**ENDPOINT, "admin.token_file": short}, 78, "admin.token_file"),
            ({**ENDPOINT, "admin.token_file": folder + "/none"}, 78, "admin.token_file"),
            (
                {**ENDPOINT, "admin.token_file": both, "admin.view_token_file": both},
                78,
                "admin.view_token_file",
            ),
            ({"admin.listen": "0.0.0.0:0"}, 78, "admin.token_file"),
        )
        for options, code, text in cases:
            other = Broker({"listen.wait_ms": 0, **options}, wait=False)
            check_equal(other._wait_end(SECONDS), code, f"the exit code with {options}")
            check(
                any(text in line.get("raw", "") for line in other.lines),
                f"{options}: {other.lines}",
            )
    for path in glob.glob(os.path.join(folder, "*")):
        os.remove(path)
    os.rmdir(folder)


if __name__ == "__main__":
    play(
        scene_routes,
        scene_slowest,
        scene_services,
        scene_console,
        scene_tokens,
        scene_nobody_changes_without_a_token,
        scene_hosts,
        scene_a_name_that_looks_like_a_step,
        scene_commands,
        scene_rooms,
        scene_room_numbers,
        scene_timeline,
        scene_recorder,
        scene_reload,
        scene_drain,
        scene_restart,
        scene_trace,
        scene_scrape,
        scene_dashboard_and_alerts,
        scene_hostile,
        scene_where_a_body_ends,
        scene_many_connections,
        scene_places_go_to_who_asks,
        scene_places_of_those_who_do_not_read,
        scene_a_flood_of_silent_ones,
        scene_a_scrape_that_stays_connected,
        scene_store_failure,
        scene_listeners,
        scene_stop,
        scene_starts,
    )
