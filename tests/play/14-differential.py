# SPDX-License-Identifier: Apache-2.0
"""The fast reader of client frames against protobuf-c and Python's protobuf: the same frames are
accepted and the same fields are read. Where the broker is stricter on purpose (docs/protocol.md,
1.6), a slow reader below must name the reason, and it must be strict in every such case.

USHER_PLAY_FRAMES: how many frames; more find more."""

import collections
import contextlib
import os
import struct
import subprocess
import warnings

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from usherplay import check, check_equal, client_pb, play, program, scaled, seed, varint

FRAMES = 100000
BATCH = 20000
GROUP_DEPTH_MAX = 64
SHOWN = 5

TEXT, BYTES, NUMBER, BOOL = "text", "bytes", "number", "bool"
EACH_TEXT, EACH_POSITION = "texts", "positions"  # any number of times


def fields_of(message):
    """What stands in each field, by number from 1, without gaps."""
    kinds = {
        FieldDescriptor.TYPE_STRING: TEXT,
        FieldDescriptor.TYPE_BYTES: BYTES,
        FieldDescriptor.TYPE_BOOL: BOOL,
    }
    fields = sorted(message.fields, key=lambda field: field.number)
    check_equal([field.number for field in fields], list(range(1, len(fields) + 1)), "the fields")
    lists = {FieldDescriptor.TYPE_STRING: EACH_TEXT, FieldDescriptor.TYPE_MESSAGE: EACH_POSITION}
    return tuple(
        (
            lists[field.type]
            if field.label == FieldDescriptor.LABEL_REPEATED
            else kinds.get(field.type, NUMBER)
        )
        for field in fields
    )


BODIES = {  # number of the body: its fields
    body.number: fields_of(body.message_type)
    for body in client_pb.ClientFrame.DESCRIPTOR.oneofs[0].fields
}
POSITION = fields_of(client_pb.RoomPosition.DESCRIPTOR)


# --- what the reference reads --------------------------------------------------------------------


def canonical_item(one):
    if isinstance(one, str):
        return ["x" + one.encode().hex()]
    return [str(one.room), str(one.incarnation), str(one.offset)]


def canonical(frame):
    """The line that client_frame_canon prints for such a frame."""
    kind = frame.WhichOneof("body")
    if kind is None:
        return f"{frame.id} 0"
    parts = [str(frame.id), str(client_pb.ClientFrame.DESCRIPTOR.fields_by_name[kind].number)]
    body = getattr(frame, kind)
    for field in body.DESCRIPTOR.fields:
        value = getattr(body, field.name)
        if field.label == field.LABEL_REPEATED:
            parts += ["[", *(item for one in value for item in canonical_item(one)), "]"]
        elif isinstance(value, str):
            parts.append("x" + value.encode().hex())
        elif isinstance(value, bytes):
            parts.append("x" + value.hex())
        else:
            parts.append(str(int(value) & (0xFFFFFFFF if field.enum_type else (1 << 64) - 1)))
    return " ".join(parts)


def reference(data):
    try:
        return canonical(client_pb.ClientFrame.FromString(data))
    except (DecodeError, RuntimeWarning, SystemError):
        # The last two are "not all data was converted", a warning that is an error here.
        return "refused"


@contextlib.contextmanager
def silent():
    """The reference writes a line to stderr for each text that it refuses."""
    kept, null = os.dup(2), os.open("/dev/null", os.O_WRONLY)
    os.dup2(null, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


# --- why the broker may refuse what the reference accepts ----------------------------------------


class Stricter(Exception):
    pass


class Cursor:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def left(self):
        return len(self.data) - self.at

    def varint(self, bytes_max, what):
        value = 0
        for position in range(10):
            if not self.left():
                raise Stricter("cut")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                if position >= bytes_max:
                    raise Stricter(f"a {what} of more than {bytes_max} bytes")
                return value
        raise Stricter("a varint of more than ten bytes")

    def run(self):
        size = self.varint(5, "length")
        if size > self.left():
            raise Stricter("cut")
        self.at += size
        return self.data[self.at - size : self.at]

    def tag(self):
        tag = self.varint(5, "tag")
        if tag >= 1 << 32:
            raise Stricter("a tag of more than 32 bits")
        if tag < 8:
            raise Stricter("field 0")
        return tag >> 3, tag & 7

    def skip(self, number, kind, depth=0):
        if kind == 0:
            self.varint(10, "varint")
        elif kind in (1, 5):
            self.at += 8 if kind == 1 else 4
            if self.left() < 0:
                raise Stricter("cut")
        elif kind == 2:
            self.run()
        elif kind == 3:
            if depth >= GROUP_DEPTH_MAX:
                raise Stricter("groups too deep")
            while True:
                inner, inner_kind = self.tag()
                if inner_kind == 4:
                    if inner != number:
                        raise Stricter("a group closed by another number")
                    return
                self.skip(inner, inner_kind, depth + 1)
        else:
            raise Stricter(f"wire type {kind}")


def scan_text(run):
    if b"\0" in run:
        raise Stricter("a NUL in a text")
    try:
        run.decode()
    except UnicodeDecodeError:
        raise Stricter("a text that is not UTF-8") from None


def scan_body(data, fields, before=()):
    """Gives the lists that it has something of; `before`: those that bodies before it had."""
    cursor = Cursor(data)
    lists = set()
    while cursor.left():
        number, kind = cursor.tag()
        wanted = fields[number - 1] if number <= len(fields) else None
        if wanted is None:
            cursor.skip(number, kind)
        elif kind != (0 if wanted in (NUMBER, BOOL) else 2):
            raise Stricter("a known field of a wrong wire type")
        elif kind == 0:
            cursor.varint(10, "varint")
        else:
            run = cursor.run()
            if wanted in (TEXT, EACH_TEXT):
                scan_text(run)
            elif wanted is EACH_POSITION:
                scan_body(run, POSITION)
            if wanted in (EACH_TEXT, EACH_POSITION):
                lists.add(number)
            if number in before:
                raise Stricter("a list that goes on in a second body")
    return lists


def stricter(data):
    """Why the broker refuses the frame, or None."""
    cursor = Cursor(data)
    body, lists = None, set()
    try:
        while cursor.left():
            number, kind = cursor.tag()
            if number == 1 and kind == 0:
                cursor.varint(10, "varint")
            elif number in BODIES and kind == 2:
                lists = lists if number == body else set()
                body = number
                lists |= scan_body(cursor.run(), BODIES[number], lists)
            elif number == 1 or number in BODIES:
                raise Stricter("a known field of a wrong wire type")
            else:
                cursor.skip(number, kind)
    except Stricter as reason:
        return str(reason)
    return None


# --- frames --------------------------------------------------------------------------------------

NUMBERS = (
    0,
    1,
    127,
    128,
    300,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
TEXTS = (
    b"",
    b"alice",
    b"a" * 64,
    b"a" * 200,
    "\u00fc\u20ac\U0001f600".encode(),
    b"\0",
    b"a\0b",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x82",
    b"\xc2",
    b"\xf0\x8f\xbf\xbf",
    b"\xef\xbf\xbf",
)


def long_varint(random, number, bytes_max=11):
    """The same number with bytes to spare, or too many of them."""
    data = varint(number)
    if random.random() < 0.9:
        return data
    more = random.randrange(0, bytes_max + 1 - len(data)) if len(data) <= bytes_max else 0
    if more:
        data = data[:-1] + bytes([data[-1] | 0x80]) + b"\x80" * (more - 1) + b"\0"
    return data


def tagged(random, number, kind, content):
    return long_varint(random, number << 3 | kind, 7) + content


def run_of(random, content):
    return long_varint(random, len(content), 7) + content


def junk(random, depth=0):
    """A field that may be unknown, of any type, also wrong ones."""
    number = random.choice((1, 2, 3, 4, 5, 8, 9, 15, 16, 100, 2047, 536870911))
    kind = random.choice((0, 0, 1, 2, 2, 3, 4, 5, 6, 7))
    if random.random() < 0.6 and kind in (4, 6, 7):
        kind = 0
    if kind == 3:
        inner = (
            b"".join(junk(random, depth + 1) for _ in range(random.randrange(3)))
            if depth < 4
            else b""
        )
        closing = number if random.random() < 0.9 else number + 1
        deep = random.choice((1, 1, 1, 3, 63, 64, 65, 66))
        opening = tagged(random, number, 3, b"")
        return opening * deep + inner + varint(closing << 3 | 4) * deep
    content = {
        0: long_varint(random, random.choice(NUMBERS)),
        1: random.randbytes(8),
        2: run_of(random, random.randbytes(random.randrange(6))),
        5: random.randbytes(4),
    }.get(kind, b"")
    return tagged(random, number, kind, content)


def field(random, number, wanted):
    if wanted in (NUMBER, BOOL):
        return tagged(random, number, 0, long_varint(random, random.choice(NUMBERS)))
    if wanted is EACH_POSITION:
        return tagged(random, number, 2, run_of(random, body(random, POSITION)))
    content = random.choice(TEXTS[:5]) if random.random() < 0.9 else random.choice(TEXTS)
    if wanted is BYTES and random.random() < 0.3:
        content = random.randbytes(random.randrange(300))
    return tagged(random, number, 2, run_of(random, content))


def body(random, fields):
    parts = [
        field(random, number, wanted)
        for number, wanted in enumerate(fields, 1)
        if random.random() < 0.8
    ]
    if fields and random.random() < 0.2:  # once more; the last one counts, or is one more item
        number = random.randrange(len(fields))
        parts.append(field(random, number + 1, fields[number]))
    if random.random() < 0.15:
        parts.append(junk(random))
    random.shuffle(parts)
    return b"".join(parts)


def generate(random):
    parts = []
    if random.random() < 0.8:
        parts.append(tagged(random, 1, 0, long_varint(random, random.choice(NUMBERS))))
    last = random.choice(list(BODIES))
    for _ in range(random.choice((0, 1, 1, 1, 1, 2, 3))):
        number = last if random.random() < 0.5 else random.choice(list(BODIES))  # merged, or not
        last = number
        parts.append(tagged(random, number, 2, run_of(random, body(random, BODIES[number]))))
    if random.random() < 0.15:
        parts.insert(random.randrange(len(parts) + 1), junk(random))
    return b"".join(parts)


def mutate(random, data):
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        place = random.randrange(len(data) + 1)
        what = random.randrange(5)
        if what == 0 and place < len(data):
            data[place] ^= 1 << random.randrange(8)
        elif what == 1 and place < len(data):
            data[place] = random.choice((0, 0x7F, 0x80, 0xFF, random.randrange(256)))
        elif what == 2:
            data.insert(place, random.randrange(256))
        elif what == 3:
            del data[place : place + random.randrange(1, 4)]
        else:
            del data[place:]
    return bytes(data)


# --- the comparison ------------------------------------------------------------------------------


def ours(frames):
    data = b"".join(struct.pack("<I", len(frame)) + frame for frame in frames)
    done = subprocess.run(
        [program("client_frame_canon")], input=data, capture_output=True, check=False, timeout=250
    )
    check_equal(done.returncode, 0, f"client_frame_canon: {done.stderr.decode()[-2000:]}")
    lines = done.stdout.decode("ascii").splitlines()
    check_equal(len(lines), len(frames), "lines of client_frame_canon")
    return lines


def judge(frame, line, counts):
    """None, or what is wrong."""
    wanted = reference(frame)
    reason = stricter(frame)
    if line == "DIFFER":
        return "protobuf-c reads something else"
    if line == "refused":
        if wanted == "refused":
            counts["refused by both"] += 1
            return None
        counts[f"stricter: {reason}"] += 1
        return None if reason else f"refused without a reason; the reference reads {wanted}"
    counts["accepted by both"] += 1
    if reason:
        return f"accepted in spite of {reason}"
    return None if line == wanted else f"read as {line}, and as {wanted} by the reference"


def scene_frames():
    random = seed()
    total = int(os.environ.get("USHER_PLAY_FRAMES", scaled(FRAMES)))
    counts = collections.Counter()
    wrong = []
    for begin in range(0, total, BATCH):
        frames = []
        while len(frames) < min(BATCH, total - begin):
            frame = generate(random)
            frames.append(frame)
            if random.random() < 0.6:
                frames.append(mutate(random, frame))
        lines = ours(frames)
        with silent():
            verdicts = [judge(frame, line, counts) for frame, line in zip(frames, lines)]
        wrong += [
            f"{frame.hex()}: {verdict}" for frame, verdict in zip(frames, verdicts) if verdict
        ]
    for what, count in sorted(counts.items()):
        print(f"     {count:7} {what}")
    print(f"     {sum(counts.values())} frames, {len(wrong)} disagreements")
    check(not wrong, "\n  ".join(["disagreements:"] + wrong[:SHOWN]))
    for what in (
        "stricter: a list that goes on in a second body",
        "accepted by both",
        "refused by both",
        "stricter: a known field of a wrong wire type",
        "stricter: a NUL in a text",
    ):
        check(counts[what] > total // 1000, f"too few frames are {what}: {counts[what]}")


if __name__ == "__main__":
    play(scene_frames)
