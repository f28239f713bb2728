// SPDX-License-Identifier: Apache-2.0
// The loop that asks the node for calls and presence.
//
// A Fetch says which mail has arrived (`mailHave`) and how far everything is done, and waits at the node
// until there is more. While calls are open it waits for a short time only, because it is the next one
// that tells that they are done.
//
// There are things that the node says again at once: events that are being processed, what was left
// there, and to a node of before `mailHave` all mail that is open. Then the next Fetch comes a little
// later, and later, until there is news or the cursor has caught up.
import { encodeBare } from "../../js/src/codec.js";
import { Outcome } from "./channel.js";
import { BatchFields, LINKREQUEST, REFUSALS } from "./fields.js";
import { Mail } from "./mail.js";
import { Presence } from "./presence.js";
import { Core, LinkState, Side } from "./core.js";

/** A Fetch is given its park time and this. */
const SLACK_MS = 3000;
const PAUSE_MS = 1;
const PAUSE_MS_MAX = 32;
/** Between Fetches that only show that we live; the node gives up who is silent for longer. */
const FULL_MS = 100;
const BUSY_MS = 200;
/** How long a Fetch waits at the node while calls are open. */
const OPEN_WAIT_MS = 100;
/** The least that a node takes. */
const BYTES_LEAST = 512;

export class Fetcher {
    private link: LinkState | undefined;
    private sentMail = 0;
    private sentPresence = 0;
    private notBefore = 0;
    private pause = PAUSE_MS;
    private leftMail = false;
    private leftEvents = false;
    /** The node does not know of `mailHave`. */
    private repeats = false;

    constructor(
        private readonly core: Core,
        private readonly side: Side,
        private readonly mail: Mail,
        private readonly presence: Presence,
    ) {}

    /** A Fetch is at the node, and says how far we are. When its connection ends, the node notices at
     * once and still knows. */
    get parked(): boolean {
        return !this.side.channel.idle && this.told(this.core.link);
    }

    private told(link: LinkState | undefined): boolean {
        return this.sentMail === link?.mail.done && this.sentPresence === this.presence.done;
    }

    private begin(link: LinkState): void {
        this.link = link;
        this.notBefore = 0;
        this.repeats = false;
    }

    pump(now: number): void {
        const link = this.core.link;
        if (!link || !this.side.channel.idle) {
            return;
        }
        if (this.link !== link) {
            this.begin(link);
        }
        const open =
            this.presence.busy ||
            this.leftMail ||
            this.leftEvents ||
            (this.repeats && link.mail.open);
        const done = this.mail.open === 0 && !this.presence.running;
        const leaves = this.mail.closing && (done || !this.told(link));
        const wanted =
            (this.leftMail && this.mail.ready) ||
            (this.leftEvents && this.presence.ready) ||
            leaves;
        const at = Math.max(this.side.retryAt, open && !wanted ? this.notBefore : 0);
        if (now < at) {
            this.core.wakeAt(at);
            return;
        }
        this.send(link);
    }

    private send(link: LinkState): void {
        const { closing } = this.mail;
        const few = !this.mail.ready && (!this.presence.following || !this.presence.ready);
        this.sentMail = link.mail.done;
        this.sentPresence = this.presence.done;
        const fetch = {
            link: link.link,
            mailDone: this.sentMail,
            presenceDone: this.sentPresence,
            bytesMax: few && !closing ? BYTES_LEAST : 0,
            waitMs: link.mail.open ? OPEN_WAIT_MS : 0,
            // Who leaves takes nothing any more, and has the last Fetch wait.
            mailHave: closing ? Number.MAX_SAFE_INTEGER : link.mail.seen,
        };
        const bytes = encodeBare(LINKREQUEST, { fetch });
        this.side.channel.start(bytes, link.parkMs + SLACK_MS, (outcome) => {
            if (outcome.failure) {
                this.core.sideFailed(this.side, outcome.failure);
            } else if (link === this.core.link) {
                this.answered(link, outcome);
            }
            this.core.schedule();
        });
    }

    private answered(link: LinkState, { answer }: Outcome): void {
        const refused = answer!.refused;
        const code = refused && REFUSALS[refused.code];
        if (code === "BUSY" || code === "PIPELINED") {
            this.side.retryAt = this.core.now() + BUSY_MS;
        } else if (refused) {
            this.core.unlink(refused.detail || code || "refused");
        } else if (answer!.batch) {
            this.core.heard();
            this.batch(link, answer!.batch);
        } else {
            this.core.confused("a Fetch was answered with something else");
        }
    }

    private batch(link: LinkState, batch: BatchFields): void {
        const [mailBefore, eventsBefore] = [link.mail.seen, this.presence.seen];
        this.repeats ||= batch.mail.some(({ seq }) => seq <= mailBefore);
        const taken = this.mail.take(link, batch.mail);
        if (taken === undefined) {
            this.core.confused("mail is missing");
            return;
        }
        this.leftMail = !taken;
        this.leftEvents = !this.presence.take(batch);
        const fresh = link.mail.seen > mailBefore || this.presence.seen > eventsBefore;
        const idle = !this.mail.ready && !fresh;
        this.pause = fresh ? PAUSE_MS : Math.min(2 * this.pause, PAUSE_MS_MAX);
        this.notBefore = this.core.now() + (idle ? FULL_MS : this.pause);
    }
}
