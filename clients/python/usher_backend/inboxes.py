# SPDX-License-Identifier: Apache-2.0
"""What is stored for users: listed page by page, and dropped."""

from collections.abc import AsyncIterator

from usher_backend import backend_pb2 as pb
from usher_backend import records
from usher_backend.records import InboxPage
from usher_backend.rooms import good


class Inboxes:
    """The part of a Service that is about them."""

    async def command(self, message: pb.Command) -> pb.Result:
        """What changes something; see Service."""
        raise NotImplementedError

    async def ask(self, command: pb.Command) -> pb.Result:
        """A question; see Service."""
        raise NotImplementedError

    async def inbox(
        self, user: str, *, after_mid: int = 0, limit: int = 0
    ) -> AsyncIterator[InboxPage]:
        """What is stored for a user and not processed by him, page by page, oldest first."""
        more = True
        while more:
            asked = pb.Inbox(user=user, after_mid=after_mid, limit=limit)
            stored = good(await self.ask(pb.Command(inbox=asked)), "inbox").stored
            page = records.inbox_of(stored)
            yield page
            last = page.messages[-1].mid if page.messages else 0
            more = stored.more and last > after_mid
            after_mid = last

    async def inbox_drop(self, user: str, up_to_mid: int) -> int:
        """Drops what is stored for a user, up to that mid; his next Welcome says so. Gives how many."""
        dropping = pb.InboxDrop(user=user, up_to_mid=up_to_mid)
        result = await self.command(pb.Command(inbox_drop=dropping))
        return good(result, f"inbox_drop {user!r}").stored.count
