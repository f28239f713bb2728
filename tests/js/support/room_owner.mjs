// SPDX-License-Identifier: Apache-2.0
// The owner of rooms as a process of its own, for tests that kill it: room_owner.mjs LINK INSTANCE. It lets
// everybody in, and takes its time with each of the news, which it tells its parent when it is done.
const { service } = await import(process.env.USHER_JS_BACKEND_PACKAGE + "/index.js");

const [link, instance] = process.argv.slice(2);
process.on("disconnect", () => process.exit());

const keeper = await service("keeper", { link, instance, log: () => {} });
keeper.onRoomAsk(() => true);
keeper.onRoomNews(async ({ room, newsSeq, kind, offset, redelivered }) => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    process.send({ room, newsSeq, kind, offset, redelivered });
});
process.send("linked");
