# SPDX-License-Identifier: Apache-2.0
"""What a program is given. Words are those of protocol.md part 2 ("ONLINE", "TAKEOVER"), numbers are
whole, times are Unix milliseconds. A word that this version does not know is its number as text."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from usher_backend import backend_pb2 as pb


def word(names: Any, number: int) -> str:
    """The name of a number of an enum."""
    try:
        return str(names.Name(number))
    except ValueError:
        return str(number)


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
    is good (0: without end)."""

    user: str = ""
    ends_ms: int = 0


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
    failures."""

    accepted: int
    failures: tuple[Failure, ...] = ()
    dropped: int = 0


@dataclass(slots=True, frozen=True)
class Presence:
    """Follow presence. `after`: the seq of the last event that was processed in an earlier life; 0:
    begin with a picture of who is there."""

    after: int = 0


def call_of(mail: pb.UserCall, acknowledge: Callable[[], None]) -> Call:
    return Call(
        mail.user,
        mail.epoch,
        mail.method,
        mail.payload,
        mail.timeout_ms,
        mail.redelivered,
        mail.call == 0,
        acknowledge,
    )


def login_of(mail: pb.AuthCall) -> Login:
    return Login(
        mail.user, mail.token, mail.address, mail.client, mail.timeout_ms, mail.redelivered
    )


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
    return PushReport(report.accepted, tuple(failures), report.dropped)
