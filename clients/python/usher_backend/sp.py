# SPDX-License-Identifier: Apache-2.0
"""One REQ connection in nng's wire format (protocol.md 2.6): whole messages with request ids, one
request at a time. What is in them is not known here.

Everything that arrives is hostile: a size is judged before a byte of its message is kept, and the
first thing that no node says ends the connection with a word. Nothing is closed in the middle of the
handshake if that can be helped, because old nodes take that badly."""

import asyncio
import random
import socket
import struct

from usher_backend.addresses import Target

HEADER = struct.Struct(">4sHH")
REQ = HEADER.pack(b"\0SP\0", 0x30, 0)
REP = HEADER.pack(b"\0SP\0", 0x31, 0)
FRAME_BYTES_MAX = 64 * 1024
ID_BYTES = 4
ID_BIT = 0x80000000
HANDSHAKE_SECONDS = 2.0


class Trouble(Exception):
    """The connection led to no answer; it is over. `late`: it is the peer that does not answer."""

    def __init__(self, text: str, late: bool = False) -> None:
        super().__init__(text)
        self.late = late


class Connection(asyncio.Protocol):
    """Made by `open`. `request` may be called when the one before is over."""

    def __init__(self, ipc: bool) -> None:
        self._ipc = ipc
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._id = random.getrandbits(31)
        self._waiter: asyncio.Future[bytes] | None = None
        self._greeting: asyncio.Future[None] | None = self._loop.create_future()
        self.over = asyncio.Event()  # nothing is left of it

    @classmethod
    async def open(cls, target: Target, seconds: float) -> "Connection":
        """Connects and shakes hands. Trouble, OSError."""
        async with asyncio.timeout(seconds):
            if target.path is not None:
                _, connection = await asyncio.get_running_loop().create_unix_connection(
                    lambda: cls(True), target.path
                )
            else:
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: cls(False), target.host, target.port
                )
        await connection._shake_hands()
        return connection

    async def _shake_hands(self) -> None:
        greeting = self._greeting
        assert greeting is not None
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await greeting
        except TimeoutError:
            self.close()
            raise Trouble("no header within the time of a handshake", late=True) from None
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._greeting = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def request(self, body: bytes, seconds: float) -> bytes:
        """The body of the answer, or Trouble; then the connection is over."""
        assert self._waiter is None, "one request at a time"
        if not self.is_open:
            raise Trouble("connection lost")
        assert self._transport is not None
        self._id = (self._id + 1) & (ID_BIT - 1)
        size = len(body) + ID_BYTES
        head = struct.pack(
            ">BQI" if self._ipc else ">QI", *(1,) * self._ipc, size, self._id | ID_BIT
        )
        self._waiter = self._loop.create_future()
        self._transport.write(head + body)
        limit = self._loop.call_later(seconds, self._end, Trouble("timeout", late=True))
        try:
            return await self._waiter
        except asyncio.CancelledError:
            self.close()  # its answer would be taken for that of the next request
            raise
        finally:
            limit.cancel()
            self._waiter = None

    def close(self) -> None:
        self._end(Trouble("connection lost"))

    # --- the loop's side ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._ipc:
            stream = transport.get_extra_info("socket")
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport.write(REQ)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(Trouble("connection lost"))
        self.over.set()

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        if not self.is_open:
            return
        self._buffer += data
        try:
            if self._greeting is None or self._greeting.done() or self._take_greeting():
                while self._take_message():
                    pass
        except Trouble as trouble:
            self._end(trouble)

    def _take_greeting(self) -> bool:
        assert self._greeting is not None
        head = bytes(self._buffer[: HEADER.size])
        if head != REP[: len(head)]:
            raise Trouble("not what usherd says: its header is not that of nng's REP")
        if len(head) < HEADER.size:
            return False
        del self._buffer[: HEADER.size]
        self._greeting.set_result(None)
        return True

    def _take_message(self) -> bool:
        """Whether there may be another one."""
        mark = 1 if self._ipc else 0
        if mark and self._buffer and self._buffer[0] != 1:
            raise Trouble("not what usherd says: a message on ipc that does not begin with 1")
        if len(self._buffer) < mark + 8:
            return False
        size = int.from_bytes(self._buffer[mark : mark + 8], "big")
        if not ID_BYTES <= size <= FRAME_BYTES_MAX + ID_BYTES:
            raise Trouble(f"not what usherd says: a message of {size} bytes")
        end = mark + 8 + size
        if len(self._buffer) < end:
            return False
        message = bytes(self._buffer[mark + 8 : end])
        del self._buffer[:end]
        self._answered(int.from_bytes(message[:ID_BYTES], "big"), message[ID_BYTES:])
        return True

    def _answered(self, id: int, body: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            raise Trouble("not what usherd says: an answer to no request")
        if id != self._id | ID_BIT:
            raise Trouble("not what usherd says: an answer to another request")
        self._waiter.set_result(body)

    def _end(self, trouble: Trouble) -> None:
        """Whoever waits is told; harmless when it has ended already."""
        for waiter in (self._waiter, self._greeting):
            if waiter is not None and not waiter.done():
                waiter.set_exception(trouble)
                if waiter is self._greeting:
                    waiter.exception()  # nobody may be waiting for it yet
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()
