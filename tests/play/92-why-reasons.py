# SPDX-License-Identifier: Apache-2.0
"""Why was X disconnected: each reason that a session ends for, and each for which nobody is let in, is brought about
once for real, and `usherctl why` says it in words, with who, from where and what the limit was. The table of
docs/operations.md has them all: a row that no scene has brought about fails, and so does an answer that no row
tells of."""

import os
import stat
import tempfile
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    logged_in,
    play,
)
from usherplay.asker import Http
from usherplay.faults import OPTIONS, People
from usherplay.pourers import Pourers
from usherplay.shim import SYNCED_WRITES, SYNCS, Shim
from usherplay.tokens import Key, Keys
from usherplay.websocket import BINARY, PING, TEXT, ws_close, ws_frame
from usherplay.why import SECONDS, ctl, table, told_texts, wait_why, where, why, words

MIB = 1 << 20
TOKEN = "token-of-the-backends-and-of-the-operators"
FREE = {
    "limits.requests_per_second": 0,
    "limits.requests_per_second_per_source": 0,
    "limits.output_soft_ms": 600000,
}


def outcome(who, name, **fields):
    """welcome, or the name of the error."""
    frame = who.answer_to(who.post("login", username=name, **fields), 20)
    kind = frame.WhichOneof("body")
    return client_pb.Error.Code.Name(frame.error.code) if kind == "error" else kind


def try_login(broker, name, **fields):
    with Client(broker) as newcomer:
        return outcome(newcomer, name, **fields)


def numbers(broker):
    with Backend(broker, hello=False) as backend:
        return backend.numbers("stats")


# --- ends ----------------------------------------------------------------------------------------


def scene_login_takeover_logout():
    with Broker() as broker, Client(broker) as first, Client(broker) as second:
        first.login("alice", client="game 1.2")
        record = wait_why(broker, "alice", "logged in from", where(first), "tcp", '"game 1.2"')
        check_equal((record["kind"], record["cause"]), ("online", "login"), "the first login")
        second.login("alice", client="game 1.3")
        first.expect_close("REPLACED")
        wait_why(broker, "alice", where(second), "displaced the connection from", where(first))
        text = words(broker, "alice")
        check("alice is online from " + where(second) in text, f"who is online: {text}")
        second.ask("logout")
        second.read_to_end()
        wait_why(broker, "alice", "logged out", where(second))
        text = words(broker, "alice")
        check("alice has no session now" in text, text)
        check("alice was disconnected" in text and "logged out" in text, text)


def scene_kicked():
    with Broker() as broker, Backend(broker, service="match", instance="m1") as match:
        with Client(broker) as client:
            client.login("bob")
            match.kick("bob", detail="afk")
            client.expect_close("KICKED")
            record = wait_why(broker, "bob", "kicked by service match", "m1", '"afk"')
            check(where(client) in record["text"], f"from where: {record}")
        with Client(broker) as client:
            client.login("bob")
            code, _, errors = ctl(broker, "kick", "bob", "--reason", "moved")
            check_equal(code, 0, errors)
            record = wait_why(broker, "bob", "kicked by", '"moved"')
            print("     " + record["text"])


def scene_lost_and_back():
    with Broker({"session.resume_ms": 3000}) as broker:
        client = Client(broker)
        welcome = client.login("carol")
        client.close()
        wait_why(broker, "carol", "connection lost", "the client closed the connection")
        check("is detached" in words(broker, "carol"), "detached")
        with Client(broker) as again:
            again.resume(welcome, 0, "carol")
            wait_why(broker, "carol", "came back to the session", where(again))
            with Client(broker) as third:
                third.resume(welcome, 0, "carol")
                wait_why(broker, "carol", "displaced the connection from", where(again))
                third.drop()
        wait_why(broker, "carol", "resume window over", "session.resume_ms is 3000")
        check_equal(
            [record["kind"] for record in why(broker, "carol")][:2],
            ["offline", "detached"],
            "the last two",
        )


def scene_heartbeat():
    with Broker({"session.heartbeat_ms": 500}) as broker, Client(broker) as client:
        client.login("dave")
        record = wait_why(
            broker, "dave", "heartbeat lost", "silent for", "session.heartbeat_ms is 500"
        )
        check(record["value"] >= 1500, f"silent for {record['value']} ms")


def scene_slow_consumer():
    """Neither one who does not read for long, nor one who asks for more than he reads."""
    options = {
        "limits.output_soft_ms": 500,
        "limits.output_soft_bytes": 4096,
        "limits.requests_per_second": 0,
        "limits.requests_per_second_per_source": 0,
    }
    with Broker(options) as broker, Client(broker, receive_buffer=4096) as slow:
        with Client(broker) as fast:
            slow.login("erin", acks=False)
            fast.login("frank")
            payload = b"x" * 30000

            def full():
                for _ in range(20):
                    fast.post("send", to="erin", payload=payload, id=0)
                fast.ping()
                newest = why(broker, "erin")[0]
                return "slow consumer" in newest["text"] and newest

            record = eventually(full, "erin is closed", SECONDS)
            check_equal(record["limit"], "limits.output_soft_ms", "which limit")
            check("limits.output_soft_ms is 500" in record["text"], record["text"])
            check(record["value"] > 0, "bytes that waited")


def scene_rules():
    """Broken frames, too many requests: the reason in words, and the limit with its numbers."""
    with Broker({"limits.requests_per_second": 5, "limits.frame_bytes": 4096}) as broker:
        with Client(broker) as client:
            client.login("gina")
            client.send_bytes(b"\x02\xff\xff")
            wait_why(broker, "gina", "broke the rules", "not a valid ClientFrame")
        with Client(broker) as client:
            client.login("gina")
            client.send_bytes(b"\xff\xff\x7f")
            wait_why(broker, "gina", "broke the rules", "limits.frame_bytes is 4096")
        with Client(broker) as client:
            client.login("hank")
            for _ in range(40):
                client.post("ping", id=0)
            wait_why(broker, "hank", "limits.requests_per_second is 5", "refused in a row")


def scene_token_over():
    key = Key("EdDSA", "a")
    options = {"auth.session_ends": "with_token", "auth.skew_ms": 0}
    with Keys(key) as keys, keys.broker(options) as broker, Client(broker) as client:
        client.login("iris", token=key.sign("iris", ttl=2))
        wait_why(broker, "iris", "token expired", where(client))
        for _ in range(2):
            with Client(broker) as other:
                other.post("login", username="iris", token=b"nonsense")
                other.read_to_end()
        record = wait_why(broker, "iris", "login refused 2 times", "not a token", "127.0.0.1")
        check_equal(record["count"], 2, "equal refusals are one record")
        with Client(broker) as other:
            other.post("resume", username="iris", epoch=1, secret=b"s" * 16)
            other.expect_error("RESUME_REJECTED")
        wait_why(broker, "iris", "resume refused", "another secret")


def token_file(token):
    path = os.path.join(tempfile.mkdtemp(prefix="usher-why-"), "token")
    with open(path, "w", encoding="ascii") as file:
        file.write(token + "\n")
    os.chmod(path, stat.S_IRUSR)
    return path


def scene_kicked_by_http():
    """By an operator at the admin endpoint, and by a backend that speaks HTTP."""
    options = {}
    for whose in ("admin", "http"):
        options[f"{whose}.listen"] = "127.0.0.1:0"
        options[f"{whose}.token_file"] = token_file(TOKEN + whose)
    with Broker(options) as broker:
        operator, backend = (Http(broker, TOKEN + whose, whose) for whose in ("admin", "http"))
        with Client(broker) as client:
            client.login("alice")
            operator.post("/api/sessions/alice/kick", {"detail": "enough"})
            wait_why(broker, "alice", "kicked by an operator, admin 127.0.0.1", '"enough"')
        with Client(broker) as client:
            client.login("alice")
            backend.post("/v1/sessions/alice/kick", {"detail": "cheat"})
            wait_why(broker, "alice", "kicked by a backend, http 127.0.0.1", '"cheat"')


def scene_connections():
    """How a connection can be lost, and a login in place of one that nobody was connected to."""
    with Broker() as broker:
        client = Client(broker)
        client.login("alice")
        was = where(client)
        client.drop()
        wait_why(broker, "alice", "connection lost", "the connection broke", was)
        with Client(broker) as again:
            again.login("alice")
            wait_why(broker, "alice", "in place of a session from", was)


def scene_sent_away():
    for ask, words_of_it in (
        (lambda broker: broker.stop(), "the node was stopped"),
        (lambda broker: ctl(broker, "drain", "--seconds", "1"), "the node was drained"),
        (lambda broker: ctl(broker, "drain", "--restart"), "the node was restarted"),
    ):
        with Broker() as broker:
            with Client(broker) as client:
                client.login("alice")
                ask(broker)
                client.read_to_end(20)
            if "restarted" not in words_of_it:
                broker._wait_end(30)
                broker.start()
            else:
                eventually(lambda: len(broker.log_events("ready")) == 2, "it is back", SECONDS)
            wait_why(broker, "alice", "sent away", words_of_it)


def scene_cut_off():
    with Broker() as broker, Client(broker) as client:
        client.login("alice")
        broker.kill()
        broker.start()
        wait_why(broker, "alice", "cut off", "without a goodbye", where(client))


def scene_output_of_one():
    """Who asks for more answers than he reads."""
    limits = {**FREE, "limits.output_bytes": 65536, "limits.output_soft_bytes": 32768}
    with Broker(limits) as broker, Client(broker, receive_buffer=4096) as slow:
        slow.login("slow")
        pings = b"".join(frame_bytes(slow.request("ping")) for _ in range(5000))
        end = time.monotonic() + 120
        while "slow consumer" not in why(broker, "slow")[0]["text"]:
            check(time.monotonic() < end, "he is not closed")
            try:
                slow.send_bytes(pings)
            except OSError:  # closed
                pass
        wait_why(broker, "slow", "slow consumer", "limits.output_bytes is 65536")


def flood_the_slow(broker, *texts):
    """Four readers who do not read, until one of them was closed for what waited for him."""
    with broker, Client(broker) as writer:
        writer.login("writer")
        slow = [Client(broker, receive_buffer=4096) for _ in range(4)]
        for number, client in enumerate(slow):
            client.login(f"slow{number}")
        closed = None
        end = time.monotonic() + 120
        while closed is None:
            check(time.monotonic() < end, "nobody was closed")
            for number in range(40):
                writer.ask("send", to=f"slow{number % 4}", payload=b"m" * 32000)
            for number in range(4):
                if "slow consumer" in why(broker, f"slow{number}")[0]["text"]:
                    closed = f"slow{number}"
        wait_why(broker, closed, "slow consumer", *texts)
        for client in slow:
            client.close()


def scene_output_of_all():
    limits = {**FREE, "limits.output_total_bytes": MIB}
    flood_the_slow(Broker(limits), f"limits.output_total_bytes is {MIB}")


def scene_memory_is_full():
    """The largest output goes, and the largest frame in the making; nobody else is let in."""
    memory = {
        **FREE,
        "limits.memory_bytes": 16 * MIB,
        "limits.inbox_bytes": 4 * MIB,
        "limits.inbox_messages": 4096,
        "limits.frame_bytes": MIB,
    }
    limits = {
        **memory,
        "limits.output_bytes": 8 * MIB,
        "limits.output_soft_bytes": 8 * MIB,
        "limits.mailbox_messages": 4096,
    }
    flood_the_slow(Broker(limits), "bytes waited", f"limits.memory_bytes is {16 * MIB}")
    with Broker(memory) as broker, Backend(broker) as backend:
        pourers = Pourers(broker, 40, MIB - 100)
        pourers.pour_all(lambda name: backend.numbers("stats")[name])
        check(numbers(broker)["input_evicted"] > 0, "nobody was closed")
        closed = next(n for n in range(40) if pourers.is_closed(n))
        check_equal(try_login(broker, "newcomer"), "UNAVAILABLE", "a login when memory is short")
        pourers.close()
        bound = f"(limits.memory_bytes is {16 * MIB})"
        wait_why(broker, f"pourer{closed}", "connection lost: memory was short", bound)
        wait_why(broker, "newcomer", "login refused: memory was short", bound, "from 127.0.0.1")


def scene_websocket():
    """Whoever breaks its rules: which rule; and one whose browser is dead."""
    rows = {
        ws_frame(TEXT, b"hello"): "broke the rules: a text message: frames are binary",
        ws_frame(3, b""): "broke the rules: it breaks the rules of WebSocket",
        ws_frame(BINARY, b"x", reserved=4): "broke the rules: it breaks the rules of WebSocket",
        ws_close(1000, b"\xff"): "broke the rules: a Close whose text is no UTF-8",
        ws_frame(BINARY, b"", told=1 << 20): "broke the rules",
    }
    limits = {"ws.fragments": 4, "ws.control_per_second": 7}
    with Broker(limits, ws=True) as broker:
        for number, (data, text) in enumerate(rows.items()):
            with Client(broker, over="ws") as client:
                client.login(f"user{number}")
                client.socket.sendall(data)
                wait_why(broker, f"user{number}", text, where(client))
        wait_why(broker, "user4", "limits.frame_bytes is 65536")
        with Client(broker, over="ws") as client:
            client.login("alice")
            pieces = [ws_frame(BINARY, b"\x7f", fin=False)]
            pieces += [ws_frame(0, b"x", fin=False) for _ in range(5)]
            client.socket.sendall(b"".join(pieces))
            wait_why(broker, "alice", "too many fragments", "ws.fragments is 4")
        with Client(broker, over="ws") as client:
            client.login("bob")
            client.socket.sendall(ws_frame(PING, b"p") * 20)
            wait_why(broker, "bob", "too many control frames", "ws.control_per_second is 7")
    with Broker({"session.heartbeat_ms": 400}, ws=True) as broker:
        with Client(broker, over="ws") as dead:
            dead.login("dead")
            wait_why(broker, "dead", "heartbeat lost", "silent for", "session.heartbeat_ms is 400")


# --- who is not let in ---------------------------------------------------------------------------


def scene_too_many_users():
    with Broker({"limits.users": 2}) as broker:
        clients = logged_in(broker, ["one", "two"])
        check_equal(try_login(broker, "three", client="game 2"), "BUSY", "one more")
        text = wait_why(broker, "three", "login refused: the broker is full")["text"]
        check("(limits.users is 2)" in text and 'by tcp, client "game 2"' in text, text)
        for client in clients:
            client.close()


def scene_fights():
    options = {"limits.takeovers_per_minute": 2, "limits.login_deadline_ms": 60000}
    bound = "(limits.takeovers_per_minute is 2)"
    with Broker(options) as broker:
        clients = [Client(broker) for _ in range(5)]
        welcome = clients[0].login("alice")
        for client in clients[1:3]:
            welcome = client.login("alice")
        check_equal(outcome(clients[3], "alice", client="game 3"), "RATE_LIMITED", "a third")
        wait_why(broker, "alice", "login refused: it took the user over too often", bound, "game 3")
        fields = {"username": "alice", "epoch": welcome.epoch, "secret": welcome.secret}
        clients[4].post("resume", **fields)
        clients[4].expect_error("RATE_LIMITED")
        wait_why(broker, "alice", "resume refused: it took the user over too often", bound)
        clients[2].ping()
        for client in clients:
            client.close()


def scene_logins_per_minute():
    options = {"limits.logins_per_minute_per_user": 3, "limits.login_deadline_ms": 60000}
    bound = "(limits.logins_per_minute_per_user is 3)"
    with Broker(options) as broker:
        for _ in range(3):
            with Client(broker) as client:
                welcome = client.login("alice")
        eventually(lambda: "lost" in why(broker, "alice")[0]["text"], "she is gone", SECONDS)
        check_equal(try_login(broker, "alice"), "RATE_LIMITED", "a fourth")
        wait_why(broker, "alice", "login refused: it logged in too often", bound)
        with Client(broker) as client:
            fields = {"username": "alice", "epoch": welcome.epoch, "secret": welcome.secret}
            client.post("resume", **fields)
            client.expect_error("RATE_LIMITED")
        wait_why(broker, "alice", "resume refused: it came back too often", bound, "by tcp")
    with Broker({"limits.logins_per_minute_per_source": 3}) as broker:
        for number in range(3):
            check_equal(try_login(broker, f"user{number}"), "welcome", "one of three")
        check_equal(try_login(broker, "more"), "RATE_LIMITED", "a fourth")
        wait_why(broker, "more", "too often (limits.logins_per_minute_per_source is 3)")


def scene_credentials():
    key = Key("HS256", "a")
    with Keys(key) as keys, keys.broker({"limits.failed_logins_per_source": 2}) as broker:
        for number in range(2):
            check_equal(try_login(broker, "alice", token=b"x.y.z"), "UNAUTHENTICATED", "a bad one")
        check_equal(try_login(broker, "alice", token=key.sign("alice")), "RATE_LIMITED", "a third")
        wait_why(
            broker, "alice", "too many failed logins", "(limits.failed_logins_per_source is 2)"
        )


def asked(broker, name):
    """A client whose login waits for the service."""
    client = Client(broker)
    client.post("login", username=name)
    return client


def scene_waiting_to_be_checked():
    mode = {
        "auth.mode": "service",
        "auth.service": "door",
        "auth.deadline_ms": 30000,
        "limits.login_deadline_ms": 60000,
    }
    for limit, bound in (("limits.logins_waiting", 2), ("limits.prelogin_per_source", 2)):
        with Broker({**mode, limit: bound}) as broker, Backend(broker, "door") as door:
            waiting = []
            for number in range(bound):
                waiting.append(asked(broker, f"user{number}"))
                door.expect_call(kind="auth")
            if "source" in limit:  # they go on waiting when their connections are gone
                for client in waiting:
                    client.drop()
                eventually(lambda: numbers(broker)["connections_open"] == 0, "gone", SECONDS)
            check_equal(try_login(broker, "more"), "BUSY", f"beyond {limit}")
            text = "login refused: too many logins waited to be checked"
            wait_why(broker, "more", text, f"({limit} is {bound})")
            for client in waiting:
                client.close()


def scene_while_it_stops():
    """Whose login waits for its verdict when the broker stops; it is known when it is back."""
    mode = {"auth.mode": "service", "auth.service": "door", "auth.deadline_ms": 30000}
    with Broker({**mode, "limits.login_deadline_ms": 60000}) as broker:
        with Backend(broker, "door") as door, asked(broker, "alice") as alice:
            door.expect_call(kind="auth")
            broker.stop()
            alice.expect_error("DRAINING")
        broker.start()
        wait_why(broker, "alice", "login refused: the broker stops", "from 127.0.0.1")


def scene_not_stored():
    """The disk gives errors: nobody is let in, and why is told as soon as it can be stored."""
    with Shim() as shim, Broker(
        {"store.path": shim.store, **OPTIONS}, environment=shim.environment()
    ) as broker:
        with People(broker) as people:
            people.must_login("here")
            shim.fail(SYNCED_WRITES | SYNCS)
            check_equal(try_login(broker, "alice"), "UNAVAILABLE", "a login")
            shim.heal()
            people.recover("here-again")
            wait_why(broker, "alice", "login refused: the session could not be stored")


# --- all of them ---------------------------------------------------------------------------------


def scene_the_table():
    """Behind all others."""
    rows = table()
    check(len(rows) >= 30, f"{len(rows)} rows in docs/operations.md")
    for row in rows:
        check(
            any(all(phrase in text for phrase in row) for text in told_texts),
            f"no scene has brought about the row {row}",
        )
    for text in told_texts:
        check(
            any(all(phrase in text for phrase in row) for row in rows),
            f"no row of docs/operations.md tells of: {text}",
        )
    print(f"     {len(rows)} rows, {len(told_texts)} answers")


play(
    scene_login_takeover_logout,
    scene_kicked,
    scene_lost_and_back,
    scene_heartbeat,
    scene_slow_consumer,
    scene_rules,
    scene_token_over,
    scene_kicked_by_http,
    scene_connections,
    scene_sent_away,
    scene_cut_off,
    scene_output_of_one,
    scene_output_of_all,
    scene_memory_is_full,
    scene_websocket,
    scene_too_many_users,
    scene_fights,
    scene_logins_per_minute,
    scene_credentials,
    scene_waiting_to_be_checked,
    scene_while_it_stops,
    scene_not_stored,
    scene_the_table,
)
