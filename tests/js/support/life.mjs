// SPDX-License-Identifier: Apache-2.0
// What a client does in usherd-runtimes.py, the same in each runtime and in a page: it does what bob asks
// for, and reports one line for each thing that happens to it.

const PAYLOAD_BYTES = 60000;

async function obey(client, message, report) {
    const [verb, ...words] = message.text.split(" ");
    const text = words.join(" ");
    if (verb === "echo") {
        await client.send(message.from, text);
    } else if (verb === "call") {
        const reply = await client.call("echo", "reverse", text);
        await client.send(message.from, reply, { delivered: false });
    } else if (verb === "large") {
        await client.send(message.from, new Uint8Array(PAYLOAD_BYTES).fill(7));
    } else if (verb === "post") {
        client.post(message.from, text);
    } else if (verb === "join") {
        const room = await client.join(text);
        room.on("state", ({ state, replay }) => report(`room ${state} ${replay}`));
        room.on("message", ({ offset, from, text }) => report(`room ${offset} ${from} ${text}`));
    } else if (verb === "publish") {
        for (const room of client.rooms.values()) {
            report(`published ${await room.publish(text)}`);
        }
    } else if (verb === "watch") {
        client.on("friends", ({ friends }) =>
            friends.forEach(({ user, state }) => report(`friend ${user} ${state}`)),
        );
        await client.watch([text]);
    }
}

async function listen(client, report) {
    for await (const message of client.messages()) {
        report(`heard ${message.seq} ${message.text}`);
        // What fails is told and not tried again: it may have been done.
        await obey(client, message, report).catch((error) =>
            report(`failed ${error.code} ${error.done}`),
        );
    }
    report("over");
}

export function live(connect, { report, ...options }) {
    const client = connect({ acks: true, client: "life", ...options });
    client.on("welcome", ({ replay }) => report("welcome " + replay));
    client.on("closed", ({ reason, final }) => {
        report((final ? "ended " : "lost ") + reason);
        if (!final) {
            // It waits for the next Welcome.
            client.send("bob", "from afar").catch((error) => report("failed " + error.code));
        }
    });
    void listen(client, report);
    return client;
}
