// SPDX-License-Identifier: Apache-2.0
// usher-backend: the service's side of usher. docs/backend-js.md is the manual.
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { Options, Service } from "./api.js";
import { dialSocket } from "./channel.js";
import { OwnService } from "./service.js";
import { CLOCK } from "./time.js";
import { addressesOf } from "./where.js";

export * from "./api.js";
export { ServiceStatus, UsherError } from "./errors.js";
export type { Done, ErrorCode, LocalCode } from "./errors.js";
export type {
    PresenceEventCause,
    PresenceEventKind,
    ResultCode,
    RoomAskKind,
    RoomNewsCause,
    RoomNewsKind,
    SessionInfoState,
    WatchListMode,
} from "./fields.js";

const NAME = /^[A-Za-z0-9._@:+-]{1,64}$/;
const HOST_CHARACTERS_MAX = 40;

/** Host and process are for people. Two containers may have both in common, and then the newer one
 * would throw the older out: what tells them apart is drawn. */
function defaultInstance(): string {
    const host = hostname()
        .replace(/[^A-Za-z0-9._-]/g, "-")
        .slice(0, HOST_CHARACTERS_MAX);
    const chance = Array.from(randomBytes(4), (byte) => byte.toString(16).padStart(2, "0"));
    return `${host || "host"}-${process.pid}-${chance.join("")}`;
}

/** Registers one instance of a service. Resolved when it is linked, and before any call is taken;
 * rejected with an UsherError when the node refuses it for good. A node that is not there yet is
 * waited for. An empty name only observes. */
export function service(name: string, options: Options = {}): Promise<Service> {
    const instance = options.instance ?? defaultInstance();
    for (const each of name ? [name, instance] : [instance]) {
        if (!NAME.test(each)) {
            return Promise.reject(
                new RangeError(`"${each}" is no name: 1 to 64 of A-Z a-z 0-9 . _ - @ : +`),
            );
        }
    }
    return new Promise((resolve) => {
        const addresses = addressesOf(options.link);
        const parts = { clock: CLOCK, dial: dialSocket, addresses };
        resolve(new OwnService(name, instance, options, parts).begin());
    });
}

/** One that has no calls: it follows presence, asks, pushes and kicks. */
export function observe(options: Options = {}): Promise<Service> {
    return service("", options);
}
