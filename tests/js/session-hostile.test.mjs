// SPDX-License-Identifier: Apache-2.0
// What a hostile reader would try with a session: programs, storages, sockets and brokers that do what
// they should not, and moments that nobody thinks of. Whatever they do, the client says so or goes on;
// it never hangs, never hammers, never leaves a promise that nobody settles, and no error of its own
// is left for the runtime (node --test fails a test that leaves one).
import assert from "node:assert/strict";
import { closed, codeOf, fakeStorage, loop, scene, states, watch } from "./support/scene.mjs";
import { CLOSE, ERROR } from "./support/scripted.mjs";

const { BROKERFRAME, UINT, encode } = await import(process.env.USHER_JS_INTERNALS);

const dropped = (client) =>
    client.seen
        .filter(([event]) => event === "dropped")
        .map(([, error]) => [error.code, error.done]);

/** A window with the events that a page hears. */
function fakePage() {
    const listeners = {};
    globalThis.addEventListener = (name, run) => (listeners[name] = run);
    globalThis.removeEventListener = (name) => delete listeners[name];
    return {
        listeners,
        end() {
            delete globalThis.addEventListener;
            delete globalThis.removeEventListener;
        },
    };
}

/** Until its next try. */
const pause = (s, client) => s.clock.advance(closed(client).at(-1).retryAfterMs);

// --- posts ---------------------------------------------------------------------------------------

scene("no post is dropped without a word: too large, too many, no name, away, over", async (s) => {
    const client = await s.login({ requestsMax: 2 }, { frameBytesMax: 100 });
    assert.equal(client.post("bob", new Uint8Array(91)), true);
    assert.equal(client.post("bob", new Uint8Array(92)), false);
    assert.equal(s.broker.take().length, 1);
    assert.equal(client.postCall("shop", "buy", new Uint8Array(100)), false);
    assert.equal(client.post("a b", "x"), false);
    s.broker.cut();
    assert.equal(client.post("bob", "x", { transient: true }), false);
    assert.deepEqual(
        [1, 2, 3].map(() => client.post("bob", "x")),
        [true, true, false],
    );
    const all = ["TOO_LARGE", "TOO_LARGE", "INVALID_NAME", "NOT_SENT", "NOT_SENT"];
    assert.deepEqual(
        dropped(client),
        all.map((code) => [code, "no"]),
    );
    client.close();
    assert.equal(dropped(client).length, all.length + 2); // those that waited
    assert.equal(client.post("bob", "x"), false);
    assert.equal(dropped(client).length, all.length + 3);
});

scene(
    "a post that waited and is too large for the next broker is told, and makes room",
    async (s) => {
        const client = await s.login({ queueBytesMax: 300 }, { frameBytesMax: 1000 });
        s.broker.cut();
        assert.equal(client.post("bob", new Uint8Array(400)), true);
        assert.equal(client.post("bob", "x"), false);
        await s.clock.advance(500);
        s.broker.welcome({ frameBytesMax: 200 });
        assert.equal(s.broker.take().length, 0);
        assert.deepEqual(dropped(client), [
            ["NOT_SENT", "no"],
            ["TOO_LARGE", "no"],
        ]);
        s.broker.cut();
        assert.equal(client.post("bob", "x"), true);
    },
);

// --- programs ------------------------------------------------------------------------------------

scene("options that are undefined or 0 are as if they were not there", async (s) => {
    const names = ["connectTimeoutMs", "requestTimeoutMs", "requestsMax", "queueBytesMax"];
    names.push("unreadMax", "unreadBytesMax");
    for (const value of [undefined, null, 0, NaN]) {
        const client = s.start(Object.fromEntries(names.map((name) => [name, value])));
        await s.clock.advance(9000);
        assert.equal(client.state, "connecting");
        s.broker.welcome();
        const sent = watch(client.send("bob", "x"));
        await s.clock.advance(10000);
        assert.equal(sent.settled, 0);
        s.broker.push(...Array.from({ length: 1024 }, (_, i) => i + 1));
        assert.equal(client.state, "online");
        s.broker.push(1025);
        assert.equal(client.state, "waiting");
        client.close();
    }
});

scene("times that no timer holds are long, and not a millisecond", async (s) => {
    const client = await s.login({}, { heartbeatMs: 2 ** 40 });
    const outcomes = [Infinity, 2 ** 31, 2 ** 40].map((timeoutMs) =>
        watch(client.send("bob", "x", { timeoutMs })),
    );
    const made = s.clock.next;
    await s.clock.advance(100000);
    assert.ok(outcomes.every((outcome) => outcome.settled === 0));
    assert.ok(s.clock.next - made < 10, "timers do not spin");
    assert.equal(s.broker.take("ping").length, 0);
    const patient = s.start({ connectTimeoutMs: Infinity });
    await s.clock.advance(100000);
    assert.equal(patient.state, "connecting");
});

scene("a name that is none ends the client, and nobody is asked", async (s) => {
    for (const user of ["", "a b", "é", "a\0b", "x".repeat(65)]) {
        const client = s.start({ user });
        const ready = watch(client.ready);
        await s.clock.settle();
        assert.deepEqual(codeOf(ready), ["INVALID_NAME", "no"]);
        assert.equal(client.ended.reason, "INVALID_NAME");
    }
    assert.equal(s.broker.sockets.length, 0);
});

scene("what is neither text nor bytes is refused as the mistake that it is", async (s) => {
    const client = await s.login();
    const all = [7, true, {}, new ArrayBuffer(3)];
    for (const payload of all) {
        const sent = watch(client.send("bob", payload));
        const called = watch(client.call("shop", "buy", payload));
        await s.clock.settle();
        assert.ok(sent.error instanceof TypeError && called.error instanceof TypeError);
        assert.throws(() => client.post("bob", payload), TypeError);
    }
    for (const timeoutMs of [-1, 0.5, 2 ** 60]) {
        const called = watch(client.call("shop", "buy", "", { timeoutMs }));
        await s.clock.settle();
        assert.ok(called.error instanceof RangeError);
    }
    assert.equal(s.broker.take().length, 0);
    const sent = watch(client.send("bob", null));
    assert.equal(s.broker.take("send")[0].payload.length, 0);
    assert.equal(sent.settled, 0);
});

scene(
    "a token that is none, thrown or never given: tried again at the pace of any loss",
    async (s) => {
        const wrong = [7, {}, true, new ArrayBuffer(2)];
        const ways = wrong.map((value) => async () => value);
        ways.push(
            () => {
                throw new Error("at once");
            },
            () => Promise.reject(undefined),
            () => new Promise(() => {}),
        );
        for (const way of ways) {
            let asked = 0;
            const client = s.start({ token: () => (++asked < 3 ? way() : "good") });
            await s.clock.advance(100);
            assert.equal(asked, 1);
            for (let i = 0; i < 40 && asked < 3; i++) {
                await s.clock.advance(1000);
            }
            assert.equal(client.state, "connecting");
            assert.equal(s.broker.take().length, 0);
            assert.equal(new TextDecoder().decode(s.broker.welcome().login.token), "good");
            client.close();
        }
        const client = s.start({ token: () => null }); // nobody is logged in: no token
        await s.clock.settle();
        assert.equal(s.broker.welcome().login.token.length, 0);
        assert.equal(client.state, "online");
    },
);

scene("a token that comes after the connection that it was for is nobody's", async (s) => {
    const asked = [];
    let first = true;
    const token = () => (first ? "first" : new Promise((resolve) => asked.push(resolve)));
    const client = await s.login({ token });
    first = false;
    s.broker.cut();
    await s.clock.advance(500);
    s.broker.open();
    s.broker.say({ id: s.broker.take()[0].id, error: { code: ERROR.RESUME_REJECTED } });
    assert.equal(asked.length, 1);
    s.broker.cut(); // while the token is on its way
    await s.clock.advance(0);
    asked[0]("late");
    await s.clock.settle();
    assert.equal(client.state, "waiting");
    await s.clock.advance(1000);
    assert.equal(asked.length, 2);
    asked[1]("good");
    await s.clock.settle();
    const { login } = s.broker.welcome();
    assert.equal(new TextDecoder().decode(login.token), "good");
    assert.equal(s.broker.take().length, 0);
    assert.equal(client.state, "online");
});

scene("late for one connection while the next one is up, it does not speak there", async (s) => {
    const asked = [];
    let first = true;
    const token = () => (first ? "first" : new Promise((resolve) => asked.push(resolve)));
    const client = await s.login({ token });
    first = false;
    s.broker.cut();
    await s.clock.advance(500);
    s.broker.open();
    s.broker.say({ id: s.broker.take()[0].id, error: { code: ERROR.RESUME_REJECTED } });
    s.broker.cut();
    await s.clock.advance(1000);
    asked[1]("good");
    await s.clock.settle();
    s.broker.welcome();
    asked[0]("late");
    await s.clock.settle();
    assert.deepEqual(s.broker.take(), []);
    assert.equal(client.state, "online");
});

scene("the same listener twice is two, and each is taken off by itself", async (s) => {
    const client = await s.login();
    let heard = 0;
    const listener = () => heard++;
    const [offOne, offOther] = [client.on("partial", listener), client.on("partial", listener)];
    const partial = async () => {
        s.broker.cut();
        await pause(s, client);
        s.broker.welcome({ replay: 2 });
        return heard;
    };
    assert.equal(await partial(), 2);
    offOne();
    assert.equal(await partial(), 3);
    offOne();
    assert.equal(await partial(), 4);
    offOther();
    assert.equal(await partial(), 4);
});

for (const event of ["state", "welcome", "partial", "closed", "rtt", "message", "dropped"]) {
    scene(`close within a listener of ${event}: nothing is told behind the end`, async (s) => {
        const client = s.start({ acks: true, unreadMax: 4 });
        await s.clock.settle();
        s.broker.welcome();
        client.on(event, () => {
            client.close();
            client.told = client.seen.length;
        });
        await s.clock.settle();
        client.post("a b", "");
        if (!client.ended) {
            s.broker.say({ pong: {} });
            s.broker.push(1);
            await s.clock.settle();
        }
        if (!client.ended) {
            s.broker.cut();
            await pause(s, client);
        }
        if (!client.ended) {
            s.broker.welcome({ replay: 2 });
        }
        await s.clock.settle();
        assert.equal(client.ended.reason, "CLOSED");
        const last = client.seen.at(-1);
        assert.deepEqual([last[0], last[1].final], ["closed", true]);
        assert.equal(states(client).at(-1), "ended");
        assert.equal(closed(client).filter(({ final }) => final).length, 1);
        const sockets = s.broker.sockets.length;
        await s.clock.advance(100000);
        assert.equal(s.broker.sockets.length, sockets);
        assert.equal(s.clock.timers.size, 0);
        assert.equal(client.seen.at(-1), last);
    });
}

const MOMENTS = {
    "before anything": async () => {},
    "while a token is awaited": async (s) => s.clock.settle(),
    "before the socket is open": async (s) => s.clock.settle(),
    "before the Welcome": async (s) => {
        await s.clock.settle();
        s.broker.open();
    },
    online: async (s) => {
        await s.clock.settle();
        s.broker.welcome();
    },
    "while its logout is under way": async (s, client) => {
        await s.clock.settle();
        s.broker.welcome();
        client.logout().catch(() => {});
    },
    "while a Ping is under way": async (s) => {
        await s.clock.settle();
        s.broker.welcome({ heartbeatMs: 1000 });
        await s.clock.advance(500);
    },
    waiting: async (s) => {
        await s.clock.settle();
        s.broker.cut();
    },
    "while a rejected resume awaits its token": async (s) => {
        await s.clock.settle();
        s.broker.welcome();
        s.broker.cut();
        await s.clock.advance(500);
        s.broker.open();
        s.broker.say({ id: s.broker.take()[0].id, error: { code: ERROR.RESUME_REJECTED } });
    },
};

/** How many tokens it gets before one is late. */
const GIVEN = { "while a token is awaited": 0 };

for (const [moment, reach] of Object.entries(MOMENTS)) {
    scene(`close ${moment}: the end, once, and nothing is left of it`, async (s) => {
        const late = [];
        let asked = 0;
        const token = () =>
            asked++ < (GIVEN[moment] ?? 1) ? "t" : new Promise((resolve) => late.push(resolve));
        const client = s.start({ token, acks: true });
        const ready = watch(client.ready);
        const sent = watch(client.send("bob", "x"));
        await reach(s, client);
        client.close();
        client.close();
        await s.clock.settle();
        late.forEach((resolve) => resolve("late"));
        const sockets = s.broker.sockets.length;
        const left = s.broker.socket?.got.length;
        await s.clock.advance(100000);
        assert.equal(client.ended.reason, "CLOSED");
        assert.equal(client.state, "ended");
        assert.deepEqual([ready.settled, sent.settled], [1, 1]);
        assert.equal(closed(client).filter(({ final }) => final).length, 1);
        assert.equal(s.broker.sockets.length, sockets);
        assert.equal(s.broker.socket?.got.length, left);
        assert.ok(moment === "waiting" || (s.broker.socket?.ended ?? true));
        assert.equal(s.clock.timers.size, 0);
        await assert.rejects(client.logout(), { code: "NOT_SENT", done: "no" });
        assert.deepEqual(await client.messages().next(), { done: true, value: undefined });
    });
}

scene("closed before the first try, or away with too much to read, it stays ended", async (s) => {
    const early = s.start();
    early.close();
    const full = await s.login({ acks: true, unreadMax: 4 });
    s.broker.push(1, 2, 3, 4, 5);
    full.close();
    const got = loop(full);
    await s.clock.advance(100000);
    assert.equal(got.length, 4);
    for (const client of [early, full]) {
        assert.equal(client.state, "ended");
        assert.equal(states(client).at(-1), "ended");
    }
    assert.equal(s.broker.sockets.length, 1);
});

scene("close while the first state is told leaves no timer", async (s) => {
    const client = await s.login();
    client.on("state", (state) => state === "connecting" && client.close());
    s.broker.cut();
    await s.clock.advance(500);
    assert.equal(client.state, "ended");
    assert.equal(s.clock.timers.size, 0);
    assert.equal(s.broker.sockets.length, 1);
});

scene("a hundred thousand requests at once: 256 go, each promise is settled once", async (s) => {
    const client = await s.login();
    const outcomes = Array.from({ length: 100000 }, () => watch(client.send("bob", "x")));
    await s.clock.settle();
    const sent = s.broker.take("send").length;
    assert.equal(sent, 256);
    s.broker.cut();
    await s.clock.settle();
    const codes = {};
    for (const outcome of outcomes) {
        assert.equal(outcome.settled, 1);
        codes[codeOf(outcome)] = (codes[codeOf(outcome)] ?? 0) + 1;
    }
    assert.deepEqual(codes, { "NO_ANSWER,unknown": 256, "NOT_SENT,no": 99744 });
});

// --- what is around it ---------------------------------------------------------------------------

scene(
    "a socket that throws instead of sending: a lost connection, and nothing twice",
    async (s) => {
        const client = await s.login({ acks: true });
        const { send } = s.broker.WebSocket.prototype;
        s.broker.WebSocket.prototype.send = () => {
            throw new Error("InvalidStateError");
        };
        s.broker.cut();
        const all = [1, 2, 3].map((n) => watch(client.send("bob", String(n))));
        await s.clock.advance(500);
        s.broker.open(); // its Resume cannot leave
        assert.equal(client.state, "waiting");
        assert.match(closed(client).at(-1).detail, /InvalidStateError/);
        let left = 2; // the Resume and one request
        s.broker.WebSocket.prototype.send = function (bytes) {
            if (left-- <= 0) {
                throw new Error("InvalidStateError");
            }
            send.call(this, bytes);
        };
        await s.clock.advance(1000);
        s.broker.welcome();
        await s.clock.settle();
        assert.equal(client.state, "waiting");
        assert.deepEqual(all.map(codeOf), [
            ["NO_ANSWER", "unknown"], // it left
            ["NO_ANSWER", "unknown"], // it may have
            undefined,
        ]);
        s.broker.WebSocket.prototype.send = send;
        await pause(s, client);
        s.broker.welcome();
        assert.equal(new TextDecoder().decode(s.broker.take("send")[0].payload), "3");
        assert.equal(closed(client).length, 3);
    },
);

scene(
    "somebody looks at a page that has too much to read: it stays away until it has",
    async (s) => {
        const page = fakePage();
        try {
            const client = await s.login({ acks: true, unreadMax: 4 });
            s.broker.push(1, 2, 3, 4, 5);
            assert.equal(client.state, "waiting");
            page.listeners.online();
            await s.clock.advance(100000);
            page.listeners.online();
            await s.clock.settle();
            assert.equal(client.state, "waiting");
            assert.equal(s.broker.sockets.length, 1);
            client.close();
        } finally {
            page.end();
        }
    },
);

scene(
    "the clock is set back while it has too much to read: it comes back all the same",
    async (s) => {
        const client = await s.login({ acks: true, unreadMax: 4 });
        s.broker.push(1, 2, 3, 4, 5);
        await s.clock.advance(100000);
        s.clock.now -= 3600000;
        loop(client);
        await s.clock.settle();
        assert.equal(s.broker.sockets.length, 2);
        s.broker.welcome();
        assert.equal(client.state, "online");
    },
);

scene("a clock that jumps, forth and back, ends no connection and forgets no time", async (s) => {
    const client = await s.login({}, { heartbeatMs: 10000 });
    for (const jump of [3600000, -7200000, 86400000, -86400000]) {
        s.clock.now += jump;
        for (const timer of s.clock.timers.values()) {
            timer.due += jump; // timers know nothing of it
        }
        const sent = watch(client.send("bob", "x", { timeoutMs: 9000 }));
        for (let i = 0; i < 2; i++) {
            await s.clock.advance(5000);
            s.broker.say({ pong: {} });
        }
        assert.deepEqual(codeOf(sent), ["NO_ANSWER", "unknown"]);
        assert.equal(client.state, "online");
    }
    s.broker.say({ close: { reason: CLOSE.SHUTDOWN, retryAfterMs: 5000 } });
    s.clock.now -= 3600000;
    for (const timer of s.clock.timers.values()) {
        timer.due -= 3600000;
    }
    await s.clock.advance(7000);
    assert.equal(s.broker.sockets.length, 2);
});

scene("a page that slept while its clock was set back: answers that wait come first", async (s) => {
    const client = await s.login();
    const sent = watch(client.send("bob", "1"));
    const [{ id }] = s.broker.take();
    s.clock.now -= 3600000;
    for (const timer of s.clock.timers.values()) {
        timer.due -= 3600000;
    }
    await s.clock.stall(60000);
    assert.equal(sent.settled, 0);
    s.broker.say({ id, done: { epoch: 3 } });
    await s.clock.settle();
    assert.equal(sent.value, 3);
});

scene("a storage whose session is another's, or none that a broker would read", async (s) => {
    const large = JSON.stringify([5, 0, 0, new Array(5000).fill(7)]);
    const storage = { ...fakeStorage(), getItem: () => large };
    const client = s.start({ storage });
    await s.clock.settle();
    assert.ok(s.broker.welcome().login);
    client.close();
    const stranger = { ...fakeStorage(), getItem: () => "[5,3,0,[1,2]]" };
    const other = s.start({ storage: stranger });
    await s.clock.settle();
    s.broker.open();
    const [{ id, resume }] = s.broker.take();
    assert.equal(resume.epoch, 5);
    s.broker.say({ id, error: { code: ERROR.RESUME_REJECTED } });
    await s.clock.settle();
    s.broker.greet(s.broker.take()[0]);
    assert.equal(other.state, "online");
    s.broker.push(1, 2); // numbered anew, though the storage had 3
    const got = loop(other);
    await s.clock.settle();
    assert.equal(got.length, 2);
});

// --- brokers -------------------------------------------------------------------------------------

scene("a broker that speaks text: it is nothing of ours, and no length of memory", async (s) => {
    const client = await s.login();
    for (const data of ["", "hello", "4000000000"]) {
        s.broker.socket.onmessage({ data });
    }
    assert.equal(client.state, "online");
});

scene(
    "a broker of a later version: what is unknown answers nothing and ends nothing",
    async (s) => {
        const client = await s.login();
        const between = Array.from({ length: 60 }, (_, i) => (i % 2 ? UINT : ""));
        const later = [...BROKERFRAME, ...between, "later", ["x", UINT]];
        const sent = watch(client.send("bob", "1"));
        const [{ id }] = s.broker.take();
        for (const frame of [{ id, later: { x: 1 } }, { later: { x: 2 } }, { id: 9999 }, { id }]) {
            s.broker.socket.onmessage({ data: encode(later, frame).buffer });
        }
        await s.clock.settle();
        assert.equal(sent.settled, 0);
        assert.equal(client.state, "online");
        s.broker.say({ id, done: { epoch: 7 } });
        await s.clock.settle();
        assert.equal(sent.value, 7);
    },
);

scene("numbers that a double does not hold are refused, never rounded", async (s) => {
    const client = await s.login();
    const seq = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    s.broker.socket.onmessage({ data: Uint8Array.of(13, 0x1a, 11, 0x08, ...seq).buffer });
    assert.equal(client.state, "waiting");
    assert.equal(closed(client)[0].reason, "PROTOCOL_ERROR");
});

scene("a Close before the Welcome, a Welcome twice, one without an epoch", async (s) => {
    const client = s.start();
    await s.clock.settle();
    s.broker.open();
    s.broker.say({ close: { reason: CLOSE.OVERLOADED, retryAfterMs: 700 } });
    assert.equal(client.state, "waiting");
    await s.clock.advance(700);
    s.broker.welcome();
    s.broker.say({ welcome: { epoch: 9 } });
    assert.equal(client.state, "waiting");
    await pause(s, client);
    s.broker.open();
    const [{ id }] = s.broker.take();
    s.broker.say({ id, welcome: {} });
    assert.equal(client.state, "waiting");
    await pause(s, client);
    s.broker.open();
    s.broker.say({ close: { reason: 4000 } }); // of a later version
    assert.equal(closed(client).at(-1).reason, "NONE");
    assert.equal(client.state, "waiting");
});
