// SPDX-License-Identifier: Apache-2.0
// Who is online, without a gap.
//
// Events of a node are numbered without gaps, and a cursor (`done`) says how far the program is. Up
// to what was taken (`seen`): skipped. The next one: taken. Beyond it, or when the node says so:
// something was missed, and the picture is taken anew from Snapshot pages.
//
// Each page bears a stamp: it contains every event up to that seq. The stamps rise from page to page
// while life goes on, so after the picture an event is old news for exactly the names of pages with a
// stamp not below it. Therefore the pages are kept as (last name, stamp) until the stream has passed
// the last stamp. The stream itself goes on after the first stamp, the lowest.
//
// The program is told one thing after the other, each until its promise is settled. `life` counts the
// pictures: what was told of an earlier one moves nothing when it ends.
import { PresenceEvent, PresenceHandler, PresenceOptions, Problem, Session } from "./api.js";
import { attempt } from "./mail.js";
import {
    BatchFields,
    CAUSES,
    CommandFields,
    PRESENCE_KINDS,
    PresenceEventFields,
    ResultFields,
    SessionInfoFields,
    SESSION_STATES,
} from "./fields.js";
import { backOff, Clock } from "./time.js";

const AGAIN_MS = 100;
const AGAIN_MS_MAX = 5000;
const PAGES_MAX = 65536;

export interface PresencePorts {
    ask(command: Partial<CommandFields>): Promise<ResultFields>;
    problem(problem: Problem): void;
    moved(): void;
}

export function sessionOf(from: SessionInfoFields): Session {
    const state = (SESSION_STATES[from.state] ?? "NONE") as Session["state"];
    return { ...from, state };
}

function eventOf(from: PresenceEventFields): PresenceEvent {
    const kind = (PRESENCE_KINDS[from.kind] ?? "NONE") as PresenceEvent["kind"];
    const cause = (CAUSES[from.cause] ?? "UNKNOWN") as PresenceEvent["cause"];
    return { ...from, kind, cause };
}

interface Page {
    /** It is about the names up to this one, after those of the page before. */
    last: string;
    stamp: number;
}

export class Presence {
    readonly following: boolean;
    handler: PresenceHandler | undefined;
    /** The last event that is processed. */
    done: number;
    private readonly options: PresenceOptions;
    /** The last event that was taken. */
    seen: number;
    private events: PresenceEventFields[] = [];
    private pages: Page[] = [];
    /** A reset waits to be told. */
    private begun = false;
    /** The picture is being taken: events are left at the node. */
    private picturing = false;
    private life = 0;
    private closed = false;
    /** Something is being told. */
    running = false;

    constructor(
        options: boolean | PresenceOptions | undefined,
        private readonly clock: Clock,
        private readonly ports: PresencePorts,
    ) {
        this.following = options !== undefined && options !== false;
        this.options = typeof options === "object" ? options : {};
        this.done = this.seen = this.options.after ?? 0;
        if (!Number.isSafeInteger(this.done) || this.done < 0) {
            throw new RangeError("presence.after is no seq: " + this.done);
        }
    }

    /** Something was taken and is not processed yet, or is left at the node. */
    get busy(): boolean {
        return this.events.length > 0 || this.picturing;
    }

    /** Events would be taken. */
    get ready(): boolean {
        return !this.picturing && this.handler !== undefined && !this.closed;
    }

    /** The node goes on from there. */
    linked(from: number): void {
        if (!this.following) {
            return;
        }
        const first = this.done === 0 && !this.begun;
        const gap = from !== 0 && from !== this.done + 1;
        if (first || gap || this.picturing) {
            this.begin(from !== 0 ? from - 1 : this.done);
        }
    }

    /** The picture is taken anew, and the stream goes on behind `done`. */
    private begin(done: number): void {
        this.life++;
        this.pages = [];
        this.events = [];
        this.done = this.seen = done;
        this.begun = true;
        this.picturing = this.options.snapshot !== undefined;
        // Not before a program that has just been linked has had its turn.
        this.clock.soon(() => void this.run());
    }

    /** Events before `next` will not come. True: a picture replaces them. */
    private missed(batch: BatchFields, next: PresenceEventFields | undefined): boolean {
        const picture = this.options.snapshot !== undefined;
        const newest = batch.presence.reduce(
            (seq, event) => Math.max(seq, event.seq),
            batch.presenceLast,
        );
        this.begin(!picture && next && next.seq > 0 ? next.seq - 1 : newest);
        return picture;
    }

    /** Takes events in their order. False: they are left at the node. */
    take(batch: BatchFields): boolean {
        if (!this.following || (!batch.presence.length && !batch.presenceReset)) {
            return true;
        }
        if (!this.ready) {
            return false;
        }
        if (batch.presenceReset && this.missed(batch, batch.presence[0])) {
            return true;
        }
        for (const event of batch.presence) {
            if (event.seq <= this.seen) {
                continue;
            }
            if (event.seq !== this.seen + 1 && this.missed(batch, event)) {
                return true;
            }
            this.seen = event.seq;
            this.events.push(event);
        }
        void this.run();
        return true;
    }

    /** Until all that is to be told has been. Only where a handler takes its time does it wait. */
    private async run(): Promise<void> {
        if (this.running) {
            return;
        }
        this.running = true;
        while (!this.closed) {
            if (this.begun) {
                await this.tellPicture();
            } else if (this.events.length && this.handler) {
                const pause = this.tellEvent(this.events[0]!);
                if (pause) {
                    await pause;
                }
            } else {
                break;
            }
        }
        this.running = false;
        this.ports.moved();
    }

    private tellEvent(event: PresenceEventFields): Promise<unknown> | undefined {
        const told = this.pictured(event)
            ? undefined
            : this.tell(() => this.handler!(eventOf(event)), this.life);
        const processed = () => {
            this.events.shift();
            this.done = event.seq;
            this.ports.moved();
        };
        if (told) {
            return told.then((good) => good && processed());
        }
        processed();
        return undefined;
    }

    /** Whether the picture already contains the event. */
    private pictured({ seq, user }: PresenceEventFields): boolean {
        const last = this.pages[this.pages.length - 1];
        if (!last) {
            return false;
        }
        if (seq > last.stamp) {
            this.pages = []; // nothing newer can be in it
            return false;
        }
        let [low, high] = [0, this.pages.length];
        while (low + 1 < high) {
            const middle = low + Math.floor((high - 1 - low) / 2);
            if (this.pages[middle]!.last < user) {
                low = middle + 1;
            } else {
                high = middle + 1;
            }
        }
        return seq <= this.pages[low]!.stamp;
    }

    /** Tells it until it is taken; false: it is of no use any more. Nothing: it was taken at once. */
    private tell(run: () => unknown, life: number): Promise<boolean> | undefined {
        let atOnce = true;
        let good = false;
        const promise = new Promise<boolean>((resolve) => {
            const again = (failures: number) =>
                attempt(
                    run,
                    () => {
                        good = true;
                        resolve(life === this.life);
                    },
                    (error) => {
                        const text = "presence was not taken; it is told again";
                        this.ports.problem({ text, error });
                        const ms = backOff(this.clock, failures, AGAIN_MS, AGAIN_MS_MAX);
                        this.clock.after(ms, () =>
                            life === this.life && !this.closed
                                ? again(failures + 1)
                                : resolve(false),
                        );
                    },
                );
            again(1);
        });
        const taken = good && atOnce && life === this.life;
        atOnce = false;
        return taken ? undefined : promise;
    }

    private async tellPicture(): Promise<void> {
        const life = this.life;
        const { reset, snapshot, current } = this.options;
        const told = (run: () => unknown) => this.tell(run, life) ?? true;
        this.begun = false;
        if (!(await told(() => reset?.()))) {
            return;
        }
        if (snapshot && !(await this.picture(life, snapshot))) {
            return;
        }
        if (await told(() => current?.({ seq: this.done }))) {
            this.picturing = false;
            this.ports.moved();
        }
    }

    /** Page after page, each told before the next one is asked for. */
    private async picture(life: number, snapshot: (session: Session) => unknown): Promise<boolean> {
        for (let failures = 0; ;) {
            const after = this.pages[this.pages.length - 1]?.last ?? "";
            const list = await this.ports.ask({ snapshot: { after, limit: 0 } }).then(
                (result) => result.sessions,
                () => undefined,
            );
            if (life !== this.life || this.closed) {
                return false;
            }
            if (!list) {
                const ms = backOff(this.clock, ++failures, AGAIN_MS, AGAIN_MS_MAX);
                await new Promise<void>((resolve) => this.clock.after(ms, resolve));
                continue;
            }
            failures = 0;
            const last = list.sessions[list.sessions.length - 1]?.user ?? after;
            if (!this.pages.length) {
                this.done = this.seen = Math.max(this.done, list.presenceSeq);
            }
            this.note(last, list.presenceSeq);
            for (const session of list.sessions) {
                const pause = this.tell(() => snapshot(sessionOf(session)), life);
                if (pause && !(await pause)) {
                    return false;
                }
            }
            // A page that does not get ahead would be asked for without end.
            if (!list.more || last <= after) {
                return true;
            }
        }
    }

    /** Beyond what is kept a page counts to the one before, under its older stamp: then some events are
     * told again, in order, and the end is the same. */
    private note(last: string, stamp: number): void {
        if (this.pages.length < PAGES_MAX) {
            this.pages.push({ last, stamp });
        } else {
            this.pages[this.pages.length - 1]!.last = last;
        }
    }

    /** What is being told is told to its end; nothing else is. */
    close(): void {
        this.closed = true;
    }
}
