# SPDX-License-Identifier: Apache-2.0
"""Followers of presence under a storm of logins: late, slow, cut off or fallen behind, each knows
the truth, or knows that it does not."""

import os
import random as randoms
import select
import socket
import struct
import threading
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    Failed,
    Honest,
    Link,
    backend_pb,
    check,
    check_equal,
    check_presence,
    eventually,
    free_port,
    play,
    scaled,
    seed,
)
from usher_backend import Presence
from usherplay.backend import SP_HEADER, describe_event, kind_name, state_name

KEPT = 1024  # the least that store.events_kept can be
SLOW_SECONDS = 60
SMALL_BATCH = 512  # bytes: the least that a Fetch can ask for
EVENTS = int(os.environ.get("USHER_PLAY_EVENTS", scaled(3000, 600)))
SP_PUB, SP_SUB = 0x0020, 0x0021


def patient(options):
    """A broker for followers that the machine may make slow, and that are not lost for it."""
    return Broker({"session.resume_ms": 500, "link.fetch_timeout_ms": 120000, **options})


class Storm:
    """A thread that logs users in and out, as fast as the broker takes it, until stopped. Many
    users, so that none takes over often enough to be a fight."""

    def __init__(self, broker, random, users=200, held=40):
        self.broker = broker
        self.random = randoms.Random(random.random())
        self.names = [f"user{number:03}" for number in range(users)]
        self.held_max = held
        self.held = {}  # name -> Client
        self.problem = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.stop()

    def _run(self):
        try:
            while not self.stopping.is_set():
                self.step()
        except BaseException as error:  # the thread that waits for it raises it
            self.problem = error

    def step(self):
        """One login, and somebody leaves in one of three ways."""
        name = self.random.choice(self.names)
        newer = Client(self.broker, timeout=SLOW_SECONDS)
        newer.login(name, client=self.random.choice(("phone", "tablet", "x" * 64)))
        older = self.held.pop(name, None)
        if older is not None:
            older.close()
        self.held[name] = newer
        if len(self.held) > self.held_max:
            self._leave(self.held.pop(self.random.choice(list(self.held))))

    def _leave(self, client):
        choice = self.random.random()
        if choice < 0.5:
            client.post("logout")
            client.read_to_end(SLOW_SECONDS)
            client.close()
        elif choice < 0.8:
            client.drop()
        else:
            self._come_back(client)

    def _come_back(self, client):
        welcome = client.welcome
        client.drop()
        again = Client(self.broker, timeout=SLOW_SECONDS)
        again.resume(welcome, 0, name=client.name)
        self.held[client.name] = again

    def stop(self):
        self.stopping.set()
        if self.thread.ident is not None:
            self.thread.join(SLOW_SECONDS)
        for client in self.held.values():
            client.close()
        self.held.clear()

    def check(self):
        if self.problem is not None:
            raise self.problem


def run_storm(broker, storm, count):
    """The storm goes on until the stream is that much longer. Gives its end."""
    tool = Backend(broker, hello=False, timeout=SLOW_SECONDS)
    target = last_seq(tool) + count

    def long_enough():
        storm.check()
        return last_seq(tool) >= target

    eventually(long_enough, f"{count} events", SLOW_SECONDS, pause=0.1)
    last = last_seq(tool)
    tool.close()
    return last


def last_seq(tool):
    command = backend_pb.Command(events=backend_pb.Events(after=1 << 62, limit=1))
    return tool.query(command).events.presence_last


class Follower:
    """Keeps {user: (state, epoch)} as a service would: from a snapshot, then event by event."""

    def __init__(self, backend):
        self.backend = backend
        self.state = {}
        self.seq = 0  # the state is the truth of this seq
        self.stamps = []  # (last name of the page, its seq), of the last snapshot
        self.queue = []  # fetched, not applied
        self.resets = 0
        self.applied = 0

    def start(self, limit=50):
        """Snapshot pages, each with its own stamp; the events behind the first are to come."""
        self.state, self.stamps, self.queue = {}, [], []
        after = ""
        while True:
            page = self.backend.query(
                backend_pb.Command(snapshot=backend_pb.Snapshot(after=after, limit=limit))
            ).sessions
            for info in page.sessions:
                self.state[info.user] = (state_name(info), info.epoch)
            if page.more:
                after = page.sessions[-1].user
            self.stamps.append((after if page.more else None, page.presence_seq))
            if not page.more:
                break
        self.seq = self.stamps[0][1]
        self.backend.presence_done = self.seq
        self.backend.events.clear()

    def _is_old(self, event):
        """Whether the page that the name was on, or would have been on, has it already."""
        for last_name, stamp in self.stamps:
            if last_name is None or event.user <= last_name:
                return event.seq <= stamp
        raise Failed("the pages of the snapshot have no end")

    def _apply(self, event):
        check_equal(event.seq, self.seq + 1, f"seq of {describe_event(event)}")
        self.seq = event.seq
        self.applied += 1
        if self._is_old(event):
            return
        kind = kind_name(event)
        if kind == "OFFLINE":
            gone = self.state.pop(event.user, None)
            check(
                gone is not None and gone[1] == event.epoch,
                f"{describe_event(event)} while the follower knows {gone}",
            )
        else:
            state = "DETACHED" if kind == "DETACHED" else "ONLINE"
            self.state[event.user] = (state, event.epoch)

    def fetch(self, bytes_max=0, wait_ms=200):
        """One Batch into the queue. False: events were missed, and start() is due."""
        batch = fetch(self.backend, bytes_max, wait_ms)
        if batch.presence_reset:
            self.resets += 1
            return False
        for event in batch.presence:
            self.queue.append(event)
            self.backend.presence_done = event.seq
        return True

    def advance(self, seq, bytes_max=0):
        """Fetches and applies up to exactly that seq."""
        deadline = time.monotonic() + SLOW_SECONDS
        while self.seq < seq:
            if self.queue and self.queue[0].seq <= seq:
                self._apply(self.queue.pop(0))
                continue
            check(time.monotonic() < deadline, f"the events up to {seq} did not come")
            if not self.queue and not self.fetch(bytes_max):
                self.start()

    def check_truth(self, limit=10):
        """Each page of a Snapshot says what the follower says at the page's seq, which rises from
        page to page while the storm goes on. Gives the number of pages."""
        after, pages = "", 0
        while True:
            page = self.backend.query(
                backend_pb.Command(snapshot=backend_pb.Snapshot(after=after, limit=limit))
            ).sessions
            self.advance(page.presence_seq)
            if self.seq != page.presence_seq:
                return pages  # fallen behind meanwhile: the state is a newer one
            truth = {info.user: (state_name(info), info.epoch) for info in page.sessions}
            last = page.sessions[-1].user if page.more else "\x7f"
            mine = {user: value for user, value in self.state.items() if after < user <= last}
            check_equal(mine, truth, f"who lives behind {after!r} at seq {self.seq}")
            pages += 1
            if not page.more:
                return pages
            after = last


def fetch(backend, bytes_max=0, wait_ms=200):
    """A Fetch whose Batch is left to the caller: no cursor moves."""
    request = backend_pb.Fetch(
        link=backend.link,
        mail_done=backend.mail_done,
        wait_ms=wait_ms,
        presence_done=backend.presence_done,
        bytes_max=bytes_max,
    )
    return Backend._ask(backend._fetcher(), "fetch", request, "batch", SLOW_SECONDS)


def follow(broker, presence_after=0):
    backend = Backend(broker, presence=True, presence_after=presence_after, timeout=SLOW_SECONDS)
    return Follower(backend)


def wait_settled(broker):
    """After a storm: until every session has ended and nothing happens any more."""
    tool = Backend(broker, hello=False, timeout=SLOW_SECONDS)
    eventually(lambda: tool.numbers("count")["sessions"] == 0, "no session", SLOW_SECONDS)
    tool.close()


def scene_late_followers():
    """They join in the middle of the storm, again and again, and know the truth at any time."""
    random = seed()
    with patient({}) as broker, Storm(broker, random) as storm:
        followers, pages = [], 0
        for _ in range(6):
            run_storm(broker, storm, EVENTS // 10)
            followers.append(follow(broker))
            followers[-1].start(limit=7)
            for follower in followers:
                pages += follower.check_truth()
        restart_one(broker, followers)
        run_storm(broker, storm, EVENTS // 10)
        storm.stop()
        wait_settled(broker)
        for follower in followers:
            pages += follower.check_truth()
            check_equal(follower.resets, 0, "resets")
            follower.backend.close()
        print(
            f"     {len(followers)} late followers, {followers[0].applied} events, {pages} pages "
            f"compared"
        )


def restart_one(broker, followers):
    """A service that stored its state and its seq goes on from there, without a snapshot."""
    older = followers.pop()
    older.backend.close()
    newer = follow(broker, presence_after=older.seq)
    check_equal(newer.backend.accepted.presence_from, older.seq + 1, "presence_from")
    newer.state, newer.seq, newer.stamps = older.state, older.seq, older.stamps
    followers.append(newer)


def scene_followers_of_the_library():
    """A service that keeps who is there by its callbacks alone, joined in the middle of the storm: each
    change fits what it knows, and in the end it knows that nobody is left."""
    random = seed()
    with patient({}) as broker, Storm(broker, random) as storm:
        run_storm(broker, storm, EVENTS // 20)
        watch = Honest(broker, presence=Presence())
        known, wrong, seqs = {}, [], []
        watch.service.on_presence_reset(known.clear)

        @watch.service.on_presence_snapshot
        def there(session):
            known[session.user] = session.epoch

        @watch.service.on_presence
        def changed(event):
            seqs.append(event.seq)
            before = known.get(event.user, 0)
            expected = event.previous_epoch if event.kind == "ONLINE" else event.epoch
            if before != expected:
                wrong.append((event, before))
            known[event.user] = event.epoch
            if event.kind == "OFFLINE":
                del known[event.user]

        with watch:
            run_storm(broker, storm, EVENTS // 5)
            storm.stop()
            wait_settled(broker)
            tool = Backend(broker, hello=False, timeout=SLOW_SECONDS)
            last = last_seq(tool)
            eventually(lambda: watch.service.presence_seq >= last, "the end", SLOW_SECONDS)
            tool.close()
        check_equal((wrong, known), ([], {}), "what does not fit, and who is left")
        check_equal(seqs, sorted(set(seqs)), "order")
        print(f"     {len(seqs)} of {last} events told behind the picture")


def scene_slow_follower():
    """One that reads now and then falls behind and is not harmed while the events are kept."""
    random = seed()
    with patient({}) as broker, Storm(broker, random) as storm:
        slow, quick = follow(broker), follow(broker)
        slow.start()
        quick.start()
        behind = 0
        for number in range(10):
            last = run_storm(broker, storm, EVENTS // 10)
            if number < 3:
                slow.fetch(SMALL_BATCH)
            quick.advance(last)
            behind = max(behind, last - slow.backend.presence_done)
        check(behind > EVENTS // 2, f"the slow one is only {behind} events behind")
        pages = slow.check_truth() + quick.check_truth()
        check_equal((slow.resets, quick.resets), (0, 0), "resets")
        print(f"     up to {behind} events behind, {pages} pages compared")
        storm.stop()
        slow.backend.close()
        quick.backend.close()


def fall_behind(broker, follower, storm):
    """The storm goes on until the follower's next event is no longer kept."""
    tool = Backend(broker, hello=False, timeout=SLOW_SECONDS)

    def fallen():
        storm.check()
        command = backend_pb.Command(
            events=backend_pb.Events(after=follower.backend.presence_done, limit=1)
        )
        return tool.query(command).events.reset

    eventually(fallen, "the events forgotten", SLOW_SECONDS, pause=0.1)
    tool.close()


def scene_fall_off():
    """Behind what is kept: presence_reset, a snapshot, and on from its seq without a gap."""
    random = seed()
    options = {"store.events_kept": KEPT, "session.resume_ms": 500}
    with patient(options) as broker, Storm(broker, random) as storm:
        follower = follow(broker)
        follower.start()
        falls = scaled(3, 2)
        for fall in range(1, falls + 1):
            follower.fetch(SMALL_BATCH)
            fall_behind(broker, follower, storm)
            eventually(lambda: not follower.fetch(), "presence_reset", SLOW_SECONDS)
            check_equal(follower.resets, fall, "resets")
            follower.start(limit=25)
            check(follower.check_truth() > 0, "no page was compared")
            check_equal(follower.resets, fall, "resets after the snapshot")
        storm.stop()
        wait_settled(broker)
        follower.check_truth()
        print(f"     {falls} times behind, at seq {follower.seq} of which {KEPT} are kept")
        follower.backend.close()


def lose_the_answer(follower):
    """Sends a Fetch, waits until its answer is there, and loses the connection without reading."""
    backend = follower.backend
    link = Link(backend.url, SLOW_SECONDS)
    request = backend_pb.LinkRequest(
        fetch=backend_pb.Fetch(link=backend.link, presence_done=backend.presence_done, wait_ms=1000)
    )
    link.post(request.SerializeToString())
    ready, _, _ = select.select([link.stream], [], [], SLOW_SECONDS)
    check(ready, "a Fetch without an answer")
    link.close()


def scene_reset_is_repeated():
    """The Batch that says presence_reset is lost with its connection: it is said again, until the
    cursor has moved on; then never again."""
    random = seed()
    options = {"store.events_kept": KEPT, "session.resume_ms": 500}
    with patient(options) as broker, Storm(broker, random) as storm:
        follower = follow(broker)
        follower.start()
        for quiet in (False, True):
            fall_behind(broker, follower, storm)
            if quiet:
                storm.stop()
                wait_settled(broker)
            eventually(lambda: not follower.fetch(), "presence_reset", SLOW_SECONDS)
            check(not follower.fetch(), "presence_reset was read and forgotten, and not said again")
            for _ in range(3):
                lose_the_answer(follower)
            check(not follower.fetch(), "presence_reset was said in a lost Batch and not again")
            follower.start(limit=25)
            if not quiet:
                follower.check_truth()
        for _ in range(3):
            check(follower.fetch(wait_ms=50), "presence_reset after the cursor has moved on")
        check(follower.check_truth() > 0, "no page was compared")
        with Client(broker) as alice:
            epoch = alice.login("alice").epoch
            check(follower.fetch(SMALL_BATCH, wait_ms=5000), "presence_reset")
            check_equal(
                [(event.user, event.epoch) for event in follower.queue],
                [("alice", epoch)],
                "the event after the snapshot",
            )
            follower.check_truth()
        follower.backend.close()


def scene_cursor_beyond_the_end():
    """One who has seen more than there is, of another life of the store: reset, and then it gets
    what happens from the snapshot on."""
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice")
        follower = follow(broker, presence_after=1000000)
        follower.backend.presence_done = 1000000
        check(not follower.fetch(), "no presence_reset for a cursor beyond the end")
        check(not follower.fetch(), "presence_reset was not said again")
        follower.start()
        check_equal(follower.seq, 1, "the seq of the snapshot")
        with Client(broker) as bob:
            bob.login("bob")
            follower.advance(2)
            check_equal(sorted(follower.state), ["alice", "bob"], "who lives")
            check_equal(follower.resets, 2, "resets")
            follower.check_truth()
        follower.backend.close()


def scene_events_in_pages():
    """The query Events says when it cannot: a reader of pages notices that it has fallen behind."""
    random = seed()
    with patient({"store.events_kept": KEPT}) as broker, Storm(broker, random) as storm:
        last = run_storm(broker, storm, KEPT * 2)
        storm.stop()
        wait_settled(broker)
        tool = Backend(broker, hello=False, timeout=SLOW_SECONDS)
        oldest = first_kept(tool, last_seq(tool))
        check(
            last - KEPT * 2 < oldest <= last_seq(tool) - KEPT + 1,
            f"the oldest of {last_seq(tool)} is {oldest}, {KEPT} are to be kept",
        )
        events = tool.all_events(after=oldest - 1)
        check_equal(
            [event.seq for event in events],
            list(range(oldest, last_seq(tool) + 1)),
            "the events that are kept",
        )
        check_presence(events, first_seq=oldest, whole=False)
        print(f"     of {last_seq(tool)} events {len(events)} are kept (store.events_kept {KEPT})")
        tool.close()


def first_kept(tool, last):
    """The lowest seq that Events still gives, by halves."""
    low, high = 0, last  # reset after `low`, none after `high`
    while high - low > 1:
        middle = (low + high) // 2
        command = backend_pb.Command(events=backend_pb.Events(after=middle, limit=1))
        if tool.query(command).events.reset:
            low = middle
        else:
            high = middle
    return high + 1


# --- the lossy feed ------------------------------------------------------------------------------


class Subscriber:
    """A SUB socket that reads only when told to. nng's PUB sends every topic to every peer."""

    def __init__(self, url):
        host, port = url[len("tcp://") :].rsplit(":", 1)
        self.stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.stream.settimeout(SLOW_SECONDS)
        self.stream.connect((host, int(port)))
        self.stream.sendall(SP_HEADER.pack(b"\0SP\0", SP_SUB, 0))
        _, peer, _ = SP_HEADER.unpack(self._read(SP_HEADER.size))
        check_equal(peer, SP_PUB, "the protocol of the feed")

    def _read(self, size):
        data = b""
        while len(data) < size:
            part = self.stream.recv(size - len(data))
            check(part, "the feed closed the connection")
            data += part
        return data

    def next_event(self):
        (size,) = struct.unpack(">Q", self._read(8))
        topic, _, body = self._read(size).partition(b"\0")
        event = backend_pb.PresenceEvent.FromString(body)
        check_equal(topic, b"presence/" + event.user.encode(), "topic")
        return event

    def anything(self, seconds):
        return bool(select.select([self.stream], [], [], seconds)[0])

    def close(self):
        self.stream.close()


def subscribed(broker, subscriber):
    """Whether what happens reaches it."""
    with Client(broker) as client:
        client.login("first")
        client.post("logout")
        client.read_to_end(SLOW_SECONDS)
    return subscriber.anything(0.1)


def gaps(events):
    """[(seq before, seq behind)] wherever events are missing."""
    for before, event in zip(events, events[1:]):
        check(event.seq > before.seq, f"{describe_event(event)} came after {before.seq}")
    return [
        (before.seq, event.seq)
        for before, event in zip(events, events[1:])
        if event.seq != before.seq + 1
    ]


def scene_lossy_feed():
    """A subscriber that does not read misses events. It sees that by seq, asks for what it missed,
    and has the truth; nobody else is held up."""
    random = seed()
    url = f"tcp://127.0.0.1:{free_port()}"
    with Broker({"feed.url": url, "session.resume_ms": 500}) as broker:
        subscriber = Subscriber(url)
        tool = Backend(broker, hello=False, timeout=SLOW_SECONDS)
        eventually(lambda: subscribed(broker, subscriber), "the subscription", SLOW_SECONDS)
        got = [subscriber.next_event()]
        # How much the sockets take before something is missed is the kernel's choice.
        for attempt in range(4):
            with Storm(broker, random) as storm:
                run_storm(broker, storm, (EVENTS // 4) << attempt)
            wait_settled(broker)
            last = last_seq(tool)
            while got[-1].seq < last:  # the feed drops the oldest, so the last one comes
                got.append(subscriber.next_event())
            if gaps(got):
                break
        whole = list(got)
        for before, behind in gaps(got):
            whole += [event for event in tool.all_events(after=before) if event.seq < behind]
        whole.sort(key=lambda event: event.seq)
        check_equal(whole, tool.all_events(after=got[0].seq - 1), "the feed and what it missed")
        check_presence(whole, whole=False)
        print(f"     {len(got)} of {len(whole)} events came, {len(gaps(got))} gaps were seen")
        subscriber.close()
        tool.close()


if __name__ == "__main__":
    play(
        scene_late_followers,
        scene_followers_of_the_library,
        scene_slow_follower,
        scene_fall_off,
        scene_reset_is_repeated,
        scene_cursor_beyond_the_end,
        scene_events_in_pages,
        scene_lossy_feed,
    )
