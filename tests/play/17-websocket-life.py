# SPDX-License-Identifier: Apache-2.0
"""WebSocket from outside, 4: the life of a connection that is in. How the broker cuts what it sends into
messages, whom it pings, and what a client sees of each end, his own and usher's."""

import socket
import time

from usherplay import (
    Backend,
    Broker,
    Client,
    backend_pb,
    check,
    check_equal,
    client_pb,
    eventually,
    frame_bytes,
    play,
    scaled,
)
from usherplay.backend import cause_name
from usherplay.figures import stats
from usherplay.strangers import Stranger, Witnesses, good_ping, head, login_of
from usherplay.websocket import (
    BINARY,
    MESSAGE_BYTES_MAX,
    NO_CODE,
    PING,
    PONG,
    ws_close,
    ws_frame,
)


# --- messages of the broker -----------------------------------------------------------------------


class Sizes:
    """The sizes of the messages that come."""

    def __init__(self, client):
        self.sizes = []
        take = client.wire.reader.take

        def noted(data):
            events = take(data)
            self.sizes += [len(event.payload) for event in events if event.kind == "message"]
            return events

        client.wire.reader.take = noted


def scene_burst():
    """300 messages of 1 KB that wait: in few messages of WebSocket, none above 16 KiB."""
    options = {"limits.inbox_messages": 1000, "limits.inbox_bytes": 1 << 20}
    with Broker(options, ws=True) as broker, Client(broker, over="tcp") as bob:
        bob.login("bob")
        with Client(broker, over="ws") as alice:
            welcome = alice.login("alice", acks=True)
        broker.wait_log("detached")
        for number in range(300):
            bob.send("alice", b"%03d" % number + b"k" * 1021)
        for receive_buffer in (None, 4096):
            again = Client(broker, over="ws", receive_buffer=receive_buffer)
            sizes = Sizes(again)
            again.resume(welcome, 0, name="alice")
            payloads = [message.payload for message in again.messages(300)]
            check_equal([int(payload[:3]) for payload in payloads], list(range(300)), "the order")
            sizes = sizes.sizes
            print(f"     300 KB in {len(sizes)} messages of {min(sizes)} to {max(sizes)} bytes")
            check(max(sizes) <= MESSAGE_BYTES_MAX, f"messages of {sizes}")
            check(300 * 1024 / MESSAGE_BYTES_MAX <= len(sizes) < 150, f"{len(sizes)} messages")
            again.drop()
            broker.wait_log("detached", count=2 if receive_buffer is None else 3)


def scene_large_frames():
    """A frame above 16 KiB goes alone, between others."""
    with Broker(ws=True) as broker, Client(broker, over="ws") as alice:
        alice.login("alice")
        sizes = Sizes(alice)
        for size in (16300, 16384, 16385, 60000, 10, 65000):
            alice.post("send", to="alice", payload=b"l" * size)
        got = sorted(len(frame.message.payload) for frame in take_messages(alice, 6))
        check_equal(got, sorted((16300, 16384, 16385, 60000, 10, 65000)), "payloads")
        print(f"     messages of {sizes.sizes} bytes")


def take_messages(client, count):
    messages = []
    while len(messages) < count:
        frame = client.next_frame()
        check(frame is not None, f"only {len(messages)} messages")
        if frame.WhichOneof("body") == "message":
            messages.append(frame)
    return messages


# --- pings of the broker --------------------------------------------------------------------------


def scene_who_sleeps_stays():
    """A page whose script does nothing for three heartbeats: its browser answers pings, so it stays,
    and loses nothing. One whose browser is dead does not stay."""
    heartbeat = 0.5
    options = {"session.heartbeat_ms": int(heartbeat * 1000)}
    with Broker(options, ws=True) as broker, Backend(broker) as backend, Client(
        broker, over="tcp"
    ) as bob:
        bob.login("bob")
        sleeper, dead = Client(broker, over="ws"), Client(broker, over="ws")
        sleeper.login("sleeper")
        dead.login("dead")
        sleeper.wire.pongs = True
        end = time.monotonic() + 6 * heartbeat
        sent = 0
        while time.monotonic() < end:
            bob.ping()
            sleeper.receive_more(0.05)
            if not sent and time.monotonic() > end - 3 * heartbeat:
                for sent in range(20):
                    bob.send("sleeper", b"%d" % sent)
        check_equal(
            [m.payload for m in sleeper.messages(20)], [b"%d" % n for n in range(20)], "lost"
        )
        check(3 <= sleeper.wire.pings <= 8, f"{sleeper.wire.pings} pings in 6 heartbeats")
        frames = dead.read_to_end()
        check_equal(frames[-1].close.reason, client_pb.Close.HEARTBEAT_TIMEOUT, "reason")
        check_equal(dead.wire.reader.closed.code, 4006, "code")
        check(1 <= dead.wire.pings <= 2, f"{dead.wire.pings} pings to one who is dead")
        states = {session.user: session.state for session in backend.list_all()[0]}
        online, detached = backend_pb.SessionInfo.ONLINE, backend_pb.SessionInfo.DETACHED
        check_equal(states, {"bob": online, "sleeper": online, "dead": detached}, "who is there")
        numbers = backend.numbers("stats")
        check(numbers["ws_pings"] >= 4, f"{numbers['ws_pings']} pings counted")
        print(f"     {sleeper.wire.pings} pings to the one, {dead.wire.pings} to the other")
        sleeper.close()
        dead.close()


def scene_who_talks_is_not_pinged():
    """And any word counts, a pong that nobody asked for too."""
    heartbeat = 0.4
    with Broker({"session.heartbeat_ms": int(heartbeat * 1000)}, ws=True) as broker:
        with Client(broker, over="ws") as talker, Client(broker, over="ws") as ponger:
            talker.login("talker")
            ponger.login("ponger")
            end = time.monotonic() + 5 * heartbeat
            while time.monotonic() < end:
                talker.ping()
                ponger.socket.sendall(ws_frame(PONG))
                talker.receive_more(heartbeat / 8)
                ponger.receive_more(0.001)
            check_equal((talker.wire.pings, ponger.wire.pings), (0, 0), "pings")
            check_equal((talker.ended, ponger.ended), (None, None), "ends")


# --- ends -----------------------------------------------------------------------------------------


def scene_codes():
    """What a page sees of usher's own ends: 4000 and the reason, and the detail. The harness checks
    each Close of WebSocket against the Close that came before."""
    seen = set()

    def closed(client, reason):
        client.expect_close(reason)
        number = client_pb.Close.Reason.Value(reason)
        check_equal(client.wire.reader.closed.code, 4000 + number, f"code of {reason}")
        seen.add(reason)
        client.close()

    options = {
        "limits.login_deadline_ms": 400,
        "limits.requests_per_second": 20,
        "limits.output_bytes": 65536,
        "limits.output_soft_bytes": 32768,
    }
    with Broker(options, ws=True) as broker, Backend(broker) as backend:

        def join(name):
            client = Client(broker, over="ws", timeout=10)
            return client, client.login(name)

        older, _ = join("alice")
        newer, welcome = join("alice")
        closed(older, "REPLACED")
        with Client(broker, over="tcp") as resumed:
            resumed.resume(welcome, 0, name="alice")
            closed(newer, "STALE_SESSION")
        kicked, _ = join("bob")
        backend.kick("bob", detail="\u00e4" * 100)  # 200 bytes: cut at the end of a character
        closed(kicked, "KICKED")
        text = kicked.wire.reader.closed.payload.decode()
        check(text == "\u00e4" * len(text) and len(text) > 50, f"the text {text!r}")
        out, _ = join("carl")
        out.post("logout", id=0)
        closed(out, "LOGGED_OUT")
        late = Client(broker, over="ws")
        closed(late, "AUTH_TIMEOUT")
        wrong, _ = join("dora")
        wrong.post("login", username="dora")
        wrong.expect_error("PROTOCOL")
        closed(wrong, "PROTOCOL_ERROR")
        fast, _ = join("eve")
        fast.send_bytes(b"".join(frame_bytes(fast.request("ping", id=0)) for _ in range(200)))
        fast.read_to_end()
        check_equal(fast.wire.reader.closed.code, 4008, "code of RATE_LIMITED")
        fast.close()
        last, _ = join("frank")
        broker.process.terminate()
        closed(last, "SHUTDOWN")
        broker._wait_end(20)
    print(f"     {', '.join(sorted(seen))}")


def scene_what_the_kicked_are_told():
    """At n and n + 1, and between characters: by WebSocket's Close the same as by usher's own."""
    rows = {
        "k" * 120: "k" * 120,
        "k" * 121: "k" * 120,
        "k" * 118 + "\u00e4": "k" * 118 + "\u00e4",
        "k" * 119 + "\u00e4": "k" * 119,
        "k" * 118 + "\u20ac": "k" * 118,
        "\U0001f3b2" * 200: "\U0001f3b2" * 30,
        "k" + "\U0001f3b2" * 30: "k" + "\U0001f3b2" * 29,
        "k" * 60000: "k" * 120,
    }
    with Broker(ws=True) as broker, Backend(broker) as backend:
        for detail, told in rows.items():
            for over in ("tcp", "ws"):
                with Client(broker, over=over) as client:
                    client.login("alice")
                    backend.kick("alice", detail=detail)
                    said = client.expect_close("KICKED")
                    check_equal(said.detail, told, f"by {over}")
                    if over == "ws":
                        closed = client.wire.reader.closed
                        check_equal(closed.payload.decode(), told, "WebSocket's own")


def scene_slow_consumer():
    """Who does not read is closed by WebSocket too, when he reads at last."""
    options = {
        "limits.output_bytes": 256 * 1024,
        "limits.output_soft_bytes": 64 * 1024,
        "limits.output_soft_ms": 300,
        "limits.close_linger_ms": 10000,
    }
    with Broker(options, ws=True) as broker, Client(broker, over="tcp") as bob:
        bob.login("bob")
        slow = Client(broker, over="ws", receive_buffer=4096)
        slow.login("slow")
        began = time.monotonic()
        while not broker.log_events("slow_consumer"):
            check(time.monotonic() - began < 30, "he is not closed")
            bob.ask("send", to="slow", payload=b"s" * 8000)
        frames = slow.read_to_end(30)
        if frames and frames[-1].WhichOneof("body") == "close":
            check_equal(frames[-1].close.reason, client_pb.Close.SLOW_CONSUMER, "reason")
            check_equal(slow.wire.reader.closed.code, 4007, "code")
        print(f"     {len(frames)} frames, then {slow.ended}; {slow.wire.reader.closed}")
        slow.close()
        bob.ping()


def scene_overloaded():
    """Who cannot be let in hears it: at the connect by a 503, unread; in the room by its code."""
    with Broker({"limits.connections": 2}, ws=True) as broker:
        with Client(broker, over="tcp") as one, Client(broker, over="ws") as two:
            one.login("one")
            two.login("two")
            with Stranger(broker.ws_address) as stranger:
                answer = stranger.answer()  # nothing was asked yet
                check_equal(answer.status, 503, "status")
                check(int(answer.headers["retry-after"]) > 0, f"{answer}")
                check("limits.connections" in answer.body.decode(), f"{answer}")
                check_equal(stranger.to_end(), b"", "behind the answer")
            two.ping()
    with Broker(
        {"limits.prelogin_connections": 3, "limits.login_deadline_ms": 60000}, ws=True
    ) as broker:
        waiting = [Client(broker, over="ws") for _ in range(3)]
        for client in waiting:
            client.wire.send(b"")
        time.sleep(1.2)  # who has been in the room for a second goes for a newcomer
        newcomer = Client(broker, over="ws")
        newcomer.login("newcomer")
        gone = eventually(
            lambda: [c for c in waiting if c.receive_more(0.01) or c.ended], "one goes for another"
        )
        gone[0].expect_close("OVERLOADED")
        check_equal(gone[0].wire.reader.closed.code, 4012, "code")
        for client in [*waiting, newcomer]:
            client.close()


def scene_a_close_is_a_lost_connection():
    """A page that closes, or is closed by its browser: echoed, the session detached, resumed."""
    closes = [(0, b""), (1000, b""), (1000, b"bye"), (1001, b""), (1003, b""), (1011, b"x" * 123)]
    closes += [(code, b"") for code in (1002, 1007, 1008, 1009, 1010, 1012, 1014, 3000, 4999)]
    detached = backend_pb.PresenceEvent.DETACHED
    with Broker(ws=True) as broker, Backend(broker) as backend, Client(broker, over="tcp") as bob:
        bob.login("bob")
        for number, (code, text) in enumerate(closes):
            alice = Client(broker, over="ws")
            welcome = alice.login(f"alice{number}", acks=True)
            alice.wire.close(code, text)
            alice.expect_eof()
            check_equal(alice.wire.reader.closed.code, code or NO_CODE, "the echo")
            event = eventually(
                lambda: [e for e in backend.all_events() if e.kind == detached][number:], "detached"
            )[0]
            check_equal((event.user, cause_name(event)), (f"alice{number}", "LOST"), "the event")
            bob.send(f"alice{number}", b"meanwhile")
            with Client(broker, over="ws") as again:
                back = again.resume(welcome, 0, name=f"alice{number}")
                check_equal(back.replay, client_pb.Welcome.COMPLETE, f"resume after {code}")
                again.expect("message", payload=b"meanwhile")
                again.post("logout", id=0)
                again.expect_close("LOGGED_OUT")
            alice.close()
        check_equal(stats(broker)["ws_broken"], 0, "counted as broken")


def scene_close_behind_requests():
    """What came before the Close is done; what comes behind it is not."""
    with Broker(ws=True) as broker, Client(broker, over="tcp") as bob:
        bob.login("bob")
        alice = Client(broker, over="ws")
        alice.login("alice")
        first = frame_bytes(alice.request("send", to="bob", payload=b"before"))
        second = frame_bytes(alice.request("send", to="bob", payload=b"behind"))
        alice.wire.left_with = 1000
        alice.socket.sendall(ws_frame(BINARY, first) + ws_close(1000) + ws_frame(BINARY, second))
        bob.expect("message", payload=b"before")
        alice.read_to_end()
        bob.expect_nothing(0.3)
        alice.close()


def scene_resets_and_halves():
    """Connections that end anywhere: in the head, in a header, in a payload, in a Close."""
    count = scaled(600, 100)
    stream = head() + ws_frame(BINARY, frame_bytes(login_of("ghost"))) + ws_frame(PING, b"x" * 20)
    stream += ws_frame(BINARY, good_ping()[:3], fin=False) + ws_close(1000, b"bye")
    with Broker(ws=True) as broker, Witnesses(broker) as witnesses:
        for number in range(count):
            stranger = Stranger(broker.ws_address)
            cut = number % (len(stream) + 1)
            stranger.send(stream[: min(cut, len(head()))])
            if cut >= len(head()):
                stranger.answer()
                stranger.send(stream[len(head()) : cut])
            if number % 2:
                stranger.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stranger.close()
        witnesses.undisturbed("cut connections")
        eventually(lambda: stats(broker)["connections_open"] == 2, "none is left", timeout=20)


if __name__ == "__main__":
    play(
        scene_burst,
        scene_large_frames,
        scene_who_sleeps_stays,
        scene_who_talks_is_not_pinged,
        scene_codes,
        scene_what_the_kicked_are_told,
        scene_slow_consumer,
        scene_overloaded,
        scene_a_close_is_a_lost_connection,
        scene_close_behind_requests,
        scene_resets_and_halves,
    )
