// SPDX-License-Identifier: Apache-2.0
// The client's codec against Python's protobuf: the same bytes for the same fields, and back. What is
// not exact in a double, or is no frame, throws. That of usher-client knows nothing of rooms and friends,
// and passes over them; that of usher-client/social reads and writes everything.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const FRAMES = 6000;
const internals = process.env.USHER_JS_INTERNALS;
const codec = await import(internals);
const { CLIENTFRAME, BROKERFRAME, BYTES } = codec;
const tables = { ClientFrame: CLIENTFRAME, BrokerFrame: BROKERFRAME };
const social = await import(process.env.USHER_JS_SOCIAL_INTERNALS);
const longer = { ClientFrame: social.CLIENTFRAME, BrokerFrame: social.BROKERFRAME };

const bytesOf = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const hexOf = (bytes) => Buffer.from(bytes).toString("hex");

/** The fields of a line as the codec has them: bytes are bytes, and what was left out stands there too
 * when `whole`. */
function expand(table, fields, whole) {
    const out = {};
    for (let i = 0; i < table.length; i += 2) {
        const [name, kind] = [table[i], table[i + 1]];
        const { each } = kind;
        if (each !== undefined) {
            if (whole || name in fields) {
                const values = fields[name] ?? [];
                out[name] =
                    typeof each === "object"
                        ? values.map((one) => expand(each, one, whole))
                        : values;
            }
        } else if (typeof kind === "object") {
            if (fields[name]) {
                out[name] = expand(kind, fields[name], whole);
            }
        } else if (kind === BYTES && (whole || name in fields)) {
            out[name] = bytesOf(fields[name] ?? "");
        } else if (whole || name in fields) {
            out[name] = fields[name] ?? [0, false, null, ""][kind];
        }
    }
    return out;
}

/** Whether the table has a place for all of it. */
function knows(table, fields) {
    return Object.entries(fields).every(([name, value]) => {
        const kind = table[table.indexOf(name) + 1];
        const inner = Array.isArray(kind) && typeof value === "object";
        return table.includes(name) && (!inner || knows(kind, value));
    });
}

const seed = Number(process.env.USHER_PLAY_SEED ?? Math.floor(Math.random() * 1e9));
const script = fileURLToPath(new URL("frames.py", import.meta.url));
const lines = execFileSync("/usr/bin/python3", [script, String(seed), String(FRAMES)], {
    maxBuffer: 1 << 28,
    encoding: "utf8",
})
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

for (const [name, its, all] of [
    ["usher-client", codec, tables],
    ["usher-client/social", social, longer],
]) {
    test(`random frames are written as protobuf writes them, ${name}, seed ${seed}`, () => {
        assert.equal(lines.length, FRAMES);
        const known = lines.filter(({ type, fields }) => knows(all[type], fields));
        assert.ok(known.length > FRAMES / 3, `${known.length}`);
        assert.equal(known.length === FRAMES, its === social);
        for (const { type, fields, frame } of known) {
            assert.equal(hexOf(its.encode(all[type], expand(all[type], fields))), frame);
        }
    });

    test(`they are read as protobuf meant them, with fields of a later version too, ${name}, seed ${seed}`, () => {
        for (const { type, fields, frame, newer } of lines) {
            const expected = [expand(all[type], fields, true)];
            assert.deepEqual(its.decodeAll(all[type], bytesOf(frame)), expected);
            assert.deepEqual(its.decodeAll(all[type], bytesOf(newer)), expected);
        }
    });

    test(`frames with a byte changed, or cut, give fields or a RangeError, ${name}`, () => {
        let broken = 0;
        for (const { type, frame } of lines.slice(0, 2000)) {
            const bytes = bytesOf(frame);
            bytes[Math.floor(Math.random() * bytes.length)] ^= 1 << Math.floor(Math.random() * 8);
            try {
                its.decodeAll(all[type], bytes);
            } catch (error) {
                assert.ok(error instanceof RangeError, String(error));
                broken++;
            }
        }
        assert.ok(broken > 100, `${broken} were refused`);
    });
}

test("several frames in one message, and none", () => {
    const some = lines.filter((line) => line.type === "BrokerFrame").slice(0, 50);
    const all = bytesOf(some.map((line) => line.frame).join(""));
    const expected = some.map((line) => expand(BROKERFRAME, line.fields, true));
    assert.deepEqual(codec.decodeAll(BROKERFRAME, all), expected);
    assert.deepEqual(codec.decodeAll(BROKERFRAME, new Uint8Array(0)), []);
});

test("a frame that is cut anywhere is no frame", () => {
    for (const { type, frame } of lines.slice(0, 300)) {
        const whole = bytesOf(frame);
        for (let size = 1; size < Math.min(whole.length, 400); size++) {
            assert.throws(() => codec.decodeAll(tables[type], whole.subarray(0, size)), RangeError);
        }
    }
});

test("what is inside does not go beyond what holds it", () => {
    // send { to: "abc" } of which the Send says that it has 2 bytes, or 6 of which there are 5
    for (const frame of ["07 22 02 0a 03 61 62 63", "07 22 06 0a 03 61 62 63", "03 22 01 08"]) {
        const bytes = bytesOf(frame.replaceAll(" ", ""));
        assert.throws(() => codec.decodeAll(CLIENTFRAME, bytes), RangeError, frame);
    }
});

test("numbers beyond 2^53 - 1 are refused both ways, and what is no number", () => {
    const most = Number.MAX_SAFE_INTEGER;
    const written = codec.encode(CLIENTFRAME, { ack: { seq: most } });
    assert.deepEqual(codec.decodeAll(CLIENTFRAME, written), [{ id: 0, ack: { seq: most } }]);
    for (const seq of [most + 1, 2 ** 64, -1, 0.5, NaN, Infinity, "7", 7n, null]) {
        assert.throws(() => codec.encode(CLIENTFRAME, { ack: { seq } }), /RangeError|TypeError/);
    }
    // 2^53 and 2^64 - 1 as the seq of an Ack
    for (const varint of ["80808080808080 10", "ffffffffffffffffff01"]) {
        const seq = varint.replace(" ", "");
        const ack = "08" + seq;
        const body = "32" + hexOf([ack.length / 2]) + ack;
        const frame = bytesOf(hexOf([body.length / 2]) + body);
        assert.throws(() => codec.decodeAll(CLIENTFRAME, frame), RangeError);
    }
});

test("a fault leaves nothing behind for the next frame", () => {
    const good = { id: 1, send: { to: "bob", payload: new Uint8Array([1]) } };
    const before = hexOf(codec.encode(CLIENTFRAME, good));
    assert.throws(() => codec.encode(CLIENTFRAME, { id: -1, send: good.send }), RangeError);
    assert.throws(() => codec.encode(CLIENTFRAME, { send: { payload: {} } }), RangeError);
    assert.equal(hexOf(codec.encode(CLIENTFRAME, good)), before);
});

test("half of a pair becomes U+FFFD, as TextEncoder has it", () => {
    for (const text of ["\ud800", "a\udc00b", "\ud83d\ude00", "\ud83dx", "\udc00\ud800", "\0é界"]) {
        assert.equal(hexOf(codec.utf8(text)), hexOf(new TextEncoder().encode(text)));
    }
});

test("texts are the same where there is no TextDecoder", async () => {
    const texts = ["", "a", "é\u07ff\u0800界\ufeff\uffff", "😀".repeat(50), "z".repeat(500)];
    const saved = globalThis.TextDecoder;
    delete globalThis.TextDecoder;
    const bare = await import(internals + "?bare");
    globalThis.TextDecoder = saved;
    for (const text of texts) {
        const bytes = new TextEncoder().encode(text);
        assert.equal(bare.textOf(bytes), text);
        assert.equal(codec.textOf(bytes), text);
    }
    for (let i = 0; i < 2000; i++) {
        const noise = Uint8Array.from({ length: i % 90 }, () => Math.random() * 256);
        assert.equal(typeof bare.textOf(noise), "string"); // it does not throw
    }
});

test("a stream in pieces of any size gives the same frames", () => {
    const some = lines.filter((line) => line.type === "BrokerFrame").slice(0, 200);
    const all = bytesOf(some.map((line) => line.frame).join(""));
    for (const size of [1, 2, 3, 7, 64, 1000, 65536]) {
        const got = [];
        const joiner = new codec.Joiner((frames) =>
            got.push(...codec.decodeAll(BROKERFRAME, frames)),
        );
        for (let at = 0; at < all.length; at += size) {
            assert.ok(joiner.add(all.slice(at, at + size)));
        }
        assert.equal(got.length, some.length);
        got.forEach((frame, i) =>
            assert.deepEqual(frame, expand(BROKERFRAME, some[i].fields, true)),
        );
    }
});

test("a stream that is none is refused: a length of six bytes, or beyond 16 MiB", () => {
    const add = (...bytes) => new codec.Joiner(() => {}).add(Uint8Array.from(bytes));
    assert.ok(add(0x80, 0x80, 0x80, 0x08)); // 16 MiB
    assert.ok(!add(0xff, 0xff, 0xff, 0xff, 0x01));
    assert.ok(!add(0xff, 0xff, 0xff, 0xff, 0xff, 0xff));
});
