# SPDX-License-Identifier: Apache-2.0
"""Instances of a service that are killed, frozen, drained and joined under load: each call has one
outcome, each user's calls keep their order over all instances, and no answer goes astray."""

import atexit
import collections
import json
import os
import select
import signal
import subprocess
import sys
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    Failed,
    Link,
    backend_pb,
    check,
    check_equal,
    client_pb,
    eventually,
    logged_in,
    play,
    scaled,
    seed,
)
from usherplay.backend import code_name, push
from usherplay.figures import percentile

# A link that notices losses quickly.
QUICK = {"link.park_ms": 200, "link.grace_ms": 300, "link.fetch_timeout_ms": 800}
SERVICE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "service.py")
CALL_MS = 10000
LATE_SECONDS = 10  # how much later than its deadline an outcome may come on a slow machine
SLOW_SECONDS = 60  # for what surely happens, on any machine
KILLS = int(os.environ.get("USHER_PLAY_KILLS", scaled(6, 3)))
LOGINS_MAX = 20  # of one user: more in a minute are a fight
LOST_CODES = ("SERVICE_LOST", "TIMEOUT", "NO_SERVICE", "BUSY")


class Fleet:
    """Processes of one service and the file that they share."""

    def __init__(self, broker, service="chat"):
        self.broker = broker
        self.service = service
        self.path = os.path.join(broker.folder, "records")
        self.processes = {}  # name -> process
        self.known = collections.defaultdict(list)  # kind -> records read so far
        self.offset = 0  # of the file
        self.homes = {}  # user -> instance that processed his last call
        self.processed = collections.Counter()  # instance -> calls
        atexit.register(self.close)

    def start(self, name):
        command = [
            sys.executable,
            "-u",
            SERVICE,
            self.broker.link_url,
            self.service,
            name,
            self.path,
        ]
        self.processes[name] = subprocess.Popen(command)
        return self.processes[name]

    def kill(self, name):
        process = self.processes.pop(name)
        check(process.poll() is None, f"the instance {name} ended by itself")
        process.kill()
        process.wait()

    def signal(self, name, number):
        self.processes[name].send_signal(number)

    def records(self, what):
        """All so far of that kind. Only what is new is read, so that callers need not wait."""
        if os.path.exists(self.path):
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read()
            data = data[: data.rfind(b"\n") + 1]
            self.offset += len(data)
            for record in map(json.loads, data.splitlines()):
                self.known[record["what"]].append(record)
                if record["what"] == "call":
                    self.homes[record["user"]] = record["instance"]
                    self.processed[record["instance"]] += 1
        return self.known[what]

    def hellos(self, name):
        return sum(record["instance"] == name for record in self.records("hello"))

    def serves(self, name):
        """The process that has the name now."""
        return any(record["pid"] == self.processes[name].pid for record in self.records("hello"))

    def catch_at_work(self, name, seconds=0.2):
        """Until it has written down a call and perhaps not answered it, or has nothing to do."""
        self.records("call")
        before, deadline = self.processed[name], time.monotonic() + seconds
        while self.processed[name] == before and time.monotonic() < deadline:
            time.sleep(0.001)
            self.records("call")

    def wait_hello(self, *names, count=1):
        eventually(
            lambda: all(self.hellos(name) >= count for name in names),
            f"Hello of {names}",
            SLOW_SECONDS,
        )

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.processes.clear()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()


class Caller:
    """A user who keeps `window` calls outstanding. Numbers rise over all logins; request ids begin
    at 1 with each login, so that two logins use the same."""

    def __init__(self, broker, user, window=8):
        self.broker = broker
        self.user = user
        self.window = window
        self.number = 0
        self.epochs = {}  # number -> epoch that called
        self.client = None
        self.waiting = {}  # id -> (number, when)
        self.outcomes = collections.Counter()
        self.latencies = []
        self.abandoned = 0
        self.logins = 0
        self.log_in()

    def log_in(self):
        """A takeover, when there is a login already: what was outstanding has no outcome then."""
        newer = Client(self.broker, timeout=SLOW_SECONDS)
        newer.login(self.user)
        self.logins += 1
        if self.client is not None:
            for frame in self.client.read_to_end(SLOW_SECONDS):
                if frame.WhichOneof("body") != "close":
                    self._outcome(frame)
            self.abandoned += len(self.waiting)
            self.waiting.clear()
            self.client.close()
        self.client = newer

    def fill(self):
        while len(self.waiting) < self.window:
            self.number += 1
            self.epochs[self.number] = self.client.welcome.epoch
            id = self.client.post(
                "call", service="chat", method="m", timeout_ms=CALL_MS, payload=b"%d" % self.number
            )
            self.waiting[id] = (self.number, time.monotonic())

    def take(self):
        """What has arrived."""
        self.client.receive_more(0)
        while self.client.frames:
            self._outcome(self.client.frames.popleft())
        check(not self.client.ended, f"{self.user}: the connection ended: {self.client.ended}")

    def _outcome(self, frame):
        kind = frame.WhichOneof("body")
        check(frame.id in self.waiting, f"{self.user}: {kind} {frame.id}, which nobody waits for")
        number, began = self.waiting.pop(frame.id)
        self.latencies.append(time.monotonic() - began)
        if kind == "error":
            code = client_pb.Error.Code.Name(frame.error.code)
            check(code in LOST_CODES, f"{self.user}: call {number} was answered {code}")
            self.outcomes[code] += 1
            return
        check_equal(kind, "reply", f"{self.user}: the answer to call {number}")
        check_equal(
            frame.reply.payload.decode(),
            f"{self.user} {self.epochs[number]} {number}",
            f"{self.user}: the reply to call {number}",
        )
        self.outcomes["reply"] += 1

    def check_deadlines(self):
        now = time.monotonic()
        worst = max(
            [now - began for _, began in self.waiting.values()] + self.latencies[-1:], default=0
        )
        check(
            worst < CALL_MS / 1000 + LATE_SECONDS,
            f"{self.user}: a call had no outcome for {worst:.1f} s",
        )


def turn(callers, fill=True):
    """One round of all callers."""
    if fill:
        for caller in callers:
            caller.fill()
    ready, _, _ = select.select([caller.client.socket for caller in callers], [], [], 0.02)
    ready = set(ready)
    for caller in callers:
        if caller.client.socket in ready:
            caller.take()
        caller.check_deadlines()


def drive(callers, done, what, fill=True):
    deadline = time.monotonic() + SLOW_SECONDS
    while not done():
        check(time.monotonic() < deadline, f"not within {SLOW_SECONDS} s: {what}")
        turn(callers, fill)


def finish(callers):
    drive(
        callers,
        lambda: not any(caller.waiting for caller in callers),
        "every call answered",
        fill=False,
    )
    for caller in callers:
        caller.take()


def check_records(records, callers):
    """Order, marks and epochs of what the instances processed. Gives how many came twice."""
    callers = {caller.user: caller for caller in callers}
    highest = collections.Counter()
    unmarked = collections.Counter()
    seen = set()
    twice = 0
    for record in records:
        user, number = record["user"], int(record["payload"])
        what = f"call {number} of {user} at {record['instance']}"
        check_equal(record["epoch"], callers[user].epochs[number], f"the epoch of {what}")
        unmarked[user, number] += not record["redelivered"]
        check(unmarked[user, number] < 2, f"{what} was there before and is not marked redelivered")
        if (user, number) in seen:
            twice += 1
            continue
        seen.add((user, number))
        check(number > highest[user], f"{what} came after call {highest[user]}")
        highest[user] = number
    return twice


def report(callers, records, twice):
    outcomes = sum((caller.outcomes for caller in callers), collections.Counter())
    latencies = [value for caller in callers for value in caller.latencies]
    marked = sum(record["redelivered"] for record in records)
    print(
        f"     {sum(caller.number for caller in callers)} calls: {dict(outcomes)}, "
        f"{sum(caller.abandoned for caller in callers)} of replaced logins; {marked} marked "
        f"redelivered, {twice} processed twice; p50 {percentile(latencies, 0.5) * 1000:.0f} p99 "
        f"{percentile(latencies, 0.99) * 1000:.0f} max {percentile(latencies, 1) * 1000:.0f} ms"
    )
    return outcomes


# --- killed --------------------------------------------------------------------------------------


def lost_names(broker):
    return [line.get("instance") for line in broker.log_events("link_lost")]


class Killer:
    """Kills one instance a second. Its successor has the same name and comes at once, or another
    name at once, so that it joins while the dead one leaves, or its name after the loss."""

    def __init__(self, broker, fleet, callers, random):
        self.broker, self.fleet, self.callers, self.random = broker, fleet, callers, random
        self.kills = 0
        self.next = time.monotonic() + 1
        self.later = []  # (name, how often it was lost before)
        self.ways = ["same name", "another joins", "after the loss"]
        random.shuffle(self.ways)

    def step(self):
        for name, losses in list(self.later):
            if lost_names(self.broker).count(name) > losses:
                self.later.remove((name, losses))
                self.fleet.start(name)
        if time.monotonic() < self.next or self.kills == KILLS:
            return
        # One that has not begun to serve is no loss, also when its predecessor had.
        serving = [name for name in self.fleet.processes if self.fleet.serves(name)]
        if not serving:
            return
        self.next = time.monotonic() + 1
        self.kills += 1
        name = self.random.choice(serving)
        losses = lost_names(self.broker).count(name)
        for caller in self.callers:
            caller.fill()
        self.fleet.catch_at_work(name)
        self.fleet.kill(name)
        way = self.ways[self.kills % len(self.ways)]
        if way == "same name":
            self.fleet.start(name)
        elif way == "another joins":
            self.fleet.start(f"extra{self.kills}")
        else:
            self.later.append((name, losses))

    def done(self):
        self.step()
        return self.kills == KILLS and not self.later and time.monotonic() > self.next


def scene_kill_mid_flight():
    random = seed()
    with Broker(QUICK) as broker, Fleet(broker) as fleet:
        names = [f"inst{number}" for number in range(4)]
        for name in names:
            fleet.start(name)
        fleet.wait_hello(*names)
        callers = [Caller(broker, f"user{number}") for number in range(scaled(24, 6))]
        killer = Killer(broker, fleet, callers, random)

        def done():
            caller = random.choice(callers)
            if random.random() < 0.02 and caller.logins < LOGINS_MAX:
                caller.log_in()  # elsewhere, in the middle of his calls
            return killer.done()

        drive(callers, done, f"{KILLS} kills")
        finish(callers)
        records = fleet.records("call")
        outcomes = report(callers, records, check_records(records, callers))
        print(f"     {KILLS} kills, {len(lost_names(broker))} losses noticed")
        fleet.wait_hello(*fleet.processes)
        check(outcomes["reply"] > sum(outcomes.values()) / 2, "most calls were not answered")
        for caller in callers:  # everybody is served at the end
            eventually(lambda: answered(caller), f"a reply for {caller.user}", SLOW_SECONDS)
            caller.client.close()


def answered(caller):
    """Whether one more call gets a reply."""
    before = caller.outcomes["reply"]
    caller.window = 1
    caller.fill()
    finish([caller])
    return caller.outcomes["reply"] > before


# --- frozen --------------------------------------------------------------------------------------


def homes(fleet):
    fleet.records("call")
    return fleet.homes


def drive_calls(callers, count, counted=None):
    """Until those who count have as many more outcomes. Gives their latencies."""
    counted = counted or callers
    starts = [len(caller.latencies) for caller in counted]

    def total():
        return sum(len(caller.latencies) for caller in counted) - sum(starts)

    drive(callers, lambda: total() >= count, f"{count} calls")
    return [value for caller, start in zip(counted, starts) for value in caller.latencies[start:]]


def scene_freeze():
    """SIGSTOP: the others serve on, the calls of the frozen one move or end. SIGCONT: what it still
    says is not heard, it says Hello again and gets new users."""
    with Broker(QUICK) as broker, Fleet(broker) as fleet:
        names = [f"inst{number}" for number in range(3)]
        for name in names:
            fleet.start(name)
        fleet.wait_hello(*names)
        callers = [Caller(broker, f"user{number}", window=4) for number in range(18)]
        count = scaled(3000, 300)
        drive_calls(callers, count // 3)
        home = dict(homes(fleet))
        frozen = collections.Counter(home.values()).most_common(1)[0][0]
        others = [caller for caller in callers if home[caller.user] != frozen]
        victims = [caller for caller in callers if home[caller.user] == frozen]
        check(others, "all users are at one instance")
        before = drive_calls(callers, count, others)
        for caller in victims:
            caller.fill()  # it is frozen at work
        fleet.signal(frozen, signal.SIGSTOP)
        began = time.monotonic()
        during = drive_calls(callers, count, others)
        drive(callers, lambda: frozen in lost_names(broker), f"the loss of {frozen}")
        print(
            f"     {frozen} with {len(victims)} users was lost {time.monotonic() - began:.1f} s "
            f"after it froze (park 200 and timeout 800 ms)"
        )
        drive(
            callers,
            lambda: all(home_now != frozen for home_now in homes(fleet).values()),
            "every user at another instance",
        )
        drive_calls(callers, count)
        fleet.signal(frozen, signal.SIGCONT)
        drive(callers, lambda: fleet.hellos(frozen) >= 2, f"another Hello of {frozen}")
        drive_calls(callers, count // 3)
        finish(callers)
        records = fleet.records("call")
        report(callers, records, check_records(records, callers))
        print(
            f"     p99 of the users at the others: "
            f"{percentile(before, 0.99) * 1000:.0f} ms before, "
            f"{percentile(during, 0.99) * 1000:.0f} ms while one is frozen"
        )
        check(
            sum(caller.outcomes["reply"] for caller in others)
            == sum(sum(caller.outcomes.values()) for caller in others),
            "a user of another instance was not answered",
        )
        greet_new_users(broker, fleet, frozen)
        for caller in callers:
            caller.client.close()


def greet_new_users(broker, fleet, name):
    """New users come until the instance has one. With three instances each has a third."""
    for number in range(100):
        caller = Caller(broker, f"newcomer{number}", window=1)
        caller.fill()
        finish([caller])
        check_equal(caller.outcomes["reply"], 1, f"replies to {caller.user}")
        caller.client.close()
        if homes(fleet)[caller.user] == name:
            return
    raise Failed(f"{name} got none of 100 new users")


# --- joined, drained -----------------------------------------------------------------------------


def pull(backend, wait_ms=1):
    """Fetches and gives the calls of (user, number, redelivered), replying to none."""
    backend.fetch(wait_ms=wait_ms)
    calls = []
    while (call := backend.next_call(0)) is not None:
        calls.append((call.user, int(call.payload), call.redelivered))
    return calls


def call_all(clients, number, timeout_ms=60000):
    """Call `number` of each user, and a Ping behind it, so that the broker has read it."""
    for client in clients:
        client.post(
            "call", id=0, service="chat", method="m", payload=b"%d" % number, timeout_ms=timeout_ms
        )
    for client in clients:
        client.ping(SLOW_SECONDS)


def leave_parked(broker, backend):
    """Goes without a word while its Fetch waits: the broker notices at once, and after the grace
    time it is lost. What is sent to it meanwhile was never seen by anybody."""
    pull(backend)  # what came before is done
    tool = Backend(broker, hello=False)
    fetches = tool.numbers("stats")["link_fetches"]
    fetch = backend_pb.Fetch(link=backend.link, mail_done=backend.mail_done)
    backend.fetcher.post(backend_pb.LinkRequest(fetch=fetch).SerializeToString())
    eventually(
        lambda: tool.numbers("stats")["link_fetches"] > fetches, "a waiting Fetch", SLOW_SECONDS
    )
    tool.close()
    noticed = len(gone_peers(broker))
    backend.lose()
    eventually(lambda: len(gone_peers(broker)) > noticed, "the end noticed", SLOW_SECONDS)


def gone_peers(broker):
    return [
        line
        for line in broker.log_events("link_refused")
        if line.get("detail") == "the peer is gone"
    ]


def wait_lost(broker, backend):
    eventually(
        lambda: backend.instance in lost_names(broker),
        f"the loss of {backend.instance}",
        SLOW_SECONDS,
    )


def log_in_all(broker, count, prefix="user"):
    return logged_in(broker, [f"{prefix}{number}" for number in range(count)], timeout=SLOW_SECONDS)


def log_in_again(broker, clients, which):
    for number in which:
        newer = Client(broker, timeout=SLOW_SECONDS)
        newer.login(clients[number].name)
        clients[number].close()
        clients[number] = newer


def collect(backends, arrived, clients, number):
    """Fetches in that order until every user's call `number` has come."""

    def complete():
        for backend in backends:
            arrived.extend((backend, *call) for call in pull(backend))
        return sum(call[2] == number for call in arrived) >= len(clients)

    eventually(complete, f"call {number} of {len(clients)} users", SLOW_SECONDS)


def check_arrived(arrived, users, calls):
    """Each call once, in each user's order, none marked: no Batch had carried it before."""
    highest = {}
    for backend, user, number, redelivered in arrived:
        check(
            number > highest.get(user, -1),
            f"call {number} of {user} came to {backend.instance} after call {highest.get(user)}",
        )
        check(not redelivered, f"call {number} of {user} is marked redelivered")
        highest[user] = number
    check_equal(len(arrived), users * calls, "calls that came")


PATIENT = {"link.park_ms": 60000, "link.fetch_timeout_ms": 120000, "link.grace_ms": 1000}


def scene_join_while_another_leaves():
    """The mail of one that leaves goes to those who are there. The next calls of the same users
    must not overtake it at one that joins, whenever it does, also when the user logs in anew."""
    users, number = 24, 0
    with Broker(PATIENT) as broker:
        living = [Backend(broker, service="chat", instance=name) for name in ("one", "two")]
        for moment in ("after the loss", "before it", "behind a call", "after the loss"):
            clients, arrived = log_in_all(broker, users, f"user-{number}-"), []
            call_all(clients, number)
            collect(living, arrived, clients, number)
            leaver = living.pop(0)
            moved = {user for backend, user, *_ in arrived if backend is leaver}
            check(moved, f"{leaver.instance} has no user")
            leave_parked(broker, leaver)
            call_all(clients, number + 1)  # to one who never asks again
            joins = Backend(broker, service="chat", instance=f"joins{number}", hello=False)
            if moment == "before it":
                joins.hello()
            wait_lost(broker, leaver)
            if moment == "behind a call":
                call_all(clients, number + 2)
            if moment != "before it":
                joins.hello()
            if moment != "behind a call":
                call_all(clients, number + 2)
            log_in_again(broker, clients, range(0, users, 2))
            call_all(clients, number + 3)
            # Whatever went to the one that joined is seen first: the worst moment.
            collect([joins] + living, arrived, clients, number + 3)
            print(
                f"     joined {moment}: {len(moved)} of {users} users moved, "
                f"{sum(call[0] is joins for call in arrived)} calls to the one that joined"
            )
            number += 4
            living.append(joins)
            check_arrived(arrived, users, 4)
            for client in clients:
                client.close()
        for backend in living:
            backend.close()


def scene_pins_outlast_a_crowd():
    """Where a user's calls go does not change because he logged in anew and many others came."""
    with Broker(PATIENT) as broker:
        one = Backend(broker, service="chat", instance="one")
        clients, arrived = log_in_all(broker, 12), []
        call_all(clients, 0)
        for number, client in enumerate(clients):
            client.post("logout")
            client.read_to_end(SLOW_SECONDS)
            clients[number] = Client(broker, timeout=SLOW_SECONDS)
            clients[number].login(client.name)
        call_all(clients, 1)
        two = Backend(broker, service="chat", instance="two")
        crowd = log_in_all(broker, 100, "crowd")
        call_all(crowd, 0)
        call_all(clients, 2)
        # The one that joined is asked first.
        collect((two, one), arrived, clients, 2)
        check_arrived([call for call in arrived if call[1].startswith("user")], 12, 3)
        for client in clients + crowd:
            client.close()
        one.close()
        two.close()


def scene_drain_then_leave():
    """A drained instance keeps its users and gets no new ones, also when they log in anew; when it
    has left, their calls go on at another in order, and none fails."""
    with Broker(PATIENT) as broker:
        one = Backend(broker, service="chat", instance="one")
        two = Backend(broker, service="chat", instance="two")
        clients = log_in_all(broker, 16)
        arrived = []
        call_all(clients, 0)
        collect((one, two), arrived, clients, 0)
        at_one = {user for backend, user, *_ in arrived if backend is one}
        check(0 < len(at_one) < 16, "all users are at one instance")
        one.submit(backend_pb.Command(drain=backend_pb.Drain()))
        log_in_again(broker, clients, range(0, 16, 2))
        newcomers = log_in_all(broker, 16, "newcomer")
        call_all(clients + newcomers, 1)
        collect((one, two), arrived, clients + newcomers, 1)
        for backend, user, *_ in arrived:
            check_equal(backend is one, user in at_one, f"{user} is at the drained instance")
        leave_parked(broker, one)
        call_all(clients, 2)  # nobody knows yet that it is gone
        wait_lost(broker, one)
        call_all(clients, 3)
        collect([two], arrived, clients, 3)
        check_arrived([call for call in arrived if not call[1].startswith("new")], 16, 4)
        id = clients[0].post("call", service="chat", method="m", payload=b"4")
        two.reply(two.expect_call(), 0, b"two")
        clients[0].expect("reply", id=id, payload=b"two")
        two.submit(backend_pb.Command(drain=backend_pb.Drain()))
        last = Client(broker)
        last.login("last")  # better one that drains than none
        last.post("call", service="chat", method="m")
        two.reply(two.expect_call())
        last.expect("reply")
        for client in clients + newcomers + [last]:
            client.close()
        two.close()


# --- a Submit over reconnects --------------------------------------------------------------------


def submit_bytes(backend, seq, *commands):
    submit = backend_pb.Submit(link=backend.link, lane=2, seq=seq)
    submit.commands.extend(commands)
    return backend_pb.LinkRequest(submit=submit).SerializeToString()


def cut_submit(broker, random, body):
    """Sends it and loses the connection: at once, or when the answer is there, unread."""
    link = Link(broker.link_url)
    link.post(body)
    if random.random() < 0.5:
        select.select([link.stream], [], [], SLOW_SECONDS)
    link.close()


def results_of(broker, body):
    """The Results, or None while the broker is still at an earlier copy."""
    link = Link(broker.link_url, SLOW_SECONDS)
    answer = backend_pb.LinkAnswer.FromString(link.request(body))
    link.close()
    if answer.WhichOneof("body") == "refused":
        check_equal(answer.refused.code, backend_pb.Refused.BUSY, f"the refusal {answer.refused}")
        return None
    return answer.results


def scene_submit_over_reconnects():
    """Whatever happens to its connections, a Submit takes effect once and has one answer."""
    random = seed()
    count = scaled(60, 20)
    with Broker() as broker, Client(broker) as bob:
        bob.login("bob")
        backend = Backend(broker, service="chat")
        cuts = 0
        for seq in range(1, count + 1):
            body = submit_bytes(backend, seq, push("bob", b"%d" % seq), push("nobody", b""))
            for _ in range(random.randrange(4)):
                cut_submit(broker, random, body)
                cuts += 1
            if random.random() < 0.2:
                link = backend.link
                check_equal(backend.hello().link, link, "the link of a repeated Hello")
            first = eventually(lambda: results_of(broker, body), "results", SLOW_SECONDS)
            check_equal(results_of(broker, body), first, "the results of a repeated Submit")
            check_equal(
                [code_name(result) for result in first.results], ["OK", "NOT_ONLINE"], "the results"
            )
        for number in range(1, count + 1):
            bob.expect("message", payload=b"%d" % number)
        bob.expect_nothing(0.1)
        backend.close()
        print(f"     {count} submits, {cuts} connections lost in the middle of one")


if __name__ == "__main__":
    play(
        scene_kill_mid_flight,
        scene_freeze,
        scene_join_while_another_leaves,
        scene_pins_outlast_a_crowd,
        scene_drain_then_leave,
        scene_submit_over_reconnects,
    )
