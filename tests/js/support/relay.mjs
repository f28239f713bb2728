// SPDX-License-Identifier: Apache-2.0
// A relay for pages: relay.mjs PORT of a broker's listen.ws; prints its own port. Where a connection is cut
// stands in the address that it is asked for, /usher?NAME&WAY&BYTES, and is done once for each name;
// /used?NAME tells how many bytes passed for it.
import { Relay } from "./usherd.mjs";

const seen = new Set();
const relay = await Relay.start(Number(process.argv[2]), undefined, (head) => {
    const [, path, name, way, bytes] = /^GET (\/\w*)\??([^& ]*)&?(\w*)&?(\d*) /.exec(head) ?? [];
    if (path === "/used") {
        return { answer: JSON.stringify(relay.used.get(name)) };
    }
    const first = way && !seen.has(name);
    seen.add(name);
    return { name, ...(first && { [way]: Number(bytes) }) };
});
console.log(relay.port);
