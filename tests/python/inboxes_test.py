# SPDX-License-Identifier: Apache-2.0
"""Stored messages: what is pushed, what an older node makes of it, what is listed and dropped, and notices."""

import asyncio
import unittest

import usher_backend
from scripted import Case, Node, soon, until
from usher_backend import backend_pb2 as pb


def notice(seq, user, mid):
    stored = pb.StoredNotice(user=user, mid=mid, payload_bytes=4, time_ms=5, count=2)
    setattr(stored, "from", "bob")
    return pb.Mail(seq=seq, stored=stored)


def info(mid):
    return pb.StoredInfo(mid=mid, service="post", payload_bytes=4, time_ms=5, expires_ms=9)


class Pushes(Case):
    async def test_what_is_asked_and_given(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            task = asyncio.create_task(shop.push("ann", "gift", keep_s=3600, tag=2**64 - 1))
            submit = await node.results(pb.Result(push=pb.PushReport(accepted=1, mid=17)))
            push = submit.commands[0].push
            self.assertEqual((push.keep_s, push.tag, push.transient), (3600, 2**64 - 1, False))
            self.assertEqual((await soon(task)).mid, 17)
            plain = asyncio.create_task(shop.push("ann", "hi"))
            submit = await node.results(pb.Result(push=pb.PushReport(accepted=1)))
            self.assertEqual((submit.commands[0].push.keep_s, submit.commands[0].push.tag), (0, 0))
            self.assertEqual((await soon(plain)).mid, 0)

    async def test_a_node_of_before_does_not_store(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            task = asyncio.create_task(shop.push("ann", "gift", keep_s=60))
            await node.results(pb.Result(push=pb.PushReport(accepted=1)))
            error = await self.fails(task, usher_backend.NotStored)
            self.assertEqual(error.done, "unknown")
            task = asyncio.create_task(shop.push("ann", "gift", keep_s=60))
            await node.results(pb.Result(code=pb.Result.NOT_ONLINE))
            report = await soon(task)
            self.assertEqual((report.accepted, report.failures[0].code), (0, "NOT_ONLINE"))


class Inboxes(Case):
    async def test_page_by_page(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()

            async def read():
                return [page async for page in shop.inbox("ann", limit=1)]

            task = asyncio.create_task(read())
            asked = []
            for mids, more in (([17], True), ([18], True), ([], True)):
                stored = pb.StoredList(
                    messages=[info(mid) for mid in mids], more=more, count=2, bytes=8
                )
                submit = await node.results(pb.Result(stored=stored))
                inbox = submit.commands[0].inbox
                asked.append((inbox.user, inbox.after_mid, inbox.limit))
            self.assertEqual(asked, [("ann", 0, 1), ("ann", 17, 1), ("ann", 18, 1)])
            pages = await soon(task)
            self.assertEqual(
                pages[0].messages, (usher_backend.StoredMessage(17, "", "post", 4, 5, 9),)
            )
            self.assertEqual((pages[0].count, pages[0].bytes, len(pages)), (2, 8, 3))

    async def test_dropped(self):
        async with Node() as node, self.service(node) as shop:
            await node.accept()
            task = asyncio.create_task(shop.inbox_drop("ann", 18))
            submit = await node.results(pb.Result(stored=pb.StoredList(count=2)))
            drop = submit.commands[0].inbox_drop
            self.assertEqual((drop.user, drop.up_to_mid), ("ann", 18))
            self.assertEqual(await soon(task), 2)
            task = asyncio.create_task(shop.inbox_drop("ann", 18))
            await node.results(pb.Result(code=pb.Result.UNAVAILABLE))
            error = await self.fails(task, usher_backend.CommandFailed)
            self.assertEqual(error.code, "UNAVAILABLE")


class Notices(Case):
    async def test_of_one_user_in_order_and_acknowledged_when_told(self):
        async with Node() as node, self.service(node) as shop:
            got, go = [], asyncio.Event()

            @shop.on_stored_notice
            async def told(stored):
                got.append((stored.user, stored.mid, stored.sender, stored.count))
                await go.wait()
                if stored.mid == 17:
                    raise ValueError("no phone")

            await node.accept()
            await node.batch(notice(1, "ann", 17), notice(2, "ann", 18), notice(3, "cid", 19))
            await until(lambda: len(got) == 2)
            self.assertEqual(got, [("ann", 17, "bob", 2), ("cid", 19, "bob", 2)])
            self.assertEqual((await node.batch()).mail_done, 0)
            go.set()
            await until(lambda: len(got) == 3)
            while (await node.batch()).mail_done != 3:
                pass

    async def test_what_nobody_wants_to_hear_of_is_done(self):
        async with Node() as node, self.service(node):
            await node.accept()
            await node.batch(notice(1, "ann", 17))
            while (await node.batch()).mail_done != 1:
                pass


if __name__ == "__main__":
    unittest.main()
