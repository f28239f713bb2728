// SPDX-License-Identifier: Apache-2.0
// One connection to the node, with one request at a time, and the list of addresses that it may have.
//
// Each request ends once: with an answer, or with words that say why there is none. Whether it is
// sent again is its owner's decision. Whatever a peer says that is no answer to what was asked ends
// the connection: what is behind it has no meaning any more.
//
// A connection in its handshake is never closed from here: nng 1.5 may take that for the end of its
// listener. It is left alone until the node has said its header, or for some seconds.
import { connect } from "node:net";
import { decodeBare } from "../../js/src/codec.js";
import { LINKANSWER, LinkAnswerFields } from "./fields.js";
import { HEADER, message, Reader } from "./sp.js";
import { Clock } from "./time.js";
import { Address } from "./where.js";

const HANDSHAKE_MS = 5000;
const KEEP_ALIVE_MS = 10000;
const IDS = 2 ** 31;

export interface Wire {
    write(bytes: Uint8Array): void;
    destroy(): void;
}

export interface WireEvents {
    open(): void;
    data(piece: Uint8Array): void;
    /** Once; `code` is that of the system, as ECONNREFUSED, or empty. */
    end(code: string): void;
}

export type Dial = (address: Address, events: WireEvents) => Wire;

export const dialSocket: Dial = (address, events) => {
    const { path, host, port } = address;
    const socket = connect(path ? { path } : { host, port, autoSelectFamily: true });
    let code = "";
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.on("connect", () => events.open());
    socket.on("data", (piece: Uint8Array) => events.data(piece));
    socket.on("error", (error: { code?: string }) => void (code = error.code ?? "error"));
    socket.on("close", () => events.end(code));
    return socket;
};

/** Why there is no answer, in words for a log. */
export interface Failure {
    url: string;
    why: string;
    /** The socket's permissions keep us out. */
    forbidden: boolean;
    /** The request left, so it may have been heard. */
    sent: boolean;
}

export interface Outcome {
    answer?: LinkAnswerFields;
    failure?: Failure;
}

/** A connection that was made, until it is dropped. */
interface Connection {
    wire: Wire;
    /** The node has said its header. */
    ready: boolean;
    ended: boolean;
}

export class Channel {
    private connection: Connection | undefined;
    private at = 0;
    private id: number;
    private request: Uint8Array | undefined;
    private sent = false;
    private done: ((outcome: Outcome) => void) | undefined;
    private timer: unknown;

    constructor(
        private readonly addresses: readonly Address[],
        private readonly clock: Clock,
        private readonly dial: Dial,
    ) {
        this.id = Math.floor(clock.random() * IDS);
    }

    get idle(): boolean {
        return !this.done;
    }

    get url(): string {
        return this.addresses[this.at]!.url;
    }

    /** Only when idle. `done` is called once, and not before this returns. */
    start(body: Uint8Array, timeoutMs: number, done: (outcome: Outcome) => void): void {
        this.id = (this.id + 1) % IDS;
        this.done = done;
        this.sent = false;
        const address = this.addresses[this.at]!;
        this.request = message(address.path !== "", IDS + this.id, body);
        // A program that was busy looks at what has come before it says that nothing came.
        const judge = () => {
            if (this.done === done) {
                this.fail("no answer in time", true);
            }
        };
        this.timer = this.clock.after(timeoutMs, () => this.clock.soon(judge));
        if (!this.connection) {
            this.open(address);
        } else if (this.connection.ready) {
            this.write(this.connection);
        }
    }

    private write({ wire }: Connection): void {
        this.sent = true;
        wire.write(this.request!);
    }

    private open(address: Address): void {
        const own: Connection = { wire: undefined!, ready: false, ended: false };
        const mine = () => this.connection === own;
        const ready = () => {
            own.ready = true;
            if (!mine()) {
                own.wire.destroy();
            } else if (this.request) {
                this.write(own);
            }
        };
        const reader = new Reader(address.path !== "", ready, (id, body) =>
            mine() ? this.take(id, body) : undefined,
        );
        this.connection = own;
        own.wire = this.dial(address, {
            open: () => own.wire.write(HEADER),
            data: (piece) => {
                const fault = own.ended ? undefined : reader.add(piece);
                if (fault) {
                    own.ended = true;
                    own.wire.destroy();
                    if (mine()) {
                        this.fail(fault, true);
                    }
                }
            },
            end: (code) => {
                own.ended = true;
                if (mine()) {
                    this.lost(code, own.ready);
                }
            },
        });
    }

    /** An answer must be to what was asked, and must be one. */
    private take(id: number, body: Uint8Array): string | undefined {
        if (!this.done || id !== IDS + this.id) {
            return "an answer that nobody asked for";
        }
        let answer: LinkAnswerFields;
        try {
            answer = decodeBare(LINKANSWER, body);
        } catch {
            return "an answer that cannot be read";
        }
        this.finish({ answer });
        return undefined;
    }

    private finish(outcome: Outcome): void {
        const done = this.done;
        this.clock.cancel(this.timer);
        this.request = this.done = undefined;
        done?.(outcome);
    }

    private lost(code: string, wasReady: boolean): void {
        const words: Record<string, string> = {
            "": "connection lost",
            ECONNREFUSED: "nobody listens there",
            ENOENT: "there is no such socket",
            EACCES: "permission denied",
        };
        this.fail(words[code] ?? code, !wasReady, code === "EACCES" || code === "EPERM");
    }

    /** Lets the connection go, and for the next request takes the next address when `elsewhere`. */
    private fail(why: string, elsewhere: boolean, forbidden = false): void {
        const failure = { url: this.url, why, forbidden, sent: this.sent };
        this.drop();
        if (elsewhere) {
            this.at = (this.at + 1) % this.addresses.length;
        }
        this.finish({ failure });
    }

    private drop(): void {
        const own = this.connection;
        this.connection = undefined;
        if (!own || own.ended) {
            return;
        }
        if (own.ready) {
            own.wire.destroy();
            return;
        }
        const timer = this.clock.after(HANDSHAKE_MS, () => own.wire.destroy());
        (timer as { unref?(): void }).unref?.();
    }

    /** What is under way is never answered. */
    close(): void {
        this.clock.cancel(this.timer);
        this.request = this.done = undefined;
        this.drop();
    }
}
