// SPDX-License-Identifier: Apache-2.0
// Made by tools/fields.py --more from proto/client.proto; a test makes it again and compares.
import { BOOL, BROKERFRAME, BYTES, CLIENTFRAME, Each, ERRORS } from "./fields.js";
import { STRING, Table, UINT } from "./fields.js";

type Items = (string | number | Table | Each)[];

const CLIENTFRAME_MORE: Items = [
    "join",
    ["room", STRING, "recover", BOOL, "incarnation", UINT, "offset", UINT],
    "leave",
    ["room", UINT],
    "publish",
    ["room", UINT, "payload", BYTES, "name", STRING],
    "watch",
    ["add", { each: STRING }, "remove", { each: STRING }],
    "setStatus",
    ["status", BYTES, "invisible", BOOL],
];

const RESUME_MORE: Items = ["rooms", { each: ["room", UINT, "incarnation", UINT, "offset", UINT] }];

const BROKERFRAME_MORE: Items = [
    "roomState",
    [
        "name",
        STRING,
        "room",
        UINT,
        "incarnation",
        UINT,
        "offset",
        UINT,
        "state",
        UINT,
        "replay",
        UINT,
        "members",
        UINT,
        "tickMs",
        UINT,
        "roster",
        { each: ["user", STRING, "away", BOOL] },
        "detail",
        STRING,
    ],
    "roomMessages",
    [
        "room",
        UINT,
        "offset",
        UINT,
        "messages",
        { each: ["from", STRING, "service", STRING, "payload", BYTES, "timeMs", UINT] },
    ],
    "roomEvent",
    ["room", UINT, "members", UINT, "changes", { each: ["user", STRING, "kind", UINT] }],
    "friends",
    [
        "snapshot",
        BOOL,
        "friends",
        { each: ["user", STRING, "state", UINT, "sinceMs", UINT, "status", BYTES] },
    ],
];

/** What a page without rooms and friends does not know goes behind what it does: from here on the tables
 * of this bundle are longer, and there are more reasons for a no. */
export function extendTables(): void {
    const [client, broker] = [CLIENTFRAME as Items, BROKERFRAME as Items];
    client.push(...CLIENTFRAME_MORE);
    (client[client.indexOf("resume") + 1] as Items).splice(10, 2, ...RESUME_MORE);
    broker.push(...BROKERFRAME_MORE);
    (ERRORS as string[]).push("NO_ROOM", "ROOM_FULL", "NOT_MEMBER");
}

export const ROOM_STATES: readonly string[] = "JOINED LEFT REMOVED CLOSED".split(" ");
export type RoomStateState = "JOINED" | "LEFT" | "REMOVED" | "CLOSED";

export const ROOM_REPLAYS: readonly string[] = "NONE COMPLETE PARTIAL".split(" ");
export type RoomStateReplay = "NONE" | "COMPLETE" | "PARTIAL";

export const CHANGES: readonly string[] = "JOINED AWAY BACK LEFT".split(" ");
export type RoomChangeKind = "JOINED" | "AWAY" | "BACK" | "LEFT";

export const FRIEND_STATES: readonly string[] = "OFFLINE ONLINE AWAY".split(" ");
export type FriendStateState = "OFFLINE" | "ONLINE" | "AWAY";
