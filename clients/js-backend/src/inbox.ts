// SPDX-License-Identifier: Apache-2.0
// What is stored for users: asked page by page, and dropped.
import { InboxPage } from "./api.js";
import { CommandFields, ResultFields } from "./fields.js";
import { quiet, refusal, textIn } from "./values.js";

export interface InboxPorts {
    /** Queues it. */
    command(fields: Partial<CommandFields>): Promise<ResultFields>;
    /** A question that needs no link. */
    ask(fields: Partial<CommandFields>): Promise<ResultFields>;
}

export async function* inboxPages(
    ports: InboxPorts,
    user: string,
    afterMid: number,
    limit: number,
): AsyncIterableIterator<InboxPage> {
    for (;;) {
        const inbox = { user: textIn(user), afterMid, limit };
        const { stored } = await ports.ask({ inbox });
        const { messages = [], count = 0, bytes = 0, more = false } = stored ?? {};
        yield { messages, count, bytes };
        const last = messages[messages.length - 1]?.mid ?? 0;
        if (!more || last <= afterMid) {
            return;
        }
        afterMid = last;
    }
}

export function inboxDrop(ports: InboxPorts, user: string, upToMid: number): Promise<number> {
    const run = async () => {
        const result = await ports.command({ inboxDrop: { user: textIn(user), upToMid } });
        if (result.code !== 0) {
            throw refusal(result);
        }
        return result.stored?.count ?? 0;
    };
    return quiet(run());
}
