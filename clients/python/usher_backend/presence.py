# SPDX-License-Identifier: Apache-2.0
"""Who is online, without a gap: events one at a time in their order, each once.

Events of a node are numbered without gaps. `done` is the cursor of the program: it moves when on_presence
has returned, and a new link goes on behind it. `have` is how far they have arrived; the node keeps the stream for
as long as it likes, so it may be told that at once. What arrives is kept up to a bound; what is beyond comes again.

Where something was missed the picture is taken anew, from Snapshot pages. Each page bears a stamp: it
contains every event up to that seq. The stamps rise from page to page while life goes on, so after
the picture an event is old news for exactly the names of pages with a stamp not below it. Therefore
the pages are kept as (last name, stamp) until the stream has passed the last stamp. The stream itself
goes on after the first stamp, the lowest.

What a handler raises is logged and the same is told again a little later: a cursor that moved on would
lose it for ever."""

import asyncio
import bisect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from usher_backend import backend_pb2 as pb
from usher_backend import records
from usher_backend.errors import Error
from usher_backend.records import Event, Session, code_of

log = logging.getLogger("usher_backend")

EventHandler: TypeAlias = Callable[[Event], Awaitable[None] | None]
SessionHandler: TypeAlias = Callable[[Session], Awaitable[None] | None]
PlainHandler: TypeAlias = Callable[[], Awaitable[None] | None]

EVENTS_MAX = 1024  # that wait for their handler
PAGES_MAX = 65536
AGAIN_SECONDS_MIN = 0.1
AGAIN_SECONDS_MAX = 5.0


class Host(Protocol):
    """What it needs of the service."""

    async def ask(self, command: pb.Command) -> pb.Result:
        ...

    def progress(self) -> None:
        ...


class Outdated(Exception):
    """The picture that was being taken is worth nothing any more."""


class Follower:
    def __init__(self, host: Host, after: int) -> None:
        self._host = host
        self._awake = asyncio.Event()
        self._events: deque[pb.PresenceEvent] = deque()
        self._names: list[bytes] = []  # of the last user of each page
        self._stamps: list[int] = []
        self._life = 0  # of the picture; events belong to the one that they came in
        self._picture = False  # wanted, or being taken
        self._failures = 0
        self._stopped = False
        self.done = self.have = after
        self.asked_after = after  # in the last Hello
        self.on_event: EventHandler | None = None
        self.on_reset: PlainHandler | None = None
        self.on_snapshot: SessionHandler | None = None
        self.on_current: PlainHandler | None = None

    # --- what arrives ---------------------------------------------------------------------------

    def hello(self) -> int:
        """The cursor for a Hello."""
        self.asked_after = self.done
        return self.done

    def linked(self, presence_from: int) -> None:
        """An interrupted picture is worth nothing; neither is one of a node whose numbers do not go on
        where ours end."""
        first = self.asked_after == 0
        gap = presence_from not in (0, self.asked_after + 1)
        if first or gap or self._picture:
            self._begin(presence_from - 1 if presence_from else self.done)
        else:
            self._events.clear()
            self.have = self.done

    def take(self, batch: pb.Batch) -> int:
        """Gives how many events were new and had room."""
        if batch.presence_reset and self._missed(batch, next(iter(batch.presence), None)):
            return 1
        new = 0
        for event in batch.presence:
            if event.seq <= self.have:
                continue
            if event.seq != self.have + 1 and self._missed(batch, event):
                return new + 1
            if len(self._events) >= EVENTS_MAX:
                break
            self._events.append(event)
            self.have = event.seq
            new += 1
        if new:
            self._awake.set()
        return new

    def _missed(self, batch: pb.Batch, next_event: pb.PresenceEvent | None) -> bool:
        """Events before `next_event` (None: nobody knows which) will not come. True: a picture replaces them,
        and the rest of the batch. Who takes no pictures is told of the hole and goes on."""
        if self.on_snapshot is None and next_event is not None:
            self._begin(next_event.seq - 1)
            return False
        self._begin(max([batch.presence_last, *(event.seq for event in batch.presence)]))
        return self.on_snapshot is not None

    def _begin(self, done: int) -> None:
        self._life += 1
        self._picture = True
        self._events.clear()
        self._forget_pages()
        self.done = self.have = done
        self._awake.set()

    def stop(self) -> None:
        """After what is being told `run` ends."""
        self._stopped = True
        self._awake.set()

    # --- what is told ---------------------------------------------------------------------------

    async def run(self) -> None:
        while not self._stopped:
            if not self._picture and not self._events:
                self._awake.clear()
                await self._awake.wait()
                continue
            try:
                if self._picture:
                    await self._take_picture()
                else:
                    await self._tell_next()
                self._failures = 0
            except Outdated:
                pass
            except asyncio.CancelledError:
                if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
                await self._pause("was cancelled")  # what it waited for, and not we
            except Exception:
                await self._pause("failed")

    async def _pause(self, how: str) -> None:
        self._failures += 1
        pause = min(AGAIN_SECONDS_MIN * 2 ** min(self._failures - 1, 10), AGAIN_SECONDS_MAX)
        log.exception("a handler of presence %s; the same again in %.1f s", how, pause)
        await asyncio.sleep(pause)

    async def _tell_next(self) -> None:
        life, event = self._life, self._events[0]
        if event.seq > self.done and not self._pictured(event):
            await _call(self.on_event, records.event_of(event))
        if life != self._life:
            return  # the link, or what is known, began anew meanwhile
        self.done = max(self.done, event.seq)
        if self._events and self._events[0] is event:
            self._events.popleft()
        self._host.progress()

    async def _take_picture(self) -> None:
        life = self._life
        self._forget_pages()
        await self._told(life, self.on_reset)
        more = self.on_snapshot is not None
        while more:
            more = await self._page(life)
        await self._told(life, self.on_current)
        self._picture = False
        self._host.progress()

    async def _page(self, life: int) -> bool:
        """Tells one page; gives whether there is a next one."""
        after = self._names[-1].decode() if self._names else ""
        try:
            result = await self._host.ask(pb.Command(snapshot=pb.Snapshot(after=after)))
        except Error as error:
            log.warning("no page of the picture: %s", error)
            await asyncio.sleep(AGAIN_SECONDS_MIN)
            return True
        if life != self._life:
            raise Outdated
        if result.code != pb.Result.OK:
            log.warning("no page of the picture: %s", code_of(result.code))
            await asyncio.sleep(AGAIN_SECONDS_MIN)
            return True
        sessions, stamp = list(result.sessions.sessions), result.sessions.presence_seq
        last = sessions[-1].user if sessions else after
        if not self._names:
            self.done = max(self.done, stamp)
            self.have = max(self.have, self.done)
        self._note_page(last.encode(), stamp)
        for info in sessions:
            await self._told(life, self.on_snapshot, records.session_of(info))
        # One that does not get ahead would be asked for without end.
        return result.sessions.more and last > after

    async def _told(
        self, life: int, handler: Callable[..., object] | None, *arguments: object
    ) -> None:
        await _call(handler, *arguments)
        if life != self._life or self._stopped:
            raise Outdated

    # --- pages ----------------------------------------------------------------------------------

    def _note_page(self, last: bytes, stamp: int) -> None:
        """Beyond the bound it is added to the page before, under that one's older stamp: then some
        events are told again, in order, and the end is the same."""
        if len(self._names) < PAGES_MAX:
            self._names.append(last)
            self._stamps.append(stamp)
        else:
            self._names[-1] = last

    def _forget_pages(self) -> None:
        self._names.clear()
        self._stamps.clear()

    def _pictured(self, event: pb.PresenceEvent) -> bool:
        """Whether the picture already contains it."""
        if not self._names:
            return False
        if event.seq > self._stamps[-1]:
            self._forget_pages()  # nothing newer can be in it
            return False
        page = bisect.bisect_left(self._names, event.user.encode())
        return event.seq <= self._stamps[min(page, len(self._stamps) - 1)]


async def _call(handler: Callable[..., object] | None, *arguments: object) -> None:
    if handler is not None:
        result = handler(*arguments)
        if isinstance(result, Awaitable):
            await result
