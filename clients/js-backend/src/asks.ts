// SPDX-License-Identifier: Apache-2.0
// What the node asks of the owner of rooms and of who knows the friends, and what it tells of rooms.
//
// A fault of the program is no verdict: nothing is answered, so nobody gets in and nobody is sent away for
// good. News of one room are told one after the other, those of different rooms at once. One that the
// program fails at is reported and done with: what a player published must not be able to hold up the rest.
import { textOf } from "../../js/src/utf8.js";
import { encodeBare } from "../../js/src/codec.js";
import { RoomAsk, RoomNews, RoomVerdict, WatchVerdict } from "./api.js";
import { ServiceStatus } from "./errors.js";
import {
    ROOM_ASKS,
    ROOM_CAUSES,
    ROOM_NEWS,
    RoomAskFields,
    RoomNewsFields,
    WATCHGRANT,
} from "./fields.js";

const STATUS_REFUSED = 1;

export interface Answer {
    status: number;
    payload?: Uint8Array | string;
}

export function askOf({ kind, call: _, ...rest }: RoomAskFields): RoomAsk {
    return { ...rest, kind: (ROOM_ASKS[kind] ?? "NONE") as RoomAsk["kind"] };
}

export function newsOf({ kind, cause, ...rest }: RoomNewsFields): RoomNews {
    return {
        ...rest,
        kind: (ROOM_NEWS[kind] ?? "NONE") as RoomNews["kind"],
        cause: (ROOM_CAUSES[cause] ?? "UNKNOWN") as RoomNews["cause"],
        get text() {
            return textOf(rest.payload);
        },
    };
}

/** Nothing: it is no verdict. */
export function roomAnswer(verdict: RoomVerdict): Answer | undefined {
    if (verdict === true) {
        return { status: 0 };
    }
    const text = verdict === false ? "" : verdict;
    return typeof text === "string" ? { status: STATUS_REFUSED, payload: text } : undefined;
}

export function watchAnswer(verdict: WatchVerdict, targets: readonly string[]): Answer | undefined {
    if (verdict === false) {
        return { status: STATUS_REFUSED };
    }
    const granted = verdict === true ? targets : verdict;
    const isList = Array.isArray(granted) && granted.every((name) => typeof name === "string");
    return isList
        ? { status: 0, payload: encodeBare(WATCHGRANT, { targets: granted }) }
        : undefined;
}

/** A no that the handler has thrown; nothing: it has failed. */
export function thrownAnswer(error: unknown): Answer | undefined {
    return error instanceof ServiceStatus
        ? { status: error.status || STATUS_REFUSED, payload: error.payload }
        : undefined;
}

/** One after the other for each room, or user. */
export class InTurn {
    private readonly waiting = new Map<string, ((over: () => void) => void)[]>();

    /** Runs it when those before it are over, at once where there are none. */
    run(room: string, work: (over: () => void) => void): void {
        const queue = this.waiting.get(room);
        if (queue) {
            queue.push(work);
        } else {
            this.waiting.set(room, []);
            this.begin(room, work);
        }
    }

    private begin(room: string, work: (over: () => void) => void): void {
        work(() => {
            const next = this.waiting.get(room)!.shift();
            if (next) {
                this.begin(room, next);
            } else {
                this.waiting.delete(room);
            }
        });
    }
}
