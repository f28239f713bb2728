// SPDX-License-Identifier: Apache-2.0
// The package as npm gives it: small, complete, for each kind of program, and nothing of Node in what
// a page loads.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import vm from "node:vm";
import { gzipSync } from "node:zlib";

const GZIP_BYTES_MAX = 6.5 * 1024;
/** What rooms and friends may add to it. */
const SOCIAL_BYTES_MAX = 2560;
const folder = process.env.USHER_JS_PACKAGE;
const typed = readFileSync(new URL("support/types.mts", import.meta.url), "utf8");
const read = (name) => readFileSync(join(folder, name), "utf8");

const sizeOf = (name) => gzipSync(read(name), { level: 9 }).length;

for (const [name, social] of [
    ["index.js", "social.js"],
    ["usher-client.js", "usher-client-social.js"],
]) {
    test(`${name} has at most 6.5 KiB with gzip, and names nothing of Node`, (t) => {
        const size = sizeOf(name);
        t.diagnostic(`${size} bytes`);
        assert.ok(size <= GZIP_BYTES_MAX, `${size} bytes`);
        assert.doesNotMatch(read(name), /\b(Buffer|process|require|eval|new Function)\b/);
        assert.doesNotMatch(read(name), /room|friend|NOT_MEMBER/i); // who needs none does not pay
    });

    test(`${social} adds at most 2.5 KiB to it`, (t) => {
        const more = sizeOf(social) - sizeOf(name);
        t.diagnostic(`${more} bytes`);
        assert.ok(more <= SOCIAL_BYTES_MAX, `${more} bytes`);
        assert.doesNotMatch(read(social), /\b(Buffer|process|require|eval|new Function)\b/);
    });
}

for (const name of ["usher-client.js", "usher-client-social.js"]) {
    test(`a script tag gives \`usher\`: ${name}`, () => {
        const page = vm.createContext({ WebSocket: class {} });
        vm.runInContext(read(name), page);
        assert.equal(vm.runInContext("typeof usher.connect", page), "function");
        assert.equal(vm.runInContext("new usher.UsherError('BUSY', '', 'no').code", page), "BUSY");
    });
}

test("import, require and types work in a project that has it installed", () => {
    const project = mkdtempSync(join(tmpdir(), "usher-js-"));
    try {
        mkdirSync(join(project, "node_modules"));
        symlinkSync(folder, join(project, "node_modules/usher-client"));
        writeFileSync(
            join(project, "program.mjs"),
            `import * as a from "usher-client";
             import * as b from "usher-client/node";
             import * as c from "usher-client/social";
             for (const each of [a, b, c]) if (typeof each.connect !== "function") throw each;`,
        );
        execFileSync(process.execPath, [join(project, "program.mjs")], { stdio: "pipe" });
        const require = createRequire(join(project, "program.cjs"));
        assert.equal(typeof require("usher-client").connect, "function");
        assert.equal(typeof require("usher-client/node").connect, "function");
        assert.equal(typeof require("usher-client/social").connect, "function");
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

test("that program uses every public name", () => {
    const declared = ["api", "errors", "node", "social-api"]
        .map((name) => read(name + ".d.ts"))
        .join("\n");
    const names = [
        ...declared.matchAll(/^export (?:declare )?(?:class|function|interface|type) (\w+)/gm),
        ...declared.matchAll(/^ {4}(?:readonly )?(\w+)\??[:(<]/gm),
    ].map(([, name]) => name);
    const own = /^(constructor|refusal)$/; // of the client itself
    const unused = names.filter(
        (name) => !own.test(name) && !new RegExp(`\\b${name}\\b`).test(typed),
    );
    assert.deepEqual(unused, []);
    assert.ok(names.length > 110, `${names.length}`);
});

test("every public name has its meaning where an editor shows it", () => {
    const lines = ["api", "errors", "social-api"].flatMap((name) =>
        read(name + ".d.ts").split("\n"),
    );
    const said = /^\s*(\/\*\*|\*)/;
    const bare = lines.filter(
        (line, i) => /^(export| {4}(readonly )?\w+\??[:(<])/.test(line) && !said.test(lines[i - 1]),
    );
    assert.deepEqual(bare, []);
});

test("what npm would pack", () => {
    const { version, name } = JSON.parse(read("package.json"));
    assert.equal(name, "usher-client");
    assert.match(version, /^[1-9]|^0\.[1-9]/);
    assert.match(read("README.md"), /npm install/);
    assert.match(read("LICENSE"), /Apache License/);
});

test("a program ends by itself though its broker reads no more", async () => {
    const { BROKERFRAME, encode } = await import(process.env.USHER_JS_INTERNALS);
    const welcome = { epoch: 1, secret: Uint8Array.of(1), nextSeq: 1 };
    const broker = createServer((socket) => {
        socket.on("error", () => {}); // what it has not read is no orderly end
        socket.once("data", () => {
            socket.write(encode(BROKERFRAME, { id: 1, welcome }));
            socket.pause();
        });
    }).listen(0, "127.0.0.1");
    await once(broker, "listening");
    const url = `tcp://127.0.0.1:${broker.address().port}`;
    const text = `import { connect } from ${JSON.stringify(join(folder, "node.js"))};
        const client = connect({ url: "${url}", user: "alice", queueBytesMax: ${1 << 25} });
        await client.ready;
        for (let n = 0; n < 250; n++) client.post("bob", new Uint8Array(60000)); // more than sockets hold
        client.close();`;
    const program = spawn(process.execPath, ["--input-type=module", "-e", text], {
        stdio: "inherit",
        timeout: 30000,
    });
    const how = await once(program, "exit");
    broker.close();
    assert.deepEqual(how, [0, null]);
});
