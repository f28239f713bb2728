// SPDX-License-Identifier: Apache-2.0
// Whether the other side is still there.
//
// The broker closes who is silent for two heartbeats, and a broker that is gone says nothing either.
// So a Ping is due when nothing was sent, or nothing came, for half of one; what it does not bring
// within the next heartbeat is lost. Any input counts. See time.ts for pages that sleep: they ask once
// more before they judge.
import { bounded, judgeAfter } from "./time.js";

export const enum Beats {
    /** Patience with a Ping when there is a reason to doubt. */
    DOUBT_MS = 5000,
    HEARTBEAT_MS_MIN = 50,
}

export class Heart {
    _heardAt = 0;
    _spokeAt = 0;
    _beat = 0 as unknown as ReturnType<typeof setTimeout>;
    _judged: (() => void) | null = null;

    constructor(
        readonly _ping: () => void,
        readonly _lost: () => void,
    ) {}

    _start(heartbeatMs: number): void {
        this._stop();
        this._heardAt = this._spokeAt = Date.now();
        if (heartbeatMs) {
            this._wait(bounded(Math.max(heartbeatMs, Beats.HEARTBEAT_MS_MIN) / 2));
        }
    }

    _stop(): void {
        clearTimeout(this._beat);
        this._heard();
    }

    _wait(ms: number): void {
        const due = Date.now() + ms;
        this._beat = setTimeout(() => {
            const now = Date.now();
            this._wait(ms);
            if (this._judged) {
                return; // a Ping is under way, and what it waits for is not put off
            }
            if (Math.abs(now - due) > ms) {
                this._probe(Beats.DOUBT_MS);
            } else if (now - Math.min(this._heardAt, this._spokeAt) >= ms - 1) {
                this._probe(2 * ms);
            }
        }, ms);
    }

    _heard(): void {
        this._heardAt = Date.now();
        this._judged?.();
        this._judged = null;
    }

    /** Sends a Ping; no input within ms means that the connection is lost. */
    _probe(ms: number): void {
        this._judged?.();
        this._ping();
        this._judged = judgeAfter(ms, this._lost, Beats.DOUBT_MS, this._ping);
    }
}
