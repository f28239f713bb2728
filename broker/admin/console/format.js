// SPDX-License-Identifier: Apache-2.0
// Numbers and times as an operator reads them. Pure.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
});
const day = new Intl.DateTimeFormat("en-GB", {
    day: "2-digit",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
});

const NONE = "\u2013"; // a dash: not known

function known(value) {
    return typeof value === "number" && Number.isFinite(value);
}

function digits(value) {
    const size = Math.abs(value);
    if (size === 0) {
        return "0";
    }
    return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

export function count(value) {
    return known(value) ? whole.format(value) : NONE;
}

// Per second.
export function rate(value) {
    if (!known(value)) {
        return NONE;
    }
    return value >= 100 || Number.isInteger(value) ? whole.format(value) : value.toFixed(1);
}

export function percent(value) {
    return known(value) ? `${digits(value)} %` : NONE;
}

export function bytes(value) {
    if (!known(value)) {
        return NONE;
    }
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let place = 0;
    let rest = value;
    while (Math.abs(rest) >= 1024 && place < units.length - 1) {
        rest /= 1024;
        place++;
    }
    return place === 0 ? `${whole.format(rest)} B` : `${digits(rest)} ${units[place]}`;
}

// A short time, in seconds.
export function seconds(value) {
    if (!known(value)) {
        return NONE;
    }
    if (value < 0.9995e-3) {
        return `${digits(value * 1e6)} \u00b5s`;
    }
    return value < 0.9995 ? `${digits(value * 1e3)} ms` : `${digits(value)} s`;
}

// A long one, in milliseconds: the two largest units.
export function age(value_ms) {
    if (!known(value_ms)) {
        return NONE;
    }
    const all_s = Math.max(0, Math.round(value_ms / 1000));
    const [days, hours] = [Math.floor(all_s / 86400), Math.floor(all_s / 3600) % 24];
    const [minutes, rest_s] = [Math.floor(all_s / 60) % 60, all_s % 60];
    if (days) {
        return `${days} d ${hours} h`;
    }
    if (hours) {
        return `${hours} h ${minutes} min`;
    }
    return minutes ? `${minutes} min ${rest_s} s` : `${rest_s} s`;
}

// The time of day, with the date when it was another day.
export function time(time_ms, now_ms = Date.now()) {
    if (!known(time_ms) || time_ms <= 0) {
        return NONE;
    }
    const then = new Date(time_ms);
    const same = then.toDateString() === new Date(now_ms).toDateString();
    return (same ? clock : day).format(then);
}

// By the unit that ends the name, as metrics.def writes them.
export function byName(name, value) {
    if (/_bytes(_|$)/.test(name)) {
        return bytes(value);
    }
    if (/_ms$/.test(name)) {
        return age(value);
    }
    if (/_time(stamp)?_seconds$/.test(name)) {
        return time(value * 1000); // a moment and no length
    }
    if (/_seconds$/.test(name)) {
        return value >= 60 ? age(value * 1000) : seconds(value);
    }
    return known(value) && !Number.isInteger(value) ? digits(value) : count(value);
}

export function words(name) {
    return name.replace(/^process_/, "").replaceAll("_", " ");
}
