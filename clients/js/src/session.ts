// SPDX-License-Identifier: Apache-2.0
// The life of a session over its connections:
//
//     connecting -> online -> waiting -> connecting ...      and from each of them: ended
//
// Invariants. There is a link in connecting and online only; what an older one still tells is not
// heard. Requests are handed to a link only when online. _lose is the only way out of a connection
// but _end, and after _end nothing happens any more.
//
// A lost connection is tried again after a pause that doubles, half of it random (so that the pages of
// a restarted broker do not come in waves), and never before the broker's retry_after_ms. The doubling
// begins anew only after a connection that lasted: a broker that welcomes and at once drops somebody
// must not be hammered.
import { Client, Closed, Events, Message, Options, State, Token, Welcome } from "./api.js";
import { CallOptions, Payload, SendOptions } from "./api.js";
import { decodeAll, encode, Fields } from "./codec.js";
import { Emitter } from "./emitter.js";
import { EndCode, UsherError } from "./errors.js";
import * as fields from "./fields.js";
import { BrokerFrameFields, CLOSES, ERRORS, REPLAYS } from "./fields.js";
import { Beats, Heart } from "./heart.js";
import { watchPage } from "./page.js";
import { Inbox, Received } from "./inbox.js";
import { Settings, settingsOf } from "./limits.js";
import { Requests } from "./requests.js";
import { Ids, Session as Kept, Store } from "./storage.js";
import { judgeAfter } from "./time.js";
import { Dial, Link } from "./transport.js";
import { utf8 } from "./utf8.js";

/** Numbers that are written where they are used: a constant would cost its name. */
const enum Fixed {
    BACKOFF_MS_MIN = 500,
    BACKOFF_MS_MAX = 30000,
    LASTING_MS = 5000,
    RETRY_AFTER_MS_MAX = 3600000,
    /** A service's deadline is the broker's to keep; this is how much later the client gives up. */
    GRACE_MS = 2000,
    FRAME_BYTES_MAX_UNKNOWN = 65536,
    /** WebSocket's code for a Close of usher is this and the reason. */
    CLOSE_CODE = 4000,
}

/** Refusals that say nothing against this user. */
export const MAY_PASS = /^(BUSY|TIMEOUT|RATE_LIMITED|UNAVAILABLE|DRAINING|INTERNAL)$/;
/** Reasons after which nobody comes back, whatever else the Close says. */
const FINAL = /^(REPLACED|LOGGED_OUT|STALE_SESSION)$/;
/** What the broker answers INVALID_NAME; asked here, because with a NUL it would close. */
const NAME = /^[\w.@:+-]{1,64}$/;

/** What is neither text nor bytes nor nothing is a mistake of the program. (By its length, because
 * each window has a Uint8Array of its own.) */
export function bytesOf(payload: Token): Uint8Array | undefined {
    if (payload != null && !(payload.length >= 0)) {
        throw new TypeError("no bytes: " + payload);
    }
    return typeof payload === "string" ? utf8(payload) : (payload ?? undefined);
}

/** Of a send or a call; codec.ts writes those that its body has. What is a traceparent the broker judges;
 * what could not even be one it does not see, because at a NUL it would close. */
function bodyOf(whom: Fields, payload: Payload | undefined, options: SendOptions = {}): Fields {
    const { delivered, traceparent } = options;
    return {
        ...options,
        ...whom,
        payload: bytesOf(payload),
        until: delivered ? 1 : 0,
        traceparent: /^[\da-f-]{55}$/.test(traceparent!) && traceparent,
    };
}

export class UsherClient implements Client {
    readonly user: string;
    readonly ready: Promise<Welcome>;
    state: State = "connecting";
    ended: Closed | undefined;

    readonly _options: Settings;
    _events = new Emitter();
    _store: Store;
    _requests: Requests;
    _inbox: Inbox;
    _heart: Heart;
    _session: Kept | undefined;
    _link: Link | undefined;
    _helloId = 0;
    _ackedSeq = 0;
    _attempts = 0;
    _onlineAt = 0;
    _notBefore = 0;
    /** The program has too many messages to take: no connection until it has taken some. */
    _held = false;
    _leaving = false;
    _tokenRefused = false;
    _frameBytesMax = Fixed.FRAME_BYTES_MAX_UNKNOWN;
    _cancelTimer = () => {};
    _unwatch: () => void;

    constructor(
        options: Options,
        readonly _dial: Dial,
    ) {
        const settings = (this._options = settingsOf(options));
        this.user = options.user;
        this._store = new Store(options);
        this._inbox = new Inbox(
            settings,
            this._events,
            () => this._progress(),
            () => this._drained(),
            this._store._mid,
        );
        this._heart = new Heart(
            () => this._ping(),
            () => this._lose("HEARTBEAT_TIMEOUT", "silence"),
        );
        const kept = this._store._load();
        if (kept) {
            this._session = kept[0];
            this._inbox._begin(kept[0].epoch, kept[1] + 1);
        }
        this._requests = new Requests(settings, this._store._life * Ids.OF_A_LIFE + 1);
        this.ready = new Promise<Welcome>((resolve, reject) => {
            this.on("welcome", resolve);
            this.on("closed", ({ reason, detail, final }) => {
                if (final) {
                    reject(new UsherError(reason, detail, "no"));
                }
            });
        });
        this.ready.catch(() => {}); // who does not ask is not told
        this._unwatch = watchPage(
            () => this._hint(),
            () => this._inbox._tell(),
        );
        // Not at once: the program still has its listeners to put on.
        queueMicrotask(() => {
            if (NAME.test(this.user)) {
                void this._connect();
            } else {
                this._refused("INVALID_NAME", this.user);
            }
        });
    }

    get lastMid(): number {
        return this._inbox._processedMid;
    }

    // --- what the program asks for ---------------------------------------------------------------

    async send(to: string, payload: Payload, options?: SendOptions): Promise<number> {
        return this._ask({ send: bodyOf({ to }, payload, options) }, options?.timeoutMs);
    }

    async call(
        service: string,
        method: string,
        payload?: Payload,
        options?: CallOptions,
    ): Promise<Uint8Array> {
        const timeoutMs = options?.timeoutMs;
        return this._ask(
            { call: bodyOf({ service, method }, payload, options) },
            timeoutMs && timeoutMs + Fixed.GRACE_MS,
        );
    }

    post(to: string, payload: Payload, options?: SendOptions): boolean {
        return this._post({ send: bodyOf({ to }, payload, options) });
    }

    postCall(service: string, method: string, payload?: Payload, options?: CallOptions): boolean {
        return this._post({ call: bodyOf({ service, method }, payload, options) });
    }

    messages(): AsyncIterableIterator<Message> {
        return this._inbox._messages();
    }

    ack(message: Message): void {
        const { _count, seq, _mid } = message as Received;
        this._inbox._process(_count, seq, _mid);
    }

    on<Name extends keyof Events>(
        name: Name,
        listener: (event: Events[Name]) => unknown,
    ): () => void {
        // What waits comes later, so that who asks has the "off" by then.
        queueMicrotask(() => this._inbox._give());
        return this._events._on(name, listener as never);
    }

    async logout(): Promise<void> {
        this._leaving = true;
        this._inbox._tell();
        await this._ask({ logout: {} }).catch((error) => {
            this._leaving = false;
            throw error;
        });
    }

    close(): void {
        this._inbox._tell();
        this._end("CLOSED", "");
    }

    /** Why it cannot go on its way, if it cannot. */
    _fault({ send, call }: Fields): UsherError | undefined {
        const name = send?.to ?? call?.service ?? "-";
        if (!NAME.test(name) || call?.method.includes("\0")) {
            return new UsherError("INVALID_NAME", name, "no");
        }
        const detail =
            this.ended?.reason ||
            (send?.transient && this.state !== "online"
                ? "away"
                : (send || call) && this._requests._full(this._link?._waiting() || 0)
                  ? "too much waits"
                  : "");
        return detail ? new UsherError("NOT_SENT", detail, "no") : undefined;
    }

    async _ask(body: Fields, timeoutMs?: number): Promise<Fields> {
        const fault = this._fault(body);
        if (fault) {
            throw fault;
        }
        const answer = this._requests._ask(body, timeoutMs || this._options.requestTimeoutMs);
        this._flush();
        return answer;
    }

    _post(body: Fields): boolean {
        let taken = true;
        const drop = (error: Error): void => {
            taken = false;
            this._events._emit("dropped", error as UsherError);
        };
        const fault = this._fault(body);
        if (fault) {
            drop(fault);
        } else {
            this._requests._post(body, drop);
            this._flush();
        }
        return taken;
    }

    _flush(): void {
        if (this.state === "online") {
            this._requests._flush((frame) => this._write(frame), this._frameBytesMax);
        }
    }

    // --- connecting and greeting -----------------------------------------------------------------

    _become(state: State): void {
        if (this.state !== state && this.state !== "ended") {
            this.state = state;
            this._events._emit("state", state);
        }
    }

    /** Behind the end there is nothing to tell. */
    _tell<Name extends keyof Events>(name: Name, event: Events[Name]): void {
        if (!this.ended) {
            this._events._emit(name, event);
        }
    }

    /** One try, from the token to the Welcome. */
    async _connect(): Promise<void> {
        this._cancelTimer();
        this._become("connecting");
        if (this.ended) {
            return;
        }
        this._cancelTimer = judgeAfter(this._options.connectTimeoutMs, () =>
            this._lose("LOST", "no Welcome"),
        );
        const mine = this._cancelTimer;
        const token = this._session ? undefined : await this._token();
        if (mine !== this._cancelTimer || this.ended) {
            return; // it took too long, and another try is under way
        }
        try {
            this._open(token);
        } catch (error) {
            // An address that is none, or a page that may not connect there: it stays so.
            this._refused("LOST", String(error));
        }
    }

    _open(token: Uint8Array | undefined): void {
        const link = this._dial(this._options.url, {
            _open: () => this._link === link && this._greet(token),
            _data: (bytes) => this._link === link && this._data(link, bytes),
            _end: (code, detail) => this._link === link && this._gone(code, detail),
        });
        this._link = link;
    }

    /** What does not come now may come with the next try. */
    async _token(): Promise<Uint8Array | undefined> {
        const { token } = this._options;
        const asked = this._cancelTimer;
        try {
            return bytesOf(typeof token === "function" ? await token() : token);
        } catch (error) {
            if (asked === this._cancelTimer) {
                this._lose("LOST", "no token: " + error);
            }
            return undefined;
        }
    }

    _greet(token: Uint8Array | undefined): void {
        const { user, client, acks } = this._options;
        const session = this._session;
        const inbox = this._inbox;
        this._helloId = this._requests._nextId++;
        // Without acks the broker forgets what it handed over, so what came is what counts.
        this._ackedSeq = acks ? inbox._processedSeq : inbox._receivedSeq;
        const hello: Fields = session
            ? {
                  resume: {
                      ...session,
                      username: user,
                      lastSeq: this._ackedSeq,
                      receivedSeq: inbox._receivedSeq,
                      lastMid: this.lastMid,
                  },
              }
            : { login: { username: user, token, client, acks, lastMid: this.lastMid } };
        this._write(encode(fields.CLIENTFRAME, { ...hello, id: this._helloId }));
    }

    _welcomed(welcome: fields.WelcomeFields): void {
        const { secret, replay, stored, ...rest } = welcome;
        const { epoch, nextSeq } = rest;
        const resumed = this._session?.epoch === epoch;
        if (!resumed || nextSeq <= this._ackedSeq) {
            // A new session; or one of which the broker counts from an earlier number.
            this._inbox._begin(epoch, nextSeq);
            this._ackedSeq = this._inbox._processedSeq;
        }
        this._session = { epoch, secret };
        this._cancelTimer();
        this._frameBytesMax = welcome.frameBytesMax || Fixed.FRAME_BYTES_MAX_UNKNOWN;
        this._tokenRefused = false;
        this._onlineAt = Date.now();
        this._heart._start(welcome.heartbeatMs);
        const event: Welcome = {
            ...rest,
            replay: (resumed ? REPLAYS[replay] : "FRESH") as Welcome["replay"],
            stored: (REPLAYS[stored] || "FRESH") as Welcome["replay"],
        };
        this._become("online");
        this._inbox._tell(); // more may have been processed since the Resume left
        this._tell("welcome", event);
        if (event.replay === "PARTIAL") {
            this._tell("partial", event);
        }
        this._flush();
    }

    /** A session that cannot be resumed is not the end: there is still a login. */
    async _helloRefused(error: fields.ErrorFields): Promise<void> {
        const code = (ERRORS[error.code] || "INTERNAL") as fields.ErrorCode;
        const link = this._link!;
        if (!this._session || MAY_PASS.test(code)) {
            this._sentAway(code, error, !MAY_PASS.test(code), true);
            return;
        }
        this._forget();
        const token = await this._token();
        if (link === this._link) {
            this._greet(token);
        }
    }

    /** A refused token is asked for once more; refused again, the client ends. */
    _sentAway(
        reason: EndCode,
        { detail, retryAfterMs }: { detail: string; retryAfterMs?: number },
        final: boolean,
        mayReturn: boolean,
    ): void {
        if (mayReturn && /^(UNAUTHENTICATED|AUTH_FAILED)$/.test(reason)) {
            final = this._tokenRefused || typeof this._options.token !== "function";
            this._tokenRefused = true;
            this._forget();
        }
        if (final) {
            this._refused(reason, detail);
        } else {
            this._lose(reason, detail, retryAfterMs);
        }
    }

    _forget(): void {
        this._session = undefined;
        this._store._save(undefined, 0);
    }

    // --- online ----------------------------------------------------------------------------------

    /** Gives the link, if it is still there. */
    _write(frame: Uint8Array): Link | undefined {
        this._heart._spokeAt = Date.now();
        try {
            this._link!._send(frame);
        } catch (error) {
            this._lose("LOST", String(error));
        }
        return this._link;
    }

    _ping(): void {
        this._write(encode(fields.CLIENTFRAME, { ping: { stamp: Date.now() } }));
    }

    _data(link: Link, bytes: Uint8Array): void {
        this._heart._heard();
        try {
            for (const frame of decodeAll(fields.BROKERFRAME, bytes)) {
                if (link === this._link) {
                    this._receive(frame);
                }
            }
        } catch (error) {
            this._lose("PROTOCOL_ERROR", String(error));
        }
    }

    _receive(frame: BrokerFrameFields): void {
        const { id, message, welcome, pong, close, error } = frame;
        const online = this.state === "online";
        if (close) {
            this._closed(close);
        } else if (pong) {
            this._events._emit("rtt", Math.max(Date.now() - pong.stamp, 0));
        } else if (welcome && !online && welcome.epoch) {
            this._welcomed(welcome);
        } else if (message && online) {
            if (!this._inbox._push(message)) {
                this._hold();
            }
        } else if (error && !online && id === this._helloId) {
            void this._helloRefused(error);
        } else if (online && !welcome) {
            this._requests._answer(frame);
        } else {
            this._lose("PROTOCOL_ERROR", "out of place");
        }
    }

    /** The broker says why, and with that whether there is a way back. */
    _closed(
        close: Pick<fields.CloseFields, "reason" | "detail"> & Partial<fields.CloseFields>,
    ): void {
        const reason = (CLOSES[close.reason] || "NONE") as fields.CloseReason;
        if (reason === "TOKEN_EXPIRED") {
            this._forget();
        }
        this._sentAway(
            reason,
            close,
            !!close.doNotReturn || FINAL.test(reason),
            !close.doNotReturn,
        );
    }

    /** The link has ended by itself. Its code stands for a Close that did not come. */
    _gone(code: number, detail: string): void {
        if (code > Fixed.CLOSE_CODE && code - Fixed.CLOSE_CODE < CLOSES.length) {
            this._closed({ reason: code - Fixed.CLOSE_CODE, detail });
        } else {
            this._lose("LOST", detail || "code " + code);
        }
    }

    /** The program has processed some more: the broker and the storage are told. */
    _progress(): void {
        const seq = this._inbox._processedSeq;
        this._store._saveMid(this.lastMid); // also what is processed after the end
        if (this.ended) {
            return;
        }
        if (this._session) {
            this._store._save(this._session, seq);
        }
        if (this._options.acks && this.state === "online" && seq > this._ackedSeq) {
            this._ackedSeq = seq;
            this._write(encode(fields.CLIENTFRAME, { ack: { seq } }));
        }
    }

    /** A page cannot stop reading: it gives the connection up, and what comes stays with the broker. */
    _hold(): void {
        this._held = true;
        this._lose("SLOW_CONSUMER", "unread");
    }

    _drained(): void {
        if (this._held) {
            this._held = false;
            void this._connect();
        }
    }

    // --- losing and trying again -----------------------------------------------------------------

    /** Something happened that makes it worth to look now: the network is there, or the player is. */
    _hint(): void {
        if (this.state === "online") {
            this._heart._probe(Beats.DOUBT_MS);
        } else if (this.state === "waiting" && !this._held && Date.now() >= this._notBefore) {
            void this._connect();
        }
    }

    _hangUp(unsentToo: boolean, detail: string): void {
        const link = this._link;
        this._link = undefined;
        this._cancelTimer();
        this._heart._stop();
        link?._close();
        this._requests._failAll(detail, unsentToo);
    }

    _lose(reason: EndCode, detail: string, retryAfterMs = 0): void {
        const wasOnline = this.state === "online";
        if (this.ended) {
            return;
        }
        if (wasOnline && this._leaving) {
            this._refused(reason, detail);
            return;
        }
        if (wasOnline && Date.now() - this._onlineAt >= Fixed.LASTING_MS) {
            this._attempts = 0;
        }
        const most = Math.min(Fixed.BACKOFF_MS_MIN * 2 ** this._attempts++, Fixed.BACKOFF_MS_MAX);
        const atLeast = Math.min(retryAfterMs, Fixed.RETRY_AFTER_MS_MAX);
        const pause = Math.ceil(Math.max((most * (1 + Math.random())) / 2, atLeast));
        this._notBefore = Date.now() + atLeast;
        this.state = "waiting"; // before others hear of it: what they ask for now waits
        this._hangUp(false, detail);
        this._cancelTimer = judgeAfter(pause, () => this._held || this._connect());
        this._tell("state", "waiting");
        this._tell("closed", { reason, detail, retryAfterMs: pause, final: false });
    }

    /** There is no way back: the session is not ours any more, or never was. */
    _refused(reason: EndCode, detail: string): void {
        this._forget();
        this._end(reason, detail);
    }

    _end(reason: EndCode, detail: string): void {
        if (this.ended) {
            return;
        }
        const closed = (this.ended = { reason, detail, retryAfterMs: 0, final: true });
        this._unwatch();
        this._hangUp(true, reason);
        this._inbox._end();
        this._become("ended");
        this._events._emit("closed", closed);
    }
}
