// SPDX-License-Identifier: Apache-2.0
// Timers that know that a page sleeps.
//
// After a stall (a busy page, a hidden tab, a closed lid) a timer runs before the messages that wait:
// who decided on elapsed time alone would cut a healthy connection. So a timer that comes late is
// told so and may look once more.

const enum Timers {
    /** Later than this means that the page slept; the clock that was set means the same. */
    LATE_MS = 1000,
    /** A runtime takes what is more than this, Infinity too, for one millisecond. */
    MS_MAX = 0x7fffffff,
}

export function bounded(ms: number): number {
    return Math.min(ms, Timers.MS_MAX);
}

/** Runs after ms. When that is late, it is put off once by `again` ms, and `slept` is called first.
 * Gives what cancels it. */
export function judgeAfter(
    ms: number,
    judge: () => unknown,
    again: number = Timers.LATE_MS,
    slept?: () => void,
): () => void {
    ms = bounded(ms);
    const due = Date.now() + ms;
    let timer = setTimeout(() => {
        if (Math.abs(Date.now() - due) < Timers.LATE_MS) {
            judge();
        } else {
            timer = setTimeout(judge, again);
            slept?.();
        }
    }, ms);
    return () => clearTimeout(timer);
}
