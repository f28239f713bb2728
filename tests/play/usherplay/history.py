# SPDX-License-Identifier: Apache-2.0
"""Rules for histories: of a presence stream as a backend saw it, and of everything that clients
sent and saw, on one clock."""

import bisect
import collections
import dataclasses
import itertools
import json
import os
import time

from usherplay.backend import cause_name, describe_event, kind_name
from usherplay.schema import client_pb
from usherplay.stage import Failed


class _User:
    def __init__(self):
        self.epoch = 0  # of the session that lives now; 0: none
        self.detached = False
        self.highest = 0  # of all sessions ever seen


class PresenceChain:
    """The rules of a presence stream, one event at a time. whole: False when the stream begins in
    the middle, so that a user's first event may be any."""

    def __init__(self, first_seq=None, whole=True):
        self.expected = first_seq
        self.whole = whole
        self.users = {}

    def take(self, event):
        """None, or what is wrong with the event."""
        if self.expected is not None and event.seq != self.expected:
            return f"the stream jumps: expected seq {self.expected}"
        self.expected = event.seq + 1
        first = event.user not in self.users
        user = self.users.setdefault(event.user, _User())
        if first and not self.whole and kind_name(event) != "ONLINE":
            user.epoch = user.highest = event.epoch
            user.detached = kind_name(event) in ("RESUMED", "OFFLINE")
        return _step(user, event, first and not self.whole)

    def living(self):
        """{user: (state, epoch)}"""
        return {
            name: ("DETACHED" if user.detached else "ONLINE", user.epoch)
            for name, user in self.users.items()
            if user.epoch
        }


def check_presence(events, first_seq=None, whole=True):
    """Checks that seq has no gap and no double and that each user's chain is one that can be:
    online(e) ... offline(e) alternate, epochs of online rise, a takeover names the epoch that it
    closes, detached and resumed lie between. whole: as for PresenceChain. Gives
    {user: (state, epoch)} of those who live."""
    chain = PresenceChain(first_seq, whole)
    for event in events:
        wrong = chain.take(event)
        if wrong:
            raise Failed(
                f"{describe_event(event)}: {wrong}; all of that user:\n  "
                + "\n  ".join(describe_event(other) for other in events if other.user == event.user)
            )
    return chain.living()


def _step(user, event, middle):
    kind = kind_name(event)
    if kind == "ONLINE":
        return _online(user, event, middle)
    if kind not in ("DETACHED", "RESUMED", "OFFLINE"):
        return f"a kind {kind}"
    if event.previous_epoch:
        return "a previous_epoch, which only a takeover has"
    if event.epoch != user.epoch:
        return f"it is about epoch {event.epoch} while {user.epoch or 'none'} lives"
    if kind == "OFFLINE":
        user.epoch, user.detached = 0, False
        return None
    if kind == "DETACHED":
        if user.detached:
            return "detached twice"
        if not event.until_ms:
            return "detached without until_ms"
    user.detached = kind == "DETACHED"
    return None


def _online(user, event, middle):
    takeover = cause_name(event) == "TAKEOVER"
    if event.epoch <= user.highest:
        return f"its epoch does not rise above {user.highest}"
    if takeover and not event.previous_epoch:
        return "a takeover that names no epoch"
    if not takeover and event.previous_epoch:
        return "a previous_epoch without a takeover"
    if not middle and event.previous_epoch != user.epoch:
        return f"it closes epoch {event.previous_epoch} while {user.epoch or 'none'} lives"
    user.epoch = user.highest = event.epoch
    user.detached = False
    return None


# --- what clients sent and saw -------------------------------------------------------------------

ANSWERS_OK = ("done", "reply", "pong")


@dataclasses.dataclass(slots=True)
class Entry:
    """One line of a History. kind is a request (login, resume, send, call, ack, ping, logout), a
    frame (welcome, message, answer, close), the end of a connection, or a remark: quiet (from here
    on nothing disturbs), gone (that user's session was ended on purpose)."""

    order: int
    at: float
    kind: str
    connection: int
    user: str
    id: int = 0
    epoch: int = 0
    seq: int = 0  # next_seq of a welcome, last_seq of a resume
    peer: str = ""  # the receiver of a send, the sender of a message
    number: int = -1  # which one of those from sender to receiver
    word: str = ""  # of an answer: done, reply, pong or the error; of a welcome: replay
    flag: bool = False  # acks of a login, redelivered of a message, DELIVERED of a send

    def __str__(self):
        fields = [
            f"{name}={value}"
            for name in ("id", "epoch", "seq", "peer", "word", "flag")
            if (value := getattr(self, name))
        ]
        if self.number >= 0:
            fields.append(f"number={self.number}")
        who = f"{self.user}/{self.connection}"
        return " ".join([f"{self.order}: {who} {self.kind}", *fields])


def number_of(payload):
    """Messages are told apart by the number that their payload begins with; -1: none."""
    digits = bytes(payload[:20]).split(b" ", 1)[0]
    return int(digits) if digits.isdigit() else -1


class History:
    """What one harness sent and saw. A request is recorded before its bytes leave and a frame
    after it was read, so that "b was sent after a was received" is known for certain when it is
    said. Threads may share it: appending is one step, and order is the place in the list."""

    def __init__(self):
        self.entries = []
        self._connections = itertools.count(1)
        self._ended = set()

    def connect(self):
        return next(self._connections)

    def add(self, kind, connection=0, user="", **fields):
        entry = Entry(0, time.monotonic(), kind, connection, user, **fields)
        self.entries.append(entry)
        return entry

    def asked(self, connection, user, id, kind, body):
        if kind == "send":
            self.add(
                kind,
                connection,
                user,
                id=id,
                peer=body.to,
                number=number_of(body.payload),
                flag=body.until == client_pb.Send.DELIVERED,
            )
        elif kind == "login":
            self.add(kind, connection, user, id=id, flag=body.acks)
        elif kind == "resume":
            self.add(kind, connection, user, id=id, epoch=body.epoch, seq=body.last_seq)
        else:
            self.add(kind, connection, user, id=id, seq=body.seq if kind == "ack" else 0)

    def saw(self, connection, user, frame):
        kind = frame.WhichOneof("body")
        if kind == "message":
            message = frame.message
            self.add(
                kind,
                connection,
                user,
                seq=message.seq,
                peer=getattr(message, "from"),
                number=number_of(message.payload),
                flag=message.redelivered,
            )
        elif kind == "welcome":
            self.add(
                kind,
                connection,
                user,
                id=frame.id,
                epoch=frame.welcome.epoch,
                seq=frame.welcome.next_seq,
                word=client_pb.Welcome.Replay.Name(frame.welcome.replay),
            )
        elif kind == "close":
            self.add(kind, connection, user, word=client_pb.Close.Reason.Name(frame.close.reason))
        elif kind == "error":
            self.add(
                "answer",
                connection,
                user,
                id=frame.id,
                word=client_pb.Error.Code.Name(frame.error.code),
            )
        else:
            self.add(
                "answer",
                connection,
                user,
                id=frame.id,
                word=kind,
                epoch=frame.done.epoch if kind == "done" else 0,
            )

    def ended(self, connection, user):
        if connection not in self._ended:
            self._ended.add(connection)
            self.add("end", connection, user)

    def quiet(self):
        self.add("quiet")

    def gone(self, user):
        self.add("gone", user=user)

    def write(self, path):
        """As JSON lines, one entry each."""
        with open(path, "a", encoding="ascii") as file:
            for entry in self.entries:
                file.write(json.dumps(dataclasses.asdict(entry)) + "\n")

    def numbered(self):
        for order, entry in enumerate(self.entries):
            entry.order = order
        return self.entries


@dataclasses.dataclass(slots=True)
class Binding:
    """One connection on which a user was welcomed."""

    connection: int
    user: str
    asked: Entry  # the login or resume
    welcome: Entry
    acks: bool
    end: Entry = None
    messages: list = dataclasses.field(default_factory=list)
    superseded: int = None  # the order of the first welcome of a later one

    @property
    def place(self):
        return self.welcome.epoch, self.welcome.order


class _View:
    """A history sorted for the rules: who was bound when, and what became of each request."""

    def __init__(self, history):
        self.entries = history.numbered()
        self.users = collections.defaultdict(list)  # bindings, by (epoch, welcome)
        self.by_connection = {}
        self.sends = {
            (entry.user, entry.peer, entry.number): entry
            for entry in self.entries
            if entry.kind == "send" and entry.number >= 0
        }
        self.requests = {}  # (connection, id) -> the last entry with that id
        self.answered = []  # (request or None, answer)
        self.goners = {entry.user: entry for entry in self.entries if entry.kind == "gone"}
        self.quiet = max(
            (entry.order for entry in self.entries if entry.kind == "quiet"), default=None
        )
        self._sessions = collections.defaultdict(list)  # (user, epoch) -> connections
        self._opened = {}  # connection -> login or resume that has no answer yet
        self.ends = {}
        for entry in self.entries:
            self._take(entry)
        for bindings in self.users.values():
            bindings.sort(key=lambda binding: binding.place)
            _supersede(bindings)

    def _take(self, entry):
        if entry.kind in ("login", "resume"):
            self._opened[entry.connection] = entry
        if entry.kind == "welcome":
            self._bind(entry)
        elif entry.kind == "answer":
            self.answered.append((self._request(entry), entry))
        elif entry.kind in ("close", "end"):
            self.ends.setdefault(entry.connection, entry)
            if entry.connection in self.by_connection:
                binding = self.by_connection[entry.connection]
                binding.end = binding.end or entry
        elif entry.kind == "message":
            if entry.connection not in self.by_connection:
                raise Failed(f"a message before the Welcome: {entry}")
            self.by_connection[entry.connection].messages.append(entry)
        elif entry.id and entry.kind not in ("quiet", "gone"):
            self.requests[entry.connection, entry.id] = entry

    def _bind(self, entry):
        asked = self._opened.get(entry.connection)
        if asked is None or entry.connection in self.by_connection:
            raise Failed(f"a Welcome that nobody asked for: {entry}")
        session = self._sessions[entry.user, entry.epoch]
        acks = (
            asked.flag
            if asked.kind == "login" or not session
            else self.by_connection[session[0]].acks
        )
        session.append(entry.connection)
        binding = Binding(entry.connection, entry.user, asked, entry, acks)
        self.by_connection[entry.connection] = binding
        self.users[entry.user].append(binding)

    def _request(self, answer):
        """The request of an answer: of this connection, or of an earlier one of the session."""
        found = self.requests.get((answer.connection, answer.id))
        binding = self.by_connection.get(answer.connection)
        if found is not None or binding is None:
            return found
        for connection in reversed(self._sessions[binding.user, binding.welcome.epoch]):
            found = self.requests.get((connection, answer.id))
            if found is not None:
                return found
        return None

    def precedes(self, older, newer):
        """Within one epoch the order is known only when the newer one asked after the older one
        had been welcomed."""
        if older.welcome.epoch != newer.welcome.epoch:
            return older.welcome.epoch < newer.welcome.epoch
        return older.welcome.order < newer.asked.order


def _supersede(bindings):
    """When each was superseded: by the first Welcome of any later one."""
    later = None  # the first welcome of all higher epochs
    for _, group in itertools.groupby(reversed(bindings), lambda binding: binding.welcome.epoch):
        group = list(group)
        for binding in group:
            orders = [
                other.welcome.order for other in group if binding.welcome.order < other.asked.order
            ]
            if later is not None:
                orders.append(later)
            binding.superseded = min(orders, default=None)
        first = min(binding.welcome.order for binding in group)
        later = first if later is None else min(later, first)


def _view(history):
    return history if isinstance(history, _View) else _View(history)


def _broken(rule, text, *entries):
    raise Failed(f"{rule}: {text}" + "".join(f"\n  {entry}" for entry in entries if entry))


def rule_a1(history):
    """Epochs are unique: a Welcome has the epoch of its Resume, or one that nobody had before."""
    fresh = {}
    for entry in (
        binding.welcome
        for bindings in _view(history).users.values()
        for binding in bindings
        if binding.asked.kind == "login"
    ):
        if entry.epoch in fresh:
            _broken("A1", "one epoch for two logins", fresh[entry.epoch], entry)
        fresh[entry.epoch] = entry
    for bindings in _view(history).users.values():
        for binding in bindings:
            if binding.asked.kind == "resume" and binding.asked.epoch != binding.welcome.epoch:
                _broken("A1", "a resume changed the epoch", binding.asked, binding.welcome)


def rule_a2(history):
    """No request that was sent on a connection after the Welcome of a later one was received is
    ever answered ok, nor does what it sends arrive."""
    view = _view(history)
    for message in view.entries:
        sent = message.kind == "message" and view.sends.get(
            (message.peer, message.user, message.number)
        )
        binding = sent and view.by_connection.get(sent.connection)
        if binding and binding.superseded is not None and sent.order > binding.superseded:
            _broken(
                "A2",
                "a message of a superseded connection arrived",
                view.entries[binding.superseded],
                sent,
                message,
            )
    for request, answer in view.answered:
        binding = request and view.by_connection.get(request.connection)
        if (
            binding
            and binding.superseded is not None
            and answer.word in ANSWERS_OK
            and request.order > binding.superseded
        ):
            _broken(
                "A2",
                "a superseded connection was served",
                view.entries[binding.superseded],
                request,
                answer,
            )


def rule_a3(history):
    """A login that was sent after the Welcome of another one was received has a higher epoch."""
    for bindings in _view(history).users.values():
        by_welcome = sorted(bindings, key=lambda binding: binding.welcome.order)
        orders = [binding.welcome.order for binding in by_welcome]
        highest = list(
            itertools.accumulate(
                by_welcome, lambda a, b: a if a.welcome.epoch > b.welcome.epoch else b
            )
        )
        for binding in bindings:
            before = bisect.bisect_left(orders, binding.asked.order)
            if (
                binding.asked.kind == "login"
                and before > 0
                and highest[before - 1].welcome.epoch >= binding.welcome.epoch
            ):
                _broken(
                    "A3",
                    "a later login has no higher epoch",
                    highest[before - 1].welcome,
                    binding.asked,
                    binding.welcome,
                )


def rule_a4(history):
    """Once it is quiet every connection of a user but the last is closed, and the last one, unless
    the session was ended on purpose, answers a ping."""
    view = _view(history)
    if view.quiet is None:
        _broken("A4", "the history has no quiet end")
    pongs = {
        request.connection
        for request, answer in view.answered
        if answer.word == "pong" and request and request.order > view.quiet
    }
    for user, bindings in view.users.items():
        serving = [binding for binding in bindings if binding.connection in pongs]
        if user not in view.goners and (
            not serving or serving[-1].welcome.epoch != bindings[-1].welcome.epoch
        ):
            _broken("A4", "the highest session does not serve", bindings[-1].welcome)
        if user in view.goners and serving:
            _broken("A4", "a session that was ended serves", serving[-1].welcome)
        for binding in bindings:
            if binding.end is None and binding is not (serving[-1] if serving else None):
                _broken("A4", "a superseded connection is not closed", binding.welcome)
    for connection, entry in view._opened.items():
        if connection not in view.by_connection and connection not in view.ends:
            _broken("A4", "a login that was never welcomed is not closed", entry)


def rule_a5(history):
    """Nothing that was sent to a user after the Welcome of his later session was received arrives
    at the earlier one."""
    view = _view(history)
    for binding in view.by_connection.values():
        for message in binding.messages if binding.superseded is not None else ():
            sent = view.sends.get((message.peer, binding.user, message.number))
            if sent is not None and sent.order > binding.superseded:
                _broken(
                    "A5",
                    "a message went to a superseded connection",
                    view.entries[binding.superseded],
                    sent,
                    message,
                )


def arrivals(bindings):
    """What a user got over all sessions joined by epoch, as a client sees it that drops by seq and
    knows what it had: [(epoch, message)]. Raises when seq has a gap or a double, when another
    message comes under a seq, or when one comes again without its mark."""
    had, result = set(), []
    for epoch, group in itertools.groupby(bindings, lambda binding: binding.welcome.epoch):
        session = {}  # seq -> message
        for binding in group:
            expected = binding.welcome.seq
            for message in binding.messages:
                if message.seq != expected:
                    _broken("C1", f"seq {expected} was due", binding.welcome, message)
                expected += 1
                key = message.peer, message.number
                first = session.get(message.seq)
                if first is not None and (first.peer, first.number) != key:
                    _broken("C1", "another message under one seq", first, message)
                if message.number < 0:
                    continue
                if key in had and not message.flag:
                    _broken("C1", "a message came again without its mark", first, message)
                if (
                    first is None
                    and key in had
                    and any((other.peer, other.number) == key for other in session.values())
                ):
                    _broken("C1", "a message came twice in one session", message)
                session[message.seq] = message
                if key not in had:
                    had.add(key)
                    result.append((epoch, message))
    return result


def rule_c1(history):
    """Per sender and receiver the numbers strictly rise over the receiver's sessions joined by
    epoch. The sender must have numbered in the order of sending."""
    for bindings in _view(history).users.values():
        last = {}
        for _, message in arrivals(bindings):
            before = last.get(message.peer)
            if before is not None and message.number <= before.number:
                _broken("C1", "the order of a pair is broken", before, message)
            last[message.peer] = message


def rule_c2(history):
    """Each message that was reported delivered was; each that was accepted is, for a receiver who
    acknowledges, unless its session was ended; what was refused is not; nothing is invented.
    Gives {accepted, delivered, refused, reported, lost, unknown}."""
    view = _view(history)
    words = {}
    for request, answer in view.answered:
        if request is not None and request.kind == "send":
            words.setdefault((request.connection, request.id), answer)
    got = {}
    acks = {
        user: all(binding.acks for binding in bindings) for user, bindings in view.users.items()
    }
    for user, bindings in view.users.items():
        for _, message in arrivals(bindings):
            got[message.peer, user, message.number] = message
        for binding in bindings:  # of several copies, the one that was read first
            for message in binding.messages:
                key = message.peer, user, message.number
                if key in got and message.order < got[key].order:
                    got[key] = message
    counts = collections.Counter(
        {word: 0 for word in ("accepted", "delivered", "refused", "reported", "lost", "unknown")}
    )
    for entry in view.entries:
        if entry.kind == "send" and entry.number >= 0:
            key = entry.user, entry.peer, entry.number
            answer = words.get((entry.connection, entry.id)) if entry.id else None
            keeps = acks.get(entry.peer, False) and (entry.flag or entry.peer not in view.goners)
            counts[_fate(entry, answer, got.get(key), keeps)] += 1
            counts["accepted"] += answer is not None and answer.word == "done"
    for key, message in got.items():
        if key not in view.sends and message.peer in view.users:
            _broken("C2", "a message that nobody sent", message)
    return dict(counts)


def _fate(sent, answer, message, keeps):
    if answer is None:
        return "delivered" if message else "unknown"
    if answer.word != "done":
        if message is not None and answer.word != "UNDELIVERED":
            _broken("C2", "a message that was refused arrived", sent, answer, message)
        return "reported" if answer.word == "UNDELIVERED" else "refused"
    if message is None and keeps:
        _broken("C2", "a message that was accepted did not arrive", sent, answer)
    if message is not None and keeps and sent.flag and message.order > answer.order:
        _broken("C2", "reported delivered before it arrived", sent, answer, message)
    return "delivered" if message else "lost"


def rule_answers(history):
    """P5: no request has two answers, nor an answer of a kind that is not its own, and each with
    an id has one, unless the connection that it was sent on has ended."""
    view = _view(history)
    kinds = {
        "send": ("done",),
        "call": ("reply",),
        "ping": ("pong",),
        "ack": ("done",),
        "logout": ("done",),
    }
    seen = {}
    for request, answer in view.answered:
        if request is None:
            if answer.id:
                _broken("P5", "an answer to what nobody asked", answer)
            continue
        key = request.connection, request.id, request.order
        if key in seen:
            _broken("P5", "two answers to one request", request, seen[key], answer)
        seen[key] = answer
        if answer.word in ANSWERS_OK and answer.word not in kinds.get(request.kind, ()):
            _broken("P5", f"a {request.kind} was answered {answer.word}", request, answer)
    for (connection, id), request in view.requests.items():
        if (
            (connection, id, request.order) not in seen
            and request.kind in kinds
            and connection not in view.ends
        ):
            _broken("P5", "a request without an answer", request)


def rule_d(history):
    """While a user has a session nobody is told that he has none."""
    view = _view(history)
    since = {}
    for user, bindings in view.users.items():
        since[user] = min(binding.welcome.order for binding in bindings)
    for request, answer in view.answered:
        if request is None or request.kind != "send" or answer.word != "NOT_ONLINE":
            continue
        goner = view.goners.get(request.peer)
        if (
            request.peer in since
            and since[request.peer] < request.order
            and (goner is None or goner.order > answer.order)
        ):
            _broken(
                "D",
                "somebody with a session was called offline",
                view.entries[since[request.peer]],
                request,
                answer,
            )


def rule_resume(history):
    """P6: a resume that says COMPLETE goes on at last_seq + 1; PARTIAL never goes back behind it.
    Gives how many said which."""
    said = collections.Counter({"COMPLETE": 0, "PARTIAL": 0})
    for bindings in _view(history).users.values():
        for binding in bindings:
            asked, welcome = binding.asked, binding.welcome
            if asked.kind == "login":
                if welcome.word != "FRESH" or welcome.seq != 1:
                    _broken("P6", "a login is FRESH from 1", asked, welcome)
                continue
            said[welcome.word] += 1
            if welcome.word == "COMPLETE" and welcome.seq != asked.seq + 1:
                _broken("P6", "COMPLETE with something missing or twice", asked, welcome)
            if welcome.word == "PARTIAL" and welcome.seq <= asked.seq:
                _broken("P6", "PARTIAL that goes back", asked, welcome)
            if welcome.word not in ("COMPLETE", "PARTIAL"):
                _broken("P6", f"a resume is {welcome.word}", asked, welcome)
    return dict(said)


RULES = (
    rule_a1,
    rule_a2,
    rule_a3,
    rule_a4,
    rule_a5,
    rule_c1,
    rule_c2,
    rule_answers,
    rule_d,
    rule_resume,
)


def check_history(history, *left_out):
    """All rules but those left out. Gives the counts of rule_c2 and rule_resume. The history goes
    to the file that USHER_PLAY_HISTORY names, if it does."""
    if os.environ.get("USHER_PLAY_HISTORY"):
        history.numbered()
        history.write(os.environ["USHER_PLAY_HISTORY"])
    view = _View(history)
    counts = {}
    for rule in RULES:
        if rule not in left_out:
            counts.update(rule(view) or {})
    return counts


def times_to_close(history):
    """For each connection that was superseded, the seconds from the Welcome of the later one to
    its own end. A figure, not a rule."""
    view = _view(history)
    return sorted(
        max(0.0, binding.end.at - view.entries[binding.superseded].at)
        for binding in view.by_connection.values()
        if binding.superseded is not None and binding.end is not None
    )
