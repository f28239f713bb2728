// SPDX-License-Identifier: Apache-2.0
// Lines over time, by uPlot, which the build obtains and which may be missing: then the legend,
// which is ours and shows the newest values as text, stands alone and says so.
//
// A canvas tells a screen reader nothing; the legend beside it is the same in words.

import { el, fill, setText } from "./dom.js";
import { bytes } from "./format.js";

const HEIGHT = 170;
const WINDOW_LEAST_S = 60;
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]]; // lines differ without their colours, too

// Whole steps: an axis of nothing has 0 and 1, and no 0.3 and 0.8.
const STEPS = Array.from({ length: 13 }, (_, power) =>
    [1, 2, 5].map((step) => step * 10 ** power),
).flat();

const BINARY = Array.from({ length: 41 }, (_, power) => 2 ** power); // of bytes: 512 KiB, 1 MiB

const SVG = "http://www.w3.org/2000/svg";

export function available() {
    return typeof window.uPlot === "function";
}

function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A piece of the line, for the legend.
function sample(number, dash) {
    const [picture, line] = ["svg", "line"].map((name) => document.createElementNS(SVG, name));
    picture.setAttribute("viewBox", "0 0 24 4");
    picture.setAttribute("class", `swatch swatch-${number}`);
    picture.setAttribute("aria-hidden", "true");
    for (const [key, value] of Object.entries({
        x1: 0,
        y1: 2,
        x2: 24,
        y2: 2,
        "stroke-dasharray": dash.join(" ") || "none",
    })) {
        line.setAttribute(key, value);
    }
    picture.append(line);
    return picture;
}

// Of a logarithmic axis: lines and words at the powers of ten alone.
function decades(grid) {
    const filter = (plot, splits) =>
        splits.map((value) =>
            Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-6 ? value : null,
        );
    return { filter, grid: { ...grid, filter } };
}

// series: [{label, colour: 1..4}]; format(value) for the axis and the legend.
export class Chart {
    constructor({ title, series, format, logarithmic = false, aside = null }) {
        this.series = series;
        this.format = format;
        this.logarithmic = logarithmic;
        this.times = [];
        this.columns = series.map(() => []);
        this.plot = null;
        this.values = series.map(() => el("span", { class: "legend-value" }));
        this.box = el("div", {
            class: "plot",
            role: "img",
            "aria-label": `${title}: lines over time`,
        });
        const legend = el(
            "ul",
            { class: "legend" },
            series.map((line, place) =>
                el(
                    "li",
                    {},
                    sample(line.colour, DASHES[place]),
                    line.label,
                    " ",
                    this.values[place],
                ),
            ),
        );
        this.element = el(
            "section",
            { class: "card chart" },
            el("div", { class: "card-head" }, el("h2", {}, title), aside),
            legend,
            this.box,
        );
        this.on_theme = () => this.rebuild();
        document.addEventListener("themechange", this.on_theme);
        this.observer = new ResizeObserver(() => this.resize());
        this.observer.observe(this.box);
    }

    // Once the element is in the page, and again when the colours change.
    rebuild() {
        this.plot?.destroy();
        this.plot = null;
        if (!available()) {
            fill(
                this.box,
                el(
                    "p",
                    { class: "empty" },
                    "Charts were left out of this build; the numbers above are current.",
                ),
            );
            return;
        }
        fill(this.box);
        if (this.times.length === 0) {
            return; // an axis without a point would invent times
        }
        this.plot = new window.uPlot(this.options(), [this.times, ...this.columns], this.box);
    }

    resize() {
        if (this.plot && this.box.clientWidth && this.box.clientWidth !== this.plot.width) {
            this.plot.setSize({ width: this.box.clientWidth, height: HEIGHT });
        }
    }

    show(times, columns) {
        this.times = times;
        this.columns = columns;
        if (this.plot) {
            this.plot.setData([times, ...columns]);
        } else if (available() && times.length > 0) {
            this.rebuild();
        }
        if (!this.plot || this.plot.cursor.idx == null) {
            this.legend(times.length - 1);
        }
    }

    legend(place) {
        this.columns.forEach((column, line) =>
            setText(this.values[line], this.format(column[place] ?? null)),
        );
    }

    options() {
        const [text, grid] = [colour("--muted"), colour("--line")];
        const axis = {
            stroke: text,
            font: "11px system-ui, sans-serif",
            ticks: { show: false },
            grid: { stroke: grid, width: 1 },
        };
        return {
            // On the right there is room for half of a time that stands at the end.
            width: this.box.clientWidth || 300,
            height: HEIGHT,
            padding: [8, 28, 0, 0],
            legend: { show: false },
            cursor: { sync: { key: "usher" }, drag: { x: false, y: false }, y: false },
            scales: {
                x: {
                    range: (plot, least, most) => [
                        most - Math.max(WINDOW_LEAST_S, most - least),
                        most,
                    ],
                },
                y: this.scale(),
            },
            axes: [
                {
                    ...axis,
                    size: 26,
                    space: 70,
                    values: [
                        [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
                        [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
                    ],
                },
                {
                    ...axis,
                    size: 62,
                    space: 34,
                    incrs: this.format === bytes ? BINARY : STEPS,
                    ...(this.logarithmic ? decades(axis.grid) : {}),
                    values: (plot, ticks) =>
                        ticks.map((tick) => (tick === null ? "" : this.format(tick))),
                },
            ],
            series: [{}, ...this.series.map((line, place) => this.line(line, place))],
            hooks: { setCursor: [(plot) => this.legend(plot.cursor.idx ?? this.times.length - 1)] },
        };
    }

    scale() {
        if (this.logarithmic) {
            return {
                distr: 3,
                range: (plot, least, most) =>
                    least > 0
                        ? [
                              10 ** Math.floor(Math.log10(least)),
                              10 ** Math.ceil(Math.log10(most * 1.01)),
                          ]
                        : [1e-4, 1],
            };
        }
        return { range: (plot, least, most) => [0, Math.max(1, most * 1.1)] };
    }

    line(line, place) {
        const stroke = colour(`--line-${line.colour}`);
        return {
            label: line.label,
            stroke,
            width: 1.75,
            dash: DASHES[place],
            points: { show: false },
            fill: place === 0 && !this.logarithmic ? `${stroke}1c` : undefined,
        };
    }

    destroy() {
        this.observer.disconnect();
        document.removeEventListener("themechange", this.on_theme);
        this.plot?.destroy();
        this.plot = null;
    }
}
