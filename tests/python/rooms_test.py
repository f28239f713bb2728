# SPDX-License-Identifier: Apache-2.0
"""Rooms and watch lists: what is commanded, who is asked, and news that are told in order."""

import asyncio
import unittest

import usher_backend
from scripted import Case, Node, call, soon, until
from usher_backend import backend_pb2 as pb


def ask(seq, room="m:1", kind=pb.RoomAsk.JOIN):
    asked = pb.RoomAsk(call=seq + 1000, user="ann", epoch=7, room=room, kind=kind, timeout_ms=900)
    return pb.Mail(seq=seq, ask=asked)


def watch(seq, *targets):
    asked = pb.WatchAsk(call=seq + 1000, user="ann", epoch=7, targets=targets, timeout_ms=900)
    return pb.Mail(seq=seq, watch=asked)


def news(seq, room, news_seq, **fields):
    fields = {"kind": pb.RoomNews.JOINED, "cause": pb.RoomNews.ASKED, "user": "ann", **fields}
    told = pb.RoomNews(room=room, incarnation=50, news_seq=news_seq, epoch=7, **fields)
    return pb.Mail(seq=seq, news=told)


def info(name, **fields):
    made = pb.RoomInfo(name=name, incarnation=50, members=3, away=1, owner="shop", **fields)
    setattr(made, "class", "m:*")
    return made


def rooms(*infos, more=False):
    return pb.Result(rooms=pb.RoomList(rooms=infos, more=more))


def report(accepted, **failures):
    failed = [pb.PushFailure(user=user, code=code) for user, code in failures.items()]
    return pb.Result(push=pb.PushReport(accepted=accepted, failures=failed))


class Commands(Case):
    async def test_each_as_the_node_reads_it(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            await soon(shop.linked())
            work = asyncio.gather(
                shop.room_open("m:1", room_class="m:*", members_max=4),
                shop.room_add("m:1", ["ann", "bob"], epochs=[7, 0], carry=True),
                shop.room_add("m:1", "cid"),
                shop.room_remove("m:1", ["bob"], "cheats"),
                shop.room_publish("m:1", "go"),
                shop.watch_list("ann", ["bob", "cid"], mode="ADD", epoch=7),
                shop.watch_list("ann", []),
                shop.room_close("m:1", "over"),
                shop.room_close("m:2"),
            )
            submit = await node.results(
                rooms(info("m:1")),
                report(1, bob=pb.Result.STALE_EPOCH),
                pb.Result(code=pb.Result.ROOM_FULL),
                report(1),
                rooms(info("m:1", offset=13)),
                report(1, cid=pb.Result.FULL),
                report(0),
                pb.Result(),
                pb.Result(code=pb.Result.NO_ROOM),
            )
            opening = pb.RoomOpen(room="m:1", members_max=4)
            setattr(opening, "class", "m:*")
            adding = pb.RoomAdd(room="m:1", users=["ann", "bob"], epochs=[7, 0], carry=True)
            removing = pb.RoomRemove(room="m:1", users=["bob"], detail="cheats")
            adds = pb.WatchList(user="ann", epoch=7, mode=pb.WatchList.ADD, targets=["bob", "cid"])
            self.assertEqual(
                list(submit.commands),
                [
                    pb.Command(room_open=opening),
                    pb.Command(room_add=adding),
                    pb.Command(room_add=pb.RoomAdd(room="m:1", users=["cid"])),
                    pb.Command(room_remove=removing),
                    pb.Command(room_publish=pb.RoomPublish(room="m:1", payload=b"go")),
                    pb.Command(watch_list=adds),
                    pb.Command(watch_list=pb.WatchList(user="ann")),
                    pb.Command(room_close=pb.RoomClose(room="m:1", detail="over")),
                    pb.Command(room_close=pb.RoomClose(room="m:2")),
                ],
            )
            failure = usher_backend.Failure
            opened, *others = await soon(work)
            self.assertEqual(
                (opened.name, opened.room_class, opened.owner, opened.members, opened.away),
                ("m:1", "m:*", "shop", 3, 1),
            )
            self.assertEqual(
                others,
                [
                    usher_backend.PushReport(1, (failure("bob", "STALE_EPOCH"),)),
                    usher_backend.PushReport(0, (failure("cid", "ROOM_FULL"),)),
                    usher_backend.PushReport(1),
                    13,
                    usher_backend.PushReport(1, (failure("cid", "FULL"),)),
                    usher_backend.PushReport(0),
                    True,
                    False,
                ],
            )

    async def test_what_the_node_does_not_do(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            await soon(shop.linked())
            works = [
                (shop.room_open("x"), pb.Result.NO_ROOM),
                (shop.room_add("x", ["ann", "bob"]), pb.Result.NO_ROOM),
                (shop.room_remove("x", ["ann", "bob"]), pb.Result.NO_ROOM),
                (shop.room_publish("x"), pb.Result.RATE_LIMITED),
                (shop.room_close("x"), pb.Result.FORBIDDEN),
                (shop.watch_list("x", ["y"]), pb.Result.NOT_ONLINE),
            ]
            ends = asyncio.gather(*(work for work, _ in works), return_exceptions=True)
            await node.results(*(pb.Result(code=code) for _, code in works))
            words = [pb.Result.Code.Name(code) for _, code in works]
            self.assertEqual([error.code for error in await soon(ends)], words)
            self.assertEqual(await shop.room_add("x", []), usher_backend.PushReport(0))
            self.assertEqual(await shop.room_remove("x", []), usher_backend.PushReport(0))
            await self.fails(shop.room_add("x", ["ann"], epochs=[1, 2]), ValueError)
            await self.fails(shop.room_publish("x", 5), TypeError)
            await self.fails(shop.watch_list("x", [], mode="ALL"), ValueError)
            nothing = asyncio.create_task(shop.room_open("x"))
            await node.results(pb.Result())
            await self.fails(nothing, usher_backend.CommandFailed)

    async def test_pages(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            await soon(shop.linked())

            async def members():
                return [page async for page in shop.room_members("m:1", limit=2)]

            reading = asyncio.create_task(members())
            first = pb.RoomMemberList(news_seq=4, incarnation=50, offset=12, next="2")
            first.members.add(user="ann", epoch=7, carry=True)
            first.members.add(user="bob", epoch=8, away=True)
            last = pb.RoomMemberList(news_seq=5, incarnation=50, offset=12)
            one = await node.results(pb.Result(members=first))
            two = await node.results(pb.Result(members=last))
            self.assertEqual(
                [one.commands[0].room_members, two.commands[0].room_members],
                [
                    pb.RoomMembers(room="m:1", limit=2),
                    pb.RoomMembers(room="m:1", after="2", limit=2),
                ],
            )
            self.assertNotEqual(one.link, 0)  # the node shows them to nobody else
            member = usher_backend.RoomMember
            page = usher_backend.RoomMembersPage
            both = (member("ann", 7, False, True), member("bob", 8, True, False))
            self.assertEqual(await soon(reading), [page(both, 4, 50, 12), page((), 5, 50, 12)])

            async def names():
                return [each.name async for each in shop.rooms("m:")]

            listing = asyncio.create_task(names())
            await node.results(rooms(info("m:1"), info("m:2"), more=True))
            submit = await node.results(rooms(info("m:2"), more=True))  # it does not get ahead
            self.assertEqual(submit.commands[0].rooms, pb.Rooms(prefix="m:", after="m:2"))
            self.assertEqual(await soon(listing), ["m:1", "m:2", "m:2"])


class Asked(Case):
    async def test_room_ask(self):
        async with Node() as node, self.service(node) as shop:
            got = []
            status = usher_backend.Status
            verdicts = [True, False, "it has begun", status(7, "full"), status(0)]
            verdicts += [None, 5, "\ud800", KeyError("mine"), asyncio.CancelledError()]

            @shop.on_room_ask
            async def may(ask):
                got.append(ask)
                verdict = verdicts[len(got) - 1]
                if isinstance(verdict, BaseException):
                    raise verdict
                return verdict

            await node.accept()
            mail = [ask(n, kind=n % 2 + 1) for n in range(1, len(verdicts) + 1)]
            with self.assertLogs("usher_backend", "WARNING") as logs:
                await node.batch(*mail)
                submit = await node.results()
                await until(lambda: shop.calls_open == 0)
            self.assertEqual(
                [
                    (each.reply_to.call, each.reply_to.status, each.reply_to.payload)
                    for each in submit.commands
                ],
                [
                    (1001, 0, b""),
                    (1002, 1, b""),
                    (1003, 1, b"it has begun"),
                    (1004, 7, b"full"),
                    (1005, 1, b""),
                ],
            )
            self.assertEqual(len(logs.records), 4)  # None says nothing more
            self.assertEqual(got[0], usher_backend.RoomAsk("ann", 7, "m:1", "JOIN", 900, False))
            self.assertEqual(got[1].kind, "CREATE")
            self.assertEqual((await node.take("fetch")).body.mail_done, len(verdicts))

    async def test_watch_ask(self):
        async with Node() as node, self.service(node) as shop:
            got = []
            verdicts = [["bob"], True, False, (), usher_backend.Status(3), "bob", [5], None]

            @shop.on_watch_ask
            def may(ask):
                got.append(ask)
                verdict = verdicts[len(got) - 1]
                if isinstance(verdict, Exception):
                    raise verdict
                return verdict

            await node.accept()
            with self.assertLogs("usher_backend", "WARNING"):
                await node.batch(*(watch(n, "bob", "cid") for n in range(1, len(verdicts) + 1)))
                submit = await node.results()
                await until(lambda: shop.calls_open == 0)
            replies = [each.reply_to for each in submit.commands]
            self.assertEqual(
                [
                    (each.call, each.status, list(pb.WatchGrant.FromString(each.payload).targets))
                    for each in replies
                ],
                [
                    (1001, 0, ["bob"]),
                    (1002, 0, ["bob", "cid"]),
                    (1003, 1, []),
                    (1004, 0, []),
                    (1005, 3, []),
                ],
            )
            asked = usher_backend.WatchAsk("ann", 7, ("bob", "cid"), 900, False)
            self.assertEqual(got[0], asked)

    async def test_nobody_asked(self):
        """No verdict is no answer; news that nobody handles are done with."""
        async with Node() as node, self.service(node):
            await node.accept()
            with self.assertLogs("usher_backend", "WARNING") as logs:
                await node.batch(ask(1), watch(2, "bob"), news(3, "a", 1))
                self.assertEqual((await node.batch()).mail_have, 3)
                self.assertEqual((await node.batch()).mail_done, 3)
            self.assertEqual(len(logs.records), 2)
            self.assertTrue(node.nothing("submit"))


class News(Case):
    async def test_one_by_one_for_each_room(self):
        async with Node() as node, self.service(node) as shop:
            told, gates = [], {}

            @shop.on_room_news
            async def tell(one):
                name = f"{one.room}{one.news_seq}"
                told.append(name)
                gates[name] = asyncio.get_running_loop().create_future()
                await gates[name]

            await node.accept()
            await node.batch(news(1, "a", 1), news(2, "a", 2), news(3, "b", 1), news(4, "a", 3))
            await until(lambda: told == ["a1", "b1"])
            gates["b1"].set_result(None)
            fetch = await node.batch()
            self.assertEqual((fetch.mail_done, fetch.mail_have), (0, 4))
            gates["a1"].set_result(None)
            await until(lambda: told == ["a1", "b1", "a2"])
            await node.batch(news(5, "b", 2))
            await until(lambda: told == ["a1", "b1", "a2", "b2"])
            for name in ("a2", "b2"):
                gates[name].set_result(None)
            await until(lambda: "a3" in gates)
            gates["a3"].set_result(None)
            await soon(shop.idle())
            async with asyncio.timeout(30):
                while (await node.batch()).mail_done < 5:
                    pass

    async def test_what_is_told_and_what_fails(self):
        async with Node() as node, self.service(node) as shop:
            told = []

            @shop.on_room_news
            def tell(one):
                told.append(one)
                if len(told) == 1:
                    raise KeyError(one.text)

            await node.accept()
            message = {"kind": pb.RoomNews.MESSAGE, "payload": b"{", "offset": 12, "time_ms": 5}
            with self.assertLogs("usher_backend", "ERROR") as logs:
                await node.batch(
                    news(1, "a", 1, redelivered=True, **message), news(2, "a", 2, kind=99)
                )
                await until(lambda: len(told) == 2)
            self.assertEqual(len(logs.records), 1)
            self.assertEqual(
                told[0],
                usher_backend.RoomNews(
                    "a", 50, 1, "MESSAGE", "ann", 7, "ASKED", 12, b"{", True, 5, ""
                ),
            )
            self.assertEqual((told[0].text, told[1].kind), ("{", "99"))
            await soon(shop.idle())

    async def test_what_waits_when_the_link_ends(self):
        """The next link tells it, and in order."""
        async with Node() as node, self.service(node) as shop:
            told = []
            gate = asyncio.get_running_loop().create_future()

            @shop.on_room_news
            async def tell(one):
                told.append((one.news_seq, one.redelivered))
                if len(told) == 1:
                    await gate

            await node.accept()
            await node.batch(news(1, "a", 1), news(2, "a", 2))
            await until(lambda: len(told) == 1)
            (await node.take("fetch")).refuse(pb.Refused.STALE_LINK)
            await node.accept()
            again = [news(n, "a", n, redelivered=True) for n in (1, 2)]
            await node.batch(*again)
            gate.set_result(None)
            await until(lambda: len(told) == 3)
            self.assertEqual(told, [(1, False), (1, True), (2, True)])
            await soon(shop.idle())

    async def test_a_service_that_stops_tells_what_it_has_begun(self):
        async with Node() as node:
            shop = self.service(node, stop_seconds=10.0)
            told = []
            begun = asyncio.Event()
            async with shop:

                @shop.on_room_news
                async def tell(one):
                    begun.set()
                    await asyncio.sleep(0.01)
                    told.append(one.news_seq)

                await node.accept()
                await node.batch(news(1, "a", 1), news(2, "a", 2), call(3))
                await soon(begun.wait())

                async def serve():
                    while True:
                        await node.batch()

                async def results():
                    while True:
                        await node.results()

                serving = [asyncio.create_task(work()) for work in (serve, results)]
            self.assertEqual(told, [1, 2])
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)


if __name__ == "__main__":
    unittest.main()
