# SPDX-License-Identifier: Apache-2.0
"""A lane of Submits: one connection, one request at a time, its numbers from 1 for each link.

All commands that were made in one turn of the loop leave in one Submit, as far as a frame holds them. Its bytes are
kept until the answer is here: those that got none go out again unchanged, under the same (link, lane,
seq), and the node does them once.

If the link itself is over, a batch that left us once was not done, and goes on by the next link. Of
one that left twice nobody knows, and repeating it could kick or push twice, so it ends as Lost. An answer
to a call never goes out on another link than its call came in on, because the numbers of calls
begin anew there and it could answer somebody else."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import DecodeError

from usher_backend import backend_pb2 as pb
from usher_backend.channel import Channel
from usher_backend.commands import BATCH_COMMANDS_MAX, BYTES_MAX, COMMANDS_MAX, Command, Queue
from usher_backend.errors import CommandFailed, Error, Lost
from usher_backend.link import Link
from usher_backend.sp import Trouble

REQUEST_SECONDS = 2.0
BUSY_SECONDS = 0.2
SUBMIT_FIELD = b"\x1a"  # LinkRequest.submit, by its length
COMMAND_FIELD = b"\x22"  # Submit.commands, each by its length


class Host(Protocol):
    """What a lane needs of the service."""

    link: Link | None

    def heard(self, channel: Channel) -> None:
        ...

    def end_link(self, link: Link, why: str, known_there: bool) -> None:
        ...


@dataclass
class Batch:
    link: Link
    seq: int
    commands: list[Command]
    request: bytes
    attempts: int = 0  # how often its bytes left


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def submit_bytes(link: int, lane: int, seq: int, commands: list[bytes]) -> bytes:
    """A LinkRequest, spliced from commands that are encoded already."""
    head: bytes = pb.Submit(link=link, lane=lane, seq=seq).SerializeToString()
    body = head + b"".join(COMMAND_FIELD + varint(len(each)) + each for each in commands)
    return SUBMIT_FIELD + varint(len(body)) + body


class Lane:
    """`repeatable`: its commands are questions, which may be asked as often as one likes. They go
    one by one, because each answer may fill a frame."""

    def __init__(
        self,
        host: Host,
        number: int,
        channel: Channel,
        commands_max: int = COMMANDS_MAX,
        bytes_max: int = BYTES_MAX,
        repeatable: bool = False,
    ) -> None:
        self._host = host
        self._number = number
        self._channel = channel
        self._repeatable = repeatable
        self._awake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._batch: Batch | None = None
        self.queue = Queue(self.wake, commands_max, bytes_max)

    def wake(self) -> None:
        """There is something to send, or a link to send it by."""
        self._idle.clear()
        self._awake.set()

    async def idle(self) -> None:
        """Until nothing waits and nothing is on its way."""
        await self._idle.wait()

    async def run(self) -> None:
        while True:
            if self._batch is None:
                self._batch = self._build()
            if self._batch is not None:
                await self._exchange(self._batch)
                continue
            if not self.queue:
                self._idle.set()
            await self._awake.wait()
            self._awake.clear()

    async def close(self, why: Error) -> None:
        """After `run` was ended: of what is on its way nobody will know."""
        await self._channel.close()
        batch, self._batch = self._batch, None
        if batch is not None:
            lost = Lost("the service ended before the answer")
            self._end(batch, lost if batch.attempts and not self._repeatable else why)
        self.queue.end_all(lambda: why)
        self._idle.set()

    def _build(self) -> Batch | None:
        link = self._host.link
        if link is None:
            return None
        room = self.queue.command_room
        commands: list[Command] = []
        most = 1 if self._repeatable else BATCH_COMMANDS_MAX
        while len(commands) < most and room > 0:
            command = self.queue.take(room, link)
            if command is None:
                break
            commands.append(command)
            room -= len(command.packed) + 4  # what splicing adds is at most four bytes
        if not commands:
            return None
        seq = link.next_seq(self._number)
        packed = [command.packed for command in commands]
        return Batch(link, seq, commands, submit_bytes(link.secret, self._number, seq, packed))

    async def _exchange(self, batch: Batch) -> None:
        try:
            await self._channel.connect()
            batch.attempts += 1
            body = await self._channel.request(batch.request, REQUEST_SECONDS)
        except Trouble:
            return  # the same bytes again
        try:
            answer: pb.LinkAnswer = pb.LinkAnswer.FromString(body)
        except DecodeError:
            answer = pb.LinkAnswer()
        kind = answer.WhichOneof("body")
        if kind == "refused":
            self._host.heard(self._channel)
            await self._refused(batch, answer.refused)
        elif kind == "results" and self._fits(batch, answer.results):
            self._host.heard(self._channel)
            self._batch = None
            for command, result in zip(batch.commands, answer.results.results):
                command.ended(result)
        else:
            # It says nothing of what was done.
            self._give_up(batch, Lost("the answer does not fit what was submitted"))
            self._host.end_link(batch.link, "its results do not fit what was submitted", True)
            await self._channel.give_up("not what usherd says")

    @staticmethod
    def _fits(batch: Batch, results: pb.Results) -> bool:
        return results.seq == batch.seq and len(results.results) == len(batch.commands)

    async def _refused(self, batch: Batch, refused: pb.Refused) -> None:
        if refused.code in (pb.Refused.BUSY, pb.Refused.PIPELINED):
            await asyncio.sleep(BUSY_SECONDS)  # not done: the same again
            return
        if refused.code == pb.Refused.STALE_LINK:
            if batch.attempts > 1 and not self._repeatable:
                self._give_up(batch, Lost("the link broke before the answer"))
            else:
                self._again(batch)
            self._host.end_link(batch.link, refused.detail, False)
        else:
            self._give_up(batch, CommandFailed("MALFORMED", refused.detail or "a command"))
            self._host.end_link(batch.link, refused.detail, True)

    def _again(self, batch: Batch) -> None:
        """By the next link, and before what came later."""
        self._batch = None
        for command in reversed(batch.commands):
            self.queue.give_back(command)

    def _give_up(self, batch: Batch, why: Error) -> None:
        self._batch = None
        if self._repeatable and isinstance(why, Lost):
            self._again(batch)
        else:
            self._end(batch, why)

    @staticmethod
    def _end(batch: Batch, why: Error) -> None:
        for command in batch.commands:
            command.ended(why)
