# SPDX-License-Identifier: Apache-2.0
"""Rooms and watch lists, as a service commands them. What changes something goes by the lane of commands,
in the order in which it was made, once; pages are questions."""

from collections.abc import AsyncIterator, Iterable
from typing import Literal

from usher_backend import backend_pb2 as pb
from usher_backend import records
from usher_backend.errors import CommandFailed
from usher_backend.mail import Reply, packed
from usher_backend.records import PushReport, RoomInfo, RoomMembersPage

WatchMode = Literal["SET", "ADD", "REMOVE"]


class Rooms:
    """The part of a Service that is about them."""

    async def command(self, message: pb.Command) -> pb.Result:
        """What changes something; see Service."""
        raise NotImplementedError

    async def ask(self, command: pb.Command) -> pb.Result:
        """A question; see Service."""
        raise NotImplementedError

    async def room_open(self, room: str, *, room_class: str = "", members_max: int = 0) -> RoomInfo:
        """Makes a room, or finds it. `room_class`: the pattern of its class; empty: the first that fits."""
        opening = pb.RoomOpen(room=room, members_max=members_max)
        setattr(opening, "class", room_class)  # a word of Python's
        return _room(await self.command(pb.Command(room_open=opening)), "room_open")

    async def room_close(self, room: str, detail: str = "") -> bool:
        """The members are told `detail`. False: there is no such room."""
        closing = pb.RoomClose(room=room, detail=detail)
        result = await self.command(pb.Command(room_close=closing))
        if result.code == pb.Result.NO_ROOM:
            return False
        good(result, "room_close")
        return True

    async def room_add(
        self,
        room: str,
        users: str | Iterable[str],
        *,
        epochs: Iterable[int] = (),
        carry: bool = False,
    ) -> PushReport:
        """Puts users into a room, whatever its class says of joining. `epochs`: none, or one for each: that
        login or nobody. `carry`: the membership goes with the user to his next login."""
        names = _names(users)
        numbers = list(epochs)
        if numbers and len(numbers) != len(names):
            raise ValueError("as many epochs as users, or none")
        if not names:
            return PushReport(0)
        adding = pb.RoomAdd(room=room, users=names, epochs=numbers, carry=carry)
        return _report(await self.command(pb.Command(room_add=adding)), names, "room_add")

    async def room_remove(
        self, room: str, users: str | Iterable[str], detail: str = ""
    ) -> PushReport:
        """They are told `detail`."""
        names = _names(users)
        if not names:
            return PushReport(0)
        removing = pb.RoomRemove(room=room, users=names, detail=detail)
        return _report(await self.command(pb.Command(room_remove=removing)), names, "room_remove")

    async def room_publish(self, room: str, payload: Reply = b"") -> int:
        """Gives the offset of the message."""
        publishing = pb.RoomPublish(room=room, payload=packed(payload))
        result = await self.command(pb.Command(room_publish=publishing))
        return _room(result, "room_publish").offset

    async def room_members(self, room: str, *, limit: int = 0) -> AsyncIterator[RoomMembersPage]:
        """Page by page, each true for its `news_seq`."""
        after = ""
        while True:
            asked = pb.RoomMembers(room=room, after=after, limit=limit)
            page = good(await self.ask(pb.Command(room_members=asked)), "room_members").members
            yield records.members_of(page)
            if not page.next or page.next == after:
                return
            after = page.next

    async def rooms(self, prefix: str = "") -> AsyncIterator[RoomInfo]:
        """All rooms whose names begin so, in the order of their names, page by page."""
        after, more = "", True
        while more:
            asked = pb.Rooms(prefix=prefix, after=after)
            page = good(await self.ask(pb.Command(rooms=asked)), "rooms").rooms
            for info in page.rooms:
                yield records.room_of(info)
            last = page.rooms[-1].name if page.rooms else after
            more = page.more and last > after
            after = last

    async def watch_list(
        self, user: str, targets: Iterable[str], *, mode: WatchMode = "SET", epoch: int = 0
    ) -> PushReport:
        """Whom a user watches: these and no others (SET), these too (ADD), these no more (REMOVE). Failures
        name targets."""
        number = pb.WatchList.Mode.Value(mode)
        watching = pb.WatchList(user=user, epoch=epoch, mode=number, targets=list(targets))
        result = await self.command(pb.Command(watch_list=watching))
        if not result.HasField("push"):
            good(result, "watch_list")
        return records.report_of(result, [])


def good(result: pb.Result, what: str) -> pb.Result:
    if result.code != pb.Result.OK:
        raise CommandFailed(records.code_of(result.code), what)
    return result


def _names(users: str | Iterable[str]) -> list[str]:
    return [users] if isinstance(users, str) else list(users)


def _room(result: pb.Result, what: str) -> RoomInfo:
    rooms = good(result, what).rooms.rooms
    if not rooms:
        raise CommandFailed("UNAVAILABLE", f"{what}: the node says nothing of the room")
    return records.room_of(rooms[0])


def _report(result: pb.Result, users: list[str], what: str) -> PushReport:
    """With one name the code of the result is that name's."""
    if result.code != pb.Result.OK and len(users) > 1 and not result.HasField("push"):
        raise CommandFailed(records.code_of(result.code), what)
    return records.report_of(result, users)
