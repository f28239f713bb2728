# SPDX-License-Identifier: Apache-2.0
"""Presence: the picture, its stamps, the cursor, gaps, and handlers that fail."""

import asyncio
import unittest
from unittest import mock

import usher_backend
from scripted import SECONDS, Case, Node, event, page, soon, until
from usher_backend import backend_pb2 as pb
from usher_backend.presence import EVENTS_MAX


class Watch:
    """What a program is told, in words."""

    def __init__(self, shop, pictures=True):
        self.shop = shop
        self.told = []
        shop.on_presence(self.event)
        shop.on_presence_reset(lambda: self.told.append("reset"))
        if pictures:
            shop.on_presence_snapshot(lambda session: self.told.append(f"there {session.user}"))
        shop.on_presence_current(lambda: self.told.append(f"current {shop.presence_seq}"))

    async def event(self, event):
        self.told.append(f"{event.seq} {event.user} {event.kind}")

    async def until(self, *told):
        await until(lambda: len(self.told) >= len(told))
        if self.told != list(told):
            raise AssertionError(f"told {self.told}")


class Follows(Case):
    def watched(self, node, after=0, **options):
        return self.service(node, "", presence=usher_backend.Presence(after), **options)

    async def test_a_picture_then_changes_none_doubled(self):
        """Pages are true for different moments; events between them are old news for some names alone."""
        async with Node() as node, self.watched(node) as shop:
            watch = Watch(shop)
            hello = await node.accept(presence_from=6)
            self.assertEqual((hello.presence, hello.presence_after), (True, 0))
            await node.batch(
                presence=[event(6, "ann"), event(7, "bob"), event(8, "zoe")], presence_last=8
            )
            first = await node.results(page(6, "ann", "cid", more=True))
            await node.batch(
                presence=[event(9, "ann", "DETACHED"), event(10, "ann", "RESUMED")],
                presence_last=10,
            )
            second = await node.results(page(9, "dan", "zoe"))
            self.assertEqual(
                [each.commands[0].snapshot.after for each in (first, second)], ["", "cid"]
            )
            await watch.until(
                "reset",
                "there ann",
                "there cid",
                "there dan",
                "there zoe",
                "current 6",
                "7 bob ONLINE",  # on the first page, true for 6
                # 8 is about zoe, whose page is true for 9
                "9 ann DETACHED",
                "10 ann RESUMED",
            )
            await until(lambda: shop.presence_seq == 10)
            await node.take("fetch")  # may not know it yet
            self.assertEqual(shop.presence_seq, 10)

    async def test_one_at_a_time_and_the_cursor_moves_when_it_returns(self):
        async with Node() as node, self.watched(node, after=5) as shop:
            gates, told = {}, []

            @shop.on_presence
            async def changed(event):
                told.append(event.seq)
                gates[event.seq] = asyncio.Event()
                await gates[event.seq].wait()

            hello = await node.accept(presence_from=6)
            self.assertEqual(hello.presence_after, 5)
            await node.batch(presence=[event(6, "ann"), event(7, "ann"), event(8, "ann")])
            await until(lambda: told == [6])
            self.assertEqual(shop.presence_seq, 5)
            (await node.take("fetch")).refuse("STALE_LINK")
            self.assertEqual((await node.accept(presence_from=6)).presence_after, 5)
            gates[6].set()
            await node.batch(presence=[event(6, "ann"), event(7, "ann")])
            await until(lambda: told == [6, 7])
            self.assertEqual(shop.presence_seq, 6)
            gates[7].set()
            await until(lambda: shop.presence_seq == 7)

    async def test_a_handler_that_fails_is_told_again(self):
        with mock.patch("usher_backend.presence.AGAIN_SECONDS_MIN", 0.001):
            async with Node() as node, self.watched(node, after=5) as shop:
                told, faults = [], {"reset": 1, "snapshot": 1, 7: 3}

                def tell(what):
                    told.append(what)
                    if faults.get(what, 0):
                        faults[what] -= 1
                        raise KeyError(what)

                shop.on_presence(lambda event: tell(event.seq))
                shop.on_presence_reset(lambda: tell("reset"))
                shop.on_presence_snapshot(lambda session: tell("snapshot"))
                await node.accept(presence_from=6)
                await node.batch(presence=[event(6, "ann"), event(7, "bob"), event(8, "ann")])
                await until(lambda: told == [6, 7, 7, 7, 7, 8])
                self.assertEqual(shop.presence_seq, 8)
                told.clear()
                await node.batch(presence_reset=True, presence_last=20)
                await node.results(page(20, "ann"))
                await node.results(page(20, "ann"))
                await until(lambda: told == ["reset", "reset", "snapshot", "reset", "snapshot"])
                await until(lambda: shop.presence_seq == 20)

    async def test_a_handler_that_is_cancelled_is_told_again(self):
        """What it waited for was cancelled, and not the service: presence goes on."""
        with mock.patch("usher_backend.presence.AGAIN_SECONDS_MIN", 0.001):
            async with Node() as node, self.watched(node, after=5) as shop:
                told = []

                @shop.on_presence
                async def changed(event):
                    told.append(event.seq)
                    if len(told) == 1:
                        raise asyncio.CancelledError

                await node.accept(presence_from=6)
                with self.assertLogs("usher_backend", "ERROR"):
                    await node.batch(presence=[event(6, "ann"), event(7, "bob")])
                    await until(lambda: told == [6, 6, 7])
                self.assertEqual(shop.presence_seq, 7)

    async def test_gaps(self):
        for gap in (
            {"presence_reset": True, "presence_last": 20},
            {"presence": [event(9, "bob"), event(20, "x")]},
        ):
            async with Node() as node, self.watched(node, after=5) as shop:
                watch = Watch(shop)
                await node.accept(presence_from=6)
                await node.batch(presence=[event(6, "ann")])
                await watch.until("6 ann ONLINE")
                await node.batch(**gap)
                await node.results(page(21, "bob"))
                fetch = await node.batch(presence=[event(21, "bob"), event(22, "bob", "OFFLINE")])
                self.assertGreaterEqual(fetch.presence_done, 20)
                await watch.until(
                    "6 ann ONLINE", "reset", "there bob", "current 21", "22 bob OFFLINE"
                )

    async def test_a_node_whose_numbers_do_not_go_on(self):
        async with Node() as node, self.watched(node, after=50) as shop:
            watch = Watch(shop)
            await node.accept(presence_from=3)
            await node.results(page(2, "ann"))
            await node.batch(presence=[event(3, "ann", "OFFLINE")])
            await watch.until("reset", "there ann", "current 2", "3 ann OFFLINE")
            await until(lambda: shop.presence_seq == 3)

    async def test_what_was_being_told_of_another_stream(self):
        async with Node() as node, self.watched(node, after=49) as shop:
            begun, gate = asyncio.Event(), asyncio.Event()

            @shop.on_presence
            async def changed(event):
                begun.set()
                await gate.wait()

            await node.accept(presence_from=50)
            await node.batch(presence=[event(50, "ann")])
            await soon(begun.wait())
            (await node.take("fetch")).refuse("STALE_LINK")
            await node.accept(presence_from=3)
            await until(lambda: shop.presence_seq == 2)
            gate.set()
            await node.batch(presence=[event(3, "bob")])
            await until(lambda: shop.presence_seq != 2)
            self.assertEqual(shop.presence_seq, 3)

    async def test_a_link_that_ends_during_the_picture(self):
        async with Node() as node, self.watched(node, after=2) as shop:
            watch = Watch(shop)
            await node.accept(presence_from=4)
            await node.results(page(5, "ann", more=True))
            held = await node.take("submit")
            (await node.take("fetch")).refuse("STALE_LINK")
            self.assertEqual((await node.accept(presence_from=6)).presence_after, 5)
            held.refuse("STALE_LINK")
            begun = await node.take("submit")
            while begun.body.commands[0].snapshot.after:  # the question of the older picture
                begun.answer(results=pb.Results(seq=begun.body.seq, results=[page(6, "bob")]))
                begun = await node.take("submit")
            begun.answer(results=pb.Results(seq=begun.body.seq, results=[page(7, "ann", "cid")]))
            await watch.until("reset", "there ann", "reset", "there ann", "there cid", "current 7")

    async def test_pages_that_do_not_come(self):
        with mock.patch("usher_backend.presence.AGAIN_SECONDS_MIN", 0.001):
            async with Node() as node, self.watched(node) as shop:
                watch = Watch(shop)
                await node.accept(presence_from=1)
                await node.results(pb.Result(code=pb.Result.UNAVAILABLE))
                await node.results(page(5, "ann", more=True))
                await node.results(page(5, "ann", more=True))  # does not get ahead
                await watch.until("reset", "there ann", "there ann", "current 5")

    async def test_without_pictures(self):
        """It is told of the hole, and goes on behind it."""
        async with Node() as node, self.watched(node, after=5) as shop:
            watch = Watch(shop, pictures=False)
            await node.accept(presence_from=6)
            await node.batch(presence=[event(9, "bob"), event(10, "bob")])
            await watch.until("reset", "current 8", "9 bob ONLINE", "10 bob ONLINE")
            self.assertTrue(node.nothing("submit"))

    async def test_what_waits_is_bounded(self):
        async with Node() as node, self.watched(node, after=1) as shop:
            gate, told = asyncio.Event(), []

            @shop.on_presence
            async def changed(event):
                await gate.wait()
                told.append(event.seq)

            await node.accept(presence_from=2)
            events = [event(seq, "ann") for seq in range(2, EVENTS_MAX + 12)]
            await node.batch(presence=events)
            fetch = await node.batch(presence=events[EVENTS_MAX:])
            self.assertEqual(fetch.presence_done, EVENTS_MAX + 1)
            gate.set()
            while shop.presence_seq < EVENTS_MAX + 11:
                fetch = await node.take("fetch")
                later = [each for each in events if each.seq > fetch.body.presence_done]
                fetch.answer(batch=pb.Batch(presence=later))
                await asyncio.sleep(0.001)
            self.assertEqual(told, list(range(2, EVENTS_MAX + 12)))

    async def test_leaving_lets_the_handler_finish(self):
        async with Node() as node:
            async with self.watched(node, after=5, stop_seconds=SECONDS) as shop:
                begun, gate = asyncio.Event(), asyncio.Event()

                @shop.on_presence
                async def changed(event):
                    begun.set()
                    await gate.wait()

                await node.accept(presence_from=6)
                await node.batch(presence=[event(6, "ann"), event(7, "ann")])
                await soon(begun.wait())
                leaving = asyncio.create_task(shop.close())
                await asyncio.sleep(0)
                gate.set()
                await soon(leaving)
                self.assertEqual(shop.presence_seq, 6)

    async def test_handlers_need_presence(self):
        async with Node() as node, self.service(node) as shop:
            for register in (shop.on_presence, shop.on_presence_reset, shop.on_presence_snapshot):
                with self.assertRaises(ValueError):
                    register(lambda *_: None)
            self.assertFalse((await node.accept()).presence)

    async def test_words_of_a_later_version(self):
        async with Node() as node, self.watched(node, after=5) as shop:
            got = []
            shop.on_presence(got.append)
            await node.accept(presence_from=6)
            await node.batch(presence=[pb.PresenceEvent(seq=6, user="ann", kind=9, cause=99)])
            await until(lambda: got)
            self.assertEqual((got[0].kind, got[0].cause), ("9", "99"))


if __name__ == "__main__":
    unittest.main()
