# SPDX-License-Identifier: Apache-2.0
"""What a program submits: batches, the bounded queue, what a lost answer means, questions."""

import asyncio
import unittest
from unittest import mock

import usher_backend
from scripted import SECONDS, Case, Node, call, page, soon, until
from usher_backend import backend_pb2 as pb


def pushed(submit):
    return [command.push.payload for command in submit.commands]


def each(count, shop, **options):
    return [asyncio.create_task(shop.push("ann", b"%d" % n, **options)) for n in range(count)]


class Commands(Case):
    async def test_what_is_made_in_one_turn_leaves_at_once(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            await soon(shop.linked())
            tasks = each(20, shop)
            tasks += [asyncio.create_task(shop.push_all(b"all", transient=True))]
            submit = await node.results()
            self.assertEqual((submit.link, submit.lane, submit.seq), (101, 0, 1))
            self.assertEqual(pushed(submit)[:20], [b"%d" % n for n in range(20)])
            self.assertEqual(len(submit.commands), 21)
            self.assertTrue(submit.commands[20].push_all.transient)
            await soon(asyncio.gather(*tasks))
            more = each(300, shop)
            self.assertEqual([len((await node.results()).commands) for _ in range(2)], [256, 44])
            await soon(asyncio.gather(*more))

    async def test_no_submit_is_larger_than_a_frame(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept(frame_bytes_max=1024)
            await soon(shop.linked())
            tasks = [asyncio.create_task(shop.push("ann", b"x" * n)) for n in range(0, 900, 30)]
            sizes = []
            while not all(task.done() for task in tasks):
                submit = await node.take("submit")
                self.assertLessEqual(len(submit.bytes), 1024)
                sizes += [len(command.push.payload) for command in submit.body.commands]
                results = [pb.Result() for _ in submit.body.commands]
                submit.answer(results=pb.Results(seq=submit.body.seq, results=results))
                await until(
                    lambda: len(node.waiting["submit"]._queue) or all(t.done() for t in tasks)
                )
            self.assertEqual(sizes, list(range(0, 900, 30)))
            error = await self.fails(shop.push("ann", b"x" * 960), usher_backend.TooLarge)
            self.assertEqual(error.done, "no")

    async def test_results(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            codes = pb.Result
            task = asyncio.create_task(shop.push(["ann", "bob"], "x", epoch=5))
            report = pb.PushReport(accepted=1, dropped=2)
            report.failures.add(user="bob", code=codes.INBOX_FULL)
            submit = await node.results(pb.Result(push=report))
            push = submit.commands[0].push
            self.assertEqual(
                (list(push.to), push.epoch, push.transient), (["ann", "bob"], 5, False)
            )
            wanted = usher_backend.PushReport(1, (usher_backend.Failure("bob", "INBOX_FULL"),), 2)
            self.assertEqual(await soon(task), wanted)
            task = asyncio.create_task(shop.push("bob", "x"))
            await node.results(pb.Result(code=codes.NOT_ONLINE))
            self.assertEqual((await soon(task)).failures[0].code, "NOT_ONLINE")
            for code, wanted in (
                (codes.OK, True),
                (codes.NOT_ONLINE, False),
                (codes.STALE_EPOCH, False),
            ):
                task = asyncio.create_task(
                    shop.kick("bob", epoch=3, reason=4, detail="d", retry_after_ms=5)
                )
                submit = await node.results(pb.Result(code=code))
                self.assertEqual(await soon(task), wanted)
            self.assertEqual(
                submit.commands[0].kick,
                pb.Kick(user="bob", epoch=3, reason=4, detail="d", retry_after_ms=5),
            )
            task = asyncio.create_task(shop.push_all("x"))
            await node.results(pb.Result(code=77))
            error = await self.fails(task, usher_backend.CommandFailed)
            self.assertEqual((error.code, error.done), ("77", "no"))

    async def test_a_traceparent_if_it_is_one(self):
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            others = (
                None,
                "",
                parent + "0",
                "\0" * 55,
                "\ud800" * 55,
                parent + "\n",
                parent.encode(),
            )
            for given in (parent, *others):
                tasks = [
                    asyncio.create_task(shop.push("ann", traceparent=given)),
                    asyncio.create_task(shop.push_all(traceparent=given)),
                ]
                one, all = (await node.results()).commands
                wanted = parent if given == parent else ""
                self.assertEqual((one.push.traceparent, all.push_all.traceparent), (wanted, wanted))
                for task in tasks:
                    await soon(task)

    async def test_the_same_bytes_again(self):
        """A lost connection, and an answer that is late: the node tells by the numbers."""
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            with mock.patch("usher_backend.lane.REQUEST_SECONDS", 0.1):
                task = asyncio.create_task(shop.push("ann", b"once"))
                first = await node.take("submit")
                first.lose()
                second = await node.take("submit")  # and is not answered
            third = await node.take("submit")
            self.assertEqual((first.bytes, first.bytes), (second.bytes, third.bytes))
            report = pb.Result(push=pb.PushReport(accepted=1))
            third.answer(results=pb.Results(seq=1, results=[report]))
            while not task.done():  # on a busy machine one more may be on its way by then
                await asyncio.sleep(0.001)
                while not node.nothing("submit"):
                    again = await node.take("submit")
                    self.assertEqual(again.bytes, first.bytes)
                    again.answer(results=pb.Results(seq=1, results=[report]))
            self.assertEqual((await soon(task)).accepted, 1)
            task = asyncio.create_task(shop.push("ann", b"next"))
            self.assertEqual((await node.results()).seq, 2)
            await soon(task)

    async def test_a_link_that_ends_before_the_answer(self):
        """What was refused at the first time was not done and goes on, in its order; of what left twice nobody
        knows."""
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            await soon(shop.linked())
            tasks = each(3, shop)
            submit = await node.take("submit")
            tasks += [asyncio.create_task(shop.push("ann", b"3"))]
            submit.refuse("STALE_LINK")
            await node.accept()
            again = await node.results()
            self.assertEqual((again.link, again.seq), (102, 1))
            self.assertEqual(pushed(again), [b"0", b"1", b"2", b"3"])
            await soon(asyncio.gather(*tasks))
            lost = each(1, shop)[0]
            (await node.take("submit")).lose()
            second = await node.take("submit")
            later = asyncio.create_task(shop.push("ann", b"later"))
            await asyncio.sleep(0)
            second.refuse("STALE_LINK")
            error = await self.fails(lost, usher_backend.Lost)
            self.assertEqual(error.done, "unknown")
            await node.accept()
            self.assertEqual(pushed(await node.results()), [b"later"])
            await soon(later)

    async def test_an_answer_that_does_not_fit(self):
        async with Node() as node, self.service(node) as shop:
            hello = await node.accept()
            for results in (pb.Results(seq=9, results=[pb.Result()]), pb.Results(seq=1)):
                task = asyncio.create_task(shop.push("ann", b"x"))
                (await node.take("submit")).answer(results=results)
                await self.fails(task, usher_backend.Lost)
                again = await node.accept()
                self.assertGreater(again.incarnation, hello.incarnation)
                hello = again

    async def test_refused_submits(self):
        with mock.patch("usher_backend.lane.BUSY_SECONDS", 0.001):
            async with Node() as node, self.service(node) as shop:
                await node.accept()
                task = asyncio.create_task(shop.push("ann", b"x"))
                first = await node.take("submit")
                first.refuse("BUSY")
                second = await node.take("submit")
                self.assertEqual(first.bytes, second.bytes)
                second.refuse("MALFORMED", "no such thing")
                error = await self.fails(task, usher_backend.CommandFailed)
                self.assertEqual(error.code, "MALFORMED")
                await node.accept()  # its numbers were not taken there: begin anew
                task = asyncio.create_task(shop.push("ann", b"y"))
                self.assertEqual((await node.results()).seq, 1)
                await soon(task)

    async def test_the_queue_is_bounded(self):
        async with Node() as node, self.service(node, queue_commands_max=4) as shop:
            tasks = each(4, shop)
            await asyncio.sleep(0)
            error = await self.fails(shop.push("ann"), usher_backend.QueueFull)
            self.assertEqual(error.done, "no")
            room = asyncio.create_task(shop.room())
            await asyncio.sleep(0)
            self.assertFalse(room.done())
            await node.accept()
            await node.results()
            await soon(room)
            await soon(asyncio.gather(*tasks, shop.room()))
        async with Node() as node, self.service(node, queue_bytes_max=1000) as shop:
            task = asyncio.create_task(shop.push("ann", b"x" * 600))
            await asyncio.sleep(0)
            await self.fails(shop.push("ann", b"x" * 600), usher_backend.QueueFull)
            await node.accept()
            await node.results()
            await soon(asyncio.gather(task, shop.room()))

    async def test_a_transient_push_does_not_wait_long(self):
        async with Node() as node, self.service(node) as shop:
            with mock.patch("usher_backend.commands.TRANSIENT_SECONDS", 0.02):
                old = asyncio.create_task(shop.push("ann", b"old", transient=True))
                keeps = asyncio.create_task(shop.push("ann", b"keeps"))
                error = await self.fails(old, usher_backend.NotSent)  # the link is away
                self.assertEqual(error.done, "no")
                await node.accept()
                self.assertEqual(pushed(await node.results()), [b"keeps"])
                await soon(keeps)
            task = asyncio.create_task(shop.push("ann", b"in time", transient=True))
            self.assertTrue((await node.results()).commands[0].push.transient)
            await soon(task)

    async def test_nor_behind_a_batch_that_takes_long(self):
        with mock.patch("usher_backend.commands.TRANSIENT_SECONDS", 0.02):
            async with Node() as node, self.service(node) as shop:
                await node.accept()
                shop._lane.queue._sweep_later = lambda: None  # it comes round once in a while only
                first = asyncio.create_task(shop.push("ann", b"first"))
                held = await node.take("submit")
                old = asyncio.create_task(shop.push("ann", b"old", transient=True))
                await asyncio.sleep(0.05)
                held.answer(results=pb.Results(seq=1, results=[pb.Result()]))
                await soon(first)
                await self.fails(old, usher_backend.NotSent)
                self.assertTrue(node.nothing("submit"))

    async def test_cancelled(self):
        async with Node() as node, self.service(node, queue_commands_max=2) as shop:
            for _ in range(5):  # they make room
                tasks = each(2, shop)
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            keeps = asyncio.create_task(shop.push("ann", b"keeps"))
            await node.accept()
            submit = await node.take("submit")
            self.assertEqual(pushed(submit.body), [b"keeps"])
            keeps.cancel()
            await asyncio.gather(keeps, return_exceptions=True)
            submit.refuse("STALE_LINK")  # not done, and nobody wants it any more
            await node.accept()
            last = asyncio.create_task(shop.push("ann", b"last"))
            self.assertEqual(pushed(await node.results()), [b"last"])
            await soon(last)

    async def test_what_waits_at_the_end(self):
        async with Node() as node:
            async with self.service(node, stop_seconds=0.05) as shop:
                waits = asyncio.create_task(shop.push("ann", b"never"))
                await asyncio.sleep(0)
            self.assertEqual((await self.fails(waits, usher_backend.NotSent)).done, "no")
            async with self.service(node, stop_seconds=0.05) as shop:
                await node.accept()
                on_its_way = asyncio.create_task(shop.push("ann", b"maybe"))
                await node.take("submit")
            self.assertEqual((await self.fails(on_its_way, usher_backend.Lost)).done, "unknown")
            async with self.service(node, stop_seconds=SECONDS) as shop:
                await node.accept()
                await soon(shop.linked())
                gets_out = asyncio.create_task(shop.push("ann", b"still"))
                await asyncio.sleep(0)
                answered = asyncio.create_task(node.results())
            self.assertEqual((await soon(gets_out)).accepted, 0)
            await answered

    async def test_drain_holds_for_later_links(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            task = asyncio.create_task(shop.drain())
            await node.results()
            await soon(task)
            (await node.take("fetch")).refuse("STALE_LINK")
            await node.accept()
            self.assertTrue((await node.results()).commands[0].HasField("drain"))


class Questions(Case):
    async def test_they_do_not_wait_for_commands(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            push = asyncio.create_task(shop.push("ann", b"x"))
            held = await node.take("submit")
            look = asyncio.create_task(shop.lookup(["ann"]))
            submit = await node.results(page(5, "ann"))
            self.assertEqual((submit.lane, submit.seq, len(submit.commands)), (1, 1, 1))
            self.assertEqual((await soon(look))[0].user, "ann")
            held.answer(results=pb.Results(seq=1, results=[pb.Result()]))
            await soon(push)

    async def test_pages(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()

            async def names():
                return [session.user async for session in shop.list("a")]

            task = asyncio.create_task(names())
            asked = [
                (await node.results(page(5, *users, more=more))).commands[0].list
                for users, more in ((("a1", "a2"), True), (("a3",), True), ((), False))
            ]
            self.assertEqual(await soon(task), ["a1", "a2", "a3"])
            self.assertEqual(
                [(each.prefix, each.after) for each in asked], [("a", ""), ("a", "a2"), ("a", "a3")]
            )
            task = asyncio.create_task(names())
            for _ in range(2):  # one that does not get ahead would be asked for without end
                await node.results(page(5, "a1", more=True))
            self.assertEqual(await soon(task), ["a1", "a1"])

    async def test_a_lookup_that_is_too_large_is_made_in_two(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            task = asyncio.create_task(shop.lookup(["a", "b", "c"]))
            await node.results(pb.Result(code=pb.Result.TOO_LARGE))
            await node.results(page(1, "a"))
            await node.results(page(1, "b", "c"))
            self.assertEqual([each.user for each in await soon(task)], ["a", "b", "c"])
            self.assertEqual(await shop.lookup([]), [])

    async def test_repeated_whatever_happens(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            task = asyncio.create_task(shop.count())
            (await node.take("submit")).lose()
            (await node.take("submit")).refuse("STALE_LINK")
            await node.accept()
            (await node.take("submit")).answer(results=pb.Results(seq=9))
            await node.accept()
            numbers = pb.NumberList(numbers=[pb.Number(name="online", value=3)])
            await node.results(pb.Result(numbers=numbers))
            self.assertEqual(await soon(task), {"online": 3})

    async def test_no_answer(self):
        with mock.patch("usher_backend.service.ANSWER_SECONDS", 0.05):
            async with Node() as node, self.service(node) as shop:
                error = await self.fails(shop.stats(), usher_backend.NoAnswer)
                self.assertEqual(error.done, "no")
                await node.accept()
                await node.batch(call(1))


if __name__ == "__main__":
    unittest.main()
