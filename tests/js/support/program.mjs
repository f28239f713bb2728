// SPDX-License-Identifier: Apache-2.0
// A client as a program: program.mjs BUNDLE URL USER [MODULE of a WebSocket]. It ends by itself when its
// client has ended, because nothing is left that keeps a runtime.
import { live } from "./life.mjs";

const [bundle, url, user, module] = process.argv.slice(2);
const { connect } = await import(bundle);
const webSocket = module && (await import(module)).default;
live(connect, { url, user, webSocket, report: (line) => console.log(line) });
