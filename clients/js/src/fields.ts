// SPDX-License-Identifier: Apache-2.0
// Made by tools/fields.py from proto/client.proto; a test makes it again and compares.

/** A whole number from 0 to 2^53 - 1: uint32, uint64 or an enum. */
export const UINT = 0;
export const BOOL = 1;
export const BYTES = 2;
export const STRING = 3;

/** A repeated field; where the codec is built with REPEATED. */
export interface Each {
    readonly each: number | Table;
}

/** Name and kind of field 1, name and kind of field 2, ... A kind that is a table is a message. */
export type Table = readonly (string | number | Table | Each)[];

export const CLIENTFRAME: Table = [
    "id",
    UINT,
    "login",
    ["username", STRING, "token", BYTES, "client", STRING, "acks", BOOL, "lastMid", UINT],
    "resume",
    [
        "username",
        STRING,
        "epoch",
        UINT,
        "secret",
        BYTES,
        "lastSeq",
        UINT,
        "receivedSeq",
        UINT,
        "",
        UINT,
        "lastMid",
        UINT,
    ],
    "send",
    [
        "to",
        STRING,
        "payload",
        BYTES,
        "until",
        UINT,
        "transient",
        BOOL,
        "keepS",
        UINT,
        "tag",
        UINT,
        "traceparent",
        STRING,
    ],
    "call",
    [
        "service",
        STRING,
        "method",
        STRING,
        "payload",
        BYTES,
        "timeoutMs",
        UINT,
        "traceparent",
        STRING,
    ],
    "ack",
    ["seq", UINT],
    "ping",
    ["stamp", UINT],
    "logout",
    [],
];

export const BROKERFRAME: Table = [
    "id",
    UINT,
    "welcome",
    [
        "epoch",
        UINT,
        "secret",
        BYTES,
        "replay",
        UINT,
        "nextSeq",
        UINT,
        "heartbeatMs",
        UINT,
        "resumeMs",
        UINT,
        "frameBytesMax",
        UINT,
        "timeMs",
        UINT,
        "node",
        STRING,
        "tokenMs",
        UINT,
        "stored",
        UINT,
        "storedMessages",
        UINT,
    ],
    "message",
    [
        "seq",
        UINT,
        "from",
        STRING,
        "service",
        STRING,
        "payload",
        BYTES,
        "timeMs",
        UINT,
        "redelivered",
        BOOL,
        "mid",
        UINT,
        "traceparent",
        STRING,
    ],
    "done",
    ["epoch", UINT, "dropped", BOOL, "offset", UINT, "mid", UINT],
    "reply",
    ["status", UINT, "payload", BYTES],
    "error",
    ["code", UINT, "detail", STRING, "retryAfterMs", UINT],
    "pong",
    ["stamp", UINT, "timeMs", UINT],
    "close",
    ["reason", UINT, "detail", STRING, "retryAfterMs", UINT, "doNotReturn", BOOL],
];

export interface ClientFrameFields {
    id: number;
    login?: LoginFields;
    resume?: ResumeFields;
    send?: SendFields;
    call?: CallFields;
    ack?: AckFields;
    ping?: PingFields;
    logout?: LogoutFields;
    join?: JoinFields;
    leave?: LeaveFields;
    publish?: PublishFields;
    watch?: WatchFields;
    setStatus?: SetStatusFields;
}

export interface BrokerFrameFields {
    id: number;
    welcome?: WelcomeFields;
    message?: MessageFields;
    done?: DoneFields;
    reply?: ReplyFields;
    error?: ErrorFields;
    pong?: PongFields;
    close?: CloseFields;
    roomState?: RoomStateFields;
    roomMessages?: RoomMessagesFields;
    roomEvent?: RoomEventFields;
    friends?: FriendStatesFields;
}

export interface LoginFields {
    username: string;
    token: Uint8Array;
    client: string;
    acks: boolean;
    lastMid: number;
}

export interface ResumeFields {
    username: string;
    epoch: number;
    secret: Uint8Array;
    lastSeq: number;
    receivedSeq: number;
    rooms: RoomPositionFields[];
    lastMid: number;
}

export interface SendFields {
    to: string;
    payload: Uint8Array;
    until: number;
    transient: boolean;
    keepS: number;
    tag: number;
    traceparent: string;
}

export interface CallFields {
    service: string;
    method: string;
    payload: Uint8Array;
    timeoutMs: number;
    traceparent: string;
}

export interface AckFields {
    seq: number;
}

export interface PingFields {
    stamp: number;
}

export interface JoinFields {
    room: string;
    recover: boolean;
    incarnation: number;
    offset: number;
}

export interface LeaveFields {
    room: number;
}

export interface PublishFields {
    room: number;
    payload: Uint8Array;
    name: string;
}

export interface RoomPositionFields {
    room: number;
    incarnation: number;
    offset: number;
}

export interface WatchFields {
    add: string[];
    remove: string[];
}

export interface SetStatusFields {
    status: Uint8Array;
    invisible: boolean;
}

export type LogoutFields = Record<never, never>;

export interface WelcomeFields {
    epoch: number;
    secret: Uint8Array;
    replay: number;
    nextSeq: number;
    heartbeatMs: number;
    resumeMs: number;
    frameBytesMax: number;
    timeMs: number;
    node: string;
    tokenMs: number;
    stored: number;
    storedMessages: number;
}

export interface MessageFields {
    seq: number;
    from: string;
    service: string;
    payload: Uint8Array;
    timeMs: number;
    redelivered: boolean;
    mid: number;
    traceparent: string;
}

export interface DoneFields {
    epoch: number;
    dropped: boolean;
    offset: number;
    mid: number;
}

export interface ReplyFields {
    status: number;
    payload: Uint8Array;
}

export interface ErrorFields {
    code: number;
    detail: string;
    retryAfterMs: number;
}

export interface PongFields {
    stamp: number;
    timeMs: number;
}

export interface CloseFields {
    reason: number;
    detail: string;
    retryAfterMs: number;
    doNotReturn: boolean;
}

export interface RoomStateFields {
    name: string;
    room: number;
    incarnation: number;
    offset: number;
    state: number;
    replay: number;
    members: number;
    tickMs: number;
    roster: RoomMemberFields[];
    detail: string;
}

export interface RoomMemberFields {
    user: string;
    away: boolean;
}

export interface RoomMessagesFields {
    room: number;
    offset: number;
    messages: RoomMessageFields[];
}

export interface RoomMessageFields {
    from: string;
    service: string;
    payload: Uint8Array;
    timeMs: number;
}

export interface RoomEventFields {
    room: number;
    members: number;
    changes: RoomChangeFields[];
}

export interface RoomChangeFields {
    user: string;
    kind: number;
}

export interface FriendStatesFields {
    snapshot: boolean;
    friends: FriendStateFields[];
}

export interface FriendStateFields {
    user: string;
    state: number;
    sinceMs: number;
    status: Uint8Array;
}

export const ERRORS: readonly string[] =
    "NONE PROTOCOL UNAUTHENTICATED FORBIDDEN INVALID_NAME NOT_ONLINE INBOX_FULL BUSY NO_SERVICE TIMEOUT SERVICE_LOST TOO_LARGE RATE_LIMITED UNAVAILABLE UNDELIVERED RESUME_REJECTED DRAINING INTERNAL".split(
        " ",
    );
export type ErrorCode =
    | "NONE"
    | "PROTOCOL"
    | "UNAUTHENTICATED"
    | "FORBIDDEN"
    | "INVALID_NAME"
    | "NOT_ONLINE"
    | "INBOX_FULL"
    | "BUSY"
    | "NO_SERVICE"
    | "TIMEOUT"
    | "SERVICE_LOST"
    | "TOO_LARGE"
    | "RATE_LIMITED"
    | "UNAVAILABLE"
    | "UNDELIVERED"
    | "RESUME_REJECTED"
    | "DRAINING"
    | "INTERNAL"
    | "NO_ROOM"
    | "ROOM_FULL"
    | "NOT_MEMBER";

export const CLOSES: readonly string[] =
    "NONE REPLACED KICKED PROTOCOL_ERROR AUTH_FAILED AUTH_TIMEOUT HEARTBEAT_TIMEOUT SLOW_CONSUMER RATE_LIMITED DRAINING SHUTDOWN LOGGED_OUT OVERLOADED INTERNAL STALE_SESSION TOKEN_EXPIRED".split(
        " ",
    );
export type CloseReason =
    | "NONE"
    | "REPLACED"
    | "KICKED"
    | "PROTOCOL_ERROR"
    | "AUTH_FAILED"
    | "AUTH_TIMEOUT"
    | "HEARTBEAT_TIMEOUT"
    | "SLOW_CONSUMER"
    | "RATE_LIMITED"
    | "DRAINING"
    | "SHUTDOWN"
    | "LOGGED_OUT"
    | "OVERLOADED"
    | "INTERNAL"
    | "STALE_SESSION"
    | "TOKEN_EXPIRED";

export const REPLAYS: readonly string[] = "FRESH COMPLETE PARTIAL".split(" ");
export type WelcomeReplay = "FRESH" | "COMPLETE" | "PARTIAL";
