// SPDX-License-Identifier: Apache-2.0
// Messages on their way to the program, and how far it is.
//
// Within an epoch a message counts only if its seq is higher than all before it: what comes again
// after a resume while it still waits here is given once. A message is processed when the program has
// left it and all before it; seqs are acknowledged up to that one, some at a time.
//
// A stored message has a mid besides, which rises over all epochs: one that is not above all before it was
// here, and comes again because the broker does not know that it was processed. It is not given again,
// but its new seq is processed as soon as the first copy is, or the broker would wait for it for ever.
import { Message } from "./api.js";
import { Emitter } from "./emitter.js";
import { MessageFields } from "./fields.js";
import { Settings } from "./limits.js";
import { textOf } from "./utf8.js";

const enum Acks {
    /** So many that are processed are told at once, fewer after a while. */
    SOON = 16,
    DELAY_MS = 50,
}

export interface Received extends Message {
    /** The numbering that its seq belongs to: a new epoch begins another. */
    _count: object;
    /** The highest up to this one. */
    _mid: number;
    /** The program is done with it. */
    _left?: boolean;
}

type Taker = (message: Received | undefined) => void;

export class Inbox {
    _epoch = 0;
    _count: object = {};
    _receivedSeq = 0;
    _processedSeq = 0;
    _receivedMid: number;
    /** Of those that came again one behind the other: the seq before them, and seq and mid of the last. */
    _againAfter = 0;
    _againSeq = 0;
    _againMid = 0;
    /** Before what is given next. */
    _missed = 0;
    _unread: Received[] = [];
    _bytes = 0;
    /** Taken by the program and not left, in their order. */
    _taken: Received[] = [];
    _takers: Taker[] = [];
    _ended = false;
    _pumping = false;
    _untold = 0;
    _timer: ReturnType<typeof setTimeout> | undefined;

    constructor(
        readonly _settings: Settings,
        readonly _events: Emitter,
        /** The program has processed some more. */
        readonly _progress: () => void,
        /** The program has taken half of what was too much. */
        readonly _drained: () => void,
        public _processedMid: number,
    ) {
        this._receivedMid = _processedMid;
    }

    /** From here on messages are numbered from seq. */
    _begin(epoch: number, seq: number): void {
        this._epoch = epoch;
        this._count = {};
        this._receivedSeq = this._processedSeq = Math.max(seq - 1, 0);
        this._againSeq = this._missed = 0;
    }

    /** False: it does not fit, and was not taken. */
    _push(fields: MessageFields): boolean {
        const { seq, mid, payload } = fields;
        const after = this._receivedSeq;
        if (seq && seq <= this._receivedSeq) {
            return true;
        }
        if (this._holds(1)) {
            return !seq; // what has no number is only worth something now
        }
        this._missed += seq && seq - after - 1;
        this._receivedSeq = seq || after;
        if (mid && mid <= this._receivedMid) {
            if (after !== this._againSeq) {
                this._againAfter = after;
            }
            this._againSeq = seq;
            this._againMid = mid;
            this._process(this._count, 0, 0);
            return true;
        }
        this._receivedMid = mid || this._receivedMid;
        const missed = seq && this._missed;
        this._missed -= missed;
        this._bytes += payload.length;
        this._unread.push({
            ...fields,
            epoch: this._epoch,
            missed,
            get text() {
                return textOf(payload);
            },
            _count: this._count,
            _mid: this._receivedMid,
        });
        this._give();
        return true;
    }

    /** Whether so many times what is unread would be as much as may be. */
    _holds(times: number): boolean {
        const { unreadMax, unreadBytesMax } = this._settings;
        return this._unread.length * times >= unreadMax || this._bytes * times > unreadBytesMax;
    }

    _take(): Received | undefined {
        const message = this._unread.shift();
        if (message) {
            this._bytes -= message.payload.length;
            this._taken.push(message);
            if (!this._holds(2)) {
                this._drained();
            }
        }
        return message;
    }

    /** Whoever waits gets what there is. */
    _give(): void {
        while (this._takers.length && this._unread.length) {
            this._takers.shift()!(this._take());
        }
        void this._pump();
    }

    /** To listeners one after the other: who gives a promise gets the next one when it is settled. */
    async _pump(): Promise<void> {
        if (this._pumping) {
            return;
        }
        this._pumping = true;
        while (this._unread.length && this._events._of("message")[0]) {
            const message = this._take()!;
            await this._events._emit("message", message);
            this._leave(message);
        }
        this._pumping = false;
    }

    /** Several may be taken at once and left in any order: processed is what all before it is, too. */
    _leave(message: Received): void {
        message._left = true;
        while (this._taken[0]?._left) {
            const { _count, seq, _mid } = this._taken.shift()!;
            if (!this._settings.manualAcks) {
                this._process(_count, seq, _mid);
            }
        }
    }

    /** All up to seq is processed, and all that is stored up to mid. */
    _process(count: object, seq: number, mid: number): void {
        const before = this._processedSeq;
        const more = mid > this._processedMid;
        let last = count === this._count && seq > before ? seq : before;
        if (more) {
            this._processedMid = mid;
        }
        if (
            this._againSeq > last &&
            this._againAfter <= last &&
            this._againMid <= this._processedMid
        ) {
            last = this._againSeq;
        }
        if (last === before && !more) {
            return;
        }
        const few = this._untold < Acks.SOON;
        this._untold += last - before;
        this._processedSeq = last;
        const many = this._untold >= Acks.SOON;
        if (!this._timer || (few && many)) {
            clearTimeout(this._timer);
            this._timer = setTimeout(() => this._tell(), many ? 0 : Acks.DELAY_MS);
        }
    }

    _tell(): void {
        clearTimeout(this._timer);
        this._timer = undefined;
        this._untold = 0;
        this._progress();
    }

    /** The next one, when it is there; nothing when there will be none. */
    _next(): Promise<Received | undefined> {
        return new Promise((resolve) => {
            if (this._ended && !this._unread.length) {
                resolve(undefined);
            } else {
                this._takers.push(resolve);
                this._give();
            }
        });
    }

    /** A message is left when the next one is asked for, or the loop is. */
    async *_messages(): AsyncGenerator<Message, void> {
        for (let message; (message = await this._next());) {
            try {
                yield message;
            } finally {
                this._leave(message);
            }
        }
    }

    /** No message comes any more; those that are here can still be taken. */
    _end(): void {
        this._ended = true;
        for (const taker of this._takers.splice(0)) {
            taker(undefined);
        }
    }
}
