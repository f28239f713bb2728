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
import { BrokerFrameFields, CLIENTFRAME } from "./fields.js";
import { judgeAfter } from "./time.js";

interface Request {
    id: number;
    frame: Uint8Array;
    isCall?: boolean;
    sent?: boolean;
    resolve?: (value: Fields) => void;
    reject?: (error: Error) => void;
    cancel?: () => void;
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
                id,
                frame,
                isCall: !!body.call,
                resolve,
                reject,
                cancel: judgeAfter(timeoutMs, () => this._fail(request, "no answer")),
            };
            this._nextId++;
            this._byId.set(id, request);
            this._enqueue(request);
        });
    }

    /** One that gets none. */
    _post(body: Fields): void {
        this._enqueue({ id: 0, frame: encode(CLIENTFRAME, body) });
    }

    _enqueue(request: Request): void {
        this._queue.add(request);
        this._bytes += request.frame.length;
    }

    _dequeue(request: Request): void {
        if (this._queue.delete(request)) {
            this._bytes -= request.frame.length;
        }
    }

    /** Hands over all that waits, but what is larger than the broker takes. */
    _flush(write: (frame: Uint8Array) => void, frameBytesMax: number): void {
        for (const request of this._queue) {
            this._dequeue(request);
            if (bodyBytes(request.frame) > frameBytesMax) {
                this._settle(request)?.reject?.(
                    new UsherError("TOO_LARGE", "the broker takes " + frameBytesMax, "no"),
                );
            } else {
                request.sent = true;
                write(request.frame);
            }
        }
    }

    /** Nothing happens to it any more; undefined when that was so already. */
    _settle(request: Request): Request | undefined {
        this._dequeue(request);
        request.cancel?.();
        return this._byId.delete(request.id) ? request : undefined;
    }

    _fail(request: Request, detail: string): void {
        const [code, done]: [LocalCode, Done] = request.sent
            ? ["NO_ANSWER", "unknown"]
            : ["NOT_SENT", "no"];
        this._settle(request)?.reject?.(new UsherError(code, detail, done));
    }

    /** The connection is gone, and with it what was sent; or the client is, with everything. */
    _failAll(detail: string, unsentToo: boolean): void {
        for (const request of [...this._byId.values()]) {
            if (request.sent || unsentToo) {
                this._fail(request, detail);
            }
        }
        if (unsentToo) {
            this._queue.clear();
            this._bytes = 0;
        }
    }

    /** An answer to nothing is dropped: its request may have timed out, or belong to an earlier life. */
    _answer(frame: BrokerFrameFields): void {
        const request = this._byId.get(frame.id);
        if (!request) {
            return;
        }
        this._settle(request);
        const { done, reply, error } = frame;
        if (error) {
            request.reject!(refusal(error, !!request.isCall));
        } else if (reply && reply.status) {
            request.reject!(new StatusError(reply.status, reply.payload));
        } else {
            request.resolve!(reply ? reply.payload : done && !done.dropped ? done.epoch : 0);
        }
    }
}
