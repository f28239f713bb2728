// SPDX-License-Identifier: Apache-2.0
// The client and the real usherd: over TCP and over WebSocket, behind a relay that cuts after every byte
// of a whole life, through restarts, kills, takeovers and kicks.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { cutEverywhere, read } from "./support/cuts.mjs";
import { eventually, freePort, Relay, sleep, Usherd } from "./support/usherd.mjs";
import { TestWebSocket } from "./support/websocket.mjs";

const { connect } = await import(process.env.USHER_JS_PACKAGE + "/node.js");

/** So many lives at once; each waits for most of its time. */
const TOGETHER = 80;
const TRANSPORTS = ["tcp", "ws"];

let broker;
const clients = new Set();

const urlOf = (transport, port) =>
    transport === "tcp" ? `tcp://127.0.0.1:${port}` : `ws://127.0.0.1:${port}/usher`;

/** A client by tcp or ws; through `port` if it is given. */
function login(user, transport, { port, ...options } = {}) {
    const url = urlOf(transport, port ?? broker[transport]);
    const client = connect({ url, user, webSocket: TestWebSocket, ...options });
    clients.add(client);
    client.closings = [];
    client.welcomes = [];
    client.on("closed", (closed) => client.closings.push(closed));
    client.on("welcome", (welcome) => client.welcomes.push(welcome.replay));
    return client;
}

before(async () => {
    broker = await Usherd.start();
});

after(async () => {
    clients.forEach((client) => client.close());
    assert.equal(await broker.close(), 0);
});

// --- cuts ----------------------------------------------------------------------------------------

for (const transport of TRANSPORTS) {
    test(`cut after every byte of a life, by ${transport}`, async (t) => {
        const direct = `tcp://127.0.0.1:${broker.tcp}`;
        const open = async (name, cut) => {
            const plan = (n) => (cut && n === 0 ? { [cut.way]: cut.bytes } : {});
            const relay = await Relay.start(broker[transport], plan);
            return {
                url: urlOf(transport, relay.port),
                used: () => relay,
                close: () => relay.close(),
            };
        };
        const login = (user, url, options) => {
            const client = connect({ url, user, webSocket: TestWebSocket, ...options });
            clients.add(client);
            client.on("closed", ({ final }) => final && clients.delete(client));
            return client;
        };
        const prefix = transport.padEnd(4, "_");
        const found = await cutEverywhere({ direct, open, login }, { prefix, together: TOGETHER });
        t.diagnostic(`${found.places} places, ${found.unknown} of the promises unknown`);
    });
}

// --- ends of the broker --------------------------------------------------------------------------

for (const transport of TRANSPORTS) {
    test(`orderly restart: everybody resumes, nothing is lost, by ${transport}`, async () => {
        const [alice, bob] = ["alice", "bob"]
            .map((user) => user + "-stays-" + transport)
            .map((user) => login(user, transport, { acks: true }));
        const got = read(alice);
        await Promise.all([alice.ready, bob.ready]);
        await bob.send(alice.user, "before");
        const stopped = broker.stop();
        await eventually("both are told", () => alice.closings.length && bob.closings.length);
        const waits = bob.send(alice.user, "after"); // while nobody is there
        assert.equal(await stopped, 0);
        assert.equal(alice.closings[0].reason, "SHUTDOWN");
        assert.ok(!alice.closings[0].final);
        await broker.run();
        assert.ok(await waits);
        await eventually("both messages", () => got.length === 2);
        assert.deepEqual(got, ["before", "after"]);
        assert.deepEqual(alice.welcomes, ["FRESH", "COMPLETE"]);
        alice.close();
        bob.close();
    });

    test(`kill -9: everybody resumes and is told that messages may be missing, by ${transport}`, async () => {
        const alice = login(`alice-killed-${transport}`, transport, { acks: true });
        let partial = 0;
        alice.on("partial", () => partial++);
        await alice.ready;
        await broker.stop("SIGKILL");
        await eventually("alice has noticed", () => alice.state === "waiting");
        const sent = alice.send(alice.user, "to myself");
        await broker.run();
        await sent;
        assert.deepEqual(alice.welcomes.slice(1), ["PARTIAL"]);
        assert.equal(partial, 1);
        alice.close();
    });
}

test("a drain sends everybody away and all come back", async () => {
    const all = Array.from({ length: 20 }, (_, i) => login(`drained-${i}`, TRANSPORTS[i % 2]));
    await Promise.all(all.map((client) => client.ready));
    assert.equal(await broker.ctl("drain", "--seconds", "1"), 0);
    await broker.over;
    await broker.run();
    for (const client of all) {
        await eventually("back", () => client.welcomes.length === 2);
        assert.equal(client.welcomes[1], "COMPLETE");
        client.close();
    }
});

// --- ends of a session ---------------------------------------------------------------------------

for (const transport of TRANSPORTS) {
    test(`a login elsewhere ends the older one, and there is no fight, by ${transport}`, async () => {
        const first = login("carol", transport);
        await first.ready;
        const second = login("carol", transport);
        await second.ready;
        await eventually("the first has ended", () => first.ended);
        assert.equal(first.ended.reason, "REPLACED");
        await assert.rejects(first.send("carol", "x"), { code: "NOT_SENT", done: "no" });
        await sleep(700);
        assert.equal(second.state, "online");
        assert.deepEqual([first.welcomes.length, second.welcomes.length], [1, 1]);
        second.close();
    });

    test(`who is kicked begins anew; with do-not-return it is the end, by ${transport}`, async () => {
        const dave = login("dave", transport);
        await dave.ready;
        assert.equal(await broker.ctl("kick", "dave", "--reason", "pause"), 0);
        await eventually("again", () => dave.welcomes.length === 2);
        assert.deepEqual(dave.welcomes, ["FRESH", "FRESH"]);
        assert.deepEqual([dave.closings[0].reason, dave.closings[0].detail], ["KICKED", "pause"]);
        assert.equal(await broker.ctl("kick", "dave", "--do-not-return"), 0);
        await eventually("ended", () => dave.ended);
        assert.equal(dave.ended.reason, "KICKED");
        await sleep(700);
        assert.equal(dave.welcomes.length, 2);
    });

    test(`a page that is loaded again goes on with its session, by ${transport}`, async () => {
        const kept = new Map();
        const storage = {
            getItem: (key) => kept.get(key) ?? null,
            setItem: (key, value) => kept.set(key, value),
            removeItem: (key) => kept.delete(key),
        };
        const bob = login("bob", transport);
        const page = login("erin", transport, { acks: true, storage });
        const got = read(page);
        await Promise.all([page.ready, bob.ready]);
        await bob.send("erin", "1");
        await eventually("one", () => got.length === 1);
        page.close();
        await bob.send("erin", "2"); // while it loads
        const again = login("erin", transport, { acks: true, storage });
        const rest = read(again);
        await eventually("the other", () => rest.length === 1);
        assert.deepEqual([...got, ...rest], ["1", "2"]);
        assert.deepEqual(again.welcomes, ["COMPLETE"]);
        await again.logout();
        assert.equal(again.ended?.reason ?? "LOGGED_OUT", "LOGGED_OUT");
        await eventually("forgotten", () => kept.size === 0);
        bob.close();
    });

    test(`who does not take his messages is away until he has, and loses none, by ${transport}`, async () => {
        const bob = login("bob", transport);
        const frank = login("frank", transport, { acks: true, unreadMax: 8 });
        await Promise.all([bob.ready, frank.ready]);
        const texts = Array.from({ length: 60 }, (_, i) => String(i));
        await Promise.all(texts.map((text) => bob.send("frank", text)));
        await eventually("given up", () => frank.closings.length > 0);
        const got = [];
        for await (const message of frank.messages()) {
            got.push(message.text);
            if (got.length === texts.length) {
                break;
            }
        }
        assert.deepEqual(got, texts);
        bob.close();
        frank.close();
    });
}

// --- the rest ------------------------------------------------------------------------------------

test("calls of a service, refusals and large payloads", async () => {
    const link = `ipc://${join(broker.folder, "link.sock")}`;
    const echo = broker.program("usher-echo", "--url", link);
    for (const transport of TRANSPORTS) {
        const grace = login(`grace-${transport}`, transport);
        await grace.ready;
        let reply;
        while (!reply) {
            // Until the service is linked it is NO_SERVICE.
            reply = await grace.call("echo", "reverse", "stressed").catch(() => sleep(20));
        }
        assert.equal(new TextDecoder().decode(reply), "desserts");
        const large = new Uint8Array(10000).map((_, i) => i * 7);
        assert.deepEqual(await grace.call("echo", "echo", large), large);
        const got = [];
        grace.on("message", ({ payload }) => void got.push(payload));
        await grace.send(grace.user, large, { delivered: true });
        assert.deepEqual(got, [large]);
        await assert.rejects(grace.send("nobody", "x"), { code: "NOT_ONLINE", done: "no" });
        await assert.rejects(grace.call("nothing", "x"), { code: "NO_SERVICE", done: "no" });
        await assert.rejects(grace.send(grace.user, new Uint8Array(70000)), { code: "TOO_LARGE" });

        grace.close();
    }
    echo.kill();
});

test("an address that is none is the end at once, and says so", async () => {
    for (const url of [
        "",
        "garbage",
        undefined,
        "tcp://",
        "tcp:localhost:7400",
        "tls://:x",
        "tcp://[::1",
    ]) {
        const client = connect({ url, user: "judy" });
        await assert.rejects(client.ready, { code: "LOST", done: "no" });
        assert.match(client.ended.detail, /Error/, String(url));
    }
});

test("by TLS, with an authority that is given; without it never", async () => {
    const folder = broker.folder;
    const [key, certificate] = ["tls.key", "tls.pem"].map((name) => join(folder, name));
    const words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    const out = ["-keyout", key, "-out", certificate];
    execFileSync("openssl", [...words.split(" "), ...subject, ...out], { stdio: "ignore" });
    const port = await freePort();
    const secure = await Usherd.start({
        "listen.tls": `127.0.0.1:${port}`,
        "tls.certificate_file": certificate,
        "tls.key_file": key,
    });
    try {
        const url = `tls://localhost:${port}`;
        const heidi = connect({ url, user: "heidi", tls: { ca: readFileSync(certificate) } });
        clients.add(heidi);
        await heidi.ready;
        const got = read(heidi);
        await heidi.send("heidi", "secret");
        await eventually("a message", () => got.length === 1);
        heidi.close();
        const trusting = connect({ url, user: "heidi" });
        clients.add(trusting);
        const closed = await new Promise((resolve) => trusting.on("closed", resolve));
        assert.match(closed.detail, /self.signed/);
        trusting.close();
    } finally {
        await secure.close();
    }
});

test("with tokens that expire: a new one for each login", async () => {
    const folder = broker.folder;
    const keys = join(folder, "keys.json");
    const token = (...words) => {
        const parameters = ["sign", "--keys", keys, "--sub", "ivan", ...words];
        return execFileSync(join(process.env.USHER_BIN, "usher-token"), parameters)
            .toString()
            .trim();
    };
    execFileSync(join(process.env.USHER_BIN, "usher-token"), ["keygen", "--out", keys]);
    const guarded = await Usherd.start({
        "auth.mode": "token",
        "auth.keys_file": keys,
        "auth.skew_ms": 0,
        "auth.session_ends": "with_token",
    });
    try {
        let asked = 0;
        const source = async () => token("--ttl", ++asked === 1 ? "2" : "300");
        const url = `tcp://127.0.0.1:${guarded.tcp}`;
        const ivan = connect({ url, user: "ivan", token: source });
        clients.add(ivan);
        const closings = [];
        ivan.on("closed", ({ reason }) => closings.push(reason));
        const { tokenMs } = await ivan.ready;
        assert.ok(tokenMs > 0 && tokenMs <= 2000);
        await eventually("the end of the token", () => closings.length && ivan.state === "online");
        assert.deepEqual(closings, ["TOKEN_EXPIRED"]);
        assert.equal(asked, 2);
        ivan.close();
        const old = connect({ url, user: "ivan", token: token("--ttl", "-10") });
        clients.add(old);
        await assert.rejects(old.ready, { code: "UNAUTHENTICATED" });
    } finally {
        await guarded.close();
    }
});
