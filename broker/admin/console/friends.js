// SPDX-License-Identifier: Apache-2.0
// Who watches whom, in figures: how much is watched and told, and what did not fit.

import { Chart } from "./charts.js";
import { Section, Table, el, fill } from "./dom.js";
import { count, rate } from "./format.js";

const LINES = [
    ["events of those who are watched", "friends_events", 1],
    ["changes of how they look", "friends_changes", 4],
    ["states sent to watchers", "friends_states", 2],
];

const FIGURES = [
    ["friends_frames", "frames to watchers"],
    ["friends_targets_full", "lists refused: more targets than friends.targets"],
    ["friends_watchers_full", "targets left out: more watchers than friends.watchers"],
    ["friends_pairs_full", "lists refused: more pairs than friends.pairs"],
    ["friends_stale", "times that a shard asked the store anew: watchers saw it late"],
];

export class Friends {
    constructor(context) {
        this.context = context;
        this.title = "Friends";
        this.chart = new Chart({
            title: "Per second",
            format: rate,
            series: LINES.map(([label, , colour]) => ({ label, colour })),
        });
        this.section = new Section("Figures");
        this.table = new Table({
            label: "Figures of friends",
            empty: "Nobody watches anybody.",
            columns: [
                { head: "What", class: "words", cell: (row) => row.text },
                { head: "Here", number: true, cell: (row) => row.recent },
                { head: "In all", number: true, cell: (row) => count(row.all) },
            ],
        });
        fill(
            this.section.body,
            this.table.element,
            el(
                "p",
                { class: "hint" },
                "\u201cHere\u201d: while this page looked on, an hour at most. ",
                "With friends.mode off all of it stays 0.",
            ),
        );
        this.element = el(
            "div",
            { class: "page" },
            el("h1", {}, "Friends"),
            el("div", { class: "grid" }, this.chart.element, this.section.element),
        );
    }

    start() {
        this.chart.rebuild();
        this.tick(this.context.model);
    }

    tick({ history }) {
        if (!history.last()) {
            return;
        }
        const { counters, gauges } = history.last().stats;
        this.chart.show(
            history.times(),
            LINES.map(([, name]) => history.series((place) => history.rate(place, name))),
        );
        this.table.show([
            {
                text: "pairs of watcher and watched",
                recent: `peak ${count(history.peak("friends_pairs"))}`,
                all: gauges.friends_pairs,
            },
            ...FIGURES.map(([name, text]) => ({
                text,
                recent: count(history.rise(name)),
                all: counters[name],
            })),
        ]);
    }

    stop() {
        this.chart.destroy();
    }
}
