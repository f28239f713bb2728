// SPDX-License-Identifier: Apache-2.0
// usher-backend as npm gives it: complete, for each kind of program, with no dependency.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const folder = process.env.USHER_JS_BACKEND_PACKAGE;
const read = (name) => readFileSync(join(folder, name), "utf8");

test("it needs nothing but Node", () => {
    const { dependencies, version, name, engines } = JSON.parse(read("package.json"));
    assert.equal(dependencies, undefined);
    assert.equal(name, "usher-backend");
    assert.match(version, /^[1-9]|^0\.[1-9]/);
    assert.equal(engines.node, ">=18");
    const imported = [...read("index.js").matchAll(/^import .* from "(.*)";$/gm)].map((m) => m[1]);
    assert.ok(imported.includes("node:net"));
    assert.deepEqual(
        imported.filter((each) => !each.startsWith("node:")),
        [],
    );
    assert.match(read("README.md"), /npm install/);
    assert.match(read("LICENSE"), /Apache License/);
});

const TYPED = `
    import { service, observe, Call, PresenceEvent, Service, ServiceStatus, Session, UsherError } from "usher-backend";
    import { RoomAsk, RoomInfo, RoomMember, RoomNews, WatchAsk } from "usher-backend";
    async function main(): Promise<void> {
        const users = new Map<string, Session>();
        const arena: Service = await service("arena", {
            link: ["ipc:///run/usher/link.sock", "tcp://localhost:7500"],
            instance: "a", token: "secret", callsMax: 10,
            presence: {
                after: 7,
                reset: () => users.clear(),
                snapshot: (session) => void users.set(session.user, session),
                current: ({ seq }) => show(seq),
            },
        });
        arena.on("move", async (call: Call) => call.payload);
        arena.on("stay", () => undefined);
        arena.on("text", (call) => { if (call.oneWay) return; return call.text; });
        arena.onCall(() => { throw new ServiceStatus(404, "no"); });
        arena.onLogin(async ({ user }) => ({ user, tokenEndsMs: 1 }));
        arena.onPresence((event: PresenceEvent) => event.kind === "ONLINE" && show(event.seq));
        arena.onRoomAsk(async ({ user, room, kind }: RoomAsk) => kind === "CREATE" ? user === room : "it is full");
        arena.onRoomNews((news: RoomNews) => news.kind === "MESSAGE" && news.cause === "ASKED" && show(news.newsSeq));
        arena.onWatchAsk(({ targets }: WatchAsk) => targets.filter((name) => name !== "bob"));
        const room: RoomInfo = await arena.roomOpen("m:1", { class: "m:*", membersMax: 4 });
        await arena.roomAdd(room.name, ["alice"], { epochs: [7], carry: true });
        await arena.roomRemove("m:1", "alice", "bye");
        show(await arena.roomPublish("m:1", "go"));
        for await (const { members, newsSeq } of arena.roomMembers("m:1", { limit: 5 }))
            members.forEach((member: RoomMember) => show(member.epoch + newsSeq));
        for await (const { name, members } of arena.rooms({ prefix: "m:" })) show(name.length + members);
        await arena.watchList("alice", ["bob"], { mode: "ADD", epoch: 7 });
        const closed: boolean = await arena.roomClose("m:1", "over"); void closed;
        // @ts-expect-error there is no such mode
        void arena.watchList("alice", [], { mode: "ALL" });
        const off: () => void = arena.onState(({ state, text }) => state === "linked" && text);
        off();
        const { accepted, dropped, failures } = await arena.push(["alice"], "hi", { epoch: 7, transient: true, traceparent: "" });
        for (const { user, code } of failures) if (code === "NOT_ONLINE") show(user.length);
        const kicked: boolean = await arena.kick("alice", { reason: 2, doNotReturn: true });
        for await (const session of arena.list({ prefix: "a" })) if (session.state === "ONLINE") show(session.epoch);
        const { online } = await arena.count();
        try { await arena.pushAll("x"); } catch (error) {
            if (error instanceof UsherError && error.code === "BUSY" && error.done === "no") await arena.room();
        }
        await arena.drain(); await arena.close();
        void [accepted, dropped, kicked, online];
        // @ts-expect-error there is no such event kind
        arena.onPresence((event) => event.kind === "GONE_AWAY");
        // @ts-expect-error a reply is bytes or a text
        arena.on("bad", () => 7);
        // @ts-expect-error a name is a text
        void arena.push(7, "hi");
    }
    const show = (n: number): void => void n;
    void main; void observe({});`;

test("import, require and types work in a project that has it installed", () => {
    const project = mkdtempSync(join(tmpdir(), "usher-js-"));
    try {
        mkdirSync(join(project, "node_modules"));
        symlinkSync(folder, join(project, "node_modules/usher-backend"));
        const program = `import { service, observe, UsherError, ServiceStatus } from "usher-backend";
            if (![service, observe, UsherError, ServiceStatus].every((each) => typeof each === "function")) throw 1;`;
        writeFileSync(join(project, "program.mjs"), program);
        execFileSync(process.execPath, [join(project, "program.mjs")], { stdio: "pipe" });
        const require = createRequire(join(project, "program.cjs"));
        assert.equal(typeof require("usher-backend").service, "function");
        // As a module and as CommonJS.
        writeFileSync(join(project, "program.mts"), TYPED);
        writeFileSync(join(project, "program.cts"), TYPED);
        const options = "--strict --noEmit --target es2020 --lib es2020 --module node16";
        execFileSync("tsc", [...options.split(" "), "program.mts", "program.cts"], {
            stdio: "inherit",
            cwd: project,
        });
    } finally {
        rmSync(project, { recursive: true });
    }
});
