// SPDX-License-Identifier: Apache-2.0
// The client's half of RFC 6455, as far as a browser shows it: Node has no WebSocket before 22, and a
// test of ours should not need a package.
import { createHash, randomBytes } from "node:crypto";
import { connect } from "node:net";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

export class TestWebSocket {
    constructor(url, protocol) {
        const { hostname, port, pathname } = new URL(url);
        this.key = randomBytes(16).toString("base64");
        this.input = Buffer.alloc(0);
        this.upgraded = false;
        this.code = 1006;
        this.reason = "";
        this.socket = connect(Number(port), hostname, () => {
            this.socket.write(
                `GET ${pathname} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: Upgrade\r\n` +
                    `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${this.key}\r\n` +
                    `Sec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
            );
        });
        this.socket.setNoDelay(true);
        this.socket.on("data", (data) => {
            this.input = Buffer.concat([this.input, data]);
            while (this.#step());
        });
        this.socket.on("error", () => this.onerror?.());
        this.socket.on("close", () => this.onclose?.({ code: this.code, reason: this.reason }));
    }

    get bufferedAmount() {
        return this.socket.writableLength;
    }

    /** Whether there may be more to take. */
    #step() {
        return this.upgraded ? this.#frame() : this.#answer();
    }

    #answer() {
        const end = this.input.indexOf("\r\n\r\n");
        if (end < 0) {
            return false;
        }
        const head = this.input.subarray(0, end).toString();
        const accept = createHash("sha1")
            .update(this.key + GUID)
            .digest("base64");
        if (!head.startsWith("HTTP/1.1 101") || !head.includes(accept)) {
            this.socket.destroy();
            return false;
        }
        this.input = this.input.subarray(end + 4);
        this.upgraded = true;
        this.onopen?.({});
        return true;
    }

    #frame() {
        if (this.input.length < 2) {
            return false;
        }
        const opcode = this.input[0] & 15;
        const short = this.input[1];
        const head = short === 127 ? 10 : short === 126 ? 4 : 2;
        if (this.input.length < head) {
            return false;
        }
        const size =
            short === 127
                ? Number(this.input.readBigUInt64BE(2))
                : short === 126
                  ? this.input.readUInt16BE(2)
                  : short;
        if (this.input.length < head + size) {
            return false;
        }
        const payload = this.input.subarray(head, head + size);
        this.input = this.input.subarray(head + size);
        this.#take(opcode, Buffer.from(payload));
        return true;
    }

    #take(opcode, payload) {
        if (opcode === BINARY) {
            const { buffer, byteOffset, length } = payload;
            this.onmessage?.({ data: buffer.slice(byteOffset, byteOffset + length) });
        } else if (opcode === PING) {
            this.#write(PONG, payload);
        } else if (opcode === CLOSE) {
            this.code = payload.length > 1 ? payload.readUInt16BE(0) : 1005;
            this.reason = payload.subarray(2).toString();
            this.#write(CLOSE, payload);
            this.socket.end();
        }
    }

    #write(opcode, payload) {
        const size = payload.length;
        const head = Buffer.alloc(size > 125 ? 8 : 6);
        head[0] = 128 | opcode;
        head[1] = 128 | Math.min(size, 126);
        if (size > 125) {
            head.writeUInt16BE(size, 2);
        }
        const mask = randomBytes(4);
        mask.copy(head, head.length - 4);
        this.socket.write(
            Buffer.concat([head, Buffer.from(payload.map((byte, i) => byte ^ mask[i & 3]))]),
        );
    }

    send(bytes) {
        this.#write(BINARY, Buffer.from(bytes));
    }

    close() {
        if (this.upgraded && this.socket.writable) {
            this.#write(CLOSE, Buffer.from([3, 232]));
            this.socket.end();
        } else {
            this.socket.destroy();
        }
    }
}
