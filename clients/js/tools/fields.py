#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the table of fields of a JavaScript library from its schema: client.proto for usher-client,
backend.proto for usher-backend.

    fields.py PROTO            prints fields.ts
    fields.py PROTO FIELDS.TS  ends with 1 when that file is not what would be printed
    fields.py --more PROTO     prints social-fields.ts, which usher-client/social speaks of besides; and
    fields.py --more PROTO SOCIAL-FIELDS.TS

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
MORE = """\
import { BOOL, BROKERFRAME, BYTES, CLIENTFRAME, Each, ERRORS } from "./fields.js";
import { STRING, Table, UINT } from "./fields.js";

type Items = (string | number | Table | Each)[];

"""
EXTEND = """
/** What a page without rooms and friends does not know goes behind what it does: from here on the tables
 * of this bundle are longer, and there are more reasons for a no. */
export function extendTables(): void {
    const [client, broker] = [CLIENTFRAME as Items, BROKERFRAME as Items];
"""
WORDS = """
/** A whole number from 0 to 2^53 - 1: uint32, uint64 or an enum. */
export const UINT = 0;
export const BOOL = 1;
export const BYTES = 2;
export const STRING = 3;

/** A repeated field; where the codec is built with REPEATED. */
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
        ("PresenceEvent", "Command", "LinkRequest", "LinkAnswer", "WatchGrant"),
        [
            ("Control", "Kind", "CONTROLS"),
            ("PresenceEvent", "Kind", "PRESENCE_KINDS"),
            ("PresenceEvent", "Cause", "CAUSES"),
            ("RoomAsk", "Kind", "ROOM_ASKS"),
            ("RoomNews", "Kind", "ROOM_NEWS"),
            ("RoomNews", "Cause", "ROOM_CAUSES"),
            ("WatchList", "Mode", "WATCH_MODES"),
            ("Result", "Code", "RESULT_CODES"),
            ("SessionInfo", "State", "SESSION_STATES"),
            ("Refused", "Code", "REFUSALS"),
        ],
    ),
}


# The last numbers that usher-client itself speaks of; what is beyond costs only those who load
# usher-client/social. Which table of the bundle they are in, if it is not the frame's own.
CORE_LAST = {"ClientFrame": 8, "BrokerFrame": 8}
# Of this one it speaks but for that number.
CORE_HOLES = {"Resume": 6}
CORE_TABLES = {
    "ClientFrame": "client",
    "Resume": '(client[client.indexOf("resume") + 1] as Items)',
    "BrokerFrame": "broker",
}
# Nor can it be refused with what is beyond this one.
CORE_ERRORS_LAST = 17
MORE_ENUMS = [
    ("RoomState", "State", "ROOM_STATES"),
    ("RoomState", "Replay", "ROOM_REPLAYS"),
    ("RoomChange", "Kind", "CHANGES"),
    ("FriendState", "State", "FRIEND_STATES"),
]


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
        if its_kind == "BOOL":
            sys.exit(f"{field.name}: the codec packs numbers alone")
        its_type += "[]"
    return its_kind, its_type


def listed(head, items, tail, lines):
    """As prettier writes it: on one line where that is short enough."""
    line = head + items + tail
    return line if len(line) <= LINE_MAX else lines


def row(schema, message, whole, first=1, cut=CORE_LAST, holes=CORE_HOLES):
    """Names and kinds of a message, those of its messages within them; of what is repeated, a dict. Those
    from `first` on, up to the last that `cut` leaves, and without `holes`."""
    hole = holes.get(message.name)
    by_number = {field.number: field for field in message.field if field.number != hole}
    last = cut.get(message.name, max(by_number, default=0))
    if last > NUMBER_MAX:
        sys.exit(f"{message.name}: a number beyond {NUMBER_MAX} makes the table too long")
    items = []
    for number in range(first, last + 1):
        field = by_number.get(number)
        name, its_kind = (field.json_name, kind(field)[0]) if field else ("", "UINT")
        inner = next((one for one in schema.message_type if one.name == its_kind), None)
        if its_kind in whole:
            its_kind = its_kind.upper()
        elif inner:
            its_kind = row(schema, inner, whole, cut=cut, holes=holes)
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
    core = [each for each in values if title != "ERRORS" or each.number <= CORE_ERRORS_LAST]
    texts = " ".join(value.name for value in core)
    head = f"export const {title}: readonly string[] ="
    split = f'{head}\n    "{texts}".split(" ");'
    if len(f'    "{texts}".split(" ");') > LINE_MAX:
        split = f'{head}\n    "{texts}".split(\n        " ",\n    );'
    if len(f'{head} "{texts}".split(') <= LINE_MAX:
        split = f'{head} "{texts}".split(\n    " ",\n);'
    # One text is smaller than a list.
    text = listed(head, f' "{texts}".split(" ")', ";", split)
    quoted = [f'"{value.name}"' for value in values]
    head = f"export type {message}{enum} ="
    lines = head + "".join(f"\n    | {name}" for name in quoted) + ";"
    if len("    " + " | ".join(quoted) + ";") <= LINE_MAX:
        lines = f"{head}\n    {' | '.join(quoted)};"
    return f"{text}\n{listed(head + ' ', ' | '.join(quoted), ';', lines)}\n"


def more(schema):
    """Of each message that the core knows in part, the rest."""
    by_name = {message.name: message for message in schema.message_type}
    parts = []
    pushes = []
    for name, table in CORE_TABLES.items():
        hole = CORE_HOLES.get(name)
        first = hole or CORE_LAST[name] + 1
        cut = {name: hole} if hole else {}
        items = row(schema, by_name[name], (), first=first, cut=cut, holes={})
        parts.append(written(items, "", f"const {name.upper()}_MORE: Items = ", ";"))
        change = f"splice({2 * hole - 2}, 2, " if hole else "push("
        pushes.append(f"    {table}.{change}...{name.upper()}_MORE);\n")
    codes = by_name["Error"].enum_type[0].value
    errors = ", ".join(f'"{each.name}"' for each in codes if each.number > CORE_ERRORS_LAST)
    pushes.append(f"    (ERRORS as string[]).push({errors});\n")
    return "\n".join(parts) + EXTEND + "".join(pushes) + "}\n"


def generate_more(proto):
    schema = read(proto)
    head = HEAD.format(maker="tools/fields.py --more", proto="client.proto")
    parts = [head + MORE + more(schema)]
    parts += [names(schema, *enum) for enum in MORE_ENUMS]
    return "\n".join(parts)


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


def main(*arguments):
    make = generate_more if arguments[0] == "--more" else generate
    proto, committed = (*arguments[make is generate_more :], None)[:2]
    text = make(proto)
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
