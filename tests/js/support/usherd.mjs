// SPDX-License-Identifier: Apache-2.0
// A real usherd in a folder of its own, with its ports for TCP and WebSocket, and a relay in front of
// one that cuts where it is told to.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, sleep } from "./wait.mjs";

const READY_MS = 30000;

process.setMaxListeners(0);

export { eventually, sleep };

/** A port that was free a moment ago. */
export function freePort() {
    return new Promise((resolve) => {
        const server = createServer().listen(0, "127.0.0.1", () => {
            const { port } = server.address();
            server.close(() => resolve(port));
        });
    });
}

export class Usherd {
    static async start(options = {}) {
        const broker = new Usherd();
        broker.folder = mkdtempSync(join(tmpdir(), "usher-js-"));
        [broker.tcp, broker.ws] = [await freePort(), await freePort()];
        broker.options = {
            "listen.tcp": `127.0.0.1:${broker.tcp}`,
            "listen.ws": `127.0.0.1:${broker.ws}`,
            "store.path": join(broker.folder, "store"),
            "link.urls": `ipc://${join(broker.folder, "link.sock")}`,
            "admin.listen": "",
            "log.format": "json",
            "limits.prelogin_per_source": 0,
            "limits.requests_per_second": 0,
            "limits.requests_per_second_per_source": 0,
            "limits.logins_per_minute_per_source": 0,
            "limits.logins_per_minute_per_user": 60000,
            ...options,
        };
        await broker.run();
        return broker;
    }

    program(name, ...parameters) {
        const stdio = ["ignore", "ignore", "pipe"];
        const child = spawn(join(process.env.USHER_BIN, name), parameters, {
            cwd: this.folder,
            stdio,
        });
        process.on("exit", () => child.kill("SIGKILL")); // none outlives a test that fails
        child.stderr.resume(); // or its pipe keeps this process from ending
        return child;
    }

    async run() {
        const sets = Object.entries(this.options).flatMap(([key, value]) => [
            "--set",
            `${key}=${value}`,
        ]);
        this.log = "";
        this.process = this.program("usherd", ...sets);
        this.over = new Promise((resolve) => this.process.on("exit", resolve));
        this.process.stderr.on("data", (text) => (this.log += text));

        await eventually("ready", () => this.log.includes('"ready"'), READY_MS).catch(() => {
            throw new Error("usherd is not ready: " + this.log);
        });
    }

    /** SIGTERM by default; gives the exit code. */
    async stop(signal = "SIGTERM") {
        this.process.kill(signal);
        return this.over;
    }

    /** An operator's program: gives its exit code. */
    ctl(...parameters) {
        const link = `ipc://${join(this.folder, "link.sock")}`;
        const program = this.program("usherctl", "--url", link, ...parameters);

        return new Promise((resolve) => program.on("exit", resolve));
    }

    async close() {
        const code = await this.stop();
        rmSync(this.folder, { recursive: true });
        return code;
    }
}

/** Passes bytes on, until `budget` of a connection is used up: then both sides lose it. A plan is made
 * for each connection: {up, down}, how many bytes may pass, or nothing. Where `read` is given it makes the
 * plan, of the first bytes that come: a `name` to count for, or an `answer` in place of the broker's. */
export class Relay {
    static async start(port, plan = () => ({}), read = undefined) {
        const relay = new Relay();
        const counts = { connections: 0, up: 0, down: 0, used: new Map() };
        Object.assign(relay, { plan, read, pipes: new Set(), ...counts });
        relay.server = createServer((client) => relay.#take(client, port));
        await new Promise((resolve) => relay.server.listen(0, "127.0.0.1", resolve));
        relay.port = relay.server.address().port;
        return relay;
    }

    #take(client, port) {
        const plan = { ...this.plan(this.connections++) };
        client.on("error", () => client.destroy());
        if (!this.read) {
            this.#pass(client, port, plan);
            return;
        }
        client.once("data", (head) => {
            Object.assign(plan, this.read(head.toString("latin1")));
            if (plan.answer) {
                const lines = ["HTTP/1.1 200 OK", "Access-Control-Allow-Origin: *"];
                lines.push("Connection: close", "", plan.answer);
                client.end(lines.join("\r\n"));
                return;
            }
            client.pause();
            client.unshift(head);
            this.#pass(client, port, plan);
            client.resume();
        });
    }

    #pass(client, port, plan) {
        const broker = connect(port, "127.0.0.1");
        const used = { up: 0, down: 0 };
        if (plan.name) {
            this.used.set(plan.name, used);
        }
        const pipe = {
            cut: () => {
                this.pipes.delete(pipe);
                client.destroy();
                broker.destroy();
            },
        };
        this.pipes.add(pipe);
        const pass = (from, to, way) => {
            from.on("data", (data) => {
                const left = plan[way] ?? Infinity;
                const some = data.subarray(0, left);
                plan[way] = left - some.length;
                this[way] += some.length;
                used[way] += some.length;
                // What passes has to arrive before the end does.
                to.write(some, () => plan[way] === 0 && setTimeout(pipe.cut, 1));
            });
            from.on("end", () => to.end());
            from.on("error", () => to.destroy());
            from.on("close", () => {
                this.pipes.delete(pipe);
                to.destroy();
            });
        };
        pass(client, broker, "up");
        pass(broker, client, "down");
    }

    /** All connections are lost. */
    cut() {
        this.pipes.forEach((pipe) => pipe.cut());
    }

    close() {
        this.cut();
        return new Promise((resolve) => this.server.close(resolve));
    }
}
