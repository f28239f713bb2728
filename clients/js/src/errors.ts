// SPDX-License-Identifier: Apache-2.0
// What a request that failed is rejected with.
import { CloseReason, ErrorCode, ERRORS, ErrorFields } from "./fields.js";

/** What the client says by itself: it never left; or it left and nobody will tell. */
export type LocalCode = "NOT_SENT" | "NO_ANSWER";

/** Why a connection is over: what the broker said, or LOST: nothing; or CLOSED: this client did it. */
export type EndCode = CloseReason | ErrorCode | "LOST" | "CLOSED";

/** Whether what was asked for has been done. */
export type Done = "no" | "unknown";

export class UsherError extends Error {
    constructor(
        readonly code: LocalCode | EndCode,
        detail: string,
        readonly done: Done,
        readonly retryAfterMs = 0,
    ) {
        super(detail ? code + ": " + detail : code);
        this.name = "UsherError";
    }
}

/** A service answered with a status other than 0, which is a matter between it and its callers. */
export class StatusError extends Error {
    constructor(
        readonly status: number,
        readonly payload: Uint8Array,
    ) {
        super("status " + status);
        this.name = "StatusError";
    }
}

/** After these it may have happened: a service had the call, or a receiver the message. */
const UNKNOWN = /^(TIMEOUT|SERVICE_LOST|DRAINING|UNDELIVERED|INTERNAL|UNKNOWN)$/;

/** Of a call that is TOO_LARGE the reply may have been it, and then the service has acted. */
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
