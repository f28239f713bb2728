# SPDX-License-Identifier: Apache-2.0
"""The configuration is read again while it runs: what changed holds at once, what needs a restart is
named, and a file with one fault changes nothing at all."""

import base64
import json
import os

from usherplay import (
    Backend,
    Broker,
    Client,
    ConnectionEnded,
    Failed,
    backend_pb,
    check,
    check_equal,
    client_pb,
    play,
)
from usherplay.filebroker import FileBroker
from usherplay.tls import Identity


def changes_of(lines):
    return {line["option"]: (line["from"], line["to"], line["holds"]) for line in lines}


def fill(broker, name):
    """How many messages a session without a connection takes."""
    taken = 0
    with Client(broker) as sender:
        sender.login("sender")
        while taken < 100:
            id = sender.post("send", to=name, payload=b"x")
            if sender.answer_to(id).WhichOneof("body") == "error":
                return taken
            taken += 1
    return taken


def leave(broker, name):
    with Client(broker) as client:
        client.login(name, acks=True)
        client.drop()


def scene_limits_and_level():
    """Changed limits hold for actors that exist; what cannot change is named; the same file again
    changes nothing and says again what waits for a restart."""
    with FileBroker({"limits__inbox_messages": 3}) as broker:
        leave(broker, "alice")
        check_equal(fill(broker, "alice"), 3, "messages taken before")
        broker.write(limits__inbox_messages=7, limits__users=4096, log__level="debug")
        code, lines = broker.reload()
        check_equal(code, 0, f"exit code of reload: {lines}")
        check_equal(
            changes_of(lines),
            {
                "limits.inbox_messages": ("3", "7", "now"),
                "log.level": ("info", "debug", "now"),
                "limits.users": ("131072", "4096", "after a restart"),
            },
            "what changed",
        )
        check_equal(fill(broker, "alice"), 4, "more messages taken after it")
        check_equal(broker.wait_log("reloaded")["changed"], 2, "changed, says the log")
        code, lines = broker.reload()
        check_equal((code, list(changes_of(lines))), (0, ["limits.users"]), "the second time")


def scene_calls_and_requests():
    """Limits of other owners: the link's and the I/O threads'."""
    with FileBroker({"limits__prelogin_connections": 2, "limits__calls_per_user": 1}) as broker:
        with Backend(broker, service="slow"), Client(broker) as client:
            client.login("alice")
            client.post("call", service="slow", method="m")
            client.ping()
            client.expect_error("BUSY", id=client.post("call", service="slow", method="m"))
            broker.write(limits__prelogin_connections=4, limits__calls_per_user=2)
            check_equal(broker.hup()["event"], "reloaded", "the reload")
            client.post("call", service="slow", method="m")
            client.ping()
            client.expect_error("BUSY", id=client.post("call", service="slow", method="m"))
            strangers = [Client(broker) for _ in range(5)]
            strangers[-1].expect_close("OVERLOADED")
            for stranger in strangers[:4]:
                stranger.login(f"user{strangers.index(stranger)}")
            for stranger in strangers:
                stranger.close()


def answers(client, count, to, payload):
    """How many of so many Sends at once were answered done, and with which errors."""
    ids = [client.post("send", to=to, payload=payload) for _ in range(count)]
    frames = [client.answer_to(id) for id in ids]
    errors = {
        client_pb.Error.Code.Name(frame.error.code)
        for frame in frames
        if frame.WhichOneof("body") == "error"
    }
    return sum(frame.WhichOneof("body") == "done" for frame in frames), errors


def scene_source_and_memory():
    """Limits of all: the rate of one address, for users who are in, and the budget of memory."""
    large = {"limits__inbox_bytes": 8 << 20, "limits__requests_per_second": 0}
    with FileBroker({**large, "limits__requests_per_second_per_source": 0}) as broker, Client(
        broker
    ) as client:

        def change(rate, memory, count):
            broker.write(
                **large, limits__memory_bytes=memory, limits__requests_per_second_per_source=rate
            )
            check_equal(broker.hup()["changed"], count, "options changed")

        client.login("sender")
        leave(broker, "alice")
        check_equal(answers(client, 150, "alice", b"m" * 32000), (150, set()), "before")
        change(0, 4 << 20, 1)
        check_equal(broker.wait_log("memory_level")["memory"], "full", "the level")
        check_equal(answers(client, 5, "alice", b"m" * 32000), (0, {"BUSY"}), "with less memory")
        change(20, 1 << 30, 2)
        check_equal(broker.wait_log("memory_level", count=2)["memory"], "ample", "the level")
        done, errors = answers(client, 60, "alice", b"m")
        check(done >= 20 and errors == {"RATE_LIMITED"}, f"with a rate: {done} done, {errors}")
        change(0, 1 << 30, 1)
        check_equal(answers(client, 60, "alice", b"m"), (60, set()), "without")


def scene_one_fault_changes_nothing():
    """A good change beside: a wrong value, an unknown key, broken YAML, values that do not fit
    together, a file that is missing, a token file that is empty, a file that is no longer there."""
    with FileBroker({"limits__inbox_messages": 2}) as broker:
        leave(broker, "alice")
        check_equal(fill(broker, "alice"), 2, "messages taken before")
        empty = os.path.join(broker.folder, "empty")
        open(empty, "w", encoding="ascii").close()
        good = {"limits__inbox_messages": 50}
        faults = [
            {"limits__inbox_bytes": 1},
            {"limits__inbox_massages": 9},
            {"log__level": "loud"},
            {"limits__call_timeout_ms": 50000, "limits__call_timeout_max_ms": 1000},
            {"auth__mode": "token"},
            {"link__token_file": "/nowhere/token"},
            {"link__token_file": empty},
        ]
        for fault in faults:
            broker.write(**good, **fault)
            event = broker.hup()
            check_equal(event["event"], "reload_refused", f"the reload with {fault}")
        with open(broker.path, "w", encoding="ascii") as file:
            file.write("limits: [")
        code, lines = broker.reload()
        check_equal((code, lines[0]["event"]), (1, "reload_refused"), "usherctl with broken YAML")
        check("the configuration has a fault" in broker.reload_errors, broker.reload_errors)
        os.unlink(broker.path)
        check_equal(broker.hup()["event"], "reload_refused", "without a file")
        check_equal(fill(broker, "alice"), 0, "messages taken after all that")
        broker.write(**good)
        check_equal(broker.hup()["event"], "reloaded", "the repaired file")
        check_equal(fill(broker, "alice"), 48, "messages taken in the end")


def hello(broker, token):
    try:
        Backend(broker, service="s", token=token).close()
        return True
    except (Failed, ConnectionEnded):
        return False


def scene_options_that_contradict_each_other():
    """Two options that contradict each other are refused with both names and values, at the start, by
    a reload, and when one of the two would change by a restart only. What is only odd is told."""
    with FileBroker({"limits__call_timeout_max_ms": 20000}) as broker:
        broker.write(limits__call_timeout_max_ms=9999)
        said = broker.hup()
        check_equal(said["event"], "reload_refused", "the event")
        for part in ("limits.call_timeout_ms: 10000", "limits.call_timeout_max_ms is 9999"):
            check(part in said["error"], f"the reason: {said}")
        # In step with each other, but link.frame_bytes stays at 16384 while it runs.
        broker.write(link__frame_bytes=8192, link__mail_bytes=8192)
        said = broker.hup()
        check_equal(said["event"], "reload_refused", "the event of a mixture")
        check(
            "link.frame_bytes: 16384, and link.mail_bytes is 8192" in said["error"]
            and "by a restart only" in said["error"],
            f"the reason: {said}",
        )
        broker.write(link__frame_bytes=8192, link__mail_bytes=16384)
        check_equal(broker.hup()["event"], "reloaded", "the event at the boundary")
        broker.write(limits__output_soft_bytes=2 << 20)
        check_equal(broker.hup()["event"], "reloaded", "the event of what is odd")
        odd = broker.wait_log("options_at_odds")
        check_equal(
            (odd["option"], odd["other"]),
            ("limits.output_soft_bytes", "limits.output_bytes"),
            "what is odd",
        )


def scene_tokens():
    """A new link token holds for the next Hello; who is linked stays; reload itself needs it."""
    with Broker() as other:
        first, second = (os.path.join(other.folder, name) for name in ("first", "second"))
        for path in (first, second):
            with open(path, "w", encoding="ascii") as file:
                file.write(os.path.basename(path) + "-secret\n")
        with FileBroker({"link__token_file": first}) as broker:
            linked = Backend(broker, service="old", token=b"first-secret")
            check(not hello(broker, b"second-secret"), "a token that does not hold yet")
            broker.write(link__token_file=second)
            code, lines = broker.reload()
            check_equal((code, lines), (1, []), "a reload without the token")
            code, lines = broker.reload("--token-file", first)
            check_equal((code, list(changes_of(lines))), (0, ["link.token_file"]), "with it")
            check(hello(broker, b"second-secret"), "the new token is refused")
            check(not hello(broker, b"first-secret"), "the old token is taken")
            check_equal(linked.push("nobody").code, backend_pb.Result.NOT_ONLINE, "a push")
            linked.close()


def scene_whole_across_parts():
    """A certificate that cannot be used keeps a good limit from holding."""
    with Broker() as other:
        identity = Identity(other.folder, "localhost")
        files = {"tls__certificate_file": identity.certificate, "tls__key_file": identity.key}
        with FileBroker(
            {**files, "limits__inbox_messages": 2}, {"listen.tls": "127.0.0.1:0"}
        ) as broker:
            leave(broker, "alice")
            broker.write(**{**files, "tls__key_file": "/nowhere/key"}, limits__inbox_messages=9)
            check_equal(broker.hup()["event"], "reload_refused", "the reload")
            check_equal(fill(broker, "alice"), 2, "messages taken")
            broker.write(**files, limits__inbox_messages=9)
            check_equal(broker.hup()["event"], "reloaded", "the reload")
            check_equal(fill(broker, "alice"), 7, "more messages taken")


def scene_what_a_restart_would_change():
    """A file that asks for another way of proving who one is, or for TLS where there is none: what of it
    changes by a restart only has no effect on the parts of this process, and names itself; what is used
    stays used."""
    with Broker() as other:
        secret = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
        keys, more = (os.path.join(other.folder, name) for name in ("keys", "more"))
        for path in (keys, more):
            with open(path, "w", encoding="ascii") as file:
                json.dump(
                    {"keys": [{"alg": "HS256", "kty": "oct", "k": secret, "kid": path}]}, file
                )
        identity = Identity(other.folder, "localhost")
        tls = {
            "listen__tls": "127.0.0.1:0",
            "tls__certificate_file": identity.certificate,
            "tls__key_file": identity.key,
        }
        by = {
            "open": {},
            "token": {"auth__mode": "token", "auth__keys_file": keys},
            "service": {"auth__mode": "service", "auth__service": "judge"},
        }
        for began, options in by.items():
            with FileBroker(options) as broker:
                loaded = len(broker.log_events("keys_loaded"))
                for mode in ("token", "service", "open", "token"):
                    broker.write(**{**options, **by[mode], "auth__mode": mode}, **tls)
                    check_equal(broker.hup()["event"], "reloaded", f"{began}, then {mode}")
                check_equal(
                    len(broker.log_events("keys_loaded")),
                    loaded + (4 if began == "token" else 0),
                    f"{began}: keys that were read",
                )
                if began == "open":
                    leave(broker, "alice")
        with FileBroker(by["token"]) as broker:
            broker.write()
            event = broker.hup()
            check("auth.keys_file" in event.get("error", ""), f"without its keys: {event}")
            broker.write(auth__keys_file=more)
            check_equal(broker.hup()["event"], "reloaded", "with other keys, for another mode")
            check_equal(broker.log_events("keys_loaded")[-1]["file"], more, "the keys in use")


play(
    scene_limits_and_level,
    scene_calls_and_requests,
    scene_source_and_memory,
    scene_one_fault_changes_nothing,
    scene_options_that_contradict_each_other,
    scene_tokens,
    scene_whole_across_parts,
    scene_what_a_restart_would_change,
)
