// SPDX-License-Identifier: Apache-2.0
// What a call and a push cost with usher-backend, and with libusher-backend in the same minute:
//
//     node tests/js/support/backend_measure.mjs [ROUNDS]
//
// from the root of a clone that is built. Rounds alternate between the two, so that what else the
// machine does is the same for both; what is printed are medians. Both echo services are processes of
// their own, called by one usher-client by TCP, whose cost is in both.
import { execFile, execFileSync, fork } from "node:child_process";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const build = resolve("build/release");
process.env.USHER_BIN ??= join(build, "bin");
const clientPackage = join(build, "clients/js/package/node.js");
const backendPackage = join(build, "clients/js-backend/package/index.js");
const [SINGLE, TOGETHER, WINDOW, USERS, PUSHES, PUSH_USERS, OPEN_MAX] = [
    1000, 6000, 8, 30, 30000, 50, 1024,
];
const self = fileURLToPath(import.meta.url);

const { service, observe } = await import(pathToFileURL(backendPackage));

async function echo(link) {
    const arena = await service("echo-js", { link, log: () => {} });
    arena.on("echo", (call) => call.payload);
    process.send("linked");
}

/** Pushes per second, once the engine has compiled what is run often. */
async function push(link) {
    const watch = await observe({ link, log: () => {} });
    const payload = new Uint8Array(32);
    const run = async () => {
        const began = performance.now();
        let sent = 0;
        const one = async () => {
            while (sent < PUSHES) {
                const to = `push-${sent++ % PUSH_USERS}`;
                const { accepted, dropped } = await watch.push(to, payload, { transient: true });
                if (accepted + dropped !== 1) {
                    throw new Error("a push that is neither");
                }
            }
        };
        await Promise.all(Array.from({ length: OPEN_MAX }, one));
        return (PUSHES * 1000) / (performance.now() - began);
    };
    await run();
    process.send(await run());
    await watch.close();
    process.disconnect();
}

const median = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)];

function child(role, link) {
    const own = fork(self, [role, link]);
    return { own, said: new Promise((done) => own.once("message", done)) };
}

async function main(rounds) {
    const { Usherd } = await import("./usherd.mjs");
    const { connect } = await import(pathToFileURL(clientPackage));
    const broker = await Usherd.start();
    const link = `ipc://${join(broker.folder, "link.sock")}`;
    const c = broker.program("usher-echo", "--url", link);
    const js = child("echo", link);
    await js.said;
    const login = async (user) => {
        const client = connect({ url: `tcp://127.0.0.1:${broker.tcp}`, user });
        await client.ready;
        return client;
    };
    const callers = await Promise.all(
        Array.from({ length: USERS }, (_, i) => login(`caller-${i}`)),
    );
    const listeners = await Promise.all(
        Array.from({ length: PUSH_USERS }, (_, i) => login(`push-${i}`)),
    );
    listeners.forEach((client) => client.on("message", () => {}));

    const single = async (name, count) => {
        const began = performance.now();
        for (let i = 0; i < count; i++) {
            await callers[0].call(name, "echo", "thirty-two bytes of a payload...");
        }
        return ((performance.now() - began) * 1000) / count;
    };
    const together = async (name, count) => {
        const began = performance.now();
        let sent = 0;
        const one = async (client) => {
            while (sent++ < count) {
                await client.call(name, "echo", "thirty-two bytes of a payload...");
            }
        };
        await Promise.all(
            callers.flatMap((client) => Array.from({ length: WINDOW }, () => one(client))),
        );
        return (count * 1000) / (performance.now() - began);
    };
    const library = join(build, "clients/libusher-backend");
    const pusher = join(broker.folder, "push");
    const flags = ["-O2", "-Iclients/libusher-backend", `-L${library}`, `-Wl,-rpath,${library}`];
    const source = fileURLToPath(new URL("backend_push.c", import.meta.url));
    execFileSync("cc", [...flags, source, "-lusher-backend", "-o", pusher]);
    const pushC = () =>
        new Promise((done, failed) =>
            execFile(pusher, [link, PUSHES, PUSH_USERS].map(String), (error, out) =>
                error ? failed(error) : done(Number(out)),
            ),
        );
    const pushJs = () => child("push", link).said;

    for (const name of ["echo", "echo-js"]) {
        await single(name, 300);
        await together(name, 2000);
    }
    const rows = { single: [[], []], together: [[], []], push: [[], []] };
    for (let i = 0; i < rounds; i++) {
        const order = i % 2 ? [1, 0] : [0, 1];
        for (const k of order) {
            const name = ["echo", "echo-js"][k];
            rows.single[k].push(await single(name, SINGLE));
            rows.together[k].push(await together(name, TOGETHER));
            rows.push[k].push(await [pushC, pushJs][k]());
        }
    }
    const show = (what, [inC, inJs], unit) =>
        console.log(
            `${what}: C ${median(inC).toFixed(0)}, JavaScript ${median(inJs).toFixed(0)} ${unit}`,
        );
    console.log(`node ${process.version}, ${rounds} rounds, medians`);
    show("a call, one by one", rows.single, "us");
    show(`calls, ${USERS} users with ${WINDOW} open each`, rows.together, "a second");
    show(`transient pushes to ${PUSH_USERS} users, ${OPEN_MAX} open`, rows.push, "a second");
    [...callers, ...listeners].forEach((client) => client.close());
    js.own.kill();
    c.kill();
    await broker.close();
}

const [role, link] = process.argv.slice(2);
if (role === "echo") {
    await echo(link);
} else if (role === "push") {
    await push(link);
} else {
    await main(Number(role ?? 5));
}
