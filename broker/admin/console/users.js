// SPDX-License-Identifier: Apache-2.0
// All sessions, by name, page by page.

import { get, query } from "./api.js";
import { Section, Table, el, fill, pill, userLink } from "./dom.js";
import { age, count } from "./format.js";

const PAGE = 50;

export function statePill(state) {
    return pill(state, { online: "good", detached: "news" }[state] || "none");
}

// By which listener the connection came, or the last one did.
export function transportPill(transport) {
    return transport ? pill(transport, "none") : null;
}

export class Users {
    constructor(context) {
        this.context = context;
        this.title = "Users";
        this.pages = [""]; // what each page began after; the last one is shown
        this.prefix = el("input", {
            type: "text",
            maxlength: 64,
            spellcheck: "false",
            autocomplete: "off",
            oninput: () => this.first(),
        });
        this.state = el(
            "select",
            { onchange: () => this.first() },
            [
                ["", "online and detached"],
                ["online", "online"],
                ["detached", "detached"],
            ].map(([value, text]) => el("option", { value }, text)),
        );
        this.back = el(
            "button",
            { type: "button", class: "quiet", onclick: () => this.turn(-1) },
            "Back",
        );
        this.next = el(
            "button",
            { type: "button", class: "quiet", onclick: () => this.turn(1) },
            "Next",
        );
        this.section = new Section("Sessions", { wide: true });
        this.table = new Table({
            label: "Sessions",
            empty: "No session matches.",
            columns: [
                { head: "User", cell: (row) => userLink(row.user) },
                { head: "State", cell: (row) => statePill(row.state) },
                { head: "For", number: true, cell: (row) => age(context.now_ms() - row.since_ms) },
                { head: "Inbox", number: true, cell: (row) => count(row.inbox_messages) },
                { head: "By", cell: (row) => transportPill(row.transport) },
                { head: "Address", cell: (row) => el("bdi", { class: "mono" }, row.address) },
                { head: "Client", cell: (row) => el("bdi", {}, row.client) },
                {
                    head: "Epoch",
                    number: true,
                    cell: (row) => el("span", { class: "mono" }, row.epoch),
                },
            ],
        });
        fill(
            this.section.body,
            el(
                "div",
                { class: "filters" },
                el("label", { class: "field" }, el("span", {}, "Name begins with"), this.prefix),
                el("label", { class: "field" }, el("span", {}, "State"), this.state),
            ),
            this.table.element,
            el("div", { class: "buttons" }, this.back, this.next),
        );
        this.element = el("div", { class: "page" }, el("h1", {}, "Users"), this.section.element);
    }

    start() {
        this.asking = this.context.poll(this.section, 3000, (signal) => this.ask(signal));
    }

    async ask(signal) {
        const pages = this.pages;
        const after = pages[pages.length - 1];
        const {
            sessions = [],
            more = false,
            next = "",
        } = await get(
            `/api/sessions${query({
                prefix: this.prefix.value,
                state: this.state.value,
                limit: PAGE,
                after,
            })}`,
            { signal },
        );
        if (pages !== this.pages) {
            return; // an answer to what was asked for before
        }
        this.after = next;
        this.back.disabled = pages.length === 1;
        this.next.disabled = !more || !next;
        // With a state a page may be empty and not the last one: the broker looks at so many.
        this.table.empty = more ? "None here; go on with Next." : "No session matches.";
        this.table.show(sessions);
    }

    first() {
        this.go([""]);
    }

    turn(step) {
        this.go(step > 0 ? [...this.pages, this.after] : this.pages.slice(0, -1));
    }

    // Nobody turns a page that is not the one shown: what comes next is not known before the answer.
    go(pages) {
        this.pages = pages;
        this.back.disabled = this.next.disabled = true;
        this.asking.now();
    }

    tick() {}

    stop() {}
}
