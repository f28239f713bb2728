// SPDX-License-Identifier: Apache-2.0
// Stored messages at the client: each is given once, over all sessions and lives of a page; and the broker
// is told of each as soon as it is processed, and not before.
import assert from "node:assert/strict";
import { codeOf, fakeStorage, loop, scene, watch } from "./support/scene.mjs";
import { ERROR, message } from "./support/scripted.mjs";

/** The broker hands over stored messages: [seq, mid], ... */
const push = (s, ...each) =>
    s.broker.say(...each.map(([seq, mid]) => ({ message: { ...message(seq), mid } })));
const midsOf = (got) => got.map(({ mid }) => mid);

/** The connection is lost, and its session too. Gives the Login. */
async function loginAnew(s, welcome) {
    s.broker.cut();
    await s.clock.advance(500);
    s.broker.open();
    const [{ id }] = s.broker.take();
    s.broker.say({ id, error: { code: ERROR.RESUME_REJECTED } });
    await s.clock.settle();
    const [hello] = s.broker.take();
    s.broker.greet(hello, welcome);
    await s.clock.settle();
    return hello.login;
}

scene("a stored send gives its mid", async (s) => {
    const client = await s.login();
    const sent = watch(client.send("bob", "gift", { keepS: 3600, tag: 2 ** 53 - 1 }));
    const again = watch(client.send("bob", "gift", { keepS: 3600, tag: 2 ** 53 - 1 }));
    const [a, b] = s.broker.take();
    assert.deepEqual([a.send.keepS, a.send.tag], [3600, 2 ** 53 - 1]);
    s.broker.say({ id: b.id, done: { mid: 17, epoch: 3 } }, { id: a.id, done: { mid: 17 } });
    await s.clock.settle();
    assert.deepEqual([sent.value, again.value], [17, 17]);
});

scene("a broker of before says Done without a mid: that is not stored", async (s) => {
    const client = await s.login();
    const stored = watch(client.send("bob", "gift", { keepS: 3600 }));
    const plain = watch(client.send("bob", "hi"));
    const refused = watch(client.send("bob", "hi", { keepS: 9 }));
    const [a, b, c] = s.broker.take();
    s.broker.say({ id: a.id, done: { epoch: 3 } }, { id: b.id, done: { epoch: 3 } });
    s.broker.say({ id: c.id, error: { code: ERROR.NOT_ONLINE } });
    await s.clock.settle();
    assert.deepEqual(codeOf(stored), ["NOT_STORED", "unknown"]);
    assert.equal(plain.value, 3);
    assert.deepEqual(codeOf(refused), ["NOT_ONLINE", "no"]);
    const [, welcome] = client.seen.find(([event]) => event === "welcome");
    assert.deepEqual([welcome.stored, welcome.storedMessages], ["FRESH", 0]);
});

scene("the Welcome says what is stored, the Login what was processed", async (s) => {
    const client = s.start({ lastMid: 41 });
    const got = loop(client);
    await s.clock.settle();
    const { login } = s.broker.welcome({ stored: 2, storedMessages: 7 });
    assert.equal(login.lastMid, 41);
    await s.clock.settle();
    const [, welcome] = client.seen.find(([event]) => event === "welcome");
    assert.deepEqual([welcome.stored, welcome.storedMessages], ["PARTIAL", 7]);
    push(s, [1, 40], [2, 41], [3, 42], [4, 0]);
    await s.clock.settle();
    assert.deepEqual(midsOf(got), [42, 0]);
});

for (const how of ["as they are taken", "with manualAcks"]) {
    scene(`each is given once over all sessions, ${how}`, async (s) => {
        const manualAcks = how === "with manualAcks";
        const client = await s.login({ acks: true, manualAcks });
        const go = [];
        const got = loop(client, () => new Promise((resolve) => go.push(resolve)));
        push(s, [1, 10], [2, 20], [3, 30]);
        await s.clock.settle();
        const done = async (one) => {
            go.shift()();
            if (manualAcks) {
                client.ack(one);
            }
            await s.clock.advance(100);
        };
        await done(got[0]);
        assert.equal(client.lastMid, 10);
        assert.deepEqual(s.broker.take("ack"), [{ seq: 1 }]);
        const login = await loginAnew(s);
        assert.equal(login.lastMid, 10);
        push(s, [1, 20], [2, 30]); // in hand, and waiting
        await s.clock.advance(100);
        assert.deepEqual(s.broker.take("ack"), []);
        await done(got[1]);
        assert.deepEqual(s.broker.take("ack"), [], "of two that follow each other the last counts");
        await done(got[2]);
        assert.deepEqual(s.broker.take("ack"), [{ seq: 2 }]);
        assert.deepEqual(midsOf(got), [10, 20, 30]);
        push(s, [4, 30], [5, 40]); // 3 is missing; 30 comes once more
        await s.clock.settle();
        assert.deepEqual(midsOf(got), [10, 20, 30, 40]);
        assert.equal(got[3].missed, 1);
        await done(got[3]);
        assert.deepEqual(s.broker.take("ack"), [{ seq: 5 }]);
    });
}

scene("what comes again and was processed is acknowledged at once", async (s) => {
    const client = await s.login({ acks: true, lastMid: 30 });
    const got = loop(client);
    push(s, [1, 10], [2, 20], [3, 30]);
    await s.clock.advance(100);
    assert.deepEqual(s.broker.take("ack"), [{ seq: 3 }]);
    assert.deepEqual(got, []);
});

scene("the storage keeps how far a page was, over its ends", async (s) => {
    const midStorage = fakeStorage();
    for (const kept of ["nonsense", "-1", "1e99", undefined]) {
        midStorage.getItem = () => kept;
        assert.equal(s.start({ midStorage, user: "who" }).lastMid, 0);
    }
    const local = fakeStorage();
    const client = await s.login({ acks: true, midStorage: local });
    const got = loop(client);
    push(s, [1, 10], [2, 20]);
    await s.clock.advance(100);
    assert.equal(s.broker.take("ack").length, 1);
    assert.deepEqual([...local.kept.values()], ["20"]);
    push(s, [3, 30]); // and the page ends before it is told
    await s.clock.settle();
    client.close();
    assert.deepEqual([...local.kept.values()], ["30"]);
    const again = s.start({ midStorage: local, lastMid: 7 });
    assert.equal(again.lastMid, 30);
    await s.clock.settle();
    assert.equal(s.broker.welcome().login.lastMid, 30);
    assert.deepEqual(midsOf(got), [10, 20, 30]);
    const other = s.start({ midStorage: local, user: "bob" });
    assert.equal(other.lastMid, 0);
    const forbidden = {
        getItem: () => assert.fail("forbidden"),
        setItem: () => assert.fail("forbidden"),
    };
    assert.equal(s.start({ midStorage: forbidden, user: "eve" }).lastMid, 0);
});

scene("a page that resumes says it too, from the storage of its session", async (s) => {
    const storage = fakeStorage();
    const client = await s.login({ acks: true, storage });
    loop(client);
    push(s, [1, 10]);
    await s.clock.advance(100);
    client.close();
    const again = s.start({ acks: true, storage });
    const got = loop(again);
    await s.clock.settle();
    const { resume } = s.broker.welcome();
    assert.deepEqual([resume.lastSeq, resume.lastMid], [1, 10]);
    push(s, [2, 10], [3, 11]);
    await s.clock.settle();
    assert.deepEqual(midsOf(got), [11]);
});

scene("what is processed after the end is kept, too", async (s) => {
    const local = fakeStorage();
    const client = await s.login({ acks: true, midStorage: local });
    const go = [];
    loop(client, () => new Promise((resolve) => go.push(resolve)));
    push(s, [1, 10]);
    await s.clock.settle();
    client.close();
    assert.equal(local.kept.size, 0);
    go[0]();
    await s.clock.advance(100);
    assert.deepEqual([...local.kept.values()], ["10"]);
});
