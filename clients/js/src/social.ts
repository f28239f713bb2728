// SPDX-License-Identifier: Apache-2.0
// usher-client/social: the same client, with rooms and friends.
import { Options } from "./api.js";
import { SocialClient } from "./social-api.js";
import { Social } from "./social-client.js";
import { overWebSocket } from "./transport.js";

export * from "./api.js";
export * from "./social-api.js";
export { StatusError, UsherError } from "./errors.js";
export type { CloseReason, ErrorCode, WelcomeReplay } from "./fields.js";
export type { Done, EndCode, LocalCode } from "./errors.js";

/** Gives a client at once; it connects by itself, and comes back by itself. */
export function connect(options: Options): SocialClient {
    return new Social(options, overWebSocket(options.webSocket));
}
