// SPDX-License-Identifier: Apache-2.0
// One test of a session: a client between a scripted broker and a clock of its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Clock } from "./clock.mjs";
import { Scripted, social } from "./scripted.mjs";

// What is tested of the one entry holds for the other.
const { connect, StatusError, UsherError } = await import(
    `${process.env.USHER_JS_PACKAGE}/${process.env.USHER_JS_ENTRY ?? "index.js"}`
);
const withRooms = await import(process.env.USHER_JS_PACKAGE + "/social.js");

export { StatusError, UsherError };
export const URL_OF_ALL = "ws://broker/usher";

/** One test with a clock and a broker; `login` gives a client that is online. */
export function scene(name, play) {
    stage(name, play, connect, undefined);
}

/** The same of usher-client/social, with a broker that speaks of rooms. */
export function socialScene(name, play) {
    stage(name, play, withRooms.connect, social);
}

function stage(name, play, connect, codec) {
    test(name, async () => {
        const clock = new Clock();
        const broker = new Scripted(codec);
        const clients = [];
        const start = (options = {}) => {
            const all = { url: URL_OF_ALL, user: "alice", webSocket: broker.WebSocket, ...options };
            const client = connect(all);
            const seen = [];
            for (const event of ["state", "welcome", "partial", "closed", "rtt", "dropped"]) {
                client.on(event, (value) => seen.push([event, value]));
            }
            clients.push(client);
            return Object.assign(client, { seen });
        };
        const login = async (options, welcome) => {
            const client = start(options);
            await clock.settle();
            broker.welcome(welcome);
            await clock.settle();
            assert.equal(client.state, "online");
            return client;
        };
        try {
            await play({ clock, broker, start, login });
            assert.deepEqual(clock.thrown, []);
        } finally {
            clients.forEach((client) => client.close());
            await clock.settle();
            clock.restore();
        }
    });
}

/** What a promise came to, as soon as it has: {value}, {error} or nothing yet. */
export function watch(promise) {
    const outcome = { settled: 0 };
    promise.then(
        (value) => Object.assign(outcome, { value, settled: outcome.settled + 1 }),
        (error) => Object.assign(outcome, { error, settled: outcome.settled + 1 }),
    );
    return outcome;
}

export const codeOf = (outcome) => outcome.error && [outcome.error.code, outcome.error.done];
export const states = (client) =>
    client.seen.filter(([event]) => event === "state").map(([, state]) => state);
export const closed = (client) =>
    client.seen.filter(([event]) => event === "closed").map(([, value]) => value);

/** Takes messages with a loop; gives what it took. */
export function loop(client, each = () => {}) {
    const got = [];
    (async () => {
        for await (const one of client.messages()) {
            got.push(one);
            await each(one);
        }
        got.over = true;
    })();
    return got;
}

/** sessionStorage, as far as it is used. */
export function fakeStorage() {
    const kept = new Map();
    return {
        kept,
        getItem: (key) => kept.get(key) ?? null,
        setItem: (key, value) => void kept.set(key, String(value)),
        removeItem: (key) => void kept.delete(key),
    };
}
