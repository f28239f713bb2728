# SPDX-License-Identifier: Apache-2.0
"""What a program is given. Words are those of protocol.md part 2 ("ONLINE", "TAKEOVER"), numbers are
whole, times are Unix milliseconds. A word that this version does not know is its number as text."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from usher_backend import backend_pb2 as pb


def word(names: Any, number: int) -> str:
    """The name of a number of an enum."""
    try:
        return str(names.Name(number))
    except ValueError:
        return str(number)


def traceparent_in(given: str | None) -> str:
    """It may have come from whoever called this service: one that is none costs nobody his message.
    Nothing but digits and dashes goes on its way; the rest of what one is, the node judges."""
    return given if isinstance(given, str) and re.fullmatch("[0-9a-f-]{55}", given) else ""


@dataclass(slots=True)
class Call:
    """A user called the service. `timeout_ms` is what was left of his patience when it came; an answer
    after that is dropped. `redelivered`: another instance may have seen it before."""

    user: str
    epoch: int
    method: str
    payload: bytes
    timeout_ms: int
    redelivered: bool
    one_way: bool  # no answer is wanted
    traceparent: str  # of W3C Trace Context, as the caller gave it, or empty
    _acknowledge: Callable[[], None] = field(repr=False, compare=False)

    def acknowledge(self) -> None:
        """It counts as done from here on, for handlers that take long: should this process die, its
        caller is told SERVICE_LOST, and no other instance gets the call."""
        self._acknowledge()

    @property
    def text(self) -> str:
        """The payload as UTF-8; what is none becomes U+FFFD."""
        return self.payload.decode("utf-8", "replace")


@dataclass(slots=True)
class Login:
    """Somebody wants to log in (auth.mode service). `user` may be empty: then the answer names him."""

    user: str
    token: bytes = field(repr=False)
    address: str
    client: str
    timeout_ms: int
    redelivered: bool


@dataclass(slots=True, frozen=True)
class Admit:
    """Lets somebody in. `user` names him (empty: he is who he says), `ends_ms` is until when his ticket
    is good (0: without end), `rooms` what a token would claim: names of rooms, or their beginnings and a
    `*`."""

    user: str = ""
    ends_ms: int = 0
    rooms: Sequence[str] = ()


@dataclass(slots=True)
class Event:
    """One change of one user. `seq` rises by one from event to event of a node."""

    seq: int
    time_ms: int
    user: str
    kind: str  # ONLINE, DETACHED, RESUMED, OFFLINE
    epoch: int
    previous_epoch: int  # not 0: this login took over from that one, which is closed
    cause: str
    until_ms: int  # DETACHED: OFFLINE then, unless something comes first
    address: str
    client: str


@dataclass(slots=True)
class Session:
    """One user, as the node knows him."""

    user: str
    state: str  # ONLINE, DETACHED; of a lookup also GONE: nobody by that name
    epoch: int
    node: str
    since_ms: int
    address: str
    client: str
    inbox_messages: int
    transport: str  # tcp, tls, ws, wss; empty: not known


@dataclass(slots=True, frozen=True)
class Failure:
    """Who did not get a push, and why: NOT_ONLINE, STALE_EPOCH, INBOX_FULL, UNAVAILABLE."""

    user: str
    code: str


@dataclass(slots=True, frozen=True)
class PushReport:
    """How many took a push (of a transient one: to how many it went; to all: mailboxes), and who did
    not, as far as the answer had room. `dropped`: to how many a transient one did not go, who are no
    failures. `mid`: of one that is stored."""

    accepted: int
    failures: tuple[Failure, ...] = ()
    dropped: int = 0
    mid: int = 0


@dataclass(slots=True, frozen=True)
class Presence:
    """Follow presence. `after`: the seq of the last event that was processed in an earlier life; 0:
    begin with a picture of who is there."""

    after: int = 0


@dataclass(slots=True)
class RoomAsk:
    """A user wants to be in a room of this service. `kind`: CREATE, it is not there, and a yes makes it and
    him its first member; or JOIN."""

    user: str
    epoch: int
    room: str
    kind: str
    timeout_ms: int
    redelivered: bool


@dataclass(slots=True)
class RoomNews:
    """Something has happened in a room of this service: OPENED, CLOSED, JOINED, AWAY, BACK, LEFT, MESSAGE.
    `news_seq` counts the news of one `incarnation` from 1; a gap means that no instance has heard of
    something, and `room_members` says what is true."""

    room: str
    incarnation: int
    news_seq: int
    kind: str
    user: str  # of a MESSAGE: who published it, or empty
    epoch: int
    cause: str
    offset: int  # of a MESSAGE: its own; else of the newest one
    payload: bytes
    redelivered: bool
    time_ms: int
    service: str  # of a MESSAGE: the service that published it, or empty

    @property
    def text(self) -> str:
        """The payload as UTF-8; what is none becomes U+FFFD."""
        return self.payload.decode("utf-8", "replace")


@dataclass(slots=True)
class StoredNotice:
    """Something was stored for a user who has no session. `count`: stored for him, this one too."""

    user: str
    mid: int
    sender: str  # the user who sent it, or empty
    service: str  # the service that pushed it, or empty
    payload_bytes: int
    time_ms: int
    count: int


@dataclass(slots=True, frozen=True)
class StoredMessage:
    """One that its receiver has not processed yet."""

    mid: int
    sender: str
    service: str
    payload_bytes: int
    time_ms: int
    expires_ms: int


@dataclass(slots=True, frozen=True)
class InboxPage:
    """Some of them, oldest first; and how many are stored for him in all, with so many bytes."""

    messages: tuple[StoredMessage, ...]
    count: int
    bytes: int


@dataclass(slots=True)
class WatchAsk:
    """A user wants to watch others: which of them may he?"""

    user: str
    epoch: int
    targets: tuple[str, ...]
    timeout_ms: int
    redelivered: bool


@dataclass(slots=True)
class RoomInfo:
    """One room, as the node knows it."""

    name: str
    incarnation: int
    offset: int  # of the newest message
    members: int
    away: int  # of them
    room_class: str  # its pattern
    owner: str
    history_messages: int
    history_bytes: int
    deliveries: int  # messages times members, since it was opened
    opened_ms: int


@dataclass(slots=True, frozen=True)
class RoomMember:
    """`carry`: the membership goes with the user to his next login."""

    user: str
    epoch: int
    away: bool
    carry: bool


@dataclass(slots=True, frozen=True)
class RoomMembersPage:
    """Some members of a room, and the news that this is true for."""

    members: tuple[RoomMember, ...]
    news_seq: int
    incarnation: int
    offset: int


def call_of(mail: pb.UserCall, acknowledge: Callable[[], None]) -> Call:
    return Call(
        mail.user,
        mail.epoch,
        mail.method,
        mail.payload,
        mail.timeout_ms,
        mail.redelivered,
        mail.call == 0,
        mail.traceparent,
        acknowledge,
    )


def login_of(mail: pb.AuthCall) -> Login:
    return Login(
        mail.user, mail.token, mail.address, mail.client, mail.timeout_ms, mail.redelivered
    )


def ask_of(ask: pb.RoomAsk) -> RoomAsk:
    kind = word(pb.RoomAsk.Kind, ask.kind)
    return RoomAsk(ask.user, ask.epoch, ask.room, kind, ask.timeout_ms, ask.redelivered)


def news_of(news: pb.RoomNews) -> RoomNews:
    return RoomNews(
        news.room,
        news.incarnation,
        news.news_seq,
        word(pb.RoomNews.Kind, news.kind),
        news.user,
        news.epoch,
        word(pb.RoomNews.Cause, news.cause),
        news.offset,
        news.payload,
        news.redelivered,
        news.time_ms,
        news.service,
    )


def notice_of(notice: pb.StoredNotice) -> StoredNotice:
    return StoredNotice(
        notice.user,
        notice.mid,
        getattr(notice, "from"),
        notice.service,
        notice.payload_bytes,
        notice.time_ms,
        notice.count,
    )


def inbox_of(stored: pb.StoredList) -> InboxPage:
    messages = tuple(
        StoredMessage(
            each.mid,
            getattr(each, "from"),
            each.service,
            each.payload_bytes,
            each.time_ms,
            each.expires_ms,
        )
        for each in stored.messages
    )
    return InboxPage(messages, stored.count, stored.bytes)


def watch_of(watch: pb.WatchAsk) -> WatchAsk:
    targets = tuple(watch.targets)
    return WatchAsk(watch.user, watch.epoch, targets, watch.timeout_ms, watch.redelivered)


def room_of(info: pb.RoomInfo) -> RoomInfo:
    return RoomInfo(
        info.name,
        info.incarnation,
        info.offset,
        info.members,
        info.away,
        getattr(info, "class"),
        info.owner,
        info.history_messages,
        info.history_bytes,
        info.deliveries,
        info.opened_ms,
    )


def members_of(page: pb.RoomMemberList) -> RoomMembersPage:
    members = tuple(
        RoomMember(each.user, each.epoch, each.away, each.carry) for each in page.members
    )
    return RoomMembersPage(members, page.news_seq, page.incarnation, page.offset)


def event_of(event: pb.PresenceEvent) -> Event:
    return Event(
        event.seq,
        event.time_ms,
        event.user,
        word(pb.PresenceEvent.Kind, event.kind),
        event.epoch,
        event.previous_epoch,
        word(pb.PresenceEvent.Cause, event.cause),
        event.until_ms,
        event.address,
        event.client,
    )


def session_of(info: pb.SessionInfo) -> Session:
    return Session(
        info.user,
        word(pb.SessionInfo.State, info.state),
        info.epoch,
        info.node,
        info.since_ms,
        info.address,
        info.client,
        info.inbox_messages,
        info.transport,
    )


def code_of(number: int) -> str:
    return word(pb.Result.Code, number)


def report_of(result: pb.Result, users: list[str]) -> PushReport:
    """With one name the code of the result is that name's."""
    report = result.push
    failures = [Failure(each.user, code_of(each.code)) for each in report.failures]
    if result.code != pb.Result.OK and not failures:
        failures = [Failure(user, code_of(result.code)) for user in users]
    return PushReport(report.accepted, tuple(failures), report.dropped, report.mid)
