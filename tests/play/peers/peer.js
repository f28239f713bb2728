// SPDX-License-Identifier: Apache-2.0
// A client on any WebSocket that looks like a browser's. README.md says what it does. A script and not
// a module, so that a page and Node can take it as it is.

const text = {
    encode: (value) => [...new TextEncoder().encode(value)],
    decode: (bytes) => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
};

function varint(number) {
    const bytes = [];
    for (; number >= 128; number = Math.floor(number / 128)) {
        bytes.push((number % 128) | 128);
    }
    return [...bytes, number];
}

const numberField = (field, value) => [...varint(field * 8), ...varint(value)];
const bytesField = (field, bytes) => [...varint(field * 8 + 2), ...varint(bytes.length), ...bytes];
const textField = (field, value) => bytesField(field, text.encode(value));

function clientFrame(id, kind, body) {
    const frame = [...numberField(1, id), ...bytesField(kind, body)];
    return [...varint(frame.length), ...frame];
}

function readVarint(bytes, at) {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
        const byte = bytes[at.place++];
        value += (byte & 127) * factor;
        if (byte < 128) {
            return value;
        }
    }
}

// Fields of the wire types 0 and 2 by their numbers.
function readFields(bytes) {
    const fields = {};
    const at = { place: 0 };
    while (at.place < bytes.length) {
        const tag = readVarint(bytes, at);
        const value = readVarint(bytes, at);
        if (tag % 8 === 2) {
            fields[tag >> 3] = bytes.subarray(at.place, at.place + value);
            at.place += value;
        } else {
            fields[tag >> 3] = value;
        }
    }
    return fields;
}

function readFrames(bytes) {
    const frames = [];
    const at = { place: 0 };
    while (at.place < bytes.length) {
        const size = readVarint(bytes, at);
        if (at.place + size > bytes.length) {
            throw new Error("a message that does not end with a frame");
        }
        frames.push(readFields(bytes.subarray(at.place, at.place + size)));
        at.place += size;
    }
    return frames;
}

const LOGIN = 2;
const SEND = 4;
const ACK = 6;
const MESSAGE = 3;
const CLOSE = 8;

// lines: what is to be printed. changed() is called for each.
function startPeer(socket, name, changed) {
    const peer = { socket, lines: [], count: 0, messages: 0, welcomed: false, lastId: 0 };
    const say = (line) => {
        peer.lines.push(line);
        changed(line);
    };
    const send = (frame) => socket.send(new Uint8Array(frame));
    const sendTo = (to, value) =>
        send(clientFrame(++peer.lastId, SEND, [...textField(1, to), ...textField(2, value)]));

    const onMessage = (fields) => {
        const payload = text.decode(fields[4] || new Uint8Array(0));
        const from = text.decode(fields[2] || new Uint8Array(0));
        peer.count++;
        send(clientFrame(0, ACK, numberField(1, fields[1])));
        if (payload.startsWith("echo ")) {
            sendTo(from, payload.slice(5));
        } else if (payload === "count") {
            sendTo(from, String(peer.count));
        } else if (payload === "leave") {
            socket.close(1000, "bye");
        }
    };
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
        say(`open ${socket.protocol}`);
        const login = [...textField(1, name), ...textField(3, "peer.js"), ...numberField(4, 1)];
        send(clientFrame(++peer.lastId, LOGIN, login));
    };
    socket.onmessage = (event) => {
        peer.messages++;
        for (const frame of readFrames(new Uint8Array(event.data))) {
            if (frame[MESSAGE]) {
                onMessage(readFields(frame[MESSAGE]));
            } else if (frame[CLOSE]) {
                const close = readFields(frame[CLOSE]);
                say(`said ${close[1]} ${text.decode(close[2] || new Uint8Array(0))}`.trim());
            } else if (frame[2]) {
                peer.welcomed = true;
            }
        }
    };
    socket.onerror = () => {};
    socket.onclose = (event) => say(`closed ${event.code} ${event.reason}`.trim());
    return peer;
}

globalThis.startPeer = startPeer;
