// SPDX-License-Identifier: Apache-2.0
// Work that is repeated while somebody looks: never twice at once, never in a hidden tab. A tab
// that comes back does it at once.

export class Poll {
    // work(signal) may throw: on_error(error) gets it, unless the poll was stopped.
    constructor(period_ms, work, on_error) {
        this.period_ms = period_ms;
        this.work = work;
        this.on_error = on_error;
        this.timer = 0;
        this.running = false;
        this.again = false; // asked for while it was running
        this.abort = new AbortController();
        this.on_visible = () => document.hidden || this.now();
        document.addEventListener("visibilitychange", this.on_visible);
    }

    start() {
        this.now();
        return this;
    }

    stop() {
        this.abort.abort();
        clearTimeout(this.timer);
        document.removeEventListener("visibilitychange", this.on_visible);
    }

    // Also out of turn: what is awaited ends after work that began from now on.
    async now() {
        if (this.running) {
            this.again = true;
            return;
        }
        clearTimeout(this.timer);
        this.running = true;
        try {
            await this.work(this.abort.signal);
        } catch (error) {
            if (!this.abort.signal.aborted) {
                this.on_error(error);
            }
        }
        this.running = false;
        if (this.abort.signal.aborted) {
            return;
        }
        if (this.again) {
            this.again = false;
            this.now();
        } else if (!document.hidden) {
            this.timer = setTimeout(() => this.now(), this.period_ms);
        }
    }
}
