// SPDX-License-Identifier: Apache-2.0
// Everything that the broker counts, by name.

import { Section, Table, el, fill } from "./dom.js";
import { byName, count, rate, seconds } from "./format.js";

// Where it is narrow a name goes on in the next line, behind one of its words.
function nameCell({ name }) {
    const parts = name.split("_").map((part, place) => (place ? [el("wbr"), `_${part}`] : part));
    return el("code", {}, parts.flat());
}

export class Numbers {
    constructor(context) {
        this.context = context;
        this.title = "Numbers";
        this.words = el("input", {
            type: "text",
            spellcheck: "false",
            autocomplete: "off",
            oninput: () => this.tick(context.model),
        });
        this.zero = el("input", { type: "checkbox", onchange: () => this.tick(context.model) });
        this.section = new Section("Counters and gauges");
        this.table = new Table({
            label: "Counters and gauges",
            empty: "No number matches.",
            columns: [
                { head: "Name", class: "words", cell: nameCell },
                { head: "Value", number: true, cell: (row) => row.value },
                { head: "Per second", number: true, cell: (row) => row.rate },
            ],
        });
        this.histograms = new Section("Histograms, the last 10 s");
        const as = (name) => (row) =>
            row.unit === "seconds" ? seconds(row[name]) : byName(row.name, row[name]);
        this.histogramTable = new Table({
            label: "Histograms",
            empty: "The broker shows none.",
            columns: [
                { head: "Name", class: "words", cell: nameCell },
                { head: "p50", number: true, cell: as("p50") },
                { head: "p90", number: true, cell: as("p90") },
                { head: "p99", number: true, cell: as("p99") },
                { head: "Per second", number: true, cell: (row) => rate(row.rate) },
                { head: "In all", number: true, cell: (row) => count(row.count) },
            ],
        });
        fill(
            this.section.body,
            el(
                "div",
                { class: "filters" },
                el("label", { class: "field" }, el("span", {}, "Name holds"), this.words),
                el("label", { class: "check" }, this.zero, "Those that are 0, too"),
            ),
            this.table.element,
        );
        fill(this.histograms.body, this.histogramTable.element);
        this.element = el(
            "div",
            { class: "page" },
            el("h1", {}, "Numbers"),
            el("div", { class: "grid" }, this.section.element, this.histograms.element),
        );
    }

    start() {
        this.tick(this.context.model);
    }

    tick({ history }) {
        if (!history.last()) {
            return;
        }
        const place = history.samples.length - 1;
        const { counters, gauges, histograms = {} } = history.last().stats;
        const rows = [
            ...Object.entries(counters).map(([name, value]) => ({
                name,
                raw: value,
                value: count(value),
                rate: rate(history.rate(place, name)),
            })),
            ...Object.entries(gauges).map(([name, value]) => ({
                name,
                raw: value,
                value: byName(name, value),
                rate: "",
            })),
        ]
            .filter(
                (row) =>
                    (this.zero.checked || row.raw !== 0) &&
                    row.name.includes(this.words.value.toLowerCase().trim()),
            )
            .sort((a, b) => a.name.localeCompare(b.name));
        this.table.show(rows);
        this.histogramTable.show(
            Object.entries(histograms).map(([name, { unit, count: all }]) => ({
                name,
                unit,
                count: all,
                rate: history.histogramRate(place, name),
                p50: history.quantile(place, name, 0.5),
                p90: history.quantile(place, name, 0.9),
                p99: history.quantile(place, name, 0.99),
            })),
        );
    }

    stop() {}
}
