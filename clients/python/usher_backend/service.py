# SPDX-License-Identifier: Apache-2.0
"""One instance of a service: what a program sees of the library, and how its parts hang together.

    Linker    Hello and Fetch              linker.py
    Mail      calls and logins, in tasks   mail.py
    Follower  presence                     presence.py
    Lane      commands; and one for questions, on a connection of its own   lane.py

All of it belongs to one event loop. Its tasks live from entering the block to leaving it, and none is left
behind. Leaving it in order ends in at most `stop_seconds`: calls that were begun may finish, what was
submitted gets out, what is done is acknowledged; leaving it by an exception ends at once."""

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

from usher_backend import backend_pb2 as pb
from usher_backend import records
from usher_backend.addresses import Places, default_url
from usher_backend.channel import Channel
from usher_backend.commands import BYTES_MAX, COMMANDS_MAX, Command
from usher_backend.errors import CommandFailed, Error, NoAnswer, NotSent, NotStored, Refused
from usher_backend.errors import TooLarge
from usher_backend.inboxes import Inboxes
from usher_backend.lane import Lane
from usher_backend.link import Link
from usher_backend.linker import Identity, Linker
from usher_backend.mail import CallHandler, DrainHandler, LoginHandler, Mail, Reply, packed
from usher_backend.mail import RoomAskHandler, RoomNewsHandler, StoredNoticeHandler
from usher_backend.mail import WatchAskHandler
from usher_backend.presence import EventHandler, Follower, PlainHandler, SessionHandler
from usher_backend.records import Presence, PushReport, Session, traceparent_in
from usher_backend.rooms import Rooms, good

log = logging.getLogger("usher_backend")

COMMANDS, QUESTIONS = 0, 1  # lanes
QUESTIONS_MAX = 1024  # that wait
ANSWER_SECONDS = 3.0
STOP_SECONDS = 5.0
LINE_MAX = 512

Sessions: TypeAlias = list[Session]  # the class has a `list` of its own
Links: TypeAlias = list[str]
Tasks: TypeAlias = list[asyncio.Task[None]]
StateHandler: TypeAlias = Callable[[str, str], None]
C = TypeVar("C", bound=CallHandler)
L = TypeVar("L", bound=LoginHandler)
D = TypeVar("D", bound=DrainHandler)
E = TypeVar("E", bound=EventHandler)
S = TypeVar("S", bound=SessionHandler)
P = TypeVar("P", bound=PlainHandler)
T = TypeVar("T", bound=StateHandler)
A = TypeVar("A", bound=RoomAskHandler)
N = TypeVar("N", bound=RoomNewsHandler)
W = TypeVar("W", bound=WatchAskHandler)
O = TypeVar("O", bound=StoredNoticeHandler)


def default_instance() -> str:
    """Host and process are for people. Two containers may have both in common, and then the newer one
    would throw the older out: what tells them apart is drawn."""
    host = socket.gethostname().partition(".")[0][:64] or "host"
    return f"{host}-{os.getpid()}-{random.SystemRandom().getrandbits(32):08x}"


class Service(Rooms, Inboxes):
    """Made by `usher_backend.service`."""

    def __init__(
        self,
        name: str,
        links: Links,
        identity: Identity,
        calls_max: int,
        presence: Presence | None,
        commands_max: int,
        bytes_max: int,
        wait_ms: int,
        stop_seconds: float,
    ) -> None:
        self.name = name
        self.instance = identity.instance
        self.link: Link | None = None
        self._stop_seconds = stop_seconds
        self._links = links
        self._channels = [self._channel() for _ in range(3)]
        fetching, submitting, asking = self._channels
        self._mail = Mail(self, calls_max)
        self._follower = None if presence is None else Follower(self, presence.after)
        self._linker = Linker(self, identity, fetching, self._mail, self._follower, wait_ms)
        self._lane = Lane(self, COMMANDS, submitting, commands_max, bytes_max)
        self._asking = Lane(self, QUESTIONS, asking, QUESTIONS_MAX, BYTES_MAX, repeatable=True)
        self._tasks: Tasks = []
        self._following: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._over = asyncio.Event()  # stopped, or refused for good
        self._has_link = asyncio.Event()
        self._failure: Exception | None = None
        self._drained = False
        self._on_state: StateHandler | None = None
        self.state = "new"  # then linked, lost, refused, closed
        self.error_text = ""

    # --- handlers -------------------------------------------------------------------------------

    def on(self, method: str) -> Callable[[C], C]:
        """Decorates what handles the calls of one method. It gives the answer: bytes, a text or nothing."""

        def register(handler: C) -> C:
            self._mail.methods[method] = handler
            return handler

        return register

    def on_call(self, handler: C) -> C:
        """Decorates what handles the calls of all other methods."""
        self._mail.on_call = handler
        return handler

    def on_login(self, handler: L) -> L:
        """Decorates what decides who logs in: True, False, his name, or Admit."""
        self._mail.on_login = handler
        return handler

    def on_room_ask(self, handler: A) -> A:
        """Decorates what decides who makes and joins the rooms of this service: True, False, or a text, which
        is a no that the user is told."""
        self._mail.on_room_ask = handler
        return handler

    def on_room_news(self, handler: N) -> N:
        """Decorates what is told what happens in its rooms: of each room one after the other, and
        acknowledged when it has returned."""
        self._mail.on_room_news = handler
        return handler

    def on_watch_ask(self, handler: W) -> W:
        """Decorates what decides who watches whom: the names that he may, True for all, False."""
        self._mail.on_watch_ask = handler
        return handler

    def on_stored_notice(self, handler: O) -> O:
        """Decorates what is told that something was stored for somebody who is away: of each user one after
        the other, and acknowledged when it has returned."""
        self._mail.on_stored_notice = handler
        return handler

    def on_drain(self, handler: D) -> D:
        """Decorates what is told (node_stops, detail) when no new users will come."""
        self._mail.on_drain = handler
        return handler

    def on_state(self, handler: T) -> T:
        """Decorates what is told (state, text): linked, lost, refused or closed, and a line for a log."""
        self._on_state = handler
        return handler

    def _followed(self) -> Follower:
        if self._follower is None:
            raise ValueError("presence is followed with presence=usher_backend.Presence()")
        return self._follower

    def on_presence(self, handler: E) -> E:
        """Decorates what is told each change, one after the other; the cursor moves when it returns."""
        self._followed().on_event = handler
        return handler

    def on_presence_reset(self, handler: P) -> P:
        """Decorates what forgets everybody: the picture begins anew."""
        self._followed().on_reset = handler
        return handler

    def on_presence_snapshot(self, handler: S) -> S:
        """Decorates what is told each user of the new picture. Without it no picture is taken."""
        self._followed().on_snapshot = handler
        return handler

    def on_presence_current(self, handler: P) -> P:
        """Decorates what is told that the picture is whole; changes follow."""
        self._followed().on_current = handler
        return handler

    @property
    def presence_seq(self) -> int:
        """The cursor: every event up to it is processed. Store it, and begin with it the next time."""
        return self._followed().done

    # --- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> "Service":
        if self._tasks or self._closing is not None:
            raise RuntimeError("an instance is entered once")
        works = [self._linker.run(), self._lane.run(), self._asking.run()]
        self._tasks = [asyncio.create_task(self._keep(work)) for work in works]
        if self._follower is not None:
            self._following = asyncio.create_task(self._keep(self._follower.run()))
            self._tasks.append(self._following)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(orderly=kind is None)

    async def linked(self) -> None:
        """Until there is a link. Refused, NotSent: there will be none."""
        while self.link is None:
            self._check_open()
            if self._over.is_set():
                raise NotSent("the service was stopped")
            await _first_of(self._has_link, self._over)

    async def run_forever(
        self, signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)
    ) -> None:
        """Until `stop` or one of the signals. Refused: the node will have nothing to do with us."""
        loop = asyncio.get_running_loop()
        caught = []
        for number in signals:
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                loop.add_signal_handler(number, self.stop)  # only in the main thread
                caught.append(number)
        try:
            await self._over.wait()
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ends run_forever. Handlers may use it."""
        self._over.set()

    async def idle(self) -> None:
        """Until no call is open."""
        await self._mail.quiet()

    @property
    def calls_open(self) -> int:
        return self._mail.open

    async def close(self, orderly: bool = True) -> None:
        """What leaving the block does. Not for handlers: they stop."""
        task = asyncio.current_task()
        if self._mail.runs(task) or (task is not None and task is self._following):
            raise RuntimeError("a handler ends its service by stop()")
        if not orderly:
            self._hurry.set()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            self._hurry.set()
            await self._closing
            raise

    async def _close(self) -> None:
        self._over.set()
        self._mail.stop()
        if self._follower is not None:
            self._follower.stop()
        finishing = asyncio.create_task(self._finish())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait(
            [finishing, hurry],
            timeout=self._stop_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if finishing.done() and finishing.exception() is not None:
            log.error("leaving in order failed", exc_info=finishing.exception())
        if self._mail.open and not self._hurry.is_set():
            log.warning("%d calls were cut off", self._mail.open)
        await _cancelled([finishing, hurry, *self._tasks])
        await self._mail.close()
        why = self._failure if isinstance(self._failure, Error) else NotSent("the service ended")
        await self._lane.close(why)
        await self._asking.close(why)
        await self._linker.close()
        self.link = None
        self._tell("closed" if self._failure is None else "refused", self.error_text or "closed")

    async def _finish(self) -> None:
        """What was begun, what is queued, and what is done and not acknowledged."""
        if self.link is None or self._failure is not None:
            return
        if self._following is not None:
            await asyncio.wait([self._following])
        await self._mail.quiet()
        await self._lane.idle()
        if self.link is not None:
            channel = self._channel()
            try:
                await self._linker.leave(self.link, channel)
            finally:
                await channel.close()

    async def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Refused as refused:
            log.error("%s", tame(str(refused)))
            self._fail(refused)
        except Exception as error:
            log.exception("the library failed")
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """The service is over; whoever waits is told."""
        self._failure = self._failure or error
        self.error_text = tame(str(error))
        self._over.set()
        self._has_link.set()
        self._hurry.set()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())

    def _check_open(self) -> None:
        if isinstance(self._failure, Error):
            raise self._failure
        if not self._tasks or self._closing is not None or self._failure is not None:
            raise NotSent("the service is not running")

    # --- what the parts tell --------------------------------------------------------------------

    def _channel(self) -> Channel:
        return Channel(self._links, self.lost)

    def heard(self, channel: Channel) -> None:
        """Any answer is a sign of life."""
        for each in self._channels:
            each.failures = 0
        if self.link is not None and self.state != "linked":
            self._tell("linked", f"linked to {channel.url} as link {self.link.number}")

    def linked_by(self, link: Link, channel: Channel) -> None:
        self.link = link
        for lane in (self._lane, self._asking):
            lane.queue.frame_bytes_max = link.frame_bytes_max
            lane.wake()
        if self._drained:  # a Hello has undone it
            drain = pb.Command(drain=pb.Drain())
            self._lane.queue.add(Command(drain, lambda _: None), bounded=False)
        self._has_link.set()
        self.heard(channel)

    def end_link(self, link: Link, why: str, known_there: bool) -> None:
        if self.link is not link:
            return
        self.link = None
        self._has_link.clear()
        self._mail.forget(link)
        self._linker.end_link(known_there)
        self.lost(f"the node ended the link ({why}); saying Hello again")

    def lost(self, text: str) -> None:
        self.error_text = tame(text)
        if self.state != "lost":
            self._tell("lost", self.error_text)

    def _tell(self, state: str, text: str) -> None:
        self.state = state
        log.log(logging.WARNING if state == "lost" else logging.INFO, "%s", text)
        if self._on_state is not None:
            try:
                self._on_state(state, text)
            except Exception:
                log.exception("on_state failed")

    def queue_reply(self, command: Command) -> None:
        self._lane.queue.add(command, bounded=False)

    def progress(self) -> None:
        self._linker.progress()

    # --- commands -------------------------------------------------------------------------------

    async def _submit(self, lane: Lane, message: pb.Command, transient: bool = False) -> pb.Result:
        self._check_open()
        future: asyncio.Future[pb.Result] = asyncio.get_running_loop().create_future()

        def ended(result: pb.Result | Error) -> None:
            if future.done():
                return
            if isinstance(result, Error):
                future.set_exception(result)
            else:
                future.set_result(result)

        command = Command(message, ended, transient=transient)
        lane.queue.add(command)
        try:
            return await future
        except asyncio.CancelledError:
            lane.queue.discard(command)
            raise

    async def command(self, message: pb.Command) -> pb.Result:
        """One command to the node, whatever its result. QueueFull, TooLarge, NotSent, Lost."""
        return await self._submit(self._lane, message)

    async def room(self) -> None:
        """Until the queue, when it was full, is half empty again."""
        self._check_open()
        await self._lane.queue.room()

    async def push(
        self,
        to: str | Iterable[str],
        payload: Reply = b"",
        *,
        transient: bool = False,
        epoch: int = 0,
        traceparent: str | None = None,
        keep_s: int = 0,
        tag: int = 0,
    ) -> PushReport:
        """Sends a message to each of them. `epoch`: to that login or nobody. `transient`: now or never.
        `traceparent`: of W3C Trace Context, for the receivers' clients; what is none is left out.
        `keep_s`: stored on the node's disk for each, online or not, until he has processed it, for so many
        seconds at most; `tag`: for whom one is stored under it since ten minutes, it is not stored again, so
        what was Lost is pushed again. Raises QueueFull, TooLarge, NotSent, NotStored, Lost, CommandFailed.
        """
        users = [to] if isinstance(to, str) else list(to)
        if not users:
            return PushReport(0)
        push = pb.Push(
            to=users,
            payload=packed(payload),
            epoch=epoch,
            transient=transient,
            traceparent=traceparent_in(traceparent),
            keep_s=keep_s,
            tag=tag,
        )
        result = await self._submit(self._lane, pb.Command(push=push), transient)
        if result.code != pb.Result.OK and len(users) > 1 and not result.HasField("push"):
            raise CommandFailed(records.code_of(result.code), "push")
        if keep_s and result.push.accepted and not result.push.mid:
            raise NotStored("the node is older than stored messages")
        return records.report_of(result, users)

    async def push_all(
        self, payload: Reply = b"", *, transient: bool = False, traceparent: str | None = None
    ) -> PushReport:
        """Sends a message to everybody who is there."""
        push = pb.PushAll(
            payload=packed(payload), transient=transient, traceparent=traceparent_in(traceparent)
        )
        result = await self._submit(self._lane, pb.Command(push_all=push), transient)
        return records.report_of(good(result, "push_all"), [])

    async def kick(
        self,
        user: str,
        *,
        epoch: int = 0,
        reason: int = 0,
        detail: str = "",
        retry_after_ms: int = 0,
        do_not_return: bool = False,
    ) -> bool:
        """Ends the session of a user. `reason`: of protocol.md 1.4; 0: KICKED. False: there is no such
        login."""
        kick = pb.Kick(
            user=user,
            epoch=epoch,
            reason=reason,
            detail=detail,
            retry_after_ms=retry_after_ms,
            do_not_return=do_not_return,
        )
        result = await self._submit(self._lane, pb.Command(kick=kick))
        if result.code in (pb.Result.NOT_ONLINE, pb.Result.STALE_EPOCH):
            return False
        good(result, f"kick {user!r}")
        return True

    async def drain(self) -> None:
        """The instance keeps its users and gets no new ones, also by later links."""
        good(await self._submit(self._lane, pb.Command(drain=pb.Drain())), "drain")
        self._drained = True

    # --- questions ------------------------------------------------------------------------------

    async def ask(self, command: pb.Command) -> pb.Result:
        """One question to the node, whatever its result. NoAnswer, QueueFull, TooLarge."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._submit(self._asking, command)
        except TimeoutError:
            raise NoAnswer(f"no answer from a node; {self.error_text}") from None

    async def lookup(self, users: Iterable[str]) -> Sessions:
        """In the order asked for; state GONE for who is not there."""
        wanted = list(users)
        if not wanted:
            return []
        try:
            command = pb.Command(lookup=pb.Lookup(users=wanted))
            result = good(await self.ask(command), "lookup")
        except (TooLarge, CommandFailed) as error:
            if len(wanted) == 1 or getattr(error, "code", "TOO_LARGE") != "TOO_LARGE":
                raise
            half = len(wanted) // 2
            return await self.lookup(wanted[:half]) + await self.lookup(wanted[half:])
        return [records.session_of(info) for info in result.sessions.sessions]

    async def list(self, prefix: str = "") -> AsyncIterator[Session]:
        """All sessions whose names begin so, in the order of their names, page by page."""
        after, more = "", True
        while more:
            command = pb.Command(list=pb.List(prefix=prefix, after=after))
            page = good(await self.ask(command), "list").sessions
            for info in page.sessions:
                yield records.session_of(info)
            last = page.sessions[-1].user if page.sessions else after
            more = page.more and last > after
            after = last

    async def count(self) -> dict[str, int]:
        """sessions, online, detached."""
        return _numbers(good(await self.ask(pb.Command(count=pb.Count())), "count"))

    async def stats(self) -> dict[str, int]:
        """The numbers of operations.md."""
        return _numbers(good(await self.ask(pb.Command(stats=pb.Stats())), "stats"))


def service(
    name: str = "",
    *,
    link: str | Sequence[str] | None = None,
    instance: str | None = None,
    token: bytes | str | None = None,
    calls_max: int = 256,
    presence: Presence | None = None,
    queue_commands_max: int = COMMANDS_MAX,
    queue_bytes_max: int = BYTES_MAX,
    wait_ms: int = 0,
    stop_seconds: float = STOP_SECONDS,
) -> Service:
    """One instance of the service `name` (empty: it only observes), to be entered by `async with`.

    link: one URL or several of one node, tried in turn: ipc://PATH, tcp://HOST:PORT; None: default_url().
    instance: unique within the service and stable over restarts; None: drawn. token: what
    link.token_file says. calls_max: calls that are open at once. wait_ms: the longest wait of one
    Fetch; 0: as the node likes. ValueError: an argument is no good."""
    links = [default_url()] if link is None else [link] if isinstance(link, str) else list(link)
    Places(links)
    secret = token.encode() if isinstance(token, str) else token or b""
    identity = Identity(name, instance or default_instance(), secret)
    return Service(
        name,
        links,
        identity,
        calls_max,
        presence,
        queue_commands_max,
        queue_bytes_max,
        wait_ms,
        stop_seconds,
    )


def tame(text: str) -> str:
    """One line for a log, also where the node's own words are in it."""
    return "".join(each if each.isprintable() else "?" for each in text)[:LINE_MAX]


def _numbers(result: pb.Result) -> dict[str, int]:
    return {number.name: number.value for number in result.numbers.numbers}


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Until they have ended."""
    own = asyncio.current_task()
    waiting = [task for task in tasks if task is not own and not task.done()]
    for task in waiting:
        task.cancel()
    if waiting:
        await asyncio.wait(waiting)


async def _first_of(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancelled(tasks)
