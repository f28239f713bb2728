// SPDX-License-Identifier: Apache-2.0
// Questions, on a connection of their own, one after the other.
//
// They change nothing at the node, so they need no link and one without an answer is simply asked
// again until its time is over. Pages of a picture of presence are such questions too.
import { encodeBare } from "../../js/src/codec.js";
import { Channel, Outcome } from "./channel.js";
import { UsherError } from "./errors.js";
import { COMMAND, CommandFields, REFUSALS, ResultFields, RESULT_CODES } from "./fields.js";
import { submitBytes } from "./queue.js";
import { Clock } from "./time.js";

const QUERY_MS = 3000;
const AGAIN_MS = 50;
const BUSY_MS = 200;
/** What waits behind each other. */
const QUERIES_MAX = 1024;

interface Query {
    bytes: Uint8Array;
    resolve(result: ResultFields): void;
    reject(error: UsherError): void;
    deadline: number;
}

export class Queries {
    private waiting: Query[] = [];
    private asking = false;
    private ended: UsherError | undefined;

    constructor(
        private readonly channel: Channel,
        private readonly clock: Clock,
        private readonly token: Uint8Array | undefined,
        private readonly urls: number,
    ) {}

    ask(command: Partial<CommandFields>): Promise<ResultFields> {
        return new Promise((resolve, reject) => {
            const encoded = encodeBare(COMMAND, command);
            const bytes = submitBytes(0, 1, [encoded], this.token);
            if (this.ended || this.waiting.length >= QUERIES_MAX) {
                throw this.ended ?? new UsherError("BUSY", "too many questions wait");
            }
            const deadline = this.clock.now() + QUERY_MS;
            this.waiting.push({ bytes, resolve, reject, deadline });
            this.next();
        });
    }

    private next(): void {
        const query = this.waiting[0];
        if (!query || this.asking || this.ended) {
            return;
        }
        // Its time begins when it is asked, or who waits behind slow ones would never be.
        query.deadline = this.clock.now() + QUERY_MS;
        this.asking = true;
        this.send(query, "");
    }

    private send(query: Query, last: string): void {
        const left = query.deadline - this.clock.now();
        if (this.ended) {
            return;
        }
        if (left <= 0) {
            this.end(() => query.reject(new UsherError("NO_ANSWER", last)));
            return;
        }
        const share = Math.min(left, QUERY_MS / this.urls);
        this.channel.start(query.bytes, share, (outcome) => this.answered(query, outcome));
    }

    private end(settle: () => void): void {
        this.waiting.shift();
        this.asking = false;
        settle();
        this.next();
    }

    private answered(query: Query, { answer, failure }: Outcome): void {
        const refused = answer?.refused;
        const code = refused && REFUSALS[refused.code];
        const again = (ms: number, why: string) =>
            void this.clock.after(ms, () => this.send(query, why));
        if (failure) {
            again(AGAIN_MS, `${failure.why} at ${failure.url}`);
        } else if (code === "BUSY" || code === "PIPELINED") {
            again(BUSY_MS, refused!.detail);
        } else if (answer?.results?.results.length !== 1) {
            const why = refused ? `${code}: ${refused.detail}` : "an answer to something else";
            this.end(() => query.reject(new UsherError("MALFORMED", why)));
        } else {
            const result = answer.results.results[0]!;
            this.end(() =>
                result.code === 0
                    ? query.resolve(result)
                    : query.reject(
                          new UsherError((RESULT_CODES[result.code] ?? "UNKNOWN") as "UNKNOWN", ""),
                      ),
            );
        }
    }

    close(error: UsherError): void {
        this.ended = error;
        this.channel.close();
        this.waiting.splice(0).forEach((query) => query.reject(error));
    }
}
