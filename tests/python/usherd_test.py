# SPDX-License-Identifier: Apache-2.0
"""The library against the real usherd: order, restarts, cuts after every byte, instances that die."""

import asyncio
import collections
import os
import signal
import sys
import unittest
from unittest import mock

import usher_backend
from scripted import SECONDS, Case, soon, until
from usherplay import Backend, Broker, Client, check_presence, client_pb, free_port
from usherplay.relay import Plan, Relay

# Nobody is lost because the machine is busy; with the first, who ends is missed soon.
QUICK = {
    "link.park_ms": 200,
    "link.grace_ms": 300,
    "link.fetch_timeout_ms": 60000,
    "limits.call_timeout_ms": 60000,
    "limits.call_timeout_max_ms": 60000,
}
SLOW = {**QUICK, "link.grace_ms": 60000}


def client_of(broker, name, **options):
    client = Client(broker, timeout=SECONDS)
    client.login(name, **options)
    return client


def call(client, method="m", payload=b"", service="shop"):
    """The answer: a Reply, or the name of an Error."""
    frame = client.ask("call", SECONDS, service=service, method=method, payload=payload)
    if frame.WhichOneof("body") == "reply":
        return frame.reply
    return client_pb.Error.Code.Name(frame.error.code)


class Usherd(Case):
    def service(self, broker, name="shop", instance="1", **options):
        return usher_backend.service(name, link=broker.link_url, instance=instance, **options)

    async def answered(self, client, method="m", payload=b""):
        """Until it is: while the service is away the broker says so at once."""
        async with asyncio.timeout(SECONDS):
            while True:
                answer = await asyncio.to_thread(call, client, method, payload)
                if not isinstance(answer, str):
                    return answer
                await asyncio.sleep(0.02)

    async def test_calls_in_the_order_of_their_users(self):
        count = 300
        with Broker({**SLOW, "limits.calls_per_user": 1000}) as broker:
            async with self.service(broker, calls_max=16) as shop:
                begun = collections.defaultdict(list)
                most = 0

                @shop.on_call
                async def handle(call):
                    nonlocal most
                    begun[call.user].append(int(call.text))
                    most = max(most, shop.calls_open)
                    await asyncio.sleep(int(call.text) % 3 / 1000)
                    return call.payload

                await soon(shop.linked())

                def talk(name):
                    with client_of(broker, name) as client:
                        ids = [
                            client.post("call", service="shop", method="m", payload=b"%d" % n)
                            for n in range(count)
                        ]
                        got = {}
                        while len(got) < count:
                            frame = client.next_frame(SECONDS)
                            got[frame.id] = int(frame.reply.payload)
                        return [got[id] for id in ids]

                names = ("ann", "bob", "cid")
                for got in await asyncio.gather(*(asyncio.to_thread(talk, name) for name in names)):
                    self.assertEqual(got, list(range(count)))
                self.assertEqual(dict(begun), {name: list(range(count)) for name in names})
                self.assertEqual(most, 16)

    async def test_a_slow_call_holds_nobody_up(self):
        """Its mail is not acknowledged, and what comes behind it is far more than a frame."""
        with Broker(SLOW) as broker:
            async with self.service(broker) as shop:
                gate = asyncio.Event()
                shop.on("slow")(lambda call: gate.wait())
                shop.on_call(lambda call: call.payload)
                await soon(shop.linked())

                def talk():
                    with client_of(broker, "ann") as client:
                        client.post("call", service="shop", method="slow")
                        for _ in range(60):
                            self.assertEqual(len(call(client, payload=b"x" * 1000).payload), 1000)

                await soon(asyncio.to_thread(talk))
                self.assertEqual(shop.link.mail_done, 0)
                self.assertEqual(shop.link.mail_have, 61)
                gate.set()

    async def test_restart_and_kill(self):
        """Presence is whole and single over all of it, from one life of the service to the next."""
        with Broker(SLOW) as broker:
            told, pictures = [], 0

            def follow(shop):
                nonlocal pictures
                pictures = 0
                shop.on("m")(lambda call: b"here")

                @shop.on_presence
                async def changed(event):
                    await asyncio.sleep(0)
                    told.append(event)

                @shop.on_presence_reset
                def reset():
                    nonlocal pictures
                    pictures += 1

            cursor = 0
            for life in range(3):
                presence = usher_backend.Presence(cursor)
                async with self.service(broker, presence=presence) as shop:
                    follow(shop)
                    await soon(shop.linked())
                    for end in (broker.stop, broker.kill):
                        with client_of(broker, f"ann{life}") as ann, client_of(
                            broker, "bob"
                        ) as bob:
                            self.assertEqual((await self.answered(ann)).payload, b"here")
                            bob.ask("logout")
                            await asyncio.to_thread(end)
                            await until(lambda: shop.state == "lost")
                            await asyncio.to_thread(broker.restart)
                    with client_of(broker, "eve") as eve:
                        await self.answered(eve)
                    self.assertEqual(pictures, 1 if life == 0 else 0)
                cursor = shop.presence_seq
                with client_of(broker, "zoe"):  # while nobody looks
                    pass
            async with self.service(broker, presence=usher_backend.Presence(cursor)) as shop:
                follow(shop)
                with Backend(broker, hello=False) as tool:
                    every = tool.all_events()
                await until(lambda: told and told[-1].seq >= every[-1].seq)
            check_presence(every)
            self.assertEqual(
                [event.seq for event in told][: len(every)], [event.seq for event in every]
            )
            self.assertEqual(
                [(event.user, event.epoch) for event in told][: len(every)],
                [(event.user, event.epoch) for event in every],
            )

    async def test_cut_after_every_byte(self):
        """Of the connection that submits and of the one that fetches, in both directions: nothing is done
        twice, and what is said of it is true."""
        port = free_port()
        url = f"tcp://127.0.0.1:{port}"
        with Broker({**SLOW, "link.urls": url}) as broker, OneCut(("127.0.0.1", port)) as relay:
            broker.link_url = "tcp://%s:%d" % relay.address
            with mock.patch("usher_backend.channel.backoff", lambda _: 0), client_of(
                broker, "ann"
            ) as ann:
                async with self.service(broker) as shop:
                    shop.on_call(lambda call: call.payload)
                    await soon(shop.linked())
                    outcomes = collections.Counter()
                    number = 0
                    for direction, most in (("cut_up", 70), ("cut_down", 60)):
                        for after in range(most):
                            relay.once(Plan(**{direction: after}), shop._channels[1])
                            number += 1
                            outcomes[await self.one_push(shop, ann, number)] += 1
                    for direction, most in (("cut_up", 40), ("cut_down", 60)):
                        for after in range(most):
                            relay.once(Plan(**{direction: after}), shop._channels[0])
                            number += 1
                            answer = await self.answered(ann, payload=b"%d" % number)
                            self.assertEqual(answer.payload, b"%d" % number)
                    self.assertGreater(relay.cuts, 150)
                    self.assertEqual(outcomes["accepted"], 130)

    async def one_push(self, shop, ann, number):
        try:
            report = await soon(shop.push("ann", b"%d" % number))
            self.assertEqual(report.accepted, 1)
            outcome = "accepted"
        except usher_backend.Lost:
            outcome = "unknown"
        await soon(shop.push("ann", b"mark"))
        got = []
        while got[-1:] != [b"mark"]:
            frame = await asyncio.to_thread(ann.next_frame, SECONDS)
            got.append(frame.message.payload)
        self.assertIn(got.count(b"%d" % number), (1,) if outcome == "accepted" else (0, 1))
        self.assertEqual(set(got) - {b"mark"} - {b"%d" % number}, set())
        return outcome

    async def test_an_instance_that_is_killed(self):
        """With calls open: another one gets them, in their order, marked; and the user stays there."""
        with Broker(QUICK) as broker:
            dead = await asyncio.create_subprocess_exec(
                sys.executable, "-c", HANGS, broker.link_url, stdout=asyncio.subprocess.PIPE
            )
            with client_of(broker, "ann") as ann:
                self.assertEqual(await soon(dead.stdout.readline()), b"linked\n")
                for number in range(5):
                    ann.post("call", service="shop", method="m", payload=b"%d" % number)
                for number in range(5):
                    self.assertEqual(await soon(dead.stdout.readline()), b"%d\n" % number)
                async with self.service(broker, instance="2") as shop:
                    got = []

                    @shop.on_call
                    def handle(call):
                        got.append((call.text, call.redelivered))
                        return call.payload

                    await soon(shop.linked())
                    dead.send_signal(signal.SIGKILL)
                    await dead.wait()
                    dead._transport.close()
                    for number in range(5):
                        frame = await asyncio.to_thread(ann.next_frame, SECONDS)
                        self.assertEqual(frame.reply.payload, b"%d" % number)
                    self.assertEqual(got, [(str(number), True) for number in range(5)])
                    self.assertEqual((await self.answered(ann, payload=b"5")).payload, b"5")
                    self.assertEqual(got[-1], ("5", False))

    async def test_leaving_in_order_gives_nothing_twice(self):
        # One that goes between two Fetches is missed when it has asked for nothing for so long.
        with Broker({**QUICK, "link.fetch_timeout_ms": 5000}) as broker, client_of(
            broker, "ann"
        ) as ann:
            got = []
            first = self.service(broker)
            begun, gate = asyncio.Event(), asyncio.Event()

            @first.on_call
            async def handle(call):
                got.append(call.text)
                begun.set()
                await gate.wait()
                return b"first"

            async with first:
                await soon(first.linked())
                ann.post("call", service="shop", method="m", payload=b"1")
                await soon(begun.wait())
                leaving = asyncio.create_task(first.close())
                await asyncio.sleep(0)
                ann.post("call", service="shop", method="m", payload=b"2")
                async with self.service(broker, instance="2") as second:

                    @second.on_call
                    def other(call):
                        got.append(call.text)
                        return b"second"

                    await soon(second.linked())
                    gate.set()
                    await soon(leaving)
                    answers = [await asyncio.to_thread(ann.next_frame, SECONDS) for _ in range(2)]
                    self.assertEqual(
                        [frame.reply.payload for frame in answers], [b"first", b"second"]
                    )
                    self.assertEqual(got, ["1", "2"])

    async def test_pushes_at_a_takeover(self):
        """The epoch of a call: that login or nobody."""
        with Broker(SLOW) as broker:
            async with self.service(broker) as shop:
                epochs = []
                shop.on_call(lambda call: epochs.append(call.epoch))
                with client_of(broker, "ann") as old:
                    await self.answered(old)
                    with client_of(broker, "ann") as new:
                        await self.answered(new)
                        stale = await soon(shop.push("ann", b"old", epoch=epochs[0]))
                        self.assertEqual(stale.failures[0].code, "STALE_EPOCH")
                        self.assertEqual(
                            (await soon(shop.push("ann", "new", epoch=epochs[-1]))).accepted, 1
                        )
                        new.expect("message", payload=b"new", service="shop")
                        self.assertFalse(await soon(shop.kick("ann", epoch=epochs[0])))
                        self.assertTrue(
                            await soon(shop.kick("ann", epoch=epochs[-1], detail="bye"))
                        )
                        self.assertEqual(new.expect_close("KICKED").detail, "bye")
                        self.assertFalse(await soon(shop.kick("nobody")))

    async def test_many_pushes(self):
        """In few Submits, in their order; one more than the queue holds is told so, and waits for room."""
        rounds, many = 4, 500
        options = {**SLOW, "admin.listen": "127.0.0.1:0", "limits.inbox_messages": 4096}
        with Broker(options) as broker, client_of(broker, "ann") as ann:
            async with self.service(broker, queue_commands_max=many) as shop:
                await soon(shop.linked())
                for start in range(0, rounds * many, many):
                    tasks = [
                        asyncio.create_task(shop.push("ann", b"%d" % number))
                        for number in range(start, start + many)
                    ]
                    await asyncio.sleep(0)  # they are in the queue, and none has left it
                    await self.fails(shop.push("ann", b"too many"), usher_backend.QueueFull)
                    await soon(shop.room())
                    for report in await soon(asyncio.gather(*tasks)):
                        self.assertEqual(report.accepted, 1)
                    for number in range(start, start + many):
                        frame = await asyncio.to_thread(ann.expect, "message", SECONDS)
                        self.assertEqual(frame.message.payload, b"%d" % number)
                submits = (await asyncio.to_thread(broker.numbers))["link_submits"]
                self.assertLess(submits, rounds * many / 100)

    async def test_transient(self):
        with Broker(SLOW) as broker:
            async with self.service(broker) as shop:
                with client_of(broker, "ann") as ann:
                    with client_of(broker, "bob"):
                        pass
                    await soon(shop.linked())
                    await self.detached(shop, "bob")
                    report = await soon(shop.push(["ann", "bob"], b"now", transient=True))
                    self.assertEqual((report.accepted, report.dropped, report.failures), (1, 1, ()))
                    ann.expect("message", payload=b"now", seq=0)

    async def test_a_traceparent_unchanged(self):
        """From a client to the service, and from the service to a client; what is none is absent."""
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        with Broker(SLOW) as broker:
            async with self.service(broker) as shop:
                shop.on("given")(lambda call: call.traceparent)
                await soon(shop.linked())
                with client_of(broker, "ann") as ann:
                    for given, wanted in ((parent, parent), ("", ""), ("ff" + parent[2:], "")):
                        body = {"service": "shop", "method": "given", "traceparent": given}
                        frame = await asyncio.to_thread(ann.ask, "call", SECONDS, **body)
                        self.assertEqual(frame.reply.payload.decode(), wanted)
                        await soon(shop.push("ann", b"one", traceparent=given))
                        await soon(shop.push_all(b"all", traceparent=given))
                        for payload in (b"one", b"all"):
                            frame = await asyncio.to_thread(ann.expect, "message", SECONDS)
                            message = frame.message
                            self.assertEqual(
                                (message.payload, message.traceparent), (payload, wanted)
                            )

    async def detached(self, shop, user):
        async with asyncio.timeout(SECONDS):
            while (await shop.lookup([user]))[0].state != "DETACHED":
                await asyncio.sleep(0.01)

    async def test_tokens(self):
        with Broker() as broker:
            path = os.path.join(broker.folder, "token")
            with open(path, "w", encoding="ascii") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write("open sesame\n")
            broker.stop()
            broker.restart({"link.token_file": path})
            async with self.service(broker, token="open barley") as shop:
                error = await self.fails(shop.run_forever(()), usher_backend.Refused)
                self.assertEqual(error.code, "BANNED")
            async with self.service(broker, token=b"open sesame") as shop:
                await soon(shop.linked())
                self.assertEqual((await soon(shop.count()))["sessions"], 0)

    async def test_a_newer_instance_of_the_name(self):
        """The older one is told, and does not fight."""
        with Broker(SLOW) as broker:
            async with self.service(broker) as old:
                await soon(old.linked())
                async with self.service(broker) as new:
                    await soon(new.linked())
                    await self.fails(old.run_forever(()), usher_backend.Refused)
                    self.assertEqual(new.state, "linked")

    async def test_drain(self):
        with Broker(SLOW) as broker:
            async with self.service(broker, instance="a") as a, self.service(
                broker, instance="b"
            ) as b:
                for shop in (a, b):
                    shop.on_call(lambda call, name=shop.instance: name)
                    await soon(shop.linked())
                names = [f"user{number}" for number in range(16)]
                clients = [client_of(broker, name) for name in names]
                before = [(await self.answered(client)).payload for client in clients[:8]]
                told = []
                a.on_drain(lambda *what: told.append(what))
                await soon(a.drain())
                await until(lambda: told)
                self.assertEqual(
                    [(await self.answered(client)).payload for client in clients[8:]], [b"b"] * 8
                )
                again = [(await self.answered(client)).payload for client in clients[:8]]
                self.assertEqual(again, before)
                for client in clients:
                    client.close()

    async def test_logins(self):
        options = {**SLOW, "auth.mode": "service", "auth.service": "door"}
        with Broker(options) as broker:
            async with self.service(broker, "door") as door:

                @door.on_login
                async def judge(login):
                    return {b"yes": True, b"bob": "bob"}.get(login.token, False)

                await soon(door.linked())

                def arrive(name, token):
                    with Client(broker, timeout=SECONDS) as client:
                        frame = client.ask("login", username=name, token=token)
                        if frame.WhichOneof("body") == "welcome":
                            return "welcome"
                        return client_pb.Error.Code.Name(frame.error.code)

                for name, token, wanted in (
                    ("ann", b"yes", "welcome"),
                    ("", b"bob", "welcome"),
                    ("ann", b"no", "UNAUTHENTICATED"),
                ):
                    self.assertEqual(await asyncio.to_thread(arrive, name, token), wanted)
                names = [session.user async for session in door.list()]
                self.assertEqual(names, ["ann", "bob"])
                stats = await soon(door.stats())
                self.assertEqual(stats["logins_refused_service"], 1)


HANGS = """\
import asyncio, sys, usher_backend

async def main():
    async with usher_backend.service("shop", link=sys.argv[1], instance="1") as shop:
        @shop.on_call
        async def handle(call):
            print(call.text, flush=True)
            await asyncio.Event().wait()
        await shop.linked()
        print("linked", flush=True)
        await shop.run_forever()

asyncio.run(main())
"""


class OneCut(Relay):
    """The next connection follows a plan, those behind it pass unharmed."""

    def __init__(self, where):
        super().__init__(where)
        self.cuts = 0
        self.planned = None

    def once(self, plan, channel):
        """For the connection that this channel makes now."""
        self.planned = plan
        if channel._connection is not None:
            channel._connection.close()

    def _accept(self):
        if self.planned is not None:
            self.plan, self.planned = self.planned, None
            self.cuts += 1
        super()._accept()
        self.plan = Plan()


if __name__ == "__main__":
    unittest.main()
