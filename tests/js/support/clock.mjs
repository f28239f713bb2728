// SPDX-License-Identifier: Apache-2.0
// A clock of its own for what a client does by time: setTimeout and Date.now belong to the test until
// `restore`.

const turn = globalThis.setImmediate;
const saved = { setTimeout, clearTimeout, now: Date.now, random: Math.random };

export class Clock {
    constructor() {
        this.now = 1_800_000_000_000;
        this.timers = new Map();
        this.next = 1;
        /** What timers threw: faults of listeners are told that way. */
        this.thrown = [];
        globalThis.setTimeout = (run, ms = 0) => {
            // As runtimes have it: what does not fit into 31 bits is a millisecond.
            const wait = ms > 0x7fffffff || Number.isNaN(ms) ? 1 : Math.max(ms, 0);
            this.timers.set(this.next, { due: this.now + wait, run });
            return this.next++;
        };
        globalThis.clearTimeout = (timer) => void this.timers.delete(timer);
        Date.now = () => this.now;
    }

    restore() {
        Object.assign(globalThis, {
            setTimeout: saved.setTimeout,
            clearTimeout: saved.clearTimeout,
        });
        Date.now = saved.now;
        Math.random = saved.random;
    }

    /** Until promises have had their turn. */
    async settle() {
        for (let i = 0; i < 4; i++) {
            await new Promise((resolve) => turn(resolve));
        }
    }

    async #runDue(until) {
        for (;;) {
            const due = [...this.timers].filter(([, timer]) => timer.due <= until);
            if (!due.length) {
                return;
            }
            const [id, timer] = due.reduce((a, b) => (b[1].due < a[1].due ? b : a));
            this.timers.delete(id);
            this.now = Math.max(this.now, timer.due);
            try {
                timer.run();
            } catch (error) {
                this.thrown.push(error);
            }
            await this.settle();
        }
    }

    /** Time passes, and every timer comes when it is due. */
    async advance(ms) {
        const until = this.now + ms;
        await this.settle();
        await this.#runDue(until);
        this.now = until;
        await this.settle();
    }

    /** The page stands still for so long; then all its timers come at once, before anything else. */
    async stall(ms) {
        this.now += ms;
        await this.#runDue(this.now);
    }
}
