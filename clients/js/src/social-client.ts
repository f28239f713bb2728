// SPDX-License-Identifier: Apache-2.0
// A client with rooms and friends. It changes nothing of what a client is: it looks at frames before
// the session does, and has its say when a connection begins and ends.
//
// A resumed session is still in its rooms: Resume names where we are in each, and the broker says of each
// how it stands. A new session is in none (but for those that a service put this user into), so each is
// joined again by name, from where we are; watches and status are asked for again as well. Until it has
// been answered a room is AWAY, and nothing that comes under a number of before is believed.
import { Payload } from "./api.js";
import { Fields } from "./codec.js";
import { UsherError } from "./errors.js";
import { BrokerFrameFields, FriendStatesFields, RoomStateFields, WelcomeFields } from "./fields.js";
import { OwnRoom } from "./room.js";
import { bytesOf, MAY_PASS, UsherClient } from "./session.js";
import {
    Friend,
    JoinOptions,
    Room,
    SocialClient,
    SocialEvents,
    StatusOptions,
} from "./social-api.js";
import { extendTables, FRIEND_STATES } from "./social-fields.js";
import { textOf } from "./utf8.js";

const enum Fixed {
    /** Before a Join that was refused for the moment is said again, at least. */
    AGAIN_MS = 1000,
    /** Who watches somebody is told of him after each resume; a broker that has been restarted knows of
     * no watches any more, and says nothing. */
    SILENCE_MS = 5000,
}

extendTables();

export class Social extends UsherClient implements SocialClient {
    rooms = new Map<string, OwnRoom>();
    _joins = new Map<string, Promise<Room>>();
    _watched = new Set<string>();
    _status: Fields;
    /** On this connection. */
    _pictured = false;

    declare on: <Name extends keyof SocialEvents>(
        name: Name,
        listener: (event: SocialEvents[Name]) => unknown,
    ) => () => void;

    // --- what the program asks for ---------------------------------------------------------------

    async join(name: string, { recover }: JoinOptions = {}): Promise<Room> {
        const room = this.rooms.get(name);
        if (room?.state === "AWAY") {
            room._leaving = false;
        }
        if (room && !room._leaving) {
            return room;
        }
        let join = this._joins.get(name);
        if (!join) {
            join = this._ask({ join: { room: name, recover } }) as Promise<Room>;
            const over = () => this._joins.delete(name);
            this._joins.set(name, join);
            join.then(over, over);
        }
        return join;
    }

    async publishTo(name: string, payload: Payload): Promise<number> {
        return this._ask({ publish: { name, payload: bytesOf(payload) } });
    }

    async watch(users: readonly string[]): Promise<void> {
        users.forEach((user) => this._watched.add(user));
        await this._ask({ watch: { add: users } }).catch((error) => {
            users.forEach((user) => this._watched.delete(user));
            throw error;
        });
    }

    async unwatch(users: readonly string[]): Promise<void> {
        users.forEach((user) => this._watched.delete(user));
        await this._ask({ watch: { remove: users } });
    }

    async setStatus(status: Payload, options: StatusOptions = {}): Promise<void> {
        this._status = { status: bytesOf(status), invisible: options.invisible };
        await this._ask({ setStatus: this._status });
    }

    /** Under a number: by the time that it could go out later, that may be another room. */
    async _publish(room: OwnRoom, payload: Payload): Promise<number> {
        const bytes = bytesOf(payload);
        if (room.state !== "JOINED") {
            throw new UsherError("NOT_SENT", room.state, "no");
        }
        return this._ask({ publish: { room: room._number, payload: bytes } });
    }

    async _leave(room: OwnRoom): Promise<void> {
        room._leaving = true;
        if (room.state === "JOINED") {
            await this._ask({ leave: { room: room._number } });
        }
    }

    override _fault(body: Fields): UsherError | undefined {
        const { join, publish, watch, leave, setStatus } = body;
        const names: string[] = watch
            ? (watch.add ?? watch.remove)
            : [join?.room ?? publish?.name ?? "-"];
        if (!(join || publish || watch || leave || setStatus)) {
            return super._fault(body);
        }
        // The same rules as for a call.
        return names
            .map((service) => super._fault({ call: { service, method: "" } }))
            .find((fault) => fault);
    }

    // --- connections -----------------------------------------------------------------------------

    override _greet(token: Uint8Array | undefined): void {
        if (this._session) {
            const known = [...this.rooms.values()].filter((room) => room._number);
            (this._session as Fields).rooms = known.map((room) => ({
                room: room._number,
                incarnation: room._incarnation,
                offset: room.offset,
            }));
        }
        super._greet(token);
    }

    override _welcomed(welcome: WelcomeFields): void {
        const resumed = this._session?.epoch === welcome.epoch;
        super._welcomed(welcome);
        this.rooms.forEach((room) => {
            room._number = resumed ? room._number : 0;
            this._again(room);
        });
        this._pictured = false;
        if (!resumed) {
            this._remind();
        } else if (this._watched.size) {
            const link = this._link;
            setTimeout(
                () => link === this._link && !this._pictured && this._remind(),
                Fixed.SILENCE_MS,
            );
        }
    }

    _remind(): void {
        const { _watched, _status } = this;
        this._repeat(_watched.size && { watch: { add: [..._watched] } });
        this._repeat(_status && { setStatus: _status });
    }

    _repeat(body: Fields): void {
        if (body) {
            this._ask(body).catch((error) => this._tell("dropped", error));
        }
    }

    /** Joins a room of which a new session knows nothing. */
    _again(room: OwnRoom): void {
        if (room._number || room.state !== "AWAY" || this.state !== "online") {
            return;
        }
        if (room._leaving) {
            this._over(room, 1, "");
            return;
        }
        const { name, _incarnation: incarnation, offset } = room;
        const join = { room: name, recover: true, incarnation, offset };
        this._ask({ join }).catch(({ code, message, retryAfterMs }: UsherError) => {
            if (MAY_PASS.test(code)) {
                setTimeout(() => this._again(room), Math.max(retryAfterMs, Fixed.AGAIN_MS));
            } else if (room.state === "AWAY" && this.state === "online") {
                this._over(room, 3, message);
            }
        });
    }

    override _hangUp(unsentToo: boolean, detail: string): void {
        super._hangUp(unsentToo, detail);
        this.rooms.forEach((room) => {
            if (unsentToo) {
                this._over(room, 1, detail);
            } else if (room.state === "JOINED") {
                room._become("AWAY");
            }
        });
    }

    // --- what comes ------------------------------------------------------------------------------

    override _receive(frame: BrokerFrameFields): void {
        const { id, done, roomState, roomMessages, roomEvent, friends } = frame;
        const about = roomMessages ?? roomEvent;
        if (done?.offset) {
            done.epoch = done.offset; // of a Publish, which is what it gives
        }
        if (this.state !== "online") {
            super._receive(frame);
        } else if (roomState) {
            const room = this._stands(roomState, id);
            super._receive({
                id,
                done: room && { epoch: room as never, dropped: false, offset: 0, mid: 0 },
            });
        } else if (about) {
            const room = this._numbered(about.room);
            if (room && roomEvent) {
                room._event(roomEvent);
            } else if (room && !room._take(roomMessages!)) {
                this._lose("PROTOCOL_ERROR", "a gap in " + room.name);
            }
        } else if (friends) {
            this._befriended(friends);
        } else {
            super._receive(frame);
        }
    }

    /** Numbers of before are nobody's: who is in a room has heard its number on this connection. */
    _numbered(number: number): OwnRoom | undefined {
        for (const room of this.rooms.values()) {
            if (room._number === number && room.state === "JOINED") {
                return room;
            }
        }
        return undefined;
    }

    /** Gives the room of which a RoomState speaks, if it is one of ours from here on. */
    _stands(state: RoomStateFields, id: number): OwnRoom | undefined {
        const { name, room: number, incarnation, detail } = state;
        if (state.state) {
            this.rooms.forEach((room) => {
                if (room._number === number && room._incarnation === incarnation) {
                    this._over(room, state.state, detail);
                }
            });
            return undefined;
        }
        let room = this.rooms.get(name);
        const isNew = !room;
        const wasAway = room?.state === "AWAY";
        if (room && !room._number && !id) {
            return undefined; // our own Join is under way, and its answer says what is missing
        }
        if (!room) {
            room = new OwnRoom(name, this);
            this.rooms.set(name, room);
        }
        if (id && this._joins.has(name)) {
            room._incarnation = 0; // a Join that names no position: what is whole is so from the oldest on
        }
        room._joined(state);
        if (isNew) {
            this._tell("room" as never, room as never);
        } else if (wasAway && room._leaving) {
            room.leave().catch(() => {});
        }
        return room;
    }

    _over(room: OwnRoom, state: number, detail: string): void {
        this.rooms.delete(room.name);
        room._ended(state, detail);
    }

    _befriended({ snapshot, friends }: FriendStatesFields): void {
        this._pictured ||= snapshot;
        const all = friends.map(({ state, ...rest }): Friend => ({
            ...rest,
            state: FRIEND_STATES[state] as Friend["state"],
            get text() {
                return textOf(rest.status);
            },
        }));
        this._tell("friends" as never, { snapshot, friends: all } as never);
    }
}
