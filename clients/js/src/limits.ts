// SPDX-License-Identifier: Apache-2.0
// What a client holds at most, and how long it waits: what the program says, or these.
import { Options } from "./api.js";

const LIMITS = {
    connectTimeoutMs: 10000,
    requestTimeoutMs: 30000,
    requestsMax: 256,
    queueBytesMax: 1 << 20,
    unreadMax: 1024,
    unreadBytesMax: 4 << 20,
};

/** All that a client was told. */
export type Settings = Options & typeof LIMITS;

/** 0 and nothing mean the default, also where the program wrote `undefined`. */
export function settingsOf(options: Options): Settings {
    const all: Settings = { ...LIMITS, ...options };
    for (const name in LIMITS) {
        all[name as keyof typeof LIMITS] ||= LIMITS[name as keyof typeof LIMITS];
    }
    return all;
}
