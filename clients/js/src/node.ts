// SPDX-License-Identifier: Apache-2.0
// usher-client/node: the same client with all that it can do, which also speaks TCP and TLS, because a Node
// before 22 has no WebSocket of its own.
import { connect as connectTcp } from "node:net";
import { connect as connectTls } from "node:tls";
import { Options } from "./api.js";
import { Joiner } from "./joiner.js";
import { SocialClient } from "./social-api.js";
import { Social } from "./social-client.js";
import { Dial, LinkEvents, overWebSocket } from "./transport.js";

export * from "./api.js";
export * from "./social-api.js";
export { StatusError, UsherError } from "./errors.js";
export type { CloseReason, ErrorCode, WelcomeReplay } from "./fields.js";
export type { Done, EndCode, LocalCode } from "./errors.js";

/** What `connect` of usher-client/node is told. */
export interface NodeOptions extends Options {
    /** What `tls.connect` of Node takes, such as `ca`, for tls:// addresses. */
    tls?: Record<string, unknown>;
}

const TCP_PORT = 7400;
const TLS_PORT = 7443;
/** What was handed over has so long to leave, or a broker that reads no more would keep the socket, and the
 * program with it. */
const CLOSE_MS = 2000;

function overSocket(tls: NodeOptions["tls"]): Dial {
    return (url: string, events: LinkEvents) => {
        const { protocol, hostname, port } = new URL(url);
        if (!hostname) {
            throw new TypeError("no host in " + url); // as in tcp:localhost:7400
        }
        const secure = protocol === "tls:";
        const host = hostname.replace(/^\[|\]$/g, "");
        const target = { host, port: Number(port) || (secure ? TLS_PORT : TCP_PORT) };
        const socket = secure ? connectTls({ ...target, ...tls }) : connectTcp(target);
        const joiner = new Joiner((frames) => events._data(frames));
        let detail = "";
        socket.setNoDelay(true);
        socket.on(secure ? "secureConnect" : "connect", () => events._open());
        socket.on("data", (piece: Uint8Array) => {
            if (!joiner.add(piece)) {
                detail = "no usher frames";
                socket.destroy();
            }
        });
        socket.on("error", (error: Error) => void (detail = error.message));
        socket.on("close", () => events._end(0, detail));
        return {
            _send: (frame) => void socket.write(frame),
            _close: () => {
                socket.destroySoon();
                const timer = setTimeout(() => socket.destroy(), CLOSE_MS) as { unref?(): void };
                timer.unref?.();
            },
            _waiting: () => socket.writableLength,
        };
    };
}

/** Gives a client at once; it connects by itself, and comes back by itself. */
export function connect(options: NodeOptions): SocialClient {
    const ours = /^(tcp|tls):/i.test(options.url);
    return new Social(options, ours ? overSocket(options.tls) : overWebSocket(options.webSocket));
}
