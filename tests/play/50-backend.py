# SPDX-License-Identifier: Apache-2.0
"""Backends: calls and replies, instances that come and go, commands, and hostile peers."""

import socket
import struct
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    Link,
    LinkClosed,
    LinkRefused,
    Failed,
    backend_pb,
    check,
    check_equal,
    client_pb,
    eventually,
    free_port,
    play,
)
from usherplay.backend import SP_REQ, SP_HEADER, code_name, connect, push, reply_to, state_name

# A link that notices losses quickly.
QUICK = {"link.park_ms": 200, "link.grace_ms": 300, "link.fetch_timeout_ms": 800}
LOST_SECONDS = 4.0  # grace, timeout and a slow machine


def refused(code, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except LinkRefused as error:
        check_equal(error.code, code, "refusal")
        return
    raise Failed(f"not refused with {code}")


def scene_hello():
    with Broker({"node.name": "node-7", "link.park_ms": 1234}) as broker:
        with Backend(broker, service="chat") as backend:
            accepted = backend.accepted
            check(accepted.link > 0, "link 0")
            check_equal(accepted.node, "node-7", "node")
            check(accepted.node_boot, "no node_boot")
            check_equal(accepted.park_ms, 1234, "park_ms")
            check_equal(accepted.frame_bytes_max, 16384, "frame_bytes_max")
            began = time.monotonic()
            batch = backend.fetch(wait_ms=0)  # 0: park_ms
            took = time.monotonic() - began
            check(not batch.mail and not batch.presence, "an empty batch is not empty")
            check(1.0 < took < 3, f"an empty Fetch was answered after {took:.2f} s")
            again = Backend(broker, service="chat")
            check(again.link != backend.link, "two links have one number")
            check_equal(again.node_boot, backend.node_boot, "node_boot")
            again.close()


def scene_call():
    with Broker() as broker, Client(broker) as alice:
        welcome = alice.login("alice")
        with Backend(broker, service="chat") as backend:
            began = time.monotonic()
            id = alice.post("call", service="chat", method="say", payload=b"hi", timeout_ms=9000)
            call = backend.expect_call()
            check_equal(
                (call.user, call.epoch, call.method, call.payload, call.redelivered),
                ("alice", welcome.epoch, "say", b"hi", False),
                "the call",
            )
            check(call.call != 0, "a call without a number")
            check(7000 < call.timeout_ms <= 9000, f"timeout_ms {call.timeout_ms}")
            check_equal(code_name(backend.reply(call, 7, b"answer")), "OK", "result of ReplyTo")
            alice.expect("reply", id=id, status=7, payload=b"answer")
            print(f"     call and reply in {(time.monotonic() - began) * 1000:.1f} ms")
            check_equal(code_name(backend.reply(call, 7, b"answer")), "GONE", "a second reply")
            check_equal(code_name(backend.reply(call.call + 1000)), "GONE", "a reply to no call")
            alice.expect_nothing(0.1)
            alice.post("call", id=0, service="chat", method="note", payload=b"one way")
            call = backend.expect_call()
            check_equal((call.call, call.method), (0, "note"), "a call that wants no reply")


def scene_order_of_calls():
    count = 300
    with Broker({"limits.calls_per_user": 1000}) as broker, Client(broker) as alice:
        alice.login("alice")
        with Backend(broker, service="chat") as backend:
            for number in range(count):
                alice.post("call", service="chat", method="n", payload=b"%d" % number)
            calls = [backend.expect_call() for _ in range(count)]
            check_equal([int(call.payload) for call in calls], list(range(count)), "the order")
            for start in range(0, count, 50):
                backend.submit(
                    *[reply_to(call, 0, call.payload) for call in calls[start : start + 50]]
                )
            for number in range(count):
                check_equal(alice.answer_to(number + 2).reply.payload, b"%d" % number, "reply")


def scene_no_service():
    with Broker(QUICK) as broker, Client(broker) as alice:
        alice.login("alice")
        alice.post("call", service="chat", method="say")
        alice.expect_error("NO_SERVICE")
        observer = Backend(broker)  # an empty service only observes
        alice.post("call", service="", method="say")
        frame = alice.answer_to(alice.last_id)
        check_equal(frame.WhichOneof("body"), "error", "a call to the service without a name")
        observer.close()


def scene_timeout():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        with Backend(broker, service="slow") as backend:
            began = time.monotonic()
            id = alice.post("call", service="slow", method="m", timeout_ms=300)
            call = backend.expect_call()
            alice.expect_error("TIMEOUT", id=id)
            took = time.monotonic() - began
            print(f"     TIMEOUT after {took * 1000:.0f} ms (asked for 300)")
            check(0.28 < took < 2, f"timed out after {took:.2f} s")
            check_equal(code_name(backend.reply(call, 0, b"late")), "GONE", "a late reply")
            alice.expect_nothing(0.1)
    with Broker({"limits.call_timeout_ms": 200}) as broker, Client(broker) as alice:
        alice.login("alice")
        with Backend(broker, service="slow"):
            alice.post("call", service="slow", method="m")  # the broker's own deadline
            alice.expect_error("TIMEOUT")


def scene_calls_per_user():
    with Broker({"limits.calls_per_user": 4}) as broker, Client(broker) as alice:
        alice.login("alice")
        with Backend(broker, service="slow") as backend, Client(broker) as bob:
            bob.login("bob")
            ids = [alice.post("call", service="slow", method="m") for _ in range(5)]
            error = alice.expect("error", id=ids[4]).error
            check(
                error.code in (client_pb.Error.BUSY, client_pb.Error.RATE_LIMITED),
                f"one call too many: {client_pb.Error.Code.Name(error.code)}",
            )
            bob.post("call", service="slow", method="m")  # another user has calls of his own
            calls = [backend.expect_call() for _ in range(5)]
            backend.submit(*[reply_to(call) for call in calls])
            for id in ids[:4]:
                check_equal(alice.answer_to(id).WhichOneof("body"), "reply", f"answer to {id}")
            bob.expect("reply")
            check_equal(alice.post("call", service="slow", method="m"), 7, "the next id")
            backend.reply(backend.expect_call())
            alice.expect("reply", id=7)


def scene_calls_of_all_users():
    with Broker({"link.calls_max": 3}) as broker, Client(broker) as alice, Client(broker) as bob:
        alice.login("alice")
        bob.login("bob")
        with Backend(broker, service="slow") as backend:
            for _ in range(2):  # what is answered, timed out or replaced makes room again
                alice.post("call", service="slow", method="m", timeout_ms=300)
                alice.post("call", service="slow", method="m")
                bob.post("call", service="slow", method="m")
                calls = [backend.expect_call() for _ in range(3)]
                bob.post("call", service="slow", method="m")
                bob.expect_error("BUSY")
                check_equal(alice.expect("error").error.code, client_pb.Error.TIMEOUT, "code")
                newer = Client(broker)
                newer.login("bob")  # forgets the calls of the login before
                bob.close()
                bob = newer
                backend.submit(*[reply_to(call) for call in calls])
                alice.expect("reply")
        bob.close()


def scene_instance_dies():
    with Broker(QUICK) as broker, Client(broker) as alice:
        alice.login("alice")
        backend = Backend(broker, service="chat")
        backend.fetch(wait_ms=1)
        ids = [alice.post("call", service="chat", method="m", timeout_ms=30000) for _ in range(3)]
        backend.fetch()
        backend.lose()
        began = time.monotonic()
        got = sorted(
            alice.expect("error", timeout=LOST_SECONDS, code=client_pb.Error.SERVICE_LOST).id
            for _ in ids
        )
        took = time.monotonic() - began
        check_equal(got, ids, "the calls that were answered")
        print(f"     SERVICE_LOST {took * 1000:.0f} ms after the loss (grace 300)")
        alice.post("call", service="chat", method="m")
        alice.expect_error("NO_SERVICE")
        back = Backend(broker, service="chat")
        alice.post("call", service="chat", method="m")
        back.reply(back.expect_call())
        alice.expect("reply")
        back.close()


def scene_instance_dies_while_it_waits():
    """A parked Fetch shows the loss at once, so that only the grace time passes."""
    with Broker({**QUICK, "link.park_ms": 20000, "link.fetch_timeout_ms": 30000}) as broker, Client(
        broker
    ) as alice:
        alice.login("alice")
        backend = Backend(broker, service="chat")
        backend.fetch(wait_ms=1)
        alice.post("call", service="chat", method="m", timeout_ms=30000)
        backend.fetch()
        backend.mail.clear()
        backend.mail_done = 0
        request = backend_pb.LinkRequest(fetch=backend_pb.Fetch(link=backend.link, mail_done=1))
        backend.fetcher.post(request.SerializeToString())
        time.sleep(0.2)
        backend.lose()
        began = time.monotonic()
        alice.expect("error", timeout=LOST_SECONDS, code=client_pb.Error.SERVICE_LOST)
        print(
            f"     SERVICE_LOST {(time.monotonic() - began) * 1000:.0f} ms after the loss "
            f"(grace 300)"
        )


def scene_instance_dies_while_it_is_busy():
    """Its last Fetch has just been answered and no other one waits: the end of its connection says it all
    the same, so that its calls are answered, or go to another, after the grace time and not after the
    time in which it would have to ask again."""
    quick = {**QUICK, "link.fetch_timeout_ms": 60000}
    for others in (False, True):
        with Broker(quick) as broker, Client(broker) as alice:
            alice.login("alice")
            backend = Backend(broker, service="chat")
            backend.fetch(wait_ms=1)
            alice.post("call", service="chat", method="m", timeout_ms=60000)
            backend.fetch()
            check_equal(len(backend.mail), 1, "the call is there")
            if not others:
                backend.fetch(wait_ms=1)  # acknowledges it: nobody else gets it
            other = Backend(broker, service="chat", instance="other") if others else None
            backend.submit(backend_pb.Command(count=backend_pb.Count()))
            backend.lose()
            began = time.monotonic()
            if others:
                other.reply(other.expect_call(30), payload=b"again")
                alice.expect("reply", payload=b"again")
            else:
                alice.expect("error", timeout=30, code=client_pb.Error.SERVICE_LOST)
            took = time.monotonic() - began
            print(
                f"     {'handed on' if others else 'SERVICE_LOST'} {took * 1000:.0f} ms after the loss "
                f"(grace 300, fetch timeout 60000)"
            )
            broker.wait_log("link_lost")
            check_equal(len(broker.log_events("link_lost")), 1, "lost instances")
            if other:
                other.close()


def scene_instance_falls_silent():
    """The connections stay, but nothing is asked for any more: noticed by time."""
    with Broker(QUICK) as broker, Client(broker) as alice:
        alice.login("alice")
        backend = Backend(broker, service="chat")
        backend.fetch(wait_ms=1)
        alice.post("call", service="chat", method="m", timeout_ms=30000)
        began = time.monotonic()
        alice.expect("error", timeout=LOST_SECONDS, code=client_pb.Error.SERVICE_LOST)
        print(
            f"     SERVICE_LOST {(time.monotonic() - began) * 1000:.0f} ms after the last word "
            f"(fetch timeout 800)"
        )
        refused("STALE_LINK", backend.fetch)
        backend.close()


def scene_instance_comes_back():
    """Connections lost and made again within the grace time: nobody notices."""
    with Broker({**QUICK, "link.grace_ms": 3000, "link.fetch_timeout_ms": 5000}) as broker, Client(
        broker
    ) as alice:
        alice.login("alice")
        backend = Backend(broker, service="chat")
        backend.fetch(wait_ms=1)
        id = alice.post("call", service="chat", method="m", timeout_ms=30000)
        backend.lose()
        time.sleep(0.5)
        call = backend.expect_call()  # the same link, over new connections
        backend.reply(call, 0, b"here")
        alice.expect("reply", id=id, payload=b"here")
        backend.close()


def scene_mail_is_repeated_until_done():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        with Backend(broker, service="chat") as backend:
            alice.post("call", service="chat", method="m")
            first = backend.fetch(wait_ms=1000)
            check_equal(len(first.mail), 1, "mails of the first Fetch")
            backend.mail_done = 0  # as if the answer had been lost
            backend.mail.clear()
            second = backend.fetch(wait_ms=1000)
            for mail in (first.mail[0], second.mail[0]):
                mail.call.timeout_ms = 0  # what is left, so less the second time
            check_equal(second.mail[0], first.mail[0], "the mail that came again")
            check(not backend.fetch(wait_ms=50).mail, "mail that was done came again")
            backend.reply(backend.expect_call())
            alice.expect("reply")


def scene_two_instances():
    with Broker({**QUICK, "session.resume_ms": 60000}) as broker:
        instances = [Backend(broker, service="chat", instance=name) for name in ("one", "two")]
        users = []
        for number in range(20):
            client = Client(broker)
            client.login(f"user{number}")
            users.append(client)
        owners = {}
        for turn in range(3):
            for client in users:
                client.post("call", service="chat", method=f"turn{turn}", timeout_ms=30000)
            seen = 0
            deadline = time.monotonic() + 20
            while seen < len(users):
                check(time.monotonic() < deadline, f"{seen} of {len(users)} calls arrived")
                for backend in instances:
                    backend.fetch(wait_ms=20)
                    while (call := backend.next_call(0)) is not None:
                        seen += 1
                        owner = owners.setdefault(call.user, backend.instance)
                        check_equal(backend.instance, owner, f"the instance of {call.user}")
                        backend.reply(call, 0, backend.instance.encode())
            for client in users:
                client.expect("reply", payload=owners[client.name].encode())
        share = sorted(owners.values()).count("one")
        print(f"     {share} users at one, {len(users) - share} at two")
        check(0 < share < len(users), "all users went to one instance")
        one, two = instances
        move_users(one, two, users, owners)
        for client in users:
            client.drop()
        two.close()


def scene_drain():
    """A drained instance keeps its users and gets no new ones; it is told, and a Hello undoes it."""

    def owner_of(client):
        client.post("call", service="chat", method="m")
        for _ in range(50):
            for backend in (one, two):
                backend.fetch(wait_ms=10)
                call = backend.next_call(0)
                if call is not None:
                    backend.reply(call)
                    client.expect("reply")
                    return backend
        raise Failed(f"nobody got the call of {client.name}")

    with Broker() as broker:
        one = Backend(broker, service="chat", instance="one")
        two = Backend(broker, service="chat", instance="two")
        clients = []

        def newcomers(count):
            fresh = [Client(broker) for _ in range(count)]
            for client in fresh:
                client.login(f"user{len(clients)}")
                clients.append(client)
            return {client: owner_of(client) for client in fresh}

        before = newcomers(12)
        check(set(before.values()) == {one, two}, "all users went to one instance")
        one.submit(backend_pb.Command(drain=backend_pb.Drain()))
        batch = one.fetch(wait_ms=1000)
        controls = [mail for mail in batch.mail if mail.WhichOneof("body") == "control"]
        check_equal(
            [mail.control.kind for mail in controls],
            [backend_pb.Control.DRAIN],
            "what the drained instance is told",
        )
        check_equal(set(newcomers(12).values()), {two}, "where new users go")
        for client, backend in before.items():
            check(owner_of(client) is backend, f"{client.name} was moved")
        one.hello()
        check(one in newcomers(24).values(), "no new user after the Hello")
        for client in clients:
            client.close()


def move_users(one, two, users, owners):
    """Instance one dies with calls that it fetched: they are answered, by two or as lost."""
    ids = {
        client: client.post("call", service="chat", method="last", timeout_ms=30000)
        for client in users
    }
    batch = one.fetch(wait_ms=200)  # what has arrived by then: perhaps not all
    seen_by_one = {mail.call.user for mail in batch.mail}
    one.lose()
    moved = set()
    deadline = time.monotonic() + LOST_SECONDS + 2
    waiting = dict(ids)
    lost = 0
    while waiting:
        check(time.monotonic() < deadline, f"{len(waiting)} calls without an answer")
        two.fetch(wait_ms=50)
        while (call := two.next_call(0)) is not None:
            if owners[call.user] == "one":
                check_equal(
                    call.redelivered,
                    call.user in seen_by_one,
                    f"the call of {call.user}, marked redelivered",
                )
                moved.add(call.user)
            two.reply(call, 0, b"two")
        for client, id in list(waiting.items()):
            client.receive_more(0.001)
            if not client.frames:
                continue
            frame = client.next_frame()
            check_equal(frame.id, id, "the id of the answer")
            lost += frame.WhichOneof("body") == "error"
            del waiting[client]
    for client in users:
        client.expect_nothing(0)
    print(f"     one died: {len(moved)} calls moved to two, {lost} were answered as lost")
    for client in users:  # from now on everybody is at two
        client.post("call", service="chat", method="after")
        two.reply(two.expect_call(), 0, b"two")
        client.expect("reply", payload=b"two")


def scene_push():
    with Broker() as broker, Client(broker) as alice, Client(broker) as bob:
        first = alice.login("alice").epoch
        bob.login("bob")
        with Backend(broker, service="chat") as backend:
            result = backend.push("alice", b"one")
            check_equal((code_name(result), result.push.accepted), ("OK", 1), "push to one")
            message = alice.expect("message", payload=b"one", service="chat").message
            check_equal((getattr(message, "from"), message.seq), ("", 1), "sender and seq")
            result = backend.push(["alice", "nobody", "bob", "a b"], b"many")
            check_equal(result.push.accepted, 2, "push to many: accepted")
            failures = {
                failure.user: backend_pb.Result.Code.Name(failure.code)
                for failure in result.push.failures
            }
            check_equal(failures.get("nobody"), "NOT_ONLINE", "push to nobody")
            check_equal(len(failures), 2, "push to many: failures")
            alice.expect("message", payload=b"many", seq=2)
            bob.expect("message", payload=b"many", seq=1)
            result = backend.push("alice", b"for the first login", epoch=first)
            check_equal(result.push.accepted, 1, "push to the right epoch")
            alice.expect("message", payload=b"for the first login")
            with Client(broker) as newer:
                newer.login("alice")
                result = backend.push("alice", b"too late", epoch=first)
                codes = [code_name(failure) for failure in result.push.failures]
                check(
                    "STALE_EPOCH" in codes or code_name(result) == "STALE_EPOCH",
                    f"push to a stale epoch: {code_name(result)} {codes}",
                )
                newer.expect_nothing(0.1)
                result = backend.submit(
                    backend_pb.Command(push_all=backend_pb.PushAll(payload=b"all"))
                )[0]
                check_equal(code_name(result), "OK", "push to all")
                newer.expect("message", payload=b"all", service="chat")
                bob.expect("message", payload=b"all")
                print(f"     push to all: accepted {result.push.accepted}")
            check_equal(
                len(backend.submit(*[push("bob", b"%d" % n) for n in range(50)])), 50, "results"
            )
            for number in range(50):
                bob.expect("message", payload=b"%d" % number)


def scene_pushes_to_all_in_one_breath():
    """They travel together, and arrive one by one and in order: for who is there, for who
    acknowledges, for who is away, and between what is pushed to one alone."""

    def expect_all(client, first, payloads):
        for seq, payload in enumerate(payloads, first):
            client.expect("message", seq=seq, payload=payload, service="chat", redelivered=False)

    with Broker() as broker, Client(broker) as alice, Client(broker) as bob, Backend(
        broker, service="chat"
    ) as backend:
        alice.login("alice")
        bob.login("bob", acks=True)
        away = Client(broker)
        welcome = away.login("carol")
        away.close()
        eventually(lambda: backend.lookup("carol").sessions[0].state == 2, "carol detached")
        commands, to_all, to_alice = [], [], []
        for number in range(60):
            payload = (b"%d " % number).ljust(9000 if number in (20, 21, 22) else 10, b".")
            alone = number in (0, 7, 8, 30, 59)
            commands.append(
                push("alice", payload)
                if alone
                else backend_pb.Command(push_all=backend_pb.PushAll(payload=payload))
            )
            to_alice.append(payload)
            to_all += [] if alone else [payload]
        for round_number in range(2):
            for number, result in enumerate(backend.submit(*commands)):
                check_equal(
                    (code_name(result), result.push.accepted),
                    ("OK", 1 if commands[number].HasField("push") else 3),
                    f"{number}",
                )
            expect_all(alice, 1 + round_number * len(to_alice), to_alice)
            expect_all(bob, 1 + round_number * len(to_all), to_all)
        with Client(broker) as carol:
            carol.resume(welcome, 0, "carol")
            expect_all(carol, 1, to_all + to_all)
        numbers = backend.numbers("stats")
        check_equal(numbers["messages_accepted"], 2 * (len(to_alice) + 2 * len(to_all)), "accepted")


def scene_kick():
    with Broker() as broker, Client(broker) as alice:
        with Backend(broker, presence=True) as backend:
            first = alice.login("alice").epoch
            check_equal(code_name(backend.kick("nobody")), "NOT_ONLINE", "kick of nobody")
            check_equal(
                code_name(backend.kick("alice", epoch=first + 1)),
                "STALE_EPOCH",
                "kick of another epoch",
            )
            alice.ping()
            check_equal(
                code_name(
                    backend.kick("alice", detail="enough", retry_after_ms=1500, do_not_return=True)
                ),
                "OK",
                "kick",
            )
            close = alice.expect_close("KICKED", do_not_return=True)
            check_equal((close.detail, close.retry_after_ms), ("enough", 1500), "what Close says")
            backend.wait_event("alice", "OFFLINE", "KICKED", first)
            with Client(broker) as again:
                second = again.login("alice").epoch
                check(second > first, "the epoch was used again")
                check_equal(
                    code_name(backend.kick("alice", epoch=first)),
                    "STALE_EPOCH",
                    "kick of the old epoch",
                )
                again.ping()
                backend.kick("alice", epoch=second, reason=client_pb.Close.DRAINING)
                again.expect_close("DRAINING", do_not_return=False)
            check_equal(code_name(backend.kick("alice")), "NOT_ONLINE", "kick of one who is gone")
            detached = Client(broker)
            third = detached.login("alice").epoch
            detached.drop()
            backend.wait_event("alice", "DETACHED", epoch=third)
            check_equal(code_name(backend.kick("alice")), "OK", "kick of a detached session")
            backend.wait_event("alice", "OFFLINE", "KICKED", third)
            broker.wait_log("kicked", count=3)
            check_equal(
                [line["by"] for line in broker.log_events("kicked")],
                [f"/{backend.instance}"] * 3,
                "who kicked, in the log",
            )
        with Backend(broker, service="bank", instance="2") as bank, Client(broker) as alice:
            alice.login("alice")
            bank.kick("alice")
            check_equal(alice.expect_close("KICKED").detail, "kicked by bank", "who kicked, to him")
            check_equal(
                broker.wait_log("kicked", count=4)["by"], "bank/2", "who kicked, in the log"
            )


def scene_queries():
    with Broker() as broker:
        clients = {}
        for number in range(25):
            client = Client(broker)
            client.login(f"p-{number:02}")
            clients[client.name] = client
        with Client(broker) as other, Backend(broker) as backend:
            other.login("zoe")
            found = backend.lookup("p-03", "ghost", "zoe").sessions
            check_equal(
                [(info.user, state_name(info)) for info in found],
                [("p-03", "ONLINE"), ("ghost", "GONE"), ("zoe", "ONLINE")],
                "Lookup",
            )
            check_equal(found[0].epoch, clients["p-03"].welcome.epoch, "epoch")
            check(found[0].node and found[0].since_ms, "a session without node or time")
            sessions, pages = backend.list_all("p-", limit=10)
            check_equal([info.user for info in sessions], sorted(clients), "List")
            check_equal(pages, 3, "pages of ten")
            check_equal(len(backend.list_all()[0]), 26, "List of all")
            check_equal(backend.list_all("q-")[0], [], "List of a prefix that nobody has")
            snapshot, seq = backend.snapshot(limit=7)
            check_equal(
                sorted(info.user for info, _ in snapshot), sorted(clients) + ["zoe"], "Snapshot"
            )
            check_equal(seq, 26, "the position of the snapshot")
            count = backend.numbers("count")
            check(26 in count.values(), f"Count does not say 26: {count}")
            stats = backend.numbers("stats")
            check(len(stats) > 10, f"Stats are few: {stats}")
            check_equal(stats.get("logins"), 26, "logins in Stats")
            events = backend.all_events(limit=4)
            check_equal([event.seq for event in events], list(range(1, 27)), "Events in pages")
            check_equal(
                [event.seq for event in backend.all_events(after=20)],
                list(range(21, 27)),
                "Events after 20",
            )
            check_equal(backend.all_events(after=26), [], "Events after the last one")
        for client in clients.values():
            client.drop()


def scene_submit_once():
    with Broker() as broker, Client(broker) as bob:
        bob.login("bob")
        with Backend(broker, service="chat") as backend:
            first = backend.submit(push("bob", b"once"), push("nobody"), lane=3, seq=1)
            for _ in range(3):
                again = backend.submit(push("bob", b"once"), push("nobody"), lane=3, seq=1)
                check_equal(again, first, "the results of a repeated Submit")
            backend.submitter.close()  # the answer was lost with its connection
            backend.submitter = None
            check_equal(
                backend.submit(push("bob", b"once"), push("nobody"), lane=3, seq=1),
                first,
                "the results over another connection",
            )
            bob.expect("message", payload=b"once")
            bob.expect_nothing(0.1)
            backend.submit(push("bob", b"next"), lane=3, seq=2)
            bob.expect("message", payload=b"next")
            backend.submit(push("bob", b"other lane"), lane=1, seq=1)
            bob.expect("message", payload=b"other lane")


def scene_stale_link():
    with Broker() as broker, Client(broker) as bob:
        bob.login("bob")
        with Backend(broker, service="chat") as backend:
            good = backend.link
            for wrong in (good + 1, good ^ (1 << 40), (1 << 64) - 1):
                backend.link = wrong
                refused("STALE_LINK", backend.fetch)
                refused("STALE_LINK", backend.submit, push("bob", b"x"), seq=1)
            # Without a link there are queries alone.
            try:
                code = code_name(backend.query(push("bob", b"x")))
                check(code != "OK", "a push without a link was done")
            except LinkRefused:
                pass
            bob.expect_nothing(0.1)
            backend.link = good
            backend.fetch(wait_ms=1)
            backend.submit(push("bob", b"y"), seq=1)
            bob.expect("message", payload=b"y")


def scene_newer_incarnation():
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        older = Backend(broker, service="chat", instance="a", incarnation=10)
        older.fetch(wait_ms=1)
        id = alice.post("call", service="chat", method="m", timeout_ms=20000)
        older.expect_call()
        newer = Backend(broker, service="chat", instance="a", incarnation=11)
        refused("STALE_LINK", older.fetch)
        refused("STALE_LINK", older.submit, push("alice", b"x"))
        frame = None
        while frame is None:  # what the older one had is done by the newer one, or lost
            call = newer.next_call(0.2)
            if call is not None:
                check(call.redelivered, "the call is not marked redelivered")
                newer.reply(call, 0, b"newer")
            frame = alice.next_frame(0.05)
        check_equal(frame.id, id, "the id of the answer")
        print(f"     the older one's call was answered with {frame.WhichOneof('body')}")
        try:  # one that comes late with a lower number does not win
            Backend(broker, service="chat", instance="a", incarnation=10).close()
        except LinkRefused:
            pass
        newer.fetch(wait_ms=1)
        older.close()
        newer.close()


def scene_pipelined():
    """Two requests on one connection: the rule that keeps nng alive is enforced."""
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        with Backend(broker, service="chat") as backend:
            link = Link(broker.link_url)
            fetch = backend_pb.LinkRequest(fetch=backend_pb.Fetch(link=backend.link, wait_ms=1000))
            body = fetch.SerializeToString()
            first, second = link.post(body), link.post(body)
            id, answer = link.receive()
            reply = backend_pb.LinkAnswer.FromString(answer)
            check_equal(reply.refused.code, backend_pb.Refused.PIPELINED, "the first answer")
            check(id in (first, second), "the answer bears another id")
            try:
                id, _ = link.receive()
                print("     the other request was answered as well")
            except (LinkClosed, Failed):
                print("     the other request was dropped")
            link.close()
            alice.post("call", service="chat", method="m")
            backend.reply(backend.expect_call())
            alice.expect("reply")


def scene_malformed_requests():
    with Broker() as broker:
        with Backend(broker, service="chat") as backend:
            for body in (
                b"",
                b"\xff",
                b"\x0a\x05abc",
                b"hello",
                b"\x00" * 100,
                b"\x7a\x00",
                b"x" * 16000,
            ):
                answer = backend_pb.LinkAnswer.FromString(backend.submitter.request(body))
                check_equal(
                    answer.refused.code, backend_pb.Refused.MALFORMED, f"the answer to {body[:8]!r}"
                )
            for service in ("a b", "x" * 65, "\u00fc"):
                refused("MALFORMED", Backend, broker, service=service)
            for command in (backend_pb.Command(), push([], b"")):
                code = code_name(backend.submit(command)[0])
                print(f"     {str(command).strip() or 'an empty command'!r}: {code}")
            backend.fetch(wait_ms=1)


def try_connect(url):
    try:
        return connect(url, 2)
    except OSError:
        return None


def hostile(url):
    """Connects and misbehaves in one of many ways; gives the sockets that stay open."""
    header = SP_HEADER.pack(b"\0SP\0", SP_REQ, 0)
    lead = b"\x01" if url.startswith("ipc") else b""
    attacks = {
        "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 500,
        "wrong magic": b"\0XX\0\0\x30\0\0",
        "another protocol": SP_HEADER.pack(b"\0SP\0", 0x21, 0),
        "half a header": header[:5],
        "2^63 bytes": header + lead + struct.pack(">Q", 1 << 63),
        "2^64-1 bytes": header + lead + struct.pack(">Q", (1 << 64) - 1),
        "1 GiB": header + lead + struct.pack(">Q", 1 << 30) + b"x" * 1000,
        "beyond the limit": header + lead + struct.pack(">Q", 70000) + b"x" * 70000,
        "half a message": header + lead + struct.pack(">Q", 100) + b"x" * 50,
        "no request id": header + lead + struct.pack(">Q", 2) + b"xx",
        "an id without the top bit": header + lead + struct.pack(">Q", 4) + b"\0\0\0\1",
        "empty": header + lead + struct.pack(">Q", 0),
        "nothing": b"",
    }
    held = []
    for what, data in attacks.items():
        for keep in (True, False):
            try:
                stream = connect(url, 2)
            except OSError:
                # A listener that such a peer has killed is repaired after a moment.
                stream = eventually(lambda: try_connect(url), f"a listener after {what}")
            try:
                stream.sendall(data)
            except OSError:
                pass
            if keep:
                held.append(stream)
            else:
                stream.close()
    return held


def serving(urls, service):
    """A new backend at one of the URLs, or None. A listener of nng 1.5 that died may still take a
    connection and shake hands on it, and then never serve it: so the answer to Hello and to a
    Fetch count, and who waits too long dials again, as a backend should."""
    for url in urls:
        backend = Backend(url, service=service, hello=False, timeout=0.5)
        try:
            backend.hello()
            backend.fetch(wait_ms=1, timeout=0.5)
            return backend
        except (OSError, Failed):
            backend.close()
    return None


def scene_hostile_peers():
    tcp = [f"tcp://127.0.0.1:{free_port()}" for _ in range(3)]
    for urls in (None, tcp):
        options = {} if urls is None else {"link.urls": ",".join(urls)}
        with Broker(options) as broker, Client(broker) as alice:
            alice.login("alice")
            urls = urls or [broker.link_url]
            before = Backend(urls[0], service="chat")
            before.fetch(wait_ms=1)
            held = hostile(urls[0])
            broker.check_alive()
            alice.post("call", service="chat", method="m")
            before.reply(before.expect_call(), 0, b"before")  # who was connected goes on
            alice.expect("reply", payload=b"before")
            began = time.monotonic()
            after = eventually(lambda: serving(urls, "other"), f"service at one of {urls}", 10)
            print(
                f"     {after.url.partition(':')[0]}: serves again after "
                f"{time.monotonic() - began:.2f} s, {len(held)} hostile peers held"
            )
            alice.post("call", service="other", method="m")
            after.reply(after.expect_call(), 0, b"after")
            alice.expect("reply", payload=b"after")
            for stream in held:
                stream.close()
            before.close()
            after.close()


def scene_peers_that_die():
    """Connections that end at any point of a request, many times."""
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        with Backend(broker, service="chat") as backend:
            backend.fetch(wait_ms=1)  # connected before the storm
            fetch = backend_pb.LinkRequest(
                fetch=backend_pb.Fetch(link=backend.link, wait_ms=1000)
            ).SerializeToString()
            for number in range(100):
                link = Link(broker.link_url)
                link.post(fetch)
                if number % 2:
                    time.sleep(0.002)
                link.stream.shutdown(socket.SHUT_RDWR)
                link.close()
            alice.post("call", service="chat", method="m")
            backend.reply(backend.expect_call())
            alice.expect("reply")


if __name__ == "__main__":
    play(
        scene_hello,
        scene_call,
        scene_order_of_calls,
        scene_no_service,
        scene_timeout,
        scene_calls_per_user,
        scene_calls_of_all_users,
        scene_instance_dies,
        scene_instance_dies_while_it_waits,
        scene_instance_dies_while_it_is_busy,
        scene_instance_falls_silent,
        scene_instance_comes_back,
        scene_mail_is_repeated_until_done,
        scene_two_instances,
        scene_drain,
        scene_push,
        scene_pushes_to_all_in_one_breath,
        scene_kick,
        scene_queries,
        scene_submit_once,
        scene_stale_link,
        scene_newer_incarnation,
        scene_pipelined,
        scene_malformed_requests,
        scene_hostile_peers,
        scene_peers_that_die,
    )
