// SPDX-License-Identifier: Apache-2.0
// One room, seen from a member: where he is in its order, and who else is there.
//
// Invariant: what was told is everything up to `offset`, or PARTIAL was said. After NONE and COMPLETE the
// next message is `offset` + 1, after PARTIAL any behind it; each other one is a fault of the broker, and
// the connection is given up: the Resume names `offset`, and with that everything is well again.
//
// Offsets of another incarnation say nothing: a life of the room of which nothing was told yet begins
// wherever its history does.
//
// While a connection is lost the room is AWAY, until a RoomState says how things stand. Its number is
// what the broker calls it; 0: a Join under its name is to ask for a new one, after a new login.
import { Payload } from "./api.js";
import { Emitter } from "./emitter.js";
import { RoomEventFields, RoomMessagesFields, RoomStateFields } from "./fields.js";
import { Room, RoomEvents, RoomStanding } from "./social-api.js";
import { CHANGES, ROOM_REPLAYS, ROOM_STATES, RoomChangeKind } from "./social-fields.js";
import { textOf } from "./utf8.js";

/** What a room asks of the client that holds it. */
export interface Host {
    _publish(room: OwnRoom, payload: Payload): Promise<number>;
    _leave(room: OwnRoom): Promise<void>;
}

export class OwnRoom implements Room {
    state: RoomStanding = "AWAY";
    offset = 0;
    count = 0;
    roster = new Map<string, boolean>();
    tickMs = 0;

    _number = 0;
    _incarnation = 0;
    /** The next message may have any greater offset. */
    _loose = false;
    _leaving = false;
    _events = new Emitter();
    /** What is not told yet: who waits for `join` has had no time to listen. */
    _untold: [name: string, event: unknown][] | undefined = [];

    constructor(
        readonly name: string,
        readonly _host: Host,
    ) {
        setTimeout(() => {
            const untold = this._untold!;
            this._untold = undefined;
            untold.forEach(([event, value]) => this._tell(event as never, value as never));
        });
    }

    publish(payload: Payload): Promise<number> {
        return this._host._publish(this, payload);
    }

    leave(): Promise<void> {
        return this._host._leave(this);
    }

    on<Name extends keyof RoomEvents>(
        name: Name,
        listener: (event: RoomEvents[Name]) => unknown,
    ): () => void {
        return this._events._on(name, listener as never);
    }

    _tell<Name extends keyof RoomEvents>(name: Name, event: RoomEvents[Name]): void {
        if (this._untold) {
            this._untold.push([name, event]);
        } else {
            void this._events._emit(name as never, event as never);
        }
    }

    _become(state: RoomStanding, replay = 0, offset = 0, detail = ""): void {
        this.state = state;
        const word = ROOM_REPLAYS[replay] as "NONE";
        this._tell("state", { state, replay: word, offset, detail });
    }

    /** A RoomState that says JOINED. */
    _joined({ room, incarnation, offset, replay, members, tickMs, roster }: RoomStateFields): void {
        const anew = incarnation !== this._incarnation;
        this._loose = replay > 1 || (anew && replay > 0);
        if (anew || !replay) {
            this.offset = replay ? 0 : offset;
        }
        this._number = room;
        this._incarnation = incarnation;
        this.tickMs = tickMs;
        this.roster.clear();
        roster.forEach(({ user, away }) => this.roster.set(user, away));
        this._become("JOINED", replay, offset);
        this._changed(members, []);
    }

    /** One that says something else. */
    _ended(state: number, detail: string): void {
        this._become((ROOM_STATES[state] || "CLOSED") as RoomStanding, 0, 0, detail);
    }

    _changed(count: number, changes: { user: string; kind: RoomChangeKind }[]): void {
        this.count = count;
        this._tell("members", { count, changes });
    }

    _event({ members, changes }: RoomEventFields): void {
        const all = changes.map(({ user, kind }) => {
            const word = CHANGES[kind] as RoomChangeKind;
            if (word === "LEFT") {
                this.roster.delete(user);
            } else {
                this.roster.set(user, word === "AWAY");
            }
            return { user, kind: word };
        });
        this._changed(members, all);
    }

    /** False: it cannot be what comes next. */
    _take({ offset, messages }: RoomMessagesFields): boolean {
        if (this._loose ? offset <= this.offset : offset !== this.offset + 1) {
            return false;
        }
        for (const message of messages) {
            if (this.state !== "JOINED") {
                break; // a listener has ended the client
            }
            const { payload } = message;
            this._loose = false;
            this.offset = offset++;
            this._tell("message", {
                ...message,
                offset: this.offset,
                get text() {
                    return textOf(payload);
                },
            });
        }
        return true;
    }
}
