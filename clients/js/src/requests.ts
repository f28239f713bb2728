// SPDX-License-Identifier: Apache-2.0
// What was asked for and is not answered yet.
//
// A request is queued, then handed to the connection once, then answered: nothing is sent twice. What
// fails in the queue was certainly not done. What fails after it was handed over may have been, and is
// told at once when the connection is lost: an answer that still comes, after a resume, is dropped.
//
// So ids never come again in a session, not even after a page was loaded anew (see storage.ts).
import { Settings } from "./limits.js";
import { bodyBytes, encode, Fields } from "./codec.js";
import { Done, LocalCode, refusal, StatusError, UsherError } from "./errors.js";
import { BrokerFrameFields, CLIENTFRAME, ErrorCode } from "./fields.js";
import { judgeAfter } from "./time.js";

interface Request {
    _id: number;
    _frame: Uint8Array;
    _isCall?: unknown;
    _stored?: unknown;
    _sent?: boolean;
    _resolve?: (value: Fields) => void;
    _reject: (error: Error) => void;
    _cancel?: () => void;
}

export class Requests {
    /** In the order in which they were made. */
    _queue = new Set<Request>();
    _byId = new Map<number, Request>();
    _bytes = 0;

    constructor(
        readonly _settings: Settings,
        public _nextId: number,
    ) {}

    /** Room for one more, with so many bytes in the socket already. */
    _full(waiting: number): boolean {
        const { requestsMax, queueBytesMax } = this._settings;
        const most = Math.max(this._byId.size, this._queue.size);
        return most >= requestsMax || this._bytes + waiting > queueBytesMax;
    }

    /** A request that gets an answer. */
    _ask(body: Fields, timeoutMs: number): Promise<Fields> {
        return new Promise((resolve, reject) => {
            const id = this._nextId;
            const frame = encode(CLIENTFRAME, { ...body, id });
            const request: Request = {
                _id: id,
                _frame: frame,
                _isCall: body.call,
                _stored: body.send?.keepS,
                _resolve: resolve,
                _reject: reject,
                _cancel: judgeAfter(timeoutMs, () => this._fail(request, "no answer")),
            };
            this._nextId++;
            this._byId.set(id, request);
            this._enqueue(request);
        });
    }

    /** One that gets none; `reject` when it will not be sent. */
    _post(body: Fields, reject: Request["_reject"]): void {
        this._enqueue({ _id: 0, _frame: encode(CLIENTFRAME, body), _reject: reject });
    }

    _enqueue(request: Request): void {
        this._queue.add(request);
        this._bytes += request._frame.length;
    }

    _dequeue(request: Request): boolean {
        const queued = this._queue.delete(request);
        if (queued) {
            this._bytes -= request._frame.length;
        }
        return queued;
    }

    /** Hands over all that waits, but what is larger than the broker takes, as long as `write` gives
     * something true. */
    _flush(write: (frame: Uint8Array) => unknown, frameBytesMax: number): void {
        for (const request of this._queue) {
            if (bodyBytes(request._frame) > frameBytesMax) {
                this._refuse(request, "TOO_LARGE", "the broker takes " + frameBytesMax, "no");
            } else {
                this._dequeue(request);
                request._sent = true;
                if (!write(request._frame)) {
                    return;
                }
            }
        }
    }

    /** Nothing happens to it any more; false when that was so already. */
    _settle(request: Request): boolean {
        const queued = this._dequeue(request);
        request._cancel?.();
        return this._byId.delete(request._id) || queued;
    }

    _refuse(request: Request, code: LocalCode | ErrorCode, detail: string, done: Done): void {
        if (this._settle(request)) {
            request._reject(new UsherError(code, detail, done));
        }
    }

    _fail(request: Request, detail: string): void {
        if (request._sent) {
            this._refuse(request, "NO_ANSWER", detail, "unknown");
        } else {
            this._refuse(request, "NOT_SENT", detail, "no");
        }
    }

    /** The connection is gone, and with it what was sent; or the client is, with everything. */
    _failAll(detail: string, unsentToo: boolean): void {
        for (const request of [...this._byId.values(), ...this._queue]) {
            if (request._sent || unsentToo) {
                this._fail(request, detail);
            }
        }
    }

    /** An answer to nothing is dropped: its request may have timed out, or belong to an earlier life.
     * So is one of a later version. */
    _answer(frame: BrokerFrameFields): void {
        const { id, done, reply, error } = frame;
        const request = this._byId.get(id);
        if (!request || !(done || reply || error)) {
            return;
        }
        this._settle(request);
        if (error) {
            request._reject(refusal(error, request._isCall));
        } else if (reply?.status) {
            request._reject(new StatusError(reply.status, reply.payload));
        } else if (request._stored && !done?.mid) {
            request._reject(new UsherError("NOT_STORED", "the broker is older", "unknown"));
        } else {
            request._resolve!(reply ? reply.payload : done!.dropped ? 0 : done!.mid || done!.epoch);
        }
    }
}
