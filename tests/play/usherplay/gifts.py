# SPDX-License-Identifier: Apache-2.0
"""What a service stores for users who are away: what it was told of each, and what is there."""

import time

from usherplay.backend import Backend, code_name
from usherplay.faults import SECONDS
from usherplay.schema import backend_pb, client_pb
from usherplay.stage import check, check_equal, eventually

HOUR = 3600
NAMES = [f"away{number:02}" for number in range(30)]


class Gifts:
    """What a service stores for users who are away, and what it was told of each."""

    def __init__(self, broker):
        self.broker = broker
        self.backend = Backend(broker, "post")
        self.told = {name: [] for name in NAMES}  # mids that are said to be stored, in order
        self.made = 0
        self.refused = []  # pushes, as they were

    def push(self, count, size=200):
        """So many in one Submit; gives the codes of those that were refused."""
        pushes = []
        for _ in range(count):
            self.made += 1
            name = NAMES[self.made % len(NAMES)]
            payload = b"gift %d " % self.made + bytes(size)
            pushes.append(backend_pb.Push(to=[name], payload=payload, keep_s=HOUR, tag=self.made))
        return self._submit(pushes)

    def push_again(self):
        """What was refused, under the same tags."""
        refused, self.refused = self.refused, []
        codes = []
        for at in range(0, len(refused), 20):
            codes += self._submit(refused[at : at + 20])
        return codes

    def _submit(self, pushes):
        results = self.backend.submit(*(backend_pb.Command(push=push) for push in pushes))
        self.backend.fetch(wait_ms=1)  # which is its sign of life
        codes = []
        for push, result in zip(pushes, results):
            told = self.told[push.to[0]]
            if code_name(result) == "OK":
                check(result.push.mid > max(told, default=0), "mids rise")
                told.append(result.push.mid)
            else:
                check_equal(result.push.mid, 0, "the mid of what is refused")
                self.refused.append(push)
                codes.append(code_name(result))
        return codes

    def fill(self, at_once=50, most=20000):
        """Until one is refused; gives the codes."""
        while self.made < most:
            refused = self.push(at_once)
            if refused:
                return refused
        return check(False, f"{most} messages, and there is room")

    def inbox(self, name):
        mids, after = [], 0
        while True:
            question = backend_pb.Command(inbox=backend_pb.Inbox(user=name, after_mid=after))
            page = self.backend.query(question).stored
            mids += [message.mid for message in page.messages]
            if not page.more:
                check_equal(page.count, len(mids), f"how many are stored for {name}")
                return mids
            after = mids[-1]

    def check(self):
        """What was told is stored, and nothing that was refused."""
        for name, mids in self.told.items():
            check_equal(self.inbox(name), mids, f"what is stored for {name}")

    def link(self):
        """A new one: the last was silent for long, or is gone."""
        self.lose()
        self.backend = Backend(self.broker, "post")

    def kick(self, names):
        for at in range(0, len(names), 100):
            kicks = [backend_pb.Kick(user=name) for name in names[at : at + 100]]
            self.backend.submit(*(backend_pb.Command(kick=kick) for kick in kicks))
            self.backend.fetch(wait_ms=1)

    def crash(self):
        """kill -9, and nothing is lost."""
        self.lose()
        self.broker.kill()
        self.broker.restart()
        self.link()
        self.check()

    def fetch(self, people, names):
        """They come, and take all of it."""
        for name in names:
            client = people.must_login(name)
            check_equal(client.welcome.stored_messages, len(self.told[name]), f"for {name}")
            check(client.welcome.stored in (0, client_pb.Welcome.COMPLETE), "something is gone")
            for mid in self.told[name]:
                message = client.expect("message", mid=mid).message
                client.post("ack", id=0, seq=message.seq)
            check_equal(people.log_out(client), "done", "a logout")
            self.told[name] = []

    def room_again(self, people):
        """What is pushed is taken, within some seconds."""
        self.link()
        began = time.monotonic()
        eventually(lambda: not self.push(10), "room for stored messages", SECONDS)
        seconds = time.monotonic() - began
        people.talk()
        self.check()
        return seconds

    def lose(self):
        self.backend.lose()
