// SPDX-License-Identifier: Apache-2.0
// What the broker's numbers were: at most SAMPLES answers of /api/stats, and what follows from two
// of them. Pure; nothing here asks or shows.
//
// A counter that fell means that another process answers: nothing is computed over that edge. Nor
// over a gap, when nobody asked: a mean over minutes would be drawn as if it were of one second.

const SAMPLES = 600;
const GAP_MS = 5000;
const SPAN_MS = 10000; // quantiles are of so long, because one second may hold three logins

export class History {
    constructor() {
        this.samples = []; // {at_s, stats, fresh}; fresh: nothing before it may be compared
    }

    // at_s rises, whatever the broker's clock does.
    add(stats, at_s) {
        const before = this.last();
        const fresh =
            !before ||
            restarted(before.stats, stats) ||
            stats.now_ms - before.stats.now_ms > GAP_MS;
        this.samples.push({ at_s, stats, fresh });
        if (this.samples.length > SAMPLES) {
            this.samples.shift();
        }
    }

    clear() {
        this.samples = [];
    }

    last() {
        return this.samples[this.samples.length - 1] || null;
    }

    times() {
        return this.samples.map((sample) => sample.at_s);
    }

    // Each gives one value per sample, null where nothing is known.
    series(value) {
        return this.samples.map((sample, place) => value(place) ?? null);
    }

    gauge(place, name) {
        return this.samples[place]?.stats.gauges[name] ?? null;
    }

    // Of the sum of some counters, per second, against the sample before.
    rate(place, ...names) {
        const [now, before] = [this.samples[place], this.samples[place - 1]];
        if (!now || !before || now.fresh) {
            return null;
        }
        const span_s = (now.stats.now_ms - before.stats.now_ms) / 1000;
        const sum = (stats) => names.reduce((all, name) => all + (stats.counters[name] || 0), 0);
        return span_s > 0 ? (sum(now.stats) - sum(before.stats)) / span_s : null;
    }

    // The first sample that may be compared with the one at `place`, at most span_ms before it.
    base(place, span_ms) {
        const end_ms = this.samples[place].stats.now_ms;
        let first = place;
        while (
            first > 0 &&
            !this.samples[first].fresh &&
            end_ms - this.samples[first - 1].stats.now_ms <= span_ms
        ) {
            first--;
        }
        return first;
    }

    // By how much a counter rose since the first sample that is kept of this process.
    rise(name) {
        let all = 0;
        for (let place = 1; place < this.samples.length; place++) {
            const [now, before] = [this.samples[place].stats, this.samples[place - 1].stats];
            if (!restarted(before, now)) {
                all += (now.counters[name] || 0) - (before.counters[name] || 0);
            }
        }
        return all;
    }

    peak(name) {
        const values = this.samples
            .map((sample) => sample.stats.gauges[name])
            .filter((value) => typeof value === "number");
        return values.length ? Math.max(...values) : null;
    }

    // The q-quantile of a histogram over the SPAN_MS before `place`; null when nothing happened.
    quantile(place, name, q) {
        const base = this.samples[this.base(place, SPAN_MS)];
        const now = this.samples[place];
        if (base === now) {
            return null;
        }
        return quantileOf(now.stats.histograms?.[name], base.stats.histograms?.[name], q);
    }

    histogramRate(place, name) {
        const base = this.samples[this.base(place, SPAN_MS)];
        const now = this.samples[place];
        const span_s = (now.stats.now_ms - base.stats.now_ms) / 1000;
        const got = (sample) => sample.stats.histograms?.[name]?.count || 0;
        return span_s > 0 ? (got(now) - got(base)) / span_s : null;
    }
}

function restarted(before, now) {
    return Object.entries(before.counters).some(
        ([name, value]) => (now.counters[name] ?? value) < value,
    );
}

// As Prometheus' histogram_quantile does: linear inside of a bucket, and the last finite bound for
// what is above all.
export function quantileOf(now, base, q) {
    if (!now || !now.buckets || now.buckets.length === 0) {
        return null;
    }
    const old = base?.buckets || [];
    const counts = now.buckets.map((bucket, place) => bucket.count - (old[place]?.count || 0));
    const total = counts[counts.length - 1];
    if (!(total > 0)) {
        return null;
    }
    const rank = q * total;
    const place = counts.findIndex((below) => below >= rank);
    const lower = place > 0 ? now.buckets[place - 1].le : 0;
    const upper = now.buckets[place].le;
    if (upper === null) {
        return lower;
    }
    const before = place > 0 ? counts[place - 1] : 0;
    const inside = counts[place] - before;
    return inside > 0 ? lower + ((upper - lower) * (rank - before)) / inside : upper;
}
