// SPDX-License-Identifier: Apache-2.0
// What a program sees of rooms and friends.
import { Client, Events, Payload } from "./api.js";
import { FriendStateState, RoomChangeKind, RoomStateReplay } from "./social-fields.js";

/** NONE: the next message is behind `offset`. COMPLETE: nothing is missing. PARTIAL: messages are missing,
 * fetch anew what they would have told. */
export type RoomReplay = RoomStateReplay;

/** JOINED: in it. AWAY: the connection is lost, or the broker has not said yet how things stand. The others
 * are the end of it: LEFT by oneself, REMOVED by a service, CLOSED for everybody. */
export type RoomStanding = "JOINED" | "AWAY" | "LEFT" | "REMOVED" | "CLOSED";

/** What was published in a room. */
export interface RoomMessage {
    /** From 1 in each life of the room; the same for all its members. */
    offset: number;
    /** The user who published it, or empty. */
    from: string;
    /** The service that did, or empty. */
    service: string;
    /** Its bytes. */
    payload: Uint8Array;
    /** The payload as UTF-8. */
    readonly text: string;
    /** Unix time of the broker when it took it, for people. */
    timeMs: number;
}

/** How this user stands to a room from here on. */
export interface RoomState {
    /** As `room.state`. */
    state: RoomStanding;
    /** With JOINED: whether the messages from here on are whole. */
    replay: RoomReplay;
    /** With JOINED: of the newest message. */
    offset: number;
    /** At the end: why, if somebody said so. */
    detail: string;
}

/** Who came, went, is away or back. */
export interface RoomChange {
    /** Whose name it is. */
    user: string;
    /** What became of him. */
    kind: RoomChangeKind;
}

/** What has changed among the members of a room. */
export interface RoomMembers {
    /** How many there are, if the room says so. */
    count: number;
    /** Those who changed, as far as the room shows who they are; none: `roster` begins anew. */
    changes: RoomChange[];
}

/** What `on` of a room can listen to. */
export interface RoomEvents {
    /** Each once, in the order of their offsets. */
    message: RoomMessage;
    /** It changed. */
    state: RoomState;
    /** `count` and `roster` changed. */
    members: RoomMembers;
}

/** A room that this user is in. */
export interface Room {
    /** As it was given to `join`, or as a service has it. */
    readonly name: string;
    /** How this user stands to it now. */
    readonly state: RoomStanding;
    /** Of the last message that was told. */
    readonly offset: number;
    /** How many members there are; 0: the room does not say. */
    readonly count: number;
    /** Its members, and whether they are away, if the room shows them. */
    readonly roster: ReadonlyMap<string, boolean>;
    /** So often messages leave together; 0: each at once. */
    readonly tickMs: number;

    /** To all members, this one too. Gives its offset. Not later: rejected with NOT_SENT while away. */
    publish(payload: Payload): Promise<number>;
    /** Resolved when the broker has done it. While away it is remembered and done afterwards. */
    leave(): Promise<void>;
    /** Gives what takes the listener off again. */
    on<Name extends keyof RoomEvents>(
        name: Name,
        listener: (event: RoomEvents[Name]) => unknown,
    ): () => void;
}

/** What is known of another user. */
export interface Friend {
    /** His name. */
    user: string;
    /** AWAY: without a connection and expected back, where the broker shows that. */
    state: FriendStateState;
    /** Unix time; 0: not known. */
    sinceMs: number;
    /** What he says of himself. */
    status: Uint8Array;
    /** The same as UTF-8. */
    readonly text: string;
}

/** What has changed among those who are watched. */
export interface Friends {
    /** The first of what a login, a resume or a `watch` brings: of each how it is now. */
    snapshot: boolean;
    /** Each as it is now. */
    friends: Friend[];
}

/** What `on` of such a client can listen to besides. */
export interface SocialEvents extends Events {
    /** There is a new room: `join` was answered, or a service has put this user into it. */
    room: Room;
    /** Friends have come, gone, or say something else of themselves. */
    friends: Friends;
}

/** How to join. */
export interface JoinOptions {
    /** First what the room still has of its messages. */
    recover?: boolean;
}

/** How to be seen. */
export interface StatusOptions {
    /** Those who watch are told OFFLINE. */
    invisible?: boolean;
}

/** One user's session, with rooms and friends. */
export interface SocialClient extends Client {
    /** Those that this user is in, by name. */
    readonly rooms: ReadonlyMap<string, Room>;

    /** Asks to be in a room. Gives the one that is there, where he is in it. */
    join(room: string, options?: JoinOptions): Promise<Room>;
    /** To a room that takes messages of everybody, without being in it. Gives the offset. */
    publishTo(room: string, payload: Payload): Promise<number>;
    /** From now on `friends` tells of these, too; also after a new login of this client. */
    watch(users: readonly string[]): Promise<void>;
    /** And of these no more. */
    unwatch(users: readonly string[]): Promise<void>;
    /** What those see who watch this user, until he sets something else or `logout`. */
    setStatus(status: Payload, options?: StatusOptions): Promise<void>;
    /** Gives what takes the listener off again. */
    on<Name extends keyof SocialEvents>(
        name: Name,
        listener: (event: SocialEvents[Name]) => unknown,
    ): () => void;
}
