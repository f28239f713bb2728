# SPDX-License-Identifier: Apache-2.0
"""A planned end under relentless traffic: clients go in waves and are told when to come back, backends
work until the end, no session is lost, and clients with acks lose no message."""

import collections
import concurrent.futures
import datetime
import json
import signal
import subprocess
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    check_presence,
    client_pb,
    eventually,
    logged_in,
    play,
    program,
    scaled,
    seed,
)
from usherplay.client import Crowd
from usherplay.filebroker import FileBroker

SLOW_SECONDS = 60
LARGE = {
    "limits.inbox_messages": 65536,
    "limits.inbox_bytes": 64 << 20,
    "limits.inbox_age_ms": 600000,
}
REFUSED = ("INBOX_FULL", "BUSY", "NOT_ONLINE", "DRAINING", "NO_SERVICE", "TIMEOUT", "SERVICE_LOST")


class Player(Client):
    """Sends numbered messages to the others, and calls; acknowledges all that it gets."""

    def __init__(self, broker, memory):
        super().__init__(broker, timeout=SLOW_SECONDS)
        self.memory = memory


class Memory:
    def __init__(self, name):
        self.name = name
        self.seq = 0
        self.had = set()
        self.waiting = {}
        self.outcomes = {}
        self.replies = 0
        self.number = 0
        self.close = None
        self.closed_at = None
        self.client = None
        self.welcome = None

    def log_in(self, broker):
        self.client = Player(broker, self)
        self.welcome = self.client.login(self.name, acks=True)

    def talk(self, names, random):
        while len(self.waiting) < 20 and not self.client.ended and self.close is None:
            self.number += 1
            try:
                if self.number % 10 == 0:
                    id = self.client.post("call", service="echo", method="m", payload=b"x")
                    self.waiting[id] = None
                else:
                    to = random.choice(names)
                    id = self.client.post("send", to=to, payload=b"%d" % self.number)
                    self.waiting[id] = to, self.number
            except OSError:
                return

    def look(self):
        while self.client.frames:
            self.take(self.client.frames.popleft())

    def take(self, frame):
        kind = frame.WhichOneof("body")
        if kind == "message":
            check_equal(frame.message.seq, self.seq + 1, f"seq of a message to {self.name}")
            self.seq = frame.message.seq
            self.had.add((getattr(frame.message, "from"), int(frame.message.payload)))
            try:
                self.client.post("ack", id=0, seq=self.seq)
            except OSError:
                pass
        elif kind in ("done", "error", "reply"):
            key = self.waiting.pop(frame.id)
            word = client_pb.Error.Code.Name(frame.error.code) if kind == "error" else kind
            check(word in ("done", "reply") + REFUSED, f"{self.name}: answered {word}")
            self.replies += kind == "reply"
            if key is not None:
                self.outcomes[key] = word
        elif kind == "close":
            self.close = frame.close
            self.closed_at = time.monotonic()


class Echo(threading.Thread):
    """A service that answers until the broker is gone."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.backend = Backend(broker, service="echo", timeout=SLOW_SECONDS)
        self.last = self.goaway = None
        self.start()

    def run(self):
        try:
            while True:
                self.backend.fetch()
                while self.backend.mail:
                    self.take(self.backend.mail.popleft())
        except Exception:  # the end, however it looks
            pass

    def take(self, mail):
        if mail.WhichOneof("body") == "control":
            self.goaway = self.goaway or time.monotonic()
        else:
            self.backend.reply(mail.call, payload=mail.call.payload)
            self.last = time.monotonic()


def drain(broker, seconds):
    done = subprocess.run(
        [program("usherctl"), "--url", broker.link_url, "drain", "--seconds", str(seconds)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    check_equal(done.returncode, 0, f"usherctl drain: {done.stderr}")


def until_the_end(memories, crowd, random):
    names = [memory.name for memory in memories]
    deadline = time.monotonic() + SLOW_SECONDS
    while crowd.clients():
        check(time.monotonic() < deadline, "the drain does not end")
        for memory in memories:
            memory.talk(names, random)
        for client in crowd.read(0.01):
            client.memory.look()
    for memory in memories:
        memory.look()


def seconds_of(event):
    return datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


def check_waves(broker, memories, began, seconds):
    """Not all at once: each third of the time sees some go; and nobody is to come back too early."""
    check(all(memory.close is not None for memory in memories), "somebody was not told")
    thirds = collections.Counter()
    for memory in memories:
        check_equal(client_pb.Close.Reason.Name(memory.close.reason), "SHUTDOWN", memory.name)
        after = memory.closed_at - began
        thirds[min(2, int(after / seconds * 3))] += 1
        # What was left when it was told, and that is before it was read.
        check(
            memory.close.retry_after_ms >= (seconds - after) * 1000 - 500,
            f"{memory.name} is to come back {memory.close.retry_after_ms} ms after {after:.1f} s",
        )
    # Judged by the log, which samples: a client behind a backlog reads its Close late.
    start = seconds_of(broker.log_events("draining")[0])
    seen = {
        min(2, int((seconds_of(event) - start) / seconds * 3))
        for event in broker.log_events("detached")
    }
    check(len(seen) == 3, f"the clients did not go in waves: only in the thirds {seen}")
    return dict(sorted(thirds.items()))


def come_back(broker, memories, random):
    for memory in memories:
        client = memory.client = Player(broker, memory)
        again = client.resume(memory.welcome, memory.seq, name=memory.name)
        check_equal(
            (again.epoch, client_pb.Welcome.Replay.Name(again.replay)),
            (memory.welcome.epoch, "COMPLETE"),
            f"the Welcome of {memory.name}",
        )
        id = client.post("ping", stamp=1)
        while True:
            frame = client.next_frame(SLOW_SECONDS)
            check(frame is not None, f"{memory.name}: no answer to a Ping")
            if frame.WhichOneof("body") == "pong" and frame.id == id:
                break
            memory.take(frame)


def check_arrived(memories):
    by_name = {memory.name: memory for memory in memories}
    counts = collections.Counter()
    for memory in memories:
        for (to, number), word in memory.outcomes.items():
            counts[word] += 1
            arrived = (memory.name, number) in by_name[to].had
            check(
                arrived or word != "done",
                f"message {number} of {memory.name} to {to} was " "accepted and did not arrive",
            )
            check(
                not arrived or word in ("done", "DRAINING"),
                f"message {number} of {memory.name} was answered {word} and arrived",
            )
    return dict(counts)


def scene_drain_under_load():
    """Relentless traffic through a drain and a restart."""
    random = seed()
    seconds, count = 3, scaled(60, 12)
    with Broker(LARGE) as broker:
        memories = [Memory(f"user{number:02}") for number in range(count)]
        for memory in memories:
            memory.log_in(broker)
        echo = Echo(broker)
        with Crowd([memory.client for memory in memories]) as crowd:
            began = time.monotonic()
            drain(broker, seconds)
            until_the_end(memories, crowd, random)
            last = max(memory.closed_at or 0 for memory in memories)
        check_equal(broker._wait_end(SLOW_SECONDS), 0, "exit code of the drain")
        took = time.monotonic() - began
        thirds = check_waves(broker, memories, began, seconds)
        check(sum(memory.replies for memory in memories) > 0, "no call was answered")
        check(
            echo.last is not None and echo.last > began + seconds / 3,
            "the service was cut off early",
        )
        check(
            echo.goaway is None or echo.goaway >= began + seconds - 0.1,
            "the service was told to go before the clients were gone",
        )
        broker.wait_log("draining")
        check_equal(len(broker.log_events("draining")), 1, "draining in the log")
        broker.restart()
        come_back(broker, memories, random)
        counts = check_arrived(memories)
        with Backend(broker, service="watch", timeout=SLOW_SECONDS) as watch:
            check_presence(watch.all_events())
            check_equal(watch.numbers("count")["online"], count, "who is online again")
        for memory in memories:
            memory.client.close()
        print(
            f"     {count} clients, over {seconds} s: {thirds} went in each third, exit after "
            f"{took:.1f} s; sends {counts}; the last call was answered "
            f"{last - echo.last:.2f} s before the last Close"
        )


def scene_nobody_there():
    """An empty broker has nothing to wait for. A session without a connection is kept: it expires
    neither in the drain, which is longer than its window, nor at once after it."""
    with Broker({"session.resume_ms": 700, "process.drain_ms": 1000000}) as broker:
        broker.process.send_signal(signal.SIGUSR2)
        check_equal(broker._wait_end(SLOW_SECONDS), 0, "exit code")
        broker.restart({"session.resume_ms": 2000, "process.drain_ms": 5000})
        with Client(broker) as stays, Client(broker) as goes:
            early = goes.login("early", acks=True)  # its turn comes after 2.5 s
            stays.login("late")
            goes.drop()
            broker.wait_log("detached")
            broker.process.send_signal(signal.SIGUSR2)
            stays.read_to_end(SLOW_SECONDS)
        check_equal(broker._wait_end(SLOW_SECONDS), 0, "exit code")
        check_equal(broker.log_events("offline"), [], "sessions that ended")
        broker.restart({"session.resume_ms": 60000})
        with Client(broker) as client:
            check_equal(client.resume(early, 0, name="early").epoch, early.epoch, "the epoch")


def come_back_when_told(client, name, welcome, broker):
    """Waits as the Close says, tries again as often as it takes; gives how long that was."""
    close = client.expect_close("SHUTDOWN")
    began = time.monotonic()
    client.close()
    time.sleep(close.retry_after_ms / 1000)
    while True:
        try:
            again = Client(broker, timeout=SLOW_SECONDS)
            break
        except OSError:
            time.sleep(0.1)
    check_equal(
        client_pb.Welcome.Replay.Name(again.resume(welcome, 0, name=name).replay),
        "COMPLETE",
        f"the Welcome of {name}",
    )
    return time.monotonic() - began, again


def scene_restart():
    """A node that is alone: nobody is sent away before it stops, it comes back by itself in the same
    process, and nobody is away for longer than the spread of a stop and the start."""
    count = scaled(40, 8)
    with Broker(LARGE) as broker:
        pid = broker.process.pid
        clients = logged_in(
            broker, [f"user{number}" for number in range(count)], acks=True, timeout=SLOW_SECONDS
        )
        welcomes = [client.welcome for client in clients]
        done = subprocess.run(
            [program("usherctl"), "--url", broker.link_url, "drain", "--restart", "--seconds", "5"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        check_equal(done.returncode, 64, f"--restart and --seconds: {done.stderr}")
        clients[0].ping()
        clients[0].send("user1", b"kept")
        clients[1].expect("message", payload=b"kept")  # and not acknowledged
        began = time.monotonic()
        done = subprocess.run(
            [program("usherctl"), "--url", broker.link_url, "drain", "--restart"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        check_equal(done.returncode, 0, f"usherctl drain --restart: {done.stderr}")
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            away = list(
                pool.map(
                    lambda number: come_back_when_told(
                        clients[number], f"user{number}", welcomes[number], broker
                    ),
                    range(count),
                )
            )
        took = sorted(seconds for seconds, again in away)
        away[1][1].expect("message", payload=b"kept", redelivered=True)
        broker.wait_log("ready", count=2)
        gap = seconds_of(broker.log_events("ready")[1]) - seconds_of(
            broker.log_events("stopping")[0]
        )
        check(not broker.log_events("draining"), "it drained")
        check_equal((broker.process.poll(), broker.process.pid), (None, pid), "the process")
        check(took[-1] < 5 + gap + 5, f"away for {took[-1]:.1f} s, the node for {gap:.2f} s")
        print(
            f"     {count} clients were away for {took[count // 2]:.1f} s (median), {took[-1]:.1f} s at "
            f"most; the node for {gap:.2f} s; all were back {time.monotonic() - began:.1f} s after "
            f"the command"
        )
        for seconds, again in away:
            again.close()


def scene_restart_that_would_fail():
    """What the start would refuse refuses the restart: the node stays, and says why."""

    def restart(broker):
        done = subprocess.run(
            [program("usherctl"), "--url", broker.link_url, "drain", "--restart"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    with FileBroker({}, {"admin.listen": "127.0.0.1:0"}) as broker, Client(broker) as client:
        client.login("alice")
        for fault in (
            {"limits__users": 0},
            {"link__token_file": "/nowhere"},
            {"auth__mode": "token", "auth__keys_file": "/nowhere"},
            {
                "listen__tls": "127.0.0.1:0",
                "tls__certificate_file": "/nowhere",
                "tls__key_file": "/nowhere",
            },
        ):
            broker.write(**fault)
            code, lines = restart(broker)
            check_equal(
                (code, [line["event"] for line in lines]),
                (1, ["restart_refused"]),
                f"a restart with {fault}",
            )
            check(
                list(fault)[-1].replace("__", ".") in lines[0]["error"]
                or "tls" in lines[0]["error"],
                f"{fault}: {lines}",
            )
        client.ping()
        check_equal(broker.log_events("stopping"), [], "what it began")
        broker.write()
        check_equal(restart(broker), (0, []), "with a file that is good again")
        broker.wait_log("ready", count=2)


def scene_ended_early():
    """SIGTERM in the middle of a long drain stops at once; newcomers are refused from its start."""
    with Broker({"process.drain_ms": 600000, "limits.login_deadline_ms": 600000}) as broker:
        clients = [Client(broker) for _ in range(5)]
        for number, client in enumerate(clients):
            client.login(f"user{number}")
        stranger = Client(broker)
        broker.process.send_signal(signal.SIGUSR2)
        broker.wait_log("draining")
        stranger.read_to_end(10)  # had not logged in
        eventually(lambda: refused(broker), "a refused connection", SLOW_SECONDS)
        clients[0].ping()
        began = time.monotonic()
        check_equal(broker.stop(SLOW_SECONDS), 0, "exit code")
        print(f"     exit {time.monotonic() - began:.2f} s after SIGTERM")
        for client in [*clients, stranger]:
            client.close()


def refused(broker):
    try:
        with Client(broker) as client:
            client.read_to_end(5)
        return True
    except OSError:
        return True


play(
    scene_drain_under_load,
    scene_nobody_there,
    scene_restart,
    scene_restart_that_would_fail,
    scene_ended_early,
)
