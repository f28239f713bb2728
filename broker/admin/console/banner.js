// SPDX-License-Identifier: Apache-2.0
// What is wrong, above everything else, and how old what is shown below is. The banner counts
// seconds; the live region beside it speaks only when the matter changes, so that a screen reader
// is not told each second.

import {el, fill, pill, setText} from "./dom.js";
import {age, time} from "./format.js";

const KINDS = {ready: "good", degraded: "warn", draining: "news", stopping: "news",
    unreachable: "bad", token: "warn", none: "none"};

export class Banner {
    constructor() {
        this.box = document.getElementById("banner");
        this.live = document.getElementById("announce");
        this.pill = document.getElementById("state");
        this.main = document.getElementById("main");
        this.matter = "";
    }

    // health: the answer of /readyz or null; fault: null, "unreachable" or "token"; seen_ms: when
    // the broker answered last, 0 for never.
    show({health, fault, seen_ms}) {
        const word = fault || stateOf(health);
        const failing = (health?.checks || []).filter((check) => !check.ok);
        this.pill.className = `pill pill-${KINDS[word] || "none"}`;
        setText(this.pill, word === "none" ? "asking\u2026" : word);
        this.main.classList.toggle("old", fault !== null && seen_ms > 0);
        this.box.hidden = word === "ready" || word === "none";
        this.box.className = `banner banner-${KINDS[word] || "none"}`;
        const parts = {unreachable: () => unreachable(seen_ms), token: () => noToken(seen_ms),
            degraded: () => degraded(failing)}[word] || (() => leaving(word, failing));
        if (!this.box.hidden) {
            this.replace(parts());
        }
        const matter = fault ? word : [word, ...failing.map((check) => check.name)].join(" ");
        if (matter !== this.matter && word !== "none") {
            this.matter = matter;
            setText(this.live, announcement(word, failing));
        }
    }

    // Only when the words differ: a selection in the banner stays.
    replace(parts) {
        const text = parts.map((part) => part.textContent).join("|");
        if (text !== this.shown) {
            this.shown = text;
            fill(this.box, parts);
        }
    }
}

function stateOf(health) {
    if (!health) {
        return "none";
    }
    if (health.state && health.state !== "serving") {
        return health.state;
    }
    return health.ready ? "ready" : "degraded";
}

function unreachable(seen_ms) {
    const rest = seen_ms
        ? `What is shown below was true ${age(Date.now() - seen_ms)} ago, at ${time(seen_ms)}.`
        : "It has not answered yet.";
    return [el("strong", {}, "The broker does not answer."), el("span", {}, rest)];
}

function noToken(seen_ms) {
    const rest = seen_ms ? ` What is shown below is of ${time(seen_ms)}.` : "";
    return [el("strong", {}, "The broker asks for a token."),
        el("span", {}, `Press \u201cToken\u201d to enter it.${rest}`)];
}

function degraded(failing) {
    return [el("strong", {}, "The broker is up and does not serve everybody well."), list(failing)];
}

function leaving(word, failing) {
    const text = word === "draining" ? "The broker is draining: clients are sent away in waves."
        : "The broker is stopping.";
    return [el("strong", {}, text), list(failing)];
}

function list(failing) {
    return el("ul", {}, failing.map((check) =>
        el("li", {}, pill(check.name, "none"), " ", check.detail || "not ready")));
}

function announcement(word, failing) {
    const names = failing.map((check) => check.name).join(", ");
    return {ready: "The broker is ready.", unreachable: "The broker does not answer.",
        token: "The broker asks for a token.",
        degraded: `The broker is degraded: ${names}.`}[word] || `The broker is ${word}.`;
}
