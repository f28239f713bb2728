// SPDX-License-Identifier: Apache-2.0
// What promises of this library are rejected with, and what a handler throws on purpose.
import { ResultCode } from "./fields.js";

/** What the library says by itself. BUSY: its queue is full, wait for `room()`. LOST: the link broke
 * before the answer. NOT_SENT: a transient push waited for the link for too long. NO_ANSWER: a question
 * was not answered in time. CLOSED: `close()`. REFUSED: the node refuses this instance for good. NOT_STORED:
 * the node is of before stored messages, and took one for a push like any other. */
export type LocalCode =
    "BUSY" | "LOST" | "NOT_SENT" | "NO_ANSWER" | "CLOSED" | "REFUSED" | "NOT_STORED";

/** How a command ended; all but the local ones are the node's own words. */
export type ErrorCode = Exclude<ResultCode, "OK"> | LocalCode | "UNKNOWN";

/** Whether what was asked for has been done. "unknown": it may have been, and nobody will tell. */
export type Done = "no" | "unknown";

export class UsherError extends Error {
    constructor(
        readonly code: ErrorCode,
        detail: string,
        readonly done: Done = "no",
    ) {
        super(detail ? code + ": " + detail : code);
        this.name = "UsherError";
    }
}

/** Thrown by a handler: the caller gets this status, and the payload with it. Statuses belong to the
 * service; 0 is success. */
export class ServiceStatus extends Error {
    constructor(
        readonly status: number,
        readonly payload: Uint8Array | string = "",
    ) {
        super("status " + status);
        this.name = "ServiceStatus";
    }
}
