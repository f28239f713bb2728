# SPDX-License-Identifier: Apache-2.0
"""The link: framing, Hello, refusals, peers that are no nodes."""

import asyncio
import unittest
from unittest import mock

import usher_backend
from scripted import HEADER, SECONDS, Case, Node, call, soon, until
from usher_backend import addresses, lane, sp
from usher_backend import backend_pb2 as pb


class Framing(unittest.TestCase):
    def test_the_example_of_the_protocol(self):
        """protocol.md 2.6, byte for byte."""
        count = pb.Command(count=pb.Count()).SerializeToString()
        self.assertEqual(
            lane.submit_bytes(0, 0, 1, [count]),
            bytes.fromhex("1a061801") + bytes.fromhex("22023a00"),
        )
        self.assertEqual(sp.REQ, bytes.fromhex("0053500000300000"))
        self.assertEqual(sp.REP, HEADER)

    def test_spliced_as_protobuf_would(self):
        commands = [
            pb.Command(push=pb.Push(to=["ann"] * n, payload=b"x" * n))
            for n in (0, 1, 40, 300, 3000)
        ]
        whole = pb.LinkRequest(
            submit=pb.Submit(link=2**52 + 1, lane=3, seq=2**40, commands=commands)
        )
        packed = [command.SerializeToString() for command in commands]
        self.assertEqual(
            lane.submit_bytes(2**52 + 1, 3, 2**40, packed), whole.SerializeToString()
        )

    def test_urls(self):
        self.assertEqual(addresses.parse("ipc:///a/b").path, "/a/b")
        for url, host in (
            ("tcp://h:1", "h"),
            ("tcp://[::1]:1", "::1"),
            ("tcp://1.2.3.4:1", "1.2.3.4"),
        ):
            self.assertEqual((addresses.parse(url).host, addresses.parse(url).port), (host, 1))
        for url in (
            "",
            "ipc://",
            "tcp://",
            "tcp://h",
            "tcp://:1",
            "tcp://h:0",
            "tcp://h:65536",
            "tcp://h:x",
            "tcp://::1:1",
            "http://h:1",
            "ipc:///" + "x" * 260,
            "ipc:///a\0b",
            "tcp://h:\u0661",
        ):
            with self.assertRaises(ValueError, msg=url):
                usher_backend.service("shop", link=url)
        for links in ([], ["ipc:///a"] * 9):
            with self.assertRaises(ValueError):
                usher_backend.service("shop", link=links)

    def test_both_families_by_turns(self):
        hosts = ["::1", "::2", "1.1.1.1", "::3", "1.1.1.2", "::1"]
        self.assertEqual(addresses.by_turns(hosts), ["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"])

    def test_what_failed_is_tried_last(self):
        async def go():
            places = addresses.Places(["tcp://somewhere:1"])
            found = [(0, 0, 0, "", (host, 1)) for host in ("::1", "1.1.1.1", "::2")]
            loop = asyncio.get_running_loop()
            with mock.patch.object(loop, "getaddrinfo", mock.AsyncMock(return_value=found)):
                first = await places.targets()
                places.failed(first[0])
                places.failed(first[1])
                then = await places.targets()
                places.works(first[0])
                last = await places.targets()
            return [[each.host for each in targets] for targets in (first, then, last)]

        self.assertEqual(
            asyncio.run(go()),
            [["::1", "1.1.1.1", "::2"], ["::2", "::1", "1.1.1.1"], ["::1", "::2", "1.1.1.1"]],
        )


class Links(Case):
    async def test_hello(self):
        async with Node() as node:
            states = []
            async with self.service(node, token="secret") as shop:
                shop.on_state(lambda state, text: states.append((state, text)))
                hello = await node.accept()
                await soon(shop.linked())
                self.assertEqual(
                    (hello.service, hello.instance, hello.token, hello.presence, hello.node_boot),
                    ("shop", "1", b"secret", False, ""),
                )
                self.assertNotIn("secret", repr(shop) + repr(shop.__dict__))
                self.assertNotIn("101", repr(shop.link))
                first = hello.incarnation
            self.assertEqual(states[0], ("linked", f"linked to {node.url} as link 1"))
            self.assertEqual(states[-1][0], "closed")
            async with self.service(node) as shop:
                self.assertGreater((await node.accept()).incarnation, first)

    async def test_refused_for_good(self):
        for code in ("BANNED", "MALFORMED"):
            async with Node() as node, self.service(node) as shop:
                push = asyncio.create_task(shop.push("ann", b"x"))
                ends = asyncio.create_task(shop.run_forever())
                (await node.take("hello")).refuse(code, "because")
                error = await self.fails(ends, usher_backend.Refused)
                self.assertEqual((error.code, error.done), (code, "no"))
                self.assertIn("because", str(error))
                for waits in (push, shop.push("ann"), shop.count(), shop.linked(), shop.room()):
                    await self.fails(waits, usher_backend.Refused)
                await until(lambda: shop.state == "refused")
            self.assertTrue(node.nothing("hello"))

    async def test_a_busy_node_is_asked_again(self):
        with mock.patch("usher_backend.linker.BUSY_SECONDS", 0.001):
            async with Node() as node, self.service(node) as shop:
                (await node.take("hello")).refuse("BUSY")
                await node.accept()
                (await node.take("fetch")).refuse("BUSY")
                await node.batch()
                self.assertEqual(shop.link.number, 1)

    async def test_stale_link(self):
        """The same incarnation: who was superseded must not throw his successor out."""
        async with Node() as node, self.service(node) as shop:
            hello = await node.accept(node_boot="b1")
            await node.batch(call(1), call(2))
            (await node.take("fetch")).refuse("STALE_LINK")
            again = await node.accept()
            self.assertEqual(again.incarnation, hello.incarnation)
            self.assertEqual(again.node_boot, "b1")
            fetch = await node.batch(call(1, id=77))
            self.assertEqual((fetch.link, fetch.mail_done, fetch.mail_have), (102, 0, 0))
            await until(lambda: shop.link.mail_have == 1)

    async def test_nothing_pauses_between_a_link_and_the_next(self):
        """What would pause does so for longer than the test waits."""
        pauses = ("linker.BUSY_SECONDS", "linker.SHORT_LINK_SECONDS", "linker.PAUSE_SECONDS_MIN")
        pauses += (
            "lane.BUSY_SECONDS",
            "channel.BACKOFF_SECONDS_MIN",
            "channel.BACKOFF_SECONDS_MAX",
        )
        for pause in pauses:
            patch = mock.patch(f"usher_backend.{pause}", 99 * SECONDS)
            patch.start()
            self.addCleanup(patch.stop)
        for kind in ("fetch", "submit"):
            async with Node() as node, self.service(node) as shop:
                await node.accept()
                push = asyncio.create_task(shop.push("ann", b"x"))
                (await node.take(kind)).refuse("STALE_LINK")
                await node.accept()
                while (await node.take("fetch")).body.link != 102:
                    pass  # the one that was given up
                await node.results()
                await soon(push)

    async def test_mail_that_is_missing(self):
        """The node may still know that link, whose numbers go on: a newer incarnation ends it."""
        async with Node() as node, self.service(node):
            hello = await node.accept()
            await node.batch(call(1), call(3))
            again = await node.accept()
            self.assertEqual(again.incarnation, hello.incarnation + 1)

    async def test_links_that_do_not_last_are_made_more_and_more_slowly(self):
        pauses = []
        with mock.patch("usher_backend.linker.spread", lambda pause: pauses.append(pause) or 0):
            async with Node() as node, self.service(node):
                for _ in range(6):
                    await node.accept()
                    (await node.take("fetch")).refuse("STALE_LINK")
                await node.accept()
        self.assertEqual(pauses, [0.05, 0.1, 0.2, 0.4, 0.8])

    async def test_the_next_url(self):
        async with Node() as node:
            links = [f"{node.url}.not", "tcp://127.0.0.1:1", node.url]
            with mock.patch("usher_backend.channel.backoff", lambda _: 0):
                async with usher_backend.service("shop", link=links) as shop:
                    await node.accept()
                    await soon(shop.linked())

    async def test_a_node_that_comes_later_and_goes(self):
        node = Node()
        states = []
        async with self.service(node) as shop:
            shop.on_state(lambda state, _: states.append(state))
            await until(lambda: states == ["lost"])
            await node.listen()
            await node.accept()
            await node.batch()
            await node.take("fetch")
            await node.vanish()
            await until(lambda: states == ["lost", "linked", "lost"])
            await node.listen()
            (await node.take("fetch")).refuse("STALE_LINK")
            await node.accept()
            await until(lambda: states[-1] == "linked")
        await node.vanish()
        node.folder.cleanup()

    async def test_a_silent_node(self):
        """A request has its time, by the clock of the loop, and then goes to the next URL."""
        with mock.patch("usher_backend.linker.REQUEST_SECONDS", 0.05), mock.patch(
            "usher_backend.sp.HANDSHAKE_SECONDS", 0.05
        ):
            async with Node(greeting=b"") as mute, Node() as deaf, Node() as node:
                links = [mute.url, deaf.url, node.url]
                async with usher_backend.service("shop", link=links) as shop:
                    await deaf.take("hello")
                    await node.accept()
                    await soon(shop.linked())
                    self.assertIn("timeout", shop.error_text)

    async def test_permission_is_told_as_such(self):
        refused = mock.AsyncMock(side_effect=PermissionError(13, "Permission denied"))
        async with Node() as node:
            loop = asyncio.get_running_loop()
            with mock.patch.object(loop, "create_unix_connection", refused):
                async with self.service(node) as shop:
                    await until(lambda: "link.socket_mode" in shop.error_text)

    async def test_entered_once_and_used_inside(self):
        async with Node() as node:
            shop = self.service(node)
            await self.fails(shop.push("ann"), usher_backend.NotSent)
            async with shop:
                await node.accept()
            await self.fails(shop.__aenter__(), RuntimeError)
            async with self.service(node) as stopped:
                stopped.stop()
                await self.fails(stopped.linked(), usher_backend.NotSent)
            await self.fails(shop.count(), usher_backend.NotSent)


class Hostile(Case):
    """Each ends a connection with a word, and nothing else."""

    async def ends(self, wanted, do, greeting=HEADER):
        with mock.patch("usher_backend.channel.backoff", lambda _: 0):
            async with Node(greeting) as node, self.service(node) as shop:
                told = []
                shop.on_state(lambda state, text: told.append(text))
                if greeting == HEADER:
                    do(await node.take("hello"))
                await until(lambda: told)
                self.assertIn(wanted, told[0])
                node.greeting = HEADER
                await node.accept()
                await soon(shop.linked())

    async def test_headers(self):
        for greeting in (b"HTTP/1.1", b"\0SP\0\0\x30\0\0", b"\0SP\0\0\x31\0\1", b"\xff"):
            await self.ends("header", None, greeting)

    async def test_sizes(self):
        for size in (0, 3, 64 * 1024 + 5, 2**32, 2**64 - 1):
            head = b"\x01" + size.to_bytes(8, "big")
            await self.ends(f"a message of {size} bytes", lambda hello: hello.writer.write(head))

    async def test_no_ipc_message(self):
        await self.ends("does not begin with 1", lambda hello: hello.writer.write(b"\0" * 9))

    async def test_ids(self):
        answer = pb.LinkAnswer(batch=pb.Batch()).SerializeToString()
        await self.ends("another request", lambda hello: hello.raw(answer, hello.id ^ 1))
        await self.ends("another request", lambda hello: hello.raw(answer, hello.id & 0x7FFFFFFF))

    async def test_an_answer_too_many(self):
        def twice(hello):
            accepted = pb.LinkAnswer(accepted=pb.Accepted(link=5)).SerializeToString()
            hello.raw(accepted)
            hello.raw(accepted)

        with mock.patch("usher_backend.channel.backoff", lambda _: 0):
            async with Node() as node, self.service(node) as shop:
                twice(await node.take("hello"))
                await soon(shop.linked())
                await node.batch()  # on a new connection
                self.assertEqual(node.connections, 2)

    async def test_an_answer_that_nobody_asked_for(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            task = asyncio.create_task(shop.push("ann"))
            submit = await node.take("submit")
            results = pb.LinkAnswer(results=pb.Results(seq=1, results=[pb.Result()]))
            submit.raw(results.SerializeToString())
            await soon(task)
            connections = len(node.writers)
            submit.raw(results.SerializeToString())
            await until(lambda: len(node.writers) < connections)
            task = asyncio.create_task(shop.push("ann"))
            self.assertEqual((await node.results()).seq, 2)
            await soon(task)

    async def test_bodies(self):
        for body in (
            b"\xff" * 20,
            b"",
            b"\x0a\x00",
            pb.LinkAnswer(batch=pb.Batch()).SerializeToString(),
        ):
            await self.ends("not what usherd says", lambda hello: hello.raw(body))

    async def test_text_that_is_none(self):
        """A log line is one line, whatever the node says."""
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            (await node.take("fetch")).refuse("STALE_LINK", "a\nb\x1b[31m")
            await until(lambda: shop.state == "lost")
            self.assertTrue(shop.error_text.isprintable(), shop.error_text)


if __name__ == "__main__":
    unittest.main()
