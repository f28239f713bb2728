# SPDX-License-Identifier: Apache-2.0
"""Hello, then Fetch after Fetch, on one connection.

A Fetch that got no answer is asked anew: it changes nothing at the node but by its cursors. A link that
the node no longer knows is the end of its numbers: Hello again, mail and Submits from 1. The cursor of
presence goes on, because its numbers belong to the node.

The incarnation is the time of the start, so that of two processes under one name the newer one counts;
who is told that its link is over says the same again, or it would throw its successor out. It rises
by one where this side gives up a link that the node may still know, whose numbers would go on there."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Protocol

from google.protobuf.message import DecodeError

from usher_backend import backend_pb2 as pb
from usher_backend.channel import Channel, spread
from usher_backend.errors import Refused
from usher_backend.lane import BUSY_SECONDS, REQUEST_SECONDS
from usher_backend.link import Link
from usher_backend.mail import Mail
from usher_backend.presence import Follower
from usher_backend.sp import Trouble

log = logging.getLogger("usher_backend")

FETCH_SLACK_SECONDS = 3.0
LASTING_SECONDS = 5.0
SHORT_LINK_SECONDS = 0.05
LEAVING_TRIES = 16
WAITS_SECONDS = 0.05  # a Fetch that is not answered within it waits
MAIL_HAVE_ALL = 2**53 - 1
PAUSE_SECONDS_MIN = 0.005
PAUSE_SECONDS_MAX = 0.1

_incarnation = 0


def next_incarnation() -> int:
    """Milliseconds of the wall clock, and never the same twice in one process."""
    global _incarnation
    _incarnation = max(time.time_ns() // 1000000, _incarnation + 1)
    return _incarnation


@dataclass
class Identity:
    """Who says Hello."""

    service: str
    instance: str
    token: bytes = field(repr=False)
    incarnation: int = field(default_factory=next_incarnation)


class Host(Protocol):
    """What it needs of the service."""

    link: Link | None

    def heard(self, channel: Channel) -> None:
        ...

    def linked_by(self, link: Link, channel: Channel) -> None:
        ...

    def end_link(self, link: Link, why: str, known_there: bool) -> None:
        ...

    def lost(self, text: str) -> None:
        ...


class Linker:
    def __init__(
        self,
        host: Host,
        identity: Identity,
        channel: Channel,
        mail: Mail,
        follower: Follower | None,
        wait_ms: int,
    ) -> None:
        self._host = host
        self._identity = identity
        self._channel = channel
        self._mail = mail
        self._follower = follower
        self._wait_ms = wait_ms
        self._node_boot = ""
        self._linked_at = 0.0
        self._short_links = 0  # in a row: those that ended as soon as they were made
        self._idle_fetches = (
            0  # in a row: those that brought nothing new though there was something
        )
        self._progress = asyncio.Event()

    def progress(self) -> None:
        """A cursor has moved, or there is room."""
        self._progress.set()

    async def run(self) -> None:
        """Until it is cancelled. Refused: for good."""
        while True:
            link = self._host.link
            try:
                if link is None:
                    await self._hello()
                else:
                    await self._fetch(link)
            except Trouble:
                pass

    async def close(self) -> None:
        await self._channel.close()

    def end_link(self, known_there: bool) -> None:
        """A link that lasted is made again at once; one that ends as soon as it is made is not, or a
        node that is out of order would be asked as often as it can answer."""
        lasted = time.monotonic() - self._linked_at >= LASTING_SECONDS
        self._short_links = 0 if lasted else self._short_links + 1
        if known_there:
            self._identity.incarnation += 1
        self._channel.drop()

    # --- hello ----------------------------------------------------------------------------------

    async def _hello(self) -> None:
        if self._short_links >= 2:
            await asyncio.sleep(spread(SHORT_LINK_SECONDS * 2 ** min(self._short_links - 2, 6)))
        hello = pb.Hello(
            service=self._identity.service,
            instance=self._identity.instance,
            incarnation=self._identity.incarnation,
            token=self._identity.token,
            node_boot=self._node_boot,
        )
        if self._follower is not None:
            hello.presence = True
            hello.presence_after = self._follower.hello()
        answer = await self._ask(pb.LinkRequest(hello=hello), REQUEST_SECONDS)
        kind = answer.WhichOneof("body")
        if kind == "refused":
            await self._hello_refused(answer.refused)
        elif kind == "accepted" and answer.accepted.link:
            link = Link(answer.accepted)
            self._node_boot = link.node_boot
            self._linked_at = time.monotonic()
            self._idle_fetches = 0
            if self._follower is not None:
                self._follower.linked(answer.accepted.presence_from)
            self._host.linked_by(link, self._channel)
        else:
            await self._channel.give_up("not what usherd says")

    async def _hello_refused(self, refused: pb.Refused) -> None:
        """For good when the node knows us and says no; a busy node is asked again."""
        detail = refused.detail or "no reason given"
        who = f'service "{self._identity.service}", instance "{self._identity.instance}"'
        if refused.code == pb.Refused.BANNED:
            raise Refused(
                "BANNED",
                f"the node refuses {who} ({detail}): check the token and that no newer instance "
                "runs under this name",
            )
        if refused.code == pb.Refused.MALFORMED:
            raise Refused("MALFORMED", f"the node does not take the Hello of {who} ({detail})")
        self._host.lost(f"the node is busy ({detail}); saying Hello again")
        await asyncio.sleep(BUSY_SECONDS)

    # --- fetch ----------------------------------------------------------------------------------

    def _fetch_request(self, link: Link, wait_ms: int) -> pb.LinkRequest:
        fetch = pb.Fetch(
            link=link.secret, mail_done=link.mail_done, mail_have=link.mail_have, wait_ms=wait_ms
        )
        if self._follower is not None:
            fetch.presence_done = self._follower.have
        link.mail_said = link.mail_done
        return pb.LinkRequest(fetch=fetch)

    async def _fetch(self, link: Link) -> None:
        park = min(link.park_seconds, self._wait_ms / 1000 or link.park_seconds)
        request = self._fetch_request(link, self._wait_ms)
        answer = await self._ask(request, park + FETCH_SLACK_SECONDS)
        if self._host.link is not link:
            return  # about a link of the past
        kind = answer.WhichOneof("body")
        if kind == "batch":
            await self._take(link, answer.batch)
        elif kind == "refused":
            await self._fetch_refused(link, answer.refused)
        else:
            await self._channel.give_up("not what usherd says")

    async def _take(self, link: Link, batch: pb.Batch) -> None:
        try:
            new = self._mail.take(link, list(batch.mail))
        except ValueError as error:
            self._host.end_link(link, str(error), True)
            return
        if self._follower is not None:
            new += self._follower.take(batch)
        if new:
            self._idle_fetches = 0
            await asyncio.sleep(0)  # handlers that need not wait are done before the next Fetch
        elif batch.mail or batch.presence:
            await self._pause()

    async def _pause(self) -> None:
        """What came was here already and cannot be acknowledged yet, or there is no place for it: whoever
        asked again at once would be answered at once, for ever."""
        self._idle_fetches += 1
        pause = PAUSE_SECONDS_MIN * 2 ** min(self._idle_fetches - 1, 10)
        self._progress.clear()
        try:
            async with asyncio.timeout(min(pause, PAUSE_SECONDS_MAX)):
                await self._progress.wait()
        except TimeoutError:
            pass

    async def _fetch_refused(self, link: Link, refused: pb.Refused) -> None:
        if refused.code in (pb.Refused.BUSY, pb.Refused.PIPELINED):
            await asyncio.sleep(BUSY_SECONDS)
        else:
            known_there = refused.code != pb.Refused.STALE_LINK
            self._host.end_link(link, refused.detail, known_there)

    async def leave(self, link: Link, channel: Channel) -> None:
        """Says what is done, or another instance would do it again, and goes so that the node sees it: it
        waits for the next Fetch of who has none there, and only a short while for one whose connection
        broke. On another connection: this one's Fetch may still wait, and is given up for the newer one.
        """
        if link.mail_done == link.mail_said and not self._idle_fetches:
            return
        try:
            await channel.connect()
            await channel.request(self._fetch_request(link, 1).SerializeToString(), REQUEST_SECONDS)
            waits = self._fetch_request(link, 0)
            waits.fetch.mail_have = MAIL_HAVE_ALL  # nothing that is left to others answers it
            for _ in range(LEAVING_TRIES):
                async with asyncio.timeout(WAITS_SECONDS):
                    await channel.request(waits.SerializeToString(), REQUEST_SECONDS)
        except (Trouble, TimeoutError):
            pass

    # --- both -----------------------------------------------------------------------------------

    async def _ask(self, request: pb.LinkRequest, seconds: float) -> pb.LinkAnswer:
        await self._channel.connect()
        body = await self._channel.request(request.SerializeToString(), seconds)
        try:
            answer: pb.LinkAnswer = pb.LinkAnswer.FromString(body)
        except DecodeError:
            answer = pb.LinkAnswer()
        if answer.WhichOneof("body") is not None:
            self._host.heard(self._channel)
        return answer
