// SPDX-License-Identifier: Apache-2.0
// usher-client for browsers, and for whatever else has a WebSocket.
import { Client, Options } from "./api.js";
import { UsherClient } from "./session.js";
import { overWebSocket } from "./transport.js";

export * from "./api.js";
export { StatusError, UsherError } from "./errors.js";
export type { CloseReason, ErrorCode, WelcomeReplay } from "./fields.js";
export type { Done, EndCode, LocalCode } from "./errors.js";

/** Gives a client at once; it connects by itself, and comes back by itself. */
export function connect(options: Options): Client {
    return new UsherClient(options, overWebSocket(options.webSocket));
}
