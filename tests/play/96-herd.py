# SPDX-License-Identifier: Apache-2.0
"""A restart with everybody on it: each client is told when to come back, and does. How long until 99 of
100 are there, how many wait at once, how long somebody else has to wait meanwhile; and the stream tells
of nothing but what happened. USHER_PLAY_HERD: how many clients instead of 2000."""

import collections
import heapq
import os
import resource
import selectors
import signal
import socket
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    check,
    check_equal,
    check_presence,
    client_pb,
    play,
    scaled,
)
from usherplay.backend import cause_name, kind_name
from usherplay.client import frame_bytes, take_frame

SLOW_SECONDS = 120
AWAY_SECONDS = 0.05  # a connection that was refused is tried again


class Member:
    """One of the herd: a socket, and what it must remember to come back."""

    def __init__(self, name):
        self.name = name
        self.welcome = None
        self.socket = None
        self.buffer = bytearray()
        self.retry_ms = None
        self.asked = None

    def request(self):
        frame = client_pb.ClientFrame(id=1)
        if self.welcome is None:
            frame.login.username = self.name
        else:
            frame.resume.username = self.name
            frame.resume.epoch = self.welcome.epoch
            frame.resume.secret = self.welcome.secret
        return frame_bytes(frame)


class Herd:
    def __init__(self, broker, count):
        self.broker = broker
        self.members = [Member(f"user{number:05}") for number in range(count)]
        self.selector = selectors.DefaultSelector()
        self.due = []  # (time, number): who comes when
        self.waiting = self.peak = self.refused = 0
        self.errors = collections.Counter()
        self.back = []  # the times at which they were welcomed

    def connect(self, number):
        member = self.members[number]
        member.socket = socket.socket()
        member.buffer.clear()
        try:
            member.socket.connect(self.broker.address)  # to loopback: at once, or refused
            member.socket.sendall(member.request())
        except OSError:
            self.again(number, AWAY_SECONDS)
            return
        member.socket.setblocking(False)
        self.selector.register(member.socket, selectors.EVENT_READ, number)
        self.waiting += 1
        self.peak = max(self.peak, self.waiting)

    def again(self, number, seconds):
        self.refused += 1
        self.members[number].socket.close()
        heapq.heappush(self.due, (time.monotonic() + seconds, number))

    def take(self, number, frame):
        member = self.members[number]
        kind = frame.WhichOneof("body")
        if kind == "welcome":
            if member.welcome is not None:
                check_equal(
                    client_pb.Welcome.Replay.Name(frame.welcome.replay),
                    "COMPLETE",
                    f"the Welcome of {member.name}",
                )
            member.welcome = frame.welcome
            self.waiting -= 1
            self.back.append(time.monotonic())
        elif kind == "error":
            self.errors[client_pb.Error.Code.Name(frame.error.code)] += 1
            member.retry_ms = frame.error.retry_after_ms
        elif kind == "close":
            check_equal(client_pb.Close.Reason.Name(frame.close.reason), "SHUTDOWN", "the Close")
            member.retry_ms = frame.close.retry_after_ms

    def read(self, key):
        member = self.members[key.data]
        try:
            data = member.socket.recv(65536)
        except OSError:
            data = b""
        member.buffer += data
        while (raw := take_frame(member.buffer)) is not None:
            frame = client_pb.BrokerFrame()
            frame.ParseFromString(raw)
            self.take(key.data, frame)
        if not data:
            self.selector.unregister(member.socket)
            member.socket.close()
            check(member.retry_ms is not None, f"{member.name} was cut off and told nothing")
            heapq.heappush(self.due, (time.monotonic() + member.retry_ms / 1000, key.data))

    def step(self):
        now = time.monotonic()
        for _ in range(64):
            if not self.due or self.due[0][0] > now:
                break
            self.connect(heapq.heappop(self.due)[1])
        for key, _ in self.selector.select(0.005):
            self.read(key)

    def until(self, condition, what):
        deadline = time.monotonic() + SLOW_SECONDS
        while not condition():
            check(time.monotonic() < deadline, f"not within {SLOW_SECONDS} s: {what}")
            self.step()

    def close(self):
        for member in self.members:
            if member.socket is not None:
                member.socket.close()
        self.selector.close()


class Prober:
    """Somebody who is in and asks all the time."""

    def __init__(self, broker):
        self.client = Client(broker, timeout=SLOW_SECONDS)
        self.client.login("prober")
        self.client.socket.setblocking(False)
        self.asked = None
        self.waits = []

    def look(self):
        now = time.monotonic()
        if self.asked is None:
            self.asked = now
            self.client.post("ping", stamp=1)
        elif self.client.frames or self.client.receive_more(0):
            self.client.frames.clear()
            self.waits.append(now - self.asked)
            self.asked = None


def share(times, part):
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


def room_for(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(count, hard - 200)


def scene_everybody_comes_back():
    count = room_for(scaled(int(os.environ.get("USHER_PLAY_HERD", "2000")), 200))
    with Broker({"limits.prelogin_connections": 65536}) as broker:
        herd = Herd(broker, count)
        try:
            herd.due = [(0, number) for number in range(count)]
            herd.until(lambda: len(herd.back) == count, "all logged in")
            with Backend(broker, timeout=SLOW_SECONDS) as backend:
                before = backend.numbers("stats")["presence_last"]
            herd.back.clear()
            herd.peak = herd.refused = 0
            began = time.monotonic()
            broker.process.send_signal(signal.SIGTERM)
            herd.until(lambda: not broker.alive(), "the end of the broker")
            broker._wait_end(SLOW_SECONDS)
            told = [member.retry_ms for member in herd.members if member.retry_ms is not None]
            broker.restart()
            ready = time.monotonic()
            prober = Prober(broker)

            def all_back():
                prober.look()
                return len(herd.back) == count

            herd.until(all_back, "all are back")
            with Backend(broker, timeout=SLOW_SECONDS) as backend:
                events = backend.all_events(before)
        finally:
            herd.close()
        check_presence(events, first_seq=before + 1, whole=False)
        kinds = collections.Counter(f"{kind_name(event)} {cause_name(event)}" for event in events)
        mine = [event for event in events if event.user != "prober"]
        seen = collections.Counter((event.user, kind_name(event)) for event in mine)
        check_equal(len(mine), 2 * count, f"events of a restart: {dict(kinds)}")
        check(all(times == 1 for times in seen.values()), "somebody left or came back twice")
        check(len(told) == count, f"{count - len(told)} were not told when to come back")
        spread = share(told, 0.95) - share(told, 0.05)
        check(spread > 2500, f"they are to come back within {spread} ms")
        check(max(told) <= 5000, f"somebody is to wait {max(told)} ms")
        print(
            f"     {count} clients: told to come back after {share(told, .05)} to "
            f"{share(told, .95)} ms (5 % to 95 %); 99 % were back {share(herd.back, .99) - began:.2f} s "
            f"after SIGTERM, {share(herd.back, .99) - ready:.2f} s after ready, the last "
            f"{max(herd.back) - began:.2f} s"
        )
        print(
            f"     at most {herd.peak} waited at once, {herd.refused} found no broker, refused: "
            f"{dict(herd.errors)}; a ping meanwhile: median "
            f"{share(prober.waits, .5) * 1000:.1f} ms, worst {max(prober.waits) * 1000:.0f} ms"
        )
        print(f"     {len(events)} presence events: {dict(kinds)}")
        prober.client.close()


play(scene_everybody_comes_back)
