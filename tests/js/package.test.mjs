// SPDX-License-Identifier: Apache-2.0
// The package as npm gives it: small, complete, for each kind of program, and nothing of Node in what
// a page loads.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import vm from "node:vm";
import { gzipSync } from "node:zlib";

const GZIP_BYTES_MAX = 6 * 1024;
const folder = process.env.USHER_JS_PACKAGE;
const read = (name) => readFileSync(join(folder, name), "utf8");

for (const name of ["index.js", "usher-client.js"]) {
    test(`${name} has at most 6 KiB with gzip, and names nothing of Node`, (t) => {
        const size = gzipSync(read(name), { level: 9 }).length;
        t.diagnostic(`${size} bytes`);
        assert.ok(size <= GZIP_BYTES_MAX, `${size} bytes`);
        assert.doesNotMatch(read(name), /\b(Buffer|process|require|eval|new Function)\b/);
    });
}

test("a script tag gives `usher`", () => {
    const page = vm.createContext({ WebSocket: class {} });
    vm.runInContext(read("usher-client.js"), page);
    assert.equal(vm.runInContext("typeof usher.connect", page), "function");
    assert.equal(vm.runInContext("new usher.UsherError('BUSY', '', 'no').code", page), "BUSY");
});

test("import, require and types work in a project that has it installed", () => {
    const project = mkdtempSync(join(tmpdir(), "usher-js-"));
    try {
        mkdirSync(join(project, "node_modules"));
        symlinkSync(folder, join(project, "node_modules/usher-client"));
        writeFileSync(
            join(project, "program.mjs"),
            `import * as a from "usher-client";
             import * as b from "usher-client/node";
             if (typeof a.connect !== "function" || typeof b.connect !== "function") throw a;`,
        );
        execFileSync(process.execPath, [join(project, "program.mjs")], { stdio: "pipe" });
        const require = createRequire(join(project, "program.cjs"));
        assert.equal(typeof require("usher-client").connect, "function");
        assert.equal(typeof require("usher-client/node").connect, "function");
        const typed = `import { connect, UsherError, Message, Welcome } from "usher-client";
             import { connect as connectNode } from "usher-client/node";
             const client = connect({ url: "ws://localhost/usher", user: "alice", acks: true });
             async function main(): Promise<void> {
                 const welcome: Welcome = await client.ready;
                 const epoch: number = await client.send("bob", "hi", { delivered: true });
                 const reply: Uint8Array = await client.call("echo", "echo", reply0());
                 const off: () => void = client.on("closed", ({ reason }) => void reason.length);
                 off();
                 for await (const message of client.messages()) show(message);
                 try { await client.logout(); } catch (e) {
                     if (e instanceof UsherError && e.code === "NO_ANSWER" && e.done === "unknown") return;
                 }
                 void [welcome, epoch, reply];
             }
             const reply0 = (): Uint8Array => new Uint8Array(1);
             const show = (message: Message): number => message.seq + message.text.length;
             void main; void connectNode({ url: "tls://localhost", user: "bob", tls: { ca: "" } });
             // @ts-expect-error there is no such event
             client.on("clsoed", () => {});
             // @ts-expect-error a name is a text
             client.send(7, "hi");`;
        // As a module and as CommonJS.
        writeFileSync(join(project, "program.mts"), typed);
        writeFileSync(join(project, "program.cts"), typed);
        const options = "--strict --noEmit --target es2020 --lib es2020,dom --module node16";
        execFileSync("tsc", [...options.split(" "), "program.mts", "program.cts"], {
            stdio: "inherit",
            cwd: project,
        });
    } finally {
        rmSync(project, { recursive: true });
    }
});

test("what npm would pack", () => {
    const { version, name } = JSON.parse(read("package.json"));
    assert.equal(name, "usher-client");
    assert.match(version, /^[1-9]|^0\.[1-9]/);
    assert.match(read("README.md"), /npm install/);
    assert.match(read("LICENSE"), /Apache License/);
});
