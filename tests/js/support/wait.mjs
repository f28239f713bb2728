// SPDX-License-Identifier: Apache-2.0
// Waiting, in Node and in a page.

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Until `look` gives something true. */
export async function eventually(what, look, ms = 30000) {
    for (const end = Date.now() + ms; Date.now() < end; await sleep(2)) {
        const found = look();
        if (found) {
            return found;
        }
    }
    throw new Error("in vain: " + what);
}
