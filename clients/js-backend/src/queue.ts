// SPDX-License-Identifier: Apache-2.0
// Commands that wait for the node, encoded, within limits.
//
// A command is encoded where it is made, so its size is known before it is taken. Replies are not
// counted: there are no more of them than calls that are open, and to refuse one would help nobody.
import { encodeBare } from "../../js/src/codec.js";
import { BYTES, Each, Table, UINT } from "../../js/src/fields.js";
import { UsherError } from "./errors.js";
import { LINKREQUEST, ResultFields } from "./fields.js";

/** Of a Submit, around its commands. */
export const FRAME_OVERHEAD = 64;
/** Around one command: its tag and its length. No less than its result needs in the answer, which has
 * to fit a frame as well. */
const COMMAND_OVERHEAD = 4;
const BATCH_COMMANDS_MAX = 256;
const TRANSIENT_WAIT_MS = 1000;

export interface Command {
    bytes: Uint8Array;
    /** Only for that link, of whose calls it speaks. */
    link?: object | undefined;
    /** Not to be sent later than a second from then. */
    transientSince?: number | undefined;
    done(result: ResultFields): void;
    failed(error: UsherError): void;
}

/** As the schema's Submit, with commands that are encoded already: on the wire that is the same. */
const COMMANDS: Each = { each: BYTES };
const SUBMIT: Table = [
    "link",
    UINT,
    "lane",
    UINT,
    "seq",
    UINT,
    "commands",
    COMMANDS,
    "token",
    BYTES,
];
const SUBMIT_NUMBER = LINKREQUEST.indexOf("submit");
const REQUEST: Table = LINKREQUEST.map((item, i) => (i === SUBMIT_NUMBER + 1 ? SUBMIT : item));

export function submitBytes(
    link: number,
    seq: number,
    commands: readonly Uint8Array[],
    token?: Uint8Array,
): Uint8Array {
    return encodeBare(REQUEST, { submit: { link, seq, commands, token } });
}

export class Queue {
    frameBytesMax = 16 * 1024;
    private waiting: Command[] = [];
    private count = 0;
    private bytes = 0;
    private askers: (() => void)[] = [];

    constructor(
        private readonly commandsMax: number,
        private readonly bytesMax: number,
    ) {}

    get empty(): boolean {
        return this.waiting.length === 0;
    }

    fits(size: number): boolean {
        return size + COMMAND_OVERHEAD + FRAME_OVERHEAD <= this.frameBytesMax;
    }

    /** Gives why not. */
    add(command: Command): UsherError | undefined {
        const size = command.bytes.length;
        if (!this.fits(size)) {
            const most = this.frameBytesMax - FRAME_OVERHEAD - COMMAND_OVERHEAD;
            return new UsherError("TOO_LARGE", `${size} bytes; the link takes ${most} at once`);
        }
        if (command.link) {
            this.waiting.push(command);
            return undefined;
        }
        if (this.count >= this.commandsMax || this.bytes + size > this.bytesMax) {
            return new UsherError("BUSY", "too many commands wait for the node; room() says when");
        }
        this.waiting.push(command);
        this.count++;
        this.bytes += size;
        return undefined;
    }

    /** Resolved at once, or when half of the queue is free again. */
    room(): Promise<void> {
        return this.roomy()
            ? Promise.resolve()
            : new Promise((resolve) => this.askers.push(resolve));
    }

    private roomy(): boolean {
        return this.count <= this.commandsMax / 2 && this.bytes <= this.bytesMax / 2;
    }

    private taken(command: Command): void {
        if (!command.link) {
            this.count--;
            this.bytes -= command.bytes.length;
        }
    }

    /** What goes into the next Submit; what must not go any more ends here. */
    take(link: object, now: number): Command[] {
        const batch: Command[] = [];
        let room = this.frameBytesMax - FRAME_OVERHEAD;
        let at = 0;
        for (; at < this.waiting.length && batch.length < BATCH_COMMANDS_MAX; at++) {
            const command = this.waiting[at]!;
            const since = command.transientSince;
            const size = command.bytes.length + COMMAND_OVERHEAD;
            if (command.link && command.link !== link) {
                command.failed(new UsherError("GONE", "the call came by a link that has ended"));
            } else if (since !== undefined && now - since > TRANSIENT_WAIT_MS) {
                command.failed(new UsherError("NOT_SENT", "the link was away for too long"));
            } else if (!this.fits(command.bytes.length)) {
                command.failed(new UsherError("TOO_LARGE", "the node's frames are smaller now"));
            } else if (size > room) {
                break;
            } else {
                batch.push(command);
                room -= size;
            }
            this.taken(command);
        }
        this.waiting.splice(0, at);
        this.wake();
        return batch;
    }

    /** While nothing is taken: who made what is only worth something now is told that it is not. Gives
     * when to look again. */
    expire(now: number): number {
        const isOld = ({ transientSince: since }: Command) =>
            since !== undefined && now - since > TRANSIENT_WAIT_MS;
        const old = this.waiting.filter(isOld);
        if (old.length) {
            this.waiting = this.waiting.filter((command) => !isOld(command));
            for (const command of old) {
                this.taken(command);
                command.failed(new UsherError("NOT_SENT", "the link was away for too long"));
            }
            this.wake();
        }
        const first = this.waiting.find(({ transientSince }) => transientSince !== undefined);
        return first ? first.transientSince! + TRANSIENT_WAIT_MS + 1 : Infinity;
    }

    private wake(): void {
        if (this.askers.length && this.roomy()) {
            this.askers.splice(0).forEach((resolve) => resolve());
        }
    }

    /** Back in front, and beyond the limits: they were in the queue before. */
    putBack(commands: readonly Command[]): void {
        for (const command of commands) {
            if (!command.link) {
                this.count++;
                this.bytes += command.bytes.length;
            }
        }
        this.waiting.unshift(...commands);
    }

    failAll(error: UsherError): void {
        const all = this.waiting.splice(0);
        this.count = this.bytes = 0;
        all.forEach((command) => command.failed(error));
        this.wake();
    }
}
