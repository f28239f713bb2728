# SPDX-License-Identifier: Apache-2.0
"""How often good logins come: one user, and one address, may log in so many times in a minute and once
more is refused; whoever logs out and in again in a loop does not push everybody's events out."""

import os
import pathlib
import signal
import socket
import struct
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
    play,
)

ELSEWHERE = "127.0.0.2"


def outcome(frame):
    kind = frame.WhichOneof("body")
    return client_pb.Error.Code.Name(frame.error.code) if kind == "error" else kind


def log_in(client, name):
    return client.answer_to(client.post("login", username=name))


def come_and_go(broker, name, source=None):
    """Logs in and out; the outcome of the login, and how long to wait."""
    with Client(broker, source=source) as client:
        client.name = name
        frame = log_in(client, name)
        if outcome(frame) == "welcome":
            client.ask("logout")
            return "welcome", 0
        return outcome(frame), frame.error.retry_after_ms


def scene_one_user():
    """n, and not n + 1; on the same connection when the time has come. Logging out gives nothing back,
    and others are not concerned."""
    count = 10
    with Broker(
        {"limits.logins_per_minute_per_user": count, "limits.login_deadline_ms": 30000}
    ) as broker:
        backend = Backend(broker)
        for number in range(count):
            check_equal(come_and_go(broker, "alice")[0], "welcome", f"login {number + 1}")
        with Client(broker) as alice:
            frame = log_in(alice, "alice")
            check_equal(outcome(frame), "RATE_LIMITED", "one more")
            check(0 < frame.error.retry_after_ms <= 6000, f"wait {frame.error.retry_after_ms}")
            check_equal(come_and_go(broker, "bob")[0], "welcome", "somebody else")
            check_equal(come_and_go(broker, "alice", ELSEWHERE)[0], "welcome", "from elsewhere")
            time.sleep(frame.error.retry_after_ms / 1000)
            check_equal(outcome(log_in(alice, "alice")), "welcome", "after the wait")
        broker.wait_log("limit_hit")
        check_equal(backend.numbers("stats")["logins_refused_rate"], 1, "refusals")
        events = [event for event in backend.all_events() if event.user == "alice"]
        check(len(events) <= 2 * count + 5, f"{len(events)} events of one user")


def scene_resumes_count_for_the_user():
    with Broker(
        {"limits.logins_per_minute_per_user": 10, "limits.login_deadline_ms": 30000}
    ) as broker:
        client = Client(broker)
        welcome = client.login("alice")
        outcomes = []
        for _ in range(12):
            client.drop()
            client = Client(broker)
            frame = client.answer_to(
                client.post("resume", username="alice", epoch=welcome.epoch, secret=welcome.secret)
            )
            outcomes.append(outcome(frame))
        check_equal(outcomes, ["welcome"] * 9 + ["RATE_LIMITED"] * 3, "resumes")
        time.sleep(frame.error.retry_after_ms / 1000)
        client.resume(welcome, 0, name="alice")  # nothing is lost by it
        client.close()


def scene_one_address():
    """All users of one; others elsewhere are not concerned, and who is in may come back."""
    count = 40
    with Broker({"limits.logins_per_minute_per_source": count}) as broker:
        began = time.monotonic()
        first = Client(broker)
        welcome = first.login("first")
        let_in, code = 1, "welcome"
        while code == "welcome":
            code, wait_ms = come_and_go(broker, f"user{let_in}")
            let_in += code == "welcome"
        since = 1 + int(count * (time.monotonic() - began) / 60)
        check(count <= let_in <= count + since, f"{let_in} logins, {since} of them by and by")
        check_equal(code, "RATE_LIMITED", "one more")
        check(wait_ms > 0, "no retry_after_ms")
        check_equal(come_and_go(broker, "another", ELSEWHERE)[0], "welcome", "from elsewhere")
        first.drop()
        with Client(broker) as again:
            again.resume(welcome, 0, name="first")


def stands_still(broker):
    tasks = f"/proc/{broker.process.pid}/task"
    return all(
        pathlib.Path(tasks, task, "stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        == "T"
        for task in os.listdir(tasks)
    )


def reset_behind(broker, client, frame):
    """The broker finds the frame and the reset behind it at once, however fast it is."""
    client.send_frame(client_pb.ClientFrame(id=1000))
    client.expect_error("PROTOCOL", id=1000)  # answered, and so accepted and looked at
    broker.process.send_signal(signal.SIGSTOP)
    eventually(lambda: stands_still(broker), "no thread of it runs")
    client.send_bytes(frame_bytes(frame))
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    broker.process.send_signal(signal.SIGCONT)


def scene_who_has_gone_is_not_let_in():
    """Who resets his connection behind his request came from nowhere when it is looked at: no limit
    of his address would hold for him. So nothing is done with it."""
    with Broker({"limits.logins_per_minute_per_source": 2}) as broker, Client(broker) as alice:
        welcome = alice.login("alice")
        backend = Backend(broker)
        for number in range(4):
            ghost = Client(broker)
            reset_behind(broker, ghost, ghost.request("login", username=f"ghost{number}"))
        ghost = Client(broker)
        reset_behind(
            broker,
            ghost,
            ghost.request("resume", username="alice", epoch=welcome.epoch, secret=welcome.secret),
        )
        eventually(lambda: backend.numbers("stats")["connections_open"] == 1, "they are gone")
        check_equal([event.user for event in backend.all_events()], ["alice"], "who came")
        check_equal(
            [line["address"] for line in broker.log_events("login") if line["address"] == ""],
            [],
            "logins from nowhere",
        )
        alice.ping()
        check_equal(come_and_go(broker, "bob")[0], "welcome", "the second one of this address")
        check_equal(come_and_go(broker, "carl")[0], "RATE_LIMITED", "the third one")


def scene_the_default_bears_a_crowd():
    """Hundreds from one address at once, as a bench does."""
    with Broker({"limits.logins_per_minute_per_source": 12000}) as broker:
        clients = [Client(broker) for _ in range(300)]
        for number, client in enumerate(clients):
            client.post("login", username=f"user{number}")
        for client in clients:
            client.expect("welcome", id=1)
            client.close()
        check_equal(Backend(broker).numbers("stats")["logins_refused_rate"], 0, "refusals")


if __name__ == "__main__":
    play(
        scene_one_user,
        scene_resumes_count_for_the_user,
        scene_one_address,
        scene_who_has_gone_is_not_let_in,
        scene_the_default_bears_a_crowd,
    )
