// SPDX-License-Identifier: Apache-2.0
// What the broker's numbers were: for ten minutes each answer of /api/stats, for an hour one in five
// seconds, and what follows from two of them. Pure; nothing here asks or shows.
//
// What was before this page was opened the broker tells (/api/samples): some of the numbers alone, so
// such a sample is `partial`, and what it does not have is not known.
//
// A counter that fell means that another process answers: nothing is computed over that edge. Nor
// over a gap, when nobody asked: a mean over minutes would be drawn as if it were of one second.

const FINE = 600;
const COARSE_MS = 5000;
const KEPT_MS = 3600000;
const GAP_MS = 5000;
const COARSE_GAP_MS = 15000;
const SPAN_MS = 10000; // quantiles are of so long, because one second may hold three logins

export class History {
    constructor() {
        // {at_s, stats, fresh, partial}; fresh: nothing before it may be compared
        this.samples = [];
        this.coarse = 0; // so many of the first ones are those of each five seconds
    }

    // at_s rises, whatever the broker's clock does.
    add(stats, at_s) {
        const before = this.last();
        this.samples.push({ at_s, stats, fresh: isFresh(before, stats) });
        this.thin(stats.now_ms);
    }

    // The answer of /api/samples, and where a time of the broker is on the axis.
    seed(answer, at_s) {
        const first_ms = this.samples[0]?.stats.now_ms ?? Infinity;
        const before = partials(answer, at_s).filter(({ stats }) => stats.now_ms < first_ms);
        before.forEach((sample, place) => {
            sample.fresh = isFresh(before[place - 1], sample.stats);
        });
        if (this.samples.length && before.length) {
            const [next] = this.samples;
            next.fresh = isFresh(before[before.length - 1], next.stats);
        }
        this.samples.unshift(...before);
        this.coarse += before.length;
    }

    // Of those that are old one in five seconds stays, and none for longer than an hour.
    thin(now_ms) {
        if (this.samples.length - this.coarse > FINE) {
            const [oldest, last] = [this.samples[this.coarse], this.samples[this.coarse - 1]];
            if (!last || oldest.stats.now_ms - last.stats.now_ms >= COARSE_MS) {
                this.coarse++;
            } else {
                this.samples.splice(this.coarse, 1);
                this.samples[this.coarse].fresh ||= oldest.fresh;
            }
        }
        while (this.coarse > 0 && now_ms - this.samples[0].stats.now_ms > KEPT_MS) {
            this.samples.shift();
            this.coarse--;
        }
    }

    // The first sample of the last so many seconds.
    since(span_s) {
        const end_s = this.last()?.at_s ?? 0;
        const place = this.samples.findIndex((sample) => end_s - sample.at_s <= span_s);
        return Math.max(0, place);
    }

    clear() {
        this.samples = [];
        this.coarse = 0;
    }

    last() {
        return this.samples[this.samples.length - 1] || null;
    }

    times() {
        return this.samples.map((sample) => sample.at_s);
    }

    // Each gives one value per sample from `first` on, null where nothing is known.
    series(value, first = 0) {
        return this.samples.slice(first).map((sample, place) => value(first + place) ?? null);
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
        if (!knows(before, names) || !knows(now, names)) {
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
            const [now, before] = [this.samples[place], this.samples[place - 1]];
            if (!before.partial && !restarted(before.stats, now.stats)) {
                all += (now.stats.counters[name] || 0) - (before.stats.counters[name] || 0);
            }
        }
        return all;
    }

    peak(name) {
        const values = this.samples
            .filter((sample) => !sample.partial)
            .map((sample) => sample.stats.gauges[name])
            .filter((value) => typeof value === "number");
        return values.length ? Math.max(...values) : null;
    }

    // The q-quantile of a histogram over the SPAN_MS before `place`; null when nothing happened.
    quantile(place, name, q) {
        const base = this.samples[this.base(place, SPAN_MS)];
        const now = this.samples[place];
        if (now.partial) {
            return now.stats.quantiles[name]?.[`p${q * 100}`] ?? null;
        }
        if (base === now || base.partial) {
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

function isFresh(before, stats) {
    const gap_ms = before?.partial ? COARSE_GAP_MS : GAP_MS;
    return !before || restarted(before.stats, stats) || stats.now_ms - before.stats.now_ms > gap_ms;
}

function knows(sample, names) {
    return !sample.partial || names.every((name) => name in sample.stats.counters);
}

// The columns of /api/samples as samples.
function partials(answer, at_s) {
    const row = (columns, place) =>
        Object.fromEntries(
            Object.entries(columns || {}).map(([name, values]) => [name, values[place]]),
        );
    return (answer.times_ms || []).map((now_ms, place) => ({
        at_s: at_s(now_ms),
        partial: true,
        fresh: true,
        stats: {
            now_ms,
            counters: row(answer.counters, place),
            gauges: row(answer.gauges, place),
            quantiles: Object.fromEntries(
                Object.entries(answer.quantiles || {}).map(([name, parts]) => [
                    name,
                    row(parts, place),
                ]),
            ),
        },
    }));
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
