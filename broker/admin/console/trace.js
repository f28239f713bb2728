// SPDX-License-Identifier: Apache-2.0
// Following one user: what happens to each of his messages. The broker records it for so many
// seconds and into a buffer of a fixed size; what it had to leave out is said.

import { get, pathName, post, query, remove } from "./api.js";
import { Section, Table, el, fill, pill, setText } from "./dom.js";
import { age, bytes, count, seconds } from "./format.js";

const KEPT = 500;
const STAGES = {
    arrived: "news",
    queued: "none",
    turn: "none",
    sent: "good",
    acked: "good",
    refused: "bad",
    dropped: "bad",
    pulled: "news",
};

export class Trace {
    constructor(context, user) {
        this.context = context;
        this.path = `/api/trace/${pathName(user)}`;
        this.user = user;
        this.records = [];
        this.after = 0;
        this.seconds = select("For", [
            [60, "1 minute"],
            [300, "5 minutes"],
            [900, "15 minutes"],
        ]);
        this.one_in = select("Which", [
            [1, "every message"],
            [10, "1 of 10"],
            [100, "1 of 100"],
        ]);
        this.button = el(
            "button",
            { type: "button", class: "primary", onclick: () => this.toggle() },
            "Follow",
        );
        this.state = el("p", { class: "hint", role: "status" });
        this.controls = el(
            "div",
            { class: "filters" },
            this.seconds.label,
            this.one_in.label,
            this.button,
        );
        this.table = new Table({
            label: "Records of the trace",
            empty: "Nothing is recorded.",
            columns: [
                { head: "Time", cell: (row) => el("time", { class: "mono" }, exact(row.time_us)) },
                { head: "", cell: (row) => (row.direction === "in" ? "\u2192 in" : "\u2190 out") },
                { head: "Stage", cell: (row) => pill(row.stage, STAGES[row.stage] || "none") },
                { head: "Kind", cell: (row) => row.kind },
                { head: "Id", number: true, cell: (row) => el("span", { class: "mono" }, row.id) },
                { head: "Peer", cell: (row) => el("bdi", {}, row.peer) },
                { head: "Size", number: true, cell: (row) => bytes(row.bytes) },
                { head: "Waited", number: true, cell: (row) => seconds(row.wait_us / 1e6) },
                {
                    head: "Trace id",
                    cell: (row) => el("bdi", { class: "mono" }, row.trace_id || ""),
                },
            ],
        });
        this.section = new Section("Follow the messages", { wide: true });
        fill(this.section.body, this.controls, this.state, this.table.element);
    }

    start() {
        this.table.show([]);
        this.asking = this.context.poll(this.section, 1000, (signal) => this.ask(signal));
    }

    async ask(signal) {
        let answer;
        try {
            answer = await get(`${this.path}${query({ after: this.after || "" })}`, { signal });
        } catch (error) {
            if (error.kind !== "missing") {
                throw error;
            }
            answer = { active: false, records: [] }; // he has never been followed
        }
        this.active = answer.active;
        this.showState(answer);
        if ((answer.records || []).length) {
            this.take(answer.records);
        }
    }

    showState({ active, until_ms, dropped }) {
        const may = this.context.mayChange();
        this.controls.hidden = !may;
        setText(this.button, active ? "Stop" : "Follow");
        this.seconds.select.disabled = this.one_in.select.disabled = active;
        const left = active
            ? `Recording, ${age(until_ms - this.context.now_ms())} left.`
            : "Not recording; it costs nothing then.";
        const lost = dropped ? ` ${count(dropped)} records found no room and were left out.` : "";
        setText(this.state, left + lost);
    }

    take(records) {
        this.after = records[records.length - 1].seq;
        this.records = [...this.records, ...records].slice(-KEPT);
        this.table.show([...this.records].reverse());
    }

    async toggle() {
        this.button.disabled = true;
        try {
            if (this.active) {
                await remove(this.path);
            } else {
                this.records = [];
                this.after = 0;
                this.table.show([]);
                await post("/api/trace", {
                    user: this.user,
                    seconds: Number(this.seconds.select.value),
                    one_in: Number(this.one_in.select.value),
                });
            }
            await this.asking.now();
        } catch (error) {
            this.section.fault(`Not done: ${error.message}`);
        }
        this.button.disabled = false;
    }
}

function select(text, options) {
    const box = el(
        "select",
        {},
        options.map(([value, words]) => el("option", { value }, words)),
    );
    return { select: box, label: el("label", { class: "field" }, el("span", {}, text), box) };
}

// With milliseconds and microseconds: what is compared here lies close together.
function exact(time_us) {
    const date = new Date(time_us / 1000);
    const two = (value) => String(value).padStart(2, "0");
    return (
        `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.` +
        String(time_us % 1000000).padStart(6, "0")
    );
}
