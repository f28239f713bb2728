// SPDX-License-Identifier: Apache-2.0
// Many clients that lose their broker come back spread as it told them: nobody before his time, and not in
// waves. USHER_PLAY_HERD: how many instead of 200; the histograms are in docs/client-js.md.
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, sleep, Usherd } from "./support/usherd.mjs";
import { TestWebSocket } from "./support/websocket.mjs";

const { connect } = await import(process.env.USHER_JS_PACKAGE + "/index.js");
const { BROKERFRAME, decodeAll } = await import(process.env.USHER_JS_INTERNALS);

const COUNT = Number(process.env.USHER_PLAY_HERD ?? 200);
/** With many the broker's default, else shorter. */
const RESUME_MS = COUNT < 1000 ? 8000 : 60000;
/** The broker's: a quarter of the resume window, and at most this. */
const SPREAD_MS = Math.min(RESUME_MS / 4, 5000);
const DRAIN_MS = 2000;
/** How long the killed one is away: so long tries meet nobody. */
const AWAY_MS = 1000;
const TOGETHER = 50;
const PATIENCE_MS = 60000;
/** Date.now and timers count milliseconds, each in its own way. */
const TICK_MS = 2;

/** A client that notes what it was told by each Close, and when it dialled next. */
class Member {
    constructor(broker, number) {
        const member = this;
        Object.assign(this, { told: [], losses: [], dials: [], back: [] });
        class Noting extends TestWebSocket {
            constructor(...parameters) {
                super(...parameters);
                member.dials.push(Date.now());
            }
            set onmessage(listen) {
                this.listen = (event) => {
                    for (const { close } of decodeAll(BROKERFRAME, new Uint8Array(event.data))) {
                        close && member.told.push({ at: Date.now(), ms: close.retryAfterMs });
                    }
                    listen(event);
                };
            }
            get onmessage() {
                return this.listen;
            }
        }
        const url = `ws://127.0.0.1:${broker.ws}/usher`;
        this.client = connect({ url, user: `member-${number}`, acks: true, webSocket: Noting });
        this.client.on("closed", (closed) => this.losses.push({ at: Date.now(), ...closed }));
        this.client.on("welcome", ({ replay }) => this.back.push({ at: Date.now(), replay }));
    }
}

/** A test with a broker and all of them on it. */
function scene(name, play) {
    test(name, async (t) => {
        const broker = await Usherd.start({ "session.resume_ms": RESUME_MS });
        const herd = [];
        try {
            // One after the other: of many strangers at once the broker sends some away.
            for (let i = 0; i < COUNT; i++) {
                herd.push(new Member(broker, i));
                if (i % TOGETHER === 0) {
                    await herd.at(-1).client.ready;
                }
            }
            await Promise.all(herd.map(({ client }) => client.ready));
            herd.forEach(({ back }) => back.splice(0));
            await play(t, broker, herd);
        } finally {
            herd.forEach(({ client }) => client.close());
            assert.equal(await broker.close(), 0);
        }
    });
}

/** How many of the values lie in each of so many equal parts of [from, to). */
function parts(values, from, to, count) {
    const all = new Array(count).fill(0);
    for (const value of values) {
        const part = Math.floor(((value - from) * count) / (to - from));
        all[Math.min(Math.max(part, 0), count - 1)]++;
    }
    return all;
}

/** Each quarter of the time has a share: of 200 even ones there are 50, and fewer than 20 once in a million
 * runs. */
function assertSpread(values, from, to) {
    const quarters = parts(values, from, to, 4);
    assert.ok(
        quarters.every((some) => some >= values.length / 10),
        `${quarters} between ${from} and ${to} ms`,
    );
}

/** When they were there again: how many in each quarter of a second. */
function show(t, title, herd) {
    const begin = Math.min(...herd.map(({ losses }) => losses[0].at));
    const times = herd.map(({ back }) => back[0].at - begin).sort((a, b) => a - b);
    const [first, last] = [times[0], times.at(-1)];
    const bins = parts(times, 0, Math.ceil((last + 1) / 250) * 250, Math.ceil((last + 1) / 250));
    t.diagnostic(`${title}: ${COUNT} back ${first} to ${last} ms after the first was lost;`);
    t.diagnostic(bins.join(" "));
    const losses = herd.reduce((sum, member) => sum + member.losses.length, 0);
    t.diagnostic(`${losses} lost or refused connections, ${herd.length} to begin with`);
}

/** All are there again, and nobody had dialled before the time that he was told. */
async function returned(herd, replay) {
    await eventually(
        "all are back",
        () => herd.every(({ back, client }) => back.length && client.state === "online"),
        PATIENCE_MS,
    );
    for (const { back, told, dials } of herd) {
        assert.equal(back[0].replay, replay);
        for (const { at, ms } of told) {
            const next = dials.find((dial) => dial >= at);
            assert.ok(next - at >= ms - TICK_MS, `told ${ms} ms, there after ${next - at}`);
        }
    }
}

scene(
    "a restart: each comes at a time of his own, spread over what the broker says",
    async (t, broker, herd) => {
        assert.equal(await broker.ctl("drain", "--restart"), 0);
        await returned(herd, "COMPLETE");
        const told = herd.map(({ told }) => told[0].ms);
        assert.ok(told.every((ms) => ms <= SPREAD_MS));
        assertSpread(told, 0, SPREAD_MS);
        show(t, "restart", herd);
    },
);

scene("a drain: they go one after the other, and come when it is over", async (t, broker, herd) => {
    const begin = Date.now();
    assert.equal(await broker.ctl("drain", "--seconds", String(DRAIN_MS / 1000)), 0);
    await broker.over;
    await broker.run();
    await returned(herd, "COMPLETE");
    const told = herd.map(({ told }) => told[0]);
    assert.ok(told.every(({ at, ms }) => at + ms >= begin + DRAIN_MS));
    assert.ok(new Set(told.map(({ ms }) => ms)).size > COUNT / 2, "each has a time of his own");
    show(t, "drain", herd);
});

scene(
    "kill -9: nobody says anything, so each waits a pause of his own",
    async (t, broker, herd) => {
        await broker.stop("SIGKILL");
        await eventually("all have noticed", () => herd.every(({ losses }) => losses.length));
        await sleep(AWAY_MS);
        await broker.run();
        await returned(herd, "PARTIAL");
        const first = herd.map(({ losses }) => losses[0].retryAfterMs);
        assert.ok(first.every((ms) => ms >= 250 && ms <= 500));
        assertSpread(first, 250, 500);
        show(t, "kill -9", herd);
    },
);
