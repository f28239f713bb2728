// SPDX-License-Identifier: Apache-2.0
// usher-backend and the real usherd, with real game clients: order, cuts after every byte of the link,
// restarts and kills of either side, several instances, presence over all of that.
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { eventually, freePort, Relay, Usherd } from "./support/usherd.mjs";

const { connect } = await import(process.env.USHER_JS_PACKAGE + "/node.js");
const { service, observe, ServiceStatus } = await import(
    process.env.USHER_JS_BACKEND_PACKAGE + "/index.js"
);

/** So many lives at once; each waits for most of its time. */
const TOGETHER = 60;
const unhandled = [];
process.on("unhandledRejection", (error) => unhandled.push(error));

let broker;
const things = new Set();

const ipcOf = (node) => `ipc://${join(node.folder, "link.sock")}`;
const text = (bytes) => Buffer.from(bytes).toString();

/** A broker with a port for the link beside the path. */
async function startWithPort(options) {
    const node = await Usherd.start(options);
    // Its folder is known only now: the same again.
    await node.stop();
    node.linkPort = await freePort();
    node.options["link.urls"] = `${ipcOf(node)},tcp://127.0.0.1:${node.linkPort}`;
    await node.run();
    return node;
}

/** A service that is closed at the end, whatever becomes of its test. */
async function serve(name, options = {}) {
    const arena = await service(name, { link: ipcOf(broker), log: () => {}, ...options });
    things.add(arena);
    return arena;
}

async function login(user, options = {}, node = broker) {
    const client = connect({ url: `tcp://127.0.0.1:${node.tcp}`, user, ...options });
    things.add(client);
    client.got = [];
    client.on("message", (message) => void client.got.push(message.text));
    await client.ready;
    return client;
}

const outcomeOf = (promise) =>
    promise.then(
        () => "yes",
        (error) => error.done ?? String(error),
    );

before(async () => {
    broker = await startWithPort({ "link.grace_ms": 300, "limits.calls_per_user": 256 });
});

after(async () => {
    await Promise.all([...things].map((each) => each.close({ timeoutMs: 100 })));
    assert.equal(await broker.close(), 0);
    assert.deepEqual(unhandled, []);
});

// --- calls ---------------------------------------------------------------------------------------

test("calls of one user begin in their order, and each gets its own reply", async () => {
    const arena = await serve("order");
    const begun = new Map();
    let running = 0;
    let most = 0;
    arena.on("move", async (call) => {
        begun.set(call.user, [...(begun.get(call.user) ?? []), call.text]);
        most = Math.max(most, ++running);
        for (let turns = Number(call.text) % 7; turns--;) {
            await new Promise((resolve) => setImmediate(resolve));
        }
        running--;
        return `${call.user} ${call.text}`;
    });
    const clients = await Promise.all(["ann", "ben", "cid", "dan"].map((user) => login(user)));
    const texts = Array.from({ length: 100 }, (_, i) => String(i));
    await Promise.all(
        clients.map(async (client) => {
            const replies = texts.map((each) => client.call("order", "move", each));
            const all = (await Promise.all(replies)).map(text);
            assert.deepEqual(
                all,
                texts.map((each) => `${client.user} ${each}`),
            );
        }),
    );
    clients.forEach(({ user }) => assert.deepEqual(begun.get(user), texts));
    assert.ok(most > 1, "they overlap");
    await arena.close();
});

test("statuses, and methods that nobody handles", async () => {
    const arena = await serve("statuses");
    arena.on("no", () => {
        throw new ServiceStatus(7, "seven");
    });
    arena.on("broken", () => {
        throw new Error("not for players");
    });
    const ann = await login("ann-1");
    const statusOf = (method) =>
        ann.call("statuses", method).catch(({ status, payload }) => [status, text(payload)]);
    assert.deepEqual(await statusOf("no"), [7, "seven"]);
    assert.deepEqual(await statusOf("broken"), [500, ""]);
    assert.deepEqual(await statusOf("none"), [404, "no such method"]);
    await arena.close();
});

test("a traceparent comes unchanged to a service, and from it to a client", async () => {
    const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const arena = await serve("traced");
    arena.on("given", (call) => call.traceparent);
    const ann = await login("ann-traced");
    const parents = [];
    ann.on("message", (message) => void parents.push(message.traceparent));
    for (const given of [
        traceparent,
        undefined,
        traceparent.toUpperCase(),
        "ff" + traceparent.slice(2),
    ]) {
        const wanted = given === traceparent ? given : "";
        assert.equal(text(await ann.call("traced", "given", "", { traceparent: given })), wanted);
        await arena.push("ann-traced", "1", { traceparent: given });
        await ann.send("ann-traced", "2", { traceparent: given });
        await arena.pushAll("3", { traceparent: given });
        while (ann.got.length < 3) {
            await sleep(5);
        }
        assert.deepEqual(parents.splice(0), [wanted, wanted, wanted], `${given}`);
        ann.got.length = 0;
    }
    ann.close();
    await arena.close();
});

test("calls that take long are in nobody's way", async () => {
    const arena = await serve("slow");
    let release;
    const gate = new Promise((resolve) => (release = resolve));
    arena.on("slow", () => gate);
    arena.on("waits", (call) => (call.acknowledge(), gate));
    arena.on("quick", (call) => call.payload);
    const [ann, ben] = await Promise.all([login("ann-2"), login("ben")]);
    const slow = [ann.call("slow", "slow"), ann.call("slow", "waits")];
    for (let i = 0; i < 50; i++) {
        assert.equal(text(await ben.call("slow", "quick", String(i))), String(i));
    }
    release("at last");
    assert.deepEqual((await Promise.all(slow)).map(text), ["at last", "at last"]);
    await arena.close();
});

test("more calls than callsMax wait at the node, and none is lost", async () => {
    const arena = await serve("narrow", { callsMax: 3 });
    let [open, most] = [0, 0];
    arena.onCall(async (call) => {
        most = Math.max(most, ++open);
        await new Promise((resolve) => setTimeout(resolve, 1));
        open--;
        return call.payload;
    });
    const ann = await login("ann-3");
    const texts = Array.from({ length: 200 }, (_, i) => String(i));
    const replies = await Promise.all(
        texts.map((each) => ann.call("narrow", "m", each, { timeoutMs: 20000 })),
    );
    assert.deepEqual(replies.map(text), texts);
    assert.equal(most, 3);
    await arena.close();
});

// --- commands ------------------------------------------------------------------------------------

test("pushes reach who is there, in their order; one tick is few Submits", async () => {
    const arena = await serve("pushes");
    const ann = await login("ann-4", { acks: true });
    const before = (await arena.stats()).link_submits;
    const texts = Array.from({ length: 250 }, (_, i) => String(i));
    const reports = await Promise.all(texts.map((each) => arena.push("ann-4", each)));
    assert.ok(reports.every(({ accepted }) => accepted === 1));
    await eventually("all are there", () => ann.got.length === texts.length);
    assert.deepEqual(ann.got, texts);
    const submits = (await arena.stats()).link_submits - before;
    assert.ok(submits <= 8, `${submits} Submits`);
    const { accepted, failures } = await arena.push(["ann-4", "nobody"], "x");
    assert.deepEqual([accepted, failures], [1, [{ user: "nobody", code: "NOT_ONLINE" }]]);
    const all = await arena.pushAll("to all");
    assert.ok(all.accepted >= 1);
    const now = await arena.push(["ann-4", "nobody"], "now", { transient: true });
    assert.equal(now.accepted + now.dropped, 1);
    assert.deepEqual(now.failures, failures);
    await arena.close();
});

test("a push with the epoch of a login reaches that login or nobody", async () => {
    const arena = await serve("fence");
    arena.on("who", (call) => String(call.epoch));
    const first = await login("fenced");
    const epoch = Number(text(await first.call("fence", "who")));
    assert.equal((await arena.push("fenced", "one", { epoch })).accepted, 1);
    const second = await login("fenced");
    const late = await arena.push("fenced", "two", { epoch });
    assert.deepEqual(late.failures, [{ user: "fenced", code: "STALE_EPOCH" }]);
    const newer = Number(text(await second.call("fence", "who")));
    assert.ok(newer > epoch);
    assert.equal((await arena.push("fenced", "three", { epoch: newer })).accepted, 1);
    await eventually("three", () => second.got.includes("three"));
    assert.ok(!second.got.includes("two") && !first.got.includes("two"));
    assert.equal(await arena.kick("fenced", { epoch }), false);
    assert.equal(
        await arena.kick("fenced", { epoch: newer, detail: "bye", doNotReturn: true }),
        true,
    );
    await eventually("kicked", () => second.ended);
    assert.deepEqual([second.ended.reason, second.ended.detail], ["KICKED", "bye"]);
    assert.equal(await arena.kick("fenced"), false);
    await arena.close();
});

test("a broker that stands still: the queue fills, says BUSY, and empties again", async () => {
    const arena = await serve("busy", { queueCommandsMax: 100 });
    const ann = await login("ann-6", { acks: true });
    broker.process.kill("SIGSTOP");
    const pushes = [];
    let refused;
    for (let i = 0; i < 1000 && !refused; i++) {
        const push = arena.push("ann-6", String(i));
        pushes.push(push);
        // Those of a tick are one; a full queue says so at once.
        refused = await Promise.race([
            push.then(
                () => undefined,
                (error) => error,
            ),
            new Promise((resolve) => setImmediate(resolve)),
        ]);
    }
    assert.deepEqual([refused?.code, refused?.done], ["BUSY", "no"]);
    broker.process.kill("SIGCONT");
    await arena.room();
    assert.equal((await arena.push("ann-6", "after")).accepted, 1);
    pushes.pop();
    assert.ok((await Promise.all(pushes)).every(({ accepted }) => accepted === 1));
    await eventually("all", () => ann.got.length === pushes.length + 1);
    assert.deepEqual(ann.got, [...pushes.map((_, i) => String(i)), "after"]);
    await arena.close();
});

test("questions, without a service", async () => {
    const watcher = await observe({ link: ipcOf(broker), log: () => {} });
    things.add(watcher);
    const users = Array.from({ length: 300 }, (_, i) => `listed:${String(i).padStart(3, "0")}`);
    const clients = await Promise.all(users.map((user) => login(user)));
    const names = [];
    for await (const { user, state, transport } of watcher.list({ prefix: "listed:" })) {
        assert.deepEqual([state, transport], ["ONLINE", "tcp"]);
        names.push(user);
    }
    assert.deepEqual(names, users);
    const found = await watcher.lookup(["listed:007", "nobody"]);
    assert.deepEqual(
        found.map(({ user, state }) => [user, state]),
        [
            ["listed:007", "ONLINE"],
            ["nobody", "GONE"],
        ],
    );
    const { sessions, online } = await watcher.count();
    assert.ok(sessions >= 300 && online >= 300);
    await Promise.all(clients.map((client) => client.logout()));
    await watcher.close();
});

// --- cuts ----------------------------------------------------------------------------------------

/** A service that serves one call, answers, and pushes to who called; through a relay. */
async function life(node, name, plan) {
    const relay = await Relay.start(node.linkPort, plan);
    const handled = [];
    const log = [];
    const arena = await service(name, {
        link: `tcp://127.0.0.1:${relay.port}`,
        instance: "one",
        log: (line) => void log.push(line),
    });
    const player = await login(`p-${name}`, { acks: true }, node);
    let push;
    arena.on("move", (call) => {
        handled.push(call.text);
        push = outcomeOf(arena.push(call.user, "pushed", { epoch: call.epoch }));
        return `reply to ${call.text}`;
    });
    const call = () =>
        player
            .call(name, "move", String(handled.length), { timeoutMs: 15000 })
            .then(text, (error) => error.code);
    const replies = [await call(), await call()];
    const pushed = await push;
    if (pushed === "yes") {
        await eventually(`${name} is pushed to`, () => player.got.length >= 2);
    }
    await arena.close();
    const got = [...player.got];
    await player.logout();
    things.delete(player);
    await relay.close();
    return { name, replies, handled, pushed, got, relay, log };
}

test("cut after every byte of the link: every call has its reply, and nothing is done twice", async (t) => {
    // An instance that is late, on a machine that is busy, is not lost here.
    const own = await startWithPort({
        "link.grace_ms": 20000,
        "link.fetch_timeout_ms": 20000,
        "limits.services": 4096,
    });
    const whole = await life(own, "cut-0-none-0000");
    assert.deepEqual(whole.replies, ["reply to 0", "reply to 1"]);
    assert.equal(whole.relay.connections, 2);
    // How much passed is known of both connections together: beyond its own end one is not cut.
    const plans = [];
    for (const connection of [0, 1]) {
        for (const way of ["up", "down"]) {
            for (let bytes = 0; bytes < whole.relay[way]; bytes++) {
                plans.push([
                    `cut-${connection}-${way}-${String(bytes).padStart(4, "0")}`,
                    connection,
                    way,
                    bytes,
                ]);
            }
        }
    }
    t.diagnostic(`${plans.length} places`);
    const results = [];
    const worker = async () => {
        for (let plan; (plan = plans.pop());) {
            const [name, connection, way, bytes] = plan;
            results.push(await life(own, name, (n) => (n === connection ? { [way]: bytes } : {})));
        }
    };
    await Promise.all(Array.from({ length: TOGETHER }, worker));
    let lost = 0;
    for (const { name, replies, handled, pushed, got, log } of results) {
        const story = `${name}: ${JSON.stringify({ replies, handled, pushed, got, log })}`;
        assert.deepEqual(replies, ["reply to 0", "reply to 1"], story);
        assert.deepEqual(handled, ["0", "1"], story);
        assert.equal(pushed, "yes", story);
        assert.deepEqual(got, ["pushed", "pushed"], story);
        lost += log.some((line) => line.includes("no answer"));
    }
    t.diagnostic(`${lost} of ${results.length} lost a connection`);
    assert.ok(lost > results.length / 4);
    assert.equal(await own.close(), 0);
});

// --- ends of the broker --------------------------------------------------------------------------

for (const signal of ["SIGTERM", "SIGKILL"]) {
    test(`the broker is ended with ${signal} and begins again: the service is back by itself`, async () => {
        const arena = await serve(`back-${signal}`);
        const [states, notices] = [[], []];
        arena.onState(({ state }) => void states.push(state));
        arena.onDrain((notice) => void notices.push(notice.nodeStops));
        arena.on("m", (call) => call.payload);
        const ann = await login(`ann-${signal}`, { acks: true });
        assert.equal(text(await ann.call(arena.service, "m", "1")), "1");
        // Pushes all the while: each promise is settled once, and none comes twice.
        const outcomes = [];
        let pushing = true;
        const pusher = (async () => {
            for (let i = 0; pushing; i++) {
                const push = arena.push(ann.user, String(i));
                outcomes.push(outcomeOf(push));
                await new Promise((resolve) => setTimeout(resolve, 2));
            }
        })();
        await eventually("some are there", () => ann.got.length > 10);
        const over = broker.stop(signal);
        await eventually("lost", () => states.includes("lost"));
        await over;
        await broker.run();
        await eventually("linked again", () => states.at(-1) === "linked");
        await eventually("ann too", () => ann.state === "online");
        pushing = false;
        await pusher;
        const words = await Promise.all(outcomes);
        assert.deepEqual(
            [...new Set(words)].filter((word) => !["yes", "unknown"].includes(word)),
            [],
        );
        assert.ok(words.filter((word) => word === "unknown").length <= 256);
        assert.equal(text(await ann.call(arena.service, "m", "2")), "2");
        assert.equal((await arena.push(ann.user, "last")).accepted, 1);
        await eventually("the last", () => ann.got.includes("last"));
        const numbers = ann.got.slice(0, -1).map(Number);
        assert.deepEqual(
            numbers,
            [...new Set(numbers)].sort((a, b) => a - b),
            "in order, none twice",
        );
        assert.deepEqual(notices, signal === "SIGTERM" ? [true] : []);
        assert.deepEqual(states, ["lost", "linked"]);
        await arena.close();
    });
}

test("a service that is there before the broker waits for it", async () => {
    await broker.stop();
    const lines = [];
    const early = service("early", { link: ipcOf(broker), log: (line) => void lines.push(line) });
    await eventually("a word about it", () => lines.length);
    assert.match(lines[0], /no answer from a node at ipc:.*is usherd running/);
    await broker.run();
    const arena = await early;
    things.add(arena);
    arena.on("m", () => "here");
    const ann = await login("ann-10");
    assert.equal(text(await ann.call("early", "m")), "here");
    await arena.close();
});

// --- several instances ---------------------------------------------------------------------------

/** An instance of `held` in a process of its own. */
async function instance(name) {
    const program = fileURLToPath(new URL("support/backend_service.mjs", import.meta.url));
    const child = fork(program, [ipcOf(broker), name], { stdio: "inherit" });
    child.calls = [];
    child.on("message", (message) => void child.calls.push(message));
    things.add({ close: () => void child.kill("SIGKILL") });
    await eventually(`${name} is linked`, () => child.calls.shift());
    return child;
}

test("an instance is killed with calls open: another one has them, marked, and answers", async () => {
    const all = { a: await instance("a"), b: await instance("b") };
    const clients = await Promise.all(Array.from({ length: 12 }, (_, i) => login(`held-${i}`)));
    const replies = clients.map((client) =>
        client.call("held", "m", client.user, { timeoutMs: 20000 }),
    );
    await eventually(
        "all have begun",
        () => all.a.calls.length + all.b.calls.length === clients.length,
    );
    assert.ok(all.a.calls.length > 0 && all.b.calls.length > 0, "both have some");
    const moved = all.a.calls.map(({ user }) => user);
    // What was acknowledged is not given to another.
    const acknowledged = clients.find(({ user }) => moved.includes(user));
    const gone = outcomeOf(acknowledged.call("held", "acknowledged", "x", { timeoutMs: 20000 }));
    await eventually("it has begun", () => all.a.calls.length === moved.length + 1);
    await acknowledged.call("held", "none", "", { timeoutMs: 1 }).catch(() => {});
    all.a.kill("SIGKILL");
    await eventually("b has them all", () => all.b.calls.length >= clients.length);
    all.b.send("release");
    const texts = (await Promise.all(replies)).map(text);
    clients.forEach(({ user }, i) => assert.equal(texts[i], `b ${user} ${moved.includes(user)}`));
    assert.ok(["unknown", "yes"].includes(await gone));
    all.b.kill();
});

test("an instance drains and leaves, and nobody notices", async () => {
    const [a, b] = await Promise.all(
        ["a", "b"].map((name) => serve("leaving", { instance: name })),
    );
    for (const arena of [a, b]) {
        arena.on("who", () => arena.instance);
    }
    const users = (prefix) =>
        Promise.all(Array.from({ length: 12 }, (_, i) => login(`${prefix}-${i}`)));
    const early = await users("early");
    const ask = (client) => client.call("leaving", "who").then(text);
    const first = await Promise.all(early.map(ask));
    assert.deepEqual([...new Set(first)].sort(), ["a", "b"]);
    await a.drain();
    const late = await users("late");
    assert.deepEqual([...new Set(await Promise.all(late.map(ask)))], ["b"]);
    assert.deepEqual(await Promise.all(early.map(ask)), first, "who was there stays");
    const during = early.map(ask);
    await a.close();
    assert.ok((await Promise.all(during)).every((name, i) => name === first[i] || name === "b"));
    assert.deepEqual([...new Set(await Promise.all(early.map(ask)))], ["b"]);
    await b.close();
});

test("one-way calls that were done are not done again by the next instance", async () => {
    const done = [];
    const first = await serve("once", { instance: "a" });
    first.on("m", (call) => void done.push(call.text));
    const ann = await login("ann-13");
    for (let i = 0; i < 20; i++) {
        ann.postCall("once", "m", String(i));
    }
    await eventually("all are done", () => done.length === 20);
    await first.close();
    const second = await serve("once", { instance: "b" });
    second.on("m", (call) => (done.push(call.text), "ok"));
    await eventually("the next is served", () =>
        ann.call("once", "m", "last").then(
            () => true,
            () => false,
        ),
    );
    await ann.call("once", "m", "last");
    assert.deepEqual(
        done.slice(0, 20),
        Array.from({ length: 20 }, (_, i) => String(i)),
    );
    assert.ok(done.slice(20).every((each) => each === "last"));
    await second.close();
});

test("a newer process under the same name takes the place of the older one", async () => {
    const old = await serve("place", { instance: "same" });
    old.onCall(() => "old");
    const states = [];
    old.onState((state) => void states.push(state));
    const newer = await serve("place", { instance: "same" });
    newer.onCall(() => "new");
    await eventually("the old one stops", () => old.state === "refused");
    assert.match(states.at(-1).text, /no newer instance runs under this name/);
    const ann = await login("ann-14");
    assert.equal(text(await ann.call("place", "m")), "new");
    await newer.close();
});

// --- presence ------------------------------------------------------------------------------------

test("presence with a stored cursor: over restarts of both sides nothing is missing, and nothing twice", async () => {
    const store = { seq: 0, seen: [] };
    const open = async () => {
        const watcher = await observe({
            link: ipcOf(broker),
            instance: "watcher",
            log: () => {},
            presence: { after: store.seq, current: ({ seq }) => void (store.seq = seq) },
        });
        things.add(watcher);
        watcher.onPresence(async (event) => {
            await new Promise((resolve) => setImmediate(resolve));
            store.seen.push(event);
            store.seq = event.seq;
        });
        return watcher;
    };
    let watcher = await open();
    const ann = await login("watched", { acks: true });
    let logins = 0;
    const churn = async (count) => {
        for (let i = 0; i < count; i++) {
            await (await login(`churn-${logins++ % 5}`)).logout();
        }
    };
    await churn(10);
    await watcher.close();
    await churn(5); // nobody follows
    watcher = await open();
    await churn(5);
    await broker.stop("SIGKILL");
    await broker.run();
    await churn(5);
    await broker.stop();
    await broker.run();
    await eventually("ann is back", () => ann.state === "online");
    await churn(5);
    await ann.logout();
    await eventually("it has all", () =>
        store.seen.some(({ user, kind }) => user === "watched" && kind === "OFFLINE"),
    );
    const seqs = store.seen.map(({ seq }) => seq);
    assert.deepEqual(
        seqs,
        seqs.map((_, i) => seqs[0] + i),
    );
    const kinds = store.seen
        .filter(({ user }) => user === "watched")
        .map(({ kind, cause }) => `${kind} ${cause}`);
    assert.equal(kinds[0], "ONLINE LOGIN");
    assert.ok(kinds.includes("DETACHED RESTART"));
    assert.equal(kinds.at(-1), "OFFLINE LOGOUT");
    // Each user's chain: online, offline, online...
    for (let i = 0; i < 5; i++) {
        const chain = store.seen.filter(({ user }) => user === `churn-${i}`);
        assert.deepEqual(
            chain.map(({ kind }) => kind),
            chain.map((_, k) => ["ONLINE", "OFFLINE"][k % 2]),
        );
        assert.ok(chain.length >= 12);
    }
    await watcher.close();
});

test("a picture while users come and go, and changes after it, give the truth", async () => {
    const crowd = await Promise.all(Array.from({ length: 150 }, (_, i) => login(`crowd-${i}`)));
    const online = new Set();
    let whole = false;
    const churn = (async () => {
        for (const client of crowd.slice(0, 100)) {
            await client.logout();
        }
        for (let i = 0; i < 50; i++) {
            await login(`crowd-late-${i}`);
        }
    })();
    const watcher = await observe({
        link: ipcOf(broker),
        log: () => {},
        presence: {
            reset: () => online.clear(),
            snapshot: async ({ user, state }) => void (state === "ONLINE" && online.add(user)),
            current: () => void (whole = true),
        },
    });
    things.add(watcher);
    watcher.onPresence(({ user, kind }) => {
        assert.ok(whole);
        if (kind === "ONLINE" || kind === "RESUMED") {
            assert.ok(kind === "RESUMED" || !online.has(user), `${user} comes twice`);
            online.add(user);
        } else {
            online.delete(user);
        }
    });
    await churn;
    const truth = async () => {
        const names = [];
        for await (const { user, state } of watcher.list({ prefix: "crowd-" })) {
            if (state === "ONLINE") {
                names.push(user);
            }
        }
        return names.join();
    };
    const expected = await truth();
    const mine = () =>
        [...online]
            .filter((user) => user.startsWith("crowd-"))
            .sort()
            .join();
    await eventually("it is the truth", () => mine() === expected);
    await watcher.close();
});

// --- who may, and who decides --------------------------------------------------------------------

test("a token file: without the right token no link, and words for it", async () => {
    const own = await Usherd.start();
    await own.stop();
    const file = join(own.folder, "token");
    writeFileSync(file, "let me in\n");
    chmodSync(file, 0o600);
    own.options["link.token_file"] = file;
    await own.run();
    const options = { link: ipcOf(own), log: () => {} };
    for (const token of [undefined, "wrong"]) {
        await assert.rejects(service("arena", { ...options, token }), (error) => {
            assert.equal(error.code, "REFUSED");
            assert.match(error.message, /check the token/);
            return true;
        });
    }
    const arena = await service("arena", { ...options, token: "let me in" });
    assert.deepEqual((await arena.count()).sessions, 0);
    await arena.close();
    assert.equal(await own.close(), 0);
});

test("a service decides who logs in", async () => {
    const own = await Usherd.start({ "auth.mode": "service", "auth.service": "door" });
    const door = await service("door", { link: ipcOf(own), log: () => {} });
    door.onLogin(async ({ user, token }) => {
        if (text(token) === "broken") {
            throw new ServiceStatus(1);
        }
        return text(token) === `ticket of ${user}` && { user };
    });
    const url = `tcp://127.0.0.1:${own.tcp}`;
    const good = connect({ url, user: "ann", token: "ticket of ann" });
    await good.ready;
    for (const token of ["ticket of ben", "broken"]) {
        const bad = connect({ url, user: "ann", token });
        await assert.rejects(bad.ready, (error) => /UNAUTHENTICATED|AUTH_FAILED/.test(error.code));
        bad.close();
    }
    good.close();
    await door.close();
    assert.equal(await own.close(), 0);
});
