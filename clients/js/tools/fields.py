#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the table of fields of the JavaScript client from the schema.

    fields.py PROTO            prints fields.ts
    fields.py PROTO FIELDS.TS  ends with 1 when that file is not what would be printed

protoc reads the schema; what it understood, as a descriptor, becomes one row of each message: name and
kind of field 1, of field 2 and so on, a message within a message. A number that is not used has an empty name. Names are those that
protobuf uses in JSON, so what comes from the broker is given to programs as it is."""

import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2

Field = descriptor_pb2.FieldDescriptorProto
KINDS = {
    Field.TYPE_UINT32: ("UINT", "number"),
    Field.TYPE_UINT64: ("UINT", "number"),
    Field.TYPE_ENUM: ("UINT", "number"),
    Field.TYPE_BOOL: ("BOOL", "boolean"),
    Field.TYPE_BYTES: ("BYTES", "Uint8Array"),
    Field.TYPE_STRING: ("STRING", "string"),
}
# A row has a place for each number up to its last.
NUMBER_MAX = 63
WHOLE = ("ClientFrame", "BrokerFrame")
LINE_MAX = 100
HEAD = """\
// SPDX-License-Identifier: Apache-2.0
// Made by tools/fields.py from proto/client.proto; a test makes it again and compares.

/** A whole number from 0 to 2^53 - 1: uint32, uint64 or an enum. */
export const UINT = 0;
export const BOOL = 1;
export const BYTES = 2;
export const STRING = 3;

/** Name and kind of field 1, name and kind of field 2, ... A kind that is a table is a message. */
export type Table = readonly (string | number | Table)[];
"""


def read(proto):
    folder = proto.rsplit("/", 1)[0]
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc", f"-I{folder}", f"-o{out.name}", proto], check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(out.read()).file[0]


def kind(field):
    """Gives kind and type of a field, as they are written."""
    if field.label == Field.LABEL_REPEATED:
        sys.exit(f"{field.name}: the codec has no repeated fields")
    if field.type == Field.TYPE_MESSAGE:
        name = field.type_name.rsplit(".", 1)[1]
        return name, f"{name}Fields"
    if field.type not in KINDS:
        sys.exit(f"{field.name}: the codec does not know its type")
    return KINDS[field.type]


def listed(head, items, tail, lines):
    """As prettier writes it: on one line where that is short enough."""
    line = head + items + tail
    return line if len(line) <= LINE_MAX else lines


def row(schema, message):
    """Names and kinds of a message, those of its messages within them."""
    by_number = {field.number: field for field in message.field}
    last = max(by_number, default=0)
    if last > NUMBER_MAX:
        sys.exit(f"{message.name}: a number beyond {NUMBER_MAX} makes the table too long")
    items = []
    for number in range(1, last + 1):
        field = by_number.get(number)
        name, its_kind = (field.json_name, kind(field)[0]) if field else ("", "UINT")
        inner = next((one for one in schema.message_type if one.name == its_kind), None)
        items += [f'"{name}"', row(schema, inner) if inner else its_kind]
    return items


def written(items, indent, head, tail):
    """As prettier writes it: on one line where that is short enough."""

    def flat(item):
        return item if isinstance(item, str) else f"[{', '.join(map(flat, item))}]"

    line = f"{indent}{head}{flat(items)}{tail}"
    if len(line) <= LINE_MAX or not items:
        return line + "\n"
    more = indent + "    "
    lines = (
        f"{more}{item},\n" if isinstance(item, str) else written(item, more, "", ",")
        for item in items
    )
    return f"{indent}{head}[\n{''.join(lines)}{indent}]{tail}\n"


def table(schema, message):
    return written(row(schema, message), "", f"export const {message.name.upper()}: Table = ", ";")


def interface(message):
    """Of a oneof one member is there; all else is, with its default value if it was left out."""
    lines = ""
    for field in message.field:
        optional = "?" if field.HasField("oneof_index") else ""
        lines += f"    {field.json_name}{optional}: {kind(field)[1]};\n"
    if not lines:
        return f"export type {message.name}Fields = Record<never, never>;\n"
    return f"export interface {message.name}Fields {{\n{lines}}}\n"


def names(schema, message, enum, title):
    """The names of an enum by number, which are what a program reads."""
    values = next(
        found.value
        for owner in schema.message_type
        if owner.name == message
        for found in owner.enum_type
        if found.name == enum
    )
    if [value.number for value in values] != list(range(len(values))):
        sys.exit(f"{message}.{enum} has gaps")
    texts = " ".join(value.name for value in values)
    head = f"export const {title}: readonly string[] ="
    split = f'\n    "{texts}".split(\n        " ",\n    );'
    # One text is smaller than a list.
    text = listed(head, f' "{texts}".split(" ")', ";", head + split)
    quoted = [f'"{value.name}"' for value in values]
    head = f"export type {message}{enum} ="
    lines = head + "".join(f"\n    | {name}" for name in quoted) + ";"
    return f"{text}\n{listed(head + ' ', ' | '.join(quoted), ';', lines)}\n"


def generate(proto):
    schema = read(proto)
    parts = [HEAD]
    # One within the other, because a name for each is a byte for each.
    parts += [table(schema, message) for message in schema.message_type if message.name in WHOLE]
    parts += [interface(message) for message in schema.message_type]
    parts += [
        names(schema, "Error", "Code", "ERRORS"),
        names(schema, "Close", "Reason", "CLOSES"),
        names(schema, "Welcome", "Replay", "REPLAYS"),
    ]
    return "\n".join(parts)


def main(proto, committed=None):
    text = generate(proto)
    if committed is None:
        sys.stdout.write(text)
        return 0
    with open(committed, encoding="utf-8") as file:
        if file.read() == text:
            return 0
    print(f"{committed} is not what tools/fields.py makes of {proto}")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
