// SPDX-License-Identifier: Apache-2.0
// Players who are not there: each is a client like any other, with a session of its own. They run from
// who is it, and after the nearest when they are it themselves. The parent says how many there shall be.
import { connect } from "usher-client/node";
import * as rules from "./rules.mjs";

const NAMES =
    "ada bo cleo dan eve finn gus hana ivo jo kai lea max nia otto pia quin ros sam tia uma vic wim xia yan zoe".split(
        " ",
    );
const AFRAID_DISTANCE = 330;
const ARRIVED_DISTANCE = 30;
const DETOUR_MS = 900;
const ANSWER_PAUSE_MS = 4000;
const ANSWERS = ["catch me if you can!", "hello!", "not me...", "run!", "nice day for it", "hihi"];
/** Slower than people, who otherwise never win. */
const SLOWNESS = 0.8;

const bots = [];
const waiting = new Map(); // name -> what takes its token

const any = (list) => list[Math.floor(Math.random() * list.length)];
const anywhere = () =>
    rules.place(Math.random() * rules.PARK.width, Math.random() * rules.PARK.height);
const nameOf = (index) =>
    rules.BOT + NAMES[index % NAMES.length] + (index < NAMES.length ? "" : "2");

function tokenOf(name) {
    process.send({ name });
    return new Promise((resolve) => waiting.set(name, resolve));
}

class Bot {
    #at; // where it stands, as soon as it was told
    #state = { it: "", places: {} };
    #goal = rules.entrance();
    #detourUntil = 0;
    #answeredAt = 0;

    constructor(name) {
        this.name = name;
        const url = process.env.PARK_URL;
        this.client = connect({
            url,
            user: name,
            token: () => tokenOf(name),
            acks: true,
            client: "park bot",
        });
        this.client.on("message", (message) => this.#hear(message));
        this.client.on("welcome", () => void this.#enter());
        this.timer = setInterval(() => this.#walk(), rules.TICK_MS);
    }

    async #enter() {
        const room = await this.client.join(rules.ROOM).catch(() => undefined);
        if (room && room !== this.room) {
            this.room = room;
            room.on("message", ({ from }) => this.#answer(from));
        }
    }

    #hear(message) {
        const told = JSON.parse(message.text);
        if (told.kind === "state") {
            this.#state = told;
        } else if (told.kind === "picture") {
            this.#stand(told.people[this.name]);
        } else if (told.kind === "presence" && told.user === this.name) {
            this.#stand(told);
        } else if (told.kind === "tag" && told.it === this.name) {
            this.#say(any(["I'll get you!", "my turn!"]));
        }
    }

    /** Where it was told to come in. */
    #stand(told) {
        this.#at ??= told?.x === undefined ? undefined : [told.x, told.y];
    }

    #answer(to) {
        if (
            !to.startsWith(rules.BOT) &&
            Date.now() - this.#answeredAt > ANSWER_PAUSE_MS &&
            Math.random() < 2 / bots.length // two of them, or all would talk at once
        ) {
            this.#answeredAt = Date.now();
            setTimeout(() => this.#say(any(ANSWERS)), 400 + 1200 * Math.random());
        }
    }

    #say(text) {
        this.room?.publish(text).catch(() => undefined); // while it is away it says nothing
    }

    /** Towards the nearest, away from who is it, or for a walk; also when the pond is in the way. */
    #aim([x, y]) {
        const { it, places } = this.#state;
        const others = Object.entries(places).filter(([name]) => name !== this.name);
        const far = ([, [otherX, otherY]]) => Math.hypot(otherX - x, otherY - y);
        const nearest = others.sort((a, b) => far(a) - far(b))[0];
        const hunter = places[it];
        const detour = Date.now() < this.#detourUntil;
        if (it === this.name && nearest && !detour) {
            return nearest[1].slice(0, 2);
        }
        if (
            hunter &&
            !detour &&
            it !== this.name &&
            Math.hypot(hunter[0] - x, hunter[1] - y) < AFRAID_DISTANCE
        ) {
            if (Math.random() < 0.1) {
                this.#goal = anywhere(); // or it would come back here, again and again
            }
            return this.#flee(x, y, hunter);
        }
        if (
            Math.hypot(this.#goal[0] - x, this.#goal[1] - y) < ARRIVED_DISTANCE ||
            Math.random() < 0.004
        ) {
            this.#goal = anywhere();
        }
        return this.#goal;
    }

    /** Straight away ends in a corner, so the middle pulls as well. */
    #flee(x, y, [hunterX, hunterY]) {
        const away = Math.hypot(x - hunterX, y - hunterY) || 1;
        const inward = [rules.PARK.width / 2 - x, rules.PARK.height / 2 - y];
        const pull = Math.hypot(...inward) / 900;
        const [dx, dy] = [(x - hunterX) / away, (y - hunterY) / away];
        const [turnX, turnY] = [-dy * pull * 0.6, dx * pull * 0.6];
        return [
            x + 200 * (dx + turnX) + inward[0] * 0.25 * pull,
            y + 200 * (dy + turnY) + inward[1] * 0.25 * pull,
        ];
    }

    #walk() {
        if (!this.#at || this.client.state !== "online") {
            return;
        }
        const told = this.#state.places[this.name];
        if (told && Math.hypot(told[0] - this.#at[0], told[1] - this.#at[1]) > 150) {
            this.#at = told.slice(0, 2); // the service knows better
        }
        const speed = (this.#state.it === this.name ? rules.SPEED_OF_IT : rules.SPEED) * SLOWNESS;
        const most = (speed * rules.TICK_MS) / 1000;
        const [x, y] = this.#at;
        this.#at = rules.step(x, y, ...this.#aim(this.#at), most);
        if (Math.hypot(this.#at[0] - x, this.#at[1] - y) < most / 3) {
            this.#goal = anywhere();
            this.#detourUntil = Date.now() + DETOUR_MS;
        }
        this.client.postCall(rules.SERVICE, "move", JSON.stringify(this.#at.map(Math.round)));
    }

    async leave() {
        clearInterval(this.timer);
        await this.client.logout().catch(() => this.client.close());
    }
}

function become(count) {
    while (bots.length < count) {
        bots.push(new Bot(nameOf(bots.length)));
    }
    bots.splice(count).forEach((bot) => void bot.leave());
}

process.on("message", ({ count, name, token }) => {
    if (name) {
        waiting.get(name)?.(token);
        waiting.delete(name);
    } else {
        become(count);
    }
});
const end = () => process.exit(0);
process.on("disconnect", end);
process.on("SIGTERM", () => Promise.all(bots.splice(0).map((bot) => bot.leave())).then(end, end));
