// SPDX-License-Identifier: Apache-2.0
// One room: what it is, what it does, who is in it, and its end.

import { get, lookingOnly, query, roomPath } from "./api.js";
import { Chart } from "./charts.js";
import { askClose } from "./dialogs.js";
import { Section, Table, el, fill, pill, setText, userLink } from "./dom.js";
import { age, bytes, count, rate, time } from "./format.js";
import { History } from "./history.js";

const PAGE = 50;
const COUNTED = [
    ["messages", "offset", 1],
    ["deliveries", "deliveries", 2],
];

export class Room {
    constructor(context, name) {
        this.context = context;
        this.name = name;
        this.title = name;
        this.room = null;
        this.history = new History(); // of what this page has asked, and of nothing else
        this.pages = [""];
        this.done = el("p", { class: "done", role: "status" });
        this.close = el(
            "button",
            {
                type: "button",
                class: "danger",
                onclick: () => askClose(this.room, (text) => this.ended(text)),
            },
            "Close\u2026",
        );
        this.actions = el("div", { class: "buttons", hidden: true }, this.close);
        this.looking = el("p", { class: "hint", hidden: true });
        this.facts = new Section("Room");
        this.list = el("dl", { class: "facts" });
        fill(this.facts.body, this.list, this.actions, this.looking, this.done);
        this.chart = new Chart({
            title: "Per second",
            format: rate,
            series: COUNTED.map(([label, , colour]) => ({ label, colour })),
        });
        this.makeMembers();
        this.element = el(
            "div",
            { class: "page" },
            el("h1", { class: "name" }, el("bdi", {}, name)),
            el("div", { class: "grid" }, this.facts.element, this.chart.element),
            this.members.element,
        );
    }

    makeMembers() {
        this.members = new Section("Members", { wide: true });
        this.table = new Table({
            label: "Members of the room",
            empty: "Nobody is in it.",
            columns: [
                { head: "User", cell: (row) => userLink(row.user) },
                {
                    head: "State",
                    cell: (row) => (row.away ? pill("away", "news") : pill("here", "good")),
                },
                { head: "Stays", cell: (row) => (row.carry ? "over a takeover" : "") },
                {
                    head: "Epoch",
                    number: true,
                    cell: (row) => el("span", { class: "mono" }, row.epoch),
                },
            ],
        });
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
        fill(
            this.members.body,
            el("p", { class: "hint" }, "In the order in which they joined."),
            this.table.element,
            el("div", { class: "buttons" }, this.back, this.next),
        );
    }

    start() {
        this.chart.rebuild();
        this.asking = this.context.poll(this.facts, 1000, (signal) => this.ask(signal));
    }

    async ask(signal) {
        const pages = this.pages;
        let answer;
        try {
            answer = await get(
                `${roomPath(this.name)}${query({ limit: PAGE, after: pages[pages.length - 1] })}`,
                { signal },
            );
        } catch (error) {
            if (error.kind !== "missing") {
                throw error;
            }
            answer = { room: null, members: [] };
        }
        this.room = answer.room;
        this.showFacts();
        this.showRates(answer.now_ms);
        if (pages === this.pages) {
            this.after = answer.next || "";
            this.back.disabled = pages.length === 1;
            this.next.disabled = !answer.more || !this.after;
            this.table.show(answer.members);
        }
    }

    showFacts() {
        const may = this.context.mayChange();
        this.actions.hidden = !may || !this.room;
        this.looking.hidden = may || !this.room;
        setText(this.looking, lookingOnly("closing it"));
        if (!this.room) {
            fill(this.list, el("dt", {}, "State"), el("dd", {}, pill("not open", "none")));
            return;
        }
        const { room } = this;
        const rows = [
            ["Class", el("bdi", { class: "mono" }, room.class)],
            ["Owner", room.owner ? el("bdi", {}, room.owner) : "\u2013"],
            [
                "Open for",
                `${age(this.context.now_ms() - room.opened_ms)} (${time(room.opened_ms)})`,
            ],
            ["Members", `${count(room.members)}, ${count(room.away)} of them away`],
            ["Messages", `${count(room.offset)} since it was opened`],
            ["Deliveries", count(room.deliveries)],
            ["History", `${count(room.history_messages)} messages, ${bytes(room.history_bytes)}`],
            ["Number", el("span", { class: "mono" }, `#${room.number}`)],
            ["Incarnation", el("span", { class: "mono" }, room.incarnation)],
        ];
        fill(
            this.list,
            rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
        );
    }

    // Another life of the room counts from 0 again, and nothing is computed over that edge.
    showRates(now_ms) {
        const { room, history } = this;
        if (!room) {
            return;
        }
        if (room.incarnation !== this.incarnation) {
            history.clear();
        }
        this.incarnation = room.incarnation;
        const counters = Object.fromEntries(COUNTED.map(([label, key]) => [label, room[key]]));
        history.add(
            { now_ms, counters, gauges: {} },
            (performance.timeOrigin + performance.now()) / 1000,
        );
        this.chart.show(
            history.times(),
            COUNTED.map(([label]) => history.series((place) => history.rate(place, label))),
        );
    }

    ended(text) {
        setText(this.done, text);
        this.asking.now();
    }

    go(pages) {
        this.pages = pages;
        this.back.disabled = this.next.disabled = true;
        this.asking.now();
    }

    tick() {}

    stop() {
        this.chart.destroy();
    }
}
