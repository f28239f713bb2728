// SPDX-License-Identifier: Apache-2.0
// Rooms and watch lists, as a service commands them.
//
// What changes something is a command like any other: in the order in which it was made, once. Pages of
// members are asked on the link as well, since the node shows them to nobody else.
import {
    Payload,
    PushReport,
    RoomAddOptions,
    RoomInfo,
    RoomMembersPage,
    RoomOpenOptions,
    WatchListOptions,
} from "./api.js";
import { UsherError } from "./errors.js";
import { CommandFields, ResultFields, WATCH_MODES } from "./fields.js";
import { bytesOf, inParts, inSum, quiet, refusal, reportOf, textIn, wordOf } from "./values.js";

/** Of a number, as it is packed. */
const EPOCH_BYTES = 8;

export interface RoomPorts {
    /** Queues it. */
    command(fields: Partial<CommandFields>): Promise<ResultFields>;
    /** A question that needs no link. */
    ask(fields: Partial<CommandFields>): Promise<ResultFields>;
    frameBytesMax(): number;
}

function good(result: ResultFields): ResultFields {
    if (result.code !== 0) {
        throw refusal(result);
    }
    return result;
}

function infoOf(result: ResultFields): RoomInfo {
    const [info] = good(result).rooms?.rooms ?? [];
    if (!info) {
        throw new UsherError("UNKNOWN", "the node says nothing of the room");
    }
    return info;
}

/** Runs it at once, so that commands keep their order; whatever it throws is in the promise. */
function run<T>(work: () => Promise<T>): Promise<T> {
    return quiet(work());
}

export class Rooms {
    constructor(private readonly ports: RoomPorts) {}

    open(room: string, options: RoomOpenOptions): Promise<RoomInfo> {
        return run(async () => {
            const { class: pattern = "", membersMax = 0 } = options;
            const roomOpen = { room: textIn(room), class: textIn(pattern), membersMax };
            return infoOf(await this.ports.command({ roomOpen }));
        });
    }

    close(room: string, detail: string): Promise<boolean> {
        return run(async () => {
            const roomClose = { room: textIn(room), detail: textIn(detail) };
            const result = await this.ports.command({ roomClose });
            return wordOf(result.code) !== "NO_ROOM" && good(result).code === 0;
        });
    }

    add(
        room: string,
        users: readonly string[],
        { epochs = [], carry = false }: RoomAddOptions,
    ): Promise<PushReport> {
        return run(async () => {
            if (epochs.length && epochs.length !== users.length) {
                throw new RangeError("as many epochs as users, or none");
            }
            const name = textIn(room);
            let at = 0;
            const parts = inParts(users, name.length, this.ports.frameBytesMax(), 2 + EPOCH_BYTES);
            return inSum(
                parts.map((part) => {
                    const its = epochs.slice(at, (at += part.length));
                    return this.report(part, {
                        roomAdd: { room: name, users: part, epochs: its, carry },
                    });
                }),
            );
        });
    }

    remove(room: string, users: readonly string[], detail: string): Promise<PushReport> {
        return run(async () => {
            const [name, words] = [textIn(room), textIn(detail)];
            const otherBytes = bytesOf(name + words).length;
            const parts = inParts(users, otherBytes, this.ports.frameBytesMax());
            return inSum(
                parts.map((part) =>
                    this.report(part, { roomRemove: { room: name, users: part, detail: words } }),
                ),
            );
        });
    }

    private async report(
        users: readonly string[],
        fields: Partial<CommandFields>,
    ): Promise<PushReport> {
        return reportOf(users, await this.ports.command(fields));
    }

    publish(room: string, payload: Payload): Promise<number> {
        return run(async () => {
            const roomPublish = { room: textIn(room), payload: bytesOf(payload) };
            return infoOf(await this.ports.command({ roomPublish })).offset;
        });
    }

    async *members(room: string, limit: number): AsyncIterableIterator<RoomMembersPage> {
        for (let after = ""; ;) {
            const roomMembers = { room: textIn(room), after, limit };
            const page = good(await this.ports.command({ roomMembers })).members;
            const { members = [], newsSeq = 0, incarnation = 0, offset = 0 } = page ?? {};
            yield { members, newsSeq, incarnation, offset };
            if (!page?.next || page.next === after) {
                return;
            }
            after = page.next;
        }
    }

    async *all(prefix: string): AsyncIterableIterator<RoomInfo> {
        for (let after = ""; ;) {
            const rooms = { prefix: textIn(prefix), after, limit: 0 };
            const page = (await this.ports.ask({ rooms })).rooms;
            yield* page?.rooms ?? [];
            const last = page?.rooms[page.rooms.length - 1]?.name;
            if (!page?.more || last === undefined || last <= after) {
                return;
            }
            after = last;
        }
    }

    /** In one command: SET of a part of the list would take the others away. */
    watchList(
        user: string,
        targets: readonly string[],
        { epoch = 0, mode = "SET" }: WatchListOptions,
    ): Promise<PushReport> {
        return run(async () => {
            const number = WATCH_MODES.indexOf(mode);
            if (number < 0) {
                throw new RangeError(`mode is SET, ADD or REMOVE, not ${String(mode)}`);
            }
            const watchList = {
                user: textIn(user),
                epoch,
                mode: number,
                targets: targets.map(textIn),
            };
            const result = await this.ports.command({ watchList });
            // The code is the watcher's, and not that of a target.
            return reportOf([], result.push ? result : good(result));
        });
    }
}
