// SPDX-License-Identifier: Apache-2.0
// peer.js on npm `ws`, whose folder is the argument.
import "./peer.js";

const { default: WebSocket } = await import(`${process.argv[2]}/wrapper.mjs`);
const { PEER_URL, PEER_NAME } = process.env;
globalThis.startPeer(new WebSocket(PEER_URL, "usher.v1"), PEER_NAME, (line) => console.log(line));
