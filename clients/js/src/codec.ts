// SPDX-License-Identifier: Apache-2.0
// Protobuf by a table of fields (fields.ts), both ways, for what proto/client.proto has: numbers,
// truths, bytes, texts and messages, each at most once; and for what is built with REPEATED (usher-backend,
// usher-client/social) also any number of times. Other pages do not pay for that.
//
// Numbers are doubles here: the protocol promises to stay below 2^53, and what is not exact throws
// instead of being sent or believed.
//
// A frame is written from its end to its front, so the length of what is inside is known when its
// turn comes, and nothing is moved or measured twice.
import { BOOL, BYTES, Each, STRING, Table, UINT } from "./fields.js";
import { textOf, utf8 } from "./utf8.js";

/** Written in place of this name when a package is built. */
declare const REPEATED: boolean;

// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Fields = any;

const enum Varint {
    BYTES_MAX = 10,
}
const enum Wire {
    VARINT = 0,
    FIXED64 = 1,
    DELIMITED = 2,
    FIXED32 = 5,
}
const EMPTY = new Uint8Array(0);

/** What is written lies in scratch[at, scratch.length). */
let scratch = new Uint8Array(1024);
let at = 0;

function room(size: number): void {
    if (size > at) {
        const larger = new Uint8Array(2 * scratch.length + size);
        const more = larger.length - scratch.length;
        larger.set(scratch.subarray(at), at + more);
        at += more;
        scratch = larger;
    }
    at -= size;
}

/** From the back, so what is above the lowest seven bits comes first. */
function putVarint(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) {
        throw new RangeError("no number: " + value);
    }
    const high = Math.floor(value / 128);
    if (high) {
        putVarint(high);
    }
    room(1);
    scratch[at] = (value % 128) | (high ? 128 : 0);
}

function putBytes(bytes: Uint8Array): void {
    room(bytes.length);
    scratch.set(bytes, at);
    putVarint(bytes.length);
}

/** Each element is written like a field of its own, but none is left out: an empty one counts. Numbers
 * are packed, one behind the other. */
function putEach(i: number, each: number | Table, values: Fields[]): void {
    if (each === UINT) {
        const behind = scratch.length - at;
        for (let k = values.length; k--;) {
            putVarint(values[k]);
        }
        putVarint(scratch.length - at - behind);
        putVarint((i / 2 + 1) * 8 + Wire.DELIMITED);
        return;
    }
    const row: Table = [...new Array(i).fill(""), "element", each];
    for (let k = values.length; k--;) {
        if (values[k].length === 0) {
            putVarint(0);
            putVarint((i / 2 + 1) * 8 + Wire.DELIMITED);
        } else {
            putFields(row, { element: values[k] });
        }
    }
}

/** What has its default value is left out, as proto3 has it. */
function putFields(table: Table, fields: Fields): void {
    for (let i = table.length - 2; i >= 0; i -= 2) {
        const value = fields[table[i] as string];
        const kind = table[i + 1];
        if (value === undefined || value === 0 || value === false || value.length === 0) {
            continue;
        }
        if (REPEATED && (kind as Each).each !== undefined) {
            putEach(i, (kind as Each).each, value);
            continue;
        }
        if (kind === BYTES) {
            putBytes(value);
        } else if (kind === STRING) {
            putBytes(utf8(value));
        } else if (typeof kind === "object") {
            const behind = scratch.length - at;
            putFields(kind as Table, value);
            putVarint(scratch.length - at - behind);
        } else {
            putVarint(kind === BOOL ? 1 : value);
        }
        putVarint(
            (i / 2 + 1) * 8 + (kind === BOOL || kind === UINT ? Wire.VARINT : Wire.DELIMITED),
        );
    }
}

/** The delimited frame: its length and its bytes. */
export function encode(table: Table, fields: Fields): Uint8Array {
    at = scratch.length;
    putFields(table, fields);
    putVarint(scratch.length - at);
    return scratch.slice(at);
}

/** The same without its length. */
export function encodeBare(table: Table, fields: Fields): Uint8Array {
    at = scratch.length;
    putFields(table, fields);
    return scratch.slice(at);
}

/** How many bytes of a delimited frame are not its length. */
export function bodyBytes(frame: Uint8Array): number {
    return frame.length - 1 - frame.findIndex((byte) => byte < 128);
}

let input = EMPTY;
let offset = 0;

function broken(): never {
    throw new RangeError("a broken frame");
}

function takeVarint(): number {
    let value = 0;
    for (let i = 0, scale = 1; i < Varint.BYTES_MAX && offset < input.length; i++, scale *= 128) {
        const byte = input[offset++]!;
        value += (byte & 127) * scale;
        if (byte < 128) {
            return Number.isSafeInteger(value) ? value : broken();
        }
    }
    return broken();
}

/** A field of a later version. Its number may be larger than ours can be. */
function skip(wire: number): void {
    if (wire === Wire.VARINT) {
        while (input[offset++]! > 127);
    } else if (wire === Wire.DELIMITED) {
        const size = takeVarint();
        offset += size;
    } else {
        offset += wire === Wire.FIXED64 ? 8 : wire === Wire.FIXED32 ? 4 : broken();
    }
}

function defaults(table: Table): Fields {
    const fields: Fields = {};
    for (let i = 0; i < table.length; i += 2) {
        const kind = table[i + 1];
        if (typeof kind === "number") {
            fields[table[i] as string] = [0, false, EMPTY, ""][kind];
        } else if (REPEATED && (kind as Each).each !== undefined) {
            fields[table[i] as string] = [];
        }
    }
    return fields;
}

function takeDelimited(kind: Table[1]): Fields {
    const size = takeVarint();
    const end = offset + size;
    if (end > input.length) {
        broken();
    }
    if (typeof kind === "object") {
        return takeFields(kind as Table, end);
    }
    const bytes = input.slice(offset, end);
    offset = end;
    return kind === BYTES ? bytes : textOf(bytes);
}

function takeEach(each: number | Table, values: Fields[]): void {
    if (each !== UINT) {
        values.push(takeDelimited(each));
        return;
    }
    const end = takeVarint() + offset;
    while (offset < end) {
        values.push(takeVarint());
    }
    if (offset > end) {
        broken();
    }
}

/** A known field of a wrong kind is passed over like an unknown one. */
function takeFields(table: Table, end: number): Fields {
    const fields = defaults(table);
    while (offset < end) {
        const key = takeVarint();
        const wire = key & 7;
        const i = 2 * Math.floor(key / 8) - 2;
        const name = table[i] as string;
        const kind = table[i + 1];
        if (wire === Wire.VARINT && (kind === UINT || kind === BOOL)) {
            const value = takeVarint();
            fields[name] = kind === BOOL ? value > 0 : value;
        } else if (
            wire === Wire.DELIMITED &&
            kind !== undefined &&
            kind !== UINT &&
            kind !== BOOL
        ) {
            if (REPEATED && (kind as Each).each !== undefined) {
                takeEach((kind as Each).each, fields[name]);
            } else {
                fields[name] = takeDelimited(kind);
            }
        } else {
            skip(wire);
        }
    }
    return offset === end ? fields : broken();
}

/** The delimited frames that fill the bytes; throws when they do not, or cannot be read. */
export function decodeAll(table: Table, bytes: Uint8Array): Fields[] {
    const frames: Fields[] = [];
    input = bytes;
    offset = 0;
    while (offset < bytes.length) {
        frames.push(takeDelimited(table));
    }
    return frames;
}

/** One frame without its length. */
export function decodeBare(table: Table, bytes: Uint8Array): Fields {
    input = bytes;
    offset = 0;
    return takeFields(table, bytes.length);
}
