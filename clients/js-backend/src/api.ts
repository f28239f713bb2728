// SPDX-License-Identifier: Apache-2.0
// What a program sees of the library.
import { PresenceEventCause, PresenceEventKind, ResultCode, SessionInfoState } from "./fields.js";
import { RoomAskKind, RoomNewsCause, RoomNewsKind, WatchListMode } from "./fields.js";

/** Bytes, or a text that is sent as UTF-8. */
export type Payload = Uint8Array | string;

/** What a handler gives: the reply, or nothing for an empty one. */
export type Reply = Payload | undefined | void;

type Awaitable<T> = T | Promise<T>;

export interface Options {
    /** Addresses of one node, tried in turn: ipc://PATH, tcp://HOST:PORT. By default USHER_LINK, or the
     * link in ./build/data, ./usher-data or /run/usher. */
    link?: string | readonly string[];
    /** Unique within the service and stable over restarts. By default host, process and chance. */
    instance?: string;
    /** What is in link.token_file of the node, if it has one. */
    token?: Payload;
    /** Calls that are open at once (256). Beyond it none is taken from the node; they wait there. */
    callsMax?: number;
    /** Commands that wait for the node (4096); one more is rejected with BUSY. */
    queueCommandsMax?: number;
    /** Likewise, in bytes (4 MiB). */
    queueBytesMax?: number;
    /** Follow presence; `onPresence` gets the changes. */
    presence?: boolean | PresenceOptions;
    /** Gets a line for each thing that an operator should read. console.error by default. */
    log?: (line: string) => void;
}

/** Every function may give a promise; the next thing is told when it is settled. */
export interface PresenceOptions {
    /** The `seq` of the last event that was processed in an earlier life; 0: none. */
    after?: number;
    /** The picture begins anew (first link, or events are missing): forget all users. */
    reset?(): unknown;
    /** After a reset: one user of the new picture. Without this function no picture is taken. */
    snapshot?(session: Session): unknown;
    /** The picture is whole; changes follow. It is true for this position. */
    current?(position: { seq: number }): unknown;
}

export interface Call {
    /** Who calls: the broker has checked it. */
    readonly user: string;
    /** Of the login that called. A push with it reaches that login or nobody. */
    readonly epoch: number;
    readonly method: string;
    readonly payload: Uint8Array;
    /** The payload as UTF-8. */
    readonly text: string;
    /** What was left of the user's patience when the call came. */
    readonly timeoutMs: number;
    /** An instance may have seen this call before: what must not happen twice needs a look. */
    readonly redelivered: boolean;
    /** No reply is wanted. */
    readonly oneWay: boolean;
    /** Of W3C Trace Context, as the caller gave it, or empty. */
    readonly traceparent: string;
    /** The call counts as finished from here on: should this process die, its caller is told
     * SERVICE_LOST, and no other instance gets the call. For handlers that wait for long. */
    acknowledge(): void;
}

/** Somebody wants to log in (auth.mode service). */
export interface Login {
    /** Whom he says to be; may be empty, then the answer names him. */
    readonly user: string;
    readonly token: Uint8Array;
    readonly address: string;
    readonly client: string;
    readonly timeoutMs: number;
    readonly redelivered: boolean;
}

/** What is said of him who is let in. `tokenEndsMs`: until when his ticket is good (Unix ms). `rooms`: what
 * a token would claim, names of rooms or their beginnings and a `*`. */
export interface Admission {
    user?: string;
    tokenEndsMs?: number;
    rooms?: readonly string[];
}

/** true lets him in, false refuses. An object lets him in that says at least one of these. */
export type Verdict =
    | boolean
    | (Admission & { user: string })
    | (Admission & { tokenEndsMs: number })
    | (Admission & { rooms: readonly string[] });

export type CallHandler = (call: Call) => Awaitable<Reply>;
export type LoginHandler = (login: Login) => Awaitable<Verdict>;
export type PresenceHandler = (event: PresenceEvent) => unknown;

/** One change of one user. */
export interface PresenceEvent {
    /** Rises by one from event to event of a node. */
    readonly seq: number;
    readonly timeMs: number;
    readonly user: string;
    readonly kind: PresenceEventKind;
    readonly epoch: number;
    /** Not 0: this login took over from that one, which is closed by it. */
    readonly previousEpoch: number;
    readonly cause: PresenceEventCause;
    /** DETACHED: offline then, in Unix ms, unless the user comes back. */
    readonly untilMs: number;
    readonly address: string;
    readonly client: string;
}

export interface Session {
    readonly user: string;
    /** GONE: only of `lookup`, nobody by that name. */
    readonly state: SessionInfoState;
    readonly epoch: number;
    readonly node: string;
    readonly sinceMs: number;
    readonly address: string;
    readonly client: string;
    readonly inboxMessages: number;
    /** "tcp", "tls", "ws" or "wss"; empty: not known. */
    readonly transport: string;
}

export interface PushOptions {
    /** Worth something only now: to those who are connected and for whom nothing else waits. One that
     * waited for the link for more than a second is not sent. */
    transient?: boolean;
    /** Of W3C Trace Context; the receivers get it. What is none is left out. */
    traceparent?: string | undefined;
}

export interface StoredPushOptions extends PushOptions {
    /** That login or nobody. Not with keepS. */
    epoch?: number;
    /** Stored on the node's disk for each of them, online or not, until he has processed it, for so many
     * seconds at most. */
    keepS?: number;
    /** With keepS: for whom this service has stored one under this number within ten minutes, it is not stored
     * again, and counts as accepted. So what ended as LOST is pushed again. */
    tag?: number;
}

export interface PushReport {
    /** With keepS: of the message, or of its last part where the names did not fit one frame. */
    readonly mid: number;
    /** How many inboxes took it; of a transient one, to how many it went. */
    readonly accepted: number;
    /** Of a transient one: to how many it did not go, who are no failures. */
    readonly dropped: number;
    /** Who did not get it, and why, as far as the answer had room. */
    readonly failures: readonly { readonly user: string; readonly code: ResultCode | "UNKNOWN" }[];
}

export interface KickOptions {
    /** That login or nobody. */
    epoch?: number;
    /** A close reason of the client protocol, by number; 0: KICKED. */
    reason?: number;
    /** For the user's client. */
    detail?: string;
    retryAfterMs?: number;
    doNotReturn?: boolean;
}

/** A user wants to be in a room of this service. */
export interface RoomAsk {
    readonly user: string;
    readonly epoch: number;
    readonly room: string;
    /** CREATE: the room is not there; a yes makes it, and him its first member. */
    readonly kind: RoomAskKind;
    readonly timeoutMs: number;
    readonly redelivered: boolean;
}

/** true lets him in, false refuses, and so does a text, which he is told. */
export type RoomVerdict = boolean | string;

/** Something has happened in a room of this service. */
export interface RoomNews {
    readonly room: string;
    /** Of this life of the room. */
    readonly incarnation: number;
    /** From 1 in each incarnation. A gap: of something no instance has heard; `roomMembers` says what is
     * true. */
    readonly newsSeq: number;
    readonly kind: RoomNewsKind;
    /** Whom it is about; of a MESSAGE who published it, or empty. */
    readonly user: string;
    readonly epoch: number;
    readonly cause: RoomNewsCause;
    /** MESSAGE: its own; else of the newest one. */
    readonly offset: number;
    readonly payload: Uint8Array;
    /** The payload as UTF-8. */
    readonly text: string;
    /** An instance may have been told before. */
    readonly redelivered: boolean;
    readonly timeMs: number;
    /** MESSAGE: the service that published it, or empty. */
    readonly service: string;
}

/** A user wants to watch others. */
export interface WatchAsk {
    readonly user: string;
    readonly epoch: number;
    readonly targets: readonly string[];
    readonly timeoutMs: number;
    readonly redelivered: boolean;
}

/** Whom he may watch of those; true: all, false: none. */
export type WatchVerdict = boolean | readonly string[];

/** Something was stored for a user who has no session. */
export interface StoredNotice {
    readonly user: string;
    readonly mid: number;
    /** The user who sent it, or empty. */
    readonly from: string;
    /** The service that pushed it, or empty. */
    readonly service: string;
    readonly payloadBytes: number;
    readonly timeMs: number;
    /** Stored for that user, this one too. */
    readonly count: number;
}

/** One that its receiver has not processed yet. */
export interface StoredMessage {
    readonly mid: number;
    readonly from: string;
    readonly service: string;
    readonly payloadBytes: number;
    readonly timeMs: number;
    readonly expiresMs: number;
}

export interface InboxPage {
    /** Oldest first. */
    readonly messages: readonly StoredMessage[];
    /** All that is stored for him, and its bytes. */
    readonly count: number;
    readonly bytes: number;
}

export type StoredNoticeHandler = (notice: StoredNotice) => unknown;
export type RoomAskHandler = (ask: RoomAsk) => Awaitable<RoomVerdict>;
export type RoomNewsHandler = (news: RoomNews) => unknown;
export type WatchAskHandler = (ask: WatchAsk) => Awaitable<WatchVerdict>;

export interface RoomOpenOptions {
    /** The pattern of its class; otherwise the first whose pattern fits the name. */
    class?: string;
    /** Fewer than its class says. */
    membersMax?: number;
}

export interface RoomAddOptions {
    /** One for each user: that login or nobody. 0: any. */
    epochs?: readonly number[];
    /** The membership goes with the user to his next login. */
    carry?: boolean;
}

export interface RoomInfo {
    readonly name: string;
    readonly incarnation: number;
    /** Of the newest message. */
    readonly offset: number;
    readonly members: number;
    /** Of the members: without a connection. */
    readonly away: number;
    /** The pattern of its class. */
    readonly class: string;
    /** The service that owns it, or empty. */
    readonly owner: string;
    readonly historyMessages: number;
    readonly historyBytes: number;
    /** Messages times members, since it was opened. */
    readonly deliveries: number;
    readonly openedMs: number;
}

export interface RoomMember {
    readonly user: string;
    readonly epoch: number;
    readonly away: boolean;
    /** His membership goes with him to his next login. */
    readonly carry: boolean;
}

export interface RoomMembersPage {
    readonly members: readonly RoomMember[];
    /** The news that this page is true for. */
    readonly newsSeq: number;
    readonly incarnation: number;
    /** Of the newest message. */
    readonly offset: number;
}

export interface WatchListOptions {
    /** That login or nobody. */
    epoch?: number;
    /** SET, the default: these and no others. */
    mode?: WatchListMode;
}

/** What became of the link. `text` is one line for a log. */
export interface State {
    /** lost: it is being tried again, commands wait. refused and closed: it is over. */
    readonly state: "linked" | "lost" | "refused" | "closed";
    readonly text: string;
}

/** No new users will come; finish what is here. `nodeStops`: the node itself goes away. */
export interface DrainNotice {
    readonly nodeStops: boolean;
    readonly detail: string;
}

/** Something of this program failed: a handler threw, or what it gave cannot be sent. */
export interface Problem {
    readonly text: string;
    readonly error: unknown;
    readonly call?: Call;
}

export interface Service {
    readonly service: string;
    readonly instance: string;
    readonly state: State["state"];
    /** The seq of the last presence event that was processed. */
    readonly presenceSeq: number;

    /** Calls of one method. A handler's promise is waited for; calls overlap, and those of one user
     * begin in the order in which they were sent. Gives what takes the handler off. */
    on(method: string, handler: CallHandler): () => void;
    /** Calls of every other method; without it they are answered with status 404. */
    onCall(handler: CallHandler): () => void;
    /** Decides who logs in. One that throws a ServiceStatus refuses; any other fault gives no answer. */
    onLogin(handler: LoginHandler): () => void;
    /** Decides who makes and joins rooms whose class says that this service does. Also a ServiceStatus that
     * is thrown refuses, with its payload as the text; any other fault gives no answer. */
    onRoomAsk(handler: RoomAskHandler): () => void;
    /** What happens in its rooms: of each room in order, one at a time, each until its promise is settled;
     * then it is acknowledged. A fault is told to onProblem, and it goes on. */
    onRoomNews(handler: RoomNewsHandler): () => void;
    /** Decides who watches whom (friends.mode service). Faults as with onRoomAsk. */
    onWatchAsk(handler: WatchAskHandler): () => void;
    /** Something was stored for somebody who is away (inbox.notify_service): of each user in order, one at a
     * time. Acknowledged and faults as with onRoomNews. */
    onStoredNotice(handler: StoredNoticeHandler): () => void;
    /** Changes, in order, one at a time, each until its promise is resolved; one that is rejected is
     * told again. */
    onPresence(handler: PresenceHandler): () => void;
    onState(listener: (state: State) => unknown): () => void;
    onDrain(listener: (notice: DrainNotice) => unknown): () => void;
    onProblem(listener: (problem: Problem) => unknown): () => void;

    /** A message to one user or several. Who is not there is in `failures`; rejected is what the node
     * did not do at all. */
    push(
        to: string | readonly string[],
        payload: Payload,
        options?: StoredPushOptions,
    ): Promise<PushReport>;
    /** To everybody who has a session. */
    pushAll(payload: Payload, options?: PushOptions): Promise<PushReport>;
    /** Ends a session. False: there is no such login. */
    kick(user: string, options?: KickOptions): Promise<boolean>;
    /** Makes a room, or finds it. */
    roomOpen(room: string, options?: RoomOpenOptions): Promise<RoomInfo>;
    /** False: there is no such room. The members are told `detail`. */
    roomClose(room: string, detail?: string): Promise<boolean>;
    /** Puts users into a room, whatever its class says of joining. */
    roomAdd(
        room: string,
        users: string | readonly string[],
        options?: RoomAddOptions,
    ): Promise<PushReport>;
    /** They are told `detail`. */
    roomRemove(
        room: string,
        users: string | readonly string[],
        detail?: string,
    ): Promise<PushReport>;
    /** Gives the offset of the message. */
    roomPublish(room: string, payload: Payload): Promise<number>;
    /** Page by page, each true for its `newsSeq`. */
    roomMembers(room: string, options?: { limit?: number }): AsyncIterableIterator<RoomMembersPage>;
    /** All rooms by name. */
    rooms(options?: { prefix?: string }): AsyncIterableIterator<RoomInfo>;
    /** Whom a user watches. `failures` names targets. */
    watchList(
        user: string,
        targets: readonly string[],
        options?: WatchListOptions,
    ): Promise<PushReport>;

    /** What is stored for a user and not processed by him, page by page. */
    inbox(
        user: string,
        options?: { afterMid?: number; limit?: number },
    ): AsyncIterableIterator<InboxPage>;
    /** Drops what is stored for a user, up to that mid; his next Welcome says so. Gives how many. */
    inboxDrop(user: string, upToMid: number): Promise<number>;

    /** Resolved when the queue of commands is half empty again. */
    room(): Promise<void>;

    /** In the order asked for. */
    lookup(users: readonly string[]): Promise<Session[]>;
    /** All sessions by name, page by page. */
    list(options?: { prefix?: string }): AsyncIterableIterator<Session>;
    count(): Promise<{ sessions: number; online: number; detached: number }>;
    /** The numbers of docs/operations.md. */
    stats(): Promise<Record<string, number>>;

    /** Asks for no new users from now on; those who are here stay. */
    drain(): Promise<void>;
    /** Takes no more calls, waits for those that are open and for what is queued, and leaves. What
     * takes longer than `timeoutMs` (5000) is given up. */
    close(options?: { timeoutMs?: number }): Promise<void>;
}
