// SPDX-License-Identifier: Apache-2.0
// The one address of the game: pages, the token of a name, the WebSocket of the broker, its console, and
// the buttons. Nothing but node:http.
//
// Who may do what. All that a browser asks for must be asked of one of our own addresses (Host), so a name
// that was turned to this machine gets nothing; and what changes something must come from our own page
// (Origin), so other pages cannot press buttons. Buttons that kill, and the console, are for this machine
// alone, or (buttons) for who has the key that was printed. Everybody may cut a line: his own, which he
// names by a number that nobody else knows.
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import { pipeline } from "node:stream";
import { Names } from "./token.mjs";

const MODULES = ["rules.mjs", "scenery.mjs", "avatars.mjs"];
const BODY_BYTES_MAX = 1024;
const CONNECTIONS_MAX = 1000;
const HEAD_DEADLINE_MS = 10000;
const CUT_SECONDS_MAX = 30;
const ADDRESSES_MAX = 8; // as many as ws.origins takes
const LINE = /^[0-9a-f]{16,64}$/;
const HOP_BY_HOP = /^(connection|keep-alive|transfer-encoding|upgrade|proxy-.*|te|trailer)$/i;

const isLoopback = (address) => /^(127\.|::1$|::ffff:127\.)/.test(address);
const plain = (address) => address.replace(/^::ffff:/, "");

/** host:port by which pages may name us: the one that we listen at, or all of this machine. */
export function addressesOf(host, port) {
    const inUrl = (address) => (address.includes(":") ? `[${address}]` : address);
    const everywhere = host === "0.0.0.0" || host === "::";
    const own = Object.values(networkInterfaces())
        .flat()
        .filter(
            ({ family, internal, scopeid }) =>
                !internal && !scopeid && (family === "IPv4" || host === "::"),
        )
        .map(({ address }) => inUrl(address));
    const names = everywhere || isLoopback(host) ? ["localhost", "127.0.0.1"] : [inUrl(host)];
    const all = [...new Set([...names, ...(everywhere ? own : [])])];
    return all.slice(0, ADDRESSES_MAX).map((name) => (port === 80 ? name : `${name}:${port}`));
}

// --- lines -----------------------------------------------------------------------------------------

/** The WebSockets that pass through here, by the number that a page gave its line. */
class Lines {
    #open = new Map();
    #cut = new Set();

    isCut(line) {
        return this.#cut.has(line);
    }

    add(line, sockets) {
        if (line) {
            this.#open.set(line, [...(this.#open.get(line) ?? []), sockets]);
            sockets[0].once("close", () => this.#remove(line, sockets));
        }
    }

    #remove(line, sockets) {
        const left = this.#open.get(line)?.filter((other) => other !== sockets) ?? [];
        left.length ? this.#open.set(line, left) : this.#open.delete(line);
    }

    /** Both sides lose it without a word, and it cannot be had again for so long. */
    cut(line, seconds) {
        if (!this.#open.has(line)) {
            return false;
        }
        this.#cut.add(line);
        setTimeout(() => this.#cut.delete(line), seconds * 1000);
        this.#open
            .get(line)
            .flat()
            .forEach((socket) => socket.destroy());
        return true;
    }
}

// --- the server ------------------------------------------------------------------------------------

/** Scripts and styles that stand in the page itself are allowed by what they are. */
function policyOf(html) {
    const hashes = (tag) =>
        [...html.matchAll(new RegExp(`<${tag}(?: type="module")?>(.*?)</${tag}>`, "gs"))]
            .map(([, text]) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`)
            .join(" ");
    return (
        `default-src 'none'; script-src 'self' ${hashes("script")}; style-src ${hashes("style")}; ` +
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
}

function loadFiles(folder, sdk) {
    const html = readFileSync(new URL("index.html", folder));
    const script = (file) => ["text/javascript", readFileSync(file)];
    const page = [
        "text/html; charset=utf-8",
        html,
        { "Content-Security-Policy": policyOf(String(html)) },
    ];
    const modules = MODULES.map((name) => [`/${name}`, script(new URL(name, folder))]);
    return new Map([["/", page], ["/usher-client-social.js", script(sdk)], ...modules]);
}

/** undefined: what is asked for is no address ("//"), which the parser of HTTP lets through. */
function targetOf(message) {
    try {
        return new URL(message.url, "http://park");
    } catch {
        return undefined;
    }
}

async function bodyOf(message) {
    let text = "";
    for await (const piece of message.setEncoding("utf8")) {
        text += piece;
        if (text.length > BODY_BYTES_MAX) {
            return undefined;
        }
    }
    try {
        const body = JSON.parse(text);
        return body && typeof body === "object" ? body : undefined;
    } catch {
        return undefined;
    }
}

export class Server {
    #lines = new Lines();
    #names = new Names();
    #options;
    #hosts;
    #files;
    #http;

    /** broker: { ws, admin } are its ports; sign(name) gives a token; actions: by name, what the buttons
     * do; sdk: the file of usher-client/social. */
    constructor(options) {
        this.#options = { ...options, key: randomBytes(12).toString("hex") };
        this.#files = loadFiles(new URL(".", import.meta.url), options.sdk);
        this.#http = createServer({
            headersTimeout: HEAD_DEADLINE_MS,
            requestTimeout: HEAD_DEADLINE_MS,
        });
        this.#http.maxConnections = CONNECTIONS_MAX;
        this.#http.on("request", (message, answer) => {
            this.#serve(message, answer).catch(() => answer.destroy());
        });
        this.#http.on("upgrade", (...event) => this.#upgrade(...event));
    }

    get key() {
        return this.#options.key;
    }

    listen(host, port) {
        return new Promise((resolve, reject) => {
            this.#http.once("error", reject);
            this.#http.listen(port, host, () => {
                const bound = this.#http.address().port;
                this.#hosts = addressesOf(host, bound);
                resolve(this.#hosts);
            });
        });
    }

    close() {
        this.#http.close();
        this.#http.closeAllConnections();
    }

    // --- requests ----------------------------------------------------------------------------------

    async #serve(message, answer) {
        const path = targetOf(message)?.pathname;
        const say = (status, body = {}) => {
            answer.writeHead(status, {
                "Content-Type": "application/json",
                "Cache-Control": "no-store",
            });
            answer.end(JSON.stringify(body));
        };
        if (!this.#hosts.includes(message.headers.host)) {
            say(421, { error: `the game is at ${this.#hosts.join(", ")}` });
        } else if (path === undefined) {
            say(400, { error: "that is no address" });
        } else if (message.method === "GET" && path.startsWith("/console/")) {
            this.#console(message, answer, say);
        } else if (message.method === "GET") {
            this.#file(path, answer, say);
        } else if (message.method === "POST") {
            await this.#order(path, message, say);
        } else {
            say(405);
        }
    }

    #file(path, answer, say) {
        const file = this.#files.get(path);
        if (!file) {
            say(404, { error: "there is nothing" });
            return;
        }
        const [type, bytes, more] = file;
        const headers = {
            "Content-Type": type,
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
        };
        answer.writeHead(200, { ...headers, "Referrer-Policy": "no-referrer", ...more });
        answer.end(bytes);
    }

    #isOurs({ headers }) {
        return headers.origin === `http://${headers.host}`;
    }

    #mayOperate(message) {
        const shown = Buffer.from(String(message.headers["park-key"] ?? ""));
        const key = Buffer.from(this.key);
        const good = shown.length === key.length && timingSafeEqual(shown, key);
        return good || isLoopback(message.socket.remoteAddress ?? "");
    }

    async #order(path, message, say) {
        const body = await bodyOf(message);
        const action = Object.hasOwn(this.#options.actions, path) && this.#options.actions[path];
        if (!this.#isOurs(message)) {
            say(403, { error: "only this game's own page may ask" });
        } else if (!body) {
            say(400, { error: "JSON is wanted, of at most 1024 bytes" });
        } else if (path === "/token") {
            const status = this.#names.claim(body.name, body.secret);
            say(status, status === 200 ? { token: this.#options.sign(body.name) } : {});
        } else if (path === "/cut") {
            const seconds = Math.min(Math.max(Number(body.seconds) || 0, 0), CUT_SECONDS_MAX);
            say(LINE.test(body.line) && this.#lines.cut(body.line, seconds) ? 200 : 404);
        } else if (path === "/may") {
            say(200, { operate: this.#mayOperate(message), console: this.#mayLook(message) });
        } else if (!action) {
            say(404);
        } else if (!this.#mayOperate(message)) {
            say(403, { error: "this takes the address with the key" });
        } else {
            say(200, action(body) ?? {});
        }
    }

    // --- the console -------------------------------------------------------------------------------

    #mayLook(message) {
        return isLoopback(message.socket.remoteAddress ?? "");
    }

    /** It is shown as it is, with its own headers: nothing may frame it, and what a browser says of who
     * asks (Sec-Fetch-Site) is the console's to judge. */
    #console(message, answer, say) {
        if (!this.#mayLook(message)) {
            say(403, { error: "the console is shown to this machine alone" });
            return;
        }
        const { admin } = this.#options.broker;
        const headers = { ...message.headers, host: `127.0.0.1:${admin}`, connection: "close" };
        const path = message.url.slice("/console".length);
        const asked = request({ host: "127.0.0.1", port: admin, path, headers }, (got) => {
            const kept = Object.entries(got.headers).filter(([name]) => !HOP_BY_HOP.test(name));
            answer.writeHead(got.statusCode, Object.fromEntries(kept));
            pipeline(got, answer, () => {}); // what breaks off there breaks off here, and nobody waits
        });
        asked.on("error", () =>
            answer.headersSent ? answer.destroy() : say(502, { error: "the broker is away" }),
        );
        answer.on("close", () => asked.destroy());
        asked.end();
    }

    // --- WebSocket ---------------------------------------------------------------------------------

    /** Passes the upgrade on, with the address of who asked: the broker believes it (ws.forwarded_from),
     * so what the client said of it is left out. From then on bytes are passed on unread. */
    #upgrade(message, client, rest) {
        const url = targetOf(message);
        const line = url?.searchParams.get("line") ?? "";
        client.on("error", () => client.destroy());
        const known = this.#hosts.includes(message.headers.host) && url?.pathname === "/usher";
        if (!known || this.#lines.isCut(line)) {
            client.write(
                `HTTP/1.1 ${known ? "503 Service Unavailable" : "404 Not Found"}\r\nConnection: close\r\n\r\n`,
            );
            client.destroySoon(); // whoever does not hang up would keep one of CONNECTIONS_MAX for ever
            return;
        }
        const broker = connect(this.#options.broker.ws, "127.0.0.1");
        broker.on("error", () => broker.destroy());
        broker.on("close", () => client.destroy());
        client.on("close", () => broker.destroy());
        [client, broker].forEach((socket) => socket.setNoDelay(true));
        if (LINE.test(line)) {
            this.#lines.add(line, [client, broker]);
        }
        let head = `GET /usher HTTP/1.1\r\nX-Forwarded-For: ${plain(client.remoteAddress ?? "")}\r\n`;
        for (let index = 0; index < message.rawHeaders.length; index += 2) {
            const [name, value] = message.rawHeaders.slice(index, index + 2);
            head += /^(x-)?forwarded/i.test(name) ? "" : `${name}: ${value}\r\n`;
        }
        broker.write(`${head}\r\n`, "latin1");
        broker.write(rest);
        client.pipe(broker).pipe(client);
    }
}
