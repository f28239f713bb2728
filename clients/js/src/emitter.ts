// SPDX-License-Identifier: Apache-2.0
// Who listens to what.
import { Events } from "./api.js";

type Listener = (event: never) => unknown;

export class Emitter {
    _all = new Set<[name: string, listener: Listener]>();

    _on(name: string, listener: Listener): () => void {
        const own: [string, Listener] = [name, listener]; // the same one twice is two
        this._all.add(own);
        return () => void this._all.delete(own);
    }

    /** As they are now, whatever they take off or put on. */
    _of(name: string): [name: string, listener: Listener][] {
        return [...this._all].filter((each) => each[0] === name);
    }

    /** Gives what is settled when all of them are done, also those that gave a promise. A listener's
     * fault is nobody else's: it is told as the runtime tells what nobody caught. */
    _emit<Name extends keyof Events>(name: Name, event: Events[Name]): Promise<unknown> {
        return Promise.all(
            this._of(name).map(([, listener]) =>
                new Promise((resolve) => resolve(listener(event as never))).catch((error) => {
                    setTimeout(() => {
                        throw error;
                    });
                }),
            ),
        );
    }
}
