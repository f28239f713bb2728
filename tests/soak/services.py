# SPDX-License-Identifier: Apache-2.0
"""What backends do in a soak: instances that are killed, frozen and replaced, one that joins and
drains, commands of every kind, and a follower who checks every event of the stream."""

import os
import signal
import subprocess
import sys
import time

from usherplay import Backend, LinkRefused, backend_pb, check, check_equal
from usherplay.backend import code_name, describe_event, push, reply_to, state_name
from usherplay.history import PresenceChain

from crowd import SERVICE, SLOW_SECONDS, Activity

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "play", "service.py")
INSTANCES = 3
REPLIES_MAX = 16


class Instances(Activity):
    """Processes of the service. Each round ends, freezes or replaces one of them."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.processes, self.extra = {}, 0

    def start(self, name):
        command = [sys.executable, "-u", PROGRAM, self.door.link_url, SERVICE, name, os.devnull]
        self.processes[name] = subprocess.Popen(command)

    def end_process(self, name, number):
        process = self.processes.pop(name)
        check(process.poll() is None, f"the instance {name} ended by itself")
        process.send_signal(number)
        process.wait()

    def round(self):
        while len(self.processes) < INSTANCES:
            self.extra += 1
            if f"inst{self.extra % 7}" not in self.processes:
                self.start(f"inst{self.extra % 7}")
        self.pause(1.0)
        name = self.random.choice(list(self.processes))
        way = self.random.choice(["killed", "ended", "frozen", "restarted"])
        self.tally[f"instances {way}"] += 1
        if way == "frozen":
            self.processes[name].send_signal(signal.SIGSTOP)
            self.pause(self.random.uniform(0.2, 2.5))
            self.processes[name].send_signal(signal.SIGCONT)
            return
        self.end_process(name, signal.SIGTERM if way == "ended" else signal.SIGKILL)
        if way == "restarted":
            self.start(name)

    def pause(self, seconds):
        """The length of a round; nothing depends on it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.stopping():
            time.sleep(0.05)

    def rest(self):
        for name in list(self.processes):
            self.end_process(name, signal.SIGKILL)


class Commands(Activity):
    """A service of its own that pushes, kicks and asks, and an instance that joins the crowd's
    service for a while, drains and leaves."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.backend = None

    def round(self):
        try:
            if self.backend is None:
                self.backend = Backend(self.door.link_url, service="office", timeout=SLOW_SECONDS)
            for _ in range(5):
                self.backend.fetch(wait_ms=1)
                self.command()
            if self.random.random() < 0.1:
                self.guest()
            if self.random.random() < 0.1:
                self.rest()
        except LinkRefused as refusal:
            # This thread may have waited for longer than the broker waits for a Fetch.
            check(refusal.code == "STALE_LINK", str(refusal))
            self.tally["links lost"] += 1
            self.rest()

    def command(self):
        user = f"churn{self.random.randrange(200)}"
        way = self.random.choice(["push", "push_all", "kick", "lookup", "list", "count"])
        self.tally[f"commands {way}"] += 1
        if way == "push":
            result = self.backend.submit(
                push([user, "victim-inbox", "slow1", "pen1"], b"p" * self.random.randrange(400))
            )[0]
            self.tally[f"push {code_name(result)}"] += 1
        elif way == "push_all":
            command = backend_pb.Command(push_all=backend_pb.PushAll(payload=b"to all"))
            check_equal(code_name(self.backend.submit(command)[0]), "OK", "a PushAll")
        elif way == "kick":
            result = self.backend.kick(user)
            check(code_name(result) in ("OK", "NOT_ONLINE"), f"a Kick: {code_name(result)}")
            self.tally["kicks"] += code_name(result) == "OK"
        elif way == "lookup":
            check_equal(len(self.backend.lookup(user, "pen1").sessions), 2, "a Lookup")
        elif way == "list":
            self.backend.list_all(prefix="churn")
        else:
            self.backend.numbers("count")  # gauges: they agree at rest, when they are compared

    def guest(self):
        """Joins, answers for a moment, says that it drains, answers what it has, leaves."""
        with Backend(self.door.link_url, service=SERVICE, timeout=SLOW_SECONDS) as guest:
            for turn in range(6):
                if turn == 3:
                    guest.submit(backend_pb.Command(drain=backend_pb.Drain()), lane=1)
                guest.fetch(wait_ms=50)
                calls = [mail.call for mail in guest.mail if mail.WhichOneof("body") == "call"]
                guest.mail.clear()
                replies = [
                    reply_to(call, 0, b"%s %d %s" % (call.user.encode(), call.epoch, call.payload))
                    for call in calls
                ]
                for start in range(0, len(replies), REPLIES_MAX):
                    guest.submit(*replies[start : start + REPLIES_MAX])
        self.tally["guests"] += 1

    def rest(self):
        if self.backend is not None:
            self.backend.close()
            self.backend = None


class Follower(Activity):
    """Follows the stream from its first event and holds the rules of presence against each."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.chain, self.seen = PresenceChain(first_seq=1), 0
        self.connect()  # before anybody comes

    def connect(self):
        self.backend = Backend(
            self.door.link_url,
            presence=True,
            presence_after=self.seen,
            hello=False,
            timeout=SLOW_SECONDS,
        )
        self.backend.hello()
        # A cursor of 0 means "from now on", which is the beginning only when nobody was there.
        check_equal(self.backend.accepted.presence_from, self.seen + 1, "where the stream begins")

    def round(self):
        try:
            if self.backend is None:
                self.connect()
            self.follow(200)
            if self.random.random() < 0.01:  # another connection, another instance
                self.rest()
        except LinkRefused as refusal:
            check(refusal.code == "STALE_LINK", str(refusal))
            self.tally["links lost"] += 1
            self.rest()

    def follow(self, wait_ms):
        batch = self.backend.fetch(wait_ms=wait_ms)
        check(not batch.presence_reset, "the follower is told that it missed events")
        for event in batch.presence:
            wrong = self.chain.take(event)
            check(not wrong, f"{describe_event(event)}: {wrong}")
            self.seen = event.seq
        del self.backend.events[:-1]
        self.backend.mail.clear()
        self.tally["events"] += len(batch.presence)
        return batch.presence_last

    def rest(self):
        if self.backend is not None:
            self.backend.close()
            self.backend = None

    def catch_up(self):
        """To the end of the stream, where the chain's end must be the truth."""
        self.connect()
        deadline = time.monotonic() + SLOW_SECONDS
        while self.follow(20) > self.seen:
            check(time.monotonic() < deadline, "the follower does not reach the end")
        listed = {
            session.user: (state_name(session), session.epoch)
            for session in self.backend.list_all()[0]
        }
        self.rest()
        check_equal(listed, self.chain.living(), "who lives, by the list and by the stream")
        return listed
