# SPDX-License-Identifier: Apache-2.0
"""Bytes of people who mean harm, from many connections for a while: usherd lives, a bystander does
not notice, each bad connection ends with a declared reason, memory is bounded. And the contrary:
good bytes, however they are cut, have the outcome that they have in one piece.

USHER_PLAY_STREAMS: how many hostile streams."""

import collections
import os
import socket
import time

from usherplay import (
    Broker,
    Client,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
    scaled,
    seed,
    varint,
)

REASONS = ("PROTOCOL_ERROR", "AUTH_FAILED", "AUTH_TIMEOUT", "LOGGED_OUT", "REPLACED")
GROWTH_BYTES = 64 << 20
AT_ONCE = 8
DECLARED_SECONDS = 20


# --- lengths -------------------------------------------------------------------------------------


def lengths(limit):
    """[(length, its bytes as a varint, whether a frame of that length may be)]"""
    powers = [(1 << 31) - 1, 1 << 31, (1 << 31) + 1, (1 << 32) - 1, 1 << 32, 1 << 63, (1 << 64) - 1]
    return [(size, varint(size), size <= limit) for size in [0, 1, limit, limit + 1] + powers]


def close_of(client, timeout=DECLARED_SECONDS):
    """The reason that was declared before the end, or None."""
    frames = client.read_to_end(timeout)
    if not frames or frames[-1].WhichOneof("body") != "close":
        return None
    return client_pb.Close.Reason.Name(frames[-1].close.reason)


def scene_lengths():
    """The length in front of a frame at all its edges, before and after login."""
    cases = 0
    with Broker({"limits.login_deadline_ms": 60000}) as broker, Client(broker) as control:
        control.login("control")
        before = broker.resident_bytes()
        for logged_in in (False, True):
            for size, prefix, may_be in lengths(65536 if logged_in else 4096):
                for rest in (b"", b"\0" * 64):
                    with Client(broker) as client:
                        client.name = f"length {size}, {len(rest)} bytes, logged in: {logged_in}"
                        if logged_in:
                            client.login("alice")
                        client.send_bytes(prefix)
                        try:
                            client.send_bytes(rest)
                        except OSError:
                            pass
                        if not may_be:
                            check_equal(close_of(client), "PROTOCOL_ERROR", client.name)
                        elif size > 1000:  # only begun: it is waited for
                            client.expect_nothing(0.02)
                    cases += 1
            control.ping()
        grown = broker.resident_bytes() - before
        check(grown < GROWTH_BYTES, f"memory grew by {grown >> 20} MiB")
        print(f"     {cases} cases, memory grew by {grown >> 10} KiB")


# --- streams -------------------------------------------------------------------------------------


def good_frames(client):
    return [
        client.request("ping", 1, stamp=3),
        client.request("send", 2, to="control"),
        client.request("call", 3, service="s", method="m", payload=b"p" * 40),
        client.request("ack", 4, seq=0),
        client.request("ping", 0, stamp=1 << 63),
        client.request("send", 5, to="nobody", payload=b"x" * 300, until=1),
        client.request("login", 6, username="other"),
        client.request("resume", 7, username="x", epoch=1, secret=b"s" * 16),
        client.request("logout", 8),
    ]


def stream(random, client):
    kind = random.randrange(4)
    if kind == 0:
        return random.randbytes(random.choice((1, 7, 100, 5000)))
    data = bytearray(
        b"".join(
            frame_bytes(frame)
            for frame in random.choices(good_frames(client), k=random.randrange(1, 12))
        )
    )
    if kind == 1:  # lengths that promise something else
        place = random.randrange(len(data))
        data[place:place] = varint(random.choice((0, 1, 127, 128, 1 << 14, 1 << 31, 1 << 63)))
    for _ in range(random.randrange(1, 9)):
        place = random.randrange(len(data))
        what = random.randrange(4)
        if what == 0:
            data[place] = random.randrange(256)
        elif what == 1:
            data[place] ^= 1 << random.randrange(8)
        elif what == 2:
            del data[place : place + random.randrange(1, 5)]
            data = data or bytearray(b"\xff")
        else:
            data[place:place] = random.randbytes(random.randrange(1, 5))
    return bytes(data)


def let_end(client, reasons):
    """Shuts our side and reads to the end: a reason, or the end of who only said too little."""
    try:
        client.socket.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    reason = close_of(client)
    reasons[reason or ("reset" if "reset" in client.ended else "end")] += 1
    client.close()


def scene_streams():
    """Random and mutated streams, eight connections at a time."""
    random = seed()
    total = int(os.environ.get("USHER_PLAY_STREAMS", scaled(1200, 120)))
    reasons, worst, quiet = collections.Counter(), 0.0, 0.0
    with Broker({"limits.takeovers_per_minute": 0}) as broker, Client(broker) as control:
        control.login("control")
        quiet = max(control.ping() for _ in range(50))
        grown, before = 0, 0
        clients = []
        for number in range(total):
            client = Client(broker)
            if number % 3:
                client.login(f"hostile{number % 32}")
            try:
                client.send_bytes(stream(random, client))
            except OSError:
                pass
            clients.append(client)
            if len(clients) == AT_ONCE:
                let_end(clients.pop(random.randrange(AT_ONCE)), reasons)
            if number % 20 == 0:
                worst = max(worst, control.ping())
                control.frames.clear()  # messages that hostile ones happened to send
            if number == total // 4:
                before = broker.resident_bytes()
            grown = max(grown, broker.resident_bytes() - before if before else 0)
        for client in clients:
            let_end(client, reasons)
        control.ping()
        broker.check_alive()
        unknown = set(reasons) - set(REASONS) - {"end", "reset"}
        check(not unknown, f"connections ended with {unknown}")
        check(reasons["PROTOCOL_ERROR"] > total // 4, f"too few were refused: {reasons}")
        check_equal(reasons["reset"], 0, "connections that were reset before their reason arrived")
        check(grown < GROWTH_BYTES, f"memory grew by {grown >> 20} MiB")
        eventually(lambda: broker.descriptors()["socket"] < 20, "closed sockets of gone peers", 10)
        print(
            f"     {total} streams: {dict(reasons)}; a bystander's worst ping {worst * 1000:.1f} "
            f"ms (alone {quiet * 1000:.1f}), memory grew by {grown >> 10} KiB"
        )


def scene_reasons_without_a_hint():
    """Whoever breaks the protocol and keeps his side open is told why and let go, before login and
    after, also in the middle of a flood of his own."""
    bad = frame_bytes(b"\x0f\x01")
    with Broker() as broker, Client(broker) as control:
        control.login("control")
        for ahead in (0, 1, 200, 3000):
            with Client(broker) as client:
                client.login("alice")
                pings = b"".join(frame_bytes(client.request("ping", stamp=n)) for n in range(ahead))
                client.send_bytes(pings + bad)
                frames = client.read_to_end(DECLARED_SECONDS)
                kinds = collections.Counter(frame.WhichOneof("body") for frame in frames)
                check_equal(
                    kinds,
                    collections.Counter(pong=ahead, close=1) + collections.Counter(),
                    f"answers with {ahead} requests in front of the bad frame",
                )
                check_equal(frames[-1].close.reason, client_pb.Close.PROTOCOL_ERROR, "reason")
            control.ping()


# --- the same bytes, cut -------------------------------------------------------------------------


def phases(name):
    """What one user says, and the ids that must be answered before he goes on."""
    pb, frame = client_pb, client_pb.ClientFrame
    return [
        ([frame(id=1, login=pb.Login(username=name, client="split", acks=True))], {1}),
        (
            [
                frame(id=2, ping=pb.Ping(stamp=7)),
                frame(id=3, send=pb.Send(to=name, payload=b"self", until=1)),
                frame(id=4, send=pb.Send(to="no-one", payload=b"x" * 150)),
                frame(id=5, call=pb.Call(service="none", method="m", payload=b"p", timeout_ms=9)),
                frame(id=6, ack=pb.Ack(seq=0)),
                frame(id=7),  # without a body
                frame(id=8, send=pb.Send(to="a b")),
            ],
            {2, 4, 5, 6, 7, 8, "message"},
        ),
        ([frame(id=9, ack=pb.Ack(seq=1))], {3, 9}),
        ([frame(id=10, logout=pb.Logout())], {10, "close"}),
    ]


def normal(frame, epoch):
    """The bytes of a frame without what differs each time."""
    kind = frame.WhichOneof("body")
    if kind == "welcome":
        frame.welcome.ClearField("epoch")
        frame.welcome.ClearField("secret")
        frame.welcome.ClearField("time_ms")
    elif kind in ("pong", "message"):
        getattr(frame, kind).time_ms = 0
    elif kind == "done" and frame.done.epoch == epoch:
        frame.done.epoch = 1
    return frame.SerializeToString(deterministic=True)


def converse(broker, name, cut):
    """Says everything; cut(phase, data) gives the pieces. What came back, by id or kind."""
    got, epoch = {}, 0
    with Client(broker) as client:
        client.name = name
        for number, (frames, awaited) in enumerate(phases(name)):
            for piece in cut(number, b"".join(map(frame_bytes, frames))):
                client.send_bytes(piece)
            while not awaited <= set(got):
                frame = client.next_frame()
                check(frame is not None, f"no answer; {awaited - set(got)} are awaited")
                if frame.WhichOneof("body") == "welcome":
                    epoch = frame.welcome.epoch
                key = frame.id or frame.WhichOneof("body")
                check(key not in got, f"a second answer to {key}")
                got[key] = normal(frame, epoch)
        client.expect_eof()
    return got


def cut_at(data, places):
    ends = sorted(set(places) | {len(data)})
    return [data[begin:end] for begin, end in zip([0] + ends, ends) if end > begin]


def scene_split_everything():
    """Every message type, cut at every place, and in single bytes: the same answers, byte for
    byte. TCP_NODELAY makes a segment of each piece; whether usherd reads them apart is chance, so
    many places are tried."""
    random = seed()
    name = "split-user"
    sizes = [len(b"".join(map(frame_bytes, frames))) for frames, _ in phases(name)]
    plans = [
        (number, (place,))
        for number, size in enumerate(sizes)
        for place in range(1, size, 1 if scaled(10) == 10 else 7)
    ]
    plans += [(number, range(1, size)) for number, size in enumerate(sizes)]
    plans += [
        (1, random.sample(range(1, sizes[1]), random.randrange(2, 12)))
        for _ in range(scaled(100, 10))
    ]
    with Broker({"limits.takeovers_per_minute": 0}) as broker:
        wanted = converse(broker, name, lambda _, data: [data])
        check_equal(set(wanted), set(range(1, 11)) | {"message", "close"}, "what came back")
        for number, places in plans:
            got = converse(
                broker, name, lambda phase, data: cut_at(data, places if phase == number else ())
            )
            check_equal(got, wanted, f"the outcome of part {number} cut at {list(places)}")
    print(f"     {len(plans)} ways to cut {sum(sizes)} bytes")


def scene_split_across_the_login():
    """What is sent before the Welcome breaks the protocol, and the same way wherever it is cut:
    the request is refused by its id, never served and never taken for a part of the login."""
    outcomes = collections.Counter()
    with Broker({"limits.takeovers_per_minute": 0}) as broker:
        login = frame_bytes(client_pb.ClientFrame(id=1, login=client_pb.Login(username="early")))
        ping = frame_bytes(client_pb.ClientFrame(id=2, ping=client_pb.Ping(stamp=1)))
        data = login + ping
        for place in range(1, len(data) + 1):
            with Client(broker) as client:
                client.name = f"cut at {place}"
                client.send_bytes(data[:place])
                if place < len(data):
                    client.send_bytes(data[place:])
                kinds = []
                for _ in range(3):  # the Welcome, the answer, perhaps Close
                    frame = client.next_frame()
                    kinds.append((frame.id, frame.WhichOneof("body")))
                    if kinds[-1][1] in ("pong", "close"):
                        break
            # Read together: refused. The rest may also come late enough to be a good request.
            check(
                kinds
                in ([(1, "welcome"), (2, "error"), (0, "close")], [(1, "welcome"), (2, "pong")]),
                f"cut at {place}: {kinds}",
            )
            outcomes[kinds[1][1]] += 1
        check(outcomes["error"] > 0, "no request was ever read before the Welcome")
        print(f"     {dict(outcomes)}")


def scene_many_in_one_segment():
    """Thousands of frames of all kinds in one write: each answered once, in the order of reading
    as far as order is promised."""
    count = scaled(3000, 300)
    with Broker() as broker, Client(broker) as alice:
        alice.login("alice", acks=False)
        parts, pings, sends = [], [], []
        for number in range(count):
            if number % 3 == 0:
                frame = alice.request("ping", stamp=number)
                pings.append(number)
            elif number % 3 == 1:
                frame = alice.request("send", to="nobody", payload=b"x" * (number % 90))
                sends.append(frame.id)
            else:
                frame = client_pb.ClientFrame()
            parts.append(frame_bytes(frame))
        began = time.monotonic()
        alice.send_bytes(b"".join(parts))
        stamps, refused = [], set()
        while len(stamps) < len(pings) or len(refused) < len(sends):
            frame = alice.next_frame(DECLARED_SECONDS)
            check(frame is not None, f"{len(stamps)} pongs and {len(refused)} errors, then nothing")
            if frame.WhichOneof("body") == "pong":
                stamps.append(frame.pong.stamp)
            else:
                check_equal(frame.WhichOneof("body"), "error", "the answer to a Send to nobody")
                check(frame.id not in refused, f"a second answer to {frame.id}")
                refused.add(frame.id)
        check_equal(stamps, pings, "the order of the pongs")
        check_equal(refused, set(sends), "the sends that were answered")
        print(f"     {count} frames in one write, answered in {time.monotonic() - began:.3f} s")


if __name__ == "__main__":
    play(
        scene_lengths,
        scene_streams,
        scene_reasons_without_a_hint,
        scene_split_everything,
        scene_split_across_the_login,
        scene_many_in_one_segment,
    )
