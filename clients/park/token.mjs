// SPDX-License-Identifier: Apache-2.0
// Who may be whom. The broker believes tokens (auth.mode token) and nobody's word: this is the login
// service, as small as one can be. A name belongs to the browser that took it first, which shows a
// secret of its own; so nobody else in the network takes it over, and a second tab of the same browser may.
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { NAME, ROOM } from "./rules.mjs";

const TOKEN_SECONDS = 120;
const SECRET_CHARACTERS_MIN = 16;
const SECRET_CHARACTERS_MAX = 64;
const NAMES_MAX = 1000;

const text64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A key for HS256: `file` is what auth.keys_file holds, `sign` gives a token for a name. Pages get one for
 * each login; bots and instances, which have nobody to ask, one for the whole day. */
export function newKey() {
    const secret = randomBytes(32);
    const key = { kty: "oct", alg: "HS256", k: secret.toString("base64url") };
    const sign = (sub, seconds = TOKEN_SECONDS) => {
        const exp = Math.floor(Date.now() / 1000) + seconds;
        const claims = { sub, exp, rooms: [ROOM] }; // that he may be in
        const said = `${text64({ alg: "HS256" })}.${text64(claims)}`;
        return `${said}.${createHmac("sha256", secret).update(said).digest("base64url")}`;
    };
    return { file: JSON.stringify({ keys: [key] }), sign };
}

/** Which browser has which name. */
export class Names {
    #owners = new Map();

    /** 200, or the HTTP status of a refusal. */
    claim(name, secret) {
        if (typeof name !== "string" || !NAME.test(name)) {
            return 400;
        }
        const length = typeof secret === "string" ? secret.length : 0;
        if (length < SECRET_CHARACTERS_MIN || length > SECRET_CHARACTERS_MAX) {
            return 400;
        }
        const digest = createHash("sha256").update(secret).digest();
        const owner = this.#owners.get(name);
        if (owner && !timingSafeEqual(owner, digest)) {
            return 409;
        }
        if (!owner && this.#owners.size >= NAMES_MAX) {
            return 503; // to forget the oldest would give his name to whoever claims a thousand
        }
        this.#owners.set(name, digest);
        return 200;
    }
}
