// SPDX-License-Identifier: Apache-2.0
// Everything that the game needs, started together and ended together:
//
//     node play.mjs --bin FOLDER [--listen HOST:PORT] [--bots COUNT] [--resume SECONDS]
//
// A broker with a store of its own, two instances of the service, bots, and the server of pages. Whatever
// ends is started again: the broker at once, an instance after a moment in which it can be seen that the
// other one goes on. All of it is at loopback addresses but the pages. Each is a process group of its own,
// so that Ctrl-C reaches this one alone, which says who goes when.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { INSTANCE } from "./rules.mjs";
import { Server } from "./server.mjs";
import { newKey } from "./token.mjs";

const INSTANCES = ["one", "two"];
const BOTS_MAX = 48;
const DAY_SECONDS = 86400;
const INSTANCE_AGAIN_MS = 2500;
const CRASHED_AGAIN_MS = 500;
const STOP_MS = 5000;
/** Below those that systems give to whoever connects: nobody gets one of them while a broker is restarted. */
const [PORT_MIN, PORT_MAX] = [20000, 32000];

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const say = (text) => process.stdout.write(`${text}\n`);

function optionsOf(argv) {
    const { values } = parseArgs({
        args: argv,
        options: {
            bin: { type: "string" },
            listen: { type: "string", default: "127.0.0.1:8080" },
            bots: { type: "string", default: "0" },
            resume: { type: "string", default: "20" }, // long enough to see it, short enough to wait for its end
            sdk: {
                type: "string",
                default: here("node_modules/usher-client/usher-client-social.js"),
            },
        },
    });
    const [, host, port] = /^\[?([^\]]*?)\]?:(\d{1,5})$/.exec(values.listen) ?? [];
    const bots = Number(values.bots);
    if (
        !host ||
        !(port < 65536) ||
        !Number.isInteger(bots) ||
        bots < 0 ||
        bots > BOTS_MAX ||
        !values.bin
    ) {
        throw new Error(`play.mjs --bin FOLDER [--listen HOST:PORT] [--bots 0..${BOTS_MAX}]`);
    }
    return { ...values, host, port: Number(port), bots };
}

function isFree(port) {
    return new Promise((resolve) => {
        const probe = createServer().once("error", () => resolve(false));
        probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
    });
}

/** Ports that stay the same over restarts of the broker. */
async function freePorts(count) {
    const ports = new Set();
    while (ports.size < count) {
        const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
        if (await isFree(port)) {
            ports.add(port);
        }
    }
    return [...ports];
}

// --- processes -------------------------------------------------------------------------------------

/** One program that is started again when it ends, until it is stopped. */
class Kept {
    #stopped = false;
    #wantedEnd = false;
    #timer;

    /** hopeless: called when it ends by itself with a code, where it would only do so again. */
    constructor(name, start, againMs, hopeless) {
        Object.assign(this, { name, start, againMs, hopeless });
        this.#run();
    }

    #run() {
        this.child = this.start();
        this.child.on("error", (error) => say(`${this.name}: ${error.message}`));
        this.child.once("exit", (code, signal) => this.#ended(code, signal));
    }

    #ended(code, signal) {
        if (this.#stopped) {
            return;
        }
        if (!this.#wantedEnd && code !== null && this.hopeless) {
            this.hopeless();
            return;
        }
        const pause = this.#wantedEnd ? this.againMs : Math.max(this.againMs, CRASHED_AGAIN_MS);
        this.#wantedEnd = false;
        say(
            `${this.name} has ended (${signal ?? `code ${code}`}); it starts again in ${pause / 1000} s`,
        );
        this.#timer = setTimeout(() => this.#run(), pause);
    }

    get alive() {
        return this.child.exitCode === null && this.child.signalCode === null;
    }

    /** kill -9. */
    kill() {
        this.#wantedEnd = this.alive;
        return this.child.kill("SIGKILL");
    }

    /** In order; whoever does not is killed. */
    async stop() {
        this.#stopped = true;
        clearTimeout(this.#timer);
        if (this.alive) {
            const ended = new Promise((resolve) => this.child.once("exit", resolve));
            const patience = setTimeout(() => this.child.kill("SIGKILL"), STOP_MS);
            this.child.kill("SIGTERM");
            await ended;
            clearTimeout(patience);
        }
    }
}

function broker(options, { folder, ports, origins, hopeless }) {
    const settings = {
        "listen.tcp": `127.0.0.1:${ports.tcp}`,
        "listen.ws": `127.0.0.1:${ports.ws}`,
        "admin.listen": `127.0.0.1:${ports.admin}`,
        "link.urls": `ipc://${folder}/link.sock`,
        "store.path": join(folder, "store"),
        "auth.mode": "token",
        "auth.keys_file": join(folder, "keys.json"),
        "ws.forwarded_from": "127.0.0.1",
        "ws.origins": origins.join(","),
        "session.resume_ms": `${options.resume}s`,
        "link.grace_ms": "300", // an instance that was killed does not come back at once
        "limits.users": "200",
        "limits.login_deadline_ms": "10000", // phones, and whoever plays beside a build
        "rooms.classes": "park create=token join=token members=200 history=8/60s",
        "link.frame_bytes": "32768", // a picture of so many
        "log.format": "text",
        "log.level": "warn",
    };
    const set = Object.entries(settings).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
    const stdio = ["ignore", "inherit", "inherit"];
    const start = () =>
        spawn(join(options.bin, "usherd"), set, { stdio, cwd: folder, detached: true });
    return new Kept("broker", start, 0, hopeless);
}

function program(file, environment, stdio) {
    const env = { ...process.env, ...environment };
    return spawn(process.execPath, [here(file)], { env, stdio, detached: true });
}

function instance(name, link, url, sign) {
    const environment = () => ({
        PARK_INSTANCE: name,
        PARK_LINK: link,
        PARK_URL: url,
        PARK_TOKEN: sign(INSTANCE + name, DAY_SECONDS),
    });
    const start = () => program("service.mjs", environment(), ["ignore", "inherit", "inherit"]);
    return new Kept(`instance ${name}`, start, INSTANCE_AGAIN_MS);
}

/** All bots are one process, which is told how many there shall be. */
function crowd(url, sign, count) {
    const bots = new Kept("bots", start, CRASHED_AGAIN_MS);
    function start() {
        const child = program("bots.mjs", { PARK_URL: url }, [
            "ignore",
            "inherit",
            "inherit",
            "ipc",
        ]);
        child.on(
            "message",
            ({ name }) => child.connected && child.send({ name, token: sign(name, DAY_SECONDS) }),
        );
        child.on("error", () => {});
        child.send({ count });
        return child;
    }
    return {
        stop: () => bots.stop(),
        add(change) {
            count = Math.min(
                Math.max(count + (Number.isInteger(change) ? change : 0), 0),
                BOTS_MAX,
            );
            if (bots.alive && bots.child.connected) {
                bots.child.send({ count });
            }
            return { bots: count };
        },
    };
}

// --- all of it -------------------------------------------------------------------------------------

async function main() {
    const options = optionsOf(process.argv.slice(2));
    const [tcp, ws, admin] = await freePorts(3);
    const ports = { tcp, ws, admin };
    const folder = mkdtempSync(join(tmpdir(), "usher-park-"));
    const { file, sign } = newKey();
    const all = {}; // by name, what runs
    const actions = {
        "/kill/broker": () => ({ killed: all.broker.kill() }),
        "/kill/one": () => ({ killed: all.one.kill() }),
        "/kill/two": () => ({ killed: all.two.kill() }),
        "/bots": ({ change }) => all.bots.add(change),
    };
    const server = new Server({ broker: ports, sign, actions, sdk: options.sdk });
    let addresses;
    try {
        addresses = await server.listen(options.host, options.port);
    } catch (error) {
        rmSync(folder, { recursive: true });
        throw error;
    }
    writeFileSync(join(folder, "keys.json"), file, { mode: 0o600 });
    const origins = addresses.map((address) => `http://${address}`);
    const hopeless = () => void stop(1);
    all.broker = broker(options, { folder, ports, origins, hopeless });
    const link = `ipc://${folder}/link.sock`;
    const url = `tcp://127.0.0.1:${tcp}`;
    INSTANCES.forEach((name) => (all[name] = instance(name, link, url, sign)));
    all.bots = crowd(url, sign, options.bots);
    announce(origins, server.key, options.host, folder);

    let stopping = false;
    async function stop(code) {
        if (!stopping) {
            stopping = true;
            server.close();
            await all.bots.stop();
            await Promise.all(INSTANCES.map((name) => all[name].stop()));
            await all.broker.stop();
            rmSync(folder, { recursive: true, force: true });
            process.exit(code);
        }
    }
    ["SIGINT", "SIGTERM", "SIGHUP"].forEach((signal) => process.on(signal, () => stop(0)));
}

function announce(origins, key, host, folder) {
    say(`\nTag in the park is at   ${origins[0]}/`);
    origins.slice(1).forEach((origin) => say(`                        ${origin}/`));
    if (!/^(127\.|::1$|localhost$)/.test(host)) {
        say(`with the buttons that kill, from elsewhere: ${origins.at(-1)}/#key=${key}`);
    }
    say(`\nThe broker's link is    ipc://${folder}/link.sock`);
    say("Ctrl-C ends all of it.\n");
}

main().catch((error) => {
    process.stderr.write(
        `${error.code === "EADDRINUSE" ? "that address is in use: --listen HOST:PORT" : error.message}\n`,
    );
    process.exit(1);
});
