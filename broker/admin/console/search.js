// SPDX-License-Identifier: Apache-2.0
// The field that finds a user: `/` goes to it, arrow keys choose, Enter opens. What is typed in
// full can be opened without being found: a user without a session may still have a timeline.

import { get, query } from "./api.js";
import { el, fill } from "./dom.js";

const SHOWN = 8;
const QUIET_MS = 120; // after the last key

export class Search {
    constructor(open) {
        this.open = open;
        this.form = document.getElementById("search");
        this.input = document.getElementById("search-input");
        this.list = document.getElementById("search-list");
        this.place = -1;
        this.timer = 0;
        this.asked = null;
        this.form.addEventListener("submit", (event) => this.submit(event));
        this.input.addEventListener("input", () => this.later());
        this.input.addEventListener("keydown", (event) => this.key(event));
        this.input.addEventListener("blur", () => this.hide());
        document.addEventListener("keydown", (event) => this.shortcut(event));
    }

    shortcut(event) {
        const typing = event.target.closest?.("input, textarea, select, dialog");
        if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
            event.preventDefault();
            this.input.focus();
            this.input.select();
        }
    }

    later() {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.ask(), QUIET_MS);
    }

    async ask() {
        this.asked?.abort();
        this.asked = new AbortController();
        const prefix = this.input.value.trim();
        if (!prefix) {
            this.hide();
            return;
        }
        try {
            const { sessions = [] } = await get(`/api/sessions${query({ prefix, limit: SHOWN })}`, {
                signal: this.asked.signal,
            });
            this.show(sessions);
        } catch {
            this.hide(); // the banner says what is wrong
        }
    }

    show(sessions) {
        this.place = -1;
        fill(
            this.list,
            sessions.map((session, place) =>
                el(
                    "li",
                    {
                        role: "option",
                        id: `search-option-${place}`,
                        "aria-selected": "false",
                        // Before the blur that a click causes.
                        onmousedown: (event) => {
                            event.preventDefault();
                            this.go(session.user);
                        },
                    },
                    el("bdi", {}, session.user),
                    " ",
                    el("small", {}, session.state),
                ),
            ),
        );
        this.users = sessions.map((session) => session.user);
        this.list.hidden = sessions.length === 0 || document.activeElement !== this.input;
        this.input.setAttribute("aria-expanded", String(!this.list.hidden));
        this.input.removeAttribute("aria-activedescendant");
    }

    hide() {
        clearTimeout(this.timer);
        this.asked?.abort();
        this.place = -1;
        this.list.hidden = true;
        this.input.setAttribute("aria-expanded", "false");
        this.input.removeAttribute("aria-activedescendant");
    }

    key(event) {
        if (event.key === "Escape") {
            this.hide();
            return;
        }
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (!step || this.list.hidden) {
            return;
        }
        event.preventDefault();
        const options = [...this.list.children];
        this.place =
            (this.place + step + options.length + (this.place < 0 && step < 0 ? 1 : 0)) %
            options.length;
        options.forEach((option, place) =>
            option.setAttribute("aria-selected", String(place === this.place)),
        );
        this.input.setAttribute("aria-activedescendant", options[this.place].id);
    }

    submit(event) {
        event.preventDefault();
        const typed = this.input.value.trim();
        const chosen = !this.list.hidden && this.place >= 0 ? this.users[this.place] : typed;
        if (chosen) {
            this.go(chosen);
        }
    }

    go(user) {
        this.hide();
        this.input.value = "";
        this.input.blur();
        this.open(user);
    }
}
