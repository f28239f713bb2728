// SPDX-License-Identifier: Apache-2.0
// What a program holds: its handlers, its commands as promises, and its questions.
//
// A promise that nobody looks at must not end the program (Node does that to a rejection without a
// reader), so each one that is given out has a reader already. Nothing that a handler or listener of
// the program throws gets out of here.
import { encodeBare } from "../../js/src/codec.js";
import {
    CallHandler,
    DrainNotice,
    InboxPage,
    KickOptions,
    LoginHandler,
    Options,
    Payload,
    PresenceHandler,
    Problem,
    PushOptions,
    PushReport,
    RoomAddOptions,
    RoomAskHandler,
    RoomInfo,
    RoomMembersPage,
    RoomNewsHandler,
    RoomOpenOptions,
    Service,
    Session,
    State,
    StoredNoticeHandler,
    StoredPushOptions,
    WatchAskHandler,
    WatchListOptions,
} from "./api.js";
import { Channel, Dial } from "./channel.js";
import { Core, tame } from "./core.js";
import { UsherError } from "./errors.js";
import { COMMAND, CommandFields, CONTROLS, ResultFields } from "./fields.js";
import { inboxDrop, inboxPages, InboxPorts } from "./inbox.js";
import { Mail, MailLink, ReplyFields } from "./mail.js";
import { Presence, sessionOf } from "./presence.js";
import { Queries } from "./queries.js";
import { Command, Queue } from "./queue.js";
import { Rooms } from "./rooms.js";
import { Clock } from "./time.js";
import { bytesOf, inParts, inSum, quiet, refusal, reportOf, storedReportOf } from "./values.js";
import { textIn, traceparentIn, wholeNumber, wordOf } from "./values.js";
import { Address } from "./where.js";

const CALLS_MAX = 256;
const COMMANDS_MAX = 4096;
const COMMAND_BYTES_MAX = 4 << 20;
const CLOSE_MS = 5000;
const STATUS_TOO_LARGE = 500;

export interface Parts {
    readonly clock: Clock;
    readonly dial: Dial;
    readonly addresses: readonly Address[];
}

type Listener = (event: never) => unknown;

/** What was thrown, for a log. Its words may be a player's: JSON.parse says what it was given. And it may
 * be something that does not become a text. */
function wordsOf(error: unknown): string {
    try {
        const words = String(error instanceof Error ? error.stack : error);
        return words.split("\n").map(tame).join("\n    ");
    } catch {
        return "something that has no words";
    }
}

export class OwnService implements Service {
    readonly #core: Core;
    readonly #mail: Mail;
    readonly #presence: Presence;
    readonly #queries: Queries;
    readonly #queue: Queue;
    readonly #rooms: Rooms;
    readonly #inboxes: InboxPorts;
    readonly #clock: Clock;
    readonly #log: (line: string) => void;
    readonly #listeners: [kind: string, listener: Listener][] = [];
    #closing: Promise<void> | undefined;

    constructor(
        readonly service: string,
        readonly instance: string,
        options: Options,
        parts: Parts,
    ) {
        const { clock, dial, addresses } = parts;
        const token = options.token === undefined ? undefined : bytesOf(options.token);
        const channel = () => new Channel(addresses, clock, dial);
        this.#log = options.log ?? ((line) => console.error(line));
        this.#clock = clock;
        this.#queue = new Queue(
            wholeNumber(options.queueCommandsMax, COMMANDS_MAX, "queueCommandsMax"),
            wholeNumber(options.queueBytesMax, COMMAND_BYTES_MAX, "queueBytesMax"),
        );
        this.#queries = new Queries(channel(), clock, token, addresses.length);
        const problem = (found: Problem) => this.#problem(found);
        const moved = () => this.#core.schedule();
        this.#mail = new Mail(wholeNumber(options.callsMax, CALLS_MAX, "callsMax"), {
            reply: (link, reply, settled) => this.#reply(link, reply, settled),
            control: (kind, detail) => this.#control(kind, detail),
            problem,
            lives: (link) => link === this.#core.link,
            moved,
        });
        const ask = (command: Partial<CommandFields>) => this.#queries.ask(command);
        this.#rooms = new Rooms({
            command: (fields) => this.#command(fields),
            ask,
            frameBytesMax: () => this.#queue.frameBytesMax,
        });
        this.#inboxes = { command: (fields) => this.#command(fields), ask };
        this.#presence = new Presence(options.presence, clock, { ask, problem, moved });
        this.#core = new Core(
            { clock, channel, tell: (state) => this.#tell(state) },
            { service, instance, token },
            this.#queue,
            this.#mail,
            this.#presence,
        );
    }

    /** Resolved with the first link. */
    begin(): Promise<Service> {
        return new Promise((resolve, reject) => {
            const off = this.onState(({ state }) => {
                if (state === "linked") {
                    resolve(this);
                    off();
                } else if (this.#core.ended) {
                    reject(this.#core.ended);
                }
            });
            this.#core.schedule();
        });
    }

    get state(): State["state"] {
        return this.#core.state;
    }

    get presenceSeq(): number {
        return this.#presence.done;
    }

    // --- handlers and listeners -------------------------------------------------------------------

    on(method: string, handler: CallHandler): () => void {
        const methods = this.#mail.methods;
        if (methods.has(method)) {
            throw new Error(`"${method}" has a handler`);
        }
        methods.set(method, handler);
        this.#core.schedule();
        return () => void methods.delete(method);
    }

    onCall(handler: CallHandler): () => void {
        return this.#only("onCall", "other", handler);
    }

    onLogin(handler: LoginHandler): () => void {
        return this.#only("onLogin", "login", handler);
    }

    onRoomAsk(handler: RoomAskHandler): () => void {
        return this.#only("onRoomAsk", "roomAsk", handler);
    }

    onRoomNews(handler: RoomNewsHandler): () => void {
        return this.#only("onRoomNews", "roomNews", handler);
    }

    onWatchAsk(handler: WatchAskHandler): () => void {
        return this.#only("onWatchAsk", "watchAsk", handler);
    }

    onStoredNotice(handler: StoredNoticeHandler): () => void {
        return this.#only("onStoredNotice", "storedNotice", handler);
    }

    /** There is one at most. */
    #only<Name extends "other" | "login" | "roomAsk" | "roomNews" | "watchAsk" | "storedNotice">(
        name: string,
        place: Name,
        handler: Mail[Name],
    ): () => void {
        const mail = this.#mail;
        if (mail[place]) {
            throw new Error(`${name} has a handler`);
        }
        mail[place] = handler;
        this.#core.schedule();
        return () => void (mail[place] = undefined as Mail[Name]);
    }

    onPresence(handler: PresenceHandler): () => void {
        if (!this.#presence.following) {
            throw new Error("to follow presence, say so in the options: { presence: true }");
        }
        if (this.#presence.handler) {
            throw new Error("onPresence has a handler");
        }
        this.#presence.handler = handler;
        this.#core.schedule();
        return () => void (this.#presence.handler = undefined);
    }

    onState(listener: (state: State) => unknown): () => void {
        return this.#listen("state", listener);
    }

    onDrain(listener: (notice: DrainNotice) => unknown): () => void {
        return this.#listen("drain", listener);
    }

    onProblem(listener: (problem: Problem) => unknown): () => void {
        return this.#listen("problem", listener);
    }

    #listen(kind: string, listener: Listener): () => void {
        const own: [string, Listener] = [kind, listener];
        this.#listeners.push(own);
        return () => {
            const at = this.#listeners.indexOf(own);
            if (at >= 0) {
                this.#listeners.splice(at, 1);
            }
        };
    }

    /** Whether anybody heard it. */
    #emit(kind: string, event: unknown): boolean {
        const its = this.#listeners.filter((each) => each[0] === kind);
        for (const [, listener] of its) {
            const failed = (error: unknown) => this.#line(`a listener of ${kind} failed`, error);
            try {
                Promise.resolve(listener(event as never)).catch(failed);
            } catch (error) {
                failed(error);
            }
        }
        return its.length > 0;
    }

    #line(text: string, error?: unknown): void {
        const line = error === undefined ? text : `${text}: ${wordsOf(error)}`;
        try {
            this.#log(`usher-backend ${this.service || "observer"}: ${line}`);
        } catch {
            // Where a log fails there is nobody to tell it to.
        }
    }

    #tell(state: State): void {
        if (this.#core.ended) {
            this.#queries.close(this.#core.ended);
        }
        if (state.state !== "closed") {
            this.#line(state.text);
        }
        this.#emit("state", state);
    }

    #problem(found: Problem): void {
        const problem = { ...found, text: tame(found.text) };
        if (!this.#emit("problem", problem)) {
            this.#line(problem.text, problem.error);
        }
    }

    #control(kind: number, detail: string): void {
        const word = CONTROLS[kind];
        if (word === "DRAIN" || word === "GOAWAY") {
            const nodeStops = word === "GOAWAY";
            this.#line(nodeStops ? "the node stops" : "no new users will come");
            this.#emit("drain", { nodeStops, detail: tame(detail) });
        }
    }

    // --- commands ---------------------------------------------------------------------------------

    /** Queues it; rejected when the node did not do it, or nobody knows. */
    #command(
        fields: Partial<CommandFields>,
        transient = false,
        link?: MailLink,
    ): Promise<ResultFields> {
        return new Promise((done, failed) => {
            const bytes = encodeBare(COMMAND, fields);
            const transientSince = transient ? this.#clock.now() : undefined;
            const command: Command = { bytes, link, transientSince, done, failed };
            const error = this.#core.ended ?? this.#queue.add(command);
            if (error) {
                throw error;
            }
            this.#core.schedule();
        });
    }

    #reply(link: MailLink, reply: ReplyFields, settled: () => void): void {
        const send = async (status: number, payload?: Payload) => {
            const bytes = payload === undefined ? undefined : bytesOf(payload);
            const replyTo = { ...reply, status, payload: bytes };
            return this.#command({ replyTo } as Partial<CommandFields>, false, link);
        };
        const failed = (error: unknown) => {
            const code = error instanceof UsherError ? error.code : undefined;
            if (code !== "TOO_LARGE" && code !== undefined) {
                return undefined; // too late, or the link is gone: nobody waits for it any more
            }
            this.#problem({ text: "a reply cannot be sent", error });
            return send(STATUS_TOO_LARGE).catch(() => undefined);
        };
        send(reply.status, reply.payload)
            .then((result) => {
                if (wordOf(result.code) === "TOO_LARGE") {
                    const error = refusal(result);
                    this.#problem({ text: "a reply is too large for its caller", error });
                }
            }, failed)
            .then(settled, settled);
    }

    push(
        to: string | readonly string[],
        payload: Payload,
        options: StoredPushOptions = {},
    ): Promise<PushReport> {
        const names = typeof to === "string" ? [to] : to;
        return quiet(this.#push(names, payload, options));
    }

    async #push(
        names: readonly string[],
        payload: Payload,
        options: StoredPushOptions,
    ): Promise<PushReport> {
        const bytes = bytesOf(payload);
        const { transient = false, epoch = 0, keepS = 0, tag = 0 } = options;
        const traceparent = traceparentIn(options.traceparent);
        const rest = { payload: bytes, epoch, transient, keepS, tag, traceparent };
        const report = keepS ? storedReportOf : reportOf;
        const push = async (to: string[]) =>
            report(to, await this.#command({ push: { to, ...rest } }, transient));
        return inSum(inParts(names, bytes.length, this.#queue.frameBytesMax).map(push));
    }

    pushAll(payload: Payload, options: PushOptions = {}): Promise<PushReport> {
        const run = async () => {
            const { transient = false } = options;
            const traceparent = traceparentIn(options.traceparent);
            const pushAll = { payload: bytesOf(payload), transient, traceparent };
            return reportOf([], await this.#command({ pushAll }, transient));
        };
        return quiet(run());
    }

    kick(user: string, options: KickOptions = {}): Promise<boolean> {
        const run = async () => {
            const { epoch = 0, reason = 0, detail = "", retryAfterMs = 0 } = options;
            const numbers = { epoch, reason, retryAfterMs };
            const words = { user: textIn(user), detail: textIn(detail) };
            const doNotReturn = options.doNotReturn === true;
            const result = await this.#command({ kick: { ...words, ...numbers, doNotReturn } });
            const word = wordOf(result.code);
            if (word !== "OK" && word !== "NOT_ONLINE" && word !== "STALE_EPOCH") {
                throw refusal(result);
            }
            return word === "OK";
        };
        return quiet(run());
    }

    drain(): Promise<void> {
        const run = async () => {
            const result = await this.#command({ drain: {} });
            if (result.code !== 0) {
                throw refusal(result);
            }
        };
        return quiet(run());
    }

    // --- rooms and friends ------------------------------------------------------------------------

    roomOpen(room: string, options: RoomOpenOptions = {}): Promise<RoomInfo> {
        return this.#rooms.open(room, options);
    }

    roomClose(room: string, detail = ""): Promise<boolean> {
        return this.#rooms.close(room, detail);
    }

    roomAdd(
        room: string,
        users: string | readonly string[],
        options: RoomAddOptions = {},
    ): Promise<PushReport> {
        return this.#rooms.add(room, typeof users === "string" ? [users] : users, options);
    }

    roomRemove(room: string, users: string | readonly string[], detail = ""): Promise<PushReport> {
        return this.#rooms.remove(room, typeof users === "string" ? [users] : users, detail);
    }

    roomPublish(room: string, payload: Payload): Promise<number> {
        return this.#rooms.publish(room, payload);
    }

    roomMembers(
        room: string,
        { limit = 0 }: { limit?: number } = {},
    ): AsyncIterableIterator<RoomMembersPage> {
        return this.#rooms.members(room, limit);
    }

    rooms({ prefix = "" }: { prefix?: string } = {}): AsyncIterableIterator<RoomInfo> {
        return this.#rooms.all(prefix);
    }

    watchList(
        user: string,
        targets: readonly string[],
        options: WatchListOptions = {},
    ): Promise<PushReport> {
        return this.#rooms.watchList(user, targets, options);
    }

    inbox(
        user: string,
        { afterMid = 0, limit = 0 }: { afterMid?: number; limit?: number } = {},
    ): AsyncIterableIterator<InboxPage> {
        return inboxPages(this.#inboxes, user, afterMid, limit);
    }

    inboxDrop(user: string, upToMid: number): Promise<number> {
        return inboxDrop(this.#inboxes, user, upToMid);
    }

    room(): Promise<void> {
        return this.#queue.room();
    }

    // --- questions --------------------------------------------------------------------------------

    lookup(users: readonly string[]): Promise<Session[]> {
        const run = async () => {
            const result = await this.#queries.ask({ lookup: { users: users.map(textIn) } });
            return (result.sessions?.sessions ?? []).map(sessionOf);
        };
        return quiet(run());
    }

    async *list({ prefix = "" }: { prefix?: string } = {}): AsyncIterableIterator<Session> {
        for (let after = ""; ;) {
            const list = { prefix: textIn(prefix), after, limit: 0 };
            const page = (await this.#queries.ask({ list })).sessions;
            yield* (page?.sessions ?? []).map(sessionOf);
            const last = page?.sessions[page.sessions.length - 1]?.user;
            if (!page?.more || last === undefined || last <= after) {
                return;
            }
            after = last;
        }
    }

    count(): Promise<{ sessions: number; online: number; detached: number }> {
        return quiet(this.#numbers({ count: {} })) as ReturnType<Service["count"]>;
    }

    stats(): Promise<Record<string, number>> {
        return quiet(this.#numbers({ stats: {} }));
    }

    async #numbers(command: Partial<CommandFields>): Promise<Record<string, number>> {
        const { numbers } = await this.#queries.ask(command);
        return Object.fromEntries((numbers?.numbers ?? []).map(({ name, value }) => [name, value]));
    }

    // --- the end ----------------------------------------------------------------------------------

    close({ timeoutMs = CLOSE_MS }: { timeoutMs?: number } = {}): Promise<void> {
        this.#closing ??= this.#core.ended ? Promise.resolve() : this.#core.close(timeoutMs);
        return this.#closing;
    }
}
