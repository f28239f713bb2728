// SPDX-License-Identifier: Apache-2.0
// The console: asks the broker for its numbers once a second, keeps a bounded history of them, and
// shows one page at a time, chosen by the part of the address behind `#`.
//
// Who owns what: this file owns the polls of health, node and numbers, the history and the banner.
// A page owns its own polls, made by context.poll(), which end when the page does. When the broker
// does not answer, pages keep what they show, and the banner says how old it is.

import { door, get, token } from "./api.js";
import { Banner } from "./banner.js";
import { askToken } from "./dialogs.js";
import { el, fill, setText } from "./dom.js";
import { age } from "./format.js";
import { History } from "./history.js";
import { Friends } from "./friends.js";
import { Numbers } from "./numbers.js";
import { Overview } from "./overview.js";
import { Poll } from "./poll.js";
import { Room } from "./room.js";
import { Rooms } from "./rooms.js";
import { Search } from "./search.js";
import { Services } from "./services.js";
import { Presence, Recorder } from "./streams.js";
import { User } from "./user.js";
import { Users } from "./users.js";

// Pages of one thing, by its name, and the page of all of them.
const PARTS = { user: [User, "users"], room: [Room, "rooms"] };

const PAGES = {
    "": Overview,
    users: Users,
    rooms: Rooms,
    friends: Friends,
    services: Services,
    presence: Presence,
    recorder: Recorder,
    numbers: Numbers,
};

// On an axis that the browser's wall clock does not move.
function here_s() {
    return (performance.timeOrigin + performance.now()) / 1000;
}

class Console {
    constructor() {
        this.model = { history: new History(), node: null, health: null, fault: null, seen_ms: 0 };
        this.banner = new Banner();
        this.main = document.getElementById("main");
        this.page = null;
        this.polls = []; // of the page
        this.search = new Search((user) => {
            location.hash = `#/user/${encodeURIComponent(user)}`;
        });
        this.stats = new Poll(
            1000,
            (signal) => this.askStats(signal),
            (error) => this.fault(error),
        );
        this.health = new Poll(
            1000,
            (signal) => this.askHealth(signal),
            () => door(false),
        );
        this.node = new Poll(
            10000,
            (signal) => this.askNode(signal),
            () => {},
        );
        window.addEventListener("hashchange", () => this.route());
        document
            .getElementById("token-button")
            .addEventListener("click", () =>
                this.enterToken(token() ? "A token is in use." : "No token is in use."),
            );
        document.getElementById("skip").addEventListener("click", (event) => {
            event.preventDefault(); // the address names the page
            this.main.focus();
        });
    }

    start() {
        this.route();
        this.stats.start();
        this.health.start();
        this.node.start();
        setInterval(() => this.showBanner(), 1000);
    }

    // --- what every page may use -----------------------------------------------------------------

    context() {
        return {
            model: this.model,
            now_ms: () => this.now_ms(),
            mayChange: () => Boolean(this.model.node?.may_change),
            poll: (section, period_ms, work) => this.pagePoll(section, period_ms, work),
        };
    }

    // The broker's clock: its times are compared with it and not with the browser's.
    now_ms() {
        return Date.now() + (this.model.ahead_ms || 0);
    }

    pagePoll(section, period_ms, work) {
        const poll = new Poll(
            period_ms,
            async (signal) => {
                await work(signal);
                section.fault(null);
            },
            (error) => {
                if (error.kind === "token") {
                    this.fault(error);
                } else if (error.kind === "unavailable") {
                    section.fault(`The broker cannot answer this now: ${error.message}`);
                } else if (error.kind !== "unreachable") {
                    section.fault(error.message);
                }
            },
        );
        this.polls.push(poll);
        return poll.start();
    }

    // --- what is asked all the time --------------------------------------------------------------

    async askStats(signal) {
        const stats = await get("/api/stats", { signal });
        const was = this.model.fault;
        this.model.ahead_ms = stats.now_ms - Date.now();
        this.model.fault = null;
        this.model.seen_ms = Date.now();
        this.model.history.add(stats, here_s());
        if (!this.seeded) {
            this.seeded = true;
            this.askSamples(signal, stats.now_ms, here_s());
        }
        if (was) {
            this.node.now();
            this.health.now();
        }
        this.showBanner();
        this.page?.tick?.(this.model);
    }

    // What was before this page was opened; without it the charts begin now.
    async askSamples(signal, now_ms, now_s) {
        try {
            const answer = await get("/api/samples", { signal });
            this.model.history.seed(answer, (time_ms) => now_s - (now_ms - time_ms) / 1000);
            this.page?.tick?.(this.model);
        } catch (error) {
            if (error.kind === "unreachable") {
                this.seeded = false;
            }
        }
    }

    async askHealth(signal) {
        this.model.health = await get("/readyz", { signal, accepted: [503] });
        door(Boolean(this.model.health.token_wanted));
        this.showBanner();
    }

    async askNode(signal) {
        this.model.node = await get("/api/node", { signal });
        this.showNode();
    }

    fault(error) {
        if (error.kind === "token") {
            this.refused();
        } else if (error.kind === "unreachable") {
            this.model.fault = "unreachable";
        } else {
            console.error(error);
        }
        this.showBanner();
    }

    // --- the token -------------------------------------------------------------------------------

    refused() {
        const first = this.model.fault !== "token";
        this.model.fault = "token";
        if (first) {
            this.enterToken(
                token()
                    ? "The broker did not accept this token."
                    : "The broker shows nothing without its token.",
            );
        }
    }

    enterToken(reason) {
        askToken(reason, () => {
            this.model.fault = null; // so that a wrong one is asked for again
            this.stats.now();
            this.node.now();
            for (const poll of this.polls) {
                poll.now();
            }
        });
    }

    // --- the page --------------------------------------------------------------------------------

    route() {
        const [name = "", argument] = location.hash.replace(/^#\/?/, "").split("/");
        for (const poll of this.polls.splice(0)) {
            poll.stop();
        }
        this.page?.stop();
        const known = Object.hasOwn(PAGES, name);
        const [Part, whole] = (Object.hasOwn(PARTS, name) && argument && PARTS[name]) || [];
        this.page = Part
            ? new Part(this.context(), decoded(argument))
            : new (known ? PAGES[name] : Overview)(this.context());
        fill(this.main, this.page.element);
        document.title = `${this.page.title} \u2013 usher`;
        const here = `#/${whole || (known ? name : "")}`;
        for (const link of document.querySelectorAll("nav.pages a")) {
            if (link.getAttribute("href") === here) {
                link.setAttribute("aria-current", "page");
                link.scrollIntoView({ block: "nearest", inline: "nearest" });
            } else {
                link.removeAttribute("aria-current");
            }
        }
        if (this.routed) {
            this.main.focus({ preventScroll: true });
            window.scrollTo(0, 0);
        }
        this.routed = true;
        this.page.start();
    }

    showBanner() {
        this.banner.show(this.model);
    }

    showNode() {
        const {
            node,
            version,
            pid,
            uptime_ms,
            auth_mode,
            may_change,
            listeners = [],
        } = this.model.node;
        setText(document.getElementById("node"), node);
        const doors = listeners.map(({ kind, address }) => `${kind} ${address}`);
        fill(
            document.getElementById("about"),
            `usher ${version}, process ${pid}, up ${age(uptime_ms)}, auth ${auth_mode}, `,
            may_change ? "may change" : "looking only",
            doors.length ? el("br") : null,
            doors.join(", "),
        );
    }
}

function decoded(text) {
    try {
        return decodeURIComponent(text);
    } catch {
        return text;
    }
}

new Console().start();
