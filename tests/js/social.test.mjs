// SPDX-License-Identifier: Apache-2.0
// Rooms and friends of usher-client/social, against a broker that does what a test says: each way into a
// room and out of it, what is told after a loss, and what must never be believed.
import assert from "node:assert/strict";
import { closed, codeOf, fakeStorage, socialScene, watch } from "./support/scene.mjs";
import { CLOSE, ERROR } from "./support/scripted.mjs";

const REPLAY = { NONE: 0, COMPLETE: 1, PARTIAL: 2 };
const STATE = { JOINED: 0, LEFT: 1, REMOVED: 2, CLOSED: 3 };
const KIND = { JOINED: 0, AWAY: 1, BACK: 2, LEFT: 3 };
const bytes = (text) => new TextEncoder().encode(text);
const state = (fields) => ({ name: "r", room: 7, incarnation: 50, offset: 0, ...fields });
const said = (offset, ...texts) => ({
    roomMessages: {
        room: 7,
        offset,
        messages: texts.map((text) => ({ from: "bob", payload: bytes(text), timeMs: 5 })),
    },
});

/** What a room tells, as short lines. */
function listen(room) {
    const told = [];
    room.on("message", ({ offset, text }) => told.push(`${offset} ${text}`));
    room.on("state", ({ state, replay, offset, detail }) =>
        told.push([state, replay, offset, detail].filter((word) => word !== "").join(" ")),
    );
    room.on("members", ({ count, changes }) =>
        told.push([count, ...changes.map(({ user, kind }) => `${user} ${kind}`)].join(", ")),
    );
    return told;
}

/** A client in the room "r", with what it has been told since. */
async function inside(s, fields = {}, options = {}, join = {}) {
    const client = await s.login({ acks: true, ...options });
    client.dropped = [];
    client.on("dropped", ({ code }) => client.dropped.push(code));
    const joining = client.join("r", join);
    const [asked] = s.broker.take();
    s.broker.say({ id: asked.id, roomState: state(fields) });
    const room = await joining;
    const told = listen(room);
    await s.clock.advance(0);
    return { client, room, told, asked };
}

/** Loses the connection and comes back; gives the hello. */
async function back(s, client, welcome) {
    s.broker.cut();
    await s.clock.settle();
    await s.clock.advance(closed(client).at(-1).retryAfterMs);
    return s.broker.welcome(welcome);
}

/** The session is gone: a login begins another one. */
async function anew(s, client, fields = {}) {
    s.broker.cut();
    await s.clock.settle();
    await s.clock.advance(closed(client).at(-1).retryAfterMs);
    s.broker.open();
    const [resume] = s.broker.take();
    s.broker.say({ id: resume.id, error: { code: ERROR.RESUME_REJECTED } });
    await s.clock.settle();
    const [login] = s.broker.take();
    s.broker.greet(login, fields);
    await s.clock.settle();
    return { resume, asked: s.broker.take() };
}

// --- being in it ---------------------------------------------------------------------------------

/** A page that was loaded again asks for the whole history of a room that its session is still in: the
 * broker has spoken of the room meanwhile, and then of everything from the oldest on. */
socialScene("a Join crosses what a resumed session is told", async (s) => {
    const client = await s.login({ acks: true });
    const joining = client.join("r", { recover: true });
    const [asked] = s.broker.take();
    s.broker.say({ roomState: state({ offset: 2 }) });
    s.broker.say({ id: asked.id, roomState: state({ offset: 2, replay: REPLAY.COMPLETE }) });
    const room = await joining;
    const told = listen(room);
    s.broker.say(said(1, "a", "b"));
    await s.clock.advance(0);
    assert.deepEqual(
        told.filter((line) => /^\d [ab]$/.test(line)),
        ["1 a", "2 b"],
    );
    assert.equal(closed(client).length, 0);
});

socialScene("join, messages in order, publish, leave", async (s) => {
    const { client, room, told, asked } = await inside(s, { offset: 4, members: 2, tickMs: 50 });
    assert.deepEqual(asked.join, { room: "r", recover: false, incarnation: 0, offset: 0 });
    assert.deepEqual(told, ["JOINED NONE 4", "2"]);
    assert.deepEqual([room.name, room.state, room.offset, room.count], ["r", "JOINED", 4, 2]);
    assert.equal(room.tickMs, 50);
    assert.equal(client.rooms.get("r"), room);

    s.broker.say(said(5, "a", "b"), said(7, "c"));
    assert.deepEqual(told.splice(0).slice(2), ["5 a", "6 b", "7 c"]);
    assert.equal(room.offset, 7);

    const published = watch(room.publish("mine"));
    await s.clock.settle();
    const [publish] = s.broker.take();
    assert.deepEqual(publish.publish, { room: 7, payload: bytes("mine"), name: "" });
    s.broker.say({ id: publish.id, done: { offset: 8 } }, said(8, "mine"));
    await s.clock.settle();
    assert.equal(published.value, 8);

    const left = watch(room.leave());
    await s.clock.settle();
    const [leave] = s.broker.take();
    assert.deepEqual(leave.leave, { room: 7 });
    s.broker.say(said(9, "on its way"), { id: leave.id, done: {} });
    await s.clock.settle();
    assert.equal(left.settled, 1);
    s.broker.say({ roomState: state({ state: STATE.LEFT }) });
    assert.deepEqual(told, ["8 mine", "9 on its way", "LEFT NONE 0"]);
    assert.equal(room.state, "LEFT");
    assert.equal(client.rooms.size, 0);
    s.broker.say(said(10, "not ours any more"));
    assert.equal(told.length, 3);
    assert.equal(client.state, "online");
    const late = watch(room.publish("x"));
    await s.clock.settle();
    assert.deepEqual(codeOf(late), ["NOT_SENT", "no"]);
});

socialScene("what comes with the answer to a join is told to who listens then", async (s) => {
    const client = await s.login();
    const joining = client.join("r", { recover: true });
    const [asked] = s.broker.take();
    assert.equal(asked.join.recover, true);
    s.broker.say(
        { id: asked.id, roomState: state({ offset: 3, replay: REPLAY.PARTIAL }) },
        said(2, "b", "c"),
    );
    s.broker.say(said(4, "d"));
    const told = listen(await joining);
    assert.deepEqual(told, []);
    await s.clock.advance(0);
    assert.deepEqual(told, ["JOINED PARTIAL 3", "0", "2 b", "3 c", "4 d"]);
});

socialScene(
    "a room that the client did not ask for comes as an event, before its messages",
    async (s) => {
        const client = await s.login();
        const told = [];
        client.on("room", (room) => {
            assert.equal(client.rooms.get(room.name), room);
            told.push(room.name, listen(room));
        });
        s.broker.say({ roomState: state({ offset: 1 }) }, said(2, "x"));
        await s.clock.advance(0);
        assert.deepEqual(told, ["r", ["JOINED NONE 1", "0", "2 x"]]);
        // And one that it asked for as well.
        const joining = client.join("q");
        const [asked] = s.broker.take();
        s.broker.say({ id: asked.id, roomState: state({ name: "q", room: 8 }) });
        assert.equal((await joining).name, "q");
        assert.equal(told[2], "q");
    },
);

socialScene("two joins of one room are one, and one of a room that is there is it", async (s) => {
    const client = await s.login();
    const joins = [client.join("r"), client.join("r", { recover: true })];
    const asked = s.broker.take("join");
    assert.equal(asked.length, 1);
    s.broker.say({ id: 2, roomState: state() });
    const [first, second] = await Promise.all(joins);
    assert.equal(first, second);
    assert.equal(await client.join("r"), first);
    assert.deepEqual(s.broker.take("join"), []);
});

for (const [code, done] of [
    ["FORBIDDEN", "no"],
    ["NO_ROOM", "no"],
    ["ROOM_FULL", "no"],
    ["BUSY", "no"],
    ["NO_SERVICE", "no"],
    ["RATE_LIMITED", "no"],
    ["TIMEOUT", "unknown"],
    ["INVALID_NAME", "no"],
]) {
    socialScene(`a join that is refused with ${code}, and then taken`, async (s) => {
        const client = await s.login();
        const refused = watch(client.join("r"));
        await s.clock.settle();
        const [asked] = s.broker.take();
        s.broker.say({
            id: asked.id,
            error: { code: ERROR[code], detail: "why", retryAfterMs: 9 },
        });
        await s.clock.settle();
        assert.deepEqual(codeOf(refused), [code, done]);
        assert.deepEqual([refused.error.message, refused.error.retryAfterMs], [`${code}: why`, 9]);
        assert.equal(client.rooms.size, 0);
        const taken = client.join("r");
        s.broker.say({ id: s.broker.take()[0].id, roomState: state() });
        assert.equal((await taken).state, "JOINED");
    });
}

socialScene("names that are none are not asked for", async (s) => {
    const client = await s.login();
    for (const name of ["", "a b", "ü", "x".repeat(65), "a\0"]) {
        await assert.rejects(client.join(name), { code: "INVALID_NAME", done: "no" });
        await assert.rejects(client.publishTo(name, "x"), { code: "INVALID_NAME", done: "no" });
        await assert.rejects(client.watch(["bob", name]), { code: "INVALID_NAME", done: "no" });
        await assert.rejects(client.unwatch([name]), { code: "INVALID_NAME", done: "no" });
    }
    assert.deepEqual(s.broker.take(), []);
    assert.equal(client.rooms.size, 0);
});

socialScene("to a room without being in it", async (s) => {
    const client = await s.login();
    const published = client.publishTo("news", "x");
    const [asked] = s.broker.take();
    assert.deepEqual(asked.publish, { room: 0, payload: bytes("x"), name: "news" });
    s.broker.say({ id: asked.id, done: { offset: 12 } });
    assert.equal(await published, 12);
});

socialScene("what cannot be published is told, and so is a no", async (s) => {
    const { client, room } = await inside(s, {}, { requestsMax: 2 });
    await assert.rejects(room.publish(7), TypeError);
    await assert.rejects(room.publish(new Uint8Array(2000)), { code: "TOO_LARGE", done: "no" });
    const some = [watch(room.publish("1")), watch(room.publish("2")), watch(room.publish("3"))];
    await s.clock.settle();
    assert.deepEqual(codeOf(some[2]), ["NOT_SENT", "no"]); // two wait already
    const [one, two] = s.broker.take();
    s.broker.say({ id: one.id, error: { code: ERROR.NOT_MEMBER } });
    s.broker.say({ id: two.id, error: { code: ERROR.RATE_LIMITED, retryAfterMs: 40 } });
    await s.clock.settle();
    assert.deepEqual(codeOf(some[0]), ["NOT_MEMBER", "no"]);
    assert.equal(some[1].error.retryAfterMs, 40);
    assert.equal(client.state, "online");
});

// --- who is there --------------------------------------------------------------------------------

socialScene("the roster, its rest in events, and who comes and goes", async (s) => {
    const roster = [{ user: "alice" }, { user: "bob", away: true }];
    const { room, told } = await inside(s, { members: 4, roster });
    const here = () => Object.fromEntries(room.roster);
    assert.deepEqual(here(), { alice: false, bob: true });
    const changed = (members, ...changes) =>
        s.broker.say({ roomEvent: { room: 7, members, changes } });
    // What did not fit the frame.
    changed(4, { user: "carol", kind: KIND.JOINED }, { user: "dave", kind: KIND.AWAY });
    assert.deepEqual(here(), { alice: false, bob: true, carol: false, dave: true });
    changed(3, { user: "bob", kind: KIND.BACK }, { user: "carol", kind: KIND.LEFT });
    changed(3, { user: "carol", kind: KIND.LEFT }, { user: "alice", kind: KIND.AWAY });
    assert.deepEqual(here(), { alice: true, bob: false, dave: true });
    assert.equal(room.count, 3);
    assert.deepEqual(told.slice(1), [
        "4",
        "4, carol JOINED, dave AWAY",
        "3, bob BACK, carol LEFT",
        "3, carol LEFT, alice AWAY",
    ]);
    // And it begins anew with the next state.
    s.broker.say({
        roomState: state({ replay: REPLAY.PARTIAL, members: 1, roster: [{ user: "eve" }] }),
    });
    assert.deepEqual(here(), { eve: false });
    assert.deepEqual(told.slice(-2), ["JOINED PARTIAL 0", "1"]);
    // A kind of a later version is somebody who is there.
    changed(2, { user: "fay", kind: 9 });
    assert.deepEqual(here(), { eve: false, fay: false });
});

// --- losing and finding it -----------------------------------------------------------------------

socialScene("a resume names where it is, and COMPLETE goes on from there", async (s) => {
    const { client, room, told } = await inside(s, { offset: 4 });
    s.broker.say(said(5, "a"));
    told.splice(0);
    const hello = await back(s, client);
    assert.deepEqual(hello.resume.rooms, [{ room: 7, incarnation: 50, offset: 5 }]);
    assert.equal(room.state, "AWAY");
    assert.deepEqual(s.broker.take(), []); // it does not join
    s.broker.say({ roomState: state({ offset: 7, replay: REPLAY.COMPLETE }) }, said(6, "b", "c"));
    s.broker.say(said(8, "d"));
    assert.deepEqual(told, ["AWAY NONE 0", "JOINED COMPLETE 7", "0", "6 b", "7 c", "8 d"]);
    assert.equal(room.state, "JOINED");
});

socialScene("PARTIAL may leave a hole, behind it none is allowed", async (s) => {
    const { client, room, told } = await inside(s, { offset: 4 });
    told.splice(0);
    await back(s, client);
    s.broker.say({ roomState: state({ offset: 20, replay: REPLAY.PARTIAL }) }, said(15, "x"));
    s.broker.say(said(16, "y"));
    assert.deepEqual(told, ["AWAY NONE 0", "JOINED PARTIAL 20", "0", "15 x", "16 y"]);
    // Also without a loss in between: who did not read fast enough.
    s.broker.say({ roomState: state({ offset: 30, replay: REPLAY.PARTIAL }) }, said(29, "z"));
    assert.deepEqual(told.slice(5), ["JOINED PARTIAL 30", "0", "29 z"]);
    s.broker.say(said(31, "!"));
    assert.equal(client.state, "waiting");
    assert.equal(closed(client).at(-1).reason, "PROTOCOL_ERROR");
    assert.equal(room.offset, 29);
    assert.equal(told.at(-1), "AWAY NONE 0");
});

for (const [what, offset] of [
    ["beyond the next", 6],
    ["told already", 4],
    ["told long ago", 1],
]) {
    socialScene(
        `without PARTIAL a message ${what} is a fault: resumed from where it is`,
        async (s) => {
            const { client, room, told } = await inside(s, { offset: 4 });
            s.broker.say(said(offset, "?"));
            assert.deepEqual(told.slice(2), ["AWAY NONE 0"]);
            assert.deepEqual(
                [client.state, closed(client)[0].reason, closed(client)[0].detail],
                ["waiting", "PROTOCOL_ERROR", "a gap in r"],
            );
            await s.clock.advance(closed(client)[0].retryAfterMs);
            const hello = s.broker.welcome();
            assert.deepEqual(hello.resume.rooms, [{ room: 7, incarnation: 50, offset: 4 }]);
            s.broker.say(
                { roomState: state({ offset: 5, replay: REPLAY.COMPLETE }) },
                said(5, "a"),
            );
            assert.equal(told.at(-1), "5 a");
            assert.equal(room.state, "JOINED");
        },
    );
}

socialScene("after PARTIAL the same life of the room does not begin again", async (s) => {
    const { client } = await inside(s, { offset: 4 });
    await back(s, client);
    s.broker.say({ roomState: state({ offset: 9, replay: REPLAY.PARTIAL }) }, said(4, "old"));
    assert.equal(closed(client).at(-1).reason, "PROTOCOL_ERROR");
});

for (const [word, number] of [
    ["LEFT", STATE.LEFT],
    ["REMOVED", STATE.REMOVED],
    ["CLOSED", STATE.CLOSED],
]) {
    socialScene(`${word} while it was away, by number alone, ends the room`, async (s) => {
        const { client, room, told } = await inside(s, { offset: 4 });
        told.splice(0);
        await back(s, client);
        const end = { name: "", room: 7, incarnation: 50, state: number, detail: "why" };
        s.broker.say({ roomState: end });
        assert.deepEqual(told, ["AWAY NONE 0", `${word} NONE 0 why`]);
        assert.equal(room.state, word);
        assert.equal(client.rooms.size, 0);
        const hello = await back(s, client);
        assert.deepEqual(hello.resume.rooms, []);
        const again = client.join("r");
        const asked = s.broker.take("join");
        assert.deepEqual(asked, [{ room: "r", recover: false, incarnation: 0, offset: 0 }]);
        s.broker.say({
            id: s.broker.socket.got.at(-1)?.id ?? 4,
            roomState: state({ incarnation: 51 }),
        });
        void again.catch(() => {});
    });

    socialScene(`${word} while it is there`, async (s) => {
        const { client, room, told } = await inside(s);
        s.broker.say({ roomState: state({ state: number, detail: "bye" }) }, said(1, "x"));
        assert.deepEqual(told.slice(2), [`${word} NONE 0 bye`]);
        assert.deepEqual([room.state, client.rooms.size, client.state], [word, 0, "online"]);
        // It is the end of that life, and of no other.
        s.broker.say({ roomState: state({ incarnation: 60 }) });
        s.broker.say({ roomState: state({ state: number }) });
        assert.equal(client.rooms.get("r").state, "JOINED");
    });
}

socialScene("a number that means another room after a restart is not the old one's", async (s) => {
    const { client, room, told } = await inside(s, { offset: 4 });
    await back(s, client);
    told.splice(0);
    const others = [];
    client.on("room", (other) => others.push(listen(other)));
    // A service has put this user into another room, which has the number that ours had.
    s.broker.say({ roomState: state({ name: "q", incarnation: 90, offset: 1 }) }, said(2, "q's"));
    s.broker.say({ roomState: { room: 7, incarnation: 50, state: STATE.CLOSED } });
    s.broker.say(said(3, "q's, too"));
    await s.clock.advance(0);
    assert.deepEqual(told, ["CLOSED NONE 0"]);
    assert.deepEqual(others, [["JOINED NONE 1", "0", "2 q's", "3 q's, too"]]);
    assert.deepEqual([room.state, client.rooms.size], ["CLOSED", 1]);
});

socialScene("while it is away nothing is published, and nothing is sent later", async (s) => {
    const { client, room } = await inside(s);
    s.broker.cut();
    const away = watch(room.publish("x"));
    await s.clock.settle();
    assert.deepEqual(codeOf(away), ["NOT_SENT", "no"]);
    await s.clock.advance(closed(client)[0].retryAfterMs);
    s.broker.welcome();
    const unknown = watch(room.publish("x")); // what has become of the room is not known yet
    await s.clock.settle();
    assert.deepEqual(codeOf(unknown), ["NOT_SENT", "no"]);
    s.broker.say({ roomState: state({ replay: REPLAY.COMPLETE }) });
    assert.equal(s.broker.take("publish").length, 0);
    void room.publish("y").catch(() => {});
    assert.equal(s.broker.take("publish").length, 1);
});

socialScene("a publish without an answer when the connection is lost is unknown", async (s) => {
    const { room } = await inside(s);
    const published = watch(room.publish("x"));
    await s.clock.settle();
    s.broker.cut();
    await s.clock.settle();
    assert.deepEqual(codeOf(published), ["NO_ANSWER", "unknown"]);
});

socialScene("who leaves while away has left as soon as he is back", async (s) => {
    const { client, room, told } = await inside(s, { offset: 4 });
    s.broker.cut();
    const left = watch(room.leave());
    await s.clock.settle();
    assert.equal(left.settled, 1);
    await s.clock.advance(closed(client)[0].retryAfterMs);
    s.broker.welcome();
    assert.deepEqual(s.broker.take("leave"), []);
    s.broker.say({ roomState: state({ replay: REPLAY.COMPLETE, offset: 4 }) });
    const [leave] = s.broker.take();
    assert.deepEqual(leave.leave, { room: 7 });
    s.broker.say({ id: leave.id, done: {} }, { roomState: state({ state: STATE.LEFT }) });
    assert.equal(told.at(-1), "LEFT NONE 0");
    assert.equal(client.rooms.size, 0);
});

socialScene("who leaves while away and wants in again stays", async (s) => {
    const { client, room } = await inside(s, { offset: 4 });
    s.broker.cut();
    await room.leave();
    assert.equal(await client.join("r"), room);
    await s.clock.advance(closed(client)[0].retryAfterMs);
    s.broker.welcome();
    s.broker.say({ roomState: state({ replay: REPLAY.COMPLETE, offset: 4 }) });
    assert.deepEqual(s.broker.take(), []);
    assert.equal(room.state, "JOINED");
});

socialScene("who joins while he is leaving comes in again", async (s) => {
    const { client, room } = await inside(s);
    void room.leave();
    const joining = client.join("r");
    const [leave, join] = s.broker.take();
    s.broker.say({ id: leave.id, done: {} }, { roomState: state({ state: STATE.LEFT }) });
    s.broker.say({ id: join.id, roomState: state({ offset: 9 }) });
    const other = await joining;
    assert.notEqual(other, room);
    assert.deepEqual([room.state, other.state, other.offset], ["LEFT", "JOINED", 9]);
});

// --- a new session -------------------------------------------------------------------------------

socialScene("a new session joins again from where it is", async (s) => {
    const { client, room, told } = await inside(s, { offset: 4 });
    s.broker.say(said(5, "a"));
    told.splice(0);
    const { resume, asked } = await anew(s, client);
    assert.deepEqual(resume.resume.rooms, [{ room: 7, incarnation: 50, offset: 5 }]);
    assert.deepEqual(
        asked.map(({ join }) => join),
        [{ room: "r", recover: true, incarnation: 50, offset: 5 }],
    );
    // What a membership that a service has carried over brings is not believed before our own answer.
    s.broker.say({ roomState: state({ room: 8, offset: 8 }) });
    s.broker.say({ roomMessages: { room: 8, offset: 9, messages: [{}] } });
    assert.equal(room.state, "AWAY");
    const answer = state({ room: 8, offset: 9, replay: REPLAY.COMPLETE });
    s.broker.say({ id: asked[0].id, roomState: answer });
    s.broker.say({ roomMessages: { room: 8, offset: 6, messages: [{}, {}, {}, {}] } });
    assert.deepEqual(told, ["AWAY NONE 0", "JOINED COMPLETE 9", "0", "6 ", "7 ", "8 ", "9 "]);
    // Another life of the room: PARTIAL, and offsets from anywhere.
    const more = await anew(s, client);
    told.splice(0);
    const other = state({ room: 9, incarnation: 70, offset: 3, replay: REPLAY.PARTIAL });
    s.broker.say({ id: more.asked[0].id, roomState: other });
    s.broker.say({ roomMessages: { room: 9, offset: 2, messages: [{}] } });
    assert.deepEqual(told, ["JOINED PARTIAL 3", "0", "2 "]);
    assert.equal(client.rooms.get("r"), room);
});

socialScene("a new session that is not let in again ends the room", async (s) => {
    const { client, room, told } = await inside(s);
    told.splice(0);
    const { asked } = await anew(s, client);
    s.broker.say({ id: asked[0].id, error: { code: ERROR.FORBIDDEN, detail: "no" } });
    await s.clock.settle();
    assert.deepEqual(told, ["AWAY NONE 0", "CLOSED NONE 0 FORBIDDEN: no"]);
    assert.equal(client.rooms.size, 0);
    assert.equal(room.state, "CLOSED");
});

socialScene("one that is refused for the moment is said again, not sooner than told", async (s) => {
    const { client, room } = await inside(s);
    let { asked } = await anew(s, client);
    for (const [code, retryAfterMs, wait] of [
        ["BUSY", 0, 1000],
        ["RATE_LIMITED", 3000, 3000],
        ["TIMEOUT", 10, 1000],
    ]) {
        s.broker.say({ id: asked[0].id, error: { code: ERROR[code], retryAfterMs } });
        await s.clock.advance(wait - 1);
        assert.deepEqual(s.broker.take(), []);
        await s.clock.advance(1);
        asked = s.broker.take();
        assert.deepEqual(asked[0].join.room, "r");
    }
    s.broker.say({ id: asked[0].id, roomState: state() });
    await s.clock.settle();
    assert.equal(room.state, "JOINED");
    assert.equal(client.dropped.length, 0);
});

socialScene("a join of which nobody knows is said again after the resume", async (s) => {
    const { client, room, told } = await inside(s, { offset: 4 });
    await anew(s, client);
    const hello = await back(s, client); // before it was answered
    assert.deepEqual(hello.resume.rooms, []);
    await s.clock.settle();
    // The room is in the session, without a position: that is not the answer.
    s.broker.say({ roomState: state({ offset: 9 }) });
    assert.equal(room.state, "AWAY");
    const [asked] = s.broker.take();
    assert.deepEqual(asked.join, { room: "r", recover: true, incarnation: 50, offset: 4 });
    s.broker.say(
        { id: asked.id, roomState: state({ offset: 5, replay: REPLAY.COMPLETE }) },
        said(5, "a"),
    );
    assert.equal(told.at(-1), "5 a");
});

socialScene("who has left is not joined again", async (s) => {
    const { client, room } = await inside(s);
    void room.leave().catch(() => {});
    const { asked } = await anew(s, client);
    assert.deepEqual(asked, []);
    assert.deepEqual([room.state, client.rooms.size], ["LEFT", 0]);
});

socialScene("the end of the client is the end of its rooms", async (s) => {
    for (const reason of [CLOSE.REPLACED, CLOSE.LOGGED_OUT]) {
        const { client, room, told } = await inside(s);
        s.broker.say({ close: { reason } });
        assert.deepEqual([room.state, client.rooms.size], ["LEFT", 0]);
        assert.match(told.at(-1), /^LEFT NONE 0 /);
        const late = watch(room.publish("x"));
        await s.clock.settle();
        assert.deepEqual(codeOf(late), ["NOT_SENT", "no"]);
        await room.leave();
    }
    const { client, room } = await inside(s);
    client.close();
    assert.equal(room.state, "LEFT");
    await assert.rejects(client.join("r"), { code: "NOT_SENT" });
});

socialScene("a page that is loaded again is told of its rooms", async (s) => {
    const storage = fakeStorage();
    const { client } = await inside(s, {}, { storage });
    assert.doesNotMatch([...storage.kept.values()].join(), /rooms/);
    client.close();
    const page = s.start({ storage });
    const rooms = [];
    page.on("room", (room) => rooms.push(room.name));
    await s.clock.settle();
    const hello = s.broker.welcome();
    assert.deepEqual(hello.resume.rooms, []);
    s.broker.say({ roomState: state({ offset: 6 }) });
    assert.deepEqual(rooms, ["r"]);
});

// --- brokers that do what they should not --------------------------------------------------------

socialScene(
    "frames of rooms that it is not in, and of later versions, change nothing",
    async (s) => {
        const { client, room, told } = await inside(s, { offset: 4 });
        told.splice(0);
        s.broker.say({ roomMessages: { room: 99, offset: 1, messages: [{}] } });
        s.broker.say({ roomEvent: { room: 99, members: 5, changes: [{ user: "x" }] } });
        s.broker.say({ roomState: { room: 99, incarnation: 1, state: STATE.CLOSED } });
        s.broker.say({ roomState: { room: 7, incarnation: 49, state: STATE.REMOVED } });
        s.broker.say({ roomMessages: { room: 7, offset: 5, messages: [] } });
        s.broker.say({ friends: { friends: [] } });
        assert.deepEqual(told, []);
        s.broker.say({ roomState: state({ state: 9, detail: "later" }) });
        assert.deepEqual(told, ["CLOSED NONE 0 later"]);
        assert.deepEqual([room.state, client.state], ["CLOSED", "online"]);
    },
);

socialScene("before the Welcome they are out of place", async (s) => {
    for (const frame of [
        { roomState: state() },
        said(1, "x"),
        { roomEvent: { room: 7 } },
        { friends: {} },
    ]) {
        const client = s.start();
        await s.clock.settle();
        s.broker.open();
        s.broker.say(frame);
        assert.deepEqual([client.state, closed(client)[0].reason], ["waiting", "PROTOCOL_ERROR"]);
        assert.equal(client.rooms.size, 0);
        client.close();
    }
});

socialScene("counts that cannot be and very many of everything", async (s) => {
    const { client, room, told } = await inside(s, { members: 2 ** 32 - 1, tickMs: 2 ** 32 - 1 });
    assert.equal(room.count, 2 ** 32 - 1);
    const many = Array.from({ length: 50000 }, (_, i) => ({ user: "u" + i, kind: i % 4 }));
    s.broker.say({ roomEvent: { room: 7, members: 1, changes: many } });
    assert.equal(room.roster.size, 37500);
    told.splice(0);
    s.broker.say({ roomMessages: { room: 7, offset: 1, messages: many.map(() => ({})) } });
    assert.deepEqual([told.length, room.offset], [50000, 50000]);
    const beyond = { room: 7, offset: Number.MAX_SAFE_INTEGER, messages: [{}] };
    s.broker.say({ roomMessages: beyond });
    assert.equal(closed(client).at(-1).reason, "PROTOCOL_ERROR");
});

socialScene("a list that is longer than its frame is a broken frame", async (s) => {
    const { client } = await inside(s);
    // RoomMessages whose one element says that it has 100 bytes, of which there are none.
    const frame = Uint8Array.from([0x06, 0x52, 0x04, 0x08, 0x07, 0x1a, 0x64]);
    s.broker.socket.onmessage({ data: frame.buffer });
    assert.equal(closed(client).at(-1).reason, "PROTOCOL_ERROR");
});

socialScene("listeners that throw, leave and close in the midst of a bundle", async (s) => {
    const { client, room } = await inside(s);
    const got = [];
    room.on("message", ({ text }) => {
        got.push(text);
        if (text === "b") {
            client.close();
        }
    });
    const off = room.on("message", () => {
        throw new Error("mine");
    });
    s.broker.say(said(1, "a", "b", "c"));
    await s.clock.advance(0);
    assert.deepEqual(got, ["a", "b"]);
    assert.equal(room.state, "LEFT");
    assert.equal(s.clock.thrown.splice(0).length, 2);
    off();
});

// --- friends -------------------------------------------------------------------------------------

socialScene("watching, what is told, and watching no more", async (s) => {
    const client = await s.login();
    const told = [];
    client.on("friends", (event) => told.push(event));
    const watching = watch(client.watch(["bob", "carol"]));
    await s.clock.settle();
    const [asked] = s.broker.take();
    assert.deepEqual(asked.watch, { add: ["bob", "carol"], remove: [] });
    s.broker.say({ id: asked.id, done: {} });
    await s.clock.settle();
    assert.equal(watching.settled, 1);
    const friends = [
        { user: "bob", state: 1, sinceMs: 77, status: bytes("in match 7") },
        { user: "carol", state: 0 },
        { user: "dave", state: 2 },
    ];
    s.broker.say(
        { friends: { snapshot: true, friends } },
        { friends: { friends: [{ user: "bob" }] } },
    );
    const [first, second] = told;
    assert.deepEqual(
        first.friends.map(({ user, state, sinceMs, text }) => [user, state, sinceMs, text]),
        [
            ["bob", "ONLINE", 77, "in match 7"],
            ["carol", "OFFLINE", 0, ""],
            ["dave", "AWAY", 0, ""],
        ],
    );
    assert.deepEqual([first.snapshot, second.snapshot], [true, false]);
    assert.deepEqual(first.friends[0].status, bytes("in match 7"));
    const removing = client.unwatch(["carol"]);
    const [removed] = s.broker.take();
    assert.deepEqual(removed.watch, { add: [], remove: ["carol"] });
    s.broker.say({ id: removed.id, done: {} });
    await removing;
});

socialScene(
    "after a new login watches and status are asked for again, after a resume not",
    async (s) => {
        const client = await s.login();
        const all = [client.watch(["bob"]), client.watch(["carol"]), client.unwatch(["bob"])];
        all.push(client.setStatus("here", { invisible: true }), client.setStatus("there"));
        const refused = watch(client.watch(["dave"]));
        const asked = s.broker.take();
        assert.deepEqual(asked[3].setStatus, { status: bytes("here"), invisible: true });
        for (const { id } of asked.slice(0, 5)) {
            s.broker.say({ id, done: {} });
        }
        s.broker.say({ id: asked[5].id, error: { code: ERROR.FORBIDDEN } });
        await Promise.all(all);
        await s.clock.settle();
        assert.deepEqual(codeOf(refused), ["FORBIDDEN", "no"]);
        await back(s, client);
        assert.deepEqual(s.broker.take(), []);
        const again = await anew(s, client);
        assert.deepEqual(
            again.asked.map(({ watch, setStatus }) => watch ?? setStatus),
            [
                { add: ["carol"], remove: [] },
                { status: bytes("there"), invisible: false },
            ],
        );
        const dropped = [];
        client.on("dropped", ({ code }) => dropped.push(code));
        s.broker.say({ id: again.asked[0].id, error: { code: ERROR.FORBIDDEN } });
        await s.clock.settle();
        assert.deepEqual(dropped, ["FORBIDDEN"]);
    },
);

socialScene(
    "a broker that has forgotten who watches whom after a resume is told again",
    async (s) => {
        const client = await s.login();
        const asked = watch(client.watch(["bob"]));
        void client.setStatus("here");
        s.broker.take().forEach(({ id }) => s.broker.say({ id, done: {} }));
        await s.clock.settle();
        assert.equal(asked.settled, 1);
        await back(s, client);
        s.broker.say({ friends: { friends: [{ user: "bob" }] } }, { friends: { snapshot: true } });
        await s.clock.advance(6000);
        assert.deepEqual(s.broker.take(), []);
        await back(s, client);
        await s.clock.advance(4999);
        assert.deepEqual(s.broker.take(), []);
        await s.clock.advance(1);
        const [again, status] = s.broker.take();
        assert.deepEqual(again.watch.add, ["bob"]);
        assert.deepEqual(status.setStatus.status, bytes("here"));
        // That of a connection that is gone is not about this one.
        await back(s, client);
        await s.clock.advance(3000);
        await back(s, client);
        s.broker.say({ friends: { snapshot: true } });
        await s.clock.advance(6000);
        assert.deepEqual(s.broker.take(), []);
    },
);

socialScene("a status that is no text and no bytes is a mistake of the program", async (s) => {
    const client = await s.login();
    await assert.rejects(client.setStatus({}), TypeError);
    assert.deepEqual(s.broker.take(), []);
});
