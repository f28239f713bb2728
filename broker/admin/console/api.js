// SPDX-License-Identifier: Apache-2.0
// The one place that talks to the broker. Every answer is JSON, every fault becomes an ApiError
// whose `kind` says what to do about it; no caller looks at HTTP.
//
// The token lives in sessionStorage: it is gone with the tab, other tabs and other origins do not
// see it, and it is never part of an address, so it is in no history and no log.

const TOKEN_KEY = "usher.token";
const TIMEOUT_MS = 5000; // a broker that accepts and is silent counts as unreachable

export class ApiError extends Error {
    // kind: "unreachable" (no answer), "token" (401), "view" (403), "missing" (404),
    // "unavailable" (503), "answer" (any other refusal)
    constructor(kind, code, detail) {
        super(detail || code);
        this.kind = kind;
        this.code = code;
    }
}

const KINDS = { 401: "token", 403: "view", 404: "missing", 503: "unavailable" };

// Why a page offers nothing that changes anything.
export function lookingOnly(what) {
    return token()
        ? `This token may look and not change; ${what} needs the other one.`
        : `Without a token one may look and not change; ${what} needs that of admin.token_file.`;
}

export function token() {
    try {
        return sessionStorage.getItem(TOKEN_KEY) || "";
    } catch {
        return "";
    }
}

// An empty text forgets the token.
export function setToken(text) {
    try {
        if (text) {
            sessionStorage.setItem(TOKEN_KEY, text);
        } else {
            sessionStorage.removeItem(TOKEN_KEY);
        }
    } catch {
        // storage is forbidden: the console asks again
    }
}

async function exchange(method, path, body, signal) {
    const headers = { Accept: "application/json" };
    if (token()) {
        headers.Authorization = `Bearer ${token()}`;
    }
    if (body !== undefined) {
        headers["Content-Type"] = "application/json";
    }
    const limits = [AbortSignal.timeout(TIMEOUT_MS), ...(signal ? [signal] : [])];
    const answer = await fetch(path, {
        method,
        headers,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.any(limits),
    });
    return [answer.status, await answer.text()];
}

// /readyz, which is open to all, says whether anything else is shown without a token. Until that is
// known nothing is asked without one, and then only where it is not wanted: a refusal would stand in
// the browser's log as an error of the page.
let know;
let wanted = false;
const known = new Promise((resolve) => {
    know = resolve;
});

export function door(token_wanted) {
    wanted = token_wanted;
    know();
}

// Gives the parsed answer; throws ApiError. `accepted`: statuses that are answers and no faults.
export async function ask(method, path, options = {}) {
    const { body, signal, accepted = [] } = options;
    if (!token() && path !== "/readyz") {
        await known;
        if (wanted && !token()) {
            throw new ApiError("token", "token", "the broker asks for a token");
        }
    }
    const shown = token();
    let status;
    let text;
    try {
        [status, text] = await exchange(method, path, body, signal);
    } catch (error) {
        if (signal && signal.aborted) {
            throw error; // the caller no longer wants to know
        }
        throw new ApiError("unreachable", "unreachable", "no answer from the broker");
    }
    if (status === 401 && token() !== shown) {
        return ask(method, path, options); // the refusal is of a token that was replaced meanwhile
    }
    let parsed = null;
    try {
        parsed = text ? JSON.parse(text) : {};
    } catch {
        // judged below: a body that is no JSON is no answer of this broker
    }
    if ((status < 300 || accepted.includes(status)) && parsed !== null) {
        return parsed;
    }
    const code = (parsed && (parsed.code || parsed.error)) || `HTTP ${status}`;
    const detail = (parsed && parsed.detail) || String(code);
    throw new ApiError(KINDS[status] || "answer", String(code), String(detail));
}

export const get = (path, options) => ask("GET", path, options);
export const post = (path, body, options) => ask("POST", path, { ...options, body });
export const remove = (path, options) => ask("DELETE", path, options);

// A name as a part of a path. `.` and `..` are names like others to the broker; the browser would take
// them for steps, without the ~ that the broker passes over.
export function pathName(user) {
    return (/^\.\.?$/.test(user) ? "~" : "") + encodeURIComponent(user);
}

export function userPath(user) {
    return `/api/sessions/${pathName(user)}`;
}

export function roomPath(room) {
    return `/api/rooms/${pathName(room)}`;
}

export function query(parameters) {
    const pairs = Object.entries(parameters).filter(([, value]) => value !== "" && value != null);
    return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
}
