# SPDX-License-Identifier: Apache-2.0
"""A service that owns rooms: it is asked who may come in, hears what happens in order and each once,
also when its instances die, and does in its rooms what it likes."""

import json
import os
import subprocess
import tempfile
import time

from usherplay import (
    Broker,
    Client,
    backend_pb,
    check,
    check_equal,
    client_pb,
    play,
    program,
    scaled,
)
from usherplay.backend import code_name
from usherplay.rooms import Member, Owner, command, told
from usherplay.tokens import Key, Keys

CLASSES = (
    "ask:* create=service join=service owner=maker,"
    "talk:* create=client join=any owner=maker follow=messages history=64/60s,"
    "make:* create=backend join=backend owner=maker members=3 publish=backend,"
    "small:* create=client join=any owner=maker members=1,"
    "key:* create=token join=token,"
    "none:* create=client join=any"
)
# A link that notices losses quickly.
OPTIONS = {
    "rooms.classes": CLASSES,
    "rooms.ask_ms": 20000,
    "limits.requests_per_second": 0,
    "link.park_ms": 200,
    "link.grace_ms": 300,
    "link.fetch_timeout_ms": 3000,
}
State = client_pb.RoomState


def options(**more):
    return {**OPTIONS, **{name.replace("__", "."): value for name, value in more.items()}}


def codes(result):
    return {failure.user: code_name(failure) for failure in result.push.failures}


# --- asks ------------------------------------------------------------------------------------------


def scene_yes_and_no():
    """The first is asked whether he may make the room, the next whether he may join it."""
    with Broker(options()) as broker, Owner(broker) as owner:
        with Member(broker, "alice") as alice, Member(broker, "bob") as bob:
            id = alice.post("join", room="ask:1")
            ask = owner.next_ask()
            check_equal(
                (ask.user, ask.room, ask.kind, ask.epoch),
                ("alice", "ask:1", backend_pb.RoomAsk.CREATE, alice.welcome.epoch),
                "RoomAsk",
            )
            check(0 < ask.timeout_ms <= 20000 and not ask.redelivered, f"RoomAsk {ask}")
            owner.reply(ask)
            check_equal(alice.answer_to(id).room_state.state, State.JOINED, "a yes")
            owner.wait_news("OPENED ASKED", "JOINED alice ASKED")
            id = bob.post("join", room="ask:1")
            ask = owner.next_ask()
            check_equal(ask.kind, backend_pb.RoomAsk.JOIN, "RoomAsk.kind")
            owner.reply(ask, 7, b"not on the list")
            error = bob.expect_error("FORBIDDEN", id=id)
            check("not on the list" in error.detail, f"the owner's words: {error.detail}")
            check_equal(code_name(owner.reply(ask)), "GONE", "a second reply")
            id = bob.post("join", room="ask:1")
            owner.reply(owner.next_ask())
            bob.answer_to(id)
            owner.wait_news("JOINED bob ASKED")


def scene_no_to_who_would_make_it():
    with Broker(options()) as broker, Owner(broker) as owner, Member(broker, "alice") as alice:
        id = alice.post("join", room="ask:1")
        owner.reply(owner.next_ask(), 1)
        alice.expect_error("FORBIDDEN", id=id)
        check_equal(code_name(owner.do("room_members", room="ask:1")), "NO_ROOM", "there is none")
        check_equal(owner.news, [], "news of a room that never was")


def scene_nobody_answers():
    with Broker(options(rooms__ask_ms=600)) as broker, Member(broker, "alice") as alice:
        id = alice.post("join", room="ask:1")
        alice.expect_error("NO_SERVICE", id=id)
        with Owner(broker) as owner:
            id = alice.post("join", room="ask:1")
            ask = owner.next_ask()
            alice.expect_error("TIMEOUT", id=id)
            check_equal(code_name(owner.reply(ask)), "GONE", "too late")
            alice.expect_nothing(0.1)


def scene_an_ask_outlives_its_instance():
    """What it has not acknowledged goes to another; what it has is lost."""
    with Broker(options()) as broker, Member(broker, "alice") as alice:
        with Owner(broker, instance="one") as one:
            id = alice.post("join", room="ask:1")
            one.next_ask()
            two = Owner(broker, instance="two")
            one.lose()
            ask = two.next_ask()
            check(ask.redelivered and ask.user == "alice", f"RoomAsk {ask}")
            two.reply(ask)
            alice.answer_to(id)
        with Member(broker, "bob") as bob:
            id = bob.post("join", room="ask:1")
            two.next_ask()
            two.fetch(wait_ms=1)  # acknowledges it
            two.lose()
            bob.expect_error("SERVICE_LOST", id=id, timeout=30)


# --- news ------------------------------------------------------------------------------------------


def scene_all_that_happens():
    with Broker(
        options(rooms__classes=CLASSES + ",idle:* create=client join=any owner=maker idle=1s")
    ) as broker:
        with Owner(broker) as owner, Member(broker, "alice") as alice:
            here = alice.join("talk:1")
            bob = Member(broker, "bob")
            bob.join("talk:1")
            alice.publish(here, b"hi")
            check_equal(
                code_name(owner.do("room_publish", room="talk:1", payload=b"all")), "OK", ""
            )
            heard = owner.wait_news(
                "OPENED ASKED",
                "JOINED alice ASKED",
                "JOINED bob ASKED",
                "MESSAGE alice hi",
                "MESSAGE *maker all",
            )
            check_equal([news.news_seq for news in heard], [1, 2, 3, 4, 5], "news_seq")
            check_equal({news.incarnation for news in heard}, {here.incarnation}, "incarnation")
            check_equal([news.offset for news in heard], [0, 0, 0, 1, 2], "offset")
            check_equal(
                [news.epoch for news in heard[1:4]],
                [alice.welcome.epoch, bob.welcome.epoch, alice.welcome.epoch],
                "epoch",
            )
            bob.drop()
            owner.wait(lambda: [n for n in owner.news if told(n).startswith("AWAY bob")], "AWAY")
            bob = bob.come_back([(here.room, here.incarnation, 2)])
            owner.wait(lambda: [n for n in owner.news if told(n).startswith("BACK bob")], "BACK")
            owner.news = []
            with Member(broker, "bob") as again:
                owner.wait_news("LEFT bob TAKEOVER")
                again.join("talk:1")
                again.post("logout")
                owner.wait_news("JOINED bob ASKED", "LEFT bob LOGOUT")
            eve = Member(broker, "eve")
            eve.join("talk:1")
            owner.kick("eve")
            owner.wait_news("JOINED eve ASKED", "LEFT eve KICKED")
            there = alice.join("idle:1")
            alice.post("leave", room=there.room)
            owner.wait_news("OPENED ASKED", "JOINED alice ASKED", "LEFT alice ASKED", "CLOSED IDLE")


def scene_failover():
    """The instance dies with news that it has not acknowledged: another one has all of them, in order."""
    with Broker(options()) as broker, Member(broker, "alice") as alice:
        one = Owner(broker, instance="one")
        here = alice.join("talk:1")
        one.wait_news("OPENED ASKED", "JOINED alice ASKED")
        one.fetch(wait_ms=1)
        for i in range(10):
            alice.publish(here, b"%d" % i)
        one.wait_news(*[f"MESSAGE alice {i}" for i in range(10)])
        two = Owner(broker, instance="two")
        for i in range(10, 20):
            alice.publish(here, b"%d" % i)
        one.lose()
        for i in range(20, 30):
            alice.publish(here, b"%d" % i)
        heard = two.wait_news(*[f"MESSAGE alice {i}" for i in range(30)])
        first = heard[0].news_seq
        check_equal([n.news_seq for n in heard], list(range(3, 33)), f"news_seq from {first}")
        seen = sum(news.redelivered for news in heard)
        check(10 <= seen <= 20, f"{seen} of them are redelivered")
        check_equal([n.redelivered for n in heard], [i < seen for i in range(30)], "redelivered")
        found, page = two.members("talk:1")
        check_equal([member.user for member in found], ["alice"], "members")
        check_equal((page.news_seq, page.incarnation), (32, here.incarnation), "RoomMembers")
        check_equal(page.offset, 30, "RoomMembers.offset")


def scene_a_room_stays_where_it_is():
    """Whoever links later hears nothing of rooms that are told of already, each as long as it lives."""
    with Broker(options(link__fetch_timeout_ms=20000)) as broker, Owner(broker) as owner, Member(
        broker, "alice"
    ) as alice:
        rooms = [alice.join(f"talk:{i}") for i in range(8)]
        others = [Owner(broker) for _ in range(4)]
        for room in rooms:
            alice.publish(room, room.name.encode())
        owner.wait(lambda: len(owner.news) >= 3 * len(rooms), "news of all rooms")
        for other in others:
            other.fetch(wait_ms=1)
            check_equal(other.news, [], "news at another instance")
            other.close()


def scene_a_gap_is_seen():
    """Nobody is there for a while, or one does not acknowledge: the numbers show that some is missing."""
    most = 16
    with Broker(options(rooms__news_waiting=most, admin__listen="127.0.0.1:0")) as broker, Member(
        broker, "alice"
    ) as alice:
        here = alice.join("talk:1")  # OPENED and JOINED find nobody
        with Owner(broker) as owner:
            for i in range(most + 1):
                alice.publish(here, b"%d" % i)
            heard = owner.wait_news(*[f"MESSAGE alice {i}" for i in range(most)])
            check_equal(heard[0].news_seq, 3, "two were told to nobody")
            check_equal(owner.members("talk:1")[1].news_seq, 3 + most, "what is true")
            owner.fetch(wait_ms=1)
            owner.gaps = True
            alice.publish(here, b"more")
            check_equal(
                owner.wait_news("MESSAGE alice more")[0].news_seq, 4 + most, "behind the gap"
            )
            check_equal(broker.numbers()["room_news_lost"], 3, "room_news_lost")


# --- what a service does ---------------------------------------------------------------------------


def scene_open_and_close():
    """What was published before a close comes before it, to everybody."""
    with Broker(options()) as broker, Owner(broker) as owner:
        made = owner.do("room_open", room="make:1", members_max=2)
        check_equal(code_name(made), "OK", "RoomOpen")
        (info,) = made.rooms.rooms
        check_equal(
            (getattr(info, "class"), info.owner, info.members), ("make:*", "maker", 0), "RoomInfo"
        )
        again = owner.do("room_open", room="make:1").rooms.rooms[0]
        check_equal(again.incarnation, info.incarnation, "it is there already")
        with Member(broker, "alice") as alice, Member(broker, "bob") as bob:
            added = owner.do("room_add", room="make:1", users=["alice", "bob"])
            check_equal((code_name(added), added.push.accepted), ("OK", 2), "RoomAdd")
            here = alice.state()
            check_equal((here.name, here.state, here.replay), ("make:1", State.JOINED, 0), "JOINED")
            bob.state()
            results = owner.submit(
                *[command("room_publish", room="make:1", payload=b"%d" % i) for i in range(50)],
                command("room_close", room="make:1", detail="the match is over"),
                command("room_publish", room="make:1", payload=b"too late"),
            )
            check_equal(
                [r.rooms.rooms[0].offset for r in results[:50]], list(range(1, 51)), "offsets"
            )
            check_equal([code_name(r) for r in results[50:]], ["OK", "NO_ROOM"], "closed")
            for member in (alice, bob):
                got = member.collect(here, 50)
                check_equal([m.payload for m in got], [b"%d" % i for i in range(50)], "messages")
                check_equal({m.service for m in got}, {"maker"}, "service")
                gone = member.state()
                check_equal(
                    (gone.state, gone.detail), (State.CLOSED, "the match is over"), "CLOSED"
                )
                member.expect_nothing(0.05)
        owner.wait(lambda: "CLOSED SERVICE" in [told(n) for n in owner.news], "CLOSED")
        later = owner.do("room_open", room="make:1").rooms.rooms[0]
        check(later.incarnation > info.incarnation, "another life of the room")


def scene_carry():
    """With carry the user is in it, whoever logs in as him; without, this login is."""
    with Broker(options()) as broker, Owner(broker) as owner:
        owner.do("room_open", room="make:1")
        with Member(broker, "alice") as alice, Member(broker, "bob") as bob:
            for user, carry in (("alice", True), ("bob", False)):
                result = owner.do("room_add", room="make:1", users=[user], carry=carry)
                check_equal(code_name(result), "OK", f"RoomAdd {user}")
            alice.state()
            bob.state()
            owner.wait_news("OPENED SERVICE", "JOINED alice SERVICE", "JOINED bob SERVICE")
            with Member(broker, "alice") as new, Member(broker, "bob") as other:
                here = new.state()
                check_equal(
                    (here.name, here.state, here.replay), ("make:1", State.JOINED, 0), "carried"
                )
                owner.wait(lambda: "LEFT bob TAKEOVER" in [told(n) for n in owner.news], "LEFT")
                check(
                    not [n for n in owner.news if told(n).startswith("LEFT alice")],
                    f"he has not left: {[told(n) for n in owner.news]}",
                )
                owner.do("room_publish", room="make:1", payload=b"hi")
                check_equal(new.collect(here, 1)[0].payload, b"hi", "what comes then")
                other.expect_nothing(0.1)
                found, _ = owner.members("make:1")
                check_equal(
                    [(m.user, m.epoch, m.carry) for m in found],
                    [("alice", new.welcome.epoch, True)],
                    "members",
                )


def scene_remove():
    with Broker(options()) as broker, Owner(broker) as owner, Member(broker, "alice") as alice:
        here = alice.join("talk:1")
        result = owner.do(
            "room_remove", room="talk:1", users=["alice", "bob"], detail="bad manners"
        )
        check_equal((code_name(result), result.push.accepted), ("OK", 1), "RoomRemove")
        check_equal(codes(result), {"bob": "NOT_ONLINE"}, "failures")
        state = alice.state()
        check_equal((state.state, state.detail), (State.REMOVED, "bad manners"), "REMOVED")
        owner.wait_news("OPENED ASKED", "JOINED alice ASKED", "LEFT alice SERVICE")
        alice.post("publish", room=here.room, payload=b"x")
        alice.expect_error("NOT_MEMBER")
        result = owner.do("room_remove", room="talk:1", users=["alice"])
        check_equal(code_name(result), "NOT_MEMBER", "of one name its code")


def scene_codes():
    """Each reason that a service can be told, at its limit and one beyond."""
    with Broker(
        options(rooms__per_user=2, rooms__count=3, rooms__deliveries_per_second=4)
    ) as broker:
        with Owner(broker) as owner, Member(broker, "alice") as alice:
            others = [Member(broker, f"u{i}") for i in range(3)]

            def code(kind, **fields):
                return code_name(owner.do(kind, **fields))

            for kind in ("room_close", "room_publish", "room_members"):
                check_equal(code(kind, room="make:1"), "NO_ROOM", kind)
            for kind in ("room_add", "room_remove"):
                check_equal(code(kind, room="make:1", users=["alice"]), "NO_ROOM", kind)
                check_equal(code(kind, room="make:1", users=["nobody"]), "NOT_ONLINE", kind)
            check_equal(code("room_open", room="nothing"), "NO_ROOM", "no class")
            check_equal(code("room_open", room="a b"), "MALFORMED", "no name")
            check_equal(code("room_open", room="make:1"), "OK", "RoomOpen")
            epoch = alice.welcome.epoch
            check_equal(
                code("room_add", room="make:1", users=["alice"], epochs=[epoch + 1]),
                "STALE_EPOCH",
                "",
            )
            check_equal(
                code("room_add", room="make:1", users=["alice"], epochs=[epoch]), "OK", "that login"
            )
            check_equal(
                code("room_add", room="make:1", users=["alice"], epochs=[1, 2]), "MALFORMED", ""
            )
            check_equal(code("room_add", room="make:1", users=["alice"]), "OK", "a member already")
            result = owner.do("room_add", room="make:1", users=["u0", "u1", "u2"])
            check_equal(
                (result.push.accepted, codes(result)), (2, {"u2": "ROOM_FULL"}), "members=3"
            )
            for room in ("make:2", "make:3"):
                check_equal(code("room_open", room=room), "OK", room)
            check_equal(code("room_open", room="make:4"), "FULL", "rooms.count")
            check_equal(code("room_add", room="make:2", users=["alice"]), "OK", "rooms.per_user")
            check_equal(code("room_add", room="make:3", users=["alice"]), "FULL", "and one more")
            said = [code("room_publish", room="make:1", payload=b"x") for _ in range(3)]
            check("RATE_LIMITED" in said, f"rooms.deliveries_per_second: {said}")
            for other in others:
                other.close()


def scene_too_large():
    with Broker(options(limits__frame_bytes=4096)) as broker, Owner(broker) as owner:
        owner.do("room_open", room="make:1")
        for size, wanted in ((3900, "OK"), (4096, "TOO_LARGE")):
            result = owner.do("room_publish", room="make:1", payload=b"x" * size)
            check_equal(code_name(result), wanted, f"{size} bytes")


# --- looking ---------------------------------------------------------------------------------------


def run(name, *arguments):
    """The exit code, what it says as JSON lines where it does, and its complaints."""
    done = subprocess.run(
        [program(name), *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, lines, done.stderr or done.stdout


def lines_of(broker, *arguments):
    return run("usherctl", "--url", broker.link_url, "--json", *arguments)


def scene_listing():
    """Rooms by name, page by page, by the link and without; and who is in one."""
    with Broker(options()) as broker, Owner(broker) as owner:
        names = sorted(f"make:{i}" for i in range(30))
        results = owner.submit(*[command("room_open", room=name) for name in reversed(names)])
        check_equal({code_name(result) for result in results}, {"OK"}, "RoomOpen")
        owner.do("room_open", room="talk:1")
        found, after = [], ""
        while True:
            page = owner.query(command("rooms", prefix="make:", after=after, limit=7)).rooms
            found += [room.name for room in page.rooms]
            if not page.more:
                break
            after = found[-1]
        check_equal(found, names, "Rooms")
        with Member(broker, "alice") as alice, Member(broker, "bob") as bob:
            alice.join("talk:1")
            bob.join("talk:1")
            bob.drop()
            owner.wait(lambda: [n for n in owner.news if told(n).startswith("AWAY")], "AWAY")
            page = owner.query(command("room_members", room="talk:1")).members
            check_equal(
                [(m.user, m.away) for m in page.members],
                [("alice", False), ("bob", True)],
                "members",
            )
            found, _ = owner.members("talk:1", limit=1)
            check_equal([m.user for m in found], ["alice", "bob"], "page by page")
            code, lines, _ = lines_of(broker, "room", "talk:1")
            check_equal(code, 0, "usherctl room")
            check_equal(
                [(line["user"], line["state"]) for line in lines],
                [("alice", "here"), ("bob", "away")],
                "usherctl room",
            )
            code, lines, _ = lines_of(broker, "rooms", "talk")
            check_equal(code, 0, "usherctl rooms")
            check_equal(
                [
                    (line["room"], line["members"], line["away"], line["owner"], line["class"])
                    for line in lines
                ],
                [("talk:1", 2, 1, "maker", "talk:*")],
                "usherctl rooms",
            )
            code, lines, _ = lines_of(broker, "rooms")
            check_equal([line["room"] for line in lines], names + ["talk:1"], "usherctl rooms")
        code, _, words = lines_of(broker, "room", "talk:2")
        check(code == 1 and "no-room" in words, f"usherctl room: {code} {words}")


def scene_the_token_says_where():
    """The claim `rooms`, also over a restart of the broker, and without it nowhere."""
    key = Key("HS256", "k")
    keys = Keys(key)
    with keys.broker({"rooms.classes": CLASSES}) as broker:
        alice = Member(broker, "alice", welcome=True)
        alice.login("alice", token=key.sign("alice", rooms=["key:a*", "key:b"]))
        for room in ("key:a", "key:a7", "key:b"):
            check_equal(alice.join(room).state, State.JOINED, room)
        alice.post("join", room="key:b7")  # nobody has made it, and he may not
        alice.expect_error("NO_ROOM")
        bob = Member(broker, "bob", welcome=True)
        bob.login("bob", token=key.sign("bob"))
        bob.post("join", room="key:a")
        bob.expect_error("FORBIDDEN")
        bad = Member(broker, "eve", welcome=True)
        bad.post("login", username="eve", token=key.sign("eve", rooms=["a b"]))
        bad.expect_error("UNAUTHENTICATED")
        broker.stop()
        _, rows, _ = run("usher-store", "dump", broker.options["store.path"])
        rooms = {row["user"]: row.get("rooms") for row in rows if row.get("row") == "session"}
        check_equal(rooms, {"alice": "key:a* key:b", "bob": None}, "usher-store dump")
        broker.restart()
        again = alice.come_back([])
        again.pump(lambda: False, 0.1)
        check_equal(again.join("key:a9").state, State.JOINED, "after a restart")
        again.post("join", room="key:c")
        again.expect_error("NO_ROOM")


def scene_many_claims():
    """One thread judges a token while another one reads its connection: the login belongs to one of them."""
    key = Key("HS256", "k")
    tokens = {f"u{i}": key.sign(f"u{i}", rooms=["key:a*", "key:b"]) for i in range(20)}
    free = {"limits.takeovers_per_minute": 0, "limits.logins_per_minute_per_user": 0}
    with Keys(key).broker({**free, "rooms.classes": CLASSES}) as broker:
        for _ in range(scaled(60)):
            clients = [Client(broker) for _ in tokens]
            for client, (user, token) in zip(clients, tokens.items()):
                client.post("login", username=user, token=token)
            for client in clients:
                client.expect("welcome")
                client.drop()


def scene_tokens_by_hand():
    """usher-token writes the claim, and says what stands in one; what is no list of rooms it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        keys, token = os.path.join(folder, "keys"), os.path.join(folder, "token")
        sign = ("sign", "--keys", keys, "--sub", "alice", "--rooms")
        check_equal(run("usher-token", "keygen", "--out", keys)[0], 0, "keygen")
        check_equal(run("usher-token", *sign, "lobby,m:*,*", "--out", token)[0], 0, "sign")
        code, _, words = run("usher-token", "check", "--keys", keys, "--token-file", token)
        check(code == 0 and words.strip().endswith("rooms lobby m:* *"), f"check: {code} {words}")
        most = ",".join(f"r{i}" for i in range(16))
        check_equal(run("usher-token", *sign, most)[0], 0, "sixteen")
        for wrong in (most + ",r16", "", "a b", "a,,b", "a*b", "#a"):
            code, _, words = run("usher-token", *sign, wrong)
            check(code == 64 and "--rooms" in words, f"--rooms {wrong!r}: {code} {words}")


if __name__ == "__main__":
    play(
        scene_yes_and_no,
        scene_no_to_who_would_make_it,
        scene_nobody_answers,
        scene_an_ask_outlives_its_instance,
        scene_all_that_happens,
        scene_failover,
        scene_a_room_stays_where_it_is,
        scene_a_gap_is_seen,
        scene_open_and_close,
        scene_carry,
        scene_remove,
        scene_codes,
        scene_too_large,
        scene_listing,
        scene_the_token_says_where,
        scene_many_claims,
        scene_tokens_by_hand,
    )
