// SPDX-License-Identifier: Apache-2.0
// A whole life, cut after every byte: what came and what promises said has to be what happened. The same
// in Node and in a page, so it knows neither.
//
// It is given `login(name, url, options)`, which connects; `direct`, where nothing is cut; and `open(name,
// cut)`, which gives {url, used(), close()} of a relay that cuts the first connection through it after so
// many bytes of one way, {way, bytes}, or never.
import { eventually } from "./wait.mjs";

const MESSAGES = ["1", "2", "3"];

function demand(fact, text) {
    if (!fact) {
        throw new Error(text);
    }
}

/** What a promise says about whether it was done. */
const outcomeOf = (promise) =>
    promise.then(
        () => "yes",
        (error) => error.done,
    );

/** What it receives, as texts, in their order. */
export function read(client) {
    const got = [];
    (async () => {
        for await (const message of client.messages()) {
            got.push(message.text);
        }
    })();
    return got;
}

/** alice's life, from login to logout, with three messages each way: the first two before she is in. */
async function life(world, bob, name, cut) {
    const relay = await world.open(name, cut);
    const alice = world.login(name, relay.url, { acks: true });
    const got = read(alice);
    const outcomes = [1, 2].map((n) => outcomeOf(alice.send("bob", `${name} ${n}`)));
    await alice.ready;
    await Promise.all(MESSAGES.map((text) => bob.send(name, text)));
    outcomes.push(outcomeOf(alice.send("bob", `${name} 3`)));
    await eventually(`${name} has three messages: ${got}`, () => got.length >= 3);
    const done = await Promise.all(outcomes);
    const out = await outcomeOf(alice.logout());
    await eventually(`${name} has ended`, () => alice.ended || out !== "yes");
    alice.close();
    const used = cut ? undefined : await relay.used();
    await relay.close();
    return { name, got, done, out, used };
}

function judge({ name, got, done, out }, heard) {
    demand(got.join() === MESSAGES.join(), `${name} got ${got}`);
    demand(out !== "no", `${name} was not logged out`);
    done.forEach((word, i) => {
        const times = heard.filter((text) => text === `${name} ${i + 1}`).length;
        const true_ = word === "yes" ? times === 1 : word === "no" ? times === 0 : times <= 1;
        demand(true_, `${name} ${i + 1} was done: ${word}, and came ${times} times`);
    });
}

/** So many lives at once, one for each `stride`th byte from `phase` on. Gives how many there were, and how
 * many promises ended as unknown. */
export async function cutEverywhere(world, { prefix, together, stride = 1, phase = 0 }) {
    const bob = world.login("bob", world.direct, { acks: true });
    const heard = read(bob);
    await bob.ready;
    const pad = (text, size) => String(text).padStart(size, "0");
    const whole = await life(world, bob, `${prefix}-0000-none`);
    demand(whole.done.join() === "yes,yes,yes" && whole.out === "yes", "without a cut");
    const plans = [];
    for (const way of ["up", "down"]) {
        for (let bytes = phase; bytes < whole.used[way]; bytes += stride) {
            // All names are of one length, or there would be other bytes.
            plans.push([`${prefix}-${pad(bytes, 4)}-${way.padEnd(4, "_")}`, { way, bytes }]);
        }
    }
    const places = plans.length;
    const results = [];
    const worker = async () => {
        for (let plan; (plan = plans.pop());) {
            results.push(await life(world, bob, ...plan));
        }
    };
    await Promise.all(Array.from({ length: together }, worker));
    // Bob acknowledges what he has, so nothing is under way any more after one of his own.
    await bob.send("bob", "the end");
    await eventually("bob has heard it all", () => heard.includes("the end"));
    results.forEach((result) => judge(result, heard));
    const unknown = results.flatMap(({ done }) => done).filter((word) => word === "unknown").length;
    demand(unknown > 0, "no cut was where it hurts");
    bob.close();
    return { places, unknown };
}
