# SPDX-License-Identifier: Apache-2.0
"""Order and completeness among many: a matrix of pairs, receivers that come and go, one hot user.

USHER_PLAY_LARGE=1 runs them at full size: 200 users and 2 million messages, 500 senders."""

import contextlib
import os
import threading
import time

from usherplay import Broker, check, check_equal, frame_bytes, play, scaled, seed
from usherplay.client import Crowd, Witness
from usherplay.figures import percentile
from usherplay.history import History, check_history, rule_a4

LARGE = bool(os.environ.get("USHER_PLAY_LARGE"))


class Player:
    """A user who sends numbered messages to some others, and may lose his connection."""

    def __init__(self, broker, history, name, peers, count, acks=True):
        self.broker = broker
        self.history = history
        self.name = name
        self.peers = peers
        self.acks = acks
        self.todo = [(number, peer) for number in range(count) for peer in peers]
        self.sent = 0
        self.waiting = set()  # ids of this connection without an answer
        self.seq = 0  # the last message processed
        self.unacked = 0
        self.client = None
        self.old = []

    def login(self):
        self.client = Witness(self.broker, self.history)
        self.client.login(self.name, acks=self.acks, timeout=30)
        self.fresh()

    def fresh(self):
        """The client was welcomed by a login."""
        self.waiting.clear()
        self.seq = self.client.welcome.next_seq - 1

    def send_some(self, most, random):
        """As many as the window allows, in pieces cut anywhere."""
        room = min(most - len(self.waiting), len(self.todo) - self.sent)
        if room <= 0 or self.client is None:
            return
        frames = [
            self.client.request("send", to=peer, payload=b"%d some words" % number)
            for number, peer in self.todo[self.sent : self.sent + room]
        ]
        for frame in frames:
            self.client.note(frame)
            self.waiting.add(frame.id)
        self.sent += room
        data = b"".join(map(frame_bytes, frames))
        cut = random.randrange(1, len(data))
        try:
            self.client.send_bytes(data[:cut])
            self.client.send_bytes(data[cut:])
        except OSError:
            pass  # replaced or cut: the end is read in its turn

    def look(self):
        """Takes what has come; acknowledges now and then."""
        for frame in self.client.take():
            kind = frame.WhichOneof("body")
            if kind == "message":
                self.seq = frame.message.seq
                self.unacked += 1
            elif kind in ("done", "error"):
                self.waiting.discard(frame.id)
        if self.acks and self.unacked >= 8 and not self.client.ended:
            self.unacked = 0
            with contextlib.suppress(OSError):
                self.client.post("ack", id=0, seq=self.seq)

    def done(self):
        return self.sent == len(self.todo) and not self.waiting


def ping_all(crowd, players):
    """Everybody answers a ping, and what was on the way before it has come."""
    waiting = {}
    for player in players:
        waiting[player] = player.client.post("ping", stamp=1)

    def heard():
        for player in list(waiting):
            if any(frame.id == waiting[player] for frame in player.client.take()):
                del waiting[player]
        return not waiting

    crowd.until(heard, "an answer to everybody's ping")


def run(crowd, players, window, random, disturb=None, limit=120):
    """Until everybody has sent everything and has his answers; disturb() after each round."""
    deadline = time.monotonic() + limit
    while not all(player.done() for player in players):
        check(time.monotonic() < deadline, "requests without an answer")
        for player in players:
            player.send_some(window, random)
        for client in crowd.read(0.02):
            client.player.look()
        if disturb:
            disturb()


def latencies(history):
    """Seconds from a Send to its Message, for each that arrived."""
    sent, result = {}, []
    for entry in history.entries:
        if entry.kind == "send":
            sent[entry.user, entry.peer, entry.number] = entry.at
        elif entry.kind == "message":
            began = sent.pop((entry.peer, entry.user, entry.number), None)
            if began is not None:
                result.append(entry.at - began)
    return result


def matrix(broker, history, users, fan_out, count, acks, random):
    names = [f"user{number}" for number in range(users)]
    players = [
        Player(
            broker,
            history,
            name,
            random.sample([other for other in names if other != name], fan_out),
            count,
            acks(number),
        )
        for number, name in enumerate(names)
    ]
    crowd = Crowd()
    for player in players:
        player.login()
        player.client.player = player
        crowd.add(player.client)
    return players, crowd


def scene_order_matrix():
    """Each pair's numbers rise and nothing is lost, doubled or refused while nobody is over a
    limit."""
    users, parts = (200, 10) if LARGE else (scaled(80, 24), 1)
    count = 125 if LARGE else scaled(30, 10)
    random = seed()
    for _ in range(parts):  # a history of two million messages would not fit into memory
        one_matrix(users, 8, count, random)


def one_matrix(users, fan_out, count, random):
    history = History()
    with Broker({"limits.mailbox_messages": 16384}) as broker:
        players, crowd = matrix(
            broker, history, users, fan_out, count, lambda n: n % 2 == 0, random
        )
        began = time.monotonic()
        run(crowd, players, 16, random, limit=600)
        took = time.monotonic() - began
        history.quiet()
        ping_all(crowd, players)
        counts = check_history(history)
        total = users * fan_out * count
        check_equal(
            (counts["accepted"], counts["delivered"]),
            (total, total),
            f"accepted and delivered of {total} ({counts})",
        )
        waits = latencies(history)
        print(
            f"     {users} users to {fan_out} each: {total} messages, {total / took:.0f}/s with "
            f"this harness, {percentile(waits, 0.5) * 1000:.1f} ms p50, "
            f"{percentile(waits, 0.99) * 1000:.1f} ms p99"
        )
        crowd.close()


class Disturbance:
    """Lets players lose their connection and come back, by a new login or a resume, with or
    without the old connection's end."""

    def __init__(self, crowd, players, random, share):
        self.crowd, self.players, self.random, self.share = crowd, players, random, share
        self.pending = {}  # player -> the newcomer that waits for its Welcome
        self.logins = self.resumes = 0

    def __call__(self):
        for player in list(self.pending):
            self._look(player)
        for player in self.players:
            if player not in self.pending and self.random.random() < self.share:
                self._disturb(player)

    def _disturb(self, player):
        player.look()
        old = player.client
        newcomer = Witness(
            player.broker, player.history, after=old if self.random.random() < 0.5 else None
        )
        newcomer.player = player
        resumes = newcomer.last_id > 0
        newcomer.last_id += 1000 if resumes else 0  # the old one sends on until the Welcome
        newcomer.name = player.name
        ways = self.random.choice(("stays", "drops", "closes"))
        if ways != "stays" and not old.ended:
            self.crowd.remove(old)
            old.drop() if ways == "drops" else old.close()
        if resumes:
            newcomer.post(
                "resume",
                username=player.name,
                epoch=old.welcome.epoch,
                secret=old.welcome.secret,
                last_seq=player.seq,
            )
        else:
            newcomer.post("login", username=player.name, acks=player.acks)
        self.crowd.add(newcomer)
        self.pending[player] = newcomer

    def _look(self, player):
        newcomer = self.pending[player]
        if not newcomer.frames:
            check(not newcomer.ended, f"{player.name}: the newcomer was closed: {newcomer.ended}")
            return
        check_equal(newcomer.frames[0].WhichOneof("body"), "welcome", "the newcomer's answer")
        del self.pending[player]
        old, player.client = player.client, newcomer
        newcomer.frames.popleft()
        if newcomer.last_id > 1:
            self.resumes += 1
            # What was on its way when the connection went may have been dropped unread.
            player.waiting.clear()
        else:
            self.logins += 1
            player.fresh()
        player.unacked = 0
        player.seq = newcomer.welcome.next_seq - 1
        player.old.append(old)
        player.look()


def scene_order_through_takeover():
    """Receivers, who are senders too, log in again and resume at random all the time."""
    users, fan_out = (200, 8) if LARGE else (scaled(40, 16), 6)
    count = 150 if LARGE else scaled(60, 12)
    random = seed()
    history = History()
    options = {
        "limits.mailbox_messages": 16384,
        "limits.inbox_messages": 14,
        "limits.takeovers_per_minute": 0,
    }
    with Broker(options) as broker:
        players, crowd = matrix(
            broker, history, users, fan_out, count, lambda n: n % 4 != 3, random
        )
        disturbance = Disturbance(crowd, players, random, 0.05)
        run(crowd, players, 3, random, disturbance, limit=600)
        disturbance.share = 0
        while disturbance.pending:
            crowd.read(0.02)
            disturbance()
        history.quiet()
        ping_all(crowd, players)
        crowd.until(
            lambda: all(old.ended for player in players for old in player.old),
            "the end of every old connection",
        )
        counts = check_history(history)
        print(
            f"     {disturbance.logins} takeovers and {disturbance.resumes} resumes in "
            f"{sum(len(player.todo) for player in players)} messages: {counts}"
        )
        check(disturbance.logins > 0 and disturbance.resumes > 0, "nobody was disturbed")
        crowd.close()


class Sender:
    """One of the crowd in front of the hot user: a window, never a pause."""

    def __init__(self, client, window):
        self.client, self.window = client, window
        self.number = self.waiting = self.taken = self.refused = 0

    def fill(self):
        frames = []
        while self.waiting < self.window:
            frames.append(self.client.request("send", to="hot", payload=b"%d" % self.number))
            self.number += 1
            self.waiting += 1
        if frames:
            self.client.send_frames(frames)

    def look(self):
        for frame in self.client.take():
            self.waiting -= 1
            done = frame.WhichOneof("body") == "done"
            self.taken += done
            self.refused += not done


def bystanders(broker, stop, waits):
    """Two others who exchange one message after the other, in a thread of their own."""
    history = History()
    one, two = Witness(broker, history), Witness(broker, history)
    one.login("bystander1")
    two.login("bystander2")
    number = 0
    while not stop.is_set():
        began = time.monotonic()
        one.post("send", id=0, to="bystander2", payload=b"%d" % number)
        two.expect("message", payload=b"%d" % number, timeout=30)
        waits.append(time.monotonic() - began)
        number += 1
    one.close()
    two.close()


def beside(broker, work):
    """What bystanders waited while work() ran."""
    stop, waits = threading.Event(), []
    thread = threading.Thread(target=bystanders, args=(broker, stop, waits))
    thread.start()
    try:
        work()
    finally:
        stop.set()
        thread.join()
    return waits


def scene_hot_user():
    """Many senders at full speed for one receiver: each pair in order, each gets his share."""
    count = 500 if LARGE else scaled(60, 20)
    total = 500000 if LARGE else scaled(15000, 3000)
    history = History()
    with Broker({"limits.mailbox_messages": 65536}) as broker:
        baseline = beside(broker, lambda: time.sleep(0.5))
        hot = Witness(broker, history)
        hot.login("hot")
        senders = []
        for number in range(count):
            client = Witness(broker, history)
            client.login(f"sender{number}")
            senders.append(Sender(client, 8))
            client.sender = senders[-1]
        crowd = Crowd([hot] + [sender.client for sender in senders])
        shares = []

        def rush():
            deadline = time.monotonic() + 600
            while sum(sender.taken for sender in senders) < total:
                check(time.monotonic() < deadline, "the rush does not end")
                for sender in senders:
                    sender.fill()
                for client in crowd.read(0.02):
                    if client is hot:
                        hot.frames.clear()
                    else:
                        client.sender.look()
            shares.extend(sender.taken for sender in senders)

        began = time.monotonic()
        waits = beside(broker, rush)
        took = time.monotonic() - began

        def answered():
            for sender in senders:
                sender.look()
            return all(sender.waiting == 0 for sender in senders)

        crowd.until(answered, "an answer to everything")
        hot.ping(timeout=30)
        hot.frames.clear()
        counts = check_history(history, rule_a4)
        check_equal(counts["delivered"], counts["accepted"], f"delivered of accepted ({counts})")
        check(min(shares) > 0, "a sender who never had his turn")
        print(
            f"     {count} senders, {total / took:.0f} messages/s with this harness, share of "
            f"the luckiest to the unluckiest {max(shares) / min(shares):.2f}, "
            f"{counts['refused']} refused; bystanders' p99 "
            f"{percentile(baseline, 0.99) * 1000:.1f} ms before, "
            f"{percentile(waits, 0.99) * 1000:.1f} ms beside"
        )
        crowd.close()


if __name__ == "__main__":
    play(scene_order_matrix, scene_order_through_takeover, scene_hot_user)
