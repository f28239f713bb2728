// SPDX-License-Identifier: Apache-2.0
// What a program sees of the client.
import { EndCode, UsherError } from "./errors.js";
import { WelcomeReplay } from "./fields.js";

/** Bytes, or a text that is sent as UTF-8. */
export type Payload = Uint8Array | string;

/** What proves who one is, to a broker that asks for it. */
export type Token = Payload | null | undefined;

/** What `connect` is told. Undefined, null and 0 mean the default. */
export interface Options {
    /** ws://HOST:PORT/usher or wss://; with `usher-client/node` also tcp:// and tls://. */
    url: string;
    /** The name to log in as. */
    user: string;
    /** What proves it. A function is asked for each login, and for none that is resumed. */
    token?: Token | (() => Token | Promise<Token>);
    /** Messages are kept by the broker until this client has acknowledged them, and come again. */
    acks?: boolean;
    /** They are acknowledged by `ack(message)` alone, and not when the program leaves them. */
    manualAcks?: boolean;
    /** Text for operators, as "tag/1.2". */
    client?: string;
    /** Such as sessionStorage: a page that is loaded again resumes its session. */
    storage?: Pick<Storage, "getItem" | "setItem" | "removeItem">;
    /** Such as localStorage: `lastMid` is kept there, and taken from there. By default in `storage`. */
    midStorage?: Pick<Storage, "getItem" | "setItem">;
    /** What `lastMid` was in an earlier life, where the program keeps it by itself. */
    lastMid?: number;
    /** The class to use where there is no global WebSocket. */
    webSocket?: unknown;
    /** From the first byte to the Welcome (10,000). */
    connectTimeoutMs?: number;
    /** Patience with a request that names no time of its own (30,000). */
    requestTimeoutMs?: number;
    /** Requests that wait for being sent or for their answer (256). */
    requestsMax?: number;
    /** Bytes of requests that are not sent yet (1 MiB); one may be larger by itself. */
    queueBytesMax?: number;
    /** Messages that the program has not taken yet; beyond, the connection is given up until it has
     * taken half of them (1024). */
    unreadMax?: number;
    /** Likewise, in bytes (4 MiB). */
    unreadBytesMax?: number;
}

/** connecting: to the broker. online: welcomed. waiting: for the next try. ended: for good. */
export type State = "connecting" | "online" | "waiting" | "ended";

/** What the broker says to a login or a resume. */
export interface Welcome {
    /** FRESH: a new session. COMPLETE: resumed, nothing missing. PARTIAL: messages are missing. */
    replay: WelcomeReplay;
    /** The number of the session: later logins of a user have higher ones. */
    epoch: number;
    /** Of the first message to come. */
    nextSeq: number;
    /** The broker closes who is silent for two of these; the client sees to it. */
    heartbeatMs: number;
    /** How long the session waits for this client when its connection is lost. */
    resumeMs: number;
    /** Of stored messages. PARTIAL: some expired before they were here, or an operator dropped them.
     * FRESH: nothing is or was stored, or the broker is of before stored messages. */
    stored: WelcomeReplay;
    /** So many wait on the broker's disk, and follow. */
    storedMessages: number;
    /** The largest frame that the broker takes. */
    frameBytesMax: number;
    /** How long until the session ends with its token; 0: it does not. */
    tokenMs: number;
    /** Unix time of the broker, for people. */
    timeMs: number;
    /** The name of the broker's node. */
    node: string;
}

/** What somebody sent to this user. */
export interface Message {
    /** From 1 in each epoch, without gaps; 0: transient. */
    seq: number;
    /** Of the session that got it. */
    epoch: number;
    /** The user who sent it, or empty. */
    from: string;
    /** The service that pushed it, or empty. */
    service: string;
    /** Its bytes. */
    payload: Uint8Array;
    /** The payload as UTF-8. */
    readonly text: string;
    /** Unix time of the broker when it took it, for people. */
    timeMs: number;
    /** It may have been handed out before: to an earlier login or another tab. */
    redelivered: boolean;
    /** How many are missing right before this one. */
    missed: number;
    /** Of one that was stored: rises for each user, over all his sessions. 0: it was not. */
    mid: number;
    /** Of W3C Trace Context, as whoever sent it gave it, or empty. */
    traceparent: string;
}

/** A connection is over, or a try to make one. */
export interface Closed {
    /** Of the broker, or LOST: nobody said; or CLOSED: by `close()`. */
    reason: EndCode;
    /** For people. */
    detail: string;
    /** Until the next try. */
    retryAfterMs: number;
    /** There is no next try: the client has ended. */
    final: boolean;
}

/** What `on` can listen to. */
export interface Events {
    /** It changed. */
    state: State;
    /** Online, for the first time or again. */
    welcome: Welcome;
    /** Messages are missing: fetch anew what they would have told. */
    partial: Welcome;
    /** A connection is over; with `final` the client is. */
    closed: Closed;
    /** How many milliseconds a Ping took. */
    rtt: number;
    /** What was posted is not sent, and why. */
    dropped: UsherError;
    /** A promise that is given back says when the program leaves the message. */
    message: Message;
}

/** How to send. */
export interface SendOptions {
    /** Wait until the receiver has acknowledged it, and not only until its inbox has it. */
    delivered?: boolean;
    /** It is worth something only now: to his connection if nothing waits for him, else dropped. While
     * this client is away it is not sent later, but rejected with NOT_SENT. */
    transient?: boolean;
    /** Stored on the broker's disk, until the receiver has processed it, for so many seconds at most. */
    keepS?: number;
    /** With keepS: a second one from this user to that one under this number within ten minutes is not
     * stored, and its promise gives the mid of the first. So what ended with NO_ANSWER is sent again. */
    tag?: number;
    /** How long to wait for the answer (`requestTimeoutMs`). */
    timeoutMs?: number;
    /** Of W3C Trace Context; the receiver gets it. What is none is left out. */
    traceparent?: string | undefined;
}

/** How to call. */
export interface CallOptions {
    /** How long the service may take; the broker's default. */
    timeoutMs?: number;
    /** Of W3C Trace Context; the service gets it. What is none is left out. */
    traceparent?: string | undefined;
}

/** One user's session, over as many connections as it takes. */
export interface Client {
    /** As it was given to `connect`. */
    readonly user: string;
    /** What it is doing now. */
    readonly state: State;
    /** The first Welcome; rejected with an UsherError when the client ends before. */
    readonly ready: Promise<Welcome>;
    /** Why the client has ended, as soon as it has. */
    readonly ended: Closed | undefined;
    /** The highest mid of a stored message that the program has processed. None up to it comes again. */
    readonly lastMid: number;

    /** To another user, or to oneself. Gives the epoch of the receiver; 0 when it was transient and
     * was dropped; with keepS the mid, when it is on the disk. */
    send(to: string, payload: Payload, options?: SendOptions): Promise<number>;
    /** To a service; gives its reply, or a StatusError. */
    call(
        service: string,
        method: string,
        payload?: Payload,
        options?: CallOptions,
    ): Promise<Uint8Array>;
    /** A send without an answer. True: it is handed to the connection or waits for the next one. What
     * is not sent is told to `dropped`; false: already, because it cannot be sent or too much waits. */
    post(to: string, payload: Payload, options?: SendOptions): boolean;
    /** A call without an answer; true and false as `post`. */
    postCall(service: string, method: string, payload?: Payload, options?: CallOptions): boolean;

    /** The messages as they come; ends with the client. Each is left when the next one is asked for. */
    messages(): AsyncIterableIterator<Message>;
    /** With manualAcks: this message and all before it are processed. */
    ack(message: Message): void;
    /** Gives what takes the listener off again. */
    on<Name extends keyof Events>(
        name: Name,
        listener: (event: Events[Name]) => unknown,
    ): () => void;

    /** Ends the session, and gives up what is still in its inbox. */
    logout(): Promise<void>;
    /** Closes the connection. The session stays for its resume window. */
    close(): void;
}
