#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random frames as Python's protobuf writes them, one JSON object a line:

    frames.py SEED COUNT

{"type", "fields", "frame", "newer"}: what is in it, its delimited bytes, and the same with fields of a
later version among them. Bytes are in hex."""

import json
import random
import sys

import client_pb2
from google.protobuf.internal.encoder import _VarintBytes

# What lies around the ends of a byte of a varint, of 32 bits, and of what a double holds exactly.
EDGES = [
    0,
    1,
    127,
    128,
    16383,
    16384,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**35,
    2**49,
    2**53 - 1,
]
TEXTS = ["a", "é", "ß", "\u07ff", "\u0800", "界", "\ufeff", "\uffff", "😀", "\U0010ffff", "z" * 40]


def number(chance, most):
    value = (
        chance.choice(EDGES)
        if chance.random() < 0.5
        else chance.randrange(2 ** chance.randrange(54))
    )
    return min(value, most)


def text(chance):
    return "".join(chance.choice(TEXTS) for _ in range(chance.choice((0, 1, 3, 12))))


REPEATED_MAX = 4


def value_of(chance, field):
    if field.type == field.TYPE_BYTES:
        size = chance.choice((0, 1, 16, 127, 128, 300, 20000 if chance.random() < 0.05 else 2))
        return chance.randbytes(size)
    if field.type == field.TYPE_STRING:
        return text(chance)
    if field.type == field.TYPE_BOOL:
        return chance.random() < 0.5
    if field.type == field.TYPE_ENUM:
        return chance.randrange(20)
    return number(chance, 2**32 - 1 if field.type == field.TYPE_UINT32 else 2**53 - 1)


def shown(value):
    return value.hex() if isinstance(value, bytes) else value


def fill(chance, message, fields):
    """Gives the fields of what is in it then."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.25:
            continue  # left out
        if field.label == field.LABEL_REPEATED:
            into = getattr(message, field.name)
            count = range(chance.randrange(REPEATED_MAX))
            if field.message_type:
                values = [fill(chance, into.add(), {}) for _ in count]
            else:
                into.extend(value_of(chance, field) for _ in count)
                values = [shown(value) for value in into]
            if values:
                fields[field.json_name] = values
            continue
        value = value_of(chance, field)
        setattr(message, field.name, value)
        if value:
            fields[field.json_name] = shown(value)
    return fields


def unknown(chance):
    """A field that no message has, of any wire type."""
    tag = chance.randrange(100, 2000) << 3
    kind = chance.choice((0, 1, 2, 5))
    body = {
        0: lambda: _VarintBytes(chance.randrange(2**64)),
        1: lambda: chance.randbytes(8),
        2: lambda: (lambda data: _VarintBytes(len(data)) + data)(
            chance.randbytes(chance.randrange(200))
        ),
        5: lambda: chance.randbytes(4),
    }[kind]()
    return _VarintBytes(tag | kind) + body


def with_newer(chance, frame, body):
    """The frame with unknown fields before, between, behind and in its body."""
    fields = [_VarintBytes(1 << 3) + _VarintBytes(frame.id)] if frame.id else []
    if body:
        number_of = frame.DESCRIPTOR.fields_by_name[body].number
        data = unknown(chance) + getattr(frame, body).SerializeToString() + unknown(chance)
        fields.append(_VarintBytes(number_of << 3 | 2) + _VarintBytes(len(data)) + data)
    parts = [unknown(chance)]
    for field in fields:
        parts += [field, unknown(chance)]
    return b"".join(parts)


def delimited(data):
    return (_VarintBytes(len(data)) + data).hex()


def main(seed, count):
    chance = random.Random(seed)
    for _ in range(count):
        kind = chance.choice((client_pb2.ClientFrame, client_pb2.BrokerFrame))
        frame, fields = kind(), {}
        if chance.random() < 0.8:
            frame.id = number(chance, 2**53 - 1)
        if frame.id:
            fields["id"] = frame.id
        body = chance.choice(
            [None] + [field.name for field in kind.DESCRIPTOR.fields if field.message_type]
        )
        if body:
            getattr(frame, body).SetInParent()
            name = kind.DESCRIPTOR.fields_by_name[body].json_name
            fill(chance, getattr(frame, body), fields.setdefault(name, {}))
        line = {
            "type": kind.DESCRIPTOR.name,
            "fields": fields,
            "frame": delimited(frame.SerializeToString()),
            "newer": delimited(with_newer(chance, frame, body)),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
