// SPDX-License-Identifier: Apache-2.0
// The server of the game's pages against a broker that does what a test says; with the real one it is
// played by 09-game.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, get } from "node:http";
import { connect } from "node:net";
import { after, test } from "node:test";
import { Server } from "../../clients/park/server.mjs";

const PATIENCE_MS = 30000;

/** A console that begins an answer, and is gone before its end. */
const admin = createServer((message, answer) => {
    answer.writeHead(200, { "Content-Length": 100 });
    answer.write("the beginning", () => message.socket.destroy());
});
admin.listen(0, "127.0.0.1");
await once(admin, "listening");

const server = new Server({
    broker: { ws: 1, admin: admin.address().port },
    sign: () => "",
    actions: {},
    sdk: `${process.env.USHER_JS_PACKAGE}/usher-client.js`,
});
const host = (await server.listen("127.0.0.1", 0)).find((name) => name.startsWith("127."));
const port = Number(host.split(":")[1]);
after(() => {
    server.close();
    admin.close();
});

test("an upgrade that is refused keeps no connection, though its client never hangs up", async () => {
    const client = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    const closed = new Promise((resolve, reject) => {
        client.on("close", resolve);
        setTimeout(reject, PATIENCE_MS, new Error("it is kept")).unref();
    });
    client.on("error", () => {}); // written to somebody who is gone
    client.write(
        `GET /nothing HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    );
    const [answer] = await once(client, "data");
    assert.match(String(answer), /^HTTP\/1\.1 404 /);
    await once(client, "end");
    const asking = setInterval(() => client.write("still here"), 10);
    await closed.finally(() => clearInterval(asking) ?? client.destroy());
});

test("an answer of the console that breaks off breaks off, and nobody waits for its end", async () => {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const asked = get({ port, host: "127.0.0.1", path: "/console/", headers: { host }, signal });
    const [answer] = await once(asked, "response");
    const read = async () => {
        for await (const piece of answer) {
            assert.equal(String(piece), "the beginning");
        }
    };
    await assert.rejects(read, { code: "ECONNRESET" });
    assert.ok(!signal.aborted, "it was our patience that ended");
});
