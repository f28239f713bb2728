# SPDX-License-Identifier: Apache-2.0
"""The presence stream by webhook: in order, none lost, none taken twice, whatever its receiver does."""

import os
import tempfile

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    eventually,
    play,
)
from usherplay.filebroker import FileBroker
from usherplay.receiver import Receiver, signatures
from usherplay.tls import Identity

SECRET = "whsec_of_the_plays"
FAST = {"webhook.retry_min_ms": 20, "webhook.retry_max_ms": 100, "webhook.timeout_ms": 600}


def secret_file(text=SECRET):
    handle, path = tempfile.mkstemp(prefix="usher-play-secret-")
    os.write(handle, text.encode() + b"\n")
    os.close(handle)
    return path


def options(receiver, **others):
    return {
        "webhook.url": receiver.url,
        "webhook.secret_file": secret_file(),
        "admin.listen": "127.0.0.1:0",
        **FAST,
        **{key.replace("__", "."): value for key, value in others.items()},
    }


def come_and_go(broker, count, name="user"):
    """So many users, two events each: ONLINE and OFFLINE by Logout."""
    for number in range(count):
        with Client(broker) as client:
            client.login(f"{name}{number}")
            client.post("logout")
            client.expect("done")


def begun(receiver):
    """It was told where it begins."""
    eventually(lambda: receiver.resets, "the first RESET", 20)
    return receiver.resets[0]


def scene_what_a_request_is():
    with Receiver(SECRET) as receiver, Broker(options(receiver)) as broker:
        check_equal(begun(receiver)["reason"], "first", "why it begins")
        come_and_go(broker, 3)
        receiver.wait(6)
        headers, body = receiver.requests[-1]
        check_equal(headers[":line"], "POST /hook HTTP/1.1", "the request")
        check_equal(headers["content-type"], "application/json", "its type")
        check(headers["user-agent"].startswith("usher/"), "its agent")
        check_equal(body["node"], "usher-1", "node")
        kinds = [(event["user"], event["kind"], event["cause"]) for event in receiver.events]
        check_equal(
            kinds[:2], [("user0", "ONLINE", "LOGIN"), ("user0", "OFFLINE", "LOGOUT")], "events"
        )
        check_equal(receiver.bad_signatures, 0, "bad signatures")
        check_equal(receiver.connections, 1, "connections: it is kept")
        with Backend(broker, hello=False) as backend:
            stream = backend.all_events()
        check_equal(
            [(event.seq, event.user, event.epoch) for event in stream],
            [(event["seq"], event["user"], event["epoch"]) for event in receiver.events],
            "the stream as backends have it",
        )
        eventually(lambda: broker.numbers()["webhook_lag_events"] == 0, "lag 0", 10)
        check_equal(broker.numbers()["webhook_events"], 6, "webhook_events")


def scene_whatever_it_does():
    """Each fault in turn, and after each the stream goes on without a gap and without a double."""
    faults = ["fail", "later", "hang", "lose", "half", "none", "garbage", "odd", "cut", "torn"]
    faults += ["slow", "huge", "endless", "plain", "large", "lose", "fail"]
    with Receiver(SECRET) as receiver, Broker(options(receiver)) as broker:
        begun(receiver)
        taken = 0
        for fault in faults:
            receiver.behave = [fault]
            come_and_go(broker, 2, fault)
            taken += 4
            receiver.wait(taken, f"events around {fault}")
            eventually(lambda: not receiver.behave, f"{fault} was tried", 20)
        check_equal(receiver.bad_signatures, 0, "bad signatures")
        numbers = broker.numbers()
        check(numbers["webhook_failures"] >= 10, f"failures {numbers['webhook_failures']}")
        told = " ".join(line["error"] for line in broker.log_events("webhook_failing"))
        for what in (
            "refuses",
            "timed out",
            "larger than 64 KiB",
            "larger than 16 KiB",
            "no number",
            "is none",
        ):
            check(what in told, f"{what}: not told in {told}")
        check(broker.log_events("webhook_recovered"), "told that it is over")
        broker.check_alive()


def scene_it_never_says_how_far_it_is():
    """Then only its 2xx counts, and nothing helps who would skip."""
    with Receiver(SECRET) as receiver, Broker(options(receiver, webhook__batch=3)) as broker:
        receiver.usual = lambda: "plain"
        begun(receiver)
        taken = 0
        for fault in ("fail", "hang", "lose", "cut", "torn", "huge", "garbage"):
            receiver.behave = [fault, fault]
            come_and_go(broker, 4, fault)
            taken += 8
            if fault in ("hang", "lose"):
                broker.kill()
                broker.restart()
            receiver.wait(taken, f"events around {fault}")
        check_equal([event["seq"] for event in receiver.events], list(range(1, 57)), "seqs")


def scene_a_redirect_is_not_followed():
    with Receiver() as elsewhere, Receiver(SECRET) as receiver:
        receiver.elsewhere = elsewhere.url
        with Broker(options(receiver)) as broker:
            begun(receiver)
            receiver.behave = ["redirect"] * 3
            come_and_go(broker, 1)
            receiver.wait(2)
            check_equal(len(elsewhere.requests), 0, "requests where it leads")
            check(
                any("redirect" in line["error"] for line in broker.log_events("webhook_failing")),
                "told",
            )


def scene_it_has_lost_something():
    """A receiver that was restored from a backup gets again what it says that it has not."""
    with Receiver(SECRET) as receiver, Broker(options(receiver)) as broker:
        begun(receiver)
        come_and_go(broker, 5)
        receiver.wait(10)
        receiver.seq, receiver.events = 4, receiver.events[:4]
        come_and_go(broker, 1, "late")
        receiver.wait(12)
        check_equal([event["seq"] for event in receiver.events], list(range(1, 13)), "seqs")


def scene_it_belongs_to_another_stream():
    """A seq that was never given: it is told to begin anew."""
    with Receiver(SECRET) as receiver, Broker(options(receiver)) as broker:
        begun(receiver)
        receiver.seq = 1000
        come_and_go(broker, 1)
        eventually(lambda: len(receiver.resets) == 2, "a RESET", 20)
        check_equal(receiver.resets[1]["reason"], "ahead", "why")
        check(receiver.resets[1]["seq"] <= 2, f"from where on: {receiver.resets[1]}")


def scene_away_for_too_long():
    """What is not kept any more is not left out silently."""
    with Receiver(SECRET) as receiver:
        with Broker(options(receiver, store__events_kept=1024)) as broker:
            begun(receiver)
            come_and_go(broker, 1)
            receiver.wait(2)
            receiver.usual = lambda: "fail"
            come_and_go(broker, 600, "crowd")
            eventually(lambda: broker.numbers()["webhook_lag_events"] == 1200, "the lag", 20)
            check_equal(broker.numbers()["webhook_failing"], 1, "webhook_failing")
            receiver.usual = lambda: "take"
            eventually(lambda: len(receiver.resets) == 2, "a RESET", 20)
            reset = receiver.resets[1]
            check_equal(
                (reset["reason"], reset["lost_first"], reset["lost_last"], reset["seq"]),
                ("trimmed", 3, 178, 178),
                "what it says",
            )
            receiver.wait(2 + 1024)
            check_equal(receiver.events[2]["seq"], 179, "the first behind it")


def scene_a_stop_tells_its_own_events():
    """The events of an orderly stop are told before it ends, and none again after it."""
    with Receiver(SECRET) as receiver:
        with Broker(options(receiver)) as broker:
            begun(receiver)
            with Client(broker) as client:
                client.login("alice")
                broker.stop()
            receiver.wait(2)
            check_equal(receiver.events[-1]["cause"], "SHUTDOWN", "the last one")
            before = len(receiver.requests)
            broker.restart()
            come_and_go(broker, 1)
            receiver.wait(4)
            told = [e["seq"] for _, body in receiver.requests[before:] for e in body["events"]]
            check(min(told) > 2, f"told again after the stop: {told}")
            check_equal(len(receiver.resets), 1, "RESETs")


def scene_nobody_is_there():
    """It costs nobody anything, and a stop does not wait for it."""
    receiver = Receiver(SECRET)
    port = receiver.port
    receiver.close()
    with Broker(options(receiver)) as broker:
        come_and_go(broker, 5)
        broker.wait_log("webhook_failing", 20)
        check_equal(broker.numbers()["webhook_on"], 1, "webhook_on")
        again = Receiver(SECRET, port=port)
        with again:
            begun(again)
            come_and_go(broker, 2)
            again.wait(4)
    with Receiver(SECRET) as hanging, Broker(options(hanging, webhook__timeout_ms=60000)) as broker:
        begun(hanging)
        hanging.behave = ["hang"]
        come_and_go(broker, 2)
        eventually(lambda: not hanging.behave, "it hangs", 20)
        come_and_go(broker, 20, "others")  # who wait for no receiver


def scene_secrets_and_url_change():
    """Both signatures while a secret goes for another; a new URL gets what comes next."""
    old, new = secret_file(), secret_file("whsec_the_next")
    with Receiver(SECRET) as receiver, Receiver("whsec_the_next") as other:
        values = {"webhook__url": receiver.url, "webhook__secret_file": old}
        values |= {key.replace(".", "__"): value for key, value in FAST.items()}
        with FileBroker(values, {"admin.listen": "127.0.0.1:0"}) as broker:
            begun(receiver)
            come_and_go(broker, 1)
            receiver.wait(2)
            check_equal(len(signatures(receiver.requests[-1][0]["usher-signature"])[1]), 1, "v1")
            values["webhook__secret_file"], values["webhook__other_secret_file"] = new, old
            broker.write(**values)
            check_equal(broker.reload()[0], 0, "reload")
            come_and_go(broker, 1)
            receiver.wait(4)
            check_equal(len(signatures(receiver.requests[-1][0]["usher-signature"])[1]), 2, "v1")
            receiver.secret = "whsec_the_next"
            values["webhook__other_secret_file"] = ""
            broker.write(**values)
            check_equal(broker.reload()[0], 0, "reload")
            come_and_go(broker, 1)
            receiver.wait(6)
            check_equal(receiver.bad_signatures, 0, "bad signatures")
            other.seq = receiver.seq
            values["webhook__url"] = other.url
            broker.write(**values)
            check_equal(broker.reload()[0], 0, "reload")
            come_and_go(broker, 1)
            other.wait(2)
            check_equal(len(receiver.events), 6, "events at the old one")
            values["webhook__url"] = "http://user:password@example/"
            broker.write(**values)
            check_equal(broker.reload()[0] != 0, True, "a URL with a password is refused")
            values["webhook__url"] = ""
            broker.write(**values)
            check_equal(broker.reload()[0], 0, "reload")
            come_and_go(broker, 1)
            check_equal(broker.numbers()["webhook_on"], 0, "webhook_on")
            values["webhook__url"] = other.url
            broker.write(**values)
            check_equal(broker.reload()[0], 0, "reload")
            other.wait(4, "events, also of while it was off")
    for line in broker.lines:
        check("whsec" not in str(line), f"a secret in the log: {line}")
        check("/hook" not in str(line), f"a path in the log: {line}")


def scene_tls():
    with tempfile.TemporaryDirectory(prefix="usher-play-tls-") as folder:
        authority = Identity(folder, "authority")
        stranger = Identity(folder, "stranger")
        identity = Identity(folder, "receiver", authority)
        with Receiver(SECRET, identity) as receiver:
            with Broker(options(receiver, webhook__ca_file=authority.certificate)) as broker:
                begun(receiver)
                come_and_go(broker, 1)
                receiver.wait(2)
            for ca in (stranger.certificate, ""):
                patient = options(receiver, webhook__ca_file=ca, webhook__timeout_ms=20000)
                with Broker(patient) as broker:
                    line = broker.wait_log("webhook_failing", 20)
                    check("certificate" in line["error"], f"why: {line}")
            check_equal(len(receiver.resets), 1, "who was believed")


play(
    scene_what_a_request_is,
    scene_whatever_it_does,
    scene_it_never_says_how_far_it_is,
    scene_a_redirect_is_not_followed,
    scene_it_has_lost_something,
    scene_it_belongs_to_another_stream,
    scene_away_for_too_long,
    scene_a_stop_tells_its_own_events,
    scene_nobody_is_there,
    scene_secrets_and_url_change,
    scene_tls,
)
