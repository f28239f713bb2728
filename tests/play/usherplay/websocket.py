# SPDX-License-Identifier: Apache-2.0
"""WebSocket for plays: heads and frames made by hand, right ones and wrong ones, and a reader that
forgives the broker nothing. `Wire` lets a Client speak by it as by TCP."""

import base64
import dataclasses
import hashlib
import random
import time

from usherplay.record import record
from usherplay.schema import client_pb
from usherplay.stage import Failed

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PROTOCOL = "usher.v1"
PATH = "/usher"
MESSAGE_BYTES_MAX = 16384  # of the broker's messages, but for a longer frame that goes alone
CLOSE_TEXT_BYTES_MAX = 123
USHER_CODES = 4000  # and the reason of usher's own Close
# What breaks the rules of WebSocket has a code of its own, behind a Close of usher with one of these.
CODEC_CODES = (1002, 1003, 1007, 1008, 1009, 1011)
CODEC_REASONS = ("PROTOCOL_ERROR", "RATE_LIMITED", "INTERNAL", "OVERLOADED")
HEAD_BYTES_MAX = 4096  # of an answer
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
NO_CODE = 1005  # how the RFC calls a Close without a code
RANDOM = object()
ENDLESS = 1 << 62  # bytes of a frame whose length is not whole

_random = random.Random()


# --- frames ---------------------------------------------------------------------------------------


def masked(data, key, offset=0):
    """The same function takes the mask off."""
    size = len(data)
    if not size:
        return b""
    turned = key[offset % 4 :] + key[: offset % 4]
    stream = (turned * (size // 4 + 1))[:size]
    both = int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")
    return both.to_bytes(size, "little")


def ws_header(opcode, size, fin=True, key=None, reserved=0, form=None):
    """form: 7, 16 or 64 bits for the length whatever it is; None: the shortest, as it has to be."""
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    first = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    mask = 0x80 if key is not None else 0
    if form == 7:
        return first + bytes([mask | size]) + (key or b"")
    word, width = (126, 2) if form == 16 else (127, 8)
    return first + bytes([mask | word]) + size.to_bytes(width, "big") + (key or b"")


def ws_frame(opcode, payload=b"", fin=True, key=RANDOM, reserved=0, form=None, told=None):
    """A frame of a client. key None: without a mask. told: a length that need not be true."""
    if key is RANDOM:
        key = _random.randbytes(4)
    size = len(payload) if told is None else told
    body = masked(payload, key) if key is not None else payload
    return ws_header(opcode, size, fin, key, reserved, form) + body


def ws_close(code=None, text=b"", **others):
    return ws_frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + text, **others)


@dataclasses.dataclass
class Event:
    """What the broker sent: "message", "ping", "pong" or "close"."""

    kind: str
    payload: bytes = b""
    code: int = 0  # of a close


class Reader:
    """Takes the broker's bytes, gives events; Failed at whatever a server may not send."""

    def __init__(self):
        self.buffer = bytearray()
        self.closed = None  # the Event of the Close frame

    def take(self, data):
        self.buffer += data
        events = []
        while event := self._next():
            events.append(event)
        return events

    def _next(self):
        buffer = self.buffer
        if self.closed and buffer:
            raise Failed(f"behind its Close frame the broker sent {bytes(buffer[:40])!r}")
        if len(buffer) < 2:
            return None
        opcode, size, start = buffer[0] & 0x0F, buffer[1] & 0x7F, 2
        if buffer[0] & 0xF0 != 0x80:
            raise Failed(f"a frame without FIN or with reserved bits: {buffer[0]:#x}")
        if opcode not in (BINARY, CLOSE, PING, PONG):
            raise Failed(f"a frame with opcode {opcode}")
        if buffer[1] & 0x80:
            raise Failed("the broker masks its frames")
        if size > 125 and opcode != BINARY:
            raise Failed("a control frame of more than 125 bytes")
        if size > 125:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            least = 126 if size == 126 else 65536
            size = int.from_bytes(buffer[2:start], "big")
            if not least <= size < 1 << 40:
                raise Failed(f"a length of {size} in {start - 2} bytes")
        if len(buffer) < start + size:
            return None
        payload = bytes(buffer[start : start + size])
        del buffer[: start + size]
        return self._event(opcode, payload)

    def _event(self, opcode, payload):
        if opcode == BINARY:
            check_message(payload)
            return Event("message", payload)
        if opcode != CLOSE:
            return Event("ping" if opcode == PING else "pong", payload)
        if len(payload) == 1:
            raise Failed("a Close frame with one byte")
        payload[2:].decode("utf-8")  # or it fails
        code = int.from_bytes(payload[:2], "big") if payload else NO_CODE
        self.closed = Event("close", payload[2:], code)
        return self.closed


def frame_sizes(payload):
    """The bytes that each delimited frame takes, length and all; the last one may be cut."""
    sizes, at = [], 0
    while at < len(payload):
        length, place = 0, at
        while place < len(payload) and place < at + 5 and payload[place] >= 0x80:
            length |= (payload[place] & 0x7F) << 7 * (place - at)
            place += 1
        if place == len(payload) or place == at + 5:
            sizes.append(ENDLESS)
            break
        length |= payload[place] << 7 * (place - at)
        sizes.append(place + 1 - at + length)
        at += sizes[-1]
    return sizes


def check_message(payload):
    sizes = frame_sizes(payload)
    if sum(sizes) != len(payload) or not sizes:
        raise Failed(f"a message of {len(payload)} bytes with frames of {sizes[-3:]}")
    if len(sizes) > 1 and len(payload) > MESSAGE_BYTES_MAX:
        raise Failed(f"a message of {len(sizes)} frames and {len(payload)} bytes")


# --- heads ----------------------------------------------------------------------------------------


def upgrade_lines(key, path=PATH, protocols=(PROTOCOL,), origin=None, host="localhost"):
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    if protocols:
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(protocols)}")
    if origin is not None:
        lines.append(f"Origin: {origin}")
    return lines


def head_bytes(lines):
    data = b"".join((line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines)
    record("upgrade", data + b"\r\n")
    return data + b"\r\n"


def new_key():
    return base64.b64encode(_random.randbytes(16)).decode()


def accept_of(key):
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


@dataclasses.dataclass
class Answer:
    """An HTTP response of the broker."""

    status: int
    reason: str
    headers: dict  # names in small letters
    body: bytes = b""


def take_answer(buffer, to_head=False):
    """Takes a whole response out of a bytearray; None: there is more to come. to_head: the response
    to a HEAD has no body, whatever length it tells."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > HEAD_BYTES_MAX:
            raise Failed(f"an answer whose head does not end: {bytes(buffer[:100])!r}")
        return None
    lines = buffer[:end].decode("ascii").split("\r\n")
    version, status, reason = lines[0].split(" ", 2)
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(": ")
        if not colon or not value or name.lower() in headers or "\n" in line or "\r" in line:
            raise Failed(f"a header {line!r}")
        headers[name.lower()] = value
    if version != "HTTP/1.1" or len(status) != 3 or not reason:
        raise Failed(f"a status line {lines[0]!r}")
    answer = Answer(int(status), reason, headers)
    size = int(headers.get("content-length", "0")) if not to_head else 0
    if answer.status != 101 and "content-length" not in headers:
        raise Failed(f"an answer {status} without a length")
    if len(buffer) < end + 4 + size:
        return None
    answer.body = bytes(buffer[end + 4 : end + 4 + size])
    del buffer[: end + 4 + size]
    return answer


def check_accepted(answer, key, offered=True):
    headers = dict(answer.headers)
    expected = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": accept_of(key),
    }
    if offered:
        expected["sec-websocket-protocol"] = PROTOCOL
    if (answer.status, answer.reason) != (101, "Switching Protocols") or headers != expected:
        raise Failed(f"the upgrade was answered {answer}, expected {expected}")


def upgrade_bytes():
    """Of a request and of its answer, as Wire has them."""
    key = new_key()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {accept_of(key)}", f"Sec-WebSocket-Protocol: {PROTOCOL}", ""]
    return len(head_bytes(upgrade_lines(key))), sum(len(line) + 2 for line in lines)


# --- a client's side ------------------------------------------------------------------------------


class Wire:
    """What stands between a Client and its socket. The play's bytes are those of TCP: whole frames
    go as messages, several in one where they come together; a frame that the play cuts goes in
    fragments, then as a frame whose header tells all of it and whose bytes come as they are sent.
    Pings are not answered unless `pongs` is set: who says nothing is silent, as over TCP. whole: nothing
    cuts the connection on its way, so that each end of the broker's must be in order."""

    FRAME_BYTES_MAX = 1 << 20  # beyond that a length is nonsense of the play's

    def __init__(self, client, whole=True, **head):
        self.client = client
        self.whole = whole
        self.key = new_key()
        self.pongs = False
        self.pings = 0
        self.events = []  # but messages; for plays that look at them
        self.answer = None
        self.reader = Reader()
        self.head = bytearray()  # of the answer, so far
        self.most = 256  # bytes in a message, until the Welcome tells
        self.last_close = None  # usher's own
        self.echoed = False  # the Close of WebSocket
        self.left_with = None  # the code, when the play has closed
        self.begun = False  # a fragment of a message is out
        self.length = b""  # of the frame that is cut, so far
        self.left = None  # of its body, when its length is known
        self.told = 0  # bytes that a header has told and that are not sent yet
        self.mask = b""
        self.offset = 0
        self._write(head_bytes(upgrade_lines(self.key, **head)))

    def _write(self, data):
        """An end that comes meanwhile is read in its turn."""
        try:
            self.client.socket.sendall(data)
        except OSError:
            pass

    # --- out ------------------------------------------------------------------------------------

    def send(self, data):
        deadline = time.monotonic() + self.client.timeout
        while self.answer is None and not self.client.ended:
            if time.monotonic() > deadline:
                raise TimeoutError("no answer to the upgrade")
            self.client.receive_more(deadline - time.monotonic())
        if self.answer is None or self.answer.status != 101:
            raise BrokenPipeError(f"no upgrade: {self.answer or self.client.ended}")
        data, out = bytes(data), bytearray()
        while data:
            data = data[self._told(data, out) :] if self.told else data[self._more(data, out) :]
        self.client.socket.sendall(out)

    def _told(self, data, out):
        """More of a frame whose header is out."""
        piece = data[: self.told]
        out += masked(piece, self.mask, self.offset)
        self.offset += len(piece)
        self.told -= len(piece)
        if not self.told:
            self._whole()
        return len(piece)

    def _whole(self):
        self.begun, self.length, self.left = False, b"", None

    def _walk(self, data):
        """How many bytes there are to the end of the frame; True when the end is among them."""
        at = 0
        while self.left is None and at < len(data):
            self.length += data[at : at + 1]
            at += 1
            if self.length[-1] < 0x80 or len(self.length) >= 5:
                bits = (part & 0x7F for part in reversed(self.length))
                self.left = 0
                for part in bits:
                    self.left = self.left << 7 | part
        if self.left is None:
            return at, False
        took = min(self.left, len(data) - at)
        self.left -= took
        return at + took, self.left == 0

    def _more(self, data, out):
        if not self.begun:
            return self._messages(data, out)
        size, ends = self._walk(data)
        if ends:
            out += ws_frame(CONTINUATION, data[:size])
            self._whole()
        elif self.left is not None and self.left < self.FRAME_BYTES_MAX:
            self.mask, self.offset, self.told = _random.randbytes(4), 0, size + self.left
            out += ws_header(CONTINUATION, self.told, key=self.mask)
            self._told(data[:size], out)
        else:
            out += ws_frame(CONTINUATION, data[:size], fin=False)
        return size

    def _messages(self, data, out):
        """Whole frames, and the beginning of one that is cut."""
        sizes = frame_sizes(data)
        whole = sum(sizes)
        if whole > len(data):
            whole -= sizes.pop()
        at = size = 0
        for each in [*sizes, self.most + 1]:
            if size and size + each > self.most:
                out += ws_frame(BINARY, data[at : at + size])
                at, size = at + size, 0
            size += each
        if whole < len(data):
            self.begun = True
            self._walk(data[whole:])
            out += ws_frame(BINARY, data[whole:], fin=False)
        return len(data)

    def close(self, code=1000, text=b""):
        """As a program does that ends well; the broker's echo is for whoever reads on. code 0: without
        one."""
        self.left_with = code or NO_CODE
        self.client.socket.sendall(ws_close(code or None, text))

    # --- in -------------------------------------------------------------------------------------

    def take(self, data):
        """Gives the bytes of the frames in it."""
        if self.answer is None:
            self.head += data
            self.answer = take_answer(self.head)
            if self.answer is None:
                return b""
            data, self.head = bytes(self.head), bytearray()
            if self.answer.status == 101:
                check_accepted(self.answer, self.key)
        if self.answer.status != 101:
            if data:
                raise Failed(f"behind its answer {self.answer} the broker sent {data!r}")
            return b""
        frames = b""
        for event in self.reader.take(data):
            if event.kind == "message":
                frames += event.payload
                continue
            self.events.append(event)
            if event.kind == "ping":
                self._pinged(event)
        return frames

    def _pinged(self, event):
        if event.payload:
            raise Failed(f"a ping with {event.payload!r}")
        self.pings += 1
        if self.pongs and not self.told:
            self._write(ws_frame(PONG))

    def saw(self, frame):
        kind = frame.WhichOneof("body")
        if kind == "welcome":
            self.most = min(frame.welcome.frame_bytes_max, MESSAGE_BYTES_MAX)
        elif self.last_close:
            raise Failed(f"behind Close came {kind}")
        elif kind == "close":
            self.last_close = frame.close

    def settled(self):
        """Called when everything that has come is cut into frames."""
        closed = self.reader.closed
        if closed is None or self.echoed:
            return
        self.echoed = True
        if self.left_with is None:
            check_close(closed, self.last_close)
        elif (closed.code, closed.payload) != (self.left_with, b""):
            raise Failed(f"a Close with {self.left_with} was echoed as {closed}")
        elif self.last_close:
            raise Failed(f"one who closed was told {self.last_close}")
        if not self.told and self.left_with is None:
            self._write(ws_close(closed.code))

    def ended(self, how):
        if how == "end of file" and self.whole and self.last_close and not self.reader.closed:
            raise Failed(f"no WebSocket Close behind {self.last_close}")


def check_close(closed, said):
    """said: usher's own Close that came before, or None."""
    if said is None:
        raise Failed(f"a Close of WebSocket with {closed.code} and none of usher before it")
    reason = client_pb.Close.Reason.Name(said.reason)
    if closed.code in CODEC_CODES and reason in CODEC_REASONS:
        return
    text = said.detail.encode()[:CLOSE_TEXT_BYTES_MAX].decode("utf-8", "ignore").encode()
    if closed.code != USHER_CODES + said.reason or closed.payload != text:
        raise Failed(f"Close {closed.code} with {closed.payload!r} behind {said}")
