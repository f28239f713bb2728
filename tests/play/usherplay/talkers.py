# SPDX-License-Identifier: Apache-2.0
"""Many players in one thread, who talk in a ring and count what comes: the cast of ./dev demo.

Each sends numbered messages to the next one and waits for the receiver's word (DELIVERED) before the
next number. A message whose answer was lost with the connection is sent again under its number, and
the receiver tells by that number what he has seen before. So nothing here believes the broker: what
was answered must have come, and it is the receivers who say so."""

import collections
import errno
import heapq
import random
import selectors
import socket
import time

from usherplay.client import frame_bytes, take_frame
from usherplay.schema import client_pb
from usherplay.stage import Failed

PATIENCE_SECONDS = 60.0
RETRY_SECONDS = (0.05, 0.2)  # before the next try to connect: by chance between these
FILL = b"." * 24  # behind a number, so that a message is no smaller than a real one


class Talker:
    """One player: his session, what he has sent, and what he has seen."""

    def __init__(self, name, to):
        self.name, self.to = name, to
        self.welcome = None
        self.greeted = False  # by a Welcome, on this connection
        self.socket = None
        self.buffer, self.out = bytearray(), bytearray()
        self.last_id = self.last_seq = 0
        self.number = 0  # of his newest message
        self.waiting = None  # the id of the request that is not answered
        self.seen = set()  # numbers of the one before him in the ring
        self.twice = self.again = self.disordered = 0
        self.replies = collections.Counter()  # of the service, by what came of the call
        self.called = None  # (id, time) of the call that is not answered
        self.slowest_call = 0.0
        self.resumes = 0
        self.lost_sessions = 0
        self.closes = []  # reasons that the broker gave
        self.sent_away = False  # and told not to come back

    def online(self):
        return self.greeted

    def request(self, kind, wanted=True, **fields):
        """The bytes of a request; with `wanted` its answer bears `last_id`."""
        frame = client_pb.ClientFrame()
        if wanted:
            self.last_id += 1
            frame.id = self.last_id
        body = getattr(frame, kind)
        body.SetInParent()
        for name, value in fields.items():
            setattr(body, name, value)
        return frame_bytes(frame)


class Talkers:
    """All of them. `talking`: whoever has his answer says the next thing; `calling`: the same with calls
    to a service. Everything happens in `step`, which the functions below call."""

    def __init__(self, address, count):
        self.address = address
        names = [f"player-{number:03}" for number in range(1, count + 1)]
        self.all = [Talker(name, to) for name, to in zip(names, names[1:] + names[:1])]
        self.selector = selectors.DefaultSelector()
        self.due = []  # (time, number): who connects when
        self.talking = self.calling = False
        self.entering = 0  # logins on their way

    # --- coming and going -------------------------------------------------------------------------

    def enter(self, at_once=64):
        """All log in, so many at a time: whoever connects has to say who he is soon."""
        waiting = collections.deque(enumerate(self.all))
        while waiting or not self.everybody_online():
            while waiting and self.entering < at_once:
                number, _ = waiting.popleft()
                self.connect(number)
            self.step()

    def everybody_online(self):
        return all(talker.online() for talker in self.all)

    def connect(self, number):
        talker = self.all[number]
        talker.socket = socket.socket()
        talker.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            talker.socket.connect(self.address)  # to loopback: at once, or refused
        except OSError:
            talker.socket.close()
            talker.socket = None
            self.later(number)
            return
        talker.socket.setblocking(False)
        talker.buffer.clear()
        talker.out.clear()
        self.selector.register(talker.socket, selectors.EVENT_READ, number)
        self.entering += 1
        self.send(talker, self.hello(talker))

    def hello(self, talker):
        if talker.welcome is None:
            return talker.request("login", username=talker.name, acks=True, client="demo")
        epoch, secret = talker.welcome.epoch, talker.welcome.secret
        return talker.request(
            "resume",
            username=talker.name,
            epoch=epoch,
            secret=secret,
            last_seq=talker.last_seq,
        )

    def later(self, number):
        heapq.heappush(self.due, (time.monotonic() + random.uniform(*RETRY_SECONDS), number))

    def lost(self, number):
        talker = self.all[number]
        if talker.socket is None:
            return
        self.selector.unregister(talker.socket)
        talker.socket.close()
        talker.socket = None
        self.entering -= not talker.greeted
        talker.greeted = False
        if talker.called:
            talker.replies["lost with the connection"] += 1
            talker.called = None
        if not talker.sent_away:
            self.later(number)

    def come_back(self, number):
        """Who was told not to come back logs in anew, because the player wants to."""
        talker = self.all[number]
        talker.welcome, talker.last_seq, talker.sent_away = None, 0, False
        self.connect(number)

    # --- what comes -------------------------------------------------------------------------------

    def step(self, timeout=0.02):
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            self.connect(heapq.heappop(self.due)[1])
        for key, events in self.selector.select(timeout):
            if events & selectors.EVENT_READ:
                self.read(key.data)
            if events & selectors.EVENT_WRITE and self.all[key.data].socket is not None:
                self.flush(self.all[key.data])

    def read(self, number):
        talker = self.all[number]
        try:
            data = talker.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        talker.buffer += data
        acknowledged = talker.last_seq
        while (raw := take_frame(talker.buffer)) is not None:
            frame = client_pb.BrokerFrame()
            frame.ParseFromString(raw)
            self.take(talker, frame)
        if not data:
            self.lost(number)
        if talker.socket is None:
            return
        if talker.last_seq > acknowledged:
            self.send(talker, talker.request("ack", wanted=False, seq=talker.last_seq))
        self.go_on(talker)

    def take(self, talker, frame):
        kind = frame.WhichOneof("body")
        if kind == "message":
            self.take_message(talker, frame.message)
        elif kind == "welcome":
            self.take_welcome(talker, frame.welcome)
        elif kind == "close":
            talker.closes.append(client_pb.Close.Reason.Name(frame.close.reason))
            talker.sent_away = frame.close.do_not_return
        elif talker.called and frame.id == talker.called[0]:
            self.take_reply(talker, frame, kind)
        elif kind == "done" and frame.id == talker.waiting:
            talker.waiting = None
        elif kind == "error":
            self.take_error(talker, frame)

    def take_message(self, talker, message):
        talker.last_seq = max(talker.last_seq, message.seq)
        number = int(message.payload.split(b" ")[0])
        if number in talker.seen:
            talker.twice += 1
        else:
            talker.disordered += number != len(talker.seen) + 1
            talker.seen.add(number)

    def take_welcome(self, talker, welcome):
        self.entering -= 1
        if talker.welcome is not None and talker.welcome.epoch == welcome.epoch:
            talker.resumes += 1
        talker.welcome = welcome
        talker.greeted = True
        if talker.waiting is not None:  # nobody will answer that any more: the broker has died
            talker.again += 1
            self.say(talker)

    def take_error(self, talker, frame):
        code = client_pb.Error.Code.Name(frame.error.code)
        if code == "RESUME_REJECTED":
            talker.lost_sessions += 1
            talker.welcome = None
            talker.last_seq = 0
            self.lost(self.all.index(talker))
        elif frame.id == talker.waiting:
            talker.again += 1
            self.say(talker)
        else:
            raise Failed(f"{talker.name} was told {code}: {frame.error.detail}")

    def take_reply(self, talker, frame, kind):
        asked = talker.called[1]
        talker.slowest_call = max(talker.slowest_call, time.monotonic() - asked)
        if kind == "error":
            talker.replies[client_pb.Error.Code.Name(frame.error.code)] += 1
        else:
            good = frame.reply.payload == talker.name.encode()
            talker.replies["answered" if good else "wrong"] += 1
        talker.called = None

    # --- what goes --------------------------------------------------------------------------------

    def go_on(self, talker):
        """Whoever is there and has his answer begins the next thing."""
        if not talker.online():
            return
        if self.talking and talker.waiting is None:
            talker.number += 1
            self.say(talker)
        if self.calling and talker.called is None:
            name = talker.name.encode()
            data = talker.request("call", service="echo", method="echo", payload=name)
            talker.called = (talker.last_id, time.monotonic())
            self.send(talker, data)

    def say(self, talker):
        text = b"%d %s" % (talker.number, FILL)
        until = client_pb.Send.DELIVERED
        data = talker.request("send", to=talker.to, payload=text, until=until)
        talker.waiting = talker.last_id
        self.send(talker, data)

    def send(self, talker, data):
        talker.out += data
        self.flush(talker)

    def flush(self, talker):
        try:
            sent = talker.socket.send(talker.out)
            del talker.out[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise
            return  # the end is read, too
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if talker.out else 0)
        key = self.selector.get_key(talker.socket)
        if key.events != wanted:
            self.selector.modify(talker.socket, wanted, key.data)

    # --- for whoever tells the story --------------------------------------------------------------

    def until(self, condition, what):
        """Plays on until it is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"not within {PATIENCE_SECONDS:.0f} s: {what}")
            self.step()

    def for_seconds(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()

    def begin(self, talking=False, calling=False):
        self.talking, self.calling = talking, calling
        for talker in self.all:
            self.go_on(talker)

    def fall_silent(self):
        """Nobody begins anything; what is under way is waited for."""
        self.talking = self.calling = False
        self.until(
            lambda: all(talker.waiting is None and not talker.called for talker in self.all),
            "an answer to everything",
        )

    def count(self, what):
        """The sum over all players of a number, or of what a function says."""
        if callable(what):
            return sum(what(talker) for talker in self.all)
        return sum(getattr(talker, what) for talker in self.all)

    def sent(self):
        return self.count("number")

    def received(self):
        return self.count(lambda talker: len(talker.seen))

    def missing(self):
        """Numbers that their receivers have never seen: each player against the one before him."""
        return sum(
            len(set(range(1, before.number + 1)) - talker.seen)
            for before, talker in zip(self.all, self.all[1:] + self.all[:1])
        )

    def close(self):
        for talker in self.all:
            if talker.socket is not None:
                self.selector.unregister(talker.socket)
                talker.socket.close()
        self.selector.close()
