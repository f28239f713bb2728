# SPDX-License-Identifier: Apache-2.0
"""Calls, logins and what concerns rooms, each in a task of its own.

Tasks are started in the order of the mail, so a user's calls begin in the order in which they were
sent; they overlap, and each may take its time. A place is taken from the start of a call until its
answer is at the node: so there are never more answers under way than places, and a service that is
slower than its users holds up the mail, which waits at the node.

Mail is done when its handler has returned, whatever became of it, or when it says so. Then the cursor may pass it, and the
node forgets it; what it has not passed when this process dies goes to another instance.

News of one room are told one after the other, in tasks that wait for each other, and so are notices of what is
stored for one user. One that the program fails at
is logged and done with: what a player published must not be able to hold up the rest."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

from usher_backend import backend_pb2 as pb
from usher_backend import records
from usher_backend.commands import Command
from usher_backend.errors import STATUS_FAILED, STATUS_NO_METHOD, STATUS_TOO_LARGE
from usher_backend.errors import Error, NotSent, Status, TooLarge
from usher_backend.link import Link
from usher_backend.records import Admit, Call, Login, RoomAsk, RoomNews, StoredNotice, WatchAsk

log = logging.getLogger("usher_backend")

Reply: TypeAlias = bytes | bytearray | memoryview | str | None
CallHandler: TypeAlias = Callable[[Call], Awaitable[Reply] | Reply]
Verdict: TypeAlias = bool | str | Admit
LoginHandler: TypeAlias = Callable[[Login], Awaitable[Verdict] | Verdict]
RoomVerdict: TypeAlias = bool | str
RoomAskHandler: TypeAlias = Callable[[RoomAsk], Awaitable[RoomVerdict] | RoomVerdict]
RoomNewsHandler: TypeAlias = Callable[[RoomNews], Awaitable[None] | None]
StoredNoticeHandler: TypeAlias = Callable[[StoredNotice], Awaitable[None] | None]
WatchVerdict: TypeAlias = bool | Sequence[str]
WatchAskHandler: TypeAlias = Callable[[WatchAsk], Awaitable[WatchVerdict] | WatchVerdict]
DrainHandler: TypeAlias = Callable[[bool, str], Awaitable[None] | None]


class Host(Protocol):
    """What it needs of the service."""

    link: Link | None

    def queue_reply(self, command: Command) -> None:
        ...

    def progress(self) -> None:
        ...


def packed(reply: Reply) -> bytes:
    """TypeError: it is no answer."""
    if reply is None:
        return b""
    if isinstance(reply, str):
        return reply.encode()
    if isinstance(reply, (bytes, bytearray, memoryview)):
        return bytes(reply)
    raise TypeError(f"a handler gives bytes, a text or None, not {type(reply).__name__}")


class Mail:
    def __init__(self, host: Host, calls_max: int) -> None:
        if calls_max < 1:
            raise ValueError("calls_max is at least 1")
        self._host = host
        self._calls_max = calls_max
        self._waiting: deque[tuple[Link, pb.Mail]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._stopped = False
        self.open = 0  # places that are taken
        self.methods: dict[str, CallHandler] = {}
        self.on_call: CallHandler | None = None
        self.on_login: LoginHandler | None = None
        self.on_drain: DrainHandler | None = None
        self.on_room_ask: RoomAskHandler | None = None
        self.on_room_news: RoomNewsHandler | None = None
        self.on_watch_ask: WatchAskHandler | None = None
        self.on_stored_notice: StoredNoticeHandler | None = None
        self._told: dict[str, asyncio.Event] = {}  # by room, or user: the last of its news is told

    def take(self, link: Link, mails: list[pb.Mail]) -> int:
        """What a Batch brought; gives how many were new. ValueError: some are missing. While there is
        no place for what came before, nothing is taken: it comes again."""
        if self._waiting or self._stopped:
            return 0
        new = 0
        for mail in mails:
            if mail.seq <= link.mail_have:
                continue
            if mail.seq != link.mail_have + 1:
                raise ValueError("mail is missing")
            link.mail_have = mail.seq
            self._waiting.append((link, mail))
            new += 1
        self._start()
        return new

    def forget(self, link: Link) -> None:
        """The link is over: the node gives to others, or by the next link, what was not begun."""
        self._waiting = deque(each for each in self._waiting if each[0] is not link)
        self._check_quiet()

    def stop(self) -> None:
        """Nothing is begun any more; the node gives it to others."""
        self._stopped = True
        self._waiting.clear()
        self._check_quiet()

    async def quiet(self) -> None:
        """Until no call is open."""
        await self._quiet.wait()

    def runs(self, task: object) -> bool:
        return task in self._tasks

    async def close(self) -> None:
        """Ends what still runs."""
        self.stop()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _start(self) -> None:
        while self._waiting and self.open < self._calls_max:
            link, mail = self._waiting.popleft()
            self._quiet.clear()
            self.open += 1
            task = asyncio.get_running_loop().create_task(self._serve(link, mail))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _check_quiet(self) -> None:
        if self.open == 0 and not self._waiting:
            self._quiet.set()

    def _release(self) -> None:
        self.open -= 1
        self._start()
        self._check_quiet()
        self._host.progress()

    async def _serve(self, link: Link, mail: pb.Mail) -> None:
        reply: pb.ReplyTo | None = None
        done = False

        def acknowledge() -> None:
            nonlocal done
            if not done:
                done = True
                link.finish(mail.seq)
                self._host.progress()

        try:
            kind = mail.WhichOneof("body")
            if kind == "call":
                reply = await self._call(mail.call, acknowledge)
            elif kind == "auth":
                reply = await self._login(mail.auth)
            elif kind == "control":
                await self._control(mail.control)
            elif kind == "ask":
                reply = await self._room_ask(mail.ask)
            elif kind == "news":
                told = records.news_of(mail.news)
                await self._tell(link, "#" + told.room, "on_room_news", self.on_room_news, told)
            elif kind == "stored":
                notice = records.notice_of(mail.stored)
                await self._tell(
                    link, notice.user, "on_stored_notice", self.on_stored_notice, notice
                )
            elif kind == "watch":
                reply = await self._watch_ask(mail.watch)
        except asyncio.CancelledError:
            self._release()  # it is not done, and the cursor stays before it
            raise
        except Exception:  # such as a Status that cannot be one: its place would be taken for ever
            log.exception("a handler gave what is no answer")
            if mail.call.call:
                reply = pb.ReplyTo(call=mail.call.call, status=STATUS_FAILED)
        acknowledge()
        if reply is None:
            self._release()
        else:
            self._send(link, reply)

    def _send(self, link: Link, reply: pb.ReplyTo) -> None:
        """The place is free when the node has it, or never will."""

        def ended(result: pb.Result | Error) -> None:
            if isinstance(result, Error) and not isinstance(result, NotSent):
                log.warning("the answer to a call is lost: %s", result)
            self._release()

        try:
            self._host.queue_reply(Command(pb.Command(reply_to=reply), ended, link=link))
        except TooLarge as error:
            log.error("an answer fits no frame of the link: %s", error)
            reply.payload = b""
            reply.status = STATUS_TOO_LARGE
            self._host.queue_reply(Command(pb.Command(reply_to=reply), ended, link=link))

    async def _call(self, call: pb.UserCall, acknowledge: Callable[[], None]) -> pb.ReplyTo | None:
        status, payload = await self._handle(records.call_of(call, acknowledge))
        return pb.ReplyTo(call=call.call, status=status, payload=payload) if call.call else None

    async def _handle(self, call: Call) -> tuple[int, bytes]:
        handler = self.methods.get(call.method, self.on_call)
        if handler is None:
            log.warning("nobody handles the method %.128r", call.method)
            return STATUS_NO_METHOD, b"no such method"
        try:
            reply = handler(call)
            return 0, packed(await reply if isinstance(reply, Awaitable) else reply)
        except Status as status:
            return status.status, status.payload
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            log.error("the handler of %.128r was cancelled", call.method)
        except Exception:
            log.exception("the handler of %.128r failed", call.method)
        return STATUS_FAILED, b""

    async def _login(self, auth: pb.AuthCall) -> pb.ReplyTo | None:
        """Who is not judged is told by the node to try again later: nobody is let in, or sent away, by
        a mistake."""
        if self.on_login is None:
            log.warning("somebody wants to log in, and on_login is not set")
            return None
        try:
            verdict = self.on_login(records.login_of(auth))
            verdict = await verdict if isinstance(verdict, Awaitable) else verdict
            if isinstance(verdict, bool):
                return pb.ReplyTo(call=auth.call, status=0 if verdict else 1)
            admit = Admit(verdict) if isinstance(verdict, str) else verdict
            if not isinstance(admit, Admit):
                raise TypeError(f"on_login gives bool, str or Admit, not {type(admit).__name__}")
            if isinstance(admit.rooms, str):
                raise TypeError("rooms of an Admit are several names")
            return pb.ReplyTo(
                call=auth.call,
                payload=admit.user.encode(),
                token_ends_ms=admit.ends_ms,
                rooms=admit.rooms,
            )
        except Status as status:
            return pb.ReplyTo(call=auth.call, status=status.status or 1)
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            log.error("on_login was cancelled")
        except Exception:
            log.exception("on_login failed")
        return None

    async def _verdict(self, what: str, handler: Any, asked: Any) -> Any:
        """What the handler gives; a Status; or None, when it gives nothing that counts: then nobody gets in,
        and nobody is sent away for good."""
        if handler is None:
            log.warning("somebody asks, and %s is not set", what)
            return None
        try:
            verdict = handler(asked)
            return await verdict if isinstance(verdict, Awaitable) else verdict
        except Status as status:
            return status
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            log.error("%s was cancelled", what)
        except Exception:
            log.exception("%s failed", what)
        return None

    async def _room_ask(self, ask: pb.RoomAsk) -> pb.ReplyTo | None:
        verdict = await self._verdict("on_room_ask", self.on_room_ask, records.ask_of(ask))
        if isinstance(verdict, Status):
            return pb.ReplyTo(call=ask.call, status=verdict.status or 1, payload=verdict.payload)
        if isinstance(verdict, bool):
            return pb.ReplyTo(call=ask.call, status=0 if verdict else 1)
        if isinstance(verdict, str):
            return pb.ReplyTo(call=ask.call, status=1, payload=verdict.encode())
        if verdict is not None:
            log.error("on_room_ask gives bool or str, not %s", type(verdict).__name__)
        return None

    async def _watch_ask(self, watch: pb.WatchAsk) -> pb.ReplyTo | None:
        verdict = await self._verdict("on_watch_ask", self.on_watch_ask, records.watch_of(watch))
        if isinstance(verdict, Status) or verdict is False:
            status = verdict.status if isinstance(verdict, Status) else 1
            return pb.ReplyTo(call=watch.call, status=status or 1)
        if verdict is None:
            return None
        try:
            if isinstance(verdict, str):
                raise TypeError("a text is no list of names")
            granted = watch.targets if verdict is True else list(verdict)
            payload = pb.WatchGrant(targets=granted).SerializeToString()
        except TypeError:
            log.error("on_watch_ask gives names or bool, not %s", type(verdict).__name__)
            return None
        return pb.ReplyTo(call=watch.call, payload=payload)

    async def _tell(self, link: Link, turn: str, what: str, handler: Any, news: Any) -> None:
        """In turn: whoever comes later waits for our event."""
        if handler is None:
            return
        before = self._told.get(turn)
        told = self._told[turn] = asyncio.Event()
        try:
            if before is not None:
                await before.wait()
            if self._host.link is link:  # else the node tells it again
                result = handler(news)
                if isinstance(result, Awaitable):
                    await result
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            log.error("%s was cancelled", what)
        except Exception:
            log.exception("%s failed for %.128r", what, turn)
        finally:
            told.set()
            if self._told[turn] is told:
                del self._told[turn]

    async def _control(self, control: pb.Control) -> None:
        stops = control.kind == pb.Control.GOAWAY
        log.info("the node %s", "stops" if stops else "sends no new users")
        if self.on_drain is None or control.kind == pb.Control.NONE:
            return
        try:
            result = self.on_drain(stops, control.detail)
            if isinstance(result, Awaitable):
                await result
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            log.error("on_drain was cancelled")
        except Exception:
            log.exception("on_drain failed")
