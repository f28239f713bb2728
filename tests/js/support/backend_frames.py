#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random requests and answers of the backend link as Python's protobuf writes them, one JSON object a
line:

    backend_frames.py SEED COUNT

{"type", "fields", "frame", "newer"}: what is in it, its bytes, and the same with fields of a later
version at every place. Bytes are in hex."""

import json
import os
import random
import sys

import backend_pb2
from google.protobuf.internal.encoder import _VarintBytes

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import frames  # noqa: E402

REPEATED_MAX = 4


def value_of(chance, field):
    if field.type == field.TYPE_BYTES:
        return chance.randbytes(chance.choice((0, 1, 16, 127, 128, 300)))
    if field.type == field.TYPE_STRING:
        return frames.text(chance)
    if field.type == field.TYPE_BOOL:
        return chance.random() < 0.5
    if field.type == field.TYPE_ENUM:
        return chance.randrange(20)
    return frames.number(chance, 2**32 - 1 if field.type == field.TYPE_UINT32 else 2**53 - 1)


def shown(value):
    return value.hex() if isinstance(value, bytes) else value


def fill(chance, message):
    """Gives what is in it then."""
    fields = {}
    chosen = {oneof.name: chance.choice(oneof.fields) for oneof in message.DESCRIPTOR.oneofs}
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if chance.random() < 0.2 or oneof and chosen[oneof.name] is not field:
            continue  # left out
        if field.label == field.LABEL_REPEATED:
            count = chance.randrange(REPEATED_MAX)
            into = getattr(message, field.name)
            if field.message_type:
                values = [fill(chance, into.add()) for _ in range(count)]
            else:
                values = [value_of(chance, field) for _ in range(count)]
                into.extend(values)
            if values:
                fields[field.json_name] = [shown(value) for value in values]
        elif field.message_type:
            getattr(message, field.name).SetInParent()
            fields[field.json_name] = fill(chance, getattr(message, field.name))
        else:
            value = value_of(chance, field)
            setattr(message, field.name, value)
            if value:
                fields[field.json_name] = shown(value)
    return fields


def with_newer(chance, message):
    """An encoder of its own, that leaves unknown fields before, between and behind the others."""
    parts = [frames.unknown(chance)]
    for field, value in message.ListFields():
        if field.label == field.LABEL_REPEATED and field.type == field.TYPE_UINT64:
            packed = b"".join(map(_VarintBytes, value))
            parts.append(_VarintBytes(field.number << 3 | 2) + _VarintBytes(len(packed)) + packed)
            continue
        for each in value if field.label == field.LABEL_REPEATED else [value]:
            if field.message_type:
                each = with_newer(chance, each)
            if isinstance(each, str):
                each = each.encode()
            delimited = isinstance(each, bytes)
            parts.append(_VarintBytes(field.number << 3 | (2 if delimited else 0)))
            parts.append(_VarintBytes(len(each)) + each if delimited else _VarintBytes(int(each)))
            if chance.random() < 0.3:
                parts.append(frames.unknown(chance))
    return b"".join(parts)


def main(seed, count):
    chance = random.Random(seed)
    for _ in range(count):
        kind = chance.choice((backend_pb2.LinkRequest, backend_pb2.LinkAnswer))
        frame = kind()
        fields = fill(chance, frame)
        line = {
            "type": kind.DESCRIPTOR.name,
            "fields": fields,
            "frame": frame.SerializeToString().hex(),
            "newer": with_newer(chance, frame).hex(),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
