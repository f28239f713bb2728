// SPDX-License-Identifier: Apache-2.0
// Two tails: the presence stream, and the flight recorder.

import { get, query } from "./api.js";
import { Section, Table, el, fill, pill, userLink } from "./dom.js";
import { time } from "./format.js";
import { eventFields } from "./names.js";

const KEPT = 500;
const FIRST = 100; // of the stream's end, when the page opens
const KINDS = { ONLINE: "good", DETACHED: "news", RESUMED: "good", OFFLINE: "end" };
const LEVELS = { debug: "none", info: "news", warn: "warn", error: "bad" };

export class Presence {
    constructor(context) {
        this.title = "Presence";
        this.context = context;
        this.events = [];
        this.after = null; // not known yet
        this.section = new Section("The newest of the stream", { wide: true });
        this.table = new Table({
            label: "Presence events, the newest first",
            empty: "Nobody has come or gone.",
            columns: [
                {
                    head: "Seq",
                    number: true,
                    cell: (row) => el("span", { class: "mono" }, row.seq),
                },
                { head: "Time", cell: (row) => time(row.time_ms) },
                { head: "User", cell: (row) => userLink(row.user) },
                {
                    head: "Became",
                    cell: (row) =>
                        pill(
                            String(row.kind).toLowerCase(),
                            KINDS[String(row.kind).toUpperCase()] || "none",
                        ),
                },
                {
                    head: "Because",
                    cell: (row) =>
                        String(row.cause ?? "")
                            .toLowerCase()
                            .replaceAll("_", " "),
                },
                {
                    head: "Epoch",
                    number: true,
                    cell: (row) => el("span", { class: "mono" }, row.epoch),
                },
                { head: "Address", cell: (row) => el("bdi", { class: "mono" }, row.address) },
                { head: "Client", cell: (row) => el("bdi", {}, row.client) },
            ],
        });
        fill(
            this.section.body,
            el(
                "p",
                { class: "hint" },
                "Numbered without gaps, the newest first; this page keeps 500.",
            ),
            this.table.element,
        );
        this.element = el("div", { class: "page" }, el("h1", {}, "Presence"), this.section.element);
    }

    start() {
        this.context.poll(this.section, 1000, (signal) => this.ask(signal));
    }

    async ask(signal) {
        const opening = this.after === null; // then the newest ones are given
        const answer = await get(
            `/api/presence${query({ after: this.after, limit: opening ? FIRST : KEPT })}`,
            { signal },
        );
        const events = answer.events || [];
        const last = answer.presence_last || 0;
        if (!opening && (answer.reset || last < this.after)) {
            this.events = []; // what lies between is not known: as if the page were opened now
            this.after = null;
            this.table.show([]);
            return;
        }
        if (events.length || opening) {
            this.after = events.length ? events[events.length - 1].seq : last;
        }
        this.events = [...this.events, ...events].slice(-KEPT);
        if (events.length || !this.shown) {
            this.shown = true;
            this.table.show([...this.events].reverse());
        }
    }

    tick() {}

    stop() {}
}

export class Recorder {
    constructor(context) {
        this.title = "Recorder";
        this.context = context;
        this.lines = [];
        this.words = el("input", {
            type: "text",
            spellcheck: "false",
            autocomplete: "off",
            oninput: () => this.show(),
        });
        this.level = el(
            "select",
            { onchange: () => this.show() },
            [
                ["debug info warn error", "all"],
                ["warn error", "warnings and errors"],
                ["error", "errors"],
            ].map(([value, text]) => el("option", { value }, text)),
        );
        this.section = new Section("Its newest lines", { wide: true });
        this.table = new Table({
            label: "Lines of the flight recorder, the newest first",
            empty: "No line matches.",
            columns: [
                { head: "Time", cell: (row) => time(row.time_ms) },
                { head: "Level", cell: (row) => pill(row.level, LEVELS[row.level] || "none") },
                { head: "Event", cell: (row) => el("code", {}, row.event) },
                { head: "User", cell: (row) => (row.user ? userLink(row.user) : "") },
                { head: "Fields", class: "wrap", cell: fieldsOf },
            ],
        });
        fill(
            this.section.body,
            el(
                "div",
                { class: "filters" },
                el("label", { class: "field" }, el("span", {}, "Holds the words"), this.words),
                el("label", { class: "field" }, el("span", {}, "Level"), this.level),
            ),
            this.table.element,
        );
        this.element = el(
            "div",
            { class: "page" },
            el("h1", {}, "Flight recorder"),
            this.section.element,
        );
    }

    start() {
        this.context.poll(this.section, 1000, async (signal) => {
            const { events = [] } = await get(`/api/recorder?limit=${KEPT}`, { signal });
            const newest = JSON.stringify(events);
            if (newest !== this.newest) {
                this.newest = newest;
                this.lines = events;
                this.show();
            }
        });
    }

    show() {
        const wanted = this.words.value.toLowerCase();
        const levels = this.level.value.split(" ");
        const rows = this.lines.filter(
            (line) =>
                levels.includes(line.level) && JSON.stringify(line).toLowerCase().includes(wanted),
        );
        this.table.show(rows.reverse());
    }

    tick() {}

    stop() {}
}

function fieldsOf(row) {
    return el(
        "span",
        {},
        eventFields(row, "user").map(([key, value]) =>
            el(
                "span",
                { class: "chip" },
                el("span", { class: "chip-key" }, key),
                " ",
                el("bdi", {}, value),
            ),
        ),
    );
}
