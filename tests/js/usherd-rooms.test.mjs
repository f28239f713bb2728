// SPDX-License-Identifier: Apache-2.0
// Rooms and friends with the real usherd: members whose connection is cut at many places, resumes, takeovers,
// new sessions, restarts; owners in JavaScript that are asked, told, cut and killed. What holds in all of it:
// everybody has seen one order (R1), without a gap but where PARTIAL was said (R2), each publisher's own in
// the order in which he sent (R3), and what was answered came (R4); nothing comes behind the end (R5).
import assert from "node:assert/strict";
import { fork, spawn } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { eventually, freePort, Relay, sleep, Usherd } from "./support/usherd.mjs";
import { TestWebSocket } from "./support/websocket.mjs";

const { connect } = await import(process.env.USHER_JS_PACKAGE + "/node.js");
const { service } = await import(process.env.USHER_JS_BACKEND_PACKAGE + "/index.js");

const TRANSPORTS = ["tcp", "ws"];
/** Places of a cut are so many bytes apart. */
const STRIDE = Number(process.env.USHER_CUTS_STRIDE ?? 7);
const TOGETHER = 40;
const CLASSES = [
    "free:* create=client join=any roster=list history=256/10m members=64 idle=1m",
    "short:* create=client join=any history=2/10m idle=1m",
    "tick:* create=client join=any tick=20ms history=256/10m",
    "owned:* create=service join=service roster=list history=64/10m owner=keeper follow=messages idle=200ms",
    "held:* create=backend join=backend roster=list history=64/10m owner=keeper",
];
const unhandled = [];
process.on("unhandledRejection", (error) => unhandled.push(error));

let broker;
let watched;
const things = new Set();
const ipcOf = (node) => `ipc://${join(node.folder, "link.sock")}`;

function login(user, { transport = "tcp", port, node = broker, ...options } = {}) {
    const at = port ?? node[transport];
    const url = transport === "tcp" ? `tcp://127.0.0.1:${at}` : `ws://127.0.0.1:${at}/usher`;
    const client = connect({ url, user, webSocket: TestWebSocket, acks: true, ...options });
    things.add(client);
    client.closings = [];
    client.heard = new Map();
    client.on("closed", ({ reason, detail }) => client.closings.push(`${reason} ${detail}`));
    client.on("room", (room) => client.heard.set(room.name, listen(room)));
    return client;
}

/** Closed at the end, whatever becomes of its test: it would keep this process. */
async function relayTo(port, plan) {
    const relay = await Relay.start(port, plan);
    things.add(relay);
    return relay;
}

/** All that a room tells, and a check of each message. */
function listen(room) {
    const all = { room, texts: [], states: [], members: [], faults: [], partial: 0 };
    let last;
    let loose = true;
    room.on("state", ({ state, replay, detail }) => {
        all.states.push(`${state} ${state === "JOINED" ? replay : detail}`.trim());
        loose ||= replay === "PARTIAL";
        all.partial += replay === "PARTIAL";
        all.over = !["JOINED", "AWAY"].includes(state);
    });
    room.on("message", ({ offset, from, service, text }) => {
        if (all.over || (!loose && offset !== last + 1)) {
            all.faults.push(`${offset} behind ${last}${all.over ? ", after the end" : ""}`);
        }
        loose = false;
        last = offset;
        all.texts[offset] = `${from || service}: ${text}`;
    });
    room.on("members", ({ count, changes }) => all.members.push([count, ...changes]));
    return all;
}

/** In it, however often that needs to be said. */
async function enter(client, name, options) {
    for (;;) {
        const room = await client.join(name, options).catch((error) => error);
        if (!(room instanceof Error)) {
            return room;
        }
        assert.ok(room.done === "unknown" || room.code === "NOT_SENT", String(room));
        assert.equal(client.ended, undefined);
        await sleep(20);
    }
}

/** Every text once, as long as it takes: one of which nobody knows is looked for in the room itself. */
async function publishAll(client, name, texts, told) {
    for (const text of texts) {
        for (;;) {
            const room = client.rooms.get(name);
            const offset = room && (await room.publish(text).catch((error) => error));
            if (Number.isInteger(offset)) {
                told.set(text, offset);
                break;
            }
            if (offset?.done === "unknown") {
                break; // it came or it did not
            }
            assert.equal(client.ended, undefined);
            await sleep(10);
        }
    }
}

before(async () => {
    const options = { "link.grace_ms": 300, "rooms.publish_per_second": 10000 };
    const classes = { "rooms.classes": CLASSES.join(",") };
    broker = await Usherd.start({ ...options, ...classes, "friends.mode": "open" });
    watched = await Usherd.start({ "friends.mode": "service", "friends.service": "people" });
});

after(async () => {
    await Promise.all([...things].map((each) => each.close({ timeoutMs: 100 })));
    assert.deepEqual([await broker.close(), await watched.close()], [0, 0]);
    assert.deepEqual(unhandled, []);
});

// --- cuts ----------------------------------------------------------------------------------------

/** Two in a room, one of whom is cut there; gives how many bytes he used. */
async function life(name, transport, cut) {
    const plan = (n) => (cut && n === 0 ? { [cut.way]: cut.bytes } : {});
    const relay = await relayTo(broker[transport], plan);
    const bob = login(`${name}-b`, { transport });
    const ann = login(`${name}-a`, { transport, port: relay.port });
    const room = `free:${name}`;
    await bob.ready;
    await enter(bob, room);
    const told = new Map();
    const [his, hers] = [3, 3].map((count, i) =>
        Array.from({ length: count }, (_, n) => `${"ba"[i]}${n}`),
    );
    const first = publishAll(bob, room, his.slice(0, 1), told);
    await enter(ann, room, { recover: true });
    await first;
    await Promise.all([
        publishAll(bob, room, his.slice(1), told),
        publishAll(ann, room, hers, told),
    ]);
    const last = await bob.rooms.get(room).publish("last");
    await eventually("the last one at both", () =>
        [ann, bob].every((one) => one.heard.get(room)?.texts[last]),
    );
    const [seen, other] = [bob.heard.get(room), ann.heard.get(room)];
    assert.deepEqual([seen.faults, other.faults, other.partial], [[], [], 0], name);
    // R1: the same at each offset, and R2 to its end.
    assert.deepEqual(Object.keys(seen.texts).length, last);
    Object.entries(other.texts).forEach(([at, text]) => assert.equal(text, seen.texts[at], name));
    for (const [texts, from] of [
        [his, bob.user],
        [hers, ann.user],
    ]) {
        // R3, R4: in their order, none twice, and what was answered is where it was said to be.
        const come = seen.texts.filter(
            (text) => text?.startsWith(`${from}: `) && !text.endsWith("last"),
        );
        const wanted = texts
            .map((text) => `${from}: ${text}`)
            .filter((text) => come.includes(text));
        assert.deepEqual(come, wanted, name);
        texts.forEach((text) => {
            assert.ok(!told.has(text) || seen.texts[told.get(text)] === `${from}: ${text}`, name);
        });
    }
    await ann.rooms
        .get(room)
        .leave()
        .catch(({ done }) => assert.equal(done, "unknown"));
    await eventually("left, though it may have been cut there", () => other.over);
    await Promise.all([bob, ann].map((one) => one.logout().catch(() => one.close())));
    await relay.close();
    return { up: relay.up, down: relay.down };
}

for (const transport of TRANSPORTS) {
    test(`a member who is cut anywhere sees what the others see, by ${transport}`, async (t) => {
        const whole = await life(`whole-${transport}`, transport);
        const places = [];
        for (const way of ["up", "down"]) {
            for (
                let bytes = 1 + Math.floor(Math.random() * STRIDE);
                bytes < whole[way];
                bytes += STRIDE
            ) {
                places.push({ way, bytes });
            }
        }
        t.diagnostic(`${places.length} places of ${whole.up} bytes up and ${whole.down} down`);
        for (let i = 0; i < places.length; i += TOGETHER) {
            const some = places.slice(i, i + TOGETHER);
            await Promise.all(
                some.map((cut) => life(`${transport}-${cut.way}-${cut.bytes}`, transport, cut)),
            );
        }
    });
}

for (const [kind, transport] of [
    ["free", "tcp"],
    ["tick", "ws"],
]) {
    test(`six in a ${kind} room, cut again and again, see one order`, async () => {
        const relay = await relayTo(broker[transport]);
        const all = Array.from({ length: 6 }, (_, i) =>
            login(`storm-${kind}-${i}`, { transport, port: i % 2 ? relay.port : undefined }),
        );
        const name = `${kind}:storm`;
        await Promise.all(all.map((one) => enter(one, name)));
        let over = false;
        const cuts = (async () => {
            while (!over) {
                await sleep(100 + Math.random() * 200);
                relay.cut();
            }
        })();
        const told = new Map();
        const texts = (i) => Array.from({ length: 60 }, (_, n) => `${i}.${n}`);
        await Promise.all(all.map((one, i) => publishAll(one, name, texts(i), told)));
        over = true;
        await cuts;
        await eventually("everybody is there", () =>
            all.every((one) => one.rooms.get(name)?.state === "JOINED"),
        );
        const last = await all[0].rooms.get(name).publish("last");
        await eventually("the last one at all", () =>
            all.every((one) => one.heard.get(name).texts[last]),
        );
        const reference = all[0].heard.get(name).texts;
        for (const one of all) {
            const { faults, partial, texts: seen } = one.heard.get(name);
            assert.deepEqual([faults, partial], [[], 0]);
            Object.entries(seen).forEach(([at, text]) => assert.equal(text, reference[at]));
        }
        told.forEach((offset, text) => assert.ok(reference[offset].endsWith(`: ${text}`), text));
        all.forEach((one) => one.close());
        await relay.close();
    });
}

test("members that share no code see one order: JavaScript by TCP and WebSocket, Python, C", async () => {
    const name = "free:mixed";
    const script = fileURLToPath(new URL("support/room_player.py", import.meta.url));
    const players = ["mixed-p", "mixed-q"].map((user) => {
        const words = [script, String(broker.tcp), user, name, "40"];
        const child = spawn("/usr/bin/python3", words, { stdio: ["ignore", "pipe", "inherit"] });
        things.add({ close: () => child.kill("SIGKILL") });
        child.text = "";
        child.stdout.on("data", (text) => (child.text += text));
        child.over = new Promise((resolve) => child.on("close", resolve));
        return child;
    });
    // The C library, as the program for terminals.
    const chat = spawn(
        join(process.env.USHER_BIN, "usher"),
        ["chat", "--user", "mixed-c", "--port", String(broker.tcp), "--json"],
        { stdio: ["pipe", "pipe", "ignore"] },
    );
    things.add({ close: () => chat.kill("SIGKILL") });
    const events = [];
    createInterface(chat.stdout).on("line", (line) => events.push(JSON.parse(line)));
    chat.stdin.write(`/join ${name}\n`);
    const all = TRANSPORTS.map((transport) => login(`mixed-${transport}`, { transport }));
    await Promise.all(all.map((one) => enter(one, name, { recover: true })));
    await eventually("all are in it", () => players.every(({ text }) => text.includes("joined")));
    await eventually("C is in it", () => events.some(({ event }) => event === "ROOM"));
    chat.stdin.write(Array.from({ length: 40 }, (_, n) => `#${name} c.${n}\n`).join(""));
    const told = new Map();
    const texts = (i) => Array.from({ length: 40 }, (_, n) => `${i}.${n}`);
    await Promise.all(all.map((one, i) => publishAll(one, name, texts(i), told)));
    await eventually("everything of everybody", () =>
        all.every((one) => one.heard.get(name).texts.filter(Boolean).length >= 200),
    );
    await all[0].rooms.get(name).publish("last");
    assert.deepEqual(await Promise.all(players.map(({ over }) => over)), [0, 0]);
    const reference = all[0].heard.get(name).texts;
    await eventually("the last one", () => all[1].heard.get(name).texts[201]);
    assert.deepEqual(all[1].heard.get(name).texts, reference);
    const said = () => events.filter(({ event }) => event === "ROOM_MESSAGE");
    await eventually("the last one in C", () => said().at(-1)?.offset === 201);
    said().forEach(({ offset, from, payload }, i) => {
        assert.equal(offset, 201 - said().length + 1 + i);
        assert.equal(`${from}: ${payload}`, reference[offset]);
    });
    assert.equal(said().filter(({ from }) => from === "mixed-c").length, 40);
    chat.kill();
    for (const { text } of players) {
        const got = JSON.parse(text.split("\n")[1]);
        assert.ok(got.length > 100, `${got.length}`);
        got.forEach(([offset, each], i) => {
            assert.equal(offset, 201 - got.length + 1 + i); // none is missing to the end
            assert.equal(each, reference[offset]);
        });
    }
    all.forEach((one) => one.close());
});

test("a room that keeps little says PARTIAL, and goes on behind it", async () => {
    const relay = await relayTo(broker.tcp);
    const [bob, ann] = [login("partial-b"), login("partial-a", { port: relay.port })];
    await Promise.all([enter(bob, "short:1"), enter(ann, "short:1")]);
    const room = bob.rooms.get("short:1");
    await room.publish("1");
    await eventually("she has it", () => ann.rooms.get("short:1").offset === 1);
    relay.cut();
    await eventually("she is away", () => ann.state === "waiting");
    for (let n = 2; n <= 9; n++) {
        await room.publish(String(n));
    }
    await eventually("she has the last one", () => ann.rooms.get("short:1").offset === 9);
    const { texts, states, faults } = ann.heard.get("short:1");
    assert.deepEqual(Object.keys(texts).map(Number), [1, 8, 9]);
    assert.deepEqual([states.slice(-1), faults], [["JOINED PARTIAL"], []]);
    [ann, bob].forEach((one) => one.close());
    await relay.close();
});

// --- sessions ------------------------------------------------------------------------------------

test("members hear who comes, is away, is back and goes", async () => {
    const relay = await relayTo(broker.tcp);
    const [bob, ann] = [login("roster-b"), login("roster-a", { port: relay.port })];
    const room = await enter(bob, "free:roster");
    const heard = bob.heard.get(room.name);
    const kinds = () =>
        heard.members.flatMap(([, ...changes]) =>
            changes.map(({ user, kind }) => `${user} ${kind}`),
        );
    await enter(ann, room.name);
    await eventually("she has joined", () => kinds().includes("roster-a JOINED"));
    assert.equal(room.count, 2);
    assert.equal(room.roster.get("roster-a"), false);
    assert.deepEqual([...ann.rooms.get(room.name).roster.keys()].sort(), ["roster-a", "roster-b"]);
    relay.cut();
    await eventually("she is away or back", () => kinds().some((kind) => /AWAY|BACK/.test(kind)));
    await eventually("she is back", () => room.roster.get("roster-a") === false);
    await ann.logout();
    await eventually("she is gone", () => kinds().includes("roster-a LEFT"));
    assert.deepEqual([room.count, room.roster.has("roster-a")], [1, false]);
    bob.close();
    await relay.close();
});

test("a login elsewhere takes the place of who had joined by himself", async () => {
    const bob = login("takeover-b");
    const room = await enter(bob, "free:takeover");
    const first = login("takeover-a");
    await enter(first, room.name);
    const heard = first.heard.get(room.name);
    const second = login("takeover-a");
    await second.ready;
    await eventually("the first has ended", () => first.ended);
    await eventually("he is told", () => heard.states.at(-1)?.startsWith("LEFT"));
    await eventually("he is not in it", () => !room.roster.has("takeover-a"));
    assert.equal(second.rooms.size, 0);
    const again = await enter(second, room.name, { recover: true });
    assert.equal(again.state, "JOINED");
    [bob, second].forEach((one) => one.close());
});

test("who is kicked and comes again is in his rooms again, and misses nothing", async () => {
    const [bob, ann] = [login("kicked-b"), login("kicked-a")];
    await Promise.all([enter(bob, "free:kicked"), enter(ann, "free:kicked")]);
    const heard = ann.heard.get("free:kicked");
    await bob.rooms.get("free:kicked").publish("before");
    await eventually("before", () => heard.texts[1]);
    assert.equal(await broker.ctl("kick", "kicked-a"), 0);
    await eventually("she is away", () => heard.states.includes("AWAY"));
    await bob.rooms.get("free:kicked").publish("meanwhile");
    await eventually("meanwhile", () => heard.texts[2]);
    assert.deepEqual(heard.states, ["JOINED NONE", "AWAY", "JOINED COMPLETE"]);
    assert.deepEqual([heard.faults, ann.heard.size], [[], 1]);
    [ann, bob].forEach((one) => one.close());
});

test("who has left gets nothing more, and cannot publish", async () => {
    const [bob, ann] = [login("left-b"), login("left-a")];
    await Promise.all([enter(bob, "free:left"), enter(ann, "free:left")]);
    const room = ann.rooms.get("free:left");
    const heard = ann.heard.get("free:left");
    await room.leave();
    await eventually("it is over", () => room.state === "LEFT");
    await bob.rooms.get("free:left").publish("x");
    await assert.rejects(room.publish("y"), { code: "NOT_SENT", done: "no" });
    await sleep(100);
    assert.deepEqual([heard.texts, heard.faults], [[], []]);
    [ann, bob].forEach((one) => one.close());
});

test("what is not allowed is refused with a word", async () => {
    const ann = login("refused");
    await assert.rejects(ann.join("nothing"), { code: "NO_ROOM", done: "no" });
    await assert.rejects(ann.join("held:1"), { code: "NO_ROOM" });
    await assert.rejects(ann.join("owned:1"), { code: "NO_SERVICE" });
    await assert.rejects(ann.publishTo("free:1", "x"), { done: "no" });
    const room = await enter(ann, "free:refused");
    await assert.rejects(room.publish(new Uint8Array(70000)), { code: "TOO_LARGE", done: "no" });
    ann.close();
});

// --- owners --------------------------------------------------------------------------------------

async function keeper(options = {}) {
    const owner = await service("keeper", { link: ipcOf(broker), log: () => {}, ...options });
    things.add(owner);
    owner.news = [];
    owner.problems = [];
    owner.onProblem((problem) => owner.problems.push(problem));
    return owner;
}

const gone = async (owner) => {
    things.delete(owner);
    await owner.close();
};

test("the owner is asked and told, and commands", async () => {
    const owner = await keeper();
    owner.onRoomAsk(({ user, room, kind }) => {
        owner.asked = [...(owner.asked ?? []), `${kind} ${user} ${room}`];
        return user === "asked-c" ? "not you" : true;
    });
    owner.onRoomNews(async (news) => {
        await sleep(1);
        owner.news.push(news);
    });
    const [ann, bob, cid] = ["asked-a", "asked-b", "asked-c"].map((user) => login(user));
    const room = await enter(ann, "owned:1");
    await enter(bob, "owned:1");
    await assert.rejects(cid.join("owned:1"), ({ code, message }) => {
        assert.deepEqual([code, message], ["FORBIDDEN", "FORBIDDEN: not you"]);
        return true;
    });
    assert.deepEqual(owner.asked, [
        "CREATE asked-a owned:1",
        "JOIN asked-b owned:1",
        "JOIN asked-c owned:1",
    ]);
    assert.equal(await room.publish("e4"), 1);
    assert.equal(await owner.roomPublish("owned:1", "check"), 2);
    const heard = bob.heard.get("owned:1");
    await eventually("both messages", () => heard.texts[2]);
    assert.deepEqual(heard.texts.slice(1), ["asked-a: e4", "keeper: check"]);

    const [page] = await all(owner.roomMembers("owned:1"));
    assert.deepEqual(page.members.map(({ user, away }) => [user, away]).sort(), [
        ["asked-a", false],
        ["asked-b", false],
    ]);
    assert.equal(page.offset, 2);
    assert.equal((await all(owner.roomMembers("owned:1", { limit: 1 }))).length, 2);
    const [info] = await all(owner.rooms({ prefix: "owned:" }));
    assert.deepEqual(
        [info.name, info.members, info.owner, info.offset],
        ["owned:1", 2, "keeper", 2],
    );

    const added = await owner.roomAdd("owned:1", ["asked-c", "nobody"]);
    assert.equal(added.accepted, 1);
    assert.deepEqual(added.failures, [{ user: "nobody", code: "NOT_ONLINE" }]);
    await eventually("cid is in it", () => cid.rooms.get("owned:1"));
    const removed = await owner.roomRemove("owned:1", ["asked-b"], "cheats");
    assert.deepEqual([removed.accepted, removed.failures.length], [1, 0]);
    await eventually("bob knows", () => heard.over);
    assert.equal(heard.states.at(-1), "REMOVED cheats");
    assert.equal(await owner.roomClose("owned:1", "the end"), true);
    assert.equal(await owner.roomClose("owned:2"), false);
    await eventually("all know", () => room.state === "CLOSED" && cid.rooms.size === 0);
    assert.equal(ann.heard.get("owned:1").states.at(-1), "CLOSED the end");
    await eventually("all news", () => owner.news.at(-1)?.kind === "CLOSED");
    const news = owner.news.map(({ kind, user, text }) => `${kind} ${user} ${text}`.trim());
    assert.deepEqual(
        owner.news.map(({ newsSeq }) => newsSeq),
        owner.news.map((_, i) => i + 1),
    );
    assert.deepEqual(
        news.filter((one) => !one.startsWith("LEFT") && !one.startsWith("CLOSED")),
        [
            "OPENED",
            "JOINED asked-a",
            "JOINED asked-b",
            "MESSAGE asked-a e4",
            "MESSAGE  check",
            "JOINED asked-c",
        ],
    );
    assert.deepEqual(owner.problems, []);
    [ann, bob, cid].forEach((one) => one.close());
    await gone(owner);
});

async function all(pages) {
    const found = [];
    for await (const page of pages) {
        found.push(page);
    }
    return found;
}

test("an owner that fails gives no verdict, and one that is not there none", async () => {
    const ann = login("no-verdict");
    // That of the test before may not be forgotten yet.
    await assert.rejects(ann.join("owned:verdict"), { code: /^(NO_SERVICE|SERVICE_LOST)$/ });
    const owner = await keeper();
    owner.onRoomAsk(() => {
        throw new Error("mine");
    });
    await assert.rejects(ann.join("owned:verdict"), { code: "TIMEOUT", done: "unknown" });
    assert.equal(owner.problems.length, 1);
    ann.close();
    await gone(owner);
});

test("with carry a membership goes on with the next login, without never", async () => {
    const owner = await keeper();
    owner.onCall(() => {});
    const first = login("carried");
    await first.ready;
    const { incarnation } = await owner.roomOpen("held:carry");
    assert.equal((await owner.roomOpen("held:carry")).incarnation, incarnation);
    await owner.roomAdd("held:carry", "carried", { carry: true });
    await eventually("in it", () => first.rooms.get("held:carry")?.state === "JOINED");
    const second = login("carried");
    await eventually("carried over", () => second.rooms.get("held:carry")?.state === "JOINED");
    await owner.roomPublish("held:carry", "hi");
    await eventually("heard", () => second.heard.get("held:carry").texts[1]);
    assert.deepEqual(first.heard.get("held:carry").texts, []);
    await owner.roomClose("held:carry");
    second.close();
    await gone(owner);
});

test("news over a link that is cut: all of them, in order, each done once it is said", async () => {
    const port = await freePort();
    await broker.stop();
    const { "link.grace_ms": grace } = broker.options;
    broker.options["link.urls"] = `${ipcOf(broker)},tcp://127.0.0.1:${port}`;
    // On a slow machine it may take long until a connection lives for a whole Fetch.
    broker.options["link.grace_ms"] = 60000;
    await broker.run();
    const relay = await relayTo(port);
    const owner = await keeper({ link: `tcp://127.0.0.1:${relay.port}` });
    owner.onRoomAsk(() => true);
    owner.onRoomNews(async (news) => {
        await sleep(Math.random() * 5);
        owner.news.push(news);
    });
    const [ann, bob] = ["link-a", "link-b"].map((user) => login(user));
    await enter(ann, "owned:link");
    await enter(bob, "owned:link");
    let over = false;
    const cuts = (async () => {
        while (!over) {
            await sleep(50 + Math.random() * 100);
            relay.cut();
        }
    })();
    const told = new Map();
    const texts = (name) => Array.from({ length: 100 }, (_, n) => `${name}${n}`);
    await Promise.all([
        publishAll(ann, "owned:link", texts("a"), told),
        publishAll(bob, "owned:link", texts("b"), told),
    ]);
    over = true;
    await cuts;
    assert.equal(told.size, 200);
    await eventually("all news", () => owner.news.at(-1)?.offset === 200);
    const seqs = owner.news.map(({ newsSeq }) => newsSeq);
    // What comes again was not said to be done, and says so.
    owner.news.forEach(({ newsSeq, redelivered }, i) =>
        assert.ok(redelivered || newsSeq === 1 || seqs.slice(0, i).includes(newsSeq - 1)),
    );
    assert.deepEqual(
        [...new Set(seqs)].sort((a, b) => a - b),
        Array.from({ length: 203 }, (_, i) => i + 1),
    );
    owner.news
        .filter(({ kind }) => kind === "MESSAGE")
        .forEach(({ offset, text }) => assert.equal(told.get(text), offset));
    [ann, bob].forEach((one) => one.close());
    await gone(owner);
    await relay.close();
    await broker.stop();
    broker.options["link.grace_ms"] = grace;
    await broker.run();
});

test("an owner that is killed has its rooms told to another, with what it had not done", async () => {
    const program = fileURLToPath(new URL("support/room_owner.mjs", import.meta.url));
    const start = async (instance) => {
        const child = fork(program, [ipcOf(broker), instance], { stdio: "inherit" });
        things.add({ close: () => child.kill("SIGKILL") }); // or it keeps this process
        child.told = [];
        child.on("message", (message) => {
            if (!message.room || message.room === "owned:killed") {
                child.told.push(message);
            }
        });
        await eventually("linked", () => child.told[0] === "linked");
        return child;
    };
    const first = await start("one");
    const ann = login("killed-a");
    const room = await enter(ann, "owned:killed");
    for (let n = 1; n <= 20; n++) {
        await room.publish(String(n));
    }
    const second = await start("two");
    await eventually("some are told", () => first.told.length > 5);
    first.kill("SIGKILL");
    for (let n = 21; n <= 40; n++) {
        await room.publish(String(n));
    }
    await eventually("the rest at the other", () => second.told.at(-1)?.offset === 40);
    const [before, behind] = [first, second].map(({ told }) => told.slice(1));
    const seqs = behind.map(({ newsSeq }) => newsSeq);
    assert.deepEqual(
        seqs,
        Array.from({ length: seqs.length }, (_, i) => seqs[0] + i),
    );
    // Nothing is missing between them, and what may have been told before says so.
    assert.ok(seqs[0] <= before.at(-1).newsSeq + 1, `${seqs[0]} behind ${before.at(-1).newsSeq}`);
    behind.forEach(({ newsSeq, redelivered }) =>
        assert.ok(redelivered || newsSeq > before.at(-1).newsSeq, `${newsSeq}`),
    );
    second.kill();
    ann.close();
});

// --- the end of a broker -------------------------------------------------------------------------

for (const signal of ["SIGTERM", "SIGKILL"]) {
    test(`${signal}: rooms are closed, and the next join begins another life`, async () => {
        const [ann, bob] = [login(`end-${signal}-a`), login(`end-${signal}-b`)];
        const name = `free:end-${signal}`;
        await Promise.all([enter(ann, name), enter(bob, name)]);
        await ann.rooms.get(name).publish("before");
        await eventually("heard", () => bob.heard.get(name).texts[1]);
        const rooms = [ann, bob].map((one) => one.rooms.get(name));
        const told = [ann, bob].map((one) => one.heard.get(name));
        await broker.stop(signal);
        await broker.run();
        await eventually("both know", () => told.every(({ over }) => over));
        assert.deepEqual(
            told.map(({ states }) => states.slice(-2)),
            Array(2).fill(["AWAY", "CLOSED"]),
        );
        await Promise.all([enter(ann, name, { recover: true }), enter(bob, name)]);
        assert.notEqual(ann.rooms.get(name), rooms[0]);
        assert.equal(await ann.rooms.get(name).publish("behind"), 1);
        await eventually("heard", () => bob.heard.get(name).texts[1]);
        assert.deepEqual(
            told.map(({ faults }) => faults),
            [[], []],
        );
        [ann, bob].forEach((one) => one.close());
    });
}

// --- friends -------------------------------------------------------------------------------------

function follow(client) {
    const seen = new Map();
    client.on("friends", ({ friends }) =>
        friends.forEach(({ user, state, text }) => seen.set(user, `${state} ${text}`.trim())),
    );
    return seen;
}

test("friends come online, say something, are in a tunnel, hide and go", async () => {
    const relay = await relayTo(broker.tcp);
    const ann = login("friend-a");
    const seen = follow(ann);
    await ann.watch(["friend-b", "friend-c"]);
    await eventually(
        "nobody is there",
        () => seen.get("friend-b") === "OFFLINE" && seen.size === 2,
    );
    const bob = login("friend-b", { port: relay.port });
    await bob.setStatus("in the menu");
    await eventually("bob is there", () => seen.get("friend-b") === "ONLINE in the menu");
    const states = [];
    ann.on("friends", ({ friends }) => states.push(...friends.map(({ state }) => state)));
    const welcomes = new Promise((resolve) => bob.on("welcome", resolve));
    relay.cut();
    await welcomes;
    await bob.send("friend-a", "back");
    await sleep(400);
    assert.ok(!states.includes("OFFLINE"), states.join());
    await sleep(1000); // a status in a second
    await bob.setStatus("", { invisible: true });
    await eventually("bob hides", () => seen.get("friend-b") === "OFFLINE");
    await sleep(1000);
    await bob.setStatus("here");
    await eventually("bob shows himself", () => seen.get("friend-b") === "ONLINE here");
    await bob.logout();
    await eventually("bob is gone", () => seen.get("friend-b") === "OFFLINE");
    await ann.unwatch(["friend-b"]);
    const again = login("friend-b");
    await again.ready;
    const cid = login("friend-c");
    await eventually("cid is there", () => seen.get("friend-c") === "ONLINE");
    assert.equal(seen.get("friend-b"), "OFFLINE");
    [ann, again, cid].forEach((one) => one.close());
    await relay.close();
});

test("who is watched is watched again after a new login and after a restart", async () => {
    const [ann, bob] = [login("again-a"), login("again-b")];
    const seen = follow(ann);
    await ann.watch(["again-b"]);
    await bob.ready;
    await eventually("bob is there", () => seen.get("again-b") === "ONLINE");
    ann.on("closed", () => seen.clear());
    assert.equal(await broker.ctl("kick", "again-a"), 0);
    await eventually("ann was away", () => ann.closings.length === 1);
    await eventually("bob is there", () => seen.get("again-b") === "ONLINE");
    await broker.stop("SIGKILL");
    await eventually("ann is away", () => ann.closings.length > 1);
    await broker.run();
    await eventually("bob is there after a restart", () => seen.get("again-b") === "ONLINE");
    [ann, bob].forEach((one) => one.close());
});

test("a service says who may watch whom, and gives lists", async () => {
    const people = await service("people", { link: ipcOf(watched), log: () => {} });
    things.add(people);
    people.onWatchAsk(({ user, targets }) => {
        if (user === "lonely") {
            return false;
        }
        return targets.filter((name) => name !== "secret");
    });
    const ann = login("ann", { node: watched });
    const seen = follow(ann);
    const others = ["bob", "secret", "cid"].map((user) => login(user, { node: watched }));
    await Promise.all(others.map(({ ready }) => ready));
    await ann.watch(["bob", "secret"]);
    await eventually("bob", () => seen.get("bob") === "ONLINE");
    await assert.rejects(ann.watch(["secret"]), { code: "FORBIDDEN" });
    const lonely = login("lonely", { node: watched });
    await assert.rejects(lonely.watch(["bob"]), { code: "FORBIDDEN" });
    const { epoch } = await ann.ready;
    const report = await people.watchList("ann", ["cid"], { mode: "ADD", epoch });
    assert.deepEqual([report.accepted, report.failures], [1, []]);
    await eventually("cid", () => seen.get("cid") === "ONLINE");
    assert.ok(!seen.has("secret"));
    await assert.rejects(people.watchList("nobody", ["cid"]), { code: "NOT_ONLINE" });
    await assert.rejects(people.watchList("ann", ["bob"], { epoch: epoch - 1 }), {
        code: "STALE_EPOCH",
    });
    await people.watchList("ann", ["cid"], { mode: "REMOVE" });
    await others[2].logout();
    await sleep(500);
    assert.equal(seen.get("cid"), "ONLINE"); // nobody tells her any more
    [ann, lonely, ...others].forEach((one) => one.close());
    await gone(people);
});
