// SPDX-License-Identifier: Apache-2.0
// A service as a process of its own, for tests that kill it: backend_service.mjs LINK INSTANCE. It is
// `held`: each call waits until the parent says `release`, and is told to the parent when it begins.
const { service } = await import(process.env.USHER_JS_BACKEND_PACKAGE + "/index.js");

const [link, instance] = process.argv.slice(2);
const waiting = [];
let released = false;
process.on("message", () => {
    released = true;
    waiting.splice(0).forEach((resolve) => resolve());
});
process.on("disconnect", () => process.exit());

const held = await service("held", { link, instance, log: () => {} });
held.onCall(async (call) => {
    process.send({ user: call.user, text: call.text, redelivered: call.redelivered });
    if (call.method === "acknowledged") {
        call.acknowledge();
    }
    if (!released) {
        await new Promise((resolve) => waiting.push(resolve));
    }
    return `${instance} ${call.text} ${call.redelivered}`;
});
process.send("linked");
