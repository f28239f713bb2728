// SPDX-License-Identifier: Apache-2.0
// What needs an answer before it is done: the token, a kick, a push, the end of a room. <dialog> keeps the focus
// inside and gives it back, and Escape leaves without doing anything.

import { post, roomPath, setToken, token, userPath } from "./api.js";
import { el, setText } from "./dom.js";

// submit(): what the confirming button does; a text that it gives is shown as a fault and the
// dialog stays.
function open({ title, body, confirm, kind = "primary", extra = null, submit }) {
    const fault = el("p", { class: "fault", role: "alert" });
    const cancel = el("button", { type: "button", class: "quiet" }, "Cancel");
    const go = el("button", { type: "submit", class: kind }, confirm);
    const form = el(
        "form",
        { method: "dialog" },
        el("h2", { id: "dialog-title" }, title),
        body,
        fault,
        el("div", { class: "buttons" }, extra, cancel, go),
    );
    const dialog = el("dialog", { "aria-labelledby": "dialog-title" }, form);
    cancel.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        go.disabled = true;
        const text = await submit();
        go.disabled = false;
        if (text) {
            setText(fault, text);
        } else {
            dialog.close("done");
        }
    });
    document.body.append(dialog);
    dialog.showModal();
    return dialog;
}

function field(label, input, hint = null) {
    return el(
        "label",
        { class: "field" },
        el("span", {}, label),
        input,
        hint ? el("small", {}, hint) : null,
    );
}

// on_done() after the token was changed. `reason` says why it is asked for.
export function askToken(reason, on_done) {
    if (document.querySelector("dialog[open]")) {
        return;
    }
    const input = el("input", {
        type: "password",
        autocomplete: "off",
        spellcheck: "false",
        maxlength: 4096,
        required: true,
    });
    const forget = el("button", { type: "button", class: "quiet left" }, "Forget it");
    const dialog = open({
        title: "Token",
        body: [
            el("p", {}, reason),
            field(
                "Token of the admin endpoint",
                input,
                "Kept in this tab until it is closed, and sent in a header alone.",
            ),
        ],
        confirm: "Use it",
        extra: token() ? forget : null,
        submit: () => {
            setToken(input.value.trim());
            on_done();
        },
    });
    forget.addEventListener("click", () => {
        setToken("");
        dialog.close();
        on_done();
    });
}

// What the broker says to a command that it did not carry out.
const REFUSALS = {
    INBOX_FULL: "The user's inbox is full.",
    NOT_ONLINE: "The user has no session any more.",
    STALE_EPOCH: "The user has logged in again since; look at the session before you decide.",
};

async function command(path, body, refusals = REFUSALS) {
    try {
        await post(path, body);
        return "";
    } catch (error) {
        return refusals[error.code] || `Not done: ${error.message}`;
    }
}

function who(session) {
    return el(
        "p",
        {},
        "User ",
        el("bdi", { class: "mono" }, session.user),
        ", epoch ",
        el("span", { class: "mono" }, session.epoch),
        ", ",
        session.state,
        ".",
    );
}

// The epoch goes along: who logged in again since is not hit.
export function askKick(session, on_done) {
    const detail = el("input", { type: "text", maxlength: 200, autocomplete: "off" });
    const stay = el("input", { type: "checkbox" });
    open({
        title: "Kick this user?",
        confirm: "Kick",
        kind: "danger",
        body: [
            who(session),
            el("p", {}, "The session ends now. What waits in the inbox is lost."),
            field("Words for the client (optional)", detail),
            el("label", { class: "check" }, stay, "Tell the client not to come back by itself"),
        ],
        submit: async () => {
            const fault = await command(`${userPath(session.user)}/kick`, {
                epoch: session.epoch,
                detail: detail.value,
                do_not_return: stay.checked,
            });
            if (!fault) {
                on_done("Kicked.");
            }
            return fault;
        },
    });
}

// The incarnation goes along: a room that was opened anew since is left alone.
export function askClose(room, on_done) {
    const detail = el("input", { type: "text", maxlength: 120, autocomplete: "off" });
    open({
        title: "Close this room?",
        confirm: "Close",
        kind: "danger",
        body: [
            el(
                "p",
                {},
                "Room ",
                el("bdi", { class: "mono" }, room.room),
                `, ${room.members} members, incarnation `,
                el("span", { class: "mono" }, room.incarnation),
                ".",
            ),
            el(
                "p",
                {},
                "All are put out of it now, and its history is lost. ",
                "Who may make rooms of this class can make it again.",
            ),
            field("Words for the members (optional)", detail),
        ],
        submit: async () => {
            const fault = await command(
                `${roomPath(room.room)}/close`,
                { incarnation: room.incarnation, detail: detail.value },
                { STALE_EPOCH: "The room was opened anew since; look at it before you decide." },
            );
            if (!fault) {
                on_done("Closed.");
            }
            return fault;
        },
    });
}

export function askPush(session, on_done) {
    const text = el("textarea", { rows: 3, maxlength: 4096, required: true });
    open({
        title: "Push a message?",
        confirm: "Push",
        body: [
            who(session),
            field(
                "Text",
                text,
                "The client gets it as a message of the service \u201cadmin\u201d.",
            ),
        ],
        submit: async () => {
            const fault = await command(`${userPath(session.user)}/push`, {
                text: text.value,
                epoch: session.epoch,
            });
            if (!fault) {
                on_done("Pushed.");
            }
            return fault;
        },
    });
}
