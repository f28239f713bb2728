// SPDX-License-Identifier: Apache-2.0
// Calls, logins and what concerns rooms: from the mail to their handlers, and back as replies.
//
// Mail is numbered per link, without gaps. The cursor is the last number up to which everything is
// done; it may lie behind what has been taken, since handlers overlap and end in any order. What is
// not acknowledged by it goes to another instance should this one die.
//
// What cannot be taken now is left alone: the node says it again as long as we do not say that we have
// it, so nothing has to be kept here.
import { textOf } from "../../js/src/utf8.js";
import { Call, CallHandler, Login, LoginHandler, Payload, Problem, Reply, Verdict } from "./api.js";
import { RoomAskHandler, RoomNewsHandler, StoredNoticeHandler, WatchAskHandler } from "./api.js";
import { Answer, askOf, InTurn, newsOf, roomAnswer, thrownAnswer, watchAnswer } from "./asks.js";
import { ServiceStatus } from "./errors.js";
import { AuthCallFields, MailFields, UserCallFields } from "./fields.js";

/** Nobody handles this method. */
const STATUS_NO_METHOD = 404;
/** The handler failed in a way that it did not name. */
const STATUS_FAILED = 500;
const STATUS_REFUSED = 1;
const STATUS_MAX = 2 ** 32 - 1;

/** The mail of one link. */
export class Mailbox {
    /** The last number that was taken. */
    seen = 0;
    /** Everything up to it is done. */
    done = 0;
    private finished = new Set<number>();

    /** Something that was taken is not done. */
    get open(): boolean {
        return this.seen > this.done;
    }

    finish(seq: number): void {
        if (seq > this.done) {
            this.finished.add(seq);
        }
        while (this.finished.delete(this.done + 1)) {
            this.done++;
        }
    }
}

/** What a reply is bound to. */
export interface MailLink {
    readonly mail: Mailbox;
}

export interface ReplyFields {
    call: number;
    status: number;
    payload?: Uint8Array | string;
    tokenEndsMs?: number;
    rooms?: readonly string[];
}

/** What this part asks of the one that owns it. */
export interface MailPorts {
    /** Queues it; `settled` is called when nothing is left to do about it. */
    reply(link: MailLink, reply: ReplyFields, settled: () => void): void;
    control(kind: number, detail: string): void;
    problem(problem: Problem): void;
    /** Mail of it can still be acknowledged. */
    lives(link: MailLink): boolean;
    /** A cursor moved, or there is room for a call. */
    moved(): void;
}

class OwnCall implements Call {
    readonly user: string;
    readonly epoch: number;
    readonly method: string;
    readonly payload: Uint8Array;
    readonly timeoutMs: number;
    readonly redelivered: boolean;
    readonly oneWay: boolean;
    readonly traceparent: string;
    readonly acknowledge: () => void;

    constructor(from: UserCallFields, acknowledge: () => void) {
        this.user = from.user;
        this.epoch = from.epoch;
        this.method = from.method;
        this.payload = from.payload;
        this.timeoutMs = from.timeoutMs;
        this.redelivered = from.redelivered;
        this.oneWay = from.call === 0;
        this.traceparent = from.traceparent;
        this.acknowledge = acknowledge;
    }

    get text(): string {
        return textOf(this.payload);
    }
}

function isPayload(value: unknown): value is Payload {
    return typeof value === "string" || value instanceof Uint8Array;
}

function isPromise<T>(value: T | Promise<T>): value is Promise<T> {
    return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

/** Runs what a program gave us; calls one of both, once, at once where it can. */
export function attempt<T>(
    run: () => T | Promise<T>,
    good: (value: T) => void,
    bad: (error: unknown) => void,
): void {
    let value: T | Promise<T>;
    try {
        value = run();
        if (isPromise(value)) {
            // Not by itself: what is no promise of ours might settle twice.
            Promise.resolve(value).then(good, bad);
            return;
        }
    } catch (error) {
        bad(error);
        return;
    }
    good(value);
}

export class Mail {
    readonly methods = new Map<string, CallHandler>();
    other: CallHandler | undefined;
    login: LoginHandler | undefined;
    roomAsk: RoomAskHandler | undefined;
    roomNews: RoomNewsHandler | undefined;
    watchAsk: WatchAskHandler | undefined;
    storedNotice: StoredNoticeHandler | undefined;
    private readonly inTurn = new InTurn();
    /** Calls and what is like them whose handlers, or replies, are not done. */
    open = 0;
    closing = false;

    constructor(
        private readonly callsMax: number,
        private readonly ports: MailPorts,
    ) {}

    /** Whether one more may be taken. Before anybody handles anything none is. */
    get ready(): boolean {
        const asked = !!this.login || !!this.roomAsk || !!this.watchAsk;
        const told = !!this.roomNews || !!this.storedNotice;
        const handled = this.methods.size > 0 || !!this.other || asked || told;
        return handled && !this.closing && this.open < this.callsMax;
    }

    /** Takes what it can; false: something was left. Undefined: mail is missing. */
    take(link: MailLink, mails: readonly MailFields[]): boolean | undefined {
        for (const item of mails) {
            if (item.seq <= link.mail.seen) {
                continue;
            }
            if (item.seq !== link.mail.seen + 1) {
                return undefined;
            }
            if (!item.control && !this.ready) {
                return false;
            }
            link.mail.seen = item.seq;
            this.begin(link, item);
        }
        return true;
    }

    private begin(link: MailLink, item: MailFields): void {
        if (item.call) {
            this.beginCall(link, item.seq, item.call);
        } else if (item.auth) {
            this.beginLogin(link, item.seq, item.auth);
        } else if (item.ask) {
            const ask = askOf(item.ask);
            const text = `onRoomAsk failed for ${ask.user} and ${ask.room}`;
            const run = this.roomAsk && (() => this.roomAsk!(ask));
            this.beginAsk(link, item.seq, item.ask.call, text, run, roomAnswer);
        } else if (item.watch) {
            const { call, ...watch } = item.watch;
            const text = `onWatchAsk failed for ${watch.user}`;
            const run = this.watchAsk && (() => this.watchAsk!(watch));
            this.beginAsk(link, item.seq, call, text, run, (verdict) =>
                watchAnswer(verdict, watch.targets),
            );
        } else if (item.news) {
            const [from, handler] = [item.news, this.roomNews];
            const run = handler && (() => handler(newsOf(from)));
            this.beginTold(
                link,
                item.seq,
                "#" + from.room,
                `onRoomNews failed for ${from.room}`,
                run,
            );
        } else if (item.stored) {
            const [from, handler] = [item.stored, this.storedNotice];
            const run = handler && (() => handler(from));
            this.beginTold(
                link,
                item.seq,
                from.user,
                `onStoredNotice failed for ${from.user}`,
                run,
            );
        } else {
            link.mail.finish(item.seq);
            if (item.control) {
                this.ports.control(item.control.kind, item.control.detail);
            }
        }
    }

    /** What ends a call: its mail is done, and its reply, if one is wanted, goes out. */
    private ender(link: MailLink, seq: number, call: number) {
        this.open++;
        const settled = () => {
            this.open--;
            this.ports.moved();
        };
        return (reply?: Omit<ReplyFields, "call">) => {
            if (call && reply) {
                this.ports.reply(link, { call, ...reply }, settled);
            } else {
                settled();
            }
            // Behind its reply: who is told of this cursor has the reply already, or nearly so.
            link.mail.finish(seq);
            this.ports.moved();
        };
    }

    private beginCall(link: MailLink, seq: number, from: UserCallFields): void {
        const end = this.ender(link, seq, from.call);
        const handler = this.methods.get(from.method) ?? this.other;
        if (!handler) {
            end({ status: STATUS_NO_METHOD, payload: "no such method" });
            return;
        }
        const call = new OwnCall(from, () => {
            link.mail.finish(seq);
            this.ports.moved();
        });
        attempt(
            () => handler(call),
            (reply) => end(this.replyOf(call, reply)),
            (error) => end(this.failure(call, error)),
        );
    }

    private replyOf(call: Call, reply: Reply): Omit<ReplyFields, "call"> {
        if (reply === undefined || reply === null || isPayload(reply)) {
            return { status: 0, payload: reply || undefined } as Omit<ReplyFields, "call">;
        }
        const text = `the handler of "${call.method}" gave neither bytes nor a text`;
        this.ports.problem({ text, error: reply, call });
        return { status: STATUS_FAILED };
    }

    private failure(call: Call, error: unknown): Omit<ReplyFields, "call"> {
        if (error instanceof ServiceStatus) {
            const { status, payload } = error;
            if (
                Number.isInteger(status) &&
                status >= 0 &&
                status <= STATUS_MAX &&
                isPayload(payload)
            ) {
                return { status, payload };
            }
        }
        const text = `the handler of "${call.method}" failed for ${call.user}`;
        this.ports.problem({ text, error, call });
        return { status: STATUS_FAILED };
    }

    private beginLogin(link: MailLink, seq: number, from: AuthCallFields): void {
        const end = this.ender(link, seq, from.call);
        const login = this.login;
        if (!login) {
            this.ports.problem({
                text: "somebody logs in, and there is no onLogin",
                error: undefined,
            });
            end();
            return;
        }
        const { user, token, address, client, timeoutMs, redelivered } = from;
        const asked: Login = { user, token, address, client, timeoutMs, redelivered };
        attempt(
            () => login(asked),
            (verdict) => end(this.verdictOf(verdict)),
            (error) => {
                if (error instanceof ServiceStatus) {
                    end({ status: error.status || STATUS_REFUSED });
                    return;
                }
                // A fault is no verdict: he is told to try again later.
                this.ports.problem({ text: `onLogin failed for ${user}`, error });
                end();
            },
        );
    }

    private verdictOf(verdict: Verdict): Omit<ReplyFields, "call"> | undefined {
        if (typeof verdict === "boolean") {
            return { status: verdict ? 0 : STATUS_REFUSED };
        }
        // Whatever else it is must let nobody in: an error is one that should have been thrown.
        const isObject = typeof verdict === "object" && verdict !== null;
        const isVerdict =
            isObject && ("user" in verdict || "tokenEndsMs" in verdict || "rooms" in verdict);
        const given: { user?: unknown; tokenEndsMs?: number; rooms?: readonly string[] } = isVerdict
            ? verdict
            : { user: null };
        const { user = "", tokenEndsMs = 0, rooms = [] } = given;
        const areNames = Array.isArray(rooms) && rooms.every((room) => typeof room === "string");
        const isTime = Number.isSafeInteger(tokenEndsMs) && tokenEndsMs >= 0;
        if (typeof user === "string" && isTime && areNames) {
            return { status: 0, payload: user, tokenEndsMs, rooms };
        }
        this.ports.problem({ text: "onLogin gave no verdict", error: verdict });
        return undefined;
    }

    /** `failed` is what is said when there is no verdict: then nothing is answered. */
    private beginAsk<Verdict>(
        link: MailLink,
        seq: number,
        call: number,
        failed: string,
        run: (() => Verdict | Promise<Verdict>) | undefined,
        answerOf: (verdict: Verdict) => Answer | undefined,
    ): void {
        const end = this.ender(link, seq, call);
        const judged = (answer: Answer | undefined, error: unknown) => {
            if (!answer) {
                this.ports.problem({ text: failed, error });
            }
            end(answer);
        };
        if (!run) {
            judged(undefined, "it has no handler");
            return;
        }
        attempt(
            run,
            (verdict) => judged(answerOf(verdict), verdict),
            (error) => judged(thrownAnswer(error), error),
        );
    }

    /** Its place is taken until it is told, so what waits here has a bound. */
    private beginTold(
        link: MailLink,
        seq: number,
        turn: string,
        failed: string,
        run: (() => unknown) | undefined,
    ): void {
        if (!run) {
            link.mail.finish(seq);
            return;
        }
        const end = this.ender(link, seq, 0);
        this.inTurn.run(turn, (over) => {
            const told = () => {
                end();
                over();
            };
            if (!this.ports.lives(link)) {
                told(); // the node tells it again, by the next link or to another instance
                return;
            }
            attempt(run, told, (error) => {
                this.ports.problem({ text: failed, error });
                told();
            });
        });
    }
}
