# SPDX-License-Identifier: Apache-2.0
"""One of an instance's connections: made when it is needed, and again when it was lost.

Who asks gets the answer or Trouble. Then the next try comes later: from 50 ms up to a second, half of it
random so that many do not come at the same moment, and from a URL that does not answer on to the
next one. Whether the same bytes go out again is the caller's business."""

import asyncio
import errno
import random
from collections.abc import Callable

from usher_backend.addresses import Places, Target
from usher_backend.sp import Connection, Trouble

BACKOFF_SECONDS_MIN = 0.05
BACKOFF_SECONDS_MAX = 1.0
CONNECT_SECONDS = 2.0
CONNECT_SECONDS_OF_MANY = 1.0  # when the host has another address to try
CLOSE_SECONDS = 0.5


def spread(seconds: float) -> float:
    """Up to so much, and half of it at least."""
    return seconds / 2 + random.random() * seconds / 2


def backoff(failures: int) -> float:
    """After so many failures in a row, of which there is one at least."""
    return spread(min(BACKOFF_SECONDS_MIN * 2 ** min(failures - 1, 5), BACKOFF_SECONDS_MAX))


class Channel:
    """`told` is called with a line about each Trouble."""

    def __init__(self, urls: list[str], told: Callable[[str], None]) -> None:
        self._places = Places(urls)
        self._told = told
        self._connection: Connection | None = None
        self._target: Target | None = None  # of the connection
        self._dropped = self._asking = False
        self._opening: asyncio.Task[Connection] | None = None
        self.failures = 0  # in a row

    @property
    def url(self) -> str:
        return self._places.url

    async def connect(self) -> None:
        """Until there is a connection or Trouble."""
        if self._connection is not None and self._connection.is_open:
            return
        # A task of its own, so that who is cancelled does not leave in the middle of a handshake.
        self._opening = asyncio.ensure_future(self._open())
        try:
            self._connection = await asyncio.shield(self._opening)
            self._opening = None
        except Trouble as trouble:
            self._opening = None
            await self._failed(trouble, lost=False)
            raise

    async def request(self, body: bytes, seconds: float) -> bytes:
        """On the connection that `connect` made."""
        assert self._connection is not None
        self._asking = True
        try:
            answer = await self._connection.request(body, seconds)
            if self._target is not None:
                self._places.works(self._target)
            return answer
        except Trouble as trouble:
            await self._failed(trouble, lost=not trouble.late)
            raise
        finally:
            self._asking = False

    async def give_up(self, text: str) -> None:
        """The answer was useless."""
        if self._connection is not None:
            self._connection.close()
        await self._failed(Trouble(text), lost=False)

    def drop(self) -> None:
        """Whoever waits for an answer is told at once that there will be none; nobody else is."""
        if self._connection is not None and self._asking:
            self._dropped = True
            self._connection.close()

    async def close(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            done, _ = await asyncio.wait([opening], timeout=CLOSE_SECONDS)
            if not done:
                opening.cancel()
                await asyncio.wait([opening])
            if not opening.cancelled() and opening.exception() is None:
                self._connection = opening.result()
        if self._connection is not None:
            self._connection.close()
            await self._connection.over.wait()
            self._connection = None

    async def _open(self) -> Connection:
        """The first address that takes us."""
        trouble = Trouble("no address")
        try:
            targets = await self._places.targets()
        except OSError:
            raise Trouble("the name of its host is not known") from None
        for target in targets:
            seconds = CONNECT_SECONDS if len(targets) == 1 else CONNECT_SECONDS_OF_MANY
            try:
                connection = await Connection.open(target, seconds)
                self._target = target
                return connection
            except TimeoutError:
                trouble = Trouble("timeout")
            except OSError as error:
                trouble = Trouble(_word(error))
            except Trouble as other:
                trouble = other
            self._places.failed(target)
        raise trouble

    async def _failed(self, trouble: Trouble, lost: bool) -> None:
        """A connection that was only lost is made again where it was."""
        self._connection = None
        target, self._target = self._target, None
        if self._dropped:
            self._dropped = False
            return
        self.failures += 1
        self._told(_line(self._places.url, str(trouble)))
        if not lost:
            if target is not None:
                self._places.failed(target)
            self._places.next_url()
        await asyncio.sleep(backoff(self.failures))


def _word(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "permission denied"
    return error.strerror or errno.errorcode.get(error.errno or 0, "") or "not there"


def _line(url: str, word: str) -> str:
    if word == "permission denied":
        return (
            f"permission denied at {url}: a user may connect whom link.socket_mode and "
            "link.socket_group of usherd, and the folders above, let in. Trying again"
        )
    return (
        f"no answer from a node at {url} ({word}): is usherd running, and is this one of its "
        "link.urls? Trying again"
    )
