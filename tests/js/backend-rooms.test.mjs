// SPDX-License-Identifier: Apache-2.0
// Rooms and watch lists of usher-backend, against a node that does what a test says: what is commanded, who
// is asked, and news that are told in order and acknowledged when they are done.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ACCEPTED, call, internals, later, link, REFUSED } from "./support/backend_node.mjs";

const { decodeBare, ServiceStatus, WATCHGRANT } = internals;
const CODE = { NOT_ONLINE: 1, STALE_EPOCH: 2, TOO_LARGE: 5, FORBIDDEN: 8, NO_ROOM: 9, FULL: 13 };
const KIND = { OPENED: 1, CLOSED: 2, JOINED: 3, AWAY: 4, LEFT: 6, MESSAGE: 7 };
const bytes = (text) => new TextEncoder().encode(text);

const news = (seq, room, newsSeq, fields = {}) => ({
    seq,
    news: { room, incarnation: 50, newsSeq, kind: KIND.JOINED, user: "ann", epoch: 9, ...fields },
});
const ask = (seq, fields = {}) => ({
    seq,
    ask: {
        call: 100 + seq,
        user: "ann",
        epoch: 9,
        room: "m:1",
        kind: 2,
        timeoutMs: 900,
        ...fields,
    },
});
const watchAsk = (seq, ...targets) => ({
    seq,
    watch: { call: 100 + seq, user: "ann", epoch: 9, targets, timeoutMs: 900 },
});

/** A service with its handlers, whose next Fetch brings this mail; gives its next Fetch. */
async function mailed(all, fetch, ...mail) {
    all.node.answer(fetch, { batch: { mail } });
    await all.clock.settle();
    return all.node.all("fetch").at(-1);
}

/** What is commanded, answered with these results. */
async function commanded(all, ...results) {
    await all.clock.settle();
    const request = all.node.one("submit");
    all.node.results(request, ...results);
    await all.clock.settle();
    return request.submit.commands;
}

const replies = (commands) =>
    commands.map(({ replyTo }) => [
        replyTo.call,
        replyTo.status,
        new TextDecoder().decode(replyTo.payload),
    ]);

const info = (name, more = {}) => ({
    name,
    incarnation: 50,
    offset: 12,
    members: 3,
    class: "m:*",
    owner: "arena",
    away: 1,
    historyMessages: 2,
    historyBytes: 40,
    deliveries: 36,
    openedMs: 77,
    ...more,
});

// --- commands ------------------------------------------------------------------------------------

test("each command as the node reads it, in the order in which they were made", async () => {
    const all = await link({}, {}, { handlers: (arena) => arena.onCall(() => {}) });
    const { arena } = all;
    const done = [
        arena.roomOpen("m:1", { class: "m:*", membersMax: 4 }),
        arena.roomOpen("m:2"),
        arena.roomAdd("m:1", ["ann", "bob"], { epochs: [7, 0], carry: true }),
        arena.roomAdd("m:1", "cid"),
        arena.roomRemove("m:1", ["bob"], "cheats"),
        arena.roomPublish("m:1", "go"),
        arena.watchList("ann", ["bob", "cid"], { epoch: 7, mode: "ADD" }),
        arena.watchList("ann", []),
        arena.roomClose("m:1", "over"),
        arena.roomClose("m:3"),
    ];
    const report = { accepted: 1, failures: [{ user: "bob", code: CODE.STALE_EPOCH }] };
    const commands = await commanded(
        all,
        { rooms: { rooms: [info("m:1")] } },
        { rooms: { rooms: [info("m:2")] } },
        { push: report },
        { code: CODE.FULL },
        { push: { accepted: 1 } },
        { rooms: { rooms: [info("m:1", { offset: 13 })] } },
        { push: { accepted: 1, failures: [{ user: "cid", code: CODE.FULL }] } },
        { push: {} },
        {},
        { code: CODE.NO_ROOM },
    );
    assert.deepEqual(commands, [
        { roomOpen: { room: "m:1", class: "m:*", membersMax: 4 } },
        { roomOpen: { room: "m:2", class: "", membersMax: 0 } },
        { roomAdd: { room: "m:1", users: ["ann", "bob"], epochs: [7, 0], carry: true } },
        { roomAdd: { room: "m:1", users: ["cid"], epochs: [], carry: false } },
        { roomRemove: { room: "m:1", users: ["bob"], detail: "cheats" } },
        { roomPublish: { room: "m:1", payload: bytes("go") } },
        { watchList: { user: "ann", epoch: 7, mode: 1, targets: ["bob", "cid"] } },
        { watchList: { user: "ann", epoch: 0, mode: 0, targets: [] } },
        { roomClose: { room: "m:1", detail: "over" } },
        { roomClose: { room: "m:3", detail: "" } },
    ]);
    assert.deepEqual(await Promise.all(done), [
        info("m:1"),
        info("m:2"),
        { accepted: 1, dropped: 0, failures: [{ user: "bob", code: "STALE_EPOCH" }], mid: 0 },
        { accepted: 0, dropped: 0, failures: [{ user: "cid", code: "FULL" }], mid: 0 },
        { accepted: 1, dropped: 0, failures: [], mid: 0 },
        13,
        { accepted: 1, dropped: 0, failures: [{ user: "cid", code: "FULL" }], mid: 0 },
        { accepted: 0, dropped: 0, failures: [], mid: 0 },
        true,
        false,
    ]);
});

test("what the node does not do is rejected with its word, what is none with an error", async () => {
    const all = await link({}, {}, { handlers: (arena) => arena.onCall(() => {}) });
    const { arena } = all;
    const refused = [
        [arena.roomOpen("x"), "NO_ROOM", { code: CODE.NO_ROOM }],
        [arena.roomAdd("x", ["ann", "bob"]), "NO_ROOM", { code: CODE.NO_ROOM }],
        [arena.roomRemove("x", ["ann", "bob"]), "NO_ROOM", { code: CODE.NO_ROOM }],
        [arena.roomPublish("x", "x"), "TOO_LARGE", { code: CODE.TOO_LARGE }],
        [arena.roomClose("x"), "FORBIDDEN", { code: CODE.FORBIDDEN }],
        [arena.watchList("x", ["y"]), "NOT_ONLINE", { code: CODE.NOT_ONLINE }],
        [arena.watchList("x", ["y", "z"]), "FULL", { code: CODE.FULL }],
        [arena.roomOpen("x"), "UNKNOWN", {}], // it says nothing of the room
    ];
    const ends = refused.map(([promise, code]) => assert.rejects(promise, { code, done: "no" }));
    await commanded(all, ...refused.map(([, , result]) => result));
    await Promise.all(ends);
    for (const [wrong, kind] of [
        [arena.roomOpen(5), TypeError],
        [arena.roomOpen("x", { membersMax: 0.5 }), RangeError],
        [arena.roomClose("x", 5), TypeError],
        [arena.roomAdd("x", ["a"], { epochs: [1, 2] }), RangeError],
        [arena.roomAdd("x", ["a"], { epochs: [-1] }), RangeError],
        [arena.roomAdd("x", [7]), TypeError],
        [arena.roomPublish("x", 5), TypeError],
        [arena.watchList("x", ["y"], { mode: "ALL" }), RangeError],
        [arena.watchList("x", [5]), TypeError],
    ]) {
        await assert.rejects(wrong, kind);
    }
    await all.clock.settle();
    assert.equal(all.node.all("submit").length, 0);
});

test("more names than a frame takes go in several commands, each with its epochs", async () => {
    const all = await link({}, { frameBytesMax: 1024 }, { handlers: (a) => a.onCall(() => {}) });
    const users = Array.from({ length: 100 }, (_, i) => `user-with-a-name-${i}`);
    const epochs = users.map((_, i) => 2 ** 52 + i);
    const added = all.arena.roomAdd("m:1", users, { epochs });
    const got = [];
    for (let more = true; more;) {
        await all.clock.settle();
        const [request] = all.node.all("submit");
        more = request !== undefined;
        if (more) {
            assert.ok(request.bytes.length <= 1024);
            const its = request.submit.commands.map(({ roomAdd }) => roomAdd);
            its.forEach((each) => got.push(...each.users.map((user, i) => [user, each.epochs[i]])));
            all.node.results(
                request,
                ...its.map((each) => ({ push: { accepted: each.users.length } })),
            );
        }
    }
    assert.deepEqual(
        got,
        users.map((user, i) => [user, epochs[i]]),
    );
    assert.equal((await added).accepted, 100);
});

test("members page by page on the link, rooms by a question", async () => {
    const all = await link({}, {}, { handlers: (arena) => arena.onCall(() => {}) });
    const pages = [];
    const reading = (async () => {
        for await (const page of all.arena.roomMembers("m:1", { limit: 2 })) {
            pages.push(page);
        }
    })();
    const member = (user) => ({ user, epoch: 9, away: false, carry: true });
    const list = { newsSeq: 4, incarnation: 50, offset: 12 };
    const [first] = await commanded(all, {
        members: { members: [member("ann"), member("bob")], next: "2", ...list },
    });
    const [second] = await commanded(all, {
        members: { members: [member("cid")], ...list, newsSeq: 5 },
    });
    await reading;
    assert.deepEqual(
        [first, second].map(({ roomMembers }) => roomMembers),
        [
            { room: "m:1", after: "", limit: 2 },
            { room: "m:1", after: "2", limit: 2 },
        ],
    );
    assert.deepEqual(pages, [
        { members: [member("ann"), member("bob")], ...list },
        { members: [member("cid")], ...list, newsSeq: 5 },
    ]);

    const names = [];
    const listing = (async () => {
        for await (const room of all.arena.rooms({ prefix: "m:" })) {
            names.push(room.name);
        }
    })();
    const asked = [];
    for (const rooms of [
        { rooms: [info("m:1"), info("m:2")], more: true },
        { rooms: [info("m:3")], more: true },
        { rooms: [info("m:3")], more: true }, // it does not get ahead
    ]) {
        await all.clock.settle();
        const request = all.node.one("submit");
        assert.equal(request.submit.link, 0);
        asked.push(request.submit.commands[0].rooms.after);
        all.node.results(request, { rooms });
    }
    await listing;
    assert.deepEqual(
        [names, asked],
        [
            ["m:1", "m:2", "m:3", "m:3"],
            ["", "m:2", "m:3"],
        ],
    );
    const ended = assert.rejects(all.arena.roomMembers("x").next(), { code: "NO_ROOM" });
    await commanded(all, { code: CODE.NO_ROOM });
    await ended;
});

// --- who is asked --------------------------------------------------------------------------------

test("onRoomAsk: yes, no, a text, a status; and what is no verdict is no answer", async () => {
    const asked = [];
    const problems = [];
    const verdicts = [
        true,
        false,
        "the match has begun",
        new ServiceStatus(7, "full"),
        new ServiceStatus(0),
    ];
    verdicts.push(undefined, 5, {}, new Error("mine"));
    const all = await link(
        {},
        {},
        {
            handlers: (arena) => {
                arena.onProblem(({ text }) => void problems.push(text));
                arena.onRoomAsk(async (one) => {
                    asked.push(one);
                    const verdict = verdicts[asked.length - 1];
                    if (verdict instanceof Error) {
                        throw verdict;
                    }
                    return verdict;
                });
            },
        },
    );
    const mails = verdicts.map((_, i) => ask(i + 1, { room: `m:${i}`, kind: i === 1 ? 1 : 2 }));
    const fetch = await mailed(all, all.fetch, ...mails);
    const commands = await commanded(all);
    assert.deepEqual(replies(commands), [
        [101, 0, ""],
        [102, 1, ""],
        [103, 1, "the match has begun"],
        [104, 7, "full"],
        [105, 1, ""],
    ]);
    assert.equal(problems.length, 4);
    assert.match(problems[0], /onRoomAsk failed for ann and m:5/);
    assert.deepEqual(asked[1], {
        user: "ann",
        epoch: 9,
        room: "m:1",
        kind: "CREATE",
        timeoutMs: 900,
        redelivered: false,
    });
    assert.equal((await mailed(all, fetch)).fetch.mailDone, verdicts.length);
});

test("without onRoomAsk nobody is judged, and who has one handler has no other", async () => {
    const problems = [];
    const handlers = (arena) => {
        arena.onProblem(({ text }) => void problems.push(text));
        arena.onRoomNews(() => {});
        assert.throws(() => arena.onRoomNews(() => {}), /has a handler/);
    };
    const all = await link({}, {}, { handlers });
    await mailed(all, all.fetch, ask(1), watchAsk(2, "bob"));
    await all.clock.settle();
    assert.equal(all.node.all("submit").length, 0);
    assert.equal(problems.length, 2);
    for (const name of ["onRoomAsk", "onWatchAsk"]) {
        const off = all.arena[name](() => true);
        assert.throws(() => all.arena[name](() => true), /has a handler/);
        off();
        all.arena[name](() => true);
    }
});

test("onWatchAsk gives the names that he may watch", async () => {
    const asked = [];
    const verdicts = [["bob"], true, false, [], "bob", [5], new ServiceStatus(3)];
    const problems = [];
    const all = await link(
        {},
        {},
        {
            handlers: (arena) => {
                arena.onProblem(({ text }) => void problems.push(text));
                arena.onWatchAsk((one) => {
                    const verdict = verdicts[asked.length];
                    asked.push(one);
                    if (verdict instanceof Error) {
                        throw verdict;
                    }
                    return verdict;
                });
            },
        },
    );
    await mailed(all, all.fetch, ...verdicts.map((_, i) => watchAsk(i + 1, "bob", "cid")));
    const commands = await commanded(all);
    assert.deepEqual(
        commands.map(({ replyTo: { call, status, payload } }) => [
            call,
            status,
            decodeBare(WATCHGRANT, payload).targets,
        ]),
        [
            [101, 0, ["bob"]],
            [102, 0, ["bob", "cid"]],
            [103, 1, []],
            [104, 0, []],
            [107, 3, []],
        ],
    );
    assert.equal(problems.length, 2);
    const { user, epoch, targets, timeoutMs, redelivered } = asked[0];
    assert.deepEqual(
        [user, epoch, targets, timeoutMs, redelivered],
        ["ann", 9, ["bob", "cid"], 900, false],
    );
});

// --- news ----------------------------------------------------------------------------------------

test("news of a room are told one by one, of two rooms at once, and acknowledged when done", async () => {
    const told = [];
    const gates = {};
    const handlers = (arena) =>
        arena.onRoomNews((one) => {
            told.push(`${one.room} ${one.newsSeq} ${one.kind}`);
            gates[one.room + one.newsSeq] = later();
            return gates[one.room + one.newsSeq].promise;
        });
    const all = await link({}, {}, { handlers });
    let fetch = await mailed(
        all,
        all.fetch,
        news(1, "a", 1, { kind: KIND.OPENED }),
        news(2, "a", 2),
        news(3, "b", 1, { kind: KIND.MESSAGE, payload: bytes("hi") }),
        news(4, "a", 3, { kind: KIND.LEFT }),
    );
    assert.deepEqual(told, ["a 1 OPENED", "b 1 MESSAGE"]);
    assert.deepEqual([fetch.fetch.mailDone, fetch.fetch.mailHave], [0, 4]);
    gates.b1.resolve();
    await all.clock.settle();
    assert.equal(told.length, 2);
    gates.a1.resolve();
    await all.clock.settle();
    assert.deepEqual(told.slice(2), ["a 2 JOINED"]);
    fetch = await mailed(all, fetch, news(5, "b", 2));
    assert.deepEqual([fetch.fetch.mailDone, fetch.fetch.mailHave], [1, 5]);
    gates.a2.resolve();
    await all.clock.settle();
    gates.a3.resolve();
    gates.b2.resolve();
    await all.clock.settle();
    fetch = await mailed(all, fetch);
    assert.equal(fetch.fetch.mailDone, 5);
    assert.deepEqual(told.slice(3).sort(), ["a 3 LEFT", "b 2 JOINED"]);
});

test("what a news says; one that the program fails at is told to onProblem, and the next one comes", async () => {
    const problems = [];
    const told = [];
    const handlers = (arena) => {
        arena.onProblem(({ text }) => void problems.push(text));
        arena.onRoomNews((one) => {
            told.push(one);
            if (told.length < 3) {
                return told.length === 1 ? JSON.parse(one.text) : Promise.reject(new Error("x"));
            }
        });
    };
    const all = await link({}, {}, { handlers });
    const message = {
        kind: KIND.MESSAGE,
        payload: bytes("{"),
        offset: 12,
        timeMs: 5,
        redelivered: true,
    };
    const fetch = await mailed(
        all,
        all.fetch,
        news(1, "a", 1, { ...message, cause: 1 }),
        news(2, "a", 2),
        news(3, "a", 3, { cause: 99, kind: 99 }),
    );
    const { text, ...first } = told[0];
    assert.equal(text, "{");
    assert.deepEqual(first, {
        room: "a",
        incarnation: 50,
        newsSeq: 1,
        kind: "MESSAGE",
        user: "ann",
        epoch: 9,
        cause: "ASKED",
        offset: 12,
        payload: bytes("{"),
        redelivered: true,
        timeMs: 5,
        service: "",
    });
    assert.deepEqual([told.length, told[2].kind, told[2].cause], [3, "NONE", "UNKNOWN"]);
    assert.deepEqual(problems, Array(2).fill("onRoomNews failed for a"));
    assert.equal((await mailed(all, fetch)).fetch.mailDone, 3);
});

test("what waits for its turn when the link ends is told by the next link, in order", async () => {
    const told = [];
    const gate = later();
    const handlers = (arena) =>
        arena.onRoomNews((one) => {
            told.push([one.newsSeq, one.redelivered]);
            return told.length === 1 ? gate.promise : undefined;
        });
    const all = await link({}, {}, { handlers });
    const fetch = await mailed(all, all.fetch, news(1, "a", 1), news(2, "a", 2));
    all.node.refuse(fetch, REFUSED.STALE_LINK);
    await all.clock.settle();
    all.node.answer(all.node.one("hello"), {
        accepted: { ...ACCEPTED, link: 5, nodeBoot: "boot" },
    });
    await all.clock.settle();
    const again = { redelivered: true };
    const next = all.node.one("fetch");
    const last = await mailed(all, next, news(1, "a", 1, again), news(2, "a", 2, again));
    assert.deepEqual(told, [[1, false]]); // it is still at it
    gate.resolve();
    await all.clock.settle();
    assert.deepEqual(told, [
        [1, false],
        [1, true],
        [2, true],
    ]);
    const after = await mailed(all, last);
    assert.equal(after.fetch.mailDone, 2);
});

test("news have their places among callsMax, and the rest waits at the node", async () => {
    const gates = [];
    const handlers = (arena) =>
        arena.onRoomNews(() => {
            gates.push(later());
            return gates.at(-1).promise;
        });
    const all = await link({ callsMax: 2 }, {}, { handlers });
    all.node.answer(all.fetch, { batch: { mail: [1, 2, 3].map((n) => news(n, "a", n)) } });
    await all.clock.settle();
    await all.clock.advance(200);
    const fetch = all.node.all("fetch").at(-1);
    assert.equal(fetch.fetch.mailHave, 2);
    assert.equal(gates.length, 1);
    gates[0].resolve();
    await mailed(all, fetch, news(3, "a", 3), call(4));
    gates[1].resolve();
    await all.clock.settle();
    gates[2]?.resolve();
});

test("nobody who handles news: they are done with", async () => {
    const all = await link({}, {}, { handlers: (arena) => arena.onCall(() => {}) });
    const fetch = await mailed(all, all.fetch, news(1, "a", 1), news(2, "a", 2));
    assert.equal(fetch.fetch.mailDone, 2);
});
