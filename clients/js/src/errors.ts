// SPDX-License-Identifier: Apache-2.0
// What a request that failed is rejected with.
import { CloseReason, ErrorCode, ERRORS, ErrorFields } from "./fields.js";

/** What the client says by itself: it never left; it left and nobody will tell; or it was sent, but the broker
 * is of before stored messages and has it on no disk. */
export type LocalCode = "NOT_SENT" | "NO_ANSWER" | "NOT_STORED";

/** Why a connection is over: what the broker said, or LOST: nothing; or CLOSED: this client did it. */
export type EndCode = CloseReason | ErrorCode | "LOST" | "CLOSED";

/** Whether what was asked for has been done. */
export type Done = "no" | "unknown";

/** What a request is rejected with that was refused, or whose answer will not come. */
export class UsherError extends Error {
    /** What the broker said, or this client: "NOT_ONLINE", "BUSY", "NOT_SENT". */
    readonly code: LocalCode | EndCode;
    /** "no": it was certainly not done. "unknown": it may have been; ask before repeating. */
    readonly done: Done;
    /** Wait at least so long before asking again. */
    readonly retryAfterMs: number;

    /** For programs that test themselves. */
    constructor(code: LocalCode | EndCode, detail: string, done: Done, retryAfterMs = 0) {
        super(detail ? code + ": " + detail : code);
        this.name = "UsherError";
        this.code = code;
        this.done = done;
        this.retryAfterMs = retryAfterMs;
    }
}

/** A service answered with a status other than 0, which is a matter between it and its callers. */
export class StatusError extends Error {
    /** Never 0. */
    readonly status: number;
    /** What the service says of it. */
    readonly payload: Uint8Array;

    /** For programs that test themselves. */
    constructor(status: number, payload: Uint8Array) {
        super("status " + status);
        this.name = "StatusError";
        this.status = status;
        this.payload = payload;
    }
}

/** After these it may have happened: a service had the call, or a receiver the message. */
const UNKNOWN = /^(TIMEOUT|SERVICE_LOST|DRAINING|UNDELIVERED|INTERNAL|UNKNOWN)$/;

/** Of the client itself. Of a call that is TOO_LARGE the reply may have been it, and then the service has acted. */
export function refusal(error: ErrorFields, isCall: unknown): UsherError {
    const code = ERRORS[error.code] || "UNKNOWN";
    const unknown = UNKNOWN.test(code) || (isCall && code === "TOO_LARGE");
    return new UsherError(
        code as ErrorCode,
        error.detail,
        unknown ? "unknown" : "no",
        error.retryAfterMs,
    );
}
