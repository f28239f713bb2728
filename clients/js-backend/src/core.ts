// SPDX-License-Identifier: Apache-2.0
// The link: hello, fetch, submit, again.
//
// There are two connections. One fetches calls and presence (fetch.ts), the other submits: hello,
// then commands, as many as fit one frame. Everything that happens ends in `schedule`, and one look
// (`pump`) decides what goes out next; so commands that were made in one tick leave together.
//
// A Submit that got no answer goes out again as it was: the node does each (link, lane, seq) once and
// says the same again. A link that the node no longer knows is the end of its numbers: hello again,
// mail from 1, submits from 1; presence goes on, because its numbers belong to the node. Of commands
// that may have arrived by a link that is gone nobody knows, so their promises end as LOST; what
// certainly did not arrive is queued again. A reply never goes out on another link than its call came
// in on, where its number would be somebody else's.
import { encodeBare } from "../../js/src/codec.js";
import { State } from "./api.js";
import { Channel, Failure, Outcome } from "./channel.js";
import { UsherError } from "./errors.js";
import { Fetcher } from "./fetch.js";
import { AcceptedFields, LINKREQUEST, RefusedFields, REFUSALS, ResultFields } from "./fields.js";
import { Mail, Mailbox, MailLink } from "./mail.js";
import { Presence } from "./presence.js";
import { Command, Queue, submitBytes } from "./queue.js";
import { backOff, Clock } from "./time.js";

const REQUEST_MS = 2000;
const BUSY_MS = 200;
const BACKOFF_MS = 50;
const BACKOFF_MS_MAX = 1000;
/** A link that lasted so long is made again at once. */
const LASTING_MS = 5000;
const SHORT_BACKOFF_MS_MAX = 3200;
const PARK_MS_DEFAULT = 2000;
const PARK_MS_MAX = 60000;
const FRAME_BYTES_LEAST = 1024;
const FRAME_BYTES_MAX = 64 * 1024;
/** For the last Fetch, which tells how far we are. */
const FAREWELL_MS = 1000;

/** One of the two connections. */
export interface Side {
    readonly channel: Channel;
    /** In a row. */
    failures: number;
    retryAt: number;
}

export interface LinkState extends MailLink {
    /** A secret: who has it acts in the service's name. */
    readonly link: number;
    /** The one for people. */
    readonly number: number;
    readonly mail: Mailbox;
    readonly parkMs: number;
    readonly madeAt: number;
    /** Of the last Submit. */
    seq: number;
}

interface Batch {
    readonly link: LinkState;
    readonly commands: Command[];
    readonly bytes: Uint8Array;
    /** How often it left. */
    sent: number;
}

export interface Identity {
    readonly service: string;
    readonly instance: string;
    readonly token: Uint8Array | undefined;
}

export interface CoreParts {
    readonly clock: Clock;
    readonly channel: () => Channel;
    readonly tell: (state: State) => void;
}

let lastIncarnation = 0;

/** Rises with each service of this process, and from process to process with the time. */
function nextIncarnation(): number {
    lastIncarnation = Math.max(lastIncarnation + 1, Date.now());
    return lastIncarnation;
}

/** A text of others in a line of ours: nothing in it steers a terminal. */
export function tame(text: string): string {
    return text.replace(
        /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
        "?",
    );
}

function within(value: number, otherwise: number, least: number, most: number): number {
    return Math.min(Math.max(value || otherwise, least), most);
}

export class Core {
    link: LinkState | undefined;
    state: State["state"] = "lost";
    ended: UsherError | undefined;
    private readonly clock: Clock;
    private readonly submit: Side;
    private readonly fetch: Side;
    private readonly fetcher: Fetcher;
    private incarnation = nextIncarnation();
    private nodeBoot = "";
    private batch: Batch | undefined;
    private shortLinks = 0;
    private toldLost = false;
    private scheduled = false;
    private timer: unknown;
    private timerAt = Infinity;
    private watchers: { look: () => boolean; resolve: () => void }[] = [];

    constructor(
        private readonly parts: CoreParts,
        private readonly identity: Identity,
        readonly queue: Queue,
        private readonly mail: Mail,
        private readonly presence: Presence,
    ) {
        this.clock = parts.clock;
        this.submit = { channel: parts.channel(), failures: 0, retryAt: 0 };
        this.fetch = { channel: parts.channel(), failures: 0, retryAt: 0 };
        this.fetcher = new Fetcher(this, this.fetch, mail, presence);
    }

    now(): number {
        return this.clock.now();
    }

    /** A look at what is to be done, behind everything that this tick brings. */
    schedule(): void {
        if (!this.scheduled && !this.ended) {
            this.scheduled = true;
            this.clock.soon(() => {
                this.scheduled = false;
                this.pump();
            });
        }
    }

    wakeAt(at: number): void {
        if (at >= this.timerAt) {
            return;
        }
        this.clock.cancel(this.timer);
        this.timerAt = at;
        this.timer = this.clock.after(Math.max(1, Math.ceil(at - this.now())), () => {
            this.timerAt = Infinity;
            this.schedule();
        });
    }

    private pump(): void {
        if (this.ended) {
            return;
        }
        const now = this.now();
        if (!this.link) {
            this.wakeAt(this.queue.expire(now)); // else what is taken is looked at
        }
        this.pumpSubmit(now);
        this.fetcher.pump(now);
        this.watchers = this.watchers.filter(({ look, resolve }) => {
            const seen = look();
            if (seen) {
                resolve();
            }
            return !seen;
        });
    }

    // --- submit: hello and commands ---------------------------------------------------------------

    private pumpSubmit(now: number): void {
        const side = this.submit;
        if (!side.channel.idle) {
            return;
        }
        if (this.batch && this.batch.link !== this.link) {
            this.batchLost();
        }
        if (now < side.retryAt) {
            this.wakeAt(side.retryAt);
            return;
        }
        if (!this.link) {
            this.sendHello();
            return;
        }
        this.batch ??= this.nextBatch(this.link, now);
        if (this.batch) {
            this.sendBatch(this.batch);
        }
    }

    private sendHello(): void {
        const { service, instance, token } = this.identity;
        const { incarnation, nodeBoot, presence } = this;
        const hello = {
            service,
            instance,
            incarnation,
            token,
            presence: presence.following,
            presenceAfter: presence.done,
            nodeBoot,
        };
        this.submit.channel.start(
            encodeBare(LINKREQUEST, { hello }),
            REQUEST_MS,
            this.answerer((answer) => {
                if (answer.refused) {
                    this.helloRefused(answer.refused);
                } else if (answer.accepted?.link) {
                    this.accepted(answer.accepted);
                } else {
                    this.confused("a Hello was answered with something else");
                }
            }),
        );
    }

    /** What is common to all answers on this side. */
    private answerer(answered: (answer: NonNullable<Outcome["answer"]>) => void) {
        return ({ answer, failure }: Outcome) => {
            if (failure) {
                if (this.batch && !failure.sent) {
                    this.batch.sent--;
                }
                this.sideFailed(this.submit, failure);
            } else {
                answered(answer!);
            }
            this.schedule();
        };
    }

    /** A new link: its numbers begin at 1. */
    private accepted(accepted: AcceptedFields): void {
        this.nodeBoot = accepted.nodeBoot;
        this.link = {
            link: accepted.link,
            number: accepted.number,
            mail: new Mailbox(),
            parkMs: within(accepted.parkMs, PARK_MS_DEFAULT, 1, PARK_MS_MAX),
            madeAt: this.now(),
            seq: 0,
        };
        this.queue.frameBytesMax = within(
            accepted.frameBytesMax,
            this.queue.frameBytesMax,
            FRAME_BYTES_LEAST,
            FRAME_BYTES_MAX,
        );
        this.heard();
        this.presence.linked(accepted.presenceFrom);
    }

    /** For good when the node knows us and says no; a busy node is asked again. */
    private helloRefused(refused: RefusedFields): void {
        const { service, instance } = this.identity;
        const who = `service "${service}", instance "${instance}"`;
        const detail = refused.detail || "no reason given";
        const code = REFUSALS[refused.code];
        if (code === "BANNED") {
            this.end(
                "refused",
                `the node refuses ${who} (${detail}): check the token, and that no newer instance ` +
                    "runs under this name",
            );
        } else if (code === "MALFORMED") {
            this.end("refused", `the node does not accept the hello of ${who} (${detail})`);
        } else {
            this.submit.retryAt = this.now() + BUSY_MS;
            this.lost(`the node is busy (${detail}); saying hello again`);
        }
    }

    private nextBatch(link: LinkState, now: number): Batch | undefined {
        const commands = this.queue.take(link, now);
        if (!commands.length) {
            return undefined;
        }
        const encoded = commands.map((command) => command.bytes);
        const bytes = submitBytes(link.link, ++link.seq, encoded);
        return { link, commands, bytes, sent: 0 };
    }

    private sendBatch(batch: Batch): void {
        batch.sent++;
        this.submit.channel.start(
            batch.bytes,
            REQUEST_MS,
            this.answerer((answer) => {
                if (answer.refused) {
                    this.batchRefused(batch, answer.refused);
                } else {
                    this.batchAnswered(batch, answer.results);
                }
            }),
        );
    }

    private batchAnswered(
        batch: Batch,
        results: { seq: number; results: ResultFields[] } | undefined,
    ): void {
        if (results?.results.length !== batch.commands.length || results.seq !== batch.link.seq) {
            this.batchLost();
            if (batch.link === this.link) {
                this.confused("its results do not fit what was submitted");
            }
            return;
        }
        this.batch = undefined;
        this.heard();
        batch.commands.forEach((command, i) => command.done(results.results[i]!));
    }

    private batchRefused(batch: Batch, refused: RefusedFields): void {
        const code = REFUSALS[refused.code];
        if (code === "BUSY" || code === "PIPELINED") {
            this.submit.retryAt = this.now() + BUSY_MS; // not done: the same again
        } else if (code === "MALFORMED") {
            batch.link.seq--;
            this.batch = undefined;
            const error = new UsherError("MALFORMED", tame(refused.detail));
            batch.commands.forEach((command) => command.failed(error));
        } else {
            // Not done now; but perhaps when it went out before.
            batch.sent--;
            this.batchLost();
            if (batch.link === this.link) {
                this.unlink(refused.detail || code || "refused");
            }
        }
    }

    /** Its link is gone. Whether it was done is known when it never left. */
    private batchLost(): void {
        const batch = this.batch!;
        this.batch = undefined;
        if (batch.sent <= 0) {
            this.queue.putBack(batch.commands);
            return;
        }
        const error = new UsherError("LOST", "the link broke before the answer", "unknown");
        batch.commands.forEach((command) => command.failed(error));
    }

    // --- what becomes of the link -----------------------------------------------------------------

    /** Any answer is a sign of life, so both sides begin to count their failures anew. */
    heard(): void {
        this.fetch.failures = this.submit.failures = 0;
        if (this.state === "linked" || !this.link) {
            return;
        }
        this.toldLost = false;
        const at = `${this.submit.channel.url} as link ${this.link.number}`;
        this.tell("linked", `linked to ${at}`);
    }

    private lost(text: string): void {
        if (!this.toldLost) {
            this.toldLost = true;
            this.tell("lost", text);
        }
    }

    private tell(state: State["state"], text: string): void {
        this.state = state;
        this.parts.tell({ state, text: tame(text) });
    }

    unlink(why: string): void {
        const link = this.link;
        this.link = undefined;
        if (link) {
            this.holdHello(link);
        }
        this.lost(`the node ended the link (${why}); saying hello again`);
        this.schedule();
    }

    /** The node does not say what it should on this link: a new one, under a new number. */
    confused(why: string): void {
        this.incarnation = nextIncarnation();
        this.submit.retryAt = this.now() + BUSY_MS;
        this.unlink(why);
    }

    /** One that ends as soon as it is made is not made again at once, or a node that is out of order
     * would be asked as often as it can answer. */
    private holdHello(link: LinkState): void {
        const lasted = this.now() - link.madeAt >= LASTING_MS;
        this.shortLinks = lasted ? 0 : this.shortLinks + 1;
        if (this.shortLinks >= 2) {
            const failures = this.shortLinks - 1;
            const ms = backOff(this.clock, failures, BACKOFF_MS, SHORT_BACKOFF_MS_MAX);
            this.submit.retryAt = Math.max(this.submit.retryAt, this.now() + ms);
        }
    }

    /** No answer: the next try comes later. */
    sideFailed(side: Side, { url, why, forbidden }: Failure): void {
        side.failures++;
        const ms = backOff(this.clock, side.failures, BACKOFF_MS, BACKOFF_MS_MAX);
        side.retryAt = this.now() + ms;
        this.lost(
            forbidden
                ? `permission denied at ${url}: a user may connect whom link.socket_mode and ` +
                      "link.socket_group of usherd, and the folders above, let in. Trying again"
                : `no answer from a node at ${url} (${why}): is usherd running, and is this one ` +
                      "of its link.urls? Trying again",
        );
    }

    // --- the end ----------------------------------------------------------------------------------

    /** Until it is so, or it is `at`. */
    private until(look: () => boolean, at: number): Promise<void> {
        return new Promise((resolve) => {
            const timer = this.clock.after(Math.max(1, at - this.now()), resolve);
            const seen = () => {
                this.clock.cancel(timer);
                resolve();
            };
            this.watchers.push({ look, resolve: seen });
            this.schedule();
        });
    }

    async close(timeoutMs: number): Promise<void> {
        const at = this.now() + timeoutMs;
        this.mail.closing = true;
        this.presence.close();
        await this.until(() => this.mail.open === 0 && !this.presence.running, at);
        await this.until(() => !this.link || (this.queue.empty && !this.batch), at);
        const farewell = Math.min(at, this.now() + FAREWELL_MS);
        await this.until(() => !this.link || this.fetcher.parked, farewell);
        if (!this.ended) {
            this.end("closed", "closed");
        }
    }

    /** Nothing goes out any more; each promise has its end. */
    private end(state: "refused" | "closed", text: string): void {
        const code = state === "refused" ? "REFUSED" : "CLOSED";
        const error = new UsherError(code, tame(text));
        this.ended = error;
        this.link = undefined;
        this.mail.closing = true;
        this.presence.close();
        this.submit.channel.close();
        this.fetch.channel.close();
        this.clock.cancel(this.timer);
        if (this.batch) {
            this.batchLost();
        }
        this.queue.failAll(error);
        this.watchers.splice(0).forEach(({ resolve }) => resolve());
        this.tell(state, text);
    }
}
