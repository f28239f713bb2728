# SPDX-License-Identifier: Apache-2.0
"""Calls and logins: their order, the cursor, how many at once, and what a handler can do wrong."""

import asyncio
import unittest
from unittest import mock

import usher_backend
from scripted import SECONDS, Case, Node, call, soon, until
from usher_backend import backend_pb2 as pb


def replies(submit):
    return [
        (each.reply_to.call, each.reply_to.status, each.reply_to.payload)
        for each in submit.commands
    ]


class Gates:
    """A handler that waits until the test lets each call go."""

    def __init__(self, shop):
        self.begun = []
        self.gates = {}
        shop.on_call(self.handle)

    async def handle(self, call):
        self.begun.append(call.text)
        gate = self.gates[call.text] = asyncio.get_running_loop().create_future()
        return await gate

    async def open(self, *names, answer=b"done"):
        await until(lambda: all(name in self.gates for name in names))
        for name in names:
            self.gates[name].set_result(answer)


class Calls(Case):
    async def test_what_a_handler_is_given_and_gives(self):
        async with Node() as node, self.service(node) as shop:
            got = []
            gives = {
                "bytes": b"b",
                "text": "\u00fc",
                "none": None,
                "view": memoryview(b"v"),
                "array": bytearray(b"a"),
            }

            @shop.on("buy")
            async def buy(call):
                got.append(call)
                return gives[call.text]

            @shop.on("sell")
            def sell(call):
                return "sold"

            await node.accept()
            mail = [call(n, "bob", "buy", name.encode()) for n, name in enumerate(gives, 1)]
            await node.batch(*mail, call(6, method="sell", redelivered=True))
            self.assertEqual(
                replies(await node.results()),
                [
                    (1001, 0, b"b"),
                    (1002, 0, b"\xc3\xbc"),
                    (1003, 0, b""),
                    (1004, 0, b"v"),
                    (1005, 0, b"a"),
                    (1006, 0, b"sold"),
                ],
            )
            first = got[0]
            self.assertEqual(
                (
                    first.user,
                    first.epoch,
                    first.method,
                    first.payload,
                    first.timeout_ms,
                    first.redelivered,
                    first.one_way,
                ),
                ("bob", 7, "buy", b"bytes", 5000, False, False),
            )

    async def test_what_a_handler_can_do_wrong(self):
        async with Node() as node, self.service(node) as shop:

            @shop.on("status")
            async def status(call):
                raise usher_backend.Status(418, "tea")

            @shop.on("raises")
            async def raises(call):
                raise KeyError("x")

            @shop.on("wrong")
            async def wrong(call):
                return 5

            @shop.on("surrogate")
            async def surrogate(call):
                return "\ud800"

            @shop.on("cancelled")
            async def cancelled(call):
                raise asyncio.CancelledError

            @shop.on("large")
            async def large(call):
                return b"x" * 100000

            @shop.on("no number")
            async def no_number(call):
                raise usher_backend.Status(1.5)

            class Bare(usher_backend.Status):
                def __init__(self):
                    """It does not say its status."""

            @shop.on("bare")
            async def bare(call):
                raise Bare

            await node.accept()
            methods = ["status", "raises", "wrong", "surrogate", "cancelled", "large", "nobody's"]
            methods += ["no number", "bare"]
            with self.assertLogs("usher_backend", "WARNING") as logs:
                await node.batch(*(call(n, method=method) for n, method in enumerate(methods, 1)))
                got = replies(await node.results())
            self.assertEqual(
                [status for _, status, _ in got], [418] + [500] * 4 + [413, 404, 500, 500]
            )
            self.assertEqual((got[0][2], got[6][2]), (b"tea", b"no such method"))
            self.assertEqual(len(logs.records), 8)  # all but the first
            self.assertEqual((await node.take("fetch")).body.mail_done, 9)
            await soon(shop.idle())
            for number in (-1, 2**32):
                with self.assertRaises(ValueError):
                    usher_backend.Status(number)

    async def test_calls_overlap_and_begin_in_order(self):
        """The cursor is the highest seq up to which all are done; what is under way is not asked for again."""
        async with Node() as node, self.service(node) as shop:
            gates = Gates(shop)
            await node.accept()
            await node.batch(*(call(n, payload=b"%d" % n) for n in (1, 2, 3)))
            fetch = await node.batch(call(4, payload=b"4"))
            self.assertEqual((fetch.mail_done, fetch.mail_have), (0, 3))
            await until(lambda: gates.begun == ["1", "2", "3", "4"])
            await gates.open("3", "2")
            self.assertEqual(
                replies(await node.results()), [(1003, 0, b"done"), (1002, 0, b"done")]
            )
            fetch = await node.batch()
            self.assertEqual((fetch.mail_done, fetch.mail_have), (0, 4))
            await gates.open("1")
            await node.results()
            fetch = await node.batch(call(3), call(4), call(5, payload=b"5"))  # some come again
            self.assertEqual((fetch.mail_done, fetch.mail_have), (3, 4))
            await until(lambda: gates.begun[4:] == ["5"])
            await gates.open("4", "5")

    async def test_a_node_that_does_not_know_what_we_have(self):
        """An older one sends again what is not acknowledged: it is passed over."""
        async with Node() as node, self.service(node) as shop:
            gates = Gates(shop)
            await node.accept()
            for _ in range(4):
                await node.batch(call(1, payload=b"1"))
            self.assertEqual(gates.begun, ["1"])
            waits = await node.take("fetch")
            await gates.open("1")
            await node.results()
            waits.answer(batch=pb.Batch(mail=[call(1)]))
            self.assertEqual((await node.batch()).mail_done, 1)

    async def test_it_is_not_asked_without_pause(self):
        """But at once when a cursor has moved."""
        pauses = {"PAUSE_SECONDS_MIN": 1000.0, "PAUSE_SECONDS_MAX": 1000.0}
        with mock.patch.multiple("usher_backend.linker", **pauses):
            async with Node() as node, self.service(node) as shop:
                gates = Gates(shop)
                await node.accept()
                await node.batch(call(1, payload=b"1"))
                await node.batch(call(1, payload=b"1"))
                await until(lambda: shop._linker._idle_fetches == 1)
                self.assertTrue(node.nothing("fetch"))
                await gates.open("1")
                await node.results()
                self.assertEqual((await node.batch()).mail_done, 1)

    async def test_how_many_at_once(self):
        """Also those whose answers are not at the node yet. What there is no place for comes again."""
        async with Node() as node, self.service(node, calls_max=2) as shop:
            gates = Gates(shop)
            await node.accept()
            await node.batch(*(call(n, payload=b"%d" % n) for n in (1, 2, 3, 4)))
            fetch = await node.batch(call(5, payload=b"5"))
            self.assertEqual(fetch.mail_have, 4)
            self.assertEqual((await node.take("fetch")).body.mail_have, 4)
            self.assertEqual((gates.begun, shop.calls_open), (["1", "2"], 2))
            await gates.open("1", "2")
            submit = await node.take("submit")
            self.assertEqual((gates.begun, shop.calls_open), (["1", "2"], 2))
            submit.answer(results=pb.Results(seq=1, results=[pb.Result(), pb.Result()]))
            await until(lambda: gates.begun == ["1", "2", "3", "4"])
            await gates.open("3", "4")
            await node.results()
            await soon(shop.idle())
            self.assertEqual(shop.calls_open, 0)

    async def test_one_way(self):
        async with Node() as node, self.service(node) as shop:
            got = []
            shop.on_call(lambda call: got.append(call.one_way))
            await node.accept()
            await node.batch(call(1, id=0), call(2))
            self.assertEqual(replies(await node.results()), [(1002, 0, b"")])
            self.assertEqual(got, [True, False])

    async def test_acknowledged_early(self):
        async with Node() as node, self.service(node) as shop:
            gate = asyncio.Event()

            @shop.on_call
            async def handle(call):
                call.acknowledge()
                call.acknowledge()
                await gate.wait()

            await node.accept()
            await node.batch(call(1))
            self.assertEqual((await node.batch()).mail_done, 1)
            gate.set()
            await node.results()
            self.assertEqual((await node.batch()).mail_done, 1)

    async def test_never_an_answer_by_another_link(self):
        """Its numbers begin anew, and it would answer somebody else."""
        async with Node() as node, self.service(node) as shop:
            gates = Gates(shop)
            await node.accept()
            await node.batch(call(1, payload=b"old", id=5))
            (await node.take("fetch")).refuse("STALE_LINK")
            await node.accept()
            await node.batch(call(1, payload=b"new", id=5, redelivered=True))
            await gates.open("old", answer=b"wrong")
            await gates.open("new", answer=b"right")
            self.assertEqual(replies(await node.results()), [(5, 0, b"right")])
            await soon(shop.idle())
            self.assertTrue(node.nothing("submit"))
            await node.batch()
            self.assertEqual((await node.batch()).mail_done, 1)

    async def test_answers_that_wait_when_the_link_ends(self):
        async with Node() as node, self.service(node) as shop:
            gates = Gates(shop)
            await node.accept()
            await node.batch(call(1, payload=b"1"), call(2, payload=b"2"))
            await gates.open("1")
            submit = await node.take("submit")
            await gates.open("2")
            submit.refuse("STALE_LINK")
            await node.accept()
            push = asyncio.create_task(shop.push("ann", b"x"))
            self.assertEqual(
                [each.WhichOneof("body") for each in (await node.results()).commands], ["push"]
            )
            await soon(push)
            self.assertEqual(shop.calls_open, 0)

    async def test_leaving_in_order(self):
        """What was begun is finished, answered and acknowledged; what comes now is left to others."""
        async with Node() as node:
            async with self.service(node, stop_seconds=SECONDS) as shop:
                gates = Gates(shop)
                await node.accept()
                await node.batch(call(1, payload=b"1"))
                await until(lambda: gates.begun)
                waits = await node.take("fetch")
                leaving = asyncio.create_task(shop.close())
                await asyncio.sleep(0)
                waits.answer(batch=pb.Batch(mail=[call(2, payload=b"2")]))
                self.assertEqual((await node.take("fetch")).body.mail_have, 1)
                await gates.open("1")
                await node.results()
                last = await node.take("fetch")
                self.assertEqual((last.body.mail_done, last.body.wait_ms), (1, 1))
                last.answer(batch=pb.Batch(mail=[call(2, payload=b"2")]))
                last = await node.take("fetch")  # whose connection breaks while it waits
                self.assertEqual((last.body.mail_done, last.body.mail_have), (1, 2**53 - 1))
                await soon(leaving)
                self.assertEqual(gates.begun, ["1"])

    async def test_leaving_in_a_hurry(self):
        """Cancelled while handlers run: they are too, at once, and nothing is left (see Case)."""
        async with Node() as node:
            inside = asyncio.Event()
            shop = self.service(node)
            gates = Gates(shop)

            async def serve():
                async with shop:
                    inside.set()
                    await shop.run_forever(())

            task = asyncio.create_task(serve())
            await inside.wait()
            await node.accept()
            await node.batch(call(1, payload=b"1"), call(2, payload=b"2"))
            await until(lambda: len(gates.gates) == 2)
            task.cancel()
            await self.fails(task, asyncio.CancelledError)
            self.assertTrue(all(gate.cancelled() for gate in gates.gates.values()))

    async def test_handlers_that_take_too_long_are_cut_off(self):
        async with Node() as node:
            async with self.service(node, stop_seconds=0.05) as shop:
                gates = Gates(shop)
                await node.accept()
                await node.batch(call(1, payload=b"1"))
                await until(lambda: gates.begun)
            self.assertTrue(gates.gates["1"].cancelled())

    async def test_cancelled_at_every_step(self):
        """Wherever a service is when it is cancelled."""
        for steps in range(60):
            async with Node() as node:
                shop = self.service(node)
                shop.on_call(lambda call: "x")

                async def serve():
                    async with shop:
                        await shop.push("ann", b"x")

                async def answers():
                    await node.accept()
                    await node.batch(call(1))
                    await node.results()

                tasks = [asyncio.create_task(serve()), asyncio.create_task(answers())]
                for _ in range(steps):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def test_a_handler_stops_and_does_not_close(self):
        async with Node() as node, self.service(node) as shop:

            @shop.on("close")
            async def close(call):
                await self.fails(shop.close(), RuntimeError)
                shop.stop()

            await node.accept()
            await node.batch(call(1, method="close"))
            answered = asyncio.create_task(node.results())
            await soon(shop.run_forever(()))
            await answered

    async def test_drain_and_goaway(self):
        async with Node() as node, self.service(node) as shop:
            told = []
            shop.on_drain(lambda *what: told.append(what))
            await node.accept()
            kinds = pb.Control
            await node.batch(
                pb.Mail(seq=1, control=pb.Control(kind=kinds.DRAIN, detail="d")),
                pb.Mail(seq=2, control=pb.Control(kind=kinds.GOAWAY)),
                pb.Mail(seq=3),  # of a later version
            )
            self.assertEqual((await node.take("fetch")).body.mail_done, 3)
            self.assertEqual(told, [(False, "d"), (True, "")])

    async def test_on_drain_that_is_cancelled(self):
        """What it waited for was, and not the service: the mail is done."""
        async with Node() as node, self.service(node) as shop:

            @shop.on_drain
            async def drained(stops, detail):
                raise asyncio.CancelledError

            await node.accept()
            with self.assertLogs("usher_backend", "ERROR"):
                await node.batch(pb.Mail(seq=1, control=pb.Control(kind=pb.Control.DRAIN)))
                self.assertEqual((await node.take("fetch")).body.mail_done, 1)


class Logins(Case):
    async def verdicts(self, count, handler, *logins):
        async with Node() as node, self.service(node, "door") as door:
            if handler:
                door.on_login(handler)
            await node.accept()
            mail = [pb.Mail(seq=n, auth=each) for n, each in enumerate(logins, 1)]
            await node.batch(*mail)
            self.assertEqual((await node.take("fetch")).body.mail_done, len(mail))
            got = []
            while len(got) < count:
                got += [each.reply_to for each in (await node.results()).commands]
            await soon(door.idle())
            self.assertTrue(node.nothing("submit"))
            return got

    async def test_verdicts(self):
        gives = {
            "yes": True,
            "no": False,
            "name": "bob",
            "until": usher_backend.Admit("eve", 99, ["key:*", "hall"]),
            "text": usher_backend.Admit("eve", 99, "hall"),
            "none": None,
            "number": 1,
        }

        async def judge(login):
            self.assertNotIn("secret", repr(login))
            if login.user == "status":
                raise usher_backend.Status(7)
            if login.user == "zero":
                raise usher_backend.Status(0)
            if login.user == "fault":
                raise KeyError
            return gives[login.user]

        users = [*gives, "status", "zero", "fault"]
        logins = [
            pb.AuthCall(call=n, user=user, token=b"secret", address="a")
            for n, user in enumerate(users, 1)
        ]
        got = [
            (each.call, each.status, each.payload, each.token_ends_ms, list(each.rooms))
            for each in await self.verdicts(6, judge, *logins)
        ]
        self.assertEqual(
            got,
            [
                (1, 0, b"", 0, []),
                (2, 1, b"", 0, []),
                (3, 0, b"bob", 0, []),
                (4, 0, b"eve", 99, ["key:*", "hall"]),
                (8, 7, b"", 0, []),
                (9, 1, b"", 0, []),
            ],
        )

    async def test_nobody_judges(self):
        """Nobody is let in, or sent away for good, by mistake."""
        self.assertEqual(await self.verdicts(0, None, pb.AuthCall(call=1, user="ann")), [])


if __name__ == "__main__":
    unittest.main()
