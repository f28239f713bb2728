// SPDX-License-Identifier: Apache-2.0
// Stored messages of usher-backend, against a node that does what a test says: what is pushed, what an older
// node makes of it, what is listed and dropped, and notices of what waits for somebody who is away.
import assert from "node:assert/strict";
import { test } from "node:test";
import { call, later, link, REFUSED } from "./support/backend_node.mjs";

const CODE = { NOT_ONLINE: 1, INBOX_FULL: 4, TOO_LARGE: 5, FORBIDDEN: 8 };

async function commanded(all, ...results) {
    await all.clock.settle();
    const request = all.node.one("submit");
    all.node.results(request, ...results);
    await all.clock.settle();
    return request.submit.commands;
}

const notice = (seq, user, mid) => ({
    seq,
    stored: { user, mid, from: "bob", payloadBytes: 4, timeMs: 5, count: 2 },
});

test("a push that is to be stored says for how long, and gives its mid", async () => {
    const all = await link();
    const one = all.arena.push("ann", "gift", { keepS: 3600, tag: 2 ** 53 - 1 });
    const many = all.arena.push(["ann", "bob"], "gift", { keepS: 60 });
    const failures = [{ user: "bob", code: CODE.INBOX_FULL }];
    const commands = await commanded(
        all,
        { push: { accepted: 1, mid: 17 } },
        { push: { accepted: 1, failures, mid: 18 } },
    );
    const [a, b] = commands.map(({ push }) => push);
    assert.deepEqual([a.keepS, a.tag, a.transient, a.epoch], [3600, 2 ** 53 - 1, false, 0]);
    assert.deepEqual([b.keepS, b.tag], [60, 0]);
    assert.deepEqual(await one, { accepted: 1, dropped: 0, failures: [], mid: 17 });
    assert.equal((await many).mid, 18);
    assert.deepEqual((await many).failures, [{ user: "bob", code: "INBOX_FULL" }]);
});

test("a node of before gives no mid: nobody takes that for stored", async () => {
    const all = await link();
    const options = { keepS: 3600 };
    const pushes = ["there", "gone", "full"].map((user) => all.arena.push(user, "x", options));
    const large = all.arena.push(["a", "b"], "x", options);
    await commanded(
        all,
        { push: { accepted: 1 } },
        { code: CODE.NOT_ONLINE },
        { code: CODE.INBOX_FULL, push: { accepted: 0, mid: 0 } },
        { code: CODE.TOO_LARGE },
    );
    await assert.rejects(pushes[0], { code: "NOT_STORED", done: "unknown" });
    assert.equal((await pushes[1]).failures[0].code, "NOT_ONLINE");
    assert.equal((await pushes[2]).accepted, 0);
    await assert.rejects(large, { code: "TOO_LARGE", done: "no" });
});

test("an inbox, page by page, and what is dropped of it", async () => {
    const all = await link();
    const pages = [];
    const listed = (async () => {
        for await (const page of all.arena.inbox("ann", { limit: 1 })) {
            pages.push(page);
        }
    })();
    const info = (mid) => ({ mid, from: "bob", payloadBytes: 4, timeMs: 5, expiresMs: 9 });
    const more = [
        { messages: [info(17)], more: true, count: 2, bytes: 8 },
        { messages: [info(18)], more: true, count: 2, bytes: 8 },
        { messages: [], more: true, count: 0, bytes: 0 }, // or it would be asked for ever
    ];
    const asked = [];
    for (const stored of more) {
        const [{ inbox }] = await commanded(all, { stored });
        asked.push([inbox.user, inbox.afterMid, inbox.limit]);
    }
    await listed;
    assert.deepEqual(asked, [
        ["ann", 0, 1],
        ["ann", 17, 1],
        ["ann", 18, 1],
    ]);
    assert.deepEqual(
        pages.map(({ messages, count }) => [messages.map(({ mid }) => mid), count]),
        [
            [[17], 2],
            [[18], 2],
            [[], 0],
        ],
    );
    assert.deepEqual(pages[0].messages, [{ ...info(17), service: "" }]);
    const dropped = all.arena.inboxDrop("ann", 18);
    const forbidden = all.arena.inboxDrop("ann", 18);
    const [{ inboxDrop }] = await commanded(
        all,
        { stored: { count: 2 } },
        { code: CODE.FORBIDDEN },
    );
    assert.deepEqual(inboxDrop, { user: "ann", upToMid: 18 });
    assert.equal(await dropped, 2);
    await assert.rejects(forbidden, { code: "FORBIDDEN", done: "no" });
});

test("notices of one user in order, each acknowledged when its promise is settled", async () => {
    const got = [];
    const waits = [later(), later(), later()];
    const problems = [];
    const handlers = (arena) => {
        arena.onProblem(({ text }) => problems.push(text));
        arena.onStoredNotice((each) => {
            got.push(each.mid);
            return waits[got.length - 1].promise;
        });
        assert.throws(() => arena.onStoredNotice(() => {}));
    };
    const all = await link({}, {}, { handlers });
    all.node.answer(all.fetch, {
        batch: { mail: [notice(1, "ann", 17), notice(2, "ann", 18), notice(3, "cid", 19)] },
    });
    await all.clock.settle();
    const fetch = all.node.all("fetch").at(-1);
    assert.equal(fetch.fetch.mailDone, 0);
    assert.deepEqual(got, [17, 19], "of two users at once, of one behind each other");
    waits[0].reject(new Error("no phone"));
    await all.clock.settle();
    assert.deepEqual(got, [17, 19, 18]);
    assert.deepEqual(problems, ["onStoredNotice failed for ann"]);
    waits[1].resolve();
    waits[2].resolve();
    all.node.answer(fetch, { batch: {} });
    await all.clock.advance(200);
    assert.equal(all.node.all("fetch").at(-1).fetch.mailDone, 3);
});

test("what nobody wants to hear of is acknowledged", async () => {
    const all = await link({}, {}, { handlers: (arena) => arena.on("m", () => {}) });
    all.node.answer(all.fetch, { batch: { mail: [notice(1, "ann", 17), call(2)] } });
    await all.clock.settle();
    assert.equal(all.node.all("fetch").at(-1).fetch.mailDone, 2);
});
