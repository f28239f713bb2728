# SPDX-License-Identifier: Apache-2.0
"""What a service in Python costs beside one in C (usher-echo), each asked by turns in one run:

    measure.py [ROUNDS]

Calls one by one (microseconds until the answer) and at once (per second, and processor time of the service for each),
pushes and presence events per second. The figures are those of the machine; the C service is there to
compare with. tests/play and the generated schemas are wanted on PYTHONPATH, as ctest sets it."""

import asyncio
import os
import statistics
import subprocess
import sys
import time

import usher_backend
from usherplay import Backend, Broker, Client, frame_bytes, program

ONE_BY_ONE = 500
AT_ONCE = 10000
WINDOW = 500
PUSHES = 20000
EVENTS = 4000
OPTIONS = {
    "limits.calls_per_user": 10000,
    "limits.takeovers_per_minute": 0,
    "limits.inbox_messages": 4096,
    "store.events_kept": 100000,
}
ECHO = """\
import asyncio, sys, usher_backend

async def main():
    async with usher_backend.service("python", link=sys.argv[1]) as echo:
        @echo.on("echo")
        async def handle(call):
            return call.payload
        await echo.run_forever()

asyncio.run(main())
"""


def cpu_seconds(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one_by_one(client, service):
    took = []
    for _ in range(ONE_BY_ONE):
        began = time.perf_counter()
        client.ask("call", service=service, method="echo", payload=b"x" * 32)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e6


def at_once(client, service, process):
    requests = [
        frame_bytes(client.request("call", service=service, method="echo", payload=b"x" * 32))
        for _ in range(AT_ONCE)
    ]
    before, began = cpu_seconds(process), time.perf_counter()
    sent = answered = 0
    while answered < AT_ONCE:
        room = WINDOW - (sent - answered)
        if room >= WINDOW // 2 and sent < AT_ONCE:
            client.send_bytes(b"".join(requests[sent : sent + room]))
            sent = min(AT_ONCE, sent + room)
        client.receive_more(5)
        for frame in client.frames:
            assert frame.WhichOneof("body") == "reply", frame
        answered += len(client.frames)
        client.frames.clear()
    took = time.perf_counter() - began
    return AT_ONCE / took, (cpu_seconds(process) - before) / AT_ONCE * 1e6


async def pushes(broker):
    """To somebody who is not there: what they cost here and on the link, and nobody's socket."""
    async with usher_backend.service(link=broker.link_url) as shop:
        await shop.linked()
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(0, PUSHES, 2000):
            await asyncio.gather(*(shop.push("away", b"x" * 32) for _ in range(2000)))
        return PUSHES / (time.perf_counter() - began), (time.process_time() - cpu) / PUSHES * 1e6


async def presence(broker, last):
    """The stored stream, read from its beginning."""
    presence = usher_backend.Presence(after=1)
    async with usher_backend.service(link=broker.link_url, presence=presence) as watch:
        done = asyncio.Event()

        @watch.on_presence
        async def changed(event):
            if event.seq >= last:
                done.set()

        began, cpu = time.perf_counter(), time.process_time()
        await done.wait()
        return (last - 1) / (time.perf_counter() - began), (time.process_time() - cpu) / last * 1e6


def fill(broker):
    """Gives the seq of the last event."""
    client = Client(broker)
    for number in range(EVENTS // 2):
        client.login(f"user{number}")
        client.ask("logout")
        client.close()
        client = Client(broker)
    client.close()
    with Backend(broker, hello=False) as tool:
        return tool.all_events()[-1].seq


def main():
    rounds = int(sys.argv[1]) if sys.argv[1:] else 5
    rows = {"C": [], "Python": []}
    others = []
    with Broker(OPTIONS) as broker:
        services = {
            "C": subprocess.Popen(
                [program("usher-echo"), "--url", broker.link_url, "--service", "c"],
                stderr=subprocess.DEVNULL,
            ),
            "Python": subprocess.Popen([sys.executable, "-c", ECHO, broker.link_url]),
        }
        broker.wait_log("link_hello", 20, 2)
        last = fill(broker)
        with Client(broker, timeout=30) as client:
            client.login("ann")
            for _ in range(rounds):
                for name, process in services.items():
                    one = one_by_one(client, name.lower())
                    rows[name].append((one, *at_once(client, name.lower(), process)))
                others.append((*asyncio.run(pushes(broker)), *asyncio.run(presence(broker, last))))
        for process in services.values():
            process.terminate()
            process.wait()
    for name, measured in rows.items():
        one, many, cpu = (statistics.median(column) for column in zip(*measured))
        print(
            f"{name}: {one:.0f} us one by one, {many:.0f} calls/s at once, {cpu:.1f} us of processor each"
        )
    push, push_cpu, events, event_cpu = (statistics.median(column) for column in zip(*others))
    print(
        f"Python: {push:.0f} pushes/s, {push_cpu:.1f} us of processor each; "
        f"{events:.0f} presence events/s, {event_cpu:.1f} us of processor each"
    )


if __name__ == "__main__":
    main()
