// SPDX-License-Identifier: Apache-2.0
// How usher-backend follows presence, against a scripted node: nothing missing, nothing twice, in order,
// and a cursor that says what is processed.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { call, later, link, REFUSED } from "./support/backend_node.mjs";

const unhandled = [];
process.on("unhandledRejection", (error) => unhandled.push(error));
after(() => assert.deepEqual(unhandled, []));

const ONLINE = 1;
const event = (seq, user = "alice", fields = {}) => ({
    seq,
    user,
    kind: ONLINE,
    epoch: 10 + seq,
    cause: 1,
    ...fields,
});
const batch = (...presence) => ({ batch: { presence, presenceLast: presence.at(-1)?.seq ?? 0 } });
const page = (presenceSeq, names, more = false) => ({
    code: 0,
    sessions: { sessions: names.map((user) => ({ user, state: 1, epoch: 5 })), presenceSeq, more },
});

/** What a program is told, as a list; `take` may make a handler wait or fail. */
function follower(take = () => {}) {
    const told = [];
    const tell = (what) => {
        told.push(what);
        return take(what);
    };
    const options = {
        reset: () => tell("reset"),
        snapshot: ({ user }) => tell(`snapshot ${user}`),
        current: ({ seq }) => tell(`current ${seq}`),
    };
    const handlers = (arena) => arena.onPresence(({ seq, user }) => tell(`${seq} ${user}`));
    return { told, options, handlers };
}

/** Linked, and the first picture is that of nobody at `seq`. */
async function current(seq, take, more = {}) {
    const { told, options, handlers } = follower(take);
    const all = await link({ presence: options, ...more }, { presenceFrom: seq + 1 }, { handlers });
    all.node.results(all.node.one("submit"), page(seq, []));
    await all.clock.settle();
    assert.deepEqual(told.splice(0), ["reset", `current ${seq}`]);
    return { ...all, told };
}

test("the first link begins with a picture, page by page; changes follow", async () => {
    const { told, options, handlers } = follower();
    const all = await link({ presence: options }, { presenceFrom: 51 }, { handlers });
    const { node, clock, hello, fetch } = all;
    assert.deepEqual([hello.hello.presence, hello.hello.presenceAfter], [true, 0]);
    const first = node.one("submit");
    assert.equal(first.submit.link, 0);
    assert.equal(first.submit.commands[0].snapshot.after, "");
    node.results(first, page(52, ["alice", "bob"], true));
    await clock.settle();
    // Events that come meanwhile are left at the node.
    node.answer(fetch, batch(event(51, "zoe")));
    const second = node.one("submit");
    assert.equal(second.submit.commands[0].snapshot.after, "bob");
    assert.deepEqual(told, ["reset", "snapshot alice", "snapshot bob"]);
    node.results(second, page(54, ["carol"], false));
    await clock.settle();
    assert.deepEqual(told.splice(0), [
        "reset",
        "snapshot alice",
        "snapshot bob",
        "snapshot carol",
        "current 52",
    ]);
    const next = node.one("fetch");
    assert.equal(next.fetch.presenceDone, 52, "the stamp of the first page");
    // 53 and 54 are in the picture of those behind bob, and not in that of alice.
    node.answer(next, batch(event(53, "carol"), event(54, "alice"), event(55, "carol")));
    await clock.settle();
    assert.deepEqual(told, ["54 alice", "55 carol"]);
    assert.equal(node.one("fetch").fetch.presenceDone, 55);
    assert.equal(all.arena.presenceSeq, 55);
});

test("which names a page is about: those behind the page before, up to its last", async () => {
    const { told, options, handlers } = follower();
    const { node, clock, fetch } = await link(
        { presence: options },
        { presenceFrom: 11 },
        { handlers },
    );
    const pages = [page(10, ["b", "d"], true), page(20, ["f", "h"], true), page(30, ["k"], false)];
    for (const each of pages) {
        node.results(node.one("submit"), each);
        await clock.settle();
    }
    told.splice(0);
    const users = ["a", "d", "dd", "h", "i", "k", "z"];
    const events = [];
    for (let seq = 11, i = 0; seq <= 31; seq++, i++) {
        events.push(event(seq, users[i % users.length]));
    }
    node.answer(fetch, batch(...events));
    await clock.advance(1);
    const stampOf = (user) => (user <= "d" ? 10 : user <= "h" ? 20 : 30);
    assert.deepEqual(
        told,
        events
            .filter(({ seq, user }) => seq > stampOf(user))
            .map(({ seq, user }) => `${seq} ${user}`),
    );
});

test("with a stored cursor there is no picture, and nothing that was processed comes", async () => {
    const { told, options, handlers } = follower();
    const presence = { ...options, after: 40 };
    const { node, clock, hello, fetch } = await link(
        { presence },
        { presenceFrom: 41 },
        { handlers },
    );
    assert.equal(hello.hello.presenceAfter, 40);
    assert.deepEqual(node.all("submit"), []);
    assert.equal(fetch.fetch.presenceDone, 40);
    node.answer(fetch, batch(event(39), event(40), event(41), event(42, "bob")));
    await clock.settle();
    assert.deepEqual(told, ["41 alice", "42 bob"]);
});

test("a node that goes on elsewhere than the cursor: a picture", async () => {
    const { told, options, handlers } = follower();
    const presence = { ...options, after: 40 };
    const { node, clock } = await link({ presence }, { presenceFrom: 12 }, { handlers });
    node.results(node.one("submit"), page(11, ["alice"]));
    await clock.settle();
    assert.deepEqual(told, ["reset", "snapshot alice", "current 11"]);
});

test("one change at a time, and the cursor moves when it is processed", async () => {
    const waits = [];
    const { node, clock, fetch, told, arena } = await current(0, (what) => {
        if (!/^\d/.test(what)) {
            return undefined;
        }
        waits.push(later());
        return waits.at(-1).promise;
    });
    node.answer(fetch, batch(event(1), event(2), event(3)));
    await clock.advance(1);
    assert.deepEqual(told, ["1 alice"]);
    const second = node.one("fetch");
    assert.equal(second.fetch.presenceDone, 0);
    node.answer(second, batch(event(1), event(2), event(3), event(4)));
    waits[0].resolve();
    await clock.advance(5);
    assert.deepEqual(told, ["1 alice", "2 alice"]);
    assert.equal(arena.presenceSeq, 1);
    assert.equal(node.one("fetch").fetch.presenceDone, 1);
    waits[1].resolve();
    await clock.settle();
    waits[2].resolve();
    await clock.settle();
    assert.deepEqual(told, ["1 alice", "2 alice", "3 alice", "4 alice"]);
});

test("calls go on while a change is being processed", async () => {
    const wait = later();
    const { node, clock, fetch, arena } = await current(
        0,
        (what) => /^\d/.test(what) && wait.promise,
    );
    arena.on("m", () => "here");
    node.answer(fetch, batch(event(1)));
    await clock.advance(1);
    node.answer(node.one("fetch"), { batch: { mail: [call(1)], presence: [event(1)] } });
    await clock.settle();
    assert.equal(node.one("submit").submit.commands[0].replyTo.call, 101);
    wait.resolve();
});

test("a change that is not taken is told again, later and later, and nothing behind it before", async () => {
    let failures = 3;
    const { node, clock, fetch, told, log } = await current(0, (what) => {
        if (what === "1 alice" && failures-- > 0) {
            throw new Error("the database is away");
        }
    });
    node.answer(fetch, batch(event(1), event(2)));
    await clock.settle();
    assert.deepEqual(told, ["1 alice"]);
    await clock.advance(74);
    assert.equal(told.length, 1);
    await clock.advance(1 + 150);
    assert.equal(told.length, 3);
    await clock.advance(300);
    assert.deepEqual(told, ["1 alice", "1 alice", "1 alice", "1 alice", "2 alice"]);
    assert.equal(
        log.filter((line) => /told again: Error: the database is away/.test(line)).length,
        3,
    );
    assert.equal(node.all("fetch").at(-1).fetch.presenceDone, 0);
});

test("events that are missed: a new picture, and what was told of the old one moves nothing", async () => {
    const wait = later();
    const { node, clock, fetch, told } = await current(
        0,
        (what) => what === "1 alice" && wait.promise,
    );
    node.answer(fetch, batch(event(1), event(2)));
    await clock.advance(1);
    node.answer(node.one("fetch"), {
        batch: { presenceReset: true, presence: [event(80)], presenceLast: 90 },
    });
    await clock.settle();
    assert.deepEqual(told, ["1 alice"], "one thing after the other");
    wait.resolve();
    await clock.settle();
    assert.deepEqual(told, ["1 alice", "reset"]);
    await clock.advance(32);
    assert.equal(node.one("fetch").fetch.presenceDone, 90);
    node.results(node.one("submit"), page(91, ["bob"]));
    await clock.settle();
    assert.deepEqual(told, ["1 alice", "reset", "snapshot bob", "current 91"]);
});

test("a hole in the events is a miss as well", async () => {
    const { node, clock, fetch, told } = await current(5);
    node.answer(fetch, batch(event(6), event(8)));
    await clock.settle();
    node.results(node.one("submit"), page(8, ["alice"]));
    await clock.settle();
    assert.deepEqual(told, ["reset", "snapshot alice", "current 8"]);
});

test("who takes no picture is told of the hole, and goes on behind it", async () => {
    const told = [];
    const handlers = (arena) => arena.onPresence(({ seq }) => void told.push(seq));
    const presence = { reset: () => void told.push("reset") };
    const { node, clock, fetch } = await link({ presence }, { presenceFrom: 6 }, { handlers });
    assert.deepEqual(told.splice(0), ["reset"]);
    node.answer(fetch, batch(event(6)));
    await clock.settle();
    node.answer(node.one("fetch"), {
        batch: { presenceReset: true, presence: [event(20), event(21)], presenceLast: 21 },
    });
    await clock.settle();
    assert.deepEqual(told, [6, "reset", 20, 21]);
    assert.equal(node.one("fetch").fetch.presenceDone, 21);
    assert.deepEqual(node.all("submit"), []);
});

test("a page that cannot be had is asked for again", async () => {
    const { told, options, handlers } = follower();
    const { node, clock } = await link({ presence: options }, {}, { handlers });
    node.results(node.one("submit"), { code: 7 });
    await clock.advance(80);
    node.refuse(node.one("submit"), REFUSED.MALFORMED);
    await clock.advance(160);
    node.results(node.one("submit"), page(3, ["alice"]));
    await clock.settle();
    assert.deepEqual(told, ["reset", "snapshot alice", "current 3"]);
});

test("a picture ends where a page does not get ahead, whatever the node says of more", async () => {
    const { told, options, handlers } = follower();
    const { node, clock } = await link({ presence: options }, {}, { handlers });
    node.results(node.one("submit"), page(3, ["bob"], true));
    await clock.settle();
    node.results(node.one("submit"), page(4, ["alice"], true));
    await clock.settle();
    assert.deepEqual(told, ["reset", "snapshot bob", "snapshot alice", "current 3"]);
    assert.deepEqual(node.all("submit"), []);
});

test("a link that ends in a picture: the picture begins anew", async () => {
    const { told, options, handlers } = follower();
    const { node, clock, fetch } = await link({ presence: options }, {}, { handlers });
    node.results(node.one("submit"), page(3, ["alice"], true));
    await clock.settle();
    const old = node.one("submit");
    node.refuse(fetch, REFUSED.STALE_LINK);
    await clock.settle();
    const accepted = { link: 9, parkMs: 1500, frameBytesMax: 16384, presenceFrom: 4 };
    node.answer(node.one("hello"), { accepted });
    await clock.settle();
    node.results(old, page(4, ["bob"], false));
    await clock.settle();
    node.results(node.one("submit"), page(5, ["alice", "bob"]));
    await clock.settle();
    assert.deepEqual(told, [
        "reset",
        "snapshot alice",
        "reset",
        "snapshot alice",
        "snapshot bob",
        "current 5",
    ]);
});

test("a new link in the middle of the stream: nothing twice, nothing missing", async () => {
    const wait = later();
    const { node, clock, fetch, told } = await current(
        0,
        (what) => what === "2 alice" && wait.promise,
    );
    node.answer(fetch, batch(event(1), event(2), event(3)));
    await clock.advance(1);
    node.refuse(node.one("fetch"), REFUSED.STALE_LINK);
    await clock.settle();
    const hello = node.one("hello");
    assert.equal(hello.hello.presenceAfter, 1);
    const accepted = { link: 9, parkMs: 1500, frameBytesMax: 16384, presenceFrom: 2 };
    node.answer(hello, { accepted });
    await clock.advance(1);
    node.answer(node.one("fetch"), batch(event(2), event(3), event(4)));
    wait.resolve();
    await clock.settle();
    assert.deepEqual(told, ["1 alice", "2 alice", "3 alice", "4 alice"]);
});

test("no event is taken before somebody follows, and whoever did not say so may not", async () => {
    const { node, clock, fetch, arena } = await link({ presence: true }, { presenceFrom: 6 });
    node.answer(fetch, batch(event(6)));
    await clock.settle();
    assert.deepEqual(node.all("fetch"), [], "it would be answered at once, with the same");
    const told = [];
    arena.onPresence(({ seq, kind, cause }) => void told.push([seq, kind, cause]));
    await clock.settle();
    node.answer(node.one("fetch"), batch(event(6), event(7, "bob", { kind: 77, cause: 99 })));
    await clock.settle();
    assert.deepEqual(told, [
        [6, "ONLINE", "LOGIN"],
        [7, "NONE", "UNKNOWN"],
    ]);
    const { arena: other } = await link();
    assert.throws(() => other.onPresence(() => {}), /presence: true/);
    assert.throws(() => arena.onPresence(() => {}), /has a handler/);
});

test("close tells how far the stream is processed, and begins with no other change", async () => {
    const wait = later();
    const { node, clock, fetch, told, arena } = await current(
        0,
        (what) => what === "1 alice" && wait.promise,
    );
    node.answer(fetch, batch(event(1), event(2)));
    await clock.settle();
    const closed = arena.close().then(() => "closed");
    await clock.settle();
    wait.resolve();
    await clock.settle();
    const farewell = node.all("fetch").at(-1);
    assert.equal(farewell.fetch.presenceDone, 1);
    assert.equal(await closed, "closed");
    assert.deepEqual(told, ["1 alice"]);
    assert.equal(arena.presenceSeq, 1);
});
