// SPDX-License-Identifier: Apache-2.0
// Which numbers of the broker the pages show, by the names of metrics.def, and what log events say
// in words. A name that a broker does not have reads as "not known"; nothing fails.

export const CLOSES = [
    ["takeovers", "taken over by another login"],
    ["logouts", "logged out"],
    ["detached", "connection lost, session kept"],
    ["expired", "did not come back in time"],
    ["kicked", "kicked by a backend or an operator"],
    ["closed_heartbeat", "silent for too long"],
    ["closed_slow_consumer", "did not read its output"],
    ["closed_auth_timeout", "did not log in in time"],
    ["closed_protocol", "broke the protocol"],
    ["closed_rate_limited", "too many requests"],
    ["output_evicted", "output of all was too much"],
];

// Every other closed_ or refused_ counter of the broker belongs there too.
export function closes(counters) {
    const known = new Set(CLOSES.map(([name]) => name));
    const others = Object.keys(counters)
        .filter(
            (name) =>
                /^(closed|refused|logins_refused|room_refused)_/.test(name) && !known.has(name),
        )
        .map((name) => [name, otherWords(name)]);
    return [...CLOSES, ...others];
}

function otherWords(name) {
    const [, what, why] = /^(closed|refused|logins_refused|room_refused)_(.*)$/.exec(name);
    const text = {
        closed: "closed",
        refused: "connection refused",
        logins_refused: "login refused",
        room_refused: "Join of a room refused",
    }[what];
    return `${text}: ${why.replaceAll("_", " ")}`;
}

export function refusals(counters) {
    return Object.keys(counters).filter((name) => name.startsWith("logins_refused_"));
}

// By which listeners clients have come: those whose numbers are there and not all 0.
export function listeners({ counters, gauges }) {
    return Object.keys(gauges)
        .filter((name) => /^connections_open_/.test(name))
        .map((name) => name.replace("connections_open_", ""))
        .filter((name) => gauges[`connections_open_${name}`] || counters[acceptedBy(name)]);
}

export function acceptedBy(listener) {
    return `connections_accepted_${listener}`;
}

// Gauges that say how full something is.
export function levels(gauges) {
    return Object.keys(gauges)
        .filter((name) =>
            /inbox|mailbox|queue|output|mail_|waiting|store_|open_fds|files_open|actors|^rooms$|room_members|room_history|friends_pairs/.test(
                name,
            ),
        )
        .sort();
}

// The likelier one looks at it, the earlier.
export function latencies(histograms) {
    const order = ["deliver", "call", "login", "commit", "turn"];
    const rank = (name) => {
        const place = order.findIndex((word) => name.includes(word));
        return place === -1 ? order.length : place;
    };
    return Object.keys(histograms || {})
        .filter((name) => histograms[name].unit === "seconds")
        .sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}

// What an event of the flight recorder means for its user, and how it is coloured: good news, news,
// a warning, an end.
export const EVENTS = {
    login: ["good", "logged in"],
    takeover: ["news", "logged in elsewhere; the older connection was closed"],
    takeover_damped: ["warn", "a takeover was put off: too many from there"],
    resumed: ["good", "came back to the session"],
    detached: ["news", "the connection was lost; the session waits"],
    logout: ["end", "logged out"],
    offline: ["end", "the session ended"],
    kicked: ["end", "was kicked"],
    room_opened: ["good", "a room was opened"],
    room_closed: ["end", "a room ended"],
    room_ended: ["news", "an operator closed a room"],
    followed: ["news", "an operator follows the messages"],
    login_refused: ["warn", "a login was refused"],
    protocol_error: ["warn", "broke the protocol"],
    slow_consumer: ["warn", "did not read its output and was closed"],
    heartbeat_timeout: ["warn", "was silent for too long and was closed"],
    auth_timeout: ["warn", "did not log in in time"],
    rate_limited: ["warn", "sent too many requests and was closed"],
    limit_hit: ["warn", "a limit was reached"],
    stale_event: ["news", "an internal event came too late; harmless"],
};

export function eventWords(event) {
    const known = Object.hasOwn(EVENTS, event.event) ? EVENTS[event.event] : null;
    const [kind, text] = known || [null, String(event.event).replaceAll("_", " ")];
    const byLevel = { warn: "warn", error: "bad" }[event.level] || "news";
    return [kind || byLevel, text];
}

// The fields of an event beside those that every line has.
export function eventFields(event, ...hidden) {
    const own = new Set(["time_ms", "level", "event", "time", ...hidden]);
    return Object.entries(event).filter(([key]) => !own.has(key));
}

// How a record of a user's history is coloured.
export function pastKind({ kind, cause }) {
    if (kind === "ONLINE" || kind === "RESUMED") {
        return cause === "TAKEOVER" ? "news" : "good";
    }
    if (kind === "LOGIN_REFUSED" || kind === "RESUME_REFUSED") {
        return "warn";
    }
    return kind === "OFFLINE" ? "end" : "news";
}
