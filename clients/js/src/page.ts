// SPDX-License-Identifier: Apache-2.0
// What a page hears of the world. `offline` is not among it: sockets live on, so it says little.

/** `wake` when the network is there again or somebody looks at the page; `leave` when it goes, maybe
 * for ever. Where there is no page nothing happens. Gives what ends it. */
export function watchPage(wake: () => void, leave: () => void): () => void {
    if (typeof addEventListener === "undefined") {
        return () => {};
    }
    const visible = () => document.visibilityState === "visible" && wake();
    const all: [string, () => unknown][] = [
        ["online", wake],
        ["visibilitychange", visible],
        ["pagehide", leave],
    ];
    // visibilitychange rises from the document to the window.
    all.forEach(([name, listener]) => addEventListener(name, listener));
    return () => all.forEach(([name, listener]) => removeEventListener(name, listener));
}
