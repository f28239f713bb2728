// SPDX-License-Identifier: Apache-2.0
// What a program gives to commands and gets from their results.
import { Payload, PushReport } from "./api.js";
import { UsherError } from "./errors.js";
import { ResultFields, RESULT_CODES } from "./fields.js";
import { utf8 } from "../../js/src/utf8.js";

/** How much of a frame the names of one command may take; the others go into the next one. */
const NAMES_SHARE = 2;
/** Of a command, around its names. */
const NAMES_OVERHEAD = 256;

export function bytesOf(payload: Payload): Uint8Array {
    if (typeof payload === "string") {
        return utf8(payload);
    }
    if (payload instanceof Uint8Array) {
        return payload;
    }
    throw new TypeError("a payload is bytes or a text");
}

/** A number would be written as an empty name. */
export function textIn(value: string): string {
    if (typeof value !== "string") {
        throw new TypeError(`no text: ${String(value)}`);
    }
    return value;
}

/** A traceparent may have come from whoever called this service: one that is none costs nobody his
 * message. Nothing but digits and dashes goes on its way; the rest of what one is, the node judges. */
export function traceparentIn(value: string | undefined): string {
    return typeof value === "string" && /^[\da-f-]{55}$/.test(value) ? value : "";
}

export function wholeNumber(value: number | undefined, otherwise: number, name: string): number {
    if (value === undefined) {
        return otherwise;
    }
    if (!Number.isSafeInteger(value) || value < 1) {
        throw new RangeError(`${name} is a whole number from 1 on, not ${value}`);
    }
    return value;
}

/** A promise that may be left alone. */
export function quiet<T>(promise: Promise<T>): Promise<T> {
    promise.catch(() => {});
    return promise;
}

export function wordOf(code: number): (typeof RESULT_CODES)[number] {
    return RESULT_CODES[code] ?? "UNKNOWN";
}

export function refusal(result: ResultFields): UsherError {
    return new UsherError(wordOf(result.code) as UsherError["code"], "");
}

export function reportOf(to: readonly string[], result: ResultFields): PushReport {
    const push = result.push;
    if (result.code !== 0 && !push) {
        if (to.length !== 1) {
            throw refusal(result);
        }
        // To one name: the code is his.
        const code = wordOf(result.code) as PushReport["failures"][number]["code"];
        return { accepted: 0, dropped: 0, failures: [{ user: to[0]!, code }], mid: 0 };
    }
    const failures = (push?.failures ?? []).map(({ user, code }) => ({
        user,
        code: wordOf(code) as PushReport["failures"][number]["code"],
    }));
    const { accepted = 0, dropped = 0, mid = 0 } = push ?? {};
    return { accepted, dropped, failures, mid };
}

/** Of a push that was to be stored. A node that gives no mid does not know of that. */
export function storedReportOf(to: readonly string[], result: ResultFields): PushReport {
    const report = reportOf(to, result);
    if (report.accepted && !report.mid) {
        throw new UsherError("NOT_STORED", "the node is older than stored messages", "unknown");
    }
    return report;
}

/** Names beyond what one frame takes, with so many bytes beside them, go into a command of their own. */
export function inParts<Name extends string>(
    names: readonly Name[],
    otherBytes: number,
    frameBytesMax: number,
    eachBytes = 2,
): Name[][] {
    const most = Math.max(frameBytesMax / NAMES_SHARE, frameBytesMax - otherBytes - NAMES_OVERHEAD);
    const parts: Name[][] = [[]];
    let size = 0;
    for (const name of names) {
        const own = utf8(textIn(name)).length + eachBytes;
        size += own;
        if (size > most && parts[parts.length - 1]!.length) {
            parts.push([]);
            size = own;
        }
        parts[parts.length - 1]!.push(name);
    }
    return parts;
}

/** One report of commands that are done each for some of the names. */
export async function inSum(reports: readonly Promise<PushReport>[]): Promise<PushReport> {
    const all = await Promise.all(
        reports.map((report) =>
            report.catch((error: UsherError) => {
                // Other parts may have been done.
                const known = reports.length === 1 || !(error instanceof UsherError);
                throw known ? error : new UsherError(error.code, error.message, "unknown");
            }),
        ),
    );
    return all.reduce(
        (sum, { accepted, dropped, failures, mid }) => ({
            accepted: sum.accepted + accepted,
            dropped: sum.dropped + dropped,
            failures: [...sum.failures, ...failures],
            mid: Math.max(sum.mid, mid),
        }),
        { accepted: 0, dropped: 0, failures: [], mid: 0 },
    );
}
