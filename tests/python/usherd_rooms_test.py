# SPDX-License-Identifier: Apache-2.0
"""Owners of rooms in Python against the real usherd: who is asked, what is told, in order, over a link that is
cut and from an instance that dies to the next."""

import asyncio
import random
import unittest

import usher_backend
from scripted import SECONDS, Case, soon, until
from usherplay import Broker, Client, client_pb, free_port
from usherplay.relay import Relay

OPTIONS = {
    "link.park_ms": 200,
    "link.grace_ms": 300,
    "link.fetch_timeout_ms": 60000,
    "rooms.publish_per_second": 10000,
    "rooms.classes": "owned:* create=service join=service roster=list owner=keeper "
    "follow=messages idle=1m",
}


def client_of(broker, name):
    client = Client(broker, timeout=SECONDS)
    client.login(name)
    return client


def joined(client, room):
    """Its number, or the name of an Error and its words."""
    frame = client.ask("join", SECONDS, room=room)
    if frame.WhichOneof("body") == "room_state":
        return frame.room_state.room
    return client_pb.Error.Code.Name(frame.error.code), frame.error.detail


def publish(client, number, payload):
    return client.ask("publish", SECONDS, room=number, payload=payload).done.offset


class Usherd(Case):
    def service(self, broker, name="keeper", instance="1", **options):
        return usher_backend.service(name, link=broker.link_url, instance=instance, **options)

    async def test_asked_told_and_commanding(self):
        with Broker(OPTIONS) as broker, client_of(broker, "ann") as ann, client_of(
            broker, "bob"
        ) as bob:
            async with self.service(broker) as keeper:
                asked, told = [], []

                @keeper.on_room_ask
                async def may(ask):
                    asked.append((ask.kind, ask.user))
                    return ask.user != "bob" or "not you"

                @keeper.on_room_news
                async def news(one):
                    await asyncio.sleep(0.001)
                    told.append(one)

                await soon(keeper.linked())
                number = await asyncio.to_thread(joined, ann, "owned:1")
                self.assertIsInstance(number, int)
                refused = await asyncio.to_thread(joined, bob, "owned:1")
                self.assertEqual(refused, ("FORBIDDEN", "not you"))
                self.assertEqual(asked, [("CREATE", "ann"), ("JOIN", "bob")])
                self.assertEqual(await asyncio.to_thread(publish, ann, number, b"e4"), 1)
                self.assertEqual(await keeper.room_publish("owned:1", "check"), 2)
                report = await keeper.room_add("owned:1", ["bob", "nobody"], carry=True)
                self.assertEqual(report.accepted, 1)
                self.assertEqual(report.failures, (usher_backend.Failure("nobody", "NOT_ONLINE"),))
                pages = [page async for page in keeper.room_members("owned:1", limit=1)]
                members = [(each.user, each.carry) for page in pages for each in page.members]
                self.assertEqual(members, [("ann", False), ("bob", True)])
                self.assertEqual(pages[-1].offset, 2)
                (info,) = [room async for room in keeper.rooms("owned:")]
                self.assertEqual((info.name, info.members, info.owner), ("owned:1", 2, "keeper"))
                self.assertEqual((await keeper.room_remove("owned:1", "bob", "cheats")).accepted, 1)
                self.assertTrue(await keeper.room_close("owned:1", "the end"))
                self.assertFalse(await keeper.room_close("owned:2"))
                await until(lambda: told and told[-1].kind == "CLOSED")
                self.assertEqual([one.news_seq for one in told], list(range(1, len(told) + 1)))
                lines = [(one.kind, one.user, one.text, one.cause) for one in told]
                self.assertEqual(
                    [line for line in lines if line[0] not in ("LEFT", "CLOSED")],
                    [
                        ("OPENED", "", "", "ASKED"),
                        ("JOINED", "ann", "", "ASKED"),
                        ("MESSAGE", "ann", "e4", "UNKNOWN"),
                        ("MESSAGE", "", "check", "UNKNOWN"),
                        ("JOINED", "bob", "", "SERVICE"),
                    ],
                )
                self.assertIn(("LEFT", "bob", "", "SERVICE"), lines)

    async def test_news_over_a_link_that_is_cut(self):
        """All of them, in order; what comes again was not acknowledged, and says so."""
        count = 150
        port = free_port()
        # On a slow machine it may take long until a connection lives for a whole Fetch.
        options = {**OPTIONS, "link.urls": f"tcp://127.0.0.1:{port}", "link.grace_ms": 60000}
        with Broker(options) as broker, client_of(broker, "ann") as ann, Relay(
            ("127.0.0.1", port)
        ) as relay:
            link = f"tcp://127.0.0.1:{relay.address[1]}"
            async with usher_backend.service("keeper", link=link, instance="1") as keeper:
                told = []
                keeper.on_room_ask(lambda ask: True)

                @keeper.on_room_news
                async def news(one):
                    await asyncio.sleep(random.random() / 200)
                    told.append(one)

                await soon(keeper.linked())
                number = await asyncio.to_thread(joined, ann, "owned:1")

                def play():
                    return [publish(ann, number, b"%d" % n) for n in range(1, count + 1)]

                playing = asyncio.create_task(asyncio.to_thread(play))
                while not playing.done():
                    await asyncio.sleep(0.02 + random.random() / 20)
                    relay.cut()
                self.assertEqual(await playing, list(range(1, count + 1)))
                await until(lambda: told and told[-1].offset == count)
                seqs = [one.news_seq for one in told]
                self.assertEqual(sorted(set(seqs)), list(range(1, count + 3)))
                for i, one in enumerate(told):
                    new = one.news_seq == 1 or one.news_seq - 1 in seqs[:i]
                    self.assertTrue(one.redelivered or new, one)
                    if one.kind == "MESSAGE":
                        self.assertEqual(int(one.text), one.offset)

    async def test_an_instance_that_dies(self):
        """What it had not done goes to the next one, in order."""
        missed_soon = {**OPTIONS, "link.fetch_timeout_ms": 2000}
        with Broker(missed_soon) as broker, client_of(broker, "ann") as ann:
            first, second = [], []
            gate = asyncio.Event()

            async def follow(keeper, told, most):
                keeper.on_room_ask(lambda ask: True)

                @keeper.on_room_news
                async def news(one):
                    if len(told) == most:
                        await gate.wait()
                    told.append(one)

                await soon(keeper.linked())

            with self.assertRaises(ZeroDivisionError):
                async with self.service(broker, instance="a") as keeper:
                    await follow(keeper, first, 5)
                    number = await asyncio.to_thread(joined, ann, "owned:1")
                    for n in range(10):
                        await asyncio.to_thread(publish, ann, number, b"%d" % n)
                    await until(lambda: len(first) == 5)
                    raise ZeroDivisionError  # it leaves at once, without a word
            async with self.service(broker, instance="b") as keeper:
                await follow(keeper, second, -1)
                await asyncio.to_thread(publish, ann, number, b"10")
                await until(lambda: second and second[-1].offset == 11)
            seqs = [one.news_seq for one in second]
            self.assertEqual(seqs, list(range(seqs[0], seqs[0] + len(seqs))))
            self.assertLessEqual(seqs[0], 6)
            self.assertTrue(all(one.redelivered for one in second if one.news_seq <= 6))
            self.assertEqual([one.news_seq for one in first], [1, 2, 3, 4, 5])


if __name__ == "__main__":
    unittest.main()
