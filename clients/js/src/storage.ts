// SPDX-License-Identifier: Apache-2.0
// What a page keeps of its session over being loaded again: the number of the session, the secret that
// proves it, and the last message that it has processed. And of its user, over all sessions: the last stored
// message.
//
// Each life of the page has ids of its own, because answers to the one before may still come.
import { Options } from "./api.js";

export const enum Ids {
    OF_A_LIFE = 1 << 20,
    LIVES_MASK = (1 << 30) - 1,
}
/** Of a secret: what is longer than a login may be would be refused for ever. */
const enum Secret {
    BYTES_MAX = 99,
}

export interface Session {
    epoch: number;
    secret: Uint8Array;
}

export class Store {
    _life = 0;
    _mid: number;
    readonly _key: string;

    constructor(readonly _options: Options) {
        this._key = "usher " + _options.user + " " + _options.url;
        this._mid = _options.lastMid || 0;
        try {
            const kept = +this._mids!.getItem(this._key + " mid")!;
            this._mid = Math.max(this._mid, Number.isSafeInteger(kept) ? kept : 0);
        } catch {
            // what comes again is given again
        }
    }

    get _mids(): Options["midStorage"] {
        return this._options.midStorage || this._options.storage;
    }

    _saveMid(mid: number): void {
        if (mid > this._mid) {
            this._mid = mid;
            try {
                this._mids!.setItem(this._key + " mid", "" + mid);
            } catch {
                // none, or full
            }
        }
    }

    /** The session and the last seq of the life before; nothing where there is no storage, or it is
     * forbidden, or holds what somebody else wrote. */
    _load(): [Session, number] | undefined {
        try {
            const text = this._options.storage!.getItem(this._key)!;
            const [epoch, seq, life, secret] = JSON.parse(text);
            this._life = (life + 1) & Ids.LIVES_MASK;
            if (
                epoch > 0 &&
                seq >= 0 &&
                Number.isSafeInteger(epoch + seq) &&
                secret.length < Secret.BYTES_MAX
            ) {
                return [{ epoch, secret: Uint8Array.from(secret) }, seq];
            }
        } catch {
            // a login, then
        }
        return undefined;
    }

    /** Without a session it is forgotten. */
    _save(session: Session | undefined, seq: number): void {
        const { storage } = this._options;
        try {
            if (session) {
                const kept = [session.epoch, seq, this._life, [...session.secret]];
                storage!.setItem(this._key, JSON.stringify(kept));
            } else {
                storage!.removeItem(this._key);
            }
        } catch {
            // none, or full: a reload then begins a new session
        }
    }
}
