// SPDX-License-Identifier: Apache-2.0
// Made by clients/js/tools/fields.py from proto/backend.proto; a test makes it again and compares.
import { BOOL, BYTES, STRING, Table, UINT } from "../../js/src/fields.js";

export const PRESENCEEVENT: Table = [
    "seq",
    UINT,
    "timeMs",
    UINT,
    "user",
    STRING,
    "kind",
    UINT,
    "epoch",
    UINT,
    "previousEpoch",
    UINT,
    "cause",
    UINT,
    "untilMs",
    UINT,
    "address",
    STRING,
    "client",
    STRING,
];

export const COMMAND: Table = [
    "replyTo",
    [
        "call",
        UINT,
        "status",
        UINT,
        "payload",
        BYTES,
        "tokenEndsMs",
        UINT,
        "rooms",
        { each: STRING },
    ],
    "push",
    [
        "to",
        { each: STRING },
        "payload",
        BYTES,
        "epoch",
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
    "pushAll",
    ["payload", BYTES, "transient", BOOL, "traceparent", STRING],
    "kick",
    [
        "user",
        STRING,
        "epoch",
        UINT,
        "reason",
        UINT,
        "detail",
        STRING,
        "retryAfterMs",
        UINT,
        "doNotReturn",
        BOOL,
    ],
    "lookup",
    ["users", { each: STRING }],
    "list",
    ["prefix", STRING, "after", STRING, "limit", UINT],
    "count",
    [],
    "snapshot",
    ["after", STRING, "limit", UINT],
    "events",
    ["after", UINT, "limit", UINT],
    "stats",
    [],
    "drain",
    [],
    "recorder",
    ["user", STRING, "after", UINT],
    "trace",
    ["user", STRING, "action", UINT, "seconds", UINT, "oneIn", UINT, "after", UINT, "token", BYTES],
    "reload",
    ["token", BYTES],
    "drainNode",
    ["seconds", UINT, "token", BYTES, "restart", BOOL],
    "roomOpen",
    ["room", STRING, "class", STRING, "membersMax", UINT],
    "roomClose",
    ["room", STRING, "detail", STRING],
    "roomAdd",
    ["room", STRING, "users", { each: STRING }, "epochs", { each: UINT }, "carry", BOOL],
    "roomRemove",
    ["room", STRING, "users", { each: STRING }, "detail", STRING],
    "roomPublish",
    ["room", STRING, "payload", BYTES],
    "roomMembers",
    ["room", STRING, "after", STRING, "limit", UINT],
    "rooms",
    ["prefix", STRING, "after", STRING, "limit", UINT],
    "watchList",
    ["user", STRING, "epoch", UINT, "mode", UINT, "targets", { each: STRING }],
    "history",
    ["user", STRING, "limit", UINT],
    "inbox",
    ["user", STRING, "afterMid", UINT, "limit", UINT],
    "inboxDrop",
    ["user", STRING, "upToMid", UINT],
    "upgradeNode",
    ["token", BYTES, "look", BOOL],
];

export const LINKREQUEST: Table = [
    "hello",
    [
        "service",
        STRING,
        "instance",
        STRING,
        "incarnation",
        UINT,
        "token",
        BYTES,
        "presence",
        BOOL,
        "presenceAfter",
        UINT,
        "nodeBoot",
        STRING,
    ],
    "fetch",
    [
        "link",
        UINT,
        "mailDone",
        UINT,
        "presenceDone",
        UINT,
        "bytesMax",
        UINT,
        "waitMs",
        UINT,
        "mailHave",
        UINT,
    ],
    "submit",
    ["link", UINT, "lane", UINT, "seq", UINT, "commands", { each: COMMAND }, "token", BYTES],
];

export const LINKANSWER: Table = [
    "accepted",
    [
        "link",
        UINT,
        "node",
        STRING,
        "nodeBoot",
        STRING,
        "frameBytesMax",
        UINT,
        "parkMs",
        UINT,
        "presenceFrom",
        UINT,
        "number",
        UINT,
    ],
    "batch",
    [
        "mail",
        {
            each: [
                "seq",
                UINT,
                "call",
                [
                    "call",
                    UINT,
                    "user",
                    STRING,
                    "epoch",
                    UINT,
                    "method",
                    STRING,
                    "payload",
                    BYTES,
                    "timeoutMs",
                    UINT,
                    "redelivered",
                    BOOL,
                    "traceparent",
                    STRING,
                ],
                "control",
                ["kind", UINT, "detail", STRING],
                "auth",
                [
                    "call",
                    UINT,
                    "user",
                    STRING,
                    "token",
                    BYTES,
                    "address",
                    STRING,
                    "client",
                    STRING,
                    "timeoutMs",
                    UINT,
                    "redelivered",
                    BOOL,
                ],
                "ask",
                [
                    "call",
                    UINT,
                    "user",
                    STRING,
                    "epoch",
                    UINT,
                    "room",
                    STRING,
                    "kind",
                    UINT,
                    "timeoutMs",
                    UINT,
                    "redelivered",
                    BOOL,
                ],
                "news",
                [
                    "room",
                    STRING,
                    "incarnation",
                    UINT,
                    "newsSeq",
                    UINT,
                    "kind",
                    UINT,
                    "user",
                    STRING,
                    "epoch",
                    UINT,
                    "cause",
                    UINT,
                    "offset",
                    UINT,
                    "payload",
                    BYTES,
                    "redelivered",
                    BOOL,
                    "timeMs",
                    UINT,
                    "service",
                    STRING,
                ],
                "watch",
                [
                    "call",
                    UINT,
                    "user",
                    STRING,
                    "epoch",
                    UINT,
                    "targets",
                    { each: STRING },
                    "timeoutMs",
                    UINT,
                    "redelivered",
                    BOOL,
                ],
                "stored",
                [
                    "user",
                    STRING,
                    "mid",
                    UINT,
                    "from",
                    STRING,
                    "service",
                    STRING,
                    "payloadBytes",
                    UINT,
                    "timeMs",
                    UINT,
                    "count",
                    UINT,
                ],
            ],
        },
        "presence",
        { each: PRESENCEEVENT },
        "presenceReset",
        BOOL,
        "presenceLast",
        UINT,
    ],
    "results",
    [
        "seq",
        UINT,
        "results",
        {
            each: [
                "code",
                UINT,
                "sessions",
                [
                    "sessions",
                    {
                        each: [
                            "user",
                            STRING,
                            "state",
                            UINT,
                            "epoch",
                            UINT,
                            "node",
                            STRING,
                            "sinceMs",
                            UINT,
                            "address",
                            STRING,
                            "client",
                            STRING,
                            "inboxMessages",
                            UINT,
                            "transport",
                            STRING,
                        ],
                    },
                    "presenceSeq",
                    UINT,
                    "more",
                    BOOL,
                ],
                "events",
                ["events", { each: PRESENCEEVENT }, "presenceLast", UINT, "reset", BOOL],
                "numbers",
                ["numbers", { each: ["name", STRING, "value", UINT] }],
                "push",
                [
                    "accepted",
                    UINT,
                    "failures",
                    { each: ["user", STRING, "code", UINT] },
                    "dropped",
                    UINT,
                    "mid",
                    UINT,
                ],
                "lines",
                ["lines", { each: STRING }, "next", UINT, "more", BOOL],
                "rooms",
                [
                    "rooms",
                    {
                        each: [
                            "name",
                            STRING,
                            "incarnation",
                            UINT,
                            "offset",
                            UINT,
                            "members",
                            UINT,
                            "class",
                            STRING,
                            "owner",
                            STRING,
                            "away",
                            UINT,
                            "historyMessages",
                            UINT,
                            "historyBytes",
                            UINT,
                            "deliveries",
                            UINT,
                            "openedMs",
                            UINT,
                        ],
                    },
                    "more",
                    BOOL,
                ],
                "members",
                [
                    "members",
                    { each: ["user", STRING, "epoch", UINT, "away", BOOL, "carry", BOOL] },
                    "next",
                    STRING,
                    "newsSeq",
                    UINT,
                    "incarnation",
                    UINT,
                    "offset",
                    UINT,
                ],
                "history",
                [
                    "records",
                    {
                        each: [
                            "timeMs",
                            UINT,
                            "kind",
                            UINT,
                            "cause",
                            UINT,
                            "epoch",
                            UINT,
                            "address",
                            STRING,
                            "client",
                            STRING,
                            "transport",
                            STRING,
                            "by",
                            STRING,
                            "detail",
                            STRING,
                            "limit",
                            STRING,
                            "bound",
                            UINT,
                            "value",
                            UINT,
                            "missing",
                            UINT,
                            "count",
                            UINT,
                            "text",
                            STRING,
                        ],
                    },
                    "kept",
                    UINT,
                    "firstMs",
                    UINT,
                    "more",
                    BOOL,
                ],
                "stored",
                [
                    "messages",
                    {
                        each: [
                            "mid",
                            UINT,
                            "from",
                            STRING,
                            "service",
                            STRING,
                            "payloadBytes",
                            UINT,
                            "timeMs",
                            UINT,
                            "expiresMs",
                            UINT,
                        ],
                    },
                    "more",
                    BOOL,
                    "count",
                    UINT,
                    "bytes",
                    UINT,
                ],
            ],
        },
    ],
    "refused",
    ["code", UINT, "detail", STRING],
];

export const WATCHGRANT: Table = ["targets", { each: STRING }];

export interface LinkRequestFields {
    hello?: HelloFields;
    fetch?: FetchFields;
    submit?: SubmitFields;
}

export interface LinkAnswerFields {
    accepted?: AcceptedFields;
    batch?: BatchFields;
    results?: ResultsFields;
    refused?: RefusedFields;
}

export interface HelloFields {
    service: string;
    instance: string;
    incarnation: number;
    token: Uint8Array;
    presence: boolean;
    presenceAfter: number;
    nodeBoot: string;
}

export interface AcceptedFields {
    link: number;
    node: string;
    nodeBoot: string;
    frameBytesMax: number;
    parkMs: number;
    presenceFrom: number;
    number: number;
}

export interface FetchFields {
    link: number;
    mailDone: number;
    presenceDone: number;
    bytesMax: number;
    waitMs: number;
    mailHave: number;
}

export interface BatchFields {
    mail: MailFields[];
    presence: PresenceEventFields[];
    presenceReset: boolean;
    presenceLast: number;
}

export interface MailFields {
    seq: number;
    call?: UserCallFields;
    control?: ControlFields;
    auth?: AuthCallFields;
    ask?: RoomAskFields;
    news?: RoomNewsFields;
    watch?: WatchAskFields;
    stored?: StoredNoticeFields;
}

export interface StoredNoticeFields {
    user: string;
    mid: number;
    from: string;
    service: string;
    payloadBytes: number;
    timeMs: number;
    count: number;
}

export interface RoomAskFields {
    call: number;
    user: string;
    epoch: number;
    room: string;
    kind: number;
    timeoutMs: number;
    redelivered: boolean;
}

export interface RoomNewsFields {
    room: string;
    incarnation: number;
    newsSeq: number;
    kind: number;
    user: string;
    epoch: number;
    cause: number;
    offset: number;
    payload: Uint8Array;
    redelivered: boolean;
    timeMs: number;
    service: string;
}

export interface WatchAskFields {
    call: number;
    user: string;
    epoch: number;
    targets: string[];
    timeoutMs: number;
    redelivered: boolean;
}

export interface WatchGrantFields {
    targets: string[];
}

export interface AuthCallFields {
    call: number;
    user: string;
    token: Uint8Array;
    address: string;
    client: string;
    timeoutMs: number;
    redelivered: boolean;
}

export interface UserCallFields {
    call: number;
    user: string;
    epoch: number;
    method: string;
    payload: Uint8Array;
    timeoutMs: number;
    redelivered: boolean;
    traceparent: string;
}

export interface ControlFields {
    kind: number;
    detail: string;
}

export interface PresenceEventFields {
    seq: number;
    timeMs: number;
    user: string;
    kind: number;
    epoch: number;
    previousEpoch: number;
    cause: number;
    untilMs: number;
    address: string;
    client: string;
}

export interface SubmitFields {
    link: number;
    lane: number;
    seq: number;
    commands: CommandFields[];
    token: Uint8Array;
}

export interface CommandFields {
    replyTo?: ReplyToFields;
    push?: PushFields;
    pushAll?: PushAllFields;
    kick?: KickFields;
    lookup?: LookupFields;
    list?: ListFields;
    count?: CountFields;
    snapshot?: SnapshotFields;
    events?: EventsFields;
    stats?: StatsFields;
    drain?: DrainFields;
    recorder?: RecorderFields;
    trace?: TraceFields;
    reload?: ReloadFields;
    drainNode?: DrainNodeFields;
    roomOpen?: RoomOpenFields;
    roomClose?: RoomCloseFields;
    roomAdd?: RoomAddFields;
    roomRemove?: RoomRemoveFields;
    roomPublish?: RoomPublishFields;
    roomMembers?: RoomMembersFields;
    rooms?: RoomsFields;
    watchList?: WatchListFields;
    history?: HistoryFields;
    inbox?: InboxFields;
    inboxDrop?: InboxDropFields;
    upgradeNode?: UpgradeNodeFields;
}

export interface ReplyToFields {
    call: number;
    status: number;
    payload: Uint8Array;
    tokenEndsMs: number;
    rooms: string[];
}

export interface PushFields {
    to: string[];
    payload: Uint8Array;
    epoch: number;
    transient: boolean;
    keepS: number;
    tag: number;
    traceparent: string;
}

export interface PushAllFields {
    payload: Uint8Array;
    transient: boolean;
    traceparent: string;
}

export interface KickFields {
    user: string;
    epoch: number;
    reason: number;
    detail: string;
    retryAfterMs: number;
    doNotReturn: boolean;
}

export interface LookupFields {
    users: string[];
}

export interface InboxFields {
    user: string;
    afterMid: number;
    limit: number;
}

export interface InboxDropFields {
    user: string;
    upToMid: number;
}

export interface ListFields {
    prefix: string;
    after: string;
    limit: number;
}

export type CountFields = Record<never, never>;

export interface SnapshotFields {
    after: string;
    limit: number;
}

export interface EventsFields {
    after: number;
    limit: number;
}

export type StatsFields = Record<never, never>;

export type DrainFields = Record<never, never>;

export interface RecorderFields {
    user: string;
    after: number;
}

export interface TraceFields {
    user: string;
    action: number;
    seconds: number;
    oneIn: number;
    after: number;
    token: Uint8Array;
}

export interface ReloadFields {
    token: Uint8Array;
}

export interface DrainNodeFields {
    seconds: number;
    token: Uint8Array;
    restart: boolean;
}

export interface UpgradeNodeFields {
    token: Uint8Array;
    look: boolean;
}

export interface RoomOpenFields {
    room: string;
    class: string;
    membersMax: number;
}

export interface RoomCloseFields {
    room: string;
    detail: string;
}

export interface RoomAddFields {
    room: string;
    users: string[];
    epochs: number[];
    carry: boolean;
}

export interface RoomRemoveFields {
    room: string;
    users: string[];
    detail: string;
}

export interface RoomPublishFields {
    room: string;
    payload: Uint8Array;
}

export interface RoomMembersFields {
    room: string;
    after: string;
    limit: number;
}

export interface RoomsFields {
    prefix: string;
    after: string;
    limit: number;
}

export interface WatchListFields {
    user: string;
    epoch: number;
    mode: number;
    targets: string[];
}

export interface HistoryFields {
    user: string;
    limit: number;
}

export interface ResultsFields {
    seq: number;
    results: ResultFields[];
}

export interface ResultFields {
    code: number;
    sessions?: SessionListFields;
    events?: EventListFields;
    numbers?: NumberListFields;
    push?: PushReportFields;
    lines?: LineListFields;
    rooms?: RoomListFields;
    members?: RoomMemberListFields;
    history?: HistoryListFields;
    stored?: StoredListFields;
}

export interface SessionInfoFields {
    user: string;
    state: number;
    epoch: number;
    node: string;
    sinceMs: number;
    address: string;
    client: string;
    inboxMessages: number;
    transport: string;
}

export interface SessionListFields {
    sessions: SessionInfoFields[];
    presenceSeq: number;
    more: boolean;
}

export interface EventListFields {
    events: PresenceEventFields[];
    presenceLast: number;
    reset: boolean;
}

export interface NumberListFields {
    numbers: NumberFields[];
}

export interface NumberFields {
    name: string;
    value: number;
}

export interface RoomInfoFields {
    name: string;
    incarnation: number;
    offset: number;
    members: number;
    class: string;
    owner: string;
    away: number;
    historyMessages: number;
    historyBytes: number;
    deliveries: number;
    openedMs: number;
}

export interface RoomListFields {
    rooms: RoomInfoFields[];
    more: boolean;
}

export interface RoomMemberInfoFields {
    user: string;
    epoch: number;
    away: boolean;
    carry: boolean;
}

export interface RoomMemberListFields {
    members: RoomMemberInfoFields[];
    next: string;
    newsSeq: number;
    incarnation: number;
    offset: number;
}

export interface HistoryInfoFields {
    timeMs: number;
    kind: number;
    cause: number;
    epoch: number;
    address: string;
    client: string;
    transport: string;
    by: string;
    detail: string;
    limit: string;
    bound: number;
    value: number;
    missing: number;
    count: number;
    text: string;
}

export interface HistoryListFields {
    records: HistoryInfoFields[];
    kept: number;
    firstMs: number;
    more: boolean;
}

export interface LineListFields {
    lines: string[];
    next: number;
    more: boolean;
}

export interface PushReportFields {
    accepted: number;
    failures: PushFailureFields[];
    dropped: number;
    mid: number;
}

export interface StoredListFields {
    messages: StoredInfoFields[];
    more: boolean;
    count: number;
    bytes: number;
}

export interface StoredInfoFields {
    mid: number;
    from: string;
    service: string;
    payloadBytes: number;
    timeMs: number;
    expiresMs: number;
}

export interface PushFailureFields {
    user: string;
    code: number;
}

export interface RefusedFields {
    code: number;
    detail: string;
}

export const CONTROLS: readonly string[] = "NONE DRAIN GOAWAY".split(" ");
export type ControlKind = "NONE" | "DRAIN" | "GOAWAY";

export const PRESENCE_KINDS: readonly string[] = "NONE ONLINE DETACHED RESUMED OFFLINE".split(" ");
export type PresenceEventKind = "NONE" | "ONLINE" | "DETACHED" | "RESUMED" | "OFFLINE";

export const CAUSES: readonly string[] =
    "UNKNOWN LOGIN TAKEOVER LOGOUT LOST EXPIRED KICKED HEARTBEAT SLOW_CONSUMER PROTOCOL SHUTDOWN RESTART TOKEN_EXPIRED".split(
        " ",
    );
export type PresenceEventCause =
    | "UNKNOWN"
    | "LOGIN"
    | "TAKEOVER"
    | "LOGOUT"
    | "LOST"
    | "EXPIRED"
    | "KICKED"
    | "HEARTBEAT"
    | "SLOW_CONSUMER"
    | "PROTOCOL"
    | "SHUTDOWN"
    | "RESTART"
    | "TOKEN_EXPIRED";

export const ROOM_ASKS: readonly string[] = "NONE CREATE JOIN".split(" ");
export type RoomAskKind = "NONE" | "CREATE" | "JOIN";

export const ROOM_NEWS: readonly string[] =
    "NONE OPENED CLOSED JOINED AWAY BACK LEFT MESSAGE".split(" ");
export type RoomNewsKind =
    "NONE" | "OPENED" | "CLOSED" | "JOINED" | "AWAY" | "BACK" | "LEFT" | "MESSAGE";

export const ROOM_CAUSES: readonly string[] =
    "UNKNOWN ASKED SERVICE TAKEOVER LOGOUT EXPIRED KICKED TOKEN_EXPIRED IDLE LOST".split(" ");
export type RoomNewsCause =
    | "UNKNOWN"
    | "ASKED"
    | "SERVICE"
    | "TAKEOVER"
    | "LOGOUT"
    | "EXPIRED"
    | "KICKED"
    | "TOKEN_EXPIRED"
    | "IDLE"
    | "LOST";

export const WATCH_MODES: readonly string[] = "SET ADD REMOVE".split(" ");
export type WatchListMode = "SET" | "ADD" | "REMOVE";

export const RESULT_CODES: readonly string[] =
    "OK NOT_ONLINE STALE_EPOCH GONE INBOX_FULL TOO_LARGE MALFORMED UNAVAILABLE FORBIDDEN NO_ROOM ROOM_FULL NOT_MEMBER RATE_LIMITED FULL".split(
        " ",
    );
export type ResultCode =
    | "OK"
    | "NOT_ONLINE"
    | "STALE_EPOCH"
    | "GONE"
    | "INBOX_FULL"
    | "TOO_LARGE"
    | "MALFORMED"
    | "UNAVAILABLE"
    | "FORBIDDEN"
    | "NO_ROOM"
    | "ROOM_FULL"
    | "NOT_MEMBER"
    | "RATE_LIMITED"
    | "FULL";

export const SESSION_STATES: readonly string[] = "NONE ONLINE DETACHED GONE".split(" ");
export type SessionInfoState = "NONE" | "ONLINE" | "DETACHED" | "GONE";

export const REFUSALS: readonly string[] = "NONE STALE_LINK BANNED MALFORMED PIPELINED BUSY".split(
    " ",
);
export type RefusedCode = "NONE" | "STALE_LINK" | "BANNED" | "MALFORMED" | "PIPELINED" | "BUSY";
