// SPDX-License-Identifier: Apache-2.0
// The rules of a session, against a broker that is scripted and with a clock of its own.
import assert from "node:assert/strict";
import {
    closed,
    codeOf,
    fakeStorage,
    loop,
    scene,
    states,
    StatusError,
    URL_OF_ALL,
    UsherError,
    watch,
} from "./support/scene.mjs";
import { CLOSE, ERROR, message, SECRET } from "./support/scripted.mjs";

// --- greeting ------------------------------------------------------------------------------------

scene("a login says who one is, and its Welcome makes the client ready", async (s) => {
    const client = s.start({ token: "t", client: "game/1", acks: true });
    const ready = watch(client.ready);
    assert.equal(client.state, "connecting");
    await s.clock.settle();
    assert.equal(s.broker.socket.url, URL_OF_ALL);
    assert.equal(s.broker.socket.protocol, "usher.v1");
    const { id, login } = s.broker.welcome({ tokenMs: 7, timeMs: 9 });
    assert.ok(id > 0);
    const token = Uint8Array.from([116]);
    const fields = { username: "alice", token, client: "game/1", acks: true, lastMid: 0 };
    assert.deepEqual(login, fields);
    await s.clock.settle();
    assert.equal(ready.value.epoch, s.broker.epoch);
    assert.equal(ready.value.secret, undefined);
    assert.deepEqual(
        [ready.value.replay, ready.value.tokenMs, ready.value.node],
        ["FRESH", 7, "n"],
    );
    assert.deepEqual(states(client), ["online"]);
});

scene("a login that is never answered is given up, and tried again", async (s) => {
    const client = s.start();
    await s.clock.settle();
    s.broker.open();
    await s.clock.advance(9999);
    assert.equal(client.state, "connecting");
    await s.clock.advance(2);
    assert.equal(client.state, "waiting");
    assert.ok(s.broker.socket.ended);
    await s.clock.advance(500);
    assert.equal(s.broker.sockets.length, 2);
    s.broker.sockets[0].onclose({ code: 1006, reason: "" }); // nobody listens to it any more
    s.broker.welcome();
    assert.equal(client.state, "online");
});

scene("an address that is none ends the client, and says why", async (s) => {
    const Bad = class {
        constructor() {
            throw new SyntaxError("no address");
        }
    };
    const client = s.start({ webSocket: Bad });
    const ready = watch(client.ready);
    await s.clock.settle();
    assert.equal(client.state, "ended");
    assert.match(client.ended.detail, /no address/);
    assert.ok(ready.error instanceof UsherError);
});

scene("refusals that pass are tried again, others end the client", async (s) => {
    const client = s.start();
    await s.clock.settle();
    s.broker.open();
    const [{ id }] = s.broker.take();
    s.broker.say({ id, error: { code: ERROR.BUSY, retryAfterMs: 4000 } });
    assert.equal(client.state, "waiting");
    await s.clock.advance(3999);
    assert.equal(s.broker.sockets.length, 1);
    await s.clock.advance(1);
    assert.equal(s.broker.sockets.length, 2);
    s.broker.open();
    const [again] = s.broker.take();
    const ready = watch(client.ready);
    s.broker.say({ id: again.id, error: { code: 4, detail: "no such name" } });
    await s.clock.settle();
    assert.equal(client.state, "ended");
    assert.equal(client.ended.reason, "INVALID_NAME");
    assert.deepEqual(codeOf(ready), ["INVALID_NAME", "no"]);
    await s.clock.advance(100000);
    assert.equal(s.broker.sockets.length, 2);
});

scene("something else than a Welcome is no broker", async (s) => {
    const client = s.start();
    await s.clock.settle();
    s.broker.open();
    s.broker.push(1);
    assert.equal(client.state, "waiting");
    await s.clock.advance(500);
    s.broker.welcome();
    s.broker.socket.onmessage({ data: Uint8Array.from([200, 1, 9]).buffer });
    assert.equal(client.state, "waiting");
    assert.deepEqual(closed(client).at(-1).reason, "PROTOCOL_ERROR");
});

// --- tokens --------------------------------------------------------------------------------------

scene(
    "the token is asked for each login and no resume; a rejected resume logs in there",
    async (s) => {
        let asked = 0;
        const client = await s.login({ token: async () => "token " + ++asked });
        assert.equal(asked, 1);
        s.broker.cut();
        await s.clock.advance(500);
        assert.ok(s.broker.welcome().resume);
        assert.equal(asked, 1);
        s.broker.cut();
        await s.clock.advance(1000);
        s.broker.open();
        const [{ id, resume }] = s.broker.take();
        assert.ok(resume);
        s.broker.say({ id, error: { code: ERROR.RESUME_REJECTED } });
        await s.clock.settle();
        const sockets = s.broker.sockets.length;
        const [hello] = s.broker.take();
        assert.equal(new TextDecoder().decode(hello.login.token), "token 2");
        s.broker.greet(hello);
        assert.equal(client.state, "online");
        assert.equal(s.broker.sockets.length, sockets);
        assert.equal(client.seen.at(-1)[1].replay, "FRESH");
    },
);

scene("a token that cannot be had now is asked for again later", async (s) => {
    let fails = 2;
    const client = s.start({
        token: async () => {
            if (fails-- > 0) {
                throw new Error("the shop is closed");
            }
            return "t";
        },
    });
    await s.clock.settle();
    assert.equal(client.state, "waiting");
    assert.match(closed(client)[0].detail, /the shop is closed/);
    assert.equal(s.broker.sockets.length, 0);
    await s.clock.advance(1500);
    s.broker.welcome();
    assert.equal(client.state, "online");
});

for (const how of ["error", "close"]) {
    scene(
        `a refused token is asked for once more, and refused again it is the end: ${how}`,
        async (s) => {
            const refuse = () => {
                s.broker.open();
                const [{ id }] = s.broker.take();
                s.broker.say(
                    how === "error"
                        ? { id, error: { code: ERROR.UNAUTHENTICATED, detail: "old" } }
                        : { close: { reason: CLOSE.AUTH_FAILED, detail: "old" } },
                );
            };
            let asked = 0;
            const client = s.start({ token: () => "token " + ++asked });
            await s.clock.settle();
            refuse();
            assert.equal(client.state, "waiting");
            await s.clock.advance(500);
            assert.equal(asked, 2);
            refuse();
            assert.equal(client.state, "ended");
            const one = s.start({ token: "fixed" });
            await s.clock.settle();
            refuse();
            assert.equal(one.state, "ended");
            assert.match(one.ended.reason, /^(UNAUTHENTICATED|AUTH_FAILED)$/);
        },
    );
}

scene("a token that comes too late is not used for another try", async (s) => {
    const given = [];
    s.start({ token: () => new Promise((resolve) => given.push(resolve)) });
    await s.clock.advance(10000 + 500);
    assert.equal(given.length, 2);
    given[0]("late");
    await s.clock.settle();
    assert.equal(s.broker.sockets.length, 0);
    given[1]("good");
    await s.clock.settle();
    assert.equal(new TextDecoder().decode(s.broker.welcome().login.token), "good");
});

scene("a session that ends with its token begins anew with another", async (s) => {
    let asked = 0;
    const client = await s.login({ token: () => "token " + ++asked });
    s.broker.say({ close: { reason: CLOSE.TOKEN_EXPIRED } });
    assert.equal(client.state, "waiting");
    await s.clock.advance(500);
    assert.ok(s.broker.welcome().login);
    assert.equal(asked, 2);
});

// --- requests ------------------------------------------------------------------------------------

scene("send, call, post and postCall, and what their answers are", async (s) => {
    const client = await s.login();
    const sent = watch(client.send("bob", "hé"));
    const delivered = watch(client.send("bob", Uint8Array.of(7), { delivered: true }));
    const called = watch(client.call("shop", "buy", "sword", { timeoutMs: 1234 }));
    const failed = watch(client.call("shop", "buy"));
    assert.equal(client.post("bob", "x"), true);
    assert.equal(client.postCall("shop", "look"), true);
    const [a, b, c, d, e, f] = s.broker.take();
    assert.deepEqual(a.send, {
        to: "bob",
        payload: new TextEncoder().encode("hé"),
        until: 0,
        transient: false,
        keepS: 0,
        tag: 0,
        traceparent: "",
    });
    assert.equal(b.send.until, 1);
    assert.deepEqual([c.call.service, c.call.method, c.call.timeoutMs], ["shop", "buy", 1234]);
    assert.deepEqual([e.id, e.send.to, f.id, f.call.method], [0, "bob", 0, "look"]);
    assert.equal(new Set([a.id, b.id, c.id, d.id]).size, 4);
    // Out of their order, twice, and to nobody.
    s.broker.say({ id: c.id, reply: { payload: Uint8Array.of(1, 2) } });
    s.broker.say({ id: d.id, reply: { status: 40, payload: Uint8Array.of(3) } });
    s.broker.say({ id: a.id, done: { epoch: 77 } }, { id: a.id, error: { code: 7 } });
    s.broker.say({ id: 999, done: {} }, { error: { code: 1 } });
    s.broker.say({ id: b.id, done: {} });
    await s.clock.settle();
    assert.equal(sent.value, 77);
    assert.equal(delivered.value, 0);
    assert.deepEqual(called.value, Uint8Array.of(1, 2));
    assert.ok(failed.error instanceof StatusError);
    assert.deepEqual([failed.error.status, failed.error.payload], [40, Uint8Array.of(3)]);
});

scene("a traceparent goes with what it is given to, and comes with a message", async (s) => {
    const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const client = await s.login();
    const with_ = (traceparent) => {
        watch(client.send("bob", "x", { traceparent }));
        watch(client.call("shop", "buy", "", { traceparent }));
        client.post("bob", "x", { traceparent });
        client.postCall("shop", "buy", "", { traceparent });
        return s.broker.take().map(({ send, call }) => (send ?? call).traceparent);
    };
    assert.deepEqual(with_(traceparent), Array(4).fill(traceparent));
    for (const none of [
        undefined,
        "",
        null,
        7,
        traceparent + "0",
        "\0".repeat(55),
        "é".repeat(55),
        "0".repeat(65),
    ]) {
        assert.deepEqual(with_(none), Array(4).fill(""), `${none}`);
    }
    const got = [];
    client.on("message", (message) => void got.push(message.traceparent));
    s.broker.say(
        { message: { seq: 1, from: "bob", traceparent } },
        { message: { seq: 2, from: "bob" } },
    );
    await s.clock.settle();
    assert.deepEqual(got, [traceparent, ""]);
});

scene("whether it was done, by each code", async (s) => {
    const client = await s.login({ requestsMax: 100 });
    const expected = { NOT_ONLINE: "no", INBOX_FULL: "no", BUSY: "no", UNAVAILABLE: "no" };
    Object.assign(expected, { RATE_LIMITED: "no", NO_SERVICE: "no", TOO_LARGE: "unknown" });
    Object.assign(expected, { TIMEOUT: "unknown", SERVICE_LOST: "unknown", DRAINING: "unknown" });
    Object.assign(expected, { UNDELIVERED: "unknown", INTERNAL: "unknown", UNKNOWN: "unknown" });
    const numbers = { NO_SERVICE: 8, SERVICE_LOST: 10, RATE_LIMITED: 12, UNDELIVERED: 14 };
    Object.assign(numbers, { INTERNAL: 17, UNKNOWN: 99 }, ERROR);
    for (const [code, done] of Object.entries(expected)) {
        const outcome = watch(client.call("shop", "buy"));
        const [{ id }] = s.broker.take();
        s.broker.say({ id, error: { code: numbers[code], detail: "why", retryAfterMs: 5 } });
        await s.clock.settle();
        assert.deepEqual(codeOf(outcome), [code, done]);
        assert.equal(outcome.error.retryAfterMs, 5);
        assert.match(outcome.error.message, /why/);
    }
    const send = watch(client.send("bob", "x"));
    s.broker.say({ id: s.broker.take()[0].id, error: { code: ERROR.TOO_LARGE } });
    await s.clock.settle();
    assert.deepEqual(codeOf(send), ["TOO_LARGE", "no"]); // no service could have acted
});

scene("what is asked for before the Welcome waits for it, in its order", async (s) => {
    const client = s.start();
    const outcome = watch(client.send("bob", "1"));
    client.post("bob", "2");
    client.call("shop", "3").catch(() => {});
    await s.clock.settle();
    s.broker.open();
    const [hello, ...others] = s.broker.take();
    assert.equal(others.length, 0);
    s.broker.greet(hello);
    const frames = s.broker.take();
    assert.deepEqual(
        frames.map((frame) => frame.send?.payload[0] ?? frame.call.method.charCodeAt(0)),
        [49, 50, 51],
    );
    s.broker.say({ id: frames[0].id, done: { epoch: 5 } });
    await s.clock.settle();
    assert.equal(outcome.value, 5);
});

scene(
    "a lost connection: what was sent is unknown at once, what was not is sent once later",
    async (s) => {
        const client = await s.login();
        const sent = watch(client.send("bob", "1"));
        const [{ id }] = s.broker.take();
        s.broker.cut();
        const waits = watch(client.send("bob", "2"));
        await s.clock.settle();
        assert.deepEqual(codeOf(sent), ["NO_ANSWER", "unknown"]);
        assert.equal(waits.settled, 0);
        await s.clock.advance(500);
        s.broker.welcome();
        const frames = s.broker.take();
        assert.equal(frames.length, 1);
        assert.notEqual(frames[0].id, id);
        s.broker.say({ id, done: { epoch: 1 } }); // of the one that was given up
        s.broker.say({ id: frames[0].id, done: { epoch: 2 } });
        s.broker.cut();
        await s.clock.advance(1000);
        s.broker.welcome();
        assert.equal(s.broker.take("send").length, 0);
        await s.clock.settle();
        assert.equal(waits.value, 2);
        assert.deepEqual([sent.settled, waits.settled], [1, 1]);
    },
);

scene("a transient message goes now or never, and a dropped one is 0", async (s) => {
    const client = s.start();
    const early = watch(client.send("bob", "1", { transient: true }));
    assert.equal(client.post("bob", "1", { transient: true }), false);
    await s.clock.settle();
    assert.deepEqual(codeOf(early), ["NOT_SENT", "no"]);
    s.broker.welcome();
    const went = watch(client.send("bob", "2", { transient: true }));
    const dropped = watch(client.send("bob", "3", { transient: true }));
    assert.equal(client.post("bob", "4", { transient: true }), true);
    assert.equal(client.post("bob", "5"), true);
    const frames = s.broker.take();
    assert.deepEqual(
        frames.map((frame) => frame.send.transient),
        [true, true, true, false],
    );
    s.broker.say({ id: frames[0].id, done: { epoch: 9 } });
    s.broker.say({ id: frames[1].id, done: { epoch: 9, dropped: true } });
    await s.clock.settle();
    assert.deepEqual([went.value, dropped.value], [9, 0]);
});

scene("what waits is bounded, by number and by bytes, at n and n + 1", async (s) => {
    const client = s.start({ requestsMax: 3, queueBytesMax: 100000 });
    const all = [1, 2, 3].map(() => watch(client.send("bob", "x")));
    const fourth = watch(client.send("bob", "x"));
    assert.equal(client.post("bob", "1"), false);
    await s.clock.settle();
    assert.deepEqual(codeOf(fourth), ["NOT_SENT", "no"]);
    assert.deepEqual(
        all.map((outcome) => outcome.settled),
        [0, 0, 0],
    );
    const other = s.start({ queueBytesMax: 1000 });
    assert.ok(other.post("bob", new Uint8Array(5000))); // one may be larger by itself
    assert.equal(other.post("bob", "x"), false);
    const posts = s.start({ requestsMax: 3 });
    assert.deepEqual(
        [1, 2, 3, 4].map(() => posts.post("bob", "x")),
        [true, true, true, false],
    );
});

scene("what the socket has not taken counts as waiting", async (s) => {
    const client = await s.login({ queueBytesMax: 1000 });
    s.broker.socket.bufferedAmount = 1001;
    assert.equal(client.post("bob", "x"), false);
    s.broker.socket.bufferedAmount = 1000;
    assert.equal(client.post("bob", "x"), true);
});

scene("what the broker would not take never leaves", async (s) => {
    const client = await s.login({}, { frameBytesMax: 100 });
    const outcomes = ["", "a b", "x".repeat(65), "é", "a\0"].map((name) =>
        watch(client.send(name, "")),
    );
    outcomes.push(watch(client.call("shop", "a\0b")));
    const small = watch(client.send("bob", new Uint8Array(89)));
    const large = watch(client.send("bob", new Uint8Array(90)));
    await s.clock.settle();
    outcomes.forEach((outcome) => assert.deepEqual(codeOf(outcome), ["INVALID_NAME", "no"]));
    assert.deepEqual(codeOf(large), ["TOO_LARGE", "no"]);
    assert.equal(small.settled, 0);
    assert.equal(s.broker.take().length, 1);
    assert.equal(client.post("a b", "x"), false);
});

scene("patience: unsent it is not done, sent it is unknown, each by its own time", async (s) => {
    const client = await s.login({ requestTimeoutMs: 20000 });
    const sent = watch(client.send("bob", "1"));
    const short = watch(client.send("bob", "1", { timeoutMs: 3000 }));
    const call = watch(client.call("shop", "buy", "", { timeoutMs: 3000 }));
    await s.clock.advance(3001);
    assert.deepEqual(codeOf(short), ["NO_ANSWER", "unknown"]);
    assert.equal(call.settled, 0); // the broker's word is waited for
    await s.clock.advance(2000);
    assert.deepEqual(codeOf(call), ["NO_ANSWER", "unknown"]);
    await s.clock.advance(15000);
    assert.deepEqual(codeOf(sent), ["NO_ANSWER", "unknown"]);
    s.broker.cut();
    s.broker.WebSocket.prototype.send = () => {};
    const unsent = watch(client.send("bob", "2", { timeoutMs: 100 }));
    await s.clock.advance(101);
    assert.deepEqual(codeOf(unsent), ["NOT_SENT", "no"]);
});

scene("after a stall an answer that waits comes before its timer judges", async (s) => {
    const client = await s.login();
    const outcome = watch(client.send("bob", "1"));
    const [{ id }] = s.broker.take();
    await s.clock.stall(60000);
    assert.equal(outcome.settled, 0);
    s.broker.say({ id, done: { epoch: 3 } });
    await s.clock.settle();
    assert.equal(outcome.value, 3);
});

// --- messages ------------------------------------------------------------------------------------

scene("a loop gets messages, and each is acknowledged when it is left", async (s) => {
    const client = await s.login({ acks: true });
    const go = [];
    const got = loop(client, () => new Promise((resolve) => go.push(resolve)));
    s.broker.push(1, 2);
    await s.clock.settle();
    const [first] = got;
    assert.deepEqual([first.seq, first.from, first.service, first.timeMs], [1, "bob", "", 5]);
    assert.deepEqual([first.missed, first.redelivered, first.epoch], [0, false, s.broker.epoch]);
    assert.deepEqual([first.payload, first.text], [Uint8Array.of(1), "\x01"]);
    await s.clock.advance(1000);
    assert.deepEqual(s.broker.take("ack"), []);
    go.shift()();
    await s.clock.advance(49);
    assert.deepEqual(s.broker.take("ack"), []);
    await s.clock.advance(1);
    assert.deepEqual(s.broker.take("ack"), [{ seq: 1 }]);
    go.shift()();
    await s.clock.advance(50);
    assert.deepEqual(s.broker.take("ack"), [{ seq: 2 }]);
    await s.clock.advance(10000);
    assert.deepEqual(s.broker.take("ack"), []);
});

scene("sixteen are acknowledged at once, a hundred in one message together", async (s) => {
    const client = await s.login({ acks: true });
    client.on("message", () => {});
    s.broker.push(...Array.from({ length: 15 }, (_, i) => i + 1));
    await s.clock.advance(1);
    assert.deepEqual(s.broker.take("ack"), []);
    s.broker.push(16);
    await s.clock.advance(0);
    assert.deepEqual(s.broker.take("ack"), [{ seq: 16 }]);
    s.broker.push(...Array.from({ length: 100 }, (_, i) => i + 17));
    await s.clock.advance(0);
    assert.deepEqual(s.broker.take("ack"), [{ seq: 116 }]);
});

scene("a listener that gives a promise has left the message when it is settled", async (s) => {
    const client = await s.login({ acks: true });
    const go = [];
    client.on("message", () => new Promise((resolve) => go.push(resolve)));
    s.broker.push(1, 2);
    await s.clock.advance(1000);
    assert.equal(go.length, 1);
    assert.deepEqual(s.broker.take("ack"), []);
    go[0]();
    await s.clock.advance(1000);
    assert.deepEqual(s.broker.take("ack"), [{ seq: 1 }]);
    assert.equal(go.length, 2);
});

scene("a loop that is left leaves its message", async (s) => {
    const client = await s.login({ acks: true });
    s.broker.push(1, 2);
    for await (const one of client.messages()) {
        assert.equal(one.seq, 1);
        break;
    }
    await s.clock.advance(50);
    assert.deepEqual(s.broker.take("ack"), [{ seq: 1 }]);
});

scene("two loops share: processed is what all before it is, too", async (s) => {
    const client = await s.login({ acks: true });
    const go = {};
    const each = (one) => new Promise((resolve) => (go[one.seq] = resolve));
    loop(client, each);
    loop(client, each);
    s.broker.push(1, 2, 3);
    await s.clock.settle();
    go[2]();
    await s.clock.advance(100);
    assert.deepEqual(s.broker.take("ack"), []);
    go[1]();
    await s.clock.advance(100);
    assert.deepEqual(s.broker.take("ack"), [{ seq: 2 }]);
});

scene(
    "with manualAcks nothing is acknowledged but by the program, nor what is of another epoch",
    async (s) => {
        const client = await s.login({ acks: true, manualAcks: true });
        const got = loop(client);
        s.broker.push(1, 2, 3);
        await s.clock.advance(1000);
        assert.deepEqual(s.broker.take("ack"), []);
        client.ack(got[1]);
        client.ack(got[0]);
        await s.clock.advance(50);
        assert.deepEqual(s.broker.take("ack"), [{ seq: 2 }]);
        s.broker.cut();
        await s.clock.advance(500);
        s.broker.open();
        s.broker.say({ id: s.broker.take()[0].id, error: { code: ERROR.RESUME_REJECTED } });
        await s.clock.settle();
        s.broker.greet(s.broker.take()[0]);
        s.broker.push(1, 2, 3, 4);
        client.ack(got[2]);
        await s.clock.advance(1000);
        assert.deepEqual(s.broker.take("ack"), []);
        client.ack(got.at(-1));
        await s.clock.advance(50);
        assert.deepEqual(s.broker.take("ack"), [{ seq: 4 }]);
    },
);

scene("what waits is acknowledged at once before a logout, and by a close", async (s) => {
    const client = await s.login({ acks: true });
    const got = loop(client);
    s.broker.push(1, 2);
    await s.clock.settle();
    const out = watch(client.logout());
    assert.equal(got.length, 2);
    const frames = s.broker.take();
    assert.deepEqual([frames[0].ack, !!frames[1].logout], [{ seq: 2 }, true]);
    s.broker.say({ id: frames[1].id, done: {} }, { close: { reason: CLOSE.LOGGED_OUT } });
    await s.clock.settle();
    assert.equal(out.settled, 1);
    assert.equal(out.error, undefined);
    assert.equal(client.state, "ended");
    assert.equal(client.ended.reason, "LOGGED_OUT");
    assert.ok(got.over);
    const other = await s.login({ acks: true });
    other.on("message", () => {});
    await s.clock.settle();
    s.broker.push(1);
    await s.clock.settle();
    other.close();
    assert.deepEqual(s.broker.take("ack"), [{ seq: 1 }]);
});

scene("a resume says how far one is, and nothing comes twice", async (s) => {
    const client = await s.login({ acks: true });
    const go = [];
    const got = loop(client, () => new Promise((resolve) => go.push(resolve)));
    s.broker.push(1, 2, 3, 4);
    await s.clock.settle();
    go.shift()();
    await s.clock.settle();
    go.shift()();
    await s.clock.settle(); // 1 and 2 are left, 3 is in hand, 4 waits
    s.broker.cut();
    await s.clock.advance(500);
    const { resume } = s.broker.welcome({ replay: 1 });
    const { epoch } = s.broker;
    const fields = { username: "alice", epoch, secret: SECRET, lastSeq: 2, receivedSeq: 4 };
    assert.deepEqual(resume, { ...fields, lastMid: 0 });
    s.broker.push(3, 4, 5, 7);
    go.shift()();
    await s.clock.settle();
    while (go.length) {
        go.shift()();
        await s.clock.settle();
    }
    assert.deepEqual(
        got.map((one) => one.seq),
        [1, 2, 3, 4, 5, 7],
    );
    assert.deepEqual(
        got.map((one) => one.missed),
        [0, 0, 0, 0, 0, 1],
    );
    await s.clock.advance(50);
    assert.deepEqual(s.broker.take("ack"), [{ seq: 7 }]);
});

scene(
    "what is processed between Resume and Welcome is acknowledged with the Welcome",
    async (s) => {
        const client = await s.login({ acks: true });
        const go = [];
        loop(client, () => new Promise((resolve) => go.push(resolve)));
        s.broker.push(1);
        await s.clock.settle();
        s.broker.cut();
        await s.clock.advance(500);
        s.broker.open();
        const [hello] = s.broker.take();
        assert.equal(hello.resume.lastSeq, 0);
        go[0]();
        await s.clock.advance(100);
        s.broker.greet(hello);
        assert.deepEqual(s.broker.take("ack"), [{ seq: 1 }]);
    },
);

scene("without acks what came is what counts, and nothing is acknowledged", async (s) => {
    const client = await s.login();
    loop(client, () => new Promise(() => {}));
    s.broker.push(1, 2, 3);
    s.broker.cut();
    await s.clock.advance(500);
    const { resume } = s.broker.welcome({ replay: 2 });
    assert.deepEqual([resume.lastSeq, resume.receivedSeq], [3, 3]);
    await s.clock.advance(1000);
    assert.deepEqual(s.broker.take("ack"), []);
    const events = client.seen.map(([event]) => event);
    assert.equal(events.filter((event) => event === "partial").length, 1);
});

scene("a broker that counts from an earlier number has new messages under old ones", async (s) => {
    const client = await s.login({ acks: true });
    const got = loop(client);
    s.broker.push(1, 2, 3);
    await s.clock.advance(50);
    s.broker.take();
    s.broker.cut();
    await s.clock.advance(500);
    s.broker.welcome({ nextSeq: 2 });
    s.broker.push(2, 3);
    await s.clock.advance(50);
    assert.deepEqual(
        got.map((one) => one.seq),
        [1, 2, 3, 2, 3],
    );
    assert.deepEqual(s.broker.take("ack"), [{ seq: 3 }]);
});

scene("a message without a number is given as it comes, and never acknowledged", async (s) => {
    const client = await s.login({ acks: true });
    const got = loop(client);
    s.broker.push(0, 1, 0, 0);
    await s.clock.advance(50);
    assert.deepEqual(
        got.map((one) => one.seq),
        [0, 1, 0, 0],
    );
    assert.deepEqual(s.broker.take("ack"), [{ seq: 1 }]);
});

scene("too many that are not taken: the connection is given up until half is", async (s) => {
    const client = await s.login({ acks: true, unreadMax: 8 });
    s.broker.push(1, 2, 3, 4, 5, 6, 7, 8);
    assert.equal(client.state, "online");
    s.broker.push(0); // worth something now or never
    assert.equal(client.state, "online");
    s.broker.push(9, 10);
    assert.equal(client.state, "waiting");
    assert.ok(s.broker.socket.ended);
    await s.clock.advance(100000);
    assert.equal(s.broker.sockets.length, 1);
    const taken = client.messages();
    for (const seq of [1, 2, 3, 4]) {
        assert.equal((await taken.next()).value.seq, seq);
        assert.equal(s.broker.sockets.length, 1);
    }
    assert.equal((await taken.next()).value.seq, 5);
    await s.clock.settle();
    assert.equal(s.broker.sockets.length, 2);
    const { resume } = s.broker.welcome();
    assert.deepEqual([resume.lastSeq, resume.receivedSeq], [4, 8]);
    s.broker.push(5, 6, 7, 8, 9, 10);
    for (const seq of [6, 7, 8, 9, 10]) {
        assert.equal((await taken.next()).value.seq, seq);
    }
});

scene("too many bytes that are not taken do the same", async (s) => {
    const client = await s.login({ unreadBytesMax: 1000 });
    s.broker.say({ message: message(1, 1000) });
    s.broker.say({ message: message(2, 1) });
    assert.equal(client.state, "online");
    s.broker.say({ message: message(3, 1) });
    assert.equal(client.state, "waiting");
});

scene("what waits when the client ends can still be taken", async (s) => {
    const client = await s.login();
    s.broker.push(1, 2);
    client.close();
    const got = loop(client);
    await s.clock.settle();
    assert.deepEqual([got.length, got.over], [2, true]);
});

scene("a fault of a listener is told, and harms nobody", async (s) => {
    const client = await s.login({ acks: true });
    const got = [];
    const off = client.on("message", () => {
        throw new Error("mine");
    });
    client.on("message", async () => {
        throw new Error("mine too");
    });
    const offThird = client.on("message", (one) => {
        got.push(one.seq);
        offThird();
    });
    s.broker.push(1);
    await s.clock.advance(50);
    assert.deepEqual(s.clock.thrown.splice(0).map(String), ["Error: mine", "Error: mine too"]);
    assert.deepEqual(s.broker.take("ack"), [{ seq: 1 }]);
    off();
    s.broker.push(2);
    await s.clock.advance(50);
    assert.deepEqual(s.clock.thrown.splice(0).map(String), ["Error: mine too"]);
    assert.deepEqual(got, [1]);
});

// --- coming back ---------------------------------------------------------------------------------

scene("pauses double from half a second to thirty, half of each is random", async (s) => {
    for (const random of [0, 0.999]) {
        Math.random = () => random;
        const client = s.start();
        const pauses = [];
        client.on("closed", ({ retryAfterMs }) => pauses.push(retryAfterMs));
        for (let i = 0; i < 9; i++) {
            await s.clock.settle();
            const sockets = s.broker.sockets.length;
            s.broker.cut();
            await s.clock.advance(pauses.at(-1) - 1);
            assert.equal(s.broker.sockets.length, sockets);
            await s.clock.advance(1);
            assert.equal(s.broker.sockets.length, sockets + 1);
        }
        const full = [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000];
        assert.deepEqual(
            pauses,
            full.map((ms) => Math.ceil((ms * (1 + random)) / 2)),
        );
        client.close();
    }
});

scene("the doubling begins anew only after a connection that lasted", async (s) => {
    Math.random = () => 0.999;
    const client = await s.login();
    const pause = () => closed(client).at(-1).retryAfterMs;
    const again = async (lasts) => {
        await s.clock.advance(lasts);
        s.broker.cut();
        await s.clock.advance(pause());
        s.broker.welcome();
    };
    await again(4999);
    assert.equal(pause(), 500);
    await again(4999);
    assert.equal(pause(), 1000);
    await again(5000);
    assert.equal(pause(), 500);
});

scene(
    "nobody comes before retry_after_ms, whatever happens; nor is he sent away for ever",
    async (s) => {
        globalThis.addEventListener = (name, run) => (listeners[name] = run);
        globalThis.removeEventListener = () => {};
        const listeners = {};
        try {
            const client = await s.login();
            s.broker.say({ close: { reason: CLOSE.SHUTDOWN, retryAfterMs: 20000 } });
            assert.equal(closed(client)[0].reason, "SHUTDOWN");
            await s.clock.advance(10000);
            listeners.online();
            await s.clock.advance(9999);
            assert.equal(s.broker.sockets.length, 1);
            await s.clock.advance(1);
            assert.equal(s.broker.sockets.length, 2);
            s.broker.open();
            s.broker.say({ close: { reason: CLOSE.OVERLOADED, retryAfterMs: 4294967295 } });
            await s.clock.advance(3600000);
            assert.equal(s.broker.sockets.length, 3);
            s.broker.cut();
            listeners.online(); // nobody said how long to wait
            await s.clock.settle();
            assert.equal(s.broker.sockets.length, 4);
            client.close();
        } finally {
            delete globalThis.addEventListener;
            delete globalThis.removeEventListener;
        }
    },
);

for (const [how, end] of Object.entries({
    do_not_return: (broker) => broker.say({ close: { reason: CLOSE.KICKED, doNotReturn: true } }),
    REPLACED: (broker) => broker.say({ close: { reason: CLOSE.REPLACED, doNotReturn: true } }),
    "the code of REPLACED without a Close": (broker) => broker.cut(4001, "elsewhere"),
    "the code of STALE_SESSION without a Close": (broker) => broker.cut(4014),
    LOGGED_OUT: (broker) => broker.say({ close: { reason: CLOSE.LOGGED_OUT } }),
})) {
    scene(`it is the end, with everything that waits: ${how}`, async (s) => {
        const client = await s.login();
        const sent = watch(client.send("bob", "1"));
        const got = loop(client);
        end(s.broker);
        const late = watch(client.send("bob", "2"));
        await s.clock.settle();
        assert.equal(client.state, "ended");
        assert.ok(client.ended.final);
        assert.deepEqual(closed(client).length, 1);
        assert.deepEqual(codeOf(sent), ["NO_ANSWER", "unknown"]);
        assert.deepEqual(codeOf(late), ["NOT_SENT", "no"]);
        assert.equal(client.post("bob", "3"), false);
        assert.ok(got.over);
        await s.clock.advance(1000000);
        assert.equal(s.broker.sockets.length, 1);
        assert.equal(s.clock.timers.size, 0);
    });
}

scene("a kick, a code of another reason or none: one comes back", async (s) => {
    const client = await s.login();
    for (const end of [
        () => s.broker.say({ close: { reason: CLOSE.KICKED, detail: "by bank" } }),
        () => s.broker.cut(4006),
        () => s.broker.cut(1006),
        () => s.broker.cut(4016),
        () => s.broker.cut(4000),
    ]) {
        end();
        assert.equal(client.state, "waiting");
        await s.clock.advance(30000);
        s.broker.welcome();
        assert.equal(client.state, "online");
        await s.clock.advance(5000);
    }
    assert.equal(closed(client)[0].detail, "by bank");
});

scene("a logout whose answer is lost is the end all the same; while away it waits", async (s) => {
    const client = await s.login();
    s.broker.cut();
    const out = watch(client.logout());
    await s.clock.advance(500);
    s.broker.welcome();
    assert.equal(s.broker.take("logout").length, 1);
    s.broker.cut();
    await s.clock.settle();
    assert.deepEqual(codeOf(out), ["NO_ANSWER", "unknown"]);
    assert.equal(client.state, "ended");
    const other = await s.login();
    const refused = watch(other.logout());
    const [{ id }] = s.broker.take();
    s.broker.say({ id, error: { code: ERROR.UNAVAILABLE, retryAfterMs: 9 } });
    await s.clock.settle();
    assert.deepEqual(codeOf(refused), ["UNAVAILABLE", "no"]);
    s.broker.cut();
    assert.equal(other.state, "waiting");
});

scene("close leaves at once and twice, from within a listener too", async (s) => {
    const client = await s.login();
    client.on("closed", () => client.close());
    const sent = watch(client.send("bob", "1"));
    s.broker.cut();
    const waits = watch(client.send("bob", "2"));
    client.close();
    await s.clock.settle();
    assert.deepEqual(codeOf(sent), ["NO_ANSWER", "unknown"]);
    assert.deepEqual(codeOf(waits), ["NOT_SENT", "no"]);
    assert.equal(client.ended.reason, "CLOSED");
    await s.clock.advance(100000);
    assert.equal(s.broker.sockets.length, 1);
    const early = s.start();
    early.close();
    await s.clock.advance(1000);
    assert.equal(s.broker.sockets.length, 1);
});

// --- the heart -----------------------------------------------------------------------------------

scene("a Ping when nothing was said or nothing came; no input is the end", async (s) => {
    const client = await s.login({}, { heartbeatMs: 10000 });
    for (let i = 0; i < 4; i++) {
        await s.clock.advance(i ? 4980 : 5000);
        const [{ ping }] = s.broker.take();
        await s.clock.advance(20);
        s.broker.say({ pong: ping });
    }
    const rtt = client.seen.filter(([event]) => event === "rtt").map(([, ms]) => ms);
    assert.deepEqual(rtt, [20, 20, 20, 20]);
    await s.clock.advance(4980);
    assert.equal(s.broker.take("ping").length, 1);
    await s.clock.advance(9999);
    assert.equal(client.state, "online");
    await s.clock.advance(1);
    assert.equal(client.state, "waiting");
    assert.equal(closed(client)[0].reason, "HEARTBEAT_TIMEOUT");
});

scene("who only hears still speaks, and any input is life", async (s) => {
    const client = await s.login({ unreadMax: 10000 }, { heartbeatMs: 10000 });
    let pings = 0;
    for (let i = 1; i <= 60; i++) {
        s.broker.push(i);
        await s.clock.advance(1000);
        pings += s.broker.take("ping").length;
    }
    assert.equal(client.state, "online");
    assert.ok(pings >= 6 && pings <= 12, `${pings}`);
});

scene("a page that stood still is not judged by its own silence", async (s) => {
    const client = await s.login({}, { heartbeatMs: 10000 });
    for (let i = 0; i < 3; i++) {
        await s.clock.stall(200000); // timers come first, what waited comes behind
        assert.equal(client.state, "online");
        assert.ok(s.broker.take("ping").length >= 1);
        s.broker.say({ pong: {} });
    }
    // A Ping was under way when the page stopped.
    await s.clock.advance(5000);
    assert.equal(s.broker.take("ping").length, 1);
    await s.clock.stall(60000);
    assert.equal(client.state, "online");
    await s.clock.advance(4999);
    assert.equal(client.state, "online");
    await s.clock.advance(2); // it was asked again, and there was no answer
    assert.equal(client.state, "waiting");
});

scene("a clock that is set back ends nobody", async (s) => {
    const client = await s.login({}, { heartbeatMs: 10000 });
    s.clock.now -= 3600000;
    for (const timer of s.clock.timers.values()) {
        timer.due -= 3600000;
    }
    for (let i = 0; i < 4; i++) {
        await s.clock.advance(5000);
        const pings = s.broker.take("ping");
        assert.equal(pings.length, 1);
        s.broker.say({ pong: {} });
    }
    assert.equal(client.state, "online");
});

scene("somebody looks at the page: a Ping with five seconds; the page goes: acks", async (s) => {
    const listeners = {};
    globalThis.addEventListener = (name, run) => (listeners[name] = run);
    globalThis.removeEventListener = (name) => delete listeners[name];
    globalThis.document = { visibilityState: "hidden" };
    try {
        const client = await s.login({ acks: true });
        client.on("message", () => {});
        s.broker.push(1);
        await s.clock.settle();
        listeners.pagehide();
        assert.deepEqual(s.broker.take("ack"), [{ seq: 1 }]);
        listeners.visibilitychange();
        assert.equal(s.broker.take("ping").length, 0);
        document.visibilityState = "visible";
        listeners.visibilitychange();
        assert.equal(s.broker.take("ping").length, 1);
        await s.clock.advance(4999);
        assert.equal(client.state, "online");
        await s.clock.advance(1);
        assert.equal(client.state, "waiting");
        client.close();
        assert.deepEqual(Object.keys(listeners), []);
    } finally {
        delete globalThis.addEventListener;
        delete globalThis.removeEventListener;
        delete globalThis.document;
    }
});

// --- reloads -------------------------------------------------------------------------------------

scene(
    "a page that is loaded again resumes, behind what it had processed, with other ids",
    async (s) => {
        const storage = fakeStorage();
        const token = () => assert.fail("not for a resume");
        const client = await s.login({ acks: true, storage, token: () => "t" });
        client.on("message", () => {});
        await s.clock.settle();
        s.broker.push(1, 2);
        await s.clock.advance(50);
        const epoch = s.broker.epoch;
        const ids = [];
        for (let i = 0; i < 20; i++) {
            void client.send("bob", "x").catch(() => {});
        }
        ids.push(...s.broker.take().map((frame) => frame.id));
        client.close(); // what a reload does, as the broker sees it
        const again = s.start({ acks: true, storage, token });
        again.on("message", () => {});
        await s.clock.settle();
        const hello = s.broker.welcome();
        const fields = { username: "alice", epoch, secret: SECRET, lastSeq: 2, receivedSeq: 2 };
        assert.deepEqual(hello.resume, { ...fields, lastMid: 0 });
        for (let i = 0; i < 20; i++) {
            void again.send("bob", "x").catch(() => {});
        }
        ids.push(
            hello.id,
            ...s.broker
                .take("send")
                .map((send) => send && 0)
                .filter(Boolean),
        );
        assert.equal(new Set(ids).size, ids.length);
        assert.ok(hello.id > Math.max(...ids.slice(0, 21)));
        s.broker.say({ close: { reason: CLOSE.REPLACED, doNotReturn: true } });
        assert.equal(storage.kept.size, 0);
    },
);

scene("what others wrote into the storage, or one that is forbidden, is a login", async (s) => {
    for (const text of [
        "",
        "{",
        "[]",
        "null",
        "[1]",
        '["x",2,3,[]]',
        "[0,0,0,[]]",
        "[5,-1,0,[1]]",
    ]) {
        const storage = { ...fakeStorage(), getItem: () => text };
        const client = s.start({ storage });
        await s.clock.settle();
        assert.ok(s.broker.welcome().login, text);
        client.close();
    }
    const forbidden = () => {
        throw new Error("SecurityError");
    };
    const storage = { getItem: forbidden, setItem: forbidden, removeItem: forbidden };
    const client = await s.login({ storage });
    client.close();
});

// --- chance --------------------------------------------------------------------------------------

/** A broker that does anything at random, and a program too. Whatever happens each promise is settled
 * once, what is done: "no" never left, no message comes twice, and an end leaves nothing behind. */
async function wild(s, random) {
    const pick = (...choices) => choices[Math.floor(random() * choices.length)];
    const client = s.start({ acks: pick(true, false), token: pick("t", () => "t"), unreadMax: 20 });
    const outcomes = [];
    const marks = new Map();
    const left = new Set();
    const got = loop(client);
    let seq = 0;
    let mark = 0;
    const look = () => {
        for (const socket of s.broker.sockets) {
            socket.open_ ??= [];
            for (const frame of socket.got.splice(0)) {
                socket.open_.push(frame);
                if (frame.send) {
                    const text = new TextDecoder().decode(frame.send.payload);
                    assert.ok(!left.has(text), "nothing is sent twice");
                    left.add(text);
                }
            }
        }
    };
    const ask = () => {
        const text = String(++mark);
        const outcome = watch(client.send("bob", text, { timeoutMs: pick(0, 100, 5000) }));
        marks.set(outcome, text);
        outcomes.push(outcome);
    };
    const answer = () => {
        const frame = s.broker.socket?.open_?.splice(Math.floor(random() * 3), 1)[0];
        if (!frame || s.broker.socket.ended) {
            return;
        }
        if (frame.login || frame.resume) {
            seq = frame.resume ? seq : 0;
            const error = { code: pick(ERROR.RESUME_REJECTED, ERROR.BUSY), retryAfterMs: 10 };
            const bad = frame.resume ? random() < 0.3 : random() < 0.1;
            if (bad) {
                s.broker.say({ id: frame.id, error: frame.resume ? error : { code: ERROR.BUSY } });
            } else {
                s.broker.greet(frame);
            }
        } else if (frame.id) {
            s.broker.say(
                pick({ id: frame.id, done: { epoch: 1 } }, { id: frame.id, error: { code: 7 } }),
            );
        }
    };
    for (let i = 0; i < 150 && !client.ended; i++) {
        const socket = s.broker.socket;
        const step = pick(
            "ask",
            "ask",
            "answer",
            "answer",
            "answer",
            "push",
            "time",
            "open",
            "cut",
            "end",
        );
        if (step === "ask") {
            ask();
        } else if (step === "open" && socket && !socket.opened) {
            socket.opened = true;
            s.broker.open();
        } else if (step === "answer") {
            answer();
        } else if (step === "push" && client.state === "online") {
            seq = Math.max(seq + pick(0, 1, 1, 1), 1);
            s.broker.push(seq);
        } else if (step === "time") {
            await pick(
                (ms) => s.clock.advance(ms),
                (ms) => s.clock.stall(ms),
            )(pick(1, 50, 600, 9000));
        } else if (step === "cut" && socket && !socket.ended && random() < 0.4) {
            s.broker.cut();
            socket.ended = true;
        } else if (step === "end" && socket && random() < 0.03) {
            s.broker.say({ close: { reason: CLOSE.REPLACED } });
        }
        await s.clock.settle();
        look();
    }
    client.close();
    await s.clock.settle();
    look();
    for (const outcome of outcomes) {
        assert.equal(outcome.settled, 1);
        if (outcome.error?.code === "NOT_SENT") {
            assert.ok(!left.has(marks.get(outcome)), "done: no is true");
        } else {
            assert.ok(left.has(marks.get(outcome)));
        }
    }
    const keys = got.map((one) => `${one.epoch} ${one.seq}`);
    assert.equal(new Set(keys).size, keys.length, "no message twice");
    assert.ok(got.over);
    s.clock.timers.clear();
    return outcomes.length;
}

const seed = Number(process.env.USHER_PLAY_SEED ?? Math.floor(Math.random() * 1e9));
scene(`whatever happens, seed ${seed}`, async (s) => {
    let state = seed;
    const random = () => {
        state = (state * 1103515245 + 12345) % 2147483648;
        return state / 2147483648;
    };
    let asked = 0;
    for (let i = 0; i < 150; i++) {
        asked += await wild(s, random);
    }
    assert.ok(asked > 1000, `${asked}`);
});
