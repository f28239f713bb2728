// SPDX-License-Identifier: Apache-2.0
// The library for services against a scripted node with a clock of its own: what goes out, in which
// order, how often; what becomes of promises; and that nothing a node says ends the program.
import assert from "node:assert/strict";
import { inspect } from "node:util";
import { after, test } from "node:test";
import {
    begin,
    call,
    internals,
    later,
    link,
    Node,
    REFUSED,
    SECRET_LINK,
} from "./support/backend_node.mjs";

const { ServiceStatus, UsherError } = internals;
const unhandled = [];
process.on("unhandledRejection", (error) => unhandled.push(error));
after(() => assert.deepEqual(unhandled, []));

const text = (bytes) => Buffer.from(bytes).toString();
const commandsOf = (request) => request.submit.commands;
const repliesOf = (request) =>
    commandsOf(request).map(({ replyTo }) => [replyTo.call, replyTo.status, text(replyTo.payload)]);
const echo = (arena) => arena.on("m", (each) => each.payload);

/** What a promise has come to, or "open". */
async function outcome(promise) {
    return Promise.race([
        promise.then(
            () => "done",
            (error) => `${error.code} ${error.done}`,
        ),
        new Promise((resolve) => setImmediate(resolve, "open")),
    ]);
}

// --- hello ---------------------------------------------------------------------------------------

test("a Hello says who it is, and two in one millisecond differ", async () => {
    const [one, two] = [await begin({ presence: { after: 41 } }), await begin()];
    const hello = one.node.one("hello").hello;
    assert.equal(hello.service, "arena");
    assert.equal(hello.instance, "a-1");
    assert.equal(text(hello.token), "the-token");
    assert.equal(hello.presence, true);
    assert.equal(hello.presenceAfter, 41);
    const other = two.node.one("hello").hello;
    assert.equal(other.presence, false);
    assert.ok(other.incarnation > hello.incarnation);
    assert.ok(other.incarnation < 2 ** 53);
    assert.deepEqual(one.node.got, [], "nothing else goes out before it is accepted");
});

for (const [code, words] of [
    [REFUSED.BANNED, /check the token/],
    [REFUSED.MALFORMED, /does not accept the hello/],
]) {
    test(`refused for good with code ${code}: words, and never again`, async () => {
        const { node, clock, linked, states, log, arena } = await begin();
        const waiting = arena.push("alice", "x");
        node.refuse(node.one("hello"), code, "no \u001b[2J way");
        await clock.settle();
        await assert.rejects(
            linked,
            (error) => error.code === "REFUSED" && words.test(error.message),
        );
        assert.equal(await outcome(waiting), "REFUSED no");
        assert.equal(await outcome(arena.push("alice", "x")), "REFUSED no");
        assert.equal(await outcome(arena.count()), "REFUSED no");
        assert.deepEqual(states, ["refused"]);
        assert.match(log.join("\n"), /no \?\[2J way/);
        await clock.advance(60000);
        assert.deepEqual(node.got, []);
        await arena.close();
    });
}

test("a busy node is asked again", async () => {
    const { node, clock, states } = await begin();
    const hello = node.one("hello");
    node.refuse(hello, REFUSED.BUSY);
    await clock.advance(199);
    assert.deepEqual(node.got, []);
    await clock.advance(2);
    const again = node.one("hello");
    assert.deepEqual(again.bytes, hello.bytes);
    assert.deepEqual(states, ["lost"]);
});

test("without an answer the next address is tried, and the same Hello goes there", async () => {
    const { node, clock, log } = await begin({ link: ["ipc:///one", "tcp://two:2"] });
    const hello = node.one("hello");
    await clock.advance(1999);
    assert.deepEqual(node.got, []);
    await clock.advance(100);
    const again = node.one("hello");
    assert.deepEqual(again.bytes, hello.bytes);
    assert.equal(again.connection.address.url, "tcp://two:2");
    assert.match(log[0], /no answer from a node at ipc:\/\/\/one \(no answer in time\)/);
});

test("who is not let in by the socket's permissions is told so", async () => {
    const node = new Node();
    node.refuses = () => "EACCES";
    const { log, states } = await begin({}, { node });
    assert.match(log[0], /permission denied at ipc:\/\/\/link: .*link.socket_mode/);
    assert.deepEqual(states, ["lost"]);
});

test("tries come at most once a second, and at least so often; told is it once", async () => {
    const node = new Node();
    node.refuses = () => "ENOENT";
    const { clock, states, log } = await begin({}, { node });
    await clock.advance(60000);
    assert.ok(
        node.connections.length >= 60 && node.connections.length <= 90,
        `${node.connections.length}`,
    );
    assert.deepEqual(states, ["lost"]);
    assert.equal(log.length, 1);
    node.refuses = () => undefined;
    await clock.advance(1000);
    node.one("hello");
});

// --- mail ----------------------------------------------------------------------------------------

test("no call is taken before somebody handles calls", async () => {
    const { arena, node, clock, fetch } = await link();
    assert.equal(fetch.fetch.bytesMax, 512);
    node.answer(fetch, { batch: { mail: [call(1)] } });
    await clock.advance(200);
    const again = node.one("fetch");
    assert.equal(again.fetch.mailDone, 0);
    arena.on("m", () => "late");
    node.answer(again, { batch: { mail: [call(1)] } });
    await clock.settle();
    assert.deepEqual(repliesOf(node.one("submit")), [[101, 0, "late"]]);
    assert.equal(node.one("fetch").fetch.mailDone, 1);
});

test("calls begin in their order, and the node is told what has arrived and what is done", async () => {
    const seen = [];
    const waits = [later(), later(), later()];
    const handlers = (arena) =>
        arena.on("m", (each) => {
            seen.push(each.payload[0]);
            return waits[each.payload[0] - 1].promise;
        });
    const { node, clock, fetch } = await link({}, {}, { handlers });
    assert.deepEqual([fetch.fetch.mailHave, fetch.fetch.waitMs], [0, 0]);
    node.answer(fetch, { batch: { mail: [call(1), call(2)] } });
    await clock.settle();
    const second = node.one("fetch");
    const told = ({ fetch: { mailDone, mailHave, waitMs } }) => [mailDone, mailHave, waitMs];
    assert.deepEqual(told(second), [0, 2, 100]);
    node.answer(second, { batch: { mail: [call(3)] } });
    await clock.settle();
    assert.deepEqual(seen, [1, 2, 3]);

    waits[1].resolve("two");
    await clock.settle();
    assert.deepEqual(repliesOf(node.one("submit")), [[102, 0, "two"]]);
    const third = node.one("fetch");
    assert.deepEqual(told(third), [0, 3, 100], "the first is not done");
    waits[0].resolve("one");
    await clock.settle();
    node.answer(third, { batch: {} });
    await clock.settle();
    const fourth = node.one("fetch");
    assert.deepEqual(told(fourth), [2, 3, 100]);
    waits[2].resolve("three");
    await clock.settle();
    node.answer(fourth, { batch: {} });
    await clock.settle();
    assert.deepEqual(told(node.one("fetch")), [3, 3, 0]);
    assert.deepEqual(seen, [1, 2, 3]);
});

test("what a node says again is not done again", async () => {
    const seen = [];
    const handlers = (arena) => arena.on("m", (each) => void seen.push(each.payload[0]));
    const { node, clock, fetch } = await link({}, {}, { handlers });
    node.answer(fetch, { batch: { mail: [call(1), call(2)] } });
    await clock.settle();
    node.answer(node.one("fetch"), { batch: { mail: [call(1), call(2), call(3)] } });
    await clock.settle();
    node.answer(node.one("fetch"), { batch: { mail: [call(3)] } });
    await clock.settle();
    assert.deepEqual(seen, [1, 2, 3]);
});

test("a node that says again what is open is asked again and again, but slowly", async () => {
    const wait = later();
    const handlers = (arena) => arena.on("m", () => wait.promise);
    const { node, clock, fetch } = await link({}, {}, { handlers });
    node.answer(fetch, { batch: { mail: [call(1)] } });
    let count = 0;
    for (let ms = 0; ms < 3200; ms++) {
        await clock.advance(1);
        for (const each of node.all("fetch")) {
            count++;
            node.answer(each, { batch: { mail: [call(1)] } });
        }
    }
    assert.ok(count >= 95 && count <= 115, `${count}`);
    wait.resolve("x");
    await clock.settle();
    assert.equal(node.one("fetch").fetch.mailDone, 1, "and at once when all is done");
});

test("a newer node on the next link is not asked slowly", async () => {
    const handlers = (arena) => arena.on("m", () => new Promise(() => {}));
    const { node, clock, fetch } = await link({}, {}, { handlers });
    node.answer(fetch, { batch: { mail: [call(1)] } });
    await clock.settle();
    node.answer(node.one("fetch"), { batch: { mail: [call(1)] } });
    await clock.advance(2);
    node.refuse(node.one("fetch"), REFUSED.STALE_LINK);
    await clock.settle();
    node.answer(node.one("hello"), { accepted: { link: 99, parkMs: 1500, frameBytesMax: 16384 } });
    await clock.settle();
    node.answer(node.one("fetch"), { batch: { mail: [call(1)] } });
    await clock.settle();
    assert.equal(node.one("fetch").fetch.mailHave, 1);
});

test("a call that is acknowledged is out of the way of the cursor, and answered later", async () => {
    const wait = later();
    const handlers = (arena) =>
        arena.on("m", async (each) => {
            each.acknowledge();
            return wait.promise;
        });
    const { node, clock, fetch } = await link({}, {}, { handlers });
    node.answer(fetch, { batch: { mail: [call(1)] } });
    await clock.settle();
    assert.equal(node.one("fetch").fetch.mailDone, 1);
    wait.resolve("at last");
    await clock.settle();
    assert.deepEqual(repliesOf(node.one("submit")), [[101, 0, "at last"]]);
});

test("no more calls are open than callsMax; the others stay at the node", async () => {
    const waits = [];
    const handlers = (arena) =>
        arena.on("m", () => {
            waits.push(later());
            return waits.at(-1).promise;
        });
    const { node, clock, fetch } = await link({ callsMax: 2 }, {}, { handlers });
    const mail = [1, 2, 3, 4].map((seq) => call(seq));
    node.answer(fetch, { batch: { mail } });
    await clock.advance(99);
    assert.equal(waits.length, 2);
    const second = node.one("fetch");
    assert.deepEqual([second.fetch.mailDone, second.fetch.bytesMax], [0, 512]);
    node.answer(second, { batch: { mail: [call(1)] } });
    await clock.advance(99);
    assert.deepEqual(node.all("fetch"), [], "the node sees one in a tenth of a second");
    await clock.advance(1);
    const third = node.one("fetch");
    node.answer(third, { batch: { mail } });
    waits[0].resolve("");
    await clock.settle();
    assert.deepEqual(node.all("fetch"), [], "its place is taken until the node has the reply");
    node.results(node.one("submit"));
    await clock.settle();
    const fourth = node.one("fetch");
    assert.deepEqual([fourth.fetch.mailDone, fourth.fetch.bytesMax], [1, 0]);
    node.answer(fourth, { batch: { mail: mail.slice(1) } });
    await clock.settle();
    assert.equal(waits.length, 3);
});

test("what a handler throws or gives becomes a status, and a problem where it is one", async () => {
    const problems = [];
    const handlers = (arena) => {
        arena.onProblem((problem) => problems.push([problem.call.method, problem.text]));
        arena.on("throws", () => {
            throw new Error("a secret of ours");
        });
        arena.on("rejects", async () => {
            throw new Error("another");
        });
        arena.on("status", () => {
            throw new ServiceStatus(404, "no such table");
        });
        arena.on("odd", () => ({}));
        arena.on("odd status", () => {
            throw new ServiceStatus(-1);
        });
        arena.on("bytes", async () => Uint8Array.from([65]));
        arena.on("nothing", () => {});
    };
    const { node, clock, fetch } = await link({}, {}, { handlers });
    const methods = [
        "throws",
        "rejects",
        "status",
        "odd",
        "odd status",
        "bytes",
        "nothing",
        "none",
    ];
    node.answer(fetch, { batch: { mail: methods.map((method, i) => call(i + 1, method)) } });
    await clock.settle();
    const replies = repliesOf(node.one("submit")).sort((a, b) => a[0] - b[0]);
    assert.deepEqual(
        replies.map(([, status, payload]) => [status, payload]),
        [
            [500, ""],
            [500, ""],
            [404, "no such table"],
            [500, ""],
            [500, ""],
            [0, "A"],
            [0, ""],
            [404, "no such method"],
        ],
    );
    assert.deepEqual(problems.map(([method]) => method).sort(), [
        "odd",
        "odd status",
        "rejects",
        "throws",
    ]);
    assert.equal(node.one("fetch").fetch.mailDone, methods.length);
});

test("what settles twice is done once", async () => {
    const handlers = (arena) =>
        arena.on("m", () => ({
            then(good, bad) {
                good("one");
                good("two");
                bad(new Error("three"));
            },
        }));
    const { node, clock, fetch } = await link({ callsMax: 1 }, {}, { handlers });
    node.answer(fetch, { batch: { mail: [call(1)] } });
    await clock.settle();
    const submit = node.one("submit");
    assert.deepEqual(repliesOf(submit), [[101, 0, "one"]]);
    node.results(submit);
    await clock.settle();
    assert.deepEqual(node.all("submit"), []);
});

test("a handler that fails with nobody to listen is a line of the log", async () => {
    const handlers = (arena) =>
        arena.on("m", () => {
            throw new Error("oops");
        });
    const { node, clock, fetch, log } = await link({}, {}, { handlers });
    node.answer(fetch, { batch: { mail: [call(1)] } });
    await clock.settle();
    assert.match(log.at(-1), /the handler of "m" failed for alice: Error: oops/);
});

test("whatever a handler throws or gives is no more than a line of the log", async () => {
    const wordless = Object.create(null); // as what parsers of queries and expressions give
    const handlers = (arena) => {
        arena.on("throws", () => {
            throw wordless;
        });
        arena.on("rejects", () => Promise.reject(wordless));
        arena.on("gives", () => wordless);
    };
    const { node, clock, fetch, log } = await link({}, {}, { handlers });
    const methods = ["throws", "rejects", "gives"];
    node.answer(fetch, { batch: { mail: methods.map((method, i) => call(i + 1, method)) } });
    await clock.settle();
    const replies = node.all("submit").flatMap(repliesOf);
    assert.deepEqual(
        replies.map(([, status]) => status),
        [500, 500, 500],
    );
    assert.equal(log.filter((line) => /: something that has no words$/.test(line)).length, 3);
});

test("words of a player in what a handler throws cannot steer a terminal, nor pass for a line", async () => {
    const handlers = (arena) => arena.on("m", (each) => JSON.parse(each.text));
    const { node, clock, fetch, log } = await link({}, {}, { handlers });
    const payload = Buffer.from("\u001b]0;owned\u0007\nusher-backend arena: closed");
    node.answer(fetch, { batch: { mail: [call(1, "m", { payload })] } });
    await clock.settle();
    const lines = log.at(-1).split("\n");
    assert.match(lines[0], /the handler of "m" failed for alice: SyntaxError/);
    assert.doesNotMatch(log.at(-1), /[\u001b\u0007]/);
    assert.ok(lines.slice(1).every((line) => line.startsWith("    ")));
});

test("a one-way call has no reply, and is done when its handler is", async () => {
    const wait = later();
    const handlers = (arena) => arena.on("m", (each) => each.oneWay && wait.promise);
    const { node, clock, fetch } = await link({}, {}, { handlers });
    node.answer(fetch, { batch: { mail: [call(1, "m", { call: 0 })] } });
    wait.resolve("for nobody");
    await clock.settle();
    assert.deepEqual(node.all("submit"), []);
    assert.equal(node.one("fetch").fetch.mailDone, 1);
});

test("mail with a hole is no mail of this link: a new one, and nothing is taken", async () => {
    const seen = [];
    const handlers = (arena) => arena.on("m", (each) => void seen.push(each.payload[0]));
    const { node, clock, fetch, hello, log } = await link({}, {}, { handlers });
    node.answer(fetch, { batch: { mail: [call(2)] } });
    await clock.advance(300);
    assert.ok(node.one("hello").hello.incarnation > hello.hello.incarnation);
    assert.deepEqual(seen, []);
    assert.match(log.at(-1), /mail is missing/);
});

test("control mail is told, and counts", async () => {
    const notices = [];
    const handlers = (arena) => arena.onDrain((notice) => notices.push(notice));
    const { node, clock, fetch } = await link({}, {}, { handlers });
    const control = (seq, kind) => ({ seq, control: { kind, detail: "bye\n" } });
    node.answer(fetch, { batch: { mail: [control(1, 1), control(2, 2), control(3, 9)] } });
    await clock.settle();
    assert.deepEqual(notices, [
        { nodeStops: false, detail: "bye?" },
        { nodeStops: true, detail: "bye?" },
    ]);
    assert.equal(node.one("fetch").fetch.mailDone, 3);
});

test("logins: let in, refused, named, and left without an answer", async () => {
    const verdicts = {
        yes: () => true,
        no: async () => false,
        status: () => {
            throw new ServiceStatus(7);
        },
        named: () => ({ user: "bob", tokenEndsMs: 12345 }),
        rooms: () => ({ rooms: ["key:*", "hall"] }),
        broken: () => {
            throw new Error("the database is away");
        },
        odd: () => undefined,
        "odd text": () => "no",
        "odd number": () => 1,
        "odd list": () => [],
        "odd null": () => null,
        "odd user": () => ({ user: 7 }),
        "odd time": () => ({ tokenEndsMs: "tomorrow" }),
        "odd rooms": () => ({ rooms: "hall" }),
        "odd room": () => ({ user: "bob", rooms: ["hall", 7] }),
        "an error": () => new ServiceStatus(403),
        "some object": () => new Response("no", { status: 403 }),
    };
    const problems = [];
    const handlers = (arena) => {
        arena.onLogin(({ token }) => verdicts[text(token)]());
        arena.onProblem((problem) => problems.push(problem.text));
    };
    const { node, clock, fetch } = await link({}, {}, { handlers });
    const mail = Object.keys(verdicts).map((token, i) => ({
        seq: i + 1,
        auth: {
            call: 201 + i,
            user: "alice",
            token: Uint8Array.from(Buffer.from(token)),
            timeoutMs: 99,
        },
    }));
    node.answer(fetch, { batch: { mail } });
    await clock.settle();
    const replies = commandsOf(node.one("submit")).map(({ replyTo }) => replyTo);
    replies.sort((a, b) => a.call - b.call);
    assert.deepEqual(
        replies.map(({ call, status, payload, tokenEndsMs }) => [
            call,
            status,
            text(payload),
            tokenEndsMs,
        ]),
        [
            [201, 0, "", 0],
            [202, 1, "", 0],
            [203, 7, "", 0],
            [204, 0, "bob", 12345],
            [205, 0, "", 0],
        ],
    );
    assert.deepEqual(replies[4].rooms, ["key:*", "hall"]);
    assert.equal(problems.length, 12);
    assert.equal(node.one("fetch").fetch.mailDone, mail.length);
});

// --- commands ------------------------------------------------------------------------------------

test("commands of one tick leave together, as many as fit a frame, and get their own results", async () => {
    const { arena, node, clock } = await link({}, { frameBytesMax: 1024 });
    const pushes = Array.from({ length: 100 }, (_, i) => arena.push(`user-${i}`, "x".repeat(20)));
    let seq = 0;
    let done = 0;
    for (let submits = 0; done < 100; submits++) {
        await clock.settle();
        const submit = node.one("submit");
        assert.ok(submit.bytes.length <= 1024);
        assert.equal(submit.submit.seq, ++seq);
        assert.equal(submit.submit.link, SECRET_LINK);
        const results = commandsOf(submit).map(({ push }) => {
            assert.deepEqual(push.to, [`user-${done}`]);
            return { code: 0, push: { accepted: done++ } };
        });
        node.results(submit, ...results);
        assert.ok(submits < 10);
    }
    const reports = await Promise.all(pushes);
    assert.deepEqual(
        reports.map(({ accepted }) => accepted),
        pushes.map((_, i) => i),
    );
});

test("a Submit has at most 256 commands", async () => {
    const { arena, node, clock } = await link();
    Array.from({ length: 600 }, () => arena.drain());
    await clock.settle();
    assert.equal(commandsOf(node.one("submit")).length, 256);
});

test("a full queue says BUSY, and room() when to go on; replies are never refused", async () => {
    const handlers = (arena) => echo(arena);
    const { arena, node, clock, fetch } = await link({ queueCommandsMax: 4 }, {}, { handlers });
    const held = arena.drain();
    await clock.settle();
    const first = node.one("submit");
    const waiting = [1, 2, 3, 4].map(() => arena.push("alice", "x"));
    const refused = await arena.push("alice", "x").catch((error) => error);
    assert.ok(refused instanceof UsherError);
    assert.deepEqual([refused.code, refused.done], ["BUSY", "no"]);
    const room = arena.room().then(() => "room");
    assert.equal(await Promise.race([room, "none"]), "none");
    node.answer(fetch, { batch: { mail: [call(1)] } });
    await clock.settle();
    node.results(first);
    await clock.settle();
    assert.equal(await room, "room");
    const second = node.one("submit");
    assert.equal(commandsOf(second).length, 5);
    node.results(second);
    await Promise.all([held, ...waiting, arena.room()]);
});

test("bytes in the queue are limited as well", async () => {
    const { arena, clock } = await link({ queueBytesMax: 1000 });
    const one = arena.push("alice", "x".repeat(900));
    assert.equal(await outcome(arena.push("alice", "x".repeat(200))), "BUSY no");
    await clock.settle();
    assert.equal(await outcome(one), "open");
    assert.equal(
        await outcome(arena.push("alice", "x".repeat(200))),
        "open",
        "what is under way waits no more",
    );
});

test("what no frame can take is refused at once; a reply becomes a status", async () => {
    const problems = [];
    const handlers = (arena) => {
        arena.on("m", () => "x".repeat(20000));
        arena.onProblem(({ text }) => problems.push(text));
    };
    const { arena, node, clock, fetch } = await link({}, {}, { handlers });
    assert.equal(await outcome(arena.push("alice", "x".repeat(16400))), "TOO_LARGE no");
    node.answer(fetch, { batch: { mail: [call(1)] } });
    await clock.settle();
    assert.deepEqual(repliesOf(node.one("submit")), [[101, 500, ""]]);
    assert.deepEqual(problems, ["a reply cannot be sent"]);
});

test("what is no payload, no name or no number is rejected, and not thrown", async () => {
    const { arena, node, clock } = await link();
    for (const promise of [
        arena.push("alice", 7),
        arena.push("alice", {}),
        arena.push("alice", "x", { epoch: 2 ** 53 }),
        arena.push("alice", "x", { epoch: -1 }),
        arena.push([7], "x"),
        arena.push(7, "x"),
        arena.kick(7),
        arena.lookup([7]),
        arena.kick("alice", { reason: 0.5 }),
        arena.pushAll(null),
    ]) {
        await assert.rejects(promise, /Error/);
    }
    await clock.settle();
    assert.deepEqual(node.got, []);
});

test("a push to one has his code in the report; to many there is one report", async () => {
    const { arena, node, clock } = await link();
    const one = arena.push("alice", "x");
    const bad = arena.push(["alice", "bob"], "x");
    const all = arena.pushAll("x");
    await clock.settle();
    node.results(
        node.one("submit"),
        { code: 2 },
        { code: 6 },
        { code: 0, push: { accepted: 5, dropped: 2, failures: [{ user: "eve", code: 4 }] } },
    );
    assert.deepEqual((await one).failures, [{ user: "alice", code: "STALE_EPOCH" }]);
    assert.equal(await outcome(bad), "MALFORMED no");
    assert.deepEqual(await all, {
        accepted: 5,
        dropped: 2,
        failures: [{ user: "eve", code: "INBOX_FULL" }],
        mid: 0,
    });
});

test("names beyond one frame go in parts, and the report is of all", async () => {
    const { arena, node, clock } = await link();
    const names = Array.from({ length: 3000 }, (_, i) => `player-${i}`);
    const push = arena.push(names, "x".repeat(5000));
    const got = [];
    for (let i = 0; i < 10 && got.length < names.length; i++) {
        await clock.settle();
        for (const submit of node.all("submit")) {
            assert.ok(submit.bytes.length <= 16384);
            got.push(...commandsOf(submit).flatMap((command) => command.push.to));
            node.results(
                submit,
                ...commandsOf(submit).map(({ push: { to } }) => ({
                    code: 0,
                    push: { accepted: to.length - 1, failures: [{ user: to[0], code: 1 }] },
                })),
            );
        }
    }
    assert.deepEqual(got, names);
    const report = await push;
    assert.ok(report.failures.length > 1);
    assert.equal(report.accepted + report.failures.length, names.length);
});

test("a push of which one part was not done is one of which nobody knows", async () => {
    const { arena, node, clock } = await link();
    const push = arena.push(
        Array.from({ length: 3000 }, (_, i) => `player-${i}`),
        "x",
    );
    await clock.settle();
    node.results(node.one("submit"), { code: 0, push: { accepted: 1 } });
    for (let i = 0; i < 9; i++) {
        await clock.settle();
        node.all("submit").forEach((submit) => node.results(submit, { code: 7 }));
    }
    assert.equal(await outcome(push), "UNAVAILABLE unknown");
});

test("a kick is true, false, or rejected", async () => {
    const { arena, node, clock } = await link();
    const kicks = [1, 2, 3, 4].map(() =>
        arena.kick("alice", { epoch: 7, detail: "bye", doNotReturn: true }),
    );
    await clock.settle();
    const submit = node.one("submit");
    const { kick } = commandsOf(submit)[0];
    assert.deepEqual(
        [kick.user, kick.epoch, kick.detail, kick.doNotReturn],
        ["alice", 7, "bye", true],
    );
    node.results(submit, { code: 0 }, { code: 1 }, { code: 2 }, { code: 7 });
    assert.deepEqual(await Promise.all(kicks.slice(0, 3)), [true, false, false]);
    assert.equal(await outcome(kicks[3]), "UNAVAILABLE no");
});

test("a transient push that waited for the link for more than a second is not sent", async () => {
    const { arena, node, clock } = await begin();
    const early = arena.push("alice", "old", { transient: true });
    const all = arena.pushAll("old", { transient: true });
    const kept = arena.push("alice", "kept");
    await clock.advance(1001);
    const late = arena.push("alice", "new", { transient: true });
    node.answer(node.one("hello"), { accepted: { link: 5, parkMs: 1000, frameBytesMax: 16384 } });
    await clock.settle();
    const sent = commandsOf(node.one("submit")).map(({ push }) => [
        text(push.payload),
        push.transient,
    ]);
    assert.deepEqual(sent, [
        ["kept", false],
        ["new", true],
    ]);
    assert.equal(await outcome(early), "NOT_SENT no");
    assert.equal(await outcome(all), "NOT_SENT no");
    assert.equal(await outcome(kept), "open");
    assert.equal(await outcome(late), "open");
});

test("transient pushes are given up while the link is away, and make room", async () => {
    const { arena, node, clock } = await begin({ queueCommandsMax: 2 });
    const early = arena.push("alice", "old", { transient: true });
    await clock.advance(600);
    const all = arena.pushAll("old", { transient: true });
    assert.equal(await outcome(arena.push("alice", "no room")), "BUSY no");
    await clock.advance(500);
    assert.equal(await outcome(early), "NOT_SENT no");
    assert.equal(await outcome(all), "open");
    const kept = arena.push("alice", "kept");
    await clock.advance(10000);
    assert.equal(await outcome(all), "NOT_SENT no");
    assert.equal(await outcome(kept), "open");
    assert.deepEqual(node.all("submit"), []);
});

// --- lost links ----------------------------------------------------------------------------------

test("a connection that is lost: the same bytes again, and one result", async () => {
    const { arena, node, clock, states } = await link();
    const push = arena.push("alice", "x");
    await clock.settle();
    const first = node.one("submit");
    first.connection.cut();
    await clock.advance(50);
    const again = node.one("submit");
    assert.deepEqual(again.bytes, first.bytes);
    assert.notEqual(again.connection, first.connection);
    node.results(again, { code: 0, push: { accepted: 1 } });
    assert.equal((await push).accepted, 1);
    const next = arena.drain();
    await clock.settle();
    const second = node.one("submit");
    assert.equal(second.submit.seq, 2);
    node.results(second);
    await next;
    assert.deepEqual(states, ["linked", "lost", "linked"]);
});

test("each loss is told, and each return", async () => {
    const { node, clock, fetch, states, log } = await link();
    fetch.connection.cut();
    await clock.advance(50);
    const second = node.one("fetch");
    node.answer(second, { batch: {} });
    await clock.settle();
    node.one("fetch").connection.cut();
    await clock.advance(50);
    node.answer(node.one("fetch"), { batch: {} });
    await clock.settle();
    assert.deepEqual(states, ["linked", "lost", "linked", "lost", "linked"]);
    assert.match(log.at(-1), /linked to ipc:\/\/\/link as link 7/);
});

test("a node that knows the link no more: what may be done is unknown, what was not sent goes on", async () => {
    const { arena, node, clock, fetch, hello } = await link();
    const sent = arena.push("alice", "sent");
    await clock.settle();
    const submit = node.one("submit");
    const waiting = arena.push("alice", "waiting");
    submit.connection.cut();
    fetch.connection.cut();
    await clock.advance(60);
    node.all("submit").forEach((each) => node.refuse(each, REFUSED.STALE_LINK));
    node.all("fetch").forEach((each) => node.refuse(each, REFUSED.STALE_LINK));
    await clock.settle();
    assert.equal(await outcome(sent), "LOST unknown");
    const anew = node.one("hello");
    assert.equal(anew.hello.incarnation, hello.hello.incarnation);
    assert.equal(anew.hello.nodeBoot, "boot");
    node.answer(anew, { accepted: { link: 99, number: 8, parkMs: 1500, frameBytesMax: 16384 } });
    await clock.settle();
    const next = node.one("submit");
    assert.deepEqual([next.submit.link, next.submit.seq], [99, 1]);
    assert.deepEqual(
        commandsOf(next).map(({ push }) => text(push.payload)),
        ["waiting"],
    );
    node.results(next, { code: 0, push: { accepted: 1 } });
    assert.equal((await waiting).accepted, 1);
});

test("as soon as its link is gone, what is under way and cannot be asked for again is unknown", async () => {
    const { arena, node, clock, fetch } = await link();
    const sent = arena.push("alice", "x");
    await clock.settle();
    node.refuses = () => "ECONNREFUSED";
    node.one("submit").connection.cut();
    await clock.advance(60);
    assert.equal(await outcome(sent), "open");
    node.refuse(fetch, REFUSED.STALE_LINK);
    await clock.advance(1);
    assert.equal(await outcome(sent), "LOST unknown");
});

test("refused as stale when it went out once: it was certainly not done, and goes on", async () => {
    const { arena, node, clock } = await link();
    const push = arena.push("alice", "x");
    await clock.settle();
    node.refuse(node.one("submit"), REFUSED.STALE_LINK);
    await clock.settle();
    node.answer(node.one("hello"), { accepted: { link: 99, parkMs: 1500, frameBytesMax: 16384 } });
    await clock.settle();
    const next = node.one("submit");
    assert.deepEqual([next.submit.link, next.submit.seq], [99, 1]);
    node.results(next, { code: 0, push: { accepted: 1 } });
    assert.equal((await push).accepted, 1);
});

test("what could not even leave is not unknown when the link is lost", async () => {
    const { arena, node, clock, fetch } = await link();
    arena.drain();
    await clock.settle();
    const first = node.one("submit");
    node.results(first);
    await clock.settle();
    // The connection is lost before anything is written to it.
    node.refuses = () => "ECONNREFUSED";
    node.connections.forEach((connection) => connection.cut());
    const push = arena.push("alice", "x");
    await clock.advance(300);
    assert.equal(await outcome(push), "open");
    node.refuses = () => undefined;
    await clock.advance(1000);
    assert.ok(fetch);
    node.all("fetch").forEach((each) => node.refuse(each, REFUSED.STALE_LINK));
    node.all("submit").forEach((each) => node.refuse(each, REFUSED.STALE_LINK));
    await clock.advance(100);
    node.answer(node.one("hello"), { accepted: { link: 99, parkMs: 1500, frameBytesMax: 16384 } });
    await clock.settle();
    node.results(node.one("submit"), { code: 0, push: { accepted: 1 } });
    assert.equal((await push).accepted, 1);
});

test("a reply never goes out on another link than its call came in on", async () => {
    const wait = later();
    const handlers = (arena) =>
        arena.on("m", (each) => (each.payload[0] === 1 ? wait.promise : "now"));
    const { node, clock, fetch } = await link({}, {}, { handlers });
    node.answer(fetch, { batch: { mail: [call(1)] } });
    await clock.advance(1);
    node.refuse(node.one("fetch"), REFUSED.STALE_LINK);
    await clock.settle();
    node.answer(node.one("hello"), { accepted: { link: 99, parkMs: 1500, frameBytesMax: 16384 } });
    await clock.settle();
    wait.resolve("for the old link");
    node.answer(node.one("fetch"), {
        batch: { mail: [call(1, "m", { payload: Uint8Array.from([2]), call: 555 })] },
    });
    await clock.settle();
    assert.deepEqual(repliesOf(node.one("submit")), [[555, 0, "now"]]);
    assert.equal(node.one("fetch").fetch.mailDone, 1);
});

test("an answer to a Fetch of a link of the past is nothing", async () => {
    const seen = [];
    const handlers = (arena) => arena.on("m", (each) => void seen.push(each.payload[0]));
    const { arena, node, clock, fetch } = await link({}, {}, { handlers });
    arena.drain();
    await clock.settle();
    node.refuse(node.one("submit"), REFUSED.STALE_LINK);
    await clock.settle();
    node.answer(node.one("hello"), { accepted: { link: 99, parkMs: 1500, frameBytesMax: 16384 } });
    await clock.settle();
    node.answer(fetch, { batch: { mail: [call(1)] } });
    await clock.settle();
    assert.deepEqual(seen, []);
    assert.deepEqual([node.one("fetch").fetch.link], [99]);
});

test("busy with a Submit: the same again a little later", async () => {
    const { arena, node, clock } = await link();
    const push = arena.push("alice", "x");
    await clock.settle();
    const first = node.one("submit");
    node.refuse(first, REFUSED.BUSY);
    await clock.advance(199);
    assert.deepEqual(node.all("submit"), []);
    await clock.advance(1);
    const again = node.one("submit");
    assert.deepEqual(again.bytes, first.bytes);
    node.results(again, { code: 0, push: { accepted: 1 } });
    await push;
});

test("a Submit that the node does not understand fails its commands, and not those after it", async () => {
    const { arena, node, clock } = await link();
    const bad = arena.push("alice", "x");
    await clock.settle();
    node.refuse(node.one("submit"), REFUSED.MALFORMED, "what?");
    await clock.settle();
    assert.equal(await outcome(bad), "MALFORMED no");
    const good = arena.push("alice", "y");
    await clock.settle();
    const next = node.one("submit");
    assert.equal(next.submit.seq, 1, "the node has counted none");
    node.results(next, { code: 0, push: { accepted: 1 } });
    await good;
});

test("results that do not fit end the link, and nobody knows", async () => {
    for (const results of [
        { seq: 1, results: [] },
        { seq: 2, results: [{ code: 0 }] },
    ]) {
        const { arena, node, clock, log } = await link();
        const push = arena.push("alice", "x");
        await clock.settle();
        node.answer(node.one("submit"), { results });
        await clock.advance(300);
        assert.equal(await outcome(push), "LOST unknown");
        node.one("hello");
        assert.match(log.at(-1), /do not fit/);
    }
});

test("links that end as soon as they are made are made more and more slowly", async () => {
    const { node, clock, fetch } = await link();
    let [hellos, at] = [0, 0];
    node.refuse(fetch, REFUSED.STALE_LINK);
    for (; at < 20000; at += 10) {
        await clock.advance(10);
        for (const hello of node.all("hello")) {
            hellos++;
            node.answer(hello, {
                accepted: { link: 100 + hellos, parkMs: 1500, frameBytesMax: 16384 },
            });
            await clock.settle();
        }
        node.all("fetch").forEach((each) => node.refuse(each, REFUSED.STALE_LINK));
    }
    assert.ok(hellos >= 10 && hellos <= 20, `${hellos}`);
});

test("a Fetch without an answer is sent again, after the park time and three seconds", async () => {
    const { node, clock, fetch } = await link();
    await clock.advance(4499);
    assert.deepEqual(node.got, []);
    await clock.advance(100);
    assert.deepEqual(node.one("fetch").bytes, fetch.bytes);
    assert.ok(fetch.connection.destroyed);
});

test("a program that was busy looks at what came before it says that nothing came", async () => {
    const { arena, node, clock } = await link();
    const push = arena.push("alice", "x");
    await clock.settle();
    const submit = node.one("submit");
    // The timer is due, and in the same turn of the loop the answer is read.
    const [timer] = [...clock.timers.values()].filter(({ due }) => due === clock.time + 2000);
    timer.run();
    node.results(submit, { code: 0, push: { accepted: 1 } });
    await clock.settle();
    assert.equal((await push).accepted, 1);
    assert.ok(!submit.connection.destroyed);
});

test("a connection in its handshake is not closed, but left to the node", async () => {
    const node = new Node();
    node.greets = false;
    const { clock } = await begin({}, { node });
    const [first] = node.connections;
    await clock.advance(2100);
    assert.equal(node.connections.length, 2);
    assert.ok(!first.destroyed);
    first.greet();
    assert.ok(first.destroyed, "now it may be");
    assert.deepEqual(node.got, [], "and nothing was sent on it");
    const second = node.connections[1];
    await clock.advance(2100 + 5000);
    assert.ok(second.destroyed, "nor does it stay for ever");
    assert.ok(node.connections.filter((each) => !each.destroyed).length <= 4);
});

// --- hostile answers -----------------------------------------------------------------------------

const HOSTILE = {
    "an id that nobody asked for": (node, request) =>
        node.answer(
            { ...request, id: (request.id ^ 1) >>> 0 },
            { accepted: { link: 5 }, batch: {} },
        ),
    "noise for an answer": (node, request) =>
        request.connection.say(
            internals.message(true, request.id, Uint8Array.from([255, 255, 255])),
        ),
    "a body of nothing": (node, request) =>
        request.connection.say(internals.message(true, request.id, new Uint8Array(0))),
    "a size beyond all limits": (node, request) =>
        request.connection.say([1, 255, 255, 255, 255, 255, 255, 255, 255]),
    "no size": (node, request) => request.connection.say([1, 0, 0, 0, 0, 0, 0, 0, 0]),
    "no beginning of a message": (node, request) =>
        request.connection.say([7, 0, 0, 0, 0, 0, 0, 0, 9]),
    "two answers": (node, request) => {
        node.answer(request, { results: { seq: 1, results: [{ code: 0 }] } });
        node.answer(request, { results: { seq: 1, results: [{ code: 0 }] } });
    },
    "an answer of another kind": (node, request) => node.answer(request, { batch: {} }),
    "a link of zero": (node, request) => node.answer(request, { accepted: { link: 0 } }),
    "a number beyond 2^53": (node, request) =>
        request.connection.say(
            internals.message(true, request.id, Buffer.from("0a09088080808080808010", "hex")),
        ),
};
for (const [name, hostile] of Object.entries(HOSTILE)) {
    test(`hostile: ${name}`, async () => {
        const { node, clock, arena, log } = await begin();
        const hello = node.one("hello");
        const before = log.length;
        hostile(node, hello);
        await clock.settle();
        assert.ok(log.length > before, "there is a word for it");
        assert.equal(arena.state, "lost");
        await clock.advance(3000);
        // A second try, and all is well.
        const again = node.all("hello");
        assert.ok(again.length >= 1);
        node.answer(again.at(-1), { accepted: { link: 5, parkMs: 1500, frameBytesMax: 16384 } });
        await clock.settle();
        assert.equal(arena.state, "linked");
        // The same on the fetching side.
        hostile(node, node.all("fetch").at(-1));
        await clock.advance(5000);
        for (const each of node.all("hello")) {
            node.answer(each, { accepted: { link: 6, parkMs: 1500, frameBytesMax: 16384 } });
        }
        await clock.settle();
        node.answer(node.all("fetch").at(-1), { batch: {} });
        await clock.settle();
        assert.equal(arena.state, "linked");
    });
}

test("who greets as something else is left, and hears no token", async () => {
    for (const header of [Buffer.from("HTTP/1.1"), [0, 0x53, 0x50, 0, 0, 0x30, 0, 0]]) {
        const node = new Node();
        node.greets = false;
        const { clock, log } = await begin({}, { node });
        node.connections[0].greet(Uint8Array.from(header));
        await clock.settle();
        assert.match(log[0], /it does not speak as usherd's link does/);
        assert.ok(node.connections[0].destroyed);
        assert.deepEqual(node.got, []);
    }
});

test("what a node says for people cannot steer a terminal, and secrets are shown to nobody", async () => {
    const { arena, node, clock, fetch, log } = await link();
    node.refuse(fetch, REFUSED.STALE_LINK, "\u001b]0;owned\u0007\u202e\n");
    await clock.settle();
    assert.match(log.at(-1), /\(\?\]0;owned\?\?\?\)/);
    const shown = log.join("\n") + inspect(arena, { depth: 9, showHidden: true });
    assert.doesNotMatch(shown, new RegExp(SECRET_LINK + "|the-token"));
});

test("listeners that throw harm nobody", async () => {
    const { arena, node, clock, fetch, log } = await link();
    arena.onState(() => {
        throw new Error("mine");
    });
    arena.onState(async () => {
        throw new Error("mine too");
    });
    node.refuse(fetch, REFUSED.STALE_LINK);
    await clock.settle();
    assert.equal(
        log.filter((line) => /a listener of state failed: Error: mine/.test(line)).length,
        2,
    );
    node.one("hello");
});

// --- questions -----------------------------------------------------------------------------------

test("questions have a connection of their own, link 0 and the token, one after the other", async () => {
    const { arena, node, clock, fetch } = await link();
    const [count, lookup] = [arena.count(), arena.lookup(["alice", "bob"])];
    await clock.settle();
    const first = node.one("submit");
    assert.notEqual(first.connection, fetch.connection);
    assert.equal(first.submit.link, 0);
    assert.equal(text(first.submit.token), "the-token");
    const numbers = [
        { name: "sessions", value: 3 },
        { name: "online", value: 2 },
    ];
    node.results(first, { code: 0, numbers: { numbers } });
    assert.deepEqual(await count, { sessions: 3, online: 2 });
    await clock.settle();
    const second = node.one("submit");
    assert.deepEqual(commandsOf(second)[0].lookup.users, ["alice", "bob"]);
    const sessions = [
        { user: "alice", state: 1, epoch: 4 },
        { user: "bob", state: 3 },
    ];
    node.results(second, { code: 0, sessions: { sessions } });
    const found = await lookup;
    assert.deepEqual(
        found.map(({ user, state, epoch }) => [user, state, epoch]),
        [
            ["alice", "ONLINE", 4],
            ["bob", "GONE", 0],
        ],
    );
});

test("a list goes from page to page, and ends where a page does not get ahead", async () => {
    const { arena, node, clock } = await link();
    const list = (async () => {
        const names = [];
        for await (const { user } of arena.list({ prefix: "a" })) {
            names.push(user);
        }
        return names;
    })();
    for (const [after, names, more] of [
        ["", ["a1", "a2"], true],
        ["a2", ["a3"], true],
        ["a3", ["a2"], true],
    ]) {
        await clock.settle();
        const submit = node.one("submit");
        assert.deepEqual(
            [commandsOf(submit)[0].list.prefix, commandsOf(submit)[0].list.after],
            ["a", after],
        );
        node.results(submit, {
            code: 0,
            sessions: { sessions: names.map((user) => ({ user })), more },
        });
    }
    assert.deepEqual(await list, ["a1", "a2", "a3", "a2"]);
});

test("a question is asked again until its time is over, at every address", async () => {
    const { arena, node, clock } = await link({ link: ["ipc:///one", "ipc:///two"] });
    const count = arena.count();
    await clock.settle();
    node.refuse(node.one("submit"), REFUSED.BUSY);
    await clock.advance(200);
    const again = node.one("submit");
    assert.equal(again.connection.address.url, "ipc:///one");
    await clock.advance(1600);
    assert.equal(node.one("submit").connection.address.url, "ipc:///two");
    assert.equal(await outcome(count), "open");
    await clock.advance(1600);
    assert.equal(await outcome(count), "NO_ANSWER no");
});

test("questions that are refused say why", async () => {
    const { arena, node, clock } = await link();
    const [one, two, three] = [arena.count(), arena.stats(), arena.count()];
    await clock.settle();
    node.results(node.one("submit"), { code: 8 });
    await clock.settle();
    node.refuse(node.one("submit"), REFUSED.MALFORMED, "no");
    await clock.settle();
    node.answer(node.one("submit"), { batch: {} });
    await clock.settle();
    assert.equal(await outcome(one), "FORBIDDEN no");
    assert.equal(await outcome(two), "MALFORMED no");
    assert.equal(await outcome(three), "MALFORMED no");
});

// --- the end -------------------------------------------------------------------------------------

test("close waits for handlers, then for what is queued, and tells how far it is", async () => {
    const wait = later();
    const handlers = (arena) => arena.on("m", () => wait.promise);
    const { arena, node, clock, fetch, states } = await link({}, {}, { handlers });
    node.answer(fetch, { batch: { mail: [call(1)] } });
    await clock.settle();
    const closed = arena.close().then(() => "closed");
    const push = arena.push("alice", "the last one");
    await clock.advance(1);
    const during = node.one("fetch");
    node.answer(during, { batch: { mail: [call(1), call(2)] } });
    node.results(node.one("submit"), { code: 0, push: { accepted: 1 } });
    await push;
    wait.resolve("done");
    await clock.settle();
    const reply = node.one("submit");
    assert.deepEqual(repliesOf(reply), [[101, 0, "done"]]);
    // One that says so is left waiting at the node, which then notices that its connection ends.
    const farewell = node.one("fetch");
    assert.deepEqual([farewell.fetch.mailDone, farewell.fetch.waitMs], [1, 0]);
    assert.ok(farewell.fetch.mailHave > 2);
    assert.equal(await Promise.race([closed, "open"]), "open");
    node.results(reply);
    await clock.settle();
    assert.equal(await closed, "closed");
    assert.ok(node.connections.every((each) => each.destroyed));
    assert.deepEqual(states, ["linked", "closed"]);
    assert.equal(await outcome(arena.push("alice", "x")), "CLOSED no");
    await clock.advance(60000);
    assert.deepEqual(node.got, []);
    await arena.close();
});

test("close waits for a handler, and for a command, each by itself", async () => {
    const wait = later();
    const handlers = (arena) => arena.on("m", () => wait.promise);
    const one = await link({}, {}, { handlers });
    one.node.answer(one.fetch, { batch: { mail: [call(1, "m", { call: 0 })] } });
    await one.clock.settle();
    const first = one.arena.close().then(() => "closed");
    await one.clock.advance(300);
    assert.equal(await Promise.race([first, "open"]), "open");
    wait.resolve();
    await one.clock.settle();
    one.node.answer(one.node.one("fetch"), { batch: {} });
    await one.clock.settle();
    assert.equal(one.node.one("fetch").fetch.mailDone, 1);
    assert.equal(await first, "closed");

    const { arena, node, clock } = await link();
    const push = arena.push("alice", "x");
    const second = arena.close().then(() => "closed");
    await clock.advance(300);
    assert.equal(await Promise.race([second, "open"]), "open");
    node.results(node.one("submit"), { code: 0, push: { accepted: 1 } });
    assert.equal((await push).accepted, 1);
    await clock.settle();
    assert.equal(await second, "closed");
});

test("close leaves a Fetch waiting at once, also where mail is left at the node", async () => {
    const { arena, node, clock, fetch } = await link();
    node.answer(fetch, { batch: { mail: [call(1)] } });
    await clock.settle();
    assert.deepEqual(node.all("fetch"), [], "nobody handles calls: the next one comes later");
    const closed = arena.close().then(() => "closed");
    await clock.settle();
    assert.equal(node.one("fetch").fetch.mailDone, 0);
    assert.equal(await Promise.race([closed, "open"]), "closed");
});

test("close gives up what takes too long, and says what became of it", async () => {
    const handlers = (arena) => arena.on("m", () => new Promise(() => {}));
    const { arena, node, clock, fetch } = await link({}, {}, { handlers });
    node.answer(fetch, { batch: { mail: [call(1)] } });
    const sent = arena.push("alice", "x");
    await clock.settle();
    const waiting = arena.push("alice", "y");
    const closed = arena.close({ timeoutMs: 700 }).then(() => "closed");
    await clock.advance(690);
    assert.equal(await Promise.race([closed, "open"]), "open");
    await clock.advance(20);
    assert.equal(await closed, "closed");
    assert.equal(await outcome(sent), "LOST unknown");
    assert.equal(await outcome(waiting), "CLOSED no");
});

test("to wait without end is no millisecond", async () => {
    const overflows = [];
    process.on("warning", ({ name }) => overflows.push(name));
    internals.CLOCK.cancel(internals.CLOCK.after(Infinity, () => {}));
    await new Promise(setImmediate);
    assert.deepEqual(overflows, []);
});

test("close without a link waits for no broker", async () => {
    const { arena, node, clock, linked } = await begin();
    const push = arena.push("alice", "x");
    node.refuses = () => "ENOENT";
    node.connections.forEach((each) => each.cut());
    await clock.settle();
    const closed = arena.close().then(() => "closed");
    await clock.advance(10);
    assert.equal(await closed, "closed");
    assert.equal(await outcome(push), "CLOSED no");
    await assert.rejects(linked, { code: "CLOSED" });
});
