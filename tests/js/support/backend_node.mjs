// SPDX-License-Identifier: Apache-2.0
// A node that does what a test says, behind sockets that are none, and a clock of its own.
import assert from "node:assert/strict";

const internals = await import(process.env.USHER_JS_BACKEND_INTERNALS);
const { addressesOf, decodeBare, encodeBare, LINKANSWER, LINKREQUEST, message, OwnService } =
    internals;

const HEADER_BYTES = 8;
const NODE_HEADER = Uint8Array.from([0, 0x53, 0x50, 0, 0, 0x31, 0, 0]);

/** Time passes when a test says so. */
export class Clock {
    constructor() {
        this.time = 5000;
        this.timers = new Map();
        this.next = 1;
        this.behind = [];
    }

    now = () => this.time;
    random = () => 0.5;
    soon = (run) => void this.behind.push(run);
    cancel = (timer) => void this.timers.delete(timer);
    after = (ms, run) => {
        this.timers.set(this.next, { due: this.time + ms, run });
        return this.next++;
    };

    /** Until nothing more happens by itself. */
    async settle() {
        do {
            await new Promise((resolve) => setImmediate(resolve));
            this.behind.splice(0).forEach((run) => run());
            await new Promise((resolve) => setImmediate(resolve));
        } while (this.behind.length);
    }

    async advance(ms) {
        const until = this.time + ms;
        await this.settle();
        for (;;) {
            const due = [...this.timers].filter(([, timer]) => timer.due <= until);
            if (!due.length) {
                break;
            }
            const [id, timer] = due.reduce((a, b) => (b[1].due < a[1].due ? b : a));
            this.timers.delete(id);
            this.time = Math.max(this.time, timer.due);
            timer.run();
            await this.settle();
        }
        this.time = until;
    }
}

/** One socket, seen from the node. */
class Connection {
    constructor(node, address, events) {
        Object.assign(this, { node, address, events, input: Buffer.alloc(0) });
        Object.assign(this, { greeted: false, destroyed: false });
    }

    write(bytes) {
        assert.ok(!this.destroyed, "written to a socket that is destroyed");
        this.input = Buffer.concat([this.input, bytes]);
        if (!this.greeted && this.input.length >= HEADER_BYTES) {
            assert.equal(this.input.subarray(0, HEADER_BYTES).toString("hex"), "0053500000300000");
            this.input = this.input.subarray(HEADER_BYTES);
            this.greeted = true;
            if (this.node.greets) {
                this.greet();
            }
        }
        const before = this.address.path ? 1 : 0;
        while (this.greeted && this.input.length >= before + 8) {
            const size = Number(this.input.readBigUInt64BE(before));
            const [id, body] = [
                this.input.readUInt32BE(before + 8),
                this.input.subarray(before + 12, before + 8 + size),
            ];
            this.input = this.input.subarray(before + 8 + size);
            assert.ok(id >= 2 ** 31, "the highest bit of an id is set");
            const bytes = Uint8Array.from(body);
            this.node.got.push({ connection: this, id, bytes, ...decodeBare(LINKREQUEST, bytes) });
        }
    }

    destroy() {
        if (!this.destroyed) {
            this.destroyed = true;
            queueMicrotask(() => this.events.end(""));
        }
    }

    greet(header = NODE_HEADER) {
        this.events.data(header);
    }

    say(bytes) {
        this.events.data(Uint8Array.from(bytes));
    }

    /** The other side is gone. */
    cut(code = "ECONNRESET") {
        if (!this.destroyed) {
            this.destroyed = true;
            this.events.end(code);
        }
    }
}

export class Node {
    constructor() {
        this.connections = [];
        /** Requests that nobody has looked at. */
        this.got = [];
        this.greets = true;
        /** What becomes of a connection that is made: a code of the system, or nothing. */
        this.refuses = () => undefined;
        this.dial = (address, events) => {
            const connection = new Connection(this, address, events);
            this.connections.push(connection);
            queueMicrotask(() => {
                const code = this.refuses(address);
                if (code) {
                    connection.cut(code);
                } else {
                    events.open();
                }
            });
            return connection;
        };
    }

    /** Takes the requests of that kind (hello, fetch, submit). */
    all(kind) {
        const its = this.got.filter((request) => request[kind]);
        this.got = this.got.filter((request) => !request[kind]);
        return its;
    }

    /** The only one of that kind. */
    one(kind) {
        const its = this.all(kind);
        assert.equal(its.length, 1, `${its.length} requests of kind ${kind}`);
        return its[0];
    }

    answer(request, answer) {
        const { connection, id } = request;
        const bytes = encodeBare(LINKANSWER, answer);
        connection.events.data(message(connection.address.path !== "", id, bytes));
    }

    refuse(request, code, detail = "") {
        this.answer(request, { refused: { code, detail } });
    }

    /** Every command is done, or has the result that is given for it. */
    results(request, ...results) {
        const { seq, commands } = request.submit;
        const all = commands.map((_, i) => results[i] ?? { code: 0 });
        this.answer(request, { results: { seq, results: all } });
    }
}

export const REFUSED = { STALE_LINK: 1, BANNED: 2, MALFORMED: 3, PIPELINED: 4, BUSY: 5 };
export const SECRET_LINK = 4444555566667;

export const ACCEPTED = {
    link: SECRET_LINK,
    node: "n",
    nodeBoot: "boot",
    frameBytesMax: 16384,
    parkMs: 1500,
    presenceFrom: 1,
    number: 7,
};

/** A service that says Hello to a scripted node. */
export async function begin(
    options = {},
    { service = "arena", node = new Node(), clock = new Clock() } = {},
) {
    const log = [];
    const { link = "ipc:///link", ...others } = options;
    const parts = { clock, dial: node.dial, addresses: addressesOf(link) };
    const all = { token: "the-token", log: (line) => void log.push(line), ...others };
    const arena = new OwnService(service, "a-1", all, parts);
    const states = [];
    arena.onState(({ state }) => void states.push(state));
    const linked = arena.begin();
    linked.catch(() => {});
    await clock.settle();
    return { arena, node, clock, log, states, linked };
}

/** The same, linked, with its first Fetch taken. */
export async function link(options = {}, accepted = {}, more = {}) {
    const all = await begin(options, more);
    all.hello = all.node.one("hello");
    all.node.answer(all.hello, { accepted: { ...ACCEPTED, ...accepted } });
    await all.linked;
    more.handlers?.(all.arena);
    await all.clock.settle();
    all.fetch = all.node.one("fetch");
    return all;
}

export const call = (seq, method = "m", fields = {}) => ({
    seq,
    call: {
        call: 100 + seq,
        user: "alice",
        epoch: 9,
        method,
        payload: Uint8Array.from([seq]),
        timeoutMs: 1000,
        ...fields,
    },
});

/** A promise to be settled by hand. */
export function later() {
    const all = {};
    all.promise = new Promise((resolve, reject) => Object.assign(all, { resolve, reject }));
    return all;
}

export { internals };
