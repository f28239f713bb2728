# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments under logins: no acknowledged login is lost, no epoch used twice, the
stored stream has no gap and no double, and a resume says truthfully whether messages are missing.

USHER_PLAY_KILLS=200 USHER_PLAY_USERS=500 is the size for a long run."""

import os
import random as randoms
import subprocess
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    ConnectionEnded,
    check,
    check_equal,
    check_presence,
    client_pb,
    play,
    scaled,
    seed,
)
from usherplay.broker import program

USERS = int(os.environ.get("USHER_PLAY_USERS", "60"))
KILLS = int(os.environ.get("USHER_PLAY_KILLS", "0")) or max(3, scaled(15, 5))
AT_ONCE = 6
OPTIONS = {"session.resume_ms": 3600000, "limits.takeovers_per_minute": 0}
WRITTEN_TO = 8  # users who get messages, and resume after each kill


class Players:
    """Logs users in and out until the broker is gone, and remembers what it was promised. Used by
    one thread at a time."""

    def __init__(self, broker, random):
        self.broker = broker
        self.random = random
        self.promised = {}  # user -> epoch of the last Welcome that no Logout followed
        self.left = set()  # users whose Logout was answered and who did not try again
        self.highest = {}  # user -> highest epoch of any Welcome
        self.welcomes = 0
        self.problem = None

    def run(self):
        held = []
        try:
            while True:
                held += self._some_logins()
                while len(held) > 30:
                    self._leave(held.pop(self.random.randrange(len(held))))
        except (ConnectionEnded, OSError):
            pass  # the broker was killed
        except AssertionError as error:
            self.problem = error
        for client in held:
            client.close()

    def _some_logins(self):
        clients = []
        for _ in range(self.random.randrange(1, AT_ONCE + 1)):
            client = Client(self.broker)
            client.name = f"user{self.random.randrange(USERS):03}"
            self.left.discard(client.name)
            client.post("login", username=client.name)
            clients.append(client)
        for client in clients:
            frame = client.next_frame()
            check(frame is not None, "a login without an answer")
            if frame.WhichOneof("body") == "close":
                continue  # replaced by one of the same batch before it was welcomed
            self._welcomed(client.name, frame.welcome.epoch)
        return clients

    def _welcomed(self, name, epoch):
        self.welcomes += 1
        # Two logins of one name in a batch may be welcomed in either order.
        check(epoch != self.highest.get(name), f"epoch {epoch} of {name} was given twice")
        self.highest[name] = max(epoch, self.highest.get(name, 0))
        self.promised[name] = max(epoch, self.promised.get(name, 0))

    def _leave(self, client):
        choice = self.random.random()
        if choice < 0.4:
            client.drop()
        elif choice < 0.7:
            client.close()
        else:
            self._log_out(client)

    def _log_out(self, client):
        try:
            client.post("logout")
            self.promised.pop(client.name, None)  # from here on it may be gone or not
            frame = client.next_frame()
        except (ConnectionEnded, OSError):
            if not self.broker.alive():
                raise
            client.close()
            return  # it had been replaced
        if frame is not None and frame.WhichOneof("body") == "done":
            self.left.add(client.name)
        client.close()


def check_map(players, backend):
    living = {info.user: info.epoch for info in backend.list_all()[0]}
    for name, epoch in players.promised.items():
        check(name in living, f"{name} was welcomed as epoch {epoch} and is forgotten")
        check(living[name] >= epoch, f"{name} was welcomed as {epoch}, the map says {living[name]}")
    for name in players.left:
        check(name not in living, f"{name} logged out and is in the map as {living.get(name)}")
    return living


class Reader:
    """A user who is written to without pause. It knows which messages the broker took for it, reads
    and acknowledges some, and after a kill it resumes and holds the answer against that."""

    def __init__(self, broker, name):
        self.broker = broker
        self.name = name
        self.client = self._login()

    def _login(self):
        client = Client(self.broker)
        client.login(self.name, acks=True)
        self.welcome = client.welcome
        self.taken = []  # payloads that were answered Done, in this session, by seq from 1
        self.last_seq = 0
        return client

    def accept(self, payload):
        self.taken.append(payload)

    def read_some(self, count):
        for _ in range(count):
            if self.last_seq < len(self.taken):
                self.last_seq += 1
                self.client.expect(
                    "message", seq=self.last_seq, payload=self.taken[self.last_seq - 1]
                )
        self.client.post("ack", id=0, seq=max(0, self.last_seq - 1))

    def resume(self, outcomes):
        """The promise: COMPLETE means that every message taken after last_seq comes now."""
        self.client.close()
        self.client = Client(self.broker)
        again = self.client.resume(self.welcome, self.last_seq, name=self.name)
        check_equal(again.epoch, self.welcome.epoch, "the epoch of a resume")
        replay = client_pb.Welcome.Replay.Name(again.replay)
        missing = self.taken[self.last_seq :]
        outcomes[replay, bool(missing)] = outcomes.get((replay, bool(missing)), 0) + 1
        check(replay in ("COMPLETE", "PARTIAL"), f"a resume that says {replay}")
        if replay == "COMPLETE":
            for number, payload in enumerate(missing):
                self.client.expect("message", seq=self.last_seq + 1 + number, payload=payload)
        self.client.post("logout")  # what is left is given up, so the next session begins at 1
        self.client.read_to_end()
        self.client = self._login()


class Talk:
    """Writes to the readers until the broker is gone."""

    def __init__(self, broker, random):
        self.broker = broker
        self.random = random
        self.readers = [Reader(broker, f"reader{number}") for number in range(WRITTEN_TO)]
        self.count = 0
        self.problem = None

    def run(self):
        try:
            writer = Client(self.broker)
            writer.login("writer")
            while True:
                reader = self.random.choice(self.readers)
                self.count += 1
                payload = b"%d" % self.count
                writer.send(reader.name, payload)
                reader.accept(payload)
                if len(reader.taken) - reader.last_seq > 100:  # its inbox is bounded
                    reader.read_some(90)
                elif self.random.random() < 0.3:
                    reader.read_some(self.random.randrange(1, 5))
        except (ConnectionEnded, OSError):
            pass  # the broker was killed
        except AssertionError as error:
            self.problem = error

    def resume_all(self, outcomes):
        for reader in self.readers:
            reader.resume(outcomes)


def run_until_the_kill(broker, random, *crowds):
    threads = [threading.Thread(target=crowd.run, daemon=True) for crowd in crowds]
    for thread in threads:
        thread.start()
    time.sleep(random.uniform(0.02, 0.4))
    check(broker.alive(), "the broker died by itself")
    broker.kill()
    for thread, crowd in zip(threads, crowds):
        thread.join(30)
        check(not thread.is_alive(), "the players did not notice the end")
        if crowd.problem:
            raise crowd.problem


def check_restart(players, stream):
    """The map and the stream right after a restart; the stream grows by what is new in it."""
    backend = Backend(players.broker, hello=False)
    living = check_map(players, backend)
    stream += backend.all_events(after=stream[-1].seq if stream else 0)
    last = check_presence(stream, first_seq=1)
    check_equal(
        {name: epoch for name, (_, epoch) in last.items()}, living, "the map against the stream"
    )
    for name, (state, _) in last.items():
        check_equal(state, "DETACHED", f"{name} right after the restart")
    backend.lose()


def store_bytes(broker):
    return os.path.getsize(os.path.join(broker.store, "data.mdb"))


def scene_kill_loop():
    random = seed()
    with Broker(OPTIONS) as broker:
        players = Players(broker, randoms.Random(random.random()))
        talk = Talk(broker, randoms.Random(random.random()))
        stream, starts, sizes, outcomes = [], [], [], {}
        for _ in range(KILLS):
            run_until_the_kill(broker, random, players, talk)
            broker.restart()
            starts.append(broker.ready_seconds)
            sizes.append(store_bytes(broker))
            check_restart(players, stream)
            talk.resume_all(outcomes)
        backend = Backend(broker, hello=False)
        check_equal(backend.all_events()[: len(stream)], stream, "the whole stream, read again")
        backend.lose()
        print(
            f"     {KILLS} kills of {USERS} users, {players.welcomes} welcomes, {len(stream)} "
            f"events; ready in {min(starts) * 1000:.0f} to {max(starts) * 1000:.0f} ms; the "
            f"store grew from {sizes[0]} to {sizes[-1]} bytes"
        )
        print(
            "     resumes: "
            + ", ".join(
                f"{count} {replay} with {'messages' if missing else 'nothing'} missing"
                for (replay, missing), count in sorted(outcomes.items())
            )
        )
        check(players.welcomes > KILLS, "too few logins to say anything")
        check(any(missing for _, missing in outcomes), "nobody had missed a message")


def scene_resume_after_a_stop_and_a_kill():
    """What an orderly stop may have saved must not be taken for what a later kill lost."""
    outcomes = {}
    with Broker(OPTIONS) as broker:
        reader = Reader(broker, "reader")
        for life, end in enumerate(("stop", "kill", "stop", "kill")):
            with Client(broker) as writer:
                writer.login("writer")
                for number in range(6):
                    payload = b"%d.%d" % (life, number)
                    writer.send("reader", payload)
                    reader.accept(payload)
            reader.read_some(2)
            reader.client.ping()
            getattr(broker, end)()
            broker.restart()
            reader.resume(outcomes)
    print(f"     resumes with messages missing: {outcomes}")


def scene_a_kill_invents_no_loss():
    """Who has all that was sent to him hears that something may be gone, and of no number of messages:
    the count goes on behind what he has. It is said again until he has spoken."""
    for acks in (True, False):
        with Broker(OPTIONS) as broker:
            alice, bob = Client(broker), Client(broker)
            welcome = alice.login("alice", acks=acks)
            bob.login("bob")
            for number in range(3):
                bob.send("alice", b"%d" % number)
                alice.expect("message", seq=number + 1)
            broker.kill()
            broker.restart()
            for _ in range(2):  # the first Welcome is lost
                alice = Client(broker)
                again = alice.resume(welcome, 3, name="alice")
                check_equal(
                    (again.replay, again.next_seq),
                    (client_pb.Welcome.PARTIAL, 4),
                    "the resume after a kill",
                )
                alice.drop()
            alice = Client(broker)
            alice.resume(welcome, 3, name="alice")
            alice.ping()
            alice.drop()
            bob = Client(broker)
            bob.login("bob")
            with Client(broker) as alice:
                again = alice.resume(welcome, 3, name="alice")
                check_equal(
                    (again.replay, again.next_seq),
                    (client_pb.Welcome.COMPLETE, 4),
                    "the resume when it was heard",
                )
                bob.send("alice", b"3")
                alice.expect("message", seq=4, payload=b"3")
            broker.kill()
            broker.restart()
            with Client(broker) as alice:
                alice.post(
                    "resume",
                    username="alice",
                    epoch=welcome.epoch,
                    secret=welcome.secret,
                    last_seq=4,
                    received_seq=9,
                )
                check_equal(
                    alice.expect("welcome").welcome.next_seq,
                    10,
                    "next_seq of one who has more than it has processed",
                )


def scene_the_tool_names_no_number():
    """usher listens through a kill, and says neither that messages are missing nor that none are."""
    with Broker(OPTIONS) as broker:
        tool = subprocess.Popen(
            [
                program("usher"),
                "listen",
                "--user",
                "alice",
                "--acks",
                "--port",
                str(broker.port),
                "--count",
                "2",
                "--timeout",
                "20",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        broker.wait_log("login")
        with Client(broker) as bob:
            bob.login("bob")
            bob.send("alice", b"before")
            time.sleep(0.3)
        broker.kill()
        broker.restart()
        broker.wait_log("resumed", 15)
        with Client(broker) as bob:
            bob.login("bob")
            bob.send("alice", b"after")
        said, _ = tool.communicate(timeout=20)
        check("before" in said and "after" in said, f"it said: {said}")
        check("missing" not in said and "may be" in said, f"it said: {said}")


if __name__ == "__main__":
    play(
        scene_kill_loop,
        scene_resume_after_a_stop_and_a_kill,
        scene_a_kill_invents_no_loss,
        scene_the_tool_names_no_number,
    )
