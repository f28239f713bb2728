// SPDX-License-Identifier: Apache-2.0
// The rules of the park, for those who judge (service.mjs), those who walk (index.html, bots.mjs) and
// those who open the door (server.mjs). Lengths are in park units, which are pixels of a large screen.

export const PARK = { width: 1600, height: 1000 };
export const POND = { x: 1130, y: 330, rx: 235, ry: 135 };
export const AVATAR_RADIUS = 22;
export const TOUCH_DISTANCE = 2 * AVATAR_RADIUS + 4;
/** Units in a second; who is "it" is a little faster, or nobody would ever be caught. */
export const SPEED = 250;
export const SPEED_OF_IT = 285;
/** Positions are told so often; what is between two of them the pages draw by themselves. */
export const TICK_MS = 1000 / 15;
/** For so long whoever was just freed cannot be caught by the one who is it now. */
export const NO_TAG_BACK_MS = 2000;

/** Names of people. Bots and instances have a colon in theirs, so nobody can pass for one. */
export const NAME = /^[A-Za-z0-9_-]{1,16}$/;
export const BOT = "bot:";
export const INSTANCE = "park:";
export const SERVICE = "park";
/** In which all talk; also a name of the tokens' claim. */
export const ROOM = "park";

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The nearest place to x, y where somebody can stand: in the park, and not in the pond. */
export function place(x, y) {
    x = clamp(x, AVATAR_RADIUS, PARK.width - AVATAR_RADIUS);
    y = clamp(y, AVATAR_RADIUS, PARK.height - AVATAR_RADIUS);
    const [dx, dy] = [x - POND.x, y - POND.y];
    const [rx, ry] = [POND.rx + AVATAR_RADIUS, POND.ry + AVATAR_RADIUS];
    const depth = Math.hypot(dx / rx, dy / ry);
    if (depth >= 1) {
        return [x, y];
    }
    return depth === 0 ? [x, POND.y + ry] : [POND.x + dx / depth, POND.y + dy / depth];
}

/** As far from x, y towards the target as `most` allows. */
export function step(x, y, targetX, targetY, most) {
    const distance = Math.hypot(targetX - x, targetY - y);
    const part = distance <= most ? 1 : most / distance;
    return place(x + (targetX - x) * part, y + (targetY - y) * part);
}

/** Where a newcomer stands: somewhere on the lawn in the middle. */
export function entrance() {
    return place(
        PARK.width * (0.3 + 0.4 * Math.random()),
        PARK.height * (0.55 + 0.3 * Math.random()),
    );
}
