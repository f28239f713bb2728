// SPDX-License-Identifier: Apache-2.0
// The service: it owns the positions, says who is "it" and keeps the score. Two instances run, so that
// one may die.
//
// A player's calls go to one instance (usher pins him to it), so each instance hears a part of the
// players; but one alone may say who is it. That one is the keeper, and usher decides which: each
// instance is also logged in as a user, "park:one", "park:two", and of those who are online the one
// with the lowest epoch keeps the park. Presence comes to both in the same order, so they agree without
// asking each other. The other one forwards what its players say to the keeper, as a transient message
// from user to user, and gets what the players get: so it knows all when the keeper dies.
//
// An instance that loses its connection never resumes: it logs in anew, with a higher epoch. So the
// epochs of keepers rise, and one of them stands in all that a keeper says (`term`): a page that has
// heard a newer keeper does not believe an older one that has slept and does not know it yet.
import { connect } from "usher-client/node";
import { service } from "usher-backend";
import * as rules from "./rules.mjs";

const LOOK_AGAIN_MS = 250;
const IDLE_MS_MAX = 1000;
/** Clocks and networks are uneven: nobody is held back for a little. */
const SPEED_SLACK = 1.3;
const STEP_SLACK = 30;

const environment = process.env;
const instance = environment.PARK_INSTANCE;
const me = rules.INSTANCE + instance;
const isInstance = (name) => name.startsWith(rules.INSTANCE);

/** All who have a session, by name: { epoch, online, untilMs, x, y, heard, movedAt, itMs }. */
const people = new Map();
let presenceSeq = 0; // of the last event that is in the picture
const park = { term: 0, turn: 0, it: "", safe: "", safeUntil: 0 };
const forwarded = new Map(); // what this instance's players said since the last tick, when another one keeps the park
let tickedAt = performance.now();

// --- who keeps the park ----------------------------------------------------------------------------

/** The instance that is online with the lowest epoch; undefined when none is. */
function keeper() {
    const online = [...people].filter(([name, person]) => isInstance(name) && person.online);
    online.sort(([, a], [, b]) => a.epoch - b.epoch);
    return online[0]?.[0];
}

const iKeep = () => keeper() === me;

function players(wanted = () => true) {
    return [...people].filter(([name, person]) => !isInstance(name) && wanted(person));
}

/** To all who play, also those who are away for a moment: their inbox keeps it. In order, none missing. */
function tell(message) {
    const names = players().map(([name]) => name);
    const text = JSON.stringify({ term: park.term, ...message });
    return names.length
        ? arena.push(names, text).catch(({ message }) => console.log(`not told: ${message}`))
        : undefined;
}

/** All that there is to know. */
function picture() {
    const all = [...people].map(([name, person]) => {
        const { epoch, online, untilMs, heard, x, y, itMs } = person;
        const [where, ms] = [{ x: Math.round(x), y: Math.round(y) }, Math.round(itMs)];
        return [name, { epoch, online, untilMs, heard, ...where, itMs: ms }];
    });
    const { term, turn, it } = park;
    const everybody = Object.fromEntries(all);
    return {
        kind: "picture",
        term,
        turn,
        it,
        keeper: keeper(),
        seq: presenceSeq,
        people: everybody,
    };
}

let kept = false; // the last time that somebody looked

/** After each change of presence. A new keeper tells everybody all: what the one before was about to
 * say nobody knows. */
function changed() {
    const keeps = iKeep();
    if (keeps && (!kept || park.term !== people.get(me).epoch)) {
        park.term = people.get(me).epoch;
        console.log(`${instance} keeps the park, term ${park.term}, ${players().length} players`);
        tell(picture());
    }
    kept = keeps;
}

// --- who is there ----------------------------------------------------------------------------------

function arrive(name, { epoch, online, untilMs }) {
    const known = people.get(name);
    if (known) {
        Object.assign(known, { epoch, online, untilMs });
        return;
    }
    const [x, y] = rules.entrance();
    people.set(name, { epoch, online, untilMs, x, y, heard: false, movedAt: 0, itMs: 0 });
}

/** What usher says of a session is told on to the pages, as it is and in its order. */
function onPresence(event) {
    const { user, kind, cause, epoch, seq, untilMs } = event;
    presenceSeq = seq;
    if (kind === "OFFLINE") {
        people.delete(user);
    } else {
        arrive(user, { epoch, online: kind !== "DETACHED", untilMs });
    }
    changed();
    if (iKeep()) {
        const { x, y } = people.get(user) ?? {};
        return tell({
            kind: "presence",
            user,
            what: kind,
            cause,
            epoch,
            seq,
            untilMs,
            x,
            y,
            keeper: keeper(),
        });
    }
}

/** The whole picture anew: who is not in it is gone. */
function presencePicture() {
    let present;
    return {
        reset: () => void (present = new Set()),
        snapshot: (session) => {
            present.add(session.user);
            // Of somebody who is away a picture does not say until when.
            arrive(session.user, {
                epoch: session.epoch,
                online: session.state === "ONLINE",
                untilMs: 0,
            });
        },
        current: ({ seq }) => {
            presenceSeq = seq;
            [...people.keys()]
                .filter((name) => !present.has(name))
                .forEach((name) => people.delete(name));
            changed();
        },
    };
}

// --- where they are --------------------------------------------------------------------------------

/** A player says where he is; he gets as far as his legs can have brought him. To a keeper who has never
 * heard of him his first word counts: that is how the picture comes back when both instances were killed. */
function move(name, [x, y]) {
    const person = people.get(name);
    if (!person || !Number.isFinite(x) || !Number.isFinite(y)) {
        return;
    }
    const now = performance.now();
    const speed = name === park.it ? rules.SPEED_OF_IT : rules.SPEED;
    const seconds = Math.min(now - person.movedAt, IDLE_MS_MAX) / 1000;
    const most = person.heard ? speed * seconds * SPEED_SLACK + STEP_SLACK : Infinity;
    [person.x, person.y] = rules.step(person.x, person.y, x, y, most);
    person.movedAt = now;
    person.heard = true;
}

/** Input of strangers: whatever is no pair of numbers is nothing. What is nested deep could be read and
 * not be written again. */
function pairOf(call) {
    try {
        const pair = JSON.parse(call.text);
        const isPair = Array.isArray(pair) && pair.length === 2 && pair.every(Number.isFinite);
        return isPair ? pair : undefined;
    } catch {
        return undefined;
    }
}

function onMove(call) {
    const pair = pairOf(call);
    if (!pair) {
        return;
    }
    if (iKeep()) {
        move(call.user, pair);
    } else {
        forwarded.set(call.user, pair);
    }
}

// --- who is it -------------------------------------------------------------------------------------

function tag(it, how) {
    const was = park.it;
    park.turn++;
    park.it = it;
    park.safe = was;
    park.safeUntil = performance.now() + rules.NO_TAG_BACK_MS;
    tell({ kind: "tag", turn: park.turn, it, was, how });
}

function judge(now, passedMs) {
    const it = people.get(park.it);
    const awake = players((person) => person.online);
    if (!it) {
        if (awake.length) {
            tag(awake[Math.floor(Math.random() * awake.length)][0], "lot");
        } else {
            park.it = "";
        }
        return;
    }
    if (!it.online) {
        return; // who is away neither catches nor is counted
    }
    it.itMs += passedMs;
    const caught = awake.find(
        ([name, person]) =>
            person !== it &&
            (name !== park.safe || now >= park.safeUntil) &&
            Math.hypot(person.x - it.x, person.y - it.y) < rules.TOUCH_DISTANCE,
    );
    if (caught) {
        tag(caught[0], "touch");
    }
}

// --- fifteen times in a second -----------------------------------------------------------------------

/** To those who are connected, now or never; and to the other instance. */
function tellState() {
    // Where somebody is said to stand of whom nobody has heard yet is a guess, and his page knows better.
    const places = players((person) => person.heard).map(([name, { x, y, itMs }]) => [
        name,
        [Math.round(x), Math.round(y), Math.round(itMs)],
    ]);
    const { term, turn, it } = park;
    const state = { kind: "state", term, turn, it, places: Object.fromEntries(places) };
    const to = [...people]
        .filter(([name, { online }]) => online && name !== me)
        .map(([name]) => name);
    if (to.length) {
        arena.push(to, JSON.stringify(state), { transient: true }).catch(() => {}); // the next one comes
    }
}

/** What the keeper says, for the day when this instance is the keeper. */
function learn({ term, turn, it, places }) {
    if (iKeep() || term < park.term) {
        return;
    }
    Object.assign(park, { term, turn, it });
    for (const [name, [x, y, itMs]] of Object.entries(places)) {
        const person = people.get(name);
        if (person) {
            Object.assign(person, { x, y, itMs, heard: true, movedAt: performance.now() });
        }
    }
}

function tick() {
    const now = performance.now();
    const passedMs = Math.min(now - tickedAt, IDLE_MS_MAX);
    tickedAt = now;
    const target = keeper();
    if (target === me) {
        judge(now, passedMs);
        tellState();
    } else if (target && forwarded.size) {
        user?.post(target, JSON.stringify([...forwarded]), { transient: true });
    }
    forwarded.clear();
}

// --- as a user -------------------------------------------------------------------------------------

let user;

function hear(message) {
    if (message.service === rules.SERVICE) {
        learn(JSON.parse(message.text));
    } else if (isInstance(message.from) && iKeep()) {
        JSON.parse(message.text).forEach(([name, pair]) => move(name, pair));
    }
}

/** Logs in; and anew, without a resume, whenever that connection is lost. */
function logIn() {
    const client = (user = connect({
        url: environment.PARK_URL,
        user: me,
        token: environment.PARK_TOKEN,
        client: "park service",
    }));
    client.on("message", hear);
    client.on("closed", ({ reason }) => {
        if (user !== client) {
            return;
        }
        user = undefined;
        client.close();
        if (reason === "REPLACED") {
            leave(`another process is ${me}`);
        } else if (/^(UNAUTHENTICATED|AUTH_FAILED)$/.test(reason)) {
            leave("its token has ended"); // whoever starts it anew gives it another
        } else {
            setTimeout(logIn, LOOK_AGAIN_MS);
        }
    });
}

async function leave(why) {
    console.log(`${instance} leaves: ${why}`);
    const client = user;
    user = undefined;
    await client?.logout().catch(() => {});
    await arena.close();
    process.exit(0);
}

// --- the start -------------------------------------------------------------------------------------

const arena = await service(rules.SERVICE, {
    link: environment.PARK_LINK,
    instance,
    presence: presencePicture(),
});
arena.on("move", onMove);
arena.on("look", () => JSON.stringify(picture()));
arena.onPresence(onPresence);
logIn();
setInterval(tick, rules.TICK_MS);
process.on("SIGTERM", () => void leave("told to"));
