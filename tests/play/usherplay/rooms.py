# SPDX-License-Identifier: Apache-2.0
"""Clients in rooms: each checks by itself what protocol.md promises of offsets. And services that own
rooms, which check what they are told."""

import collections
import time

from usherplay.backend import Backend
from usherplay.client import Client, describe
from usherplay.schema import backend_pb, client_pb
from usherplay.stage import Failed

NONE, COMPLETE, PARTIAL = 0, 1, 2


def states(frames):
    return [frame.room_state for frame in frames if frame.WhichOneof("body") == "room_state"]


class Member(Client):
    """Logged in under a name. What comes of rooms is sorted by kind and room, and checked."""

    def __init__(self, where, name, acks=False, welcome=None, **options):
        super().__init__(where, **options)
        self.name = name
        self.where = where
        self.got = collections.defaultdict(collections.deque)  # by room number
        self.room_states = collections.deque()
        self.events = collections.deque()
        self.others = collections.deque()
        self.offsets = {}  # by room number: the newest that came
        self.gap = {}  # whether the next one may leave some out
        if welcome is None:
            self.login(name, acks=acks)

    def come_back(self, positions, last_seq=0):
        """Resumes by a new connection, which names (room, incarnation, offset)."""
        again = Member(self.where, self.name, welcome=self.welcome)
        again.last_id = self.last_id
        frame = again.request(
            "resume",
            username=self.name,
            epoch=self.welcome.epoch,
            secret=self.welcome.secret,
            last_seq=last_seq,
        )
        for room, incarnation, offset in positions:
            frame.resume.rooms.add(room=room, incarnation=incarnation, offset=offset)
            again.offsets[room] = offset
        again.send_frame(frame)
        again.welcome = again.expect("welcome", id=again.last_id).welcome
        return again

    # --- what comes ------------------------------------------------------------------------------

    def _sort(self, frame):
        kind = frame.WhichOneof("body")
        if kind == "room_state":
            self._state(frame.room_state)
        elif kind == "room_messages":
            self._messages(frame.room_messages)
        elif kind == "room_event":
            self.events.append(frame.room_event)
        else:
            self.others.append(frame)

    def _state(self, state):
        self.room_states.append(state)
        if state.state != client_pb.RoomState.JOINED:
            self.offsets.pop(state.room, None)
        elif state.replay == NONE or state.room not in self.offsets:
            self.offsets[state.room] = state.offset
            self.gap[state.room] = state.replay != NONE
        elif state.replay == PARTIAL:
            self.gap[state.room] = True

    def _messages(self, messages):
        room = messages.room
        if room not in self.offsets:
            raise Failed(f"{self.name}: messages of a room that he is not in: {messages.room}")
        wanted = self.offsets[room] + 1
        jumps = self.gap.get(room) and messages.offset > wanted
        if messages.offset != wanted and not jumps:
            raise Failed(f"{self.name}: offset {messages.offset} instead of {wanted}")
        self.gap[room] = False
        self.offsets[room] = messages.offset + len(messages.messages) - 1
        self.got[room].extend(messages.messages)

    def pump(self, until, seconds=None):
        """Reads frames until that is true."""
        deadline = time.monotonic() + (self.timeout if seconds is None else seconds)
        while not until():
            frame = self.next_frame(max(0, deadline - time.monotonic()))
            if frame is None:
                return False
            self._sort(frame)
        return True

    def drain(self, seconds=0.05):
        """Reads what there is, and forgets it."""
        self.pump(lambda: False, seconds)
        self.room_states.clear()
        self.events.clear()

    def state(self, seconds=None):
        """The next RoomState."""
        if not self.pump(lambda: self.room_states, seconds):
            raise Failed(f"{self.name}: no RoomState came")
        return self.room_states.popleft()

    def until(self, kind, wanted, seconds=None):
        """The next RoomEvent (kind "room_event") that is as wanted."""
        found = []

        def look():
            while self.events and not found:
                event = self.events.popleft()
                if wanted(event):
                    found.append(event)
            return found

        if not self.pump(look, seconds):
            raise Failed(f"{self.name}: no such {kind} came")
        return found[0]

    def collect(self, state, count, seconds=None, partial=False):
        """The next `count` messages of a room."""
        got = self.got[state.room]
        if not self.pump(lambda: len(got) >= count, seconds):
            raise Failed(f"{self.name}: {len(got)} of {count} messages of {state.room} came")
        return [got.popleft() for _ in range(count)]

    # --- requests --------------------------------------------------------------------------------

    def answer(self, id):
        """The frame with that id; rooms go on meanwhile."""
        found = []

        def look():
            for frame in list(self.others):
                if frame.id == id:
                    self.others.remove(frame)
                    found.append(frame)
            return found

        if not self.pump(look):
            raise Failed(f"{self.name}: no answer to {id}")
        return found[0]

    def join(self, room, **fields):
        """Asks to be a member; gives the RoomState that answers."""
        id = self.post("join", room=room, **fields)
        deadline = time.monotonic() + self.timeout
        while True:
            frame = self.next_frame(max(0, deadline - time.monotonic()))
            if frame is None:
                raise Failed(f"{self.name}: no answer to the Join of {room}")
            if frame.id == id and frame.WhichOneof("body") != "room_state":
                raise Failed(f"{self.name}: Join of {room} was answered {describe(frame)}")
            self._sort(frame)
            if frame.id == id:
                self.room_states.remove(frame.room_state)
                return frame.room_state

    def publish(self, state, payload, **fields):
        """Gives the offset that the room gave it."""
        frame = self.answer(self.post("publish", room=state.room, payload=payload, **fields))
        if frame.WhichOneof("body") != "done":
            raise Failed(f"{self.name}: Publish was answered {describe(frame)}")
        return frame.done.offset


# --- the owner's side ------------------------------------------------------------------------------


def command(kind, **fields):
    """A Command about rooms: command("room_open", room="match:1")."""
    made = backend_pb.Command()
    getattr(made, kind).SetInParent()
    body = getattr(made, kind)
    for name, value in fields.items():
        if isinstance(value, (list, tuple)):
            getattr(body, name).extend(value)
        else:
            setattr(body, name, value)
    return made


class Owner(Backend):
    """An instance that owns rooms. What it hears stands in `asks` and `news`, in its order; news are
    acknowledged with the fetch behind them, and checked: each room's come in a row, without gaps, but
    where `gaps` allows some."""

    def __init__(self, where, service="maker", **options):
        self.asks = collections.deque()
        self.news = []
        self.gaps = False
        self.heard = {}  # by (room, incarnation): the last news_seq
        super().__init__(where, service, **options)

    def fetch(self, wait_ms=200, timeout=None):
        batch = super().fetch(wait_ms, timeout)
        while self.mail:
            mail = self.mail.popleft()
            if mail.WhichOneof("body") == "ask":
                self.asks.append(mail.ask)
            elif mail.WhichOneof("body") == "news":
                self._hear(mail.news)
        return batch

    def _hear(self, news):
        life = (news.room, news.incarnation)
        wanted = self.heard.get(life, news.news_seq - 1) + 1
        if news.news_seq != wanted and not (self.gaps and news.news_seq > wanted):
            raise Failed(f"news {news.news_seq} of {life} instead of {wanted}")
        self.heard[life] = news.news_seq
        self.news.append(news)

    def wait(self, condition, what, seconds=20.0):
        """Fetches until that is true; gives it."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"{self.instance}: no {what}; heard {[told(n) for n in self.news]}")
            self.fetch(wait_ms=50)
        return condition()

    def next_ask(self):
        self.wait(lambda: self.asks, "RoomAsk")
        return self.asks.popleft()

    def wait_news(self, *wanted):
        """Until the news end with these, as `told` says them; all that were heard are forgotten."""

        def come():
            return [told(news) for news in self.news][-len(wanted) :] == list(wanted)

        self.wait(come, f"news {wanted}")
        heard, self.news = self.news, []
        return heard

    def do(self, kind, **fields):
        """One command; gives its Result."""
        return self.submit(command(kind, **fields))[0]

    def members(self, room, limit=0):
        """All of them, and the last page."""
        found, after = [], ""
        while True:
            page = self.do("room_members", room=room, after=after, limit=limit).members
            found += page.members
            if not page.next:
                return found, page
            after = page.next


def told(news):
    """KIND user CAUSE; of a message its payload."""
    kind = backend_pb.RoomNews.Kind.Name(news.kind)
    if kind == "MESSAGE":
        return f"MESSAGE {news.user or '*' + news.service} {news.payload.decode()}"
    cause = backend_pb.RoomNews.Cause.Name(news.cause)
    return " ".join(filter(None, (kind, news.user, cause)))
