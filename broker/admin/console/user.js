// SPDX-License-Identifier: Apache-2.0
// One user: the session, what happened to it, and what an operator may do about it.

import { get, lookingOnly, userPath } from "./api.js";
import { askKick, askPush } from "./dialogs.js";
import { Section, Table, el, fill, roomLink, setText } from "./dom.js";
import { age, byName, bytes as size, count, time } from "./format.js";
import { eventFields, eventWords, pastKind } from "./names.js";
import { statePill, transportPill } from "./users.js";
import { Trace } from "./trace.js";

export class User {
    constructor(context, user) {
        this.context = context;
        this.user = user;
        this.title = user;
        this.session = null;
        this.stored = { messages: 0, bytes: 0 };
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
        this.looking = el("p", { class: "hint", hidden: true });
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
        this.past = new Section("Why and when");
        this.why = el("p", { class: "why", role: "status" });
        this.records = el("ol", { class: "past" });
        fill(
            this.past.body,
            this.why,
            el(
                "p",
                { class: "hint" },
                "From the store, the newest first, also from before a restart: as usherctl why tells.",
            ),
            this.records,
        );
        this.rooms = new Section("Rooms");
        this.roomsTable = new Table({
            label: "Rooms of this user",
            empty: "In no room.",
            columns: [
                { head: "Room", cell: (row) => roomLink(row.room) },
                { head: "Members", number: true, cell: (row) => count(row.members) },
                { head: "Has", number: true, cell: (row) => count(row.offset) },
                { head: "Of", number: true, cell: (row) => count(row.newest) },
                {
                    head: "",
                    cell: (row) => (row.away ? "away" : row.behind ? "behind" : ""),
                },
            ],
        });
        fill(this.rooms.body, this.roomsTable.element);
        this.trace = new Trace(context, user);
        this.element = el(
            "div",
            { class: "page" },
            el("h1", { class: "name" }, el("bdi", {}, user)),
            el(
                "div",
                { class: "grid sides" },
                el("div", { class: "side" }, this.facts.element, this.rooms.element),
                el("div", { class: "side" }, this.past.element, this.timeline.element),
            ),
            this.trace.section.element,
        );
    }

    start() {
        this.asking = this.context.poll(this.facts, 2000, (signal) => this.ask(signal));
        this.context.poll(this.rooms, 3000, (signal) => this.askRooms(signal));
        this.trace.start();
    }

    async askRooms(signal) {
        let answer = { rooms: [] };
        try {
            answer = await get(`${userPath(this.user)}/rooms`, { signal });
        } catch (error) {
            if (error.kind !== "missing") {
                throw error;
            }
        }
        this.roomsTable.show(answer.rooms || []);
    }

    async ask(signal) {
        let answer;
        try {
            answer = await get(userPath(this.user), { signal });
        } catch (error) {
            if (error.kind !== "missing") {
                throw error;
            }
            const stored = { messages: 0, bytes: 0 };
            answer = { session: null, timeline: [], stored, history: [] };
        }
        this.session = answer.session;
        this.stored = answer.stored;
        this.showSession();
        this.showTimeline(answer.timeline || []);
        this.showPast(answer);
    }

    // What ended it last, in a sentence, and all that is known.
    showPast({ history = [], history_first_ms = 0, history_more = false }) {
        const now_ms = this.context.now_ms();
        const end = history.find((record) => ["DETACHED", "OFFLINE"].includes(record.kind));
        setText(this.why, end ? `Disconnected ${age(now_ms - end.time_ms)} ago: ${end.text}.` : "");
        const shown = JSON.stringify([history, history_first_ms, history_more]);
        if (shown === this.pastShown) {
            return;
        }
        this.pastShown = shown;
        const reach = history_first_ms
            ? `The history goes back to ${time(history_first_ms)}.`
            : "The history is empty, or this node keeps none.";
        fill(
            this.records,
            history.map(recordRow),
            el(
                "li",
                { class: "empty" },
                `${history.length ? "" : "Nothing is told of this user. "}${reach}` +
                    (history_more ? " There is more: usherctl why --last." : ""),
            ),
        );
    }

    showSession() {
        const may = this.context.mayChange();
        this.actions.hidden = !may || !this.session;
        this.looking.hidden = may || !this.session;
        setText(this.looking, lookingOnly("a kick or a push"));
        const { messages, bytes } = this.stored;
        const stored = [
            el("dt", {}, "Stored"),
            el("dd", {}, messages ? `${count(messages)} messages, ${size(bytes)}` : "none"),
        ];
        if (!this.session) {
            fill(
                this.list,
                el("dt", {}, "State"),
                el("dd", {}, statePill("no session")),
                ...stored,
            );
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
            ...stored,
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

function recordRow(record) {
    const missing = record.missing
        ? el(
              "div",
              { class: "hint" },
              `${count(record.missing)} records before this one, of whomever, could not be kept.`,
          )
        : null;
    return el(
        "li",
        { class: `event event-${pastKind(record)}` },
        el("time", { datetime: new Date(record.time_ms).toISOString() }, time(record.time_ms)),
        el("div", {}, el("bdi", { class: "event-text" }, record.text), missing),
    );
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
