// SPDX-License-Identifier: Apache-2.0
// Time and chance, as a part that tests replace. Elapsed time is monotonic: the wall clock may be set
// by an hour, and then nothing here stands still or comes at once.

export interface Clock {
    /** Milliseconds since some moment. */
    now(): number;
    after(ms: number, run: () => void): unknown;
    cancel(timer: unknown): void;
    /** When what is here to be read has been read, and promises have had their turn. */
    soon(run: () => void): void;
    /** From 0 to 1. */
    random(): number;
}

/** Node takes what is more than this, Infinity too, for one millisecond. */
const TIMER_MS_MAX = 0x7fffffff;

export const CLOCK: Clock = {
    now: () => performance.now(),
    after: (ms, run) => setTimeout(run, Math.min(ms, TIMER_MS_MAX)),
    cancel: (timer) => clearTimeout(timer as never),
    soon: (run) => void setImmediate(run),
    random: Math.random,
};

/** Up to so much, and half of it at least, so that many do not come at the same moment. */
export function spread(clock: Clock, ms: number): number {
    return ms / 2 + (ms / 2) * clock.random();
}

/** So long after the first failure, twice as long after each further one, up to a limit. */
export function backOff(clock: Clock, failures: number, leastMs: number, mostMs: number): number {
    return spread(clock, Math.min(leastMs * 2 ** Math.min(failures - 1, 20), mostMs));
}
