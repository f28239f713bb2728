# SPDX-License-Identifier: Apache-2.0
"""Somebody who reads slowly, and others who send to him: nobody is thrown out by what others send to
him as long as he reads. What they send waits for him; when too much does, they are told."""

import threading
import time

from usherplay import Backend, Broker, Client, backend_pb, check, check_equal, play, scaled
from usherplay.backend import code_name, push

FREE = {"limits.requests_per_second": 0, "limits.requests_per_second_per_source": 0}
BYTES_PER_SECOND = 4e6


class SlowReader:
    """Reads what comes at the pace of a line, on a thread of its own, and notes what it was."""

    def __init__(self, client, acks):
        self.client, self.acks = client, acks
        self.seqs, self.others, self.error = [], [], None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        try:
            while not self.done.is_set():
                frame = self.client.next_frame(0.05)
                if frame is None:
                    continue
                if frame.WhichOneof("body") != "message":
                    self.others.append(frame)
                    continue
                self.seqs.append(frame.message.seq)
                if self.acks:
                    self.client.post("ack", id=0, seq=frame.message.seq)
                time.sleep(frame.ByteSize() / BYTES_PER_SECOND)
        except Exception as error:  # shown by the scene
            self.error = error

    def stop(self):
        self.done.set()
        self.thread.join()
        if self.error is not None:
            raise self.error
        return self.seqs


def reads_all(reader, count, seconds=30):
    until = time.monotonic() + seconds
    while len(reader.seqs) < count and reader.error is None and time.monotonic() < until:
        time.sleep(0.05)
    seqs = reader.stop()
    check_equal(seqs, list(range(1, count + 1)), "what came")


def scene_sends():
    """Bursts of 12 MB from one player, with and without acks, until he is refused."""
    for acks in (False, True):
        with Broker(FREE) as broker, Client(broker, receive_buffer=65536) as slow, Client(
            broker, timeout=60
        ) as bob:
            slow.login("slow", acks=acks)
            bob.login("bob")
            reader = SlowReader(slow, acks)
            codes, full = [], []
            while not full and len(codes) < 4000:  # a sender that is slow has to say more
                answers = [bob.post("send", to="slow", payload=b"x" * 60000) for _ in range(200)]
                codes += [bob.next_frame() for _ in answers]
                full = [frame for frame in codes if frame.WhichOneof("body") == "error"]
            taken = sum(frame.WhichOneof("body") == "done" for frame in codes)
            reads_all(reader, taken)
            check(full, "nobody was refused")
            for frame in full:
                check_equal((frame.error.code, frame.error.retry_after_ms > 0), (6, True), "answer")
            check_equal(broker.log_events("slow_consumer"), [], "who was closed")
            print(f"     acks {acks}: {taken} taken, {len(full)} refused")


def scene_pushes():
    """The same from a service: to one, and to everybody."""
    for everybody in (False, True):
        with Broker(FREE) as broker, Client(broker, receive_buffer=65536) as slow:
            slow.login("slow")
            backend = Backend(broker, service="svc")
            reader = SlowReader(slow, False)
            sent = taken = refused = 0
            while refused < 100 and sent < 20000:  # a sender that is slow has to say more
                command = push(["slow"], b"p" * 14000)
                if everybody:
                    command = backend_pb.Command(push_all=backend_pb.PushAll(payload=b"p" * 14000))
                result = backend.submit(command)[0]
                taken += result.push.accepted
                sent += 1
                if sent % 100 == 0:
                    refused = backend.numbers("stats")["inbox_full"]
            time.sleep(0.5)
            if everybody:  # `accepted` counts mailboxes
                taken -= backend.numbers("stats")["inbox_full"]
            reads_all(reader, taken)
            check(taken < sent, "nobody was refused")
            check_equal(broker.log_events("slow_consumer"), [], "who was closed")
            backend.close()


def scene_replies():
    """64 large replies at once to one who reads slowly: each of them comes, and he stays."""
    limits = {
        **FREE,
        "limits.output_bytes": 128 * 1024,
        "limits.output_soft_bytes": 32 * 1024,
        "limits.inbox_bytes": 16 << 20,
        "limits.calls_per_user": 64,
    }
    with Broker(limits) as broker, Client(broker, receive_buffer=4096) as slow, Client(
        broker
    ) as bob:
        slow.login("slow")
        bob.login("bob")
        backend = Backend(broker, service="svc")
        rounds = 10  # more than the kernel takes
        for _ in range(rounds):
            ids = [slow.post("call", service="svc", method="m") for _ in range(64)]
            for _ in ids:
                backend.reply(backend.expect_call(), payload=b"r" * 15000)
        bob.ping()
        count = rounds * 64
        answered = set()
        while len(answered) < count:
            frame = slow.next_frame(10)
            check(frame is not None, f"{len(answered)} replies of {count}")
            check_equal(frame.WhichOneof("body"), "reply", "what comes")
            answered.add(frame.id)
        check_equal(broker.log_events("slow_consumer"), [], "who was closed")
        backend.close()


def scene_replay():
    """An inbox larger than what may wait in a connection comes whole, in order, and what is sent
    meanwhile comes behind it."""
    limits = {
        **FREE,
        "limits.inbox_bytes": 16 << 20,
        "limits.inbox_messages": 100000,
        "limits.mailbox_messages": 100000,
    }
    count = scaled(200, 60)
    for acks in (True, False):
        with Broker(limits) as broker, Client(broker, timeout=30) as bob:
            slow = Client(broker)
            welcome = slow.login("slow", acks=acks)
            slow.drop()
            broker.wait_log("detached")
            bob.login("bob")
            for number in range(count):
                bob.ask("send", to="slow", payload=b"%08d" % number + b"x" * 50000)
            slow = Client(broker, receive_buffer=65536)
            again = slow.resume(welcome, 0, name="slow")
            check_equal((again.replay, again.next_seq), (1, 1), "COMPLETE from 1 on")
            bob.ask("send", to="slow", payload=b"%08d" % count)
            for number in range(count + 1):
                message = slow.expect("message", timeout=20, seq=number + 1).message
                check_equal(message.payload[:8], b"%08d" % number, "the order")
            check_equal(broker.log_events("slow_consumer"), [], "who was closed")
            slow.close()


def scene_never_fits():
    """Larger than the whole inbox: refused for good, without a time to wait."""
    with Broker({**FREE, "limits.frame_bytes": 1 << 20}) as broker, Client(broker) as alice, Client(
        broker
    ) as bob:
        alice.login("alice", acks=True)
        bob.login("bob")
        for size, kind in ((256 * 1024 - 3, "done"), (256 * 1024 - 2, "error")):
            frame = bob.ask("send", to="alice", payload=b"x" * size)
            check_equal(frame.WhichOneof("body"), kind, f"the answer to {size} bytes")
            if kind == "error":
                check_equal((frame.error.code, frame.error.retry_after_ms), (11, 0), "TOO_LARGE")
            else:
                alice.post("ack", id=0, seq=alice.expect("message").message.seq)


def scene_reply_too_large():
    """A Reply larger than the Welcome promised: caller and service hear of it, and the call is over."""
    with Broker({"limits.frame_bytes": 1024}) as broker, Client(broker) as alice:
        limit = alice.login("alice").frame_bytes_max
        backend = Backend(broker, service="svc")
        for size, kind, code in ((limit - 20, "reply", "OK"), (limit, "error", "TOO_LARGE")):
            id = alice.post("call", service="svc", method="m")
            result = backend.reply(backend.expect_call(), payload=b"r" * size)
            frame = alice.answer_to(id)
            check_equal(
                (frame.WhichOneof("body"), code_name(result)),
                (kind, code),
                f"a reply of {size} bytes",
            )
        backend.close()


if __name__ == "__main__":
    play(
        scene_sends,
        scene_pushes,
        scene_replies,
        scene_replay,
        scene_never_fits,
        scene_reply_too_large,
    )
