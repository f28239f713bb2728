// SPDX-License-Identifier: Apache-2.0
// Every public name of usher-client in a program that tsc --strict takes. It is compiled and not run; as
// CommonJS it is the same text.
import {
    CallOptions,
    Client,
    Closed,
    CloseReason,
    connect,
    Done,
    EndCode,
    ErrorCode,
    Events,
    LocalCode,
    Message,
    Options,
    Payload,
    SendOptions,
    State,
    StatusError,
    Token,
    UsherError,
    Welcome,
    WelcomeReplay,
} from "usher-client";
import { connect as connectNode, NodeOptions } from "usher-client/node";
import {
    connect as connectSocial,
    Friend,
    Friends,
    JoinOptions,
    Room,
    RoomChange,
    RoomEvents,
    RoomMembers,
    RoomMessage,
    RoomReplay,
    RoomStanding,
    RoomState,
    SocialClient,
    SocialEvents,
    StatusOptions,
} from "usher-client/social";

const token: Token = "text";
const limits = {
    connectTimeoutMs: 1,
    requestTimeoutMs: 2,
    requestsMax: 3,
    queueBytesMax: 4,
    unreadMax: 5,
    unreadBytesMax: undefined,
};
const options: Options = {
    url: "wss://localhost/usher",
    user: "alice",
    token: async () => token,
    acks: true,
    manualAcks: true,
    client: "tag/1.2",
    storage: sessionStorage,
    midStorage: localStorage,
    lastMid: 0,
    webSocket: WebSocket,
    ...limits,
};
const client: Client = connect(options);
const nodeOptions: NodeOptions = { url: "tls://localhost", user: "bob", tls: { ca: "" } };
connectNode(nodeOptions).close();

const numbersOf = (welcome: Welcome): number[] => [
    welcome.epoch,
    welcome.nextSeq,
    welcome.heartbeatMs,
    welcome.resumeMs,
    welcome.frameBytesMax,
    welcome.tokenMs,
    welcome.timeMs,
    welcome.storedMessages,
];
const replayOf = (welcome: Welcome): WelcomeReplay => welcome.replay;
const isFresh = (welcome: Welcome): boolean =>
    welcome.stored === welcome.replay && welcome.node !== "";
const state: State = client.state;
const wantedState: "connecting" | "online" | "waiting" | "ended" = state;

function show(message: Message): string {
    const { seq, epoch, from, service, payload, text, timeMs, redelivered, missed, mid } = message;
    const sum: number = seq + epoch + timeMs + missed + mid + payload.length;
    return redelivered ? from + service : text + sum;
}

function why(closed: Closed): string {
    const reason: EndCode = closed.reason;
    const known: CloseReason | ErrorCode | "LOST" | "CLOSED" = reason;
    return closed.final ? closed.detail : `${known} ${closed.retryAfterMs}`;
}

function judge(error: unknown): Done | number {
    if (error instanceof StatusError) {
        const { status, payload }: { status: number; payload: Uint8Array } = error;
        return status + payload.length;
    }
    if (error instanceof UsherError) {
        const code: LocalCode | EndCode = error.code;
        return code === "NOT_SENT" || error.retryAfterMs > 0 ? error.done : 0;
    }
    throw error;
}

async function main(): Promise<void> {
    const welcome: Welcome = await client.ready;
    void [numbersOf(welcome), replayOf(welcome), isFresh(welcome), wantedState, client.user];
    const how: SendOptions = { delivered: true, transient: false, timeoutMs: 5, traceparent: "" };
    const stored: SendOptions = { keepS: 3600, tag: 1 };
    const bytes: Payload = new Uint8Array(1);
    const epoch: number = await client.send("bob", bytes, how);
    const patience: CallOptions = { timeoutMs: 2000 };
    const reply: Uint8Array = await client.call("shop", "buy", "sword", patience);
    const posted: boolean = client.post("bob", reply) && client.postCall("shop", "look");
    const names: (keyof Events)[] = [
        "state",
        "welcome",
        "partial",
        "closed",
        "rtt",
        "dropped",
        "message",
    ];
    const off: () => void = client.on("closed", why);
    client.on("state", (now: State) => now === state);
    client.on("rtt", (ms: number) => ms + epoch);
    client.on("dropped", (error: UsherError) => judge(error));
    client.on("message", async (message: Message) => show(message));
    off();
    try {
        for await (const message of client.messages()) {
            client.ack(message);
        }
        await client.logout();
    } catch (error) {
        judge(error);
    }
    const ended: Closed | undefined = client.ended;
    const lastMid: number = client.lastMid;
    void [posted, names, ended, stored, lastMid];
}
void main;

function showRoom(room: Room): string {
    const { name, state, offset, count, roster, tickMs } = room;
    const standing: RoomStanding = state;
    const away: boolean | undefined = roster.get("bob");
    return standing === "AWAY" || away ? name : name + (offset + count + tickMs);
}

function heard({ offset, from, service, payload, text, timeMs }: RoomMessage): string {
    return from + service + text + (offset + payload.length + timeMs);
}

function stands({ state, replay, offset, detail }: RoomState): string {
    const known: RoomReplay = replay;
    return known === "PARTIAL" && state === "JOINED" ? "fetch anew" : detail + offset;
}

function changed({ count, changes }: RoomMembers): number {
    const gone: RoomChange[] = changes.filter(({ user, kind }) => user && kind === "LEFT");
    return count - gone.length;
}

function seen({ snapshot, friends }: Friends): string {
    const first: Friend | undefined = friends[0];
    const { user, state, sinceMs, status, text } = first!;
    return snapshot && state === "ONLINE" ? user : text + (sinceMs + status.length);
}

async function together(social: SocialClient): Promise<void> {
    const how: JoinOptions = { recover: true };
    const room: Room = await social.join("match:7", how);
    const events: (keyof RoomEvents)[] = ["message", "state", "members"];
    const more: (keyof SocialEvents)[] = ["room", "friends", "message"];
    const off: () => void = room.on("message", heard);
    room.on("state", stands);
    room.on("members", changed);
    social.on("room", (other: Room) => showRoom(other));
    social.on("friends", seen);
    social.on("message", (message: Message) => show(message));
    const offset: number = await room.publish("move");
    const there: number = await social.publishTo("news", new Uint8Array(1));
    await social.watch(["bob"]);
    await social.unwatch(["bob"]);
    const hidden: StatusOptions = { invisible: true };
    await social.setStatus("in match 7", hidden);
    const mine: ReadonlyMap<string, Room> = social.rooms;
    await room.leave();
    off();
    void [events, more, offset + there, mine.size];
}
void together(connectSocial(options));
void together(connectNode(nodeOptions));

// @ts-expect-error without rooms there are none
void client.join("match:7");
// @ts-expect-error a room has no such event
connectSocial(options).on("room", (room) => room.on("mesage", () => {}));

// @ts-expect-error there is no such event
client.on("clsoed", () => {});
// @ts-expect-error a name is a text
void client.send(7, "hi");
// @ts-expect-error nor is a number bytes
client.post("bob", 7);
// @ts-expect-error somebody has to log in
connect({ url: "wss://localhost/usher" });
// @ts-expect-error what has ended is told, not set
client.ended = undefined;
