// SPDX-License-Identifier: Apache-2.0
// Services and their instances, as the broker sees them.

import { get } from "./api.js";
import { Section, Table, el, fill, pill } from "./dom.js";
import { age, count } from "./format.js";

const STATES = { serving: "good", draining: "news", lost: "bad" };

// One row per instance; the service's name stands at its first one alone.
export function instanceRows(services) {
    return services.flatMap((service) => {
        const instances = service.instances || [];
        return instances.length
            ? instances.map((instance, place) => ({ ...instance, name: place ? "" : service.name }))
            : [{ name: service.name, instance: null }];
    });
}

export function serviceColumns(context) {
    const of = (row, text) => (row.instance === null ? "" : text);
    return [
        { head: "Service", cell: (row) => el("bdi", { class: "strong" }, row.name) },
        {
            head: "Instance",
            class: "words",
            cell: (row) =>
                row.instance === null ? pill("no instance", "bad") : el("bdi", {}, row.instance),
        },
        {
            head: "State",
            cell: (row) =>
                of(row, row.instance === null ? "" : pill(row.state, STATES[row.state] || "none")),
        },
        { head: "Mail", number: true, cell: (row) => of(row, count(row.mail_waiting)) },
        { head: "Open calls", number: true, cell: (row) => of(row, count(row.calls_open)) },
        {
            head: "Asked",
            number: true,
            cell: (row) =>
                of(
                    row,
                    row.last_fetch_ms
                        ? `${age(context.now_ms() - row.last_fetch_ms)} ago`
                        : "never",
                ),
        },
        { head: "Presence", cell: (row) => of(row, row.presence ? "follows" : "") },
    ];
}

export class Services {
    constructor(context) {
        this.context = context;
        this.title = "Services";
        this.section = new Section("Instances", { wide: true });
        this.table = new Table({
            label: "Services and their instances",
            empty: "No backend is linked.",
            columns: serviceColumns(context),
        });
        fill(
            this.section.body,
            this.table.element,
            el(
                "p",
                { class: "hint" },
                "Mail: calls that wait for the instance. Open calls: fetched and not answered yet. ",
                "Asked: when it fetched last; an instance that stops asking is lost.",
            ),
        );
        this.element = el("div", { class: "page" }, el("h1", {}, "Services"), this.section.element);
    }

    start() {
        this.context.poll(this.section, 1000, async (signal) => {
            const { services = [] } = await get("/api/services", { signal });
            this.table.show(instanceRows(services));
        });
    }

    tick() {}

    stop() {}
}
