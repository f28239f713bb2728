# SPDX-License-Identifier: Apache-2.0
"""Commands that wait for the node, encoded, within limits.

What a program submits is refused when the queue is full; answers to calls are not, because there are
never more of them than calls may be open. A transient push that has waited for more than a second is
worth nothing any more and ends here."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from usher_backend import backend_pb2 as pb
from usher_backend.errors import Error, NotSent, QueueFull, TooLarge

COMMANDS_MAX = 4096
BYTES_MAX = 4 * 1024 * 1024
FRAME_BYTES_DEFAULT = 16 * 1024  # until the node says what it takes
FRAME_BYTES_MIN = 1024
FRAME_BYTES_MAX = 64 * 1024
FRAME_OVERHEAD = 64  # of a Submit, around its commands
BATCH_COMMANDS_MAX = 256
TRANSIENT_SECONDS = 1.0

Ended = Callable[[pb.Result | Error], None]


class Command:
    """One command until `ended` was called, once, with its result or with why there is none."""

    __slots__ = ("packed", "ended", "link", "transient", "made", "unwanted")

    def __init__(
        self, message: pb.Command, ended: Ended, link: object = None, transient: bool = False
    ) -> None:
        self.packed = message.SerializeToString()
        self.ended = ended
        self.link = link  # an answer speaks of a call of that link, and goes out on no other
        self.transient = transient
        self.made = time.monotonic()
        self.unwanted = False  # nobody waits for it any more

    def is_old(self) -> bool:
        return self.transient and time.monotonic() > self.made + TRANSIENT_SECONDS


class Queue:
    """In order; what a batch could not say comes back to the front."""

    def __init__(self, wake: Callable[[], None], commands_max: int, bytes_max: int) -> None:
        self._wake = wake
        self._commands: OrderedDict[int, Command] = OrderedDict()  # by id()
        self._commands_max = commands_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._sweep: asyncio.TimerHandle | None = None
        self.frame_bytes_max = FRAME_BYTES_DEFAULT

    def __len__(self) -> int:
        return len(self._commands)

    @property
    def command_room(self) -> int:
        """Bytes for commands in one Submit."""
        return self.frame_bytes_max - FRAME_OVERHEAD

    def is_full(self) -> bool:
        return len(self._commands) >= self._commands_max or self._bytes >= self._bytes_max

    async def room(self) -> None:
        """At once, or when one that was full is half empty again."""
        await self._room.wait()

    def add(self, command: Command, bounded: bool = True) -> None:
        """TooLarge, QueueFull."""
        if len(command.packed) > self.command_room:
            raise TooLarge(
                f"{len(command.packed)} bytes, and a frame of the link has room for "
                f"{self.command_room}"
            )
        if bounded and (
            len(self._commands) >= self._commands_max
            or self._bytes + len(command.packed) > self._bytes_max
        ):
            if self._commands:
                self._room.clear()
            raise QueueFull(f"{len(self._commands)} commands wait for the node already")
        self._put(command)
        if command.transient and self._sweep is None:
            self._sweep_later()
        self._wake()

    def give_back(self, command: Command) -> None:
        """It was here before."""
        if command.unwanted:
            return
        self._put(command)
        self._commands.move_to_end(id(command), last=False)

    def discard(self, command: Command) -> None:
        """Nobody wants it any more. What has left already is not sent by another link."""
        command.unwanted = True
        if id(command) in self._commands:
            self._remove(command)

    def take(self, room: int, link: object) -> Command | None:
        """The first command that is still worth sending, if it fits into so many bytes."""
        while self._commands:
            command = next(iter(self._commands.values()))
            if command.link is not None and command.link is not link:
                self._give_up(command, NotSent("the link that its call came by is over"))
            elif command.is_old():
                self._give_up(command, NotSent("it waited for more than a second"))
            elif len(command.packed) > self.command_room:
                self._give_up(command, TooLarge("the node takes smaller frames now"))
            elif len(command.packed) > room:
                return None
            else:
                self._remove(command)
                return command
        return None

    def end_all(self, why: Callable[[], Error]) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._commands:
            self._give_up(next(iter(self._commands.values())), why())

    def _put(self, command: Command) -> None:
        self._commands[id(command)] = command
        self._bytes += len(command.packed)
        if self.is_full():
            self._room.clear()

    def _remove(self, command: Command) -> None:
        del self._commands[id(command)]
        self._bytes -= len(command.packed)
        if len(self) <= self._commands_max // 2 and self._bytes <= self._bytes_max // 2:
            self._room.set()

    def _give_up(self, command: Command, why: Error) -> None:
        self._remove(command)
        command.ended(why)

    def _sweep_later(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(TRANSIENT_SECONDS, self._sweep_old)

    def _sweep_old(self) -> None:
        """While the link is away nobody takes them, and who waits for them should not wait long."""
        self._sweep = None
        transient = [command for command in self._commands.values() if command.transient]
        for command in transient:
            if command.is_old():
                self._give_up(command, NotSent("it waited for more than a second"))
        if any(id(command) in self._commands for command in transient):
            self._sweep_later()
