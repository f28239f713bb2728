# SPDX-License-Identifier: Apache-2.0
"""A traceparent of W3C Trace Context: who calls, sends or pushes may give one, it comes unchanged to who
gets the call or the message, through the inbox and a restart too, and an operator sees its trace id; what
is none costs nobody his message."""

import contextlib
import json
import subprocess

from usherplay import (
    Backend,
    Broker,
    Client,
    backend_pb,
    check,
    check_equal,
    eventually,
    play,
    program,
)
from usherplay.backend import code_name

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
NONE = [
    "ff" + PARENT[2:],
    PARENT.upper(),
    PARENT[:-1],
    PARENT + "0",
    PARENT + "-more",
    f"00-{'0' * 32}-00f067aa0ba902b7-01",
    f"00-{TRACE_ID}-{'0' * 16}-01",
    PARENT.replace("-", "_"),
    "\N{FULLWIDTH DIGIT ZERO}" + PARENT[3:],
    "0" * 55,
    "x" * 5000,
]


def counted(broker):
    return Backend(broker).numbers("stats")["traceparents_invalid"]


def push(traceparent, *to):
    body = backend_pb.Push(to=to, payload=b"hi", traceparent=traceparent)
    return backend_pb.Command(push=body)


def kept(traceparent, *to):
    body = backend_pb.Push(to=to, payload=b"gift", keep_s=3600, traceparent=traceparent)
    return backend_pb.Command(push=body)


def push_all(traceparent):
    return backend_pb.Command(push_all=backend_pb.PushAll(payload=b"all", traceparent=traceparent))


def scene_unchanged():
    """To the instance that gets the call, to who is sent to, to whom is pushed."""
    with Broker() as broker, Backend(broker, service="shop") as shop:
        with Client(broker) as alice, Client(broker) as bob:
            alice.login("alice")
            bob.login("bob", acks=True)
            for given in (PARENT, "fe" + PARENT[2:]):
                alice.post("call", service="shop", method="buy", traceparent=given)
                call = shop.next_call()
                check_equal(call.traceparent, given, "beside the call")
                shop.reply(call, 0, b"sold")
                alice.expect("reply")
                alice.send("bob", b"x", traceparent=given)
                check_equal(bob.expect("message").message.traceparent, given, "beside the Send")
                shop.submit(push(given, "bob"), push(given, "alice", "bob"), push_all(given))
                for client, count in ((alice, 2), (bob, 3)):
                    for _ in range(count):
                        got = client.expect("message").message.traceparent
                        check_equal(got, given, f"beside a push to {client.name}")
            alice.post("call", service="shop", method="buy")
            check_equal(shop.next_call().traceparent, "", "none was given")
            alice.send("bob", b"x")
            check_equal(bob.expect("message").message.traceparent, "", "none was given")
        check_equal(counted(broker), 0, "traceparents_invalid")


def scene_none():
    """As if it were absent, and counted: nobody's message is refused for it."""
    with Broker() as broker, Backend(broker, service="shop") as shop:
        with Client(broker) as alice:
            alice.login("alice")
            for given in NONE:
                alice.post("call", service="shop", method="buy", traceparent=given)
                call = shop.next_call()
                check_equal(call.traceparent, "", f"beside a call with {given[:60]}")
                shop.reply(call, 0, b"sold")
                alice.expect("reply", payload=b"sold")
                alice.send("alice", b"x", traceparent=given)
                check_equal(alice.expect("message").message.traceparent, "", "beside a message")
                results = shop.submit(push(given, "alice"), push_all(given))
                check_equal([code_name(result) for result in results], ["OK", "OK"], "pushes")
                for _ in results:
                    check_equal(alice.expect("message").message.traceparent, "", "beside a push")
        check_equal(counted(broker), 4 * len(NONE), "traceparents_invalid")


def scene_kept():
    """With what waits for a user, over a lost connection and over an orderly restart of the broker."""
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        bob = Client(broker)
        welcome = bob.login("bob", acks=True)
        alice.send("bob", b"one", traceparent=PARENT)
        alice.send("bob", b"two")
        alice.send("bob", b"x" * 1000, traceparent=PARENT)
        bob.drop()
        wanted = [(1, PARENT), (2, ""), (3, PARENT)]
        for again in range(2):
            bob = Client(broker)
            welcome = bob.resume(welcome, 0, name="bob")
            got = [bob.expect("message").message for _ in wanted]
            check_equal([(each.seq, each.traceparent) for each in got], wanted, "what waited")
            bob.drop()
            if not again:
                broker.stop()
                broker.restart()


def scene_stored():
    """With what is stored for who is away: over kill -9, to one and to several."""
    with Broker() as broker:
        with Backend(broker, service="shop") as shop, Client(broker) as alice:
            alice.login("alice", acks=True)
            results = shop.submit(
                kept(PARENT, "bob"), kept("", "bob"), kept(PARENT, "bob", "carol")
            )
            check_equal([code_name(each) for each in results], ["OK"] * 3, "pushes")
            alice.send("alice", b"x", keep_s=3600, traceparent=PARENT)
            check_equal(alice.expect("message").message.traceparent, PARENT, "at once")
        broker.kill()
        broker.restart()
        wanted = {"bob": [PARENT, "", PARENT], "carol": [PARENT], "alice": [PARENT]}
        for name, traces in wanted.items():
            with Client(broker) as client:
                check_equal(client.login(name, acks=True).stored_messages, len(traces), name)
                got = [client.expect("message").message.traceparent for _ in traces]
                check_equal(got, traces, f"what was stored for {name}")


def start(broker, user):
    order = backend_pb.Trace(user=user, action=backend_pb.Trace.START)
    result = Backend(broker).query(backend_pb.Command(trace=order))
    check_equal(code_name(result), "OK", f"a trace of {user}")


def records_of(broker, user):
    order = backend_pb.Trace(user=user, action=backend_pb.Trace.READ)
    result = Backend(broker).query(backend_pb.Command(trace=order))
    return [json.loads(line) for line in result.lines.lines]


def stages(records, direction, id):
    return [
        (record["stage"], record.get("trace_id"))
        for record in records
        if (record["direction"], record["id"]) == (direction, id)
    ]


def scene_followed():
    """Beside each step of a followed user's message, the answer's too."""
    with Broker() as broker, Backend(broker, service="shop") as shop:
        with Client(broker) as alice, Client(broker) as bob:
            alice.login("alice", acks=True)
            bob.login("bob")
            start(broker, "alice")
            call = alice.post("call", service="shop", method="buy", traceparent=PARENT)
            shop.reply(shop.next_call(), 0, b"sold")
            alice.expect("reply")
            without = alice.post("call", service="shop", method="buy")
            shop.reply(shop.next_call(), 0, b"sold")
            alice.expect("reply")
            none = alice.post("send", to="bob", payload=b"x", traceparent=PARENT.upper())
            alice.expect("done")
            bob.send("alice", b"hi", traceparent=PARENT)
            alice.expect("message", seq=1)
            alice.ask("ack", seq=1)
            alice.ping()
            records = eventually(
                lambda: ("acked", TRACE_ID) in stages(all := records_of(broker, "alice"), "out", 1)
                and all,
                "the acknowledgement",
            )
            check_equal(
                stages(records, "in", call),
                [("arrived", TRACE_ID), ("turn", TRACE_ID), ("acked", TRACE_ID)],
                "the call",
            )
            for id in (without, none):
                check_equal({id for _, id in stages(records, "in", id)}, {None}, "without one")
            check_equal(
                stages(records, "out", 1),
                [("queued", TRACE_ID), ("sent", TRACE_ID), ("acked", TRACE_ID)],
                "the message",
            )


@contextlib.contextmanager
def running(*command, **options):
    process = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def usher(broker, user, *arguments):
    return [program("usher"), *arguments, "--port", str(broker.port), "--user", user]


def usherctl(broker, *arguments):
    return [program("usherctl"), "--url", broker.link_url, *arguments]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout


def scene_service_in_c():
    """libusher and libusher-backend: from usher call through the broker to usher-echo."""
    echo = (program("usher-echo"), "--url")
    with Broker() as broker, running(*echo, broker.link_url, stderr=subprocess.PIPE) as service:
        check("linked" in service.stderr.readline(), "usher-echo")
        called = ["call", "--service", "echo", "--method", "traceparent", "--json"]
        for given in (PARENT, None):
            more = ["--traceparent", given] if given else []
            code, said = run(usher(broker, "alice", *called, *more))
            check_equal((code, json.loads(said)["payload"]), (0, given or ""), "what it was given")
        for none in ("", PARENT.upper(), PARENT + "0"):
            code, _ = run(usher(broker, "alice", *called, "--traceparent", none))
            check_equal(code, 64, f"exit code with {none}")


def scene_programs():
    """From usherctl push and usher send to usher listen; and usherctl trace tells those of one trace
    from the others."""
    with Broker() as broker:
        listen = usher(broker, "bob", "listen", "--json", "--count", "3", "--timeout", "30")
        trace = usherctl(broker, "trace", "bob", "--seconds", "3", "--trace-id", TRACE_ID)
        with running(*listen, stdout=subprocess.PIPE) as bob:
            check_equal(json.loads(bob.stdout.readline())["event"], "WELCOME", "bob's first event")
            with running(*trace, stdout=subprocess.PIPE) as follower:
                read = backend_pb.Trace(user="bob", action=backend_pb.Trace.READ)
                eventually(
                    lambda: not Backend(broker).query(backend_pb.Command(trace=read)).code,
                    "bob is followed",
                )
                traced = ["--traceparent", PARENT]
                for command in (
                    usherctl(broker, "push", "bob", "1", *traced),
                    usherctl(broker, "push-all", "2"),
                    usher(broker, "alice", "send", "--to", "bob", *traced, "3"),
                ):
                    check_equal(run(command)[0], 0, f"exit code of {command[1:]}")
                events = [json.loads(line) for line in bob.stdout]
                check_equal(
                    [(event["payload"], event.get("traceparent")) for event in events],
                    [("1", PARENT), ("2", None), ("3", PARENT)],
                    "what usher listen was given",
                )
                lines = [json.loads(line) for line in follower.stdout]
                check_equal(follower.wait(20), 0, "usherctl trace")
                check_equal({line["id"] for line in lines}, {1, 3}, "the messages of the trace")
                check_equal({line["trace_id"] for line in lines}, {TRACE_ID}, "their trace id")
        for words in (
            ["trace", "bob", "--trace-id", "1"],
            ["push", "bob", "x", "--traceparent", "1"],
        ):
            check_equal(run(usherctl(broker, *words))[0], 64, f"exit code of {words}")


play(
    scene_unchanged,
    scene_none,
    scene_kept,
    scene_stored,
    scene_followed,
    scene_service_in_c,
    scene_programs,
)
