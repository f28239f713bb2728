# SPDX-License-Identifier: Apache-2.0
"""Whatever peers make the broker hold stands in its book of memory: what its heap grows by under
each kind of hoard is what limits.memory_bytes is compared with. Connections, sessions and names have
limits of their own by number, so they are there before it is measured."""

import contextlib
import os
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    backend_pb,
    check,
    eventually,
    frame_bytes,
    logged_in,
    play,
    varint,
)
from usherplay.shim import SYNCS, MemoryShim, Shim

KIB = 1 << 10
MIB = 1 << 20
PAYLOAD = b"h" * 30000  # a Call of it fits the largest link.frame_bytes
OPTIONS = {
    "limits.memory_bytes": "4GiB",
    "limits.mailbox_messages": 65536,
    "limits.calls_per_user": 4096,
    "limits.inbox_messages": 65536,
    "limits.inbox_bytes": "64MiB",
    "limits.inbox_age_ms": "10min",
    "limits.output_bytes": "64MiB",
    "limits.output_soft_bytes": "64MiB",
    "limits.call_timeout_ms": "10min",
    "limits.call_timeout_max_ms": "10min",
    "limits.login_deadline_ms": "10min",
    "link.grace_ms": 600000,
    "link.frame_bytes": 32768,
    "link.mail_items": 1000000,
    "link.mail_bytes": "1GiB",
    "link.fetch_timeout_ms": 600000,
    "session.heartbeat_ms": 600000,
}
# A fifth may be missing for what the heap adds, and each thread has up to 64 KiB that are not
# summed yet.
BOOKED_AT_LEAST, BOOKED_AT_MOST, NOT_SUMMED = 0.8, 1.25, MIB
GROWS_AT_LEAST = 6 * MIB
CALLS = 60  # of each caller
REQUESTS = 1024  # that one user may have in flight
LANES = 16  # of one instance


class Scale:
    """The heap and the book of one broker, side by side."""

    def __init__(self, options=None, environment=None):
        self.shim = MemoryShim()
        environment = dict(environment or {})
        ours = self.shim.environment()
        ours["LD_PRELOAD"] = " ".join(
            filter(None, [ours["LD_PRELOAD"], environment.get("LD_PRELOAD")])
        )
        self.broker = Broker({**OPTIONS, **(options or {})}, environment={**environment, **ours})
        self.observer = Backend(self.broker)

    def look(self):
        return self.shim["live"], self.observer.numbers("stats")["memory_held_bytes"]

    def rest(self):
        """Both, once neither has moved by more than a little for a while."""
        last = self.look()

        def still():
            nonlocal last
            time.sleep(0.2)
            before, last = last, self.look()
            return all(abs(one - other) < 256 * KIB for one, other in zip(before, last))

        eventually(still, "the broker is at rest", 30)
        return last

    def weigh(self, what, hoard):
        """Hoards, and compares what the heap grew by with what the book did."""
        live_before, held_before = self.rest()
        hoard()
        live, held = self.rest()
        grown, booked = live - live_before, held - held_before
        print(f"     {what}: the heap grew by {grown >> 10} KiB, the book by {booked >> 10}")
        check(grown >= GROWS_AT_LEAST, f"{what}: too little is held to tell: {grown} bytes")
        check(
            booked >= BOOKED_AT_LEAST * grown - NOT_SUMMED,
            f"{what}: {grown} bytes are held and {booked} stand in the book",
        )
        check(
            booked <= BOOKED_AT_MOST * grown + NOT_SUMMED,
            f"{what}: {grown} bytes are held and {booked} stand in the book",
        )

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.observer.close()
        self.broker.__exit__(kind, value, trace)


def crowd(broker, count, prefix="user", acks=False, **options):
    """Users who are in."""
    return logged_in(broker, [f"{prefix}{number}" for number in range(count)], acks, **options)


def pour(client, kind, count, **fields):
    """So many requests that nobody answers, in pieces."""
    frame = frame_bytes(client.request(kind, id=0, **fields))
    at_once = max(1, 200000 // len(frame))
    for start in range(0, count, at_once):
        client.send_bytes(frame * min(at_once, count - start))


def close_all(clients):
    for client in clients:
        client.close()


def scene_inboxes():
    """Messages that are not acknowledged, small ones and large ones."""
    for what, payload, each in (
        ("small messages in inboxes", b"x", 60000),
        ("large messages in inboxes", PAYLOAD, 160),
    ):
        with Scale() as scale:
            writers = crowd(scale.broker, 4, "writer")
            readers = crowd(scale.broker, 4, "reader", acks=True)

            def hoard():
                for number, writer in enumerate(writers):
                    pour(writer, "send", each, to=f"reader{number}", payload=payload)
                for reader in readers:
                    reader.messages(each, timeout=60)

            scale.weigh(what, hoard)
            close_all(writers + readers)


def scene_halves():
    """Frames whose end does not come, behind a login and before one."""
    with Scale({"limits.prelogin_bytes": 60000, "limits.prelogin_connections": 1000}) as scale:
        users = crowd(scale.broker, 200)

        def begin(clients):
            for client in clients:
                client.send_bytes(varint(59000) + b"f" * 58000)

        scale.weigh("half frames of users", lambda: begin(users))
        strangers = [Client(scale.broker) for _ in range(200)]
        scale.weigh("half frames of strangers", lambda: begin(strangers))
        close_all(users + strangers)


def scene_mailboxes():
    """Frames that wait for actors which wait for the disk."""
    disk = Shim()
    with disk, Scale({"store.path": disk.store}, disk.environment()) as scale:
        users = crowd(scale.broker, 40)
        newer = [Client(scale.broker) for _ in users]

        def hoard():
            disk.hold(SYNCS)
            for number, client in enumerate(newer):
                client.post("login", username=f"user{number}")
            eventually(lambda: disk["held"] > 0, "their logins are in the hands of the committer")
            for user in users:
                user.socket.setblocking(False)
            taken = time.monotonic()
            while time.monotonic() - taken < 1.0:  # until the broker reads no more of it
                for user in users:
                    with contextlib.suppress(BlockingIOError):
                        while user.socket.send(frame_bytes(user.request("ping", stamp=1)) * 2000):
                            taken = time.monotonic()
                time.sleep(0.02)

        try:
            scale.weigh("frames in mailboxes", hoard)
        finally:
            disk.release()
        close_all(users + newer)


def scene_outputs():
    """What slow readers do not read."""
    with Scale() as scale:
        writers, readers = crowd(scale.broker, 4, "writer"), crowd(
            scale.broker, 4, "reader", receive_buffer=4096
        )

        def hoard():
            for number, writer in enumerate(writers):
                pour(writer, "send", 300, to=f"reader{number}", payload=PAYLOAD)

        scale.weigh("output that nobody reads", hoard)
        close_all(writers + readers)


def scene_calls():
    """Calls that no instance fetches; the requests that wait for their answers; and the answers to
    callers who are away."""
    with Scale({"session.resume_ms": 600000}) as scale:
        service = Backend(scale.broker, service="deep")
        callers = crowd(scale.broker, 8)

        def call(payload, each):
            for caller in callers:
                caller.send_bytes(
                    b"".join(
                        frame_bytes(caller.request("call", service="deep", payload=payload))
                        for _ in range(each)
                    )
                )

        scale.weigh("calls that wait", lambda: call(PAYLOAD, CALLS))
        for caller in callers:
            caller.drop()

        def answer():
            left = 8 * CALLS
            while left > 0:
                service.fetch(wait_ms=200)
                calls = [mail.call for mail in service.mail]
                service.mail.clear()
                for number in calls:
                    service.reply(number, payload=PAYLOAD)
                left -= len(calls)
            service.fetch(wait_ms=1)

        # The calls go and their answers come, so the sum is what the answers are.
        live_before, held_before = scale.rest()
        answer()
        live, held = scale.rest()
        print(
            f"     answers for who is away: the heap holds {(live - live_before) >> 10} KiB "
            f"more than the calls did, the book {(held - held_before) >> 10}"
        )
        check(
            abs((held - held_before) - (live - live_before)) <= 3 * MIB,
            "answers that wait for a resume are not in the book",
        )
        service.close()


def scene_requests():
    """Requests that wait for an acknowledgement, which is most of what a table of requests is."""
    with Scale() as scale:
        writers = crowd(scale.broker, 60, "writer")
        readers = crowd(scale.broker, 4, "reader", acks=True)

        def hoard():
            for number, writer in enumerate(writers):
                writer.send_bytes(
                    b"".join(
                        frame_bytes(writer.request("send", to=f"reader{number % 4}", until=1))
                        for _ in range(REQUESTS)
                    )
                )
            for reader in readers:
                reader.messages(len(writers) // 4 * REQUESTS, timeout=60)

        scale.weigh("requests that wait, with their messages", hoard)
        close_all(writers + readers)


def scene_answers_of_lanes():
    """Results that an instance may ask for again: one Submit in each of many lanes."""
    with Scale() as scale:
        users = crowd(scale.broker, 400, "someone-with-a-long-name-so-that-a-page-is-large-")
        services = [Backend(scale.broker, service="wide") for _ in range(30)]
        page = backend_pb.Command(list=backend_pb.List(limit=1000))

        def hoard():
            for service in services:
                for lane in range(LANES):
                    service.submit(page, lane=lane)

        scale.weigh("answers of lanes", hoard)
        close_all(services)
        close_all(users)


def scene_logins():
    """Logins that wait for the service which judges them, with tokens as large as may be."""
    with Scale(
        {
            "auth.mode": "service",
            "auth.service": "judge",
            "auth.deadline_ms": 500000,
            "limits.prelogin_bytes": 8192,
            "limits.prelogin_connections": 2000,
            "limits.logins_waiting": 2000,
        }
    ) as scale:
        judge = Backend(scale.broker, service="judge")
        strangers = [Client(scale.broker) for _ in range(2000)]

        def hoard():
            for number, stranger in enumerate(strangers):
                stranger.post("login", username=f"user{number}", token=b"t" * 4096)

        scale.weigh("logins that wait", hoard)
        judge.close()
        close_all(strangers)


def scene_rooms():
    """Rooms in which something was said, and who is in many; their number is limited."""
    options = {
        "rooms.classes": "talk:* create=client join=any publish=any idle=never history=0/1s",
        "rooms.per_user": 1024,
        "rooms.publish_per_second": 0,
    }
    with Scale(options) as scale:
        users = crowd(scale.broker, 10)

        def hoard():
            for number, user in enumerate(users):
                for first in range(0, 1000, 50):
                    frames = b""
                    for room in range(first, first + 50):
                        name = f"talk:{number}.{room}"
                        frames += frame_bytes(user.request("join", id=0, room=name))
                        frames += frame_bytes(
                            user.request("publish", id=0, name=name, payload=b"x" * 200)
                        )
                    user.send_bytes(frames)
                user.post("ping", stamp=1)
            eventually(
                lambda: scale.observer.numbers("stats")["rooms_opened"] == 10000, "all rooms", 30
            )

        scale.weigh("rooms in which something was said", hoard)
        close_all(users)


if __name__ == "__main__":
    if os.environ.get("USHER_PLAY_SCALE", "1") != "1":
        print("     not under a sanitizer")
    else:
        play(
            scene_inboxes,
            scene_halves,
            scene_mailboxes,
            scene_outputs,
            scene_calls,
            scene_requests,
            scene_answers_of_lanes,
            scene_logins,
            scene_rooms,
        )
