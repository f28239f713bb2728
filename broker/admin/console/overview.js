// SPDX-License-Identifier: Apache-2.0
// The first page: what goes on, how fast, how full, who is slow, who left and why.

import { get } from "./api.js";
import { Chart } from "./charts.js";
import { Section, Table, el, fill, setText, userLink } from "./dom.js";
import { age, byName, bytes, count, percent, rate, seconds, words } from "./format.js";
import { acceptedBy, closes, latencies, levels, listeners, refusals } from "./names.js";
import { instanceRows, serviceColumns } from "./services.js";
import { transportPill } from "./users.js";

// Processors in use, of which one is 100.
function cpu(history, place) {
    const value = history.rate(place, "process_cpu_seconds_total");
    return value === null ? null : value * 100;
}

function strangers(history, place) {
    const [open, online] = [
        history.gauge(place, "connections_open"),
        history.gauge(place, "sessions_online"),
    ];
    return open === null || online === null ? null : Math.max(0, open - online);
}

function refused(history, place) {
    return history.rate(place, ...refusals(history.samples[place].stats.counters));
}

// Of the first histogram whose name holds the word.
function p99(word) {
    return (history, place) => {
        const name = latencies(history.samples[place].stats.histograms).find((known) =>
            known.includes(word),
        );
        return name ? history.quantile(place, name, 0.99) : null;
    };
}

const gauge = (name) => (history, place) => history.gauge(place, name);
const perSecond =
    (...names) =>
    (history, place) =>
        history.rate(place, ...names);

const TILES = [
    ["Online", gauge("sessions_online"), count, "sessions with a connection"],
    ["Detached", gauge("sessions_detached"), count, "sessions that wait for their user"],
    ["Not logged in", strangers, count, "connections without a session"],
    ["Messages", perSecond("messages_accepted"), rate, "accepted per second"],
    ["Logins", perSecond("logins"), rate, "per second"],
    ["Calls", perSecond("calls"), rate, "per second"],
    ["Delivery p99", p99("deliver"), seconds, "of the last 10 s"],
    ["Login p99", p99("login"), seconds, "of the last 10 s"],
    ["In", perSecond("bytes_in"), bytes, "per second"],
    ["Out", perSecond("bytes_out"), bytes, "per second"],
    ["CPU", cpu, percent, "100 % is one processor"],
    ["Memory", gauge("process_resident_memory_bytes"), bytes, "resident"],
];

const CHARTS = [
    {
        title: "Messages per second",
        format: rate,
        lines: [
            ["accepted", perSecond("messages_accepted"), 1],
            ["delivered", perSecond("messages_delivered"), 2],
            ["refused", perSecond("messages_refused"), 3],
        ],
    },
    {
        title: "Logins per second",
        format: rate,
        lines: [
            ["logins", perSecond("logins"), 1],
            ["resumes", perSecond("resumes"), 2],
            ["takeovers", perSecond("takeovers"), 4],
            ["refused", refused, 3],
        ],
    },
    {
        title: "Sessions",
        format: count,
        lines: [
            ["online", gauge("sessions_online"), 1],
            ["detached", gauge("sessions_detached"), 2],
        ],
    },
    {
        title: "Calls per second",
        format: rate,
        lines: [
            ["accepted", perSecond("calls"), 1],
            ["answered", perSecond("calls_answered"), 2],
            ["failed", perSecond("calls_timed_out", "calls_no_service", "calls_lost"), 3],
        ],
    },
    {
        title: "Traffic per second",
        format: bytes,
        lines: [
            ["in", perSecond("bytes_in"), 1],
            ["out", perSecond("bytes_out"), 2],
        ],
    },
    {
        title: "Memory held for clients",
        format: bytes,
        lines: [["held", gauge("memory_held_bytes"), 1]],
    },
    { title: "CPU", format: percent, lines: [["of one processor", cpu, 1]] },
];

const SPANS = [
    [600, "the last 10 minutes"],
    [3600, "the last hour"],
];

// enum memory_part of broker/base/memory.h.
const PARTS = [
    ["messages", "messages on their way"],
    ["frames", "frames of clients, not handled yet"],
    ["payloads", "payloads that several messages share"],
    ["inboxes", "inboxes"],
    ["requests", "requests without their answer"],
    ["answers", "answers that wait for a resume"],
    ["calls", "calls on their way to services"],
    ["logins", "logins that are judged"],
    ["rooms", "rooms and their members"],
    ["room_histories", "places of what rooms keep"],
    ["friends", "who watches whom"],
    ["output", "output that clients have not read"],
    ["input", "frames that have come in part"],
    ["websocket", "connections by WebSocket"],
    ["backends", "what backends submitted"],
    ["http", "requests by HTTP"],
    ["sessions", "rooms of tokens, losses not stored yet"],
    ["own", "the broker's own"],
];

export class Overview {
    constructor(context) {
        this.context = context;
        this.title = "Overview";
        this.tiles = TILES.map(([name, value, format, hint]) => {
            const figure = el("dd", {}, "\u2013");
            return {
                value,
                format,
                figure,
                element: el(
                    "div",
                    { class: "tile" },
                    el("dt", {}, name),
                    figure,
                    el("dd", { class: "hint" }, hint),
                ),
            };
        });
        this.charts = CHARTS.map((chart) => ({
            ...chart,
            view: new Chart({
                title: chart.title,
                format: chart.format,
                series: chart.lines.map(([label, , colour]) => ({ label, colour })),
            }),
        }));
        this.makeSpan();
        this.makeLatency();
        this.makeTables();
        this.makeBudget();
        const [messages, logins, sessions, calls, traffic, memory, load] = this.charts.map(
            (chart) => chart.view.element,
        );
        this.element = el(
            "div",
            { class: "page" },
            el("h1", { class: "hidden" }, "Overview"),
            el(
                "dl",
                { class: "tiles" },
                this.tiles.map((tile) => tile.element),
            ),
            this.span.element,
            el(
                "div",
                { class: "grid" },
                messages,
                this.latency.element,
                logins,
                calls,
                sessions,
                traffic,
                memory,
                load,
            ),
            el(
                "div",
                { class: "grid tables" },
                this.closes.element,
                this.services.element,
                this.budget.element,
                this.levels.element,
                this.connections.element,
                this.slowest.element,
            ),
        );
    }

    makeSpan() {
        const select = el(
            "select",
            { onchange: () => this.tick(this.context.model) },
            SPANS.map(([value, text]) => el("option", { value, selected: value === 3600 }, text)),
        );
        this.span = {
            select,
            element: el("p", { class: "span" }, el("label", {}, "Charts show ", select)),
        };
    }

    makeBudget() {
        this.budget = new Section("Memory budget");
        this.budgetTable = new Table({
            label: "Memory budget by kind",
            empty: "This broker has no budget.",
            columns: [
                { head: "What", class: "words", cell: (row) => row.text },
                { head: "", class: "bar", cell: barOf },
                { head: "Bytes", number: true, cell: (row) => bytes(row.value) },
                { head: "Of the limit", number: true, cell: (row) => percent(row.share * 100) },
            ],
        });
        fill(
            this.budget.body,
            this.budgetTable.element,
            el(
                "p",
                { class: "hint" },
                "From three quarters of limits.memory_bytes on nobody new comes in; from seven eighths " +
                    "on nothing new is taken.",
            ),
        );
    }

    makeLatency() {
        this.choice = el("select", {
            "aria-label": "Which latency",
            onchange: () => this.tick(this.context.model),
        });
        this.latency = new Chart({
            title: "Latency",
            format: seconds,
            logarithmic: true,
            aside: this.choice,
            series: [
                { label: "p50", colour: 1 },
                { label: "p90", colour: 2 },
                { label: "p99", colour: 3 },
            ],
        });
    }

    makeTables() {
        this.closes = new Section("Ends and refusals");
        this.closesTable = new Table({
            label: "Ends and refusals by reason",
            empty: "Nobody has left and nobody was refused.",
            columns: [
                { head: "Why", class: "words", cell: (row) => row.text },
                { head: "", class: "bar", cell: barOf },
                { head: "Here", number: true, cell: (row) => count(row.recent) },
                { head: "In all", number: true, cell: (row) => count(row.all) },
            ],
        });
        fill(
            this.closes.body,
            this.closesTable.element,
            el(
                "p",
                { class: "hint" },
                "\u201cHere\u201d: while this page looked on, an hour at most.",
            ),
        );
        this.levels = new Section("Queues and levels");
        this.levelsTable = new Table({
            label: "Queues and levels",
            empty: "The broker shows no levels.",
            columns: [
                { head: "What", class: "words", cell: (row) => words(row.name) },
                { head: "Now", number: true, cell: (row) => byName(row.name, row.now) },
                { head: "Peak here", number: true, cell: (row) => byName(row.name, row.peak) },
            ],
        });
        fill(this.levels.body, this.levelsTable.element);
        this.connections = new Section("Connections");
        this.connectionsTable = new Table({
            label: "Connections by listener",
            empty: "Nobody has connected.",
            columns: [
                { head: "By", cell: (row) => transportPill(row.name) },
                { head: "Open", number: true, cell: (row) => count(row.open) },
                { head: "New per s", number: true, cell: (row) => rate(row.rate) },
                { head: "In all", number: true, cell: (row) => count(row.all) },
            ],
        });
        fill(this.connections.body, this.connectionsTable.element);
        this.slowest = new Section("Slowest users");
        this.slowestTable = new Table({
            label: "Slowest users",
            empty: "Nobody has output or messages waiting.",
            columns: [
                { head: "User", cell: (row) => userLink(row.user) },
                { head: "Output", number: true, cell: (row) => bytes(row.output_bytes) },
                { head: "Inbox", number: true, cell: (row) => count(row.inbox_messages) },
                {
                    head: "Since",
                    number: true,
                    cell: (row) => age(this.context.now_ms() - row.since_ms),
                },
            ],
        });
        fill(this.slowest.body, this.slowestTable.element);
        this.services = new Section("Services");
        this.servicesTable = new Table({
            label: "Services and their instances",
            empty: "No backend is linked.",
            columns: serviceColumns(this.context).slice(0, -1), // all of them on its page
        });
        fill(this.services.body, this.servicesTable.element);
    }

    start() {
        for (const { view } of [...this.charts, { view: this.latency }]) {
            view.rebuild();
        }
        this.context.poll(this.slowest, 2000, async (signal) => {
            const { users = [] } = await get("/api/slowest?limit=10", { signal });
            this.slowestTable.show(users.filter((row) => row.output_bytes || row.inbox_messages));
        });
        this.context.poll(this.services, 2000, async (signal) => {
            const { services = [] } = await get("/api/services", { signal });
            this.servicesTable.show(instanceRows(services));
        });
        this.tick(this.context.model);
    }

    tick({ history }) {
        if (!history.last()) {
            return;
        }
        const newest = history.samples.length - 1;
        for (const tile of this.tiles) {
            setText(tile.figure, tile.format(tile.value(history, newest)));
        }
        const first = history.since(Number(this.span.select.value));
        const times = history.times().slice(first);
        for (const { view, lines } of this.charts) {
            view.show(
                times,
                lines.map(([, value]) => history.series((place) => value(history, place), first)),
            );
        }
        this.tickLatency(history, times, first);
        this.tickBudget(history.last().stats.gauges);
        this.tickTables(history, history.last().stats);
    }

    // The book of limits.memory_bytes: each part of it, the largest first. Threads sum in steps, so what
    // the parts lack is said, too.
    tickBudget(gauges) {
        const limit = gauges.memory_limit_bytes || 0;
        const held = gauges.memory_held_bytes || 0;
        const parts = PARTS.map(([name, text]) => [text, gauges[`memory_${name}_bytes`] || 0])
            .filter(([, value]) => value > 0)
            .sort(([, one], [, other]) => other - one);
        const named = parts.reduce((sum, [, value]) => sum + value, 0);
        const rows = [
            ["held in all", held],
            ...parts,
            ["not summed by part yet", Math.max(0, held - named)],
            ["free", Math.max(0, limit - held)],
        ];
        this.budgetTable.show(
            limit ? rows.map(([text, value]) => ({ text, value, share: value / limit })) : [],
        );
    }

    tickLatency(history, times, first) {
        const names = latencies(history.last().stats.histograms);
        if (names.join() !== this.latencyNames) {
            this.latencyNames = names.join();
            const chosen = this.choice.value;
            fill(
                this.choice,
                names.map((name) =>
                    el(
                        "option",
                        { value: name, selected: name === chosen },
                        words(name.replace(/_seconds$/, "")),
                    ),
                ),
            );
        }
        const name = this.choice.value;
        this.latency.show(
            times,
            [0.5, 0.9, 0.99].map((q) =>
                history.series((place) => (name ? history.quantile(place, name, q) : null), first),
            ),
        );
    }

    tickTables(history, { counters, gauges }) {
        const rows = closes(counters)
            .map(([name, text]) => ({ text, all: counters[name] || 0, recent: history.rise(name) }))
            .filter((row) => row.all > 0)
            .sort((a, b) => b.recent - a.recent || b.all - a.all);
        const most = Math.max(1, ...rows.map((row) => row.recent));
        this.closesTable.show(rows.map((row) => ({ ...row, share: row.recent / most })));
        this.connectionsTable.show(
            listeners({ counters, gauges }).map((name) => ({
                name,
                open: gauges[`connections_open_${name}`],
                rate: history.rate(history.samples.length - 1, acceptedBy(name)),
                all: counters[acceptedBy(name)],
            })),
        );
        this.levelsTable.show(
            levels(gauges).map((name) => ({ name, now: gauges[name], peak: history.peak(name) })),
        );
    }

    stop() {
        for (const { view } of [...this.charts, { view: this.latency }]) {
            view.destroy();
        }
    }
}

function barOf(row) {
    return el("meter", { min: 0, max: 1, value: row.share, "aria-hidden": "true" });
}
