# SPDX-License-Identifier: Apache-2.0
"""A node that does what a test tells it, request by request, and what such tests share."""

import asyncio
import collections
import contextlib
import gc
import logging
import os
import struct
import tempfile
import unittest
from unittest import mock

import usher_backend
from usher_backend import backend_pb2 as pb

SECONDS = float(os.environ.get("USHER_PYTHON_SECONDS", "30"))  # for anything that must come
HEADER = b"\0SP\0\0\x31\0\0"


class Request:
    """What a backend asked, and how it is answered."""

    def __init__(self, writer, id, body):
        self.writer, self.id, self.bytes = writer, id, body
        message = pb.LinkRequest.FromString(body)
        self.kind = message.WhichOneof("body")
        self.body = getattr(message, self.kind)

    def answer(self, **body):
        self.raw(pb.LinkAnswer(**body).SerializeToString())

    def refuse(self, code, detail="as the test says"):
        self.answer(refused=pb.Refused(code=code, detail=detail))

    def raw(self, body, id=None):
        message = struct.pack(">I", self.id if id is None else id) + body
        self.writer.write(b"\x01" + struct.pack(">Q", len(message)) + message)

    def lose(self):
        """The connection breaks."""
        self.writer.transport.abort()


class Node:
    """Listens at `url`. Requests wait by kind until a test takes them. `greeting` is what a new
    connection is told first."""

    def __init__(self, greeting=HEADER):
        self.folder = tempfile.TemporaryDirectory(prefix="usher-python-")
        self.path = os.path.join(self.folder.name, "link.sock")
        self.url = f"ipc://{self.path}"
        self.greeting = greeting
        self.waiting = collections.defaultdict(asyncio.Queue)
        self.writers = set()
        self.connections = 0
        self.server = None
        self.links = 100

    async def __aenter__(self):
        await self.listen()
        return self

    async def __aexit__(self, kind, value, trace):
        await self.vanish()
        self.folder.cleanup()

    async def listen(self):
        self.server = await asyncio.start_unix_server(self._serve, self.path)

    async def vanish(self):
        self.server.close()
        for writer in list(self.writers):
            writer.transport.abort()
        while self.writers:
            await asyncio.sleep(0)
        self.waiting.clear()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    async def _serve(self, reader, writer):
        self.connections += 1
        self.writers.add(writer)
        try:
            await reader.readexactly(8)
            writer.write(self.greeting)
            while True:
                head = await reader.readexactly(9)
                message = await reader.readexactly(int.from_bytes(head[1:], "big"))
                request = Request(writer, int.from_bytes(message[:4], "big"), message[4:])
                self.waiting[request.kind].put_nowait(request)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self.writers.discard(writer)

    async def take(self, kind):
        """The next request of that kind."""
        async with asyncio.timeout(SECONDS):
            return await self.waiting[kind].get()

    def nothing(self, kind):
        return self.waiting[kind].empty()

    async def accept(self, **fields):
        """Answers the next Hello; gives it."""
        hello = await self.take("hello")
        self.links += 1
        accepted = {"link": self.links, "number": self.links - 100, "node": "n", "park_ms": 1500}
        hello.answer(accepted=pb.Accepted(**{**accepted, **fields}))
        return hello.body

    async def batch(self, *mail, **fields):
        """Answers the next Fetch; gives it."""
        fetch = await self.take("fetch")
        fetch.answer(batch=pb.Batch(mail=mail, **fields))
        return fetch.body

    async def results(self, *results):
        """Answers the next Submit, with OK for each command unless said otherwise; gives it."""
        submit = await self.take("submit")
        results = results or [pb.Result() for _ in submit.body.commands]
        submit.answer(results=pb.Results(seq=submit.body.seq, results=results))
        return submit.body


def call(seq, user="ann", method="m", payload=b"", id=None, **fields):
    id = seq + 1000 if id is None else id
    fields = {"timeout_ms": 5000, **fields}
    user_call = pb.UserCall(call=id, user=user, epoch=7, method=method, payload=payload, **fields)
    return pb.Mail(seq=seq, call=user_call)


def event(seq, user, kind="ONLINE", epoch=None):
    kind = pb.PresenceEvent.Kind.Value(kind)
    return pb.PresenceEvent(seq=seq, user=user, kind=kind, epoch=epoch or seq)


def page(seq, *users, more=False):
    sessions = [pb.SessionInfo(user=user, state=pb.SessionInfo.ONLINE, epoch=1) for user in users]
    return pb.Result(sessions=pb.SessionList(sessions=sessions, presence_seq=seq, more=more))


# What ends by time does so in the tests that are about it, and not because the machine is busy.
LIMITS = (
    "lane.REQUEST_SECONDS",
    "linker.REQUEST_SECONDS",
    "linker.FETCH_SLACK_SECONDS",
    "service.ANSWER_SECONDS",
    "commands.TRANSIENT_SECONDS",
    "sp.HANDSHAKE_SECONDS",
    "channel.CONNECT_SECONDS",
)


class Case(unittest.IsolatedAsyncioTestCase):
    """Nothing may be left behind: no task, and no exception that nobody saw."""

    async def asyncSetUp(self):
        for limit in LIMITS:
            patch = mock.patch(f"usher_backend.{limit}", SECONDS)
            patch.start()
            self.addCleanup(patch.stop)
        self.unseen = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: self.unseen.append(what))
        logging.getLogger("usher_backend").setLevel(logging.CRITICAL + 1)
        logging.getLogger("asyncio").setLevel(logging.ERROR)  # it tells of each slow moment

    async def asyncTearDown(self):
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        gc.collect()
        await asyncio.sleep(0)
        self.assertEqual(self.unseen, [])

    def service(self, node, name="shop", **options):
        """It does not wait long for nodes that say nothing any more."""
        options = {"stop_seconds": 0.2, **options}
        return usher_backend.service(name, link=node.url, instance="1", **options)

    async def fails(self, awaitable, kind):
        """Gives the error."""
        async with asyncio.timeout(SECONDS):
            with self.assertRaises(kind) as caught:
                await awaitable
        return caught.exception


async def until(condition):
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def soon(awaitable):
    """What it gives, within the time of a test."""
    async with asyncio.timeout(SECONDS):
        return await awaitable
