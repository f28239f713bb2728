// SPDX-License-Identifier: Apache-2.0
// All rooms: by name page by page, or those that are largest or do most.

import { get, query } from "./api.js";
import { Chart } from "./charts.js";
import { Section, Table, el, fill, roomLink, setText } from "./dom.js";
import { age, bytes, count, rate } from "./format.js";

const PAGE = 50;
const ORDERS = [
    ["members", "most members"],
    ["messages", "most messages per second"],
    ["deliveries", "most deliveries per second"],
    ["name", "name"],
];

// Of all rooms, by what the broker counts.
const CHARTS = [
    {
        title: "All rooms, per second",
        lines: [
            ["messages", "room_messages", 1],
            ["deliveries", "room_deliveries", 2],
            ["refused", "room_messages_refused", 3],
        ],
    },
    {
        title: "Behind, per second",
        lines: [
            ["fell behind", "room_behind", 2],
            ["mailboxes full", "room_missed", 3],
            ["asked for what was missed", "room_pulls", 1],
            ["and it was gone", "room_partial", 4],
        ],
    },
];

export class Rooms {
    constructor(context) {
        this.context = context;
        this.title = "Rooms";
        this.pages = [""]; // as in users.js; only by name there is a next one
        this.prefix = el("input", {
            type: "text",
            maxlength: 64,
            spellcheck: "false",
            autocomplete: "off",
            oninput: () => this.go([""]),
        });
        this.by = el(
            "select",
            { onchange: () => this.go([""]) },
            ORDERS.map(([value, text]) => el("option", { value }, text)),
        );
        this.back = el(
            "button",
            { type: "button", class: "quiet", onclick: () => this.go(this.pages.slice(0, -1)) },
            "Back",
        );
        this.next = el(
            "button",
            {
                type: "button",
                class: "quiet",
                onclick: () => this.go([...this.pages, this.after]),
            },
            "Next",
        );
        this.turn = el("div", { class: "buttons" }, this.back, this.next);
        this.more = el("p", { class: "hint", role: "status" });
        this.section = new Section("Open rooms", { wide: true });
        this.table = new Table({
            label: "Rooms",
            empty: "No room matches.",
            columns: [
                { head: "Room", cell: (row) => roomLink(row.room) },
                { head: "Members", number: true, cell: (row) => count(row.members) },
                { head: "Away", number: true, cell: (row) => count(row.away) },
                { head: "Messages/s", number: true, cell: (row) => rate(row.messages_per_s) },
                { head: "Deliveries/s", number: true, cell: (row) => rate(row.deliveries_per_s) },
                { head: "History", number: true, cell: (row) => bytes(row.history_bytes) },
                {
                    head: "Open for",
                    number: true,
                    cell: (row) => age(context.now_ms() - row.opened_ms),
                },
                { head: "Class", cell: (row) => el("bdi", { class: "mono" }, row.class) },
                { head: "Owner", cell: (row) => el("bdi", {}, row.owner) },
            ],
        });
        fill(
            this.section.body,
            el(
                "div",
                { class: "filters" },
                el("label", { class: "field" }, el("span", {}, "Name begins with"), this.prefix),
                el("label", { class: "field" }, el("span", {}, "By"), this.by),
            ),
            this.table.element,
            this.more,
            this.turn,
        );
        this.charts = CHARTS.map(({ title, lines }) => ({
            lines,
            view: new Chart({
                title,
                format: rate,
                series: lines.map(([label, , colour]) => ({ label, colour })),
            }),
        }));
        this.element = el(
            "div",
            { class: "page" },
            el("h1", {}, "Rooms"),
            el(
                "div",
                { class: "grid" },
                this.charts.map(({ view }) => view.element),
            ),
            this.section.element,
        );
    }

    start() {
        for (const { view } of this.charts) {
            view.rebuild();
        }
        this.tick(this.context.model);
        this.asking = this.context.poll(this.section, 3000, (signal) => this.ask(signal));
    }

    async ask(signal) {
        const pages = this.pages;
        const named = this.by.value === "name";
        const {
            rooms = [],
            more = false,
            next = "",
        } = await get(
            `/api/rooms${query({
                prefix: this.prefix.value,
                by: this.by.value,
                limit: PAGE,
                after: pages[pages.length - 1],
            })}`,
            { signal },
        );
        if (pages !== this.pages) {
            return; // an answer to what was asked for before
        }
        this.after = next;
        this.turn.hidden = !named;
        this.back.disabled = pages.length === 1;
        this.next.disabled = !more || !next;
        setText(this.more, more && !named ? `The first ${PAGE}; there are more.` : "");
        this.table.show(rooms);
    }

    // As in users.js.
    go(pages) {
        this.pages = pages;
        this.back.disabled = this.next.disabled = true;
        this.asking.now();
    }

    tick({ history }) {
        for (const { view, lines } of this.charts) {
            view.show(
                history.times(),
                lines.map(([, name]) => history.series((place) => history.rate(place, name))),
            );
        }
    }

    stop() {
        for (const { view } of this.charts) {
            view.destroy();
        }
    }
}
