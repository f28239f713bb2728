# SPDX-License-Identifier: Apache-2.0
"""WebSocket from outside, 3: frames made by hand, right and wrong, whole and byte by byte, before the login
and behind it.

Every row says by which code the broker closes, behind which Close of usher, which line it logs, and what
it counts; two bystanders, one by TCP and one by WebSocket, notice nothing."""

import contextlib
import threading
import time

from usherplay import (
    Broker,
    Client,
    Failed,
    TlsBroker,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
    scaled,
    varint,
)
from usherplay.figures import percentile, pings, stats
from usherplay.strangers import Witnesses, good_ping, send_to
from usherplay.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    ws_close,
    ws_frame,
)


SLOW_BUILD = scaled(10) < 10  # whose sanitizer keeps what was freed
SECOND = 1.0
FRAGMENTS = 64  # ws.fragments
CONTROLS = 20  # ws.control_per_second

# --- each frame -----------------------------------------------------------------------------------


def broken_frames(limit):
    """What, bytes, code of WebSocket. limit: of a frame of usher's."""
    ping = good_ping()
    yield "no mask", ws_frame(BINARY, ping, key=None), 1002
    yield "a ping without mask", ws_frame(PING, b"", key=None), 1002
    yield "a Close without mask", ws_close(1000, key=None), 1002
    for bit in (1, 2, 4):
        yield f"reserved bit {bit}", ws_frame(BINARY, ping, reserved=bit), 1002
        yield f"reserved bit {bit} of a ping", ws_frame(PING, b"x", reserved=bit), 1002
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode}", ws_frame(opcode, ping[:20]), 1002
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "Close")):
        yield f"a {name} of 126 bytes", ws_frame(opcode, b"\x03\xe8" + b"p" * 124), 1002
        yield f"a {name} of 65536 bytes", ws_frame(opcode, b"\x03\xe8" * 32768), 1002
        yield f"a {name} in fragments", ws_frame(opcode, b"\x03\xe8", fin=False), 1002
    yield "a continuation of nothing", ws_frame(CONTINUATION, ping), 1002
    yield "a fragment that continues nothing", ws_frame(CONTINUATION, ping, fin=False), 1002
    yield "a continuation behind a whole message", (
        ws_frame(BINARY, b"") + ws_frame(CONTINUATION, ping)
    ), 1002
    inside = ws_frame(BINARY, ping[:3], fin=False)
    yield "a message inside a message", inside + ws_frame(BINARY, ping), 1002
    yield "a fragment that begins inside a message", inside + inside, 1002
    yield "text inside a message", inside + ws_frame(TEXT, b"x"), 1002
    for size in (1 << 63, (1 << 64) - 1):
        yield f"a length of {size}", ws_frame(BINARY, b"", form=64, told=size), 1002
    yield "125 bytes in 16 bits", ws_frame(BINARY, b"\0" * 125, form=16), 1002
    yield "a ping in 16 bits", ws_frame(PING, b"p", form=16), 1002
    yield "nothing in 64 bits", ws_frame(BINARY, b"", form=64), 1002
    yield "65535 bytes in 64 bits", ws_frame(BINARY, b"\0" * 65535, form=64), 1002
    yield "a Close of one byte", ws_frame(CLOSE, b"\x03"), 1002
    yield "a Close of one byte that begins a good code", ws_frame(CLOSE, b"\x0c"), 1002
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65535):
        yield f"a Close with {code}", ws_close(code), 1002
    yield "a message that ends within a frame", ws_frame(BINARY, ping[:-1]), 1002
    yield "a message that ends within a length", ws_frame(BINARY, b"\x80"), 1002
    yield "fragments that end within a frame", (inside + ws_frame(CONTINUATION, ping[3:-1])), 1002
    yield "a length of six bytes", ws_frame(BINARY, b"\x80\x80\x80\x80\x80\x01"), 1002
    yield "a length that never ends", ws_frame(BINARY, b"\xff" * 32), 1002
    yield "a whole frame and a half", ws_frame(BINARY, b"\0" + ping[:4]), 1002
    yield "text", ws_frame(TEXT, b"hello"), 1003
    yield "text in fragments", ws_frame(TEXT, b"hel", fin=False), 1003
    yield "empty text", ws_frame(TEXT, b""), 1003
    for what, text in (
        ("half a character", b"\xe2\x82"),
        ("a long form", b"\xc0\xaf"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("a byte of none", b"\xff"),
    ):
        yield f"a Close with {what}", ws_close(1000, b"bye " + text), 1007
    yield "a message that is too large", ws_frame(BINARY, b"", told=limit + 6), 1009
    yield "a message of 2^40", ws_frame(BINARY, b"", form=64, told=1 << 40), 1009
    yield "a message of 2^63 - 1", ws_frame(BINARY, b"", form=64, told=(1 << 63) - 1), 1009
    yield "a frame that is too large", ws_frame(BINARY, varint(limit + 6), told=limit), 1009
    yield "a frame of 2^35 - 1", ws_frame(BINARY, b"\xff\xff\xff\xff\x7f", told=limit), 1009
    yield "fragments that are too large", (
        ws_frame(BINARY, b"\0" * limit, fin=False) + ws_frame(CONTINUATION, b"", told=6)
    ), 1009
    yield "one fragment too many", (
        ws_frame(BINARY, b"", fin=False) + ws_frame(CONTINUATION, b"", fin=False) * FRAGMENTS
    ), 1009
    yield "too many pings", ws_frame(PING, b"p") * (CONTROLS * 2 + 1), 1008
    yield "too many pongs", ws_frame(PONG, b"p") * (CONTROLS * 2 + 1), 1008


def scene_broken_frames():
    """Each with its code, behind usher's own Close; whole and byte by byte; before the login too."""
    limit = 65536
    limits = {"limits.frame_bytes": limit, "limits.prelogin_bytes": limit + 100000}
    with Broker(limits, ws=True) as broker, Witnesses(broker) as witnesses:
        rows = list(broken_frames(limit))
        for number, row in enumerate(rows):
            broken_row(broker, witnesses, row, False, True, number + 1)
        for row in rows:
            if len(row[1]) < 4096:
                broken_row(broker, witnesses, row, True, True)
            if row[2] != 1009:  # by another limit: scene_message_bytes
                broken_row(broker, witnesses, row, False, False)
        print(f"     {len(rows)} rows, worst ping of a bystander {witnesses.worst * 1000:.1f} ms")


def broken_row(broker, witnesses, row, bytewise, known, count=None):
    """known: one who has logged in. count: of the line that is logged, if it is looked for."""
    what, data, code = row
    what = f"{what}{', byte by byte' if bytewise else ''}{'' if known else ', before the login'}"
    with Client(broker, over="ws", timeout=10) as client:
        if known:
            client.login("alice")
        else:
            client.wire.send(b"")  # waits for the upgrade
        client.name = what
        witnesses.begin(logged=count is not None)
        send_to(client.socket, data, bytewise)
        try:
            frames = client.read_to_end()
        except Failed as error:
            raise Failed(f"{what}: {error}") from None
        check_closed(what, client, frames, code)
    if count is not None:
        witnesses.logged(what, "ws_broken", count, status=code)
    witnesses.counted(what, ws_broken=1, ws_refused=0)
    witnesses.undisturbed(what)


def check_closed(what, client, frames, code):
    """By that code of WebSocket, behind a Close of usher that fits."""
    reason = "RATE_LIMITED" if code == 1008 else "PROTOCOL_ERROR"
    kinds = [frame.WhichOneof("body") for frame in frames]
    check(kinds[-1:] == ["close"], f"{what}: frames {kinds}, then {client.ended}")
    check_equal(frames[-1].close.reason, client_pb.Close.Reason.Value(reason), f"{what}: reason")
    check(client.wire.reader.closed is not None, f"{what}: no Close of WebSocket")
    check_equal(client.wire.reader.closed.code, code, f"{what}: code")


def scene_frames_of_usher_that_cannot_be():
    """In good messages: the same end as by TCP."""
    rows = {
        "a frame a byte too large": varint(65537) + b"x" * 65537,
        "a body that is none": frame_bytes(b"\x08"),
        "a body that is none behind a good one": good_ping() + frame_bytes(b"\x0f\x01"),
    }
    with Broker(ws=True) as broker:
        for what, payload in rows.items():
            for bytewise in (False, True):
                with Client(broker, over="ws") as client:
                    client.login("alice")
                    send_to(
                        client.socket, ws_frame(BINARY, payload), bytewise and len(payload) < 4096
                    )
                    frames = client.read_to_end()
                    check_equal(frames[-1].close.reason, client_pb.Close.PROTOCOL_ERROR, what)
                    check(
                        client.wire.reader.closed.code == 4003,
                        f"{what}: {client.wire.reader.closed}",
                    )
        numbers = stats(broker)
        counted = [numbers[name] for name in ("closed_protocol", "errors_too_large", "ws_broken")]
        check_equal(counted, [4, 2, 0], "counted")


def scene_good_frames():
    """What the RFC allows is taken: fragments, pings among them, empty messages, pongs unasked."""
    ping = good_ping()

    def fragments(*parts, between=b""):
        data = b""
        for number, part in enumerate(parts):
            data += between if number else b""
            opcode = CONTINUATION if number else BINARY
            data += ws_frame(opcode, part, fin=number == len(parts) - 1)
        return data

    rows = {  # what: (bytes, pongs of usher, payloads of WebSocket's pongs)
        "a message": (ws_frame(BINARY, ping), 1, []),
        "two frames in a message": (ws_frame(BINARY, ping + ping), 2, []),
        "two messages": (ws_frame(BINARY, ping) * 2, 2, []),
        "an empty message": (ws_frame(BINARY, b"") + ws_frame(BINARY, ping), 1, []),
        "a message of 126 bytes": (ws_frame(BINARY, b"\0" * (126 - len(ping)) + ping), 1, []),
        "a message of 125 bytes": (ws_frame(BINARY, b"\0" * (125 - len(ping)) + ping), 1, []),
        "a message of 65535 bytes": (ws_frame(BINARY, b"\0" * (65535 - len(ping)) + ping), 1, []),
        "a message of 65536 bytes": (ws_frame(BINARY, b"\0" * (65536 - len(ping)) + ping), 1, []),
        "a mask of zeros": (ws_frame(BINARY, ping, key=bytes(4)), 1, []),
        "fragments of one byte": (fragments(*(bytes([byte]) for byte in ping)), 1, []),
        "empty fragments": (fragments(b"", ping[:2], b"", b"", ping[2:], b""), 1, []),
        "nothing but empty fragments": (fragments(b"", b"", b"") + ws_frame(BINARY, ping), 1, []),
        "a ping inside a message": (
            fragments(ping[:1], ping[1:3], ping[3:], between=ws_frame(PING, b"in")),
            1,
            [b"in", b"in"],
        ),
        "the most fragments": (fragments(ping, *[b""] * (FRAGMENTS - 1)), 1, []),
        "the largest ping": (ws_frame(PING, b"p" * 125), 0, [b"p" * 125]),
        "an empty ping": (ws_frame(PING), 0, [b""]),
        "a pong that nobody asked for": (ws_frame(PONG, b"news") + ws_frame(BINARY, ping), 1, []),
        "a ping behind a frame": (ws_frame(BINARY, ping) + ws_frame(PING, b"b"), 1, [b"b"]),
    }
    with Broker(ws=True) as broker:
        for what, (data, answers, pongs) in rows.items():
            for bytewise in (False, True):
                with Client(broker, over="ws") as client:
                    client.login("alice")
                    client.name = what
                    send_to(client.socket, data, bytewise and len(data) < 4096)
                    for _ in range(answers):
                        client.expect("pong", id=77, stamp=5)
                    eventually(
                        lambda: newest_pongs(client) or not pongs or client.receive_more(0.02), what
                    )
                    check_pongs(what, newest_pongs(client), pongs)
                    client.ping()


def newest_pongs(client):
    return [event.payload for event in client.wire.events if event.kind == "pong"]


def check_pongs(what, got, sent):
    """Of several only the last has to be answered."""
    if not sent:
        check_equal(got, [], f"{what}: pongs")
        return
    check(got and got[-1] == sent[-1] and len(got) <= len(sent), f"{what}: pongs {got} for {sent}")


def scene_frames_over_tls():
    limit = 65536
    with TlsBroker({"limits.frame_bytes": limit}, ws=True) as broker:
        for what, data, code in broken_frames(limit):
            with WssClient(broker) as client:
                client.login("alice")
                send_to(client.socket, data, False)
                check_closed(what, client, client.read_to_end(), code)
        check_equal(stats(broker)["ws_broken"], len(list(broken_frames(limit))), "counted")


class WssClient(Client):
    def __init__(self, broker, **others):
        self._context = broker.context()
        super().__init__(broker.wss_address, over="ws", **others)

    def _connect(self):
        super()._connect()
        self.socket = self._context.wrap_socket(self.socket, server_hostname="localhost")


# --- limits and floods ----------------------------------------------------------------------------


def scene_message_bytes():
    """A message may hold limits.frame_bytes and five more; before the login limits.prelogin_bytes."""
    limit = 1024
    with Broker({"limits.frame_bytes": limit, "limits.prelogin_bytes": 512}, ws=True) as broker:
        for size, taken in ((limit + 5, True), (limit + 6, False)):
            for parts in (1, 2, 3):
                with Client(broker, over="ws") as client:
                    client.login("alice")
                    payload = b"\0" * (size - len(good_ping())) + good_ping()
                    cuts = [size * part // parts for part in range(parts + 1)]
                    for part in range(parts):
                        send_to(
                            client.socket,
                            ws_frame(
                                CONTINUATION if part else BINARY,
                                payload[cuts[part] : cuts[part + 1]],
                                fin=part == parts - 1,
                            ),
                            False,
                        )
                    if taken:
                        client.expect("pong", id=77)
                    else:
                        what = f"{size} bytes in {parts}"
                        check_closed(what, client, client.read_to_end(), 1009)
        for told, code in ((512 + 6, 1009), (1 << 20, 1009)):
            with Client(broker, over="ws") as client:
                client.wire.send(b"")
                send_to(client.socket, ws_frame(BINARY, b"", told=told), False)
                check_closed(f"{told} bytes before the login", client, client.read_to_end(), code)


def scene_fragments():
    """At n and n + 1, by another limit."""
    for most in (1, 4):
        with Broker({"ws.fragments": most}, ws=True) as broker:
            for count in (most, most + 1):
                with Client(broker, over="ws") as client:
                    client.login("alice")
                    ping, data = good_ping(), b""
                    for number in range(count):
                        last = number == count - 1
                        part = ping[number:] if last else ping[number : number + 1]
                        data += ws_frame(CONTINUATION if number else BINARY, part, fin=last)
                    client.socket.sendall(data)
                    if count == most:
                        client.expect("pong", id=77)
                    else:
                        check_closed(f"{count} fragments", client, client.read_to_end(), 1009)


def scene_fragments_without_end():
    """They cost no more than a frame that does not end, and hold nobody else up."""
    count = scaled(400, 40)
    size = 60000
    options = {
        "ws.fragments": 65535,
        "session.heartbeat_ms": 600000,
        "limits.prelogin_connections": 100000,
    }
    grown = {}
    for over in ("tcp", "ws"):
        with Broker(options, ws=True) as broker, Client(broker, over="tcp") as bystander:
            bystander.login("bystander")
            held = []
            for number in range(count):
                client = Client(broker, over=over)
                client.login(f"held{number}")
                held.append(client)
            before = broker.resident_bytes()
            piece = varint(size + 1000) + b"x" * size
            for client in held:
                if over == "tcp":
                    client.socket.sendall(piece)
                else:
                    client.socket.sendall(
                        b"".join(
                            ws_frame(CONTINUATION if at else BINARY, piece[at : at + 64], fin=False)
                            for at in range(0, len(piece), 64)
                        )
                    )
            sent = count * size
            eventually(
                lambda: stats(broker)["bytes_in"] >= sent,
                "all of it is read",
                timeout=30,
                pause=0.1,
            )
            worst = max(bystander.ping() for _ in range(50))
            grown[over] = broker.resident_bytes() - before
            check(worst < 2, f"a bystander waited {worst:.2f} s")
            for client in held:
                client.drop()
            bystander.ping()
    print(
        f"     {count} frames of {size} bytes that do not end: {grown['tcp'] >> 20} MiB by TCP, "
        f"{grown['ws'] >> 20} MiB in fragments of 64 bytes"
    )
    check(grown["ws"] < 1.3 * grown["tcp"] + (8 << 20) or SLOW_BUILD, f"{grown}")


def scene_controls_per_second():
    """At n and n + 1 in one segment."""
    limit = 5
    with Broker({"ws.control_per_second": limit}, ws=True) as broker:
        for opcode in (PING, PONG):
            with Client(broker, over="ws") as client:
                client.login("alice")
                client.socket.sendall(ws_frame(opcode, b"n") * limit)
                client.ping()
                time.sleep(SECOND + 0.1)
                client.socket.sendall(ws_frame(opcode, b"n") * limit)
                client.ping()
            with Client(broker, over="ws") as client:
                client.login("alice")
                client.socket.sendall(ws_frame(opcode, b"n") * (limit + 1))
                check_closed(f"opcode {opcode}", client, client.read_to_end(), 1008)
        numbers = stats(broker)
        check_equal((numbers["ws_broken"], numbers["closed_rate_limited"]), (2, 2), "counted")


def scene_flood_of_pings():
    """At full speed, without reading a Pong: closed at once, nothing piles up."""
    with Broker(ws=True) as broker, Client(broker, over="tcp") as bystander:
        bystander.login("bystander")
        before = pings(bystander, 0.3)
        memory = broker.resident_bytes()
        stop = threading.Event()
        ends = []

        def attack(number):
            while not stop.is_set():
                with Client(broker, over="ws", receive_buffer=4096, timeout=20) as client:
                    client.login(f"flood{number}")
                    with contextlib.suppress(OSError):
                        for _ in range(50):
                            client.socket.sendall(ws_frame(PING, b"p" * 125) * 200)
                    ends.append(True)

        threads = [threading.Thread(target=attack, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        during = pings(bystander, 1.0)
        stop.set()
        for thread in threads:
            thread.join()
        numbers = stats(broker)
        grown = broker.resident_bytes() - memory
        print(
            f"     {len(ends)} floods, {numbers['ws_broken']} ended for it, bystander p99 "
            f"{percentile(before, .99) * 1000:.2f} -> {percentile(during, .99) * 1000:.2f} ms, "
            f"memory {grown >> 10:+} KiB"
        )
        check(numbers["ws_broken"] > 0, "no flood was ended")
        check(max(during) < 2, f"a bystander waited {max(during):.2f} s")
        check(grown < 32 << 20 or SLOW_BUILD, f"{grown >> 10} KiB more")


def scene_pings_before_the_login():
    """Count as bytes, and so come to an end."""
    limit = 256
    options = {"limits.prelogin_bytes": limit, "ws.control_per_second": 255}
    with Broker(options, ws=True) as broker:
        for opcode in (PING, PONG):
            with Client(broker, over="ws") as client:
                client.wire.send(b"")
                sent = 0
                while not client.ended and sent < 100 * limit:
                    send_to(client.socket, ws_frame(opcode, b"p" * 100), False)
                    sent += 106
                    client.receive_more(0.02)
                frames = client.read_to_end()
                check_equal(frames[-1].close.reason, client_pb.Close.PROTOCOL_ERROR, "reason")
                check_equal(client.wire.reader.closed.code, 4003, "code")
                print(f"     closed after {sent} bytes by a limit of {limit}")
                check(limit < sent < 4 * limit, f"{sent} bytes")


def scene_pings_amid_a_flood():
    """A Pong never stands within a message: neither while the socket takes parts of messages, nor while
    what waits for it is written."""
    count = scaled(6000, 1500)
    options = {
        "ws.control_per_second": 255,
        "limits.inbox_messages": 100000,
        "limits.inbox_bytes": 100 << 20,
        "limits.output_bytes": 100 << 20,
        "limits.output_soft_bytes": 50 << 20,
    }
    with Broker(options, ws=True) as broker, Client(broker, over="tcp") as bob:
        bob.login("bob")
        for reads in (True, False):
            with Client(broker, over="ws", receive_buffer=8192, timeout=60) as alice:
                alice.login("alice")
                pinged = seen = 0
                for number in range(count):
                    bob.post("send", id=0, to="alice", payload=b"f" * (number % 3000))
                    if number % 50 == 0:
                        bob.ping(timeout=20)
                        pinged += 1
                        alice.socket.sendall(ws_frame(PING, b"%d" % pinged))
                    if reads:
                        alice.receive_more(0.0001)
                while seen < count:
                    check_equal(
                        len(alice.expect("message").message.payload), seen % 3000, "payload"
                    )
                    seen += 1
                alice.ping()
                pongs = [int(payload) for payload in newest_pongs(alice)]
                check_equal(pongs, sorted(set(pongs)), "the order of pongs")
                check_equal(pongs[-1], pinged, "the last pong")
                how = "read" if reads else "not read"
                print(f"     {count} messages, {how} meanwhile, {pinged} pings, {len(pongs)} pongs")


if __name__ == "__main__":
    play(
        scene_broken_frames,
        scene_frames_of_usher_that_cannot_be,
        scene_good_frames,
        scene_frames_over_tls,
        scene_message_bytes,
        scene_fragments,
        scene_fragments_without_end,
        scene_controls_per_second,
        scene_flood_of_pings,
        scene_pings_before_the_login,
        scene_pings_amid_a_flood,
    )
