// SPDX-License-Identifier: Apache-2.0
// A broker that does what a test says, behind a WebSocket that is none.

const core = await import(process.env.USHER_JS_INTERNALS);
/** What a broker says of rooms and friends, too. */
export const social = await import(process.env.USHER_JS_SOCIAL_INTERNALS);

export const SECRET = Uint8Array.from([1, 2, 3, 4]);
export const ERROR = { UNAUTHENTICATED: 2, NOT_ONLINE: 5, INBOX_FULL: 6, BUSY: 7, TIMEOUT: 9 };
Object.assign(ERROR, {
    FORBIDDEN: 3,
    INVALID_NAME: 4,
    NO_SERVICE: 8,
    RATE_LIMITED: 12,
    NO_ROOM: 18,
});
Object.assign(ERROR, { ROOM_FULL: 19, NOT_MEMBER: 20 });
Object.assign(ERROR, { TOO_LARGE: 11, UNAVAILABLE: 13, RESUME_REJECTED: 15, DRAINING: 16 });
export const CLOSE = { REPLACED: 1, KICKED: 2, AUTH_FAILED: 4, SHUTDOWN: 10, LOGGED_OUT: 11 };
Object.assign(CLOSE, { OVERLOADED: 12, STALE_SESSION: 14, TOKEN_EXPIRED: 15 });

export class Scripted {
    constructor(codec = core) {
        const broker = this;
        const { CLIENTFRAME, decodeAll } = codec;
        this.codec = codec;
        /** All that ever connected, in their order. */
        this.sockets = [];
        this.epoch = 1000;
        this.WebSocket = class {
            constructor(url, protocol) {
                Object.assign(this, { url, protocol, got: [], ended: false, bufferedAmount: 0 });
                broker.sockets.push(this);
            }
            send(bytes) {
                for (const frame of decodeAll(CLIENTFRAME, bytes)) {
                    delete frame.resume?.[""]; // what this table leaves out
                    this.got.push(frame);
                }
            }
            close() {
                this.ended = true;
            }
        };
    }

    get socket() {
        return this.sockets.at(-1);
    }

    open() {
        this.socket.onopen({});
    }

    /** What came on the newest connection since the last call, without the ids that nobody asks for. */
    take(kind) {
        const frames = this.socket.got.splice(0);
        return kind ? frames.filter((frame) => frame[kind]).map((frame) => frame[kind]) : frames;
    }

    say(...frames) {
        const { BROKERFRAME, encode } = this.codec;
        const parts = frames.map((frame) => encode(BROKERFRAME, frame));
        this.socket.onmessage({ data: Uint8Array.from(parts.flatMap((part) => [...part])).buffer });
    }

    /** Connects the newest socket and welcomes who says hello there. Gives the hello. */
    welcome(fields = {}) {
        this.open();
        const [hello] = this.take();
        this.greet(hello, fields);
        return hello;
    }

    greet(hello, fields = {}) {
        const epoch = hello.resume ? hello.resume.epoch : ++this.epoch;
        const nextSeq = hello.resume ? hello.resume.lastSeq + 1 : 1;
        const replay = hello.resume ? 1 : 0;
        const all = { epoch, secret: SECRET, replay, nextSeq, heartbeatMs: 30000, resumeMs: 60000 };
        const welcome = { ...all, frameBytesMax: 1000, node: "n", ...fields };
        this.say({ id: hello.id, welcome });
    }

    /** Messages with these numbers. */
    push(...seqs) {
        this.say(...seqs.map((seq) => ({ message: message(seq) })));
    }

    cut(code = 1006, reason = "") {
        this.socket.onclose({ code, reason });
    }
}

export function message(seq, size = 1) {
    return { seq, from: "bob", payload: new Uint8Array(size).fill(seq % 256), timeMs: 5 };
}
