# SPDX-License-Identifier: Apache-2.0
"""Stops under load, in order and not: what was accepted is delivered after the restart, whoever
waited for an answer has one or has lost the connection, and a resume says the truth."""

import collections
import contextlib
import errno
import signal
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    ConnectionEnded,
    backend_pb,
    check,
    check_equal,
    check_presence,
    client_pb,
    eventually,
    play,
    scaled,
    seed,
)
from usherplay.client import Crowd
from usherplay.shim import ANY, SYNCS, SYNCED_WRITES, Shim

SLOW_SECONDS = 60
UNSAVED = 75
STOP_SECONDS = 15  # Broker.stop() fails above it; what is promised is 3 and the linger time
DELIVERED = client_pb.Send.DELIVERED
REFUSED = ("INBOX_FULL", "BUSY", "NOT_ONLINE")  # the message went nowhere
LARGE = {"limits.inbox_messages": 4096, "limits.inbox_bytes": 4 << 20}


class Player(Client):
    """Sends numbered messages to the others and acknowledges what it gets, now and then. Lives over
    restarts as its `memory` does."""

    def __init__(self, broker, memory):
        super().__init__(broker, timeout=SLOW_SECONDS)
        self.memory = memory
        self.waiting = {}  # id -> (receiver, number)
        self.close_reason = None


class Memory:
    """What a user knows, whatever happens to his connections."""

    def __init__(self, name):
        self.name = name
        self.welcome = None
        self.seq = 0  # processed, in this epoch
        self.acked = 0
        self.had = set()  # (sender, number) processed
        self.unacked = {}  # seq -> (sender, number): may come again in another epoch
        self.highest = collections.Counter()  # sender -> number
        self.outcomes = {}  # (receiver, number) -> "done", the name of an error, or "none"
        self.delivered = set()  # (receiver, number) with until DELIVERED
        self.number = 0
        self.client = None

    def log_in(self, broker):
        self.client = Player(broker, self)
        self.welcome = self.client.login(self.name, acks=True)
        inherited = set(self.unacked.values())
        self.seq = self.acked = 0
        self.unacked = {}
        return inherited

    def resume(self, broker):
        self.client = Player(broker, self)
        return self.client.resume(self.welcome, self.seq, name=self.name)

    # --- sending -------------------------------------------------------------------------------

    def send_some(self, names, random, window):
        while len(self.client.waiting) < window and not self.client.ended:
            self.number += 1
            to = random.choice(names)
            key = to, self.number
            until = DELIVERED if random.random() < 0.3 else client_pb.Send.ACCEPTED
            if until == DELIVERED:
                self.delivered.add(key)
            self.outcomes[key] = "none"
            frame = self.client.request("send", to=to, payload=b"%d" % self.number, until=until)
            self.client.waiting[frame.id] = key
            try:
                self.client.send_frame(frame)
            except OSError:
                return  # the broker is gone; the end is read in its turn

    # --- receiving -----------------------------------------------------------------------------

    def look(self, random):
        """Takes what has come."""
        while self.client.frames:
            self.take(self.client.frames.popleft())
        if not self.client.ended and self.seq > self.acked and random.random() < 0.3:
            self.acknowledge(random.randrange(self.acked + 1, self.seq + 1))

    def acknowledge(self, seq):
        """From here on nobody knows whether those up to seq come again."""
        self.acked = seq
        with contextlib.suppress(OSError):
            self.client.post("ack", id=0, seq=seq)

    def take(self, frame):
        kind = frame.WhichOneof("body")
        if kind == "message":
            self.take_message(frame.message)
        elif kind in ("done", "error"):
            check(frame.id in self.client.waiting, f"{self.name}: {kind} {frame.id} out of nothing")
            key = self.client.waiting.pop(frame.id)
            word = kind if kind == "done" else client_pb.Error.Code.Name(frame.error.code)
            check(
                word in ("done", "DRAINING", "UNDELIVERED") + REFUSED,
                f"{self.name}: a Send was answered {word}",
            )
            self.outcomes[key] = word
        elif kind == "close":
            self.client.close_reason = client_pb.Close.Reason.Name(frame.close.reason)
        else:
            check(kind == "pong", f"{self.name} got {kind}")

    def take_message(self, message):
        sender, number = getattr(message, "from"), int(message.payload)
        what = f"message {number} of {sender} to {self.name}"
        check_equal(message.seq, self.seq + 1, f"seq of {what}")
        self.seq = message.seq
        self.unacked[message.seq] = sender, number
        if (sender, number) in self.had:
            check(message.redelivered, f"{what} came again without its mark")
            return
        check(number > self.highest[sender], f"{what} came after {self.highest[sender]}")
        self.highest[sender] = number
        self.had.add((sender, number))

    def expect_all_kept(self):
        """After a Welcome: what is kept comes before the answer to a Ping."""
        id = self.client.post("ping", stamp=1)
        while True:
            frame = self.client.next_frame(SLOW_SECONDS)
            check(frame is not None, f"{self.name}: no answer to a Ping")
            if frame.WhichOneof("body") == "pong" and frame.id == id:
                return
            self.take(frame)

    def expect_nothing_kept(self):
        self.client.ping(SLOW_SECONDS)
        self.client.expect_nothing(0)


def begin(broker, count):
    memories = [Memory(f"user{number}") for number in range(count)]
    for memory in memories:
        memory.log_in(broker)
    return memories


def run(memories, crowd, random, done, window=40):
    """Traffic until done(), or until everybody's connection has ended."""
    names = [memory.name for memory in memories]
    deadline = time.monotonic() + SLOW_SECONDS
    while not done() and crowd.clients():
        check(time.monotonic() < deadline, "the traffic does not end")
        for memory in memories:
            memory.send_some(names, random, window)
        for client in crowd.read(0.01):
            client.memory.look(random)


def read_to_the_end(memories, crowd, random):
    """Nobody sends any more: every answer and the end of each connection."""
    crowd.until(
        lambda: not crowd.clients() or look_all(memories, random), "the end of all", SLOW_SECONDS
    )
    look_all(memories, random)


def look_all(memories, random):
    for memory in memories:
        memory.look(random)
    return False


def check_answers(memories):
    """What the broker read has an answer: those without one are the last that were sent."""
    counts = collections.Counter()
    for memory in memories:
        client = memory.client
        # One who reads too slowly for limits.close_linger_ms misses the last frames.
        check(client.close_reason in ("SHUTDOWN", None), f"{memory.name}: {client.close_reason}")
        counts["cut off"] += client.close_reason is None
        first = min(client.waiting, default=client.last_id + 1)
        check_equal(
            sorted(client.waiting),
            list(range(first, client.last_id + 1)),
            f"{memory.name}: the requests without an answer",
        )
        counts.update(memory.outcomes.values())
    check(counts["cut off"] < len(memories), "nobody was told Close(SHUTDOWN)")
    counts["unread"] = counts.pop("none", 0)
    return counts


def check_arrived(memories, lossy=False):
    """Each message that was accepted has arrived, unless that was lossy and nobody waited for its
    delivery; each that was refused has not. Gives how many were lost."""
    by_name = {memory.name: memory for memory in memories}
    lost = 0
    for memory in memories:
        for (receiver, number), word in memory.outcomes.items():
            arrived = (memory.name, number) in by_name[receiver].had
            what = f"message {number} of {memory.name} to {receiver}, answered {word},"
            if word == "done":
                lost += not arrived
                check(
                    arrived or lossy and (receiver, number) not in memory.delivered,
                    f"{what} did not arrive",
                )
            elif word in REFUSED:
                check(not arrived, f"{what} arrived")
    return lost


def stop_under_load(random, signals, users, seconds):
    """Traffic, the signals, and what everybody has after the restart."""
    with Broker(LARGE) as broker:
        memories = begin(broker, users)
        with Crowd([memory.client for memory in memories]) as crowd:
            until = time.monotonic() + seconds
            run(memories, crowd, random, lambda: time.monotonic() > until)
            began = time.monotonic()
            for number in signals:
                broker.process.send_signal(number)
            run(memories, crowd, random, lambda: False)  # they go on until they are cut off
            read_to_the_end(memories, crowd, random)
        check_equal(broker.stop(), 0, "exit code")
        took = time.monotonic() - began
        counts = check_answers(memories)
        sent = sum(memory.number for memory in memories)
        print(
            f"     {sent} sends in {seconds:.1f} s: {dict(counts)}; exit {took:.2f} s after "
            f"SIGTERM"
        )
        saved = broker.log_events("inboxes_saved")[-1]
        check_equal(saved["failed"], 0, "inboxes that were not saved")
        broker.restart()
        resumed = come_back(broker, memories, random)
        check_arrived(memories)
        print(
            f"     {saved['messages']} messages saved; {resumed} resumed, "
            f"{users - resumed} logged in"
        )
        for memory in memories:
            memory.client.close()


def come_back(broker, memories, random):
    """Everybody resumes, which is COMPLETE, or logs in anew. Gives how many resumed."""
    resumed = 0
    for memory in memories:
        if random.random() < 0.6:
            again = memory.resume(broker)
            check_equal(
                (again.epoch, again.replay, again.next_seq),
                (memory.welcome.epoch, client_pb.Welcome.COMPLETE, memory.seq + 1),
                f"the Welcome of {memory.name}",
            )
            resumed += 1
            memory.expect_all_kept()
            continue
        before, acked = set(memory.had), memory.acked
        open_still = {key for seq, key in memory.unacked.items() if seq > acked}
        inherited = memory.log_in(broker)
        memory.expect_all_kept()
        again = before & set(memory.unacked.values())
        check(open_still <= again <= inherited, f"{memory.name} inherited {sorted(again)}")
    return resumed


def scene_sigterm_under_load():
    stop_under_load(seed(), [signal.SIGTERM], users=12, seconds=scaled(20, 5) / 10)


def scene_more_signals():
    """The second signal, and the third, change nothing."""
    random = seed()
    for signals in ([signal.SIGTERM] * 2, [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]):
        stop_under_load(random, signals, users=4, seconds=0.3)


def scene_kill_under_load():
    """kill -9: sessions are there, messages are not, and a resume does not pretend otherwise."""
    random = seed()
    with Broker(LARGE) as broker:
        memories = begin(broker, 6)
        with Crowd([memory.client for memory in memories]) as crowd:
            until = time.monotonic() + 0.5
            run(memories, crowd, random, lambda: time.monotonic() > until)
            broker.kill()
            read_to_the_end(memories, crowd, random)
        broker.restart()
        for memory in memories:
            again = memory.resume(broker)
            check_equal(
                (again.epoch, again.replay),
                (memory.welcome.epoch, client_pb.Welcome.PARTIAL),
                f"the Welcome of {memory.name} after kill -9",
            )
            check(again.next_seq > memory.seq, f"next_seq {again.next_seq} after {memory.seq}")
            memory.expect_nothing_kept()
        lost = check_arrived(memories, lossy=True)
        print(
            f"     {sum(memory.number for memory in memories)} sends, {lost} of the accepted "
            f"messages were lost, and every resume said PARTIAL"
        )
        for memory in memories:
            memory.client.close()


# --- what a stop keeps ---------------------------------------------------------------------------


def leave_messages(broker, name, count, acks=True):
    """A detached session with that many messages waiting. Gives its Welcome."""
    backend = Backend(broker, service="news", timeout=SLOW_SECONDS)
    with Client(broker, timeout=SLOW_SECONDS) as client:
        welcome = client.login(name, acks=acks)
        client.drop()
    eventually(
        lambda: backend.lookup(name).sessions[0].state == 2, f"{name} detached", SLOW_SECONDS
    )
    for number in range(count):
        check_equal(backend.push(name, b"%d" % number).push.accepted, 1, "a push")
    backend.close()
    return welcome


def expect_kept(broker, name, welcome, count, last_seq=0):
    """A resume that is COMPLETE and gives exactly those."""
    with Client(broker, timeout=SLOW_SECONDS) as client:
        again = client.resume(welcome, last_seq, name=name)
        check_equal(
            (again.epoch, client_pb.Welcome.Replay.Name(again.replay), again.next_seq),
            (welcome.epoch, "COMPLETE", last_seq + 1),
            f"the Welcome of {name}",
        )
        for number in range(last_seq, count):
            client.expect("message", seq=number + 1, payload=b"%d" % number, service="news")
        client.ping(SLOW_SECONDS)
        client.expect_nothing(0)
        client.drop()


def said_to(broker, name, welcome):
    with Client(broker, timeout=SLOW_SECONDS) as client:
        again = client.resume(welcome, 0, name=name)
        client.ping(SLOW_SECONDS)
        got = len(client.frames)
        client.drop()
        return client_pb.Welcome.Replay.Name(again.replay), got


def scene_stopped_again_and_again():
    """Nobody comes between two stops, or somebody reads and does not acknowledge: all is kept, with
    or without acks, until a kill."""
    with Broker() as broker:
        welcomes = {
            name: leave_messages(broker, name, 5, acks=name != "deaf")
            for name in ("alice", "bob", "deaf")
        }
        empty = leave_messages(broker, "empty", 0)
        for turn in range(3):
            check_equal(broker.stop(), 0, "exit code")
            broker.restart()
            expect_kept(broker, "bob", welcomes["bob"], 5, last_seq=turn)
        expect_kept(broker, "alice", welcomes["alice"], 5)
        expect_kept(broker, "deaf", welcomes["deaf"], 5)
        expect_kept(broker, "empty", empty, 0)
        broker.stop()
        broker.restart()  # reads what was saved, and drops it
        broker.kill()
        broker.restart()
        for name in ("alice", "bob", "empty"):
            check_equal(
                said_to(broker, name, welcomes.get(name, empty)),
                ("PARTIAL", 0),
                f"{name} after the kill",
            )


def scene_login_inherits():
    """A fresh login after the stop has what its predecessor had not acknowledged, marked, and again
    after another stop."""
    with Broker() as broker:
        leave_messages(broker, "alice", 4)
        for turn in range(3):
            check_equal(broker.stop(), 0, "exit code")
            broker.restart()
            with Client(broker, timeout=SLOW_SECONDS) as alice:
                welcome = alice.login("alice", acks=True)
                check_equal(
                    (welcome.replay, welcome.next_seq), (client_pb.Welcome.FRESH, 1), "the Welcome"
                )
                for number in range(turn, 4):
                    alice.expect(
                        "message",
                        seq=number - turn + 1,
                        payload=b"%d" % number,
                        redelivered=True,
                        service="news",
                    )
                check_equal(alice.ask("ack", seq=1).WhichOneof("body"), "done", "the Ack")


def scene_requests_in_flight():
    """A call that a service has, a message that nobody acknowledged, a login that comes too late:
    each is answered DRAINING; what was sent is delivered after the restart."""
    with Broker() as broker:
        leave_messages(broker, "bob", 0)
        service = Backend(broker, service="slow", timeout=SLOW_SECONDS)
        alice = Client(broker, timeout=SLOW_SECONDS)
        alice.login("alice")
        called = alice.post("call", service="slow", method="m", timeout_ms=60000)
        call = service.expect_call(SLOW_SECONDS)
        service.mail.clear()
        sent = alice.post("send", to="bob", payload=b"until delivered", until=DELIVERED)
        alice.ping(SLOW_SECONDS)
        stranger = Client(broker, timeout=SLOW_SECONDS)  # connected before the stop
        began = time.monotonic()
        broker.process.send_signal(signal.SIGTERM)
        broker.wait_log("stopping", SLOW_SECONDS)
        frames = alice.read_to_end(SLOW_SECONDS)
        answers = {
            frame.id: client_pb.Error.Code.Name(frame.error.code)
            for frame in frames
            if frame.WhichOneof("body") == "error"
        }
        check_equal(answers, {called: "DRAINING", sent: "DRAINING"}, "what alice was told")
        check_equal(client_pb.Close.Reason.Name(frames[-1].close.reason), "SHUTDOWN", "the end")
        with contextlib.suppress(OSError, ConnectionEnded):
            stranger.post("login", username="stranger")
        stranger.read_to_end(SLOW_SECONDS)
        check_equal(broker.stop(), 0, "exit code")
        print(f"     stopped in {time.monotonic() - began:.2f} s")
        service.lose()
        broker.restart()
        with Client(broker, timeout=SLOW_SECONDS) as bob:
            bob.login("bob", acks=True)
            bob.expect("message", payload=b"until delivered", redelivered=True)
        service.hello()
        with Client(broker, timeout=SLOW_SECONDS) as again:
            again.resume(alice.welcome, 0, name="alice")
            check(call.call, "the call has no number")
            service.reply(call, 0, b"late")
            again.ping(SLOW_SECONDS)
            again.expect_nothing(0)  # DRAINING was the one answer
        service.lose()


def scene_backends_are_told():
    """GOAWAY comes with the mail, and the connections end."""
    with Broker() as broker:
        service = Backend(broker, service="chat", timeout=SLOW_SECONDS)
        service.fetch(wait_ms=1)
        broker.process.send_signal(signal.SIGTERM)
        batch = service.fetch(wait_ms=1500)
        kinds = [mail.control.kind for mail in batch.mail]
        check_equal(kinds, [backend_pb.Control.GOAWAY], "what the service is told")
        check_equal(broker.stop(), 0, "exit code")
        service.lose()


# --- a stop at a bad moment ----------------------------------------------------------------------


def fill(broker, count, messages):
    """Sessions, some of them with messages waiting. Gives {name: (Welcome, how many)}."""
    kept = {}
    for number in range(count):
        client = Client(broker, timeout=SLOW_SECONDS)
        name = f"user{number:05}"
        kept[name] = client.login(name, acks=True), messages if number % 10 == 0 else 0
        client.drop()
    backend = Backend(broker, service="news", timeout=SLOW_SECONDS)
    eventually(lambda: backend.numbers("count")["detached"] == count, "all detached", SLOW_SECONDS)
    for name, (_, waiting) in kept.items():
        for number in range(waiting):
            check_equal(backend.push(name, b"%d" % number).push.accepted, 1, "a push")
    backend.close()
    return kept


def scene_sigterm_during_start():
    """At any moment of a start, over and over: nothing that was saved is lost, neither a session
    nor a message."""
    random = seed()
    count, starts = scaled(3000, 300), scaled(20, 6)
    with Broker({"session.resume_ms": 3600000, "limits.inbox_age_ms": 3600000}) as broker:
        kept = fill(broker, count, 5)
        check_equal(broker.stop(), 0, "exit code")
        broker.restart()
        ready = broker.ready_seconds
        check_equal(broker.stop(), 0, "exit code")
        codes, longest = collections.Counter(), 0
        for _ in range(starts):
            broker.start(wait=False)
            time.sleep(random.uniform(0, ready * 1.2))
            began = time.monotonic()
            code = broker.stop()
            longest = max(longest, time.monotonic() - began)
            # Before its handler is there, the signal simply ends the process.
            check(code in (0, -signal.SIGTERM), f"exit {code}")
            codes["orderly" if code == 0 else "at once"] += 1
        broker.restart()
        tool = Backend(broker, hello=False, timeout=SLOW_SECONDS)
        infos = {info.user: info for info in tool.list_all(limit=500)[0]}
        check_equal(
            {name: info.epoch for name, info in infos.items()},
            {name: welcome.epoch for name, (welcome, _) in kept.items()},
            "the sessions",
        )
        check_equal(
            {name: info.inbox_messages for name, info in infos.items()},
            {name: waiting for name, (_, waiting) in kept.items()},
            "the messages",
        )
        tool.close()
        names = list(kept)
        for name in random.sample(names[::10], 10) + random.sample(names, 10):
            expect_kept(broker, name, *kept[name])
        print(
            f"     {count} sessions, ready in {ready:.2f} s; {starts} starts were stopped: "
            f"{dict(codes)}, at most {longest:.2f} s after SIGTERM"
        )


def scene_one_who_does_not_read():
    """A stop does not wait for him for ever; more signals do not shorten what is saved."""
    options = {
        "limits.output_soft_ms": 600000,
        "limits.output_bytes": 64 << 20,
        "limits.output_soft_bytes": 64 << 20,
    }
    with Broker(options) as broker:
        welcome = leave_messages(broker, "alice", 5)
        bob = Client(broker, timeout=SLOW_SECONDS)
        bob.login("bob")
        slow = Client(broker, receive_buffer=4096)
        slow.login("slow")
        for _ in range(120):
            bob.ask("send", to="slow", payload=b"f" * 60000)
        began = time.monotonic()
        for _ in range(3):
            broker.process.send_signal(signal.SIGTERM)
        check_equal(broker.stop(), 0, "exit code")
        took = time.monotonic() - began
        print(f"     stopped in {took:.2f} s beside one who does not read")
        check(took < STOP_SECONDS, f"the stop took {took:.1f} s")
        slow.drop()
        bob.close()
        broker.restart()
        expect_kept(broker, "alice", welcome, 5)


@contextlib.contextmanager
def failing_broker():
    shim = Shim()
    try:
        with Broker({"store.path": shim.store}, environment=shim.environment()) as broker:
            yield shim, broker
    finally:
        shim.close()


def scene_a_map_that_is_too_small():
    """Not silently: the stop says of how many, saves the others, and who is concerned is told PARTIAL."""
    options = {
        "store.map_bytes": 2 << 20,
        "store.events_kept": 1024,
        "limits.inbox_bytes": 1 << 20,
        "limits.inbox_age_ms": 3600000,
    }
    with Broker(options) as broker:
        small = leave_messages(broker, "alice", 3)
        sizes = {f"keeper{number}": 50000 for number in range(8)}  # 8 times 500 kB
        with Client(broker, timeout=SLOW_SECONDS) as sender:
            sender.login("sender")
            welcomes = {}
            for name, size in sizes.items():
                with Client(broker, timeout=SLOW_SECONDS) as keeper:
                    welcomes[name] = keeper.login(name, acks=True)
                    keeper.drop()
                for _ in range(10):
                    sender.ask("send", to=name, payload=b"x" * size)
        check_equal(broker.stop(), UNSAVED, "the exit code")
        (saved,) = broker.log_events("inboxes_saved")
        (lost,) = broker.log_events("inboxes_lost")
        check(0 < lost["sessions"] < 9 and lost["sessions"] == saved["failed"], f"{saved} {lost}")
        broker.restart({"store.map_bytes": 64 << 20})
        told = collections.Counter(
            said_to(broker, name, welcome)[0]
            for name, welcome in {"alice": small, **welcomes}.items()
        )
        print(f"     {lost['sessions']} were lost ({lost['error']}), told afterwards: {dict(told)}")
        check(lost["sessions"] - told["PARTIAL"] in (0, 1), "the sender alone may be another one")
        check(told["COMPLETE"] > 0, f"nobody's inbox was saved: {told}")


def scene_store_fails_at_the_stop():
    """A full disk, a dead one, a sync that fails: the stop ends in time, the sessions of before are
    there, and nothing is said to be complete that is not."""
    for what, calls, error in (
        ("full", ANY, errno.ENOSPC),
        ("dead", ANY, errno.EIO),
        ("sync fails", SYNCS | SYNCED_WRITES, errno.EIO),
    ):
        with failing_broker() as (shim, broker):
            welcome = leave_messages(broker, "alice", 5)
            online = Client(broker, timeout=SLOW_SECONDS)
            online.login("bob")
            shim.fail(calls, error)
            began = time.monotonic()
            code = broker.stop()
            took = time.monotonic() - began
            failed = [line["failed"] for line in broker.log_events("inboxes_saved")]
            lost = broker.log_events("inboxes_lost")
            print(
                f"     {what}: exit {code} after {took:.2f} s, inboxes that were not saved: "
                f"{failed}, because: {[line['error'] for line in lost]}"
            )
            check(code == UNSAVED and took < STOP_SECONDS, f"exit {code} after {took:.1f} s")
            check(sum(failed) == 2, f"the log says that {failed} inboxes were not saved")
            check_equal([line["sessions"] for line in lost], [2], "inboxes_lost")
            online.read_to_end(SLOW_SECONDS)
            shim.heal()
            broker.restart()
            check_equal(said_to(broker, "alice", welcome), ("PARTIAL", 0), "the resume")
            check_equal(said_to(broker, "bob", online.welcome)[0], "PARTIAL", "the other resume")
            tool = Backend(broker, hello=False, timeout=SLOW_SECONDS)
            check_presence(tool.all_events(), first_seq=1)
            tool.close()


if __name__ == "__main__":
    play(
        scene_sigterm_under_load,
        scene_more_signals,
        scene_kill_under_load,
        scene_stopped_again_and_again,
        scene_login_inherits,
        scene_requests_in_flight,
        scene_backends_are_told,
        scene_sigterm_during_start,
        scene_one_who_does_not_read,
        scene_a_map_that_is_too_small,
        scene_store_fails_at_the_stop,
    )
