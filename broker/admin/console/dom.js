// SPDX-License-Identifier: Apache-2.0
// Building the page. Texts become text nodes and nothing else: no function of the console takes
// HTML, so nothing that a client sent to the broker can become a part of the page.

// Bytes that could hide or turn the text around them: control characters, marks of direction,
// invisible ones. They are shown by their number.
const HIDDEN = new RegExp(
    "[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u200b-\\u200f" +
        "\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb]",
    "g",
);

export function visible(value) {
    return String(value ?? "").replace(
        HIDDEN,
        (character) => `\\u{${character.codePointAt(0).toString(16)}}`,
    );
}

// el("p", {class: "note", onclick: f}, "text", otherElement). Attributes that are null, undefined
// or false are left out; children that are null are skipped; others that are no nodes are text.
export function el(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
        if (value === null || value === undefined || value === false) {
            continue;
        }
        if (key.startsWith("on")) {
            element.addEventListener(key.slice(2), value);
        } else {
            element.setAttribute(key, value === true ? "" : value);
        }
    }
    element.append(...nodes(children));
    return element;
}

function nodes(children) {
    return children
        .flat()
        .filter((child) => child !== null && child !== undefined)
        .map((child) => (child instanceof Node ? child : document.createTextNode(visible(child))));
}

export function fill(element, ...children) {
    element.replaceChildren(...nodes(children));
    return element;
}

// Only when it changes, so that a selection and a screen reader are left alone.
export function setText(element, text) {
    const shown = visible(text);
    if (element.textContent !== shown) {
        element.textContent = shown;
    }
}

function nameLink(page, name) {
    return el(
        "a",
        { href: `#/${page}/${encodeURIComponent(name)}`, class: "user" },
        el("bdi", {}, name),
    );
}

export function userLink(user) {
    return nameLink("user", user);
}

export function roomLink(room) {
    return nameLink("room", room);
}

export function pill(text, kind) {
    return el("span", { class: `pill pill-${kind}` }, text);
}

function classOf(column) {
    return [column.number ? "number" : "", column.class || ""].join(" ").trim() || null;
}

// columns: [{head, cell(row), number: bool, class?}]. A class is the head's, too: what is hidden where
// it is narrow takes its head along. Rows are replaced as a whole, and the focus stays on the row's
// link of the same text, so that a refresh does not throw anybody out.
export class Table {
    constructor({ columns, empty, label }) {
        this.columns = columns;
        this.empty = empty;
        const heads = columns.map((column) =>
            el("th", { scope: "col", class: classOf(column) }, column.head),
        );
        this.body = el("tbody");
        this.element = el(
            "div",
            { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
            el("table", { onkeydown: moveFocus }, el("thead", {}, el("tr", {}, heads)), this.body),
        );
        hintAtSides(this.element);
    }

    show(rows) {
        const focused = this.body.contains(document.activeElement)
            ? document.activeElement.textContent
            : null;
        if (rows.length === 0) {
            fill(
                this.body,
                el(
                    "tr",
                    {},
                    el("td", { colspan: this.columns.length, class: "empty" }, this.empty),
                ),
            );
            return;
        }
        fill(
            this.body,
            rows.map((row) => this.row(row)),
        );
        if (focused !== null) {
            const again = [...this.body.querySelectorAll("a, button")].find(
                (link) => link.textContent === focused,
            );
            (again || this.element).focus({ preventScroll: true });
        }
    }

    row(row) {
        const cells = this.columns.map((column) =>
            el("td", { class: classOf(column) }, column.cell(row)),
        );
        return el("tr", {}, cells);
    }
}

// What is wider than its card has a shadow on the side where it goes on.
function hintAtSides(box) {
    const look = () => {
        const rest = box.scrollWidth - box.clientWidth - box.scrollLeft;
        box.classList.toggle("more-left", box.scrollLeft > 1);
        box.classList.toggle("more-right", rest > 1);
    };
    const observer = new ResizeObserver(look);
    observer.observe(box);
    observer.observe(box.firstChild);
    box.addEventListener("scroll", look, { passive: true });
}

// Arrow keys go from link to link.
function moveFocus(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) {
        return;
    }
    const links = [...event.currentTarget.querySelectorAll("tbody a, tbody button")];
    const place = links.indexOf(document.activeElement);
    if (links.length && (place !== -1 || step === 1)) {
        links[Math.min(links.length - 1, Math.max(0, place + step))].focus();
        event.preventDefault();
    }
}

// A card with a heading; `note` shows what its source says when it cannot answer.
export class Section {
    constructor(title, { wide = false, aside = null } = {}) {
        this.note = el("p", { class: "note", hidden: true });
        this.body = el("div", { class: "card-body" });
        this.element = el(
            "section",
            { class: wide ? "card wide" : "card" },
            el("div", { class: "card-head" }, el("h2", {}, title), aside),
            this.note,
            this.body,
        );
    }

    // What went wrong with this part alone; null when nothing did.
    fault(text) {
        this.note.hidden = !text;
        setText(this.note, text || "");
        this.element.classList.toggle("faulty", Boolean(text));
    }
}
