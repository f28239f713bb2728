// SPDX-License-Identifier: Apache-2.0
// Where the node is: addresses of its link, as link.urls of usherd has them.
import { existsSync } from "node:fs";

/** What a socket's address has room for, on Linux and with its NUL. Longer ones would be cut. */
const PATH_BYTES_MAX = 107;
const URLS_MAX = 8;
const PORT_MAX = 65535;

export interface Address {
    url: string;
    /** Of ipc; else a host and a port. */
    path: string;
    host: string;
    port: number;
}

function addressOf(url: string): Address {
    const path = /^ipc:\/\/([^\0]+)$/.exec(url)?.[1];
    if (path !== undefined) {
        if (new TextEncoder().encode(path).length > PATH_BYTES_MAX) {
            throw new RangeError(`${url}: a path of a socket has at most ${PATH_BYTES_MAX} bytes`);
        }
        return { url, path, host: "", port: 0 };
    }
    const [, six, name, digits] = /^tcp:\/\/(?:\[([^\]]+)\]|([^:/[\]]+)):(\d+)$/.exec(url) ?? [];
    const port = Number(digits);
    if (!digits || port < 1 || port > PORT_MAX) {
        throw new RangeError(`${url} is no ipc://PATH and no tcp://HOST:PORT`);
    }
    return { url, path: "", host: (six ?? name)!, port };
}

/** Where a node is looked for by default, as libusher-backend and usherctl do. */
function defaultUrl(): string {
    const said = process.env.USHER_LINK;
    if (said) {
        return said;
    }
    if (existsSync("./build/data/link.sock")) {
        return "ipc://./build/data/link.sock";
    }
    const own = existsSync("./usher-data/link.sock");
    return !own && existsSync("/run/usher/link.sock")
        ? "ipc:///run/usher/link.sock"
        : "ipc://./usher-data/link.sock";
}

export function addressesOf(link: string | readonly string[] | undefined): Address[] {
    const urls = link === undefined ? [defaultUrl()] : typeof link === "string" ? [link] : link;
    if (urls.length < 1 || urls.length > URLS_MAX) {
        throw new RangeError(`link has 1 to ${URLS_MAX} addresses, all of one node`);
    }
    return urls.map(addressOf);
}
