// SPDX-License-Identifier: Apache-2.0
// One user: the session, what happened to it, and what an operator may do about it.

import { get, userPath } from "./api.js";
import { askKick, askPush } from "./dialogs.js";
import { Section, el, fill, setText } from "./dom.js";
import { age, byName, count, time } from "./format.js";
import { eventFields, eventWords } from "./names.js";
import { statePill, transportPill } from "./users.js";
import { Trace } from "./trace.js";

export class User {
    constructor(context, user) {
        this.context = context;
        this.user = user;
        this.title = user;
        this.session = null;
        this.done = el("p", { class: "done", role: "status" });
        this.push = el(
            "button",
            { type: "button", onclick: () => askPush(this.session, (text) => this.after(text)) },
            "Push\u2026",
        );
        this.kick = el(
            "button",
            {
                type: "button",
                class: "danger",
                onclick: () => askKick(this.session, (text) => this.after(text)),
            },
            "Kick\u2026",
        );
        this.actions = el("div", { class: "buttons", hidden: true }, this.push, this.kick);
        this.looking = el(
            "p",
            { class: "hint", hidden: true },
            "This token may look and not change; kick and push need the other one.",
        );
        this.facts = new Section("Session");
        this.list = el("dl", { class: "facts" });
        fill(this.facts.body, this.list, this.actions, this.looking, this.done);
        this.timeline = new Section("Timeline");
        this.events = el("ol", { class: "timeline" });
        fill(
            this.timeline.body,
            el(
                "p",
                { class: "hint" },
                "From the flight recorder, the newest first; it forgets the oldest.",
            ),
            this.events,
        );
        this.trace = new Trace(context, user);
        this.element = el(
            "div",
            { class: "page" },
            el("h1", { class: "name" }, el("bdi", {}, user)),
            el("div", { class: "grid" }, this.facts.element, this.timeline.element),
            this.trace.section.element,
        );
    }

    start() {
        this.asking = this.context.poll(this.facts, 2000, (signal) => this.ask(signal));
        this.trace.start();
    }

    async ask(signal) {
        let answer;
        try {
            answer = await get(userPath(this.user), { signal });
        } catch (error) {
            if (error.kind !== "missing") {
                throw error;
            }
            answer = { session: null, timeline: [] };
        }
        this.session = answer.session;
        this.showSession();
        this.showTimeline(answer.timeline || []);
    }

    showSession() {
        const may = this.context.mayChange();
        this.actions.hidden = !may || !this.session;
        this.looking.hidden = may || !this.session;
        if (!this.session) {
            fill(this.list, el("dt", {}, "State"), el("dd", {}, statePill("no session")));
            return;
        }
        const { state, epoch, since_ms, address, transport, client, inbox_messages } = this.session;
        const rows = [
            ["State", statePill(state)],
            [
                state === "detached" ? "Detached for" : "Since",
                `${age(this.context.now_ms() - since_ms)} (${time(since_ms)})`,
            ],
            ["Inbox", `${count(inbox_messages)} messages`],
            [state === "detached" ? "Came by" : "Comes by", transportPill(transport) || "\u2013"],
            ["Address", el("bdi", { class: "mono" }, address)],
            ["Client", el("bdi", {}, client)],
            ["Epoch", el("span", { class: "mono" }, epoch)],
        ];
        fill(
            this.list,
            rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
        );
    }

    showTimeline(events) {
        const shown = JSON.stringify(events);
        if (shown === this.shown) {
            return; // nobody's place in it is lost
        }
        this.shown = shown;
        fill(
            this.events,
            events.length
                ? [...events].reverse().map(eventRow)
                : el("li", { class: "empty" }, "The flight recorder holds nothing of this user."),
        );
    }

    after(text) {
        setText(this.done, text);
        this.asking.now();
    }

    tick() {}

    stop() {}
}

function eventRow(event) {
    const [kind, text] = eventWords(event);
    const fields = eventFields(event, "user").map(([key, value]) =>
        el(
            "span",
            { class: "chip" },
            el("span", { class: "chip-key" }, key),
            " ",
            el(
                "bdi",
                {},
                typeof value === "number" && key !== "epoch" && !key.endsWith("_epoch")
                    ? byName(key, value)
                    : value,
            ),
        ),
    );
    return el(
        "li",
        { class: `event event-${kind}` },
        el("time", { datetime: new Date(event.time_ms).toISOString() }, time(event.time_ms)),
        el(
            "div",
            {},
            el("span", { class: "event-text" }, text),
            " ",
            el("code", {}, event.event),
            fields.length ? el("div", { class: "chips" }, fields) : null,
        ),
    );
}
