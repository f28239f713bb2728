// SPDX-License-Identifier: Apache-2.0
// What is wrong, above everything else, and how old what is shown below is. The banner counts
// seconds; the live region beside it speaks only when the matter changes, so that a screen reader
// is not told each second.

import { el, fill, pill, setText } from "./dom.js";
import { age, time } from "./format.js";

const NEAR_MS = 15 * 86400 * 1000; // the broker warns a fortnight before

const KINDS = {
    ready: "good",
    degraded: "warn",
    draining: "news",
    stopping: "news",
    certificate: "warn",
    unreachable: "bad",
    token: "warn",
    none: "none",
};

export class Banner {
    constructor() {
        this.box = document.getElementById("banner");
        this.live = document.getElementById("announce");
        this.pill = document.getElementById("state");
        this.main = document.getElementById("main");
        this.matter = "";
    }

    // health: the answer of /readyz or null; fault: null, "unreachable" or "token"; seen_ms: when
    // the broker answered last, 0 for never. What the numbers say of the TLS certificate comes with
    // what is wrong, or alone.
    show({ health, fault, seen_ms, history }) {
        const state = fault || stateOf(health);
        const certificate = fault ? "" : certificateFault(history?.last()?.stats);
        const word = state === "ready" && certificate ? "certificate" : state;
        const failing = (health?.checks || []).filter((check) => !check.ok);
        if (certificate) {
            failing.push({ name: "tls", detail: certificate });
        }
        this.pill.className = `pill pill-${KINDS[word] || "none"}`;
        setText(this.pill, word === "none" ? "asking\u2026" : state);
        this.main.classList.toggle("old", fault !== null && seen_ms > 0);
        this.box.hidden = word === "ready" || word === "none";
        this.box.className = `banner banner-${KINDS[word] || "none"}`;
        const parts =
            {
                unreachable: () => unreachable(seen_ms),
                token: () => noToken(seen_ms),
                certificate: () => [el("strong", {}, "A certificate is due."), list(failing)],
                degraded: () => degraded(failing),
            }[word] || (() => leaving(word, failing));
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

// What is to be said of the certificate of listen.tls; "" for nothing.
function certificateFault(stats) {
    if (!stats?.gauges.certificate_ending) {
        return "";
    }
    const ends_ms = stats.gauges.certificate_not_after_timestamp_seconds * 1000;
    if (ends_ms <= stats.now_ms) {
        return `the TLS certificate expired on ${time(ends_ms)}: clients refuse it`;
    }
    return ends_ms - stats.now_ms > NEAR_MS
        ? "the TLS certificate is not valid yet"
        : `the TLS certificate ends in ${age(ends_ms - stats.now_ms)}, on ${time(ends_ms)}`;
}

function unreachable(seen_ms) {
    const rest = seen_ms
        ? `What is shown below was true ${age(Date.now() - seen_ms)} ago, at ${time(seen_ms)}.`
        : "It has not answered yet.";
    return [el("strong", {}, "The broker does not answer."), el("span", {}, rest)];
}

function noToken(seen_ms) {
    const rest = seen_ms ? ` What is shown below is of ${time(seen_ms)}.` : "";
    return [
        el("strong", {}, "The broker asks for a token."),
        el("span", {}, `Press \u201cToken\u201d to enter it.${rest}`),
    ];
}

function degraded(failing) {
    return [el("strong", {}, "The broker is up and does not serve everybody well."), list(failing)];
}

function leaving(word, failing) {
    const text =
        word === "draining"
            ? "The broker is draining: clients are sent away in waves."
            : "The broker is stopping.";
    return [el("strong", {}, text), list(failing)];
}

function list(failing) {
    return el(
        "ul",
        {},
        failing.map((check) =>
            el("li", {}, pill(check.name, "none"), " ", check.detail || "not ready"),
        ),
    );
}

function announcement(word, failing) {
    const names = failing.map((check) => check.name).join(", ");
    return (
        {
            ready: "The broker is ready.",
            unreachable: "The broker does not answer.",
            token: "The broker asks for a token.",
            certificate: `The broker is ready; ${failing[0]?.detail}`,
            degraded: `The broker is degraded: ${names}.`,
        }[word] || `The broker is ${word}.`
    );
}
