// SPDX-License-Identifier: Apache-2.0
// The codec with repeated fields, as usher-backend is built, against Python's protobuf; and the framing
// of the link, in pieces of any size.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const FRAMES = 4000;
const codec = await import(process.env.USHER_JS_BACKEND_INTERNALS);
const { LINKREQUEST, LINKANSWER, BYTES } = codec;
const tables = { LinkRequest: LINKREQUEST, LinkAnswer: LINKANSWER };

const bytesOf = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const hexOf = (bytes) => Buffer.from(bytes).toString("hex");

/** A value of a line as the codec has it; what was left out stands there too when `whole`. */
function expand(kind, value, whole) {
    if (kind.each !== undefined) {
        return (value ?? []).map((each) => expand(kind.each, each, whole));
    }
    if (typeof kind === "number") {
        return kind === BYTES ? bytesOf(value ?? "") : (value ?? [0, false, null, ""][kind]);
    }
    const out = {};
    for (let i = 0; i < kind.length; i += 2) {
        const [name, its] = [kind[i], kind[i + 1]];
        const stands =
            name in value || (whole && (typeof its === "number" || its.each !== undefined));
        if (stands) {
            out[name] = expand(its, value[name], whole);
        }
    }
    return out;
}

const seed = Number(process.env.USHER_PLAY_SEED ?? Math.floor(Math.random() * 1e9));
const script = fileURLToPath(new URL("support/backend_frames.py", import.meta.url));
const lines = execFileSync("/usr/bin/python3", [script, String(seed), String(FRAMES)], {
    maxBuffer: 1 << 28,
    encoding: "utf8",
})
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

test(`${FRAMES} random frames are written as protobuf writes them, seed ${seed}`, () => {
    assert.equal(lines.length, FRAMES);
    assert.ok(lines.some(({ fields }) => fields.submit?.commands?.length > 2));
    for (const { type, fields, frame } of lines) {
        const given = expand(tables[type], fields, false);
        assert.equal(hexOf(codec.encodeBare(tables[type], given)), frame);
    }
});

test(`they are read as protobuf meant them, with fields of a later version too, seed ${seed}`, () => {
    for (const { type, fields, frame, newer } of lines) {
        const expected = expand(tables[type], fields, true);
        assert.deepEqual(codec.decodeBare(tables[type], bytesOf(frame)), expected);
        assert.deepEqual(codec.decodeBare(tables[type], bytesOf(newer)), expected);
    }
});

test("elements with default values are elements all the same", () => {
    const lookup = { users: ["", "a", ""] };
    const request = { submit: { commands: [{ lookup }, {}] } };
    const read = codec.decodeBare(LINKREQUEST, codec.encodeBare(LINKREQUEST, request));
    assert.deepEqual(read.submit.commands, [{ lookup }, {}]);
});

test("frames with a byte changed, or cut, give fields or a RangeError, and nothing else", () => {
    let broken = 0;
    for (const { type, frame } of lines.slice(0, 1500)) {
        const bytes = bytesOf(frame);
        const at = Math.floor(Math.random() * bytes.length);
        const cut = Math.random() < 0.5;
        if (!cut && bytes.length) {
            bytes[at] ^= 1 << Math.floor(Math.random() * 8);
        }
        try {
            codec.decodeBare(tables[type], cut ? bytes.subarray(0, at) : bytes);
        } catch (error) {
            assert.ok(error instanceof RangeError, String(error));
            broken++;
        }
    }
    assert.ok(broken > 100, `${broken} were refused`);
});

test("numbers beyond 2^53 - 1 are refused both ways", () => {
    const most = Number.MAX_SAFE_INTEGER;
    const kick = (epoch) => codec.encodeBare(codec.COMMAND, { kick: { user: "a", epoch } });
    assert.equal(codec.decodeBare(codec.COMMAND, kick(most)).kick.epoch, most);
    for (const epoch of [most + 1, -1, 0.5, NaN, "7", 7n]) {
        assert.throws(() => kick(epoch), /RangeError|TypeError/);
    }
    // accepted { link: 2^53 }
    assert.throws(
        () => codec.decodeBare(LINKANSWER, bytesOf("0a09088080808080808010")),
        RangeError,
    );
});

for (const ipc of [true, false]) {
    test(`messages in pieces of any size, by ${ipc ? "ipc" : "tcp"}`, () => {
        const bodies = lines.slice(0, 100).map((line) => bytesOf(line.frame));
        const header = [0, 0x53, 0x50, 0, 0, 0x31, 0, 0];
        const parts = bodies.map((body, i) => codec.message(ipc, 2 ** 31 + i, body));
        const all = Buffer.concat([Buffer.from(header), ...parts]);
        for (const size of [1, 2, 3, 8, 9, 13, 64, 1000, all.length]) {
            const got = [];
            let headers = 0;
            const reader = new codec.Reader(
                ipc,
                () => void headers++,
                (id, body) => void got.push([id, hexOf(body)]),
            );
            for (let at = 0; at < all.length; at += size) {
                assert.equal(reader.add(all.subarray(at, at + size)), undefined);
            }
            assert.equal(headers, 1);
            assert.deepEqual(
                got,
                bodies.map((body, i) => [2 ** 31 + i, hexOf(body)]),
            );
        }
    });
}

test("a stream that is none is refused before anything is kept", () => {
    const fault = (ipc, ...parts) => {
        const reader = new codec.Reader(
            ipc,
            () => {},
            () => undefined,
        );
        return parts.map((hex) => reader.add(bytesOf(hex))).find(Boolean);
    };
    const good = "0053500000310000";
    assert.match(fault(true, "0053500000300000"), /does not speak/); // a REQ, as we are
    assert.match(fault(true, "485454502f312e31"), /does not speak/);
    assert.match(fault(true, good, "020000000000000004"), /does not begin/);
    assert.match(fault(true, good, "010000000000000003"), /of 3 bytes/);
    assert.match(fault(false, good, "0000000000010005"), /of 65541 bytes/);
    assert.match(fault(false, good, "ffffffffffffffff"), /of 18446744073709552000 bytes/);
    assert.equal(fault(false, good, "0000000000010004"), undefined);
});
