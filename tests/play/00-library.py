# SPDX-License-Identifier: Apache-2.0
"""The plays' own tools: a check that has never failed is not yet a check."""

import os
import socket
import struct
import subprocess
import tempfile
import threading
import time

from usherplay import (
    Failed,
    Link,
    backend_pb,
    check,
    check_equal,
    check_presence,
    client_pb,
    eventually,
    frame_bytes,
    play,
    varint,
)
from usherplay.client import Client, take_frame
from usherplay.numbers import check_numbers
from usherplay.websocket import (
    CLOSE,
    PING,
    Answer,
    Reader,
    Wire,
    accept_of,
    check_accepted,
    check_close,
    frame_sizes,
    masked,
    take_answer,
    ws_header,
)


def expect_failed(call, what, *arguments, **named):
    try:
        call(*arguments, **named)
    except Failed:
        return
    raise Failed(f"{what} was not found")


def scene_frames():
    check_equal(
        [varint(n) for n in (0, 1, 127, 128, 300, 65536)],
        [b"\0", b"\1", b"\x7f", b"\x80\1", b"\xac\2", b"\x80\x80\4"],
        "varints",
    )
    bodies = [b"", b"a", b"b" * 127, b"c" * 128, b"d" * 70000]
    stream = b"".join(frame_bytes(body) for body in bodies)
    for step in (1, 3, 1000, len(stream)):
        buffer, got = bytearray(), []
        for start in range(0, len(stream), step):
            buffer += stream[start : start + step]
            while (body := take_frame(buffer)) is not None:
                got.append(body)
        check(got == bodies and not buffer, f"frames cut in steps of {step} are not the same")
    expect_failed(take_frame, "a length of six bytes", bytearray(b"\x80" * 6))


def fake_client(*frames, close=False):
    """A Client to which a listening socket of ours sends those frames."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(server.getsockname(), timeout=0.2)
        peer, _ = server.accept()
    for frame in frames:
        peer.sendall(frame_bytes(frame))
    if close:
        peer.close()
    client.peer = peer
    return client


def scene_expectations():
    def pong(id):
        return client_pb.BrokerFrame(id=id, pong=client_pb.Pong(stamp=7))

    closing = client_pb.BrokerFrame(
        close=client_pb.Close(reason=client_pb.Close.REPLACED, do_not_return=True)
    )
    fake_client(pong(1)).expect("pong", id=1, stamp=7)
    expect_failed(fake_client(pong(1)).expect, "another kind", "done")
    expect_failed(fake_client(pong(1)).expect, "another id", "pong", id=2)
    expect_failed(fake_client(pong(1)).expect, "another field", "pong", stamp=8)
    expect_failed(fake_client().expect, "silence", "pong")
    expect_failed(fake_client(close=True).expect, "the end", "pong")
    fake_client(closing, close=True).expect_close("REPLACED", do_not_return=True)
    expect_failed(fake_client(closing, close=True).expect_close, "another reason", "KICKED")
    expect_failed(fake_client(closing).expect_close, "no end behind Close", "REPLACED")
    expect_failed(
        fake_client(closing, pong(1), close=True).expect_close, "a frame behind Close", "REPLACED"
    )
    expect_failed(fake_client(pong(1)).expect_nothing, "a frame", 0.1)
    fake_client().expect_nothing(0.05)
    client = fake_client(pong(5), pong(6), pong(7))
    check_equal(client.answer_to(6).id, 6, "the answer in the middle")
    check_equal([client.next_frame().id for _ in range(2)], [5, 7], "the frames around it")
    expect_failed(client.answer_to, "no answer", 9)
    try:
        fake_client(pong(1)).expect("pong", stamp=8)
    except Failed as error:
        check("stamp=8" in str(error) and "stamp=7" in str(error), f"a poor difference: {error}")


def event(seq, user, kind, epoch, cause="LOGIN", previous=0):
    kinds, causes = backend_pb.PresenceEvent.Kind, backend_pb.PresenceEvent.Cause
    return backend_pb.PresenceEvent(
        seq=seq,
        user=user,
        kind=kinds.Value(kind),
        epoch=epoch,
        cause=causes.Value(cause),
        previous_epoch=previous,
        until_ms=1 if kind == "DETACHED" else 0,
    )


def scene_presence_rules():
    good = [
        event(1, "a", "ONLINE", 5),
        event(2, "b", "ONLINE", 9),
        event(3, "a", "DETACHED", 5, "LOST"),
        event(4, "a", "RESUMED", 5),
        event(5, "a", "ONLINE", 6, "TAKEOVER", 5),
        event(6, "a", "OFFLINE", 6, "LOGOUT"),
        event(7, "a", "ONLINE", 8),
        event(8, "a", "RESUMED", 8),
        event(9, "a", "DETACHED", 8, "LOST"),
    ]
    check_equal(
        check_presence(good, first_seq=1), {"a": ("DETACHED", 8), "b": ("ONLINE", 9)}, "who lives"
    )
    check_presence(good[3:], whole=False)
    # Each planted bug is one row in place of another.
    planted = {
        "a gap": (3, event(5, "a", "RESUMED", 5)),
        "a double": (3, event(3, "a", "RESUMED", 5)),
        "online before offline": (4, event(5, "a", "ONLINE", 6)),
        "a takeover of another epoch": (4, event(5, "a", "ONLINE", 6, "TAKEOVER", 4)),
        "a takeover of nobody": (6, event(7, "a", "ONLINE", 8, "TAKEOVER", 6)),
        "a takeover without the epoch": (4, event(5, "a", "ONLINE", 6, "TAKEOVER")),
        "an epoch used again": (6, event(7, "a", "ONLINE", 6)),
        "a lower epoch": (6, event(7, "a", "ONLINE", 4)),
        "offline of the old epoch": (5, event(6, "a", "OFFLINE", 5, "LOST")),
        "a lost offline": (5, event(6, "c", "ONLINE", 1)),
        "offline twice": (6, event(7, "a", "OFFLINE", 6, "LOGOUT")),
        "detached twice": (3, event(4, "a", "DETACHED", 5, "LOST")),
        "detached while offline": (6, event(7, "a", "DETACHED", 6, "LOST")),
        "resumed by another epoch": (3, event(4, "a", "RESUMED", 6)),
    }
    for what, (place, bug) in planted.items():
        expect_failed(check_presence, what, good[:place] + [bug] + good[place + 1 :], 1)


def scene_link_framing():
    """Our SP framing against the real nng, over both transports."""
    with tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            tcp = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        for url in (f"ipc://{folder}/rep.sock", tcp):
            log = os.path.join(folder, "got")
            with open(log, "wb") as out:
                peer = subprocess.Popen(
                    ["nngcat", "--rep", "--listen", url, "--hex", "--data", "answer"], stdout=out
                )
            try:
                eventually(lambda: can_connect(url), f"nngcat listening at {url}")
                link = Link(url)
                for body in (b"", b"x", b"y" * 9000):
                    check_equal(link.request(body), b"answer", f"the answer over {url}")
                link.close()
            finally:
                peer.kill()
                peer.wait()
            with open(log, encoding="ascii") as out:
                sizes = [line.count("\\x") for line in out]
            check_equal(sizes, [0, 1, 9000], f"the bytes that nng received over {url}")


def can_connect(url):
    # A header at once: a bare connect and close would kill an ipc listener of nng 1.5.
    try:
        link = Link(url, timeout=1)
    except (OSError, Failed):
        return False
    time.sleep(0.05)
    link.close()
    return True


def scene_numbers():
    """A number that no double holds is found wherever it stands; what a peer gave comes back."""
    most, more = 2**53 - 1, 2**53
    batch = backend_pb.Batch(
        mail=[{}, {"call": {"call": more}}], presence=[{"seq": 1}], presence_last=most
    )
    page = {"numbers": {"numbers": [{"name": "a", "value": 1}, {"name": "b", "value": more}]}}
    for message in (
        client_pb.BrokerFrame(message={"seq": more}),
        client_pb.BrokerFrame(welcome={"epoch": 2**64 - 1}),
        backend_pb.LinkAnswer(batch=batch),
        backend_pb.LinkAnswer(results=backend_pb.Results(results=[page])),
    ):
        expect_failed(check_numbers, f"the number in {message}", message)
    batch.mail[1].call.call = most
    for message in (
        client_pb.BrokerFrame(id=2**64 - 1, pong={"stamp": 2**64 - 1, "time_ms": most}),
        backend_pb.LinkAnswer(results={"seq": more}),
        backend_pb.LinkAnswer(batch=batch),
    ):
        check_numbers(message)
    client = fake_client(client_pb.BrokerFrame(message={"seq": more}))
    expect_failed(client.next_frame, "a number in what a client reads")


def scene_link_refuses_other_protocols():
    with tempfile.TemporaryDirectory(prefix="usher-play-") as folder:
        path = os.path.join(folder, "sub.sock")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()

            def answer():
                inner, _ = server.accept()
                inner.sendall(struct.pack(">4sHH", b"\0SP\0", 0x21, 0))
                inner.recv(8)
                inner.close()

            threading.Thread(target=answer, daemon=True).start()
            expect_failed(Link, "a SUB on the other side", f"ipc://{path}", timeout=2)


def scene_websocket_forgives_nothing():
    """Whatever a server may not send is found, in a frame, a message, an answer, a Close."""
    reason = client_pb.Close.Reason.Value
    close = client_pb.Close(reason=reason("KICKED"), detail="\u00e4" * 100)

    def said(data, code=None, text=b""):
        payload = data if code is None else code.to_bytes(2, "big") + text
        return ws_header(CLOSE, len(payload)) + payload

    good = ws_header(2, 300) + frame_bytes(b"g" * 298)
    check_equal(len(Reader().take(good * 3)), 3, "messages")
    check_equal(Reader().take(said(b""))[0].code, 1005, "a Close without a code")
    planted = {
        "a fragment": ws_header(2, 1, fin=False) + b"\0",
        "a continuation": ws_header(0, 1) + b"\0",
        "a reserved bit": ws_header(2, 1, reserved=4) + b"\0",
        "text": ws_header(1, 1) + b"\0",
        "an unknown opcode": ws_header(3, 1) + b"\0",
        "a mask": ws_header(2, 1, key=b"abcd") + b"a",
        "a long ping": ws_header(PING, 126) + b"p" * 126,
        "a length in 16 bits for nothing": ws_header(2, 1, form=16) + b"\0",
        "a length in 64 bits for nothing": ws_header(2, 1, form=64) + b"\0",
        "an empty message": ws_header(2, 0),
        "half a frame": ws_header(2, 1) + b"\1",
        "half a length": ws_header(2, 1) + b"\x80",
        "a frame and a half": ws_header(2, 3) + b"\0\2a",
        "two frames above 16 KiB": ws_header(2, 16386) + frame_bytes(b"a" * 16383) + b"\0",
        "a Close of one byte": said(b"\3"),
        "something behind a Close": said(b"", 4002) + good,
    }
    for what, data in planted.items():
        for step in (1, len(data)):
            reader = Reader()

            def feed():
                for start in range(0, len(data), step):
                    reader.take(data[start : start + step])

            expect_failed(feed, f"{what}, {step} bytes at a time")
    Reader().take(ws_header(2, 60003) + frame_bytes(b"l" * 60000))
    cut = close.detail.encode()[:122]
    check_close(Reader().take(said(b"", 4002, cut))[0], close)
    for what, data, before in (
        ("another code", said(b"", 4001, cut), close),
        ("another text", said(b"", 4002, cut[:-2]), close),
        ("a code of the codec behind a kick", said(b"", 1002), close),
        ("none of usher before it", said(b"", 4002, cut), None),
    ):
        expect_failed(check_close, what, Reader().take(data)[0], before)
    head = b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 3\r\nUpgrade: websocket\r\n\r\nno\n"
    check_equal(take_answer(bytearray(head)).body, b"no\n", "a body")
    for what, data in (
        ("no length", head.replace(b"Content-Length: 3\r\n", b"")),
        ("a header twice", head.replace(b"\r\n\r\n", b"\r\nupgrade: a\r\n\r\n")),
        ("another version", head.replace(b"1.1", b"1.0")),
        ("a line without a value", head.replace(b": websocket", b"")),
    ):
        expect_failed(take_answer, what, bytearray(data))
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    check_equal(accept_of(key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "the example of RFC 6455")
    headers = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": accept_of(key),
        "sec-websocket-protocol": "usher.v1",
    }
    check_accepted(Answer(101, "Switching Protocols", headers), key)
    for name, value in (
        ("sec-websocket-accept", accept_of("x")),
        ("sec-websocket-protocol", "usher.v2"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("upgrade", "h2c"),
    ):
        answer = Answer(101, "Switching Protocols", {**headers, name: value})
        expect_failed(check_accepted, f"{name} {value}", answer, key)


class WireTap:
    """Stands for a Client and its socket, and keeps what goes out."""

    def __init__(self):
        self.socket, self.sent, self.timeout, self.ended = self, b"", 1, None

    def sendall(self, data):
        self.sent += data


def messages_in(data):
    """The messages of a client, unmasked, and in how many frames each came."""
    messages, parts, at = [], [], 0
    while at < len(data):
        check(data[at + 1] & 0x80, "a frame of ours without a mask")
        size, start = data[at + 1] & 0x7F, at + 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(data[start : start + width], "big"), start + width
        check_equal(data[at] & 0x0F, 0 if parts else 2, "opcode")
        parts.append(masked(data[start + 4 : start + 4 + size], data[start : start + 4]))
        if data[at] & 0x80:
            messages.append((b"".join(parts), len(parts)))
            parts = []
        at = start + 4 + size
    check(not parts, "a message that does not end")
    return messages


def scene_websocket_carries_frames():
    """However a play cuts its bytes, whole messages of whole frames go out, and the same frames."""
    bodies = [b"", b"a", b"b" * 127, b"c" * 300, b"", b"d" * 70000, b"e" * 20]
    stream = b"".join(map(frame_bytes, bodies))
    for step in (1, 2, 3, 50, 1000, len(stream)):
        tap = WireTap()
        wire = Wire(tap)
        wire.answer, tap.sent = Answer(101, "", {}), b""
        for start in range(0, len(stream), step):
            wire.send(stream[start : start + step])
        messages = messages_in(tap.sent)
        check_equal(b"".join(data for data, _ in messages), stream, f"the bytes in steps of {step}")
        for data, parts in messages:
            check_equal(sum(frame_sizes(data)), len(data), "whole frames")
            check(parts <= 8, f"{parts} fragments")


if __name__ == "__main__":
    play(
        scene_websocket_forgives_nothing,
        scene_websocket_carries_frames,
        scene_frames,
        scene_expectations,
        scene_presence_rules,
        scene_link_framing,
        scene_numbers,
        scene_link_refuses_other_protocols,
    )
