#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the table of fields of a JavaScript library from its schema: client.proto for usher-client,
backend.proto for usher-backend.

    fields.py PROTO            prints fields.ts
    fields.py PROTO FIELDS.TS  ends with 1 when that file is not what would be printed

protoc reads the schema; what it understood, as a descriptor, becomes one row of each message: name and
kind of field 1, of field 2 and so on, a message within a message. A number that is not used has an empty
name. Names are those that protobuf uses in JSON, so what comes from the broker is given to programs as it
is."""

import os
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
LINE_MAX = 100
HEAD = """\
// SPDX-License-Identifier: Apache-2.0
// Made by {maker} from proto/{proto}; a test makes it again and compares.
"""
WORDS = """
/** A whole number from 0 to 2^53 - 1: uint32, uint64 or an enum. */
export const UINT = 0;
export const BOOL = 1;
export const BYTES = 2;
export const STRING = 3;

/** A repeated field, of bytes, texts or messages; where the codec is built with REPEATED. */
export interface Each {
    readonly each: number | Table;
}

/** Name and kind of field 1, name and kind of field 2, ... A kind that is a table is a message. */
export type Table = readonly (string | number | Table | Each)[];
"""
# Of each schema: its first lines; which messages have a table of their own, each behind those that it
# names; and which enums a program reads by name.
SCHEMAS = {
    "client.proto": (
        HEAD.format(maker="tools/fields.py", proto="client.proto") + WORDS,
        ("ClientFrame", "BrokerFrame"),
        [
            ("Error", "Code", "ERRORS"),
            ("Close", "Reason", "CLOSES"),
            ("Welcome", "Replay", "REPLAYS"),
        ],
    ),
    "backend.proto": (
        HEAD.format(maker="clients/js/tools/fields.py", proto="backend.proto")
        + 'import { BOOL, BYTES, STRING, Table, UINT } from "../../js/src/fields.js";\n',
        ("PresenceEvent", "Command", "LinkRequest", "LinkAnswer"),
        [
            ("Control", "Kind", "CONTROLS"),
            ("PresenceEvent", "Kind", "PRESENCE_KINDS"),
            ("PresenceEvent", "Cause", "CAUSES"),
            ("Result", "Code", "RESULT_CODES"),
            ("SessionInfo", "State", "SESSION_STATES"),
            ("Refused", "Code", "REFUSALS"),
        ],
    ),
}


def read(proto):
    folder = proto.rsplit("/", 1)[0]
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc", f"-I{folder}", f"-o{out.name}", proto], check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(out.read()).file[0]


def kind(field):
    """Gives kind and type of a field, as they are written; of a message its name for its kind."""
    if field.type == Field.TYPE_MESSAGE:
        name = field.type_name.rsplit(".", 1)[1]
        its_kind, its_type = name, f"{name}Fields"
    elif field.type in KINDS:
        its_kind, its_type = KINDS[field.type]
    else:
        sys.exit(f"{field.name}: the codec does not know its type")
    if field.label == Field.LABEL_REPEATED:
        if its_kind in ("UINT", "BOOL"):
            sys.exit(f"{field.name}: the codec has no packed fields")
        its_type += "[]"
    return its_kind, its_type


def listed(head, items, tail, lines):
    """As prettier writes it: on one line where that is short enough."""
    line = head + items + tail
    return line if len(line) <= LINE_MAX else lines


def row(schema, message, whole):
    """Names and kinds of a message, those of its messages within them; of what is repeated, a dict."""
    by_number = {field.number: field for field in message.field}
    last = max(by_number, default=0)
    if last > NUMBER_MAX:
        sys.exit(f"{message.name}: a number beyond {NUMBER_MAX} makes the table too long")
    items = []
    for number in range(1, last + 1):
        field = by_number.get(number)
        name, its_kind = (field.json_name, kind(field)[0]) if field else ("", "UINT")
        inner = next((one for one in schema.message_type if one.name == its_kind), None)
        if its_kind in whole:
            its_kind = its_kind.upper()
        elif inner:
            its_kind = row(schema, inner, whole)
        if field and field.label == Field.LABEL_REPEATED:
            its_kind = {"each": its_kind}
        items += [f'"{name}"', its_kind]
    return items


def flat(item):
    if isinstance(item, dict):
        return f"{{ each: {flat(item['each'])} }}"
    return item if isinstance(item, str) else f"[{', '.join(map(flat, item))}]"


def written(item, indent, head, tail):
    """As prettier writes it: on one line where that is short enough."""
    line = f"{indent}{head}{flat(item)}{tail}"
    if len(line) <= LINE_MAX or isinstance(item, str) or not item:
        return line + "\n"
    more = indent + "    "
    if isinstance(item, dict):
        return f"{indent}{head}{{\n{written(item['each'], more, 'each: ', ',')}{indent}}}{tail}\n"
    lines = (written(inner, more, "", ",") for inner in item)
    return f"{indent}{head}[\n{''.join(lines)}{indent}]{tail}\n"


def table(schema, message, whole):
    items = row(schema, message, whole)
    return written(items, "", f"export const {message.name.upper()}: Table = ", ";")


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
    split = f'{head}\n    "{texts}".split(\n        " ",\n    );'
    if len(f'{head} "{texts}".split(') <= LINE_MAX:
        split = f'{head} "{texts}".split(\n    " ",\n);'
    # One text is smaller than a list.
    text = listed(head, f' "{texts}".split(" ")', ";", split)
    quoted = [f'"{value.name}"' for value in values]
    head = f"export type {message}{enum} ="
    lines = head + "".join(f"\n    | {name}" for name in quoted) + ";"
    return f"{text}\n{listed(head + ' ', ' | '.join(quoted), ';', lines)}\n"


def generate(proto):
    schema = read(proto)
    head, whole, enums = SCHEMAS[os.path.basename(proto)]
    by_name = {message.name: message for message in schema.message_type}
    parts = [head]
    # One within the other, because a name for each is a byte for each.
    parts += [table(schema, by_name[name], whole) for name in whole]
    parts += [interface(message) for message in schema.message_type]
    parts += [names(schema, *enum) for enum in enums]
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
